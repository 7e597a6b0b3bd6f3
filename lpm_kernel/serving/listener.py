"""Which file the process that listens on a port serves, as far as this machine tells."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lpm_kernel.files import file_sha256

if TYPE_CHECKING:
    import psutil

CLOCK_SLACK_S = 1.0
"""The system knows when it booted, and so when a process began, to the second."""


@dataclass(frozen=True)
class ServedFile:
    """The file that a server says it has loaded."""

    path: Path
    is_stale: bool
    """It came to its place after the server had started, so the server holds what was there before."""

    @cached_property
    def sha256(self) -> str:
        """Of what lies there now."""
        return file_sha256(self.path)


def served_file(port: int, model_path: str) -> ServedFile | None:
    """The file behind llama.cpp's `model_path`, a relative one taken from the folder in which the server was started.

    None where it is no file here, or where the process cannot be seen (another user's, in a container, gone).
    """
    import psutil

    process = _listener(port)
    if process is None or not model_path:
        return None
    try:
        path, started_s = Path(process.cwd(), model_path), process.create_time()
    except psutil.Error:
        return None
    if not path.is_file():
        return None
    written = path.stat()
    # A file that was moved or restored into place keeps its mtime; its ctime tells.
    return ServedFile(path, is_stale=max(written.st_mtime, written.st_ctime) > started_s + CLOCK_SLACK_S)


def _listener(port: int) -> "psutil.Process | None":
    """The process that listens on a port of ours; None when it is another user's, or gone."""
    import psutil

    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid)
    return None
