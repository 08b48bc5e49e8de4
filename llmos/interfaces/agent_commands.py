"""What a person does with agents: list, show, export, import, merge and split. Each command as an Action."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llmos import caller
from llmos.errors import UsageError
from llmos.interfaces import render
from llmos.interfaces.agents import (
    Found,
    every_agent,
    find_agent,
    read_agent,
    renamed,
    to_file_data,
    to_yaml,
)
from llmos.interfaces.session import Action, Session
from llmos.interfaces.trace_files import write_whole
from llmos.kernel.agents import merged, shares
from llmos.settings.records import AGENTS
from llmos.trace.lex import check_goal

if TYPE_CHECKING:
    from llmos.kernel.agents import Agent
    from llmos.settings import Settings


async def list_agents(session: Session) -> None:
    """List the profiles that can be used here."""
    settings = _settings(session)
    found, wrong = every_agent(settings)
    session.screen.data({"agents": [_data(one) for one in found], "failures": wrong})
    rows = [
        [
            one.agent.name,
            one.agent.kind or "user",
            "" if one.agent.priority is None else one.agent.priority,
            "" if one.agent.budget_usd is None else render.money(one.agent.budget_usd),
            "all" if one.agent.tools is None else len(one.agent.tools),
            str(one.file.parent),
            render.one_line(one.agent.description, 80),
        ]
        for one in found
    ]
    columns = ("agent", "class", "prio", "budget", "tools", "folder", "description")
    session.screen.table(columns, rows, empty=f"no agents yet: a profile is {AGENTS}/NAME.yaml")
    for sentence in wrong:
        session.screen.note(f"llmos: {sentence}")


def show_agent(name: str) -> Action:
    """Show a profile, and where it stands."""

    async def action(session: Session) -> None:
        found = find_agent(name, _settings(session))
        session.screen.data(_data(found))
        session.screen.show(to_yaml(found.agent).rstrip("\n"))
        session.screen.note(str(found.file), dim=True)

    return action


def export_agent(name: str, file: Path | None, *, force: bool) -> Action:
    """Write a profile to a new file, or to stdout."""

    async def action(session: Session) -> None:
        found = find_agent(name, _settings(session))
        text = to_yaml(found.agent)
        if file is None:
            session.screen.exactly(text.rstrip("\n"))
            session.screen.data({"agent": name, "yaml": text})
            return
        write_whole(file, text, force=force)
        session.screen.note(f"{name} written to {file}")
        session.screen.data({"agent": name, "file": str(file)})

    return action


def import_agent(file: Path, *, force: bool) -> Action:
    """Take a profile from a file into the home, once it is checked whole."""

    async def action(session: Session) -> None:
        settings = _settings(session)
        agent = read_agent(caller.placed(file), settings.redactor, shown=str(file))
        at = _written(agent, settings, force=force)
        session.screen.data(_data(Found(agent=agent, file=at)))
        session.screen.show(f"{agent.name} imported into {at}")

    return action


def merge_agents(one: str, other: str, *, name: str, prefer: str | None, force: bool) -> Action:
    """Write a profile that is told what both are, and may do what both may."""

    async def action(session: Session) -> None:
        settings = _settings(session)
        if prefer not in (None, one, other):
            raise UsageError(f"--prefer takes {one} or {other}, not {prefer!r}.")
        a, b = find_agent(one, settings).agent, find_agent(other, settings).agent
        usual = settings.classes[a.kind or "user"]
        made = merged(
            a,
            b,
            renamed(a, name).name,
            prefer=prefer or "",
            usual_priority=usual.priority,
            usual_usd=usual.max_usd,
        )
        at = _written(made, settings, force=force)
        session.screen.data(_data(Found(agent=made, file=at)))
        session.screen.show(f"{one} and {other} merged into {at}")
        if made.tools == ():
            session.screen.note(f"llmos: {one} and {other} have no tool in common, so {name} has none")

    return action


def split_agent(name: str, goals: Sequence[str]) -> Action:
    """Begin a process for each goal as one agent, whose budget is divided among them."""

    async def action(session: Session) -> None:
        from llmos.interfaces.process_commands import Terms, begin, data_of

        checked = [check_goal(goal) for goal in goals]
        options = session.options
        if options.agent not in (None, name):
            raise UsageError(f"what is split off from {name} works as {name}: leave --as out.")
        agent = find_agent(name, _settings(session)).agent
        budgets = _budgets(agent, options.budget_usd, len(checked))
        begun = []
        try:
            for goal, usd in zip(checked, budgets, strict=True):
                begun.append(await begin(session, goal, Terms(budget_usd=usd, agent=name)))
        finally:
            session.screen.expect({"processes": [data_of(process) for process in begun]})
            for process in begun:
                share = process.budget.allocated_usd
                of = "" if share is None else f", {render.money(share)}"
                session.screen.show(f"process {process.pid}: {render.one_line(process.goal, 60)}{of}")
        session.screen.data({"processes": [data_of(process) for process in begun]})
        session.screen.note(f"`wait {' '.join(str(process.pid) for process in begun)}` waits for them")

    return action


def _budgets(agent: Agent, asked_usd: float | None, count: int) -> list[float] | list[None]:
    """What each of several processes may spend: equal parts of what is asked for, or of the profile's budget."""
    if asked_usd is not None and agent.budget_usd is not None and asked_usd > agent.budget_usd:
        raise UsageError(
            f"${asked_usd:.4f} is more than {agent.name} may spend, which is ${agent.budget_usd:.4f} (budget_usd)."
        )
    total_usd = agent.budget_usd if asked_usd is None else asked_usd
    return [None] * count if total_usd is None else shares(total_usd, count)


def _written(agent: Agent, settings: Settings, *, force: bool) -> Path:
    """Where a profile was written to: the home's folder of them."""
    at = settings.home / AGENTS / f"{agent.name}.yaml"
    _check_readable(agent, settings)
    try:
        at.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{at.parent} can't be made: {error.strerror or error}.") from None
    write_whole(at, to_yaml(agent), force=force)
    return at


def _check_readable(agent: Agent, settings: Settings) -> None:
    """Refuse to write a profile that could not be read: two that fit may come to one that does not.

    Raises:
        SettingsError: it is larger than one may be, or keeps a credential.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder, f"{agent.name}.yaml")
        file.write_text(to_yaml(agent), encoding="utf-8")
        read_agent(file, settings.redactor, shown=agent.name)


def _settings(session: Session) -> Settings:
    settings = session.options.settings()
    session.screen.redactor = settings.redactor
    return settings


def _data(found: Found) -> dict[str, Any]:
    return {**to_file_data(found.agent), "file": str(found.file)}
