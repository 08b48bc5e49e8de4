"""The command: `python -m benchmarks.reliability [--kills N] [--seed N] [--only NAME,…] [--json OUT]`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.reliability.damage import damage_databases, damage_vectors
from benchmarks.reliability.kills import kill_workers
from benchmarks.reliability.learning import kill_learners
from benchmarks.reliability.machine import fill_disk, forbid_writing, jump_clocks
from benchmarks.reliability.others import hang_servers, kill_clients
from benchmarks.reliability.outcome import Outcome
from benchmarks.reliability.table import conditions, table

Run = Callable[[Path, int, int], Outcome]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`share` of the kills, or a number of `trials`."""

    name: str
    run: Run
    share: float = 0.0
    trials: int = 0

    def count(self, kills: int) -> int:
        return max(1, round(self.share * kills)) if self.share else self.trials


def _killing(scenario: str) -> Run:
    return lambda folder, kills, seed: kill_workers(folder, scenario, kills, seed)


SCENARIOS = (
    Scenario(name="learning", run=kill_learners, share=0.05),
    Scenario(name="following", run=_killing("following"), share=0.30),
    Scenario(name="storing", run=_killing("storing"), share=0.25),
    Scenario(name="undoing", run=_killing("undoing"), share=0.25),
    Scenario(name="paying", run=_killing("paying"), share=0.15),
    Scenario(name="damage", run=damage_databases, trials=36),
    Scenario(name="disk", run=fill_disk, trials=10),
    Scenario(name="read-only", run=forbid_writing, trials=9),
    Scenario(name="clock", run=jump_clocks, trials=60),
    Scenario(name="vectors", run=damage_vectors, trials=30),
    Scenario(name="client", run=kill_clients, trials=15),
    Scenario(name="mcp", run=hang_servers, trials=4),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the scenarios, show the table, and end with 1 if anything was not as it must be."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many processes are killed (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, help="what the moments and places are drawn from")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(names)}")
    parser.add_argument("--lanes", type=int, default=2, help="how many scenarios run at the same time")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="OUT",
        help="write the results there; of a file that is there the scenarios that were run are replaced",
    )
    given = parser.parse_args(argv)
    wanted = given.only.split(",") if given.only else names
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"there is no scenario {', '.join(unknown)}; choose of {', '.join(names)}")
    began = time.monotonic()
    outcomes = run(
        [scenario for scenario in SCENARIOS if scenario.name in wanted], given.kills, given.seed, given.lanes
    )
    scenarios = [outcome.to_data() for outcome in outcomes]
    results = {"conditions": conditions(given.seed, time.monotonic() - began), "scenarios": scenarios}
    if given.json and given.json.exists():
        results = merged(json.loads(given.json.read_text(encoding="utf-8")), results)
    console = Console()
    console.print(table(scenarios), markup=False, highlight=False, soft_wrap=True)
    for outcome in outcomes:
        for violation in outcome.violations:
            console.print(f"{outcome.name}: {violation}", markup=False, highlight=False, soft_wrap=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if any(outcome.violations for outcome in outcomes) else 0


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Results with the scenarios of a later run in place of their earlier ones; the time both took adds up."""
    later = {one["name"]: one for one in new["scenarios"]}
    kept = [later.pop(one["name"], one) for one in old["scenarios"]]
    is_whole = not any(one in old["scenarios"] for one in kept)
    minutes = new["conditions"]["minutes"] + (0 if is_whole else old["conditions"]["minutes"])
    return {"conditions": {**new["conditions"], "minutes": round(minutes, 1)}, "scenarios": [*kept, *later.values()]}


def run(scenarios: Sequence[Scenario], kills: int, seed: int, lanes: int) -> list[Outcome]:
    """The outcomes in the order of the scenarios."""
    with tempfile.TemporaryDirectory(prefix="llmos-reliability-") as folder, ThreadPoolExecutor(lanes) as pool:
        jobs = [partial(_carried_out, one, Path(folder), one.count(kills), seed) for one in scenarios]
        return [done.result() for done in [pool.submit(job) for job in jobs]]


def _carried_out(scenario: Scenario, folder: Path, count: int, seed: int) -> Outcome:
    """A scenario that can't be carried to its end is a violation, and the others are not lost by it."""
    try:
        outcome = scenario.run(folder, count, seed)
    except Exception as error:
        outcome = Outcome(name=scenario.name, violations=[f"{type(error).__name__}: {error}"])
    Console(stderr=True).print(f"{outcome.name}: {outcome.trials} trials, {len(outcome.violations)} violations")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
