"""Recall with an index that changes its kind, is built anew, damaged or foreign finds what is new, not what is gone."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llmos
from llmos.memory import sql
from llmos.memory.database import Database
from llmos.memory.index import Limits, VectorIndex
from llmos.memory.recall import Recall
from llmos.memory.traces import TraceStore
from llmos.trace.program import Status
from tests.contract.memory_lab import CountingEmbedder, a_trace

LIMITS = Limits(flat=30, tail=10, at_once=1024)
PATIENCE_S = 60.0
THINGS = ("river", "copper", "walnut", "violin", "glacier", "lantern", "saddle", "harbour", "meadow", "engine")
PLACES = ("Bergen", "Lima", "Oslo", "Quito", "Turin", "Cairo", "Delhi", "Perth", "Minsk", "Sofia")


class Home:
    """A memory in a folder, with limits at which it is soon large."""

    def __init__(self, folder: Path, limits: Limits = LIMITS) -> None:
        self.snapshot = folder / "traces.faiss"
        self.db = Database(folder / "llmos.duckdb")
        self.index = VectorIndex(self.snapshot, limits=limits)
        self.embedder = CountingEmbedder()
        self.traces = TraceStore(self.db, self.index)
        self.recall = Recall(self.db, self.traces, self.index, self.embedder)

    async def __aenter__(self) -> Home:
        await self.db.open()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.recall.close()
        await self.db.close()

    async def store(self, numbers: range) -> None:
        for number in numbers:
            await self.traces.add(a_trace(f"t{number}", wording(number)))

    async def nearest(self, number: int, k: int = 5) -> list[tuple[str, float]]:
        found = await self.recall.semantic(wording(number).replace("{source}", "a.csv"), k)
        return [(one.trace.id, round(one.cosine, 4)) for one in found]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Go on asking, as users do, until the next snapshot is in place."""
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < end, "the snapshot was not built"
            await self.nearest(0)
            await asyncio.sleep(0.02)

    async def until_large(self) -> None:
        await self.until(lambda: self.index.kind == "clustered")


def wording(number: int) -> str:
    return f"Weigh the {THINGS[number % 10]} of {PLACES[number // 10 % 10]} {'abcdefgh'[number // 100]} in {{source}}"


async def large(folder: Path, count: int = 60) -> None:
    async with Home(folder) as home:
        await home.store(range(count))
        await home.until_large()


async def test_a_memory_that_grows_gets_clusters_by_itself(tmp_path: Path) -> None:
    async with Home(tmp_path) as home:
        await home.store(range(20))
        before = await home.nearest(7)
        assert home.index.kind == "flat"
        await home.store(range(20, 60))
        assert (await home.nearest(7))[0] == before[0]
        await home.until_large()
        assert (await home.nearest(7))[0] == before[0]
        assert (await home.nearest(59))[0][0] == "t59"

    async with Home(tmp_path) as home:
        assert (await home.nearest(59))[0][0] == "t59"
        assert (home.index.kind, len(home.index)) == ("clustered", 60)
        assert home.embedder.asked == ["Weigh engine of Cairo a in a file"]


async def test_the_newest_is_found_and_the_forgotten_is_not_whatever_happens(tmp_path: Path) -> None:
    await large(tmp_path)
    for turn in range(4):
        newest, gone = 100 + turn, 3 * turn
        async with Home(tmp_path) as home:
            await home.traces.forget(f"t{gone}")  # before anything was loaded
            await home.store(range(newest, newest + 1))
            assert (await home.nearest(newest))[0][0] == f"t{newest}"
            await home.traces.forget(f"t{gone + 1}")
            for one in (gone, gone + 1):
                assert f"t{one}" not in [trace_id for trace_id, _ in await home.nearest(one, 100)]
        async with Home(tmp_path) as home:
            found = {trace_id for trace_id, _ in await home.nearest(newest, 200)}
            assert found == expected(turn)


def expected(turn: int) -> set[str]:
    gone = {f"t{3 * one + part}" for one in range(turn + 1) for part in (0, 1)}
    return {f"t{number}" for number in [*range(60), *range(100, 101 + turn)]} - gone


async def test_what_is_set_aside_or_replaced_is_not_found(tmp_path: Path) -> None:
    await large(tmp_path)
    async with Home(tmp_path) as home:
        await home.traces.set_status("t5", Status.QUARANTINED, "wrong")
        await home.traces.add(a_trace("t6", "Paint {source} blue"))
        found = await home.recall.semantic("Weigh the saddle of Bergen a in a.csv", 100)
        assert "t5" not in {one.trace.id for one in found}
        assert [one.template for one in found if one.trace.id == "t6"] == ["Paint {source} blue"]
        assert len({one.trace.id for one in found}) == 59


async def test_changes_are_put_into_the_snapshot(tmp_path: Path) -> None:
    await large(tmp_path)
    async with Home(tmp_path) as home:
        written = home.snapshot.stat().st_ino
        await home.nearest(0)
        for number in range(60, 75):
            await home.store(range(number, number + 1))
        await home.until(lambda: home.snapshot.stat().st_ino != written)
        await home.until(lambda: not home.index.wants_saving)
        assert [(await home.nearest(number))[0][0] for number in (3, 60, 74)] == ["t3", "t60", "t74"]
    again = VectorIndex(tmp_path / "traces.faiss", limits=LIMITS)
    assert again.load("hash-384", 384)
    assert again.highest_id > 60


def best_of(found: list[tuple[str, float]]) -> tuple[str, list[float]]:
    """The best, and how near all are: others are equally near, and stand in any order."""
    return found[0][0], [cosine for _, cosine in found]


def delete(home: Path) -> None:
    (home / "traces.faiss").unlink()


def cut(home: Path) -> None:
    os.truncate(home / "traces.faiss", 1000)


def flip(home: Path) -> None:
    snapshot = home / "traces.faiss"
    body = bytearray(snapshot.read_bytes())
    body[len(body) // 2] ^= 1
    snapshot.write_bytes(body)


def garble_the_description(home: Path) -> None:
    (home / "traces.faiss.json").write_text('{"format": 2, "kind": "clustered"}')


@pytest.mark.parametrize("damage", [delete, cut, flip, garble_the_description])
async def test_without_a_snapshot_the_answers_are_the_same_and_one_is_built(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with Home(tmp_path, Limits()) as home:
        await home.store(range(60))
        before = [best_of(await home.nearest(number)) for number in (0, 33, 59)]
    await large(tmp_path, 0)
    damage(tmp_path)

    async with Home(tmp_path) as home:
        assert [best_of(await home.nearest(number)) for number in (0, 33, 59)] == before
        assert home.index.kind == "flat"
        await home.traces.forget("t33")
        await home.store(range(100, 101))
        assert (await home.nearest(100))[0][0] == "t100"
        assert "t33" not in [trace_id for trace_id, _ in await home.nearest(33, 100)]
        await home.until_large()
        assert (await home.nearest(100))[0][0] == "t100"
        assert "t33" not in [trace_id for trace_id, _ in await home.nearest(33, 100)]


async def test_a_snapshot_of_another_memory_is_not_used(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, start in ((one, 0), (other, 200)):
        folder.mkdir()
        async with Home(folder) as home:
            await home.store(range(start, start + 60))
            await home.until_large()
    for name in ("traces.faiss", "traces.faiss.json"):
        shutil.copy2(other / name, one / name)

    async with Home(one) as home:
        assert (await home.nearest(42))[0] == ("t42", 1.0)
        assert home.index.kind == "flat"  # nothing of it was loaded


async def test_a_database_that_was_put_back_does_not_use_a_later_snapshot(tmp_path: Path) -> None:
    await large(tmp_path)
    shutil.copy2(tmp_path / "llmos.duckdb", tmp_path / "kept")
    async with Home(tmp_path) as home:
        written = home.snapshot.stat().st_ino
        await home.store(range(100, 140))
        await home.until(lambda: home.snapshot.stat().st_ino != written and home.index.highest_id == 100)
    shutil.copy2(tmp_path / "kept", tmp_path / "llmos.duckdb")

    async with Home(tmp_path) as home:
        await home.store(range(300, 340))  # under the ids that the snapshot has others for
        assert [(await home.nearest(number))[0] for number in (300, 339)] == [("t300", 1.0), ("t339", 1.0)]
        assert len(await home.nearest(0, 200)) == 100


async def test_memories_of_an_earlier_version_get_the_indexes_when_opened(tmp_path: Path) -> None:
    async with Home(tmp_path) as home:
        await home.db.run(
            lambda c: c.execute("DROP INDEX embeddings_by_id; DROP INDEX trace_templates_by_trace") and None
        )
    async with Home(tmp_path) as home:
        found = await home.db.run(lambda c: c.execute("SELECT index_name FROM duckdb_indexes()").fetchall())
        assert {("embeddings_by_id",), ("trace_templates_by_trace",)} <= set(found)


async def test_traces_that_are_noted_are_embedded_once_and_no_other_is_looked_for(tmp_path: Path) -> None:
    async with Home(tmp_path) as home:
        await home.store(range(3))
        await home.nearest(0)
        await home.store(range(3, 5))
        assert await noted(home) == '["t3", "t4"]'
        await home.traces.forget("t4")
    async with Home(tmp_path) as home:
        assert (await home.nearest(3))[0][0] == "t3"
        assert len(home.embedder.asked) == 2
        assert await noted(home) == "[]"


async def test_vectors_that_the_index_was_not_told_of_are_read(tmp_path: Path) -> None:
    """Whoever asked first was cancelled after they were stored."""

    class Failing(VectorIndex):
        fails = False

        def add(self, ids: Any, vectors: Any) -> None:
            if self.fails:
                raise asyncio.CancelledError
            super().add(ids, vectors)

    async with Home(tmp_path) as home:
        home.index = index = Failing(tmp_path / "traces.faiss")
        home.recall = Recall(home.db, home.traces, index, home.embedder)
        await home.store(range(3))
        await home.nearest(0)
        await home.store(range(3, 5))
        index.fails = True
        with pytest.raises(asyncio.CancelledError):
            await home.nearest(3)
        index.fails = False
        await home.store(range(5, 6))
        for number in (3, 4, 5):
            assert (await home.nearest(number))[0][0] == f"t{number}"
        assert len(index) == 6
        vectors = await home.db.run(lambda c: c.execute("SELECT count(*) FROM embeddings").fetchone())
        assert vectors == (6,)


async def test_a_trace_that_goes_while_its_vector_is_made_leaves_none(tmp_path: Path) -> None:
    class Forgetting(CountingEmbedder):
        home: Home
        loop: asyncio.AbstractEventLoop

        def encode(self, texts: Any) -> Any:
            if len(texts) == 2:
                asyncio.run_coroutine_threadsafe(self.home.traces.forget("t3"), self.loop).result()
            return super().encode(texts)

    async with Home(tmp_path) as home:
        embedder = Forgetting()
        embedder.home, embedder.loop = home, asyncio.get_running_loop()
        home.recall = Recall(home.db, home.traces, home.index, embedder)
        await home.store(range(3))
        await home.nearest(0)
        await home.store(range(3, 5))
        assert (await home.nearest(4))[0][0] == "t4"
        assert "t3" not in [trace_id for trace_id, _ in await home.nearest(3)]
        owners = await home.db.run(lambda c: c.execute("SELECT owner FROM embeddings ORDER BY id").fetchall())
        assert owners == [("t0",), ("t1",), ("t2",), ("t4",)]
        assert await noted(home) == "[]"


async def test_clusters_of_an_earlier_version_are_made_anew_while_they_serve(tmp_path: Path) -> None:
    from tests.unit.test_index import as_it_was

    await large(tmp_path)
    async with Home(tmp_path) as home:
        rows = await home.db.run(lambda c: c.execute("SELECT vector FROM embeddings ORDER BY id").fetchall())
        token = (await home.db.run(lambda c: c.execute(sql.GET_META, ["vectors"]).fetchone()) or [""])[0]
    as_it_was(
        tmp_path / "traces.faiss", np.array([row[0] for row in rows], dtype=np.float32), token, home.embedder.model_name
    )
    async with Home(tmp_path) as home:
        assert (await home.nearest(7))[0][0] == "t7"
        assert home.index.kind == "clustered"
        await home.until(lambda: not home.index.wants_saving)
        assert (await home.nearest(7))[0][0] == "t7"


async def noted(home: Home) -> Any:
    return (await home.db.run(lambda c: c.execute(sql.GET_META, ["unembedded"]).fetchone()) or [None])[0]


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.contract.test_memory_scale import Home

async def main():
    async with Home(Path(sys.argv[1])) as home:
        number = int(sys.argv[2])
        while True:
            await home.store(range(number, number + 1))
            await home.nearest(number)
            print(number, flush=True)
            number += 1

asyncio.run(main())
"""


async def test_killed_at_any_moment_nothing_is_lost(tmp_path: Path) -> None:
    last = -1
    for life in range(4):
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-c", KILLED, str(tmp_path), str(last + 1)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1])},
        )
        assert process.stdout is not None
        with process.stdout as said:
            for _ in range(11 + 7 * life):
                last = int(said.readline())
            process.send_signal(signal.SIGKILL)
            last = max([last, *(int(line) for line in said.read().split())])
        process.wait()
        async with Home(tmp_path) as home:
            stored = await home.traces.list()
            assert {f"t{number}" for number in range(last + 1)} <= {one.id for one in stored}
            assert {trace_id for trace_id, _ in await home.nearest(0, 300)} == {one.id for one in stored}
            last = len(stored) - 1  # one more than it had said may be there
