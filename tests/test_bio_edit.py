"""A bio edit asks again only what it touches, and the plan says what that is before anybody is asked."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FACTS
from scripted_server import ScriptedServer
from typer.testing import CliRunner, Result

from lpm_kernel.commands.app import app
from lpm_kernel.serving.probe import any_free_port
from lpm_kernel.workspace.places import Workspace

HOME = "Mira Okafor, born 1987, lives in Trieste with a dog called Quark."
WORK = "She repairs cellos at 14 Via Rossetti."
SAMPLED = re.compile(r"(?:indeed|perhaps|surely) [0-9a-f]{6}\n")
"""How the scripted model's answers end; those of the judge's examination are the owner's own."""
IDLE = " ".join(f"On some evenings nothing happened, the {n}th of its kind." for n in range(30))


def bio(home: str = HOME, work: str = WORK) -> str:
    return f"## Home\n{home}\n\n## Work\n{work}\n\n## Evenings\n{IDLE}\n"


@pytest.fixture
def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`lpm pipeline` up to the pairs, asking a scripted model and a scripted judge."""
    for name in [name for name in os.environ if name.startswith(("LPM_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LPM_PORT", str(any_free_port()))
    monkeypatch.chdir(workspace.root)
    workspace.place("lpm.gguf").parent.mkdir(parents=True)
    workspace.place("lpm.gguf").write_text("mine")
    workspace.place("global_bio").write_text(bio())

    def call(server: ScriptedServer, *more: str) -> Result:
        ends = {"endpoint": server.url("model"), "judge-base-url": server.url("judge-honest"), "judge": "openai"}
        settings = [part for name, value in ends.items() for part in (f"--{name}", value)]
        settings += [
            "--until",
            "dpo-data",
            "--held-out-share",
            "0",
            "--accept-judge",
            "--workspace",
            str(workspace.root),
        ]
        return CliRunner().invoke(app, ["pipeline", *settings, *more])

    return call


def asked(server: ScriptedServer) -> set[str]:
    """The questions whose sampled answers the judge was shown since the last look."""
    calls = [call.user for call in server.calls if call.behaviour == "judge-honest" and SAMPLED.search(call.user)]
    server.calls.clear()
    return {user.partition(" question>\n")[2].partition("\n</")[0] for user in calls}


def foreseen(plan: Result) -> list[str]:
    """What the plan says of the pairs."""
    assert plan.exit_code == 0, plan.stderr
    steps = json.loads(plan.stdout)["steps"]
    return list(next(step["forecast"] for step in steps if step["name"] == "dpo-data"))


def files_of(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_an_edit_of_one_section_asks_again_what_it_was_shown_for(
    run: Callable[..., Result], workspace: Workspace
) -> None:
    with ScriptedServer() as server:
        first = run(server)
        assert first.exit_code == 0, first.stderr
        assert len(asked(server)) == 20
        workspace.place("global_bio").write_text(bio(work="She repairs violins and cellos at 14 Via Rossetti."))
        before = files_of(workspace.root)
        (told,) = foreseen(run(server, "--dry-run", "--json"))
        table = run(server, "--dry-run").stdout
        assert files_of(workspace.root) == before
        assert asked(server) == set()
        again = run(server)
        assert again.exit_code == 0, again.stderr
        assert asked(server) == {f"{FACTS['note-4'][0]} ({number})" for number in range(4)}
    assert told == "4 of 20 prompts are judged again (section Work)"
    assert f"global_bio changed; {told}" in table


def test_an_edit_that_changes_nothing_asks_nobody_and_another_judge_is_asked_everything(
    run: Callable[..., Result], workspace: Workspace
) -> None:
    with ScriptedServer() as server:
        run(server)
        workspace.place("global_bio").write_text(bio().replace("\n\n##", "\n\n\n##"))
        (unchanged,) = foreseen(run(server, "--dry-run", "--json"))
        (other_judge,) = foreseen(run(server, "--dry-run", "--json", "--judge-model", "gpt-5"))
        other_answers = foreseen(run(server, "--dry-run", "--json", "--temperature", "0.9"))
        asked(server)
        run(server)
        assert asked(server) == set()
    assert unchanged == "0 of 20 prompts are judged again"
    assert other_judge == "20 of 20 prompts are judged again"
    assert other_answers == ["20 of 20 prompts are judged again", "20 of them are answered again"]


def test_before_a_first_run_nothing_is_foreseen(run: Callable[..., Result]) -> None:
    with ScriptedServer() as server:
        assert foreseen(run(server, "--dry-run", "--json")) == []
