"""A model is served and asked, as often as the evaluation wants."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import Field

from lpm_kernel.journal import Journal
from lpm_kernel.records import Answer, Prompt
from lpm_kernel.serving.client import ChatClient
from lpm_kernel.serving.concurrency import map_in_order
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.own_server import serve
from lpm_kernel.serving.sampling import SamplingConfig, knows_all, sample


class AskingConfig(ServingConfig, SamplingConfig):
    """How a model of the evaluation is asked."""

    samples: int = Field(4, ge=1, le=16, description="Answers of each model to each question.")


@dataclass(frozen=True)
class Asking:
    """A model that is asked."""

    answers: Callable[[Prompt], Awaitable[list[Answer]]]
    """Raises RefusedError for a prompt that the server refuses."""
    width: int
    """Prompts that are worked on at once: as many as the server has slots for, and one in its queue."""


@asynccontextmanager
async def asking(
    endpoint: Endpoint | None, journal: Journal, config: SamplingConfig, *, count: int, model: str
) -> AsyncIterator[Asking]:
    """`count` answers to each prompt; those that the journal holds are not asked for, and without an endpoint none is.

    `model` identifies the weights, as a hash.
    """
    if endpoint is None:
        yield Asking(partial(sample, None, journal, config=config, count=count, model=model), width=1)
        return
    width = max(1, endpoint.slots // count) + 1
    async with ChatClient(endpoint, timeout_s=config.answer_timeout_s, max_in_flight=width) as client:
        yield Asking(partial(sample, client, journal, config=config, count=count, model=model), width)


def answers_of(
    gguf_path: Path, prompts: Sequence[Prompt], config: AskingConfig, journal: Journal, *, model: str, log_path: Path
) -> list[list[Answer]]:
    """`samples` answers to each prompt, by a server of our own unless the journal holds them all.

    `model` identifies the weights, as a hash. The log's name names the progress.
    """

    async def ask(endpoint: Endpoint | None) -> list[list[Answer]]:
        total, label = len(prompts), f"answers {log_path.stem}"
        async with asking(endpoint, journal, config, count=config.samples, model=model) as asked:
            every = map_in_order(asked.answers, prompts, total=total, width=asked.width, label=label)
            try:
                return [answers async for answers in every]
            finally:
                await journal.flush()

    has_all = knows_all(journal, prompts, config, count=config.samples, model=model)
    with nullcontext() if has_all else serve(gguf_path, config, log_path) as endpoint:
        return asyncio.run(ask(endpoint))
