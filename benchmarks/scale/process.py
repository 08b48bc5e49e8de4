"""A process that opens a memory and asks it: `python -m benchmarks.scale.process prepare|ask|change HOME QUESTIONS`.

Vectors of questions come from a file, so that no figure has the encoder in it. It answers with JSON on stdout.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.memory.database import Database
from llmos.memory.embeddings import DEFAULT_DIM, DEFAULT_MODEL
from llmos.memory.index import VectorIndex
from llmos.memory.recall import Recall
from llmos.memory.traces import TraceStore
from llmos.redaction import Redactor
from llmos.trace.program import Trace
from llmos.trace.secrecy import kept_credential

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PATIENCE_S = 1_800.0
_CHANGES = 30


class Known:
    """An embedder that knows its texts by heart."""

    model_name = DEFAULT_MODEL
    dim = DEFAULT_DIM

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, str]] = [
            (text, masked) for text, masked in json.loads((folder / "questions.json").read_text(encoding="utf-8"))
        ]
        self._rows = {masked: row for row, (_, masked) in enumerate(self.asked)}
        self._folder = folder
        self._vectors: NDArray[np.float32] | None = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), 384]."""
        import numpy as np

        if self._vectors is None:
            self._vectors = np.load(self._folder / "questions.npy")
        return np.array(self._vectors[[self._rows[text] for text in texts]])


class Memory:
    """The part of the product that stores and finds traces."""

    def __init__(self, home: Path, embedder: Known) -> None:
        self.db = Database(home / "llmos.duckdb")
        self.index = VectorIndex(home / "traces.faiss")
        self.traces = TraceStore(self.db, self.index)
        self.recall = Recall(self.db, self.traces, self.index, embedder)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Memory:
        await self._stack.enter_async_context(self.db)
        self._stack.push_async_callback(self.recall.close)
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._stack.aclose()


async def timed(work: Awaitable[Any]) -> tuple[float, Any]:
    """How many milliseconds it took, and what it gave."""
    started = time.perf_counter()
    found = await work
    return (time.perf_counter() - started) * 1e3, found


def told(times: Sequence[float]) -> dict[str, float]:
    """The median, the 95th percentile and the longest of some times in ms."""
    ordered = sorted(times)
    place = max(0, round(0.95 * len(ordered)) - 1)
    return {
        "p50_ms": round(statistics.median(ordered), 3),
        "p95_ms": round(ordered[place], 3),
        "longest_ms": round(ordered[-1], 3),
    }


def memory_mb() -> dict[str, float]:
    """What the process holds now: resident, and what of it is its own share."""
    kb = {}
    for name in ("/proc/self/status", "/proc/self/smaps_rollup"):
        for line in Path(name).read_text(encoding="utf-8").splitlines()[1:]:
            field, _, rest = line.partition(":")
            if rest.endswith(" kB"):
                kb[field] = int(rest.split()[0])
    return {"rss": kb["VmRSS"] / 1024, "pss": kb["Pss"] / 1024, "anonymous": kb["RssAnon"] / 1024}


# --- what is measured ----------------------------------------------------------------------------------


async def prepare(home: Path, embedder: Known) -> dict[str, Any]:
    """Open a memory that has no index yet, and go on asking until it has one: how long, and how long anybody waited."""
    texts = [text for text, _ in embedder.asked]
    async with Memory(home, embedder) as memory:
        quiet = [(await timed(memory.recall.exact(texts[n])))[0] for n in range(200)]
        first, found = await timed(memory.recall.semantic(texts[0]))
        started, meanwhile, number = time.perf_counter(), list[float](), 0
        count = await memory.db.run(lambda c: len(c.execute("SELECT id FROM traces").fetchall()))
        while count > memory.index.limits.flat:
            number += 1
            took, _ = await timed(memory.recall.exact(texts[number % len(texts)]))
            meanwhile.append(took)
            await asyncio.sleep(0.01)
            if memory.index.kind == "clustered" or time.perf_counter() - started > PATIENCE_S:
                break
            if number % 500 == 0:
                await memory.recall.semantic(texts[number % len(texts)])
        built_s = time.perf_counter() - started
    return {
        "kind": memory.index.kind,
        "first_ms": round(first, 1),
        "first": [one.trace.id for one in found[:10]],
        "built_s": round(built_s, 1),
        "quiet": told(quiet),
        "meanwhile": told(meanwhile) if meanwhile else None,
        "asked_meanwhile": len(meanwhile),
    }


async def start(home: Path, embedder: Known) -> dict[str, Any]:
    """Open a memory and ask one question by meaning."""
    text = embedder.asked[0][0]
    embedder.encode([embedder.asked[0][1]])  # the file of vectors stands for the encoder, whose load does not count
    started = time.perf_counter()
    async with Memory(home, embedder) as memory:
        opened = time.perf_counter()
        await memory.recall.semantic(text)
        return {
            "open_ms": round((opened - started) * 1e3, 1),
            "start_ms": round((time.perf_counter() - started) * 1e3, 1),
        }


async def ask(home: Path, embedder: Known, known: Sequence[str]) -> dict[str, Any]:
    """Ask by each way: goals that are stored (`known`) by hash, questions by words and by meaning."""
    import numpy as np

    texts = [text for text, _ in embedder.asked][: len(known)]
    found: list[list[tuple[str, float]]] = []
    results: dict[str, Any] = {}
    async with Memory(home, embedder) as memory:
        await memory.recall.semantic(texts[-1])
        vectors = embedder.encode([masked for _, masked in embedder.asked])
        for way, goals in (("exact", known), ("skeleton", known), ("words", texts)):
            look_up = getattr(memory.recall, way)
            await look_up(goals[0])
            results[way] = told([(await timed(look_up(goal)))[0] for goal in goals])
        times = []
        for text in texts:
            took, near = await timed(memory.recall.semantic(text))
            times.append(took)
            found.append([(one.trace.id, one.cosine) for one in near])
        results["semantic"] = told(times)
        index = []
        for vector in np.concatenate([vectors, vectors])[len(texts) :]:
            began = time.perf_counter()
            memory.index.search(vector, 48)
            index.append((time.perf_counter() - began) * 1e3)
        results["index"] = told(index[len(index) // 2 :])
        results["memory_mb"] = {name: round(size, 1) for name, size in memory_mb().items()}
        results["kind"] = memory.index.kind
    return {**results, "found": found}


async def change(home: Path, embedder: Known, traces: Sequence[tuple[Trace, str]]) -> dict[str, Any]:
    """Store traces one by one, ask for each by its meaning, and forget it again."""
    stored, seen, gone, quiet, missed, returned = [], [], [], [], 0, 0
    async with Memory(home, embedder) as memory:
        await memory.recall.semantic(embedder.asked[-1][0])
        for trace, text in traces:
            quiet.append((await timed(memory.recall.semantic(text)))[0])
            stored.append((await timed(memory.traces.add(trace)))[0])
            took, near = await timed(memory.recall.semantic(text))
            seen.append(took)
            missed += near[0].trace.id != trace.id
        for trace, text in traces:
            gone.append((await timed(memory.traces.forget(trace.id)))[0])
            returned += any(one.trace.id == trace.id for one in await memory.recall.semantic(text))
    return {
        "store": told(stored),
        "semantic_before": told(quiet),
        "semantic_after": told(seen),
        "forget": told(gone),
        "missed": missed,
        "returned_after_forget": returned,
    }


def main(arguments: Sequence[str]) -> None:
    """Measure one thing."""
    what, home, folder = arguments[0], Path(arguments[1]), Path(arguments[2])
    embedder = Known(folder)
    if what == "ask":
        result = asyncio.run(ask(home, embedder, json.loads((folder / "known.json").read_text(encoding="utf-8"))))
    elif what == "change":
        from benchmarks.scale.goals import Variant
        from benchmarks.scale.home import a_trace

        made = [(a_trace(Variant(text=text, origin=0, masked=masked)), text) for text, masked in embedder.asked]
        storable = [one for one in made if not kept_credential(one[0], Redactor())]
        result = asyncio.run(change(home, embedder, storable[:_CHANGES]))
    else:
        result = asyncio.run({"prepare": prepare, "start": start}[what](home, embedder))
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
