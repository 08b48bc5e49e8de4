"""Tells events to whoever subscribed to their type. Nobody waits on a subscriber."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from llmos.events import (
    Agreed,
    Audited,
    ChildConfined,
    Decided,
    Diverged,
    Event,
    GoalAccepted,
    GoalQueued,
    HandedOver,
    LearnerStarted,
    LedgerMoved,
    ModelSpoke,
    PluginFailed,
    PluginLoaded,
    Rejoined,
    RunEnded,
    ToolCalled,
    ToolReturned,
    TraceRefused,
    TraceStored,
    TwinFound,
    WatchdogBarked,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Agreed",
    "Audited",
    "ChildConfined",
    "Decided",
    "Diverged",
    "Event",
    "EventBus",
    "GoalAccepted",
    "GoalQueued",
    "HandedOver",
    "LearnerStarted",
    "LedgerMoved",
    "ModelSpoke",
    "PluginFailed",
    "PluginLoaded",
    "Rejoined",
    "RunEnded",
    "ToolCalled",
    "ToolReturned",
    "TraceRefused",
    "TraceStored",
    "TwinFound",
    "WatchdogBarked",
]

log = logging.getLogger(__name__)

E_ = TypeVar("E_", bound=Event)
Handler = Callable[[Any], None]


@dataclass(frozen=True, kw_only=True)
class EventBus:
    """Delivers each event, in order of subscription, to the handlers of its type and of its base types.

    With `redact` nobody hears what it takes out of an event.
    """

    redact: Callable[[Any], Any] | None = None
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
        told = [entry for entry in self._handlers if isinstance(event, entry[0])]
        if told and self.redact is not None:
            event = self.redact(event)
        for kind, handler in told:
            if isinstance(event, kind):
                try:
                    handler(event)
                except Exception:
                    log.exception("a subscriber failed", extra={"action": "deliver", "event": type(event).__name__})
