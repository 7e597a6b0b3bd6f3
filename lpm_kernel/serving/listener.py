"""Which file the process that listens on a port serves, as far as this machine tells."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lpm_kernel.files import file_sha256

if TYPE_CHECKING:
    import psutil


@dataclass(frozen=True)
class ServedFile:
    """The file that a server says it has loaded."""

    path: Path
    is_stale: bool
    """It was written after the server started, so the server holds what was there before."""

    @cached_property
    def sha256(self) -> str:
        """Of what lies there now."""
        return file_sha256(self.path)


def served_file(port: int, model_path: str) -> ServedFile | None:
    """The file behind llama.cpp's `model_path`; None where it is no file here or its folder cannot be seen.

    A relative path is one of the folder in which the server was started.
    """
    import psutil

    process = _listener(port)
    try:
        path = Path(model_path) if process is None else Path(process.cwd(), model_path)
        started_s = process.create_time() if process else float("inf")
    except psutil.Error:
        path, started_s = Path(model_path), float("inf")
    if not (model_path and path.is_absolute() and path.is_file()):
        return None
    return ServedFile(path, is_stale=path.stat().st_mtime > started_s)


def _listener(port: int) -> "psutil.Process | None":
    """The process that listens on a port of ours; None when it is another user's, or gone."""
    import psutil

    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid)
    return None
