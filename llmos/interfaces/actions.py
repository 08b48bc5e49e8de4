"""What each command does, as an Action: given a Session it acts, shows, and raises what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import NotFoundError, TraceFormatError, UsageError
from llmos.interfaces import render, render_match
from llmos.interfaces.session import Action, Session, unloaded
from llmos.trace.lex import check_goal

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.interfaces.results import Result
    from llmos.kernel.bus import RunEnded
    from llmos.plugins.registry import ToolRegistry
    from llmos.trace.program import Node, Trace
    from llmos.trace.run import Run

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

MAX_TRACE_BYTES = 8_000_000
LAST = "last"


# -------------------------------------------------------------------------------------------------------- goals


def run(goal: str, *, then: Callable[[Result], None] = lambda result: None) -> Action:
    """Reach a goal and show its answer; `then` is told the result."""

    async def action(session: Session) -> None:
        from llmos.kernel.bus import RunEnded

        session.screen.expect(NO_RUN)
        checked = check_goal(goal)
        system = await session.system()
        ended: list[RunEnded] = []
        with system.bus.listening(RunEnded, ended.append):
            try:
                result = await system.execute(checked, mode=session.options.mode, confirm=session.confirm)
            except asyncio.CancelledError:
                _tell_interrupted(session, ended)
                raise
        then(result)
        session.screen.answer(result.answer)
        session.screen.data(result.to_json())
        session.screen.note(render.closing_line(result), dim=True)
        if result.audit == "disagreed":
            session.screen.note(f"llmos: {result.reason}")

    return action


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
        told = await (await session.system()).explain(check_goal(goal), mode=session.options.mode)
        session.screen.data(told.to_json())
        session.screen.show(render.explanation(told))
        session.screen.show(render_match.beside(told))
        if told.candidates:
            session.screen.show("\ncandidates")
            rows = [render.candidate_row(candidate) for candidate in told.candidates[:_SHOWN_CANDIDATES]]
            session.screen.table(render.CANDIDATE_COLUMNS, rows, empty="")

    return action


# ------------------------------------------------------------------------------------------------------- traces


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
        session.screen.table(columns, rows, empty="no traces yet: the first solved goal makes one")

    return action


def show_trace(name: str) -> Action:
    """Show one trace for reading."""

    async def action(session: Session) -> None:
        from llmos.trace.codec import to_data

        trace = await find_trace(await session.system(), name)
        session.screen.data(to_data(trace))
        session.screen.show(render.trace(trace))

    return action


def export_trace(name: str, file: Path | None, *, force: bool) -> Action:
    """Write one trace as YAML, to stdout or to a new file."""

    async def action(session: Session) -> None:
        from llmos.trace.codec import dumps_yaml

        trace = await find_trace(await session.system(), name)
        text = dumps_yaml(trace)
        if file is None:
            session.screen.show(text.rstrip("\n"))
            session.screen.data({"trace": trace.label, "yaml": text})
            return
        write_whole(file, text, force=force)
        session.screen.note(f"{trace.label} written to {file}")
        session.screen.data({"trace": trace.label, "file": str(file)})

    return action


def write_whole(file: Path, text: str, *, force: bool) -> None:
    """Write a file whole or not at all; an existing one only with `force`.

    Raises:
        UsageError: it exists, or can't be written.
    """
    import os
    import tempfile

    exists = UsageError(f"{file} exists already; give another name, or --force to replace it")
    if file.exists() and not force:
        raise exists
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name[:80]}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(file)
        temporary = None
    except OSError as error:
        raise UsageError(f"{file} can't be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()


def import_trace(file: Path, *, trust: bool) -> Action:
    """Store a trace from a YAML file: checked whole first, then kept as a candidate until confirmed."""

    async def action(session: Session) -> None:
        from llmos.trace.codec import loads_yaml, to_data
        from llmos.trace.program import Provenance, Status

        read = loads_yaml(read_text(file), source=str(file))
        system = await session.system()
        await system.mcp.discover()
        trace = replace(
            read,
            steps=tuple(_honest(step, system.registry) for step in read.steps),
            provenance=Provenance.IMPORTED,
            status=Status.TRUSTED if trust else Status.CANDIDATE,
            reason="imported and trusted by the user" if trust else "imported, not yet confirmed",
            run_id=None,
        )
        stored = await system.traces.add(trace)
        for tool in sorted({step.tool for step in stored.calls if step.tool not in system.registry}):
            session.screen.note(f"llmos: {stored.label} needs the tool {tool!r}, which no plugin here has")
        hint = "" if trust else f"; it asks before it runs, until `traces confirm {stored.id}`"
        session.screen.show(f"{stored.label} imported as {stored.status}{hint}")
        session.screen.data(to_data(stored))

    return action


def _honest(step: Node, registry: ToolRegistry) -> Node:
    """The step with the worse of its own effect and its tool's: a file can't declare a command harmless."""
    from llmos.trace.program import Loop

    if isinstance(step, Loop):
        return replace(step, steps=tuple(_honest(inner, registry) for inner in step.steps))
    if step.tool not in registry:
        return step
    return replace(step, effect=max(step.effect, registry.get(step.tool).effect, key=lambda effect: effect.rank))


def read_text(file: Path) -> str:
    """The text of a trace file; `-` is standard input.

    Raises:
        TraceFormatError: it can't be read, is too large, or is no text.
    """
    import sys

    try:
        if str(file) == "-":
            raw = sys.stdin.buffer.read(MAX_TRACE_BYTES + 1)
        else:
            if file.is_fifo():  # opening one waits for whoever writes it
                raise TraceFormatError(f"{file} is a pipe; `-` reads standard input")
            with file.open("rb") as stream:
                raw = stream.read(MAX_TRACE_BYTES + 1)
    except OSError as error:
        raise TraceFormatError(f"{file} can't be read: {error.strerror or error}") from None
    if len(raw) > MAX_TRACE_BYTES:
        raise TraceFormatError(f"{file} is larger than {MAX_TRACE_BYTES // 1_000_000} MB; that is no trace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TraceFormatError(
            f"{file} is not UTF-8 text (byte {error.start}); export a trace to see the form"
        ) from None


def forget_trace(name: str) -> Action:
    """Delete a trace with all its versions."""

    async def action(session: Session) -> None:
        system = await session.system()
        trace = await find_trace(system, name)
        await system.traces.forget(trace.id)
        session.screen.show(f"{trace.id} forgotten")
        session.screen.data({"trace": trace.id, "status": "forgotten"})

    return action


async def find_trace(system: LLMOS, name: str) -> Trace:
    """The trace of an id, of the only id that starts so, or of a label (`id@version`)."""
    identifier, at, version = name.rpartition("@")
    labelled = bool(at) and version.isdecimal() and version.isascii()
    wanted, number = (identifier, int(version[:9])) if labelled else (name, None)
    try:
        return await system.traces.get(wanted, number)
    except NotFoundError:
        alike = [one.id for one in await system.traces.list() if one.id.startswith(wanted)] if wanted else []
        if len(alike) != 1:
            raise
        return await system.traces.get(alike[0], number)


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
        run = await find_run(await session.system(), name)
        session.screen.data(render.data(run))
        session.screen.show(render.run(run))

    return action


async def find_run(system: LLMOS, name: str) -> Run:
    """The run of an id, of the only id that starts so, or the newest for `last`."""
    if name == LAST:
        newest = await system.runs.list(limit=1)
        if not newest:
            raise NotFoundError("there are no runs yet")
        return await system.runs.get(newest[0].id)
    try:
        return await system.runs.get(name)
    except NotFoundError:
        alike = [run.id for run in await system.runs.list(limit=1000) if run.id.startswith(name)] if name else []
        if len(alike) != 1:
            raise
        return await system.runs.get(alike[0])


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
