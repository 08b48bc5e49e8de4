"""The table of the results, as `docs/reliability.md` has it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.reliability.machine import can_mount

_KILLS = ("learning", "following", "storing", "undoing", "paying")


def conditions(seed: int, took_s: float) -> dict[str, Any]:
    """Where and how the results were made."""
    import duckdb

    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seed": seed,
        "minutes": round(took_s / 60, 1),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "disk": "tmpfs" if can_mount() else "a limit on the size of files",
    }


def table(scenarios: Sequence[Mapping[str, Any]]) -> str:
    """Each scenario with its trials, what they hit, and what was lost, doubled or not as it must be."""
    lines = ["| scenario | trials | what they hit | violations |", "|---|---|---|---|"]
    lines += [_row(scenario) for scenario in scenarios]
    kills = sum(scenario["trials"] for scenario in scenarios if scenario["name"] in _KILLS)
    wrong = sum(len(scenario["violations"]) for scenario in scenarios)
    if kills:
        lines.append(f"| **all** | {kills:,} kills, {_others(scenarios):,} faults | | {wrong} |")
    return "\n".join(lines) + "\n"


def _others(scenarios: Sequence[Mapping[str, Any]]) -> int:
    return sum(scenario["trials"] for scenario in scenarios if scenario["name"] not in _KILLS)


def _row(scenario: Mapping[str, Any]) -> str:
    if scenario["skipped"]:
        return f"| {scenario['name']} | 0 | skipped: {scenario['skipped']} | – |"
    is_kill = scenario["name"] in _KILLS
    what = f"{scenario['trials']:,} kills" if is_kill else f"{scenario['trials']:,}"
    cut = ", ".join(f"{count:,} {kind}" for kind, count in sorted(scenario["cut"].items()) if count)
    done = ", ".join(f"{count:,} {kind}" for kind, count in sorted(scenario["facts"].items()) if count)
    hit = "; ".join(part for part in (f"cut off: {cut}" if cut else "", f"{'done: ' if is_kill else ''}{done}") if part)
    return f"| {scenario['name']} | {what} | {hit} | {len(scenario['violations'])} |"
