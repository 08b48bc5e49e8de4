"""What is going on while a goal runs, on stderr: a live line on a terminal, plain lines with -v."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from llmos import caller
from llmos.interfaces.render import arguments, duration, money, one_line, plain
from llmos.kernel.bus import (
    Audited,
    ChildConfined,
    Decided,
    Diverged,
    EventBus,
    GoalAccepted,
    HandedOver,
    LearnerStarted,
    ModelSpoke,
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
    from rich.live import Live


def _of_this_caller(handler: Callable[[Any], None]) -> Callable[[Any], None]:
    """A handler that hears only what is done for whoever asks now: a resident kernel has many at once."""
    asking = caller.current()

    def hear(event: Any) -> None:
        if caller.current() is asking:
            handler(event)

    return hear


REVEAL_AFTER_S = 0.7
"""What takes no longer than this is not worth a flicker."""


@dataclass(kw_only=True)
class _Work:
    """A goal on its way: who works on it, since when, and on what; `cost_usd` None while no model is asked."""

    who: str
    started: float
    doing: str = ""
    cost_usd: float | None = None


class Progress:
    """Listens to a bus and tells; it never writes to stdout."""

    def __init__(self, *, verbose: int, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._verbose = verbose
        self._is_live = live
        self._is_paused = False
        self._clock = clock
        self._work: _Work | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._live: Live | None = None
        self._called: dict[tuple[str, str | None], dict[str, Any]] = {}

    @classmethod
    @contextmanager
    def watching(cls, bus: EventBus, *, verbose: int, live: bool) -> Iterator[Progress]:
        """Tell what happens on a bus, for the length of a block."""
        progress = cls(verbose=verbose, live=live)
        with ExitStack() as stack:
            stack.callback(progress.stop)
            for kind, handler in progress.handlers().items():
                stack.enter_context(bus.listening(kind, _of_this_caller(handler)))
            yield progress

    def handlers(self) -> dict[type[Any], Callable[[Any], None]]:
        """The handler of each type of event."""
        return {
            GoalAccepted: self._accepted,
            Decided: self._decided,
            LearnerStarted: self._started,
            ModelSpoke: self._spoke,
            ToolCalled: self._tool_called,
            ToolReturned: self._tool_returned,
            ChildConfined: self._confined,
            TwinFound: self._twin_found,
            Diverged: lambda event: self._line(f"diverged at {event.step_id}: {event.message}"),
            HandedOver: lambda event: self._line(f"the learner takes over from {event.trace} at {event.step_id}"),
            Rejoined: lambda event: self._line(f"the rest is replayed from {event.step_id}"),
            TraceStored: lambda event: self._line(f"stored {event.trace} ({event.status})"),
            TraceRefused: lambda event: self._line(f"no trace: {event.reason}"),
            Audited: lambda event: self._line(event.message),
            WatchdogBarked: lambda event: self._line(f"watchdog: {event.reason}"),
            RunEnded: lambda event: self.stop(),
        }

    def stop(self) -> None:
        """Take the live line away."""
        self._work = None
        self._called.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._hide()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else for the length of a block."""
        self._hide()
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False
            self._reveal()

    def status(self) -> str:
        """The live line: who is doing what, dollars and seconds so far."""
        work = self._work
        if work is None:
            return ""
        cost = money(work.cost_usd) if work.cost_usd is not None else ""
        parts = (work.who, one_line(work.doing, 60), cost, duration(self._clock() - work.started))
        return " · ".join(part for part in parts if part)

    def _accepted(self, event: GoalAccepted) -> None:
        self._work = _Work(who="looking for a trace", started=self._clock())
        if self._is_live:
            self._timer = asyncio.get_running_loop().call_later(REVEAL_AFTER_S, self._reveal)

    def _decided(self, event: Decided) -> None:
        self._line(f"{event.decision}{f' {event.trace}' if event.trace else ''}: {event.reason}")
        if self._work is not None and event.trace is not None:
            self._work.who = f"following {event.trace}"

    def _twin_found(self, event: TwinFound) -> None:
        self._line(f"process {event.pid} is at work on the same: {event.goal}")
        if self._work is not None:
            self._work.who = f"waiting for process {event.pid}, which does the same"

    def _started(self, event: LearnerStarted) -> None:
        started = self._clock() if self._work is None else self._work.started
        self._work = _Work(who=f"learner {event.model}", started=started, doing="thinking", cost_usd=0.0)
        self._line(f"learner {event.model} started, {money(event.reserved_usd)} reserved")
        self._reveal()

    def _spoke(self, event: ModelSpoke) -> None:
        if self._work is not None:
            self._work.cost_usd = max(self._work.cost_usd or 0.0, event.cost_usd)
            self._work.doing = "thinking"
        if event.text.strip():
            self._line(f"model: {one_line(event.text, 200)}")

    def _tool_called(self, event: ToolCalled) -> None:
        self._called[event.tool, event.step_id] = event.args
        if self._work is not None:
            self._work.doing = f"{event.tool} {arguments(event.args, 50)}"

    def _tool_returned(self, event: ToolReturned) -> None:
        args = arguments(self._called.pop((event.tool, event.step_id), {}), 80)
        outcome = f" · failed: {one_line(event.output, 160)}" if event.is_error else ""
        self._line(f"{event.tool} {args}".rstrip() + f" · {duration(event.duration_s)}{outcome}")
        if self._work is not None:
            self._work.doing = "" if self._work.cost_usd is None else "thinking"

    def _confined(self, event: ChildConfined) -> None:
        network = "with" if event.network else "without"
        self._line(f"{event.tool}: sandbox {event.walls}, {network} network")

    def _line(self, text: str) -> None:
        if not self._verbose:
            return
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(f"· {plain(text)}", style="dim"))
        else:
            click.echo(f"· {plain(text)}", file=caller.stderr(), err=True)

    def _reveal(self) -> None:
        if not self._is_live or self._is_paused or self._live is not None or self._work is None:
            return
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        spinner = Spinner("dots")

        class Line:
            """Drawn anew at each refresh, so that the seconds move."""

            def __rich__(_) -> Spinner:
                spinner.update(text=Text(self.status(), no_wrap=True, overflow="ellipsis"))
                return spinner

        self._live = Live(
            Line(),
            console=Console(file=caller.stderr(), width=caller.columns(caller.stderr())),
            transient=True,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _hide(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
