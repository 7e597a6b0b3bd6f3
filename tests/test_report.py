"""The page is one file that fetches and runs nothing, and its charts can be read on any screen."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from test_gate import ORIGIN, trial

from lpm_kernel.proof.charts import Line, line_chart
from lpm_kernel.proof.evaluation import Trial
from lpm_kernel.proof.gate import GateConfig, decide, measure
from lpm_kernel.proof.report import points, write_report
from lpm_kernel.records import Answer, Outcome

TRAIN, HELD_OUT = "rewards/margins", "eval_rewards/margins"
LOG = [{"step": n, TRAIN: n / 10} for n in range(1, 41)] + [{"step": n, HELD_OUT: n / 20} for n in (20, 40)]
HOSTILE = [
    "</p></div><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!-- ",
    "{{ 7 * 7 }}",
    "</style><b>",
]


class Tags(HTMLParser):
    """Every element of a page, and what a browser would fetch or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[str] = []
        self.fetched: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append(tag)
        self.fetched += [tag] if tag in ("script", "link", "img", "iframe") else []
        self.fetched += [v or "" for name, v in attrs if name in ("src", "href") and not (v or "").startswith("#")]


def page(folder: Path, trials: Sequence[Trial] = (trial(0, "second"),), log: Any = LOG) -> str:
    evaluation = decide(measure(trials, GateConfig(), origin=ORIGIN), GateConfig())
    path, log_path = folder / "report.html", folder / "training_log.json"
    log_path.write_text(json.dumps(log))
    write_report(
        path, evaluation=evaluation, trials=trials, evidence_path=None, prompts_path=None, training_log_path=log_path
    )
    return path.read_text(encoding="utf-8")


def chart(name: str = "margins", label: str = "training pairs", last: float = 2.0) -> str:
    lines = [Line(label, [(10, 0.0), (20, last)]), Line("held-out pairs", [(20, 1.0)])]
    return line_chart(lines, name=name, title="Margins", x_label="updates", y_label="reward margin (nats)")


def texts(svg: str) -> list[str]:
    return [unescape(text) for text in re.findall(r">([^<>]+)</text>", svg)]


def test_the_points_of_a_metric_are_its_finite_values() -> None:
    told = [{"step": 5, TRAIN: 0}, {"step": 10, "loss": 1.0}, {"step": 10, TRAIN: 2.0}]
    untold = [{"step": 15, TRAIN: v} for v in (float("nan"), float("inf"), None, "3", 1e300)] + [{TRAIN: 1.0}, None]
    assert points(told + untold, TRAIN) == [(5, 0.0), (10, 2.0)]
    assert points({}, TRAIN) == points(None, TRAIN) == []


NAN = [{"step": n, TRAIN: float("nan")} for n in range(9)]


@pytest.mark.parametrize("log", [{}, [], LOG[:1], NAN], ids=["no log", "empty", "one point", "no number"])
def test_fewer_than_two_points_make_no_chart(log: Any, tmp_path: Path) -> None:
    assert "<svg" in page(tmp_path)
    assert "<svg" not in page(tmp_path, log=log)


def test_axes_tell_ticks_names_and_unit() -> None:
    assert {"0", "5", "10", "15", "20", "1", "2", "updates", "reward margin (nats)"} <= set(texts(chart()))
    assert "−1" in texts(chart(last=-1.0))  # noqa: RUF001


def test_lines_differ_in_more_than_colour() -> None:
    first, second = (re.findall(f'<path d="[^"]*" style="([^"]*{c}[^"]*)', chart())[0] for c in ("accent", "second"))
    assert "dasharray" not in first
    assert "dasharray" in second
    assert {"training pairs", "held-out pairs"} <= set(texts(chart()))


def test_ink_and_font_are_the_pages() -> None:
    assert not re.findall(r"#[0-9a-f]{6}|font-family|<style|<\?xml|<!DOCTYPE|<metadata", chart())
    assert 'role="img" aria-label="Margins"' in chart()


def test_text_is_legible_on_a_page_of_400_px() -> None:
    found = re.search(r'viewBox="0 0 (\d+) \d+".* font-size="(\d+)"', chart())
    assert found is not None
    assert int(found[2]) * 311 / int(found[1]) >= 11  # 311 px are left of 400 by scroll bar, page and card


def test_two_charts_share_no_id_and_every_reference_is_met() -> None:
    both = chart("one") + chart("two")
    ids = re.findall(r' id="([^"]+)"', both)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r"""(?:href="|url\()#([^")]+)""", both)) == set(ids)


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    assert page(tmp_path) == page(tmp_path)


def test_a_label_is_never_markup_nor_mathematics() -> None:
    label = '<b>$x_1$ & "y"</b>'
    assert label in texts(chart(label=label))


def test_the_page_fetches_and_runs_nothing(tmp_path: Path) -> None:
    assert Tags(page(tmp_path)).fetched == []


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_said_does_not_change_the_elements(text: str, tmp_path: Path) -> None:
    calm = trial(0, "second")
    prompt = calm.prompt.model_copy(update={"reference": text})
    said = [Answer(text=text, finish_reason="stop")]
    verdicts = [calm.verdicts[0].model_copy(update={"reason": text})]
    hostile = replace(calm, prompt=prompt, before=said, after=said, verdicts=verdicts)
    assert Tags(page(tmp_path, [hostile])).all == Tags(page(tmp_path, [calm])).all


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("second", ["better: 1 won, 0 lost", "before · lost", "after · won"]),
        ("first", ["worse: 0 won, 1 lost", "before · won", "after · lost"]),
        ("tie", ["even: 0 won, 0 lost", "after · tie"]),
        ("failed", ["even: 0 won, 0 lost", "after · no verdict"]),
    ],
)
def test_an_outcome_is_told_in_words(outcome: Outcome, words: list[str], tmp_path: Path) -> None:
    text = page(tmp_path, [trial(0, outcome)])
    assert [word for word in words if word not in text] == []


def test_a_figure_that_is_not_known_is_a_dash(tmp_path: Path) -> None:
    assert page(tmp_path, []).count("– → –") == 3  # noqa: RUF001
