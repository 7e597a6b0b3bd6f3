"""The report's figures: each measure before and after as a line, shares as bars, what got worse first."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

from lpm_kernel.proof.evaluation import AnswerShares, Change, Evaluation, General, Probes, Steering, WinRate
from lpm_kernel.proof.numbers import between, number, percent, points, signed, signed_whole, tenths, whole
from lpm_kernel.records import CasesJudged, Examination, Interval

Result = Literal["worse", "better", "same", "unreadable"]

SIGNS: dict[Result, str] = {"worse": "▼", "better": "▲", "same": "=", "unreadable": "?"}
"""In the order of the page; the sign tells a result to who sees no colour."""

Wanted = Literal["more", "less"]

LEGIBLE = 0.12
"""Least share of a bar that has room for its number."""

EVEN = 0.5
"""Where a win rate says nothing, and where a judge that guesses stands."""


@dataclass(frozen=True)
class Unit:
    """How a measure and its change are written."""

    value: Callable[[float], str]
    change: Callable[[float], str]
    of_change: str = ""


SHARE, COUNT, CHARACTERS = Unit(percent, points, " points"), Unit(number, signed), Unit(whole, signed_whole)
LIFT = Unit(tenths, tenths, " points")


@dataclass(frozen=True)
class Figure:
    """One measure of both models."""

    name: str
    before: str
    after: str
    change: str
    """With its 95 % bounds, where there are any."""
    result: Result | None = None
    """None where neither more nor less is better."""
    may_be_chance: bool = False
    """It changed, and the bounds of the change hold none."""


@dataclass(frozen=True)
class Value:
    """One measure that has no before and after."""

    name: str
    shown: str


@dataclass(frozen=True)
class Part:
    """A share of a bar; start and width in percent of it."""

    css: str
    start: float
    width: float
    shown: str
    """Its number, where there is room for it."""


@dataclass(frozen=True)
class Whisker:
    """95 % bounds, in percent of the bar."""

    css: str
    start: float
    end: float


@dataclass(frozen=True)
class Bar:
    """Shares of a whole."""

    name: str
    told: str
    """All of it in words."""
    parts: list[Part]
    whiskers: list[Whisker] = field(default_factory=list)
    mark: float | None = None
    """A line across, in percent of the bar."""
    is_told: bool = True
    """Whether the words stand beside it; they are read to who cannot see it in any case."""


@dataclass(frozen=True)
class Section:
    """What belongs together."""

    title: str
    about: str
    bars: list[Bar] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    legend: dict[str, str] = field(default_factory=dict)
    """Of the bars: class -> word."""


# What was measured ------------------------------------------------------------------------------------------------

ANSWERS = {"right": "right", "vague": "vague", "wrong": "wrong"}
TELLING: dict[str, tuple[str, Wanted | None]] = {
    "right": ("answers with the right fact", "more"),
    "vague": ("answers without any fact", None),
    "wrong": ("answers with a wrong fact", "less"),
}
VERSIONS = {"right": "the bio's version", "wrong": "the other version"}
KINDS: dict[str, str] = {
    "other_note": "its note's answer against another note's",
    "vague": "a right answer against a vague one",
    "exchanged": "the same answer with one fact exchanged",
    "long_wrong": "a short right answer against a long wrong one",
    "long_right": "a long right answer against a short wrong one",
    "paraphrase": "two right answers: a tie is best, and the choice no fault",
}
"""The cases of a judge's examination."""
CASES = {"right": "right", "vague": "tie", "wrong": "wrong", "failed": "no verdict"}


def held_out(evaluation: Evaluation) -> Section | None:
    """What the answers to the questions that nothing was trained on tell."""
    if evaluation.answers is None:
        return None
    about = "They were left out of the training, and each answer is compared with what the note says."
    return _telling("Questions about your notes", about, evaluation.answers)


def probed(probes: Probes) -> list[Section]:
    """The other kinds of question, each apart."""
    sections = (
        _steering(probes.contested),
        _telling(
            "Questions that no note of yours answers",
            "There is no right answer: the model should say that it does not know, and not tell another note's facts.",
            probes.unanswerable,
            ("vague", "wrong"),
        ),
        _telling(
            "The same questions in other words",
            "Questions that were trained on, asked in another wording.",
            probes.paraphrase,
        ),
        _general(probes.general),
    )
    return [section for section in sections if section]


def length(evaluation: Evaluation) -> Section:
    """Wins side by side, over all comparisons and over those of answers of like length."""
    about = (
        "The judge saw an answer of the old and one of the new model to the same question, without knowing which is"
        " which; at the line across, one half, neither is better."
    )
    alike, corrected = evaluation.like_length, evaluation.corrected
    about += " Of like length: without what the judge gives to longer or to shorter answers." if alike else ""
    about += " Known errors: those that the judge made in its examination." if corrected else ""
    title = "Side by side, and how much of it is length" if alike else "Side by side"
    bars = [
        _rate("As judged", evaluation.win_rate.rate, evaluation.win_rate.ci95, after=f"; {_wins(evaluation.win_rate)}"),
        alike and _rate("If the answers were of like length", alike.rate, alike.ci95),
        corrected and _rate("Without the judge's known errors", corrected.rate, corrected.ci95),
    ]
    values = (
        [
            ("comparisons in which the new answer is the longer one, equal ones as half", percent, alike.after_longer),
            ("wins of the longer answer, where facts do not decide", percent, alike.longer_wins),
            ("comparisons that the facts told decide as the judge did", whole, alike.by_facts),
        ]
        if alike
        else []
    )
    return Section(title, about, [bar for bar in bars if bar], values=_values(values))


def examined(found: Examination) -> list[Section]:
    """What the judge is worth: as rates against one half, and by kind of case."""
    rates = (
        _rate("Better answer told", found.accuracy, found.accuracy_ci95),
        _rate("Longer of two right answers taken", found.longer, found.longer_ci95, css="neutral"),
        _rate("Answer shown first taken", found.first_place, found.first_place_ci95, css="neutral"),
    )
    values = (
        ("comparisons decided otherwise when the two answers changed places", percent, found.flips),
        ("ties where one answer was better", percent, found.ties),
        ("comparisons without a verdict", percent, found.failed),
    )
    known = [kind for kind in KINDS if kind in found.kinds]
    kinds = [_cases(KINDS.get(kind, kind), found.kinds[kind]) for kind in dict.fromkeys([*known, *found.kinds])]
    return [
        Section("", "", [bar for bar in rates if bar], values=_values(values)),
        Section("By kind of case", "", kinds, legend=CASES),
    ]


def others(evaluation: Evaluation) -> Section:
    """The measures that decide little by themselves."""
    recall, stray = evaluation.fact_recall, evaluation.stray_facts
    retained, fidelity = evaluation.update_retained, evaluation.fidelity
    recalled = Change(before=recall.before, after=recall.after, ci95_delta=recall.ci95_delta)
    figures = _figures(
        (
            ("facts told of those asked for", recalled, SHARE, "more"),
            ("wrong facts an answer", stray, COUNT, "less"),
            ("wins by your bio minus wins by a stranger's, in points", evaluation.personalisation_lift, LIFT, "more"),
        )
    )
    left = retained.projection if retained else None
    alike = fidelity.greedy_equal if fidelity else None
    values = _values(
        (
            ("of what the training changed, left in the stored weights", percent, left),
            ("answers that the served file and the trained model give alike", percent, alike),
        )
    )
    return Section("Other figures", "", figures=figures, values=values)


def got_worse(sections: Iterable[Section]) -> list[tuple[str, Figure]]:
    """Of all measures, each with the title of its section."""
    return [(part.title, figure) for part in sections for figure in part.figures if figure.result == "worse"]


def _telling(
    title: str, about: str, shares: AnswerShares | None, possible: Sequence[str] = tuple(ANSWERS)
) -> Section | None:
    if shares is None:
        return None
    told = {kind: getattr(shares, kind) for kind in possible}
    figures = _figures((TELLING[kind][0], change, SHARE, TELLING[kind][1]) for kind, change in told.items())
    words = {kind: ANSWERS[kind] for kind in possible}
    return Section(title, _asked(about, shares.questions), _stacks(told, words), figures, legend=words)


def _steering(steering: Steering | None) -> Section | None:
    if steering is None:
        return None
    bios = steering.bios_version
    bounds = bios.ci95_delta and (-bios.ci95_delta[1], -bios.ci95_delta[0])
    other = Change(before=_rest(bios.before), after=_rest(bios.after), ci95_delta=bounds)
    figures = _figures(
        (
            ("answers with your bio's version, of those that tell one", bios, SHARE, "more"),
            ("answers that tell one of the two versions", steering.told, SHARE, "more"),
        )
    )
    about = "Your notes tell two versions of a fact, and your bio confirms one of them: does the model follow your bio?"
    bars = _stacks({"right": bios, "wrong": other}, VERSIONS)
    return Section("Where your notes disagree", _asked(about, steering.questions), bars, figures, legend=VERSIONS)


def _general(general: General | None) -> Section | None:
    if general is None:
        return None
    figures = _figures(
        (
            ("answers in the language of the question", general.language, SHARE, "more"),
            ("share of an answer that repeats itself", general.repetition, SHARE, "less"),
            ("answers that are empty, cut or refuse", general.refusals, SHARE, "less"),
            ("characters an answer", general.length, CHARACTERS, None),
        )
    )
    about = "Instructions that have nothing to do with you: what any model should still do."
    return Section("General abilities", _asked(about, general.questions), figures=figures)


# Lines ------------------------------------------------------------------------------------------------------------


def _figures(rows: Iterable[tuple[str, Change, Unit, Wanted | None]]) -> list[Figure]:
    """Those that were measured, what got worse first."""
    figures = [_figure(*row) for row in rows if row[1].before is not None and row[1].after is not None]
    return sorted(figures, key=lambda figure: figure.result != "worse")


def _values(rows: Iterable[tuple[str, Callable[[float], str], float | None]]) -> list[Value]:
    """Those that were measured."""
    return [Value(name, shown(value)) for name, shown, value in rows if value is not None]


def _figure(name: str, change: Change, unit: Unit, wanted: Wanted | None) -> Figure:
    assert change.before is not None
    assert change.after is not None
    bounds = change.ci95_delta
    by = unit.change(change.after - change.before) + unit.of_change
    result = _result(unit.value(change.before), unit.value(change.after), change.after > change.before, wanted)
    return Figure(
        name=name,
        before=unit.value(change.before),
        after=unit.value(change.after),
        change=f"{by} ({between(bounds, unit.change)})" if bounds else by,
        result=result,
        may_be_chance=bounds is not None and result in ("better", "worse") and bounds[0] <= 0 <= bounds[1],
    )


def _result(before: str, after: str, is_more: bool, wanted: Wanted | None) -> Result | None:
    """The same where the page shows the same."""
    if wanted is None:
        return None
    if before == after:
        return "same"
    return "better" if is_more == (wanted == "more") else "worse"


# Bars -------------------------------------------------------------------------------------------------------------


def _stacks(told: dict[str, Change], words: dict[str, str]) -> list[Bar]:
    """The same shares before and after, where all of them are known."""
    bars = []
    for side, whiskers in (("before", []), ("after", _whiskers(told))):
        shares = {kind: getattr(change, side) for kind, change in told.items()}
        if None not in shares.values():
            spoken = ", ".join(f"{words[kind]} {percent(share)}" for kind, share in shares.items())
            bars.append(Bar(side.capitalize(), spoken, _parts(shares), whiskers, is_told=False))
    return bars


def _parts(shares: dict[str, float]) -> list[Part]:
    """Side by side from 0 to 100 %."""
    ends = [100 * end for end in accumulate(shares.values())]
    starts = [0.0, *ends]
    return [
        Part(css, round(start, 2), round(end - start, 2), percent(share) if share >= LEGIBLE else "")
        for (css, share), start, end in zip(shares.items(), starts, ends, strict=False)
        if share > 0
    ]


def _whiskers(told: dict[str, Change]) -> list[Whisker]:
    """How far the first and the last share of the bar after could be off; the last is counted from its end."""
    (first, start), *_, (last, end) = told.items()
    after, rest = _bounds_after(start), _bounds_after(end)
    return [
        *([_whisker(first, after)] if after and after[0] < after[1] else []),
        *([_whisker(last, (1 - rest[1], 1 - rest[0]))] if rest and rest[0] < rest[1] else []),
    ]


def _bounds_after(change: Change) -> Interval | None:
    """The share after, as far as the bounds of the change tell it."""
    if change.before is None or change.ci95_delta is None:
        return None
    return change.before + change.ci95_delta[0], change.before + change.ci95_delta[1]


def _whisker(css: str, bounds: Interval) -> Whisker:
    low, high = (round(100 * min(1.0, max(0.0, bound)), 2) for bound in bounds)
    return Whisker(css, low, high)


def _rate(name: str, rate: float | None, bounds: Interval | None, *, after: str = "", css: str = "right") -> Bar | None:
    """One share of a whole against one half; None when it is not known."""
    if rate is None:
        return None
    told = f"{percent(rate)} ({between(bounds, percent)})" if bounds else percent(rate)
    whiskers = [_whisker(css, bounds)] if bounds else []
    parts = [replace(part, shown="") for part in _parts({css: rate, "rest": 1 - rate})]
    return Bar(name, told + after, parts, whiskers, 100 * EVEN)


def _wins(wins: WinRate) -> str:
    counts = f"{wins.after_wins} won, {wins.ties} tied, {wins.before_wins} lost"
    return f"{counts}, {wins.invalid} without a verdict" if wins.invalid else counts


def _cases(name: str, cases: CasesJudged) -> Bar:
    counts = {"right": cases.right, "vague": cases.tied, "wrong": cases.wrong, "failed": cases.failed}
    told = ", ".join(f"{CASES[css]} {count}" for css, count in counts.items() if count)
    total = sum(counts.values())
    return Bar(
        name.replace("_", " "), told, _parts({css: count / total for css, count in counts.items()} if total else {})
    )


def _asked(about: str, questions: int) -> str:
    return f"{about} {questions} question{'' if questions == 1 else 's'}."


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share
