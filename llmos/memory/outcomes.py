"""What became of replays: one judgement for each run of a trace, the last one counts."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from llmos.memory import sql
from llmos.memory.audit_notes import Kind, note
from llmos.memory.database import Clock, Database, clean, from_utc, to_utc, utc_now
from llmos.trace.reliability import Outcome, Record, recorded

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MOST = 1_000
"""The newest outcomes that are looked at, beside all failures: a busy trace has thousands. So many are kept, too."""

RESTART = ""
"""The run of the row that says since when outcomes count."""


class Judge(StrEnum):
    """Who said how a replay went."""

    REPLAY = "replay"
    PERSON = "person"
    AUDIT = "audit"


class Outcomes:
    """The outcomes of every trace; `half_life` is how long one counts in full and a half."""

    def __init__(self, db: Database, *, half_life: timedelta = timedelta(days=30), clock: Clock = utc_now) -> None:
        self._db = db
        self._half_life = half_life
        self._clock = clock

    async def judge(self, trace_id: str, run_id: str, *, ok: bool, by: Judge) -> None:
        """Say how a run of a trace went; what was said of that run before no longer counts."""
        at = self._clock()
        row = [clean(trace_id), clean(run_id), str(by), ok, to_utc(at)]
        went_well = ok and by is Judge.REPLAY

        def work(connection: DuckDBPyConnection) -> None:
            connection.execute(sql.PUT_SUCCESS if went_well else sql.PUT_OUTCOME, row)
            if by is not Judge.REPLAY:  # how a replay went by itself stands in the end of its run
                note(Kind.APPROVAL, {"trace": trace_id, "right": ok, "by": str(by)}, run_id=run_id)

        await self._db.run(work)
        if went_well:
            added(self._db, trace_id, at)

    async def restart(self, trace_id: str) -> None:
        """Begin anew: the trace was verified, or is trusted by a person, as it is now."""
        await self.judge(trace_id, RESTART, ok=True, by=Judge.PERSON)

    async def record(self, trace_id: str) -> Record:
        """How a trace did since it was last verified, as seen from now."""

        def work(connection: DuckDBPyConnection) -> tuple[Outcome, ...]:
            rows = connection.execute(sql.GET_OUTCOMES, {"id": clean(trace_id), "most": MOST}).fetchall()
            return tuple(Outcome(ok=ok, at=from_utc(at)) for ok, at in rows)

        known = await self._db.read(_key(trace_id), ("outcomes", "forgotten"), work)
        return recorded(known, self._clock(), self._half_life)


def added(db: Database, trace_id: str, at: datetime) -> None:
    """Let what is kept of a trace's outcomes tell of one more replay that went well."""
    db.cache.change(_key(trace_id), lambda known: _with(known, Outcome(ok=True, at=at)))


def _with(known: tuple[Outcome, ...], newest: Outcome) -> tuple[Outcome, ...]:
    if len(known) < MOST:
        return (*known, newest)
    kept = known[-MOST + 1 :]
    return (*(one for one in known[: -MOST + 1] if not one.ok), *kept, newest)


def _key(trace_id: str) -> Hashable:
    return "outcomes", trace_id
