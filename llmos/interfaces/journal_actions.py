"""Undo and the journal on the command line, as Actions."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from llmos.errors import NotFoundError
from llmos.interfaces.naming import find_run
from llmos.interfaces.session import Action, Session

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.kernel.undo import UndoPlan


def undo(name: str | None, *, dry_run: bool, keep_changed: bool) -> Action:
    """Take back what a run did to files, or show what that would do."""

    async def action(session: Session) -> None:
        from llmos.interfaces import render_journal
        from llmos.interfaces.undoing import refusal

        system = await session.system()
        plan = await system.undoing.plan(await _run_id(system, name))
        session.screen.expect(render_journal.plan_data(plan))
        if plan.conflicts and not keep_changed:
            session.screen.show("\n".join(render_journal.conflict_lines(plan)))
        if dry_run:
            _show_plan(session, plan)
            if plan.conflicts and not keep_changed:
                session.screen.note(f"llmos: {refusal(plan)}")
            session.screen.data({"undo_run": None, "dry_run": True})
            return
        if not plan.restore and not (plan.conflicts and not keep_changed):
            _show_nothing(session, plan)
            return
        done = await system.undoing.undo(plan, keep_changed=keep_changed)
        session.screen.show("\n".join(render_journal.plan_lines(plan, would=False)))
        for folder in done.left:
            session.screen.show(f"left alone {render_journal.named(folder)}: it is not empty")
        goal = await _goal(system, plan.run_id)
        session.screen.note(f"undone run {plan.run_id}{goal}; `undo {done.run_id}` takes that back", dim=True)
        session.screen.data({"undo_run": done.run_id, "left": list(done.left)})

    return action


async def _run_id(system: LLMOS, name: str | None) -> str:
    return await system.undoing.last() if name is None else (await find_run(system, name)).id


async def _goal(system: LLMOS, run_id: str) -> str:
    """A run's goal in brackets; nothing for a run that was never stored."""
    from llmos.interfaces import render

    with suppress(NotFoundError):
        return f' ("{render.one_line((await system.runs.get(run_id)).goal, 60)}")'
    return ""


def _show_plan(session: Session, plan: UndoPlan) -> None:
    from llmos.interfaces import render_journal

    lines = render_journal.plan_lines(plan, would=True)
    session.screen.show("\n".join(lines) or f"all that run {plan.run_id} changed is as it was before it")


def _show_nothing(session: Session, plan: UndoPlan) -> None:
    """There is nothing that could be restored."""
    from llmos.interfaces import render_journal

    lines = render_journal.kept_lines(plan)
    session.screen.show("\n".join(lines) or f"all that run {plan.run_id} changed is as it was before it")
    session.screen.note(f"nothing was restored of run {plan.run_id}; `undo RUN` takes another one back", dim=True)
    session.screen.data({"undo_run": None})


def list_effects(limit: int, *, only_unknown: bool) -> Action:
    """List the newest effects."""

    async def action(session: Session) -> None:
        from llmos.interfaces import render_journal
        from llmos.trace.effects import Outcome

        system = await session.system()
        found = await system.effects.newest(limit, Outcome.UNKNOWN if only_unknown else None)
        session.screen.data({"effects": [render_journal.entry_data(entry) for entry in found]})
        rows = [render_journal.effect_row(entry) for entry in found]
        empty = "every effect is known" if only_unknown else "no effects yet"
        session.screen.table(render_journal.EFFECT_COLUMNS, rows, empty=empty)

    return action


def settle(name: str, step: int, *, is_done: bool) -> Action:
    """Take the user's word for what came of a step."""

    async def action(session: Session) -> None:
        system = await session.system()
        run = await find_run(system, name)
        settled = await system.undoing.settle(run.id, step, is_done=is_done)
        said = "done" if is_done else "not done"
        session.screen.show(f"step {step} of run {run.id} ({settled[0].tool}) was {said}; it may be done again")
        session.screen.data({"run": run.id, "step": step, "outcome": settled[0].outcome})

    return action


def prune() -> Action:
    """Remove what is kept for runs too old to be undone."""

    async def action(session: Session) -> None:
        from llmos.plugins.builtin.paths import size_text

        system = await session.system()
        freed = await system.journal.prune()
        used = system.journal.images.used_bytes
        session.screen.show(f"freed {size_text(freed)}; {size_text(used)} are kept for undo")
        session.screen.data({"freed_bytes": freed, "kept_bytes": used})

    return action
