"""Foreign rows -> our records, one file per family."""
