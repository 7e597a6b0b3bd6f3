"""Nothing is written through, emptied or copied by a link that leads out of the workspace."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from lpm_kernel.demo.gift import begin, give
from lpm_kernel.errors import LpmError, OutputError
from lpm_kernel.owner.items import ItemConfig
from lpm_kernel.runner.run_record import latest_status
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.manifest import manifest_path
from lpm_kernel.workspace.places import Workspace

FOLDERS = (
    *("L2", "L2/data", "L2/data/dpo", "model", "model/output", "model/output/dpo_model", "model/versions", "configs"),
    *("runs", "runs/work", "runs/work/serve", "runs/work/sft-train", "runs/work/sft-train/checkpoint-2"),
)
FILES = (".lock", "runs/work/serve/server.log", "runs/work/dpo-data/journal.sqlite", "runs/work/dpo-data/.own")
ITEMS_MANIFEST = "L2/data/dpo/items.jsonl.manifest.json"
MINE = "12 of my own words"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the owner's with a file in it, outside of the workspace."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "mine.txt").write_text(MINE)
    return path


def put_link(workspace: Workspace, name: str, target: Path | str) -> Path:
    link = workspace.root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir():
        link.rename(workspace.root / "before")
    link.symlink_to(target)
    return link


def everything(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else "" for p in folder.rglob("*")}


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("target", ["outside", "gone", "itself"])
def test_a_folder_that_leads_out_is_refused_before_anything_is_written(
    name: str, target: str, workspace: Workspace, outside: Path
) -> None:
    targets: dict[str, Path | str] = {"outside": outside, "gone": outside / "gone", "itself": Path(name).name}
    put_link(workspace, name, targets[target])
    with pytest.raises(OutputError, match=f"{name} is a link"), lock(workspace):
        pass
    with pytest.raises(OutputError, match=f"{name} is a link"):
        workspace.work_path("serve")
    assert everything(outside) == {"mine.txt": MINE}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("target", ["mine.txt", "new.txt"])
def test_a_file_that_leads_out_is_neither_emptied_nor_made(
    name: str, target: str, workspace: Workspace, outside: Path
) -> None:
    put_link(workspace, name, outside / target)
    with pytest.raises(OutputError), lock(workspace):
        workspace.work_path("serve")
    assert everything(outside) == {"mine.txt": MINE}


def test_links_of_the_owner_to_what_is_only_read_are_followed(workspace: Workspace, outside: Path) -> None:
    for name in ("L2/base_models", "model/output/merged_model", "L2/data/merged.json"):
        (workspace.root / name).unlink(missing_ok=True)
        put_link(workspace, name, outside if "json" not in name else outside / "mine.txt")
    (outside / "config.json").write_text("{}")
    with lock(workspace):
        assert workspace.find("merged_model") == workspace.place("merged_model")
    assert workspace.find("merged.json")


def test_a_link_that_stays_in_the_workspace_is_the_owners_business(workspace: Workspace) -> None:
    (workspace.root / "elsewhere").mkdir()
    put_link(workspace, "model", "elsewhere")
    with lock(workspace):
        assert workspace.work_path("serve").is_dir()


def test_a_root_that_is_a_link_is_the_folder_it_leads_to(workspace: Workspace) -> None:
    link = workspace.root.with_name("link")
    link.symlink_to(workspace.root)
    with lock(Workspace(link)):
        assert (workspace.root / ".lock").is_file()


def test_the_demo_writes_no_base_model_through_a_link(workspace: Workspace, outside: Path) -> None:
    put_link(workspace, "L2/base_models", outside)
    begin(workspace)
    with pytest.raises(OutputError, match="base_models is a link"):
        give(workspace, ItemConfig(), seed=1)
    assert everything(outside) == {"mine.txt": MINE}


@pytest.mark.parametrize("named", ["path", "link", "loop", "\0"])
def test_the_latest_run_is_none_that_lies_outside(named: str, workspace: Workspace, outside: Path) -> None:
    (outside / "status.json").write_text(MINE)
    put_link(workspace, "runs/link", outside)
    put_link(workspace, "runs/loop", "loop")
    (workspace.runs_path / "latest").write_text(str(outside) if named == "path" else named)
    assert latest_status(workspace).run is None
    assert set(everything(outside)) == {"mine.txt", "status.json"}


@pytest.mark.parametrize("name", ["runs/latest", "runs/hashes.json", "demo.json", ITEMS_MANIFEST])
def test_a_pipe_in_the_place_of_a_record_is_no_record_and_nobody_waits_on_it(name: str, workspace: Workspace) -> None:
    path = workspace.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    items = workspace.place("items")
    items.parent.mkdir(parents=True, exist_ok=True)
    items.write_text("{}")
    assert latest_status(workspace).run is None
    assert workspace.manifest(items) is None
    assert bool(workspace.misfit(items)) is manifest_path(items).exists()
    with suppress(LpmError):
        workspace.hashes.save()
