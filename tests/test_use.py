"""What is the owner's is taken as it is when they say so, and nothing of theirs is made again unasked."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Lpm
from dying_publisher import MANIFEST
from test_versions import make

from lpm_kernel.errors import DataError, MissingInputError, UsageError
from lpm_kernel.pipeline import step_named
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.runner.state import StepState, refuse_when_edited, state_of
from lpm_kernel.runner.use import use
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.manifest import Manifest, manifest_path
from lpm_kernel.workspace.places import IDENTITY, Workspace
from lpm_kernel.workspace.publish import building, publish

PAIR = {"prompt": {"system": "s", "user": "u"}, "chosen": "yes", "rejected": "no"}


def state(workspace: Workspace, step: str) -> StepState:
    fresh = Workspace(workspace.root)
    return state_of(step_named(step), fresh, resolve_all(fresh)[step])


def rewrite(path: Path, **fields: object) -> None:
    """A manifest as another run, or another workspace, would have written it."""
    manifest = Manifest.model_validate_json(path.read_text()).model_copy(update=fields)
    path.write_text(manifest.sealed().model_dump_json())


@pytest.fixture
def edited(workspace: Workspace) -> Workspace:
    """The pairs were made here, and then edited by hand."""
    pairs = {"dpo_direct.json": json.dumps([PAIR]), "dpo_full.json": "[]", "verdicts": "", "pairs_account": "{}"}
    make(workspace, "m", pairs, {})
    workspace.place("dpo_direct.json").write_text(json.dumps([PAIR, PAIR]))
    return workspace


def test_edited_pairs_stop_the_chain_with_both_ways_on(edited: Workspace) -> None:
    with pytest.raises(DataError, match=r"lpm use dpo_direct\.json; .* lpm pipeline --from dpo-data"):
        refuse_when_edited({"dpo-data": state(edited, "dpo-data")})


def test_edited_pairs_are_trained_on_when_the_owner_says_so(edited: Workspace) -> None:
    use(edited, "dpo_direct.json")
    assert state(edited, "dpo-data").name == "given"
    assert len(json.loads(edited.place("dpo_direct.json").read_text())) == 2


def test_a_file_is_put_in_place_and_what_was_there_is_kept(edited: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([PAIR] * 3))
    place = use(edited, "dpo_direct.json", tmp_path / "mine.json")
    assert state(edited, "dpo-data").name == "given"
    assert len(json.loads(place.with_name("dpo_direct.json.kept-1").read_text())) == 2
    place.write_text("[]")
    assert len(json.loads((tmp_path / "mine.json").read_text())) == 3


@pytest.mark.parametrize("text", ["[", "{}", '[{"prompt": 1}]'])
def test_what_cannot_be_pairs_is_refused_and_changes_nothing(text: str, edited: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(DataError):
        use(edited, "dpo_direct.json", tmp_path / "mine.json")
    assert len(json.loads(edited.place("dpo_direct.json").read_text())) == 2
    assert manifest_path(edited.place("dpo_direct.json")).exists()


def test_only_what_an_owner_can_have_is_used(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be given; what can: merged\.json"):
        use(workspace, "evaluation.json", tmp_path)
    with pytest.raises(MissingInputError, match=r"lpm use lpm\.gguf PATH"):
        use(workspace, "lpm.gguf")


@pytest.fixture
def merged(workspace: Workspace) -> Workspace:
    """A base model and an SFT model that was made of it here."""
    with lock(workspace):
        for name, place in {"base": workspace.base_model_place("b"), "sft": workspace.place("personal_model")}.items():
            place.mkdir(parents=True)
            (place / "config.json").write_text(json.dumps(name))
    inputs = {"base_model_path": workspace.digest(workspace.base_model_place("b"))}
    inputs["lora_adapter_path"] = workspace.digest(workspace.place("personal_model"))
    make(workspace, "m", {"merged_model": "{}"}, inputs)
    return workspace


def test_an_sft_model_stays_when_what_it_was_made_of_is_gone(merged: Workspace) -> None:
    shutil.rmtree(merged.base_model_place("b"))
    found = state(merged, "sft-merge")
    assert found.name == "given"
    assert "base_model is gone" in found.reason


def test_an_sft_model_from_another_workspace_is_the_owners(merged: Workspace) -> None:
    rewrite(manifest_path(merged.place("merged_model")), workspace="another", inputs={})
    assert state(merged, "sft-merge").name == "given"
    rewrite(manifest_path(merged.place("merged_model")), workspace=merged.identity, inputs={})
    assert state(merged, "sft-merge").reason == "base_model changed"


def test_what_was_made_elsewhere_is_set_aside_and_never_replaced(merged: Workspace) -> None:
    rewrite(manifest_path(merged.place("merged_model")), workspace="another")
    make(merged, "n", {"merged_model": '"new"'}, {})
    assert (merged.place("merged_model").with_name("merged_model.kept-1") / "config.json").read_text() == "{}"


def test_a_moved_workspace_stays_itself_and_gets_a_lost_identity_back(workspace: Workspace, tmp_path: Path) -> None:
    with lock(workspace):
        identity = workspace.identity
    manifest = MANIFEST.model_copy(update={"workspace": identity})
    assert len(identity) == 32
    assert not workspace.is_foreign(manifest)
    make(workspace, "m", {"prompts": ""}, {})
    rewrite(manifest_path(workspace.place("prompts")), workspace=identity)
    moved = Workspace(workspace.root.rename(tmp_path / "moved"))
    (moved.root / IDENTITY).unlink()
    with lock(moved):
        assert moved.identity == identity


def test_a_model_is_put_in_place_without_taking_its_space_twice(workspace: Workspace, tmp_path: Path) -> None:
    from tiny_gguf import write_tiny_gguf

    mine = write_tiny_gguf(tmp_path / "mine.gguf")
    place = use(workspace, "lpm.gguf", mine)
    assert place.samefile(mine)
    assert state(workspace, "sft-gguf").name == "given"


def test_the_command_says_where_it_put_what_it_was_given(workspace: Workspace, tmp_path: Path, lpm: Lpm) -> None:
    (tmp_path / "bio.json").write_text(json.dumps({"content": "## Me\nÉva."}))
    done = lpm("use", "global_bio", "bio.json", "--workspace", workspace.root)
    assert done.returncode == 0, done.stderr
    assert workspace.place("global_bio").read_text() == "## Me\nÉva.\n"
    assert "global_bio.md.kept-1" in done.stderr


@pytest.mark.parametrize("damage", ["zeros", "another digit", "cut"])
def test_a_damaged_identity_comes_back_from_what_was_made_and_nothing_turns_foreign(
    workspace: Workspace, damage: str
) -> None:
    with lock(workspace), building({"prompts": workspace.place("prompts")}) as drafts:
        drafts["prompts"].write_text("{}")
        identity = workspace.identity
        manifest = MANIFEST.model_copy(update={"workspace": identity})
        publish(workspace, drafts, {"prompts": workspace.place("prompts")}, manifest)
    path = workspace.root / IDENTITY
    text = path.read_text()
    other = text.replace(text[0], "1" if text[0] == "0" else "0", 1)
    path.write_text({"zeros": "\0" * len(text), "another digit": other, "cut": text[:20]}[damage])
    with lock(workspace):
        assert workspace.identity == identity
        assert workspace.is_ours(workspace.place("prompts"))
    path.write_text(f"{identity}\n")  # as an earlier version wrote it
    assert workspace.identity == identity
