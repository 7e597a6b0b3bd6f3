"""Answers and verdicts as they arrive, in SQLite: what was paid for is never lost.

A record is a key and a JSON value, with a checksum over both. The key is a hash (`files.key_of`) over all that shaped
the value (model, messages, sampling settings; judge, question, answers, bio), so a changed input asks anew and an
unchanged one never. WAL with synchronous=FULL: a committed record survives power loss. Commits are grouped over
COMMIT_EVERY_S.

Every record is looked at when the journal is opened. A damaged journal is set aside as `<name>.damaged-<n>`, and what
is readable in it goes into a new one: what is lost is asked again, and nothing else. Records of a version that wrote
no checksum are believed when they are JSON.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from lpm_kernel.errors import translated
from lpm_kernel.files import draft_of, flush, free_name, make_folder, remove
from lpm_kernel.progress import say
from lpm_kernel.salvage import text_rows

COMMIT_EVERY_S = 0.02
TABLE = "CREATE TABLE IF NOT EXISTS record (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT)"
COLUMNS = ["key TEXT", "value TEXT", "checksum TEXT"]
OLD_COLUMNS = COLUMNS[:2]
CHECKSUM_BYTES = 8
NOT_THE_FILES_FAULT = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_IOERR),
}
"""SQLite's codes for what speaks of the machine; every other one speaks of the file's content."""


class Journal:
    """Opened with `open_journal`. `put` returns once the record is on the disk."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._alone = threading.Lock()  # one connection in two threads at once ends in an error without a name
        self._pending: dict[str, str] = {}
        self._committed: asyncio.Future[None] | None = None

    def get(self, key: str) -> Any | None:
        """The value under the key, or None. Raises DiskError."""
        with translated(self._path), self._alone:
            row = self._connection.execute("SELECT value FROM record WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM record").fetchone()[0])

    async def put(self, key: str, value: object) -> None:
        """Store one record; concurrent callers share one commit. Raises DiskError."""
        await self.put_all({key: value})

    async def put_all(self, records: Mapping[str, object]) -> None:
        """Store all of them, or at a kill none; a caller that is cancelled meanwhile has put them all the same."""
        self._pending |= {key: json.dumps(value, ensure_ascii=True) for key, value in records.items()}
        if self._committed is None:
            self._committed = asyncio.ensure_future(self._commit_soon())
        await asyncio.shield(self._committed)

    async def flush(self) -> None:
        """Wait until every record put so far is on the disk."""
        if self._committed is not None:
            await asyncio.shield(self._committed)

    async def _commit_soon(self) -> None:
        await asyncio.sleep(COMMIT_EVERY_S)
        rows, self._pending, self._committed = list(self._pending.items()), {}, None
        await asyncio.to_thread(self._commit, rows)

    def _commit(self, rows: list[tuple[str, str]]) -> None:
        with translated(self._path), self._alone:
            _put(self._connection, rows)


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open or create, and mend what is damaged; raises DiskError or OutputError when the disk does not let us."""
    make_folder(path.parent)
    with translated(path):
        connection = _opened(path)
    with closing(connection):
        yield Journal(connection, path)


@contextmanager
def reading_journal(path: Path) -> Iterator[Journal | None]:
    """What it holds, while nothing on the disk is changed; None for one that is not there, or is damaged."""
    if not path.is_file():
        yield None
        return
    # Without a log beside it nobody writes, and SQLite makes no files of its own beside one that does not change.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, check_same_thread=False)) as found:
        try:
            is_whole = _complaint(found) == "" and bool(_columns(found))
        except (sqlite3.Error, UnicodeDecodeError):
            is_whole = False  # the run that opens it to write will mend it
        yield Journal(found, path) if is_whole else None


def _opened(path: Path) -> sqlite3.Connection:
    with _one_at_a_time(path.parent):
        _take_rescued(path)
        if damage := _damage(path):
            _rescue(path, damage)
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(TABLE)
        if _columns(connection) == OLD_COLUMNS:
            _give_checksums(connection)
    return connection


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two processes that open one damaged journal must not both set it aside."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _put(connection: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
    checked = [(key, value, _checksum(key, value)) for key, value in rows]
    with connection:
        connection.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", checked)


def _checksum(key: str, value: str) -> str:
    return hashlib.blake2b(f"{key}\n{value}".encode(), digest_size=CHECKSUM_BYTES).hexdigest()


def _give_checksums(connection: sqlite3.Connection) -> None:
    """To the records of a version that wrote none, all at once."""
    connection.create_function("checksum_of", 2, _checksum, deterministic=True)
    connection.executescript(
        "BEGIN IMMEDIATE; ALTER TABLE record ADD COLUMN checksum TEXT;"
        "UPDATE record SET checksum = checksum_of(key, value); COMMIT"
    )


# Damage -----------------------------------------------------------------------------------------------------------


def _damage(path: Path) -> str:
    """What is wrong with the file, in words; empty when it is whole, or not there. Raises sqlite3.Error."""
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return ""
    with closing(sqlite3.connect(path)) as connection:
        try:
            return _complaint(connection)
        except sqlite3.Error as error:
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in NOT_THE_FILES_FAULT:
                raise
            return str(error)
        except UnicodeDecodeError:
            return "its schema is no text"  # which SQLite wanted to tell


def _complaint(connection: sqlite3.Connection) -> str:
    columns = _columns(connection)
    if not columns and connection.execute("PRAGMA page_count").fetchone()[0] <= 1:
        return ""  # killed before its table was made
    if columns not in (COLUMNS, OLD_COLUMNS):
        return f"its table `record` has the columns {columns}, expected {COLUMNS}"
    verdict = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if verdict != "ok":
        return verdict.splitlines()[-1]
    connection.text_factory = bytes
    rows = connection.execute("SELECT * FROM record")
    bad = sum(not _is_sound(*row) for row in rows)
    return f"{bad} of its records are not as they were written" if bad else ""


def _columns(connection: sqlite3.Connection) -> list[str]:
    """Name and type of each; empty without the table."""
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    rows = connection.execute("PRAGMA table_info(record)").fetchall()
    connection.text_factory = str
    return [f"{name} {kind}" for _, name, kind, *_ in rows]


def _is_sound(key: Any, value: Any, checksum: Any = None) -> bool:
    """Whether a record is as it was written; text or its bytes."""
    try:
        key, value = (part.decode() if isinstance(part, bytes) else part for part in (key, value))
        if checksum is not None:
            return bool(_checksum(key, value) == (checksum.decode() if isinstance(checksum, bytes) else checksum))
        json.loads(value)
    except (AttributeError, TypeError, ValueError, RecursionError):
        return False  # a number or NULL where text was, no UTF-8, no JSON
    return isinstance(key, str)


def _rescue(path: Path, damage: str) -> None:
    """A new journal with all that is readable takes the place of the damaged one; a kill at any moment loses nothing.

    The new one is whole before the damaged one is touched; from then on `_take_rescued` of any later run ends it.
    """
    known = _count(path)
    records = {row[0]: row[1] for row in text_rows(path) if len(row) in (2, 3) and _is_sound(*row)}
    draft = draft_of(path)
    remove(draft)
    with closing(sqlite3.connect(draft)) as connection:
        connection.execute(TABLE)
        _put(connection, [(str(key), str(value)) for key, value in records.items()])
    flush(draft)
    draft.rename(_rescued_path(path))
    flush(path.parent)
    lost = "whatever is lost" if known is None else f"{max(0, known - len(records))} lost"
    say(f"{path} is damaged ({damage}): {len(records)} records are rescued, {lost} and asked again")
    _take_rescued(path)


def _count(path: Path) -> int | None:
    """Records of a damaged journal, where its index still tells."""
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM record").fetchone()[0])
    return None


def _rescued_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.rescued")


def _take_rescued(path: Path) -> None:
    """Set the damaged journal aside, its log before it, and put the rescued one, if there is one, in its place."""
    if not _rescued_path(path).exists():
        return
    aside = free_name(path, "damaged")
    for suffix in ("-shm", "-wal", ""):
        with suppress(FileNotFoundError):  # a run that was killed here had moved it
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    flush(path.parent)
    _rescued_path(path).rename(path)
    flush(path.parent)
    say(f"the damaged journal is kept as {aside}")
