"""`python -m lpm_kernel`."""

from lpm_kernel.cli import main

main()
