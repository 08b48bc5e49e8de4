"""The command line as a process, or as a connection to the resident kernel: its streams, its log and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TextIO

import click

from llmos import caller
from llmos.errors import StorageError
from llmos.interfaces.commands import parse
from llmos.interfaces.parsing import Line
from llmos.interfaces.render import one_line
from llmos.interfaces.session import (
    INTERRUPTED,
    READER_LEFT,
    Action,
    Interrupts,
    Opened,
    Options,
    ReaderLeftError,
    Screen,
    perform,
    report,
    unwritten,
)
from llmos.redaction import Redactor
from llmos.redaction.logs import LogFilter

STORAGE = 7


def main(argv: Sequence[str] | None = None, *, prog_name: str = "llmos") -> int:
    """Do one command line (by default the process's own) in this process; its exit code, nothing is raised."""
    args = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    line, screen = _begun(args)
    try:
        action = _parsed(args, line, prog_name)
        if action is not None:
            _configure_logging(line.options.verbose)
            asyncio.run(perform(action, line.options, screen))
        exit_code = 0
    except _ENDS as error:
        exit_code = _told(error, line, screen)
    exit_code = _flushed(exit_code, screen)
    if exit_code in (READER_LEFT, STORAGE):
        _drop_stdout()
    return exit_code


async def obey(
    args: list[str],
    *,
    prog_name: str,
    stopped_by: Callable[[], AbstractContextManager[Interrupts]],
    opened: Opened,
) -> int:
    """Do the command line of the current caller in this process, which has others too; its exit code."""
    line, screen = _begun(args)
    try:
        action = _parsed(args, line, prog_name)
        if action is not None:
            asking = caller.current()
            if asking is not None:
                asking.verbose = line.options.verbose
            await perform(action, line.options, screen, stopped_by=stopped_by, opened=opened)
        exit_code = 0
    except _ENDS as error:
        exit_code = _told(error, line, screen)
    return await _drained(exit_code, screen)


async def _drained(exit_code: int, screen: Screen) -> int:
    """The exit code once all has reached the caller; what can't is said."""
    asking = caller.current()
    if asking is None or asking.outlet is None:
        return _flushed(exit_code, screen)
    try:
        await asking.outlet.drained(asking.stdout.fileno())
    except BrokenPipeError:
        return READER_LEFT
    except OSError as error:
        return _unwritten(error, exit_code, screen)
    except asyncio.CancelledError:
        return INTERRUPTED
    return exit_code


_ENDS = (Exception, asyncio.CancelledError, KeyboardInterrupt)


def _begun(args: list[str]) -> tuple[Line, Screen]:
    head = args[: args.index("--")] if "--" in args else args
    return Line(options=Options()), Screen(as_json="--json" in head)


def _parsed(args: list[str], line: Line, prog_name: str) -> Action | None:
    args = ["--help"] if args == ["help"] else args  # nobody means it as a goal to be paid for
    try:
        return parse(args, line, prog_name=prog_name)
    except OSError as error:  # help and the version are written here, and nothing else is
        raise unwritten(error) from None


def _told(error: BaseException, line: Line, screen: Screen) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), file=caller.stderr(), err=True)
        return error.exit_code
    try:
        return report(error, screen, verbose=line.options.verbose)
    except ReaderLeftError:
        return READER_LEFT
    except StorageError as also:  # of the JSON object that tells it
        return report(also, screen, verbose=line.options.verbose)


def _flushed(exit_code: int, screen: Screen) -> int:
    """The exit code once all is written: what can't be is said."""
    stdout = caller.stdout()
    try:
        if stdout is not None:
            stdout.flush()
    except BrokenPipeError:
        return READER_LEFT
    except OSError as error:
        return _unwritten(error, exit_code, screen)
    return exit_code


def _unwritten(error: OSError, exit_code: int, screen: Screen) -> int:
    """The exit code where standard output can't be written, which is said unless it, or worse, was said before."""
    if exit_code != STORAGE:
        screen.note(f"llmos: {unwritten(error)}")
    return STORAGE


def _prepare_streams() -> None:
    """Let no character that the terminal's encoding lacks, nor a stray byte of the command line, raise."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError):  # of what still waits to be written, and is told where it is
                stream.reconfigure(errors=errors)


def _drop_stdout() -> None:
    """Keep the interpreter from complaining, at its end, of what can't be flushed."""
    if sys.stdout is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class _Sentence(logging.Formatter):
    """A log record as the user reads it without -v: one line, no traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return f"llmos: {one_line(record.getMessage(), 500)}"


_IN_FULL = "%(levelname)s %(name)s: %(message)s"


def _configure_logging(verbose: int) -> None:
    """Our warnings as sentences; with -v our information with its origin and tracebacks; with -vv everybody's."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_IN_FULL) if verbose else _Sentence())
    _listen(handler, verbose)
    if not verbose and not sys.warnoptions:
        warnings.simplefilter("ignore")


def _listen(handler: logging.Handler, verbose: int) -> None:
    handler.addFilter(LogFilter(Redactor()))  # before there are settings, and for what is not ours
    root, ours = logging.getLogger(), logging.getLogger("llmos")
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose > 1 else logging.WARNING if verbose else logging.CRITICAL)
    ours.setLevel(logging.DEBUG if verbose > 1 else logging.INFO if verbose else logging.WARNING)
    logging.captureWarnings(True)


class CallersLog(logging.Handler):
    """Tells each caller what is logged while something is done for it, as its own process would; all else to `own`."""

    def __init__(self, own: TextIO) -> None:
        super().__init__()
        self._own = own
        self._sentence, self._in_full = _Sentence(), logging.Formatter(_IN_FULL)

    def emit(self, record: logging.LogRecord) -> None:
        asking = caller.current()
        try:
            if asking is None:
                self._write(self._own, logging.Formatter(f"%(asctime)s {_IN_FULL}").format(record))
            elif _is_heard(record, asking.verbose):
                self._write(asking.stderr, (self._in_full if asking.verbose else self._sentence).format(record))
        except (OSError, ValueError):
            pass  # nobody reads it any more

    def _write(self, stream: TextIO, text: str) -> None:
        stream.write(f"{text}\n")
        stream.flush()

    def listen(self) -> None:
        """Be the only one who hears, from our information on, and everybody's warnings."""
        _listen(self, 1)


def _is_heard(record: logging.LogRecord, verbose: int) -> bool:
    if record.name.partition(".")[0] == "llmos":
        return verbose > 0 or record.levelno >= logging.WARNING
    return verbose > 0
