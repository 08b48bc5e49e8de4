"""Which traces may be meant by a goal: by hash, by skeleton, by words, by embedding. It finds, it never decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.memory import sql
from llmos.memory.database import Database, clean, digest
from llmos.memory.embeddings import Embedder, Embedding
from llmos.memory.engine import ample_memory
from llmos.memory.index import VectorIndex
from llmos.memory.known import Numbers, number_of
from llmos.memory.runs import exact_key
from llmos.memory.trace_rows import rewrite_templates
from llmos.memory.traces import TraceStore
from llmos.memory.vectors import Hit, Vectors
from llmos.memory.words import filed_under, filed_words, templates_within
from llmos.trace import english, lex, phrases
from llmos.trace.program import Status, Trace

if TYPE_CHECKING:
    import numpy as np
    from duckdb import DuckDBPyConnection
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

_RUNS_AT_ONCE = 256
_OF_HASHES = ("traces", "trace_templates", "trace_versions")
"""What look-ups by hash read; a run that ends changes only that of its own goal, see RunStore.finish."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A trace that may be meant, the template that brought it up, and how near that is to the goal (-1 to 1)."""

    trace: Trace
    template: str
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Worded:
    """The traces whose words a goal has; `is_all` says that these are all of them."""

    traces: list[Trace]
    is_all: bool


class Recall:
    """Looks goals up. Only the last way loads a model and an index."""

    def __init__(self, db: Database, traces: TraceStore, index: VectorIndex, embedder: Embedder) -> None:
        self._db = db
        self._traces = traces
        self._embedder = embedder
        self._vectors = Vectors(db, index, embedder)
        self._syncing = asyncio.Lock()
        self._lexicon_checked = False
        self._last: tuple[str, Embedding] | None = None

    async def exact(self, goal: str) -> list[Trace]:
        """Traces of runs that did just this goal, or whose template without slots it is; trusted ones first."""
        goal_hash = digest(lex.normalise(goal))
        await self._check_lexicon()
        if not self._db.goals.may_hold(goal_hash) and number_of(goal_hash) not in await self._plain_templates():
            return []
        return await self._by_hash(sql.EXACT, {"hash": goal_hash}, exact_key(goal_hash))

    async def skeleton(self, goal: str) -> list[Trace]:
        """Traces with a template that has the goal's words and kinds of literals; trusted ones first."""
        found = digest(lex.skeleton(goal))
        return await self._by_hash(sql.SKELETON, {"hash": found}, ("skeleton", found))

    async def words(self, goal: str, k: int = 24) -> Worded:
        """The traces with a template whose telling words all stand in the goal, those with the most such words first.

        Nothing else can be proven, but for `k`: when there are more, those with the fewest words are left out.
        """
        await self._check_lexicon()
        said = frozenset(map(clean, phrases.words_of(goal)))
        known = await self._db.read(("filed words",), ("telling_words",), filed_words)
        asked = said if known is None else said & known
        filed = await self._db.read_each("filed under", asked, ("telling_words",), filed_under)
        telling = templates_within(chain.from_iterable(one for one in filed.values() if one), said)
        ids, found = list(telling), list[Trace]()
        while ids and len(found) <= k:
            found += await self._traces.current(ids[: k + 1])
            ids = ids[k + 1 :]
        kept = sorted(found[:k], key=lambda trace: (-telling[trace.id], trace.status is not Status.TRUSTED))
        return Worded(traces=kept, is_all=len(found) <= k)

    async def semantic(self, goal: str, k: int = 24, *, also: Collection[str] = ()) -> list[Candidate]:
        """The `k` traces nearest in meaning, each with every template that came up, nearest template first.

        The traces `also` names follow where they are not among them, so that their nearness is known as well.

        Raises:
            SettingsError, StorageError: the embedding model can't be loaded.
        """
        await self._check_lexicon()
        if not await self._db.read(
            ("any followable",), ("traces",), lambda c: c.execute(sql.ANY_FOLLOWABLE).fetchone()
        ):
            return []
        await self._vectors.sync()
        embedding = await self._embedding(lex.masked(goal))
        nearest = await self._nearest(embedding, k)
        missing = set(also) - {one.trace.id for one in nearest}
        return nearest + await self._nearness(embedding, sorted(missing)) if missing else nearest

    async def embed(self, goal: str) -> Embedding:
        """The goal's embedding; learner runs' goals are embedded too, so that their costs can be compared by it."""
        await self._sync_runs()
        return await self._embedding(lex.masked(goal))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts as they are: float32[len(texts), dim], each row of length 1."""
        return self._embedder.encode(texts)

    async def likeness(self, text: str, others: Sequence[str]) -> list[float]:
        """How near each of the other texts is to one in meaning (cosines, -1 to 1).

        Raises:
            SettingsError, StorageError: the embedding model can't be loaded.
        """
        masked = [lex.masked(one) for one in (text, *others)]
        vectors = await asyncio.to_thread(self._embedder.encode, masked)
        return [float(cosine) for cosine in vectors[1:] @ vectors[0]]

    async def warm(self) -> None:
        """Load the encoder, so that the first goal does not wait for it."""
        await asyncio.to_thread(self._embedder.encode, ["warm"])

    async def close(self) -> None:
        """Save the snapshot of the vectors, if it changed."""
        await self._vectors.close()

    # --- by hash -----------------------------------------------------------------------------------

    async def _plain_templates(self) -> Numbers:
        """The digests of the templates that are goals as they stand."""
        return await self._db.read(
            ("plain templates",), ("trace_templates",), lambda c: Numbers.read(c, sql.PLAIN_TEMPLATES)
        )

    async def _by_hash(self, query: str, parameters: Any, key: Hashable) -> list[Trace]:
        await self._check_lexicon()

        def work(connection: DuckDBPyConnection) -> list[str]:
            return _found_by(connection, query, parameters)

        return await self._traces.current(await self._db.read(key, _OF_HASHES, work))

    async def _check_lexicon(self) -> None:
        """Hashes made by another version of the lexer are made again, once, or nothing would be found by them."""
        if not self._lexicon_checked:
            await self._db.run(_refresh_hashes)
            self._lexicon_checked = True

    # --- by meaning --------------------------------------------------------------------------------

    async def _embedding(self, text: str) -> Embedding:
        if self._last is None or self._last[0] != text or self._last[1].model != self._embedder.model_name:
            vectors = await asyncio.to_thread(self._embedder.encode, [text])
            self._last = text, Embedding(model=self._embedder.model_name, vector=vectors[0])
        return self._last[1]

    async def _nearest(self, embedding: Embedding, k: int) -> list[Candidate]:
        """Ask for more and more vectors, for some of what they stand for may not be followed, or is of one trace."""
        width = 2 * k if len(self._vectors) > 8 * k else 8 * k  # of few all are asked for at once
        while True:
            hits, are_more = await self._vectors.nearest(embedding, width)
            chosen = list(dict.fromkeys(hit.trace_id for hit in hits))[:k]
            if len(chosen) >= k or not are_more:
                return await self._candidates(hits, chosen)
            width *= 4

    async def _nearness(self, embedding: Embedding, trace_ids: list[str]) -> list[Candidate]:
        """How near these traces are, wherever they come."""
        return await self._candidates(await self._vectors.of_traces(embedding, trace_ids), trace_ids)

    async def _candidates(self, hits: list[Hit], chosen: list[str]) -> list[Candidate]:
        traces = {trace.id: trace for trace in await self._traces.current(chosen)}
        return [
            Candidate(trace=traces[hit.trace_id], template=hit.template, cosine=hit.cosine)
            for hit in hits
            if hit.trace_id in traces
        ]

    async def _sync_runs(self) -> None:
        async with self._syncing:
            model, dim = await asyncio.to_thread(lambda: (self._embedder.model_name, self._embedder.dim))
            query = [model, dim, _RUNS_AT_ONCE]
            pending = await self._db.run(lambda c: c.execute(sql.PENDING_RUNS, query).fetchall())
            if pending:
                texts = [lex.masked(goal) for _, goal in pending]
                vectors = await asyncio.to_thread(self._embedder.encode, texts)
                owners = [(run_id, text) for (run_id, _), text in zip(pending, texts, strict=True)]
                await self._db.run(lambda c: _store_runs(c, model, dim, owners, vectors))


# --- in the worker thread --------------------------------------------------------------------------


def _found_by(connection: DuckDBPyConnection, query: str, parameters: Any) -> list[str]:
    """The followable traces among those of a query, the best first."""
    found = [row[0] for row in connection.execute(query, parameters).fetchall()]
    return [row[0] for row in connection.execute(sql.BEST_FIRST, [found]).fetchall()] if found else []


def _refresh_hashes(connection: DuckDBPyConnection) -> None:
    fingerprint = sha256(b"".join(Path(str(one.__file__)).read_bytes() for one in (lex, english, phrases))).hexdigest()
    known = connection.execute(sql.GET_META, ["lexicon"]).fetchone()
    if known and known[0] == fingerprint:
        return
    connection.execute(sql.SET_META, ["lexicon", fingerprint])
    if known:
        log.info("the lexer has changed: look-up hashes are made again", extra={"action": "rehash"})
        with ample_memory(connection):
            for run_id, goal in connection.execute(sql.RUN_GOALS).fetchall():
                connection.execute(sql.SET_RUN_GOAL_HASH, [digest(lex.normalise(goal)), run_id])
            for (goal,) in connection.execute(sql.RECALLED_GOALS).fetchall():
                connection.execute(sql.SET_RECALLED_GOAL_HASH, [digest(lex.normalise(goal)), goal])
            rewrite_templates(connection)


def _store_runs(
    connection: DuckDBPyConnection, model: str, dim: int, owners: Sequence[Any], vectors: NDArray[np.float32]
) -> None:
    connection.execute(sql.DELETE_OTHER_MODELS, ["run", model, dim])
    for (run_id, text), vector in zip(owners, vectors, strict=True):
        connection.execute(sql.INSERT_RUN_EMBEDDING, [text, model, vector.tolist(), run_id])
