"""Traces with their versions, standing and use. A version is written once and never changed."""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmos.errors import NotFoundError, StorageError, TraceFormatError
from llmos.memory import sql
from llmos.memory.database import Clock, Database, clean, digest, from_utc, to_utc, utc_now
from llmos.memory.index import VectorIndex
from llmos.trace.codec import dumps_json, loads_json
from llmos.trace.lex import Place, normalise, template_masked, template_parts, template_skeleton
from llmos.trace.program import Provenance, Status, Trace

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

FOLLOWABLE = (Status.TRUSTED, Status.CANDIDATE)


@dataclass(frozen=True, kw_only=True)
class TraceSummary:
    """A trace in a list: its current version and how it did; `goals` is empty when it can't be read."""

    id: str
    version: int
    goals: tuple[str, ...]
    status: Status
    reason: str
    provenance: Provenance
    uses: int
    successes: int
    failures: int
    saved_usd: float
    cost_usd: float
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class _Head:
    """A row of HEAD_COLUMNS."""

    id: str
    version: int
    status: str
    reason: str
    provenance: str
    uses: int
    successes: int
    failures: int
    saved_usd: float
    created_at: datetime
    last_used_at: datetime | None
    body: str | None

    @classmethod
    def of(cls, row: Sequence[Any]) -> _Head:
        return cls(**dict(zip(cls.__dataclass_fields__, row, strict=True)))


class TraceStore:
    """Where traces live. Status and use belong to the trace, what it does to its versions."""

    def __init__(self, db: Database, index: VectorIndex, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._index = index
        self._clock = clock

    async def add(self, trace: Trace) -> Trace:
        """Store a trace, as a new version if its id is known; returns it as it was stored.

        Raises:
            TraceFormatError: it could not be read back; nothing was stored.
        """
        now = self._clock()
        loads_json(dumps_json(trace))

        def work(connection: DuckDBPyConnection) -> tuple[Trace, list[int]]:
            return _add(connection, replace(trace, created_at=trace.created_at or now), now)

        stored, gone = await self._db.run(work)
        await self._drop(gone)
        return stored

    async def get(self, trace_id: str, version: int | None = None) -> Trace:
        """A trace in its current or a given version, with the trace's present status.

        Raises:
            NotFoundError: there is no such trace or version.
            StorageError: the row can't be read; a current version is quarantined by that.
        """
        found = await self._db.run(lambda connection: _get(connection, clean(trace_id), version))
        if isinstance(found, Trace):
            return found
        label = trace_id if version is None else f"{trace_id}@{version}"
        if found is None:
            raise NotFoundError(f"there is no trace {label!r}: `llmos traces list` shows those there are.")
        raise StorageError(f"trace {label!r} is not followed, for {found}: forget it, or import it again.")

    async def list(self, status: Status | None = None) -> builtins.list[TraceSummary]:
        """All traces, oldest first, or those of one status."""

        def work(connection: DuckDBPyConnection) -> builtins.list[TraceSummary]:
            heads = [_Head.of(row) for row in connection.execute(sql.LIST_TRACES).fetchall()]
            return [_summary(head, _decode(connection, head)) for head in heads]

        return [summary for summary in await self._db.run(work) if status in (None, summary.status)]

    async def set_status(self, trace_id: str, status: Status, reason: str) -> None:
        """Change the standing of a trace, with the reason that is shown for it."""

        def work(connection: DuckDBPyConnection) -> None:
            _require(connection, trace_id)
            connection.execute(sql.SET_STATUS, [str(status), clean(reason), clean(trace_id)])

        await self._db.run(work)

    async def forget(self, trace_id: str) -> None:
        """Delete a trace with all its versions, vectors and negatives; a shipped one does not come back by itself."""
        now = self._clock()

        def work(connection: DuckDBPyConnection) -> builtins.list[int]:
            version = _require(connection, trace_id)
            for statement in (sql.DELETE_TEMPLATES, sql.DELETE_VERSIONS, sql.DELETE_NEGATIVES, sql.DELETE_HEAD):
                connection.execute(statement, [trace_id])
            connection.execute(sql.INSERT_FORGOTTEN, [trace_id, version, to_utc(now)])
            return _delete_vectors(connection, trace_id)

        await self._drop(await self._db.run(work))

    async def add_negative(self, trace_id: str, goal: str) -> None:
        """Remember for good that this trace is wrong for this goal."""
        normal, now = normalise(goal), self._clock()

        def work(connection: DuckDBPyConnection) -> None:
            _require(connection, trace_id)
            connection.execute(sql.INSERT_NEGATIVE, [trace_id, digest(normal), clean(normal), to_utc(now)])

        await self._db.run(work)

    async def negatives(self, trace_id: str) -> set[str]:
        """The goals, normalised, for which this trace is known to be wrong."""
        query = [clean(trace_id)]
        rows = await self._db.run(lambda connection: connection.execute(sql.GET_NEGATIVES, query).fetchall())
        return {row[0] for row in rows}

    async def record_use(self, trace_id: str, ok: bool, saved_usd: float) -> None:
        """Count a replay, and the dollars it saved."""
        row = [int(ok), int(not ok), saved_usd, to_utc(self._clock()), trace_id]

        def work(connection: DuckDBPyConnection) -> None:
            _require(connection, trace_id)
            connection.execute(sql.RECORD_USE, row)

        await self._db.run(work)

    async def put_demonstrations(self, traces: Iterable[Trace]) -> None:
        """Bring the shipped traces up to date: new and changed ones are stored.

        What the user forgot stays forgotten, what was rejected stays rejected, and an id under which the user
        stored another trace is left alone.
        """
        now = self._clock()
        shipped = [(trace, _content_hash(trace)) for trace in traces]

        def work(connection: DuckDBPyConnection) -> builtins.list[int]:
            gone: list[int] = []
            known = _standing(connection, [trace.id for trace, _ in shipped])
            for trace, content in shipped:
                changed = _changed(trace, content, known.get(trace.id))
                if changed is not None:
                    gone += _add(connection, replace(changed, created_at=now), now)[1]
            return gone

        await self._drop(await self._db.run(work))

    async def current(self, ids: Sequence[str]) -> builtins.list[Trace]:
        """The readable and followable traces among `ids`, in their current versions and in that order."""

        def work(connection: DuckDBPyConnection) -> builtins.list[Trace]:
            found = (_get(connection, trace_id, None) for trace_id in ids)
            return [trace for trace in found if isinstance(trace, Trace) and trace.status in FOLLOWABLE]

        return await self._db.run(work) if ids else []

    async def _drop(self, vector_ids: builtins.list[int]) -> None:
        if vector_ids:
            await asyncio.to_thread(self._index.remove, vector_ids)


# --- in the worker thread --------------------------------------------------------------------------


def _require(connection: DuckDBPyConnection, trace_id: str) -> int:
    row = connection.execute(sql.GET_HEAD, [clean(trace_id)]).fetchone()
    if row is None:
        raise NotFoundError(f"there is no trace {trace_id!r}: `llmos traces list` shows those there are.")
    return int(row[0])


def _add(connection: DuckDBPyConnection, trace: Trace, now: datetime) -> tuple[Trace, list[int]]:
    """Write the next version; returns it and the vector ids of the version it replaces."""
    head = connection.execute(sql.GET_HEAD, [trace.id]).fetchone()
    forgotten = connection.execute(sql.GET_FORGOTTEN, [trace.id]).fetchone()
    last = head[0] if head else forgotten[0] if forgotten else 0
    stored = replace(trace, version=last + 1)
    connection.execute(sql.INSERT_VERSION, _version_row(stored, now))
    standing = [str(stored.status), stored.reason, str(stored.provenance)]
    if head:
        connection.execute(sql.UPDATE_HEAD, [stored.version, *standing, stored.id])
    else:
        connection.execute(sql.INSERT_HEAD, [stored.id, stored.version, *standing, to_utc(now)])
        connection.execute(sql.DELETE_FORGOTTEN, [stored.id])
    gone = _delete_vectors(connection, stored.id)
    _write_templates(connection, stored)
    return stored, gone


def _version_row(trace: Trace, now: datetime) -> list[Any]:
    return [trace.id, trace.version, dumps_json(trace), _content_hash(trace), trace.run_id, to_utc(now)]


def _write_templates(connection: DuckDBPyConnection, trace: Trace) -> None:
    """What a trace is found by, derived from its goals; replaces what was there."""
    connection.execute(sql.DELETE_TEMPLATES, [trace.id])
    for number, template in enumerate(trace.goals):
        parts = template_parts(template)
        plain = None if any(isinstance(part, Place) for part in parts) else "".join(map(str, parts))
        row = [
            *(trace.id, trace.version, number, template, template_masked(template, trace.slots)),
            digest(template_skeleton(template, trace.slots)),
            None if plain is None else digest(normalise(plain)),
        ]
        connection.execute(sql.INSERT_TEMPLATE, row)


def rewrite_templates(connection: DuckDBPyConnection) -> None:
    """Derive again what all readable traces are found by."""
    for (trace_id,) in connection.execute(sql.TRACE_IDS).fetchall():
        trace = _get(connection, trace_id, None)
        if isinstance(trace, Trace):
            _write_templates(connection, trace)


def _delete_vectors(connection: DuckDBPyConnection, trace_id: str) -> list[int]:
    return [row[0] for row in connection.execute(sql.DELETE_EMBEDDINGS, ["template", trace_id]).fetchall()]


def _content_hash(trace: Trace) -> str:
    """What a trace does and says, without its history and standing."""
    bare = replace(trace, version=1, status=Status.CANDIDATE, reason="", created_at=None, run_id=None)
    return digest(dumps_json(bare))


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """What is known of an id: `content_hash` None means that its trace was forgotten."""

    content_hash: str | None
    status: str
    reason: str
    provenance: str


def _standing(connection: DuckDBPyConnection, ids: list[str]) -> dict[str, _Standing]:
    rows = connection.execute(sql.STANDING, {"ids": ids}).fetchall()
    return {
        trace_id: _Standing(content_hash=content_hash, status=status, reason=reason, provenance=provenance)
        for trace_id, content_hash, status, reason, provenance in rows
    }


def _changed(trace: Trace, content_hash: str, known: _Standing | None) -> Trace | None:
    """The demonstration as it is to be stored, or None when it must not be or need not be."""
    if known is None:
        return trace
    if known.provenance != Provenance.DEMONSTRATION or known.content_hash in (None, content_hash):
        return None
    if known.status == Status.REJECTED:
        return replace(trace, status=Status.REJECTED, reason=known.reason)
    return trace


def _get(connection: DuckDBPyConnection, trace_id: str, version: int | None) -> Trace | str | None:
    """A trace; or, as text, why it can't be read; or None."""
    row = connection.execute(sql.GET_TRACE, [trace_id]).fetchone()
    if row is None:
        return None
    head = _Head.of(row)
    if version is None or version == head.version:
        return _decode(connection, head)
    body = connection.execute(sql.GET_VERSION_BODY, [trace_id, version]).fetchone()
    return _read(replace(head, version=version, body=body[0])) if body else None


def _decode(connection: DuckDBPyConnection, head: _Head) -> Trace | str:
    """The current version of a trace; one that can't be read is quarantined, and the reason returned."""
    found = _read(head)
    if isinstance(found, str) and head.status != Status.REJECTED and (head.status, head.reason) != (_BROKEN, found):
        log.error("trace %s was quarantined: %s", head.id, found, extra={"action": "quarantine", "trace": head.id})
        connection.execute(sql.SET_STATUS, [_BROKEN, found, head.id])
    return found


_BROKEN = str(Status.QUARANTINED)


def _read(head: _Head) -> Trace | str:
    if head.body is None:
        return f"its stored version {head.version} is missing"
    try:
        trace = loads_json(head.body)
        trace = replace(trace, status=Status(head.status), reason=head.reason)
    except (TraceFormatError, ValueError, RecursionError) as error:
        return f"its stored version {head.version} can't be read ({error})"
    if (trace.id, trace.version) != (head.id, head.version):
        return f"its stored version {head.version} is that of another trace ({trace.label})"
    return trace


def _summary(head: _Head, trace: Trace | str) -> TraceSummary:
    status = Status.QUARANTINED if isinstance(trace, str) and head.status != Status.REJECTED else Status(head.status)
    return TraceSummary(
        id=head.id,
        version=head.version,
        goals=() if isinstance(trace, str) else trace.goals,
        status=status,
        reason=trace if isinstance(trace, str) else head.reason,
        provenance=Provenance(head.provenance) if head.provenance in set(Provenance) else Provenance.IMPORTED,
        uses=head.uses,
        successes=head.successes,
        failures=head.failures,
        saved_usd=head.saved_usd,
        cost_usd=0.0 if isinstance(trace, str) else trace.cost_usd,
        created_at=from_utc(head.created_at),
        last_used_at=from_utc(head.last_used_at) if head.last_used_at else None,
    )
