"""The door: light to open, the same facts for people and machines, and the documented scripts by path."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import BIO, ROOT, Lpm
from test_pipeline import HEAVY
from typer.testing import CliRunner

from lpm_kernel import __version__
from lpm_kernel.commands.app import app
from lpm_kernel.L2.dpo import utils
from lpm_kernel.pipeline import STEPS
from lpm_kernel.workspace.places import Workspace

SCRIPTS = {
    "L2/prepare_data.py": "prepare",
    "L2/sft_train.py": "sft-train",
    "L2/merge_lora_weights.py": "merge",
    "L2/export_gguf.py": "export-gguf",
    "L2/dpo/dpo_data.py": "dpo-data",
    "L2/dpo/dpo_train.py": "dpo-train",
    "L2/evaluate_model.py": "evaluate",
}
BARE = {k: v for k, v in os.environ.items() if not k.startswith(("LPM_", "OPENAI_", "PYTHONPATH"))}


@pytest.mark.parametrize("arguments", [["--help"], ["steps"], ["run", "dpo-train", "--help"], ["status"]], ids=" ".join)
def test_looking_around_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\nfrom lpm_kernel.commands.app import main\n"
        f"try: main({arguments!r})\nfinally: print('LOADED', *{{m.split('.')[0] for m in sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**BARE, "LPM_WORKSPACE": str(tmp_path)},
    )
    loaded = done.stdout.rpartition("LOADED")[2].split()
    assert done.returncode == 0, done.stderr
    assert loaded
    assert not set(loaded) & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=" ".join)
def test_the_list_of_commands_imports_no_stage(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom lpm_kernel.commands.app import main\n"
        f"try: main({arguments!r})\nfinally: print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=BARE)
    loaded = done.stdout.rpartition("LOADED")[2].split()
    assert done.returncode == 0, done.stderr
    assert loaded
    assert not set(loaded) & {step.stage.__name__ for step in STEPS}


def test_the_version_is_that_of_the_package(lpm: Lpm) -> None:
    assert lpm("--version").stdout == f"lpm {__version__}\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_documented_script_runs_by_path_from_any_folder(script: str, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, ROOT / "lpm_kernel" / script, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=BARE)
    assert done.returncode == 0, done.stderr
    assert f"Usage: lpm run {SCRIPTS[script]} " in done.stdout


def test_a_documented_script_run_by_a_bare_python_goes_on_in_the_environment_or_names_the_cure(tmp_path: Path) -> None:
    script = "import sys; from lpm_kernel import checkout; checkout.find_spec = lambda name: None; checkout.enter()"
    bare = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (bare.returncode, "scripts/setup" in bare.stderr) == (69, True)
    fake = tmp_path / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho entered $*")
    fake.chmod(0o755)
    script = script.replace(
        "checkout.enter()", f"checkout.ENVIRONMENT = checkout.Path({str(tmp_path)!r}); checkout.enter()"
    )
    other = subprocess.run([sys.executable, "-c", script, "--beta"], capture_output=True, text=True, cwd=ROOT)
    assert other.stdout.startswith("entered -c --beta")


def test_steps_tells_the_table(lpm: Lpm) -> None:
    table = json.loads(lpm("steps", "--json").stdout)
    assert [row["name"] for row in table["steps"]] == [s.name for s in STEPS]


def test_status_knows_only_its_five_states(lpm: Lpm, workspace: Workspace) -> None:
    env = {"LPM_WORKSPACE": str(workspace.root)}
    lpm("run", "prepare", env=env)
    status = json.loads(lpm("status", "--json", env=env).stdout)
    states = {row["name"]: row["state"] for row in status["steps"]}
    assert set(states.values()) <= {"pending", "running", "done", "failed", "stale"}
    assert (states["prepare"], states["evaluate"]) == ("done", "pending")
    lpm("pipeline", "--until", "prepare", env=env)
    assert json.loads(lpm("status", "--json", env=env).stdout)["steps"][0] == status["steps"][0]
    assert all(Path(output).exists() for output in status["steps"][0]["outputs"])
    workspace.place("merged.json").write_text("[]")
    again = json.loads(lpm("status", "--json", env=env).stdout)
    assert again["steps"][0]["state"] == "stale"


def test_a_failed_step_is_told_by_status(lpm: Lpm, workspace: Workspace) -> None:
    env = {"LPM_WORKSPACE": str(workspace.root)}
    workspace.place("global_bio").unlink()
    workspace.place("merged.json").write_text("[]")
    workspace.place("global_bio").write_text("## x\ny")
    assert lpm("run", "prepare", env=env).returncode == 65
    assert json.loads(lpm("status", "--json", env=env).stdout)["steps"][0]["state"] == "failed"


def test_path_tells_where_an_artifact_is_or_would_be(lpm: Lpm, workspace: Workspace) -> None:
    env = {"LPM_WORKSPACE": str(workspace.root)}
    assert lpm("path", "merged.json", env=env).stdout.strip() == str(workspace.place("merged.json"))
    told = json.loads(lpm("path", "lpm.gguf", "--json", env=env).stdout)
    assert told == {"artifact": "lpm.gguf", "path": str(workspace.place("lpm.gguf")), "exists": False}


def test_a_dry_run_tells_what_and_why_and_makes_nothing(lpm: Lpm, workspace: Workspace) -> None:
    done = lpm("pipeline", "--dry-run", "--json", "--until", "prepare", env={"LPM_WORKSPACE": str(workspace.root)})
    assert json.loads(done.stdout)["steps"] == [
        {"name": "prepare", "action": "run", "reason": "not made yet", "forecast": []}
    ]
    assert not (workspace.root / "runs").exists()


def test_a_dry_run_of_the_demo_writes_nothing_and_lacks_nothing(lpm: Lpm, tmp_path: Path) -> None:
    done = lpm("pipeline", "--demo", "--dry-run", "--json", env={"LPM_WORKSPACE": str(tmp_path / "new")})
    plan = json.loads(done.stdout)
    assert plan["missing"] == []
    assert {row["action"] for row in plan["steps"]} == {"run"}
    assert not (tmp_path / "new").exists()


def test_the_demo_never_mixes_with_an_owners_files(lpm: Lpm, workspace: Workspace) -> None:
    done = lpm("pipeline", "--demo", "--dry-run", "--json", env={"LPM_WORKSPACE": str(workspace.root)})
    assert json.loads(done.stdout)["workspace"] == str(workspace.root / "demo")
    assert "files of yours" in done.stderr


def test_the_doctor_names_the_cure_and_exits_1(lpm: Lpm, workspace: Workspace) -> None:
    done = lpm("doctor", "--json", env={"LPM_WORKSPACE": str(workspace.root)})
    found = {f["what"]: f for f in json.loads(done.stdout)["findings"]}
    assert done.returncode == 1
    assert found["base_model"]["blocks"]
    assert "merged_model" in found["base_model"]["cure"]
    assert found["merged.json"]["fine"]
    assert ".env" in found["judge"]["cure"]


def test_the_bio_is_shown_and_edited(lpm: Lpm, workspace: Workspace, tmp_path: Path) -> None:
    env = {"LPM_WORKSPACE": str(workspace.root)}
    assert "Quark" in lpm("bio", "show", env=env).stdout
    (tmp_path / "ed.sh").write_text('echo "$1" > $2')
    done = lpm("bio", "edit", env={**env, "EDITOR": f"sh {tmp_path}/ed.sh --wait"})
    assert (done.returncode, done.stderr) == (0, "")
    assert workspace.place("global_bio").read_text() == "--wait\n"


@pytest.mark.parametrize(("editor", "code", "told"), [("true", 0, "nothing was changed"), ("false", 70, "code 1, and")])
def test_an_editor_that_changes_nothing_or_fails_is_told(
    lpm: Lpm, workspace: Workspace, editor: str, code: int, told: str
) -> None:
    before = workspace.place("global_bio").read_bytes()
    done = lpm("bio", "edit", env={"LPM_WORKSPACE": str(workspace.root), "VISUAL": editor, "EDITOR": "no-such-editor"})
    assert (done.returncode, told in done.stderr) == (code, True)
    assert workspace.place("global_bio").read_bytes() == before


@pytest.mark.parametrize("installed", [["nano", "vi"], ["vi"]])
def test_without_a_variable_the_first_installed_editor_is_opened_on_a_template(
    lpm: Lpm, workspace: Workspace, tmp_path: Path, installed: list[str]
) -> None:
    workspace.place("global_bio").unlink()
    (tmp_path / "bin").mkdir()
    for name in installed:
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\n/bin/echo "with {name}" >> "$1"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    none = {"VISUAL": "", "EDITOR": "", "PATH": str(tmp_path / "bin"), "LPM_WORKSPACE": str(workspace.root)}
    assert lpm("bio", "edit", env=none).returncode == 0
    text = workspace.place("global_bio").read_text()
    assert text.count("\n## ") == 2
    assert text.endswith(f"with {installed[0]}\n")


def test_without_any_editor_the_template_is_written_and_its_place_told(
    lpm: Lpm, workspace: Workspace, tmp_path: Path
) -> None:
    place = workspace.place("global_bio")
    place.unlink()
    env = {"VISUAL": "", "EDITOR": "", "PATH": str(tmp_path), "LPM_WORKSPACE": str(workspace.root)}
    done = lpm("bio", "edit", env=env)
    assert (done.returncode, str(place) in done.stderr, "install one" in done.stderr) == (69, True, True)
    assert place.read_text().startswith("## ")
    unfilled = lpm("run", "prepare", env=env)
    assert (unfilled.returncode, "is the template as it was" in unfilled.stderr) == (65, True)


def test_an_editor_that_cannot_be_started_is_told(lpm: Lpm, workspace: Workspace) -> None:
    done = lpm("bio", "edit", env={"LPM_WORKSPACE": str(workspace.root), "EDITOR": "no-such-editor"})
    assert (done.returncode, "no-such-editor" in done.stderr) == (64, True)


def test_the_bio_of_a_second_me_tree_is_where_editing_starts(lpm: Lpm, workspace: Workspace, tmp_path: Path) -> None:
    workspace.place("global_bio").unlink()
    theirs = workspace.root / "data/stage2/global_bio/global_bio.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"content": "## Me, from there"}')
    (tmp_path / "ed.sh").write_text("echo more >> $1")
    lpm("bio", "edit", env={"LPM_WORKSPACE": str(workspace.root), "EDITOR": f"sh {tmp_path}/ed.sh"})
    assert workspace.place("global_bio").read_text() == "## Me, from there\nmore\n"


def test_a_missing_judge_key_is_told_before_anything_runs(lpm: Lpm, workspace: Workspace) -> None:
    workspace.place("merged_model").mkdir(parents=True)
    (workspace.place("merged_model") / "config.json").write_text("{}")
    done = lpm("pipeline", env={"LPM_WORKSPACE": str(workspace.root)})
    assert (done.returncode, "OPENAI_API_KEY" in done.stderr) == (77, True)
    assert workspace.find("prompts") is None


def test_plain_lpm_prints_its_help_and_no_error(lpm: Lpm) -> None:
    done = lpm()
    assert "Usage" in done.stdout + done.stderr
    assert "error" not in done.stderr


def take_over(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, bio: str) -> str:
    monkeypatch.setattr(utils, "GLOBAL_BIO", bio)
    CliRunner().invoke(app, ["pipeline", "--until", "prepare", "--workspace", str(workspace.root)])
    return workspace.place("global_bio").read_text().strip()


def test_an_edit_of_the_documented_bio_is_taken_over_as_long_as_the_file_is_as_it_came(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.place("global_bio").unlink()
    assert take_over(workspace, monkeypatch, "I keep bees.") == "I keep bees."
    assert take_over(workspace, monkeypatch, "I keep goats.") == "I keep goats."
    assert take_over(workspace, monkeypatch, "") == "I keep goats."
    workspace.place("global_bio").write_text("I keep goats and hens.")
    assert take_over(workspace, monkeypatch, "I keep geese.") == "I keep goats and hens."
    assert "GLOBAL_BIO in dpo/utils.py differs and is not read" in caplog.text
    workspace.place("global_bio").unlink()
    assert take_over(workspace, monkeypatch, "I keep geese.") == "I keep geese."


def test_a_bio_of_the_owners_that_says_the_same_is_followed_too_and_another_never(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert take_over(workspace, monkeypatch, "I keep bees.") == BIO.strip()
    assert take_over(workspace, monkeypatch, BIO) == BIO.strip()
    assert take_over(workspace, monkeypatch, "I keep bees.") == "I keep bees."


def test_the_bio_of_the_documented_settings_file_is_taken_over_by_a_run_and_by_nothing_else(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.place("global_bio").unlink()
    monkeypatch.setattr(utils, "GLOBAL_BIO", "I keep bees.")
    for look in (["status"], ["doctor"], ["bio", "show"], ["pipeline", "--dry-run", "--until", "prepare"]):
        done = CliRunner().invoke(app, [*look, "--workspace", str(workspace.root)])
        assert "no bio" not in done.output, look
        assert not workspace.place("global_bio").exists(), look
    CliRunner().invoke(app, ["pipeline", "--until", "prepare", "--workspace", str(workspace.root)])
    assert workspace.place("global_bio").read_text().strip() == "I keep bees."


def test_a_dotenv_file_gives_the_key_and_no_file_of_ours_holds_it(lpm: Lpm, workspace: Workspace) -> None:
    (workspace.root / ".env").write_text("OPENAI_API_KEY=canary-value\n")
    doctor = lpm("doctor", "--json", env={"LPM_WORKSPACE": str(workspace.root)})
    assert '"gpt-4o at api.openai.com/v1, key set"' in doctor.stdout
    lpm("run", "prepare", env={"LPM_WORKSPACE": str(workspace.root)})
    written = [p for p in workspace.root.rglob("*") if p.is_file() and p.name != ".env"]
    assert written
    assert not [p for p in written if b"canary-value" in p.read_bytes()]


def test_the_doctor_notes_a_name_that_nobody_gave(lpm: Lpm, workspace: Workspace) -> None:
    def found(**env: str) -> dict[str, Any]:
        told = json.loads(lpm("doctor", "--json", env={"LPM_WORKSPACE": str(workspace.root), **env}).stdout)
        return next(finding for finding in told["findings"] if finding["what"] == "your name")

    assert not found()["fine"]
    assert not found()["blocks"]
    assert "lpm init --name" in found()["cure"]
    assert found(LPM_USER_NAME="Mira")["fine"]
