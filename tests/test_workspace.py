"""An artifact is whole or absent, tells what made it, and what was the owner's is never lost."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dying_publisher import MANIFEST

from lpm_kernel.errors import BusyError, OutputError, UsageError
from lpm_kernel.files import TEMPORARY
from lpm_kernel.workspace.lock import is_locked, lock
from lpm_kernel.workspace.manifest import manifest_path
from lpm_kernel.workspace.places import Workspace
from lpm_kernel.workspace.publish import building
from lpm_kernel.workspace.publish import publish as publish_drafts


def publish(workspace: Workspace, name: str, text: str) -> Path:
    places = {"out": workspace.place(name)}
    with building(places) as drafts:
        if name == "adapter":
            drafts["out"].mkdir()
            (drafts["out"] / "adapter_config.json").write_text(text)
        else:
            drafts["out"].write_text(text)
        publish_drafts(workspace, drafts, places, MANIFEST)
    return places["out"]


@pytest.mark.parametrize("name", ["lpm.gguf", "adapter"])
def test_a_published_artifact_verifies_until_a_byte_changes(name: str, workspace: Workspace) -> None:
    path = publish(workspace, name, "content")
    manifest = workspace.manifest(path)
    assert manifest is not None
    assert manifest.step == "test"
    file = path if path.is_file() else path / "adapter_config.json"
    file.write_text("c0ntent")
    assert Workspace(workspace.root).manifest(path) is None


@pytest.mark.parametrize("name", ["lpm.gguf", "adapter"])
def test_a_failed_build_leaves_nothing_and_what_was_there(name: str, workspace: Workspace) -> None:
    path = publish(workspace, name, "old")
    with pytest.raises(ZeroDivisionError), building({"out": path}) as drafts:  # noqa: PT012 - it passes through
        drafts["out"].write_text("half")
        raise ZeroDivisionError
    assert workspace.manifest(path) is not None
    assert not list(workspace.root.rglob(f"{TEMPORARY}*"))


def test_an_owners_file_in_the_way_is_kept(workspace: Workspace) -> None:
    workspace.place("lpm.gguf").parent.mkdir(parents=True)
    workspace.place("lpm.gguf").write_text("mine")
    path = publish(workspace, "lpm.gguf", "ours")
    assert path.read_text() == "ours"
    assert path.with_name("lpm.gguf.kept-1").read_text() == "mine"
    publish(workspace, "lpm.gguf", "ours again")
    assert not path.with_name("lpm.gguf.kept-2").exists()


def test_a_manifest_without_its_content_is_no_artifact(workspace: Workspace) -> None:
    path = publish(workspace, "lpm.gguf", "content")
    path.unlink()
    assert manifest_path(path).exists()
    assert workspace.manifest(path) is None
    assert workspace.find("lpm.gguf") is None


def test_both_layouts_of_second_me_are_found(workspace: Workspace) -> None:
    new = workspace.root / "data/stage2/global_bio/global_bio.json"
    new.parent.mkdir(parents=True)
    new.write_text('{"content": "x"}')
    assert workspace.find("global_bio") == workspace.place("global_bio")
    workspace.place("global_bio").unlink()
    assert workspace.find("global_bio") == new


def test_a_named_model_folder_and_the_newest_gguf_are_found(workspace: Workspace) -> None:
    model = workspace.root / "model/output/merged_model/Qwen2.5-0.5B-Instruct"
    model.mkdir(parents=True)
    assert workspace.find("merged_model") is None
    (model / "config.json").write_text("{}")
    assert workspace.find("merged_model") == model
    gguf = workspace.root / "model/output/gguf/me/20260101_000000.gguf"
    gguf.parent.mkdir(parents=True)
    gguf.write_text("x")
    assert workspace.find("lpm.gguf") == gguf


def test_one_writer_and_the_second_learns_who(workspace: Workspace) -> None:
    script = (
        "import sys, time; from pathlib import Path; from lpm_kernel.workspace.lock import lock\n"
        "from lpm_kernel.workspace.places import Workspace\n"
        "with lock(Workspace(Path(sys.argv[1]))): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, workspace.root], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError, match=str(holder.pid)), lock(workspace):
            pass
        assert is_locked(workspace)
    finally:
        holder.kill()
        holder.communicate()
    with lock(workspace):
        assert not list(workspace.root.glob("*.kept*"))


@pytest.mark.parametrize("in_the_way", ["a folder", "a link", "a pipe", "a loop"])
def test_whatever_stands_in_the_place_of_the_lock_is_told_and_left_as_it_is(
    in_the_way: str, workspace: Workspace, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("somebody's")
    path = workspace.lock_path
    make: dict[str, Callable[[], None]] = {
        "a folder": path.mkdir,
        "a link": lambda: path.symlink_to(outside),
        "a pipe": lambda: os.mkfifo(path),
    }
    make.get(in_the_way, lambda: path.symlink_to(path))()
    with pytest.raises(OutputError, match=r"\.lock; something else is in the way"), lock(workspace):
        pass
    with pytest.raises(OutputError, match=r"\.lock; something else is in the way"):
        is_locked(workspace)
    assert outside.read_text() == "somebody's"


@pytest.mark.parametrize("raw", [b"12 of my own words", b"\xff"])
def test_a_file_that_is_called_lock_and_is_none_of_ours_is_told_and_left_as_it_is(
    raw: bytes, workspace: Workspace
) -> None:
    workspace.lock_path.write_bytes(raw)
    with pytest.raises(OutputError, match=r"\.lock is no lock of ours"), lock(workspace):
        pass
    assert workspace.lock_path.read_bytes() == raw


@pytest.mark.parametrize("text", ["", "4711\n", "\0" * 512])
def test_a_lock_that_a_dead_run_left_is_taken_whatever_the_power_loss_made_of_it(
    text: str, workspace: Workspace
) -> None:
    workspace.lock_path.write_text(text)
    assert not is_locked(workspace)
    with lock(workspace):
        assert workspace.lock_path.read_text() == f"{os.getpid()}\n"


def test_leftovers_of_a_killed_run_are_swept(workspace: Workspace) -> None:
    leftover = workspace.root / "model" / f"{TEMPORARY}1-lpm.gguf"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("half")
    with lock(workspace):
        assert not leftover.exists()


def test_an_unknown_artifact_and_an_unwritable_root_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lmp\.gguf"):
        Workspace(tmp_path).find("lmp.gguf")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--workspace"), lock(Workspace(tmp_path / "file" / "x")):
        pass
