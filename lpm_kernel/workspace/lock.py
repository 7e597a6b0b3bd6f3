"""One writer: a lock that the kernel releases when its holder dies."""

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lpm_kernel.errors import BusyError, OutputError, from_os_error
from lpm_kernel.files import TEMPORARY, make_folder, remove
from lpm_kernel.workspace.places import Workspace

TRIALS, PAUSE_S = 5, 0.02
PROCESS_ID, LONGEST = re.compile(r"[\d\s\0]*"), 4096
"""What a lock may hold; after a power loss, zeros."""


@contextmanager
def lock(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace, and sweep what a killed run left half made.

    Raises BusyError naming the holder, OutputError for a link out of the workspace or a lock that is not ours.
    """
    make_folder(workspace.root)
    with _opened(workspace.lock_path) as file:
        if not _taken(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(f"{workspace.root} is in use by process {holder}; wait for it, or end it")
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        workspace.refuse_links()
        for leftover in workspace.root.glob(f"**/{TEMPORARY}*"):
            remove(leftover)
        workspace.hashes.believe_no_earlier()
        workspace.identify()
        yield


def _opened(path: Path) -> TextIO:
    """The lock file, which holds nothing but a process id; nothing else that is called so is written into."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os_error(error) from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        file = os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")
        if PROCESS_ID.fullmatch(file.read(LONGEST)):
            return file
        file.close()
    else:
        os.close(descriptor)
    raise OutputError(f"{path} is no lock of ours, which would hold a process id; move it away")


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
