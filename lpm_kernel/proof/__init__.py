"""Is the new model better? The evaluation, its gate, and the report."""
