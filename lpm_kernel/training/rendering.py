"""A conversation -> token ids, the same for SFT, DPO and the server: template, answer, end of turn, no more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lpm_kernel.records import Message


@dataclass(frozen=True)
class Tokens:
    """One training sequence."""

    prompt: list[int]
    """Template of the prompt with the generation prompt."""
    answer: list[int]
    """The answer and the end-of-turn token: what the loss sees."""


def render(tokenizer: Any, messages: Sequence[Message], answer: str) -> Tokens:
    """Prompt ids as the server builds them, and answer ids that end with the end-of-turn token.

    What a template writes after the end of turn (ChatML: a line break) is never generated, so it is not trained.
    """
    conversation = [message.model_dump() for message in messages]
    prompt = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
    return Tokens(prompt, [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id])


def cut_after_end(ids: list[int], end: int) -> list[int]:
    """The ids up to and with the last end-of-turn token; all of them when there is none."""
    return ids[: len(ids) - ids[::-1].index(end)] if end in ids else ids
