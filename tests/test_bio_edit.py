"""A bio edit asks again only what it touches, and the plan says what that is before anybody is asked."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import FACTS, owner_items
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


@dataclass(frozen=True)
class Chain:
    """`lpm pipeline` up to the pairs in one workspace, asking a scripted model and a scripted judge."""

    workspace: Workspace
    server: ScriptedServer

    def run(self, *more: str) -> Result:
        ends = {"endpoint": self.server.url("model"), "judge-base-url": self.server.url("judge-honest")}
        own = {
            **ends,
            "judge": "openai",
            "until": "dpo-data",
            "held-out-share": "0",
            "workspace": str(self.workspace.root),
        }
        flags = [part for name, value in own.items() for part in (f"--{name}", value)]
        done = CliRunner().invoke(app, ["pipeline", *flags, "--accept-judge", *more])
        assert done.exit_code == 0, done.stderr
        return done

    def foreseen(self, *more: str) -> list[str]:
        """What the plan says of the pairs."""
        steps = json.loads(self.run("--dry-run", "--json", *more).stdout)["steps"]
        return list(next(step["forecast"] for step in steps if step["name"] == "dpo-data"))

    def asked(self) -> set[str]:
        """The questions whose sampled answers the judge was shown since the last look."""
        calls = [c.user for c in self.server.calls if c.behaviour == "judge-honest" and SAMPLED.search(c.user)]
        self.server.calls.clear()
        return {user.partition(" question>\n")[2].partition("\n</")[0] for user in calls}

    def files(self) -> dict[Path, int]:
        """When each was last written, in ns."""
        return {path: path.stat().st_mtime_ns for path in self.workspace.root.rglob("*")}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """One for all tests: the first of them runs it."""
    workspace = Workspace(tmp_path_factory.mktemp("owner") / "resources")
    for name, text in {"merged.json": json.dumps(owner_items()), "global_bio": bio(), "lpm.gguf": "mine"}.items():
        workspace.place(name).parent.mkdir(parents=True, exist_ok=True)
        workspace.place(name).write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, ScriptedServer() as server:
        for name in [name for name in os.environ if name.startswith(("LPM_", "OPENAI_"))]:
            patch.delenv(name)
        patch.setenv("LPM_PORT", str(any_free_port()))
        patch.chdir(workspace.root)
        yield Chain(workspace, server)


@pytest.fixture(scope="module")
def total(chain: Chain) -> int:
    """Prompts of the first run, before which nothing is foreseen."""
    assert chain.foreseen() == []
    chain.run()
    return len(chain.asked())


def test_an_edit_of_one_section_asks_again_what_it_was_shown_for(chain: Chain, total: int) -> None:
    chain.workspace.place("global_bio").write_text(bio(work="She repairs violins and cellos at 14 Via Rossetti."))
    before = chain.files()
    (told,) = chain.foreseen()
    table = chain.run("--dry-run").stdout
    assert (chain.files(), chain.asked()) == (before, set())
    chain.run()
    assert chain.asked() == {f"{FACTS['note-4'][0]} ({number})" for number in range(4)}
    assert told == f"4 of {total} prompts are judged again (section Work)"
    assert f"global_bio changed; {told}" in table
    assert total >= 20


def test_an_edit_that_changes_nothing_asks_nobody_and_another_judge_is_asked_everything(
    chain: Chain, total: int
) -> None:
    place = chain.workspace.place("global_bio")
    place.write_text(place.read_text().replace("\n\n##", "\n\n\n##"))
    everything = f"{total} of {total} prompts are judged again"
    assert chain.foreseen() == [f"0 of {total} prompts are judged again"]
    assert chain.foreseen("--judge-model", "gpt-5") == [everything]
    assert chain.foreseen("--temperature", "0.9") == [everything, f"{total} of them are answered again"]
