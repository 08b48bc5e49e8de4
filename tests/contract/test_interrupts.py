"""Interrupts and standing orders in a real database: kept through a crash, delivered once, bounded."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmos
from llmos.errors import NotFoundError
from llmos.kernel.process import Process
from llmos.memory.database import Database
from llmos.memory.interrupts import KEPT, InterruptStore
from llmos.orders import MOST_FAILURES, Interrupt, InterruptKind, Job, OrderState, Schedule, Watch
from llmos.resident.keeper import LEFT, Came
from llmos.trace.run import Mode, Run, RunStatus
from tests.contract.house import GOAL, NOON, House

# --- the queue ---------------------------------------------------------------------------------------


async def test_what_was_not_delivered_before_a_restart_is_delivered_after_it_and_the_rest_is_not(
    tmp_path: Path,
) -> None:
    def process(run_id: str) -> Process:
        return Process(pid=7, goal=GOAL, created_at=NOON, run_id=run_id)

    first = House(tmp_path)
    async with first.home as home:
        await home.interrupts.raise_interrupt(InterruptKind.USER, process("aaaaaaaaaaaa"), text="one")
        assert [one.text for one in await home.interrupts.take("aaaaaaaaaaaa")] == ["one"]
        await home.interrupts.raise_interrupt(InterruptKind.USER, process("aaaaaaaaaaaa"), text="two")
    second = House(tmp_path)
    async with second.home as home:
        assert [one.text for one in await home.interrupts.take("aaaaaaaaaaaa")] == ["two"]
        assert await home.interrupts.take("aaaaaaaaaaaa") == []
        assert [one.text for one in await home.interrupts.told("aaaaaaaaaaaa")] == ["one", "two"]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["raise", "take", "reopen"])), max_size=12))
def test_each_is_delivered_once_in_order_whatever_comes_between(actions: list[tuple[str, str]]) -> None:
    async def run(path: Path) -> None:
        raised: dict[str, list[int]] = {"a": [], "b": []}
        taken: dict[str, list[int]] = {"a": [], "b": []}
        async with Database(path) as db:
            store = InterruptStore(db)
            for number, (run_id, action) in enumerate(actions):
                if action == "raise":
                    payload = {"text": str(number)}
                    one = Interrupt(kind=InterruptKind.USER, run_id=run_id, payload=payload, created_at=NOON)
                    await store.add(one)
                    raised[run_id].append(number)
                elif action == "take":
                    taken[run_id] += [int(one.text) for one in await store.take(run_id)]
                else:
                    await db.close()
                    await db.open()
            for run_id, numbers in taken.items():
                numbers += [int(one.text) for one in await store.take(run_id)]
        assert taken == raised

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "llmos.duckdb"))


async def test_one_key_is_raised_once(house: House) -> None:
    process = Process(pid=7, goal=GOAL, created_at=NOON, run_id="aaaaaaaaaaaa")
    raised = [
        await house.home.interrupts.raise_interrupt(InterruptKind.BUDGET, process, text="80 %", key="budget a")
        for _ in range(2)
    ]
    assert [one is not None for one in raised] == [True, False]
    assert len(await house.home.interrupts.take("aaaaaaaaaaaa")) == 1


async def test_what_was_delivered_long_ago_goes_and_what_waits_stays(house: House) -> None:
    store = house.home.raised
    waits = await store.add(Interrupt(kind=InterruptKind.USER, run_id="b", payload={}, created_at=NOON))
    assert waits is not None
    for _ in range(KEPT // 100):
        for _ in range(110):
            store.add_soon(Interrupt(kind=InterruptKind.USER, run_id="a", payload={}, created_at=NOON))
        await store.take("a")
    assert len(await store.list(10_000)) == KEPT // 100 * 110 + 1  # all of the last day
    house.clock.advance(2 * 86_400)
    last = await store.add(Interrupt(kind=InterruptKind.USER, run_id="a", payload={}, created_at=house.clock()))
    assert last is not None
    left = await store.list(10_000)
    assert len(left) == KEPT + 2  # the newest before it, itself, and what waits
    assert waits.id in {one.id for one in left}
    house.clock.advance(40 * 86_400)
    await store.add(Interrupt(kind=InterruptKind.USER, run_id="a", payload={}, created_at=house.clock()))
    assert waits.id not in {one.id for one in await store.list(10_000)}


KILLED = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from llmos.memory.database import Database
from llmos.memory.interrupts import InterruptStore
from llmos.orders import Interrupt, InterruptKind

async def main():
    async with Database(Path(sys.argv[1])) as db:
        store = InterruptStore(db)
        for number in range(100_000):
            one = Interrupt(kind=InterruptKind.USER, run_id="a", payload={"text": str(number)},
                            created_at=datetime.now(UTC))
            await store.add(one)
            print("raised", number, flush=True)
            if number % 3 == 2:
                for taken in await store.take("a"):
                    print("taken", taken.text, flush=True)

asyncio.run(main())
"""


async def test_a_kill_in_the_middle_loses_nothing_and_delivers_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    child = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1])},
    )
    assert child.stdout is not None
    with child.stdout as told:
        lines = [told.readline().split() for _ in range(40)]
        child.send_signal(signal.SIGKILL)
        lines += [line.split() for line in told]
    child.wait()
    raised = {int(number) for what, number in lines if what == "raised"}
    taken = [int(number) for what, number in lines if what == "taken"]
    async with Database(path) as db:
        store = InterruptStore(db)
        after = [int(one.text) for one in await store.take("a")]
        delivered = [int(one.text) for one in await store.of_run("a")]
    assert not set(taken) & set(after)
    assert len(taken) == len(set(taken))
    assert raised <= set(delivered)  # what was told to be raised was, and all of it is delivered now
    assert len(delivered) == len(set(delivered))


# --- schedules ---------------------------------------------------------------------------------------


async def test_a_schedule_runs_when_it_is_due_and_says_what_came_of_it(house: House) -> None:
    one = await house.schedule()
    await house.passes(59)
    assert house.done == []
    await house.passes(1)
    assert [goal for goal, _ in house.done] == [GOAL]
    found = await house.home.schedules.get(one.id)
    assert (found.runs, found.last_status, found.last_said) == (1, "done", "5")
    assert found.last_run_id == house.done[0][1]
    assert found.next_at == NOON + timedelta(seconds=120)


async def test_many_missed_runs_are_made_up_for_by_one(house: House) -> None:
    await house.schedule()
    await house.passes(3_605)
    await house.passes(0)
    assert len(house.done) == 1


async def test_a_missed_run_is_left_out_where_that_was_asked_for(house: House) -> None:
    one = await house.schedule(skip_missed=True)
    await house.passes(3_605)
    assert house.done == []
    found = await house.home.schedules.get(one.id)
    assert found.skipped == 1
    assert "no kernel kept the time" in found.note
    await house.passes(55)
    assert len(house.done) == 1


async def test_one_that_still_runs_is_not_begun_again(house: House) -> None:
    one = await house.schedule()
    house.gate.clear()
    await house.passes(60)
    await house.passes(60)
    await house.passes(60)
    assert len(house.done) == 1
    house.gate.set()
    await house.quiet()
    found = await house.home.schedules.get(one.id)
    assert (found.runs, found.skipped, found.last_status) == (1, 2, "done")
    assert "still at work" in found.note


async def test_one_that_fails_too_often_in_a_row_is_paused_with_a_reason(house: House) -> None:
    one = await house.schedule()
    house.came = Came(status="failed", said="no trace is proven for this goal")
    for _ in range(MOST_FAILURES + 3):
        await house.passes(60)
    found = await house.home.schedules.get(one.id)
    assert len(house.done) == MOST_FAILURES
    assert found.state is OrderState.PAUSED
    assert found.reason.endswith("no trace is proven for this goal")


async def test_what_is_paused_or_removed_does_not_run(house: House) -> None:
    one, other = await house.schedule(), await house.schedule()
    await house.home.schedules.change(one.id, lambda it: replace(it, state=OrderState.PAUSED), by_person=True)
    await house.home.schedules.remove(other.id)
    await house.passes(600)
    assert house.done == []
    with pytest.raises(NotFoundError, match=r"no schedule 2; `schedule list`"):
        await house.home.schedules.remove(other.id)


async def test_one_removed_while_it_runs_is_gone(house: House) -> None:
    one = await house.schedule()
    house.gate.clear()
    await house.passes(60)
    await house.home.schedules.remove(one.id)
    house.gate.set()
    await house.quiet()
    assert await house.home.schedules.list() == []


async def test_a_run_that_breaks_is_a_failure_and_the_next_one_begins(house: House) -> None:
    one = await house.schedule()
    house.came = None  # type: ignore[assignment]
    await house.passes(60)
    house.came = Came(status="done")
    await house.passes(60)
    found = await house.home.schedules.get(one.id)
    assert (found.runs, found.failures) == (2, 0)


async def test_an_order_is_the_same_after_it_was_stored(house: House) -> None:
    at = NOON + timedelta(hours=1, microseconds=5)
    job = Job(goal="Zähle «x»", workspace="/w", plugins=("/p",), environ={"LLMOS_MODEL": "m"}, budget_usd=0.5)
    stored = await house.home.schedules.add(Schedule(job=job, created_at=NOON, at=at, next_at=at))
    assert await house.home.schedules.get(stored.id) == stored
    watched = await house.home.watches.add(Watch(job=job, created_at=NOON, path="/w/ü"))
    assert await house.home.watches.list() == [watched]


# --- after a crash -----------------------------------------------------------------------------------


async def _begun(house: House, run: Run | None) -> Schedule:
    """A schedule whose run an earlier kernel began and did not end; `run` is what that left on record."""
    one = await house.schedule()
    raised = Interrupt(kind=InterruptKind.TIMER, order=one.name, payload={"text": GOAL}, created_at=NOON)
    await house.home.schedules.fire(one.id, lambda it: it, [raised])
    (waiting,) = await house.home.schedules.waiting(one)
    run_id = "abcdefabcdef"

    def change(it: Schedule) -> Schedule:
        return replace(it, last_run_id=run_id, last_status="running", runs=1)

    await house.home.schedules.begin(one, waiting, run_id, change)
    if run is not None:
        await house.home.runs.start(run)
        await house.home.runs.finish(replace(run, status=RunStatus.INTERRUPTED))
    return one


async def test_what_was_raised_and_not_begun_begins_after_a_restart(house: House) -> None:
    one = await house.schedule()
    raised = Interrupt(kind=InterruptKind.TIMER, order=one.name, payload={"text": GOAL}, created_at=NOON)
    await house.home.schedules.fire(one.id, lambda it: it, [raised])
    await house.keeper.pick_up()
    await house.quiet()
    await house.keeper.pick_up()
    await house.quiet()
    assert [goal for goal, _ in house.done] == [GOAL]


async def test_a_run_that_left_no_record_did_nothing_and_begins_again_as_the_same_run(house: House) -> None:
    one = await _begun(house, None)
    await house.keeper.pick_up()
    await house.quiet()
    assert house.done == [(GOAL, "abcdefabcdef")]
    assert (await house.home.schedules.get(one.id)).last_status == "done"


async def test_a_run_that_left_a_record_is_not_begun_again(house: House) -> None:
    run = Run(id="abcdefabcdef", goal=GOAL, mode=Mode.FOLLOWER, started_at=NOON)
    one = await _begun(house, run)
    await house.keeper.pick_up()
    await house.quiet()
    assert house.done == []
    found = await house.home.schedules.get(one.id)
    assert (found.last_status, found.last_said) == ("interrupted", LEFT)
