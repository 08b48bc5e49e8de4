"""The soak measures what it says: a line that rises is called growth, and every goal is really reached."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.soak import RETENTION, Sample, fitted, lines, soak


def test_a_figure_that_rises_grows_and_one_that_wavers_does_not() -> None:
    runs = list(range(0, 1_000, 10))
    rising = fitted(runs, [100 + 0.1 * run for run in runs])
    assert (rising.per_1000_runs, rising.rise, rising.is_flat) == (100.0, 99.0, False)
    wavering = fitted(runs, [100 + run % 20 / 10 for run in runs])
    assert wavering.is_flat and abs(wavering.per_1000_runs) < 0.1
    falling = fitted(runs, [100 - 0.05 * run for run in runs])
    assert falling.is_flat and falling.per_1000_runs == -50.0


def test_the_warm_up_does_not_count() -> None:
    samples = [
        Sample(runs=n, rss=min(n, 25), descriptors=9, threads=3, tasks=1, objects=5, database=7, home=8)
        for n in range(1, 101)
    ]
    found = lines(samples)
    assert (found["rss"].level, found["rss"].per_1000_runs, found["rss"].is_flat) == (25.0, 0.0, True)
    assert set(found) == {"rss", "descriptors", "threads", "tasks", "objects", "database", "home"}


async def test_goals_are_reached_by_the_product_and_sampled(tmp_path: Path) -> None:
    retention = RETENTION.format(days=1, max_runs=100, max_goals=100)
    samples = await soak(20, tmp_path, minutes=240, retention=retention)
    assert [sample.runs for sample in samples] == list(range(1, 21))
    assert all(sample.descriptors > 3 and sample.database > 100_000 for sample in samples)


def test_the_page_tells_the_stored_results() -> None:
    root = Path(__file__).resolve().parents[2]
    measured = json.loads((root / "benchmarks" / "results" / "soak.json").read_text(encoding="utf-8"))
    page = " ".join((root / "docs" / "retention.md").read_text(encoding="utf-8").split())
    assert f"Of {measured['runs']:,} goals" in page
    late = [one for one in measured["samples"] if one["runs"] > measured["runs"] / 4]
    for name in ("rss", "database"):
        least, most = (found(one[name] for one in late) / 1e6 for found in (min, max))
        assert f"between {least:.0f} MB and {most:.0f} MB" in page
    found = measured["lines"]
    assert [name for name in ("descriptors", "objects", "database", "rss") if found[name]["is_flat"]] == [
        "descriptors",
        "objects",
    ]
    assert f"descriptors ({found['descriptors']['last']:.0f})" in page.lower()
    assert f"{found['rss']['per_1000_runs'] / 1e6:.2f} MB for 1,000 goals" in page
