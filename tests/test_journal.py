"""What was put is there after any death, and one key is one record."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from lpm_kernel.errors import DataError, DiskError
from lpm_kernel.files import key_of
from lpm_kernel.journal import open_journal


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
    with open_journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(journal.put("k", "\ud800"))
        assert journal.get("k") == "\ud800"


def test_keys_differ_when_any_part_differs() -> None:
    assert key_of("a", "bc") != key_of("ab", "c")
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="no journal"), open_journal(path):
        pass
    assert path.read_bytes().startswith(b"not a database")


def test_a_journal_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").mkdir()
    with pytest.raises(DiskError, match=r"j\.sqlite"), open_journal(tmp_path / "j.sqlite"):
        pass
