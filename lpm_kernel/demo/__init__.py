"""The embedded demo: a fictional owner and a tiny untrained base model, both made here from a seed."""
