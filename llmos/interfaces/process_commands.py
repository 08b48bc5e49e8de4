"""The commands that are about processes: who is at work, and what is to become of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos import caller
from llmos.errors import LLMOSError, LowBatteryError, UsageError
from llmos.interfaces import render
from llmos.interfaces.acting import acting
from llmos.interfaces.actions import show_result
from llmos.interfaces.session import Action, Session
from llmos.kernel.lending import Loan
from llmos.kernel.process import End, Kind, Process, current
from llmos.kernel.process_table import ProcessTable
from llmos.trace.lex import check_goal

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.plugins.resources import Resources
    from llmos.settings import Settings

_WHO = ("pid", "parent", "class", "prio", "state", "mode", "turns", "steps")
COLUMNS = (*_WHO, "cost", "budget", "saved", "time", "goal")

KILL_S = 8.0
"""So long `kill` waits for what it ends: a CLI needs a second or two, and some calls can't be broken off at all."""


def ps(*, everyone: bool, like: str | None) -> Action:
    """List the processes; those whose goals are most `like` a text first."""

    async def action(session: Session) -> None:
        system = await session.system()
        shown = shown_processes(system, everyone=everyone)
        nearness = await _nearness(system, like, shown) if like else {}
        shown.sort(key=lambda process: -nearness.get(process.pid, 0.0))
        session.screen.data({"processes": [data_of(process, nearness) for process in shown]})
        columns = COLUMNS if not like else ("like", *COLUMNS)
        rows = [[*([f"{nearness[one.pid]:.2f}"] if like else []), *row_of(one)] for one in shown]
        if any(one.agent is not None for one in shown):
            columns = (*columns, "agent")
            rows = [
                [*row, one.agent.name if one.agent is not None else ""] for row, one in zip(rows, shown, strict=True)
            ]
        if any(one.context_tokens for one in shown):
            columns = (*columns, "context")
            rows = [[*row, _context(one)] for row, one in zip(rows, shown, strict=True)]
        if any(one.reason for one in shown):
            columns = (*columns, "reason")
            rows = [[*row, render.one_line(one.reason, 80)] for row, one in zip(rows, shown, strict=True)]
        session.screen.table(columns, rows, empty="no goal is at work")

    return action


def logs(pid: int, *, follow: bool) -> Action:
    """Show what a learner's process did and said lately; with `follow` go on until it has ended."""

    async def action(session: Session) -> None:
        process = (await session.system()).home.processes.get(pid)
        shown = process.told - len(process.lines)
        session.screen.data({"pid": pid, "run_id": process.run_id, "lines": [*process.lines]})
        if not process.lines and not (follow and process.is_alive):
            session.screen.note(
                f"process {pid} has said nothing; `runs show {process.run_id}` has the steps of its run"
            )
        while True:
            new = process.told - shown
            for line in [*process.lines][len(process.lines) - min(new, len(process.lines)) :]:
                session.screen.show(line)
            shown += new
            if not follow or not process.is_alive:
                return
            await process.tells()

    return action


def kill(pids: Sequence[int]) -> Action:
    """End processes at once, and say so when they have ended; what an earlier kernel left of them is forgotten."""

    async def action(session: Session) -> None:
        home = (await session.system()).home
        left = [one for one in map(home.processes.get, pids) if one.left is not None and one.task is None]
        killed = _done(home.processes, pids, ProcessTable.kill)
        for process in left:
            await home.checkpoints.remove(process.run_id)
        await asyncio.wait([asyncio.ensure_future(one.over.wait()) for one in killed], timeout=KILL_S)
        _told(session, killed, _is_ended)

    return action


def _is_ended(process: Process) -> str:
    if not process.is_alive:
        return "is ended"
    return f"is being ended: it is still {process.state}, with what can't be broken off; `ps` lists it until then"


def suspend(pids: Sequence[int]) -> Action:
    """Have processes stop at the end of their turn."""
    return _each(pids, ProcessTable.suspend, "stops at the end of its turn")


def resume(pids: Sequence[int]) -> Action:
    """Let processes go on, those that an earlier kernel left, too."""

    async def action(session: Session) -> None:
        table = (await session.system()).home.processes
        left = [one for one in map(table.alive, dict.fromkeys(pids)) if one.left is not None and one.task is None]
        if left and caller.current() is None:
            if len(left) > 1 or len(pids) > 1:
                raise UsageError("without the resident kernel one process goes on at a time: `boot.py up` starts it.")
            settings = await _ready(session, left[0])
            table.resume(left[0].pid)
            await _in_front(session, left[0], settings)
            return
        for process in map(table.alive, pids):
            if process.workspace is not None and not process.workspace.is_dir():
                raise UsageError(f"the workspace {process.workspace} of process {process.pid} is gone.")
        ready = [await _ready(session, process) for process in left]  # all of them, or nothing is done
        await _each(pids, ProcessTable.resume, "goes on")(session)
        for process, settings in zip(left, ready, strict=True):
            await _in_background(session, process, settings)

    return action


async def _in_front(session: Session, process: Process, settings: Settings) -> None:
    """Go on with a process that an earlier kernel left, and tell what it comes to."""
    async with _opened(session, settings) as system:
        result = await system.execute(process.goal, confirm=session.confirm, resumed=process)
    show_result(session, result)


async def _in_background(session: Session, process: Process, settings: Settings) -> None:
    """The same, for nobody in particular."""
    begun: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
    begun.set_result(process)
    await _leave(session, _background(session, process.goal, begun, settings=settings, resumed=process))


@asynccontextmanager
async def _opened(session: Session, settings: Settings) -> AsyncIterator[LLMOS]:
    """An LLMOS with other settings over the home that this command has open."""
    if caller.current() is not None:
        async with session.engine.opened(settings) as system:
            yield system
        return
    from llmos.boot import LLMOS

    async with LLMOS(settings=settings, home=(await session.system()).home) as system:
        yield system


async def _ready(session: Session, process: Process) -> Settings:
    """The settings of whoever resumes it, for the folder that it works in.

    Raises:
        SettingsError: the folder is gone.
        NoLearnerError: nobody can be asked with them.
        NotPermittedError: nobody knows what came of one of its effects.
        LowBatteryError: it has spent what it may.
    """
    settings = _settings_of(session, process)
    async with _opened(session, settings) as system:
        await system.dispatcher.check(process.left)
    if process.budget.is_spent:
        raise LowBatteryError(f"the budget of process {process.pid} is spent: `lend` gives it more, `kill` forgets it.")
    return settings


def _settings_of(session: Session, process: Process) -> Settings:
    return replace(session.options, workspace=Path(process.left.workspace), budget_usd=None).settings()


def nice(pid: int, priority: int) -> Action:
    """Give a process another priority."""
    return _each([pid], lambda table, one: table.renice(one, priority), f"has priority {priority}")


def lend(pid: int, usd: float, to: int, seconds: float | None) -> Action:
    """Lend a part of a process's budget, and its priority, to another one."""

    async def action(session: Session) -> None:
        home = (await session.system()).home
        lender, borrower = home.processes.alive(pid), home.processes.alive(to)
        if lender is borrower:
            raise UsageError("a process can't lend to itself.")
        Loan.begin(lender, borrower, usd, seconds)
        await home.keep(lender, borrower)
        session.screen.data({"processes": [data_of(lender), data_of(borrower)]})
        until = "until one of them ends" if seconds is None else f"for {render.duration(seconds)}"
        session.screen.show(f"process {pid} lends {render.money(usd)} and its priority to process {to}, {until}")

    return action


def _each(pids: Sequence[int], do: Callable[[ProcessTable, int], Process], said: str) -> Action:
    async def action(session: Session) -> None:
        _told(session, _done((await session.system()).home.processes, pids, do), lambda _: said)

    return action


def _done(table: ProcessTable, pids: Sequence[int], do: Callable[[ProcessTable, int], Process]) -> list[Process]:
    for pid in pids:
        table.alive(pid)  # all of them, or nothing is done
    return [do(table, pid) for pid in pids if table.get(pid).is_alive]


def _told(session: Session, processes: Sequence[Process], said: Callable[[Process], str]) -> None:
    session.screen.data({"processes": [data_of(process) for process in processes]})
    for process in processes:
        session.screen.show(f"process {process.pid} {said(process)}")


def wait(pids: Sequence[int]) -> Action:
    """Wait until processes have ended; fails if one of them did."""

    async def action(session: Session) -> None:
        table = (await session.system()).home.processes
        processes = [table.get(pid) for pid in pids]
        for process in processes:
            await process.over.wait()
        session.screen.data({"processes": [data_of(process) for process in processes]})
        for process in processes:
            session.screen.show(f"process {process.pid}: {process.why} (run {process.run_id})")
        bad = [process for process in processes if process.why is not End.DONE]
        if bad:
            raise LLMOSError(f"process {bad[0].pid} ended without reaching its goal ({bad[0].why}).")

    return action


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On what terms a process begins; what is None is as its agent's profile or the settings have it."""

    kind: str | None = None
    priority: int | None = None
    budget_usd: float | None = None
    budget_tokens: int | None = None
    agent: str | None = None


def spawn(goal: str, *, terms: Terms) -> Action:
    """Begin a goal and leave it to the resident kernel."""

    async def action(session: Session) -> None:
        process = await begin(session, goal, terms)
        session.screen.data({"processes": [data_of(process)]})
        session.screen.show(f"process {process.pid}")
        session.screen.note(f"`wait {process.pid}` waits for it, `runs show` tells what came of it")

    return action


async def begin(session: Session, goal: str, terms: Terms) -> Process:
    """The process of a goal that is left to the resident kernel.

    Raises:
        LLMOSError: it could not begin.
    """
    check_goal(goal)
    if caller.current() is None:
        raise UsageError("a goal in the background needs the resident kernel: `boot.py up` starts it.")
    begun: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
    await session.system()
    task = await _leave(session, _background(session, goal, begun, terms=terms))
    either: set[asyncio.Future[Any]] = {task, begun}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not begun.done():
        await task  # which failed before it was a process
    return begun.result()


async def _leave(session: Session, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Have work done in the kernel, which goes on when this command is over and hears nothing."""
    asking = caller.current()
    assert asking is not None
    home = (await session.system()).home
    with caller.calling(replace(asking, outlet=None, **nowhere())):
        task = asyncio.create_task(work)
    home.background.add(task)
    task.add_done_callback(home.background.discard)
    return task


async def _background(
    session: Session,
    goal: str,
    begun: asyncio.Future[Process],
    *,
    terms: Terms | None = None,
    settings: Settings | None = None,
    resumed: Process | None = None,
) -> None:
    """Carry a goal out for nobody in particular: what it comes to stands in its run."""
    asking, terms = caller.current(), terms or Terms()
    try:
        options = session.options
        settings = settings or replace(options, budget_usd=None).settings()
        as_agent = await acting(session, terms.agent) if resumed is None else {}
        async with session.engine.opened(settings) as system:  # it stays when the command is over
            await system.execute(
                goal,
                mode=options.mode,
                confirm=session.confirm if options.yes else None,
                again=options.again,
                kind=Kind(terms.kind) if terms.kind is not None else None,
                priority=terms.priority,
                budget_usd=options.budget_usd if terms.budget_usd is None else terms.budget_usd,
                budget_tokens=terms.budget_tokens,
                **as_agent,
                begun=None if begun.done() else begun.set_result,
                resumed=resumed,
            )
    except (LLMOSError, asyncio.CancelledError):
        if not begun.done():
            raise
    finally:
        for stream in (asking.stdin, asking.stdout, asking.stderr) if asking is not None else ():
            stream.close()


def nowhere() -> dict[str, Any]:
    """Streams of somebody who neither says nor hears anything."""
    return {
        "stdin": open(os.devnull),  # noqa: PTH123
        "stdout": open(os.devnull, "w"),  # noqa: PTH123
        "stderr": open(os.devnull, "w"),  # noqa: PTH123
    }


# --- telling -----------------------------------------------------------------------------------------


def shown_processes(system: LLMOS, *, everyone: bool) -> list[Process]:
    own = current()
    return [one for one in system.home.processes if (one.is_alive or everyone) and one is not own]


async def _nearness(system: LLMOS, like: str, shown: Sequence[Process]) -> dict[int, float]:
    """How near each goal is to a text in meaning, from -1 to 1."""
    found = await system.home.recall.likeness(like, [process.goal for process in shown])
    return {process.pid: near for process, near in zip(shown, found, strict=True)}


def row_of(process: Process) -> list[Any]:
    return [
        process.pid,
        process.parent or "",
        process.kind,
        process.priority,
        f"{process.state} ({process.why})" if process.why else str(process.state),
        process.mode,
        process.turns or "",
        process.steps or "",
        render.money(process.spent_usd),
        _budget(process),
        render.money(process.saved_usd),
        render.duration(process.age_s),
        render.one_line(process.goal, 60),
    ]


def _budget(process: Process) -> str:
    """How much of the budget is spent, with what children did; nothing where there is none."""
    allocated = process.budget.allocated_usd
    if allocated is None:
        return ""
    return f"{process.budget.share_spent:.0%} of {render.money(allocated)}" if allocated else "none"


def _context(process: Process) -> str:
    """How full the context of its model is."""
    tokens, most = process.context_tokens, process.context_max
    return f"{tokens / most:.0%} of {most:,}" if most else f"{tokens:,}" if tokens else ""


def used_of(resources: Resources) -> tuple[str, str, str]:
    """What tools used: processor time, peak of memory, bytes written; empty is what is not known."""
    from llmos.plugins.builtin.paths import size_text

    sizes = (resources.peak_memory_bytes, resources.disk_written_bytes)
    cpu = "" if resources.cpu_s is None else render.duration(resources.cpu_s)
    memory, written = ("" if size is None else size_text(size) for size in sizes)
    return cpu, memory, written


def told_used(resources: Resources) -> str:
    """The same as a sentence; '' where nothing is known."""
    said = zip(used_of(resources), ("of processor time", "of memory at most", "written to disk"), strict=True)
    known = [f"{amount} {what}" for amount, what in said if amount]
    return f"its tools used {', '.join(known)}" if known else ""


def data_of_used(resources: Resources) -> dict[str, Any]:
    """The same as data, null for what is not known."""
    return {
        "cpu_s": None if resources.cpu_s is None else round(resources.cpu_s, 6),
        "peak_memory_bytes": resources.peak_memory_bytes,
        "disk_written_bytes": resources.disk_written_bytes,
    }


def data_of(process: Process, nearness: dict[int, float] | None = None) -> dict[str, Any]:
    """A process as data."""
    like = {"like": round(nearness[process.pid], 4)} if nearness else {}
    return like | {
        "pid": process.pid,
        "parent": process.parent,
        "goal": process.goal,
        "run_id": process.run_id,
        "class": str(process.kind),
        "agent": process.agent.name if process.agent is not None else None,
        "priority": process.priority,
        "state": str(process.state),
        "why": str(process.why) if process.why else None,
        "reason": process.reason,
        "mode": process.mode,
        "turns": process.turns,
        "steps": process.steps,
        "cost_usd": process.spent_usd,
        "budget_usd": process.budget.allocated_usd,
        "budget_spent_usd": process.budget.spent_usd,
        "budget_left_usd": process.budget.left_usd,
        "budget_tokens": process.budget.tokens.allocated,
        "tokens_in": process.tokens_in,
        "tokens_out": process.tokens_out,
        "context_tokens": process.context_tokens,
        "context_max_tokens": process.context_max,
        "saved_usd": process.saved_usd,
        "resources": data_of_used(process.resources),
        "virtual_runtime": process.vruntime,
        "slot_s": round(process.held_s, 3),
        "age_s": round(process.age_s, 3),
        "created_at": process.created_at.isoformat(),
    }
