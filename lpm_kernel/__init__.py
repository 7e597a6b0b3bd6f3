"""lpm_kernel: make a personal language model prefer its own best answers, and prove it."""

__version__ = "0.1.0"
