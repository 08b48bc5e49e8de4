"""Rows of traces as records and back: what the trace store does inside one transaction, in the worker thread."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from llmos.errors import NotFoundError, StorageError, TraceFormatError
from llmos.memory import sql
from llmos.memory.audit_notes import Kind, note
from llmos.memory.database import clean, digest, from_utc, to_utc
from llmos.memory.words import file_all, file_templates
from llmos.trace.codec import dumps_json, loads_json
from llmos.trace.lex import Place, normalise, template_masked, template_parts, template_skeleton
from llmos.trace.program import Provenance, Status, Trace
from llmos.trace.shape import shape

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

ALL_UNEMBEDDED = "*"
"""Instead of a list of traces: any may have templates without vectors."""
_NOTED = 1_000


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
class TraceVersion:
    """One stored version: when it was made, of which run, and what is said of it; `trace` None: it can't be read."""

    version: int
    created_at: datetime
    run_ids: tuple[str, ...]
    trace: Trace | None


@dataclass(frozen=True, kw_only=True)
class Head:
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
    def of(cls, row: Sequence[Any]) -> Head:
        return cls(**dict(zip(cls.__dataclass_fields__, row, strict=True)))


def require(connection: DuckDBPyConnection, trace_id: str) -> int:
    row = connection.execute(sql.GET_HEAD, [clean(trace_id)]).fetchone()
    if row is None:
        raise NotFoundError(f"there is no trace {trace_id!r}: `llmos traces list` shows those there are.")
    return int(row[0])


def readable(connection: DuckDBPyConnection, trace_id: str) -> Trace:
    require(connection, trace_id)
    found = get(connection, trace_id, None)
    if isinstance(found, Trace):
        return found
    raise StorageError(f"trace {trace_id!r} can't be changed, for {found}: forget it, or import it again.")


def runs_of(connection: DuckDBPyConnection, trace_id: str, version: int) -> list[str]:
    return [row[0] for row in connection.execute(sql.GET_TRACE_RUNS, [trace_id, version]).fetchall()]


def version_of(connection: DuckDBPyConnection, trace_id: str, row: Sequence[Any]) -> TraceVersion:
    version, created_at, body = row
    try:
        trace = loads_json(body)
    except (TraceFormatError, ValueError, RecursionError):
        trace = None
    runs = tuple(runs_of(connection, trace_id, version))
    return TraceVersion(version=version, created_at=from_utc(created_at), run_ids=runs, trace=trace)


def add(
    connection: DuckDBPyConnection, trace: Trace, now: datetime, runs: Sequence[str] = ()
) -> tuple[Trace, list[int]]:
    """Write the next version; returns it and the vector ids of the version it replaces."""
    head = connection.execute(sql.GET_HEAD, [trace.id]).fetchone()
    forgotten = connection.execute(sql.GET_FORGOTTEN, [trace.id]).fetchone()
    last = head[0] if head else forgotten[0] if forgotten else 0
    stored = replace(trace, version=last + 1)
    row = _version_row(stored, now)
    connection.execute(sql.INSERT_VERSION, row)
    for run_id in dict.fromkeys([*runs, *([stored.run_id] if stored.run_id else [])]):
        connection.execute(sql.INSERT_TRACE_RUN, [stored.id, stored.version, run_id])
    standing = [str(stored.status), stored.reason, str(stored.provenance)]
    if head:
        connection.execute(sql.UPDATE_HEAD, [stored.version, *standing, stored.id])
    else:
        connection.execute(sql.INSERT_HEAD, [stored.id, stored.version, *standing, to_utc(now)])
        connection.execute(sql.DELETE_FORGOTTEN, [stored.id])
    gone = delete_vectors(connection, stored.id)
    file_templates(connection, stored.id, stored.goals)
    _write_templates(connection, stored)
    _note_unembedded(connection, stored.id)
    write_shape(connection, stored)
    audited = {"trace": stored.label, "change": "stored", "content_sha256": row[3], "provenance": standing[2]}
    note(
        Kind.TRACE,
        {**audited, "status": standing[0], "was": head[1] if head else None, "reason": stored.reason},
        run_id=stored.run_id or "",
    )
    return stored, gone


def set_status(connection: DuckDBPyConnection, trace_id: str, status: str, reason: str) -> None:
    """Change the standing of a trace that there is."""
    _, was, *_ = connection.execute(sql.GET_HEAD, [trace_id]).fetchone() or (0, None)
    connection.execute(sql.SET_STATUS, [status, reason, trace_id])
    note(Kind.TRACE, {"trace": trace_id, "change": "status", "status": status, "was": was, "reason": reason})


def _version_row(trace: Trace, now: datetime) -> list[Any]:
    return [trace.id, trace.version, dumps_json(trace), content_hash_of(trace), trace.run_id, to_utc(now)]


def _write_templates(connection: DuckDBPyConnection, trace: Trace) -> None:
    """What a trace is found by, derived from its goals; replaces what was there."""
    connection.execute(sql.DELETE_TEMPLATES, [trace.id])
    plain = [_plain_text(template) for template in trace.goals]
    rows = {
        "numbers": list(range(len(trace.goals))),
        "templates": list(trace.goals),
        "masked": [template_masked(template, trace.slots) for template in trace.goals],
        "skeletons": [digest(template_skeleton(template, trace.slots)) for template in trace.goals],
        "hashes": [None if text is None else digest(normalise(text)) for text in plain],
    }
    connection.execute(sql.INSERT_TEMPLATES, {"id": trace.id, "version": trace.version, **rows})


def _note_unembedded(connection: DuckDBPyConnection, trace_id: str) -> None:
    """Remember that a trace's templates have no vectors yet."""
    row = connection.execute(sql.GET_META, ["unembedded"]).fetchone()
    known = [] if row is None or row[0] == ALL_UNEMBEDDED else json.loads(row[0])
    if row is not None and row[0] != ALL_UNEMBEDDED:
        value = json.dumps([*known, trace_id]) if len(known) < _NOTED else ALL_UNEMBEDDED
        connection.execute(sql.PUT_UNEMBEDDED, [value])


def _plain_text(template: str) -> str | None:
    """The goal that a template without slots is; None if it has some."""
    parts = template_parts(template)
    return None if any(isinstance(part, Place) for part in parts) else "".join(map(str, parts))


def write_shape(connection: DuckDBPyConnection, trace: Trace) -> None:
    connection.execute(sql.DELETE_SHAPE, [trace.id])
    connection.execute(sql.INSERT_SHAPE, [trace.id, shape(trace)])


def rewrite_templates(connection: DuckDBPyConnection) -> None:
    """Derive again what all readable traces are found by."""
    for (trace_id,) in connection.execute(sql.TRACE_IDS).fetchall():
        trace = get(connection, trace_id, None)
        if isinstance(trace, Trace):
            _write_templates(connection, trace)
    connection.execute(sql.PUT_UNEMBEDDED, [ALL_UNEMBEDDED])
    file_all(connection)


def delete_vectors(connection: DuckDBPyConnection, trace_id: str) -> list[int]:
    return [row[0] for row in connection.execute(sql.DELETE_EMBEDDINGS, ["template", trace_id]).fetchall()]


def content_hash_of(trace: Trace) -> str:
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


def standing_of(connection: DuckDBPyConnection, ids: list[str]) -> dict[str, _Standing]:
    hashes = {(row[0], row[1]): row[2] for row in connection.execute(sql.CONTENT_HASHES, [ids]).fetchall()}
    found = {
        trace_id: _Standing(
            content_hash=hashes.get((trace_id, version), ""), status=status, reason=reason, provenance=provenance
        )
        for trace_id, version, status, reason, provenance in connection.execute(sql.STANDING, [ids]).fetchall()
    }
    gone = _Standing(content_hash=None, status="", reason="", provenance="")
    return found | {row[0]: gone for row in connection.execute(sql.FORGOTTEN_AMONG, [ids]).fetchall()}


def unworded_hash(connection: DuckDBPyConnection, trace_id: str) -> str:
    """The content hash of a trace before people added wordings to it."""
    found = connection.execute(sql.VERSIONS, [trace_id]).fetchall()[::-1]
    read = [version_of(connection, trace_id, row).trace for row in found]
    for newer, older in zip(read, [*read[1:], None], strict=True):
        if newer is None:
            return ""
        if older is None or content_hash_of(replace(newer, goals=newer.goals[:-1])) != content_hash_of(older):
            return content_hash_of(newer)
    return ""


def changed(trace: Trace, content_hash: str, known: _Standing | None) -> Trace | None:
    """The demonstration as it is to be stored, or None when it must not be or need not be."""
    if known is None:
        return trace
    if known.provenance != Provenance.DEMONSTRATION or known.content_hash in (None, content_hash):
        return None
    if known.status == Status.REJECTED:
        return replace(trace, status=Status.REJECTED, reason=known.reason)
    return trace


def get(connection: DuckDBPyConnection, trace_id: str, version: int | None) -> Trace | str | None:
    """A trace; or, as text, why it can't be read; or None."""
    head = next(iter(_heads(connection, [trace_id]).values()), None)
    if head is None:
        return None
    if version is None or version == head.version:
        return decode(connection, head)
    body = connection.execute(sql.GET_VERSION_BODY, [trace_id, version]).fetchone()
    return _read(replace(head, version=version, body=body[0])) if body else None


def get_all(connection: DuckDBPyConnection, ids: Sequence[str]) -> list[Trace]:
    """The readable traces among `ids`, in their current versions and in that order."""
    heads = _heads(connection, list(ids))
    found = (decode(connection, heads[one]) for one in dict.fromkeys(ids) if one in heads)
    return [trace for trace in found if isinstance(trace, Trace)]


def read_all(connection: DuckDBPyConnection, ids: Sequence[str]) -> dict[str, Trace | str]:
    """The same by id, and why one can't be read, which changes nothing."""
    return {one: _read(head) for one, head in _heads(connection, list(ids)).items()}


def _heads(connection: DuckDBPyConnection, ids: list[str]) -> dict[str, Head]:
    rows = connection.execute(sql.GET_TRACES, [ids]).fetchall()
    wanted = [list({row[1] for row in rows}), [row[0] for row in rows]]
    bodies = {(row[0], row[1]): row[2] for row in connection.execute(sql.GET_BODIES, wanted).fetchall()}
    return {row[0]: Head.of([*row, bodies.get((row[0], row[1]))]) for row in rows}


def decode(connection: DuckDBPyConnection, head: Head) -> Trace | str:
    """The current version of a trace; one that can't be read is quarantined, and the reason returned."""
    found = _read(head)
    if isinstance(found, str) and head.status != Status.REJECTED and (head.status, head.reason) != (_BROKEN, found):
        log.error("trace %s was quarantined: %s", head.id, found, extra={"action": "quarantine", "trace": head.id})
        set_status(connection, head.id, _BROKEN, found)
    return found


_BROKEN = str(Status.QUARANTINED)


@lru_cache(maxsize=2048)
def _loaded(body: str) -> Trace:
    """A stored version; it never changes, so reading it once is enough."""
    return loads_json(body)


def _read(head: Head) -> Trace | str:
    if head.body is None:
        return f"its stored version {head.version} is missing"
    try:
        trace = _loaded(head.body)
        trace = replace(trace, status=Status(head.status), reason=head.reason)
    except (TraceFormatError, ValueError, RecursionError) as error:
        return f"its stored version {head.version} can't be read ({error})"
    if (trace.id, trace.version) != (head.id, head.version):
        return f"its stored version {head.version} is that of another trace ({trace.label})"
    return trace


def summary_of(head: Head, trace: Trace | str) -> TraceSummary:
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
