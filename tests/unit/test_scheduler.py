"""The scheduler on a real event loop: order, limit, failure, cancellation, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from llmos.errors import LLMOSError, UsageError
from llmos.kernel.bus import EventBus, GoalQueued
from llmos.kernel.scheduler import Scheduler


async def settled() -> None:
    """Let everything that can run now run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def ends(task: asyncio.Task[str]) -> None:
    """Wait for the very step of the loop in which a task ends, before anybody it wakes has run."""
    while not task.done():  # noqa: ASYNC110
        await asyncio.sleep(0)


class Gate:
    """Jobs that start, wait to be let go, and say what happened to them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.open = asyncio.Event()

    def job(self, name: str) -> Callable[[], Coroutine[None, None, str]]:
        async def run() -> str:
            self.log.append(f"{name} starts")
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                self.log.append(f"{name} is cancelled")
                raise
            self.log.append(f"{name} ends")
            return name

        return run


async def test_a_job_gives_its_result_to_its_waiter() -> None:
    async def job() -> int:
        return 7

    scheduler = Scheduler()
    assert await scheduler.submit(job) == 7
    assert (scheduler.running, scheduler.waiting) == (0, 0)


async def test_an_exception_reaches_the_waiter_and_frees_the_slot() -> None:
    async def job() -> None:
        raise ValueError("broken")

    scheduler = Scheduler(max_concurrent=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            await asyncio.wait_for(scheduler.submit(job), 5)
    assert scheduler.running == 0


async def test_a_factory_that_raises_frees_the_slot() -> None:
    def factory() -> Coroutine[None, None, None]:
        raise ValueError("no job")

    scheduler = Scheduler(max_concurrent=1)
    with pytest.raises(ValueError, match="no job"):
        await scheduler.submit(factory)
    assert scheduler.running == 0


async def test_no_more_jobs_run_than_allowed() -> None:
    gate = Gate()
    scheduler = Scheduler(max_concurrent=2)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(scheduler.submit(gate.job(str(n)))) for n in range(5)]
        await settled()
        assert (scheduler.running, scheduler.waiting) == (2, 3)
        assert gate.log == ["0 starts", "1 starts"]
        gate.open.set()
    assert [task.result() for task in tasks] == ["0", "1", "2", "3", "4"]
    assert (scheduler.running, scheduler.waiting) == (0, 0)


async def test_the_most_urgent_runs_next_and_equals_in_order_of_arrival() -> None:
    gate = Gate()
    scheduler = Scheduler(max_concurrent=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(scheduler.submit(gate.job("first")))
        await settled()
        for name, priority in [("b", 10), ("z", 19), ("c", 10), ("a", 0), ("d", 10)]:
            group.create_task(scheduler.submit(gate.job(name), priority=priority))
            await settled()
        gate.open.set()
    assert [line.split()[0] for line in gate.log if "starts" in line] == ["first", "a", "b", "c", "d", "z"]


async def test_a_newcomer_does_not_overtake_who_waits() -> None:
    gate = Gate()
    scheduler = Scheduler(max_concurrent=1)

    async def late() -> None:
        gate.log.append("late")

    async with asyncio.TaskGroup() as group:
        group.create_task(scheduler.submit(gate.job("first")))
        group.create_task(scheduler.submit(gate.job("second")))
        await settled()
        gate.open.set()
        group.create_task(scheduler.submit(late))
    assert gate.log[-1] == "late"


async def test_cancelling_the_waiter_cancels_its_job() -> None:
    gate = Gate()
    scheduler = Scheduler(max_concurrent=1)
    waiter = asyncio.create_task(scheduler.submit(gate.job("a")))
    await settled()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert gate.log == ["a starts", "a is cancelled"]
    assert scheduler.running == 0


async def test_cancelling_a_waiter_in_the_queue_takes_only_its_place() -> None:
    gate = Gate()
    scheduler = Scheduler(max_concurrent=1)
    first, second, third = (asyncio.create_task(scheduler.submit(gate.job(name))) for name in "abc")
    await settled()
    second.cancel()
    await settled()
    assert scheduler.waiting == 1
    gate.open.set()
    assert (await first, await third) == ("a", "c")
    assert "b starts" not in gate.log
    assert second.cancelled()


async def test_a_slot_given_in_the_moment_of_cancellation_is_passed_on() -> None:
    gate = Gate()
    scheduler = Scheduler(max_concurrent=1)
    first, second, third = (asyncio.create_task(scheduler.submit(gate.job(name))) for name in "abc")
    await settled()
    gate.open.set()
    await ends(first)
    second.cancel()  # it has the slot, but has not run since
    assert await asyncio.wait_for(third, 5) == "c"
    assert (scheduler.running, scheduler.waiting) == (0, 0)


async def test_closing_ends_running_and_waiting_jobs_and_tells_their_waiters() -> None:
    gate = Gate()
    scheduler = Scheduler(max_concurrent=1)
    running = asyncio.create_task(scheduler.submit(gate.job("a"), name="goal a"))
    waiting = asyncio.create_task(scheduler.submit(gate.job("b"), name="goal b"))
    await settled()
    await scheduler.close()
    assert gate.log == ["a starts", "a is cancelled"]
    with pytest.raises(LLMOSError, match="goal a was stopped: LLM OS is shutting down"):
        await running
    with pytest.raises(LLMOSError, match="goal b was stopped"):
        await waiting
    assert (scheduler.running, scheduler.waiting) == (0, 0)


async def test_closing_waits_until_a_job_has_cleaned_up() -> None:
    cleaned = False

    async def job() -> None:
        nonlocal cleaned
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            cleaned = True

    scheduler = Scheduler()
    waiter = asyncio.create_task(scheduler.submit(job))
    await settled()
    await scheduler.close()
    assert cleaned
    with pytest.raises(LLMOSError):
        await waiter


async def test_a_closed_scheduler_takes_nothing_and_closes_twice() -> None:
    gate = Gate()
    scheduler = Scheduler()
    await scheduler.close()
    await scheduler.close()
    with pytest.raises(LLMOSError, match="was stopped"):
        await scheduler.submit(gate.job("a"))
    assert gate.log == []


async def test_a_job_that_got_its_slot_while_closing_does_not_start() -> None:
    gate = Gate()
    scheduler = Scheduler(max_concurrent=1)
    first, second = (asyncio.create_task(scheduler.submit(gate.job(name), name=name)) for name in "ab")
    await settled()
    gate.open.set()
    while next(iter(scheduler.processes)) in scheduler.turns._holding:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert scheduler.running == 1
    await scheduler.close()
    with pytest.raises(LLMOSError):
        await second
    assert (await asyncio.gather(first, return_exceptions=True)) and "b starts" not in gate.log


async def test_a_job_may_close_its_own_scheduler() -> None:
    scheduler = Scheduler()

    async def job() -> str:
        await scheduler.close()
        return "closed"

    assert await asyncio.wait_for(scheduler.submit(job), 5) == "closed"


async def test_waiting_is_told() -> None:
    bus = EventBus()
    told: list[GoalQueued] = []
    bus.subscribe(GoalQueued, told.append)
    gate = Gate()
    scheduler = Scheduler(max_concurrent=1, bus=bus)
    async with asyncio.TaskGroup() as group:
        group.create_task(scheduler.submit(gate.job("a"), name="a"))
        group.create_task(scheduler.submit(gate.job("b"), name="b", priority=3))
        await settled()
        gate.open.set()
    assert told == [GoalQueued(name="b", priority=3, waiting=1)]


async def test_many_jobs_with_failures_and_cancellations_leave_no_slot_behind() -> None:
    scheduler = Scheduler(max_concurrent=3)

    async def job(n: int) -> int:
        await asyncio.sleep(0.001 * (n % 4))
        if n % 5 == 0:
            raise ValueError(n)
        return n

    tasks = [asyncio.create_task(scheduler.submit(lambda n=n: job(n), priority=n % 7)) for n in range(200)]  # type: ignore[misc]
    for n, task in enumerate(tasks):
        if n % 11 == 0:
            task.cancel()
        if n % 13 == 0:
            await asyncio.sleep(0.001)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert (scheduler.running, scheduler.waiting) == (0, 0)
    for n, result in enumerate(results):
        assert result == n or (isinstance(result, ValueError) and n % 5 == 0) or n % 11 == 0


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one job"):
        Scheduler(max_concurrent=0)
