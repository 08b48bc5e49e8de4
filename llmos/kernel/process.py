"""A goal as a process: what it is doing and why, how urgent it is, and what it has cost."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from llmos.errors import LLMOSError, UsageError
from llmos.kernel.budget import Budget
from llmos.plugins.resources import Resources, counted_in

if TYPE_CHECKING:
    from llmos.kernel.agents import Agent

HIGHEST, DEFAULT, LOWEST = 0, 10, 19

_KEPT_LINES = 500


class State(StrEnum):
    """What a process is doing; RUNNING: a tool or a step of a replay, THINKING: a model's answer is awaited."""

    RUNNING = "running"
    THINKING = "thinking"
    BLOCKED = "blocked"
    SUSPENDED = "suspended"
    TERMINATED = "terminated"


class Wait(StrEnum):
    """What a blocked process waits for."""

    TURN = "turn"
    APPROVAL = "approval"
    MESSAGE = "message"
    CHILD = "child"
    RATE_LIMIT = "rate limit"
    TIMER = "timer"
    TWIN = "same task"
    MEMORY = "memory"


class End(StrEnum):
    """How a process ended."""

    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    INTERRUPTED = "interrupted"


class Kind(StrEnum):
    """On whose behalf a process works."""

    USER = "user"
    SYSTEM = "system"
    HOUSEKEEPING = "housekeeping"
    SPECIALIST = "specialist"
    META = "meta"


Why: TypeAlias = Wait | End | None
"""Why a process is in its state: a wait where it is BLOCKED, an end where it is TERMINATED."""

_AT_WORK = frozenset({State.RUNNING, State.THINKING})
_NEXT: dict[State, frozenset[State]] = {
    State.BLOCKED: frozenset(State),
    State.RUNNING: frozenset(State) - {State.RUNNING},
    State.THINKING: frozenset(State) - {State.THINKING},
    State.SUSPENDED: frozenset({State.BLOCKED, State.TERMINATED}),
    State.TERMINATED: frozenset(),
}


class IllegalTransitionError(LLMOSError):
    """A process can't come from its state into the one that was asked for."""


class Sharing(Protocol):
    """What processes share (`llmos.kernel.turns`)."""

    def is_due(self, process: Process) -> bool: ...
    async def another(self, process: Process) -> None: ...
    def without(self, process: Process, why: Wait) -> AbstractAsyncContextManager[None]: ...
    def stopped(self, process: Process) -> None: ...
    def resumed(self, process: Process) -> None: ...


@dataclass(kw_only=True, eq=False)
class Process:
    """One goal on its way.

    `weight` is what its `priority` (0 is the most urgent, 19 the least) is worth where several compete: each step up
    makes a fifth less of it, as nice levels do. `vruntime` is what it had of the machine and of money, divided by it.
    `spent_usd` is what it spent itself; `budget` counts what its children spend, too. `waited_s` is how long it was
    blocked or suspended, up to its last change of state. `left` is what an earlier kernel left of it, to go on from.
    `above` are the classes of those it comes from, `begun` its children by number with what they come to, `awaits`
    those whose end it waits for, `origin` the run of the first of its family, and `asked` the terms on which it was
    asked for, which hold for its children. `blocks` are those of shared memory that stand in its model's first message,
    each to "read" or to "write". `agent` is who it works as, and with it all that it begins.
    `reason` says why it ended as it did. `lines` are the last things it did or said, `told` how many there were in all.
    While a `model` works on it, `reach` refuses models that it can't go on with; `next_model` takes over at the end of
    the turn. `workspace` is where it works, `keep` gives what a later kernel would go on from. `borrowed` is what
    others lent it, by their runs, `loaned_usd` what of its budget is lent to it, or (below 0) to others, now, and
    `hurried` its own priority and the one it has meanwhile. `resources` are what its own tools used, without those of
    its children and without the CLI of a learner.
    """

    pid: int
    goal: str
    kind: Kind = Kind.USER
    priority: int = DEFAULT
    parent: int | None = None
    run_id: str = ""
    created_at: datetime
    clock: Callable[[], float] = time.monotonic
    state: State = State.BLOCKED
    why: Why = Wait.TURN
    mode: str = ""
    turns: int = 0
    steps: int = 0
    spent_usd: float = 0.0
    saved_usd: float = 0.0
    budget: Budget = field(default_factory=Budget)
    tokens_in: int = 0
    tokens_out: int = 0
    context_tokens: int = 0
    context_max: int | None = None
    vruntime: float = 0.0
    held_s: float = 0.0
    waited_s: float = 0.0
    is_stopped: bool = False
    since_s: float = field(init=False)
    began_s: float = field(init=False)
    ended_s: float | None = None
    task: asyncio.Task[Any] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    killed: End | None = None
    sharing: Sharing | None = None
    left: Any = None
    above: tuple[Kind, ...] = ()
    origin: str = ""
    groups: set[str] = field(default_factory=set)
    begun: dict[int, asyncio.Task[Any]] = field(default_factory=dict)
    awaits: set[int] = field(default_factory=set)
    blocks: dict[str, str] = field(default_factory=dict)
    asked: Any = None
    reason: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    told: int = 0
    _spoke: asyncio.Event = field(default_factory=asyncio.Event)
    turning: asyncio.Lock = field(default_factory=asyncio.Lock)
    model: str = ""
    next_model: str = ""
    reach: Callable[[str], None] | None = None
    workspace: Path | None = None
    keep: Callable[[], Any] | None = None
    borrowed: dict[str, float] = field(default_factory=dict)
    loaned_usd: float = 0.0
    hurried: tuple[int, int] | None = None
    agent: Agent | None = None
    resources: Resources = field(default_factory=Resources)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.priority = checked(self.priority)
        self.began_s = self.since_s = self.clock()

    @property
    def is_alive(self) -> bool:
        return self.state is not State.TERMINATED

    @property
    def family(self) -> str:
        """The run of the first process of its family."""
        return self.origin or self.run_id

    @property
    def own_usd(self) -> float | None:
        """Its budget without loans; None: it has none."""
        allocated = self.budget.allocated_usd
        return None if allocated is None else round(allocated - self.loaned_usd, 6)

    @property
    def own_priority(self) -> int:
        """Its priority without loans."""
        return self.hurried[0] if self.hurried is not None and self.priority == self.hurried[1] else self.priority

    @property
    def is_at_work(self) -> bool:
        return self.state in _AT_WORK

    @property
    def weight(self) -> float:
        return float(1.25**-self.priority)

    def tell(self, line: str) -> None:
        """Note what it does or says."""
        self.lines.append(line)
        self.told += 1
        self._spoke.set()
        self._spoke = asyncio.Event()

    async def tells(self) -> None:
        """Return when it does or says something, or has ended."""
        waits = [asyncio.ensure_future(self._spoke.wait()), asyncio.ensure_future(self.over.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    @property
    def idle_s(self) -> float:
        """Seconds in which it was not at work, up to now."""
        return self.waited_s + (0.0 if self.is_at_work or not self.is_alive else self.clock() - self.since_s)

    async def moves(self) -> None:
        """Return when it comes into another state."""
        await self._moved.wait()

    @property
    def age_s(self) -> float:
        """Seconds since it began, up to its end."""
        return (self.clock() if self.ended_s is None else self.ended_s) - self.began_s

    def move(self, state: State, why: Why = None) -> None:
        """Come into another state.

        Raises:
            IllegalTransitionError: there is no way from the one it is in, or the reason is none for it.
        """
        expected = Wait if state is State.BLOCKED else End if state is State.TERMINATED else type(None)
        if state not in _NEXT[self.state] or not isinstance(why, expected) or (state, why) == (self.state, self.why):
            raise IllegalTransitionError(
                f"process {self.pid} is {told(self.state, self.why)} and can't become {told(state, why)}."
            )
        now = self.clock()
        if not self.is_at_work:
            self.waited_s += now - self.since_s
        self.state, self.why, self.since_s = state, why, now
        self._moved.set()
        self._moved = asyncio.Event()
        if state is State.TERMINATED:
            self.ended_s = self.since_s
            self.over.set()

    def spend(self, usd: float, tokens: int = 0) -> None:
        """Book what it has spent; whether that was left is seen at the end of its turn."""
        self.spent_usd += usd
        self.budget.spend(usd, tokens)

    @property
    def is_due(self) -> bool:
        """Whether its turn is over: others wait, or it is to stop or to end."""
        return self.killed is not None or (self.sharing is not None and self.sharing.is_due(self))

    async def turn(self) -> None:
        """The end of a turn: let others work who have had less, and stop here where that was asked for.

        Raises:
            CancelledError: it was killed, and what it did then did not let itself be broken off.
        """
        if self.killed is not None:
            raise asyncio.CancelledError
        if self.sharing is not None:
            await self.sharing.another(self)

    def waiting(self, why: Wait) -> AbstractAsyncContextManager[None]:
        """Wait for something, for the length of a block; others work meanwhile."""
        return nullcontext() if self.sharing is None else self.sharing.without(self, why)

    @contextmanager
    def doing(self, state: State) -> Iterator[None]:
        """Be RUNNING or THINKING for the length of a block, then as before; one that is not at work is left alone."""
        before = self.state
        if before not in _AT_WORK or before is state:
            yield
            return
        self.move(state)
        try:
            yield
        finally:
            if self.state is state:
                self.move(before)


def told(state: State, why: Why) -> str:
    """A state as people read it, with what is waited for, or how it ended."""
    return f"{state} ({why})" if why else str(state)


def checked(priority: int) -> int:
    """A priority that is one.

    Raises:
        UsageError: it is none.
    """
    if not HIGHEST <= priority <= LOWEST:
        raise UsageError(f"a priority is a number from {HIGHEST} (the most urgent) to {LOWEST}, not {priority}.")
    return priority


_current: ContextVar[Process | None] = ContextVar("llmos_process", default=None)


def current() -> Process | None:
    """The process that this code works for."""
    return _current.get()


def spend(usd: float) -> None:
    """Book what this code's process has spent."""
    process = current()
    if process is not None:
        process.spend(usd)


@contextmanager
def thinking() -> Iterator[None]:
    """A model's answer is awaited, for the length of a block."""
    process = current()
    with nullcontext() if process is None else process.doing(State.THINKING):
        yield


@contextmanager
def at_work_for(process: Process) -> Iterator[None]:
    """Work for a process, for the length of a block, with all tasks made in it."""
    token = _current.set(process)
    try:
        with counted_in(process.resources):
            yield
    finally:
        _current.reset(token)
