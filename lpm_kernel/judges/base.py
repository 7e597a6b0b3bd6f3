"""What every judge is: something that compares two answers to one question in one order."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.errors import Finding
from lpm_kernel.owner.facts import Measure
from lpm_kernel.records import Outcome, Task

CLEAR, SLIGHT = 1.0, 0.5
"""Strengths of a verdict."""


class JudgingSettings(Config):
    """What the settings of every judge share."""

    operational = frozenset({"judge_in_flight", "judge_failed_share"})

    judge_in_flight: int = Field(8, ge=1, le=512, description="Verdicts asked for at the same time.")
    judge_failed_share: float = Field(
        0.3, ge=0, le=1, description="Stop when more than this share of the verdicts fail."
    )


@dataclass(frozen=True)
class Question:
    """All that a judge sees besides the two answers."""

    question: str
    target: str
    """The answer that SFT was trained on."""
    bio: str
    """The sections that matter to the question, or all of it."""
    task: Task = "memory"
    measure: Measure | None = None
    """What the owner's notes say of it; None where they are not at hand."""
    language: str = ""
    """The owner's, as ISO 639-1; empty where it is unknown."""
    notes: tuple[str, ...] = ()
    """Those that it rests on, where it names them."""


@dataclass(frozen=True)
class Opinion:
    """One verdict in one order; `failed` is no verdict and says why."""

    outcome: Outcome
    reason: str
    scores: tuple[float, float] | None = None
    """What each answer is worth to the judge, 0 to 1; None where it only compares."""
    strength: float | None = None
    """How clearly the winner is better, 0 to 1; None where the judge does not say."""
    rests_on: str = ""
    """The note, or the bio's section, that decided; empty where the judge names none."""


class Judge(Protocol):
    """Compares two answers in the order given."""

    name: str
    """Identity: whatever changes the verdicts (model, template version, margin) changes the name."""
    label: str
    """How the report calls it."""
    place: str
    """Where it is asked, as host, port and path; empty for one within this program."""
    is_remote: bool
    """Whether questions, answers and the bio leave this machine for it."""

    def instruction(self, question: Question) -> str:
        """By what it judges the question, in words: its system prompt, or its rule."""
        ...

    def asked(self, question: Question, first: str, second: str) -> Mapping[str, object]:
        """All that its verdict rests on besides its name and the answers, as JSON: what a journal keys it by."""
        ...

    async def compare(self, question: Question, first: str, second: str) -> Opinion:
        """Which answer serves the owner better. Raises ServiceError when the judge cannot be asked."""
        ...


@dataclass(frozen=True)
class JudgeKind:
    """A family of judges: all that the rest of the program needs to know of it."""

    about: str
    """In a few words, for the help."""
    settings: type[JudgingSettings]
    """Its own settings; they become settings of every stage that judges."""
    open: Callable[[Any], AbstractAsyncContextManager[Judge]]
    """Settings -> a judge for the length of a block. Raises PermissionDeniedError when it needs a key."""
    preflight: Callable[[Any], Finding]
    """Settings -> whether it can be asked, without asking."""
    cure: str
    """What to try when it does not tell answers apart."""


def both_orders(forward: Opinion, backward: Opinion) -> tuple[Outcome, str, tuple[Outcome, Outcome]]:
    """One outcome out of both orders, `backward` asked with the answers swapped: they must agree.

    Returns outcome, reason and both outcomes told in the forward order. Swapping the answers swaps the outcome.
    """
    orders = (forward.outcome, swapped(backward.outcome))
    failed = [o for o in (forward, backward) if o.outcome == "failed"]
    if failed:
        return "failed", failed[0].reason, orders
    if orders[0] != orders[1]:
        return "tie", "the two orders disagree", orders
    return orders[0], forward.reason, orders


def strength_of(forward: Opinion, backward: Opinion) -> float | None:
    """Of a verdict that both orders agree on: the mean of what they say of it; None where neither says anything."""
    told = [opinion.strength for opinion in (forward, backward) if opinion.strength is not None]
    return sum(told) / len(told) if told else None


def swapped(outcome: Outcome) -> Outcome:
    """The same outcome told with the answers in the other order."""
    turned: dict[Outcome, Outcome] = {"first": "second", "second": "first"}
    return turned.get(outcome, outcome)
