"""Typed events: frozen, past-tense records told to whoever subscribed by type. Nobody waits on a subscriber."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


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
class Decided(Event):
    """`decision` is follow, confirm, learn or refuse; `reason` the sentence behind it."""

    decision: str
    reason: str
    trace: str | None = None


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
class Diverged(Event):
    step_id: str
    message: str


@dataclass(frozen=True, kw_only=True)
class TraceStored(Event):
    trace: str
    status: str


@dataclass(frozen=True, kw_only=True)
class TraceRefused(Event):
    """A finished run did not become a trace, and why."""

    reason: str


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


E_ = TypeVar("E_", bound=Event)
Handler = Callable[[Any], None]


@dataclass(frozen=True, kw_only=True)
class EventBus:
    """Delivers each event, in order of subscription, to the handlers of its type and of its base types."""

    _handlers: list[tuple[type[Event], Handler]] = field(default_factory=list)

    def subscribe(self, kind: type[E_], handler: Callable[[E_], None]) -> Callable[[], None]:
        """Call `handler` for every event of that type; returns the function that unsubscribes it."""
        entry = (kind, handler)
        self._handlers.append(entry)

        def unsubscribe() -> None:
            if entry in self._handlers:
                self._handlers.remove(entry)

        return unsubscribe

    @contextmanager
    def listening(self, kind: type[E_], handler: Callable[[E_], None]) -> Iterator[None]:
        """Subscribe for the length of a block."""
        unsubscribe = self.subscribe(kind, handler)
        try:
            yield
        finally:
            unsubscribe()

    def publish(self, event: Event) -> None:
        """Tell everyone; a handler that raises is logged and does not stop the others."""
        for kind, handler in tuple(self._handlers):
            if isinstance(event, kind):
                try:
                    handler(event)
                except Exception:
                    log.exception("a subscriber failed", extra={"action": "deliver", "event": type(event).__name__})
