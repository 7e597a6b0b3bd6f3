"""One writer: a lock that the kernel releases when its holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from lpm_kernel.errors import BusyError
from lpm_kernel.files import TEMPORARY, make_folder, remove
from lpm_kernel.workspace.places import Workspace

TRIALS, PAUSE_S = 5, 0.02


@contextmanager
def lock(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace, and sweep what a killed run left half made; raises BusyError naming the holder."""
    make_folder(workspace.root)
    with workspace.lock_path.open("a+", encoding="utf-8") as file:
        if not _taken(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(f"{workspace.root} is in use by process {holder}; wait for it, or end it")
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        for leftover in workspace.root.glob(f"**/{TEMPORARY}*"):
            remove(leftover)
        workspace.hashes.believe_no_earlier()
        workspace.identify()
        yield


def is_locked(workspace: Workspace) -> bool:
    """Whether a run holds the workspace now."""
    if not workspace.lock_path.is_file():
        return False
    with workspace.lock_path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _taken(file: TextIO) -> bool:
    """Take the writer's lock if it is free; `is_locked` may hold it for an instant, so one refusal is none."""
    for _ in range(TRIALS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(PAUSE_S)
        else:
            return True
    return False
