"""What was put is there after any death, one key is one record, and damage costs what it hit and nothing else."""

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from dying_publisher import die_at

from lpm_kernel.errors import OutputError
from lpm_kernel.files import key_of
from lpm_kernel.journal import Journal, open_journal

VALUES = {f"{key_of(n)}": {"text": f"answer {n} " * (900 if n == 7 else 20)} for n in range(60)}
"""Enough for several pages, one of them too long for one page."""
OLD_TABLE = "CREATE TABLE record (key TEXT PRIMARY KEY, value TEXT NOT NULL)"


@pytest.fixture
def journal_path(tmp_path: Path) -> Path:
    """A journal with VALUES."""
    with open_journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(journal.put_all(VALUES))
    return tmp_path / "j.sqlite"


def kept(path: Path) -> int:
    """How many of VALUES the journal still holds; the others are as if never put."""
    with open_journal(path) as journal:
        found = {key: journal.get(key) for key in VALUES}
        assert [value for key, value in found.items() if value not in (None, VALUES[key])] == []
        missing = {key: VALUES[key] for key, value in found.items() if value is None}
        asyncio.run(journal.put_all(missing))
        assert len(journal) == len(VALUES)
    return len(VALUES) - len(missing)


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(";".join(statements))


def test_a_record_survives_the_death_of_its_writer(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys; from pathlib import Path; from lpm_kernel.journal import open_journal\n"
        "async def work(j):\n    await j.put('k', ['v'])\n    os.kill(os.getpid(), 9)\n"
        "with open_journal(Path(sys.argv[1])) as j: asyncio.run(work(j))"
    )
    died = subprocess.run([sys.executable, "-c", script, tmp_path / "j.sqlite"])
    assert died.returncode == -9
    with open_journal(tmp_path / "j.sqlite") as journal:
        assert journal.get("k") == ["v"]


def test_many_puts_at_once_share_commits_and_all_arrive(tmp_path: Path) -> None:
    async def work() -> None:
        await asyncio.gather(*(journal.put(str(n), n) for n in range(1000)))

    with open_journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(work())
        assert len(journal) == 1000
        assert journal.get("999") == 999
        assert journal.get("1000") is None


def test_lone_surrogates_survive_the_journal(tmp_path: Path) -> None:
    for _ in range(2):
        with open_journal(tmp_path / "j.sqlite") as journal:
            asyncio.run(journal.put("k", "\ud800"))
            assert journal.get("k") == "\ud800"
    assert [path.name for path in tmp_path.iterdir()] == ["j.sqlite"]


def test_keys_differ_when_any_part_differs() -> None:
    assert key_of("a", "bc") != key_of("ab", "c")
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_a_journal_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").mkdir()
    with pytest.raises(OutputError, match=r"j\.sqlite"), open_journal(tmp_path / "j.sqlite"):
        pass


def test_a_file_that_is_no_journal_is_set_aside_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"not a database" * 100)
    with caplog.at_level(logging.INFO), open_journal(path) as journal:
        assert len(journal) == 0
    assert path.with_name("j.sqlite.damaged-1").read_bytes() == b"not a database" * 100
    assert "j.sqlite.damaged-1" in caplog.text


@pytest.mark.parametrize("page", range(12))
def test_a_zeroed_page_costs_what_lay_in_it_and_says_so(
    page: int, journal_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = journal_path.read_bytes()
    assert len(raw) == 12 * 4096
    damaged = raw[: page * 4096] + bytes(4096) + raw[(page + 1) * 4096 :]
    journal_path.write_bytes(damaged)
    with caplog.at_level(logging.INFO):
        found = kept(journal_path)
    assert found >= len(VALUES) - 4096 // 250
    assert f"{found} records are rescued" in caplog.text
    assert journal_path.with_name("j.sqlite.damaged-1").read_bytes() == damaged
    assert kept(journal_path) == len(VALUES)


def test_any_flipped_byte_costs_few_records_and_never_a_wrong_one(journal_path: Path) -> None:
    raw = journal_path.read_bytes()
    for place in [*range(0, 100, 9), *range(100, len(raw), 1999)]:
        for name in list(journal_path.parent.iterdir()):
            name.unlink()
        journal_path.write_bytes(raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :])
        assert kept(journal_path) >= len(VALUES) - 4096 // 250, place


@pytest.mark.parametrize("length", [1, 99, 4096, 5000, 20480, 40961])
def test_a_cut_journal_keeps_what_is_left(length: int, journal_path: Path) -> None:
    raw = journal_path.read_bytes()
    journal_path.write_bytes(raw[:length])
    assert kept(journal_path) >= (length // 4096 - 6) * 4 - 4096 // 250


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE record SET value = '{' WHERE rowid = 3",
        'UPDATE record SET value = \'{"text": "forged"}\' WHERE rowid = 3',
        "UPDATE record SET value = 5 WHERE rowid = 3",
        "UPDATE record SET value = x'ff00' WHERE rowid = 3",
        "UPDATE record SET checksum = 'x' WHERE rowid = 3",
    ],
)
def test_a_record_that_was_tampered_with_is_asked_again_alone(spoil: str, journal_path: Path) -> None:
    change(journal_path, spoil)
    assert kept(journal_path) == len(VALUES) - 1


def test_a_table_with_foreign_columns_is_set_aside_whole(journal_path: Path) -> None:
    change(
        journal_path,
        "DROP TABLE record",
        "CREATE TABLE record (a INTEGER, b TEXT)",
        "INSERT INTO record VALUES (1, 'x')",
    )
    assert kept(journal_path) == 0
    with closing(sqlite3.connect(journal_path.with_name("j.sqlite.damaged-1"))) as connection:
        assert connection.execute("SELECT * FROM record").fetchall() == [(1, "x")]


def test_a_journal_without_checksums_is_taken_over_in_place(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    rows = ",".join(f"('{key}', '{{\"text\": \"{value['text']}\"}}')" for key, value in VALUES.items())
    change(path, OLD_TABLE, f"INSERT INTO record VALUES {rows}")
    assert kept(path) == len(VALUES)
    assert [file.name for file in tmp_path.iterdir()] == ["j.sqlite"]
    change(path, "UPDATE record SET value = '{}' WHERE rowid = 3")
    assert kept(path) == len(VALUES) - 1


def test_killed_at_any_call_of_a_rescue_no_readable_record_is_lost(journal_path: Path, tmp_path: Path) -> None:
    raw = bytearray(journal_path.read_bytes())
    raw[8 * 4096 : 9 * 4096] = bytes(4096)
    number, survived = 0, False
    while not survived:
        number += 1
        path = tmp_path / str(number) / "j.sqlite"
        path.parent.mkdir()
        path.write_bytes(raw)
        if (pid := os.fork()) == 0:
            die_at(number)
            with open_journal(path):
                os._exit(0)
        survived = not os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        assert kept(path) >= len(VALUES) - 4096 // 250, number
        assert path.with_name("j.sqlite.damaged-1").read_bytes() == raw
        assert not path.with_name("j.sqlite.damaged-2").exists()
    assert number > 6


def test_a_journal_that_rots_while_it_is_read_ends_the_run_with_its_name(journal_path: Path) -> None:
    def read(journal: Journal) -> None:
        journal_path.write_bytes(bytes(journal_path.stat().st_size))
        journal.get(next(iter(VALUES)))

    assert_told(journal_path, read)


def assert_told(path: Path, work: Callable[[Journal], None]) -> None:
    from lpm_kernel.errors import DiskError

    with open_journal(path) as journal, pytest.raises(DiskError, match=r"j\.sqlite"):
        work(journal)
