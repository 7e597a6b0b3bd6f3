"""The report's questions: each with its answers and verdicts, what got worse before what got better."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lpm_kernel.owner.facts import Told
from lpm_kernel.proof.evaluation import Trial
from lpm_kernel.proof.figures import SIGNS, Result
from lpm_kernel.proof.numbers import percent
from lpm_kernel.records import Answer, Outcome, Verdict

VERDICTS: dict[Outcome, str] = {
    "first": "Before is better",
    "tie": "A tie",
    "failed": "No verdict",
    "second": "After is better",
}
"""In the order of a question's card."""

RANKS = {outcome: rank for rank, outcome in enumerate(VERDICTS)}


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
    wrong: tuple[str, ...]
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
    rests_on: str
    """The note or the bio's section that decided."""
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
        pairs[Pair(*sides, VERDICTS[verdict.outcome], verdict.reason, verdict.rests_on)] += 1
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
        wrong=tuple(sorted(told.wrong)),
    )
