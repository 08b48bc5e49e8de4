"""What begins goals that nobody types: schedules when they are due, watches when something changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from llmos.errors import LLMOSError, NotFoundError
from llmos.home import OpenHome
from llmos.kernel.process import Process
from llmos.kernel.timing import advanced, is_missed
from llmos.memory.orders import OrderStore
from llmos.orders import AnyOrder, Interrupt, InterruptKind, Job, OrderState, Schedule, begun, ended, skipped
from llmos.resident.watcher import Watcher

log = logging.getLogger(__name__)

LOOK_EVERY_S = 30.0
"""A clock may be put forward, or a machine sleep, without anybody being told."""

LEFT = "the kernel ended before it did"


@dataclass(frozen=True, kw_only=True)
class Came:
    """What a run came to."""

    status: str
    said: str = ""
    cost_usd: float = 0.0


Runner = Callable[[Job, str, str], Awaitable[Came]]
"""Does a job's goal, in these words, as the run of this id."""


class Keeper:
    """Keeps the standing orders of a home; what it begins is in the home's background."""

    def __init__(self, home: OpenHome, runner: Runner, *, clock: Callable[[], datetime]) -> None:
        self._home = home
        self._runner = runner
        self._clock = clock
        self._woken = asyncio.Event()
        self._working: set[str] = set()
        self._awaited: set[asyncio.Task[None]] = set()
        self.active = 0
        self._watcher = Watcher(home, self, clock=clock)
        for store in (home.schedules, home.watches):
            store.listen(self._woken.set)

    async def run(self) -> None:
        """Pick up what an earlier kernel left, and keep the orders until cancelled."""
        try:
            try:
                await self.pick_up()
            except LLMOSError as error:
                log.warning("what was left could not be picked up: %s", error, extra={"action": "not_picked_up"})
            while True:
                self._woken.clear()
                try:
                    wait_s = await self.look()
                except LLMOSError as error:
                    log.warning("the orders could not be kept: %s", error, extra={"action": "not_kept"})
                    wait_s = LOOK_EVERY_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), wait_s)
        finally:
            for task in self._awaited:
                task.cancel()
            await self._watcher.close()

    async def pick_up(self) -> None:
        """Begin what was raised and not begun, and say what became of runs that an earlier kernel began."""
        stores: tuple[OrderStore[Any], ...] = (self._home.schedules, self._home.watches)
        for store in stores:
            for order in await store.list():
                if order.is_running:
                    await self._settle(store, order)
                if order.is_active or await store.waiting(order):
                    self.go(store, order)

    async def look(self) -> float:
        """Begin what is due; the seconds until something is again, at most."""
        now = self._clock()
        for schedule in await self._home.schedules.list():
            if schedule.is_active and schedule.next_at is not None and schedule.next_at <= now:
                await self._due(schedule, now)
        schedules, watches = await self._home.schedules.list(), await self._home.watches.list()
        self.active = sum(one.is_active for one in (*schedules, *watches))
        await self._watcher.follow(watches)
        due = [one.next_at for one in schedules if one.is_active and one.next_at is not None]
        left_s = min(((moment - self._clock()).total_seconds() for moment in due), default=LOOK_EVERY_S)
        return max(0.0, min(left_s, LOOK_EVERY_S))

    def is_at_work(self, order: AnyOrder) -> bool:
        """Whether a run of it is under way."""
        return order.name in self._working

    def go(self, store: OrderStore[Any], order: AnyOrder) -> None:
        """Begin what an order raised, one after the other, unless that is being done."""
        if order.name not in self._working:
            self._working.add(order.name)
            self._in_background(self._work(store, order))

    # --- inside ----------------------------------------------------------------------------------------

    async def _due(self, schedule: Schedule, now: datetime) -> None:
        store, due = self._home.schedules, schedule.next_at
        assert due is not None
        why = ""
        if schedule.skip_missed and is_missed(schedule, now):
            why = f"missed at {due.isoformat(timespec='seconds')}: no kernel kept the time"
        elif self.is_at_work(schedule):
            why = f"left out at {due.isoformat(timespec='seconds')}: the run before was still at work"
        if why:
            await store.change(schedule.id, lambda one: skipped(advanced(one, now), why))
            return
        raised = Interrupt(
            kind=InterruptKind.TIMER,
            order=schedule.name,
            payload={"text": schedule.job.goal, "due": due.isoformat()},
            key=f"{schedule.name} {due.isoformat()}",
            created_at=now,
        )
        await store.fire(schedule.id, lambda one: advanced(one, now), [raised])
        self.go(store, schedule)

    async def _work(self, store: OrderStore[Any], order: AnyOrder) -> None:
        try:
            while True:
                with contextlib.suppress(NotFoundError):
                    order = await store.get(order.id)
                    waiting = [] if order.state is OrderState.PAUSED else await store.waiting(order)
                    if waiting:
                        await self._begin(store, order, waiting[0])
                        continue
                self._working.discard(order.name)  # in the same moment as it was seen that nothing waits
                return
        finally:
            self._working.discard(order.name)

    async def _begin(self, store: OrderStore[Any], order: AnyOrder, interrupt: Interrupt) -> None:
        run_id = uuid.uuid4().hex[:12]
        change = partial(begun, run_id=run_id, now=self._clock())
        started = await store.begin(order, interrupt, run_id, change)
        if started is not None:
            await self._do(store, started, interrupt.text, run_id)

    async def _do(self, store: OrderStore[Any], order: AnyOrder, goal: str, run_id: str) -> None:
        came = Came(status="interrupted", said=LEFT)
        try:
            came = await self._runner(order.job, goal, run_id)
        except Exception as error:  # a run is a border: whatever broke it is told, and the next one begins
            log.exception("a standing order broke", extra={"action": "order_broke", "order": order.name})
            came = Came(status="failed", said=f"unexpected {type(error).__name__}: {error}")
        finally:
            await asyncio.shield(self._over(store, order, run_id, came))

    async def _over(self, store: OrderStore[Any], order: AnyOrder, run_id: str, came: Came) -> None:
        def change(one: Any) -> Any:
            return ended(one, run_id=run_id, status=came.status, said=came.said, cost_usd=came.cost_usd)

        changed = await store.change(order.id, change)
        await self._watcher.ended(order, run_id)
        if changed is not None and not changed.is_active:
            self._woken.set()

    async def _settle(self, store: OrderStore[Any], order: AnyOrder) -> None:
        """What became of a run that an earlier kernel began: one that left no record did nothing, and begins again."""
        left = next((one for one in self._home.processes if one.run_id == order.last_run_id and one.is_alive), None)
        if left is not None:
            self._working.add(order.name)
            task = asyncio.create_task(self._await(store, order, left))
            self._awaited.add(task)
            task.add_done_callback(self._awaited.discard)
            return
        try:
            run = await self._home.runs.get(order.last_run_id)
        except NotFoundError:
            told = await self._home.interrupts.told(order.last_run_id)
            if told:
                self._working.add(order.name)
                self._in_background(self._again(store, order, told[-1].text))
                return
            came = Came(status="interrupted", said=LEFT)
        else:
            status = str(run.status) if str(run.status) in ("done", "failed") else "interrupted"
            came = Came(status=status, said=run.answer or run.reason or LEFT, cost_usd=run.cost_usd)
        await self._over(store, order, order.last_run_id, came)

    async def _await(self, store: OrderStore[Any], order: AnyOrder, process: Process) -> None:
        """Wait for a run that an earlier kernel began and that goes on in this one."""
        try:
            await process.over.wait()
        finally:
            self._working.discard(order.name)
        await self._settle(store, order)
        self.go(store, order)

    async def _again(self, store: OrderStore[Any], order: AnyOrder, goal: str) -> None:
        try:
            await self._do(store, order, goal, order.last_run_id)
        finally:
            self._working.discard(order.name)
        self.go(store, order)

    def _in_background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._home.background.add(task)
        task.add_done_callback(self._home.background.discard)
        task.add_done_callback(_told)


def _told(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        level = logging.INFO if isinstance(error, LLMOSError) else logging.ERROR
        log.log(level, "a standing order could not be kept", exc_info=error, extra={"action": "order_lost"})
