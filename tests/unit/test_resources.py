"""Counting what tools use changes nothing of how they run."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable

import pytest

from llmos.plugins.resources import Resources, counted_in, counting, in_thread, timed


async def test_a_coroutine_that_is_counted_gives_and_raises_what_it_would_alone() -> None:
    async def given() -> int:
        await asyncio.sleep(0)
        return 7

    async def raising() -> None:
        await asyncio.sleep(0)
        raise KeyError("mine")

    with counted_in(used := Resources()):
        assert await timed(given()) == 7
        with pytest.raises(KeyError, match="mine"):
            await timed(raising())
    assert used.cpu_s is not None


async def test_a_cancellation_is_the_coroutine_s_to_handle() -> None:
    begun = asyncio.Event()

    async def stubborn() -> str:
        try:
            begun.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "tidied up"
        return "slept"

    with counted_in(Resources()):
        task = asyncio.create_task(timed(stubborn()))
        await begun.wait()
        task.cancel()
        assert await task == "tidied up"


async def test_a_time_out_inside_is_that_of_the_coroutine_alone() -> None:
    async def late() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return "too late"
        return "in time"

    with counted_in(Resources()):
        assert await timed(late()) == "too late"


async def test_what_is_no_coroutine_is_awaited_as_it_is() -> None:
    future: Awaitable[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, 3)  # type: ignore[attr-defined]
    with counted_in(used := Resources()):
        assert await timed(future) == 3
    assert used.cpu_s is None


async def test_nobody_counts_outside_of_a_process_nor_where_it_is_switched_off() -> None:
    assert counting() is None
    with counted_in(used := Resources()):
        with counted_in(None):
            assert await in_thread(lambda: 5) == 5
        assert counting() is used
    assert used.cpu_s is None


async def test_many_threads_at_once_lose_nothing() -> None:
    with counted_in(used := Resources()):
        await asyncio.gather(*(in_thread(used.add, disk_written_bytes=1) for _ in range(500)))
    assert used.disk_written_bytes == 500


def test_what_was_counted_elsewhere_is_included_as_it_comes_from_another_process() -> None:
    here, there = Resources(), Resources()
    here.add(cpu_s=1.0, peak_memory_bytes=30)
    there.add(cpu_s=0.5, peak_memory_bytes=20)
    here.include(pickle.loads(pickle.dumps(there)))
    assert (here.cpu_s, here.peak_memory_bytes, here.disk_written_bytes) == (1.5, 30, None)
