"""The way from the demo to one's own data loses nothing, whoever walks it twice."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from select import select

import pytest
from conftest import BIO, ROOT, Lpm, owner_items
from test_demo import filled, original  # noqa: F401 - fixtures

from lpm_kernel.demo import gift
from lpm_kernel.errors import ConfigError, MissingInputError
from lpm_kernel.files import file_sha256
from lpm_kernel.runner import settings
from lpm_kernel.runner.init import found_in, set_up
from lpm_kernel.runner.settings import fill_with_demo, resolve_all
from lpm_kernel.runner.state import chain_states
from lpm_kernel.workspace import versions
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.places import Workspace


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A Second-Me tree: data at the other place, the bio as JSON, an SFT model under its name, a GGUF by date."""
    root = tmp_path / "Second-Me"
    texts = {
        "data/merged.json": json.dumps(owner_items()),
        "data/stage2/global_bio/global_bio.json": json.dumps({"content_third_view": BIO}),
        "model/output/merged_model/Qwen3-0.6B/config.json": "{}",
        "model/output/gguf/Qwen3-0.6B/20250101_000000.gguf": "old",
        "L2/base_models/Qwen3-0.6B/config.json": "{}",
    }
    for name, text in texts.items():
        (root / "resources" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "resources" / name).write_text(text)
    return root


def contents(root: Path) -> dict[str, str]:
    skipped = (".lock", "hashes.json", "latest", ".workspace")
    return {str(p.relative_to(root)): file_sha256(p) for p in root.rglob("*") if p.is_file() and p.name not in skipped}


def test_after_the_demo_one_command_takes_an_owners_data_and_the_demo_is_whole_below(
    filled: Workspace,  # noqa: F811
    tmp_path: Path,
    lpm: Lpm,
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(owner_items()))
    (tmp_path / "me.md").write_text(BIO)
    demo = contents(filled.root)
    done = lpm(
        *("init", "--name", "Mira", "--data", "mine.json", "--bio", "me.md", "--judge", "reference"),
        env={"LPM_WORKSPACE": str(filled.root)},
    )
    assert done.returncode == 0, done.stderr
    assert contents(filled.root / "demo") == demo
    assert json.loads(filled.place("merged.json").read_text()) == owner_items()
    assert filled.place("global_bio").read_text() == BIO.strip() + "\n"
    assert tomllib.loads(filled.settings_path.read_text()) == {"common": {"user_name": "Mira", "judge": "reference"}}
    assert not filled.find("base_model")


def test_the_demo_goes_on_where_it_was_set_aside(filled: Workspace, lpm: Lpm) -> None:  # noqa: F811
    lpm("init", "--name", "Mira", env={"LPM_WORKSPACE": str(filled.root)})
    below = Workspace(filled.root / "demo")
    fill_with_demo(below)
    assert chain_states(below, resolve_all(below, preset="demo"), "prepare")["prepare"].name == "done"
    assert gift.is_all_demo(below)


def test_a_move_that_was_killed_anywhere_is_gone_on_with(
    original: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class KilledError(BaseException):
        pass

    rename, calls, left = os.rename, 0, 0

    def dying(*paths: Path) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KilledError
        rename(*paths)

    while not left:
        calls = left = calls + 1
        place = Workspace(tmp_path / str(calls))
        shutil.copytree(original, place.root)
        versions.keep(place, {"lpm.gguf": place.place("prompts")}, "making", "questions", demo=True)
        versions.make_current(place, "v1", "promoted")
        demo = contents(place.root)
        with monkeypatch.context() as patch, suppress(KilledError), lock(place):
            patch.setattr(os, "rename", dying)
            gift.move_away(place)
        with lock(place):
            gift.move_away(place)
        assert contents(place.root) == {f"demo/{name}": sha256 for name, sha256 in demo.items()}
    assert calls > 20


def test_what_was_the_owners_in_the_demos_workspace_stays(filled: Workspace, lpm: Lpm) -> None:  # noqa: F811
    filled.place("global_bio").write_text(BIO)
    filled.settings_path.write_text('# mine\npreset = "demo"\n\n[dpo-train]\nbeta = 0.2 # tried\n')
    lpm("init", "--name", "Mira", env={"LPM_WORKSPACE": str(filled.root)})
    assert filled.place("global_bio").read_text() == BIO
    text = filled.settings_path.read_text()
    assert "# mine" in text
    assert "beta = 0.2 # tried" in text
    assert tomllib.loads(text) == {"dpo-train": {"beta": 0.2}, "common": {"user_name": "Mira"}}


def test_what_stays_of_the_demo_because_it_is_edited_is_named(filled: Workspace, lpm: Lpm) -> None:  # noqa: F811
    bio = filled.place("global_bio")
    bio.write_text(bio.read_text() + "\n## Mine\nA line.\n")
    done = lpm("init", "--name", "Mira", env={"LPM_WORKSPACE": str(filled.root)})
    told = f"{bio} is not the demo's to the byte: it stays here, and counts as yours; take it away unless it is"
    assert told in done.stderr
    assert ", whole" not in done.stderr


def test_bad_input_moves_nothing(filled: Workspace, tmp_path: Path, lpm: Lpm) -> None:  # noqa: F811
    before = contents(filled.root)
    (tmp_path / "mine.json").write_text("{")
    (tmp_path / "me.md").write_text(BIO)
    for wrong in (["--data", "mine.json"], ["--bio", "nowhere.md"], ["--judge", "nobody"], ["--sft-model", "."]):
        failed = lpm("init", "--bio", "me.md", *wrong, env={"LPM_WORKSPACE": str(filled.root)})
        assert failed.returncode in (64, 65, 66), failed.stderr
        assert contents(filled.root) == before


def test_the_demos_own_files_are_no_owners_and_are_not_moved_from_under_the_command(
    filled: Workspace,  # noqa: F811
    lpm: Lpm,
) -> None:
    before = contents(filled.root)
    for given in (["--data", filled.place("merged.json")], [filled.root], ["--base-model", filled.find("base_model")]):
        failed = lpm("init", "--name", "Mira", *given, "--workspace", filled.root)
        assert failed.returncode == 64, failed.stderr
        assert "belongs to the demo" in failed.stderr
        assert contents(filled.root) == before


def test_the_same_command_twice_changes_nothing_more(workspace: Workspace, tmp_path: Path, lpm: Lpm) -> None:
    (tmp_path / "me.md").write_text("## Me\nAnother.")
    found = []
    for _ in range(2):
        lpm("init", "--name", "Mira", "--bio", "me.md", "--workspace", workspace.root)
        found.append(contents(workspace.root))
    assert found[0] == found[1]
    kept = workspace.place("global_bio").with_name("global_bio.md.kept-1")
    assert kept.read_text() == BIO
    assert not kept.with_name("global_bio.md.kept-2").exists()


def test_a_second_me_tree_gives_what_the_chain_starts_from(tree: Path) -> None:
    found = found_in(tree)
    assert set(found) == {"merged.json", "global_bio", "merged_model"}
    assert found_in(tree / "resources") == found
    (found["merged_model"] / "config.json").unlink()
    assert set(found_in(tree)) == {"merged.json", "global_bio", "base_model"}
    with pytest.raises(MissingInputError, match="neither data nor a bio"):
        found_in(tree / "resources/data")


def test_a_password_in_the_judges_url_is_never_written(workspace: Workspace, lpm: Lpm) -> None:
    url = "http://me:p@SECRET@127.0.0.1:9/v1"
    failed = lpm("init", "--judge", "openai", "--judge-url", url, "--workspace", workspace.root)
    assert failed.returncode == 64
    assert "SECRET" not in failed.stderr
    assert not workspace.settings_path.exists()


def test_a_workspace_elsewhere_is_trusted_with_a_key_once_its_owner_said_so(workspace: Workspace, lpm: Lpm) -> None:
    workspace.settings_path.parent.mkdir(parents=True)
    workspace.settings_path.write_text('[common]\njudge_base_url = "https://elsewhere.example/v1"\n')
    env = {"LPM_WORKSPACE": str(workspace.root), "OPENAI_API_KEY": "sk-mine"}
    refused = lpm("status", env=env)
    assert refused.returncode == 78
    assert "lpm init --workspace" in refused.stderr
    assert lpm("init", "--name", "Mira", env=env).returncode == 0
    assert lpm("status", env=env).returncode == 0


@pytest.mark.parametrize("name", ["a\n/etc", b"l\xe4ti n".decode(errors="surrogateescape"), "猫 'quoted\""])
def test_a_workspace_of_any_name_is_trusted_and_no_other_folder_with_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    place = Workspace(tmp_path / name)
    set_up(place, {}, {"user_name": "Mira"})
    assert settings._vouched_for() == [place.root.resolve()]


@pytest.mark.parametrize("config", ["relative", ""])
def test_without_a_home_no_workspace_elsewhere_is_trusted_and_init_names_the_cure(
    config: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", config)
    monkeypatch.setenv("HOME", "also/relative")
    assert not resolve_all(workspace)["prepare"].flags
    with pytest.raises(ConfigError, match="XDG_CONFIG_HOME"):
        set_up(workspace, {}, {"user_name": "Mira"})
    assert not workspace.settings_path.exists()


def test_a_home_that_cannot_be_written_is_told_with_the_cure_for_it(
    workspace: Workspace, lpm: Lpm, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    env = {"XDG_CONFIG_HOME": str(tmp_path / "file")}
    failed = lpm("init", "--name", "Mira", "--workspace", workspace.root, env=env)
    assert failed.returncode == 78
    assert "set XDG_CONFIG_HOME" in failed.stderr
    assert not workspace.settings_path.exists()


def test_the_home_of_nobody_is_a_message(lpm: Lpm) -> None:
    for arguments in (["status", "--workspace", "~nobody-here/x"], ["init", "--data", "~nobody-here/x"]):
        failed = lpm(*arguments)
        assert failed.returncode == 64
        assert "~nobody-here" in failed.stderr
        assert "Traceback" not in failed.stderr


DEADLINE_S = 60.0


class Terminal:
    """`lpm init` at a terminal, on a workspace that is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "fresh"
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "lpm_kernel", "init", "--workspace", str(self.root)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "500", "XDG_CONFIG_HOME": str(folder / "config")}
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=env,
            cwd=folder,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
        )
        os.close(theirs)
        self.shown = ""

    def until(self, text: str) -> None:
        """Read on until the text stands there; empty: to the end."""
        before = len(self.shown)
        while not text or text not in self.shown[before:]:
            assert select([self._ours], [], [], DEADLINE_S)[0], f"no {text!r} came: {self.shown}"
            try:
                chunk = os.read(self._ours, 4096)
            except OSError:  # Linux: the other side is closed
                chunk = b""
            if not chunk:
                assert not text, self.shown
                break
            self.shown += chunk.decode()

    def answer(self, question: str, line: str) -> None:
        self.until(question)
        os.write(self._ours, line.encode())

    def end(self) -> int:
        self.until("")
        os.close(self._ours)
        return self.process.wait(60)


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-D"])
def test_whoever_leaves_at_a_question_leaves_everything_as_it_was(tmp_path: Path, how: str) -> None:
    terminal = Terminal(tmp_path)
    terminal.answer("Your name", "Mira\n")
    if how == "Ctrl-D":
        terminal.answer("Your SFT data", "\x04")
    else:
        terminal.until("Your SFT data")
        terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert terminal.shown.rstrip().endswith("stopped at the question; nothing is changed")
    assert not terminal.root.exists()


def test_a_path_that_cannot_be_it_is_asked_for_again_and_may_stand_in_quotes(tmp_path: Path) -> None:
    (tmp_path / "my data.json").write_text(json.dumps(owner_items()))
    terminal = Terminal(tmp_path)
    terminal.answer("Your name", "Mira\n")
    terminal.answer("Your SFT data", "nowhere.json\n")
    terminal.answer("nowhere.json is not there", "'my data.json'\n")
    for question in ("Your bio", "Your SFT model", "The base model", "Who judges"):
        terminal.answer(question, "\n")
    assert terminal.end() == 0, terminal.shown
    assert terminal.shown.count("Your name") == 1
    assert json.loads((terminal.root / "L2/data/merged.json").read_text()) == owner_items()
