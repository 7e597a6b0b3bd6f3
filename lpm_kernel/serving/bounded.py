"""Many items at once, but never more than a few in memory or in flight."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from lpm_kernel.progress import progress

T = TypeVar("T")
R = TypeVar("R")


async def map_bounded(function: Callable[[T], Awaitable[R]], items: Sequence[T], *, width: int, label: str) -> list[R]:
    """Results in the order of the items, at most `width` under way; the first error ends the rest and is raised."""
    results: dict[int, R] = {}
    waiting = iter(enumerate(items))

    async def work() -> None:
        for index, item in waiting:
            results[index] = await function(item)
            shown.advance()

    with progress(label, len(items)) as shown:
        workers = [asyncio.ensure_future(work()) for _ in range(min(width, len(items)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return [results[index] for index in range(len(items))]
