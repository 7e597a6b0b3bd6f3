"""Publish in workspace after workspace, and in the i-th die of SIGKILL at the i-th call that changes the disk.

python tests/dying_publisher.py FOLDER nothing|ours|owners    # FOLDER/1, FOLDER/2, ... until one survives
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.manifest import Manifest
from lpm_kernel.workspace.places import Workspace
from lpm_kernel.workspace.publish import building
from lpm_kernel.workspace.publish import publish as publish_drafts

NAMES = ("prompts", "lpm.gguf", "adapter", "fidelity")
MANIFEST = Manifest(
    step="test",
    making="m1",
    config={},
    flags=(),
    inputs={},
    files={},
    seconds=1.0,
    made_at="2026-11-21T00:00:00Z",
    versions={},
)
CALLS = ("fsync", "unlink", "rename", "rmdir", "mkdir")


def publish(root: Path, text: str) -> None:
    """Four artifacts, one of them a folder, as a step publishes its outputs."""
    workspace = Workspace(root)
    places = {name: workspace.place(name) for name in NAMES}
    with lock(workspace), building(places) as drafts:
        for name, draft in drafts.items():
            _write(name, draft, f"{text} {name}")
        publish_drafts(workspace, drafts, places, MANIFEST)


def put(root: Path, text: str) -> None:
    """The same as an owner would."""
    for name in NAMES:
        place = Workspace(root).place(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        _write(name, place, f"{text} {name}")


def read(root: Path) -> dict[str, str]:
    """Artifact -> text."""
    places = {name: Workspace(root).place(name) for name in NAMES}
    return {n: (p / "adapter_config.json" if n == "adapter" else p).read_text() for n, p in places.items()}


def _write(name: str, path: Path, text: str) -> None:
    if name == "adapter":
        path.mkdir()
        path = path / "adapter_config.json"
    path.write_text(text, encoding="utf-8")


def die_at(number: int) -> None:
    left = number

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def count_and_call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return count_and_call

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def main() -> None:
    """Returns when a publish survived, because it makes fewer calls."""
    folder, before = Path(sys.argv[1]), sys.argv[2]
    number, survived = 0, False
    while not survived:
        number += 1
        root = folder / str(number)
        if before == "ours":
            publish(root, "old")
        elif before == "owners":
            put(root, "mine")
        if (pid := os.fork()) == 0:
            die_at(number)
            publish(root, "new")
            os._exit(0)
        survived = not os.WIFSIGNALED(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    main()
