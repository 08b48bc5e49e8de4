"""The table of docs/reliability.md is the measured one, and what was measured is what the page says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.reliability.__main__ import SCENARIOS, merged
from benchmarks.reliability.report import BEGIN, END, PAGE, RESULTS, shown


@pytest.fixture
def results() -> Any:
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_table_is_made_from_the_results(results: Any) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == shown(results).strip()


def test_a_thousand_kills_and_every_fault_without_a_violation(results: Any) -> None:
    scenarios = results["scenarios"]
    assert len(scenarios) == len(SCENARIOS)
    kills = {"learning", "following", "storing", "undoing", "paying"}
    assert sum(one["trials"] for one in scenarios if one["name"] in kills) >= 1000
    assert all(one["trials"] > 0 and not one["skipped"] for one in scenarios)
    assert [one["violations"] for one in scenarios] == [[]] * len(scenarios)


def test_every_kind_of_deed_was_cut_off_by_some_kill(results: Any) -> None:
    cut = {kind for one in results["scenarios"] for kind, count in one["cut"].items() if count}
    assert cut >= {"learn", "calculate", "put", "ring", "store", "remember", "undo", "charge", "settle"}


def test_every_fault_is_described() -> None:
    page = PAGE.read_text(encoding="utf-8")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert [one["name"] for one in results["scenarios"] if f"| {one['name']} |" not in page.partition(END)[2]] == []


def test_a_later_run_of_some_scenarios_replaces_only_those() -> None:
    old = {"conditions": {"minutes": 9.0, "seed": 1}, "scenarios": [{"name": "a", "n": 1}, {"name": "b", "n": 1}]}
    new = {"conditions": {"minutes": 2.5, "seed": 1}, "scenarios": [{"name": "b", "n": 2}, {"name": "c", "n": 2}]}
    assert merged(old, new) == {
        "conditions": {"minutes": 11.5, "seed": 1},
        "scenarios": [{"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "c", "n": 2}],
    }
