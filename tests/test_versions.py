"""What was promoted stays until another takes its place, and the way back loses nothing."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from conftest import Lpm
from dying_publisher import MANIFEST
from test_gate import WINS, decided, trials

from lpm_kernel.errors import DataError, UsageError
from lpm_kernel.pipeline import step_named
from lpm_kernel.runner.versions import current_gguf, gguf_of, gguf_to_serve, go_back, promote
from lpm_kernel.workspace import versions
from lpm_kernel.workspace.places import Workspace
from lpm_kernel.workspace.publish import building, publish

GAIN, NONE = decided(WINS), decided(trials({"tie": 20}))
FOLDERS = ("adapter", "dpo_merged_model", "merged_model")


def make(workspace: Workspace, making: str, texts: dict[str, str], inputs: dict[str, str]) -> None:
    places = {name: workspace.place(name) for name in texts}
    with building(places) as drafts:
        for name, text in texts.items():
            if name in FOLDERS:
                drafts[name].mkdir()
            (drafts[name] / "config.json" if name in FOLDERS else drafts[name]).write_text(text)
        publish(workspace, drafts, places, MANIFEST.model_copy(update={"making": making, "inputs": inputs}))


def train(
    workspace: Workspace, text: str, decision: Literal["promote", "keep"] = "promote", against: str | None = None
) -> None:
    """What the chain leaves after another training: a candidate with all that it is made of, and its evaluation,
    against the SFT model unless another one's hash is told."""

    def digest(name: str) -> str:
        return workspace.digest(workspace.place(name))

    make(workspace, f"t{text}", {"adapter": text}, {})
    make(workspace, f"m{text}", {"dpo_merged_model": text}, {"lora_adapter_path": digest("adapter")})
    made = {"dpo_lpm.gguf": text, "dpo_fidelity": "{}"}
    make(workspace, f"g{text}", made, {"model_path": digest("dpo_merged_model")})
    evaluation = (GAIN if decision == "promote" else NONE).model_dump_json()
    make(workspace, f"q{text}", {"held_out": "q"}, {})
    needed = {role: workspace.find(artifact) for role, artifact in step_named("evaluate").needs.items()}
    inputs = {role: workspace.digest(path) for role, path in needed.items() if path}
    inputs |= {"before_gguf_path": against} if against else {}
    make(workspace, f"e{text}", {"evaluation.json": evaluation, "report.html": text}, inputs)
    promote(workspace)


@pytest.fixture
def sft(workspace: Workspace) -> Workspace:
    workspace.place("lpm.gguf").parent.mkdir(parents=True)
    workspace.place("lpm.gguf").write_text("sft")
    return workspace


@pytest.fixture
def two(sft: Workspace) -> Workspace:
    train(sft, "first")
    train(sft, "second")
    return sft


def test_a_retrain_that_ends_in_keep_changes_nothing_of_what_is_served(sft: Workspace) -> None:
    assert current_gguf(sft).read_text() == "sft"
    train(sft, "good")
    assert current_gguf(sft).read_text() == "good"
    train(sft, "worse", "keep")
    assert sft.place("dpo_lpm.gguf").read_text() == "worse"
    assert current_gguf(sft).read_text() == "good"


def test_a_model_that_is_better_than_another_one_than_the_workspaces_is_not_kept(
    sft: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    train(sft, "good")
    train(sft, "better than a stranger", against="0" * 64)
    assert current_gguf(sft).read_text() == "good"
    assert [v.name for v in versions.all_versions(sft)] == ["v1"]
    assert "lpm.gguf is not what the evaluation was made with, so the candidate is not kept" in caplog.text


def test_an_evaluation_is_no_evidence_once_its_questions_are_others(
    sft: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "keep", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(sft, "good")
    monkeypatch.undo()
    sft.place("held_out").write_text("easier ones")
    promote(sft)
    assert current_gguf(sft).read_text() == "sft"
    sft.place("held_out").write_text("q")
    promote(sft)
    assert current_gguf(sft).read_text() == "good"


def test_a_version_is_all_that_the_model_is_made_of(two: Workspace) -> None:
    place = versions.version_path(two, "v1")
    parts = {str(p.relative_to(place)) for p in place.rglob("*") if p.is_file() and "manifest" not in p.name}
    assert parts == {
        *("lpm.gguf", "lpm.fidelity.json", "evaluation.json", "report.html", "version.json"),
        *("merged_model/config.json", "adapter/config.json"),
    }
    assert (place / "adapter/config.json").read_text() == "first"


def test_a_version_takes_no_space_until_the_next_candidate_comes(sft: Workspace) -> None:
    train(sft, "first")
    assert gguf_of(sft, "v1").samefile(sft.place("dpo_lpm.gguf"))
    assert gguf_of(sft, "v1").stat().st_mode & 0o777 == 0o400
    size, own = versions.bytes_of(sft, versions.version_named(sft, "v1"))
    assert size - own == len("first")
    train(sft, "second")
    assert versions.bytes_of(sft, versions.version_named(sft, "v1")) == (size, size)


def test_where_the_disk_knows_no_links_a_version_is_a_copy(sft: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    train(sft, "first")
    assert current_gguf(sft).read_text() == "first"


def test_the_way_back_goes_one_by_one_to_the_sft_model_and_forward_by_name(two: Workspace) -> None:
    served = []
    for name in ("", "", "v2"):
        go_back(two, name)
        served.append(current_gguf(two).read_text())
    assert served == ["first", "sft", "second"]
    go_back(two, "sft")
    with pytest.raises(UsageError, match="nothing is before it"):
        go_back(two, "")


def test_what_the_owner_went_back_from_is_not_promoted_again(two: Workspace) -> None:
    go_back(two, "")
    promote(two)
    assert versions.current(two) == "v1"
    assert [v.name for v in versions.all_versions(two)] == ["v1", "v2"]


def test_a_run_killed_before_it_promoted_is_made_up_for_by_the_next_one(
    sft: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken in ("keep", "make_current"):
        monkeypatch.setattr(versions, broken, lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(sft, f"good at {broken}")
        monkeypatch.undo()
        promote(sft)
        assert current_gguf(sft).read_text() == f"good at {broken}"
    assert [v.name for v in versions.all_versions(sft)] == ["v1", "v2"]


def test_what_is_served_is_a_file_or_a_model_by_its_name_or_the_current_one(two: Workspace) -> None:
    assert [gguf_to_serve(two, name).read_text() for name in ("", "v1", "sft")] == ["second", "first", "sft"]
    assert gguf_to_serve(two, "nowhere/x.gguf") == Path("nowhere/x.gguf")
    with pytest.raises(UsageError, match="known: v1, v2, sft"):
        gguf_to_serve(two, "v9")


def test_a_version_that_is_not_what_was_promoted_is_not_served(two: Workspace) -> None:
    path = gguf_of(two, "v2")
    stat = path.stat()
    path.write_text("secOnd")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(DataError, match="lpm rollback"):
        current_gguf(two)
    go_back(two, "v1")
    assert current_gguf(two).read_text() == "first"


def test_a_damaged_record_of_what_is_current_is_told_and_mended_by_a_rollback(two: Workspace) -> None:
    two.current_path.write_text('{"changes": 7}')
    with pytest.raises(DataError, match="lpm rollback VERSION"):
        current_gguf(two)
    go_back(two, "v1")
    assert current_gguf(two).read_text() == "first"


def test_only_what_is_not_current_is_removed_and_only_when_asked(two: Workspace, lpm: Lpm) -> None:
    where = ("--workspace", two.root)
    refused = lpm("versions", "--remove", "v2", *where)
    assert refused.returncode == 64
    assert "v2 is current" in refused.stderr
    told = json.loads(lpm("versions", "--remove", "v1", "--json", *where).stdout)
    assert [version["name"] for version in told["versions"]] == ["v2"]
    assert told["current"] == "v2"
    train(two, "third")
    go_back(two, "v2")
    lpm("versions", "--remove", "v3", *where)
    train(two, "fourth")
    assert [v.name for v in versions.all_versions(two)] == ["v2", "v4"]
    assert current_gguf(two).read_text() == "fourth"


def test_an_unknown_version_is_told_with_those_that_are(two: Workspace, lpm: Lpm) -> None:
    for command in (["rollback", "v9"], ["compare", "v1", "v9"], ["versions", "--remove", "v9"]):
        failed = lpm(*command, "--workspace", two.root)
        assert failed.returncode == 64
        assert "known: v1, v2, sft" in failed.stderr


def test_a_folder_that_is_no_version_is_left_alone(two: Workspace) -> None:
    mine = versions.version_path(two, "v3")
    mine.mkdir()
    train(two, "third")
    assert not list(mine.iterdir())
    assert versions.current(two) == "v4"


@pytest.mark.parametrize("fields", [{"files": {}}, {"name": "v1"}, {"promoted_at": "2020"}])
def test_a_version_whose_record_was_changed_is_no_version_and_the_one_before_is_served(
    two: Workspace, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = versions.version_path(two, "v2") / versions.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    assert current_gguf(two).read_text() == "first"
    assert f"{path} is damaged" in caplog.text


def test_one_flipped_name_in_the_history_is_known(two: Workspace) -> None:
    two.current_path.write_text(two.current_path.read_text().replace("v2", "v1"))
    with pytest.raises(DataError, match="lpm rollback VERSION"):
        current_gguf(two)


@pytest.mark.parametrize("name", [versions.RECORD, versions.EVALUATION])
@pytest.mark.parametrize("damage", ["rubbish", "folder", "gone"])
def test_one_damaged_version_hides_no_other(two: Workspace, name: str, damage: str, lpm: Lpm) -> None:
    path = versions.version_path(two, "v1") / name
    path.unlink()
    if damage == "rubbish":
        path.write_text("{")
    elif damage == "folder":
        path.mkdir()
    done = lpm("versions", "--json", "--workspace", two.root)
    assert done.returncode == 0, done.stderr
    told = {version["name"]: version["win_rate"] for version in json.loads(done.stdout)["versions"]}
    assert told["v2"] == GAIN.win_rate.rate
    assert told.get("v1") is None
    assert lpm("versions", "--workspace", two.root).returncode == 0


def test_a_foreign_version_steers_no_terminal_and_one_of_another_name_is_none(two: Workspace, lpm: Lpm) -> None:
    path = versions.version_path(two, "v1") / versions.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"promoted_at": "\x1b[31m[/x]"}))
    path = versions.version_path(two, "v2")
    mine = path.rename(path.with_name("vmine")) / versions.RECORD
    mine.write_text(json.dumps(json.loads(mine.read_text()) | {"name": "vmine"}))
    done = lpm("versions", "--workspace", two.root)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "vmine" not in done.stdout
