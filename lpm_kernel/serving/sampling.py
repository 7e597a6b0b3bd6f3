"""Answers of a served model, each asked for once: dpo_data and evaluate_model both sample here."""

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
    client: ChatClient, journal: Journal, prompt: Prompt, config: SamplingConfig, *, count: int, model: str
) -> list[Answer]:
    """`count` answers, from the journal where they are there. `model` identifies the weights, as a hash."""
    settings: dict[str, Any] = {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.max_tokens,
        "seed": int(key_of(config.seed, prompt.id)[:7], 16),
    }
    key = key_of("answers", model, [m.model_dump() for m in prompt.messages], count, settings)
    known = journal.get(key)
    if known is None:
        completions = await client.chat(prompt.messages, n=count, **settings)
        answers = [Answer(text=c.text, finish_reason=c.finish_reason) for c in completions]
        await journal.put(key, [answer.model_dump() for answer in answers])
        return answers
    return [Answer.model_validate(answer) for answer in known]
