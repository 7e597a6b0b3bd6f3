"""Become another program that the kernel kills when our parent dies: `python parent_guard.py PARENT_PID PROGRAM ...`.

Linux: PR_SET_PDEATHSIG survives exec, and is tied to the thread that started us; elsewhere the program runs unguarded.
Run by path with `python -I`, so it imports nothing but the standard library.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for SIGKILL at the parent's death, leave if it died before that, then exec."""
    parent_pid, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit("the parent process is gone")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
