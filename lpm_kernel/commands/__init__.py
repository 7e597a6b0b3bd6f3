"""`lpm ...`: what people type and read; options are made from the stages' settings."""
