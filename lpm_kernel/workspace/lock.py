"""One writer: a lock that the kernel releases when its holder dies."""

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lpm_kernel.errors import BusyError, OutputError, translated
from lpm_kernel.files import TEMPORARY, make_folder, remove
from lpm_kernel.workspace.places import Workspace

TRIALS, PAUSE_S = 5, 0.02
PROCESS_ID, LONGEST = re.compile(rb"[\d\s\0]*"), 4096
"""What a lock may hold; after a power loss, zeros."""


@contextmanager
def lock(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace, and sweep what a killed run left half made; what the system says in the block is ours.

    Raises BusyError naming the holder, OutputError for a link out of the workspace or a lock that is not ours.
    """
    make_folder(workspace.root)
    with translated(workspace.root), _opened(workspace.lock_path, "rb+", os.O_CREAT) as file:
        if not _taken(file):
            holder = file.read(LONGEST).decode("ascii", errors="replace").strip() or "unknown"
            raise BusyError(f"{workspace.root} is in use by process {holder}; wait for it, or end it")
        with suppress(OSError):  # on a full disk nobody learns who, and `lpm clean` can make room
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
        workspace.refuse_links()
        for leftover in workspace.root.glob(f"**/{TEMPORARY}*"):
            remove(leftover)
        workspace.hashes.believe_no_earlier()
        workspace.identify()
        yield


def is_locked(workspace: Workspace) -> bool:
    """Whether a run holds the workspace now; raises OutputError as `lock` does."""
    if not os.path.lexists(workspace.lock_path):
        return False
    with translated(workspace.root), _opened(workspace.lock_path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _opened(path: Path, mode: str, more: int = 0) -> Iterator[IO[bytes]]:
    """The lock file, unbuffered, at its start; it holds nothing but a process id.

    No link is followed, and nothing else that is called so is waited for or written into.
    """
    more |= os.O_NOFOLLOW | os.O_NONBLOCK
    with open(path, mode, buffering=0, opener=lambda name, flags: os.open(name, flags | more, 0o600)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        if not PROCESS_ID.fullmatch(file.read(LONGEST)):
            raise OutputError(f"{path} is no lock of ours, which would hold a process id; move it away")
        file.seek(0)
        yield file


def _taken(file: IO[bytes]) -> bool:
    """Take the writer's lock if it is free; `is_locked` may hold it for an instant, so one refusal is none."""
    for _ in range(TRIALS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE_S)
        else:
            return True
    return False
