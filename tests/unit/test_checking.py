"""Checks: which are derived and read from what the learner said, which are kept, and what they pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmos.errors import DivergenceError, TraceFormatError
from llmos.kernel.checks import Files, evaluate_check, with_held_checks
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.trace.checking import has_goal_check
from llmos.trace.codec import from_data, to_data
from llmos.trace.induce import induce
from llmos.trace.program import Check, CheckKind, Effect, Status, Trace, Verdict
from llmos.trace.run import Finish, StepRecord
from llmos.trace.values import Scope
from tests.unit.trace_lab import ENV, FACTS, Lab, learned, plugin, run_of, step

CONVERT = step(
    "convert_data",
    {"source": "a.csv", "target": "b.csv"},
    {"source": "a.csv", "target": "b.csv", "rows": 2, "columns": ["x"], "text": "ok"},
)
GOAL = "Convert a.csv to b.csv for me"


def induced(goal: str, *steps: StepRecord, checks: tuple[str, ...] = (), extra: Any = ()) -> Trace:
    finish = Finish(answer="Done.", checks=checks)
    trace = induce(run_of(goal, *steps, finish=finish), FACTS | {one.name: one for one in extra}, ENV)
    assert isinstance(trace, Trace), trace.reason
    assert from_data(to_data(trace)) == trace
    return trace


def said(statement: str) -> list[tuple[str, Any]]:
    """The checks that a statement adds to those derived from the calls."""
    before = induced(GOAL, CONVERT).checks
    after = induced(GOAL, CONVERT, checks=(statement,)).checks
    return [(str(check.kind), check.expected) for check in after if check not in before]


def test_a_written_file_is_checked_to_be_there_to_parse_and_to_have_its_rows() -> None:
    trace = induced(GOAL, CONVERT)
    target = "${{ target }}"
    assert {str(c.kind): c.expected for c in trace.checks if "target" in str(c.expected)} == {
        "file_exists": target,
        "file_parses": {"file": target, "as": "csv"},
        "file_length": {"file": target, "rows": "${{ steps.convert_data.rows }}"},
    }
    assert trace.status is Status.TRUSTED


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("b.csv is not empty", ("file_not_empty", "${{ target }}")),
        ("The file 'b.csv' is non-empty.", ("file_not_empty", "${{ target }}")),
        ("b.csv has 2 lines", ("file_length", {"file": "${{ target }}", "lines": "${{ steps.convert_data.rows }}"})),
        ("b.csv has 7 rows", ("file_not_empty", "${{ target }}")),
        ("a.csv no longer exists", ("file_missing", "${{ source }}")),
        ("b.csv is valid JSON", ("file_parses", {"file": "${{ target }}", "as": "json"})),
        ("notes.txt exists", ("file_exists", "notes.txt")),
    ],
)
def test_what_the_learner_says_becomes_a_check(statement: str, expected: tuple[str, Any]) -> None:
    assert said(statement) == [expected]


@pytest.mark.parametrize("statement", ["b.csv exists", "The file b.csv was created", "There are 2 rows in b.csv"])
def test_what_is_checked_already_is_not_checked_twice(statement: str) -> None:
    assert said(statement) == []


@pytest.mark.parametrize(
    "statement",
    [
        "it looks good",
        "b.csv is pretty",
        "b.csv has 0 rows",
        'b.csv contains "north"',
        "a.csv and b.csv exist",
        "b2.csv exists",
    ],
)
def test_what_can_not_be_read_or_holds_this_runs_values_is_dropped(statement: str) -> None:
    assert said(statement) == []


def test_a_text_of_the_goal_is_looked_for_in_the_file() -> None:
    put = step("put", {"path": "a.txt", "text": "hello"}, "ok", effect=Effect.WRITE)
    trace = induced(
        "Write 'hello' to a.txt at once", put, checks=('a.txt contains "hello"',), extra=[plugin("put", Effect.WRITE)]
    )
    assert Check(kind=CheckKind.FILE_CONTAINS, expected={"file": "${{ path }}", "text": "${{ text }}"}) in trace.checks


def test_a_trace_that_writes_and_checks_nothing_asks_first() -> None:
    act = plugin("act", Effect.WRITE)
    trace = induced(
        "Set the lamp to 'blue' now", step("act", {"value": "blue"}, "ok", effect=Effect.WRITE), extra=[act]
    )
    assert trace.status is Status.CANDIDATE
    assert "no check" in trace.reason
    told = induced(
        "Set the lamp to 'blue' now",
        step("act", {"value": "blue"}, "ok", effect=Effect.WRITE),
        checks=("the lamp shines",),
        extra=[act],
    )
    assert "'the lamp shines'" in told.reason


def test_a_trace_that_only_reads_needs_no_check_of_its_goal() -> None:
    trace = induced("Show the text of a.txt", step("read", {"file_path": "a.txt"}, {"text": "x"}))
    assert (trace.status, trace.checks) == (Status.TRUSTED, ())


def test_a_value_that_a_later_step_uses_must_keep_its_type() -> None:
    trace = learned(
        "Write the rows of a.csv to b.md",
        step("query_data", {"sql": "SELECT * FROM d", "files": {"d": "a.csv"}}, {"rows": [], "text": "long text"}),
        step("write", {"file_path": "b.md", "content": "long text"}, {"path": "b.md", "text": "ok"}),
    )
    assert Check(kind=CheckKind.VALUE_TYPE, expected={"path": ["text"], "type": "string"}) in trace.calls[0].checks


def test_rows_that_a_tool_read_and_wrote_stay_as_many() -> None:
    trace = learned("Clean the file a.csv", step("clean", {}, {"rows_in": 7, "rows_out": 7}), extra=[plugin("clean")])
    assert Check(kind=CheckKind.SAME_NUMBER, expected=[["rows_in"], ["rows_out"]]) in trace.calls[0].checks
    lossy = learned("Clean the file a.csv", step("clean", {}, {"rows_in": 7, "rows_out": 5}), extra=[plugin("clean")])
    assert [str(check.kind) for check in lossy.calls[0].checks] == ["output_type"]


# --- what is kept --------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "b.csv").write_text("x\n1\n2\n")
    (tmp_path / "odd.csv").write_text("x,y\n1\n")
    (tmp_path / "empty.md").write_text("\n")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "lines.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "raw.csv").write_bytes(b"\xff\xfe\x00")
    return Files(resolve=ToolContext(workspace=tmp_path, run_id="r").resolve)


TABLE: list[tuple[CheckKind, Any, Verdict]] = [
    (CheckKind.FILE_EXISTS, "b.csv", Verdict.PASS),
    (CheckKind.FILE_EXISTS, "../b.csv", Verdict.FAIL),
    (CheckKind.FILE_EXISTS, 7, Verdict.UNKNOWN),
    (CheckKind.FILE_MISSING, "gone.csv", Verdict.PASS),
    (CheckKind.FILE_MISSING, "b.csv", Verdict.FAIL),
    (CheckKind.FILE_NOT_EMPTY, "b.csv", Verdict.PASS),
    (CheckKind.FILE_NOT_EMPTY, "empty.md", Verdict.FAIL),
    (CheckKind.FILE_NOT_EMPTY, "gone.csv", Verdict.FAIL),
    (CheckKind.FILE_NOT_EMPTY, "${{ nothing }}", Verdict.UNKNOWN),
    (CheckKind.FILE_PARSES, {"file": "b.csv", "as": "csv"}, Verdict.PASS),
    (CheckKind.FILE_PARSES, {"file": "odd.csv", "as": "csv"}, Verdict.FAIL),
    (CheckKind.FILE_PARSES, {"file": "raw.csv", "as": "csv"}, Verdict.FAIL),
    (CheckKind.FILE_PARSES, {"file": "empty.md", "as": "md"}, Verdict.FAIL),
    (CheckKind.FILE_PARSES, {"file": "list.json", "as": "json"}, Verdict.PASS),
    (CheckKind.FILE_PARSES, {"file": "bad.json", "as": "json"}, Verdict.FAIL),
    (CheckKind.FILE_PARSES, {"file": "lines.jsonl", "as": "jsonl"}, Verdict.PASS),
    (CheckKind.FILE_PARSES, {"file": "list.json", "as": "jsonl"}, Verdict.PASS),
    (CheckKind.FILE_PARSES, {"file": "bad.yaml", "as": "yaml"}, Verdict.FAIL),
    (CheckKind.FILE_PARSES, {"file": "list.json", "as": "yaml"}, Verdict.PASS),
    (CheckKind.FILE_PARSES, {"file": "list.json", "as": "pdf"}, Verdict.UNKNOWN),
    (CheckKind.FILE_PARSES, {"as": "pdf"}, Verdict.UNKNOWN),
    (CheckKind.FILE_LENGTH, {"file": "b.csv", "rows": 2}, Verdict.PASS),
    (CheckKind.FILE_LENGTH, {"file": "b.csv", "rows": 3}, Verdict.FAIL),
    (CheckKind.FILE_LENGTH, {"file": "b.csv", "lines": 3}, Verdict.PASS),
    (CheckKind.FILE_LENGTH, {"file": "list.json", "rows": 2}, Verdict.PASS),
    (CheckKind.FILE_LENGTH, {"file": "lines.jsonl", "rows": 2}, Verdict.PASS),
    (CheckKind.FILE_LENGTH, {"file": "bad.json", "rows": 2}, Verdict.FAIL),
    (CheckKind.FILE_LENGTH, {"file": "empty.md", "rows": 2}, Verdict.UNKNOWN),
    (CheckKind.FILE_LENGTH, {"file": "b.csv"}, Verdict.UNKNOWN),
    (CheckKind.FILE_CONTAINS, {"file": "b.csv", "text": "2"}, Verdict.PASS),
    (CheckKind.FILE_CONTAINS, {"file": "b.csv", "text": "9"}, Verdict.FAIL),
    (CheckKind.FILE_CONTAINS, {"file": "b.csv"}, Verdict.UNKNOWN),
    (CheckKind.VALUE_TYPE, {"path": ["n"], "type": "number"}, Verdict.PASS),
    (CheckKind.VALUE_TYPE, {"path": ["n"], "type": "string"}, Verdict.FAIL),
    (CheckKind.VALUE_TYPE, {"path": ["gone"], "type": "number"}, Verdict.FAIL),
    (CheckKind.VALUE_TYPE, "number", Verdict.UNKNOWN),
    (CheckKind.SAME_NUMBER, [["n"], ["m"]], Verdict.PASS),
    (CheckKind.SAME_NUMBER, [["n"], ["k"]], Verdict.FAIL),
    (CheckKind.SAME_NUMBER, [["n"], ["gone"]], Verdict.FAIL),
    (CheckKind.SAME_NUMBER, "n", Verdict.UNKNOWN),
]


@pytest.mark.parametrize(("kind", "expected", "verdict"), TABLE)
def test_a_check_passes_fails_or_can_not_be_decided(
    files: Files, kind: CheckKind, expected: Any, verdict: Verdict
) -> None:
    found, _ = evaluate_check(Check(kind=kind, expected=expected), {"n": 3, "m": 3, "k": 4}, Scope(), files)
    assert found is verdict


def test_only_checks_that_hold_after_the_recording_are_kept(files: Files) -> None:
    checks = ("b.csv is valid JSON", "a.csv exists", "b.csv is not empty", "list.json exists")
    run = run_of(GOAL, CONVERT, finish=Finish(answer="Done.", checks=checks))
    trace = induce(run, FACTS, ENV)
    assert isinstance(trace, Trace)
    kept = with_held_checks(trace, run, ENV, files)
    target = "${{ target }}"
    assert [(str(check.kind), check.expected) for check in kept.checks] == [
        ("file_exists", target),
        ("file_parses", {"file": target, "as": "csv"}),
        ("file_length", {"file": target, "rows": "${{ steps.convert_data.rows }}"}),
        ("file_not_empty", target),
        ("file_exists", "list.json"),
    ]
    assert kept.status is Status.TRUSTED


def test_a_trace_whose_checks_do_not_hold_asks_first(tmp_path: Path) -> None:
    put = step("put", {"path": "a.txt", "text": "x"}, "ok", effect=Effect.WRITE)
    run = run_of("Write 'x' to a.txt at once", put)
    trace = induce(run, FACTS | {"put": plugin("put", Effect.WRITE)}, ENV)
    assert isinstance(trace, Trace)
    assert (trace.status, has_goal_check(trace)) == (Status.TRUSTED, True)
    nowhere = Files(resolve=ToolContext(workspace=tmp_path, run_id="r").resolve)
    assert with_held_checks(trace, run, ENV, nowhere).status is Status.CANDIDATE


# --- at the end of a replay ------------------------------------------------------------------------------------


@llm_tool("store", "Store", {"path": str, "text": str}, effect=Effect.WRITE, open_world=False, version="1")
async def store(ctx: ToolContext, path: str, text: str) -> dict[str, Any]:
    if text != "nothing":
        ctx.resolve(path, write=True).write_text(text)
    return {"stored": path}


def test_a_replay_whose_goal_was_not_reached_is_a_divergence_that_tells_its_effects(tmp_path: Path) -> None:
    lab = Lab(tmp_path, tools=(tool_of(store),))
    trace = lab.learn("Store 'word' in a.txt at once", ("store", {"path": "a.txt", "text": "word"}))
    lab.follow(trace, "Store 'other' in b.txt at once")
    with pytest.raises(
        DivergenceError, match=r"the goal was not reached: expected file_exists .* got c\.txt"
    ) as caught:
        lab.follow(trace, "Store 'nothing' in c.txt at once")
    assert caught.value.effects_done == 1


@pytest.mark.parametrize(
    "check",
    [{"output_type": "object"}, {"file_exists": "${{ nothing }}"}, {"file_exists": "${{ steps.gone.x }}"}, {"odd": 1}],
)
def test_checks_of_the_goal_look_at_files_and_refer_to_what_there_is(check: dict[str, Any]) -> None:
    data = to_data(induced(GOAL, CONVERT))
    with pytest.raises(TraceFormatError):
        from_data(data | {"checks": [check]})
