"""What the system says through Python or a library becomes one of our errors, with place, room and cure."""

import errno
import re
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lpm_kernel.errors import (
    DataError,
    DiskError,
    LpmError,
    MemoryShortError,
    OutputError,
    from_system,
    translated,
)

SAID: dict[str, tuple[Exception, type[LpmError]]] = {
    "a full disk": (OSError(errno.ENOSPC, "x"), DiskError),
    "a spent quota": (OSError(errno.EDQUOT, "x"), DiskError),
    "a failing disk": (OSError(errno.EIO, "x"), DiskError),
    "a file too large": (OSError(errno.EFBIG, "x"), DiskError),
    "a read-only disk": (OSError(errno.EROFS, "x"), OutputError),
    "a folder that is gone": (FileNotFoundError(errno.ENOENT, "x"), OutputError),
    "no memory": (MemoryError(), MemoryShortError),
    "no memory to map": (OSError(errno.ENOMEM, "x"), MemoryShortError),
    "torch without memory": (
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryShortError,
    ),
    "CUDA without memory": (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), MemoryShortError),
    "Rust on a full disk": (ValueError("Error: I/O error: No space left on device (os error 28)"), DiskError),
    "Rust in a folder that is gone": (ValueError("I/O error: No such file or directory (os error 2)"), OutputError),
    "torch on a full disk": (
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 128 vs 22"),
        DiskError,
    ),
    "numpy on a full disk": (OSError("69120 requested and 7728 written"), DiskError),
    "torch in a folder that is gone": (RuntimeError("Parent directory /a/b does not exist."), OutputError),
}


@pytest.mark.parametrize("name", SAID)
def test_what_the_system_says_has_a_class_a_place_and_a_cure(name: str, tmp_path: Path) -> None:
    error, kind = SAID[name]
    with pytest.raises(kind, match="; ") as raised, translated(tmp_path / "not" / "there"):
        raise error
    told = str(raised.value)
    assert kind is MemoryShortError or str(tmp_path) in told or "/a/b" in told
    assert kind is not DiskError or re.search(r"\([\d.]+ (bytes|KiB|MiB|GiB) free there\)", told)
    assert "\n" not in told
    assert "enforce" not in told


def test_the_path_that_an_error_names_is_told_before_ours(tmp_path: Path) -> None:
    assert "/dev/full" in str(from_system(OSError(errno.ENOSPC, "x", "/dev/full"), tmp_path))
    assert str(tmp_path) in str(from_system(OSError(errno.ENOSPC, "x", 7), tmp_path))


def test_what_speaks_of_something_else_passes_unchanged(tmp_path: Path) -> None:
    for error in (ZeroDivisionError("1/0"), OSError("no number"), ConnectionResetError(errno.ECONNRESET, "x")):
        with pytest.raises(type(error)) as raised, translated(tmp_path):
            raise error
        assert raised.value is error
    with pytest.raises(DataError, match=r"^told$"), translated(tmp_path):
        raise DataError("told")


def test_a_full_database_is_a_full_disk(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        with pytest.raises(DiskError, match=r"full: .*x\.sqlite .*free space"), translated(tmp_path / "x.sqlite"):
            connection.executescript("CREATE TABLE t (a); CREATE TABLE u (a); CREATE TABLE v (a)")


def test_a_copy_that_fills_a_disk_names_the_disk_that_is_full_and_not_the_one_it_reads() -> None:
    known = from_system(OSError(errno.ENOSPC, "No space left on device", "/read/here", None, "/written/there"))
    assert isinstance(known, DiskError)
    assert "/written/there" in str(known)
    assert "/read/here" not in str(known)


def test_a_library_that_stumbles_over_too_little_memory_is_no_riddle(monkeypatch: pytest.MonkeyPatch) -> None:
    stumbled = SystemError("<built-in function x> returned NULL without setting an exception")
    assert from_system(stumbled, None) is None
    monkeypatch.setattr(resource, "getrlimit", lambda _: (700 * 2**20, 700 * 2**20))
    assert isinstance(from_system(stumbled, None), MemoryShortError)
