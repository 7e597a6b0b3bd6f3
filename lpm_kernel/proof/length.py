"""How much of a win rate is length: the rate as it would be if both models answered at like length.

Judges like long answers, so a model that only got longer wins. What the longer of two answers wins, on average and
whoever wrote it, is taken from each comparison; what is left is the win rate at like length. Near lengths, up to twice
the length and more than that are measured apart, as a judge may look away from a few words and not from a page.
Where the facts told decide as the judge did, nothing is taken: an answer that is right and longer is right.

All of this turns round when before and after change places, so the sign-flip test of the rate stays exact. It is
strict: where nearly all new answers are longer, length takes the credit for all that facts do not bear out.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lpm_kernel.chance import interval, mean
from lpm_kernel.owner.facts import Told
from lpm_kernel.proof.evaluation import LikeLength, Trial
from lpm_kernel.records import Outcome

RATIOS = (1.2, 2.0)
"""Of the longer answer's characters to the shorter one's: the ends of like length, and of up to twice the length."""
SCORES: dict[Outcome, int] = {"first": -1, "tie": 0, "second": 1}


@dataclass(frozen=True)
class Compared:
    """One comparison, from the new model's side."""

    score: int
    """1 for a win, -1 for a loss."""
    longer: int
    """1 where the new answer is the longer one, -1 where the old one is."""
    stratum: int
    by_facts: bool
    """The facts told decide as the judge did."""


def like_length(trials: Sequence[Trial]) -> LikeLength:
    """Over the questions that have a verdict."""
    judged = [(trial.note, compared) for trial in trials if (compared := _comparisons(trial))]
    every = [c for _, compared in judged for c in compared]
    open_ones = [c for c in every if not c.by_facts]
    taken = _taken_by_length(open_ones)
    rates = [mean([_rate(c, taken) for c in compared]) for _, compared in judged]
    decided = [c.score * c.longer > 0 for c in open_ones if c.score and c.longer]
    return LikeLength(
        after_longer=mean([(1 + c.longer) / 2 for c in every]) if every else None,
        longer_wins=mean(decided) if decided else None,
        by_facts=len(every) - len(open_ones),
        rate=mean(rates) if rates else None,
        ci95=interval(rates, [note for note, _ in judged]),
    )


def _comparisons(trial: Trial) -> list[Compared]:
    rows = zip(trial.verdicts, trial.before, trial.after, trial.facts_before, trial.facts_after, strict=True)
    return [
        _compared(SCORES[verdict.outcome], len(before.text.strip()), len(after.text.strip()), told_before, told_after)
        for verdict, before, after, told_before, told_after in rows
        if verdict.outcome in SCORES
    ]


def _compared(score: int, before: int, after: int, told_before: Told, told_after: Told) -> Compared:
    ratio = max(before, after) / max(1, min(before, after))
    return Compared(
        score,
        (after > before) - (after < before),
        bisect_right(RATIOS, ratio),
        score != 0 and score == _better_facts(told_before, told_after),
    )


def _better_facts(before: Told, after: Told) -> int:
    """1 where the new answer tells no fewer right and no more wrong facts, and not the same; -1 the other way round."""
    right, wrong = len(after.right) - len(before.right), len(before.wrong) - len(after.wrong)
    return 0 if right * wrong < 0 else (right + wrong > 0) - (right + wrong < 0)


def _taken_by_length(comparisons: Sequence[Compared]) -> dict[int, float]:
    """Stratum -> what the longer answer wins more often than it loses, as a share."""
    wins: dict[int, list[int]] = defaultdict(list)
    for compared in comparisons:
        if compared.longer:
            wins[compared.stratum].append(compared.score * compared.longer)
    return {stratum: mean(scores) for stratum, scores in wins.items()}


def _rate(compared: Compared, taken: dict[int, float]) -> float:
    """1 for a win, 0 for a loss, less what length takes."""
    credit = 0.0 if compared.by_facts or not compared.longer else taken[compared.stratum] * compared.longer
    return (1 + compared.score - credit) / 2
