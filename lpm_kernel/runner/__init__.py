"""The table run: settings, state, the run and its record, versions."""
