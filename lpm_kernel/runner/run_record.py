"""The record of a run: `runs/<id>/` with its settings, status and log."""

import errno
import json
import os
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from lpm_kernel.config import Config
from lpm_kernel.errors import DataError, LpmError, MissingInputError, from_system, translated
from lpm_kernel.files import read_record, write_atomically
from lpm_kernel.progress import log_to, printable, say
from lpm_kernel.records import Record
from lpm_kernel.workspace.lock import is_locked
from lpm_kernel.workspace.manifest import now
from lpm_kernel.workspace.places import Workspace

State = Literal["pending", "running", "done", "failed", "stale"]


class StepStatus(Record):
    """What one step did in one run."""

    name: str
    state: State
    started_at: str
    seconds: float
    outputs: tuple[str, ...] = ()


class RunStatus(Record):
    """`status.json`: what each step of one run did."""

    run: str | None
    demo: bool = False
    """The run works on the demo's data alone."""
    steps: tuple[StepStatus, ...] = ()

    def of(self, name: str) -> StepStatus | None:
        """What the step did, if it came to it."""
        return next((step for step in self.steps if step.name == name), None)


class RunRecord:
    """A run under way; every note is on the disk at once, for people and for `lpm status`."""

    def __init__(self, workspace: Workspace, demo: bool) -> None:
        self.id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + uuid.uuid4().hex[:4]
        self.folder = workspace.runs_path / self.id
        self.demo = demo
        self._steps: dict[str, StepStatus] = {}
        self._clocks: dict[str, float] = {}

    def note(self, name: str, state: State, outputs: tuple[str, ...] = ()) -> None:
        """A step's state."""
        clock = self._clocks.setdefault(name, time.monotonic())
        started_at = self._steps[name].started_at if name in self._steps else now()
        seconds = round(time.monotonic() - clock, 2)
        self._steps[name] = StepStatus(name=name, state=state, started_at=started_at, seconds=seconds, outputs=outputs)
        self.write()

    def write(self) -> None:
        """What is known so far."""
        status = RunStatus(run=self.id, demo=self.demo, steps=tuple(self._steps.values()))
        write_atomically(self.folder / "status.json", status.model_dump_json(indent=2))

    def fail(self, error: BaseException) -> None:
        """Whatever was running has failed; where the disk takes no note of it, that changes nothing."""
        if not self.folder.is_dir():
            return
        with suppress(OSError, LpmError):
            for step in list(self._steps.values()):
                if step.state == "running":
                    self.note(step.name, "failed")
            if isinstance(error, LpmError):
                with (self.folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as log:
                    log.write(f"error: {printable(str(error))}\n")
                    cause = error.__cause__
                    if cause and from_system(cause):  # if the defect is ours after all, it is found here
                        log.write(printable("".join(traceback.format_exception(cause, chain=False))))


@contextmanager
def recording(workspace: Workspace, configs: Mapping[str, Config], demo: bool) -> Iterator[RunRecord]:
    """A run folder with its settings, status and log; `demo` says that the run works on the demo's data alone."""
    record = RunRecord(workspace, demo)
    settings = {name: config.recorded() for name, config in configs.items()}
    write_atomically(record.folder / "config.json", json.dumps(settings, indent=2, ensure_ascii=False))
    write_atomically(workspace.runs_path / "latest", record.id)
    record.write()
    with log_to(record.folder / "log.txt"):
        try:
            with translated(workspace.root), _still_there(workspace.root):
                yield record
        except BaseException as error:
            record.fail(error)
            raise


@contextmanager
def _still_there(root: Path) -> Iterator[None]:
    """Raises FileNotFoundError for an input that is missing with the whole workspace."""
    try:
        yield
    except MissingInputError as error:
        if root.exists():
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(root)) from error


def latest_status(workspace: Workspace) -> RunStatus:
    """The latest run's status, empty when there was none here; what was running when its process died has failed."""
    try:
        latest = workspace.runs_path / "latest"
        run = latest.read_text(encoding="utf-8").strip() if latest.is_file() else ""
        path = workspace.runs_path / run / "status.json"
        if not path.resolve().is_relative_to(workspace.root.resolve()):
            return RunStatus(run=None)
        status = read_record(path, RunStatus)
    except (OSError, ValueError, RuntimeError, MissingInputError):  # a NUL in the name, a loop of links
        return RunStatus(run=None)
    except DataError:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        say(f"{path} cannot be read, so what the latest run did is not known; it was set aside as {aside}")
        return RunStatus(run=None)
    if is_locked(workspace):
        return status
    ended = (s.model_copy(update={"state": "failed"}) if s.state == "running" else s for s in status.steps)
    return status.model_copy(update={"steps": tuple(ended)})
