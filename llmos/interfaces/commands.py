"""The commands: what each is called and takes, and which Action it is. Anything that is no command is a goal.

Only click and the standard library are imported here, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from llmos import __version__
from llmos.interfaces import agent_verbs, interrupt_verbs, process_verbs
from llmos.interfaces.options import Action
from llmos.interfaces.parsing import GoalGroup, Line, ListingGroup, first_by_default, shared_options

STATUSES = ("candidate", "trusted", "quarantined", "rejected")
RUN_STATUSES = ("running", "done", "failed", "interrupted")
RUN_MODES = ("learner", "guided", "follower", "judged", "follower+learner", "unchanged", "undo", "none")
AUDIT_KINDS = (
    "start",
    "decision",
    "approval",
    "effect",
    "taint",
    "undo",
    "charge",
    "setting",
    "trace",
    "run_end",
    "reseal",
    "retention",
)

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
    from llmos.interfaces import actions, reading

    return reading.with_goal(list(goal), actions.run)


@cli.command()
@shared_options()
@click.argument("goal", nargs=-1, required=True)
def explain(goal: tuple[str, ...]) -> Action:
    """Say what GOAL would do, why and at what cost."""
    from llmos.interfaces import actions, reading

    return reading.with_goal(list(goal), actions.explain)


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
    return first_by_default(ctx)


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
    from llmos.interfaces import trace_files

    return trace_files.export_trace(trace, file, force=force)


@traces.command("import")
@shared_options()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trust", is_flag=True, help="Follow it without a confirmation.")
def traces_import(file: Path, trust: bool) -> Action:
    """Store the trace in FILE (`-`: stdin), to be confirmed."""
    from llmos.interfaces import trace_files

    return trace_files.import_trace(file, trust=trust)


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
    return first_by_default(ctx)


@runs.command("list")
@shared_options()
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@click.option("--status", type=click.Choice(RUN_STATUSES), help="Only runs that ended so.")
@click.option("--solved-by", type=click.Choice(RUN_MODES), help="Only runs of this mode.")
def runs_list(limit: int = 20, status: str | None = None, solved_by: str | None = None) -> Action:
    """List the newest runs."""
    from llmos.interfaces import actions

    return actions.list_runs(limit, status, solved_by)


@runs.command("show")
@shared_options()
@click.argument("run")
def runs_show(run: str) -> Action:
    """Show RUN (an id, the beginning of one, or `last`) with its steps."""
    from llmos.interfaces import actions

    return actions.show_run(run)


@cli.command()
@shared_options()
@click.argument("run", required=False)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--keep-changed", is_flag=True, help="Leave files alone that were changed since, and restore the others.")
def undo(run: str | None, dry_run: bool, keep_changed: bool) -> Action:
    """Take back what RUN (by default the last with effects) did to files."""
    from llmos.interfaces import journal_actions

    return journal_actions.undo(run, dry_run=dry_run, keep_changed=keep_changed)


@cli.group(cls=ListingGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def journal(ctx: click.Context) -> Action | None:
    """Every effect with what came of it: list, settle, prune."""
    return first_by_default(ctx)


@journal.command("list")
@shared_options()
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@click.option("--unknown", is_flag=True, help="Only effects of which nobody knows what came of them.")
def journal_list(limit: int = 20, unknown: bool = False) -> Action:
    """List the newest effects."""
    from llmos.interfaces import journal_actions

    return journal_actions.list_effects(limit, only_unknown=unknown)


@journal.command("settle")
@shared_options()
@click.argument("run")
@click.argument("step", type=click.IntRange(min=1))
@click.argument("outcome", type=click.Choice(("done", "not-done")))
def journal_settle(run: str, step: int, outcome: str) -> Action:
    """Say what came of STEP of RUN, which nobody knows."""
    from llmos.interfaces import journal_actions

    return journal_actions.settle(run, step, is_done=outcome == "done")


@journal.command("prune")
@shared_options()
def journal_prune() -> Action:
    """Remove what is kept for runs too old to be undone."""
    from llmos.interfaces import journal_actions

    return journal_actions.prune()


@cli.group(cls=ListingGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def battery(ctx: click.Context) -> Action | None:
    """The dollars a learner may spend: show, recharge, ledger."""
    return first_by_default(ctx)


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


@cli.group(cls=ListingGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def audit(ctx: click.Context) -> Action | None:
    """What is on record: tail, verify, export, reseal."""
    return first_by_default(ctx)


@audit.command("tail")
@shared_options()
@click.option("-n", "--limit", type=click.IntRange(1, 1_000_000), default=20, show_default=True, help="How many.")
@click.option("--kind", type=click.Choice(AUDIT_KINDS), help="Only rows of this kind.")
@click.option("--run", "run_id", metavar="RUN", help="Only rows of RUN (an id, the beginning of one, or `last`).")
def audit_tail(limit: int = 20, kind: str | None = None, run_id: str | None = None) -> Action:
    """Show the newest rows of the audit log."""
    from llmos.interfaces import audit_commands

    return audit_commands.tail(limit, kind, run_id)


@audit.command("verify")
@shared_options()
@click.option("--against", metavar="FILE", type=click.Path(path_type=Path), help="An earlier export it must extend.")
def audit_verify(against: Path | None) -> Action:
    """Check that no row was changed, removed, added or moved."""
    from llmos.interfaces import audit_commands

    return audit_commands.verify(against)


@audit.command("export")
@shared_options()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--since", metavar="N|TIME", help="From this row, day or time (UTC) on.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def audit_export(file: Path | None, since: str | None, force: bool) -> Action:
    """Write the rows as JSON lines to FILE, or to stdout."""
    from llmos.interfaces import audit_commands

    return audit_commands.export(file, since, force=force)


@audit.command("reseal")
@shared_options()
@click.argument("reason")
def audit_reseal(reason: str) -> Action:
    """Accept a database that you restored yourself, for REASON."""
    from llmos.interfaces import audit_commands

    return audit_commands.reseal(reason)


@cli.group(cls=ListingGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def permissions(ctx: click.Context) -> Action | None:
    """What tools may do: show, check."""
    return first_by_default(ctx)


@permissions.command("show")
@shared_options()
def permissions_show() -> Action:
    """Show who runs goals here, and the rules."""
    from llmos.interfaces import permitting

    return permitting.show_permissions()


@permissions.command("check")
@shared_options()
@click.argument("tool")
@click.argument("arguments", nargs=-1, metavar="[ARG=VALUE]...")
def permissions_check(tool: str, arguments: tuple[str, ...]) -> Action:
    """Say whether TOOL may be called so, and by which rule."""
    from llmos.interfaces import permitting

    return permitting.check_permission(tool, arguments)


@cli.group(cls=ListingGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def approvals(ctx: click.Context) -> Action | None:
    """The calls approved for good: list, revoke."""
    return first_by_default(ctx)


@approvals.command("list")
@shared_options()
def approvals_list() -> Action:
    """List the approvals."""
    from llmos.interfaces import permitting

    return permitting.list_approvals()


@approvals.command("revoke")
@shared_options()
@click.argument("approval", metavar="APPROVAL|TRACE")
def approvals_revoke(approval: str) -> Action:
    """Forget an approval, or all of a trace."""
    from llmos.interfaces import permitting

    return permitting.revoke_approval(approval)


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


@cli.command()
@shared_options()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--jobs", "-j", type=click.IntRange(1, 256), default=4, show_default=True, help="Goals at once.")
@click.option("--out", type=click.Path(path_type=Path), help="Where results go; by default FILE.results.jsonl.")
def batch(file: Path, jobs: int, out: Path | None) -> Action:
    """Do the goals of FILE, one a line (`-`: stdin); again after a break it goes on."""
    from llmos.interfaces import batch as batches

    return batches.batch(file, jobs=jobs, out=out)


@cli.command()
@shared_options()
@click.option("--foreground", is_flag=True, help="Be the kernel in this process, as for a service manager.")
def up(foreground: bool) -> Action:
    """Start the resident kernel, which does commands without their start-up."""
    from llmos.interfaces import kernel_commands

    return kernel_commands.be if foreground else kernel_commands.up


@cli.command()
@shared_options()
@click.option("--now", is_flag=True, help="Interrupt what it is doing.")
def down(now: bool) -> Action:
    """End the resident kernel, once what it is doing is done."""
    from llmos.interfaces import kernel_commands

    return kernel_commands.down(now=now)


@cli.command()
@shared_options()
def status() -> Action:
    """Say whether a resident kernel runs, and what it does."""
    from llmos.interfaces import kernel_commands

    return kernel_commands.status


@cli.command()
@shared_options()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def gc(dry_run: bool) -> Action:
    """Remove what is past its retention, and say what that freed."""
    from llmos.interfaces import collecting

    return collecting.collect(dry_run=dry_run)


@cli.command()
@shared_options()
def repair() -> Action:
    """Say what is damaged in the memory, and bring back what can be."""
    from llmos.interfaces import repairing

    return repairing.repair


for verb in (*process_verbs.VERBS, *interrupt_verbs.VERBS, *agent_verbs.VERBS):
    cli.add_command(verb)


def parse(args: Sequence[str], line: Line, *, prog_name: str) -> Action | None:
    """The action of a command line; None when it was answered already (`--help`, `--version`).

    Raises:
        click.ClickException: it can't be understood.
    """
    outcome = cli.main(list(args), prog_name=prog_name, standalone_mode=False, obj=line)
    return outcome if callable(outcome) else None
