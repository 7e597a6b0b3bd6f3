"""The record of a run: `runs/<id>/` with its settings, status and log; and the birth data of what it makes."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from lpm_kernel.config import Config
from lpm_kernel.errors import LpmError
from lpm_kernel.progress import log_to, printable
from lpm_kernel.workspace import Workspace, now, write_atomically

State = Literal["pending", "running", "done", "failed", "stale"]
VERSIONED = ("lpm-kernel", "torch", "transformers", "trl", "peft", "xllamacpp", "gguf")


def birth_of(step: str, config: Config, digests: Mapping[str, str], seconds: float) -> dict[str, Any]:
    return {
        "step": step,
        "making": uuid.uuid4().hex,
        "config": config.told(),
        "flags": sorted(config.flags),
        "inputs": dict(digests),
        "seconds": seconds,
        "made_at": now(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the libraries that shape results, where installed."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class Record:
    """`runs/<id>/status.json`: what each step of one run did, for people and for `lpm status`."""

    def __init__(self, workspace: Workspace) -> None:
        self.id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + uuid.uuid4().hex[:4]
        self.folder = workspace.root / "runs" / self.id
        self.steps: dict[str, dict[str, Any]] = {}

    def note(self, name: str, state: State, outputs: list[str] | None = None) -> None:
        """Write a step's state at once."""
        step = self.steps.setdefault(name, {"name": name, "started_at": now(), "_clock": time.monotonic()})
        step |= {
            "state": state,
            "seconds": round(time.monotonic() - step["_clock"], 2),
            "outputs": outputs or [],
        }
        shown = [{k: v for k, v in s.items() if k != "_clock"} for s in self.steps.values()]
        write_atomically(self.folder / "status.json", _json({"run": self.id, "steps": shown}))

    def fail(self) -> None:
        """Whatever was running has failed."""
        for step in list(self.steps.values()):
            if step["state"] == "running":
                self.note(step["name"], "failed")


@contextmanager
def recording(workspace: Workspace, configs: Mapping[str, Config]) -> Iterator[Record]:
    """A run folder with its settings, status and log."""
    record = Record(workspace)
    settings = {name: config.told() for name, config in configs.items()}
    write_atomically(record.folder / "config.json", _json(settings))
    write_atomically(workspace.root / "runs" / "latest", record.id)
    with log_to(record.folder / "log.txt"):
        try:
            yield record
        except BaseException as error:
            record.fail()
            if isinstance(error, LpmError):
                with (record.folder / "log.txt").open("a", encoding="utf-8") as log:
                    log.write(f"error: {printable(str(error))}\n")
            raise


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def latest_status(workspace: Workspace) -> tuple[str | None, dict[str, dict[str, Any]]]:
    """The latest run's id and its steps by name; a step that was running when its process died has failed."""
    try:
        run = (workspace.root / "runs" / "latest").read_text(encoding="utf-8").strip()
        status = json.loads((workspace.root / "runs" / run / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, {}
    steps = {step["name"]: step for step in status["steps"]}
    if not workspace.is_locked():
        for step in steps.values():
            step["state"] = "failed" if step["state"] == "running" else step["state"]
    return run, steps
