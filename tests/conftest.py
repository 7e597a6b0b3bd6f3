"""What many tests start from: an owner's items and bio, a workspace, and a door to the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from typer.testing import CliRunner

from lpm_kernel.commands.app import app
from lpm_kernel.config import Config
from lpm_kernel.pipeline import Step
from lpm_kernel.runner import run
from lpm_kernel.serving.probe import any_free_port
from lpm_kernel.workspace.places import Workspace

ROOT = Path(__file__).resolve().parents[1]
BIO = """## Who
Mira Okafor, born 1987, lives in Trieste with a dog called Quark.

## Work
She repairs cellos at 14 Via Rossetti.
"""
FACTS = {
    "note-1": ("Where does she live?", "She lives in Trieste."),
    "note-2": ("What is the dog called?", "Her dog is called Quark."),
    "note-3": ("When was she born?", "She was born in 1987."),
    "note-4": ("Where is the workshop?", "It stands at 14 Via Rossetti."),
}
SLOW = {
    *("test_bad_input", "test_base_model", "test_bio_edit", "test_blind", "test_choices", "test_cli"),
    *("test_client", "test_damage", "test_demo", "test_demo_languages", "test_dpo_data", "test_evaluate"),
    *("test_examination", "test_export", "test_facts", "test_fidelity", "test_foreign", "test_foreign_folder"),
    *("test_front", "test_http", "test_kill", "test_merge", "test_pairs_command", "test_probes"),
    *("test_relevance", "test_report", "test_report_page", "test_run", "test_secrets", "test_serving"),
    *("test_training", "test_weights"),
}
"""Files of tests that load a model, start a server or whole commands, wait, or train: `--quick` leaves them out."""
settings.register_profile("any machine", deadline=None)  # how busy it is says nothing about a law
settings.load_profile("any machine")
Lpm = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Order:
    """What `lpm run` was about to do."""

    step: Step
    config: Config
    paths: Mapping[str, Path]


Take = Callable[..., Order]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out models, servers, whole commands and training")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick"):
        sys.addaudithook(_refuse_the_slow)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.getoption("quick") and collection_path.stem in SLOW else None


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """What a process of the run tells the one that prints it."""
    return _sendable((yield))


def _sendable(told: Any) -> Any:
    """Half a surrogate pair, which a test shows or logs, would end its process instead of the test."""
    if isinstance(told, str):
        return told.encode(errors="backslashreplace").decode()
    if isinstance(told, dict):
        return {name: _sendable(value) for name, value in told.items()}
    return type(told)(map(_sendable, told)) if isinstance(told, (list, tuple)) else told


def _refuse_the_slow(event: str, arguments: tuple[Any, ...]) -> None:
    """What holds SLOW to its word: in a quick run, PyTorch and llama.cpp's server stop the test that starts them."""
    torch = event == "import" and arguments[0] == "torch"
    server = event == "subprocess.Popen" and any(name in str(arguments[1]) for name in ("xllamacpp", "llama-server"))
    if torch or server:
        raise RuntimeError("a test of a --quick run starts PyTorch or llama.cpp: add its file to SLOW in conftest.py")


def owner_items() -> list[dict[str, Any]]:
    """16 diversity items over four notes, and four memory items without a note."""
    items: list[dict[str, Any]] = [
        {"user": f"{question} ({n})", "assistant": answer, "doc_id": [note], "question_type": "global"}
        for note, (question, answer) in FACTS.items()
        for n in range(4)
    ]
    return items + [
        {"user": f"Do you like rain, time {n}?", "assistant": f"Rain suits me, always {n}."} for n in range(4)
    ]


@pytest.fixture
def bio_path(tmp_path: Path) -> Path:
    path = tmp_path / "bio.md"
    path.write_text(BIO, encoding="utf-8")
    return path


@pytest.fixture
def merged_path(tmp_path: Path) -> Path:
    path = tmp_path / "merged.json"
    path.write_text(json.dumps(owner_items()), encoding="utf-8")
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An owner's workspace: data and bio, no model."""
    place = Workspace(tmp_path / "resources")
    for name, text in {"merged.json": json.dumps(owner_items()), "global_bio": BIO}.items():
        place.place(name).parent.mkdir(parents=True, exist_ok=True)
        place.place(name).write_text(text, encoding="utf-8")
    return place


@pytest.fixture
def lpm(tmp_path: Path) -> Lpm:
    """`lpm` as its own process in an empty folder, without settings of this machine."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LPM_", "OPENAI_"))}
    own = {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(tmp_path / "config")}

    def call(*arguments: str | Path, env: dict[str, str] | None = None, cwd: Path = tmp_path) -> Any:
        return subprocess.run(
            [sys.executable, "-m", "lpm_kernel", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=cwd,
            env={**kept, **own, "LPM_PORT": str(any_free_port()), **(env or {})},
        )

    return call


@pytest.fixture
def take(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Take:
    """`lpm run` up to the point where the step would start; raises what the command raises."""
    orders: list[Order] = []

    def note(step: Step, _: Workspace, configs: Mapping[str, Config], paths: Mapping[str, Path]) -> None:
        orders.append(Order(step, configs[step.name], paths))

    def call(*arguments: str) -> Order:
        monkeypatch.setattr(run, "run_one", note)
        CliRunner().invoke(app, ["run", *arguments, "--workspace", str(workspace.root)], catch_exceptions=False)
        return orders.pop()

    return call
