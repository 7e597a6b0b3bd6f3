"""The report's questions, each with its answers and what was said of them, what got worse before what got better."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lpm_kernel.chance import mean
from lpm_kernel.owner.facts import Facts, Measure, Told
from lpm_kernel.proof.evaluation import Trial
from lpm_kernel.proof.figures import SIGNS, Result
from lpm_kernel.proof.numbers import percent
from lpm_kernel.proof.probes import Tried
from lpm_kernel.records import Answer, Outcome, ProbeKind, Verdict

VERDICTS: dict[Outcome, str] = {
    "first": "Before is better",
    "tie": "A tie",
    "failed": "No verdict",
    "second": "After is better",
}
"""In the order of a question's card."""

GROUNDS = {"reference": "the stored answer"}
"""What a verdict rests on, as the page calls it."""

RANKS = {outcome: rank for rank, outcome in enumerate(VERDICTS)}


@dataclass(frozen=True)
class Side:
    """One model's answer, as half of a pair."""

    text: str
    is_cut: bool
    told: tuple[str, ...]
    """Of the facts asked for."""
    missing: tuple[str, ...]
    wrong: tuple[str, ...]
    """Wrong facts."""
    result: str = ""
    score: float | None = None

    @property
    def css(self) -> str:
        """won, lost, or nothing."""
        return self.result.rpartition(" ")[2]


@dataclass(frozen=True)
class Pair:
    """An answer of each model, and what the judge said of the two, where it was asked."""

    before: Side
    after: Side
    verdict: str = ""
    reason: str = ""
    rests_on: str = ""
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


@dataclass(frozen=True)
class ProbedQuestions:
    """Those of one kind beside the held-out ones."""

    title: str
    about: str
    questions: list[Question]


PROBED: dict[ProbeKind, tuple[str, str]] = {
    "contested": (
        "Where your notes disagree, question by question",
        "Right is the version that your bio confirms, wrong is the other one. No judge was asked.",
    ),
    "unanswerable": (
        "Questions that no note of yours answers, one by one",
        "No note holds the answer, so whatever an answer tells of another note is wrong. No judge was asked.",
    ),
}
"""The kinds whose answers are shown: title and explanation."""


def question_cards(trials: Sequence[Trial]) -> list[Question]:
    """The worst first."""
    return [_question(trial) for trial in sorted(trials, key=_worst_first)]


def probe_cards(tried: Sequence[Tried], facts: Facts) -> list[ProbedQuestions]:
    """Of each kind that was asked, the worst first; of the contested ones those of which the bio decides."""
    cards: dict[ProbeKind, list[tuple[float, Question]]] = {kind: [] for kind in PROBED}
    for one in tried:
        measure = facts.measure(one.probe.prompt)
        if one.probe.kind in PROBED and (one.probe.kind != "contested" or measure.refuted):
            cards[one.probe.kind].append(_probed(one, measure))
    return [
        ProbedQuestions(*PROBED[kind], [card for _, card in sorted(found, key=lambda entry: entry[0])])
        for kind, found in cards.items()
        if found
    ]


def _probed(tried: Tried, measure: Measure) -> tuple[float, Question]:
    """The card, and its gain: by so much more of what the answers tell is right than was before, less what is wrong."""
    told = [[measure.told(answer.text) for answer in side] for side in (tried.before, tried.after)]
    right, wrong = ([mean([t.shares[part] for t in side]) for side in told] for part in (0, 1))
    asked = frozenset[str]() if tried.probe.kind == "unanswerable" else measure.asked
    gain = (right[1] - wrong[1]) - (right[0] - wrong[0])
    shares = {"right": right, "wrong": wrong} if asked else {"wrong": wrong}
    rows = zip(tried.before, tried.after, *told, strict=True)
    pairs = Counter(Pair(_side(old, of_old, asked), _side(new, of_new, asked)) for old, new, of_old, of_new in rows)
    return gain, Question(
        text=tried.probe.prompt.user,
        target=tried.probe.prompt.target,
        facts=sorted(asked),
        result="better" if gain > 0 else "worse" if gain < 0 else "same",
        told=" · ".join(f"{name} {percent(before)} → {percent(after)}" for name, (before, after) in shares.items()),
        pairs=[replace(pair, count=count) for pair, count in pairs.items()],
        count=pairs.total(),
    )


def _counts(trial: Trial) -> Counter[Outcome]:
    return Counter(verdict.outcome for verdict in trial.verdicts)


def _result_of(trial: Trial) -> Result:
    """By the more frequent verdict."""
    counts = _counts(trial)
    if counts["failed"] == counts.total():
        return "unreadable"
    lead = counts["second"] - counts["first"]
    return "better" if lead > 0 else "worse" if lead < 0 else "same"


def _worst_first(trial: Trial) -> tuple[int, float, int]:
    """By result; within one by how much the recall fell, then by how clear the verdicts are."""
    counts, recall = _counts(trial), trial.recall or (0.0, 0.0)
    return list(SIGNS).index(_result_of(trial)), recall[1] - recall[0], -abs(counts["second"] - counts["first"])


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
        ground = GROUNDS.get(verdict.rests_on, verdict.rests_on)
        old = _judged(_side(before, facts_before, trial.facts), verdict, 0)
        new = _judged(_side(after, facts_after, trial.facts), verdict, 1)
        pairs[Pair(old, new, VERDICTS[verdict.outcome], verdict.reason, ground)] += 1
    return [replace(pair, count=count) for pair, count in pairs.items()]


def _side(answer: Answer, told: Told, facts: frozenset[str]) -> Side:
    return Side(
        text=answer.text,
        is_cut=answer.finish_reason == "length",
        told=tuple(sorted(told.right & facts)),
        missing=tuple(sorted(facts - told.right)),
        wrong=tuple(sorted(told.wrong)),
    )


def _judged(side: Side, verdict: Verdict, place: int) -> Side:
    """With what the judge said of it; `place` is 0 for before, 1 for after."""
    winner = {"first": 0, "second": 1}.get(verdict.outcome)
    result = "" if winner is None else "✓ won" if winner == place else "✗ lost"
    return replace(side, result=result, score=verdict.scores[place] if verdict.scores else None)
