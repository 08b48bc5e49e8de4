"""`python -m benchmarks.speed`: what a hit costs in time, beside its floor; written as JSON with conditions."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.speed import flame, peers, processes, throughput, warm

log = logging.getLogger(__name__)

PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "processes": lambda given: processes.measured(given.rounds),
    "warm": lambda given: warm.measured(given.rounds * 3),
    "throughput": lambda given: throughput.measured(given.goals, 3),
    "profile": lambda given: flame.measured(200),
    "peers": lambda given: peers.measured(),
}


def main() -> int:
    """Measure the parts that were asked for, and lay them over what the file has of the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the results; parts not measured now stay")
    parser.add_argument("--only", help="only these parts, with commas between: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=15, help="how often each process is started (15)")
    parser.add_argument("--goals", type=int, default=400, help="goals of a batch (400)")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; choose of {', '.join(PARTS)}")
    found: dict[str, Any] = {}
    if given.json is not None and given.json.exists():
        found = json.loads(given.json.read_text(encoding="utf-8"))
    for name in chosen:
        started = time.monotonic()
        found[name] = {"conditions": conditions(), **PARTS[name](given)}
        found[name]["conditions"]["took_s"] = round(time.monotonic() - started, 1)
        sys.stderr.write(f"{name}: {found[name]['conditions']['took_s']} s\n")
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.json is None:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


def conditions() -> dict[str, Any]:
    """Where and when it was measured, and how busy the machine was then."""
    import duckdb
    import numpy

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "numpy": numpy.__version__,
        **peers.versions(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


if __name__ == "__main__":
    sys.exit(main())
