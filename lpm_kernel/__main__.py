"""`python -m lpm_kernel`: Python puts the current folder first on the path, and only the checkout may stay there."""

import sys

from lpm_kernel.checkout import CHECKOUT

if not sys.flags.safe_path and sys.path[0] != str(CHECKOUT):
    del sys.path[0]

from lpm_kernel.commands.app import main

main()
