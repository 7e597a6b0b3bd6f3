"""`python -m lpm_kernel`."""

from lpm_kernel.commands.app import main

main()
