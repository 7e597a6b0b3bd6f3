"""Preference pairs as token ids, once: what the length limit, the split and the trainer all see."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lpm_kernel.models.rendering import render_all
from lpm_kernel.records import PreferencePair

SLOPE = "slope"
"""Column of the data set, and tensor of a batch, float32 [pairs]: what a pair's doubt adds to the loss for each unit
of beta * delta (`doubt.py`)."""


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


def tokenized(tokenizer: Any, pairs: Sequence[PreferencePair]) -> list[PairTokens]:
    """Exactly the tokens that the server sees and generates; raises DataError for a template that lacks a role."""
    sides = render_all(tokenizer, [(p.messages, answer) for p in pairs for answer in (p.chosen, p.rejected)])
    return [
        PairTokens(
            tuple(message.content for message in pair.messages),
            chosen.prompt,
            chosen.answer,
            rejected.answer,
            pair.confidence,
        )
        for pair, chosen, rejected in zip(pairs, sides[::2], sides[1::2], strict=True)
    ]


def dataset_of(pairs: Iterable[PairTokens], slopes: Iterable[float]) -> Any:
    """A `datasets.Dataset` with trl's columns, and the slope of each pair's doubt."""
    from datasets import Dataset

    columns = ("prompt_ids", "chosen_ids", "rejected_ids")
    rows = zip(pairs, slopes, strict=True)
    return Dataset.from_list([{**{c: getattr(pair, c) for c in columns}, SLOPE: slope} for pair, slope in rows])
