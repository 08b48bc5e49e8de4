"""The page on speed and its flame graph show the stored results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.speed.report import BEGIN, END, FLAME, PAGE, RESULTS, flame, shown


@pytest.fixture
def results() -> Any:
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_tables_are_made_from_the_results(results: Any) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == shown(results).strip()


def test_the_flame_graph_is_made_from_the_results(results: Any) -> None:
    assert FLAME.read_text(encoding="utf-8") == flame(results["profile"]["tree"])
