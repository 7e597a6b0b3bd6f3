"""Content hashes: of values, files and folders. All SHA-256, in hex."""

import hashlib
import json
from pathlib import Path

MANIFEST = "manifest.json"
"""A folder's birth certificate; not a part of its content."""


def key_of(*parts: object) -> str:
    """Over the canonical JSON of the parts, 64 hex digits."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Over a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(path: Path) -> dict[str, Path]:
    """Relative name -> file; a single file has the name ``."""
    if not path.is_dir():
        return {"": path}
    files = sorted(p for p in path.rglob("*") if p.is_file() and p != path / MANIFEST)
    return {str(p.relative_to(path)): p for p in files}
