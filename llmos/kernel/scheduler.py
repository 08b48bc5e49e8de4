"""Who runs next: a priority queue with a limit on how many run at once."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from llmos.errors import LLMOSError, UsageError
from llmos.kernel.bus import EventBus, GoalQueued

T = TypeVar("T")


class Scheduler:
    """Runs jobs as slots become free: lowest priority number first, in order of arrival within one priority.

    A job runs in a task of its own. However it ends, its waiter is told: the result, the exception, or, when the
    scheduler closes, an LLMOSError. A waiter that is cancelled takes its job with it.

    Raises:
        UsageError: `max_concurrent` is below 1.
    """

    def __init__(self, max_concurrent: int = 4, bus: EventBus | None = None) -> None:
        if max_concurrent < 1:
            raise UsageError(f"the scheduler must run at least one job at once, not {max_concurrent}.")
        self.max_concurrent = max_concurrent
        self._bus = bus
        self._arrivals = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None], str]] = []
        self._taken = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def running(self) -> int:
        """How many jobs hold a slot."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many jobs wait for one."""
        return sum(not turn.done() for _, _, turn, _ in self._waiting)

    async def submit(self, factory: Callable[[], Coroutine[Any, Any, T]], *, priority: int = 10, name: str = "") -> T:
        """Run `factory()` when its turn comes and give back its result; priority 0 is the most urgent.

        Raises:
            LLMOSError: the scheduler is, or was meanwhile, closed.
            Exception: whatever the job raised.
        """
        if self._closed:
            raise _stopped(name)
        await self._take_slot(priority, name)
        try:
            if self._closed:
                raise _stopped(name)
            return await self._run(factory, name)
        finally:
            self._free_slot()

    async def close(self) -> None:
        """Take no more jobs, drop those that wait, cancel those that run, and return when all have ended."""
        self._closed = True
        for _, _, turn, name in self._waiting:
            if not turn.done():
                turn.set_exception(_stopped(name))
        self._waiting.clear()
        running = self._tasks - {asyncio.current_task()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _run(self, factory: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
        task = asyncio.create_task(factory(), name=name or None)
        self._tasks.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if self._closed and waiter is not None and not waiter.cancelling():
                raise _stopped(name) from None
            raise
        finally:
            self._tasks.discard(task)

    async def _take_slot(self, priority: int, name: str) -> None:
        if self._taken < self.max_concurrent and not self.waiting:
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._arrivals), turn, name))
        if self._bus is not None:
            self._bus.publish(GoalQueued(name=name, priority=priority, waiting=self.waiting))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free_slot()  # the slot came in the same moment as the cancellation
            raise

    def _free_slot(self) -> None:
        """Hand the slot to whoever is next, or give it up."""
        while self._waiting:
            _, _, turn, _ = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1


def _stopped(name: str) -> LLMOSError:
    return LLMOSError(f"{name or 'the job'} was stopped: LLM OS is shutting down.")
