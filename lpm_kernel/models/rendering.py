"""A conversation -> token ids, the same for SFT, DPO and the server: template, answer, end of turn, no more."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lpm_kernel.errors import DataError
from lpm_kernel.models.foreign import bounded
from lpm_kernel.records import Message

R = TypeVar("R")

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


def render_all(tokenizer: Any, texts: Sequence[tuple[Sequence[Message], str]]) -> list[Tokens]:
    """Of each conversation and its answer: prompt ids as the server builds them, and the answer's with the end of turn.

    What a template writes after the end of turn (ChatML: a line break) is never generated, so it is not trained; and
    what it does to an answer of the past (qwen3: an empty think block, llama3: no outer spaces) neither.
    Raises DataError for a template that takes no such conversation, or does not come to an end.
    """
    return list(executed(tokenizer, _tokens(tokenizer, texts)))


def end_of_turn(tokenizer: Any) -> int:
    """Id of the token that the template writes behind an answer, if the server stops at it; the eos token otherwise."""
    (found,) = executed(tokenizer, (_end_of_turn(known) for known in [tokenizer]))
    return found


def executed(tokenizer: Any, results: Iterable[R]) -> Iterator[R]:
    """The results, which execute the tokenizer's template and patterns, within bounds; raises DataError."""
    what = f"the chat template or tokenizer of {tokenizer.name_or_path}"
    return bounded(results, what, "it is broken or hostile: take the model from its maker again, or another model")


def applied(tokenizer: Any, conversation: list[dict[str, str]], **options: Any) -> Any:
    """The template on a conversation, without bounds: only within `executed`. Raises DataError when it refuses."""
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(conversation, **options)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in conversation)
        raise DataError(
            f"the chat template of {tokenizer.name_or_path} cannot render the roles {roles} ({error}); take a model "
            "whose template takes them, or put a chat_template.jinja that does into its directory"
        ) from None


def _tokens(tokenizer: Any, texts: Iterable[tuple[Sequence[Message], str]]) -> Iterator[Tokens]:
    end = _end_of_turn(tokenizer)
    for messages, answer in texts:
        conversation = [message.model_dump() for message in messages]
        prompt = applied(tokenizer, conversation, add_generation_prompt=True, return_dict=False)
        yield Tokens(prompt, [*tokenizer.encode(answer, add_special_tokens=False), end])


def _end_of_turn(tokenizer: Any) -> int:
    probe = [{"role": "user", "content": "question"}, {"role": "assistant", "content": PROBE}]
    _, _, behind = applied(tokenizer, probe, tokenize=False).rpartition(PROBE)
    for end in (tokenizer.eos_token, *SERVER_ENDS):
        id_ = tokenizer.convert_tokens_to_ids(end)
        if behind.lstrip().startswith(end) and id_ is not None and id_ != tokenizer.unk_token_id:
            return int(id_)
    return int(tokenizer.eos_token_id)
