"""Answers of a served model, each asked for once."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from lpm_kernel.config import Config
from lpm_kernel.files import key_of
from lpm_kernel.journal import Journal
from lpm_kernel.records import Answer, Prompt
from lpm_kernel.serving.client import ChatClient


class SamplingConfig(Config):
    """How the model answers."""

    operational = frozenset({"answer_timeout_s"})

    temperature: float = Field(0.7, ge=0, le=2, description="Sampling temperature.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling: share of the probability mass kept.")
    max_tokens: int = Field(512, ge=1, description="Longest answer, in tokens; a cut answer never becomes a pair.")
    answer_timeout_s: float = Field(600, gt=0, description="Longest wait for the answers to one prompt, in seconds.")
    seed: int = Field(42, ge=0, description="Seed of the sampling.")


async def sample(
    client: ChatClient | None, journal: Journal, prompt: Prompt, config: SamplingConfig, *, count: int, model: str
) -> list[Answer]:
    """`count` answers; those that the journal holds are not asked for. `model` identifies the weights, as a hash.

    Choice j is seeded with seed + j, whatever else is asked for with it, and is a record of its own. `client` may be
    None where the journal holds them all.
    """
    settings = _settings(prompt, config)
    keys = _keys(prompt, config, count, model)
    found = {
        choice: answer for choice, answer in enumerate(known_answers(journal, prompt, config, count, model)) if answer
    }
    for start, length in _gaps(found, count):
        assert client is not None
        seed = settings["seed"] + start
        completions = await client.chat(prompt.messages, n=length, **{**settings, "seed": seed})
        new = {c: Answer(text=told.text, finish_reason=told.finish_reason) for c, told in enumerate(completions, start)}
        await journal.put_all({keys[choice]: answer.model_dump() for choice, answer in new.items()})
        found |= new
    return [found[choice] for choice in range(count)]


def known_answers(
    journal: Journal, prompt: Prompt, config: SamplingConfig, count: int, model: str
) -> list[Answer | None]:
    """What the journal holds of `count` answers; None for each that `sample` would ask for."""
    records = map(journal.get, _keys(prompt, config, count, model))
    return [None if record is None else Answer.model_validate(record) for record in records]


def knows_all(journal: Journal, prompts: Iterable[Prompt], config: SamplingConfig, *, count: int, model: str) -> bool:
    """Whether `sample` would ask for nothing."""
    return all(None not in known_answers(journal, prompt, config, count, model) for prompt in prompts)


def _settings(prompt: Prompt, config: SamplingConfig) -> dict[str, Any]:
    return {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.max_tokens,
        "seed": int(key_of(config.seed, prompt.id)[:7], 16),
    }


def _keys(prompt: Prompt, config: SamplingConfig, count: int, model: str) -> list[str]:
    messages = [message.model_dump() for message in prompt.messages]
    return [key_of("answer", model, messages, _settings(prompt, config), choice) for choice in range(count)]


def _gaps(found: Mapping[int, Answer], count: int) -> list[tuple[int, int]]:
    """(first, length) of the runs of choices that are lacking."""
    gaps: list[tuple[int, int]] = []
    for choice in range(count):
        if choice in found:
            continue
        if gaps and sum(gaps[-1]) == choice:
            gaps[-1] = (gaps[-1][0], gaps[-1][1] + 1)
        else:
            gaps.append((choice, 1))
    return gaps
