"""`python -m benchmarks.matching`: the product against other policies on streams and pairs of goals."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.goals import Data, DataError, load, mostly_new
from benchmarks.induction import InductionReport, InductionTally
from benchmarks.jobs import MADE, SYSTEMS, AnyJob, AnyReport, Job, jobs_of, own_systems, results_of
from benchmarks.pairs import PairReport, PairTally
from benchmarks.scoring import Tally
from benchmarks.shown import induction_table, pair_table, stream_table
from llmos.memory.embeddings import DEFAULT_MODEL

SHIPPED = Path(__file__).with_name("data")


@dataclass(kw_only=True)
class Results:
    """What all jobs gave so far."""

    tallies: dict[str, dict[str, Tally]] = field(default_factory=dict)
    pairs: dict[str, dict[str, PairTally]] = field(default_factory=dict)
    induced: dict[str, InductionTally] = field(default_factory=dict)
    broken: dict[str, dict[str, str]] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def take(self, job: AnyJob, given: AnyReport) -> None:
        """Add what one job gave."""
        if isinstance(given, InductionReport):
            self.induced = given.tallies
            self.errors += [{"set": job.name, **line} for line in given.errors]
            return
        if isinstance(given, PairReport):
            for group, tally in given.tallies.items():
                self.pairs.setdefault(job.name, {}).setdefault(group, PairTally()).add(tally)
            self.errors += [{"set": job.name, **line} for line in given.errors]
            return
        if isinstance(given, str):
            self.parts[job.name] = given
            return
        reports = given
        for name, report in reports.items():
            if isinstance(report, str):
                self.broken.setdefault(job.name, {})[name] = report
                continue
            self.tallies.setdefault(job.name, {}).setdefault(name, Tally()).add(report.tally)
            seed = job.seed if isinstance(job, Job) else 0
            self.errors += [{"set": job.name, "seed": seed, "system": name, **line} for line in report.errors]

    def summary(self) -> dict[str, Any]:
        """The `sets`, `pairs` and `perturbed` parts of the JSON; what broke stands in its place."""
        sets: dict[str, Any] = {}
        pairs: dict[str, Any] = {}
        for name in sorted({*self.tallies, *self.broken}):
            sets[name] = {system: tally.summary() for system, tally in sorted(self.tallies.get(name, {}).items())}
            sets[name] |= {system: {"error": message} for system, message in self.broken.get(name, {}).items()}
        for name, groups in sorted(self.pairs.items()):
            pairs[name] = {group: tally.summary() for group, tally in sorted(groups.items())}
            pairs[name]["all"] = _sum(groups.values()).summary()
        perturbed = pairs.pop("perturbed", {})
        induction: dict[str, Any] = {source: tally.summary() for source, tally in self.induced.items()}
        if self.induced:
            total = InductionTally()
            for tally in self.induced.values():
                total.add(tally)
            induction["all"] = total.summary()
        found = {"sets": sets, "pairs": pairs, "perturbed": perturbed, "induction": induction}
        return found | ({"broken": {name: {"error": why} for name, why in self.parts.items()}} if self.parts else {})


def _sum(tallies: Iterable[PairTally]) -> PairTally:
    total = PairTally()
    for tally in tallies:
        total.add(tally)
    return total


def measured(jobs: Sequence[AnyJob], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run all jobs; writes the errors file when they are through."""
    results = Results()
    for number, (job, given) in enumerate(results_of(jobs, options.workers), 1):
        results.take(job, given)
        seed = f", seed {job.seed}" if isinstance(job, Job) else ""
        console.print(f"{number}/{len(jobs)} {job.name}{seed}", style="dim")
    for name, why in results.parts.items():
        console.print(f"{name}: {why}", style="red")
    if options.errors:
        lines = (json.dumps(line, ensure_ascii=False, default=str) for line in results.errors)
        options.errors.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return results.summary()


def _named(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _jobs(data: Data, options: argparse.Namespace) -> list[AnyJob]:
    return jobs_of(
        data,
        sets=_named(options.sets),
        systems=_named(options.systems),
        seeds=options.seeds,
        limit=options.limit or None,
    )


def conditions(options: argparse.Namespace, data: Data) -> dict[str, Any]:
    """Under what the numbers were measured."""
    known = {
        name: [f"{own.name}{': with values' if own.vocabulary else ''}" for own in own_systems(name)]
        for name in data.streams
    }
    return {
        "encoder": DEFAULT_MODEL,
        "data": "benchmarks/data" if options.data == SHIPPED else options.data.name,
        "seeds": options.seeds,
        "limit": options.limit or None,
        "goals": {name: len(goals) for name, goals in data.streams.items()},
        "problems": dict(data.problems),
        "own_systems": known,
        "values": "texts that the same parameter of the tool had in earlier goals of the stream, listed by the tool",
        "unlisted": {
            name: sorted(mostly_new(goals)) for name, goals in data.streams.items() if own_systems(name)[0].vocabulary
        },
        "tools": "one for a family of tasks of one call, effect read; else one for each call, effect write",
        "hit_pct": "right replays among goals whose task and proc values came before",
        "wrong_pct": "wrong replays (task, proc value or argument) among all goals",
        "wrong_ci95": "Wilson interval; the seeds are orders of the same goals, so each goal counts once",
        "latency_ms": "one decision, the encoder's time included; two processes at once",
        "confirm": "one question for each task, answered by the labels; further ones are not asked",
    }


def show(results: dict[str, Any], console: Console) -> None:
    """Print what was measured as tables."""
    wide = console if console.is_terminal else Console(width=160)
    pairs = results["pairs"] | ({"perturbed": results["perturbed"]} if results["perturbed"] else {})
    for part, table in ((results["sets"], stream_table), (pairs, pair_table), (results["induction"], induction_table)):
        if part:
            wide.print(table(part))


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.matching", description=__doc__)
    options.add_argument("--data", type=Path, default=SHIPPED, help="a folder of .jsonl or .jsonl.gz files")
    options.add_argument("--json", type=Path, help="where to write the results")
    options.add_argument("--errors", type=Path, help="where to write wrong replays and missed repeats, one a line")
    options.add_argument("--sets", default="", help="only these, with commas between")
    options.add_argument("--systems", default="", help="only these, with commas between")
    options.add_argument("--seeds", type=int, default=3, help="how many orders of the goals (3)")
    options.add_argument("--limit", type=int, default=400, help="at most so many goals of a stream (400; 0: all)")
    options.add_argument("--workers", type=int, default=2, help="processes (2)")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show and write the results."""
    options, console = parser().parse_args(arguments), Console()
    started = time.perf_counter()
    try:
        data = load(options.data)
    except DataError as error:
        console.print(str(error), style="red")
        return 2
    strange = [name for name in _named(options.sets) if name not in {*data.streams, *data.pairs, *MADE}]
    strange += [name for name in _named(options.systems) if name not in SYSTEMS]
    if strange:
        console.print(
            f"there is no set or system {strange[0]!r}; sets: {', '.join([*data.streams, *data.pairs, *MADE])};"
            f" systems: {', '.join(SYSTEMS)}",
            style="red",
        )
        return 2
    for problem in data.problems.values():
        console.print(problem, style="red")
    results = {"conditions": conditions(options, data), **measured(_jobs(data, options), options, console)}
    results["conditions"]["took_s"] = round(time.perf_counter() - started, 1)
    show(results, console)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if data.problems or '"error"' in json.dumps(results) else 0


if __name__ == "__main__":
    sys.exit(main())
