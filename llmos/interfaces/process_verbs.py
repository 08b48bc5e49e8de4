"""What the commands about processes are called and take; words that don't fit one are a goal."""

from __future__ import annotations

from collections.abc import Sequence

import click

from llmos.interfaces.options import Action
from llmos.interfaces.parsing import NumberedVerb, Verb, shared_options
from llmos.settings.records import CLASSES

_PIDS = click.argument("pids", type=click.IntRange(min=1), nargs=-1, required=True, metavar="PID...")


@click.command(cls=Verb)
@shared_options()
@click.option("--all", "everyone", is_flag=True, help="Those that ended lately, too.")
@click.option("--like", metavar="TEXT", help="Those first whose goals mean something like it.")
def ps(everyone: bool, like: str | None) -> Action:
    """List the goals at work: their state, priority, cost and age."""
    from llmos.interfaces import process_commands

    return process_commands.ps(everyone=everyone, like=like)


@click.command(cls=Verb)
@shared_options()
def top() -> Action:
    """Watch the goals at work, until Ctrl-C."""
    from llmos.interfaces import process_top

    return process_top.top


@click.command()
@shared_options()
@click.argument("goal", nargs=-1, required=True)
@click.option("--priority", type=click.IntRange(0, 19), help="0 is the most urgent; by default that of its class, 10.")
@click.option("--class", "kind", type=click.Choice([*CLASSES]), help="By default that of its agent, or user.")
@click.option("--tokens", type=click.IntRange(min=1), metavar="N", help="How many it and its children may use.")
def spawn(goal: Sequence[str], priority: int | None, kind: str | None, tokens: int | None) -> Action:
    """Begin GOAL in the resident kernel, and go on at once."""
    from llmos.interfaces import process_commands, reading

    terms = process_commands.Terms(kind=kind, priority=priority, budget_tokens=tokens)
    return reading.with_goal(list(goal), lambda text: process_commands.spawn(text, terms=terms))


@click.command(cls=Verb)
@shared_options()
@_PIDS
def wait(pids: Sequence[int]) -> Action:
    """Wait until processes have ended."""
    from llmos.interfaces import process_commands

    return process_commands.wait(pids)


@click.command(cls=Verb)
@shared_options()
@_PIDS
def kill(pids: Sequence[int]) -> Action:
    """End processes at once, with all they began."""
    from llmos.interfaces import process_commands

    return process_commands.kill(pids)


@click.command(cls=Verb)
@shared_options()
@_PIDS
def suspend(pids: Sequence[int]) -> Action:
    """Have processes stop at the end of their turn."""
    from llmos.interfaces import process_commands

    return process_commands.suspend(pids)


@click.command(cls=Verb)
@shared_options()
@_PIDS
def resume(pids: Sequence[int]) -> Action:
    """Let processes go on that were suspended."""
    from llmos.interfaces import process_commands

    return process_commands.resume(pids)


@click.command(cls=Verb)
@shared_options()
@click.argument("pid", type=click.IntRange(min=1))
@click.argument("priority", type=click.IntRange(0, 19))
def nice(pid: int, priority: int) -> Action:
    """Give the process PID another PRIORITY, from 0 (the most urgent) to 19."""
    from llmos.interfaces import process_commands

    return process_commands.nice(pid, priority)


@click.command(cls=Verb)
@shared_options()
def models() -> Action:
    """Show which models do what, at what price, and which are down."""
    from llmos.interfaces import model_commands

    return model_commands.models


@click.command(cls=NumberedVerb)
@shared_options()
@click.argument("pid", type=click.IntRange(min=1))
@click.argument("name", metavar="NAME")
def model(pid: int, name: str) -> Action:
    """Have the model NAME go on with the process PID, from the end of its turn on."""
    from llmos.interfaces import model_commands

    return model_commands.model(pid, name)


@click.command("sys")
@shared_options()
@click.argument("sentence", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only show the call.")
def system_call(sentence: Sequence[str], dry_run: bool) -> Action:
    """Make the call that SENTENCE means, such as "suspend the reviewer"."""
    from llmos.interfaces import system_calls

    return system_calls.system_call(" ".join(sentence), dry_run=dry_run)


@click.command(cls=NumberedVerb)
@shared_options()
@click.argument("pid", type=click.IntRange(min=1))
@click.argument("usd", type=click.FloatRange(min=0.0))
@click.option("--to", type=click.IntRange(min=1), required=True, metavar="PID", help="Who gets it.")
@click.option("--for", "seconds", type=click.FloatRange(min=0.0, min_open=True), metavar="SECONDS", help="How long.")
def lend(pid: int, usd: float, to: int, seconds: float | None) -> Action:
    """Lend USD of the budget of the process PID, and its priority, to another one."""
    from llmos.interfaces import process_commands

    return process_commands.lend(pid, usd, to, seconds)


@click.command(cls=Verb)
@shared_options()
@click.argument("pid", type=click.IntRange(min=1))
@click.option("-f", "--follow", is_flag=True, help="Go on until the process has ended, or Ctrl-C.")
def logs(pid: int, follow: bool) -> Action:
    """Show what the process PID did and said lately."""
    from llmos.interfaces import process_commands

    return process_commands.logs(pid, follow=follow)


@click.command(cls=Verb)
@shared_options()
@click.argument("pid", type=click.IntRange(min=1), required=False)
def mail(pid: int | None) -> Action:
    """List the messages to the process PID, or to all, and what became of them."""
    from llmos.interfaces import mail_commands

    return mail_commands.mail(pid)


class _Send(Verb):
    """A command that takes a number and words: `send 7 Use tabs`, but not `send the report to Ada`."""

    def is_meant(self, words: Sequence[str]) -> bool:
        given = [word for word in words if not word.startswith("-")]
        return "--help" in words or (len(given) > 1 and given[0].isdigit())


@click.command(cls=_Send)
@shared_options()
@click.argument("pid", type=click.IntRange(min=1))
@click.argument("text", nargs=-1, required=True)
@click.option("--priority", type=click.IntRange(0, 19), default=10, show_default=True, help="0 is read first.")
@click.option("--ttl", "ttl_s", type=float, metavar="SECONDS", help="How long it may wait to be read.")
def send(pid: int, text: Sequence[str], priority: int, ttl_s: float | None) -> Action:
    """Put TEXT into the mailbox of the process PID, which reads it when it looks there."""
    from llmos.interfaces import mail_commands

    return mail_commands.send(pid, " ".join(text), priority=priority, ttl_s=ttl_s)


@click.command(cls=Verb)
@shared_options()
def mem() -> Action:
    """Show how much each level of memory holds, and how often it had what was looked for."""
    from llmos.interfaces import memory_commands

    return memory_commands.mem


VERBS = (ps, top, mem, spawn, wait, kill, suspend, resume, nice, lend, logs, mail, send, models, model, system_call)
