"""The error tree. Each class is one sysexits code; the door (`commands/app.py`) prints the message and exits with it.

LpmError                     70  what none of the others fits
├── UsageError               64  a flag, key or value that we do not know
├── DataError                65  the given data cannot be used
├── MissingInputError        66  a file that a step needs is not there
├── ServiceError             69  a server (model or judge) does not answer as it must
├── DivergedError            70  training produced a loss that is not finite
├── OutputError              73  a result cannot be created
├── DiskError                74  the disk is full or failed while writing
├── BusyError                75  another run holds the workspace; try again later
├── PermissionDeniedError    77  a key is missing or was refused
└── ConfigError              78  a settings file or environment variable is wrong

Every message holds the value, what was expected, and the next move.
"""

import errno
from dataclasses import dataclass


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


OS_ERRORS: dict[int, tuple[type[LpmError], str]] = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG),
        (DiskError, "free space and start again: what was there before still is"),
    ),
    **dict.fromkeys(
        (errno.EPERM, errno.EACCES, errno.EROFS),
        (OutputError, "make it writable for you, or choose another --workspace"),
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
        (OutputError, "something else is in the way; move it, or choose another --workspace"),
    ),
}
"""What the disk said -> our error, and the next move."""


def from_os_error(error: OSError) -> LpmError | OSError:
    """The error to raise for what the disk said; itself when the table does not know it."""
    kind, cure = OS_ERRORS.get(error.errno or 0, (None, ""))
    return error if kind is None else kind(f"{error}; {cure}")
