"""The command `repair`: the one that works on a memory which no other command can open."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from llmos.errors import DatabaseLockedError
from llmos.interfaces.session import Session


async def repair(session: Session) -> None:
    """Look at the memory, mend what is damaged, and tell it in sentences.

    Raises:
        StorageError: another process holds it, or it can't be read or written at all.
    """
    from llmos.memory.repair import Places
    from llmos.memory.repair import repair as mend

    settings = session.options.settings()
    session.screen.redactor = settings.redactor
    places = Places(
        memory=settings.memory,
        database=settings.database,
        anchor=settings.anchor,
        vectors=settings.vectors,
        backups=settings.backups,
        archive=settings.audit_archive,
    )
    try:
        report = await mend(places, clock=lambda: datetime.now(UTC))
    except DatabaseLockedError as error:
        from llmos.resident.starting import status

        known = await asyncio.to_thread(status, settings)
        if known is None:
            raise
        pid = known["pid"]
        raise DatabaseLockedError(
            f"the resident kernel (process {pid}) holds {settings.memory}: `boot.py down` ends it; then repair it.",
            pid=pid,
        ) from error
    aside = str(report.aside) if report.aside else None
    session.screen.data({"found": report.found, "done": report.done, "lost": report.lost, "aside": aside})
    lines = [*report.found, *report.done, *(f"lost: {one}" for one in report.lost)]
    if aside:
        lines.append(f"the damaged files are in {aside}; remove them when nothing in them is needed any more")
    session.screen.show("\n".join(f"{one[:1].upper()}{one[1:]}." for one in lines))
