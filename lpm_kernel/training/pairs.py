"""Preference pairs as token ids, once: what the length limit, the split and the trainer all see."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lpm_kernel.models.rendering import render
from lpm_kernel.records import PreferencePair


@dataclass(frozen=True)
class PairTokens:
    """One pair; the fields that end in _ids are trl's columns."""

    texts: tuple[str, ...]
    """Of the prompt's messages: pairs with the same ones ask the same."""

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
    texts = tuple(message.content for message in pair.messages)
    return PairTokens(texts, chosen.prompt, chosen.answer, rejected.answer, pair.confidence)


def dataset_of(pairs: Iterable[PairTokens]) -> Any:
    """A `datasets.Dataset` with trl's columns."""
    from datasets import Dataset

    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    return Dataset.from_list([{column: getattr(pair, column) for column in columns} for pair in pairs])
