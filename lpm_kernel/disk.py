"""What is on the disk for good."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Return once the file's content, or the folder's entries, survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
