"""The command `gc`: what is past its retention is removed, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmos.interfaces.session import Action, Session
from llmos.plugins.builtin.paths import size_text

if TYPE_CHECKING:
    from llmos.interfaces.housekeeping import Freed

_ROWS = {
    "runs": "runs",
    "emptied": "runs that cost money, all but their rows",
    "steps": "steps",
    "effects": "effects of the journal",
    "outcomes": "judgements of replays",
    "goals": "goals known word for word",
    "savings": "rows of savings, summed",
    "archived": "rows of the audit log, moved to its archive",
}


def collect(*, dry_run: bool) -> Action:
    """Remove what is past its time, or only say what that is."""

    async def action(session: Session) -> None:
        system = await session.system()
        freed = await (system.housekeeping.planned() if dry_run else system.housekeeping.collect())
        images = 0 if dry_run else await system.journal.prune()
        files = {name: {"count": count, "bytes": size} for name, (count, size) in freed.files.items()}
        data = {"dry_run": dry_run, "rows": dict(freed.rows), "files": files, "database_bytes": freed.database_bytes}
        session.screen.data({**data, "undo_bytes": images, "freed_bytes": freed.bytes + images})
        session.screen.table(("what", "count", "size"), _cells(freed, images), empty="nothing is past its retention")
        if not dry_run:
            session.screen.show(f"freed {size_text(freed.bytes + images)}")

    return action


def _cells(freed: Freed, images: int) -> list[list[str]]:
    rows = [[_ROWS[name], f"{count:,}", ""] for name, count in freed.rows.items()]
    rows += [[name, f"{count:,}", size_text(size)] for name, (count, size) in freed.files.items()]
    rows += [["contents kept for undo", "", size_text(images)]] * bool(images)
    return rows + [["the database's file", "", size_text(freed.database_bytes)]] * bool(freed.database_bytes)
