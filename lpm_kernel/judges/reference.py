"""The embedded reference judge: chrF against the SFT target, and the bio's facts. Deterministic, no network.

score = mean of chrF / 100 (Popović 2015, as sacreBLEU computes it) and the F1 of the facts told; chrF alone where
there is no fact to tell. Facts that are not called for cost, so reciting the bio does not pay.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import Field

from lpm_kernel.errors import Finding
from lpm_kernel.judges.base import JudgeKind, JudgingSettings, Opinion, Question
from lpm_kernel.owner.marked_words import truth
from lpm_kernel.progress import say

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF


class ReferenceSettings(JudgingSettings):
    """How near is equal."""

    tie_margin: float = Field(0.05, ge=0, le=1, description="Judge reference: closer scores are a tie.")


class ReferenceJudge:
    """Prefers the answer nearer to the SFT target and fuller of the bio's facts."""

    label = "reference"
    place = ""
    is_remote = False
    instruction = (
        "Embedded, no language model: the mean of chrF against the label, and of the F1 of the facts that label and "
        "bio share; scores that differ by no more than a margin are a tie."
    )

    def __init__(self, tie_margin: float) -> None:
        self.tie_margin = tie_margin
        self.name = f"reference:2:margin={tie_margin}"

    async def compare(self, question: Question, first: str, second: str) -> Opinion:
        """A tie when the scores differ by no more than the margin."""
        scores = score(question, first), score(question, second)
        reason = f"chrF and the bio's facts: {scores[0]:.3f} for the first, {scores[1]:.3f} for the second"
        if abs(scores[0] - scores[1]) <= self.tie_margin:
            return Opinion("tie", reason, scores)
        return Opinion("first" if scores[0] > scores[1] else "second", reason, scores)


def score(question: Question, answer: str) -> float:
    """How well an answer serves, 0 to 1."""
    similarity = float(_chrf().sentence_score(answer, [question.target]).score) / 100
    facts = truth(answer, question.target, question.bio, question.question)
    return similarity if facts is None else (similarity + facts) / 2


@asynccontextmanager
async def open_reference(config: ReferenceSettings) -> AsyncIterator[ReferenceJudge]:
    """Needs nothing."""
    say("judge: the embedded reference judge (chrF against the SFT target, and the bio's facts); nothing leaves")
    yield ReferenceJudge(config.tie_margin)


def preflight(_: ReferenceSettings) -> Finding:
    """Always there."""
    return Finding("judge", "reference (embedded)")


KIND = JudgeKind(
    "embedded, by the SFT target and the bio",
    ReferenceSettings,
    open_reference,
    preflight,
    cure="Take a language model as judge (--judge openai), or a smaller --tie-margin",
)


@lru_cache(maxsize=1)
def _chrf() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
