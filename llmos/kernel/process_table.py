"""The processes of a home, by number: begun, looked up, stopped, gone on with and ended."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from llmos.errors import NotFoundError, UsageError
from llmos.kernel.budget import Budget
from llmos.kernel.process import DEFAULT, End, Kind, Process, State, Wait, checked, current, told

_KEPT = 200
"""How many processes that have ended are still told of."""


class ProcessTable:
    """The processes of a home: all that are alive, and those that ended last. Their numbers count from 1."""

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._processes: OrderedDict[int, Process] = OrderedDict()
        self._ended: list[int] = []
        self.listeners: list[Callable[[Process], None]] = []

    def __iter__(self) -> Iterator[Process]:
        return iter([*self._processes.values()])

    def spawn(
        self,
        goal: str,
        *,
        kind: Kind = Kind.USER,
        priority: int = DEFAULT,
        run_id: str = "",
        budget_usd: float | None = None,
        budget_tokens: int | None = None,
    ) -> Process:
        """A process for a goal, which waits for its turn; a child of the one that asks, with a part of its budget.

        Raises:
            UsageError: the priority, or the budget, is none.
            LowBatteryError: the parent's budget has not so much left.
        """
        parent = current()
        priority = checked(priority)
        budget = Budget(budget_usd, tokens=budget_tokens, parent=None if parent is None else parent.budget)
        process = Process(
            pid=next(self._numbers),
            goal=goal,
            kind=kind,
            priority=priority,
            parent=parent.pid if parent is not None else None,
            run_id=run_id,
            budget=budget,
            above=() if parent is None else (*parent.above, parent.kind),
            origin="" if parent is None else parent.family,
            agent=None if parent is None else parent.agent,
            created_at=self._clock(),
        )
        self._processes[process.pid] = process
        return process

    def restore(
        self,
        pid: int,
        goal: str,
        *,
        kind: Kind,
        priority: int,
        parent: int | None,
        run_id: str,
        budget: Budget,
        created_at: datetime,
        left: Any,
        above: tuple[Kind, ...] = (),
        origin: str = "",
    ) -> Process:
        """A process that an earlier kernel left: it stands still until it is resumed. Later ones get other numbers."""
        process = Process(
            pid=pid,
            goal=goal,
            kind=kind,
            priority=priority,
            parent=parent,
            run_id=run_id,
            budget=budget,
            created_at=created_at,
            left=left,
            above=above,
            origin=origin,
            is_stopped=True,
        )
        process.began_s -= max(0.0, (self._clock() - created_at).total_seconds())
        process.move(State.SUSPENDED)
        self._processes[pid] = process
        self._numbers = itertools.count(max(self._processes) + 1)
        return process

    def ended(self, process: Process, end: End) -> None:
        """A process is over."""
        process.move(State.TERMINATED, end)
        process.budget.close()
        for listener in self.listeners:
            listener(process)
        self._ended.append(process.pid)
        while len(self._ended) > _KEPT:
            self._processes.pop(self._ended.pop(0), None)

    def find(self, pid: int) -> Process | None:
        """The process of a number, if there is one."""
        return self._processes.get(pid)

    def get(self, pid: int) -> Process:
        """The process of a number.

        Raises:
            NotFoundError: there is none.
        """
        found = self._processes.get(pid)
        if found is None:
            raise NotFoundError(f"there is no process {pid}: `ps --all` lists those there are, and that were.")
        return found

    def alive(self, pid: int) -> Process:
        """The process of a number, which has not ended.

        Raises:
            NotFoundError: there is none, or it has ended.
        """
        found = self.get(pid)
        if not found.is_alive:
            raise NotFoundError(f"process {pid} has ended ({found.why}).")
        return found

    def kill(self, pid: int) -> Process:
        """End a process at once, with all that it began.

        Raises:
            NotFoundError: there is none, or it has ended.
        """
        process = self.alive(pid)
        for child in self:
            if child.parent == pid and child.is_alive:
                self.kill(child.pid)
        process.killed = End.KILLED
        if process.task is not None:
            process.task.cancel()
        elif process.left is not None:
            self.ended(process, End.KILLED)
        return process

    def suspend(self, pid: int) -> Process:
        """Have a process stop at the end of its turn, until it is resumed.

        Raises:
            NotFoundError: there is none, or it has ended.
            UsageError: it is suspended already.
        """
        process = self.alive(pid)
        if process.state is State.SUSPENDED:
            raise UsageError(f"process {pid} is suspended already.")
        process.is_stopped = True
        if process.sharing is not None:
            process.sharing.stopped(process)
        return process

    def resume(self, pid: int) -> Process:
        """Let a process go on.

        Raises:
            NotFoundError: there is none, or it has ended.
            UsageError: nobody stopped it.
        """
        process = self.alive(pid)
        if not process.is_stopped:
            raise UsageError(f"process {pid} is not suspended: it is {told(process.state, process.why)}.")
        process.is_stopped = False
        if process.sharing is not None:
            process.sharing.resumed(process)
        elif process.state is State.SUSPENDED:
            process.move(State.BLOCKED, Wait.TURN)
        return process

    def change_model(self, pid: int, model: str) -> Process:
        """Have another model go on with a process, from the end of its turn on.

        Raises:
            NotFoundError: there is none, or it has ended.
            UsageError: no model works on it, or who does can't ask that one.
        """
        process = self.alive(pid)
        if process.reach is None:
            how = (
                f"it is a {process.mode}"
                if process.mode and process.left is None
                else f"it is {told(process.state, process.why)}"
            )
            raise UsageError(f"no model works on process {pid} ({how}), so there is none to change.")
        process.reach(model)
        process.next_model = "" if model == process.model else model
        return process

    def renice(self, pid: int, priority: int) -> Process:
        """Give a process another priority, from its next turn on.

        Raises:
            NotFoundError: there is none, or it has ended.
            UsageError: the priority is none.
        """
        process = self.alive(pid)
        process.priority = checked(priority)
        return process
