"""Answers and verdicts as they arrive, in SQLite: what was paid for is never lost.

A record is a key and a JSON value. The key is a hash (`files.key_of`) over all that shaped the value (model,
messages, sampling settings; judge, question, answers, bio), so a changed input asks anew and an unchanged one never.
WAL with synchronous=FULL: a committed record survives power loss. Commits are grouped over COMMIT_EVERY_S.
"""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from lpm_kernel.errors import DataError, DiskError
from lpm_kernel.files import make_folder

COMMIT_EVERY_S = 0.02


class Journal:
    """Opened with `open_journal`. `put` returns once the record is on the disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._alone = threading.Lock()  # one connection in two threads at once ends in an error without a name
        self._pending: dict[str, str] = {}
        self._committed: asyncio.Future[None] | None = None

    def get(self, key: str) -> Any | None:
        """The value under the key, or None."""
        with self._alone:
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
        try:
            with self._alone, self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO record VALUES (?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise DiskError(f"the journal could not be written ({error}); free space and start again") from error


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open or create; raises DataError for a file that is no journal, DiskError when it cannot be made."""
    make_folder(path.parent)
    with closing(_connected(path)) as connection:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("CREATE TABLE IF NOT EXISTS record (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        except sqlite3.OperationalError as error:
            raise _cannot_open(path, error) from error
        except sqlite3.DatabaseError as error:
            raise DataError(f"{path} is no journal ({error}); move it away and start again") from error
        yield Journal(connection)


def _connected(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, check_same_thread=False)
    except sqlite3.OperationalError as error:
        raise _cannot_open(path, error) from error


def _cannot_open(path: Path, error: sqlite3.OperationalError) -> DiskError:
    return DiskError(f"the journal {path} cannot be opened ({error}); check space and rights")
