"""What transformers makes of a conversation: rendered prompt, token ids, greedy answer. The measure for others."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unicodedata import is_normalized

from lpm_kernel.models.folder import GENERATION_CONFIG, read_model_object
from lpm_kernel.models.loading import load_model, threads_for
from lpm_kernel.models.rendering import applied, end_of_turn, executed

if TYPE_CHECKING:
    import torch

BATCH = 20
"""Prompts answered at once."""


@dataclass(frozen=True)
class RenderedPrompt:
    """One conversation as the trained model sees it."""

    name: str
    """For error messages: which prompt this is, without its text."""
    conversation: list[dict[str, str]]
    text: str
    bos: str
    """What the text may begin with, and what a server may add by itself instead; often empty."""
    ids: list[int]
    normalized: bool
    """The text is in the Unicode normal form that the tokenizer makes, if it makes one; llama.cpp makes none."""


@dataclass(frozen=True)
class GreedyAnswer:
    """Up to the end token, which is left out."""

    ids: list[int]
    first: "torch.Tensor"
    """(vocabulary,) natural log-probabilities of the first token, fp32."""


def render_prompts(tokenizer: Any, conversations: Mapping[str, list[dict[str, str]]]) -> list[RenderedPrompt]:
    """By name, with the generation prompt, as training renders them; raises DataError when the template cannot."""
    return list(executed(tokenizer, (_render(tokenizer, name, told) for name, told in conversations.items())))


def _render(tokenizer: Any, name: str, conversation: list[dict[str, str]]) -> RenderedPrompt:
    text = applied(tokenizer, conversation, add_generation_prompt=True, tokenize=False)
    ids = applied(tokenizer, conversation, add_generation_prompt=True, return_dict=False)
    contents = [turn["content"] for turn in conversation]
    normalized = all(is_normalized(form, content) for form in _normal_forms(tokenizer) for content in contents)
    return RenderedPrompt(name, conversation, text, tokenizer.bos_token or "", ids, normalized)


def _normal_forms(tokenizer: Any) -> "set[Literal['NFC', 'NFD', 'NFKC', 'NFKD']]":
    """The Unicode normal forms among a tokenizer's normalizers, however nested; its other steps llama.cpp does too."""
    normalizer = tokenizer.backend_tokenizer.normalizer if tokenizer.is_fast else None
    state = "" if normalizer is None else normalizer.__getstate__().decode()
    return set(re.findall(r'(?<!\\)"type":\s*"(NFK?[CD])"', state))


def greedy_answers(
    model_path: Path, tokenizer: Any, prompts: Sequence[RenderedPrompt], max_tokens: int
) -> list[GreedyAnswer]:
    """The likeliest answers, in fp32, of at most max_tokens each."""
    from transformers import GenerationConfig

    ends = end_ids(model_path, tokenizer)
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_tokens,
        repetition_penalty=1.0,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
    )
    model = load_model(model_path, "float32").eval()
    chunks = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
    with threads_for(model):
        rows = [row for chunk in chunks for row in _continue(model, settings, chunk)]
    return [GreedyAnswer(until_end(ids, ends), first) for ids, first in rows]


def until_end(ids: Sequence[int], ends: set[int]) -> list[int]:
    """The ids before the first end token."""
    return list(ids[: next((i for i, id_ in enumerate(ids) if id_ in ends), len(ids))])


def end_ids(model_path: Path, tokenizer: Any) -> set[int]:
    """Token ids that end an answer: those of generation_config.json, the tokenizer's, and the template's."""
    path = model_path / GENERATION_CONFIG
    named = read_model_object(path).get("eos_token_id") if path.is_file() else None
    listed = named if isinstance(named, list) else [named]
    return {id_ for id_ in (*listed, tokenizer.eos_token_id, end_of_turn(tokenizer)) if id_ is not None}


def _continue(model: Any, settings: Any, prompts: Sequence[RenderedPrompt]) -> "list[tuple[list[int], torch.Tensor]]":
    """New ids, and (vocabulary,) log-probabilities of the first, for each of one left-padded batch."""
    import torch

    longest = max(len(prompt.ids) for prompt in prompts)
    padded = [[settings.pad_token_id] * (longest - len(p.ids)) + p.ids for p in prompts]
    mask = [[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p in prompts]
    first: list[torch.Tensor] = []

    def keep_first(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores: (batch, vocabulary), the logits of one step."""
        if not first:
            first.append(scores.float().log_softmax(-1))
        return scores

    with torch.inference_mode():
        made = model.generate(
            input_ids=torch.tensor(padded),
            attention_mask=torch.tensor(mask),
            generation_config=settings,
            logits_processor=[keep_first],
        )
    return list(zip(made[:, longest:].tolist(), first[0], strict=True))
