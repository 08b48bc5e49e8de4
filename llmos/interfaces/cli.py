"""The command line: parses what was typed into an Action and runs it. Anything that is no command is a goal.

Only click and the standard library are imported here, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from llmos import __version__
from llmos.interfaces.render import one_line
from llmos.interfaces.session import READER_LEFT, Action, Options, Screen, perform, report

MAX_STDIN_BYTES = 2_000_000
MODES = ("auto", "follow", "learn")
STATUSES = ("candidate", "trusted", "quarantined", "rejected")
RUN_STATUSES = ("running", "done", "failed", "interrupted")
RUN_MODES = ("learner", "guided", "follower", "judged", "none")

C = TypeVar("C", bound=Callable[..., Any])


# ------------------------------------------------------------------------------------------------------ options


@dataclass
class Line:
    """One parsed command line; `is_shell_line` says that LLMOS runs already and can't be set up otherwise."""

    options: Options
    is_shell_line: bool = False


def _gather(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Lay an option that was given over those given before it."""
    if param.name is None or ctx.get_parameter_source(param.name) is click.core.ParameterSource.DEFAULT:
        return
    line = ctx.find_object(Line)
    if line is None or param.name == "no_daemon":
        return
    if line.is_shell_line and param.name in _AT_START:
        raise click.UsageError(f"{param.opts[0]} is chosen when the shell starts; leave it first.", ctx)
    before = getattr(line.options, param.name)
    given = before + tuple(value) if isinstance(before, tuple) else value
    changed: dict[str, Any] = {param.name: given}
    line.options = replace(line.options, **changed)


_AT_START = ("home", "workspace", "plugins", "budget_usd", "model", "audit_rate", "frozen")
_FOLDER = click.Path(path_type=Path)
_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--home",), {"type": _FOLDER, "metavar": "DIR", "help": "Where memory lives (also: $LLMOS_HOME)."}),
    (
        ("--workspace",),
        {"type": _FOLDER, "metavar": "DIR", "help": "What goals may read and write; by default this folder."},
    ),
    (
        ("--plugins",),
        {"type": _FOLDER, "metavar": "DIR", "multiple": True, "help": "One more folder of plugins; repeatable."},
    ),
    (("--budget", "budget_usd"), {"type": float, "metavar": "USD", "help": "What this command may spend at most."}),
    (("--model",), {"metavar": "NAME", "help": "The model that learns: sonnet, opus, haiku, openai:gpt-5, …"}),
    (
        ("--mode",),
        {
            "type": click.Choice(MODES),
            "help": "Follow a proven trace or else learn (auto), only follow, or only learn.",
        },
    ),
    (
        ("--audit-rate",),
        {"type": float, "metavar": "SHARE", "help": "Let the learner check this share of replays that only read."},
    ),
    (("--frozen",), {"is_flag": True, "help": "Use traces, but change nothing about them and learn no new ones."}),
    (("--json", "as_json"), {"is_flag": True, "help": "One JSON object on stdout, everything else on stderr."}),
    (("--yes", "-y"), {"is_flag": True, "help": "Answer yes to what would be asked."}),
    (("--no-daemon",), {"is_flag": True, "hidden": True, "help": "Work in this process; it always does for now."}),
    (("--verbose", "-v"), {"count": True, "help": "Tell what happens, on stderr; with tracebacks. -vv: all logs."}),
)


def shared_options(*, hidden: bool = True) -> Callable[[C], C]:
    """The options that every command takes, before or after its own arguments."""

    def add(command: C) -> C:
        for names, how in reversed(_OPTIONS):
            settings = {"expose_value": False, "callback": _gather, **how, "hidden": hidden or how.get("hidden", False)}
            command = click.option(*names, **settings)(command)
        return command

    return add


class GoalGroup(click.Group):
    """A group whose unknown commands are goals: `boot.py "goal" --json` is `boot.py run "goal" --json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["llmos.given"] = list(args)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        taken = ctx.meta["llmos.given"][: -len(args)]
        if taken[-1:] == ["--"]:
            return "run", self.commands["run"], ["--", *args]
        if args[0] not in self.commands:
            return "run", self.commands["run"], args
        return super().resolve_command(ctx, args)


class ListingGroup(click.Group):
    """A group that does its first command when it is called alone."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            words = f"{ctx.info_name} {args[0]}"
            raise click.UsageError(
                f"there is no command {words!r}, only {', '.join(self.commands)}; "
                f"if it is a goal, put `run` before it or quotes around it.",
                ctx,
            )
        return super().resolve_command(ctx, args)


def _first_by_default(ctx: click.Context) -> Action | None:
    """The action of a group called alone: that of its first command, with that command's defaults."""
    group = ctx.command
    if ctx.invoked_subcommand is not None or not isinstance(group, click.Group):
        return None
    first = next(iter(group.commands.values()))
    action: Action = ctx.invoke(first)
    return action


# ----------------------------------------------------------------------------------------------------- commands

EPILOG = """\b
Exit codes:
  0  done                     5  no learner available
  1  the goal failed          6  nothing to follow (--mode follow)
  2  usage                    7  storage
  3  battery too low        130  interrupted
  4  not permitted          141  the reader of the output went away

\b
Examples:
  llmos "Analyze data in workspace/data.csv"
  llmos Calculate 2 + 3
  llmos explain "Convert sales.csv to sales.json"
  llmos run tools           a goal that is also the name of a command
  llmos -- "-40 F in C?"    a goal that starts with a dash
"""


@click.group(
    cls=GoalGroup,
    no_args_is_help=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    options_metavar="[OPTIONS]",
    subcommand_metavar="GOAL | COMMAND [ARGUMENTS]",
)
@click.version_option(__version__, prog_name="llmos", message="%(prog)s %(version)s")
@shared_options(hidden=False)
def cli() -> None:
    """Solve a goal once with a model; replay it from then on with plain Python, for $0.

    What is no command is a goal. Options may stand before or after it.
    """


@cli.command()
@shared_options()
@click.argument("goal", nargs=-1, required=True)
def run(goal: tuple[str, ...]) -> Action:
    """Reach GOAL, even one named like a command (`-`: from stdin)."""
    from llmos.interfaces import actions

    return actions.run(_goal(goal))


@cli.command()
@shared_options()
@click.argument("goal", nargs=-1, required=True)
def explain(goal: tuple[str, ...]) -> Action:
    """Say what GOAL would do, why and at what cost."""
    from llmos.interfaces import actions

    return actions.explain(_goal(goal))


def _goal(words: Sequence[str]) -> str:
    """The words of a goal as one text; a lone `-` stands for standard input."""
    if list(words) != ["-"]:
        return " ".join(words)
    return sys.stdin.buffer.read(MAX_STDIN_BYTES).decode("utf-8", errors="surrogateescape")


@cli.command()
@shared_options()
@click.pass_obj
def interactive(line: Line) -> Action:
    """Open the shell, with history and completion."""
    if line.is_shell_line:
        raise click.UsageError("this is the shell already.")
    from llmos.interfaces import shell

    return shell.shell


@cli.group(cls=ListingGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def traces(ctx: click.Context) -> Action | None:
    """What was learned: list, show, diff, export, import, …"""
    return _first_by_default(ctx)


@traces.command("list")
@shared_options()
@click.option("--status", type=click.Choice(STATUSES), help="Only traces of this standing.")
def traces_list(status: str | None = None) -> Action:
    """List the traces."""
    from llmos.interfaces import actions

    return actions.list_traces(status)


@traces.command("show")
@shared_options()
@click.argument("trace")
def traces_show(trace: str) -> Action:
    """Show TRACE (an id, or id@version) and where each value comes from."""
    from llmos.interfaces import actions

    return actions.show_trace(trace)


@traces.command("versions")
@shared_options()
@click.argument("trace")
def traces_versions(trace: str) -> Action:
    """List the versions of TRACE, with what each changed."""
    from llmos.interfaces import history

    return history.list_versions(trace)


@traces.command("diff")
@shared_options()
@click.argument("trace")
@click.argument("other", required=False)
def traces_diff(trace: str, other: str | None) -> Action:
    """Show what changed from TRACE (id@version) to OTHER (a version's number or a trace; by default the newest)."""
    from llmos.interfaces import history

    return history.diff_traces(trace, other)


@traces.command("export")
@shared_options()
@click.argument("trace")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def traces_export(trace: str, file: Path | None, force: bool) -> Action:
    """Write TRACE as YAML to FILE, or to stdout."""
    from llmos.interfaces import actions

    return actions.export_trace(trace, file, force=force)


@traces.command("import")
@shared_options()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trust", is_flag=True, help="Follow it without a confirmation.")
def traces_import(file: Path, trust: bool) -> Action:
    """Store the trace in FILE (`-`: stdin), to be confirmed."""
    from llmos.interfaces import actions

    return actions.import_trace(file, trust=trust)


@traces.command("confirm")
@shared_options()
@click.argument("name", metavar="RUN|TRACE")
def traces_confirm(name: str) -> Action:
    """Say that a run (an id, or `last`) was right, or trust a trace."""
    from llmos.interfaces import verdicts

    return verdicts.confirm(name)


@traces.command("reject")
@shared_options()
@click.argument("name", metavar="RUN|TRACE")
@click.option("--goal", metavar="TEXT", help="Only for this goal; the trace must then be confirmed for others.")
def traces_reject(name: str, goal: str | None) -> Action:
    """Say that a run (an id, or `last`) or a trace was wrong."""
    from llmos.interfaces import verdicts

    return verdicts.reject(name, goal)


@traces.command("verify")
@shared_options()
@click.argument("trace")
def traces_verify(trace: str) -> Action:
    """Do the run of TRACE again in a copy of the workspace."""
    from llmos.interfaces import verdicts

    return verdicts.verify(trace)


@traces.command("forget")
@shared_options()
@click.argument("trace")
def traces_forget(trace: str) -> Action:
    """Delete TRACE with all its versions."""
    from llmos.interfaces import actions

    return actions.forget_trace(trace)


@cli.group(cls=ListingGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def runs(ctx: click.Context) -> Action | None:
    """What was done: list, show."""
    return _first_by_default(ctx)


@runs.command("list")
@shared_options()
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@click.option("--status", type=click.Choice(RUN_STATUSES), help="Only runs that ended so.")
@click.option("--solved-by", "mode", type=click.Choice(RUN_MODES), help="Only runs of this mode.")
def runs_list(limit: int = 20, status: str | None = None, mode: str | None = None) -> Action:
    """List the newest runs."""
    from llmos.interfaces import actions

    return actions.list_runs(limit, status, mode)


@runs.command("show")
@shared_options()
@click.argument("run")
def runs_show(run: str) -> Action:
    """Show RUN (an id, the beginning of one, or `last`) with its steps."""
    from llmos.interfaces import actions

    return actions.show_run(run)


@cli.group(cls=ListingGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def battery(ctx: click.Context) -> Action | None:
    """The dollars a learner may spend: show, recharge, ledger."""
    return _first_by_default(ctx)


@battery.command("show")
@shared_options()
def battery_show() -> Action:
    """Show the balance, and what was spent and saved."""
    from llmos.interfaces import actions

    return actions.show_battery()


@battery.command("recharge")
@shared_options()
@click.argument("usd", type=float)
def battery_recharge(usd: float) -> Action:
    """Add USD dollars."""
    from llmos.interfaces import actions

    return actions.recharge_battery(usd)


@battery.command("ledger")
@shared_options()
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="How many.")
def battery_ledger(limit: int) -> Action:
    """List the newest movements."""
    from llmos.interfaces import actions

    return actions.show_ledger(limit)


@cli.command()
@shared_options()
def tools() -> Action:
    """List the tools, and the plugins that could not be loaded."""
    from llmos.interfaces import actions

    return actions.list_tools()


@cli.command()
@shared_options()
def doctor() -> Action:
    """Say what is installed, what is missing, and how to get it."""
    from llmos.interfaces import doctor as checks

    return checks.doctor


# --------------------------------------------------------------------------------------------------------- main


def parse(args: Sequence[str], line: Line, *, prog_name: str) -> Action | None:
    """The action of a command line; None when it was answered already (`--help`, `--version`).

    Raises:
        click.ClickException: it can't be understood.
    """
    outcome = cli.main(list(args), prog_name=prog_name, standalone_mode=False, obj=line)
    return outcome if callable(outcome) else None


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
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s") if verbose else _Sentence())
    root, ours = logging.getLogger(), logging.getLogger("llmos")
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose > 1 else logging.WARNING if verbose else logging.CRITICAL)
    ours.setLevel(logging.DEBUG if verbose > 1 else logging.INFO if verbose else logging.WARNING)
    if not verbose and not sys.warnoptions:
        warnings.simplefilter("ignore")
