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
from typing import Any, get_args

import pytest
from evaluated import change, evaluated, older, shares
from test_gate import ORIGIN, trial
from test_proof_probes import BIO, ITEMS, answers, prompt, tried

from lpm_kernel.files import write_jsonl
from lpm_kernel.owner.facts import Facts, Told
from lpm_kernel.proof.cards import ProbedQuestions, probe_cards
from lpm_kernel.proof.charts import Line, line_chart
from lpm_kernel.proof.evaluation import Evaluation, JudgeIdentity, Model, Models, Origin, Probes, Rule, RuleName, Trial
from lpm_kernel.proof.gate import GateConfig, decide
from lpm_kernel.proof.measuring import measure
from lpm_kernel.proof.numbers import percent
from lpm_kernel.proof.numbers import points as points_told
from lpm_kernel.proof.report import points, write_report
from lpm_kernel.proof.sentences import RULES, sentences
from lpm_kernel.records import Answer, Evidence, Message, Outcome

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


def page(
    folder: Path,
    trials: Sequence[Trial] = (trial(0, "second"),),
    log: Any = (),
    origin: Origin = ORIGIN,
    evaluation: Evaluation | None = None,
    probed: Sequence[ProbedQuestions] = (),
) -> str:
    evaluation = evaluation or decide(measure(trials, origin=origin), GateConfig())
    path, log_path = folder / "report.html", folder / "training_log.json"
    log_path.write_text(json.dumps(log))
    files: dict[str, Path | None] = {"evidence_path": None, "prompts_path": None, "training_log_path": log_path}
    write_report(path, evaluation=evaluation, trials=trials, probed=probed, **files)
    return path.read_text(encoding="utf-8")


def words(html: str) -> str:
    """What is read of a page, in one line."""
    for pattern, space in (
        (r"<(style|script)>.*?</\1>", ""),
        ("</?(?:code|time|bdi|span|b)\\b[^>]*>", ""),
        ("<[^>]*>", " "),
    ):
        html = re.sub(pattern, space, html, flags=re.DOTALL)
    return " ".join(unescape(html).split())


def section(html: str, title: str) -> str:
    """The part of a page under this heading; empty where there is none."""
    found = re.search(f"<section>\n<h2>{title}.*?</section>", html, re.DOTALL)
    return found[0] if found else ""


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
    assert "Margins while training" in page(tmp_path, log=LOG)
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
    assert page(tmp_path, log=LOG) == page(tmp_path, log=LOG)


def test_a_label_is_never_markup_nor_mathematics() -> None:
    label = '<b>$x_1$ & "y"</b>'
    assert label in texts(chart(label=label))


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    assert Tags(page(tmp_path, log=LOG, evaluation=evaluated())).fetched == []


def test_the_pages_policy_allows_its_own_style_and_script_and_nothing_else(tmp_path: Path) -> None:
    text = page(tmp_path, log=LOG, evaluation=evaluated())
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
    assert page(tmp_path, [saying("أين أسكن؟")]).count('dir="auto" lang="ar">أين أسكن؟') >= 4


@pytest.mark.parametrize(
    ("text", "language"),
    [("私の犬の名前は何ですか。", "ja"), ("我的狗叫什么名字？", "zh"), ("Wie heißt mein Hund?", "de")],  # noqa: RUF001
)
def test_texts_of_the_owner_name_their_language(text: str, language: str, tmp_path: Path) -> None:
    assert f'dir="auto" lang="{language}">{text}' in page(tmp_path, [saying(text)])


ANY_ORDER: list[Outcome] = ["second", "tie", "failed", "first", "second", "first"]


def test_what_got_worse_comes_before_what_got_better(tmp_path: Path) -> None:
    text = page(tmp_path, [trial(n, outcome) for n, outcome in enumerate(ANY_ORDER)])
    results = re.findall(r'data-outcome="(\w+)"', text)
    assert results == ["worse", "worse", "better", "better", "same", "unreadable"]


def test_of_what_got_worse_the_question_that_lost_most_facts_comes_first(tmp_path: Path) -> None:
    slight, grave = trial(0, "first", recall=(0.5, 0.4)), trial(1, "first", recall=(0.9, 0.1))
    told = re.findall(r"facts (\d+)", page(tmp_path, [slight, grave]))
    assert told == ["90", "50"]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ("second", ["▲ better", "0 lost, 1 won of 1", "Before ✗ lost", "After ✓ won", "After is better"]),
        ("first", ["▼ worse", "1 lost, 0 won of 1", "Before ✓ won", "After ✗ lost", "Before is better"]),
        ("tie", ["= same", "0 lost, 0 won of 1", "A tie"]),
        ("failed", ["? unreadable", "1 without a verdict", "No verdict"]),
    ],
)
def test_an_outcome_is_told_by_word_and_sign(outcome: Outcome, told: list[str], tmp_path: Path) -> None:
    text = words(page(tmp_path, [trial(0, outcome)]))
    assert [word for word in told if word not in text] == []


def facts(part: str) -> dict[str, list[str]]:
    """What a part of the page tells of facts, by how it calls them."""
    spans = re.findall(r'<span class="facts">(.*?): <bdi[^>]*>(.*?)</bdi></span>', part)
    return {name: told.split(", ") for name, told in spans}


def test_each_answer_has_its_own_score_and_facts(tmp_path: Path) -> None:
    scored = trial(0, "second", recall=(0.1, 0.2))
    verdict = scored.verdicts[0].model_copy(update={"scores": (0.25, 0.75)})
    stray = [replace(scored.facts_before[0], wrong=frozenset(["Graz"]))]
    text = page(tmp_path, [replace(scored, verdicts=[verdict], facts_before=stray)])
    before, after = text.split("<b>Before</b>")[1].split("<b>After</b>")
    assert "score 0.25" in before
    assert facts(before) == {"✓ right": ["0"], "✗ not told": list("123456789"), "! wrong": ["Graz"]}
    assert "score 0.75" in after
    assert facts(after) == {"✓ right": ["0", "1"], "✗ not told": list("23456789")}


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
    text = words(page(tmp_path, origin=origin))
    told = [
        "2026-11-21 09:05 UTC, run 20261121-0905",
        f"a/old.gguf · m · sha256 {'b' * 12}",
        "dpo/lpm.gguf · sha256 ccc",
    ]
    told += ["gpt-4o (openai) at judge.example/v1; a remote host: questions, answers and the bio went there"]
    assert [part for part in [*told, f"Bio sha256 {'d' * 12}"] if part not in text] == []


ON_TEXT = [(ink, on) for ink in ("ink", "soft", "good", "bad", "accent", "second") for on in ("paper", "card")]
IN_BARS = [("card", "good"), ("card", "bad"), ("ink", "line")]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_ink_is_legible_on_every_ground(mode: str, tmp_path: Path) -> None:
    colours = dict(re.findall(r"--(\w+): (#\w+)", re.findall(r":root {(.*)}", page(tmp_path))[mode == "dark"]))
    told = {both: contrast(colours[both[0]], colours[both[1]]) for both in ON_TEXT + IN_BARS}
    assert [both for both, found in told.items() if found < 4.5] == []  # WCAG 2.2, 1.4.3


def test_on_grey_paper_right_and_vague_differ_by_tone_and_wrong_by_its_hatch(tmp_path: Path) -> None:
    html = page(tmp_path)
    colours = dict(re.findall(r"--(\w+): (#\w+)", re.findall(r":root {(.*)}", html)[0]))
    assert contrast(colours["good"], colours["line"]) >= 3  # WCAG 2.2, 1.4.11
    assert ".wrong { fill: url(#hatch)" in html
    assert '<pattern id="hatch"' in html


def contrast(one: str, other: str) -> float:
    """From 1 to 21, as WCAG 2.2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of `#rgb` or `#rrggbb`, as WCAG 2.2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_without_questions_the_page_says_so(tmp_path: Path) -> None:
    text = page(tmp_path, [])
    assert "No question was asked." in text
    assert "Other figures" not in text


def test_a_pair_tells_how_sure_it_is_and_by_what(tmp_path: Path) -> None:
    asked = trial(0, "first").prompt
    answers = (Answer(text="Quark", finish_reason="stop"), Answer(text="a dog", finish_reason="stop"))
    verdict = trial(0, "first").verdicts[0].model_copy(update={"reason": "names the dog"})
    pair = Evidence(
        prompt_id=asked.id, row=0, variant="memory", answers=answers, verdicts=(verdict,), chosen=0, rejected=1,
        dropped=None, confidence=0.93, weighed={"accuracy": 0.98, "votes": 1.33},
    )  # fmt: skip
    write_jsonl(tmp_path / "prompts", [asked])
    write_jsonl(tmp_path / "unsure", [pair.model_copy(update={"confidence": None, "weighed": {}})])
    write_jsonl(tmp_path / "sure", [pair])
    told = {}
    for name in ("sure", "unsure"):
        files = {"evidence_path": tmp_path / name, "prompts_path": tmp_path / "prompts", "training_log_path": None}
        write_report(tmp_path / "report.html", evaluation=evaluated(), trials=[], probed=[], **files)
        told[name] = plain(words((tmp_path / "report.html").read_text(encoding="utf-8")))
    assert "names the dog 93 % sure by accuracy 0.98, votes 1.33" in told["sure"]
    assert "names the dog" in told["unsure"]
    assert "sure by" not in told["unsure"]


# The evaluation ---------------------------------------------------------------------------------------------------

WORSE = shares(change(0.5, 0.6, (0.01, 0.2)), change(0.05, 0.25, (0.1, 0.3)))
UNKNOWN = Rule(name="measurable", holds=False, figure=3, bound=8, reason="Only 3 questions have facts; 8 are needed.")
BROKEN = Rule(name="facts", holds=False, figure=0.3, bound=0.05, reason="Wrong facts may rise by 0.30")


def test_a_better_model_is_told_by_what_it_tells() -> None:
    first, second = sentences(evaluated())
    told = "on 42 questions that it was never trained on it told the right fact in 86 % of the answers, before in 49 %"
    assert plain(first) == f"Your new model is better: {told}."
    assert plain(second).startswith("It told a wrong one in 5 %, before in 5 %; 3 of the 4 rules hold, 1 could")


def test_a_model_that_stays_is_told_by_the_rules_that_are_broken() -> None:
    kept = evaluated(decision="keep", finding="not better", rules=(BROKEN,), answers=WORSE)
    first, second = sentences(kept)
    assert first == "Your model stays as it is, because the new one's right facts may fall or its wrong ones rise."
    told = "it told the right fact in 60 % of the answers, before in 50 %, and a wrong one in 25 %, before in 5 %"
    assert plain(second) == f"On 42 questions that the new one was never trained on {told}."


def test_what_cannot_be_measured_is_told_with_what_would_make_it_so() -> None:
    unexamined = Rule(name="judge", holds=None, figure=None, bound=None, reason="the judge was not examined")
    cures = "Add notes. Have the judge examined: lpm judge exam."
    rules = (BROKEN, UNKNOWN, unexamined)
    unknown = evaluated(decision="keep", finding="cannot be measured", rules=rules, to_measure=cures)
    first, second = sentences(unknown)
    because = "because only 3 questions have facts; 8 are needed, and because the judge was not examined"
    assert first == f"This cannot be measured, {because}."
    cured = "What would make it so: add notes. Have the judge examined: lpm judge exam."
    assert second == f"Until then your model stays as it is. {cured}"


@pytest.mark.parametrize(("decision", "told"), [("promote", "Your new model is better"), ("keep", "Your model stays")])
def test_an_older_evaluation_has_sentences_and_no_empty_part(decision: str, told: str, tmp_path: Path) -> None:
    text = page(tmp_path, evaluation=older(evaluated(decision=decision)))
    assert told in text
    assert "87 % of the facts asked for" in plain(words(text))
    assert [title for title in (*PARTS, "What got worse") if section(text, title)] == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "v2 is better than v1: on 42 questions"),
        (
            {"decision": "keep", "finding": "not better", "rules": (BROKEN,), "answers": WORSE},
            "v2 is not shown to be better than v1, because v2's right facts may fall or its wrong ones rise.",
        ),
        (
            {"decision": "keep", "finding": "cannot be measured", "rules": (UNKNOWN,), "to_measure": "Add notes."},
            "Whether v2 is better than v1 cannot be measured, because only 3 questions have facts; 8 are needed.",
        ),
    ],
)
def test_a_comparison_of_two_models_speaks_of_them_and_of_no_decision(
    more: dict[str, Any], told: str, tmp_path: Path
) -> None:
    html = page(tmp_path, evaluation=evaluated(names=("v1", "v2"), **more))
    head = words(unescape(html).split("<details")[0])
    assert told in plain(head)
    assert re.findall(r"promote|keep the|[Yy]our (?:new )?model|the (?:new|old) one", head) == []


PARTS: dict[str, dict[str, Any]] = {
    "Questions about your notes": {"answers": None},
    "The rules of the decision": {"rules": ()},
    "Where your notes disagree": {"probes": Probes()},
    "Questions that no note of yours answers": {"probes": Probes()},
    "The same questions in other words": {"probes": Probes()},
    "General abilities": {"probes": Probes()},
    "Side by side, and how much of it is length": {"like_length": None},
    "The judge's examination": {"examination": None},
}


@pytest.mark.parametrize("title", PARTS)
def test_what_was_not_measured_is_left_out(title: str, tmp_path: Path) -> None:
    html = page(tmp_path, evaluation=evaluated())
    assert section(unescape(html), title)
    assert not section(unescape(page(tmp_path, evaluation=evaluated(**PARTS[title]))), title)


def test_what_got_worse_is_told_first_on_the_page_and_in_its_part(tmp_path: Path) -> None:
    html = page(tmp_path, evaluation=evaluated(answers=WORSE))
    first = section(html, "What got worse")
    assert html.index(first) < html.index(section(html, "Questions about your notes"))
    told = re.findall(r'class="outcome (\w+)">', section(html, "Questions about your notes"))
    assert told == ["worse", "better", "none"]
    assert "Questions about your notes: answers with a wrong fact 5 % → 25 % +20 points (95 %: +10 to +30)" in plain(
        words(first)
    )
    assert "General abilities: share of an answer that repeats itself 2 % → 3 %" in plain(words(first))


@pytest.mark.parametrize(("bounds", "is_chance"), [((-0.01, 0.2), True), ((0.01, 0.2), False), (None, False)])
def test_a_change_whose_bounds_hold_none_may_be_chance(bounds: Any, is_chance: bool, tmp_path: Path) -> None:
    answers = shares(change(0.5, 0.5), change(0.1, 0.2, bounds))
    told = words(section(page(tmp_path, evaluation=evaluated(answers=answers)), "Questions about your notes"))
    assert ("may be chance" in told) is is_chance


@pytest.mark.parametrize("parts", [(1 / 3, 1 / 3), (0.0, 0.0), (1.0, 0.0), (0.005, 0.0001), (0.615, 0.385)])
def test_stacked_bars_are_side_by_side_and_fill_the_whole(parts: tuple[float, float], tmp_path: Path) -> None:
    answers = shares(change(0.5, parts[0]), change(0.1, parts[1]))
    html = section(page(tmp_path, evaluation=evaluated(answers=answers)), "Questions about your notes")
    for svg in re.findall(r'<svg class="bar".*?</svg>', html, re.DOTALL):
        end = 0.0
        for start, width in re.findall(r'<rect [^>]*x="([\d.]+)%" width="([\d.]+)%"', svg):
            assert float(start) == pytest.approx(end, abs=0.02)
            end = float(start) + float(width)
        assert end == pytest.approx(100, abs=0.02)


def test_every_figure_of_the_shares_stands_on_the_page_in_words(tmp_path: Path) -> None:
    found = evaluated()
    for title, told in (
        ("Questions about your notes", found.answers),
        ("The same questions in other words", found.probes.paraphrase),
    ):
        html = section(page(tmp_path, evaluation=found), title)
        assert told is not None
        for name, figure in (("right", told.right), ("vague", told.vague), ("wrong", told.wrong)):
            assert f"{percent(figure.before)} → {percent(figure.after)}" in html
            assert re.search(f'aria-label="After: [^"]*{name} {percent(figure.after)}', html)


def test_every_figure_of_the_examination_stands_on_the_page(tmp_path: Path) -> None:
    told = plain(words(section(unescape(page(tmp_path, evaluation=evaluated())), "The judge's examination")))
    for figure in ("✓ passed", "160 cases from 40 questions", "96 % (95 %: 92 % to 99 %)", "55 % (95 %: 40 % to 69 %)"):
        assert figure in told
    for figure in ("changed places 2 %", "better 5 %", "one fact exchanged", "right 36, tie 2, wrong 1, no verdict 1"):
        assert figure in told


def test_a_judge_that_was_believed_against_its_examination_is_told_at_the_top(tmp_path: Path) -> None:
    failed = evaluated().examination
    assert failed is not None
    told = {"passed": False, "finding": "failed", "accepted": True, "faults": ("It took the first in 0.93.",)}
    html = page(tmp_path, evaluation=evaluated(examination=failed.model_copy(update=told)))
    assert "--accept-judge" in html.split("<main>")[0]
    assert "It took the first in 0.93." in section(unescape(html), "The judge's examination")


def test_each_rule_has_its_sign_and_its_sentence_and_the_broken_come_first(tmp_path: Path) -> None:
    rules = (*evaluated().rules, BROKEN)
    told = words(section(page(tmp_path, evaluation=evaluated(rules=rules)), "The rules of the decision"))
    signs = re.findall("✗ broken|[?] not measured|✓ holds", told)
    assert signs == ["✗ broken", "? not measured", *["✓ holds"] * 3]
    assert [rule.reason for rule in rules if rule.reason.rstrip(".") not in told] == []


@pytest.mark.parametrize(
    ("share", "told"),
    [(0.0, "0 %"), (0.004, "under 1 %"), (0.0099, "under 1 %"), (0.86, "86 %"), (0.996, "over 99 %"), (1.0, "100 %")],
)
def test_no_share_is_rounded_to_none_or_all(share: float, told: str) -> None:
    assert plain(percent(share)) == told


@pytest.mark.parametrize(("change", "told"), [(-0.004, "0"), (0.0, "0"), (0.374, "+37"), (-0.374, "−37")])  # noqa: RUF001
def test_a_change_that_is_rounded_to_none_has_no_sign(change: float, told: str) -> None:
    assert points_told(change) == told


def test_two_hundred_questions_of_four_answers_fit_in_a_megabyte(tmp_path: Path) -> None:
    def answers(*place: int) -> list[Answer]:
        text = "{}: as long as answers are, with a name or two, in one sentence or in two. " * 2
        return [Answer(text=text.format(*[(*place, n)] * 2), finish_reason="stop") for n in range(4)]

    def four(number: int) -> Trial:
        one = trial(number, "second", recall=(0.1, 0.2))
        verdict = one.verdicts[0].model_copy(update={"reason": "The second tells the name that was asked for."})
        return replace(
            one,
            before=answers(number, 0),
            after=answers(number, 1),
            verdicts=[verdict] * 4,
            facts=frozenset("012"),
            facts_before=one.facts_before * 4,
            facts_after=one.facts_after * 4,
        )

    size = len(page(tmp_path, [four(number) for number in range(200)]).encode())
    assert 400_000 < size < 1_000_000


def plain(text: str) -> str:
    """With breaking spaces."""
    return text.replace("\xa0", " ")


def test_every_rule_of_the_gate_has_its_words() -> None:
    assert set(RULES) == set(get_args(RuleName))


# Probes -----------------------------------------------------------------------------------------------------------

FLAT, PIANO, BOAT = ITEMS[2], prompt("Where is my piano?"), ITEMS[0]
PROBED = probe_cards(
    [
        tried("contested", FLAT, answers("In Patershol.", "In Patershol."), answers("In Ledeberg.", "In Ledeberg.")),
        tried("unanswerable", PIANO, answers("No note says.", "I cannot say."), answers("In Ostend.", "No idea.")),
        tried("unanswerable", prompt("Who is <b>Zed</b>?"), answers("In Lokeren."), answers(HOSTILE[0])),
        tried("contested", BOAT, answers("In Ostend."), answers("In Ostend.")),
        tried("general", prompt("Name a colour."), answers("Blue."), answers("Red.")),
    ],
    Facts(ITEMS, BIO),
)


def test_contested_and_unanswerable_answers_are_shown_apart_with_what_they_tell(tmp_path: Path) -> None:
    html = page(tmp_path, probed=PROBED)
    contested = words(section(html, "Where your notes disagree, question by question"))
    assert "▲ better Where is my flat? right 0 % → 100 % · wrong 100 % → 0 %" in plain(contested)
    assert "(2 of 2 alike)" in contested
    assert "✓ right: ledeberg" in contested.casefold()
    assert "my boat" not in contested  # which nobody contests
    unanswerable = words(section(html, "Questions that no note of yours answers, one by one"))
    assert "▼ worse Where is my piano? wrong 0 % → 50 %" in plain(unanswerable)
    assert unanswerable.index("my piano") < unanswerable.index("<b>Zed</b>")
    assert "! wrong: ostend" in unanswerable.casefold()
    assert "Stored answer" not in unanswerable
    assert "Name a colour." not in html


def test_where_no_probe_was_asked_there_is_no_part_for_it(tmp_path: Path) -> None:
    html = page(tmp_path, probed=probe_cards([], Facts(ITEMS, BIO)))
    assert "question by question" not in html
    assert "one by one" not in html
