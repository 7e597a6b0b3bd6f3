"""The page is one file that fetches nothing and runs only what is its own, and what got worse comes first."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from test_gate import ORIGIN, trial

from lpm_kernel.owner.facts import Told
from lpm_kernel.proof.charts import Line, line_chart
from lpm_kernel.proof.evaluation import JudgeIdentity, Model, Models, Origin, Trial
from lpm_kernel.proof.gate import GateConfig, decide
from lpm_kernel.proof.measuring import measure
from lpm_kernel.proof.report import language_of, points, write_report
from lpm_kernel.records import Answer, Message, Outcome

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
        self.fetched += [tag] if tag in ("link", "img", "iframe", "object") else []
        self.fetched += [v or "" for name, v in attrs if name in ("src", "href") and not (v or "").startswith("#")]


MODEL = Model(name="", file="dpo/lpm.gguf", sha256="c" * 64)


def page(folder: Path, trials: Sequence[Trial] = (trial(0, "second"),), log: Any = LOG, origin: Origin = ORIGIN) -> str:
    evaluation = decide(measure(trials, origin=origin), GateConfig())
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
    assert "Margins while training" in page(tmp_path)
    assert "Margins while training" not in page(tmp_path, log=log)


def test_axes_tell_ticks_names_and_unit() -> None:
    assert {"0", "5", "10", "15", "20", "1", "2", "updates", "reward margin (nats)"} <= set(texts(chart()))
    assert "−1" in texts(chart(last=-1.0))  # noqa: RUF001


def test_lines_differ_in_more_than_colour() -> None:
    first, second = (re.findall(f'<path [^>]*stroke="var\\(--{c},[^>]*', chart())[0] for c in ("accent", "second"))
    assert "dasharray" not in first
    assert "dasharray" in second
    assert {"training pairs", "held-out pairs"} <= set(texts(chart()))


def test_ink_and_font_are_the_pages() -> None:
    assert not re.findall(r"#[0-9a-f]{6}|font-family|style|<\?xml|<!DOCTYPE|<metadata", chart())
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


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    assert Tags(page(tmp_path)).fetched == []


def test_the_pages_policy_allows_its_own_style_and_script_and_nothing_else(tmp_path: Path) -> None:
    text = page(tmp_path)
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', unescape(text))
    parts = [re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("style", "script")]
    (style,), (script,) = ([base64.b64encode(hashlib.sha256(p.encode()).digest()).decode() for p in ps] for ps in parts)
    allowed = f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; base-uri 'none'"
    assert policy == [f"{allowed}; form-action 'none'"]
    assert " style=" not in text


def saying(text: str) -> Trial:
    """A trial in which the owner, both models and the judge say it."""
    calm = trial(0, "second")
    asked = (Message(role="user", content=text),)
    prompt = calm.prompt.model_copy(update={"messages": asked, "target": text})
    said = [Answer(text=text, finish_reason="stop")]
    told = [Told(frozenset(), frozenset([text]))]
    verdicts = [calm.verdicts[0].model_copy(update={"reason": text})]
    return replace(
        calm,
        prompt=prompt,
        before=said,
        after=said,
        verdicts=verdicts,
        facts=frozenset([text]),
        facts_before=told,
        facts_after=told,
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_said_does_not_change_the_elements(text: str, tmp_path: Path) -> None:
    assert Tags(page(tmp_path, [saying(text)])).all == Tags(page(tmp_path, [saying("calm")])).all


def test_what_no_one_sees_is_told_by_its_number(tmp_path: Path) -> None:
    text = page(tmp_path, [saying("one\x00\u202etwo\ud800\x1b[31m")])
    assert "one⟨U+0000⟩⟨U+202E⟩two⟨U+D800⟩⟨U+001B⟩[31m" in text
    assert not re.search("[\x00\x1b\u202e]", text)


def test_texts_of_the_owner_choose_their_own_direction(tmp_path: Path) -> None:
    assert page(tmp_path, [saying("أين أسكن؟")]).count('dir="auto" lang="">أين أسكن؟') >= 4


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("わたしの犬の名前は", "ja"),
        ("我的狗叫什么名字 Pixel", "zh"),
        ("제 강아지 이름은 무엇인가요?", "ko"),
        ("What does 犬 mean?", ""),
        ("Wie heißt mein Hund?", ""),
        ("", ""),
    ],
)
def test_the_language_is_told_where_the_script_tells_it(text: str, language: str) -> None:
    assert language_of([text]) == language


ANY_ORDER: list[Outcome] = ["second", "tie", "failed", "first", "second", "first"]


def test_what_got_worse_comes_before_what_got_better(tmp_path: Path) -> None:
    text = page(tmp_path, [trial(n, outcome) for n, outcome in enumerate(ANY_ORDER)])
    results = re.findall(r'data-outcome="(\w+)"', text)
    assert results == ["worse", "worse", "better", "better", "same", "unreadable"]
    forgotten = page(tmp_path, [trial(0, "second", recall=(0.9, 0.5))])
    figures = re.findall(r'class="outcome (\w+)">. \w+</span></span>', forgotten)
    assert figures[:2] == ["worse", "better"]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("second", ["▲ better", "0 lost, 1 won of 1", "Before ✗ lost", "After ✓ won", "After is better"]),
        ("first", ["▼ worse", "1 lost, 0 won of 1", "Before ✓ won", "After ✗ lost", "Before is better"]),
        ("tie", ["= same", "0 lost, 0 won of 1", "A tie"]),
        ("failed", ["? unreadable", "1 without a verdict", "No verdict"]),
    ],
)
def test_an_outcome_is_told_by_word_and_sign(outcome: Outcome, words: list[str], tmp_path: Path) -> None:
    text = " ".join(re.sub(r"<[^>]*>", "", page(tmp_path, [trial(0, outcome)])).split())
    assert [word for word in words if word not in text] == []


def facts(part: str) -> dict[str, list[str]]:
    """What a part of the page tells of facts, by how it calls them."""
    spans = re.findall(r'<span class="facts">(.*?): (.*?)</span>', part)
    return {name: re.findall(r"<bdi[^>]*>(.*?)</bdi>", told) for name, told in spans}


def test_each_answer_has_its_own_score_and_facts(tmp_path: Path) -> None:
    scored = trial(0, "second", recall=(0.1, 0.2))
    verdict = scored.verdicts[0].model_copy(update={"scores": (0.25, 0.75)})
    stray = [replace(scored.facts_before[0], wrong=frozenset(["Graz"]))]
    text = page(tmp_path, [replace(scored, verdicts=[verdict], facts_before=stray)])
    before, after = text.split("<b>Before</b>")[1].split("<b>After</b>")
    assert "score 0.25" in before
    assert facts(before) == {"✓ told": ["0"], "✗ not told": list("123456789"), "! not called for": ["Graz"]}
    assert "score 0.75" in after
    assert facts(after) == {"✓ told": ["0", "1"], "✗ not told": list("23456789")}


def test_pairs_that_are_alike_are_shown_once(tmp_path: Path) -> None:
    one = trial(0, "second")
    thrice = replace(
        one,
        before=one.before * 3,
        after=one.after * 3,
        verdicts=one.verdicts * 3,
        facts_before=one.facts_before * 3,
        facts_after=one.facts_after * 3,
    )
    text = page(tmp_path, [thrice])
    assert text.count("After is better") == 1
    assert "3 of 3 alike" in text


def test_the_page_tells_what_was_compared_by_whom_and_when(tmp_path: Path) -> None:
    models = Models(before=Model(name="m", file="a/old.gguf", sha256="b" * 64), after=MODEL)
    judge = JudgeIdentity(label="gpt-4o", kind="openai", name="n", place="judge.example/v1", is_remote=True)
    finished_at = datetime(2026, 11, 21, 9, 5, 7, tzinfo=UTC)
    origin = Origin(run="20261121-0905", finished_at=finished_at, models=models, judge=judge, bio_sha256="d" * 64)
    text = " ".join(re.sub(r"<[^>]*>", "", page(tmp_path, origin=origin).replace("</dt>", " ")).split())
    told = [
        "2026-11-21 09:05 UTC, run 20261121-0905",
        f"a/old.gguf · m · sha256 {'b' * 12}",
        "dpo/lpm.gguf · sha256 ccc",
    ]
    told += ["gpt-4o (openai) at judge.example/v1; a remote host: questions, answers and the bio went there"]
    assert [words for words in [*told, f"Bio sha256 {'d' * 12}"] if words not in text] == []


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_ink_is_legible_on_every_ground(mode: str, tmp_path: Path) -> None:
    colours = dict(re.findall(r"--(\w+): (#\w+)", re.findall(r":root {(.*)}", page(tmp_path))[mode == "dark"]))
    for ink in ("ink", "soft", "good", "bad", "accent", "second"):
        for ground in ("paper", "card"):
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)  # WCAG 2.2, 1.4.3


def luminance(colour: str) -> float:
    """Relative luminance of `#rgb` or `#rrggbb`, as WCAG 2.2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_without_questions_the_page_says_so(tmp_path: Path) -> None:
    text = page(tmp_path, [])
    assert "No question was asked." in text
    assert text.count("– → –") == 3  # noqa: RUF001
