"""Many questions at once, and none left running when one fails."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable
from typing import Any, TypeVar

from lpm_kernel.progress import progress

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 4
"""So many times `width` items may be begun before the oldest one ends."""


async def together(*work: Coroutine[Any, Any, R]) -> list[R]:
    """All results, in order; the first error is raised once the others have ended."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _end(tasks)


async def map_in_order(
    function: Callable[[T], Awaitable[R]], items: Iterable[T], *, total: int, width: int, label: str
) -> AsyncIterator[R]:
    """Each result in the order of the items, as soon as all before it are there; at most `width` are under way.

    Never more than AHEAD * width items and results are in memory.

    `total` is for the progress line. The first error ends the rest and is raised.
    """
    room = asyncio.Semaphore(width)
    window: deque[asyncio.Task[R]] = deque()
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work(item: T) -> R:
        async with room:
            result = await function(item)
        shown.advance()
        return result

    def watch(task: asyncio.Task[R]) -> None:
        if not task.cancelled() and task.exception() and not failed.done():
            failed.set_exception(task.exception() or RuntimeError())

    waiting = iter(items)
    with progress(label, total) as shown:
        try:
            while True:
                for item in waiting:
                    window.append(asyncio.ensure_future(work(item)))
                    window[-1].add_done_callback(watch)
                    if len(window) >= AHEAD * width:
                        break
                if not window:
                    return
                oldest: set[asyncio.Future[Any]] = {window[0], failed}
                await asyncio.wait(oldest, return_when=asyncio.FIRST_COMPLETED)
                if failed.done():
                    failed.result()
                yield window.popleft().result()
        finally:
            await _end(window)
            failed.cancel()


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
