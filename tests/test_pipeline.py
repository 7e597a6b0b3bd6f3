"""The table is sound, imports go down only, and only what is stale runs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from lpm_kernel.errors import MissingInputError
from lpm_kernel.pipeline import STEPS, maker_of, step_named
from lpm_kernel.runner import run as chain
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.runner.state import standing, wanted
from lpm_kernel.workspace.places import ARTIFACTS, Workspace

PACKAGE = ROOT / "lpm_kernel"
HEAVY = {
    "requests",
    "matplotlib",
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "openai",
    "sacrebleu",
    "jinja2",
    "gguf",
}
FLOORS = [
    {"owner", "models", "records", "config", "workspace", "journal", "errors", "hashing", "progress", "checkout"}
    | {"disk"},
    {"judges", "serving", "training"},
    {"L2"},
    {"pipeline", "demo", "standing", "runs", "chain", "settings", "promotion", "doctor", "flags", "bio_editor"},
    {"screen", "cli", "__main__"},
]
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports; its `__main__` door may open upward and does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = [n for n in tree.body if not (isinstance(n, ast.If) and "__main__" in ast.dump(n.test))]
    nodes = [m for n in body for m in ast.walk(n)]
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return names


def floor_of(dotted: str) -> int:
    room = dotted.split(".")[1] if "." in dotted else "cli"
    return next((level for level, rooms in enumerate(FLOORS) if room in rooms), 0 if room == "__version__" else 9)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    own = name_of(path)
    if own == "lpm_kernel.__init__":
        return
    ours = {n for n in imports(path) if n.startswith("lpm_kernel.")}
    assert not {n for n in ours if floor_of(n) > floor_of(own)}
    if floor_of(own) == 1:
        room = own.split(".")[1]
        assert not {n for n in ours if floor_of(n) == 1 and n.split(".")[1] != room}


def test_no_stage_loads_a_heavy_library_before_it_runs() -> None:
    script = "import sys; from lpm_kernel.pipeline import config_kinds; config_kinds(); print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(loaded.stdout.split()) & HEAVY


def test_stages_do_not_import_each_other() -> None:
    stages = {s.module for s in STEPS}
    for stage in stages:
        path = ROOT / (stage.replace(".", "/") + ".py")
        assert not {n for n in imports(path) if n.rsplit(".", 1)[0] in stages - {stage} or n in stages - {stage}}


def test_no_file_shadows_a_library() -> None:
    known = {*sys.stdlib_module_names, *HEAVY, "evaluate", "tokenizers", "safetensors"}
    stages = [p for p in MODULES if p.parent in (PACKAGE / "L2", PACKAGE / "L2/dpo")]
    assert not {p.stem for p in stages} & known


def test_every_need_is_given_by_the_owner_or_made_earlier() -> None:
    made = {"merged.json", "global_bio", "base_model"}
    for step in STEPS:
        assert set(step.needs.values()) <= made
        made |= set(step.makes.values())
    assert made == set(ARTIFACTS)


def test_no_evaluation_input_feeds_the_pairs_or_their_training() -> None:
    feeding = {"dpo_direct.json"}
    while (
        more := {n for a in feeding if (m := maker_of(a)) for n in m.needs.values()}
        - feeding
        - {"merged_model", "lpm.gguf"}
    ):
        feeding |= more
    assert "held_out" not in feeding
    assert "held_out" not in step_named("dpo-train").needs.values()


def test_a_step_is_done_until_its_input_or_a_setting_changes(workspace: Workspace) -> None:
    configs = resolve_all(workspace)
    assert standing(STEPS[0], workspace, configs["prepare"]).state == "pending"
    chain.run_chain(workspace, {**configs}, until="prepare")
    assert standing(STEPS[0], workspace, configs["prepare"]).state == "done"
    other = resolve_all(workspace, assignments=["prepare.seed=7"])
    assert standing(STEPS[0], workspace, other["prepare"]).reason == "setting seed: 42 -> 7"
    workspace.place("global_bio").write_text("## New\nAnother bio.")
    assert standing(STEPS[0], Workspace(workspace.root), configs["prepare"]).reason == "global_bio changed"


def test_a_flag_given_by_hand_stays_until_another_flag(workspace: Workspace) -> None:
    step, plain = STEPS[0], resolve_all(workspace)
    by_hand = resolve_all(workspace, flags={"prepare": {"seed": "7"}})
    chain.run_one(step, workspace, by_hand, {})
    assert standing(step, workspace, plain["prepare"]).state == "done"
    again = resolve_all(workspace, assignments=["prepare.seed=8"])
    assert standing(step, workspace, again["prepare"]).reason == "setting seed: 7 -> 8"


def test_an_operational_setting_makes_nothing_stale(workspace: Workspace) -> None:
    configs = resolve_all(workspace)
    chain.run_chain(workspace, configs, until="prepare")
    (workspace.place("lpm.gguf")).parent.mkdir(parents=True, exist_ok=True)
    operational = configs["dpo-data"].all_operational()
    assert {"port", "slots", "judge_in_flight", "answer_timeout_s"} <= operational
    assert "temperature" not in operational


def test_what_the_owner_gives_is_not_rebuilt(workspace: Workspace) -> None:
    model = workspace.place("merged_model")
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    found = wanted(workspace, resolve_all(workspace), "evaluate")
    assert found["sft-merge"].state == "given"
    assert found["sft-train"].reason == "not needed"
    assert found["sft-gguf"].state == "pending"


def test_what_only_the_owner_can_give_is_asked_for_before_anything_runs(workspace: Workspace) -> None:
    with pytest.raises(MissingInputError, match=r"base_models.*\n.*--demo"):
        chain.run_chain(workspace, resolve_all(workspace))
    assert workspace.find("prompts") is None
