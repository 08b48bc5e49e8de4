"""Many goals that only read: `batch --jobs`, beside a bare loop that calls the same tools, on as many cores."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.place import Place, place

ROWS = 2_000
FILES = 20


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of goal, and the call that a bare loop makes for it; both by number."""

    goal: Callable[[int], str]
    tool: str
    arguments: Callable[[int], dict[str, Any]]


KINDS = {
    "calculate": Kind(
        goal=lambda number: f"Calculate {number} + 3",
        tool="calculate",
        arguments=lambda number: {"expression": f"{number} + 3"},
    ),
    "count lines of a file": Kind(
        goal=lambda number: f"Count lines in part{number % FILES}.csv",
        tool="read",
        arguments=lambda number: {"file_path": f"part{number % FILES}.csv"},
    ),
    "analyze a table": Kind(
        goal=lambda number: f"Analyze data in part{number % FILES}.csv",
        tool="describe_data",
        arguments=lambda number: {"path": f"part{number % FILES}.csv"},
    ),
}


def measured(count: int, rounds: int) -> dict[str, Any]:
    """Goals a second of both, and their ratio, for each kind; as medians over rounds."""
    cores = os.cpu_count() or 1
    found: dict[str, Any] = {}
    with place() as where:
        for number in range(FILES):
            _table(where.workspace / f"part{number}.csv")
        where.run("up")
        for name, kind in KINDS.items():
            bare, batch = [], []
            for turn in range(rounds):
                bare.append(count / _bare(where, kind, count, cores))
                batch.append(_batch(where, kind, count, cores, turn))
            rates = {"bare_per_s": statistics.median(bare), "batch_per_s": statistics.median(batch)}
            found[name] = {key: round(value, 1) for key, value in rates.items()}
            found[name]["share"] = round(rates["batch_per_s"] / rates["bare_per_s"], 3)
    return {"goals": count, "rounds": rounds, "jobs": cores, "kinds": found}


def _table(path: Path) -> None:
    lines = [f"{number},{number * 7 % 100},{'abc'[number % 3]}" for number in range(ROWS)]
    path.write_text("\n".join(["id,amount,region", *lines]) + "\n")


def _batch(where: Place, kind: Kind, count: int, jobs: int, turn: int) -> float:
    goals = where.workspace / f"goals-{turn}.txt"
    goals.write_text("".join(f"{kind.goal(number)}\n" for number in range(count)))
    out = goals.with_suffix(f".{time.monotonic_ns()}.jsonl")
    told = json.loads(where.run("batch", goals.name, "--jobs", str(jobs), "--out", out.name, "--json"))
    if told["modes"] != {"follower": count}:
        raise RuntimeError(f"not everything was followed: {told}")
    return float(told["goals_per_s"])


def _bare(where: Place, kind: Kind, count: int, cores: int) -> float:
    """Seconds that as many processes as there are cores take for all calls, without their start."""
    context = multiprocessing.get_context("spawn")
    start, ready = context.Event(), context.Semaphore(0)
    name = next(name for name, known in KINDS.items() if known is kind)
    processes = [
        context.Process(target=_loop, args=(str(where.folder), name, core, count, cores, ready, start))
        for core in range(cores)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    started = time.perf_counter()
    start.set()
    for _ in processes:
        ready.acquire()
    took = time.perf_counter() - started
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError("a bare loop broke")
    return took


def _loop(folder: str, name: str, core: int, count: int, cores: int, ready: Any, start: Any) -> None:
    asyncio.run(_calls(Place(folder=Path(folder)), KINDS[name], list(range(core, count, cores)), ready, start))


async def _calls(where: Place, kind: Kind, numbers: list[int], ready: Any, start: Any) -> None:
    from llmos.kernel.bus import EventBus
    from llmos.plugins.context import ToolContext
    from llmos.plugins.loader import PluginLoader
    from llmos.plugins.registry import ToolRegistry

    registry = ToolRegistry()
    PluginLoader(registry, EventBus(), ()).load()
    tool, ctx = registry.get(kind.tool), ToolContext(workspace=where.workspace)
    await tool.function(ctx, **kind.arguments(0))
    ready.release()
    await asyncio.to_thread(start.wait)
    for number in numbers:
        await tool.function(ctx, **kind.arguments(number))
    ready.release()


def kinds() -> Iterator[str]:
    """What is measured."""
    yield from KINDS
