"""Recall by hash and skeleton without a model, by embedding through FAISS, always true to DuckDB."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import llmos
from llmos.memory.database import Database
from llmos.memory.index import VectorIndex
from llmos.memory.recall import Recall
from llmos.memory.runs import RunStore
from llmos.memory.traces import TraceStore
from llmos.trace.program import Slot, SlotType, Status, Step, Trace
from llmos.trace.run import Mode, Run, RunStatus
from llmos.trace.values import SlotRef
from tests.contract.memory_lab import CountingEmbedder

GOALS = {
    "count-lines": "Count the lines of {source}",
    "convert": "Convert {source} to parquet",
    "duplicates": "Find duplicate files below {source}",
    "columns": "Describe the columns of {source}",
}


class Home:
    """A memory in a folder, wired as the program wires it."""

    def __init__(self, folder: Path, embedder: CountingEmbedder) -> None:
        self.snapshot = folder / "vectors.faiss"
        self.db = Database(folder / "llmos.duckdb")
        self.index = VectorIndex(self.snapshot)
        self.embedder = embedder
        self.traces = TraceStore(self.db, self.index)
        self.runs = RunStore(self.db)
        self.recall = Recall(self.db, self.traces, self.index, embedder)

    async def __aenter__(self) -> Home:
        await self.db.open()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.recall.close()
        await self.db.close()

    async def nearest(self, goal: str, k: int = 10) -> list[tuple[str, float]]:
        return [(c.trace.id, round(c.cosine, 5)) for c in await self.recall.semantic(goal, k)]


def a_trace(trace_id: str, *goals: str, status: Status = Status.TRUSTED) -> Trace:
    return Trace(
        id=trace_id,
        goals=goals or (GOALS[trace_id],),
        slots=(Slot(name="source", type=SlotType.PATH),),
        steps=(Step(id="read", tool="read", args={"path": SlotRef(name="source")}),),
        status=status,
    )


def plain_trace(trace_id: str, *goals: str) -> Trace:
    return Trace(id=trace_id, goals=goals, steps=(Step(id="now", tool="bash", args={}),), status=Status.TRUSTED)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with Home(tmp_path, CountingEmbedder()) as opened:
        yield opened


async def ids(found: Any) -> list[str]:
    return [trace.id for trace in await found]


# --- exact and skeleton ----------------------------------------------------------------------------


async def test_a_goal_of_a_finished_run_is_found_again_exactly(home: Home) -> None:
    await home.traces.add(a_trace("count-lines"))
    run = Run(id="r", goal="Count the lines of a.csv", mode=Mode.LEARNER, trace_id="count-lines", trace_version=1)
    await home.runs.start(run)
    assert await ids(home.recall.exact(run.goal)) == []
    await home.runs.finish(replace(run, status=RunStatus.DONE))

    assert await ids(home.recall.exact("please count lines of  a.csv.")) == ["count-lines"]
    assert await ids(home.recall.exact("Count the lines of b.csv")) == []


async def test_the_run_a_trace_was_learned_from_is_enough(home: Home) -> None:
    run = Run(id="r", goal="Count the lines of a.csv", mode=Mode.LEARNER)
    await home.runs.finish(replace(run, status=RunStatus.DONE))
    await home.traces.add(replace(a_trace("count-lines"), run_id="r"))

    assert await ids(home.recall.exact(run.goal)) == ["count-lines"]


async def test_a_failed_run_is_no_precedent(home: Home) -> None:
    await home.traces.add(a_trace("count-lines"))
    run = Run(id="r", goal="Count the lines of a.csv", mode=Mode.FOLLOWER, trace_id="count-lines")
    await home.runs.finish(replace(run, status=RunStatus.FAILED))

    assert await ids(home.recall.exact(run.goal)) == []


async def test_a_template_without_slots_is_a_goal(home: Home) -> None:
    await home.traces.add(plain_trace("date", "What day is it", "Print {{today}}"))

    assert await ids(home.recall.exact("what day is it?")) == ["date"]
    assert await ids(home.recall.exact("Print {today}")) == ["date"]


async def test_the_skeleton_ignores_the_values_but_not_their_kinds(home: Home) -> None:
    await home.traces.add(a_trace("count-lines"))

    assert await ids(home.recall.skeleton("Count the lines of reports/march.csv")) == ["count-lines"]
    assert await ids(home.recall.skeleton("Count the lines of 17")) == []
    assert await ids(home.recall.skeleton("Count the words of march.csv")) == []


@pytest.mark.parametrize("status", [Status.QUARANTINED, Status.REJECTED])
async def test_what_may_not_be_followed_is_not_recalled(home: Home, status: Status) -> None:
    await home.traces.add(a_trace("count-lines"))
    await home.traces.add(a_trace("convert"))
    assert len(await home.nearest("count lines of a.csv")) == 2
    await home.traces.set_status("count-lines", status, "why not")

    assert await ids(home.recall.skeleton("Count the lines of a.csv")) == []
    assert [trace_id for trace_id, _ in await home.nearest("count lines of a.csv")] == ["convert"]


async def test_only_the_current_version_is_recalled(home: Home) -> None:
    await home.traces.add(a_trace("count-lines"))
    assert await home.nearest("count lines of a.csv")
    await home.traces.add(a_trace("count-lines", "How long is {source}"))

    assert await ids(home.recall.skeleton("Count the lines of a.csv")) == []
    assert await ids(home.recall.skeleton("How long is a.csv")) == ["count-lines"]
    found = await home.recall.semantic("count lines of a.csv")
    assert [(c.trace.version, c.template) for c in found] == [(2, "How long is {source}")]


async def test_trusted_traces_come_first(home: Home) -> None:
    await home.traces.add(a_trace("a", "Count the lines of {source}", status=Status.CANDIDATE))
    await home.traces.add(a_trace("b", "Count lines of {source}"))

    assert await ids(home.recall.skeleton("Count the lines of x.csv")) == ["b", "a"]


async def test_a_damaged_trace_does_not_hide_its_neighbours(home: Home) -> None:
    await home.traces.add(a_trace("a", "Count the lines of {source}"))
    await home.traces.add(a_trace("b", "Count lines of {source}"))
    await home.db.run(lambda c: c.execute("UPDATE trace_versions SET body = '{' WHERE trace_id = 'a'") and None)

    assert await ids(home.recall.skeleton("Count the lines of x.csv")) == ["b"]
    assert [trace_id for trace_id, _ in await home.nearest("count lines of x.csv")] == ["b"]


async def test_hashes_of_another_lexer_are_made_again(tmp_path: Path) -> None:
    async with Home(tmp_path, CountingEmbedder()) as home:
        await home.traces.add(a_trace("count-lines"))
        run = Run(id="r", goal="Count the lines of a.csv", mode=Mode.FOLLOWER, trace_id="count-lines")
        await home.runs.finish(replace(run, status=RunStatus.DONE))
        await home.nearest(run.goal)
        for change in (
            "UPDATE meta SET value = 'older' WHERE key = 'lexicon'",
            "UPDATE runs SET goal_hash = 'x'",
            "UPDATE trace_templates SET skeleton_hash = 'x', masked = 'x'",
        ):
            await home.db.run(lambda c, change=change: c.execute(change) and None)  # type: ignore[misc]

    async with Home(tmp_path, CountingEmbedder()) as home:
        assert await ids(home.recall.exact(run.goal)) == ["count-lines"]
        assert await ids(home.recall.skeleton("Count the lines of b.csv")) == ["count-lines"]
        assert [trace_id for trace_id, _ in await home.nearest(run.goal)] == ["count-lines"]


LOOK_UP = """
import asyncio, sys
from pathlib import Path
from llmos.memory.database import Database
from llmos.memory.embeddings import SentenceTransformerEmbedder
from llmos.memory.index import VectorIndex
from llmos.memory.recall import Recall
from llmos.memory.store import SemanticMemory
from llmos.memory.traces import TraceStore

async def main():
    folder = Path(sys.argv[1])
    assert "duckdb" not in sys.modules
    async with Database(folder / "llmos.duckdb") as db:
        index, embedder = VectorIndex(folder / "vectors.faiss"), SentenceTransformerEmbedder()
        traces = TraceStore(db, index)
        recall = Recall(db, traces, index, embedder)
        assert await recall.exact("What day is it") and await recall.skeleton("Count the lines of b.csv")
        assert (await recall.words("Count the lines of b.csv")).traces
        await SemanticMemory(db, embedder).remember("a", 1)
        assert await SemanticMemory(db, embedder).recall("a")
        await recall.close()
    heavy = {"faiss", "numpy", "torch", "sentence_transformers", "transformers"}
    print(sorted(heavy & set(sys.modules)))

asyncio.run(main())
"""


async def test_exact_skeleton_and_words_import_no_model_library(tmp_path: Path) -> None:
    async with Home(tmp_path, CountingEmbedder()) as home:
        await home.traces.add(a_trace("count-lines"))
        await home.traces.add(plain_trace("date", "What day is it"))
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", LOOK_UP, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1])},
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


# --- by meaning ------------------------------------------------------------------------------------


async def fill(home: Home) -> None:
    for trace_id in GOALS:
        await home.traces.add(a_trace(trace_id))


async def test_the_nearest_trace_comes_first(home: Home) -> None:
    await fill(home)

    found = await home.recall.semantic("describe all columns in sales.csv", k=2)
    assert (found[0].trace.id, found[0].template) == ("columns", GOALS["columns"])
    assert len(found) == 2
    assert 1 >= found[0].cosine > found[1].cosine


async def test_an_empty_memory_asks_no_model(home: Home) -> None:
    assert await home.recall.semantic("anything") == []
    assert home.embedder.asked == []


async def test_each_template_is_embedded_once(tmp_path: Path) -> None:
    async with Home(tmp_path, CountingEmbedder()) as home:
        await fill(home)
        assert home.embedder.asked == []
        await home.nearest("count")
        assert len(home.embedder.asked) == len(GOALS) + 1
        await home.traces.add(a_trace("new", "Rename {source}"))
        await home.nearest("count")
        assert len(home.embedder.asked) == len(GOALS) + 2  # the goal's own vector was still at hand

    async with Home(tmp_path, CountingEmbedder()) as home:
        assert len(await home.nearest("count")) == 5
        assert home.embedder.asked == ["count"]


async def test_k_counts_traces_not_wordings(home: Home) -> None:
    wordings = [f"Count lines number {n} of {{source}}" for n in range(30)]
    await home.traces.add(a_trace("many", *wordings))
    await fill(home)

    found = await home.recall.semantic("count lines number of x.csv", k=3)
    assert len({c.trace.id for c in found}) == 3
    assert sum(c.trace.id == "many" for c in found) == 30


async def test_a_forgotten_trace_leaves_the_index(home: Home) -> None:
    await fill(home)
    await home.nearest("count lines")
    assert len(home.index) == 4
    await home.traces.forget("count-lines")

    assert len(home.index) == 3
    assert "count-lines" not in [trace_id for trace_id, _ in await home.nearest("count lines")]


async def test_each_change_is_seen_by_the_very_next_question(home: Home) -> None:
    async def found(goal: str) -> list[tuple[str, int]]:
        near = [(one.trace.id, one.trace.version) for one in await home.recall.semantic(goal, 1)]
        worded = [(trace.id, trace.version) for trace in (await home.recall.words(goal)).traces]
        assert near == worded
        return near

    trace = a_trace("columns", GOALS["columns"])
    await home.traces.add(trace)
    goal = "Describe the columns of sales.csv"
    assert [await found(goal) for _ in range(2)] == [[("columns", 1)]] * 2

    await home.traces.set_status("columns", Status.REJECTED, "wrong")
    assert await found(goal) == []
    await home.traces.set_status("columns", Status.TRUSTED, "")
    assert await found(goal) == [("columns", 1)]
    await home.traces.add(replace(trace, version=2, steps=(replace(trace.steps[0], tool="other"),)))  # type: ignore[arg-type]
    assert await found(goal) == [("columns", 2)]
    await home.traces.forget("columns")
    assert await found(goal) == []


async def test_a_trace_forgotten_before_the_index_was_opened_does_not_come_back(tmp_path: Path) -> None:
    async with Home(tmp_path, CountingEmbedder()) as home:
        await fill(home)
        await home.nearest("count lines")
    async with Home(tmp_path, CountingEmbedder()) as home:
        await home.traces.forget("count-lines")
    async with Home(tmp_path, CountingEmbedder()) as home:
        assert "count-lines" not in [trace_id for trace_id, _ in await home.nearest("count lines")]
        assert len(home.index) == 3


async def test_a_changed_model_embeds_again(tmp_path: Path) -> None:
    async with Home(tmp_path, CountingEmbedder()) as home:
        await fill(home)
        before = await home.nearest("count lines of a.csv")
    async with Home(tmp_path, CountingEmbedder("another-model")) as home:
        assert await home.nearest("count lines of a.csv") == before
        assert len(home.embedder.asked) == len(GOALS) + 1
        models = await home.db.run(lambda c: c.execute("SELECT DISTINCT model FROM embeddings").fetchall())
        assert models == [("another-model",)]


def flip_a_byte(snapshot: Path) -> None:
    body = bytearray(snapshot.read_bytes())
    body[len(body) // 2] ^= 1
    snapshot.write_bytes(body)


def cut_it(snapshot: Path) -> None:
    snapshot.write_bytes(snapshot.read_bytes()[:-100])


def empty_it(snapshot: Path) -> None:
    snapshot.write_bytes(b"")


def delete_it(snapshot: Path) -> None:
    snapshot.unlink()


def delete_the_sidecar(snapshot: Path) -> None:
    snapshot.with_name(f"{snapshot.name}.json").unlink()


def garble_the_sidecar(snapshot: Path) -> None:
    snapshot.with_name(f"{snapshot.name}.json").write_text("[]")


def name_another_model(snapshot: Path) -> None:
    sidecar = snapshot.with_name(f"{snapshot.name}.json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "model": "another-model"}))


@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, cut_it, empty_it, delete_it, delete_the_sidecar, garble_the_sidecar, name_another_model],
)
async def test_a_damaged_snapshot_is_rebuilt_with_the_same_answers(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async with Home(tmp_path, CountingEmbedder()) as home:
        await fill(home)
        before = await home.nearest("count lines of a.csv")
        snapshot = home.snapshot
    damage(snapshot)

    async with Home(tmp_path, CountingEmbedder()) as home:
        assert await home.nearest("count lines of a.csv") == before
        assert home.embedder.asked == ["count lines of a file"]  # DuckDB had the vectors
    intact = VectorIndex(snapshot)
    assert intact.load("hash-384", 384)
    assert len(intact) == 4


async def test_a_snapshot_that_cannot_be_written_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "vectors.faiss").mkdir()
    async with Home(tmp_path, CountingEmbedder()) as home:
        await fill(home)
        before = await home.nearest("count lines of a.csv")
    assert "snapshot was not saved" in caplog.text
    async with Home(tmp_path, CountingEmbedder()) as home:
        assert await home.nearest("count lines of a.csv") == before


async def test_asking_while_traces_come_and_go(home: Home) -> None:
    await fill(home)

    async def come_and_go(number: int) -> None:
        await home.traces.add(a_trace(f"t{number}", f"Do thing {number} with {{source}}"))
        await home.nearest(f"do thing {number} with a.csv")
        if number % 2:
            await home.traces.forget(f"t{number}")

    await asyncio.gather(*map(come_and_go, range(20)))
    found = {trace_id for trace_id, _ in await home.nearest("do thing with a.csv", 50)}
    assert found == set(GOALS) | {f"t{number}" for number in range(0, 20, 2)}


# --- costs of similar goals ------------------------------------------------------------------------


async def test_costs_of_similar_goals_come_first(home: Home) -> None:
    for run_id, goal, cost_usd in (
        ("a", "Describe the columns of a.csv", 0.2),
        ("b", "Build a web page", 0.9),
        ("c", "Describe columns in b.csv", 0.3),
    ):
        run = Run(id=run_id, goal=goal, mode=Mode.LEARNER, status=RunStatus.DONE, cost_usd=cost_usd)
        await home.runs.finish(run)

    costs = await home.runs.learner_costs(await home.recall.embed("Describe the columns of x.csv"), 2)
    assert [cost for _, cost in costs] == [0.2, 0.3]
    assert costs[0][0] == pytest.approx(1.0)
    assert costs[0][0] > costs[1][0]


async def test_a_changed_model_compares_costs_again(tmp_path: Path) -> None:
    async with Home(tmp_path, CountingEmbedder()) as home:
        run = Run(id="a", goal="Describe a.csv", mode=Mode.LEARNER, status=RunStatus.DONE, cost_usd=0.2)
        await home.runs.finish(run)
        await home.recall.embed("Describe b.csv")
    async with Home(tmp_path, CountingEmbedder("another-model")) as home:
        costs = await home.runs.learner_costs(await home.recall.embed("Describe b.csv"), 5)
        assert costs[0] == pytest.approx((1.0, 0.2))
