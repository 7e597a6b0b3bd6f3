"""What every judge is: something that compares two answers to one question in one order."""

from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.records import Outcome


class JudgeConfig(Config):
    """Who judges."""

    operational = frozenset({"judge_in_flight", "judge_timeout_s", "judge_failed_share"})

    judge: Literal["openai", "reference"] = Field(
        "openai",
        description="openai: any OpenAI-compatible endpoint; reference: embedded, by the SFT target and the bio.",
    )
    judge_model: str = Field("gpt-4o", description="Model that the endpoint is asked for.")
    judge_base_url: str = Field("", description="The judge's endpoint; empty: OPENAI_BASE_URL, else api.openai.com.")
    judge_in_flight: int = Field(8, ge=1, le=512, description="Verdicts asked for at the same time.")
    judge_timeout_s: float = Field(120, gt=0, description="Longest wait for one reply, in seconds.")
    judge_max_tokens: int = Field(1024, ge=32, description="Longest reply, in tokens.")
    judge_failed_share: float = Field(
        0.3, ge=0, le=1, description="Stop when more than this share of the verdicts fail."
    )
    tie_margin: float = Field(0.05, ge=0, le=1, description="Reference judge: closer scores are a tie.")


@dataclass(frozen=True)
class Question:
    """All that a judge sees besides the two answers."""

    question: str
    reference: str
    bio: str


@dataclass(frozen=True)
class Opinion:
    """One verdict in one order; `failed` is no verdict and says why."""

    outcome: Outcome
    reason: str


class Judge(Protocol):
    """Compares two answers in the order given."""

    name: str
    """Identity: whatever changes the verdicts (model, template version, margin) changes the name."""

    async def compare(self, question: Question, first: str, second: str) -> Opinion:
        """Which answer serves the owner better. Raises ServiceError when the judge cannot be asked."""
        ...


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


def swapped(outcome: Outcome) -> Outcome:
    """The same outcome told with the answers in the other order."""
    turned: dict[Outcome, Outcome] = {"first": "second", "second": "first"}
    return turned.get(outcome, outcome)
