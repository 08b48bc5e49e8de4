"""Who works next: slots that are shared fairly, by what each process has had of the machine and of money.

Each process has a virtual runtime: the seconds that it held a slot and the dollars that it spent meanwhile, divided by
its weight. Whoever has least is next, so that in the long run everybody gets a share by weight, and nobody starves. A
process that comes, or comes back after a wait, starts where those at work are: what nobody used is not saved up.

Source: Demers, Keshav & Shenker 1989 (fair queueing); the weights are those of nice levels (sched(7)).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from llmos.kernel.process import Kind, Process, State, Wait

USD_PER_S = 0.5 / 60
"""What a second in a slot counts as: a learner costs about half a dollar a minute."""

QUANTUM_S = 0.1
"""How long a replay works before somebody else may."""

SYSTEM_SHARE = 0.1
"""What the system's own processes get at least, while they want it, whatever their weight."""

_HALF_LIFE_S = 60.0


@dataclass(kw_only=True, eq=False)
class _Turn:
    process: Process
    arrival: int
    given: asyncio.Future[None]


@dataclass(kw_only=True, eq=False)
class _Away:
    """How many things a process waits for, and what it did before."""

    state: State
    why: Wait
    waits: int = 0
    is_coming: bool = False


class Turns:
    """Slots, taken by one process each. `room` says how many there are at least, as long as somebody needs them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._arrivals = itertools.count()
        self._rooms: list[int] = []
        self._waiting: list[_Turn] = []
        self._holding: dict[Process, float] = {}
        self._charged_usd: dict[Process, float] = {}
        self._away: dict[Process, _Away] = {}
        self._floor = 0.0
        self._served = {True: 0.0, False: 0.0}
        self._served_at = clock()

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return len(self._holding)

    @property
    def waiting(self) -> int:
        """How many processes wait for one."""
        return sum(not one.given.done() for one in self._waiting)

    @property
    def slots(self) -> int:
        return max(self._rooms, default=1)

    @contextmanager
    def room(self, slots: int) -> Iterator[None]:
        """At least so many slots, for the length of a block."""
        self._rooms.append(slots)
        self._give()
        try:
            yield
        finally:
            self._rooms.remove(slots)

    async def take(self, process: Process) -> None:
        """Wait for a slot; the process is RUNNING then."""
        process.vruntime = max(process.vruntime, self._floor)
        self._charged_usd.setdefault(process, process.spent_usd)
        if self.taken < self.slots and not self.waiting and not process.is_stopped:
            self._hold(process)
        else:
            await self._turn(process)
        process.move(State.RUNNING)

    def leave(self, process: Process) -> None:
        """Give the slot back, if it has one: it is charged for it, and whoever is next gets it."""
        since = self._holding.pop(process, None)
        if since is not None:
            self._charge(process, since)
            self._give()

    def forget(self, process: Process) -> None:
        """A process is over."""
        self.leave(process)
        self._charged_usd.pop(process, None)
        self._away.pop(process, None)

    def is_due(self, process: Process) -> bool:
        """Whether a process should ask for another turn before it goes on."""
        if process.is_stopped:
            return True
        since = self._holding.get(process)
        return since is not None and bool(self._waiting) and self._clock() - since >= QUANTUM_S

    async def another(self, process: Process) -> None:
        """The end of a turn: stop here if somebody says so, and let others work who have had less."""
        async with process.turning:  # of calls that are made side by side none goes on while the process stands still
            await asyncio.sleep(0)  # whoever comes in this moment is there
            since = self._holding.get(process)
            if since is None:
                return
            self._charge(process, since)
            self._holding[process] = self._clock()
            if process.is_stopped or self._is_behind_others(process):
                state = process.state
                process.move(State.BLOCKED, Wait.TURN)
                self.leave(process)
                await self._come_back(process, state)

    @asynccontextmanager
    async def without(self, process: Process, why: Wait) -> AsyncIterator[None]:
        """Wait for something else, for the length of a block, without a slot.

        Of several waits that a process has side by side the last one that is over asks for the slot again: those whom
        the others wait for may need it.
        """
        away = self._away.get(process)
        if away is None:
            if process not in self._holding:
                yield
                return
            away = self._away[process] = _Away(state=process.state, why=why)
            process.move(State.BLOCKED, why)
            self.leave(process)
        away.waits += 1
        try:
            yield
        except asyncio.CancelledError:  # it is about to end, for which nobody needs a slot
            away.waits -= 1
            if not away.waits and not away.is_coming:
                self._away.pop(process, None)
            raise
        except BaseException:
            await self._back(process, away)
            raise
        await self._back(process, away)

    async def _back(self, process: Process, away: _Away) -> None:
        """One wait is over; after the last one the process works again."""
        away.waits -= 1
        if away.waits or away.is_coming:
            return
        away.is_coming = True
        try:
            process.move(State.BLOCKED, Wait.TURN)
            await self._come_back(process, away.state)
        except BaseException:
            self._away.pop(process, None)
            raise
        away.is_coming = False
        if away.waits:  # which began meanwhile
            process.move(State.BLOCKED, away.why)
            self.leave(process)
        else:
            self._away.pop(process, None)

    async def _come_back(self, process: Process, state: State) -> None:
        """Be at work as before, once it is this process's turn."""
        await self.take(process)
        if state is State.THINKING:
            process.move(state)

    def stopped(self, process: Process) -> None:
        """A process was suspended: one that waits for its turn is so at once."""
        if (process.state, process.why) == (State.BLOCKED, Wait.TURN):
            process.move(State.SUSPENDED)

    def resumed(self, process: Process) -> None:
        """A process may go on."""
        if process.state is State.SUSPENDED:
            process.move(State.BLOCKED, Wait.TURN)
        self._give()

    # --- inside ----------------------------------------------------------------------------------------

    async def _turn(self, process: Process) -> None:
        turn = _Turn(process=process, arrival=next(self._arrivals), given=asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        if process.is_stopped:
            self.stopped(process)
        self._give()
        try:
            await turn.given
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            self.leave(process)  # it may have come in the same moment
            raise

    def _hold(self, process: Process) -> None:
        self._holding[process] = self._clock()

    def _give(self) -> None:
        """Hand free slots to whoever is next."""
        while self.taken < self.slots:
            turn = self._next()
            if turn is None:
                return
            self._waiting.remove(turn)
            self._hold(turn.process)
            turn.given.set_result(None)

    def _next(self) -> _Turn | None:
        ready = [one for one in self._waiting if not one.given.done() and not one.process.is_stopped]
        if not ready:
            return None
        own = [one for one in ready if one.process.kind is Kind.SYSTEM]
        ready = own if own and self._is_system_owed else ready
        return min(ready, key=lambda one: (self._due_at(one.process), one.arrival))

    @property
    def _is_system_owed(self) -> bool:
        """Whether the system had less than its share."""
        return self._served[True] < SYSTEM_SHARE * sum(self._served.values())

    def _due_at(self, process: Process) -> float:
        """The virtual time at which a process would be through with its next turn."""
        return process.vruntime + QUANTUM_S * USD_PER_S / process.weight

    def _is_behind_others(self, process: Process) -> bool:
        """Whether somebody waits who is due before it; of equals it is whoever did not just work."""
        first = self._next()
        if first is None or self.taken > self.slots:
            return first is not None
        if first.process.kind is Kind.SYSTEM is not process.kind and self._is_system_owed:
            return True
        return self._due_at(first.process) <= self._due_at(process)

    def _charge(self, process: Process, since: float) -> None:
        held_s = max(0.0, self._clock() - since)
        usd = process.spent_usd - self._charged_usd.get(process, 0.0)
        self._charged_usd[process] = process.spent_usd
        cost = held_s * USD_PER_S + max(0.0, usd)
        process.held_s += held_s
        process.vruntime += cost / process.weight
        self._note(process.kind is Kind.SYSTEM, cost)
        at_work = [*self._holding, *(one.process for one in self._waiting)] or [process]
        self._floor = max(self._floor, min(one.vruntime for one in at_work))

    def _note(self, is_system: bool, cost: float) -> None:
        """What the system and the others had lately; a minute ago counts half."""
        now = self._clock()
        faded = 0.5 ** ((now - self._served_at) / _HALF_LIFE_S)
        self._served = {who: had * faded for who, had in self._served.items()}
        self._served[is_system] += cost
        self._served_at = now
