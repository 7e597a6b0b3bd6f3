"""Answers -> Verdict, or none with its reason."""
