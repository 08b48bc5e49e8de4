"""What the user reads of the journal and of undo. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from llmos.interfaces import render
from llmos.kernel.undo import UndoPlan, described
from llmos.trace.effects import FileChange, JournalEntry, Outcome

_MANY = 20

EFFECT_COLUMNS = ("run", "step", "tool", "effect", "outcome", "files", "began", "note")


def entry_data(entry: JournalEntry) -> dict[str, Any]:
    """An entry as JSON data; of its files those that changed, or may have."""
    shown = {**render.data(entry), "step": entry.step + 1, "files": [_change_data(one) for one in _of_interest(entry)]}
    return {name: value for name, value in shown.items() if name not in ("key", "manifest")}


def _change_data(change: FileChange) -> dict[str, Any]:
    return {"path": change.path, "before": described(change.before), "after": change.after and described(change.after)}


def _of_interest(entry: JournalEntry) -> tuple[FileChange, ...]:
    is_sure = entry.outcome in (Outcome.DONE, Outcome.FAILED, Outcome.NOT_DONE)
    return entry.changed if is_sure else entry.changed or entry.files


def named(path: str) -> str:
    """A path on one line, whatever is in it."""
    return path if path.isprintable() else repr(path)


def effect_row(entry: JournalEntry) -> list[Any]:
    """A row under EFFECT_COLUMNS."""
    files = [named(change.path) for change in _of_interest(entry)]
    more = f" and {len(files) - 3} more" * (len(files) > 3)
    return [
        entry.run_id,
        entry.step + 1,
        entry.tool,
        entry.effect,
        entry.outcome,
        ", ".join(files[:3]) + more,
        render.moment(entry.began_at),
        render.one_line(entry.note, 80),
    ]


def of_run(entries: Sequence[JournalEntry]) -> str:
    """The effects of a run with the files they changed; of those that are unknown, what to look at."""
    if not entries:
        return ""
    lines = ["", "effects"]
    for entry in entries:
        lines.append(f"  {entry.step + 1} {entry.tool} ({entry.effect}): {entry.outcome}")
        files = _of_interest(entry)
        lines += [f"      {named(one.path)}: {_became(one)}" for one in files[:_MANY]]
        lines += [f"      … {len(files) - _MANY} more files"] if len(files) > _MANY else []
        if entry.outcome is Outcome.UNKNOWN:
            lines += _to_look_at(entry)
    return "\n".join(lines)


def _became(change: FileChange) -> str:
    if change.after is None:
        return f"was {described(change.before)}"
    if change.before.same_content(change.after):
        return "as it was" if change.before.same(change.after) else "other permissions"
    return f"{described(change.before)} → {described(change.after)}"


def _to_look_at(entry: JournalEntry) -> list[str]:
    settle = f"journal settle {entry.run_id} {entry.step + 1}"
    return [
        f"      begun {render.moment(entry.began_at)} with {render.arguments(entry.arguments, 500)}",
        f"      nobody knows what came of it: {entry.note}",
        f"      look, then say `{settle} done` or `{settle} not-done`; until then it is not done again",
    ]


# --- undo --------------------------------------------------------------------------------------------


def plan_lines(plan: UndoPlan, *, would: bool) -> list[str]:
    """What an undo does, or would do, file by file; then what it leaves, and why."""
    done = "would " if would else ""
    past = {"remove": "removed", "bring back": "brought back", "restore": "restored"}
    lines = []
    for one in plan.restore:
        verb = one.verb if would else past.get(one.verb, "permissions set")
        lines.append(f"{done}{verb} {named(one.path)}{_linked(one.present.links, one.before.links)}")
    return [*lines, *kept_lines(plan)]


def _linked(now: int, before: int) -> str:
    """A note on names that share a content: each name is brought back by itself."""
    return " (it had other names too; they stay as they are)" if max(now, before) > 1 else ""


def kept_lines(plan: UndoPlan) -> list[str]:
    """What can't be brought back, what was changed since, and what else the run did."""
    lines = [f"can't bring back {named(path)}: {why}" for path, why in plan.lost]
    lines += [f"left alone {named(one.path)}: {one.why}" for one in plan.conflicts]
    return [*lines, *plan.beyond]


def conflict_lines(plan: UndoPlan) -> list[str]:
    """The files that are not as the run left them, each with its difference."""
    lines = []
    for one in plan.conflicts:
        lines.append(f"{named(one.path)}: {one.why}")
        lines += [_coloured(line) for line in render.plain(one.diff).split("\n") if one.diff]
    return lines


def _coloured(line: str) -> str:
    colour = {"-": "red", "+": "green", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line


def plan_data(plan: UndoPlan) -> dict[str, Any]:
    """A plan as JSON data."""
    return {
        "run": plan.run_id,
        "restore": [{"path": one.path, "action": one.verb} for one in plan.restore],
        "conflicts": [{"path": one.path, "why": one.why, "diff": one.diff} for one in plan.conflicts],
        "lost": [{"path": path, "why": why} for path, why in plan.lost],
        "beyond": list(plan.beyond),
        "unchanged": list(plan.unchanged),
    }
