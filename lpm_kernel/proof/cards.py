"""The report's cards: each figure and each question, what got worse before what got better."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lpm_kernel.owner.facts import Told
from lpm_kernel.proof.evaluation import Evaluation, Trial
from lpm_kernel.records import Answer, Outcome, Verdict

Result = Literal["worse", "better", "same", "unreadable"]

SIGNS: dict[Result, str] = {"worse": "▼", "better": "▲", "same": "=", "unreadable": "?"}
"""In the order of the page; the sign tells a result to who sees no colour."""

VERDICTS: dict[Outcome, str] = {
    "first": "Before is better",
    "tie": "A tie",
    "failed": "No verdict",
    "second": "After is better",
}
"""In the order of a question's card."""

RANKS = {outcome: rank for rank, outcome in enumerate(VERDICTS)}


@dataclass(frozen=True)
class Figure:
    """One measure, as a card."""

    name: str
    value: str
    about: str
    result: Result | None = None
    shares: tuple[int, int, int] | None = None
    """Comparisons that the new model lost, tied and won."""


@dataclass(frozen=True)
class Side:
    """One model's answer, as half of a pair."""

    text: str
    result: str
    score: float | None
    is_cut: bool
    told: tuple[str, ...]
    """Of the facts asked for."""
    missing: tuple[str, ...]
    strays: tuple[str, ...]
    """Wrong facts."""

    @property
    def css(self) -> str:
        """won, lost, or nothing."""
        return self.result.rpartition(" ")[2]


@dataclass(frozen=True)
class Pair:
    """An answer of each model, and what the judge said of the two."""

    before: Side
    after: Side
    verdict: str
    reason: str
    count: int = 1
    """So many pairs of the question are alike."""


@dataclass(frozen=True)
class Question:
    """All that became of one question."""

    text: str
    target: str
    facts: list[str]
    result: Result
    told: str
    """The result in numbers."""
    pairs: list[Pair]
    count: int
    """Of pairs, with those that are alike."""


# Figures ----------------------------------------------------------------------------------------------------------


def figure_cards(evaluation: Evaluation) -> list[Figure]:
    """What got worse first, else in the order of its weight."""
    return sorted(_figures(evaluation), key=lambda figure: figure.result != "worse")


def _figures(evaluation: Evaluation) -> Iterator[Figure]:
    recall, wins, retained = evaluation.fact_recall, evaluation.win_rate, evaluation.update_retained
    bounds = recall.ci95_delta
    yield Figure(
        "Fact recall, before → after",
        f"{percent(recall.before)} → {percent(recall.after)}",
        f"change, 95 %: {signed(bounds[0])} to {signed(bounds[1])}" if bounds else "too few questions for bounds",
        _result(recall.before, recall.after),
    )
    told = f"{wins.before_wins} lost, {wins.ties} tied, {wins.after_wins} won, {wins.invalid} without a verdict"
    yield Figure(
        "Win rate against before",
        percent(wins.rate),
        f"{told}; 95 %: {percent(wins.ci95[0])} to {percent(wins.ci95[1])}" if wins.ci95 else told,
        _result(0.5, wins.rate),
        (wins.before_wins, wins.ties, wins.after_wins) if wins.rate is not None else None,
    )
    strays = evaluation.stray_facts
    yield Figure(
        "Stray facts an answer, before → after",
        f"{number(strays.before)} → {number(strays.after)}",
        "facts of another note, refuted by the bio, or invented",
        _result(strays.after, strays.before),
    )
    lift = evaluation.personalisation_lift
    yield Figure(
        "Personalisation lift, before → after",
        f"{signed(lift.before)} → {signed(lift.after)}",
        "wins by the owner's bio minus wins by a stranger's",
        _result(lift.before, lift.after),
    )
    if retained and retained.projection is not None:
        yield Figure("Update that survived rounding", f"{retained.projection:.1%}", "projection on the intended update")
    if evaluation.fidelity and evaluation.fidelity.greedy_equal is not None:
        about = "greedy answers equal; template and token ids equal in all"
        yield Figure("Served equals trained", percent(evaluation.fidelity.greedy_equal), about)


def _result(low: float | None, high: float | None) -> Result | None:
    """Better where `high` exceeds `low`, to the two digits that the page shows; None where one is not known."""
    if low is None or high is None:
        return None
    change = round(high, 2) - round(low, 2)
    return "better" if change > 0 else "worse" if change < 0 else "same"


# Questions --------------------------------------------------------------------------------------------------------


def question_cards(trials: Sequence[Trial]) -> list[Question]:
    """The worst first."""
    return [_question(trial) for trial in sorted(trials, key=_worst_first)]


def _counts(trial: Trial) -> Counter[Outcome]:
    return Counter(verdict.outcome for verdict in trial.verdicts)


def _result_of(trial: Trial) -> Result:
    """By the more frequent verdict."""
    counts = _counts(trial)
    if counts["failed"] == counts.total():
        return "unreadable"
    lead = counts["second"] - counts["first"]
    return "better" if lead > 0 else "worse" if lead < 0 else "same"


def _worst_first(trial: Trial) -> tuple[int, int, float]:
    """By result; within one by how clear it is, then by how much the recall fell."""
    counts, recall = _counts(trial), trial.recall or (0.0, 0.0)
    return list(SIGNS).index(_result_of(trial)), -abs(counts["second"] - counts["first"]), recall[1] - recall[0]


def _question(trial: Trial) -> Question:
    counts = _counts(trial)
    told = f"{counts['first']} lost, {counts['second']} won of {counts.total()}"
    if counts["failed"]:
        told += f", {counts['failed']} without a verdict"
    if trial.recall:
        told += f" · facts {percent(trial.recall[0])} → {percent(trial.recall[1])}"
    return Question(
        text=trial.prompt.user,
        target=trial.prompt.target,
        facts=sorted(trial.facts),
        result=_result_of(trial),
        told=told,
        pairs=_pairs(trial),
        count=counts.total(),
    )


def _pairs(trial: Trial) -> list[Pair]:
    """Equal ones once; what got worse first."""
    told = zip(trial.verdicts, trial.before, trial.after, trial.facts_before, trial.facts_after, strict=True)
    pairs: Counter[Pair] = Counter()
    for verdict, before, after, facts_before, facts_after in sorted(told, key=lambda row: RANKS[row[0].outcome]):
        sides = _side(before, verdict, 0, facts_before, trial.facts), _side(after, verdict, 1, facts_after, trial.facts)
        pairs[Pair(*sides, VERDICTS[verdict.outcome], verdict.reason)] += 1
    return [replace(pair, count=count) for pair, count in pairs.items()]


def _side(answer: Answer, verdict: Verdict, place: int, told: Told, facts: frozenset[str]) -> Side:
    """`place` is 0 for before, 1 for after."""
    winner = {"first": 0, "second": 1}.get(verdict.outcome)
    return Side(
        text=answer.text,
        result="" if winner is None else "✓ won" if winner == place else "✗ lost",
        score=verdict.scores[place] if verdict.scores else None,
        is_cut=answer.finish_reason == "length",
        told=tuple(sorted(told.right & facts)),
        missing=tuple(sorted(facts - told.right)),
        strays=tuple(sorted(told.wrong)),
    )


# Numbers ------------------------------------------------------------------------------------------------------------


def percent(share: float | None) -> str:
    """49%, or a dash for what is not known."""
    return "–" if share is None else f"{share:.0%}"  # noqa: RUF001


def signed(value: float | None) -> str:
    """+0.04, or a dash."""
    return "–" if value is None else f"{value:+.2f}"  # noqa: RUF001


def number(value: float | None) -> str:
    """0.04, or a dash."""
    return "–" if value is None else f"{value:.2f}"  # noqa: RUF001
