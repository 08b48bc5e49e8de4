"""Whole processes, as the shell sees them: one after the other in every round, so that noise meets all alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.place import EXACT, SEMANTIC, SKELETON, Place, place

Argv = Callable[[int], list[str]]


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is timed: its command line, by round, and whether a resident kernel may do it."""

    argv: Argv
    resident: bool = False


def measured(rounds: int) -> dict[str, Any]:
    """Median milliseconds of each command, its quartiles, and its ratio to the two baselines."""
    with place() as alone, place() as served:
        commands = dict(_commands(alone, served))
        for where in (alone, served):  # the files are read once, the model's hash is known, byte code is written
            options = ["--no-daemon"] if where is alone else []
            for goal in (EXACT, SKELETON.format(number=1), SEMANTIC.format(number=1)):
                where.run(goal, *options)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds):
            for name, command in commands.items():
                where = served if command.resident else alone
                times[name].append(_timed(command.argv(number), where))
        memory = int(json.loads(served.run("status", "--json"))["memory_bytes"])
    found = {name: _described(values) for name, values in times.items()}
    for values in found.values():
        values["x_bare_python"] = round(values["ms"] / found["bare python"]["ms"], 2)
        values["x_duckdb_click"] = round(values["ms"] / found["import duckdb, click"]["ms"], 2)
    return {"rounds": rounds, "kernel_bytes": memory, "commands": found}


def _commands(alone: Place, served: Place) -> Iterator[tuple[str, Command]]:
    yield "bare python", Command(argv=lambda _: [sys.executable, "-c", "pass"])
    yield "import duckdb, click", Command(argv=lambda _: [sys.executable, "-c", "import duckdb, click"])
    yield "--help", Command(argv=lambda _: alone.command("--help"))
    for name, goal in (("exact", EXACT), ("skeleton", SKELETON), ("semantic", SEMANTIC)):
        yield f"{name} hit, resident kernel", Command(argv=_asking(served, goal, 1_000), resident=True)
    for name, goal in (("exact", EXACT), ("skeleton", SKELETON), ("semantic", SEMANTIC)):
        yield f"{name} hit, --no-daemon", Command(argv=_asking(alone, goal, 5_000, "--no-daemon"))


def _asking(where: Place, goal: str, first: int, *options: str) -> Argv:
    """The goal with another number in each round, if it has one: it was never asked before."""
    return lambda number: where.command(goal.format(number=first + number), *options)


def _timed(argv: list[str], where: Place) -> float:
    """Milliseconds of a process that must end well, its output thrown away."""
    with open(os.devnull, "r+b") as nowhere:  # noqa: PTH123 (for both directions)
        started = time.perf_counter()
        code = subprocess.Popen(
            argv, cwd=where.workspace, env=where.env, stdin=nowhere, stdout=nowhere, stderr=nowhere
        ).wait()
        took = time.perf_counter() - started
    if code:
        raise RuntimeError(f"{argv} ended with {code}")
    return took * 1_000


def _described(values: list[float]) -> dict[str, float]:
    quarter, _, three = statistics.quantiles(values, n=4)
    return {"ms": round(statistics.median(values), 2), "q1": round(quarter, 2), "q3": round(three, 2)}
