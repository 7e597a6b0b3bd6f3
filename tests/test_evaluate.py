"""Before against after through the real server: stable keys, a report that needs no network, nothing asked twice."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import Lpm
from test_report import Tags
from tiny_gguf import write_tiny_gguf

from lpm_kernel.errors import DataError
from lpm_kernel.files import read_record, write_jsonl
from lpm_kernel.L2.evaluate_model import StageConfig, run
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.pipeline import step_named
from lpm_kernel.proof.evaluation import Evaluation
from lpm_kernel.records import Probe, ProbeKind
from lpm_kernel.runner.run import run_one
from lpm_kernel.runner.settings import resolve_all
from lpm_kernel.workspace.places import Workspace

CONFIG = StageConfig.model_validate({"judge": "reference", "samples": 2, "max_tokens": 8, "slots": 4, "port": 18080})
Made = dict[str, Path]


@pytest.fixture
def evaluated(tmp_path: Path, merged_path: Path, bio_path: Path) -> Made:
    """Two random models on ten questions; the first question tries to break out of the page."""
    questions, _ = read_items(merged_path, ItemConfig())
    hostile = questions[0].model_copy(update={"target": "<script>alert('Trieste')</script>"})
    write_jsonl(tmp_path / "held_out", [hostile, *questions[1:10]])
    write_jsonl(tmp_path / "items", questions)
    kinds: tuple[ProbeKind, ...] = ("paraphrase", "general", "unanswerable", "general")
    asked = [Probe(kind=kind, prompt=prompt) for kind, prompt in zip(kinds, questions[10:14], strict=True)]
    write_jsonl(tmp_path / "probes", asked)
    for seed, name in enumerate(("before", "after")):
        write_tiny_gguf(tmp_path / name, seed)
    return evaluate(tmp_path, bio_path)


def evaluate(folder: Path, bio_path: Path) -> Made:
    """On what the folder holds."""
    made = {"evaluation_path": folder / "evaluation.json", "report_path": folder / "report.html"}
    run(
        CONFIG,
        before_gguf_path=folder / "before",
        after_gguf_path=folder / "after",
        held_out_path=folder / "held_out",
        items_path=folder / "items",
        probes_path=folder / "probes",
        bio_path=bio_path,
        work_path=folder,
        run_path=folder / "20261121-090000-abcd",
        **made,
    )
    return made


def test_the_evaluation_and_its_page(evaluated: Made) -> None:
    evaluation = json.loads(evaluated["evaluation_path"].read_text())
    wins = evaluation["win_rate"]
    assert wins["after_wins"] + wins["before_wins"] + wins["ties"] + wins["invalid"] == 10 * 2
    assert evaluation["decision"] == "keep"
    page = evaluated["report_path"].read_text()
    assert Tags(page).fetched == []
    assert "keep the old model" in page
    assert "&lt;script&gt;" in page


def test_the_probes_are_asked_of_both_models_and_counted_apart(evaluated: Made) -> None:
    evaluation = json.loads(evaluated["evaluation_path"].read_text())
    counts = {kind: found and found["questions"] for kind, found in evaluation["probes"].items()}
    assert counts == {"contested": None, "unanswerable": 1, "paraphrase": 1, "general": 2}
    assert evaluation["prompts"] == 10
    cut = evaluation["probes"]["general"]["refusals"]
    assert (cut["before"], cut["after"]) == (1, 1)


def test_the_evaluation_names_what_was_compared_by_whom_and_when(evaluated: Made, tmp_path: Path) -> None:
    evaluation = json.loads(evaluated["evaluation_path"].read_text())
    sums = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("before", "after", "bio.md")}
    assert evaluation["run"] == "20261121-090000-abcd"
    assert 0 <= (datetime.now(UTC) - datetime.fromisoformat(evaluation["finished_at"])).total_seconds() < 600
    for side in ("before", "after"):
        file = f"{tmp_path.name}/{side}"
        assert evaluation["models"][side] == {"name": "tiny", "file": file, "sha256": sums[side]}
    assert evaluation["bio_sha256"] == sums["bio.md"]
    judge = {key: evaluation["judge"][key] for key in ("label", "kind", "place", "is_remote")}
    assert judge == {"label": "reference", "kind": "reference", "place": "", "is_remote": False}


def test_a_model_whose_answers_are_all_there_is_not_served_again(
    evaluated: Made, tmp_path: Path, bio_path: Path
) -> None:
    first = read_record(evaluated["evaluation_path"], Evaluation)
    for side in ("before", "after"):
        (tmp_path / f"{side}.log").unlink()
    again = read_record(evaluate(tmp_path, bio_path)["evaluation_path"], Evaluation)
    assert again == first.model_copy(update={"finished_at": again.finished_at})
    assert list(tmp_path.glob("*.log")) == []


def test_without_questions_there_is_no_evaluation(tmp_path: Path, bio_path: Path) -> None:
    (tmp_path / "held_out").write_text("")
    (tmp_path / "items_path").write_text("")
    names = ("before_gguf_path", "after_gguf_path", "items_path", "evaluation_path", "report_path", "work_path")
    with pytest.raises(DataError, match="no question"):
        run(CONFIG, held_out_path=tmp_path / "held_out", bio_path=bio_path, **{name: tmp_path / name for name in names})


@pytest.fixture
def two_models(workspace: Workspace) -> dict[str, str]:
    """The owner's SFT model and a candidate, both random; the settings under which they are compared quickly."""
    for seed, name in enumerate(("lpm.gguf", "dpo_lpm.gguf")):
        workspace.place(name).parent.mkdir(parents=True, exist_ok=True)
        write_tiny_gguf(workspace.place(name), seed)
    usual = {"LPM_JUDGE": "reference", "LPM_EVALUATE_SAMPLES": "1", "LPM_MAX_TOKENS": "8"}
    return {**usual, "LPM_PREPARE_HELD_OUT_SHARE": "0.4", "LPM_WORKSPACE": str(workspace.root)}


def test_any_two_models_are_compared_and_nothing_is_promoted_by_it(
    workspace: Workspace, lpm: Lpm, two_models: dict[str, str]
) -> None:
    done = lpm("compare", "sft", "candidate", env=two_models)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    assert "whether candidate is better than sft cannot be measured" in told
    assert "✗ measurable" in told
    assert "whether candidate is better than sft cannot be measured" in done.stderr
    assert "decision" not in done.stderr
    assert (workspace.comparison_path("sft", "candidate") / "report.html").is_file()
    assert not workspace.find("evaluation.json")
    assert lpm("compare", "sft", "sft", env=two_models).returncode == 64


def test_keep_is_exit_code_1_where_a_promotion_is_required_after_all_is_written(
    workspace: Workspace, lpm: Lpm, two_models: dict[str, str]
) -> None:
    done = lpm("run", "evaluate", "--require-promote", env=two_models)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(workspace.place("evaluation.json").read_text())["decision"] == "keep"
    assert workspace.place("report.html").is_file()
    assert lpm("run", "evaluate", env=two_models).returncode == 0
    assert lpm("pipeline", "--require-promote", "--until", "dpo-data", env=two_models).returncode == 64


def test_the_evaluation_names_the_run_whose_log_tells_of_it(workspace: Workspace, tmp_path: Path) -> None:
    settings = ["judge=reference", "samples=1", "max_tokens=4", "slots=4", "port=18080"]
    configs = resolve_all(workspace, assignments=[f"evaluate.{setting}" for setting in settings])
    ggufs = {
        f"{name}_gguf_path": write_tiny_gguf(tmp_path / name, seed) for seed, name in enumerate(("before", "after"))
    }
    run_one(step_named("evaluate"), workspace, configs, ggufs)
    evaluation = json.loads(workspace.place("evaluation.json").read_text())
    assert "decision: keep" in (workspace.runs_path / evaluation["run"] / "log.txt").read_text()
