"""Which of several base models is meant is asked at a terminal, told elsewhere, and never guessed."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Lpm
from typer.testing import CliRunner

from lpm_kernel.commands.app import app
from lpm_kernel.demo.base_model import write_base_model
from lpm_kernel.errors import ConfigError, MissingInputError, UsageError
from lpm_kernel.workspace.places import Workspace


@pytest.fixture
def two(workspace: Workspace) -> Workspace:
    """An owner's workspace with the base models `large` and `small`."""
    for name in ("large", "small"):
        write_base_model(workspace.base_model_place(name), [f"some {name} words to learn"], seed=1)
    return workspace


@pytest.mark.parametrize("command", [("pipeline", "--until", "sft-train"), ("run", "sft-train"), ("run", "sft-merge")])
def test_without_a_terminal_both_are_named_with_the_setting(two: Workspace, lpm: Lpm, command: tuple[str, ...]) -> None:
    done = lpm(*command, env={"LPM_WORKSPACE": str(two.root)})
    assert done.returncode == UsageError.exit_code
    assert "2 base models" in done.stderr
    assert 'base_model = "large"' in done.stderr
    assert "small" in done.stderr
    assert two.find("personal_model") is None


@pytest.mark.parametrize("by", ["file", "variable"])
def test_the_chosen_one_is_the_base_model(two: Workspace, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "file":
        two.settings_path.parent.mkdir(parents=True)
        two.settings_path.write_text('base_model = "large"\n[common]\nseed = 3\n')
    else:
        monkeypatch.setenv("LPM_BASE_MODEL", "large")
    told = CliRunner().invoke(app, ["path", "base_model", "--workspace", str(two.root)])
    assert told.stdout.strip() == str(two.base_model_place("large"))


def test_a_choice_that_is_not_there_is_refused_with_the_nearest(two: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"'smal' names none.*did you mean 'small'.*large, small"):
        Workspace(two.root, "smal").find("base_model")


def test_at_a_terminal_it_asks_and_writes_the_answer_down(two: Workspace, tmp_path: Path) -> None:
    two.settings_path.parent.mkdir(parents=True)
    two.place("merged.json").unlink()
    two.settings_path.write_text("[sft-train]\nnum_train_epochs = 1\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lpm_kernel", "run", "sft-train"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LPM_WORKSPACE": str(two.root)}
    asked = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=tmp_path)
    os.close(theirs)
    os.write(ours, b"neither\nsmall\n")
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    assert asked.wait(60) == MissingInputError.exit_code, shown.decode()
    assert shown.count(b"Which base model (large, small)") == 2
    assert two.settings_path.read_text() == 'base_model = "small"\n\n[sft-train]\nnum_train_epochs = 1\n'
    assert b"merged.json is not there" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other side is closed
        return b""
