"""Files and hashes: what is on the disk for good, whole or absent; JSON and JSON lines in and out."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lpm_kernel.errors import DataError, MissingInputError, UsageError, translated
from lpm_kernel.progress import progress, say

TEMPORARY = ".lpm-tmp-"
"""Beginning of the names under which something is built; the next run sweeps what a killed one left."""

R = TypeVar("R", bound=BaseModel)

SLOW_BYTES, CHUNK_BYTES = 1 << 30, 1 << 24
"""From this size on, hashing takes more than a second or so and shows its progress, a chunk at a time."""
TICK_NS = 20_000_000
"""Two changes within one tick of the kernel's clock leave one ctime, so a younger file is read again."""
_read: dict[tuple[int, ...], str] = {}
"""Stamp -> SHA-256 of what this process has read."""

# Hashes, all SHA-256 in hex ---------------------------------------------------------------------------------------


def key_of(*parts: object) -> str:
    """Over the canonical JSON of the parts, 64 hex digits."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Over a file's bytes, which are read once a process as long as its stamp stays."""
    stamp = stamp_of(path)
    if stamp not in _read:
        settled = time.time_ns() - stamp[-1] > TICK_NS
        digest = _read_sha256(path, size=stamp[2])
        if not settled:
            return digest
        _read[stamp] = digest
    return _read[stamp]


def stamp_of(path: Path) -> tuple[int, ...]:
    """Device, inode, size in bytes, mtime and ctime in ns: what a change of the content changes.

    The mtime can be set back, the ctime cannot.
    """
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _read_sha256(path: Path, size: int) -> str:
    if size < SLOW_BYTES:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    with path.open("rb") as file, progress(f"reading {path.name}, MB", size >> 20) as shown:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            shown.advance(len(chunk) >> 20)
    return digest.hexdigest()


# On the disk for good ---------------------------------------------------------------------------------------------


def flush(path: Path) -> None:
    """Return once the file's content, or the folder's entries, survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_flushed(path: Path, text: str) -> None:
    """Write and flush; not whole before it returns."""
    path.write_text(text + "\n", encoding="utf-8")
    flush(path)


def write_atomically(path: Path, text: str) -> None:
    """A small file, whole or not at all; raises OutputError or DiskError."""
    make_folder(path.parent)
    draft = draft_of(path)
    with translated(path):
        try:
            write_flushed(draft, text)
            draft.rename(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        flush(path.parent)


def expanded(path: Path | str) -> Path:
    """The path with `~` spelled out; raises UsageError for a home folder that the system does not know."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: {error}; write the path out, or set HOME") from None


def draft_of(path: Path) -> Path:
    """Where something is built before it takes its place: beside it, under a name that the next run sweeps."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


def free_name(path: Path, word: str) -> Path:
    """`<name>.<word>-<n>` beside it, with the first number that nothing bears."""
    number = 1
    while (free := path.with_name(f"{path.name}.{word}-{number}")).exists():
        number += 1
    return free


def make_folder(path: Path) -> None:
    """With its parents; raises OutputError or DiskError."""
    with translated(path):
        path.mkdir(parents=True, exist_ok=True)


def remove(path: Path) -> None:
    """A file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# JSON -------------------------------------------------------------------------------------------------------------


def read_object(path: Path, cure: str) -> dict[str, Any]:
    """A JSON object; raises MissingInputError or DataError, which end with the cure."""
    if not path.is_file():
        raise MissingInputError(f"{path} is not there; {cure}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); {cure}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} holds {type(value).__name__}, expected an object; {cure}")
    return value


def write_json(path: Path, value: object) -> None:
    """JSON for people and machines: two-space indent, UTF-8, no NaN; a record by its fields."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    path.write_text(json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_json_list(path: Path, rows: Iterable[object]) -> None:
    """A JSON list in the same manner, a row at a time, so that its length costs no memory."""
    with path.open("w", encoding="utf-8") as file:
        before = "["
        for row in rows:
            text = json.dumps(row, indent=2, ensure_ascii=False, allow_nan=False)
            file.write(f"{before}\n  " + text.replace("\n", "\n  "))
            before = ","
        file.write("[]\n" if before == "[" else "\n]\n")


def read_record(path: Path, kind: type[R]) -> R:
    """A document of one kind; raises MissingInputError or DataError."""
    if not path.is_file():
        raise MissingInputError(f"{path} is not there; `lpm steps` tells which step makes it")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path}: {_told(error, kind)}; run the step that makes it again") from None


def write_jsonl(path: Path, records: Iterable[BaseModel]) -> None:
    """One record a line, in the order given, as they come."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")


def read_jsonl(path: Path, kind: type[R]) -> Iterator[R]:
    """Records of one kind; raises MissingInputError, or DataError with the line's number."""
    if not path.is_file():
        raise MissingInputError(f"{path} is not there; `lpm steps` tells which step makes it")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                told = _told(error, kind)
                raise DataError(f"{path}, line {number}: {told}; run the step that makes it again") from None


# Journals that people read: one JSON object a line, added to and never rewritten ------------------------------------


def append_jsonl(path: Path, record: BaseModel) -> None:
    """Add one line, which is on the disk when this returns; raises OutputError (for a link too) or DiskError.

    Writers take turns. Half a line, which a power cut may have left at the end, is set aside as `<name>.damaged-<n>`.
    """
    make_folder(path.parent)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    with translated(path):
        descriptor = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _end_last_line(descriptor, path)
            _append_whole(descriptor, f"{record.model_dump_json()}\n".encode())
        finally:
            os.close(descriptor)
        flush(path.parent)


def read_survivors(path: Path | None, kind: type[R]) -> tuple[list[R], list[int]]:
    """The records in their order, and the numbers of the lines that are none; empty lines are nobody's."""
    if path is None or not path.exists():
        return [], []
    records, damaged = [], []
    with translated(path):
        lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                records.append(kind.model_validate_json(line))
            except ValidationError:
                damaged.append(number)
    return records, damaged


def _append_whole(descriptor: int, line: bytes) -> None:
    """All of it or, where the disk is full, nothing."""
    size = os.fstat(descriptor).st_size
    try:
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _end_last_line(descriptor: int, path: Path) -> None:
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    last = content[content.rfind(b"\n") + 1 :]
    if not last.strip():
        return
    try:
        json.loads(last)
    except ValueError:
        aside = free_name(path, "damaged")
        aside.write_bytes(last)
        flush(aside)
        os.ftruncate(descriptor, len(content) - len(last))
        say(f"the last line of {path} was torn: it is kept as {aside}")
    else:
        _append_whole(descriptor, b"\n")  # it was whole but for its end


def _told(error: ValidationError, kind: type[BaseModel]) -> str:
    first = error.errors()[0]
    return f"not a {kind.__name__} ({first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'})"
