"""Before against after through the real server: stable keys, a report that needs no network, nothing asked twice."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tiny_gguf import write_tiny_gguf

from lpm_kernel.errors import DataError
from lpm_kernel.files import write_jsonl
from lpm_kernel.L2.evaluate_model import StageConfig, run
from lpm_kernel.owner.items import ItemConfig, read_items
from lpm_kernel.proof.report import curve

CONFIG = StageConfig.model_validate({"judge": "reference", "samples": 2, "max_tokens": 8, "slots": 4, "port": 18080})
Made = dict[str, Path]


@pytest.fixture
def evaluated(tmp_path: Path, merged_path: Path, bio_path: Path) -> Made:
    """Two random models on ten questions; the first question tries to break out of the page."""
    questions, _ = read_items(merged_path, ItemConfig())
    hostile = questions[0].model_copy(update={"target": "<script>alert('Trieste')</script>"})
    write_jsonl(tmp_path / "held_out", [hostile, *questions[1:10]])
    for seed, name in enumerate(("before", "after")):
        write_tiny_gguf(tmp_path / name, seed)
    made = {"evaluation_path": tmp_path / "evaluation.json", "report_path": tmp_path / "report.html"}
    run(
        CONFIG,
        before_gguf_path=tmp_path / "before",
        after_gguf_path=tmp_path / "after",
        held_out_path=tmp_path / "held_out",
        bio_path=bio_path,
        work_path=tmp_path,
        **made,
    )
    return made


class Links(HTMLParser):
    """Collects what a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in ("script", "link", "img", "iframe") else []
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_evaluation_and_its_page(evaluated: Made) -> None:
    evaluation = json.loads(evaluated["evaluation_path"].read_text())
    wins = evaluation["win_rate"]
    assert wins["after_wins"] + wins["before_wins"] + wins["ties"] + wins["invalid"] == 10 * 2
    assert evaluation["decision"] == "keep"
    page = evaluated["report_path"].read_text()
    links = Links()
    links.feed(page)
    assert links.found == []
    assert "keep the old model" in page and "&lt;script&gt;" in page


def test_without_questions_there_is_no_evaluation(tmp_path: Path, bio_path: Path) -> None:
    (tmp_path / "held_out").write_text("")
    names = ("before_gguf_path", "after_gguf_path", "evaluation_path", "report_path", "work_path")
    with pytest.raises(DataError, match="no question"):
        run(CONFIG, held_out_path=tmp_path / "held_out", bio_path=bio_path, **{name: tmp_path / name for name in names})


def test_a_curve_runs_from_its_first_to_its_last_value() -> None:
    log = [{"step": 5, "rewards/margins": 0.0}, {"step": 10, "loss": 1.0}, {"step": 10, "rewards/margins": 2.0}]
    drawn = curve(log, "rewards/margins")
    assert drawn is not None
    assert (drawn.low, drawn.high, drawn.last_step, drawn.path.count("L")) == (0.0, 2.0, 10, 1)
    assert curve(log[:1], "rewards/margins") is None
    assert curve({}, "rewards/margins") is None
