"""Laws of the embedded demo: the owner's data, the bio, and the base model made from them."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, Lpm, owner_items

from lpm_kernel.demo import gift
from lpm_kernel.demo.owner import items, load_owner, write_owner
from lpm_kernel.demo.write import write_demo
from lpm_kernel.files import file_sha256
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.workspace import versions
from lpm_kernel.workspace.lock import lock
from lpm_kernel.workspace.places import Workspace

CONFIG = ItemConfig(user_name="Elin")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo")
    write_demo(path / "merged.json", path / "bio.md", path / "base", language="en", config=CONFIG, seed=3)
    return path


def test_every_item_is_usable_and_every_variant_occurs(demo: Path) -> None:
    usable, skipped = read_items(demo / "merged.json", CONFIG)
    assert not skipped
    assert 500 <= len(usable) <= 800
    assert set(Counter(row.variant for row in usable)) == {
        *("memory", "diversity", "context", "feedback", "dated", "time_qa", "exact_day", "bio_qa")
    }
    assert any("score" in item and "reasoning" in item for item in items(load_owner()))


def test_the_owner_is_written_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_owner(tmp_path / name / "merged.json", tmp_path / name / "bio.md")
    assert (tmp_path / "a/merged.json").read_bytes() == (tmp_path / "b/merged.json").read_bytes()
    assert (tmp_path / "a/bio.md").read_bytes() == (tmp_path / "b/bio.md").read_bytes()


def test_the_base_model_is_seeded(demo: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        places = (tmp_path / "m.json", tmp_path / "b.md", tmp_path / str(seed))
        write_demo(*places, language="en", config=CONFIG, seed=seed)
    weights = (demo / "base/model.safetensors").read_bytes()
    assert weights == (tmp_path / "3/model.safetensors").read_bytes()
    assert weights != (tmp_path / "4/model.safetensors").read_bytes()
    assert (demo / "base/tokenizer.json").read_bytes() == (tmp_path / "4/tokenizer.json").read_bytes()


def test_the_tokenizer_gives_back_any_text_and_speaks_chatml(demo: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo / "base")
    for text in ("You grew up in Visby.", "Größe 猫 🎻", "a\n\n  b\t1987"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    turn = [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}]
    shown = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert shown == "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == "<|im_end|>"


def test_the_bio_is_markdown_with_sections(demo: Path) -> None:
    bio = (demo / "bio.md").read_text(encoding="utf-8")
    assert bio.startswith("# Elin Varga\n")
    assert bio.count("\n## ") >= 5
    json.loads((demo / "merged.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the demo in it, its first step done."""
    root = tmp_path_factory.mktemp("demo") / "resources"
    command = [sys.executable, "-m", "lpm_kernel", "pipeline", "--demo", "--until", "prepare", "--workspace", str(root)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return root


@pytest.fixture
def filled(original: Path, tmp_path: Path) -> Workspace:
    """A copy of it."""
    shutil.copytree(original, tmp_path / "resources")
    return Workspace(tmp_path / "resources")


def test_clean_takes_the_demo_away_whole(filled: Workspace, lpm: Lpm) -> None:
    assert filled.find("prompts")
    done = lpm("clean", env={"LPM_WORKSPACE": str(filled.root)})
    assert [p.name for p in filled.root.rglob("*")] == [".lock"], done.stderr


def test_clean_leaves_an_owners_files_beside_the_demos_and_in_their_place(filled: Workspace, lpm: Lpm) -> None:
    mine = {
        filled.place("merged.json"): "[]",
        filled.settings_path: 'preset = "demo"\n[common]\nuser_name = "Ada"\n',
        filled.root / "L2/data/notes.txt": "mine",
        filled.root / "model/output/merged_model/me/config.json": "{}",
        filled.base_model_place("demo") / "mine.txt": "beside",
        filled.place("held_out"): "edited",
        filled.root / "runs/20260101-000000-mine/status.json": '{"run": "mine", "steps": []}',
        filled.root / "runs/work/dpo-data/journal.sqlite": "paid for",
        filled.root / "runs/work/dpo-data/.own": "",
        filled.root / "runs/notes.txt": "about my runs",
        filled.root / "runs/work/evaluate/mine.txt": "beside the journal",
    }
    for path, text in mine.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lpm("clean", env={"LPM_WORKSPACE": str(filled.root)})
    assert {path: path.read_text() for path in mine} == mine
    assert not filled.place("prompts").exists()
    assert not filled.place("global_bio").exists()


def test_a_journal_that_an_owners_run_wrote_stays_though_its_record_is_gone(filled: Workspace, lpm: Lpm) -> None:
    filled.place("merged.json").write_text(json.dumps(owner_items()))
    env = {"LPM_WORKSPACE": str(filled.root), "LPM_ENDPOINT": "http://127.0.0.1:9/v1"}
    lpm("run", "dpo-data", env=env)
    for record in (filled.root / "runs").glob("2*"):
        shutil.rmtree(record)
    journal = filled.root / "runs/work/dpo-data/journal.sqlite"
    journal.write_text("paid for")
    lpm("clean", env=env)
    assert journal.read_text() == "paid for"


def test_clean_follows_no_link_and_no_path_out_of_the_workspace(filled: Workspace, lpm: Lpm, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    sha256 = file_sha256(outside)
    (filled.root / "link.txt").symlink_to(outside)
    names = ["link.txt", "../outside.txt", str(outside)]
    (filled.root / "demo.json").write_text(json.dumps({"files": dict.fromkeys(names, sha256)}))
    lpm("clean", env={"LPM_WORKSPACE": str(filled.root)})
    assert outside.read_text() == "mine"
    assert (filled.root / "link.txt").is_symlink()


def test_what_a_run_on_an_owners_data_made_in_the_demos_workspace_stays(filled: Workspace, lpm: Lpm) -> None:
    filled.place("merged.json").write_text(json.dumps(owner_items()))
    env = {"LPM_WORKSPACE": str(filled.root)}
    lpm("run", "prepare", env=env)
    lpm("clean", env=env)
    assert filled.place("prompts").exists()
    assert filled.place("merged.json").exists()
    assert len(list((filled.root / "runs").glob("*/status.json"))) == 1


def test_an_owners_settings_are_never_overwritten_by_the_demo(tmp_path: Path, lpm: Lpm) -> None:
    workspace = Workspace(tmp_path / "resources")
    workspace.settings_path.parent.mkdir(parents=True)
    workspace.settings_path.write_text('[common]\njudge_model = "mine"\n')
    lpm("pipeline", "--demo", "--until", "prepare", env={"LPM_WORKSPACE": str(workspace.root)})
    assert workspace.settings_path.read_text() == '[common]\njudge_model = "mine"\n'
    assert Workspace(workspace.root / "demo").find("prompts")
    assert not workspace.find("prompts")


@pytest.mark.parametrize("below", ["", "demo"])
def test_the_demo_never_works_on_an_owners_data_whatever_the_settings_say(
    below: str, workspace: Workspace, lpm: Lpm
) -> None:
    theirs = Workspace(workspace.root / below)
    for place in (workspace, theirs):
        place.settings_path.parent.mkdir(parents=True, exist_ok=True)
        place.settings_path.write_text('preset = "demo"')
    theirs.place("merged.json").parent.mkdir(parents=True, exist_ok=True)
    theirs.place("merged.json").write_text(json.dumps(owner_items()))
    done = lpm("pipeline", "--demo", "--until", "prepare", env={"LPM_WORKSPACE": str(workspace.root)})
    assert (done.returncode, "files of yours" in done.stderr) == (64 if below else 0, True), done.stderr
    assert theirs.find("prompts") is None
    assert theirs.find("base_model") is None


def test_a_demo_killed_before_its_first_file_is_cleaned_too(tmp_path: Path, lpm: Lpm) -> None:
    workspace = Workspace(tmp_path / "resources")
    gift.begin(workspace)
    workspace.place("lpm.gguf").parent.mkdir(parents=True)
    lpm("clean", env={"LPM_WORKSPACE": str(workspace.root)})
    assert [p.name for p in workspace.root.rglob("*")] == [".lock"]


def test_a_demo_that_recorded_nothing_is_told_and_stays(filled: Workspace, lpm: Lpm) -> None:
    (filled.root / "demo.json").unlink()
    done = lpm("clean", env={"LPM_WORKSPACE": str(filled.root)})
    assert "by hand" in done.stderr
    assert filled.find("prompts")


def test_what_is_made_of_an_owners_model_in_the_demos_workspace_is_not_the_demos(filled: Workspace, lpm: Lpm) -> None:
    shutil.rmtree(filled.base_model_place("demo"))
    filled.place("merged_model").mkdir(parents=True)
    (filled.place("merged_model") / "config.json").write_text("{}")
    env = {"LPM_WORKSPACE": str(filled.root)}
    lpm("run", "prepare", env=env)
    manifest = filled.manifest(filled.place("prompts"))
    assert manifest is not None
    assert not manifest.demo
    lpm("clean", env=env)
    assert filled.find("prompts")


def test_a_demos_version_goes_with_it_and_an_owners_version_stays(filled: Workspace, lpm: Lpm) -> None:
    (filled.root / "weights").write_text("w")
    for demo in (True, False):
        with lock(filled):
            versions.keep(filled, {"lpm.gguf": filled.root / "weights"}, making="m", questions="q", demo=demo)
    assert gift.holds_an_owner(filled)
    with lock(filled):
        versions.make_current(filled, "v1", "promoted")
    lpm("clean", env={"LPM_WORKSPACE": str(filled.root)})
    assert [version.name for version in versions.all_versions(filled)] == ["v2"]
    assert not versions.version_path(filled, "v1").exists()
    assert versions.current(filled) == "sft"


@pytest.mark.parametrize(("name", "code"), [("runs", 73), ("L2/base_models/demo", 0)])
def test_clean_leaves_what_lies_behind_a_linked_folder(
    name: str, code: int, filled: Workspace, lpm: Lpm, tmp_path: Path
) -> None:
    (filled.root / name).rename(tmp_path / "mine")
    (filled.root / name).symlink_to(tmp_path / "mine")
    done = lpm("clean", env={"LPM_WORKSPACE": str(filled.root)})
    assert done.returncode == code, done.stderr
    assert list((tmp_path / "mine").glob("*/status.json")) or (tmp_path / "mine/config.json").exists()


def test_edited_settings_of_the_demo_stay_as_they_are(filled: Workspace, lpm: Lpm) -> None:
    filled.settings_path.write_text('preset = "demo"\n[dpo-train]\nbeta = 0.5\n')
    filled.place("global_bio").unlink()
    lpm("pipeline", "--demo", "--until", "prepare", env={"LPM_WORKSPACE": str(filled.root)})
    assert "beta = 0.5" in filled.settings_path.read_text()
    assert filled.find("global_bio")
