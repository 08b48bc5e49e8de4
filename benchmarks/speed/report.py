"""`python -m benchmarks.speed.report`: the tables and the flame graph of docs/performance.md, from the results."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
PAGE = ROOT / "docs" / "performance.md"
FLAME = ROOT / "docs" / "images" / "flame.svg"
BEGIN, END = "<!-- made by python -m benchmarks.speed.report -->\n", "<!-- end -->"

TARGETS: Mapping[str, tuple[str, float]] = {
    "--help": ("x_bare_python", 6.0),
    "exact hit, resident kernel": ("x_bare_python", 1.6),
    "semantic hit, resident kernel": ("x_bare_python", 2.5),
    "exact hit, --no-daemon": ("x_duckdb_click", 1.6),
    "skeleton hit, --no-daemon": ("x_duckdb_click", 1.6),
    "semantic hit, --no-daemon": ("x_duckdb_click", 3.0),
}
"""What was set as a target: the ratio to which baseline, and how much it may be."""


def main() -> int:
    """Write the page and the picture."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{shown(results)}\n\n{END}{tail}", encoding="utf-8")
    FLAME.write_text(flame(results["profile"]["tree"]), encoding="utf-8")
    return 0


def shown(results: Mapping[str, Any]) -> str:
    """The part of the page that is made from the results."""
    return "\n\n".join("\n".join(part) for part in _parts(results))


def _parts(results: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, show in (
        ("processes", _processes),
        ("warm", _warm),
        ("throughput", _throughput),
        ("peers", _peers),
        ("profile", _profile),
    ):
        if name in results:
            yield [*show(results[name]), "", _conditions(results[name]["conditions"])]


def _conditions(made: Mapping[str, Any]) -> str:
    releases = "".join(f", {name} {made[name]}" for name in ("gptcache", "muscle-mem") if name in made)
    return (
        f"*{made['date']}: {made['cores']} cores of {made['processor']}, load {made['load_before']} before, Python "
        f"{made['python']}, DuckDB {made['duckdb']}, numpy {made['numpy']}{releases}; {made['took_s']:g} s.*"
    )


def _head(*columns: str) -> tuple[str, str]:
    """The first two lines of a table."""
    return f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"


def _processes(part: Mapping[str, Any]) -> Iterator[str]:
    yield "### Whole processes"
    yield ""
    kernel = f"{part['kernel_bytes'] / 1e6:.0f} MB"
    yield f"Medians of {part['rounds']} interleaved rounds; the resident kernel takes {kernel}."
    yield ""
    yield from _head("process", "ms", "middle half", "x bare Python", "x `import duckdb, click`", "target")
    for name, row in part["commands"].items():
        target = "-"
        if name in TARGETS:
            baseline, most = TARGETS[name]
            target = f"{'reached' if row[baseline] <= most else 'missed'} (at most {most:g})"
        spread = f"{row['q1']:.0f} to {row['q3']:.0f}"
        yield f"| {name} | {row['ms']:.1f} | {spread} | {row['x_bare_python']} | {row['x_duckdb_click']} | {target} |"


def _warm(part: Mapping[str, Any]) -> Iterator[str]:
    yield "### One process that stays"
    yield ""
    yield f"Medians of {part['rounds']} interleaved rounds, in the process itself."
    yield ""
    yield from _head("what", "microseconds")
    for name, took in part["us"].items():
        yield f"| {name} | {took:,.0f} |"
    yield f"| one `fsync` of a small file, the floor of an effect | {part['fsync_us']:,.0f} |"
    yield ""
    yield (
        f"A semantic decision takes {part['semantic_x_forward_pass']} times the encoder's own pass (target 1.3); a "
        f"replay costs {part['overhead_per_step_us']:,.0f} microseconds a step more than a plain loop (target 100)."
    )


def _throughput(part: Mapping[str, Any]) -> Iterator[str]:
    yield "### Many goals"
    yield ""
    yield (
        f"{part['goals']} goals, `batch --jobs {part['jobs']}` beside {part['jobs']} processes that call the same tool "
        f"in a bare loop; medians of {part['rounds']} rounds."
    )
    yield ""
    yield from _head("goals", "bare loop, calls/s", "batch, goals/s", "share")
    for name, row in part["kinds"].items():
        yield f"| {name} | {row['bare_per_s']:,.0f} | {row['batch_per_s']:,.0f} | {row['share']:.1%} |"


def _peers(part: Mapping[str, Any]) -> Iterator[str]:
    yield "### Beside others"
    yield ""
    yield (
        f"The same {part['goals']:,} goals of {', '.join(part['sets'])}, in one order, with the same encoder and "
        "tools; what is not replayed is learned. `missed` was learned although its procedure was known, `new` was not."
    )
    yield ""
    yield from _head("system", "right", "wrong", "missed", "new", "learner paid", "ms a hit", "ms a miss", "memory, MB")
    for name, row in part["systems"].items():
        if "error" in row:
            yield f"| {name} | {row['error']} | | | | | | | |"
            continue
        times = " | ".join("-" if row[key] is None else f"{row[key]:.2f}" for key in ("hit_ms", "miss_ms"))
        counts = " | ".join(str(row[key]) for key in ("right", "wrong", "missed", "new", "learned"))
        yield f"| {name} | {counts} | {times} | {row['memory_mb']:.0f} |"


def _profile(part: Mapping[str, Any]) -> Iterator[str]:
    yield "### Where the time of a hit goes"
    yield ""
    yield (
        f"{part['goals']} warm hits by skeleton, {part['ms_a_goal']:.2f} ms each without the profiler; the share of "
        "the time that is spent inside the functions of each part, as the profiler sees it."
    )
    yield ""
    yield from _head("part", "share")
    for name, share in part["parts"].items():
        if share >= 0.005:
            yield f"| {name} | {share:.1%} |"


# --------------------------------------------------------------------------------------------------- the picture

WIDTH, ROW, LEAST = 1_180, 18, 3.0


def flame(tree: Mapping[str, Any]) -> str:
    """A flame graph, the caller above what it calls; as wide as the time spent there."""
    boxes = list(_boxes(tree, 10.0, 0, WIDTH))
    height = (max(depth for _, _, depth, _ in boxes) + 1) * ROW + 20
    body = "\n".join(_box(node, x, depth, width) for node, x, depth, width in boxes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 20} {height}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _boxes(node: Mapping[str, Any], x: float, depth: int, width: float) -> Iterator[tuple[Any, float, int, float]]:
    yield node, x, depth, width
    for inner in node["calls"]:
        inner_width = width * inner["share"] / node["share"] if node["share"] else 0.0
        if inner_width >= LEAST:
            yield from _boxes(inner, x, depth + 1, inner_width)
        x += inner_width


def _box(node: Mapping[str, Any], x: float, depth: int, width: float) -> str:
    ours = node["where"].startswith("llmos/")
    said = f"{node['name']} ({node['where']}) {node['share']:.1%}"
    room = int((width - 6) / 6.2)
    label = node["name"] if len(node["name"]) <= room else node["name"][: max(0, room - 1)] + "…"
    text = f'<text x="{x + 3:.1f}" y="{depth * ROW + 23}">{escape(label)}</text>' if room > 3 else ""
    return (
        f'<g><title>{escape(said)}</title><rect x="{x:.1f}" y="{depth * ROW + 10}" width="{max(0.5, width - 0.5):.1f}" '
        f'height="{ROW - 1}" fill="{"#f4b183" if ours else "#d0d0d0"}"/>{text}</g>'
    )


if __name__ == "__main__":
    sys.exit(main())
