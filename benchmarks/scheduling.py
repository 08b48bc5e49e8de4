"""Fair turns, measured: mixed processes with scripted models on a real clock, held against their weights.

python -m benchmarks.scheduling --json benchmarks/results/scheduling.json

Each process is a goal that never ends: its scripted model thinks for a while, which costs money, and then makes a call,
which is the end of its turn. Scheduler, turns, processes and budgets are the product's. Measured are what each process
had against what its weight gives it, how long the longest wait for a turn was against what the weights allow, and what
the scheduler itself takes of a turn: processor time with it, less that of the same turns without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from llmos.kernel.process import Process, current
from llmos.kernel.scheduler import Scheduler
from llmos.kernel.turns import USD_PER_S

TURN_S = (0.02, 0.08)
TURN_USD = (0.0, 0.001)
PRIORITIES = 12
"""0 to 11: the rest would take hours to come to enough turns to be compared."""


@dataclass(kw_only=True)
class Had:
    """What one process had: turns, seconds in a slot, dollars; its waits, and what a turn cost it before each."""

    priority: int
    turns: int = 0
    cost_usd: float = 0.0
    dearest_usd: float = 0.0
    waits_s: list[float] = field(default_factory=list)
    before_usd: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of it; shares are relative errors, times in seconds."""

    processes: int
    slots: int
    seconds: float
    turns: int
    worst_share: float
    median_share: float
    worst_share_of_a_priority: float
    longest_wait_s: float
    longest_wait_of_its_bound: float
    waits_over_their_bound: int
    overhead_ms_per_turn: float
    spent_usd: float
    budget_spent_usd: float


async def turns_of(had: Had, until: float, rng: random.Random) -> None:
    """A scripted model: it thinks, is billed, and ends its turn, until it is late."""
    process = current()
    assert process is not None
    while time.monotonic() < until:
        thinks_s, usd = rng.uniform(*TURN_S), rng.uniform(*TURN_USD)
        began = time.monotonic()
        await asyncio.sleep(thinks_s)
        process.spend(usd)
        cost_usd = (time.monotonic() - began) * USD_PER_S + usd
        had.turns += 1
        had.cost_usd += cost_usd
        had.dearest_usd = max(had.dearest_usd, cost_usd)
        had.before_usd.append(cost_usd)
        began = time.monotonic()
        await process.turn()
        had.waits_s.append(time.monotonic() - began)


async def measure(processes: int, slots: int, seconds: float, seed: int) -> Measured:
    """Let processes of all priorities take turns for so many seconds."""
    rng = random.Random(seed)
    every = [Had(priority=number % PRIORITIES) for number in range(processes)]
    scheduler = Scheduler(slots)
    begun: list[Process] = []
    until = time.monotonic() + seconds
    cpu_s = time.process_time()
    async with asyncio.TaskGroup() as group:
        for had in every:
            own = random.Random(rng.random())
            group.create_task(
                scheduler.submit(
                    lambda had=had, own=own: turns_of(had, until, own),  # type: ignore[misc]
                    priority=had.priority,
                    begun=begun.append,
                    budget_usd=1_000.0,
                )
            )
    cpu_s = time.process_time() - cpu_s
    turns = sum(had.turns for had in every)
    return _measured(every, begun, slots, seconds, 1e3 * (cpu_s - await bare(turns, slots)) / turns)


async def bare(turns: int, slots: int) -> float:
    """Processor seconds of the same number of turns without a scheduler."""

    async def some(number: int) -> None:
        for _ in range(number):
            began = time.monotonic()
            await asyncio.sleep(sum(TURN_S) / 2)
            time.monotonic() - began

    cpu_s = time.process_time()
    await asyncio.gather(*(some(turns // slots) for _ in range(slots)))
    return time.process_time() - cpu_s


def _measured(
    every: Sequence[Had], begun: Sequence[Process], slots: int, seconds: float, overhead_ms: float
) -> Measured:
    weights = [1.25**-had.priority for had in every]
    spent, weight = sum(had.cost_usd for had in every), sum(weights)
    errors = [abs(had.cost_usd / spent / (own / weight) - 1) for had, own in zip(every, weights, strict=True)]
    by_priority = []
    for priority in range(PRIORITIES):
        pairs = [(had.cost_usd, own) for had, own in zip(every, weights, strict=True) if had.priority == priority]
        by_priority.append(abs(sum(c for c, _ in pairs) / spent / (sum(w for _, w in pairs) / weight) - 1))
    shares = [
        wait_s / bound(every, weights, number, before, slots)
        for number, had in enumerate(every)
        for wait_s, before in zip(had.waits_s, had.before_usd, strict=True)
    ]
    return Measured(
        processes=len(every),
        slots=slots,
        seconds=seconds,
        turns=sum(had.turns for had in every),
        worst_share=max(errors),
        median_share=median(errors),
        worst_share_of_a_priority=max(by_priority),
        longest_wait_s=max(max(had.waits_s) for had in every),
        longest_wait_of_its_bound=max(shares),
        waits_over_their_bound=sum(share > 1 for share in shares),
        overhead_ms_per_turn=overhead_ms,
        spent_usd=sum(one.spent_usd for one in begun),
        budget_spent_usd=sum(one.budget.spent_usd for one in begun),
    )


def bound(every: Sequence[Had], weights: Sequence[float], number: int, before_usd: float, slots: int) -> float:
    """Seconds that a wait may take: until all others have had, by weight, what this one had, and one turn each beyond.

    Source: Demers, Keshav & Shenker 1989, of packets; here a turn is one.
    """
    own = weights[number]
    ahead = sum(
        weight / own * before_usd + other.dearest_usd
        for place, (other, weight) in enumerate(zip(every, weights, strict=True))
        if place != number
    )
    return ahead / (slots * USD_PER_S)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduling", description=__doc__)
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    measured = asyncio.run(measure(given.processes, given.slots, given.seconds, given.seed))
    conditions = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "turn_s": TURN_S,
        "turn_usd": TURN_USD,
        "seed": given.seed,
    }
    said = json.dumps({"conditions": conditions, "measured": asdict(measured)}, indent=1)
    if given.json is not None:
        given.json.write_text(f"{said}\n")
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
