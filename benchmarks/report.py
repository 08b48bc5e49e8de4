"""`python -m benchmarks.report`: the tables of docs/matching.md and its plot, made from the committed results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.plots import curve, frontier

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "matching.json"
FITTED = ROOT / "benchmarks" / "results" / "equivalence.json"
PAGE = ROOT / "docs" / "matching.md"
PLOT = ROOT / "docs" / "images" / "matching.svg"
CURVE = ROOT / "docs" / "images" / "equivalence.svg"
BEGIN, END = "<!-- made by python -m benchmarks.report -->\n", "<!-- end -->"
_COMPARED = ("ours", "cosine_0.80", "cosine_0.90", "cosine_0.94", "gptcache", "vcache", "upstream", "muscle_mem")
_VARIANTS = ("ours", "ours_open", "ours+values", "ours+confirm", "ours@0", "ours@0.05", "ours@0.2")


def tables(results: Mapping[str, Any], fitted: Mapping[str, Any] | None = None) -> str:
    """All tables of the page, as Markdown; `fitted` is what `benchmarks.equivalence` found."""
    parts = [_conditions(results["conditions"])]
    if results.get("sets"):
        parts += [_compared(results["sets"]), _variants(results["sets"], "The product in its variants")]
    if results.get("whole"):
        parts.append(_variants(results["whole"], "All goals of a set, in one order"))
    if results.get("pairs"):
        parts.append(_pairs(results["pairs"], "Pairs whose labels are the sources'"))
    if results.get("perturbed"):
        parts.append(_perturbed(results["perturbed"]))
    if results.get("induction"):
        parts.append(_induction(results["induction"]))
    if fitted is not None:
        parts.append(_calibration(fitted))
    return "\n".join(parts)


def _conditions(conditions: Mapping[str, Any]) -> str:
    at_most = f", at most {conditions['limit']} goals of a set" if conditions["limit"] else ""
    seeds = "1 seed" if conditions["seeds"] == 1 else f"{conditions['seeds']} seeds"
    return f"{seeds}{at_most}, encoder {conditions['encoder']}, no model call.\n"


def _compared(sets: Mapping[str, Any]) -> str:
    rows = [
        [name, *(_cell(systems.get(system)) for system in _COMPARED)]
        for name, systems in sets.items()
        if "ours" in systems
    ]
    return "Hit % / wrong % of each system:\n\n" + _markdown(["set", *_COMPARED], rows)


def _variants(sets: Mapping[str, Any], title: str) -> str:
    rows = []
    for name, systems in sets.items():
        for system in _VARIANTS:
            row = systems.get(system)
            if row is None or "error" in row:
                continue
            low, high = row["wrong_ci95"]
            often = ", ".join(f"{rule} {count}" for rule, count in list(row["refusals"].items())[:4])
            cells = [
                name,
                f"`{system}`",
                f"{row['hit_pct']:.1f}",
                f"{row['wrong_pct']:.2f}",
                f"{low:.2f} to {high:.2f}",
            ]
            took = f"{row['latency_ms']['p50']:.0f} / {row['latency_ms']['p95']:.0f}"
            rows.append([*cells, row["goals"], row["repeats"], row["questions"], took, often])
    head = ["set", "system", "hit %", "wrong %", "95 %", "goals", "repeats", "questions", "ms, p50 / p95"]
    head.append("repeats missed by")
    return f"{title}:\n\n" + _markdown(head, rows)


def _cell(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None or "error" in row else f"{row['hit_pct']:.1f} / {row['wrong_pct']:.1f}"


def _pairs(pairs: Mapping[str, Any], title: str) -> str:
    rows = []
    for groups in pairs.values():
        for group, row in groups.items():
            wrongly, rightly = row["cosine_accepts_different_pct"]["0.90"], row["cosine_accepts_same_pct"]["0.90"]
            cells = [group, row["different"], row["accepted_different"], f"{wrongly:.0f}", row["same"]]
            rows.append([*cells, f"{row['accepted_same_pct']:.1f}", f"{rightly:.0f}", row["wrong_value"]])
    head = ["source or kind", "different", "accepted", "cosine ≥ .90 accepts %", "same", "accepted %"]
    return f"{title}:\n\n" + _markdown([*head, "cosine ≥ .90 accepts %", "with a wrong value"], rows)


def _perturbed(kinds: Mapping[str, Any]) -> str:
    rows = [
        [
            *(kind, row["different"], row["accepted_different"], row["rebound_rightly"]),
            f"{row['cosine_accepts_different_pct']['0.90']:.0f}",
        ]
        for kind, row in kinds.items()
    ]
    head = ["kind", "goals", "accepted", "followed with the values exchanged", "cosine ≥ .90 accepts %"]
    return "Perturbed goals:\n\n" + _markdown(head, rows)


def _induction(induction: Mapping[str, Any]) -> str:
    names = ("runs", "no_program", "exact_programs", "asked", "exact", "refused_rightly", "refused", "wrong")
    rows = [[source, *(row[name] for name in names)] for source, row in induction.items()]
    return "Induced programs:\n\n" + _markdown(["source", *(name.replace("_", " ") for name in names)], rows)


def _calibration(fitted: Mapping[str, Any]) -> str:
    """How often readings of each rank were wrong, and the doubt that ones like them get."""
    rows = [[name, *_counted(one)] for name, one in _classes(fitted)]
    head = ["readings", "how many", "wrong", "wrong %", "at most, 95 %", "doubt %"]
    weights = [
        [name, *(f"{kind['weights'][place]:+.2f}" for kind in fitted["kinds"].values())]
        for place, name in enumerate(fitted["inputs"])
    ]
    return (
        "Readings that are not proven, by their kind (open ones are proven but for a free phrase):\n\n"
        + _markdown(head, rows)
        + "\nWeights of the score; the higher the score, the more doubtful:\n\n"
        + _markdown(["input", *fitted["kinds"]], weights)
    )


def _classes(fitted: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every class of readings with its counts and doubt."""
    yield "open, beside a rival program or parameter", fitted["rival"]
    for kind, fit in fitted["kinds"].items():
        for one in fit["bins"]:
            yield f"{kind}, score up to {one['to_score']:g}", one


def _counted(one: Mapping[str, Any]) -> list[str]:
    share = one["wrong"] / max(1, one["readings"])
    shown = [f"{100 * value:.1f}" for value in (share, one["upper95"], one["doubt"])]
    return [str(one["readings"]), str(one["wrong"]), *shown]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        return f"| {' | '.join(map(str, cells))} |\n"

    return line(head) + line(["---"] * len(head)) + "".join(map(line, rows))


def filled(page: str, made: str) -> str:
    """The page with its made part replaced.

    Raises:
        ValueError: the page has no such part.
    """
    if BEGIN not in page or END not in page:
        raise ValueError(f"the page has no part between {BEGIN.strip()!r} and {END!r}")
    return page[: page.index(BEGIN) + len(BEGIN)] + "\n" + made + "\n" + page[page.index(END) :]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables into the page and draw the plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS, help="results of benchmarks.matching")
    parser.add_argument("--show", action="store_true", help="print the tables instead of writing the page")
    options = parser.parse_args(arguments)
    results = json.loads(options.json.read_text(encoding="utf-8"))
    if options.show:
        Console(width=200).print(tables(results), markup=False, highlight=False)
        return 0
    fitted = json.loads(FITTED.read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), tables(results, fitted)), encoding="utf-8")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(frontier(dict(points(results))), encoding="utf-8")
    told = [one for _, one in _classes(fitted)]
    CURVE.write_text(curve([(one["doubt"], one["wrong"] / max(1, one["readings"]), one["upper95"]) for one in told]))
    return 0


def points(results: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """For each set, the systems with their (wrong %, hit %)."""
    for name, systems in results["sets"].items():
        found = {s: (row["wrong_pct"], row["hit_pct"]) for s, row in systems.items() if "error" not in row}
        if "ours" in found:
            yield name, found


if __name__ == "__main__":
    sys.exit(main())
