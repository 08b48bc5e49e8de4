"""The results as tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def stream_table(sets: dict[str, Any]) -> Table:
    """Hits and wrong replays of each system on each stream."""
    shown = Table("set", "system", "hit %", "wrong %", "95 %", "wrong", "goals", "p50 ms", "refused most often")
    for name, systems in sets.items():
        for system, row in systems.items():
            if "error" in row:
                shown.add_row(name, system, *["-"] * 6, row["error"][:60])
                continue
            low, high = row["wrong_ci95"]
            often = ", ".join(f"{rule} {count}" for rule, count in list(row["refusals"].items())[:5])
            shown.add_row(
                *(name, system, f"{row['hit_pct']:.1f}", f"{row['wrong_pct']:.2f}", f"{low:.2f}-{high:.2f}"),
                *(str(row["wrong"]), str(row["goals"]), f"{row['latency_ms']['p50']:.1f}", often),
            )
    return shown


def pair_table(pairs: dict[str, Any]) -> Table:
    """Accepted pairs by set and source."""
    shown = Table("pairs", "source or kind", "different", "accepted", "same", "accepted %", "wrong value", "cosine .90")
    for name, groups in pairs.items():
        for group, row in groups.items():
            if "error" in row:
                shown.add_row(name, group, *["-"] * 5, row["error"][:60])
                continue
            cosine = f"{row['cosine_accepts_different_pct']['0.90']:.0f} / {row['cosine_accepts_same_pct']['0.90']:.0f}"
            shown.add_row(
                *(name, group, str(row["different"]), str(row["accepted_different"]), str(row["same"])),
                *(f"{row['accepted_same_pct']:.1f}", str(row["wrong_value"]), cosine),
            )
    return shown


def induction_table(induction: dict[str, Any]) -> Table:
    """What the induced programs did."""
    shown = Table("induction", "runs", "no program", "exact programs", "asked", "right %", "refused", "wrong")
    for source, row in induction.items():
        shown.add_row(
            *(source, str(row["runs"]), str(row["no_program"]), str(row["exact_programs"]), str(row["asked"])),
            *(f"{row['exact_pct']:.1f}", str(row["refused"]), str(row["wrong"])),
        )
    return shown
