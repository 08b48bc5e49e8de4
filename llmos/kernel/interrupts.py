"""The queue of interrupts: stored before anybody is told, and delivered once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from llmos.errors import StorageError, UsageError
from llmos.kernel.process import Process
from llmos.kernel.process_table import ProcessTable
from llmos.orders import Interrupt, InterruptKind

log = logging.getLogger(__name__)

MOST_WAITING = 100
"""So many interrupts may wait for one process."""

NEARLY_SPENT = 0.8
"""The share of a budget after which its process is told."""

_HAS_NO_MODEL = frozenset({"follower", "judged", "unchanged", "undo"})


class InterruptLog(Protocol):
    """Where interrupts are stored (`llmos.memory.interrupts`)."""

    async def add(self, interrupt: Interrupt) -> Interrupt | None:
        """Store one durably; None where one of its key was stored before."""

    def add_soon(self, interrupt: Interrupt) -> None:
        """The same with whatever is stored next."""

    async def take(self, run_id: str) -> list[Interrupt]:
        """Those for a run that were not delivered, which they are then, in the order they came."""

    async def waiting(self) -> list[Interrupt]:
        """Those that were not delivered, in the order they came."""

    async def of_run(self, run_id: str) -> list[Interrupt]:
        """Those that were delivered to a run."""


class Interrupts:
    """Raises and delivers the interrupts of a home."""

    def __init__(self, log: InterruptLog, processes: ProcessTable, *, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._processes = processes
        self._clock = clock
        self._waiting: set[str] = set()

    async def open(self) -> None:
        """Get to know what an earlier kernel did not deliver."""
        self._waiting = {one.run_id for one in await self._log.waiting() if one.run_id}

    async def raise_interrupt(
        self, kind: InterruptKind, process: Process, *, text: str, key: str = "", **payload: Any
    ) -> Interrupt | None:
        """Have a process told something at its next turn, durably; None where that `key` was raised before.

        Raises:
            StorageError: it could not be stored.
        """
        stored = await self._log.add(self._made(kind, process, text, key, payload))
        self._waiting.add(process.run_id)
        return stored

    def raise_soon(self, kind: InterruptKind, process: Process, *, text: str, key: str = "", **payload: Any) -> None:
        """The same from where nobody can wait: it is stored with whatever is stored next."""
        try:
            self._log.add_soon(self._made(kind, process, text, key, payload))
        except StorageError:
            log.info("an interrupt came after the end", extra={"action": "late_interrupt"})
            return
        self._waiting.add(process.run_id)

    async def tell(self, pid: int, text: str) -> Interrupt:
        """Have the model of a process told what the user says.

        Raises:
            NotFoundError: there is no such process, or it has ended.
            UsageError: no model works on it, or it has not read what it was told before.
        """
        process = self._processes.alive(pid)
        if not text.strip():
            raise UsageError(f"tell process {pid} what? Write the message behind its number.")
        if process.mode in _HAS_NO_MODEL:
            raise UsageError(f"process {pid} is a replay: no model works on it that could be told anything.")
        waiting = [one for one in await self._log.waiting() if one.run_id == process.run_id]
        if len(waiting) >= MOST_WAITING:
            raise UsageError(f"process {pid} has {MOST_WAITING} messages waiting: it has read none for a while.")
        stored = await self.raise_interrupt(InterruptKind.USER, process, text=text)
        assert stored is not None
        return stored

    async def take(self, run_id: str) -> list[Interrupt]:
        """What a run is to be told now; it is delivered with that, and never again."""
        if run_id not in self._waiting:
            return []
        self._waiting.discard(run_id)
        return await self._log.take(run_id)

    async def told(self, run_id: str) -> Sequence[Interrupt]:
        """What a run was told, whichever kernel did it."""
        return await self._log.of_run(run_id)

    # --- the system's own ------------------------------------------------------------------------------

    def child_ended(self, process: Process) -> None:
        """Tell the parent of a process that it is over, unless it waits for just that."""
        parent = None if process.parent is None else self._processes.find(process.parent)
        if parent is None or not parent.is_alive or process.pid in parent.awaits:
            return
        text = f"process {process.pid}, which this one began, has ended: {process.why} (run {process.run_id})."
        self.raise_soon(InterruptKind.CHILD, parent, text=text, key=f"child {process.run_id}", child=process.pid)

    def nearly_spent(self, process: Process, spent_usd: float, limit_usd: float) -> None:
        """Tell a process, once, that its budget is nearly gone."""
        text = f"${spent_usd:.4f} of the ${limit_usd:.4f} that this goal may cost are spent."
        self.raise_soon(InterruptKind.BUDGET, process, text=text, key=f"budget {process.run_id}")

    def rate_limited(self, process: Process, seconds: float) -> None:
        """Tell a process, once, that its model's provider limits the rate."""
        text = f"the provider of this model limits the rate: an answer was waited for {seconds:.0f} s longer."
        self.raise_soon(InterruptKind.RATE_LIMIT, process, text=text, key=f"rate limit {process.run_id}")

    def _made(self, kind: InterruptKind, process: Process, text: str, key: str, payload: dict[str, Any]) -> Interrupt:
        return Interrupt(
            kind=kind,
            run_id=process.run_id,
            pid=process.pid,
            payload={"text": text, **payload},
            key=key,
            created_at=self._clock(),
        )
