"""What each command does, as an Action: given a Session it acts, shows, and raises what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.interfaces import render, render_match, render_trace
from llmos.interfaces.acting import acting
from llmos.interfaces.naming import find_run, find_trace
from llmos.interfaces.session import Action, Session, unloaded
from llmos.trace.lex import check_goal

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.interfaces.results import Result
    from llmos.kernel.bus import RunEnded
    from llmos.kernel.process import Process

NO_RUN: dict[str, Any] = {
    "run_id": None,
    "mode": None,
    "answer": None,
    "outputs": {},
    "cost_usd": 0.0,
    "saved_usd": 0.0,
    "trace_id": None,
    "bindings": {},
    "steps": [],
    "duration_s": 0.0,
    "reason": "",
}
"""The keys of a goal's JSON object, for a goal that did not get as far as a run."""


# -------------------------------------------------------------------------------------------------------- goals


def run(
    goal: str,
    *,
    then: Callable[[Result], None] = lambda result: None,
    begun: Callable[[Session, Process], None] = lambda session, process: None,
    again: bool = False,
    how: str = "--again",
) -> Action:
    """Reach a goal and show its answer.

    `begun` is told the process that it is, `then` the result; `how` says how it is done again.
    """

    async def action(session: Session) -> None:
        from llmos.kernel.bus import RunEnded

        session.screen.expect(NO_RUN)
        checked = check_goal(goal)
        system = await session.system()
        as_agent = await acting(session)
        ended: list[RunEnded] = []
        with system.bus.listening(RunEnded, ended.append):
            try:
                result = await system.execute(
                    checked,
                    mode=session.options.mode,
                    confirm=session.confirm,
                    again=again or session.options.again,
                    **as_agent,
                    begun=lambda process: begun(session, process),
                )
            except asyncio.CancelledError:
                _tell_interrupted(session, ended)
                raise
        then(result)
        show_result(session, result, how=how)
        if result.notice:
            session.screen.note(f"llmos: {result.notice}")
        if result.audit == "disagreed":
            session.screen.note(f"llmos: {result.reason}")

    return action


def show_result(session: Session, result: Result, *, how: str = "--again") -> None:
    """Show a result; one that an earlier run gave is told as such before its answer."""
    if result.of_run is not None:
        session.screen.answer(render.unchanged(result))
    session.screen.answer(result.answer)
    session.screen.data(result.to_json())
    session.screen.note(render.closing_line(result), dim=True)
    if result.of_run is not None:
        session.screen.note(f"nothing was done; {how} does it again", dim=True)


def _tell_interrupted(session: Session, ended: list[RunEnded]) -> None:
    for event in ended[-1:]:
        known = {"run_id": event.run_id, "mode": event.mode, "cost_usd": event.cost_usd}
        session.screen.expect({**known, "duration_s": event.duration_s})
        parts = (f"{event.mode} interrupted", render.money(event.cost_usd), render.duration(event.duration_s))
        session.screen.note(" · ".join([*parts, f"run {event.run_id}"]), dim=True)


_SHOWN_CANDIDATES = 6
"""As many as a person reads; `--json` has them all."""


def explain(goal: str) -> Action:
    """Say what would happen to a goal, without doing it."""

    async def action(session: Session) -> None:
        system, options = await session.system(), session.options
        told = await system.explain(check_goal(goal), mode=options.mode, again=options.again, **await acting(session))
        session.screen.data(told.to_json())
        session.screen.show(render.explanation(told))
        session.screen.show(render_match.beside(told))
        if told.candidates:
            session.screen.show("\ncandidates")
            rows = [render.candidate_row(candidate) for candidate in told.candidates[:_SHOWN_CANDIDATES]]
            session.screen.table(render.CANDIDATE_COLUMNS, rows, empty="")

    return action


# ------------------------------------------------------------------------------------------------------- traces


_NO_TRACES = "no traces yet: the first solved goal makes one"


def list_traces(status: str | None) -> Action:
    """List the traces of this home."""

    async def action(session: Session) -> None:
        from llmos.trace.program import Status

        system = await session.system()
        found = await system.traces.list(status=Status(status) if status else None)
        session.screen.data({"traces": [render.data(summary) for summary in found]})
        columns = ("trace", "status", "goal", "uses", "failed", "saved", "from", "reason")
        rows = [
            [
                f"{summary.id}@{summary.version}",
                summary.status,
                summary.goals[0] if summary.goals else "",
                summary.uses,
                summary.failures,
                render.money(summary.saved_usd),
                summary.provenance,
                summary.reason,
            ]
            for summary in found
        ]
        session.screen.table(columns, rows, empty=f"no trace is {status}" if status else _NO_TRACES)

    return action


def show_trace(name: str) -> Action:
    """Show one trace for reading."""

    async def action(session: Session) -> None:
        from llmos.trace.codec import to_data

        trace = await find_trace(await session.system(), name)
        session.screen.data(to_data(trace))
        session.screen.show(render_trace.trace(trace))

    return action


def forget_trace(name: str) -> Action:
    """Delete a trace with all its versions."""

    async def action(session: Session) -> None:
        system = await session.system()
        trace = await find_trace(system, name)
        await system.traces.forget(trace.id)
        session.screen.show(f"{trace.id} forgotten")
        session.screen.data({"trace": trace.id, "status": "forgotten"})

    return action


# --------------------------------------------------------------------------------------------------------- runs


def list_runs(limit: int, status: str | None, mode: str | None) -> Action:
    """List the newest runs of this home."""

    async def action(session: Session) -> None:
        from llmos.trace.run import Mode, RunStatus

        system = await session.system()
        found = await system.runs.list(
            limit=limit, status=RunStatus(status) if status else None, mode=Mode(mode) if mode else None
        )
        session.screen.data({"runs": [render.data(run) for run in found]})
        columns = ("run", "mode", "status", "goal", "cost", "saved", "time", "trace", "started", "reason")
        rows = [
            [
                run.id,
                run.mode,
                run.status,
                render.one_line(run.goal, 60),
                render.money(run.cost_usd),
                render.money(run.saved_usd),
                render.duration(run.duration_s),
                f"{run.trace_id}@{run.trace_version}" if run.trace_id else "",
                render.moment(run.started_at),
                render.one_line(run.reason, 80),
            ]
            for run in found
        ]
        session.screen.table(columns, rows, empty="no runs yet")

    return action


def show_run(name: str) -> Action:
    """Show one run with its steps."""

    async def action(session: Session) -> None:
        from llmos.interfaces import render_journal
        from llmos.interfaces.process_commands import data_of_used, told_used

        system = await session.system()
        run = await find_run(system, name)
        entries = await system.effects.of_run(run.id)
        emptied_at = await system.retention.emptied_at(run.id)
        journal = [render_journal.entry_data(entry) for entry in entries]
        used = [one.resources for one in system.home.processes if one.run_id == run.id]
        shown = {"resources": data_of_used(used[-1]) if used else None}
        session.screen.data({**render.data(run), "journal": journal, "emptied_at": emptied_at, **shown})
        told = [render.run(run), render_journal.of_run(entries), told_used(used[-1]) if used else ""]
        session.screen.show("\n".join(filter(None, told)))
        if emptied_at is not None:
            session.screen.note(f"its steps were removed on {emptied_at:%Y-%m-%d}, past their retention", dim=True)

    return action


# ------------------------------------------------------------------------------------------- battery and tools


def show_battery() -> Action:
    """Show what the battery holds, and what was spent and saved."""

    async def action(session: Session) -> None:
        economy = (await session.system()).economy
        facts = {"balance_usd": economy.balance, **render.data(economy.summary())}
        session.screen.data(facts)
        known = {name: value for name, value in facts.items() if value is not None and name != "spent_here_usd"}
        shown = {name.removesuffix("_usd").replace("_", " "): value for name, value in known.items()}
        width = max(map(len, shown))
        session.screen.show("\n".join(f"{name:<{width}}  {render.money(value)}" for name, value in shown.items()))

    return action


def recharge_battery(amount_usd: float) -> Action:
    """Add dollars to the battery."""

    async def action(session: Session) -> None:
        economy = (await session.system()).economy
        economy.recharge(amount_usd, operation="recharged by the user")
        session.screen.data({"recharged_usd": amount_usd, "balance_usd": economy.balance})
        session.screen.show(f"recharged by {render.money(amount_usd)}; the balance is {render.money(economy.balance)}")

    return action


def show_ledger(limit: int) -> Action:
    """Show the newest movements of the battery."""

    async def action(session: Session) -> None:
        economy = (await session.system()).economy
        entries = economy.entries(limit)
        session.screen.data(
            {"balance_usd": economy.balance, "entries": [render.ledger_entry(entry) for entry in entries]}
        )
        rows = []
        for entry in entries:
            row = render.ledger_entry(entry)
            amount, balance, saved = (render.money(row[name]) for name in ("amount_usd", "balance_usd", "saved_usd"))
            at = render.moment(entry.at)
            rows.append([row["id"], at, row["kind"], amount, balance, row["operation"], saved, row["run_id"]])
        columns = ("id", "at", "kind", "amount", "balance", "operation", "saved", "run")
        session.screen.table(columns, rows, empty="the ledger is empty")

    return action


def list_tools() -> Action:
    """List the tools, and the plugins that could not be loaded."""

    async def action(session: Session) -> None:
        system = await session.system()
        await system.mcp.discover()
        failures = [render.data(failure) for failure in unloaded(system)]
        tools = list(system.registry)
        session.screen.data({"tools": [render.tool(tool) for tool in tools], "failures": failures})
        rows = [
            [tool.name, tool.effect, render.signature(tool.schema), _short_source(tool.source, system)]
            for tool in tools
        ]
        session.screen.table(("tool", "effect", "arguments", "source"), rows, empty="no tools")

    return action


def _short_source(source: str, system: LLMOS) -> str:
    for folder in system.settings.plugin_dirs:
        with suppress(ValueError):
            return str(Path(folder.name) / Path(source).relative_to(folder))
    return source
