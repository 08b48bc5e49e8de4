"""How many clients of models live at once: what memory there is decides, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from llmos.kernel.clients import CLIENT_BYTES, LEFT_BYTES, Clients, available_bytes
from llmos.kernel.process import Process, State, Wait, at_work_for
from llmos.kernel.process_table import ProcessTable

SCARCE, AMPLE = LEFT_BYTES, LEFT_BYTES + CLIENT_BYTES


def process() -> Process:
    made = ProcessTable(clock=lambda: datetime(2026, 11, 28, tzinfo=UTC)).spawn("goal")
    made.move(State.RUNNING)
    return made


async def use(clients: Clients, begun: list[int], ends: asyncio.Event) -> None:
    async with clients.one():
        begun.append(clients.live)
        await ends.wait()


async def test_the_first_one_always_lives_and_the_second_waits_for_memory() -> None:
    clients, begun, ends = Clients(lambda: SCARCE), list[int](), asyncio.Event()
    with at_work_for(process()):
        first = asyncio.create_task(use(clients, begun, ends))
        second = asyncio.create_task(use(clients, begun, ends))
    await asyncio.sleep(0.05)
    assert (begun, clients.wanted) == ([1], 1)
    ends.set()
    await asyncio.wait_for(asyncio.gather(first, second), 5)
    assert (len(begun), clients.live, clients.wanted) == (2, 0, 0)


async def test_with_memory_all_live() -> None:
    clients, begun, ends = Clients(lambda: AMPLE), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(use(clients, begun, ends)) for _ in range(20)]
    await asyncio.sleep(0.05)
    assert len(begun) == 20
    ends.set()
    await asyncio.gather(*tasks)


async def test_memory_that_comes_free_elsewhere_is_noticed() -> None:
    free = [SCARCE]
    clients, begun, ends = Clients(lambda: free[0]), list[int](), asyncio.Event()
    with at_work_for(process()):
        tasks = [asyncio.create_task(use(clients, begun, ends)) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert len(begun) == 1
    free[0] = AMPLE
    async with asyncio.timeout(10):
        while len(begun) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    ends.set()
    await asyncio.gather(*tasks)


async def test_a_parent_that_waits_for_its_child_keeps_it_from_nothing() -> None:
    clients, begun, ends = Clients(lambda: SCARCE), list[int](), asyncio.Event()
    parent, child = process(), process()
    with at_work_for(parent):
        first = asyncio.create_task(use(clients, begun, ends))
    await asyncio.sleep(0.01)
    parent.move(State.BLOCKED, Wait.CHILD)
    with at_work_for(child):
        second = asyncio.create_task(use(clients, begun, ends))
    await asyncio.sleep(0.05)
    assert len(begun) == 2
    ends.set()
    await asyncio.gather(first, second)


async def test_whoever_is_cancelled_while_it_waits_is_not_counted() -> None:
    clients, begun, ends = Clients(lambda: SCARCE), list[int](), asyncio.Event()
    with at_work_for(process()):
        first = asyncio.create_task(use(clients, begun, ends))
        second = asyncio.create_task(use(clients, begun, ends))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.wait({second})
    assert clients.wanted == 0
    ends.set()
    await first


def test_the_machine_says_what_is_free() -> None:
    free = available_bytes()
    assert free is not None
    assert free > 10_000_000
