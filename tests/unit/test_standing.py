"""What tells whether a run still stands: queries that give the same, traces that may stand, files that are not read."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from llmos.errors import PluginError
from llmos.kernel.standing import MAX_HASHED_BYTES, ChangedError, content_of
from llmos.kernel.survey import glance
from llmos.plugins.builtin.same_sql import gives_the_same
from llmos.plugins.marking import llm_tool
from llmos.trace.codec import loads_yaml
from llmos.trace.program import Trace
from llmos.trace.standing import Input, may_stand, shows
from tests.standing_lab import TRACES, trace_yaml


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT region, sum(amount) AS total FROM sales GROUP BY ALL ORDER BY 1",
        "WITH t AS (SELECT round(avg(a), 2) AS m FROM d) SELECT m, CAST(m AS DECIMAL(10, 2)) FROM t WHERE m IN (1, 2)",
        "SELECT count(*) FILTER (WHERE a > 1), row_number() OVER (PARTITION BY b ORDER BY c) FROM d",
    ],
)
def test_a_plain_query_gives_the_same(sql: str) -> None:
    assert gives_the_same(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT random()",
        'SELECT "random"()',
        "SELECT Now ()",
        "SELECT current_date",
        "SELECT CURRENT_TIMESTAMP, a FROM d",
        "SELECT localtimestamp",
        "SELECT age(day) FROM d",
        "SELECT day.age() FROM d",
        "SELECT uuid(), a FROM d",
        "SELECT * FROM d USING SAMPLE 3",
        "SELECT * FROM d TABLESAMPLE 10%",
        "EXPLAIN ANALYZE SELECT 1",
        "SELECT user",
        "SELECT getenv('HOME')",
        "SELECT * FROM duckdb_settings()",
    ],
)
def test_a_query_of_clock_chance_or_session_does_not(sql: str) -> None:
    assert not gives_the_same(sql)


def test_no_function_that_duckdb_calls_unstable_is_taken_for_one_that_gives_the_same() -> None:
    query = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
    names = [name for (name,) in duckdb.connect().execute(query).fetchall()]
    assert len(names) > 20
    assert [name for name in names if gives_the_same(f"SELECT {name}(a) FROM d")] == []


def test_a_function_that_is_known_is_one_that_exists() -> None:
    from llmos.plugins.builtin.same_sql import _KNOWN_WORDS

    query = "SELECT DISTINCT function_name FROM duckdb_functions()"
    there = {name for (name,) in duckdb.connect().execute(query).fetchall()}
    parsed = {"coalesce", "extract", "if", "ifnull", "nullif", "grouping", "percentile_cont", "percentile_disc", "trim"}
    assert {word for word in _KNOWN_WORDS.split() if word not in there | parsed} <= NOT_FUNCTIONS


NOT_FUNCTIONS = {"substring", "unnest", "first_value", "last_value", "nth_value", "lag", "lead", "ntile", "rank"}
NOT_FUNCTIONS |= {"date", "row_number", "dense_rank", "percent_rank", "cume_dist"}


def trace(name: str) -> Trace:
    return loads_yaml(trace_yaml(name))


def test_only_a_trace_that_writes_and_does_nothing_worse_may_stand() -> None:
    assert all(may_stand(trace(name)) for name in TRACES)
    reading = trace_yaml("total").partition("- id: write")[0] + "answer: {value: '${{ steps.look.text }}'}\n"
    assert not may_stand(loads_yaml(reading.replace(" into {target}", "").replace(", target: path", "")))
    worse = trace_yaml("edit").replace("effect: write", "effect: external")
    assert not may_stand(loads_yaml(worse))


@pytest.mark.parametrize(("env", "may"), [("today", True), ("user", True), ("now", False), ("last_result", False)])
def test_what_is_gone_a_moment_later_keeps_a_trace_from_standing(env: str, may: bool) -> None:
    text = trace_yaml("unless").replace("content: one", f'content: "${{{{ env.{env} }}}}"')
    assert may_stand(loads_yaml(text)) is may


def test_a_secret_keeps_a_trace_from_standing() -> None:
    text = trace_yaml("unless").replace("content: one", 'content: "${{ secret.TOKEN }}"')
    assert not may_stand(loads_yaml(text))


def test_a_field_shows_where_it_or_all_of_an_output_is_referred_to() -> None:
    assert shows(trace("fresh"), "created")
    assert not shows(trace("total"), "created")
    assert not shows(trace("each"), "created")
    whole = trace_yaml("fresh").replace("steps.write.created", "steps.write")
    assert shows(loads_yaml(whole), "created")
    looped = trace_yaml("each").replace("${{ steps.found.count }} copied", "${{ steps.files }}")
    assert shows(loads_yaml(looped), "created")


def test_a_file_whose_stamp_is_known_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    known = Input(digest="file:as told", stamp=glance(path).stamp)
    assert content_of(path, known) == known
    path.write_text("b")
    assert content_of(path, known).digest.startswith("file:") and content_of(path, known) != known


def test_a_file_changed_a_moment_ago_has_no_stamp_to_rely_on(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    seen = content_of(path, None)
    assert seen.stamp.endswith(" racy")
    assert content_of(path, Input(digest="file:as told", stamp=seen.stamp)).digest == seen.digest


def test_a_huge_file_is_known_by_its_stamp_alone(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, MAX_HASHED_BYTES + 1)
    with pytest.raises(ChangedError, match="only now"):
        content_of(path, None)


def test_a_missing_file_is_an_input_as_well(tmp_path: Path) -> None:
    assert content_of(tmp_path / "none", None) == Input(digest="absent:")


@pytest.mark.parametrize("seconds", [0, -1, True, "1", float("inf")])
def test_a_time_that_is_none_is_refused(seconds: object) -> None:
    with pytest.raises(PluginError, match="valid_for_s"):
        llm_tool("x", "X.", {}, valid_for_s=seconds)(lambda: None)  # type: ignore[arg-type]
