"""The versions of a trace, and what changed between two of them, as Actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llmos.errors import UsageError
from llmos.interfaces import render
from llmos.interfaces.naming import find_trace
from llmos.interfaces.session import Action, Session

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.trace.diff import Change
    from llmos.trace.program import Trace


def list_versions(name: str) -> Action:
    """List the versions of one trace, the oldest first, with what each changed."""

    async def action(session: Session) -> None:
        from llmos.trace.diff import diff, summary

        system = await session.system()
        trace = await find_trace(system, name)
        found = await system.traces.versions(trace.id)
        told: list[dict[str, Any]] = []
        for number, one in enumerate(found):
            before = found[number - 1].trace if number else None
            changes = summary(diff(before, one.trace)) if before is not None and one.trace is not None else ""
            told.append(
                {
                    "version": one.version,
                    "created_at": one.created_at,
                    "runs": list(one.run_ids),
                    "goals": len(one.trace.goals) if one.trace is not None else None,
                    "changes": changes,
                    "reason": one.trace.reason if one.trace is not None else "it can't be read",
                }
            )
        session.screen.data({"trace": trace.id, "versions": told})
        columns = ("version", "created", "runs", "goals", "changes", "reason")
        rows = [
            [
                f"{trace.id}@{row['version']}",
                render.moment(row["created_at"]),
                ", ".join(row["runs"]),
                row["goals"],
                row["changes"],
                row["reason"],
            ]
            for row in told
        ]
        session.screen.table(columns, rows, empty=f"{trace.id} has no version")

    return action


def diff_traces(first: str, second: str | None) -> Action:
    """Show what changed between two versions of a trace, or between two traces."""

    async def action(session: Session) -> None:
        from llmos.trace.diff import diff

        old, new = await _two(await session.system(), first, second)
        changes = diff(old, new)
        session.screen.data({"from": old.label, "to": new.label, "changes": render.data(changes)})
        session.screen.show(shown(old, new, changes))

    return action


async def _two(system: LLMOS, first: str, second: str | None) -> tuple[Trace, Trace]:
    """The older and the newer of the two that were named.

    One name alone stands for that version, or the one before the current, against the current one; a second that is
    only a number is a version of the first.
    """
    one = await find_trace(system, first)
    if second is not None:
        label = f"{one.id}@{second}" if second.isdecimal() and second.isascii() else second
        return one, await find_trace(system, label)
    current = await system.traces.get(one.id)
    if one.version != current.version:
        return one, current
    if current.version == 1:
        raise UsageError(f"{one.id} has one version only, so there is nothing to compare it with; name a second trace.")
    return await find_trace(system, f"{one.id}@{current.version - 1}"), current


def shown(old: Trace, new: Trace, changes: list[Change]) -> str:
    """The changes as lines with `-` and `+`, red and green on a terminal."""
    if not changes:
        return f"{old.label} and {new.label} do the same"
    lines = [f"{old.label} → {new.label}"]
    for change in changes:
        for sign, value, colour in (("-", change.before, "red"), ("+", change.after, "green")):
            if value is not None:
                lines.append(click.style(f"{sign} {change.title}: {render.one_line(value, 300)}", fg=colour))
    return "\n".join(lines)
