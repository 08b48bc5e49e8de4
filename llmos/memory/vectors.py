"""Vectors of templates, from the database to the index: what has none is embedded, what the index lacks is read.

The database is the truth. The index only names vectors that may be near; what they stand for and how near they are is
read from the database. While there is no index to trust and too much to read at once, the database is searched itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import logging
import random
import secrets
import time
from collections.abc import Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llmos.errors import StorageError
from llmos.memory import sql
from llmos.memory.database import Database
from llmos.memory.embeddings import Embedder, Embedding
from llmos.memory.engine import ample_memory
from llmos.memory.index import VectorIndex
from llmos.memory.index_build import Builder, Order, build
from llmos.memory.trace_rows import ALL_UNEMBEDDED

if TYPE_CHECKING:
    import numpy as np
    from duckdb import DuckDBPyConnection
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_EMBEDDED_AT_ONCE = 1_000
_READ_AT_ONCE = 500  # vectors of one transaction of a rebuild; whoever asks meanwhile waits for one
_COMPARED_AT_ONCE = 10_000
_LAST_MOMENT_S, _SOON_BUILT = 2.0, 50_000
_AFTER_FAILURE_S = 600.0
_OF_VECTORS = ("embeddings", "trace_templates", "traces", "meta")
_NOTED_IN = ("meta", "trace_templates")

_New: TypeAlias = "tuple[list[int], NDArray[np.float32]]"
"""Vectors with their ids."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A template of a followable trace, and how near it is to what was asked."""

    trace_id: str
    template: str
    cosine: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stored:
    """A vector and the template that it stands for: None where that may not be followed, or is no more."""

    model: str
    vector: NDArray[np.float32]
    trace_id: str
    template: str | None


class Vectors:
    """The vectors of templates, kept true to the database."""

    def __init__(self, db: Database, index: VectorIndex, embedder: Embedder) -> None:
        self._db = db
        self._index = index
        self._embedder = embedder
        self._syncing = asyncio.Lock()
        self._is_unindexed = False
        self._settled = -1
        self._known_shape: tuple[str, int] | None = None
        self._is_behind = True  # there may be vectors, stored or read by halves, that the index was not told of
        self._building: asyncio.Task[None] | None = None
        self._expected = 0
        self._not_before = 0.0

    def __len__(self) -> int:
        """Vectors that the index knows of."""
        return len(self._index)

    async def sync(self) -> None:
        """Embed the templates that have no vector of this model yet, and bring the index up to the database."""
        async with self._syncing:
            version = self._db.cache.version(_OF_VECTORS)
            model, dim = await self._shape()
            is_held, was_behind = self._index.holds(model, dim), self._is_behind
            if is_held and version == self._settled and not (was_behind or self._is_unindexed):
                await self._write(model)
                return
            state, new = await self._embed(model, dim)
            if not is_held:
                await asyncio.to_thread(self._index.load, model, dim, _tokens(state))
            if not is_held or was_behind or self._is_unindexed:
                await self._read_newer(model, dim)
            else:
                for ids, vectors in new:
                    await asyncio.to_thread(self._index.add, ids, vectors)
            self._is_behind = False
            self._settled = version
            await self._write(model)

    async def nearest(self, embedding: Embedding, width: int) -> tuple[list[Hit], bool]:
        """What the `width` nearest vectors stand for, nearest first, and whether there are more of them."""
        ids: list[int] = []
        if not self._is_unindexed:
            ids = [one for one, _ in await self._searched(embedding, width)]
        if self._is_unindexed or not self._index.holds(embedding.model, len(embedding.vector)):  # or dropped meanwhile
            ids = await self._compared(embedding, width)
        found = await self._db.read_each("vector", ids, _OF_VECTORS, _stored)
        dead = {one for one, stored in found.items() if stored is None}
        if dead:
            await asyncio.to_thread(self._index.remove, dead)
        return _hits(embedding, found.values()), len(ids) >= width

    async def of_traces(self, embedding: Embedding, trace_ids: list[str]) -> list[Hit]:
        """How near these traces are, wherever they come."""
        owned = await self._db.read_each("vectors of", trace_ids, _OF_VECTORS, _vectors_of)
        ids = [one for some in owned.values() for one in some or ()]
        return _hits(embedding, (await self._db.read_each("vector", ids, _OF_VECTORS, _stored)).values())

    async def close(self) -> None:
        """Save a small snapshot if anything changed, and end what builds a large one unless it is nearly done."""
        building, self._building = self._building, None
        if building is not None:
            await asyncio.wait({building}, timeout=_LAST_MOMENT_S if self._expected <= _SOON_BUILT else 0)
            building.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await building
        if self._index.has_unsaved and not self._index.wants_building and not self._is_unindexed:
            await self._save()

    async def _searched(self, embedding: Embedding, width: int) -> list[tuple[int, float]]:
        """The nearest of the index; where it is small that takes less time than handing it to a thread."""
        if len(self._index) <= self._index.limits.flat:
            return self._index.search(embedding.vector, width)
        return await asyncio.to_thread(self._index.search, embedding.vector, width)

    # --- embedding ---------------------------------------------------------------------------------

    async def _shape(self) -> tuple[str, int]:
        """The model and how many numbers a vector of it has; to know that, it may have to be loaded."""
        if self._known_shape is None or self._known_shape[0] != self._embedder.model_name:
            self._known_shape = await asyncio.to_thread(lambda: (self._embedder.model_name, self._embedder.dim))
        return self._known_shape

    async def _embed(self, model: str, dim: int) -> tuple[dict[str, str], list[_New]]:
        """What is noted of the vectors, and those of the templates that had none."""
        before: list[Any] = []
        new: list[_New] = []
        while True:
            is_sure = not before and not self._is_behind
            state, pending, seen = await self._db.run(lambda c, s=is_sure: self._pending(c, model, dim, is_sure=s))  # type: ignore[misc]
            if not pending:
                return state, new
            if pending == before:
                raise StorageError(
                    f"{pending[0][0]!r} can't be looked up: the vectors of {model} have no {dim} numbers."
                )
            before, self._is_behind = pending, True
            vectors = await asyncio.to_thread(self._embedder.encode, [row[3] for row in pending])
            is_listed = state.get("unembedded", ALL_UNEMBEDDED) != ALL_UNEMBEDDED and len(pending) < _EMBEDDED_AT_ONCE
            stored, is_done = await self._db.run(
                lambda c, p=pending, v=vectors, s=seen, i=is_listed: self._store(c, model, p, v, seen=s, is_listed=i)  # type: ignore[misc]
            )
            new.append(stored)
            if is_done:
                return state, new

    def _pending(
        self, connection: DuckDBPyConnection, model: str, dim: int, *, is_sure: bool
    ) -> tuple[dict[str, str], list[Any], int]:
        """Some of the templates without a vector, with what is noted, and a number that tells when that changes."""
        state, rows = _pending(connection, model, dim, is_sure=is_sure)
        return state, rows, self._db.cache.version(_NOTED_IN)

    def _store(
        self,
        connection: DuckDBPyConnection,
        model: str,
        rows: Sequence[Any],
        vectors: NDArray[np.float32],
        *,
        seen: int,
        is_listed: bool,
    ) -> tuple[_New, bool]:
        """Store the vectors of the templates that are still there; whether these were all that are noted."""
        is_as_seen = self._db.cache.version(_NOTED_IN) == seen
        if not is_as_seen:
            there = set(connection.execute(sql.NOTED_TEMPLATES, [[row[0] for row in rows]]).fetchall())
            kept = [number for number, row in enumerate(rows) if row in there]
            rows, vectors = [rows[number] for number in kept], vectors[kept]
        if not rows:
            return ([], vectors), False
        ids, versions, numbers, texts = map(list, zip(*rows, strict=True))
        columns = {"ids": ids, "versions": versions, "numbers": numbers, "texts": texts, "vectors": vectors.tolist()}
        given = connection.execute(sql.INSERT_TEMPLATE_EMBEDDINGS, {"model": model, **columns}).fetchall()
        by_template = {(owner, number): one for one, owner, number in given}
        stored = [by_template[owner, number] for owner, number in zip(ids, numbers, strict=True)], vectors
        if is_as_seen and is_listed:
            connection.execute(sql.SET_ALL_EMBEDDED)
        return stored, is_as_seen and is_listed

    # --- the index ---------------------------------------------------------------------------------

    async def _read_newer(self, model: str, dim: int) -> None:
        """Add what came after the snapshot; where that is too much to hold, the database is searched instead."""
        limits = self._index.limits
        most, low = max(limits.flat, limits.tail), self._index.highest_id
        newer = await self._db.run(lambda c: _newer(c, model, dim, low, most))
        self._is_unindexed = newer is None
        if newer is not None:
            await asyncio.to_thread(self._index.add, newer[0].tolist(), newer[1])

    async def _write(self, model: str) -> None:
        """Make a snapshot if it is time for one: a small one here, a large one by the way."""
        if self._building is not None and self._building.done():
            self._building = None
        is_due = self._is_unindexed or self._index.wants_saving
        if self._building is not None or not is_due:
            return
        if not self._is_unindexed and not self._index.wants_building:
            await self._save()
        elif time.monotonic() >= self._not_before:
            self._building = asyncio.get_running_loop().create_task(
                self._build(model), name="llmos-vectors", context=Context()
            )

    async def _save(self) -> None:
        token = await self._new_token()
        if token:
            await asyncio.to_thread(self._index.save, token)

    async def _new_token(self) -> str:
        """What the next snapshot is known by; the one that is there stays known, for the next may not come about."""
        token = secrets.token_hex(6)
        try:
            await self._db.run(lambda connection: _put_token(connection, token))
        except StorageError as error:
            log.warning("the vector snapshot was not saved: %s", error, extra={"action": "save"})
            return ""
        return token

    async def _build(self, model: str) -> None:
        """Have another process build the next snapshot, and read from it as soon as it is there."""
        builder: Builder | None = None
        token = await self._new_token()
        count, high = await self._db.run(lambda c: c.execute(sql.NEWER_VECTORS, [model, 0]).fetchone() or (0, 0))
        self._expected = count
        is_whole = not self._is_unindexed
        order, ids, vectors = await asyncio.to_thread(self._index.order, count, high, token, is_whole=is_whole)
        try:
            builder = await asyncio.to_thread(Builder, order)
            if order.base:
                await asyncio.to_thread(builder.send, ids, vectors)
            else:
                await self._hand_over(builder, order, model)
            about = await asyncio.to_thread(builder.finish)
            await asyncio.to_thread(self._index.adopt, about, Path(order.fresh), order.gone)
            if not order.base:
                self._is_behind, self._is_unindexed = True, False
                await self._read_newer(model, about.dim)
        except (OSError, ValueError, RuntimeError, StorageError) as error:
            self._not_before = time.monotonic() + _AFTER_FAILURE_S
            log.warning("the vector snapshot was not built: %s", error, extra={"action": "build"})
        finally:
            if builder is not None:
                await asyncio.to_thread(builder.end)

    async def _hand_over(self, builder: Builder, order: Order, model: str) -> None:
        """All vectors, piece by piece from all over the database, so that the first are a fair sample."""
        for low, high in _pieces(order.about.highest_id):
            ids, vectors = await self._db.run(
                lambda c, low=low, high=high: _between(c, model, order.about.dim, low, high)  # type: ignore[misc]
            )
            if len(ids):
                await asyncio.to_thread(builder.send, ids, vectors)

    async def _compared(self, embedding: Embedding, width: int) -> list[int]:
        """The nearest ids by the database itself, piece by piece, so that others get a turn."""
        model = embedding.model
        _, highest = await self._db.run(lambda c: c.execute(sql.NEWER_VECTORS, [model, 0]).fetchone() or (0, 0))
        query = {"vector": embedding.vector.tolist(), "model": model, "k": width}
        best: list[tuple[float, int]] = []
        for low in range(0, highest, _COMPARED_AT_ONCE):
            piece = {**query, "low": low, "high": low + _COMPARED_AT_ONCE}
            rows = await self._db.run(lambda c, p=piece: c.execute(sql.NEAREST_BETWEEN, p).fetchall())  # type: ignore[misc]
            best = heapq.nlargest(width, [*best, *((cosine, one) for one, cosine in rows)])
        return [one for _, one in best]


# --- in the worker thread --------------------------------------------------------------------------


def rebuild(connection: DuckDBPyConnection, index: VectorIndex, model: str, dim: int) -> int:
    """Make the snapshot of a model anew while nobody else uses the memory; returns how many vectors it holds."""
    token = secrets.token_hex(6)
    _put_token(connection, token)
    index.load(model, dim, ())
    count, highest = connection.execute(sql.NEWER_VECTORS, [model, 0]).fetchone() or (0, 0)
    order, _, _ = index.order(count, highest, token)
    about = build(order, (_between(connection, model, dim, low, high) for low, high in _pieces(highest)))
    index.adopt(about, Path(order.fresh), ())
    return about.count


def _pieces(highest: int) -> list[tuple[int, int]]:
    """Ranges of ids that together are all, in no order."""
    found = [(low, min(low + _READ_AT_ONCE, highest)) for low in range(0, highest, _READ_AT_ONCE)]
    random.Random(1).shuffle(found)
    return found


def _state(connection: DuckDBPyConnection) -> dict[str, str]:
    return dict(connection.execute(sql.VECTOR_STATE).fetchall())


def _tokens(state: dict[str, str]) -> set[str]:
    return {state[key] for key in ("vectors", "vectors_before") if key in state}


def _put_token(connection: DuckDBPyConnection, token: str) -> None:
    known = _state(connection).get("vectors")
    if known:
        connection.execute(sql.SET_META, ["vectors_before", known])
    connection.execute(sql.SET_META, ["vectors", token])


def _named(model: str, dim: int) -> str:
    return f"{model} {dim}"


def _pending(
    connection: DuckDBPyConnection, model: str, dim: int, *, is_sure: bool
) -> tuple[dict[str, str], list[Any]]:
    """What is noted, and some of the templates without a vector; when there are none, none are noted any more.

    In one transaction, so that a trace that is stored meanwhile is noted before this or after it. Where it `is_sure`
    that none of those noted has a vector, that is not looked up.
    """
    state = _state(connection)
    if state.get("embedded") != _named(model, dim):
        state["unembedded"] = ALL_UNEMBEDDED
    noted = state.get("unembedded", ALL_UNEMBEDDED)
    query = {"model": model, "dim": dim, "limit": _EMBEDDED_AT_ONCE}
    if noted == "[]":
        return state, []
    if noted != ALL_UNEMBEDDED:
        ids = json.loads(noted)
        rows = connection.execute(sql.NOTED_TEMPLATES, [ids]).fetchall()
        if not is_sure:
            embedded = connection.execute(sql.EMBEDDED_TEMPLATES, [model, dim, ids]).fetchall()
            known = {tuple(row) for fits, *row in embedded if fits}
            rows = [row for row in rows if row not in known]
        rows = rows[:_EMBEDDED_AT_ONCE]
    else:
        with ample_memory(connection):
            rows = connection.execute(sql.PENDING_TEMPLATES, query).fetchall()
            if not rows:
                connection.execute(sql.DELETE_STALE_TEMPLATE_EMBEDDINGS, [model, dim])
        if not rows:
            connection.execute(sql.SET_META, ["embedded", _named(model, dim)])
    if not rows:
        connection.execute(sql.PUT_UNEMBEDDED, ["[]"])
    return state, rows


def _newer(
    connection: DuckDBPyConnection, model: str, dim: int, low: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """The ids above `low` with their vectors; None when they are more than `most`."""
    count, high = connection.execute(sql.NEWER_VECTORS, [model, low]).fetchone() or (0, 0)
    return _between(connection, model, dim, low, high) if count <= most else None


def _between(
    connection: DuckDBPyConnection, model: str, dim: int, low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ids above `low` up to `high` with their vectors."""
    import numpy as np

    columns = connection.execute(sql.VECTORS_BETWEEN, [model, low, high]).fetchnumpy()
    rows = [row for row, vector in enumerate(columns["vector"]) if len(vector) == dim]
    vectors = [columns["vector"][row] for row in rows]
    ids = np.array(columns["id"], dtype=np.int64)[rows]
    return ids, np.stack(vectors).astype(np.float32) if rows else np.zeros((0, dim), dtype=np.float32)


def _vectors_of(connection: DuckDBPyConnection, trace_ids: list[str]) -> dict[str, list[int]]:
    """The ids of these traces' vectors."""
    return dict(connection.execute(sql.VECTORS_OF_OWNERS, [trace_ids]).fetchall())


def _stored(connection: DuckDBPyConnection, ids: list[int]) -> dict[int, _Stored]:
    """These vectors, as far as they still are."""
    import numpy as np

    found = connection.execute(sql.OF_VECTOR_IDS, [ids]).fetchall()
    owners = list({row[1] for row in found})
    current = dict(connection.execute(sql.FOLLOWABLE_VERSIONS, [owners]).fetchall())
    templates = {
        tuple(key): template for *key, template in connection.execute(sql.TEMPLATES_OF_ALL, [owners]).fetchall()
    }
    return {
        number: _Stored(
            model=model,
            vector=np.array(vector, dtype=np.float32),
            trace_id=owner,
            template=templates.get((owner, version, place, text)) if current.get(owner) == version else None,
        )
        for number, owner, version, place, text, model, vector in found
    }


# --- anywhere --------------------------------------------------------------------------------------


def _hits(embedding: Embedding, found: Iterable[_Stored | None]) -> list[Hit]:
    """What may be followed of these vectors, nearest first."""
    import numpy as np

    same = [
        (one.trace_id, one.template, one.vector)
        for one in found
        if one
        and one.template is not None
        and one.model == embedding.model
        and len(one.vector) == len(embedding.vector)
    ]
    if not same:
        return []
    cosines = (np.stack([vector for *_, vector in same]) @ embedding.vector).tolist()
    hits = [
        Hit(trace_id=trace_id, template=template, cosine=cosine)
        for (trace_id, template, _), cosine in zip(same, cosines, strict=True)
    ]
    return sorted(hits, key=lambda hit: (-hit.cosine, hit.trace_id, hit.template))
