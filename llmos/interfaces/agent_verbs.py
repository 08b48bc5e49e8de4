"""What the commands about agents are called and take; `agents` with other words is a goal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from llmos.interfaces.options import Action
from llmos.interfaces.parsing import VerbGroup, first_by_default, shared_options

_FORCE = click.option("--force", is_flag=True, help="Replace what is there.")
_FILE = click.Path(path_type=Path)


@click.group(cls=VerbGroup, invoke_without_command=True)
@shared_options()
@click.pass_context
def agents(ctx: click.Context) -> Action | None:
    """Profiles that goals are reached under: list, merge, split, …"""
    return first_by_default(ctx)


@agents.command("list")
@shared_options()
def agents_list() -> Action:
    """List the agents."""
    from llmos.interfaces import agent_commands

    return agent_commands.list_agents


@agents.command("show")
@shared_options()
@click.argument("name")
def agents_show(name: str) -> Action:
    """Show the profile of NAME."""
    from llmos.interfaces import agent_commands

    return agent_commands.show_agent(name)


@agents.command("export")
@shared_options()
@click.argument("name")
@click.argument("file", required=False, type=_FILE)
@_FORCE
def agents_export(name: str, file: Path | None, force: bool) -> Action:
    """Write the profile of NAME to FILE, or to stdout."""
    from llmos.interfaces import agent_commands

    return agent_commands.export_agent(name, file, force=force)


@agents.command("import")
@shared_options()
@click.argument("file", type=_FILE)
@_FORCE
def agents_import(file: Path, force: bool) -> Action:
    """Take the profile in FILE into the home."""
    from llmos.interfaces import agent_commands

    return agent_commands.import_agent(file, force=force)


@agents.command("merge")
@shared_options()
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--name", required=True, metavar="C", help="What the new agent is called.")
@click.option("--prefer", metavar="A|B", help="Whose facts and model count where the two differ.")
@_FORCE
def agents_merge(one: str, other: str, name: str, prefer: str | None, force: bool) -> Action:
    """Make the agent C, which knows what A and B know and may do what both may."""
    from llmos.interfaces import agent_commands

    return agent_commands.merge_agents(one, other, name=name, prefer=prefer, force=force)


@agents.command("split")
@shared_options()
@click.argument("name")
@click.argument("goals", nargs=-1, required=True, metavar="GOAL...")
def agents_split(name: str, goals: Sequence[str]) -> Action:
    """Begin a process for each GOAL as the agent NAME, and divide its budget (or --budget) among them."""
    from llmos.interfaces import agent_commands

    return agent_commands.split_agent(name, goals)


VERBS: tuple[click.Command, ...] = (agents,)
