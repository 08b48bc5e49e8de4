"""The command line as a process: its streams, its log and its exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import click

from llmos.interfaces.commands import parse
from llmos.interfaces.parsing import Line
from llmos.interfaces.render import one_line
from llmos.interfaces.session import READER_LEFT, Options, Screen, perform, report
from llmos.redaction import Redactor
from llmos.redaction.logs import LogFilter


def main(argv: Sequence[str] | None = None, *, prog_name: str | None = None) -> int:
    """Run one command line (by default the process's own) and return its exit code; nothing is raised."""
    args = list(sys.argv[1:] if argv is None else argv)
    args = ["--help"] if args == ["help"] else args  # nobody means it as a goal to be paid for
    if prog_name is None:
        prog_name = "python boot.py" if Path(sys.argv[0]).name == "boot.py" else "llmos"
    _prepare_streams()
    head = args[: args.index("--")] if "--" in args else args
    screen = Screen(as_json="--json" in head)
    line = Line(options=Options())
    try:
        exit_code = _run(args, line, screen, prog_name)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        exit_code = READER_LEFT
    except OSError as error:  # of the flush: everything else was reported
        screen.note(f"llmos: standard output can't be written: {error.strerror or error}")
        exit_code = 7
    if exit_code in (READER_LEFT, 7):
        _drop_stdout()
    return exit_code


def _run(args: list[str], line: Line, screen: Screen, prog_name: str) -> int:
    try:
        action = parse(args, line, prog_name=prog_name)
        if action is None:
            return 0
        _configure_logging(line.options.verbose)
        asyncio.run(perform(action, line.options, screen))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except (Exception, asyncio.CancelledError, KeyboardInterrupt) as error:
        return report(error, screen, verbose=line.options.verbose)
    return 0


def _prepare_streams() -> None:
    """Let no character that the terminal's encoding lacks, nor a stray byte of the command line, raise."""
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
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


def _configure_logging(verbose: int) -> None:
    """Our warnings as sentences; with -v our information with its origin and tracebacks; with -vv everybody's."""
    handler = logging.StreamHandler()
    handler.addFilter(LogFilter(Redactor()))  # before there are settings, and for what is not ours
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s") if verbose else _Sentence())
    root, ours = logging.getLogger(), logging.getLogger("llmos")
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose > 1 else logging.WARNING if verbose else logging.CRITICAL)
    ours.setLevel(logging.DEBUG if verbose > 1 else logging.INFO if verbose else logging.WARNING)
    logging.captureWarnings(True)
    if not verbose and not sys.warnoptions:
        warnings.simplefilter("ignore")
