"""Checkpoints that can be trusted: marked complete with hashes, and bound to the run that made them.

The trainer's own checkpoints are not atomic: a killed run leaves half a directory that looks like the newest.
A checkpoint counts only with its marker, `complete.json`, written last: {"binding": ..., "files": {name: sha256}}.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from lpm_kernel.errors import LpmError
from lpm_kernel.files import file_sha256, flush, read_object, remove

MARKER = "complete.json"


def binding_of(*parts: object, files: list[Path]) -> str:
    """SHA-256 over settings and input files: what a checkpoint must share with the run that resumes it."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for path in files:
        digest.update(file_sha256(path).encode() if path.is_file() else b"absent")
    return digest.hexdigest()


def last_valid(work_path: Path, binding: str) -> Path | None:
    """The newest whole checkpoint of this binding; every other one is removed."""
    found = sorted(work_path.glob("checkpoint-*"), key=_step, reverse=True)
    valid = [path for path in found if _is_valid(path, binding)]
    for path in found:
        if path not in valid:
            remove(path)
    return valid[0] if valid else None


class MarkComplete(TrainerCallback):
    """Writes the marker after each save, once all files are on the disk."""

    def __init__(self, binding: str) -> None:
        self.binding = binding

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer when it has written a checkpoint."""
        mark(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.binding)


def mark(checkpoint: Path, binding: str) -> None:
    """Flush a checkpoint's files to the disk, then write its marker by rename."""
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != MARKER]
    for path in files:
        flush(path)
    record = {"binding": binding, "files": {str(path.relative_to(checkpoint)): file_sha256(path) for path in files}}
    temporary = checkpoint / f"{MARKER}.tmp"
    temporary.write_text(json.dumps(record), encoding="utf-8")
    flush(temporary)
    temporary.rename(checkpoint / MARKER)
    flush(checkpoint)


def distrust(checkpoint: Path) -> None:
    """Take the marker away, if there is one: the checkpoint's weights turned out bad."""
    (checkpoint / MARKER).unlink(missing_ok=True)


def _is_valid(checkpoint: Path, binding: str) -> bool:
    try:
        record = read_object(checkpoint / MARKER, "")
        hashes: dict[str, str] = record["files"]
        return record["binding"] == binding and all(
            file_sha256(checkpoint / name) == sha for name, sha in hashes.items()
        )
    except (LpmError, OSError, KeyError, TypeError, AttributeError):
        return False  # no marker, a torn marker or a missing file: killed while it was written


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1
