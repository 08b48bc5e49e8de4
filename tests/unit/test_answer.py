"""The answer of a replay: made of this run's outputs, or the last output itself; never what was said before."""

from __future__ import annotations

from typing import Any

import pytest

from llmos.trace.answer import explain_answer
from llmos.trace.program import Effect, Loop, Trace
from llmos.trace.run import step_ids
from llmos.trace.values import Scope, evaluate
from tests.unit.trace_lab import ENV, learned, plugin, step

TOOLS = [plugin("look"), plugin("act", Effect.WRITE)]


def answered(goal: str, answer: str, output: Any, *, args: dict[str, Any] | None = None, tool: str = "look") -> Trace:
    effect = Effect.WRITE if tool == "act" else Effect.READ
    return learned(goal, step(tool, args or {"path": "a.csv"}, output, effect=effect), answer=answer, extra=TOOLS)


def said(trace: Trace, output: Any, **slots: str) -> Any:
    assert trace.answer.expr is not None
    return evaluate(trace.answer.expr, Scope(slots=slots, outputs={trace.calls[0].id: output}, env=ENV))


@pytest.mark.parametrize(
    ("goal", "answer", "then", "output", "expected"),
    [
        ("How many rows does a.csv have?", "a.csv has 12 rows.", {"n": 12}, {"n": 34}, "b.csv has 34 rows."),
        ("Sum the amount of a.csv", "The total is 1,234.50.", {"n": 1234.5}, {"n": 20}, "The total is 20.00."),
        ("Show the head of a.csv", "x y\n1 2", {"text": "x y\n1 2\n"}, {"text": "z\n3\n"}, "z\n3"),
        ("Count the errors of a.csv", "errors: 3", {"errors": 3}, {"errors": 0}, "errors: 0"),
        ("Show the version in a.csv", "v1.2", "v1.2", "v3", "v3"),
    ],
)
def test_an_answer_is_computed_again(goal: str, answer: str, then: Any, output: Any, expected: str) -> None:
    assert said(answered(goal, answer, then), output, path="b.csv") == expected


NOT_FRESH: dict[str, tuple[str, str, Any]] = {
    "a claim": ("Check a.csv for gaps", "There are no missing values in a.csv.", {"missing": 0}),
    "a claim in the goal's words": ("Say that a.csv has no missing values", "a.csv has no missing values", {"n": 3}),
    "a claim beside a number": ("Say that a.csv has no gaps in its rows", "a.csv has no gaps in 3 rows", {"n": 3}),
    "a trend": ("Tell whether prices increased in a.csv", "prices increased by 7", {"change": 7}),
    "a trend of the model": ("Tell the change in a.csv", "It increased by 7", {"change": 7}),
    "a yes": ("Is a.csv sorted?", "Yes, a.csv is sorted", {"n": 3}),
    "a verdict in the goal's words": ("Is a.csv sorted by 7 rows", "a.csv is sorted by 7 rows", {"n": 7}),
    "one of two": ("Which is longer, a.csv or b.csv?", "a.csv with 10 rows", {"rows": 10}),
    "two equal outputs": ("Count the parts of a.csv", "a.csv has 3", {"rows": 3, "columns": 3}),
    "an entry of a list": ("Show the best of a.csv", "north", {"rows": [{"r": "south"}, {"r": "north"}]}),
    "a number no output has": ("Count the rows of a.csv", "a.csv has 99 rows", {"n": 3}),
    "a number in words": ("Count the rows of a.csv", "a.csv has three rows", {"n": 3}),
    "part of a longer number": ("Count the rows of a.csv", "a.csv has 1,003 rows", {"n": 3}),
    "a decimal of it": ("Count the rows of a.csv", "a.csv has 0.3 rows", {"n": 3}),
    "a flag as a label": ("Validate what a.csv holds", "valid, 3 rows", {"valid": True, "n": 3}),
    "nothing computed": ("Look for new things in a.csv", "There are new things in a.csv", {"n": 3}),
    "all is well": ("Look at a.csv", "All ok in a.csv: 3", {"n": 3}),
    "lines for errors": ("How many errors are in a.csv?", "There are 3 errors.", {"text": "E\nE\nE\n", "lines": 3}),
    "rows for people": ("How many people are over 30 in a.csv", "3", {"rows": [["x"], ["y"], ["z"]]}),
    "empty": ("Look at a.csv", "  ", {"n": 3}),
}


@pytest.mark.parametrize(("goal", "answer", "output"), NOT_FRESH.values(), ids=NOT_FRESH)
def test_prose_and_doubtful_numbers_are_not_kept(goal: str, answer: str, output: Any) -> None:
    assert answered(goal, answer, output).answer.expr is None


def test_a_number_of_the_goal_that_an_output_contests_is_not_kept() -> None:
    args = {"path": "a.csv", "limit": 500}
    contested = answered("Copy the first 500 rows of a.csv", "Copied 500 rows", {"rows": 500}, args=args, tool="act")
    assert contested.answer.expr is None
    echoed = answered("Copy the first 500 rows of a.csv", "Copied 500 rows", {"limit": 500}, args=args, tool="act")
    assert said(echoed, {"limit": 70}, limit="70", path="a.csv") == "Copied 70 rows"


def test_what_was_done_may_be_said_with_the_new_names() -> None:
    trace = answered("Sort the rows of a.csv", "Sorted a.csv.", {"text": "ok"}, tool="act")
    assert said(trace, {"text": "ok"}, path="b.csv") == "Sorted b.csv."


def test_the_only_row_is_read_while_it_is_the_only_one() -> None:
    trace = answered("Sum the amount of a.csv", "The total is 777", {"rows": [{"total": 777}]})
    assert said(trace, {"rows": [{"total": 5}]}) == "The total is 5"
    assert trace.answer.checks[0].expected == {"step": "look", "path": ["rows"], "length": 1}


def test_an_answer_nobody_gave_has_no_expression() -> None:
    from tests.unit.trace_lab import run_of

    run = run_of("Look at a.csv", step("look", {}, "x"), answer=None)
    assert explain_answer(run, step_ids(run.steps), [], {}, ()).expr is None


def test_a_large_output_is_quick() -> None:
    import time

    rows = [{"id": i, "value": i * 1.5, "name": f"n{i}"} for i in range(60_000)]
    started = time.perf_counter()
    trace = answered("Count the rows of a.csv", "a.csv has 123456789 rows", {"rows": rows, "n": 123456789})
    assert time.perf_counter() - started < 60.0  # about 2 s on an idle core
    assert trace.answer.expr is not None


FILES = {"files": ["in/a.csv", "in/b.csv", "in/c.csv"], "odd": [1, 2]}
ROWS = {"rows": [{"region": "north", "total": 1500}, {"region": "south", "total": 20.5}], "row_count": 2}


@pytest.mark.parametrize(
    ("answer", "then", "now", "expected"),
    [
        ("3 files", FILES, {"files": ["x"]}, "1 files"),
        ("Files: in/a.csv, in/b.csv and in/c.csv", FILES, {"files": ["x", "y"]}, "Files: x and y"),
        ("Files: a.csv, b.csv, c.csv", FILES, {"files": ["in/x", "y"]}, "Files: x, y"),
        ("- in/a.csv\n- in/b.csv\n- in/c.csv", FILES, {"files": []}, ""),
        (
            "north: 1,500.00\nsouth: 20.50",
            ROWS,
            {"rows": [{"region": "east", "total": 7}, {"region": "west", "total": 1e6}]},
            "east: 7.00\nwest: 1,000,000.00",
        ),
        (
            "| region | total |\n|---|---|\n| north | 1500 |\n| south | 20.5 |",
            ROWS,
            {"rows": [{"region": "east", "total": 7}]},
            "| region | total |\n|---|---|\n| east | 7 |",
        ),
        ("Regions: north and south", ROWS, {"rows": [{"region": "east", "total": 7}]}, "Regions: east"),
    ],
)
def test_lists_and_tables_are_said_again(answer: str, then: Any, now: Any, expected: str) -> None:
    goal = "Count and list the files and regions of a.csv"
    assert said(answered(goal, answer, then), now, path="b.csv") == expected


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ("2 rows", {"rows": [1, 2], "columns": ["x", "y"]}),
        ("The files are p and q", {"files": ["p", "q"], "names": ["p", "q"]}),
        ("The best files: in/a.csv, in/b.csv", FILES),
        ("north is rich: 1500\nsouth is rich: 20.5", ROWS),
        ("north: 7\nsouth: 7", {"rows": [{"region": "north", "n": 7, "m": 7}, {"region": "south", "n": 7, "m": 7}]}),
    ],
)
def test_a_list_that_two_outputs_or_only_the_model_explain_is_not_kept(answer: str, output: Any) -> None:
    assert answered("Count and list the files of a.csv", answer, output).answer.expr is None


def test_a_stated_count_goes_before_the_length_of_a_list() -> None:
    trace = answered("Count the files of a.csv", "3 files", FILES | {"count": 3})
    assert said(trace, {"files": ["x"], "count": 70}) == "70 files"


def test_the_answer_of_a_loop_counts_and_names_what_it_went_through() -> None:
    names = ["in/a.txt", "in/b.txt", "in/c.txt", "in/d.txt"]
    trace = learned(
        "Count the lines of all files in the folder",
        step("glob", {"pattern": "in/*.txt"}, {"files": names, "count": 4, "text": "\n".join(names)}),
        *[step("read", {"file_path": name}, {"path": name, "text": "x", "lines": n}) for n, name in enumerate(names)],
        answer="Counted 4 files: a.txt, b.txt, c.txt and d.txt",
    )
    (loop,) = [node for node in trace.steps if isinstance(node, Loop)]
    assert trace.answer.expr is not None
    made = [{"each": "in/x.txt", "read": {}}, {"each": "in/y.txt", "read": {}}]
    outputs = {"glob": {"files": ["in/x.txt", "in/y.txt"], "count": 2}, loop.id: made}
    assert evaluate(trace.answer.expr, Scope(outputs=outputs, env=ENV)) == "Counted 2 files: x.txt and y.txt"
