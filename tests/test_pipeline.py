"""The table is sound, imports go down only, and only what is stale runs."""

import inspect
import subprocess
import sys

import pytest
from conftest import ROOT
from scripted_server import ScriptedServer

from lpm_kernel.errors import MissingInputError
from lpm_kernel.L2.dpo import utils
from lpm_kernel.pipeline import STEPS, maker_of, step_named
from lpm_kernel.runner import run as chain
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.runner.state import StepState, awaited_inputs, chain_states, state_of
from lpm_kernel.workspace.places import ARTIFACTS, Workspace

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


def test_no_stage_loads_a_heavy_library_before_it_runs() -> None:
    script = "import sys; import lpm_kernel.pipeline; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(loaded.stdout.split()) & HEAVY


def test_every_need_is_given_by_the_owner_or_made_earlier() -> None:
    made = {"merged.json", "global_bio", "base_model"}
    heeded = {artifact for step in STEPS for artifact in step.heeds.values()}
    for step in STEPS:
        assert set(step.needs.values()) <= made
        made |= set(step.makes.values())
    assert not heeded & made
    assert made | heeded == set(ARTIFACTS)


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
    assert state_of(STEPS[0], workspace, configs["prepare"]).name == "pending"
    chain.run_chain(workspace, {**configs}, until="prepare")
    assert state_of(STEPS[0], workspace, configs["prepare"]).name == "done"
    other = resolve_all(workspace, assignments=["prepare.seed=7"])
    assert state_of(STEPS[0], workspace, other["prepare"]).reason == "setting seed: 42 -> 7"
    workspace.place("global_bio").write_text("## New\nAnother bio.")
    assert state_of(STEPS[0], Workspace(workspace.root), configs["prepare"]).reason == "global_bio changed"


def test_a_flag_given_by_hand_stays_until_another_flag(workspace: Workspace) -> None:
    step, plain = STEPS[0], resolve_all(workspace)
    by_hand = resolve_all(workspace, flags={"prepare": {"seed": "7"}})
    chain.run_one(step, workspace, by_hand, {})
    assert state_of(step, workspace, plain["prepare"]).name == "done"
    again = resolve_all(workspace, assignments=["prepare.seed=8"])
    assert state_of(step, workspace, again["prepare"]).reason == "setting seed: 7 -> 8"


def test_an_operational_setting_makes_nothing_stale(workspace: Workspace) -> None:
    def state(*settings: str) -> StepState:
        configs = resolve_all(workspace, assignments=[*usual, *(f"dpo-data.{setting}" for setting in settings)])
        return state_of(step_named("dpo-data"), workspace, configs["dpo-data"])

    with ScriptedServer() as server:
        usual = ["dpo-data.judge=reference", f"dpo-data.endpoint={server.base_url}"]
        chain.run_one(step_named("dpo-data"), workspace, resolve_all(workspace, assignments=usual), {})
    assert {state(s).name for s in ("port=9", "slots=3", "judge_in_flight=2", "answer_timeout_s=7")} == {"done"}
    assert state("temperature=0.2").reason == "setting temperature: 0.7 -> 0.2"


def test_each_stage_takes_the_paths_of_its_row_and_no_others() -> None:
    for step in STEPS:
        parameters = {n: p for n, p in inspect.signature(step.stage.run).parameters.items() if n != "config"}
        roles = {*step.needs, *step.heeds, *step.makes, *step.uses}
        roles |= {"work_path"} if step.resumes else set()
        roles |= {"run_path"} if step.names_run else set()
        assert set(parameters) == roles, step.name
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
        assert {n for n, p in parameters.items() if p.default is None} >= {*step.uses, *step.heeds}
        assert set(step.replaceable) <= set(step.needs)


def test_what_the_owner_gives_is_not_rebuilt(workspace: Workspace) -> None:
    model = workspace.place("merged_model")
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    found = chain_states(workspace, resolve_all(workspace), "evaluate")
    assert found["sft-merge"].name == "given"
    assert found["sft-train"].reason == "not needed"
    assert found["sft-gguf"].name == "pending"


def test_what_only_the_owner_can_give_is_asked_for_before_anything_runs(workspace: Workspace) -> None:
    with pytest.raises(MissingInputError, match=r"base_models.*\n.*--demo"):
        chain.run_chain(workspace, resolve_all(workspace))
    assert workspace.find("prompts") is None


def test_what_rests_on_a_step_to_be_run_again_is_told() -> None:
    done, stale = StepState("done", "made"), StepState("stale", "a setting")
    states = dict.fromkeys((step.name for step in STEPS), done) | {"dpo-merge": stale}
    assert awaited_inputs(states) == {"dpo-gguf": ["dpo_merged_model"], "evaluate": ["dpo_lpm.gguf"]}
    assert awaited_inputs(states | {"dpo-merge": done}) == {}


def test_what_would_run_counts_an_edited_global_bio_before_it_is_written(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.place("global_bio").unlink()
    for bio in ("I keep bees.", "I keep owls."):
        monkeypatch.setattr(utils, "GLOBAL_BIO", bio)
        before = chain_states(workspace, resolve_all(workspace), "prepare")["prepare"]
        chain.run_chain(workspace, resolve_all(workspace), until="prepare")
        after = chain_states(workspace, resolve_all(workspace), "prepare")["prepare"]
        assert (before.must_run, after.must_run) == (True, False)
    assert before.reason == "global_bio changed"
