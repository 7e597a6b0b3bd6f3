"""An artifact's birth certificate: what made it, from which inputs, with which content.

A folder carries it inside, as `manifest.json`; a file beside it, as `<name>.manifest.json`.
"""

import json
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.files import file_sha256, key_of, read_object, write_atomically
from lpm_kernel.records import Record

MANIFEST = "manifest.json"
MANIFEST_SUFFIX = f".{MANIFEST}"
STAMP = "%Y-%m-%dT%H:%M:%SZ"


class Manifest(Record):
    """What made an artifact; `files` maps relative names to SHA-256."""

    step: str
    making: str
    """One id for all outputs of one run of the step."""
    config: dict[str, Any]
    flags: tuple[str, ...]
    """The keys of `config` that were given on the command line."""
    inputs: dict[str, str]
    """Role -> SHA-256 of the content."""
    files: dict[str, str] = Field(default_factory=dict)
    seconds: float
    made_at: str
    versions: dict[str, str]
    """Of the libraries that shape results, of this program's commit, and of the converter."""
    demo: bool = False
    """Made of nothing but the demo's own data and base model."""
    workspace: str = ""
    """Identity of the workspace that it was made in; unknown for what an early version made."""

    @property
    def begun_at(self) -> str:
        """When the run that made the artifact began, as `now` writes it."""
        made = datetime.strptime(self.made_at, STAMP)
        return (made - timedelta(seconds=self.seconds)).strftime(STAMP)


class ContentHashes:
    """SHA-256 of files, kept with size, time and inode so that what did not change is not read again."""

    def __init__(self, cache_path: Path) -> None:
        self._cache_path = cache_path
        self._known: dict[str, list[Any]] = {}
        with suppress(MissingInputError, DataError):  # a torn cache costs time, not truth
            self._known = read_object(cache_path, "")

    def digest(self, path: Path) -> str:
        """Over a file, or all files of a folder but its manifest."""
        return key_of(self.of_files(path))

    def of_files(self, path: Path) -> dict[str, str]:
        """Relative name -> SHA-256."""
        return {name: self._of_file(file) for name, file in files_of(path).items()}

    def _of_file(self, path: Path) -> str:
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known and known[:3] == stamp:
            return str(known[3])
        digest = file_sha256(path)
        self._known[str(path)] = [*stamp, digest]
        return digest

    def save(self) -> None:
        """Keep them for the next command; needs the lock."""
        live = {name: stamp for name, stamp in self._known.items() if Path(name).exists()}
        write_atomically(self._cache_path, json.dumps(live))


def files_of(path: Path, *, with_manifest: bool = False) -> dict[str, Path]:
    """Relative name -> file; a single file has the name ``. A folder's manifest is none of its content."""
    if not path.is_dir():
        return {"": path}
    files = sorted(p for p in path.rglob("*") if p.is_file() and (with_manifest or p != path / MANIFEST))
    return {str(p.relative_to(path)): p for p in files}


def manifest_path(path: Path) -> Path:
    """Where an artifact's manifest is."""
    return path / MANIFEST if path.is_dir() else path.with_name(path.name + MANIFEST_SUFFIX)


def fitting_manifest(path: Path, hashes: ContentHashes) -> Manifest | None:
    """The artifact's manifest when it fits the content, else None."""
    try:
        manifest = Manifest.model_validate_json(manifest_path(path).read_bytes())
    except (OSError, ValidationError):
        return None  # absent, torn or foreign: not ours
    return manifest if path.exists() and hashes.of_files(path) == manifest.files else None


def now() -> str:
    """UTC, ISO 8601, seconds."""
    return time.strftime(STAMP, time.gmtime())
