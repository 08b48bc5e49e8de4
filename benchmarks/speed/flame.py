"""Where the time of a warm hit goes: the calls of many hits, as a table by part and as a flame graph."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.speed.place import SKELETON
from llmos.boot import LLMOS
from llmos.settings import load_settings

DEPTH = 14
LEAST = 0.004
"""The share of the whole from which a function has a box of its own."""


def measured(count: int) -> dict[str, Any]:
    """The share of each part in warm skeleton hits, and the tree of calls that a flame graph is drawn from."""
    with tempfile.TemporaryDirectory(prefix="llmos-flame-") as folder:
        return asyncio.run(_measured(Path(folder), count))


async def _measured(folder: Path, count: int) -> dict[str, Any]:
    (folder / "work").mkdir()
    settings = load_settings(home=folder / "home", workspace=folder / "work", environ={"LLMOS_HOME": str(folder)})
    async with LLMOS(settings=settings) as system:
        await system.home.warm()
        for number in range(20):
            await system.execute(SKELETON.format(number=number))
        await asyncio.sleep(1)
        started = time.perf_counter()
        for number in range(count):
            await system.execute(SKELETON.format(number=1_000 + number))
        plain_ms = (time.perf_counter() - started) / count * 1_000
        profile = cProfile.Profile()
        profile.enable()
        for number in range(count):
            await system.execute(SKELETON.format(number=10_000 + number))
        profile.disable()
    stats: Any = pstats.Stats(profile)
    return {"goals": count, "ms_a_goal": round(plain_ms, 3), "parts": _parts(stats), "tree": _tree(stats)}


def _parts(stats: Any) -> dict[str, float]:
    """The share of the time inside the functions of each part of the package, and outside of it."""
    own: defaultdict[str, float] = defaultdict(float)
    for (file, _, name), (_, _, inside, _, _) in stats.stats.items():
        own[_part(file, name)] += inside
    whole = sum(own.values())
    shares = {part: round(spent / whole, 4) for part, spent in own.items()}
    return dict(sorted(shares.items(), key=lambda one: -one[1]))


def _part(file: str, name: str) -> str:
    if "/llmos/" in file:
        return "llmos." + file.rpartition("/llmos/")[2].removesuffix(".py").split("/")[0]
    if "poll" in name or "_queue" in name or "acquire" in name:
        return "waiting for threads"
    return "asyncio" if "/asyncio/" in file else "python's library and built-ins"


def _tree(stats: Any) -> dict[str, Any]:
    """Functions under those that call them, with the share of the time spent there; recursion is cut."""
    calls: defaultdict[Any, dict[Any, float]] = defaultdict(dict)
    for function, (_, _, _, _, callers) in stats.stats.items():
        for caller, (_, _, _, together) in callers.items():
            calls[caller][function] = together
    total = {function: cumulated for function, (_, _, _, cumulated, _) in stats.stats.items()}
    root = next(function for function in total if function[2] == "handle" and "dispatcher" in function[0])
    return _node(root, total[root], total[root], calls, total, (root,))


def _node(function: Any, spent: float, whole: float, calls: Any, total: Any, above: tuple[Any, ...]) -> dict[str, Any]:
    scale = spent / total[function] if total[function] else 0.0
    inner = []
    if len(above) < DEPTH:
        for called, together in calls[function].items():
            share = min(together, total[called]) * scale
            if called not in above and share >= LEAST * whole:
                inner.append(_node(called, share, whole, calls, total, (*above, called)))
    inner.sort(key=lambda one: -one["share"])
    file, line, name = function
    where = f"llmos/{file.rpartition('/llmos/')[2]}:{line}" if "/llmos/" in file else Path(file).name
    return {"name": name, "where": where, "share": round(spent / whole, 4), "calls": inner}
