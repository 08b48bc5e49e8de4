"""What can happen, as frozen, past-tense records: the vocabulary that every part may tell the bus in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a run ('' for the system itself)."""

    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class GoalAccepted(Event):
    goal: str


@dataclass(frozen=True, kw_only=True)
class GoalQueued(Event):
    """All slots are taken; `waiting` jobs, this one included, wait for one."""

    name: str
    priority: int
    waiting: int


@dataclass(frozen=True, kw_only=True)
class TwinFound(Event):
    """The process `pid` is at work on the same task already; this goal waits for what comes of it."""

    pid: int
    goal: str


@dataclass(frozen=True, kw_only=True)
class Decided(Event):
    """`decision` is follow, confirm, learn or refuse; `reason` the sentence behind it."""

    decision: str
    reason: str
    trace: str | None = None


@dataclass(frozen=True, kw_only=True)
class Agreed(Event):
    """Somebody was asked whether to follow a trace; `by` is user (`--yes` included) or judge."""

    trace: str
    agreed: bool
    by: str
    question: str = ""


@dataclass(frozen=True, kw_only=True)
class LearnerStarted(Event):
    model: str
    reserved_usd: float


@dataclass(frozen=True, kw_only=True)
class ModelSpoke(Event):
    text: str
    cost_usd: float


@dataclass(frozen=True, kw_only=True)
class ToolCalled(Event):
    tool: str
    args: dict[str, Any]
    step_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ToolReturned(Event):
    tool: str
    is_error: bool
    duration_s: float
    output: Any = None
    step_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class ChildConfined(Event):
    """A tool starts a child process behind `walls` (`none`: with the user's own rights), with the network or not."""

    tool: str
    walls: str
    network: bool


@dataclass(frozen=True, kw_only=True)
class Diverged(Event):
    step_id: str
    message: str


@dataclass(frozen=True, kw_only=True)
class HandedOver(Event):
    """The learner goes on where the replay of `trace` diverged, after `done` calls."""

    trace: str
    step_id: str
    done: int


@dataclass(frozen=True, kw_only=True)
class Rejoined(Event):
    """The rest of a replay that was handed over is replayed, from this step on."""

    step_id: str


@dataclass(frozen=True, kw_only=True)
class TraceStored(Event):
    trace: str
    status: str


@dataclass(frozen=True, kw_only=True)
class TraceRefused(Event):
    """A finished run did not become a trace, and why."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Audited(Event):
    """The learner did a replay's goal again; `verdict` is agreed, disagreed, undecided or failed."""

    verdict: str
    message: str
    cost_usd: float


@dataclass(frozen=True, kw_only=True)
class LedgerMoved(Event):
    kind: str
    amount_usd: float
    balance_usd: float
    operation: str


@dataclass(frozen=True, kw_only=True)
class WatchdogBarked(Event):
    reason: str


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    mode: str
    status: str
    cost_usd: float
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class PluginLoaded(Event):
    path: str
    tools: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PluginFailed(Event):
    path: str
    message: str


class Publisher(Protocol):
    """What takes an event to whoever wants it (`llmos.kernel.bus.EventBus`)."""

    def publish(self, event: Event) -> None: ...
