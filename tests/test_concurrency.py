"""Results come in order and as they finish, few at a time, and an error leaves nothing running."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from lpm_kernel.journal import open_journal
from lpm_kernel.serving.concurrency import AHEAD, map_in_order, together


async def mapped(items: Iterator[int], width: int, fails_at: int = -1) -> tuple[list[int], int]:
    """(results, most at once); the later an item, the sooner it is done."""
    running = most = 0

    async def work(item: int) -> int:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0.002 * (10 - item % 10))
        running -= 1
        if item == fails_at:
            raise ValueError(item)
        return item

    return [r async for r in map_in_order(work, items, total=40, width=width, label="x")], most


def test_results_keep_the_order_and_no_more_than_width_are_under_way() -> None:
    results, most = asyncio.run(mapped(iter(range(40)), width=3))
    assert (results, most) == (list(range(40)), 3)


def test_only_a_few_items_are_taken_ahead_of_the_oldest_result() -> None:
    taken: list[int] = []

    async def first_result() -> int:
        async def work(item: int) -> int:
            await asyncio.sleep(0.01)
            return item

        def source() -> Iterator[int]:
            for n in range(1000):
                taken.append(n)
                yield n

        async for result in map_in_order(work, source(), total=1000, width=2, label="x"):
            return result
        return -1

    assert asyncio.run(first_result()) == 0
    assert len(taken) <= AHEAD * 2 + 1


def test_an_error_is_raised_at_once_and_the_rest_is_ended() -> None:
    with pytest.raises(ValueError, match="7"):
        asyncio.run(mapped(iter(range(10_000)), width=4, fails_at=7))


def test_together_ends_the_others_before_it_raises() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")

    async def bad() -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        asyncio.run(together(slow(), bad()))
    assert ended == ["slow"]


def test_records_that_were_put_are_kept_though_the_caller_is_cancelled(tmp_path: Path) -> None:
    async def put_and_cancel() -> None:
        with open_journal(path) as journal:
            putting = asyncio.ensure_future(journal.put_all({"a": 1, "b": 2}))
            await asyncio.sleep(0)
            putting.cancel()
            await journal.flush()

    path = tmp_path / "journal.sqlite"
    asyncio.run(put_and_cancel())
    with open_journal(path) as journal:
        assert (journal.get("a"), journal.get("b")) == (1, 2)
