"""The error tree. Each class is one sysexits code; the door (`commands/app.py`) prints the message and exits with it.

LpmError                     70  what none of the others fits
├── UsageError               64  a flag, key or value that we do not know
├── DataError                65  the given data cannot be used
├── MissingInputError        66  a file that a step needs is not there
├── ServiceError             69  a server (model or judge) does not answer as it must
├── DivergedError            70  training produced a loss that is not finite
├── MemoryShortError         71  the machine has not the memory that was asked for
├── OutputError              73  a result cannot be created
├── DiskError                74  the disk is full or failed while writing
├── BusyError                75  another run holds the workspace; try again later
├── PermissionDeniedError    77  a key is missing or was refused
└── ConfigError              78  a settings file or environment variable is wrong

Every message holds the value, what was expected, and the next move.
"""

import errno
import os
import re
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.progress import human_bytes


class LpmError(Exception):
    """What none of the others fits; like them, something that the person at the screen can act on."""

    exit_code = 70


class UsageError(LpmError):
    """A flag, key or value that we do not know."""

    exit_code = 64


class DataError(LpmError):
    """The given data cannot be used."""

    exit_code = 65


class MissingInputError(LpmError):
    """A file that a step needs is not there."""

    exit_code = 66


class ServiceError(LpmError):
    """A server (model or judge) does not answer as it must."""

    exit_code = 69


class DivergedError(LpmError):
    """Training produced a loss that is not finite."""


class MemoryShortError(LpmError):
    """The machine has not the memory that was asked for."""

    exit_code = 71


class OutputError(LpmError):
    """A result cannot be created."""

    exit_code = 73


class DiskError(LpmError):
    """The disk is full or failed while writing."""

    exit_code = 74


class BusyError(LpmError):
    """Another run holds the workspace."""

    exit_code = 75


class PermissionDeniedError(LpmError):
    """A key is missing or was refused."""

    exit_code = 77


class ConfigError(LpmError):
    """A settings file or environment variable is wrong."""

    exit_code = 78


@dataclass(frozen=True)
class Finding:
    """One thing looked at before the work begins, by a stage's `preflight` or by the doctor."""

    what: str
    found: str
    fine: bool = True
    cure: str = ""
    blocks: type[LpmError] | None = None
    """The error of a run that cannot begin before this is cured."""

    @property
    def sentence(self) -> str:
        """What was found, and the cure."""
        return f"{self.what}: {self.found}; {self.cure}"

    def refuse(self) -> None:
        """Raise the error, if the finding blocks."""
        if self.blocks and not self.fine:
            raise self.blocks(self.sentence)


# What the system says ---------------------------------------------------------------------------------------------

LONGEST_REASON = 200
TORCHS_PLACE = re.compile(r"^\[enforce fail at [^]]*\](?: err == 0)?[ .]*")
FULL = "free space there and start the same command again: what was done is kept"
LESS_MEMORY = (
    "end other programs, or ask for less: a smaller --batch-size (with more --gradient-accumulation-steps), a shorter "
    "--max-length, --gradient-checkpointing, fewer --slots, a smaller base model"
)
OS_ERRORS: dict[int, tuple[type[LpmError], str]] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), (DiskError, FULL)),
    errno.EIO: (DiskError, "the disk failed or is full: free space, look after the disk, and start again"),
    errno.EFBIG: (DiskError, "a limit forbids so large a file: raise it (ulimit -f), free space, and start again"),
    **dict.fromkeys(
        (errno.EPERM, errno.EACCES, errno.EROFS),
        (OutputError, "make it writable for you, or choose another --workspace"),
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP),
        (OutputError, "something else is in the way; move it, or choose another --workspace"),
    ),
    **dict.fromkeys(
        (errno.ENOENT, errno.ESTALE),
        (OutputError, "it was removed while we worked with it; start the same command again"),
    ),
    errno.ENOMEM: (MemoryShortError, LESS_MEMORY),
}
"""What the system said -> our error, and the next move."""
OF_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_NOMEM: errno.ENOMEM,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CORRUPT: errno.EIO,
    sqlite3.SQLITE_NOTADB: errno.EIO,
}
OF_LIBRARIES = {
    r"No space left on device": errno.ENOSPC,
    r"PytorchStreamWriter failed|iostream error|unexpected pos \d+ vs|\d+ requested and \d+ written": errno.EIO,
    r"Parent directory .* does not exist": errno.ENOENT,
    r"can't allocate memory|Cannot allocate memory|[Oo]ut of memory|bad_alloc": errno.ENOMEM,
    r"failed to map segment|can't start new thread": errno.ENOMEM,
}
"""What torch (C++), numpy and safetensors (Rust) say in words -> the number that they were told."""


def from_system(error: BaseException, place: Path | None = None) -> LpmError | None:
    """What the system said through Python or a library, as one of ours; None when it speaks of something else.

    `place` is told where the error names no path.
    """
    if isinstance(error, LpmError):
        return error
    number = _number(error)
    if number not in OS_ERRORS:
        return None
    kind, cure = OS_ERRORS[number]
    named = (kind is DiskError and getattr(error, "filename2", None)) or getattr(error, "filename", None)
    path = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else place
    where = f": {path}" if path and kind is not MemoryShortError else ""
    room = f" ({_free(path)} free there)" if path and kind is DiskError else ""
    return kind(f"{_reason(error, number)}{where}{room}; {cure}")


@contextmanager
def translated(place: Path) -> Iterator[None]:
    """Raises what the system says in the block as an error of ours that names the place."""
    try:
        yield
    except Exception as error:
        known = from_system(error, place)
        if known is None or known is error:
            raise
        raise known from error


def _number(error: BaseException) -> int:
    """The errno that the error, or what it came of, stands for; 0 when none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if isinstance(error, MemoryError) or (isinstance(error, SystemError) and _memory_is_limited()):
        return errno.ENOMEM
    if isinstance(error, sqlite3.Error):
        return OF_SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, 0)
    if told := re.search(r"\(os error (\d+)\)", str(error)):
        return int(told[1])
    return next((number for words, number in OF_LIBRARIES.items() if re.search(words, str(error))), 0)


def _memory_is_limited() -> bool:
    """Whether an allocation can fail: a library that does not look at its result then ends in a SystemError."""
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(limit != resource.RLIM_INFINITY for limit in limits)


def _reason(error: BaseException, number: int) -> str:
    """The system's word; SQLite's own, and that of who tells how much memory it asked for, says more."""
    words = TORCHS_PLACE.sub("", str(error).strip()).split("\n")[0][:LONGEST_REASON]
    says_more = isinstance(error, sqlite3.Error) or (number == errno.ENOMEM and not isinstance(error, OSError))
    return words if says_more and words else os.strerror(number)


def _free(path: Path) -> str:
    """Room on the disk of the path, or of the nearest folder that is there."""
    place = next(p for p in (path, *path.absolute().parents) if p.exists())
    return human_bytes(shutil.disk_usage(place).free)
