"""Replays that only looked and computed: their records are stored together and soon, and nobody waits for that."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmos.accounts import LedgerEntry
from llmos.errors import StorageError
from llmos.memory import sql
from llmos.memory.audit_notes import Kind, note
from llmos.memory.bulk import insert_many
from llmos.memory.database import Clock, Database, clean, to_utc, utc_now
from llmos.memory.ledger import append_all
from llmos.memory.outcomes import added
from llmos.memory.runs import audited, ended, finish, run_row, step_row
from llmos.trace.run import Run

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


log = logging.getLogger(__name__)

LEAST_ROOM_BYTES = 4_000_000
"""With less room than this on the disk nobody is answered before the replay is stored: it might never be."""


@dataclass(frozen=True, kw_only=True)
class _Replay:
    """A run that is over, with its saving; `counts` says that it counts for its trace."""

    run: Run
    saving: LedgerEntry
    counts: bool
    then: Callable[[LedgerEntry], None]


class ReplayLog:
    """Stores whole replays: the run with its steps, the saving, the use and the outcome of its trace.

    What `Feedback.replayed`, `RunStore.finish` and the ledger store one by one stands here in one transaction, for as
    many replays as have come meanwhile. What can't be stored is kept and tried again, with the next replay, which then
    waits for it, and at the end.
    """

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock
        self._waiting: list[_Replay] = []
        self._begun = 0
        self.is_behind = False
        self._stored: Sequence[LedgerEntry] = ()
        self._lock = threading.Lock()

    @property
    def may_wait(self) -> bool:
        """Whether a replay may be stored after its answer: the ones before it could be, and there is room for it."""
        if self.is_behind:
            return False
        try:
            found = os.statvfs(self._db.path.parent)
        except OSError:  # the home is gone, which is said where the replay is stored
            return False
        return found.f_bavail * found.f_frsize >= LEAST_ROOM_BYTES

    def record(self, run: Run, saving: LedgerEntry, *, counts: bool, then: Callable[[LedgerEntry], None]) -> None:
        """Store a replay that nobody stored before soon; `then` is told the row of its saving once it is stored."""
        replay = self._ended(run, saving, counts, then)
        with self._lock:
            self._waiting.append(replay)
            is_first = len(self._waiting) == 1
        if is_first:
            self._db.later(self._store_waiting, then=self._told, otherwise=self._lost)

    async def finish(self, run: Run, saving: LedgerEntry, *, counts: bool, then: Callable[[LedgerEntry], None]) -> None:
        """Store a replay, whether its run is stored or not, and all that still waits, before this returns.

        Raises:
            StorageError: it could not be stored.
        """
        replay = self._ended(run, saving, counts, then)

        def work(connection: DuckDBPyConnection) -> LedgerEntry:
            if self.is_behind:
                self._store_waiting(connection)
            booked = self._book(connection, [replay])
            finish(connection, replay.run)
            return booked[0]

        was_behind = self.is_behind
        row = await self._db.run(work)
        if was_behind:
            self._told()
        then(row)

    async def close(self) -> None:
        """Try once more to store what could not be."""
        if self.is_behind and self._waiting:
            try:
                await self._db.run(self._store_waiting)
                self._told()
            except StorageError as error:
                count = len(self._waiting)
                log.warning("%d replays are not on record: %s", count, error, extra={"action": "not_recorded"})

    def _ended(self, run: Run, saving: LedgerEntry, counts: bool, then: Callable[[LedgerEntry], None]) -> _Replay:
        redactor = self._db.redactor
        run = replace(run, started_at=run.started_at or self._clock())
        run = redactor.record(replace(run, steps=tuple(map(redactor.record, run.steps))))
        ended(self._db, run)
        if counts and run.trace_id is not None:
            added(self._db, run.trace_id, self._clock())
        return _Replay(run=run, saving=saving, counts=counts, then=then)

    # --- in the database's thread ------------------------------------------------------------------

    def _store_waiting(self, connection: DuckDBPyConnection) -> None:
        with self._lock:
            replays = tuple(self._waiting)
        self._begun = len(replays)
        insert_many(connection, sql.INSERT_RUNS, [run_row(one.run) for one in replays])
        steps = [step_row(one.run.id, step) for one in replays for step in one.run.steps]
        insert_many(connection, sql.INSERT_STEPS, steps)
        self._stored = self._book(connection, replays)
        for one in replays:
            note(Kind.RUN_END, audited(one.run), run_id=one.run.id)

    def _book(self, connection: DuckDBPyConnection, replays: Sequence[_Replay]) -> list[LedgerEntry]:
        """Add the savings to the ledger, and count the replays for their traces."""
        now = to_utc(self._clock())
        counted = [(clean(one.run.trace_id), one) for one in replays if one.counts and one.run.trace_id is not None]
        outcomes = [[trace_id, one.run.id, now] for trace_id, one in counted]
        uses: dict[str, list[float]] = {}
        for trace_id, one in counted:
            uses.setdefault(trace_id, []).append(one.run.saved_usd)
        if len(counted) == 1:  # looking first takes a third of the time that leaving out what is there does
            ((trace_id, one),) = counted
            if not connection.execute(sql.OUTCOME_KNOWN, outcomes[0][:2]).fetchone():
                connection.execute(sql.ADD_SUCCESS, outcomes[0])
            connection.execute(sql.RECORD_USE, [1, 0, one.run.saved_usd, now, trace_id])
        elif counted:
            insert_many(connection, sql.INSERT_SUCCESSES, outcomes)
            sums = {"ids": list(uses), "uses": [len(saved) for saved in uses.values()]}
            saved = {"saved": [sum(saved) for saved in uses.values()], "at": [now] * len(uses)}
            connection.execute(sql.RECORD_USES, {**sums, **saved})
        return append_all(connection, [one.saving for one in replays])

    def _told(self) -> None:
        self.is_behind = False
        stored = self._stored
        for one, row in zip(self._taken(self._begun), stored, strict=True):
            one.then(row)

    def _lost(self) -> None:
        """They could not be stored, which was told in the log."""
        self.is_behind = True

    def _taken(self, count: int) -> list[_Replay]:
        with self._lock:
            done, self._waiting = self._waiting[:count], self._waiting[count:]
            has_more = bool(self._waiting)
        if has_more:
            self._db.later(self._store_waiting, then=self._told, otherwise=self._lost)
        return done
