"""The semantic memory behind `remember` and `recall`: values under names, found by name or by meaning."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmos.errors import NotFoundError, UsageError
from llmos.memory import sql
from llmos.memory.context_use import ContextUse, Use
from llmos.memory.database import Clock, Database, clean, to_utc, utc_now
from llmos.memory.embeddings import Embedder

if TYPE_CHECKING:
    import numpy as np
    from duckdb import DuckDBPyConnection
    from numpy.typing import NDArray


_LEAST_COSINE = 0.3
"""Facts that a question is about are nearer (`home network`, wifi: 0.32), any others less near (at most 0.23)."""


class SemanticMemory:
    """Facts of the user. A fact asked for by its name is found without a model."""

    def __init__(
        self, db: Database, embedder: Embedder, *, clock: Clock = utc_now, use: ContextUse | None = None
    ) -> None:
        self._db = db
        self._embedder = embedder
        self._use = use or ContextUse(db)
        self._clock = clock
        self._syncing = asyncio.Lock()

    async def remember(self, key: str, value: Any) -> None:
        """Store a JSON value under a name, in place of what was there.

        Raises:
            UsageError: the name is empty, or the value is not JSON or holds a credential.
        """
        name, now = _name(key), to_utc(self._clock())
        for found in self._db.redactor.credentials({key: value}):
            raise UsageError(
                f"{found.kind} is not remembered: put it in the environment as {found.variable} and name that under "
                "`secrets` in llmos.yaml."
            )
        try:
            body = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{key!r} can't be remembered: its value is not JSON ({error}).") from error
        text = f"{key.strip()}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        row = [name, clean(key.strip()), body, clean(text), now]

        def work(connection: DuckDBPyConnection) -> None:
            connection.execute(sql.PUT_FACT, row)
            connection.execute(sql.DELETE_EMBEDDINGS, ["fact", name])

        await self._db.run(work)

    async def recall(self, query: str, limit: int = 5) -> list[dict[str, Any]]:
        """Facts as {key, value, score}: the one of that name with score 1, else what is near by cosine."""
        found = await self._recalled(query, limit)
        self._use.count(Use.ASKED_FACTS)
        self._use.count(Use.FOUND_FACTS, int(bool(found)))
        return found

    async def _recalled(self, query: str, limit: int) -> list[dict[str, Any]]:
        name = _plain(query)
        row = await self._db.run(lambda connection: connection.execute(sql.GET_FACT, [name]).fetchone())
        if row is not None:
            return [_found(row[0], row[1], 1.0)]
        count = await self._db.run(lambda connection: connection.execute(sql.COUNT_FACTS).fetchone())
        if not name or limit < 1 or not count or not count[0]:
            return []
        return await self._nearest(clean(query), limit)

    async def facts(self) -> list[dict[str, Any]]:
        """All facts as {key, value}, the newest first."""
        rows = await self._db.run(lambda connection: connection.execute(sql.LIST_FACTS).fetchall())
        return [{"key": key, "value": json.loads(value)} for key, value in rows]

    async def forget(self, key: str) -> None:
        """Delete a fact.

        Raises:
            NotFoundError: there is none of that name.
        """
        name = _name(key)

        def work(connection: DuckDBPyConnection) -> bool:
            connection.execute(sql.DELETE_EMBEDDINGS, ["fact", name])
            return connection.execute(sql.DELETE_FACT, [name]).fetchone() is not None

        if not await self._db.run(work):
            raise NotFoundError(f"nothing is remembered under {key!r}.")

    async def _nearest(self, query: str, limit: int) -> list[dict[str, Any]]:
        model, dim = await asyncio.to_thread(lambda: (self._embedder.model_name, self._embedder.dim))
        await self._sync(model, dim)
        vector = (await asyncio.to_thread(self._embedder.encode, [query]))[0].tolist()
        parameters = [vector, model, dim, limit]
        rows = await self._db.run(lambda connection: connection.execute(sql.NEAREST_FACTS, parameters).fetchall())
        return [_found(key, value, float(score)) for key, value, score in rows if score >= _LEAST_COSINE]

    async def _sync(self, model: str, dim: int) -> None:
        """Embed the facts that have no vector of this model yet."""
        async with self._syncing:
            pending = await self._db.run(lambda c: c.execute(sql.PENDING_FACTS, [model, dim]).fetchall())
            if pending:
                vectors = await asyncio.to_thread(self._embedder.encode, [text for _, text in pending])
                await self._db.run(lambda c: _store(c, model, dim, pending, vectors))


def _store(
    connection: DuckDBPyConnection, model: str, dim: int, pending: Sequence[Any], vectors: NDArray[np.float32]
) -> None:
    connection.execute(sql.DELETE_OTHER_MODELS, ["fact", model, dim])
    for (name, text), vector in zip(pending, vectors, strict=True):
        connection.execute(sql.INSERT_FACT_EMBEDDING, [model, vector.tolist(), name, text])


def _found(key: str, body: str, score: float) -> dict[str, Any]:
    return {"key": key, "value": json.loads(body), "score": score}


def _plain(key: str) -> str:
    """A name as it is looked up: without case, with one kind of gap between its words."""
    return re.sub(r"[\s_-]+", " ", clean(key)).strip().casefold()


def _name(key: str) -> str:
    name = _plain(key)
    if not name:
        raise UsageError("a fact needs a name to be remembered under.")
    return name
