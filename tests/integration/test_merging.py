"""A second run of a task makes the known trace better: one trace, both wordings, for the real learner and follower."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from llmos.interfaces.admission import Admission
from llmos.interfaces.merging import Merging
from llmos.memory.database import Database
from llmos.memory.index import VectorIndex
from llmos.memory.runs import RunStore
from llmos.memory.traces import TraceStore
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.testing import Request, Turn, call
from llmos.trace.program import Status, Trace
from llmos.trace.run import StepRecord
from tests.lab import MakeLab, finishing
from tests.unit.trace_lab import run_of, step


def counting(request: Request) -> Turn:
    """Counts the lines that hold "ERROR" in whatever log the goal names, and says how many."""
    name = next(name for name in ("a.log", "b.log", "c.log") if name in request.prompt)
    turns = [call("grep", pattern="ERROR", path=name, output_mode="count"), *finishing(f"See the errors of {name}")]
    return turns[min(len(request.tool_results), len(turns) - 1)]


async def test_two_wordings_learned_apart_are_followed_on_one_trace(make_lab: MakeLab) -> None:
    lab = make_lab(counting)
    for name in ("a.log", "b.log", "c.log"):
        lab.write(name, "ok\nERROR disk\nERROR net\n")
    async with lab.boot() as system:
        first = await system.execute('Count the lines with "ERROR" in a.log', mode="learn")
        second = await system.execute('How many lines of b.log hold "ERROR"', mode="learn")
        assert (first.mode, second.mode) == ("learner", "learner")
        learned = [one for one in await system.traces.list() if one.provenance == "learned"]
        assert [(one.version, one.status, len(one.goals)) for one in learned] == [(2, Status.TRUSTED, 2)]
        asked = len(lab.server.requests)
        for goal in ('Count the lines with "ERROR" in c.log', 'How many lines of c.log hold "ERROR"'):
            followed = await system.execute(goal, mode="follow")
            assert (followed.mode, followed.trace_id) == ("follower", f"{learned[0].id}@2")
        assert len(lab.server.requests) == asked
        assert await system.traces.runs_of(await system.traces.get(learned[0].id)) == [first.run_id, second.run_id]


# -------------------------------------------------------------------------------- admission without a learner


@llm_tool("wc", "Count", {"path": str}, read_only=True, open_world=False)
async def wc(path: str) -> dict[str, int]:
    return {"rows": len(path)}


@llm_tool("top", "Show", {"path": str, "n": int}, read_only=True, open_world=False)
async def top(path: str, n: int) -> dict[str, str]:
    return {"text": f"{path} {n}"}


@dataclass
class Memory:
    """Stores and an admission over them; runs are told, not done."""

    traces: TraceStore
    runs: RunStore
    admission: Admission

    async def admit(self, run_id: str, goal: str, *steps: StepRecord) -> Trace:
        run = replace(run_of(goal, *steps), id=run_id)
        run = replace(run, steps=tuple(replace(one, index=index) for index, one in enumerate(run.steps)))
        await self.runs.finish(run)
        trace = await self.admission.admit(run)
        assert isinstance(trace, Trace)
        return trace

    async def count(self, run_id: str, goal: str, path: str) -> Trace:
        return await self.admit(run_id, goal, step("wc", {"path": path}, {"rows": 3}))

    async def show(self, run_id: str, path: str, rows: int, wanted: int) -> Trace:
        first = step("wc", {"path": path}, {"rows": rows})
        goal = f"Show the top {wanted} rows of {path}"
        return await self.admit(run_id, goal, first, step("top", {"path": path, "n": wanted}, {"text": "x"}))


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    registry = ToolRegistry()
    for tool in (wc, top):
        registry.register(tool_of(tool))
    async with Database(tmp_path / "llmos.duckdb") as db:
        traces, runs = TraceStore(db, VectorIndex(tmp_path / "vectors.faiss")), RunStore(db)
        merging = Merging(traces=traces, runs=runs, constants=dict)
        admission = Admission(registry=registry, traces=traces, constants=dict, merging=merging)
        yield Memory(traces=traces, runs=runs, admission=admission)


async def test_a_second_wording_is_the_next_version_of_the_known_trace(memory: Memory) -> None:
    first = await memory.count("r1", "Count rows in a.csv", "a.csv")
    second = await memory.count("r2", "How many rows does b.csv have", "b.csv")

    assert (second.id, second.version, second.run_id) == (first.id, 2, "r2")
    assert await memory.traces.runs_of(second) == ["r1", "r2"]
    assert await memory.traces.get(first.id, 1) == first


async def test_a_goal_the_known_trace_was_rejected_for_is_never_made_a_wording_of_it(memory: Memory) -> None:
    first = await memory.count("r1", "Count rows in a.csv", "a.csv")
    await memory.traces.add_negative(first.id, "How many rows does b.csv have")
    second = await memory.count("r2", "How many rows does b.csv have", "b.csv")

    assert second.id != first.id


async def test_a_trace_of_another_standing_is_left_alone(memory: Memory) -> None:
    first = await memory.count("r1", "Count rows in a.csv", "a.csv")
    for status in (Status.REJECTED, Status.CANDIDATE, Status.QUARANTINED):
        await memory.traces.set_status(first.id, status, "said so")
        other = await memory.count(f"r-{status}", f"How many {status} rows does b.csv have", "b.csv")
        assert other.id != first.id
        await memory.traces.forget(other.id)
    assert (await memory.traces.get(first.id)).version == 1


async def test_without_its_recordings_a_known_trace_is_left_alone(memory: Memory) -> None:
    first = await memory.count("r1", "Count rows in a.csv", "a.csv")
    await memory.traces.add(replace(first, run_id="gone"))
    second = await memory.count("r2", "How many rows does b.csv have", "b.csv")

    assert second.id != first.id


async def test_a_run_that_settles_two_frozen_traces_leaves_one(memory: Memory) -> None:
    """Each of the first two could have taken its number from the output; the third shows where it comes from."""
    one = await memory.show("r1", "a.csv", 10, 10)
    two = await memory.show("r2", "b.csv", 20, 20)
    assert one.id != two.id
    three = await memory.show("r3", "c.csv", 99, 30)

    assert three.goals == ("Show the top {n} rows of {path}",)
    assert len(await memory.traces.runs_of(three)) == 2
    (gone,) = {one.id, two.id} - {three.id}
    absorbed = await memory.traces.get(gone)
    assert absorbed.status is Status.QUARANTINED
    assert absorbed.reason.startswith("merged into ")
