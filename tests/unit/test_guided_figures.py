"""The figures of guided runs in the documentation are those that were measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.guided import table

ROOT = Path(__file__).parents[2]


def test_the_table_of_guided_runs_is_the_measured_one() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "guided.json").read_text())
    assert table(measured["pairs"]) in (ROOT / "docs" / "how-it-works.md").read_text()


def test_every_way_costs_less_than_the_one_before() -> None:
    for pair in json.loads((ROOT / "benchmarks" / "results" / "guided.json").read_text())["pairs"]:
        sent = [pair[way]["sent_tokens"] for way in ("learn", "plan", "value", "follow") if way in pair]
        assert sent == sorted(sent, reverse=True), pair["name"]
        assert sent[-1] == 0
