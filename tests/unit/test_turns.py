"""Fair sharing on a real event loop, with a clock that only the processes move."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from datetime import UTC, datetime

import pytest

from llmos.errors import LLMOSError, NotFoundError, UsageError
from llmos.kernel.process import End, Kind, Process, State, Wait, current
from llmos.kernel.process_table import ProcessTable
from llmos.kernel.scheduler import Scheduler
from llmos.kernel.turns import QUANTUM_S, SYSTEM_SHARE, USD_PER_S, Turns


class Machine:
    """A scheduler whose time passes only while somebody works."""

    def __init__(self, slots: int = 1) -> None:
        self.now = 0.0
        self.turns = Turns(clock=lambda: self.now)
        self.processes = ProcessTable(clock=lambda: datetime(2026, 11, 28, tzinfo=UTC))
        self.scheduler = Scheduler(slots, turns=self.turns, processes=self.processes)
        self.used: defaultdict[Process, float] = defaultdict(float)

    async def works(self, until: float, seconds: float, usd: float = 0.0) -> None:
        """Turns of so many seconds and dollars until a time; what they cost is added up."""
        process = current()
        assert process is not None
        while self.now < until:
            self.now += seconds
            process.spent_usd += usd
            self.used[process] += seconds * USD_PER_S + usd
            await process.turn()

    async def run(self, *jobs: tuple[int, float, float], until: float, kind: Kind = Kind.USER) -> list[float]:
        """What each job (priority, seconds and dollars of a turn) had by then."""
        async with asyncio.TaskGroup() as group:
            for priority, seconds, usd in jobs:
                group.create_task(
                    self.scheduler.submit(
                        lambda s=seconds, u=usd: self.works(until, s, u),  # type: ignore[misc]
                        priority=priority,
                        kind=kind,
                    )
                )
                await asyncio.sleep(0)
        return [self.used[process] for process in self.processes]


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_shares_are_those_of_the_weights_whatever_a_turn_costs() -> None:
    rng = random.Random(7)
    jobs = [(rng.randrange(20), rng.choice((0.5, 1.0, 3.0)), rng.choice((0.0, 0.001, 0.02))) for _ in range(200)]
    machine = Machine()
    used = await machine.run(*jobs, until=15_000.0)
    weights = [1.25**-priority for priority, _, _ in jobs]
    for (priority, seconds, usd), had, weight in zip(jobs, used, weights, strict=True):
        share, fair = had / sum(used), weight / sum(weights)
        assert share == pytest.approx(fair, rel=0.05, abs=2 * (seconds * USD_PER_S + usd) / sum(used)), priority


async def test_equals_take_turns() -> None:
    machine = Machine()
    order: list[str] = []

    async def job(name: str) -> None:
        process = current()
        assert process is not None
        for _ in range(3):
            order.append(name)
            machine.now += 1
            await process.turn()

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(machine.scheduler.submit(lambda n=name: job(n)))  # type: ignore[misc]
    assert order == list("abc" * 3)


async def test_a_newcomer_does_not_make_up_for_what_it_did_not_use() -> None:
    machine = Machine()

    async def late() -> None:
        await machine.works(200.0, 1.0)

    async def early() -> None:
        process = current()
        assert process is not None
        for second in range(200):
            if second == 100:
                group.create_task(machine.scheduler.submit(late))
                await asyncio.sleep(0)
            machine.now += 1
            machine.used[process] += 1
            if machine.now >= 200:
                return
            await process.turn()

    async with asyncio.TaskGroup() as group:
        group.create_task(machine.scheduler.submit(early))
    first, second = machine.processes
    assert machine.used[second] / USD_PER_S == pytest.approx(50, abs=2)
    assert machine.used[first] == pytest.approx(150, abs=2)


async def test_nobody_waits_longer_than_the_weights_imply() -> None:
    machine = Machine()
    waits: list[float] = []

    async def least() -> None:
        process = current()
        assert process is not None
        for _ in range(20):
            machine.now += 1.0
            at = machine.now
            await process.turn()
            waits.append(machine.now - at)

    async with asyncio.TaskGroup() as group:
        group.create_task(machine.scheduler.submit(least, priority=19))
        for _ in range(3):
            group.create_task(machine.scheduler.submit(lambda: machine.works(8_000.0, 1.0), priority=0))
    others = 3 * 1.25**19  # what three of the highest priority get for each second of the lowest
    assert max(waits) <= others * (1 + QUANTUM_S) + 4 * 1.0  # and a turn of each, which nobody breaks off


async def test_the_system_gets_its_share_however_low_its_priority() -> None:
    machine = Machine()
    async with asyncio.TaskGroup() as group:
        group.create_task(machine.scheduler.submit(lambda: machine.works(5_000.0, 0.5), priority=19, kind=Kind.SYSTEM))
        for _ in range(4):
            group.create_task(machine.scheduler.submit(lambda: machine.works(5_000.0, 0.5), priority=0))
    own, *others = (machine.used[process] for process in machine.processes)
    assert own / (own + sum(others)) == pytest.approx(SYSTEM_SHARE, rel=0.05)


async def test_who_waits_for_a_person_has_no_slot() -> None:
    machine = Machine()
    answer, log = asyncio.Event(), list[str]()

    async def asks() -> None:
        process = current()
        assert process is not None
        async with process.waiting(Wait.APPROVAL):
            log.append(f"{process.state} ({process.why})")
            await answer.wait()
        log.append(str(process.state))

    async def works() -> None:
        log.append("another works")
        answer.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(machine.scheduler.submit(asks))
        group.create_task(machine.scheduler.submit(works))
    assert log == ["blocked (approval)", "another works", "running"]


async def test_who_is_stopped_while_it_waits_for_a_person_needs_no_turn_for_that() -> None:
    machine = Machine()
    never, cleaned = asyncio.Event(), asyncio.Event()

    async def asks() -> None:
        process = current()
        assert process is not None
        try:
            async with process.waiting(Wait.APPROVAL):
                await never.wait()
        finally:
            cleaned.set()

    task = asyncio.create_task(machine.scheduler.submit(asks))
    await settled()
    other = asyncio.create_task(machine.scheduler.submit(never.wait))
    await settled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    first, _ = machine.processes
    assert (cleaned.is_set(), first.why, machine.turns.taken) == (True, End.INTERRUPTED, 1)
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def test_who_comes_back_from_waiting_may_fail_there() -> None:
    machine = Machine()

    async def asks() -> None:
        process = current()
        assert process is not None
        with pytest.raises(ValueError, match="no"):
            async with process.waiting(Wait.APPROVAL):
                raise ValueError("no")
        assert (process.state, machine.turns.taken) == (State.RUNNING, 1)

    await machine.scheduler.submit(asks)


async def test_a_suspended_process_stops_at_the_end_of_its_turn_and_goes_on_when_resumed() -> None:
    machine = Machine()

    async def steps() -> int:
        process = current()
        assert process is not None
        for step in range(5):
            process.steps = step + 1
            await asyncio.sleep(0)
            await process.turn()
        return process.steps

    task = asyncio.create_task(machine.scheduler.submit(steps))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (process,) = machine.processes
    machine.processes.suspend(process.pid)
    await settled()
    stopped_at = process.steps
    assert (process.state, machine.turns.taken, stopped_at < 5) == (State.SUSPENDED, 0, True)
    await settled()
    assert process.steps == stopped_at
    machine.processes.resume(process.pid)
    assert await asyncio.wait_for(task, 5) == 5
    assert (process.state, process.why) == (State.TERMINATED, End.DONE)


async def test_of_two_calls_side_by_side_neither_goes_on_while_the_process_is_suspended() -> None:
    machine = Machine()
    made: list[str] = []
    go = asyncio.Event()

    async def calls(name: str) -> None:
        process = current()
        assert process is not None
        await go.wait()
        await process.turn()
        made.append(name)

    async def two() -> None:
        await asyncio.gather(calls("a"), calls("b"))

    task = asyncio.create_task(machine.scheduler.submit(two))
    await settled()
    (process,) = machine.processes
    machine.processes.suspend(process.pid)
    go.set()
    await settled()
    assert (process.state, made) == (State.SUSPENDED, [])
    machine.processes.resume(process.pid)
    await asyncio.wait_for(task, 5)
    assert sorted(made) == ["a", "b"]
    assert (machine.turns.taken, machine.turns.waiting) == (0, 0)


async def test_one_that_waits_for_its_turn_is_suspended_at_once_and_passed_over() -> None:
    machine = Machine()
    gate, log = asyncio.Event(), list[str]()

    async def job(name: str) -> None:
        log.append(name)
        await gate.wait()

    tasks = [asyncio.create_task(machine.scheduler.submit(lambda n=name: job(n))) for name in "abc"]  # type: ignore[misc]
    await settled()
    _, second, _ = machine.processes
    machine.processes.suspend(second.pid)
    assert second.state is State.SUSPENDED
    gate.set()
    await settled()
    assert log == ["a", "c"]
    machine.processes.resume(second.pid)
    await asyncio.gather(*tasks)
    assert log == ["a", "c", "b"]


@pytest.mark.parametrize("when", ["at work", "waiting", "suspended"])
async def test_killing_ends_at_once_wherever_a_process_is(when: str) -> None:
    machine = Machine()
    never = asyncio.Event()
    if when == "waiting":
        blocker = asyncio.create_task(machine.scheduler.submit(never.wait))
        await settled()
    task = asyncio.create_task(machine.scheduler.submit(never.wait))
    await asyncio.sleep(0)
    *_, process = machine.processes
    if when == "suspended":
        machine.processes.suspend(process.pid)
    await settled()
    machine.processes.kill(process.pid)
    with pytest.raises(LLMOSError, match=f"process {process.pid} was killed"):
        await asyncio.wait_for(task, 5)
    assert (process.state, process.why) == (State.TERMINATED, End.KILLED)
    with pytest.raises(NotFoundError, match="has ended"):
        machine.processes.kill(process.pid)
    if when == "waiting":
        blocker.cancel()
        await asyncio.gather(blocker, return_exceptions=True)
    assert (machine.turns.taken, machine.turns.waiting) == (0, 0)


async def test_killing_a_parent_kills_what_it_began() -> None:
    machine = Machine(slots=4)
    never = asyncio.Event()

    async def parent() -> None:
        await machine.scheduler.submit(never.wait, name="child")

    task = asyncio.create_task(machine.scheduler.submit(parent, name="parent"))
    await settled()
    first, child = machine.processes
    assert child.parent == first.pid
    machine.processes.kill(first.pid)
    with pytest.raises(LLMOSError):
        await task
    assert [process.why for process in machine.processes] == [End.KILLED, End.KILLED]


async def test_a_replay_is_only_due_when_others_wait_and_its_quantum_is_over() -> None:
    machine = Machine()
    seen: list[bool] = []
    go = asyncio.Event()

    async def long() -> None:
        process = current()
        assert process is not None
        machine.now += 10 * QUANTUM_S
        seen.append(process.is_due)
        go.set()
        await settled()
        seen.append(process.is_due)
        await process.turn()
        seen.append(process.is_due)

    async def other() -> None:
        await go.wait()
        await machine.scheduler.submit(settled)

    await asyncio.gather(machine.scheduler.submit(long), other())
    assert seen == [False, True, False]


def test_a_priority_is_between_0_and_19() -> None:
    table = ProcessTable(clock=lambda: datetime(2026, 11, 28, tzinfo=UTC))
    process = table.spawn("goal", priority=19)
    for wrong in (-1, 20):
        with pytest.raises(UsageError, match=r"0 .* to 19"):
            table.spawn("goal", priority=wrong)
        with pytest.raises(UsageError, match=r"0 .* to 19"):
            table.renice(process.pid, wrong)
    assert table.renice(process.pid, 0).weight > process.weight / 2
    with pytest.raises(NotFoundError, match="no process 7"):
        table.get(7)
    with pytest.raises(UsageError, match="not suspended"):
        table.resume(process.pid)
