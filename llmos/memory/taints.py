"""What tainted each run, stored before the run changes anything after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmos.memory import sql
from llmos.memory.audit_notes import Kind, note
from llmos.memory.database import Clock, Database, clean, to_utc, utc_now
from llmos.trace.run import Source

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_WHOLE = ("write", "convert_data")
"""The tools that leave nothing in a file but what they were given."""


class TaintStore:
    """The sources of each run, and whether a file's content is this user's own."""

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock

    async def add(self, run_id: str, sources: Sequence[Source]) -> None:
        """Store sources, each once; the first of a run goes into the audit log in the same transaction."""
        redact = self._db.redactor.text
        rows = [[clean(run_id), one.tool, clean(redact(one.place)), one.step, to_utc(self._clock())] for one in sources]

        def work(connection: DuckDBPyConnection) -> None:
            is_first = connection.execute(sql.TAINTS_OF_RUN, [clean(run_id)]).fetchone() is None
            for row in rows:
                connection.execute(sql.INSERT_TAINT, row)
            if is_first and rows:
                note(Kind.TAINT, {"tool": rows[0][1], "place": rows[0][2], "step": rows[0][3]}, run_id=run_id)

        await self._db.run(work)

    async def of_run(self, run_id: str) -> list[Source]:
        """What tainted a run, in order."""
        rows = await self._db.run(lambda c: c.execute(sql.TAINTS_OF_RUN, [clean(run_id)]).fetchall())
        return [Source(tool=tool, place=place, step=step) for tool, place, step in rows]

    async def is_own(self, workspace: str, path: str, sha256: str) -> bool:
        """Whether a run that nothing had tainted by then wrote exactly this content there, whole."""
        query = [json.dumps(workspace), sha256]
        rows = await self._db.run(lambda connection: connection.execute(sql.UNTAINTED_FILES, query).fetchall())
        return any(
            change["path"] == path and change.get("after", {}).get("sha256") == sha256 and not change.get("shared")
            for tool, files in rows
            if tool in _WHOLE
            for change in json.loads(files)
        )
