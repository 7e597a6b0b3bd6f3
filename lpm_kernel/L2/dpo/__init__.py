"""The two stages around the pairs file, and the contract between them (`utils.py`)."""
