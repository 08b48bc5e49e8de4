"""The sentences that were found to mean a system call, each as the trace of that finding."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from llmos.errors import TraceFormatError
from llmos.memory import sql
from llmos.memory.database import Clock, Database, clean, to_utc, utc_now
from llmos.trace.codec import dumps_json, loads_json
from llmos.trace.secrecy import kept_credential

if TYPE_CHECKING:
    from llmos.trace.program import Trace

log = logging.getLogger(__name__)


class SystemParses:
    """All learned sentences of a home, the newest last. They are no goals: no recall finds them."""

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock

    async def add(self, trace: Trace) -> None:
        """Keep a sentence's trace; one of the same wording is replaced, one with a credential in it is not kept."""
        if kept_credential(trace, self._db.redactor):
            return
        text = clean(dumps_json(trace))
        now = to_utc(self._clock())
        await self._db.run(lambda connection: connection.execute(sql.PUT_SYSTEM_PARSE, [trace.id, text, now]))

    async def all(self) -> list[Trace]:
        """Every learned sentence; one that can't be read is left out, and said."""
        rows = await self._db.run(lambda connection: connection.execute(sql.SYSTEM_PARSES).fetchall())
        found = []
        for parse_id, text in rows:
            try:
                found.append(loads_json(text))
            except TraceFormatError as error:
                log.warning("the learned system call %s can't be read: %s", parse_id, error)
        return found

    async def forget(self, trace_id: str) -> None:
        """Forget a sentence."""
        await self._db.run(lambda connection: connection.execute(sql.DELETE_SYSTEM_PARSE, [trace_id]))
