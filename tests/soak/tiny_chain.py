"""A whole chain in seconds: 20 items, a 2-layer model, scripted model and judge; and `lpm pipeline` on it.

The scripted servers are processes of their own, so what they were asked survives the runs that are killed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import BIO, ROOT, owner_items
from kill_laws import Scripted, scripted

from lpm_kernel.workspace.places import Workspace

SETTINGS = """
[common]
judge = "openai"
accept_judge = true
batch_size = 2
max_length = 512
logging_steps = 2
save_steps = 3
greedy_prompts = 4
greedy_tokens = 8

[prepare]
held_out_share = 0.5

[sft-train]
num_train_epochs = 3

[dpo-train]
num_train_epochs = 2
stop_margin = 0
min_pairs = 1

[dpo-data]
endpoint = "{model_url}"
judge_base_url = "{pair_judge_url}"

[judge-exam]
judge = "reference"

[evaluate]
judge_base_url = "{trial_judge_url}"
samples = 4
max_tokens = 24
slots = 4
slot_tokens = 512
"""
ASKING = ("dpo-data", "evaluate")
"""Steps that ask a scripted server, each its own, so that its log tells which step asked."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def write_owner(root: Path) -> None:
    """Data, bio and untrained base model of a small owner."""
    from lpm_kernel.demo.base_model import write_base_model
    from lpm_kernel.models.loading import quiet_libraries

    quiet_libraries()
    workspace = Workspace(root)
    for artifact, text in {"merged.json": json.dumps(owner_items()), "global_bio": BIO}.items():
        workspace.place(artifact).parent.mkdir(parents=True, exist_ok=True)
        workspace.place(artifact).write_text(text, encoding="utf-8")
    texts = [text for item in owner_items() for text in (item["user"], item["assistant"])]
    write_base_model(workspace.base_model_place("tiny"), texts, 1, layers=2)


@dataclass(frozen=True)
class Place:
    """One workspace with its servers."""

    root: Path
    servers: Mapping[str, Scripted]
    """Step -> the server that it asks."""

    @property
    def screen_path(self) -> Path:
        """What the latest run told."""
        return self.root.with_name("screen.txt")

    @property
    def temporary_path(self) -> Path:
        """TMPDIR of the runs."""
        return self.root.with_name("tmp")

    @contextmanager
    def pipeline(self) -> Iterator[subprocess.Popen[bytes]]:
        """`lpm pipeline`, without settings of this machine, on one thread; at the latest killed after the block."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LPM_", "OPENAI_"))}
        ours = {"OPENAI_API_KEY": "scripted", "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary_path)}
        with self.screen_path.open("wb") as screen:
            process = subprocess.Popen(
                [sys.executable, "-m", "lpm_kernel", "pipeline", "--workspace", str(self.root)],
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                cwd=self.root.parent,
                env=kept | ONE_THREAD | ours,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def screen_end(self) -> str:
        """The latest run's last lines."""
        return "\n".join(self.screen_path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])

    def latest_run(self) -> str:
        """Its id; empty before the first."""
        path = self.root / "runs/latest"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    def steps(self) -> list[dict[str, Any]]:
        """The steps of the latest run, as its status tells."""
        path = self.root / "runs" / self.latest_run() / "status.json"
        if not path.is_file():
            return []
        steps: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["steps"]
        return steps

    def running_step(self, but_not_of: str) -> str:
        """The step that runs, or ran at the death of the latest run; none while that is still the run `but_not_of`."""
        steps = self.steps() if self.latest_run() != but_not_of else []
        return next((step["name"] for step in steps if step["state"] == "running"), "")


@contextmanager
def placed(folder: Path, name: str, owner_path: Path) -> Iterator[Place]:
    """A fresh workspace `folder/name/resources` for the owner, with its servers running."""
    root = folder / name / "resources"
    shutil.copytree(owner_path, root)
    with ExitStack() as stack:
        servers = {step: stack.enter_context(scripted(root.with_name(f"{step}.calls.jsonl"))) for step in ASKING}
        place = Place(root, servers)
        place.temporary_path.mkdir()
        settings_path = Workspace(place.root).settings_path
        settings_path.parent.mkdir(parents=True)
        settings_path.write_text(
            SETTINGS.format(
                model_url=servers["dpo-data"].url("model-slow"),
                pair_judge_url=servers["dpo-data"].url("judge-slow"),
                trial_judge_url=servers["evaluate"].url("judge-slow"),
            ),
            encoding="utf-8",
        )
        yield place
