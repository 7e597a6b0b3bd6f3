"""The embedded reference judge: chrF against the SFT target, and the bio's facts. Deterministic, no network.

score = mean of chrF / 100 (Popović 2015, as sacreBLEU computes it) and the F1 of the facts told; chrF alone where
there is no fact to tell. Facts that are not called for cost, so reciting the bio does not pay.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from lpm_kernel.judges.base import Opinion, Question
from lpm_kernel.owner.facts import truth

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF


class ReferenceJudge:
    """Prefers the answer nearer to the reference and fuller of the bio's facts."""

    def __init__(self, tie_margin: float) -> None:
        self.tie_margin = tie_margin
        self.name = f"reference:2:margin={tie_margin}"

    async def compare(self, question: Question, first: str, second: str) -> Opinion:
        """A tie when the scores differ by no more than the margin."""
        scores = score(question, first), score(question, second)
        reason = f"score {scores[0]:.3f} against {scores[1]:.3f} (chrF and the bio's facts)"
        if abs(scores[0] - scores[1]) <= self.tie_margin:
            return Opinion("tie", reason)
        return Opinion("first" if scores[0] > scores[1] else "second", reason)


def score(question: Question, answer: str) -> float:
    """How well an answer serves, 0 to 1."""
    similarity = float(_chrf().sentence_score(answer, [question.reference]).score) / 100
    facts = truth(answer, question.reference, question.bio, question.question)
    return similarity if facts is None else (similarity + facts) / 2


@lru_cache(maxsize=1)
def _chrf() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
