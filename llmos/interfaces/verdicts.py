"""What a person says of runs and traces: confirm, reject, verify. Each command as an Action."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from llmos.errors import NotFoundError
from llmos.interfaces.naming import LAST, find_run, find_trace
from llmos.interfaces.session import Action, Session
from llmos.trace.lex import check_goal

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.trace.program import Trace
    from llmos.trace.run import Run


def confirm(name: str) -> Action:
    """Say that a run was right, or trust a trace: it is followed without asking from now on."""

    async def action(session: Session) -> None:
        system = await session.system()
        run = await _run_or_none(system, name)
        if run is None:
            trace = await system.feedback.trust(await _trace(system, name))
        else:
            trace = await system.feedback.approve(run)
        session.screen.show(f"{trace.id} is {trace.status}" + (f", and run {run.id} was right" if run else ""))
        session.screen.data({"trace": trace.id, "status": trace.status, "run": run.id if run else None})

    return action


def reject(name: str, goal: str | None) -> Action:
    """Reject a run or a trace.

    A trace, or the run that made one, is rejected for good. A replay, or a trace with `goal`, was wrong for that one
    goal: the trace never answers it again, and must be confirmed before it answers another.
    """

    async def action(session: Session) -> None:
        system = await session.system()
        wrong = check_goal(goal) if goal is not None else None
        run = await _run_or_none(system, name)
        if run is not None:
            trace_id, wrong = await system.feedback.disapprove(run, wrong)
        else:
            trace_id = (await _trace(system, name)).id
            await system.feedback.disapprove_trace(trace_id, wrong)
        trace = await system.traces.get(trace_id)
        never = "is never followed again" if wrong is None else "never answers that goal again"
        session.screen.show(f"{trace_id} {never}; status {trace.status}")
        session.screen.data({"trace": trace_id, "status": trace.status, "goal": wrong, "reason": trace.reason})

    return action


def verify(name: str) -> Action:
    """Do the run again that a trace was made of, in a copy of the workspace, with the tools as they are now."""

    async def action(session: Session) -> None:
        system = await session.system()
        trace, proof = await system.reviving.verify(await find_trace(system, name))
        session.screen.show(f"{trace.label} is {trace.status}: {proof.reason}")
        facts = {"trace": trace.label, "status": trace.status, "verdict": proof.verdict, "reason": proof.reason}
        session.screen.data(facts)

    return action


async def _run_or_none(system: LLMOS, name: str) -> Run | None:
    with suppress(NotFoundError):
        return await find_run(system, name)
    if name == LAST:
        raise NotFoundError("there are no runs yet")
    return None


async def _trace(system: LLMOS, name: str) -> Trace:
    try:
        return await find_trace(system, name)
    except NotFoundError:
        raise NotFoundError(f"there is no run and no trace {name!r}; `runs list` and `traces list` show them") from None
