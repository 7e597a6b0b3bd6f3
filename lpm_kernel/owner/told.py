"""What one answer tells of the owner: facts that are asked for, and facts that are not, by weight."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONFIRMED, SOLID, SLIGHT = 2.0, 1.0, 0.5
"""What a fact weighs: one that the bio holds too; a name, a number, a repeated word, a long stretch; another word."""
Kind = Literal["right", "wrong", "vague"]


@dataclass(frozen=True)
class Told:
    """What one answer tells: facts that are asked for, and facts that are not."""

    right: frozenset[str]
    wrong: frozenset[str]
    """Another note's, the version that the bio refutes, or a number or name that nothing of the owner's holds."""
    weights: Mapping[str, float] = field(default_factory=dict, repr=False)
    """Of the facts told; 1 for what is not in it."""

    @property
    def kind(self) -> Kind:
        """By the greater weight; as much wrong as right is wrong."""
        right, wrong = self._weigh(self.right), self._weigh(self.wrong)
        if not right and not wrong:
            return "vague"
        return "right" if right > wrong else "wrong"

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of the weight told the right and the wrong part, and 1 for an answer that tells none; they sum to 1."""
        right, wrong = self._weigh(self.right), self._weigh(self.wrong)
        told = right + wrong
        return (right / told, wrong / told, 0.0) if told else (0.0, 0.0, 1.0)

    def _weigh(self, facts: Iterable[str]) -> float:
        return sum(self.weights.get(fact, SOLID) for fact in facts)
