"""One process that stays: decisions beside the encoder's own pass, and a replay beside a plain loop over its tools."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.speed.place import EXACT, SEMANTIC, SKELETON, TRACE, UNITS
from llmos.boot import LLMOS
from llmos.settings import load_settings
from llmos.trace import lex
from llmos.trace.codec import loads_yaml
from llmos.trace.program import Status

STEPS = 50
_IN_A_ROW = 3


def measured(rounds: int) -> dict[str, Any]:
    """Microseconds, as medians over interleaved rounds."""
    with tempfile.TemporaryDirectory(prefix="llmos-warm-") as folder:
        return asyncio.run(_measured(Path(folder), rounds))


async def _measured(folder: Path, rounds: int) -> dict[str, Any]:
    workspace = folder / "work"
    workspace.mkdir()
    (folder / "home" / "plugins").mkdir(parents=True)
    (folder / "home" / "plugins" / "units.py").write_text(UNITS)
    settings = load_settings(home=folder / "home", workspace=workspace, environ={"LLMOS_HOME": str(folder / "home")})
    async with LLMOS(settings=settings) as system:
        for text in (TRACE, _long_trace(), _writing_trace()):
            await system.traces.add(replace(loads_yaml(text, source="benchmark"), status=Status.TRUSTED))
        await system.home.warm()
        encoder = system.home.recall._embedder
        tool = system.registry.get("convert_unit")
        ctx = system.surroundings.context("benchmark")

        async def loop() -> None:
            for number in range(STEPS):
                await tool.function(ctx, amount=str(number), source="km", target="m")

        def encode(number: int) -> None:
            encoder.encode([lex.masked(SEMANTIC.format(number=number))])

        ways: dict[str, Callable[[int], Awaitable[Any]]] = {
            "decision, exact": lambda number: system.deciding.decide(EXACT),
            "decision, skeleton": lambda number: system.deciding.decide(SKELETON.format(number=number)),
            "decision, semantic": lambda number: _fresh(system, SEMANTIC.format(number=number)),
            "encoder's forward pass": lambda number: asyncio.to_thread(encode, number),
            "whole goal, exact": lambda number: system.execute(EXACT),
            "whole goal, skeleton": lambda number: system.execute(SKELETON.format(number=number)),
            f"plain loop over {STEPS} calls": lambda number: loop(),
            f"replay of {STEPS} calls": lambda number: system.execute(f"Convert {number} km step by step"),
            "replay of a write": lambda number: system.execute(f"Put {number} into out/{number}.txt"),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 3):
            for name, way in ways.items():
                await system.home.database.run(lambda connection: None)  # what came before is stored
                for again in range(_IN_A_ROW):
                    started = time.perf_counter()
                    await way(1_000 + number * _IN_A_ROW + again)
                    if number >= 3:
                        times[name].append((time.perf_counter() - started) * 1e6)
        found = {name: round(statistics.median(values), 1) for name, values in times.items()}
    fsync = _fsync_us(folder, rounds)
    per_step = (found[f"replay of {STEPS} calls"] - found[f"plain loop over {STEPS} calls"]) / STEPS
    return {
        "rounds": rounds,
        "us": found,
        "semantic_x_forward_pass": round(found["decision, semantic"] / found["encoder's forward pass"], 2),
        "overhead_per_step_us": round(per_step, 1),
        "fsync_us": fsync,
    }


async def _fresh(system: LLMOS, goal: str) -> None:
    """A decision whose embedding nobody has: the last one is kept."""
    system.home.recall._last = None
    await system.deciding.decide(goal)


def _long_trace() -> str:
    steps = "".join(
        f'\n  - {{id: s{number}, tool: convert_unit, effect: pure, args: {{amount: "${{{{ amount }}}}", source: km, '
        "target: m}}"
        for number in range(STEPS)
    )
    return (
        "format: 1\nid: step-by-step\ngoals: ['Convert {amount} km step by step']\nslots: {amount: number}\n"
        f'steps:{steps}\nanswer: "${{{{ steps.s0.text }}}}"\n'
    )


def _writing_trace() -> str:
    return (
        "format: 1\nid: put-into\ngoals: ['Put {amount} into {path}']\nslots: {amount: number, path: path}\n"
        'steps:\n  - {id: it, tool: write, effect: write, args: {file_path: "${{ path }}", content: "${{ amount }}"}}\n'
        'answer: "done"\n'
    )


def _fsync_us(folder: Path, rounds: int) -> float:
    """What making one small file durable takes here: the floor of every effect."""
    import os

    times = []
    with (folder / "durable").open("wb") as stream:
        for _ in range(rounds):
            stream.write(b"x" * 100)
            stream.flush()
            started = time.perf_counter()
            os.fsync(stream.fileno())
            times.append((time.perf_counter() - started) * 1e6)
    return round(statistics.median(times), 1)
