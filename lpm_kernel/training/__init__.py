"""What SFT and DPO training share."""
