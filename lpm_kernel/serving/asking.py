"""A model is served and asked, as often as the evaluation wants."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from lpm_kernel.journal import Journal
from lpm_kernel.records import Answer, Prompt
from lpm_kernel.serving.client import ChatClient
from lpm_kernel.serving.concurrency import map_in_order
from lpm_kernel.serving.endpoint import Endpoint, ServingConfig
from lpm_kernel.serving.own_server import serve
from lpm_kernel.serving.sampling import SamplingConfig, sample


class AskingConfig(ServingConfig, SamplingConfig):
    """How a model of the evaluation is asked."""

    samples: int = Field(4, ge=1, le=16, description="Answers of each model to each question.")


def answers_of(
    gguf_path: Path, prompts: Sequence[Prompt], config: AskingConfig, journal: Journal, *, model: str, log_path: Path
) -> list[list[Answer]]:
    """`samples` answers to each prompt by a server of our own; those that the journal holds are not asked for.

    `model` identifies the weights, as a hash. The log's name names the progress.
    """

    async def ask(endpoint: Endpoint) -> list[list[Answer]]:
        in_flight = max(1, endpoint.slots // config.samples) + 1
        async with ChatClient(endpoint, timeout_s=config.answer_timeout_s, max_in_flight=in_flight) as client:

            async def one(prompt: Prompt) -> list[Answer]:
                return await sample(client, journal, prompt, config, count=config.samples, model=model)

            total, label = len(prompts), f"answers {log_path.stem}"
            try:
                return [a async for a in map_in_order(one, prompts, total=total, width=in_flight, label=label)]
            finally:
                await journal.flush()

    with serve(gguf_path, config, log_path) as endpoint:
        return asyncio.run(ask(endpoint))
