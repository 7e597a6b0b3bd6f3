"""Trials -> what they say in numbers. Answers to one question make one score, and intervals are over questions."""

import math
from collections.abc import Sequence
from typing import Any

from lpm_kernel.chance import interval, mean
from lpm_kernel.owner.facts import Told
from lpm_kernel.proof.evaluation import (
    AnswerShares,
    Change,
    CorrectedRate,
    FactRecall,
    Measures,
    Origin,
    Trial,
    WinRate,
)
from lpm_kernel.proof.length import like_length
from lpm_kernel.records import Examination, Verdict

SURE_ENOUGH = 0.6
"""Least lower bound of a judge's accuracy for a correction; below it a corrected rate could be nearly anything."""
Z95 = 1.96


def measure(
    trials: Sequence[Trial], *, origin: Origin, examination: Examination | None = None, **more: Any
) -> Measures:
    """All figures; `more` are the fields of `Measures` that were measured elsewhere, such as `probes`."""
    wins = win_rate(trials)
    return Measures(
        **dict(origin),
        prompts=len(trials),
        notes=len({trial.note for trial in trials}),
        samples=len(trials[0].before) if trials else 0,
        win_rate=wins,
        fact_recall=_recall(trials),
        stray_facts=change([(trial.note, *trial.strays) for trial in trials]),
        personalisation_lift=_lift(trials),
        answers=answer_shares([(t.note, t.facts_before, t.facts_after) for t in trials if t.facts]),
        like_length=like_length(trials),
        corrected=corrected(wins, examination),
        examination=examination,
        **more,
    )


def win_rate(trials: Sequence[Trial]) -> WinRate:
    """Over the questions that have a verdict."""
    rates = [(trial.note, shares.rate) for trial in trials if (shares := _Shares.of(trial.verdicts))]
    values = [rate for _, rate in rates]
    return WinRate(
        **_counts([verdict for trial in trials for verdict in trial.verdicts]),
        rate=mean(values) if values else None,
        ci95=interval(values, [note for note, _ in rates]),
    )


def change(rows: Sequence[tuple[str, float, float]]) -> Change:
    """A figure of each question as (note, before, after), in the mean; nothing to average is unknown, not zero."""
    if not rows:
        return Change(before=None, after=None, questions=0)
    return Change(
        before=mean([before for _, before, _ in rows]),
        after=mean([after for _, _, after in rows]),
        questions=len(rows),
        ci95_delta=interval([after - before for _, before, after in rows], [note for note, *_ in rows]),
    )


def answer_shares(rows: Sequence[tuple[str, Sequence[Told], Sequence[Told]]]) -> AnswerShares:
    """What the answers to each question tell, as (note, before, after): a mean over its answers, then over all."""
    shares = [(note, _mean_shares(before), _mean_shares(after)) for note, before, after in rows]
    right, wrong, vague = (change([(note, b[part], a[part]) for note, b, a in shares]) for part in range(3))
    return AnswerShares(questions=len(rows), right=right, wrong=wrong, vague=vague)


def corrected(wins: WinRate, examination: Examination | None) -> CorrectedRate | None:
    """The win rate less the judge's measured errors, on planted cases of which it was right `accuracy` of the time.

    A judge that is right in a share a of the comparisons, whichever answer is the better one, pulls a rate r towards
    one half: r - 1/2 = (2a - 1)(true rate - 1/2) (Rogan and Gladen 1978). Both uncertainties by the delta method.
    """
    if examination is None or examination.accuracy is None or examination.accuracy_ci95 is None:
        return None
    if wins.rate is None or wins.ci95 is None or examination.accuracy_ci95[0] < SURE_ENOUGH:
        return None
    sharpness, lead = 2 * examination.accuracy - 1, wins.rate - 0.5
    of_rate = _deviation(wins.ci95) / sharpness
    of_judge = 2 * lead * _deviation(examination.accuracy_ci95) / sharpness**2
    reach, rate = Z95 * math.hypot(of_rate, of_judge), 0.5 + lead / sharpness
    return CorrectedRate(rate=_share(rate), ci95=(_share(rate - reach), _share(rate + reach)))


def _recall(trials: Sequence[Trial]) -> FactRecall:
    recall = change([(trial.note, *told) for trial in trials if (told := trial.recall)])
    return FactRecall(
        questions=recall.questions or 0, before=recall.before, after=recall.after, ci95_delta=recall.ci95_delta
    )


def _lift(trials: Sequence[Trial]) -> Change:
    """Over the questions that were judged by both bios."""
    rows = []
    for trial in trials:
        own, strangers = _Shares.of(trial.verdicts), _Shares.of(trial.stranger_verdicts)
        if own and strangers:
            rows.append((trial.note, own.before - strangers.before, own.after - strangers.after))
    return change(rows)


class _Shares:
    """Shares of before wins, after wins and ties among the valid verdicts on one question."""

    def __init__(self, before: float, after: float, ties: float) -> None:
        self.before, self.after, self.rate = before, after, after + ties / 2

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> "_Shares | None":
        """None without a valid verdict."""
        counts = _counts(verdicts)
        valid = len(verdicts) - counts["invalid"]
        if not valid:
            return None
        return cls(counts["before_wins"] / valid, counts["after_wins"] / valid, counts["ties"] / valid)


def _counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    outcomes = [v.outcome for v in verdicts]
    return {
        "after_wins": outcomes.count("second"),
        "before_wins": outcomes.count("first"),
        "ties": outcomes.count("tie"),
        "invalid": outcomes.count("failed"),
    }


def _mean_shares(answers: Sequence[Told]) -> tuple[float, float, float]:
    right, wrong, vague = zip(*(answer.shares for answer in answers), strict=True)
    return mean(right), mean(wrong), mean(vague)


def _deviation(bounds: tuple[float, float]) -> float:
    """The standard deviation that a 95 % interval stands for."""
    return (bounds[1] - bounds[0]) / (2 * Z95)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
