"""What the commands about interrupts and standing orders are called and take; words that don't fit one are a goal."""

from __future__ import annotations

from collections.abc import Sequence

import click

from llmos.interfaces.options import Action
from llmos.interfaces.parsing import Telling, Verb, VerbGroup, first_by_default, shared_options

_NUMBER = click.argument("number", type=click.IntRange(min=1), metavar="ID")
_MAY_LEARN = click.option("--may-learn", is_flag=True, help="Let the learner solve what no trace does, for money.")


@click.command(cls=Telling)
@shared_options()
@click.argument("pid", type=click.IntRange(min=1))
@click.argument("text", nargs=-1, required=True, metavar="TEXT...")
def tell(pid: int, text: Sequence[str]) -> Action:
    """Tell the model of the process PID something, at its next turn."""
    from llmos.interfaces import interrupt_commands

    return interrupt_commands.tell(pid, " ".join(text))


@click.command(cls=Verb)
@shared_options()
@click.option("--all", "everything", is_flag=True, help="Those that were delivered, too.")
def interrupts(everything: bool) -> Action:
    """List the interrupts that wait to be delivered."""
    from llmos.interfaces import interrupt_commands

    return interrupt_commands.interrupts(everything=everything)


@click.group(cls=VerbGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def schedule(ctx: click.Context) -> Action | None:
    """Goals at certain times: list, add, show, pause, continue, remove."""
    return first_by_default(ctx)


@schedule.command("list")
@shared_options()
def schedule_list() -> Action:
    """List the schedules: when each is due, and what its last run came to."""
    from llmos.interfaces import order_commands

    return order_commands.list_schedules


@schedule.command("add")
@shared_options()
@click.argument("words", nargs=-1, required=True, metavar='["every ..."] GOAL')
@click.option("--cron", metavar="FIELDS", help="When, as a cron expression: `0 9 * * 1-5`.")
@click.option("--at", metavar="TIME", help="Once, at this time: 2026-12-01T09:00.")
@click.option("--timezone", metavar="NAME", help="Whose clock is meant, as Europe/Berlin; by default yours.")
@click.option("--skip-missed", is_flag=True, help="Don't make up for a run that was due while no kernel ran.")
@_MAY_LEARN
def schedule_add(
    words: Sequence[str], cron: str | None, at: str | None, timezone: str | None, skip_missed: bool, may_learn: bool
) -> Action:
    """Reach GOAL at certain times, for $0 unless it --may-learn."""
    from llmos.interfaces import order_commands

    return order_commands.add_schedule(
        list(words), cron=cron, at=at, timezone=timezone, skip_missed=skip_missed, may_learn=may_learn
    )


@click.group(cls=VerbGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def watch(ctx: click.Context) -> Action | None:
    """Goals on a change of files: list, add, show, pause, continue, remove."""
    return first_by_default(ctx)


@watch.command("list")
@shared_options()
def watch_list() -> Action:
    """List the watches, and what the last run of each came to."""
    from llmos.interfaces import order_commands

    return order_commands.list_watches


@watch.command("add")
@shared_options()
@click.argument("path")
@click.argument("goal", nargs=-1, required=True)
@_MAY_LEARN
def watch_add(path: str, goal: Sequence[str], may_learn: bool) -> Action:
    """Reach GOAL when something changes at or below PATH; {path} in it is the file that changed."""
    from llmos.interfaces import order_commands

    return order_commands.add_watch(path, " ".join(goal), may_learn=may_learn)


def _for_both(group: click.Group) -> None:
    """The commands that schedules and watches have in common."""
    kind = str(group.name)

    @group.command("show")
    @shared_options()
    @_NUMBER
    def show(number: int) -> Action:
        """Show ID with all that is known of its runs."""
        from llmos.interfaces import order_commands

        return order_commands.show(kind, number)

    @group.command("pause")
    @shared_options()
    @_NUMBER
    def pause(number: int) -> Action:
        """Begin nothing for ID until it is continued."""
        from llmos.interfaces import order_commands

        return order_commands.pause(kind, number)

    @group.command("continue")
    @shared_options()
    @_NUMBER
    def go_on(number: int) -> Action:
        """Let ID hold again; what was due meanwhile is left out."""
        from llmos.interfaces import order_commands

        return order_commands.go_on(kind, number)

    @group.command("remove")
    @shared_options()
    @_NUMBER
    def remove(number: int) -> Action:
        """Forget ID; a run of it goes on."""
        from llmos.interfaces import order_commands

        return order_commands.remove(kind, number)


_for_both(schedule)
_for_both(watch)

VERBS: tuple[click.Command, ...] = (tell, interrupts, schedule, watch)
