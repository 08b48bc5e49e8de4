"""The tables of a run, as they stand in docs/scale.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_Figure = Callable[[Mapping[str, Any]], float]

_WAYS = (("exact", "exact"), ("skeleton", "skeleton"), ("words", "words"), ("semantic", "meaning, without the encoder"))


def tables(results: Mapping[str, Any]) -> str:
    """All tables as Markdown."""
    sizes = results["sizes"]
    blocks = [_conditions(results["conditions"]), _table(sizes, _rows(sizes)), _table(sizes, _ratios(sizes))]
    return "\n\n".join(blocks) + "\n"


def _conditions(known: Mapping[str, Any]) -> str:
    load = " / ".join(map(str, known["load"]))
    return (
        f"Measured {known['date']} on {known['cores']} cores ({known['cpu']}, load {load}), Python {known['python']}, "
        f"DuckDB {known['duckdb']}, FAISS {known['faiss-cpu']}; {known['questions']} questions a way."
    )


def _rows(sizes: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["kind of index", *(one["kind"] for one in sizes)]]
    for way, name in _WAYS:
        rows.append([f"{name}, p50 / p95 ms", *(_pair(one[way]) for one in sizes)])
    rows += [
        ["the index alone, p50 / p95 ms", *(_pair(one["index"]) for one in sizes)],
        ["recall@10", *(f"{one['recall_at_10']:.3f}" for one in sizes)],
        ["start: open to first answer by meaning, ms", *(f"{one['start_ms']:.0f}" for one in sizes)],
        ["store a trace, p50 / p95 ms", *(_pair(one["change"]["store"]) for one in sizes)],
        ["by meaning before / after storing, p50 ms", *(_before_and_after(one["change"]) for one in sizes)],
        ["forget a trace, p50 / p95 ms", *(_pair(one["change"]["forget"]) for one in sizes)],
        ["new traces not found / forgotten ones found", *(_wrong(one["change"]) for one in sizes)],
        ["memory, resident / of its own, MB", *(_memory(one["memory_mb"]) for one in sizes)],
        ["disk: database / snapshot, MB", *(_disk(one["disk_mb"]) for one in sizes)],
        ["a first index takes, s", *(f"{one['prepare']['built_s']:.0f}" for one in sizes)],
        ["first answer without an index, ms", *(f"{one['prepare']['first_ms']:.0f}" for one in sizes)],
        ["exact meanwhile, p95 / longest ms", *(_meanwhile(one["prepare"]) for one in sizes)],
        ["exact in a quiet time, p95 / longest ms", *(_longest(one["prepare"]["quiet"]) for one in sizes)],
    ]
    return rows


def _ratios(sizes: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    figures: list[tuple[str, _Figure]] = [(f"{name}, p50", _median_of(way)) for way, name in _WAYS]
    figures += [
        ("start", lambda one: one["start_ms"]),
        ("store a trace, p50", lambda one: one["change"]["store"]["p50_ms"]),
        ("forget a trace, p50", lambda one: one["change"]["forget"]["p50_ms"]),
    ]
    return [
        [f"{name}, times the smallest's", *(f"{figure(one) / figure(sizes[0]):.2f}" for one in sizes)]
        for name, figure in figures
    ]


def _median_of(way: str) -> _Figure:
    return lambda one: float(one[way]["p50_ms"])


def _table(sizes: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]]) -> str:
    head = ["traces", *(f"{one['traces']:,}" for one in sizes)]
    lines = [head, ["---", *("--:" for _ in sizes)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _pair(times: Mapping[str, float]) -> str:
    return f"{times['p50_ms']:.2f} / {times['p95_ms']:.2f}"


def _longest(times: Mapping[str, float]) -> str:
    return f"{times['p95_ms']:.1f} / {times['longest_ms']:.1f}"


def _meanwhile(prepared: Mapping[str, Any]) -> str:
    return _longest(prepared["meanwhile"]) if prepared["meanwhile"] else "–"


def _before_and_after(changed: Mapping[str, Any]) -> str:
    return f"{changed['semantic_before']['p50_ms']:.1f} / {changed['semantic_after']['p50_ms']:.1f}"


def _wrong(changed: Mapping[str, Any]) -> str:
    return f"{changed['missed']} / {changed['returned_after_forget']}"


def _memory(held: Mapping[str, float]) -> str:
    return f"{held['rss']:.0f} / {held['pss']:.0f}"


def _disk(files: Mapping[str, float]) -> str:
    return f"{files['llmos.duckdb']:.0f} / {files.get('traces.faiss', 0):.0f}"
