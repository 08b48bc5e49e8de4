"""Retention: what is past its time is removed, in small transactions; what something still rests on never is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from llmos.memory import retention_sql as statements
from llmos.memory import sql
from llmos.memory.audit_check import SUMMED
from llmos.memory.audit_notes import Kind, note
from llmos.memory.database import Clock, Database, clean, digest, from_utc, to_utc, utc_now
from llmos.settings import RetentionSettings
from llmos.trace.lex import skeleton

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

AT_ONCE = 1_000
"""Runs in one transaction: fewer take hardly less time while goals are reached."""

OUTCOMES_AT_ONCE = 2_000

KEPT_NEWEST = 50
"""A clock that is wrong must not cost the newest runs."""

COUNTED_OUTCOMES = 1_000
"""More successes of a trace say nothing new about it."""

_EVERY_RUN = 2**62
_UNDO = "undo"
_DONE = "retained_at"
_SAVINGS_AT_ONCE = 1_000
_GOALS_AT_ONCE = 500

Rows = Counter[str]
"""How many rows of each sort: runs, emptied, steps, effects, goals, outcomes, savings."""


class Retention:
    """Removes rows of the database that are past their time; `undo_days` is how long effects may be undone.

    `newest` says how many of the newest runs, and of those with effects, stay whatever their age.

    Each method but `planned` is one small transaction, recorded in the audit log, and gives what it removed of what was
    past its time `now`; nothing left gives nothing. Whatever ends the process, what is gone is gone as a whole and the
    rest is found again.
    """

    def __init__(
        self,
        db: Database,
        settings: RetentionSettings,
        *,
        undo_days: float,
        newest: int = KEPT_NEWEST,
        clock: Clock = utc_now,
    ) -> None:
        self._db = db
        self._settings = settings
        self._undo_days = undo_days
        self._newest = newest
        self._clock = clock
        self._goals_seen = -1

    # --- when ------------------------------------------------------------------------------------------

    async def done_at(self) -> datetime | None:
        """When everything that was past its time was removed last."""
        row = await self._db.run(lambda connection: connection.execute(sql.GET_META, [_DONE]).fetchone())
        return datetime.fromisoformat(row[0]) if row else None

    async def set_done(self, now: datetime) -> None:
        """Say that nothing is left that was past its time by then."""
        row = [_DONE, now.isoformat()]
        await self._db.run(lambda connection: connection.execute(sql.SET_META, row) and None)

    # --- what ------------------------------------------------------------------------------------------

    async def planned(self, now: datetime) -> Rows:
        """What is past its time, as far as it can be told beforehand; nothing is removed."""

        def work(connection: DuckDBPyConnection) -> Rows:
            found = connection.execute(statements.ALL_RUNS_PAST, self._bounds(connection, now)).fetchall()
            ids = {"ids": [run_id for run_id, _ in found]}
            rows = Rows({name: _number(connection, query, ids) for name, query in statements.COUNT_OF_RUNS.items()})
            rows["runs"] = sum(not is_paid for _, is_paid in found)
            rows["emptied"] = len(found) - rows["runs"]
            rows["outcomes"] = _number(connection, statements.COUNT_OUTCOMES_PAST, {"newest": COUNTED_OUTCOMES})
            rows["savings"] = sum(len(group) - 1 for group in _months(self._savings(connection, now)))
            return +rows

        return await self._db.run(work)

    async def runs_past(self, now: datetime) -> int:
        """How many runs `remove_runs` would find by and by."""
        return await self._db.run(lambda c: len(c.execute(statements.ALL_RUNS_PAST, self._bounds(c, now)).fetchall()))

    async def remove_runs(self, now: datetime) -> Rows:
        """Remove some runs, with all that belongs to them; of those that cost money the row itself stays."""

        def work(connection: DuckDBPyConnection) -> Rows:
            found = connection.execute(
                statements.RUNS_PAST, {**self._bounds(connection, now), "limit": AT_ONCE}
            ).fetchall()
            if not found:
                return Rows()
            return self._remove(connection, found)

        return await self._db.run(work)

    def _bounds(self, connection: DuckDBPyConnection, now: datetime) -> dict[str, Any]:
        """The parameters that say which runs are past their time."""
        counts = {"newest": self._newest, "most": self._settings.max_runs}
        newest, most = connection.execute(statements.NEWEST, counts).fetchone() or (None, None)
        return {
            "newest": (newest or 0) if self._newest else _EVERY_RUN,
            "most": (most or 0) + 1,
            "before": to_utc(now - timedelta(days=self._settings.runs_days)),
            "undoable": to_utc(now - timedelta(days=self._undo_days)),
            "newest_effects": self._newest,
            "undos": _undos(connection),
        }

    def _remove(self, connection: DuckDBPyConnection, found: Sequence[tuple[str, bool]]) -> Rows:
        ids = {"ids": [run_id for run_id, _ in found]}
        free = {"ids": [run_id for run_id, is_paid in found if not is_paid]}
        paid = [run_id for run_id, is_paid in found if is_paid]
        rows = Rows({name: _number(connection, query, ids) for name, query in statements.COUNT_OF_RUNS.items()})
        connection.execute(statements.DELETE_KNOWN_GOALS, free)
        connection.execute(statements.MOVE_GOALS, free)
        for queries in statements.DELETE_OF_RUNS.values():
            for query in queries:
                connection.execute(query, ids)
        connection.execute(statements.DELETE_RUNS, free)
        if paid:
            connection.execute(statements.EMPTY_RUNS, {"ids": paid, "at": to_utc(self._clock())})
        rows["runs"], rows["emptied"] = len(free["ids"]), len(paid)
        rows = +rows
        note(Kind.RETENTION, {"change": "runs removed", **rows})
        return rows

    async def emptied_at(self, run_id: str) -> datetime | None:
        """When a run lost its steps; None if it has not."""
        query = [clean(run_id)]
        row = await self._db.run(lambda connection: connection.execute(statements.EMPTIED_AT, query).fetchone())
        return from_utc(row[0]) if row else None

    async def remove_outcomes(self) -> Rows:
        """Remove some judgements of replays that say nothing any more."""
        query = {"newest": COUNTED_OUTCOMES, "limit": OUTCOMES_AT_ONCE}

        def work(connection: DuckDBPyConnection) -> Rows:
            return +Rows(outcomes=len(connection.execute(statements.DELETE_OUTCOMES_PAST, query).fetchall()))

        return await self._db.run(work)

    async def remove_goals(self) -> Rows:
        """Look at some goals beyond as many as are kept, the oldest first; gives also how many were looked at.

        A goal goes only where its trace is gone, or its skeleton alone brings up the same trace and no other.
        """

        def work(connection: DuckDBPyConnection) -> Rows:
            excess = _number(connection, statements.COUNT_GOALS) - self._settings.max_goals
            if excess <= 0:
                return Rows()
            query = {"after": self._goals_seen, "limit": _GOALS_AT_ONCE}
            found = connection.execute(statements.OLDEST_GOALS, query).fetchall()
            self._goals_seen = found[-1][3] if found else -1
            gone = _found_anyway(connection, found)[:excess]
            if gone:
                hashes, traces = map(list, zip(*gone, strict=True))
                connection.execute(statements.DELETE_GOALS, {"hashes": hashes, "traces": traces})
            return Rows(goals=len(gone), looked_at=len(found))

        return await self._db.run(work)

    async def sum_savings(self, now: datetime) -> Rows:
        """Make one row of some that say what replays of a month saved; balance and totals stay what they are."""

        def work(connection: DuckDBPyConnection) -> Rows:
            rows = Rows()
            for group in _months(self._savings(connection, now)):
                group = group[:_SAVINGS_AT_ONCE]
                (first, moved_at, _), (last, _, _) = group[0], group[-1]
                saved = sum(row[2] for row in group)
                connection.execute(statements.DELETE_SAVINGS, [[row[0] for row in group[:-1]]])
                connection.execute(statements.SUM_SAVINGS, [saved, f"savings of {moved_at:%Y-%m}", last])
                said = {"first": first, "last": last, "rows": len(group), "saved_microusd": saved}
                note(Kind.RETENTION, {"change": SUMMED, **said})
                rows["savings"] += len(group) - 1
                if rows["savings"] >= _SAVINGS_AT_ONCE:
                    break
            return rows

        return await self._db.run(work)

    def _savings(self, connection: DuckDBPyConnection, now: datetime) -> list[tuple[int, datetime, int]]:
        before = to_utc(now - timedelta(days=self._settings.savings_days))
        return connection.execute(statements.SAVINGS_PAST, {"before": before}).fetchall()


def _number(connection: DuckDBPyConnection, query: str, parameters: Any = None) -> int:
    (number,) = connection.execute(query, parameters).fetchone() or (0,)
    return int(number)


def _undos(connection: DuckDBPyConnection) -> list[str]:
    """The runs that undid one whose effects are still in the journal: without them it would seem not undone."""
    found = connection.execute(statements.UNDOS, [_UNDO]).fetchall()
    if not found:
        return []
    journalled = {run_id for (run_id,) in connection.execute(statements.JOURNALLED).fetchall()}
    return [run_id for run_id, arguments in found if json.loads(arguments).get("run") in journalled]


def _months(rows: Sequence[tuple[int, datetime, int]]) -> Iterator[list[tuple[int, datetime, int]]]:
    """Savings that follow each other in one month, two or more; money in between does not part them."""
    group: list[tuple[int, datetime, int]] = []
    for row in rows:
        if group and (row[1].year, row[1].month) != (group[0][1].year, group[0][1].month):
            if len(group) > 1:
                yield group
            group = []
        group.append(row)
    if len(group) > 1:
        yield group


def _found_anyway(connection: DuckDBPyConnection, rows: Sequence[Any]) -> list[tuple[str, str]]:
    """Those of the goals (hash and trace) that bring up the same trace without being known word for word."""
    known = {trace_id for (trace_id,) in connection.execute(statements.TRACE_IDS).fetchall()}
    shapes = {goal: digest(skeleton(goal)) for _, _, goal, _ in rows}
    alike = dict(connection.execute(statements.OF_SKELETONS, [list(set(shapes.values()))]).fetchall())
    return [
        (goal_hash, trace_id)
        for goal_hash, trace_id, goal, _ in rows
        if trace_id not in known or alike.get(shapes[goal]) == [trace_id]
    ]
