"""A full disk, too little memory, a folder that goes away: one sentence, its code, nothing half made, nothing readable.

The disk is a tmpfs, or a limit on the size of files (RLIMIT_FSIZE); `tests/soak/full_disk.py` tries every step at as
many sizes as one likes.
"""

import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, owner_items
from kill_laws import half_made, scripted
from scripted_server import ScriptedServer
from tiny_gguf import write_tiny_gguf

from lpm_kernel.demo.base_model import write_base_model
from lpm_kernel.errors import Finding, MissingInputError, OutputError
from lpm_kernel.runner.preflight import examine
from lpm_kernel.runner.run_record import recording
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.serving.probe import any_free_port
from lpm_kernel.workspace.places import Workspace

Command = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ["--max-length", "256", "--save-steps", "2", "--batch-size", "2"]


@pytest.fixture
def limited(workspace: Workspace) -> Command:
    """`lpm` under limits of the kernel and with a umask that hides nothing."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LPM_", "OPENAI_"))}

    def call(*arguments: str, limit: int = 0, of: int = resource.RLIMIT_FSIZE) -> subprocess.CompletedProcess[str]:
        def prepare() -> None:
            os.umask(0)
            if limit:
                resource.setrlimit(of, (limit, limit))

        return subprocess.run(
            [sys.executable, "-m", "lpm_kernel", *arguments, "--workspace", str(workspace.root)],
            capture_output=True,
            text=True,
            timeout=300,
            preexec_fn=prepare,
            cwd=workspace.root.parent,
            env={**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "scripted"},
        )

    return call


def give_base_model(workspace: Workspace) -> None:
    texts = [text for item in owner_items() for text in (item["user"], item["assistant"])]
    write_base_model(workspace.base_model_place("tiny"), texts, 1, layers=2)


def open_to_others(root: Path) -> list[str]:
    """What group or others may read, write or enter."""
    shut = [p for p in root.rglob("*") if not p.is_symlink() and p.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    return sorted(str(path.relative_to(root)) for path in shut)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The error, which is one sentence and no traceback."""
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr[done.stderr.rfind("error:") :]


def test_what_a_run_writes_is_its_owners_alone(workspace: Workspace, limited: Command) -> None:
    give_base_model(workspace)
    given = set(open_to_others(workspace.root))
    with ScriptedServer() as server:
        for command in (["sft-train", *SHORT, "--num-train-epochs", "1"], ["sft-merge"], ["sft-gguf"]):
            done = limited("run", *command)
            assert done.returncode == 0, done.stderr
        judge = ["--judge-base-url", f"{server.root_url}/judge/v1", "--port", str(any_free_port())]
        limited("run", "dpo-data", *judge, "--max-tokens", "8")
    written = [p for p in workspace.root.rglob("*") if p.suffix in (".sqlite", ".log", ".txt", ".gguf", ".safetensors")]
    assert {"journal.sqlite", "server.log", "log.txt", "lpm.gguf", "model.safetensors"} <= {p.name for p in written}
    assert set(open_to_others(workspace.root)) == given


def test_the_doctor_leaves_out_what_a_folder_keeps_others_from_and_the_checkouts_own_page(workspace: Workspace) -> None:
    for path in [workspace.root, *workspace.root.rglob("*")]:
        path.chmod(0o755)
    (workspace.root / "L2").chmod(0o700)
    (workspace.root / "README.md").write_text("# The default workspace")
    (workspace.root / "README.md").chmod(0o644)
    findings = examine(workspace, resolve_all(workspace))
    assert next(found.found for found in findings if found.what == "privacy") == "nobody else can read it"


def test_the_doctor_tells_what_others_may_read_and_its_cure_cures(workspace: Workspace) -> None:
    def privacy() -> Finding:
        return next(found for found in examine(workspace, resolve_all(workspace)) if found.what == "privacy")

    for path in [workspace.root, *workspace.root.rglob("*")]:
        path.chmod(0o755)
    assert (privacy().fine, privacy().found) == (False, "2 files can be read by others on this machine")
    subprocess.run(privacy().cure, shell=True, check=True)
    assert privacy().fine
    assert open_to_others(workspace.root) == []


def test_a_training_whose_checkpoint_does_not_fit_ends_with_74_and_goes_on_with_room(
    workspace: Workspace, limited: Command
) -> None:
    give_base_model(workspace)
    for limit in (40_000, 200_000):
        done = limited("run", "sft-train", *SHORT, limit=limit)
        assert done.returncode == 74, done.stderr
        assert re.search(r"/resources.*free", told(done))
        assert half_made(workspace.root) == []
        assert workspace.find("personal_model") is None
    assert limited("run", "sft-train", *SHORT).returncode == 0


def test_a_converter_on_a_full_disk_ends_with_74_and_leaves_no_gguf(workspace: Workspace, limited: Command) -> None:
    write_base_model(workspace.place("merged_model"), ["some words to learn"], seed=1)
    done = limited("run", "sft-gguf", limit=100_000)
    assert done.returncode == 74, done.stderr
    assert re.search(r"model/output .*free space", told(done))
    assert workspace.find("lpm.gguf") is None


@pytest.mark.parametrize("step", ["prepare", "dpo-data"])
def test_a_disk_that_fills_up_ends_every_step_with_74(step: str, workspace: Workspace, limited: Command) -> None:
    workspace.place("lpm.gguf").parent.mkdir(parents=True)
    write_tiny_gguf(workspace.place("lpm.gguf"))
    limited("run", "prepare")
    codes = set()
    judge = [] if step == "prepare" else ["--judge", "reference", "--max-tokens", "8", "--port", str(any_free_port())]
    for limit in (1, 600, 3000):
        done = limited("run", step, *judge, limit=limit)
        codes.add(done.returncode)
        assert re.search(r"error: .*/resources.*free", told(done)), done.stderr
    assert codes == {74}


def test_too_little_memory_ends_with_71_and_a_cure(workspace: Workspace, limited: Command) -> None:
    give_base_model(workspace)
    done = limited("run", "sft-train", *SHORT, limit=700 * 2**20, of=resource.RLIMIT_AS)
    assert done.returncode == 71, done.stderr
    assert "--batch-size" in told(done)


def test_a_workspace_that_is_removed_ends_the_run_with_73_and_is_not_made_anew(
    workspace: Workspace, limited: Command, tmp_path: Path
) -> None:
    workspace.place("lpm.gguf").parent.mkdir(parents=True)
    write_tiny_gguf(workspace.place("lpm.gguf"))
    journal = workspace.root / "runs/work/dpo-data/journal.sqlite"

    def remove_when_it_asks() -> None:
        while not journal.is_file():
            time.sleep(0.01)
        shutil.rmtree(workspace.root)

    remover = threading.Thread(target=remove_when_it_asks)
    remover.start()
    with scripted(tmp_path / "calls") as server:
        done = limited("run", "dpo-data", "--judge-base-url", server.url("judge-slow"), "--max-tokens", "8")
    remover.join()
    assert done.returncode == 73, done.stderr
    assert "was removed" in told(done)
    assert not workspace.root.exists()


def take_away(workspace: Workspace) -> None:
    """As a stage that reads an input then finds it."""
    shutil.rmtree(workspace.root)
    raise MissingInputError("told")


def test_an_input_that_went_with_its_workspace_was_removed(workspace: Workspace) -> None:
    with pytest.raises(OutputError, match=r"removed while"), recording(workspace, {}, demo=False):
        take_away(workspace)
    assert not workspace.root.exists()


def test_what_was_translated_stands_whole_in_the_runs_log(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="removed while"), recording(workspace, {}, demo=False) as record:
        (tmp_path / "never there").read_text()
    told = (record.folder / "log.txt").read_text()
    assert told.count("Traceback") == 1
    assert "FileNotFoundError" in told
