"""Traces with their versions, standing and use. A version is written once and never changed."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmos.errors import NotFoundError, StorageError, TraceFormatError
from llmos.memory import sql
from llmos.memory import trace_rows as rows
from llmos.memory.audit_notes import Kind, note
from llmos.memory.database import Clock, Database, clean, digest, to_utc, utc_now
from llmos.memory.index import VectorIndex
from llmos.memory.trace_rows import TraceSummary, TraceVersion
from llmos.memory.words import file_templates
from llmos.trace.codec import dumps_json, loads_json
from llmos.trace.lex import normalise, skeleton, template_skeleton
from llmos.trace.program import Status, Trace
from llmos.trace.secrecy import kept_credential
from llmos.trace.shape import MAX_WORDINGS, shape

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FOLLOWABLE = (Status.TRUSTED, Status.CANDIDATE)
MERGED = "merged into"
"""How the reason of a trace begins that was left to another one."""


_DEMONSTRATED = "demonstrated"


class TraceStore:
    """Where traces live. Status and use belong to the trace, what it does to its versions."""

    frozen = False
    """Whether traces are only used: nothing about them may change (`llmos.memory.frozen`)."""

    def __init__(self, db: Database, index: VectorIndex, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._index = index
        self._clock = clock

    async def add(self, trace: Trace, *, runs: Sequence[str] = ()) -> Trace:
        """Store a trace, as a new version if its id is known; returns it as it was stored.

        `runs` are the runs it was proven on besides its own.

        Raises:
            TraceFormatError: it could not be read back, or would keep a credential; nothing was stored.
        """
        now = self._clock()
        self._check(trace)

        def work(connection: DuckDBPyConnection) -> tuple[Trace, list[int]]:
            return rows.add(connection, replace(trace, created_at=trace.created_at or now), now, runs)

        stored, gone = await self._db.run(work)
        await self._drop(gone)
        return stored

    def _check(self, trace: Trace) -> None:
        """TraceFormatError if it could not be read back, or would keep a credential."""
        loads_json(dumps_json(trace))
        kept = kept_credential(trace, self._db.redactor)
        if kept:
            raise TraceFormatError(f"{trace.id} can't be stored: {kept}.")

    async def get(self, trace_id: str, version: int | None = None) -> Trace:
        """A trace in its current or a given version, with the trace's present status.

        Raises:
            NotFoundError: there is no such trace or version.
            StorageError: the row can't be read; a current version is quarantined by that.
        """
        found = await self._db.run(lambda connection: rows.get(connection, clean(trace_id), version))
        if isinstance(found, Trace):
            return found
        label = trace_id if version is None else f"{trace_id}@{version}"
        if found is None:
            raise NotFoundError(f"there is no trace {label!r}: `llmos traces list` shows those there are.")
        raise StorageError(f"trace {label!r} is not followed, for {found}: forget it, or import it again.")

    async def supersede(self, known: Trace, trace: Trace, *, runs: Sequence[str] = ()) -> Trace | None:
        """Store the next version of a known trace; None if it changed, or its standing did, since it was read."""
        now = self._clock()
        self._check(trace)

        def work(connection: DuckDBPyConnection) -> tuple[Trace | None, builtins.list[int]]:
            current = rows.get(connection, known.id, None)
            if not isinstance(current, Trace) or (current.version, current.status) != (known.version, known.status):
                return None, []
            return rows.add(connection, replace(trace, created_at=trace.created_at or now), now, runs)

        stored, gone = await self._db.run(work)
        await self._drop(gone)
        return stored

    async def add_wording(self, trace_id: str, template: str) -> Trace:
        """Store a version with one more goal template; unchanged if it says nothing new, or has as many as it may.

        Raises:
            TraceFormatError: the template doesn't name the trace's slots; nothing was stored.
        """
        now = self._clock()

        def work(connection: DuckDBPyConnection) -> tuple[Trace, builtins.list[int]]:
            trace = rows.readable(connection, trace_id)
            known = {template_skeleton(goal, trace.slots) for goal in trace.goals}
            if len(trace.goals) >= MAX_WORDINGS or template_skeleton(template, trace.slots) in known:
                return trace, []
            runs = rows.runs_of(connection, trace.id, trace.version)
            worded = replace(trace, goals=(*trace.goals, template), created_at=now)
            self._check(worded)
            return rows.add(connection, worded, now, runs)

        stored, gone = await self._db.run(work)
        await self._drop(gone)
        return stored

    async def alike(self, trace: Trace, limit: int = 200) -> builtins.list[Trace]:
        """The followable traces of the same shape, the newest first; the trace itself may be among them."""

        def work(connection: DuckDBPyConnection) -> builtins.list[str]:
            all_have = connection.execute(sql.ALL_HAVE_SHAPES).fetchone()
            for (trace_id,) in () if all_have == (True,) else connection.execute(sql.SHAPELESS).fetchall():
                found = rows.get(connection, trace_id, None)
                if isinstance(found, Trace):
                    rows.write_shape(connection, found)
            return [row[0] for row in connection.execute(sql.OF_SHAPE, [shape(trace), limit]).fetchall()]

        return await self.current(await self._db.run(work))

    async def runs_of(self, trace: Trace) -> builtins.list[str]:
        """The runs that a version of a trace was proven on, the oldest first."""
        return await self._db.run(lambda connection: rows.runs_of(connection, trace.id, trace.version))

    async def versions(self, trace_id: str) -> builtins.list[TraceVersion]:
        """Every version of a trace, the oldest first.

        Raises:
            NotFoundError: there is no such trace.
        """

        def work(connection: DuckDBPyConnection) -> builtins.list[TraceVersion]:
            rows.require(connection, trace_id)
            found = connection.execute(sql.VERSIONS, [clean(trace_id)]).fetchall()
            return [rows.version_of(connection, trace_id, row) for row in found]

        return await self._db.run(work)

    async def absorb(self, trace: Trace, other_id: str) -> None:
        """Leave another trace to this one, which does all it did: it is kept, but not followed any more."""

        def work(connection: DuckDBPyConnection) -> None:
            rows.require(connection, other_id)
            connection.execute(sql.COPY_NEGATIVES, [trace.id, other_id])
            rows.set_status(connection, other_id, str(Status.QUARANTINED), f"{MERGED} {trace.label}")

        await self._db.run(work)

    async def list(self, status: Status | None = None) -> builtins.list[TraceSummary]:
        """All traces, oldest first, or those of one status."""

        def work(connection: DuckDBPyConnection) -> builtins.list[TraceSummary]:
            heads = [rows.Head.of(row) for row in connection.execute(sql.LIST_TRACES).fetchall()]
            return [rows.summary_of(head, rows.decode(connection, head)) for head in heads]

        return [summary for summary in await self._db.run(work) if status in (None, summary.status)]

    async def set_status(self, trace_id: str, status: Status, reason: str) -> None:
        """Change the standing of a trace, with the reason that is shown for it."""

        def work(connection: DuckDBPyConnection) -> None:
            rows.require(connection, trace_id)
            rows.set_status(connection, clean(trace_id), str(status), clean(reason))
            connection.execute(sql.DELETE_STANDING_OF_TRACE, [clean(trace_id)])

        await self._db.run(work)

    async def forget(self, trace_id: str) -> None:
        """Delete a trace with all its versions, vectors and negatives; a shipped one does not come back by itself."""
        now = self._clock()

        def work(connection: DuckDBPyConnection) -> builtins.list[int]:
            version = rows.require(connection, trace_id)
            file_templates(connection, trace_id, ())
            for statement in (
                *(sql.DELETE_TEMPLATES, sql.DELETE_SHAPE, sql.DELETE_TRACE_RUNS, sql.DELETE_VERSIONS),
                *(sql.DELETE_NEGATIVES, sql.DELETE_OUTCOMES, sql.DELETE_HEAD),
                sql.DELETE_STANDING_OF_TRACE,
            ):
                connection.execute(statement, [trace_id])
            connection.execute(sql.INSERT_FORGOTTEN, [trace_id, version, to_utc(now)])
            note(Kind.TRACE, {"trace": trace_id, "change": "forgotten", "last_version": version})
            return rows.delete_vectors(connection, trace_id)

        await self._drop(await self._db.run(work))

    async def add_negative(self, trace_id: str, goal: str) -> None:
        """Remember for good that this trace is wrong for this goal."""
        normal, now = self._normal(goal), self._clock()

        def work(connection: DuckDBPyConnection) -> None:
            rows.require(connection, trace_id)
            connection.execute(sql.INSERT_NEGATIVE, [trace_id, digest(normal), clean(normal), to_utc(now)])
            connection.execute(sql.DELETE_STANDING_OF_TRACE, [clean(trace_id)])
            note(Kind.TRACE, {"trace": trace_id, "change": "rejected for a goal", "goal": goal})

        await self._db.run(work)

    async def drop_negative(self, trace_id: str, goal: str) -> None:
        """Forget that this trace is wrong for this goal: whoever said so has taken it back."""
        row = [clean(trace_id), digest(self._normal(goal))]

        def work(connection: DuckDBPyConnection) -> None:
            if connection.execute(sql.DELETE_NEGATIVE, row).fetchall():
                note(Kind.TRACE, {"trace": trace_id, "change": "rejection taken back", "goal": goal})

        await self._db.run(work)

    async def negatives(self, trace_id: str) -> set[str]:
        """The goals, normalised, for which this trace is known to be wrong."""
        query = [clean(trace_id)]
        found = await self._db.run(lambda connection: connection.execute(sql.GET_NEGATIVES, query).fetchall())
        return {row[0] for row in found}

    async def wrong_for(self, goal: str) -> frozenset[str]:
        """The ids of the traces that are known to be wrong for a goal."""
        goal_hash = digest(self._normal(goal))

        def work(connection: DuckDBPyConnection) -> dict[str, frozenset[str]]:
            found: dict[str, set[str]] = {}
            for known_hash, trace_id in connection.execute(sql.ALL_NEGATIVES).fetchall():
                found.setdefault(known_hash, set()).add(trace_id)
            return {known_hash: frozenset(ids) for known_hash, ids in found.items()}

        negatives = await self._db.read(("negatives",), ("hard_negatives",), work)
        return negatives.get(goal_hash, frozenset())

    def _normal(self, goal: str) -> str:
        """A goal as it is remembered: without what must not be."""
        return normalise(self._db.redactor.text(goal))

    async def record_use(self, trace_id: str, ok: bool, saved_usd: float) -> None:
        """Count a replay, and the dollars it saved."""
        row = [int(ok), int(not ok), saved_usd, to_utc(self._clock()), trace_id]

        def work(connection: DuckDBPyConnection) -> None:
            rows.require(connection, trace_id)
            connection.execute(sql.RECORD_USE, row)

        await self._db.run(work)

    async def has_demonstrated(self, stamp: str) -> bool:
        """Whether the shipped traces of this stamp were the last to be brought up to date."""
        row = await self._db.run(lambda connection: connection.execute(sql.GET_META, [_DEMONSTRATED]).fetchone())
        return row is not None and row[0] == stamp

    async def put_demonstrations(self, traces: Iterable[Trace], *, stamp: str = "") -> None:
        """Bring the shipped traces up to date: new and changed ones are stored, and their stamp.

        What the user forgot stays forgotten, what was rejected stays rejected, and an id under which the user
        stored another trace is left alone.
        """
        now = self._clock()
        shipped = [(trace, rows.content_hash_of(trace)) for trace in traces]

        def work(connection: DuckDBPyConnection) -> builtins.list[int]:
            gone: list[int] = []
            connection.execute(sql.SET_META, [_DEMONSTRATED, stamp])
            known = rows.standing_of(connection, [trace.id for trace, _ in shipped])
            for trace, content in shipped:
                standing = known.get(trace.id)
                if standing is not None and standing.content_hash not in (None, content):
                    standing = replace(standing, content_hash=rows.unworded_hash(connection, trace.id))
                changed = rows.changed(trace, content, standing)
                if changed is not None:
                    gone += rows.add(connection, replace(changed, created_at=now), now)[1]
            return gone

        await self._drop(await self._db.run(work))

    async def set_aside(self, goal: str) -> builtins.list[Trace]:
        """The quarantined traces with a wording like this goal's."""
        query = {"skeleton": digest(skeleton(goal)), "hash": digest(normalise(goal))}

        def work(connection: DuckDBPyConnection) -> builtins.list[Trace]:
            ids = [row[0] for row in connection.execute(sql.QUARANTINED, query).fetchall()]
            return rows.get_all(connection, ids)

        return await self._db.run(work)

    async def current(self, ids: Sequence[str]) -> builtins.list[Trace]:
        """The readable and followable traces among `ids`, in their current versions and in that order."""

        found = await self._db.read_each("trace", ids, ("traces", "trace_versions"), rows.read_all)
        if any(isinstance(one, str) for one in found.values()):
            await self._db.run(lambda connection: rows.get_all(connection, ids))  # so the next does not meet them
        return [one for one in found.values() if isinstance(one, Trace) and one.status in FOLLOWABLE]

    async def _drop(self, vector_ids: builtins.list[int]) -> None:
        if vector_ids:
            await asyncio.to_thread(self._index.remove, vector_ids)
