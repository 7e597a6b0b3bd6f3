"""Whether a mean over questions, or a count, could be chance: exact tests, and the bounds that are their inversion.

Where nothing but chance parts two sides, two models or the right and the wrong answer of an examination, a question's
score and its opposite are as likely (the sides could change places), so every choice of signs is: the p-value is the
share of the 2^n choices whose sum is at least the one seen (Fisher 1935), without an assumption on the scores' shape.
All answers to one question make one score, and where there are `ENOUGH_NOTES` all questions on one note flip together,
for they rise and fall together.

A mean m is inside the interval when the scores less m could be chance, above and below at 2.5 % each; equally, the
bounds are quantiles of the means of all 2^n subsets of the scores (Hartigan 1969). That is exact where the scores lie
symmetrically about their mean, and near to it elsewhere: benchmarks/gate_null.py measures how near.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lpm_kernel.records import Interval

if TYPE_CHECKING:
    import numpy as np

    Whole = np.ndarray[tuple[int], np.dtype[np.int64]]

ALPHA = 0.025
"""One-sided level."""
STEPS = 480
"""Scores are taken in steps of 1/480, which holds the shares of 1 to 6, 8, 10, 12, 15 and 16 answers without rounding,
and so those of up to six cases of an examination with ties as half. Rounding a score and its opposite gives opposites,
so the test stays exact; the bounds are sure to one step."""
ENOUGH_NOTES = 12
"""With fewer notes flipping whole ones could not tell a gain that two or three of them do not share."""


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def chance_above(values: Sequence[float], null: float, notes: Sequence[str] = ()) -> float:
    """One-sided p-value of a mean that is above `null`; 1 without values. `notes` are those of the values."""
    sums, counts = _clusters(values, notes)
    return _chance(sums, counts, _steps(null))


def interval(values: Sequence[float], notes: Sequence[str] = ()) -> Interval | None:
    """95 % interval of the mean, by inversion of the test: the lower bound is above a null just where p is below 2.5 %.

    None when there are too few values (notes) to be sure of anything: below six.
    """
    sums, counts = _clusters(values, notes)
    if 0.5 ** len(sums) > ALPHA:
        return None
    return _lower(sums, counts) / STEPS, -_lower(-sums, counts) / STEPS


def _clusters(values: Sequence[float], notes: Sequence[str]) -> tuple["Whole", "Whole"]:
    """Of each note (question, where notes are few): the sum of its values in steps, and how many they are."""
    import numpy as np

    steps = np.rint(np.asarray(values, dtype=float) * STEPS).astype(np.int64)
    if len(set(notes)) < ENOUGH_NOTES:
        return steps, np.ones_like(steps)
    _, cluster = np.unique(np.asarray(notes), return_inverse=True)
    return np.bincount(cluster, weights=steps).astype(np.int64), np.bincount(cluster).astype(np.int64)


def _steps(value: float) -> int:
    return round(value * STEPS)


def _lower(sums: "Whole", counts: "Whole") -> int:
    """The smallest mean, in steps, that chance may have raised to the one seen.

    p grows with the null: from the normal bound outward until the two sides are known, then by halves.
    """
    total, middle = int(counts.sum()), sums.sum() / counts.sum()
    below = inside = round(middle - 1.96 * math.sqrt(float(((sums - counts * middle) ** 2).sum())) / total)
    stride = 2
    while _chance(sums, counts, below) > ALPHA:
        inside, below, stride = below, below - stride, 2 * stride
    while inside <= below or _chance(sums, counts, inside) <= ALPHA:
        below, inside, stride = max(below, inside), inside + stride, 2 * stride
    while inside - below > 1:
        halfway = (below + inside) // 2
        if _chance(sums, counts, halfway) > ALPHA:
            inside = halfway
        else:
            below = halfway
    return int(inside)


def _chance(sums: "Whole", counts: "Whole", null: int) -> float:
    """Share of the choices of signs whose sum is at least the one seen, of the scores less the null.

    Those are the subsets of the scores' sizes whose sum is at most that of the negative ones. Each score is one
    convolution; so the work is number of scores x sum of the negative ones, and the result good to about 1e-13.
    """
    import numpy as np

    scores = sums - counts * null
    scores = scores[scores != 0]
    scores //= np.gcd.reduce(scores) if len(scores) else 1
    most = int(-scores[scores < 0].sum())
    chances = np.zeros(most + 1)
    chances[0] = 1.0
    for size in np.abs(scores):
        chances[size:] += chances[: max(0, most + 1 - size)].copy()
        chances /= 2
    return float(chances.sum())


# Counts -----------------------------------------------------------------------------------------------------------


def exact_bounds(hits: int, trials: int) -> Interval:
    """95 % bounds of a share (Clopper and Pearson 1934): where so many hits, or so few, have a chance of ALPHA left."""
    low = 0.0 if hits == 0 else _crossing(lambda share: at_least(hits, trials, share) - ALPHA)
    high = 1.0 if hits == trials else _crossing(lambda share: ALPHA - (1 - at_least(hits + 1, trials, share)))
    return low, high


def at_least(hits: int, trials: int, share: float) -> float:
    """How likely so many hits are, or more, where each trial hits by a chance of `share` (the binomial tail)."""
    return sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(hits, trials + 1))


def _crossing(rising: Callable[[float], float]) -> float:
    """Where a rising function of a share is zero, to 1e-9."""
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
