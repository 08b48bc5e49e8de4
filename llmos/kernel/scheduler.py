"""The jobs of one LLMOS: each a process, which works when its turn comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, TypeVar

from llmos.errors import LLMOSError, UsageError
from llmos.kernel.bus import EventBus, GoalQueued
from llmos.kernel.process import DEFAULT, End, Kind, Process, at_work_for
from llmos.kernel.process_table import ProcessTable
from llmos.kernel.turns import Turns

T = TypeVar("T")


class Scheduler:
    """Runs jobs as slots become free; `turns` and `processes` may be shared with other schedulers.

    A job runs in a task of its own. However it ends, its waiter is told: the result, the exception, or, when the
    scheduler closes, an LLMOSError. A waiter that is cancelled takes its job with it.

    Raises:
        UsageError: `max_concurrent` is below 1.
    """

    def __init__(
        self,
        max_concurrent: int = 4,
        bus: EventBus | None = None,
        *,
        turns: Turns | None = None,
        processes: ProcessTable | None = None,
    ) -> None:
        if max_concurrent < 1:
            raise UsageError(f"the scheduler must run at least one job at once, not {max_concurrent}.")
        self.turns = turns or Turns()
        self.processes = processes or ProcessTable(clock=lambda: datetime.now(UTC))
        self._room = ExitStack()
        self._room.enter_context(self.turns.room(max_concurrent))
        self._bus = bus
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def running(self) -> int:
        """How many processes hold a slot."""
        return self.turns.taken

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return self.turns.waiting

    async def submit(
        self,
        factory: Callable[[], Coroutine[Any, Any, T]],
        *,
        priority: int = DEFAULT,
        name: str = "",
        kind: Kind = Kind.USER,
        budget_usd: float | None = None,
        budget_tokens: int | None = None,
        begun: Callable[[Process], None] | None = None,
        process: Process | None = None,
    ) -> T:
        """Run `factory()` when its turn comes and give back its result; priority 0 is the most urgent.

        It is a new process, or `process` goes on with it. The budgets are what it and its children may spend, of the
        budget of the process that asks if there is one.

        Raises:
            UsageError: the priority, or a budget, is none.
            LowBatteryError: the process that asks has not so much left.
            LLMOSError: the scheduler is, or was meanwhile, closed, or somebody killed the process.
            Exception: whatever the job raised.
        """
        if self._closed:
            raise _stopped(name)
        if process is None:
            process = self.processes.spawn(
                name, kind=kind, priority=priority, budget_usd=budget_usd, budget_tokens=budget_tokens
            )
        process.sharing = self.turns
        if begun is not None:
            begun(process)
        end = End.FAILED
        try:
            result = await self._run(process, factory)
            end = End.DONE
            return result
        except LLMOSError as error:
            process.reason = str(error)
            raise
        except asyncio.CancelledError:
            end = process.killed or End.INTERRUPTED
            waiter = asyncio.current_task()
            if waiter is not None and not waiter.cancelling():
                if process.killed is not None:
                    raise LLMOSError(f"process {process.pid} was killed.") from None
                if self._closed:
                    raise _stopped(name) from None
            raise
        finally:
            self.turns.forget(process)
            self.processes.ended(process, end)

    async def close(self) -> None:
        """Take no more jobs, end those there are, and return when all have ended."""
        self._closed = True
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._room.close()

    async def _run(self, process: Process, factory: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with at_work_for(process):
            task = asyncio.create_task(self._working(process, factory), name=process.goal or None)
        process.task = task
        self._tasks.add(task)
        try:
            return await task
        finally:
            self._tasks.discard(task)

    async def _working(self, process: Process, factory: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._bus is not None and self.turns.taken >= self.turns.slots:
            waiting = self.turns.waiting + 1
            self._bus.publish(GoalQueued(name=process.goal, priority=process.priority, waiting=waiting))
        await self.turns.take(process)
        try:
            return await factory()
        finally:
            self.turns.leave(process)


def _stopped(name: str) -> LLMOSError:
    return LLMOSError(f"{name or 'the job'} was stopped: LLM OS is shutting down.")
