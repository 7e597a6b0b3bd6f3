"""Judges with a known vice, and honest ones with a known share of error, as real `Judge` objects.

What a judge says of one question and two answers in one order is always the same: it is drawn from a hash of them and
the seed, so that a run can be repeated, and a journal never hides a second throw of the coin.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

from lpm_kernel.files import key_of
from lpm_kernel.judges.base import Opinion, Question, swapped
from lpm_kernel.owner.facts import Measure, Told
from lpm_kernel.records import Outcome

Rule = Callable[[Question, str, str, Callable[..., float]], Outcome]
"""Question, both answers as shown, and draws: names -> a number from 0 to 1 that depends on them and the seed."""


class ViceJudge:
    """A judge that goes by one rule."""

    place = ""
    is_remote = False

    def __init__(self, label: str, rule: Rule, seed: int = 0) -> None:
        self.label, self._rule, self._seed = label, rule, seed
        self.name = f"vice:{label}:{seed}"

    def instruction(self, _: Question) -> str:
        return "By one rule, whatever the truth is."

    def asked(self, question: Question, first: str, second: str) -> Mapping[str, object]:  # noqa: ARG002
        return {"question": question.question, "reference": question.target}

    async def compare(self, question: Question, first: str, second: str) -> Opinion:
        def draw(*names: str) -> float:
            return int(key_of(self._seed, question.question, *names)[:12], 16) / 16**12

        return Opinion(self._rule(question, first, second, draw), f"by the rule {self.label}")


@lru_cache(maxsize=4096)
def told(measure: Measure, answer: str) -> Told:
    """As simulations ask it again and again."""
    return measure.told(answer)


def truth(question: Question, first: str, second: str) -> Outcome:
    """By the owner's facts alone: fewer wrong ones, then more right ones."""
    assert question.measure is not None
    facts = [told(question.measure, answer) for answer in (first, second)]
    worth = [(-len(one.wrong), len(one.right)) for one in facts]
    return "tie" if worth[0] == worth[1] else "first" if worth[0] > worth[1] else "second"


def _place(is_first: bool) -> Outcome:
    return "first" if is_first else "second"


def coin(_: Question, first: str, second: str, draw: Callable[..., float]) -> Outcome:
    """Thrown for each order."""
    return _place(draw(first, second) < 0.5)


def consistent_coin(_: Question, first: str, second: str, draw: Callable[..., float]) -> Outcome:
    """Thrown for each two answers: the same in both orders."""
    return _place((draw(*sorted((first, second))) < 0.5) == (first < second))


def taste(_: Question, first: str, second: str, draw: Callable[..., float]) -> Outcome:
    """Another consistent coin: each answer has a worth of its own, which has nothing to do with the truth."""
    return _place(draw(first) > draw(second))


def always_first(*_: object) -> Outcome:
    return "first"


def always_second(*_: object) -> Outcome:
    return "second"


def always_tie(*_: object) -> Outcome:
    return "tie"


def longer(_: Question, first: str, second: str, draw: Callable[..., float]) -> Outcome:  # noqa: ARG001
    return "tie" if len(first) == len(second) else _place(len(first) > len(second))


def shorter(question: Question, first: str, second: str, draw: Callable[..., float]) -> Outcome:
    return swapped(longer(question, first, second, draw))


def hedger(question: Question, first: str, second: str, draw: Callable[..., float]) -> Outcome:
    """Never prefers an answer that tells nothing, and throws a consistent coin for all others."""
    assert question.measure is not None
    vague = [told(question.measure, answer).kind == "vague" for answer in (first, second)]
    return consistent_coin(question, first, second, draw) if vague[0] == vague[1] else _place(vague[1])


def honest(noise: float = 0.0, position: float = 0.0) -> Rule:
    """Tells the truth, but for a share of calls told the other way round, and a share told for the first place."""

    def rule(question: Question, first: str, second: str, draw: Callable[..., float]) -> Outcome:
        if draw("place", first, second) < position:
            return "first"
        outcome = truth(question, first, second)
        if draw("noise", first, second) >= noise:
            return outcome
        return swapped(outcome) if outcome != "tie" else _place(draw("side", first, second) < 0.5)

    return rule


VICES: dict[str, Rule] = {
    "coin": coin,
    "consistent coin": consistent_coin,
    "taste": taste,
    "first": always_first,
    "second": always_second,
    "tie": always_tie,
    "longer": longer,
    "shorter": shorter,
    "hedger": hedger,
}
"""Must all fail their examination."""
HONEST: dict[str, Rule] = {
    "honest": honest(),
    "15 % noise": honest(noise=0.15),
    "mild position bias": honest(position=0.2),
    "noise and position": honest(noise=0.1, position=0.1),
}
"""Must all pass it."""
