"""The run store: runs and steps as they happened, and what learning cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from llmos.errors import NotFoundError, StorageError
from llmos.memory.database import INTERRUPTED_REASON, Database
from llmos.memory.runs import RunStore
from llmos.testing import FrozenClock
from llmos.trace.program import Effect
from llmos.trace.run import Finish, Handover, Mode, Origin, Run, RunStatus, StepRecord
from tests.contract.memory_lab import NOW


@pytest.fixture
def runs(db: Database) -> RunStore:
    return RunStore(db, clock=FrozenClock(NOW))


def a_run(run_id: str = "r1", goal: str = "Count the lines of a.csv", mode: Mode = Mode.LEARNER) -> Run:
    return Run(id=run_id, goal=goal, mode=mode, started_at=NOW)


def a_step(index: int, output: object = "3") -> StepRecord:
    return StepRecord(
        index=index,
        tool="bash",
        args={"command": "wc -l a.csv"},
        output=output,
        effect=Effect.UNKNOWN,
        tool_version="1f",
        tool_use_id=f"toolu_{index}",
        duration_s=0.25,
    )


def ended(run: Run, answer: str | None = "3", cost_usd: float = 0.41) -> Run:
    return replace(run, status=RunStatus.DONE, answer=answer, cost_usd=cost_usd, duration_s=2.5)


async def test_a_run_comes_back_as_it_happened(runs: RunStore) -> None:
    run = replace(
        ended(a_run()),
        steps=(a_step(0, {"lines": [1, 2.5, None, "ä\ud800"]}), replace(a_step(1), is_error=True)),
        finish=Finish(answer="3", goal_template="Count the lines of {f}", slots={"f": "a.csv"}, checks=("exists",)),
        trace_id="count-lines",
        trace_version=1,
        bindings={"f": "a.csv"},
        model="sonnet",
        saved_usd=0.1,
        reason="no trace",
    )
    await runs.start(a_run())
    for step in run.steps:
        await runs.add_step("r1", step)
    await runs.finish(run)

    assert await runs.get("r1") == run


async def test_steps_are_there_before_the_run_ends(runs: RunStore) -> None:
    await runs.start(a_run())
    await runs.add_step("r1", a_step(0))

    run = await runs.get("r1")
    assert (run.status, run.steps) == (RunStatus.RUNNING, (a_step(0),))


async def test_finish_stores_steps_nobody_added(runs: RunStore) -> None:
    await runs.start(a_run())
    await runs.add_step("r1", a_step(0))
    await runs.finish(replace(ended(a_run()), steps=(a_step(0), a_step(1))))

    assert (await runs.get("r1")).steps == (a_step(0), a_step(1))


async def test_a_run_that_was_never_started_can_be_stored_whole(runs: RunStore) -> None:
    await runs.finish(ended(replace(a_run(), started_at=None)))

    assert await runs.get("r1") == ended(a_run())


async def test_an_id_is_started_once(runs: RunStore) -> None:
    await runs.start(a_run())
    with pytest.raises(StorageError, match="run 'r1' was started already"):
        await runs.start(a_run())


async def test_an_unknown_run_is_named(runs: RunStore) -> None:
    with pytest.raises(NotFoundError, match="there is no run 'nope'"):
        await runs.get("nope")


async def test_runs_left_by_a_crash_are_marked_interrupted_when_the_memory_is_opened(tmp_path: Path) -> None:
    async with Database(tmp_path / "crash.duckdb") as db:
        await RunStore(db).start(a_run("crashed"))
        await RunStore(db).finish(ended(a_run("done")))
    async with Database(tmp_path / "crash.duckdb") as db:
        crashed = await RunStore(db).get("crashed")
        assert (crashed.status, crashed.reason) == (RunStatus.INTERRUPTED, INTERRUPTED_REASON)
        assert (await RunStore(db).get("done")).status is RunStatus.DONE


async def test_the_list_is_newest_first_and_can_be_narrowed(runs: RunStore) -> None:
    for number in range(3):
        await runs.start(a_run(f"r{number}", mode=Mode.FOLLOWER if number else Mode.LEARNER))
    await runs.finish(ended(a_run("r1", mode=Mode.FOLLOWER)))

    assert [run.id for run in await runs.list()] == ["r2", "r1", "r0"]
    assert [run.id for run in await runs.list(limit=1)] == ["r2"]
    assert [run.id for run in await runs.list(status=RunStatus.DONE)] == ["r1"]
    assert [run.id for run in await runs.list(mode=Mode.LEARNER)] == ["r0"]


async def test_a_run_that_cannot_be_read_does_not_hide_the_others(runs: RunStore, db: Database) -> None:
    await runs.start(a_run("bad"))
    await runs.start(a_run("good"))
    await db.run(lambda c: c.execute("UPDATE runs SET bindings = '{' WHERE id = 'bad'") and None)

    good, bad = await runs.list()
    assert (good.id, bad.id, bad.status) == ("good", "bad", RunStatus.FAILED)
    assert "can't be read" in bad.reason
    with pytest.raises(StorageError, match=r"run 'bad' in .* can't be read"):
        await runs.get("bad")


async def test_the_last_answer_is_that_of_the_run_which_ended_last(runs: RunStore) -> None:
    assert await runs.last_answered() is None
    for run_id in ("slow", "fast", "failed", "silent"):
        await runs.start(a_run(run_id))
    await runs.finish(ended(a_run("fast"), "1"))
    await runs.finish(replace(ended(a_run("slow"), "2"), steps=(a_step(0),)))
    await runs.finish(replace(ended(a_run("failed"), "3"), status=RunStatus.FAILED))
    await runs.finish(ended(a_run("silent"), None))

    last = await runs.last_answered()
    assert last is not None
    assert (last.id, last.answer, last.steps) == ("slow", "2", (a_step(0),))


async def test_without_an_embedding_the_newest_costs_count(runs: RunStore) -> None:
    assert await runs.learner_costs() == []
    for number in range(4):
        await runs.finish(ended(a_run(f"r{number}"), cost_usd=float(number)))
    await runs.finish(ended(a_run("followed", mode=Mode.FOLLOWER), cost_usd=9.0))

    assert await runs.learner_costs(k=2) == [(1.0, 3.0), (1.0, 2.0)]


async def test_twenty_runs_at_once(runs: RunStore) -> None:
    async def whole(number: int) -> None:
        run = a_run(f"r{number}")
        await runs.start(run)
        for index in range(3):
            await runs.add_step(run.id, a_step(index))
        await runs.finish(ended(run))

    await asyncio.gather(*map(whole, range(20)))
    listed = await runs.list(limit=100)
    assert {run.status for run in listed} == {RunStatus.DONE}
    assert len(listed) == 20
    assert all([len((await runs.get(run.id)).steps) == 3 for run in listed])


async def test_a_run_that_is_handed_over_is_stored_as_it_is_then_and_as_it_ends(runs: RunStore) -> None:
    followed = replace(a_run(mode=Mode.FOLLOWER), trace_id="count-lines", trace_version=2)
    await runs.start(followed)
    told = Handover(trace="count-lines@2", step_id="bash[1]", expected="exit_status 0", actual="1")
    handed = replace(
        followed,
        mode=Mode.HANDED_OVER,
        trace_id=None,
        trace_version=None,
        model="sonnet",
        reason="it stopped",
        steps=(replace(a_step(0), origin=Origin.REPLAYED),),
        handover=told,
    )
    await runs.hand_over(handed)
    assert await runs.get("r1") == handed
    steps = (*handed.steps, replace(a_step(1), origin=Origin.RECORDED), replace(a_step(2), origin=Origin.REJOINED))
    done = replace(ended(handed), steps=steps, handover=replace(told, rejoined="bash[2]"))
    await runs.finish(done)
    assert await runs.get("r1") == done
    assert [run.id for run in await runs.list(mode=Mode.HANDED_OVER)] == ["r1"]
