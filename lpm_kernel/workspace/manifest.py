"""An artifact's birth certificate: what made it, from which inputs, with which content.

A folder carries it inside, as `manifest.json`; a file beside it, as `<name>.manifest.json`.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError

from lpm_kernel.errors import DataError, MissingInputError
from lpm_kernel.files import file_sha256, key_of, read_object, stamp_of, write_atomically
from lpm_kernel.records import Record

MANIFEST = "manifest.json"
MANIFEST_SUFFIX = f".{MANIFEST}"
SHA256 = re.compile("[0-9a-f]{64}")
STAMP = "%Y-%m-%dT%H:%M:%SZ"


class Sealed(Record):
    """A record that carries a hash of itself, so that a damaged one is known."""

    seal: str = ""
    """SHA-256 over all other fields as they were written. A manifest of an early version has none."""

    def sealed(self) -> Self:
        """With its seal, ready to be written."""
        return self.model_copy(update={"seal": _seal_of(self.model_dump(mode="json"))})

    @property
    def is_whole(self) -> bool:
        """Whether the seal fits."""
        return self.seal == _seal_of(self.model_dump(mode="json"))


class Manifest(Sealed):
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
    complete: bool = True
    """Whether the step came to a result; else this is the account of why it did not."""
    workspace: str = ""
    """Identity of the workspace that it was made in; unknown for what an early version made."""

    @property
    def begun_at(self) -> str:
        """When the run that made the artifact began, as `now` writes it."""
        made = datetime.strptime(self.made_at, STAMP)
        return (made - timedelta(seconds=self.seconds)).strftime(STAMP)


class ContentHashes:
    """SHA-256 of files. What an earlier command read is believed where a command only looks, as long as the file's
    size, times and inode stay; a command that writes or serves reads each file itself, once.
    """

    def __init__(self, cache_path: Path) -> None:
        self._cache_path = cache_path
        self._now: dict[str, list[object]] = {}
        self._earlier: dict[str, Any] = {}
        with suppress(MissingInputError, DataError):  # a torn cache costs time, not truth
            self._earlier = read_object(cache_path, "")

    def believe_no_earlier(self) -> None:
        """Forget what earlier commands read."""
        self._earlier = {}

    def digest(self, path: Path) -> str:
        """Over a file, or all files of a folder but its manifest."""
        return key_of(self.of_files(path))

    def of_files(self, path: Path) -> dict[str, str]:
        """Relative name -> SHA-256."""
        return {name: self._of_file(file) for name, file in files_of(path).items()}

    def _of_file(self, path: Path) -> str:
        stamp = list(stamp_of(path))
        digest = self._believed(path, stamp) or file_sha256(path)
        self._now[str(path)] = [*stamp, digest]
        return digest

    def _believed(self, path: Path, stamp: list[int]) -> str:
        """What an earlier command read, when the stamp is still the same; else empty."""
        match self._earlier.get(str(path)):
            case [*earlier, str(digest)] if earlier == stamp and SHA256.fullmatch(digest):
                return digest
        return ""

    def save(self) -> None:
        """Keep them for the next command; needs the lock."""
        known = (self._earlier | self._now).items()
        live = {name: entry for name, entry in known if os.path.exists(name)}  # noqa: PTH110 - Path's fails on long names
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
    manifest = _read_manifest(path)
    return manifest if manifest and path.exists() and hashes.of_files(path) == manifest.files else None


def misfit(path: Path, hashes: ContentHashes) -> str:
    """What is wrong with an artifact that carries a manifest; empty when it fits, or where there is none."""
    if not manifest_path(path).exists() or fitting_manifest(path, hashes):
        return ""
    manifest = _read_manifest(path)
    if manifest is None:
        return f"{manifest_path(path)} is damaged, so {path.name} counts as not made by us"
    found = hashes.of_files(path)
    changed = sorted(n for n in found.keys() | manifest.files.keys() if found.get(n) != manifest.files.get(n))
    return f"{path / changed[0] if changed[0] else path} changed since {manifest.step} made it"


def _read_manifest(path: Path) -> Manifest | None:
    """None for a manifest that is absent, torn or foreign: what it says of is not ours."""
    try:
        written = read_object(manifest_path(path), "")
        manifest = Manifest.model_validate(written)
    except (MissingInputError, DataError, OSError, ValidationError):
        return None
    return manifest if manifest.seal in ("", _seal_of(written)) else None


def _seal_of(fields: Mapping[str, Any]) -> str:
    return key_of({name: value for name, value in fields.items() if name != "seal"})


def now() -> str:
    """UTC, ISO 8601, seconds."""
    return time.strftime(STAMP, time.gmtime())
