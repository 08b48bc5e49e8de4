"""A soak: one process reaches goal after goal, and what it and its home take up is measured on the way.

python -m benchmarks.soak --runs 10000 --json benchmarks/results/soak.json

The engine is the product's, with the shipped traces and a home of its own; no model is asked. Its clock is ours and
moves by `--minutes` with each goal, so that days pass and the daily housekeeping has something to do.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from llmos.boot import LLMOS
from llmos.settings import load_settings
from llmos.testing import FrozenClock, HashEmbedder

SAMPLES = 100
WARM_UP = 0.25
FLAT = 0.02
"""A figure is flat if the fitted line rises by at most this share of its level from the warm-up to the end."""

FILES = 7
KEEP_ALL = "retention: {runs_days: 100000, max_runs: 1000000000, savings_days: 100000}\n"
RETENTION = (
    "retention: {{runs_days: {days}, max_runs: {max_runs}, max_goals: {max_goals}, savings_days: {days}, "
    "audit_days: {days}}}\n"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What there was after so many runs; sizes in bytes, `database` with its write-ahead log."""

    runs: int
    rss: int
    descriptors: int
    threads: int
    tasks: int
    objects: int
    database: int
    home: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """The line fitted to a figure after the warm-up: its level in the middle, its slope for each 1,000 runs."""

    level: float
    per_1000_runs: float
    rise: float
    first: float
    last: float
    is_flat: bool


def fitted(runs: Sequence[int], values: Sequence[float]) -> Line:
    """Least squares; `rise` is what the line gains from the first of these runs to the last."""
    x, y = np.asarray(runs, dtype=float), np.asarray(values, dtype=float)
    slope = float(np.polyfit(x, y, 1)[0]) if len(x) > 1 and x[0] < x[-1] else 0.0
    level, rise = float(y.mean()), slope * float(x[-1] - x[0])
    return Line(
        level=round(level, 2),
        per_1000_runs=round(1000 * slope, 3),
        rise=round(rise, 2),
        first=float(y[0]),
        last=float(y[-1]),
        is_flat=rise <= FLAT * level,
    )


def lines(samples: Sequence[Sample]) -> dict[str, Line]:
    """A line for each figure, without the warm-up."""
    warm = [one for one in samples if one.runs > WARM_UP * samples[-1].runs]
    names = [name for name in asdict(warm[0]) if name != "runs"]
    runs = [one.runs for one in warm]
    return {name: fitted(runs, [float(asdict(one)[name]) for one in warm]) for name in names}


def sampled(runs: int, home: Path) -> Sample:
    """Look at this process and at a home."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = home / "memory"
    return Sample(
        runs=runs,
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        threads=threading.active_count(),
        tasks=len(asyncio.all_tasks()),
        objects=len(gc.get_objects()),
        database=sum(path.stat().st_size for path in memory.glob("llmos.duckdb*")),
        home=sum(path.stat().st_size for path in home.rglob("*") if path.is_file()),
    )


def goal_of(number: int) -> str:
    """One goal computes, the next reads a file; no two of the first kind are alike."""
    return f"Calculate {number} + {number % 97}" if number % 2 else f"Count lines in notes{number // 2 % FILES}.txt"


def expected(number: int) -> str:
    return str(number + number % 97) if number % 2 else str(number // 2 % FILES + 1)


async def soak(
    runs: int, root: Path, *, minutes: float, retention: str, tell: Callable[[Sample], None] = lambda sample: None
) -> list[Sample]:
    """Reach `runs` goals in one process; every answer is compared.

    Raises:
        AssertionError: an answer was wrong, or was not a follower's.
    """
    home, workspace = root / "home", root / "workspace"
    home.mkdir()
    workspace.mkdir()
    (home / "llmos.yaml").write_text(retention, encoding="utf-8")
    for number in range(FILES):
        (workspace / f"notes{number}.txt").write_text("a line\n" * (number + 1), encoding="utf-8")
    clock = FrozenClock(datetime(2026, 11, 28, 8, tzinfo=UTC))
    settings = load_settings(home=home, workspace=workspace, environ={"PATH": os.environ["PATH"]})
    samples: list[Sample] = []
    every = max(1, runs // SAMPLES)
    async with LLMOS(settings=settings, embedder=HashEmbedder(), clock=clock) as system:
        for number in range(1, runs + 1):
            clock.advance(seconds=60 * minutes)
            result = await system.execute(goal_of(number))
            assert (result.mode, result.answer) == ("follower", expected(number)), (goal_of(number), result)
            if number % every == 0:
                samples.append(sampled(number, home))
                tell(samples[-1])
        verified = await system.audit_log.verify()
        assert verified.is_whole, verified.findings
    return samples


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=10.0, help="what the clock moves with each goal")
    parser.add_argument("--days", type=float, default=7.0, help="how long runs, savings and audit rows are kept")
    parser.add_argument("--max-runs", type=int, default=1_000)
    parser.add_argument("--max-goals", type=int, default=2_000, help="goals of removed runs that stay known")
    parser.add_argument("--keep-all", action="store_true", help="keep everything, to see what that takes")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    bounds = {"days": args.days, "max_runs": args.max_runs, "max_goals": args.max_goals}
    retention = KEEP_ALL if args.keep_all else RETENTION.format(**bounds)
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="llmos-soak-") as folder:
        work = soak(args.runs, Path(folder), minutes=args.minutes, retention=retention, tell=_told)
        samples = asyncio.run(work)
    found = lines(samples)
    for name, line in found.items():
        sys.stdout.write(
            f"{name:12} {'flat' if line.is_flat else 'GROWS'}  level {line.level:,.0f}, "
            f"{line.per_1000_runs:+,.1f} for 1,000 runs, {line.first:,.0f} … {line.last:,.0f}\n"
        )
    if args.json is not None:
        data = {
            "runs": args.runs,
            "minutes_of_the_clock": args.minutes,
            "retention": retention.strip(),
            "wall_s": round((datetime.now(UTC) - began) / timedelta(seconds=1), 1),
            "python": platform.python_version(),
            "warm_up_share": WARM_UP,
            "flat_share": FLAT,
            "lines": {name: asdict(line) for name, line in found.items()},
            "samples": [asdict(sample) for sample in samples],
        }
        args.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0 if all(line.is_flat for line in found.values()) else 1


def _told(sample: Sample) -> None:
    sys.stderr.write(
        f"{sample.runs:>7} runs  {sample.rss / 1e6:6.1f} MB  {sample.descriptors} descriptors  "
        f"{sample.threads} threads  {sample.tasks} tasks  {sample.objects:,} objects  "
        f"database {sample.database / 1e6:.1f} MB  home {sample.home / 1e6:.1f} MB\n"
    )


if __name__ == "__main__":
    sys.exit(main())
