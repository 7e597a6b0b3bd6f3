"""What must hold after a kill, as functions of what is on the disk and in /proc; for test_kill.py and tests/soak."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lpm_kernel.files import TEMPORARY, file_sha256
from lpm_kernel.pipeline import STEPS
from lpm_kernel.workspace.manifest import files_of, manifest_path
from lpm_kernel.workspace.places import Workspace

TESTS = Path(__file__).resolve().parent
SETTLED_S = 0.2
"""A question that a killed run sent last may still be on its way into the server's log."""
DYING_S = 2.0
"""The kernel kills the children of a killed run at once; a busy machine needs a moment to bury them."""


# On the disk ----------------------------------------------------------------------------------------------------


def half_made(root: Path, given: Collection[str] = ()) -> list[str]:
    """Artifacts that are there without a manifest that fits them; `given` ones are the owner's and need none."""
    workspace = Workspace(root)
    made = {artifact for step in STEPS for artifact in step.makes.values()} - set(given)
    return sorted(a for a in made if workspace.place(a).exists() and not _fits(workspace.place(a)))


def _fits(place: Path) -> bool:
    """By the bytes, without the workspace's cache of hashes."""
    try:
        files = json.loads(manifest_path(place).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    return bool(files == {name: file_sha256(path) for name, path in files_of(place).items()})


def litter(root: Path) -> list[str]:
    """What a kill may leave until the next run begins (temporary files), and what it may not (kept files)."""
    names = (str(path.relative_to(root)) for path in root.rglob("*"))
    return sorted(n for n in names if Path(n).name.startswith(TEMPORARY) or ".kept-" in Path(n).name)


Rows = dict[str, tuple[int, str]]


def journal_rows(root: Path, step: str) -> Rows:
    """Key -> (row number, value) of a step's journal; a record written again would get a new row number.

    A copy is read, because opening the journal would repair what the next run must be able to repair.
    """
    path = root / "runs/work" / step / "journal.sqlite"
    if not path.is_file():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        for name in (path.name, f"{path.name}-wal"):
            if path.with_name(name).is_file():
                shutil.copy(path.with_name(name), folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'record'").fetchone():
                return {}
            found = {
                key: (row, value) for row, key, value in connection.execute("SELECT rowid, key, value FROM record")
            }
    return found


def questions_of(rows: Rows, answers: int) -> int:
    """What was asked for these records: a judge for each opinion, a model for so many answers at once."""
    choices = sum('"finish_reason"' in value for _, value in rows.values())
    return len(rows) - choices + choices // answers


def rewritten(before: Rows, after: Rows) -> list[str]:
    """Keys of records that are gone, changed, or written again."""
    return [key for key, row in before.items() if after.get(key) != row]


# What was asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One line of a scripted server's log."""

    key: str
    behaviour: str
    n: int

    @property
    def is_greeting(self) -> bool:
        """The question by which a model server proves that it chats: no answer to journal."""
        return self.behaviour.startswith("model") and self.n == 1


@dataclass(frozen=True)
class Scripted:
    """A scripted server in a process of its own."""

    root_url: str
    log_path: Path

    def url(self, behaviour: str) -> str:
        return f"{self.root_url}/{behaviour}/v1"

    def questions(self) -> list[Asked]:
        """Each question so far, in order of arrival."""
        lines = self.log_path.read_text(encoding="utf-8").splitlines()
        calls = (Asked(**json.loads(line)) for line in lines)
        return [call for call in calls if not call.is_greeting]

    def asked(self) -> list[str]:
        """Content hash of each question so far, in order of arrival."""
        return [question.key for question in self.questions()]

    def settled(self) -> list[str]:
        """All that was asked, once nothing more comes from a run that is dead."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < SETTLED_S:
            if (grown := self.log_path.stat().st_size) != size:
                size, since = grown, time.monotonic()
            time.sleep(0.01)
        return self.asked()


@contextmanager
def scripted(log_path: Path) -> Iterator[Scripted]:
    """The server, for the length of the block."""
    log_path.touch()
    program = [sys.executable, str(TESTS / "scripted_server.py"), "--log", str(log_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Scripted(process.stdout.readline().strip().removesuffix("/v1"), log_path)
        finally:
            process.kill()


@dataclass(frozen=True)
class Repetition:
    """What one run asked although an earlier one had."""

    repeated: int
    allowed: int
    """Asked earlier, but not journaled: it was in flight when the run was killed."""


def repetition(earlier: Sequence[str], new: Sequence[str], journaled: int) -> Repetition:
    """From all questions asked before a run, those that it asked, and the records it began with."""
    return Repetition(len(new) - len(set(new) - set(earlier)), len(set(earlier)) - journaled)


# Processes ------------------------------------------------------------------------------------------------------


def survivors(root: Path, wait_s: float = DYING_S) -> dict[int, str]:
    """Processes that still live after wait_s: pid -> command line, of those that name the workspace."""
    deadline = time.monotonic() + wait_s
    while (found := naming(root)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def naming(root: Path) -> dict[int, str]:
    """Living processes whose command line names the workspace, as all our children's does; not this one."""
    commands = {int(path.name): _command(path) for path in Path("/proc").glob("[0-9]*")}
    return {pid: line for pid, line in commands.items() if str(root) in line and pid != os.getpid()}


def _command(process: Path) -> str:
    """Empty for a process that is gone or a zombie."""
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", errors="replace")
    except OSError:
        return ""
