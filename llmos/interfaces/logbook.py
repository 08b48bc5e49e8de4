"""What a learner's process does and says, kept with it as lines for whoever looks in later (`logs`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from llmos.interfaces.render import arguments, duration, money, one_line
from llmos.kernel.bus import (
    Diverged,
    EventBus,
    LearnerStarted,
    ModelSpoke,
    ToolCalled,
    ToolReturned,
    WatchdogBarked,
)
from llmos.kernel.process import current

_LONGEST = 300


@contextmanager
def telling(bus: EventBus, run_id: str) -> Iterator[None]:
    """Note with the process of this code what is told of a run, for the length of a block."""
    process = current()
    if process is None:
        yield
        return

    def heard(form: Callable[[Any], str]) -> Callable[[Any], None]:
        def handler(event: Any) -> None:
            line = form(event) if event.run_id == run_id else ""
            if line:
                process.tell(line)

        return handler

    with ExitStack() as stack:
        for kind, form in _FORMS.items():
            stack.enter_context(bus.listening(kind, heard(form)))
        yield


def _spoke(event: ModelSpoke) -> str:
    said = one_line(event.text, _LONGEST)
    return f"model: {said} ({money(event.cost_usd)})" if said else ""


def _returned(event: ToolReturned) -> str:
    how = "failed" if event.is_error else "gave"
    return f"{event.tool} {how} {one_line(event.output, _LONGEST)} ({duration(event.duration_s)})"


_FORMS: dict[type[Any], Callable[[Any], str]] = {
    LearnerStarted: lambda event: f"learner {event.model} started, {money(event.reserved_usd)} reserved",
    ModelSpoke: _spoke,
    ToolCalled: lambda event: f"{event.tool} {arguments(event.args, _LONGEST)}",
    ToolReturned: _returned,
    Diverged: lambda event: f"diverged at {event.step_id}: {event.message}",
    WatchdogBarked: lambda event: f"watchdog: {event.reason}",
}
