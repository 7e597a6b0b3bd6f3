"""Preference pairs as token ids, once: what the length limit, the split and the trainer all see."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from lpm_kernel.models.rendering import render
from lpm_kernel.records import PreferencePair


@dataclass(frozen=True)
class PairTokens:
    """One pair; the field names are trl's columns."""

    prompt_ids: list[int]
    """Template of the prompt with the generation prompt."""
    chosen_ids: list[int]
    """The answer and the end-of-turn token."""
    rejected_ids: list[int]
    confidence: float

    @property
    def length(self) -> int:
        """Of the longer of both sequences, in tokens."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


def tokenized(tokenizer: Any, pair: PreferencePair) -> PairTokens:
    """Exactly the tokens that the server sees and generates; raises DataError for a template that lacks a role."""
    chosen, rejected = (render(tokenizer, pair.messages, answer) for answer in (pair.chosen, pair.rejected))
    return PairTokens(chosen.prompt, chosen.answer, rejected.answer, pair.confidence)


def dataset_of(pairs: Iterable[PairTokens]) -> Any:
    """A `datasets.Dataset` with PairTokens' fields as columns."""
    from datasets import Dataset

    return Dataset.from_list([asdict(pair) for pair in pairs])
