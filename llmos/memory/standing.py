"""The runs that may still stand, by their keys: the newest of each, and no more than are likely to be asked for."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from llmos.memory import sql
from llmos.memory.database import Database, clean, to_utc
from llmos.trace.standing import StandingRun, standing_data, standing_from

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

MAX_RUNS = 1_000
MAX_CHARS = 200_000
"""A run that takes more to describe is not kept, and so done again."""


class StandingStore:
    """Rows that only spare work: whatever is missing or can't be read is done again."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, run: StandingRun) -> None:
        """Keep a run in the place of the last one of its key, soon; one that is too large leaves none."""
        body = _body(run)
        row = [clean(run.run_id), clean(run.trace_id), to_utc(run.done_at), body, run.key]

        def work(connection: DuckDBPyConnection) -> None:
            if len(body) > MAX_CHARS:
                connection.execute(sql.DELETE_STANDING, [run.key])
                return
            if connection.execute(sql.REPLACE_STANDING, row).fetchall():
                return
            connection.execute(sql.ADD_STANDING, row)
            (count,) = connection.execute(sql.COUNT_STANDING).fetchone() or (0,)
            if count > MAX_RUNS:
                connection.execute(sql.TRIM_STANDING, [MAX_RUNS])

        self._db.later(work)

    async def renew(self, run: StandingRun) -> None:
        """Keep what was seen of a run that still stands, unless another has taken its place."""
        row = [_body(run), run.key, clean(run.run_id)]
        await self._db.run(lambda connection: connection.execute(sql.RENEW_STANDING, row) and None)

    async def get(self, key: str) -> StandingRun | None:
        """The last run of a key."""
        row = await self._db.run(lambda connection: connection.execute(sql.GET_STANDING, [key]).fetchone())
        if row is None:
            return None
        try:
            return standing_from(json.loads(row[0]))
        except (ValueError, KeyError, TypeError):
            log.warning("a run that may stand can't be read", exc_info=True, extra={"action": "standing_lost"})
            return None

    async def drop(self, key: str) -> None:
        """Forget the run of a key."""
        await self._db.run(lambda connection: connection.execute(sql.DELETE_STANDING, [key]) and None)


def _body(run: StandingRun) -> str:
    """A run as JSON in ASCII, which holds names that are no text, too."""
    return json.dumps(standing_data(run))
