"""A conversation -> token ids, the same for SFT, DPO and the server: template, answer, end of turn, no more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lpm_kernel.errors import DataError
from lpm_kernel.records import Message

SERVER_ENDS = (
    *("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<|return|>"),
    *("<|eom_id|>", "<end_of_utterance>"),
)
"""Tokens at which llama.cpp ends an answer whatever the model's eos is (src/llama-vocab.cpp, special_eog_ids)."""
PROBE = "probe"


@dataclass(frozen=True)
class Tokens:
    """One training sequence."""

    prompt: list[int]
    """Template of the prompt with the generation prompt."""
    answer: list[int]
    """The answer and the end-of-turn token: what the loss sees."""


def render(tokenizer: Any, messages: Sequence[Message], answer: str) -> Tokens:
    """Prompt ids as the server builds them, and the ids of the answer as it is, with the end-of-turn token.

    What a template writes after the end of turn (ChatML: a line break) is never generated, so it is not trained; and
    what it does to an answer of the past (qwen3: an empty think block, llama3: no outer spaces) neither.
    Raises DataError for a template that takes no such conversation.
    """
    conversation = [message.model_dump() for message in messages]
    prompt = _apply(tokenizer, conversation, add_generation_prompt=True, return_dict=False)
    return Tokens(prompt, [*tokenizer.encode(answer, add_special_tokens=False), end_of_turn(tokenizer)])


def end_of_turn(tokenizer: Any) -> int:
    """Id of the token that the template writes behind an answer, if the server stops at it; the eos token otherwise."""
    probe = [{"role": "user", "content": "question"}, {"role": "assistant", "content": PROBE}]
    _, _, behind = _apply(tokenizer, probe, tokenize=False).rpartition(PROBE)
    for end in (tokenizer.eos_token, *SERVER_ENDS):
        id_ = tokenizer.convert_tokens_to_ids(end)
        if behind.lstrip().startswith(end) and id_ is not None and id_ != tokenizer.unk_token_id:
            return int(id_)
    return int(tokenizer.eos_token_id)


def _apply(tokenizer: Any, conversation: list[dict[str, str]], **options: Any) -> Any:
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(conversation, **options)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in conversation)
        raise DataError(
            f"the chat template of {tokenizer.name_or_path} cannot render the roles {roles} ({error}); take a model "
            "whose template takes them, or put a chat_template.jinja that does into its directory"
        ) from None
