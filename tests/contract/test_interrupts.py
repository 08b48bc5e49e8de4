"""Interrupts and standing orders in a real database: kept through a crash, delivered once, bounded."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmos
from llmos.errors import NotFoundError
from llmos.home import OpenHome
from llmos.kernel.process import Process
from llmos.kernel.watched import Seen, folders_below, too_large
from llmos.memory.database import Database
from llmos.memory.interrupts import KEPT, InterruptStore
from llmos.orders import MOST_FAILURES, Interrupt, InterruptKind, Job, OrderState, Schedule, Watch
from llmos.resident.keeper import LEFT, Came, Keeper
from llmos.resident.watcher import FIRST_GAP_S, KNOWN_S, signature, spelled
from llmos.settings import load_settings
from llmos.testing import FrozenClock, HashEmbedder
from llmos.trace.run import Mode, Run, RunStatus

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
GOAL = "Calculate 2 + 3"


class House:
    """A home with a clock of the test's own; `came` is what each job comes to, `done` what was begun."""

    def __init__(self, folder: Path) -> None:
        self.clock = FrozenClock(NOON)
        (folder / "work").mkdir(exist_ok=True)
        self.workspace = folder / "work"
        settings = load_settings(home=folder / "home", workspace=self.workspace, environ={}, checkout=folder)
        self.home = OpenHome(settings, embedder=HashEmbedder(), clock=self.clock)
        self.came = Came(status="done", said="5")
        self.done: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.keeper = Keeper(self.home, self._run, clock=self.clock)

    async def _run(self, job: Job, goal: str, run_id: str) -> Came:
        self.done.append((goal, run_id))
        await self.gate.wait()
        return self.came

    async def schedule(self, **more: Any) -> Schedule:
        given = {"every_s": 60.0, "created_at": NOON, "next_at": NOON + timedelta(seconds=60), **more}
        return await self.home.schedules.add(Schedule(job=Job(goal=GOAL, workspace=str(self.workspace)), **given))

    async def passes(self, seconds: float) -> None:
        """Time passes, and what is due then is begun, and ends where the gate is open."""
        self.clock.advance(seconds)
        await self.keeper.look()
        await self.quiet()

    async def quiet(self) -> None:
        if self.gate.is_set():
            while self.home.background:
                await asyncio.wait({*self.home.background})
        else:
            await asyncio.sleep(0.1)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    async with found.home:
        yield found
        found.gate.set()
        await found.quiet()


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


# --- watches -----------------------------------------------------------------------------------------


@pytest.fixture
async def watch(house: House) -> AsyncIterator[Watch]:
    """A watch of the workspace for each file that changes."""
    job = Job(goal="Count lines in {path}", workspace=str(house.workspace))
    found = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(house.workspace)))
    keeping = asyncio.create_task(house.keeper.run())
    assert await house.home.sight.first(found.id, 20) == Seen()
    yield found
    keeping.cancel()
    await asyncio.wait({keeping})


async def _until(what: Any) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_goal_begins_for_each_file_that_changes(house: House, watch: Watch) -> None:
    (house.workspace / "a.txt").write_text("1")
    (house.workspace / "b c.txt").write_text("1")
    (house.workspace / "folder").mkdir()
    await _until(lambda: len(house.done) == 2)
    assert {goal for goal, _ in house.done} == {"Count lines in a.txt", 'Count lines in "b c.txt"'}
    await house.quiet()
    assert (await house.home.watches.get(watch.id)).runs == 2


async def test_what_changes_while_its_own_run_is_at_work_is_served_after_it(house: House, watch: Watch) -> None:
    house.gate.clear()
    (house.workspace / "a.txt").write_text("1")
    await _until(lambda: house.done)
    (house.workspace / "b.txt").write_text("1")
    await asyncio.sleep(1.0)
    assert len(house.done) == 1
    house.gate.set()
    await _until(lambda: len(house.done) == 2)
    assert house.done[1][0] == "Count lines in b.txt"


async def test_a_watch_of_one_file_sees_it_replaced(house: House) -> None:
    file = house.workspace / "a.txt"
    file.write_text("1")
    job = Job(goal=GOAL, workspace=str(house.workspace))
    one = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(file)))
    keeping = asyncio.create_task(house.keeper.run())
    assert await house.home.sight.first(one.id, 20) == Seen()
    (house.workspace / "other.txt").write_text("1")
    await asyncio.sleep(1.0)
    assert house.done == []
    (house.workspace / "other.txt").replace(file)
    await _until(lambda: house.done)
    await asyncio.sleep(FIRST_GAP_S + 0.3)
    (house.workspace / "new.txt").write_text("2")
    (house.workspace / "new.txt").replace(file)
    await _until(lambda: len(house.done) == 2)
    keeping.cancel()
    await asyncio.wait({keeping})


def _word(house: House, number: int) -> str | None:
    seen = house.home.sight.of(number)
    return None if seen is None else seen.word


def _served(house: House) -> set[str]:
    return {goal.removeprefix("Count lines in ") for goal, _ in house.done}


@pytest.mark.parametrize("how", ["removed", "moved away"])
async def test_a_folder_that_is_gone_is_told_of_and_served_again_when_it_is_back(
    house: House, watch: Watch, how: str
) -> None:
    if how == "removed":
        shutil.rmtree(house.workspace)
    else:
        house.workspace.rename(house.workspace.with_name("away"))
    await _until(lambda: _word(house, watch.id) == "gone")
    house.workspace.mkdir()
    (house.workspace / "with.txt").write_text("it was there before anybody looked again")
    await _until(lambda: "with.txt" in _served(house))
    assert _word(house, watch.id) == ""
    (house.workspace / "after.txt").write_text("1")
    await _until(lambda: "after.txt" in _served(house))
    assert len(house.done) == 2


async def test_a_folder_that_is_made_again_at_once_is_served_too(house: House, watch: Watch) -> None:
    shutil.rmtree(house.workspace)
    house.workspace.mkdir()
    (house.workspace / "a.txt").write_text("1")
    await _until(lambda: house.done)
    (house.workspace / "b.txt").write_text("1")
    await _until(lambda: _served(house) == {"a.txt", "b.txt"})


async def test_what_did_not_change_while_its_folder_was_away_is_not_served(house: House, watch: Watch) -> None:
    (house.workspace / "old.txt").write_text("1")
    await _until(lambda: house.done)
    away = house.workspace.with_name("away")
    house.workspace.rename(away)
    await _until(lambda: _word(house, watch.id) == "gone")
    await asyncio.sleep(KNOWN_S)
    (away / "new.txt").write_text("1")
    away.rename(house.workspace)
    await _until(lambda: "new.txt" in _served(house))
    await asyncio.sleep(FIRST_GAP_S)
    assert [goal for goal, _ in house.done] == ["Count lines in old.txt", "Count lines in new.txt"]


async def test_a_folder_that_is_not_there_yet_is_watched_once_it_is(house: House) -> None:
    job = Job(goal=GOAL, workspace=str(house.workspace))
    place = house.workspace / "later"
    one = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(place)))
    keeping = asyncio.create_task(house.keeper.run())
    await house.home.sight.first(one.id, 20)
    assert _word(house, one.id) == "gone"
    place.mkdir()
    await _until(lambda: _word(house, one.id) == "")
    (place / "a.txt").write_text("1")
    await _until(lambda: house.done)
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_files_that_come_with_their_folder_are_served(house: House, watch: Watch) -> None:
    made = house.workspace.with_name("made")
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "a.txt").write_text("1")
    (made / "b.txt").write_text("1")
    made.rename(house.workspace / "made")
    await _until(lambda: len(house.done) == 2)
    assert _served(house) == {"made/deep/a.txt", "made/b.txt"}


async def test_a_name_that_can_not_stand_in_a_goal_is_told_of_also_after_the_next_run(
    house: House, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    (house.workspace / "it's.txt").write_text("1")
    (house.workspace / "plain.txt").write_text("1")
    await _until(lambda: house.done)
    await house.quiet()
    found = await house.home.watches.get(watch.id)
    assert (found.runs, found.last_status, found.left_out) == (1, "done", 1)
    assert "it's.txt" in found.note
    assert "can't stand in a goal" in found.note
    assert "it's.txt" in caplog.text


async def test_a_name_that_is_no_text_is_told_of_and_keeps_nobody_from_being_served(house: House, watch: Watch) -> None:
    (house.workspace / os.fsdecode(b"\xff.txt")).write_text("1")
    (house.workspace / "plain.txt").write_text("1")
    await _until(lambda: house.done)
    (house.workspace / "after.txt").write_text("1")
    await _until(lambda: _served(house) == {"plain.txt", "after.txt"})
    await house.quiet()
    assert (await house.home.watches.get(watch.id)).left_out == 1


async def test_a_folder_is_watched_whatever_the_folders_above_it_are_called(house: House) -> None:
    place = house.workspace / "node_modules" / "own"
    (place / "node_modules").mkdir(parents=True)
    job = Job(goal="Count lines in {path}", workspace=str(place))
    one = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(place)))
    keeping = asyncio.create_task(house.keeper.run())
    await house.home.sight.first(one.id, 20)
    (place / "node_modules" / "theirs.txt").write_text("1")
    (place / "a.txt").write_text("1")
    await _until(lambda: house.done)
    await asyncio.sleep(FIRST_GAP_S)
    assert _served(house) == {"a.txt"}
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_what_is_written_to_the_memory_is_no_change_also_through_a_link(house: House) -> None:
    (house.workspace / "link").symlink_to(house.home.settings.home)
    one = await house.home.watches.add(
        Watch(job=Job(goal=GOAL, workspace=str(house.workspace)), created_at=NOON, path=str(house.workspace))
    )
    keeping = asyncio.create_task(house.keeper.run())
    await house.home.sight.first(one.id, 20)
    (house.workspace / "a.txt").write_text("1")
    await _until(lambda: house.done)
    await asyncio.sleep(3 * FIRST_GAP_S)
    assert len(house.done) == 1
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_a_watch_that_is_too_large_says_so(house: House) -> None:
    job = Job(goal=GOAL, workspace=str(house.workspace))
    one = await house.home.watches.add(Watch(job=job, created_at=NOON, path="/"))
    keeping = asyncio.create_task(house.keeper.run())
    seen = await house.home.sight.first(one.id, 20)
    assert seen is not None
    assert (seen.word, seen.said) == ("not watched", too_large(Path("/")))
    assert "too many to be watched" in seen.said
    keeping.cancel()
    await asyncio.wait({keeping})


WATCHING = """
import asyncio, sys
from pathlib import Path
from llmos.orders import Job, Watch
from tests.contract.test_interrupts import NOON, House, _until

async def main():
    house = House(Path(sys.argv[1]))
    async with house.home:
        job = Job(goal="Count lines in {path}", workspace=str(house.workspace))
        one = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(house.workspace)))
        keeping = asyncio.create_task(house.keeper.run())
        print(await house.home.sight.first(one.id, 30), flush=True)
        (house.workspace / "new").mkdir()
        for name in sys.argv[2:]:
            (house.workspace / name).write_text("1")
        await _until(lambda: len(house.done) == len(sys.argv) - 2)
        (house.workspace / "new" / "later.txt").write_text("1")
        await _until(lambda: len(house.done) == len(sys.argv) - 1)
        print(sorted(goal for goal, _ in house.done), flush=True)
        keeping.cancel()
        await asyncio.wait({keeping})

asyncio.run(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may write, with a `work` in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        yield folder


def _watching(folder: Path, *names: str, by: Sequence[str], lines: int) -> list[str]:
    """What a process that may do less than this one tells first of watching `work`, and of files written there."""
    child = subprocess.Popen(
        [*by, sys.executable, "-c", textwrap.dedent(WATCHING), str(folder), *names],
        env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1]), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    assert child.stdout is not None
    with child.stdout as told:
        found = [told.readline().rstrip() for _ in range(lines)]
    child.kill()
    child.wait()
    return found


def test_a_folder_that_is_closed_to_us_hides_no_other_one(open_folder: Path) -> None:
    numbers = range(6)
    for number in numbers:
        (open_folder / "work" / str(number)).mkdir()
    by: list[str] = []
    if os.geteuid() == 0:
        by = ["setpriv", "--reuid", "65534", "--clear-groups"]
        for one in (open_folder, *open_folder.rglob("*")):
            os.chown(one, 65534, -1)
    (open_folder / "work" / "3").chmod(0)
    told = _watching(open_folder, *(f"{number}/a.txt" for number in numbers if number != 3), by=by, lines=2)
    (open_folder / "work" / "3").chmod(0o700)
    goals = [f"Count lines in {number}/a.txt" for number in numbers if number != 3]
    assert told == [str(Seen()), str([*goals, "Count lines in new/later.txt"])]


def test_where_the_system_watches_no_more_folders_that_is_said(open_folder: Path) -> None:
    for number in range(50):
        (open_folder / "work" / str(number)).mkdir()
    limit = "echo 20 > /proc/sys/user/max_inotify_watches && exec unshare -Ur"
    by = ["unshare", "-Ur", "sh", "-c", f'{limit} "$@"', "sh"]
    if subprocess.run([*by, "true"], capture_output=True).returncode != 0:
        pytest.skip("no right to set a limit")
    (told,) = _watching(open_folder, "a.txt", by=by, lines=1)
    assert "can't be watched: the system watches no more folders" in told


def test_folders_are_counted_as_their_links_lead_to_them_and_not_in_a_circle(tmp_path: Path) -> None:
    top, other = tmp_path / "top", tmp_path / "other"
    (top / "a" / "b").mkdir(parents=True)
    (other / "c").mkdir(parents=True)
    (top / "a" / "circle").symlink_to(top)
    (top / "beside").symlink_to(other)
    found = {os.path.relpath(one, top) for one in folders_below(top)}
    assert found == {".", "a", "a/b", "beside", "beside/c"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a\u2028b", None),
        ("a\x85b", None),
        ("a\udcffb", None),
        ("a/b-1.csv", "a/b-1.csv"),
        ("b c.csv", '"b c.csv"'),
        ("x; delete all.csv", '"x; delete all.csv"'),
        ('a" and delete "b', None),
        ("a\nb", None),
        ("it's.csv", None),
    ],
)
def test_a_name_stands_in_a_goal_as_a_name_or_not_at_all(path: str, expected: str | None) -> None:
    assert spelled(path) == expected


def test_a_file_that_is_gone_has_no_signature(tmp_path: Path) -> None:
    assert signature(str(tmp_path / "gone")) is None
