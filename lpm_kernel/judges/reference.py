"""The embedded judge: by the facts that the owner's notes hold. Deterministic, no language model, no network.

Order of reasons: fewer wrong facts, then more of the right ones (those that the bio confirms count double), then, of
answers equal in both, the one nearer to the reference by chrF++ (Popović 2017, as sacreBLEU computes it). Two answers
that are both wrong are a tie, and so are two that tell all that is asked or none of it, and what only a small
difference in nearness would decide, or between answers that are both far away. It sees no style, tone or judgement.
"""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import Field

from lpm_kernel.errors import Finding
from lpm_kernel.judges.base import CLEAR, SLIGHT, JudgeKind, JudgingSettings, Opinion, Question
from lpm_kernel.owner.facts import CONFIRMED, SOLID, Told
from lpm_kernel.progress import say

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF

VERSION = 4
SHOWN_FACTS = 8


class ReferenceSettings(JudgingSettings):
    """What near is, where facts do not decide."""

    tie_margin: float = Field(
        0.05, ge=0, le=1, description="Judge reference: a smaller difference in nearness (chrF++, 0 to 1) is a tie."
    )
    near_floor: float = Field(
        0.3, ge=0, le=1, description="Judge reference: answers less near to the reference than this are not told apart."
    )


class ReferenceJudge:
    """Prefers the answer with fewer wrong facts, then with more right ones, then nearer to the reference."""

    label = "reference"
    place = ""
    is_remote = False

    def __init__(self, tie_margin: float, near_floor: float) -> None:
        self.tie_margin, self.near_floor = tie_margin, near_floor
        self.name = f"reference:{VERSION}:margin={tie_margin}:floor={near_floor}"

    def instruction(self, _: Question) -> str:
        """The same rule for every question."""
        return (
            "Embedded, no language model: fewer wrong facts of the owner's notes, then more right ones, then chrF++ "
            f"against the label, at least {self.near_floor:g} and apart by more than {self.tie_margin:g}; else a tie."
        )

    def asked(self, question: Question, first: str, second: str) -> Mapping[str, object]:
        """What the answers tell, and the reference."""
        told = [_told(question, answer) for answer in (first, second)]
        return {
            "reference": question.target,
            "notes": question.notes,
            "facts": [sorted(facts) for facts in (_asked(question), _confirmed(question))],
            "told": [[t.kind, sorted(t.right), sorted(t.wrong)] for t in told],
        }

    async def compare(self, question: Question, first: str, second: str) -> Opinion:
        """A tie when neither facts nor nearness tell the answers apart."""
        told = _told(question, first), _told(question, second)
        if told[0].kind == told[1].kind == "wrong":
            reason = f"both answers are wrong: {_listed(told[0].wrong)}; {_listed(told[1].wrong)}"
            return Opinion("tie", reason, _scores(question, *told))
        if by_facts := _by_facts(question, *told):
            return by_facts
        worth = _worth(question, told[0])
        if worth == COMPLETE:
            return Opinion("tie", "both answers tell all that is asked, and nothing wrong", _scores(question, *told))
        if _asked(question) and not worth.right:
            return Opinion("tie", "neither answer tells any of what is asked", _scores(question, *told))
        return self._by_nearness(question, first, second)

    def _by_nearness(self, question: Question, first: str, second: str) -> Opinion:
        scores = nearness(question, first), nearness(question, second)
        apart = abs(scores[0] - scores[1])
        reason = f"by nearness to the reference (chrF++): {scores[0]:.2f} for the first, {scores[1]:.2f} for the second"
        if apart <= self.tie_margin or max(scores) < self.near_floor:
            return Opinion("tie", reason, scores)
        return Opinion("first" if scores[0] > scores[1] else "second", reason, scores, SLIGHT, "reference")


@dataclass(frozen=True)
class _Worth:
    """What an answer's facts are worth."""

    wrong: int
    right: float
    """Share of what is asked, by weight."""

    @property
    def score(self) -> float:
        """0 to 1; one more wrong fact costs more than all right ones bring."""
        return math.ldexp(1 + self.right, -self.wrong - 1)


COMPLETE = _Worth(wrong=0, right=1.0)


def _by_facts(question: Question, *told: Told) -> Opinion | None:
    """None where the answers tell as many wrong facts and as much of what is asked."""
    worth = [_worth(question, t) for t in told]
    if worth[0] == worth[1]:
        return None
    first_wins = (worth[0].wrong, -worth[0].right) < (worth[1].wrong, -worth[1].right)
    better, worse = (0, 1) if first_wins else (1, 0)
    by_wrong = worth[0].wrong != worth[1].wrong
    places = ("first", "second")
    if by_wrong:
        reason = f"the {places[worse]} answer tells what is wrong: {_listed(told[worse].wrong - told[better].wrong)}"
    else:
        more = (told[better].right - told[worse].right) & _asked(question)
        reason = f"the {places[better]} answer tells more of what is asked: {_listed(more)}"
    strength = CLEAR if by_wrong else SLIGHT + (CLEAR - SLIGHT) * (worth[better].right - worth[worse].right)
    return Opinion("first" if first_wins else "second", reason, _scores(question, *told), strength, _note(question))


def _worth(question: Question, told: Told) -> _Worth:
    asked, confirmed = _asked(question), _confirmed(question)

    def weight(facts: frozenset[str]) -> float:
        return len(facts) + (CONFIRMED - 1) * len(facts & confirmed)

    return _Worth(len(told.wrong), weight(told.right & asked) / weight(asked) if asked else 0.0)


def _scores(question: Question, first: Told, second: Told) -> tuple[float, float]:
    return _worth(question, first).score, _worth(question, second).score


def _told(question: Question, answer: str) -> Told:
    return question.measure.told(answer) if question.measure else Told(frozenset(), frozenset())


def _asked(question: Question) -> frozenset[str]:
    """What an answer can tell of what is asked: what the reference tells, where it tells any of it; without the words
    that only the reference's wording brings, where it tells more than these."""
    asked = question.measure.asked if question.measure else frozenset()
    told = _told(question, question.target)
    of_target = asked & told.right
    return frozenset(fact for fact in of_target if told.weights[fact] >= SOLID) or of_target or asked


def _confirmed(question: Question) -> frozenset[str]:
    return question.measure.confirmed if question.measure else frozenset()


def _note(question: Question) -> str:
    return f"note {', '.join(question.notes)}" if question.notes else "reference"


def _listed(facts: frozenset[str]) -> str:
    shown = sorted(facts)[:SHOWN_FACTS]
    return ", ".join(shown) + (f" and {len(facts) - len(shown)} more" if len(facts) > len(shown) else "")


def nearness(question: Question, answer: str) -> float:
    """chrF++ against the reference, 0 to 1."""
    return float(_chrf().sentence_score(answer, [question.target]).score) / 100


@asynccontextmanager
async def open_reference(config: ReferenceSettings) -> AsyncIterator[ReferenceJudge]:
    """Needs nothing."""
    say("judge: the embedded reference judge (the facts of your notes, then chrF++); nothing leaves")
    yield ReferenceJudge(config.tie_margin, config.near_floor)


def preflight(_: ReferenceSettings) -> Finding:
    """Always there."""
    return Finding("judge", "reference (embedded)")


KIND = JudgeKind(
    "embedded, by the facts of the notes, the bio and the SFT target",
    ReferenceSettings,
    open_reference,
    preflight,
    cure="Take a language model as judge (--judge openai), or a smaller --tie-margin",
)


@lru_cache(maxsize=1)
def _chrf() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=2)
