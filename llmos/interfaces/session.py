"""What a command works with: its options, its screen, its signals and, at first use, a booted LLMOS."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

import click

from llmos import caller
from llmos.caller import is_terminal
from llmos.errors import LLMOSError, StorageError
from llmos.interfaces import render, render_match
from llmos.interfaces.options import Action, Options
from llmos.redaction import Redactor
from llmos.settings import wants_color

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.interfaces.progress import Progress
    from llmos.interfaces.results import Confirm, Question, Reply
    from llmos.plugins.loader import PluginFailure
    from llmos.settings import Settings

__all__ = ["Action", "Engine", "Interrupts", "Options", "Screen", "Session", "failure", "perform", "report", "unloaded"]

INTERRUPTED = 130
READER_LEFT = 141
"""Exit code when whoever read our output went away: 128 + SIGPIPE, as other programs have it."""


class Screen:
    """Where a command writes: what was asked for on stdout, all else on stderr.

    With `as_json` stdout gets exactly one JSON object, by `data`; `show` and `answer` are silent then. What `redactor`
    takes out is not written; until LLMOS has booted that is what looks like a credential.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.redactor = Redactor()
        self._expected: dict[str, Any] = {}
        self._has_told = False
        self.color = wants_color()

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None when stdout is none."""
        return caller.columns(caller.stdout())

    def show(self, text: str) -> None:
        """Text for people, on stdout."""
        if not self.as_json:
            self._out(self.redactor.text(text))

    def exactly(self, text: str) -> None:
        """Text on stdout as it is: whoever made it has looked that it holds no secret."""
        if not self.as_json:
            self._out(text)

    def table(self, columns: tuple[str, ...], rows: list[list[Any]], *, empty: str) -> None:
        """A table on stdout, or on stderr the sentence that there is nothing to show."""
        if self.as_json:
            return
        if rows:
            rows = self.redactor.value(rows)
            self._out(render.table(columns, rows, width=self.width, color=self.color and is_terminal(caller.stdout())))
        else:
            self.note(empty)

    def answer(self, text: str) -> None:
        """An answer as it is; on a terminal without what could steer it."""
        if not self.as_json:
            text = self.redactor.text(text)
            self._out(render.plain(text) if is_terminal(caller.stdout()) else text)

    def expect(self, fields: dict[str, Any]) -> None:
        """What the JSON object holds even if the command fails."""
        self._expected.update(fields)

    def data(self, value: dict[str, Any]) -> None:
        """The one JSON object of `--json`; nothing without it, and nothing a second time."""
        if self.as_json and not self._has_told:
            self._has_told = True
            encoding = (getattr(caller.stdout(), "encoding", None) or "ascii").lower().replace("-", "")
            shown = self.redactor.value(render.data({**self._expected, **value}))
            self._out(json.dumps(shown, ensure_ascii=encoding != "utf8"))

    def note(self, text: str, *, dim: bool = False) -> None:
        """A line beside the answer, on stderr."""
        line = render.plain(self.redactor.text(text))
        with contextlib.suppress(OSError):  # nobody reads stderr: that must not fail a goal
            click.echo(click.style(line, dim=True) if dim and self.color else line, file=caller.stderr(), err=True)

    def _out(self, text: str) -> None:
        try:
            click.echo(text, file=caller.stdout(), color=None if self.color else False)
        except OSError as error:
            raise unwritten(error) from None


class ReaderLeftError(BrokenPipeError):
    """Nobody reads stdout any more; a command ends quietly."""


def unwritten(error: OSError) -> ReaderLeftError | StorageError:
    """What a command ends with whose standard output can't be written."""
    if isinstance(error, BrokenPipeError):
        return ReaderLeftError("whoever read the output went away")
    return StorageError(f"standard output can't be written: {error.strerror or error}")


class Engine:
    """LLMOS, there when something first needs it and let go at the end of the block; `opened` says where it is from."""

    def __init__(self, options: Options, opened: Opened | None = None) -> None:
        self.options = options
        self.min_jobs = 1
        self.opened = opened or _booted
        self.progress: Progress | None = None
        self._system: LLMOS | None = None
        self._told: list[PluginFailure] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Engine:
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._system = self.progress = None
        await self._stack.aclose()

    async def system(self, screen: Screen) -> LLMOS:
        """The running LLMOS; what could not be loaded is told on the screen, once.

        Raises:
            LLMOSError: it can't start.
        """
        if self._system is None:
            from llmos.interfaces.progress import Progress

            system = await self._stack.enter_async_context(self.opened(self._settings()))
            watching = Progress.watching(system.bus, verbose=self.options.verbose, live=is_terminal(caller.stderr()))
            self.progress = self._stack.enter_context(watching)
            self._system = system
        self._system.plugins.rescan()
        screen.redactor = self._system.redactor
        failures = unloaded(self._system)
        for failure in failures:
            if failure not in self._told:
                screen.note(f"llmos: {failure.message}")
        self._told = failures
        left = self._system.home.offered()
        if left:
            screen.note(f"llmos: {_offer(left)}")
        return self._system

    def _settings(self) -> Settings:
        """Those of the options, with room for as many goals at once as a command needs."""
        settings = self.options.settings()
        if self.min_jobs <= settings.scheduler.max_concurrent:
            return settings
        return replace(settings, scheduler=replace(settings.scheduler, max_concurrent=self.min_jobs))


def _offer(left: Sequence[int]) -> str:
    """The sentence about processes that an earlier kernel left."""
    pids = " ".join(map(str, left))
    it = "it" if len(left) == 1 else "them"
    were = "a process was at work" if len(left) == 1 else f"{len(left)} processes were at work"
    return f"{were} when the kernel ended: `resume {pids}` goes on with {it}, `kill {pids}` forgets {it}"


@dataclass(frozen=True, kw_only=True)
class Session:
    """What one command works with."""

    options: Options
    screen: Screen
    interrupts: Interrupts
    engine: Engine

    async def system(self) -> LLMOS:
        """The running LLMOS, booted if this is its first use.

        Raises:
            LLMOSError: it can't start.
        """
        return await self.engine.system(self.screen)

    @property
    def confirm(self) -> Confirm | None:
        """How questions are answered: by `--yes`, by the person at the terminal, or (None) not at all."""
        if self.options.yes:
            return _yes
        asked_on = next((one for one in (caller.stderr(), caller.stdout()) if one is not None and one.isatty()), None)
        if self.screen.as_json or asked_on is None or not is_terminal(caller.stdin()):
            return None
        return lambda question: self._ask(question, asked_on)

    async def _ask(self, question: Question, stream: TextIO) -> Reply:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.input import create_input
        from prompt_toolkit.output import create_output

        progress = self.engine.progress
        with progress.paused() if progress is not None else contextlib.nullcontext():
            if question.call is not None:
                self.screen.note(render_match.call(question.call))
            elif not question.is_proven:
                self.screen.note(render_match.question(question))
            prompt: PromptSession[str] = PromptSession(
                input=create_input(stdin=caller.stdin()), output=create_output(stdout=stream)
            )
            try:
                asked = render.plain(self.screen.redactor.text(question.text))
                reply = await prompt.prompt_async(f"{asked} {_choices(question)} ")
            except EOFError:
                return None
            except KeyboardInterrupt:
                self.interrupts.interrupt()
                await asyncio.sleep(3600)  # ends with the cancellation just asked for
                return False
        word = reply.strip().lower()
        if question.call is not None and not question.needs_reading and word in ("a", "always"):
            return "always"
        return word in ("y", "yes") or (question.call is not None and word in ("o", "once"))


def _choices(question: Question) -> str:
    if question.call is None:
        return "[y/N]"
    if question.needs_reading:
        return "[o]nce / [N]o"
    return f"[o]nce / [a]lways for {'this trace' if question.trace_id else 'this very call'} / [N]o"


def unloaded(system: LLMOS) -> list[PluginFailure]:
    """The plugins and the MCP servers whose tools are not there, and why."""
    return [*system.plugins.failures, *system.mcp.failures]


async def _yes(question: Question) -> bool | None:
    """`--yes`: whatever is proven and the user's own; to anything else only somebody who has read it can agree."""
    return True if question.is_proven and not question.needs_reading else None


Opened: TypeAlias = "Callable[[Settings], AbstractAsyncContextManager[LLMOS]]"
"""What gives an LLMOS with some settings, for the length of a block."""


@asynccontextmanager
async def _booted(settings: Settings) -> AsyncIterator[LLMOS]:
    async with AsyncExitStack() as stack:
        gc.disable()  # what is loaded for it stays, and is never looked through again
        try:
            from llmos.boot import LLMOS

            system = await stack.enter_async_context(LLMOS(settings=settings))
        finally:
            gc.freeze()
            gc.enable()
        yield system


async def perform(
    action: Action,
    options: Options,
    screen: Screen,
    *,
    stopped_by: Callable[[], AbstractContextManager[Interrupts]] | None = None,
    opened: Opened | None = None,
) -> None:
    """Do one command; what stops it, by default the signals that stop a program, cancels it."""
    with (stopped_by or Interrupts.handled)() as interrupts:
        async with Engine(options, opened) as engine:
            await action(Session(options=options, screen=screen, interrupts=interrupts, engine=engine))


# ------------------------------------------------------------------------------------------------------ signals


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP as the cancellation of a task.

    Ctrl-C cancels the innermost task named with `stopping`, the others always the main one. Cancelling gives a run
    the time to settle what it reserved; the third Ctrl-C in a row does not wait for that.
    """

    def __init__(self, main: asyncio.Task[Any]) -> None:
        self._loop = main.get_loop()
        self._main = main
        self._current = main
        self._pressed = 0

    @classmethod
    @contextmanager
    def handled(cls) -> Iterator[Interrupts]:
        """Handle the signals for the length of a block (plain handlers: prompt_toolkit puts them back after itself)."""
        task = asyncio.current_task()
        assert task is not None
        interrupts = cls(task)
        handlers = {signal.SIGINT: interrupts.interrupt, signal.SIGTERM: interrupts.terminate}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = interrupts.terminate
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield interrupts
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def stopping(self, task: asyncio.Task[Any]) -> Iterator[None]:
        """Let Ctrl-C cancel this task, and not the main one, for the length of a block."""
        before, self._current, self._pressed = self._current, task, 0
        try:
            yield
        finally:
            self._current, self._pressed = before, 0

    def interrupt(self, number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """What Ctrl-C does."""
        self._pressed += 1
        if self._pressed == 1:
            self._loop.call_soon_threadsafe(self._current.cancel)
        elif self._pressed == 2:
            stream = caller.stderr()
            if stream is not None:
                os.write(stream.fileno(), b"llmos: still settling what was begun; Ctrl-C once more leaves at once\n")
        elif caller.current() is None:
            os._exit(INTERRUPTED)

    def terminate(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """What an order to end does."""
        for task in {self._current, self._main}:
            self._loop.call_soon_threadsafe(task.cancel)


# ------------------------------------------------------------------------------------------------------- errors


def failure(error: BaseException) -> tuple[str, int]:
    """The sentence and the exit code an error ends a command with."""
    from llmos.interfaces.install import how_to_install, is_ours_to_install

    if isinstance(error, LLMOSError):
        return str(error) or type(error).__name__, error.exit_code
    if isinstance(error, click.UsageError):
        return _usage(error), 2
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | click.Abort):
        return "interrupted", INTERRUPTED
    if isinstance(error, ModuleNotFoundError) and is_ours_to_install(error):
        return how_to_install(error), 2
    return f"unexpected {type(error).__name__}: {render.one_line(str(error), 300)} (run with -v for the traceback)", 1


def _usage(error: click.UsageError) -> str:
    message = render.one_line(error.format_message(), 300)
    path = error.ctx.command_path if error.ctx is not None else "llmos"
    if isinstance(error, click.NoSuchOption):
        return f"{message} A goal that holds words starting with - goes after --; `{path} --help` lists the options."
    return f"{message} See `{path} --help`."


def report(error: BaseException, screen: Screen, *, verbose: int = 0) -> int:
    """Tell the user what went wrong, on stderr in one sentence and with `--json` on stdout too; the exit code."""
    sentence, exit_code = failure(error)
    if isinstance(error, ReaderLeftError):
        return READER_LEFT
    if verbose and exit_code == 1 and not isinstance(error, LLMOSError):
        import traceback

        screen.note("".join(traceback.format_exception(error)).rstrip())
    screen.note(f"llmos: {render.one_line(sentence, 2000)}")
    result = getattr(error, "result", None)
    if result is not None and exit_code != INTERRUPTED:
        screen.note(render.closing_line(result), dim=True)
        screen.expect(result.to_json())
    status = "interrupted" if exit_code == INTERRUPTED else "failed"
    screen.data({"status": status, "error": sentence, "exit_code": exit_code})
    return exit_code
