"""What is going on while a goal runs, on stderr: a live line on a terminal, plain lines with -v."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from llmos.interfaces.render import arguments, duration, money, one_line, plain
from llmos.kernel.bus import (
    Decided,
    Diverged,
    EventBus,
    LearnerStarted,
    ModelSpoke,
    RunEnded,
    ToolCalled,
    ToolReturned,
    TraceRefused,
    TraceStored,
    WatchdogBarked,
)

if TYPE_CHECKING:
    from rich.live import Live


@dataclass(kw_only=True)
class _Learner:
    """What a learner at work is known to have done."""

    model: str
    started: float
    cost_usd: float = 0.0
    doing: str = "thinking"


class Progress:
    """Listens to a bus and tells; it never writes to stdout."""

    def __init__(self, *, verbose: int, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._verbose = verbose
        self._is_live = live
        self._clock = clock
        self._learner: _Learner | None = None
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
                stack.enter_context(bus.listening(kind, handler))
            yield progress

    def handlers(self) -> dict[type[Any], Callable[[Any], None]]:
        """The handler of each type of event."""
        return {
            Decided: self._decided,
            LearnerStarted: self._started,
            ModelSpoke: self._spoke,
            ToolCalled: self._tool_called,
            ToolReturned: self._tool_returned,
            Diverged: lambda event: self._line(f"diverged at {event.step_id}: {event.message}"),
            TraceStored: lambda event: self._line(f"stored {event.trace} ({event.status})"),
            TraceRefused: lambda event: self._line(f"no trace: {event.reason}"),
            WatchdogBarked: lambda event: self._line(f"watchdog: {event.reason}"),
            RunEnded: lambda event: self.stop(),
        }

    def stop(self) -> None:
        """Take the live line away."""
        self._learner = None
        self._called.clear()
        self._hide()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else for the length of a block."""
        self._hide()
        try:
            yield
        finally:
            if self._learner is not None:
                self._reveal()

    def status(self) -> str:
        """The live line: the model, what it is doing, dollars and seconds so far."""
        learner = self._learner
        if learner is None:
            return ""
        elapsed = duration(self._clock() - learner.started)
        return f"{learner.model} · {one_line(learner.doing, 60)} · {money(learner.cost_usd)} · {elapsed}"

    def _decided(self, event: Decided) -> None:
        self._line(f"{event.decision}{f' {event.trace}' if event.trace else ''}: {event.reason}")

    def _started(self, event: LearnerStarted) -> None:
        self._learner = _Learner(model=f"learner {event.model}", started=self._clock())
        self._line(f"learner {event.model} started, {money(event.reserved_usd)} reserved")
        if self._is_live:
            self._reveal()

    def _spoke(self, event: ModelSpoke) -> None:
        if self._learner is not None:
            self._learner.cost_usd = max(self._learner.cost_usd, event.cost_usd)
            self._learner.doing = "thinking"
        if event.text.strip():
            self._line(f"model: {one_line(event.text, 200)}")

    def _tool_called(self, event: ToolCalled) -> None:
        self._called[event.tool, event.step_id] = event.args
        if self._learner is not None:
            self._learner.doing = f"{event.tool} {arguments(event.args, 50)}"

    def _tool_returned(self, event: ToolReturned) -> None:
        args = arguments(self._called.pop((event.tool, event.step_id), {}), 80)
        outcome = f" · failed: {one_line(event.output, 160)}" if event.is_error else ""
        self._line(f"{event.tool} {args}".rstrip() + f" · {duration(event.duration_s)}{outcome}")
        if self._learner is not None:
            self._learner.doing = "thinking"

    def _line(self, text: str) -> None:
        if not self._verbose:
            return
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(f"· {plain(text)}", style="dim"))
        else:
            click.echo(f"· {plain(text)}", err=True)

    def _reveal(self) -> None:
        if not self._is_live or self._live is not None:
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
            console=Console(stderr=True),
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
