"""Records as text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llmos.accounts import EntryKind, LedgerEntry
from llmos.interfaces import render, render_match, render_trace
from llmos.interfaces.results import Explanation, Question
from llmos.trace.aligning import Pair, PairKind
from llmos.trace.program import Answer, Effect, Slot, SlotType, Status, Step, Trace
from llmos.trace.run import Mode, Run, RunStatus, StepRecord
from llmos.trace.values import parse


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "1 ms"), (0.0031, "3 ms"), (0.9996, "1.0 s"), (4.24, "4.2 s"), (59.96, "1 min 0 s"), (125, "2 min 5 s")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert render.duration(seconds) == shown


def test_a_duration_that_means_nothing_is_not_invented() -> None:
    assert render.duration(float("nan")) == "?"


@pytest.mark.parametrize(
    ("usd", "shown"), [(0, "$0.0000"), (0.4312, "$0.4312"), (-0.01, "-$0.0100"), (1234, "$1,234.0000")]
)
def test_money(usd: float, shown: str) -> None:
    assert render.money(usd) == shown


def test_one_line_flattens_and_cuts() -> None:
    assert render.one_line("a\n  b\tc") == "a b c"
    assert render.one_line("x" * 50, 10) == "x" * 9 + "…"
    assert render.one_line({"ä": [1]}) == '{"ä": [1]}'


def test_escape_sequences_do_not_reach_a_terminal() -> None:
    shown = render.plain("\x1b]0;title\x07\x1b[2Jred\u202eder\r\nnext\tcolumn")
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert shown.endswith("\nnext\tcolumn")


def result(**changed: Any) -> Any:
    known = {
        "run_id": "r1",
        "mode": "follower",
        "status": "done",
        "answer": "5",
        "cost_usd": 0.0,
        "saved_usd": 0.4312,
        "estimate_usd": 0.0,
        "duration_s": 0.0031,
        "trace_id": "calculate@1",
    }
    return cast(Any, SimpleNamespace(**{**known, **changed}))


def test_the_closing_line_of_a_replay() -> None:
    assert render.closing_line(result()) == 'follower · "5" · $0.0000 · saved $0.4312 · 3 ms · calculate@1'


def test_the_closing_line_holds_one_line_of_a_long_answer() -> None:
    line = render.closing_line(result(answer="region  total\n" + "north  5\n" * 50, trace_id=None))
    assert "\n" not in line
    assert line.startswith('follower · "region total north 5')
    assert line.endswith('…" · $0.0000 · saved $0.4312 · 3 ms · no trace')


def test_the_closing_line_of_a_failure_names_the_run() -> None:
    line = render.closing_line(result(mode="learner", status="failed", trace_id=None, cost_usd=0.02, saved_usd=0.0))
    assert line == "learner failed · $0.0200 · saved $0.0000 · 3 ms · run r1"


def test_a_table_aligns_and_cuts_nothing_without_a_terminal() -> None:
    long = "x" * 300
    lines = render.table(("name", "count"), [["a", 5], [long, 12]]).split("\n")
    assert lines[0].split() == ["name", "count"]
    assert lines[1].endswith("     5")
    assert lines[2] == f"{long}     12"


def test_a_table_fits_the_terminal() -> None:
    lines = render.table(("name", "text"), [["a", "word " * 100]], width=40).split("\n")
    assert len(lines) == 2
    assert len(lines[1]) <= 40


def test_a_terminal_cuts_long_texts_before_ids_and_leaves_empty_columns_out() -> None:
    rows = [["86fd8531af96", "", "interrupted", "a goal of many words " * 5, "a reason of many words " * 5]]
    header, line = render.table(("run", "trace", "status", "goal", "reason"), rows, width=100).split("\n")
    assert "trace" not in header
    assert line.startswith("86fd8531af96  interrupted  a goal of many words")
    assert line.count("…") == 2
    assert len(line) <= 100


def test_a_table_does_not_read_markup() -> None:
    assert "[red]x[/red]" in render.table(("name",), [["[red]x[/red]"]])


TRACE = Trace(
    id="total-by",
    version=2,
    goals=("Total of {column} in {source}",),
    slots=(
        Slot(name="source", type=SlotType.PATH, suffix=".csv"),
        Slot(name="column", type=SlotType.CHOICE, values=("amount", "tax")),
    ),
    steps=(
        Step(id="read", tool="read", args={"path": parse("${{ source }}")}, effect=Effect.READ),
        Step(
            id="write",
            tool="write",
            args={
                "path": parse('${{ source | with_suffix(".md") }}'),
                "content": parse("Total: ${{ steps.read.rows[0].total }} on ${{ env.today }}"),
                "token": parse("${{ secret.TOKEN }}"),
                "title": parse({"$opaque": "A fine title"}),
                "mode": parse("w"),
            },
            effect=Effect.WRITE,
        ),
    ),
    answer=Answer(expr=parse("${{ steps.read.rows[0].total }}"), name="total"),
    status=Status.TRUSTED,
    cost_usd=0.43,
    run_id="r7",
    model="sonnet",
)


def test_a_trace_says_where_each_argument_comes_from() -> None:
    shown = render_trace.trace(TRACE)
    assert shown.startswith("total-by@2 · trusted · learned · effect write")
    assert "source: path, ends in .csv" in shown
    assert "column: choice, one of amount, tax" in shown
    assert 'path = ${{ source | with_suffix(".md") }}   [slot source]' in shown
    assert "[step read: rows.0.total, environment today]" in shown
    assert "token = ${{ secret.TOKEN }}   [secret TOKEN]" in shown
    assert "title = A fine title   [written by the model]" in shown
    assert "mode = w   [constant]" in shown
    assert "(kept as total)" in shown
    assert "made from run r7 by sonnet for $0.4300" in shown


def test_a_run_shows_its_steps_with_outputs_shortened() -> None:
    run = Run(
        id="r7",
        goal="Total of amount in a.csv",
        mode=Mode.LEARNER,
        status=RunStatus.FAILED,
        steps=(
            StepRecord(index=0, tool="read", args={"path": "a.csv"}, output="x" * 5000, duration_s=0.01),
            StepRecord(index=1, tool="bash", args={"command": "false"}, output="exit 1", is_error=True),
        ),
        cost_usd=0.12,
        reason="the model gave up",
    )
    shown = render.run(run)
    assert "run r7 · learner failed · $0.1200" in shown
    assert "reason: the model gave up" in shown
    assert "1 read path=a.csv · 10 ms" in shown
    assert "failed: exit 1" in shown
    assert max(map(len, shown.split("\n"))) < 260


def test_records_become_json_data() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Record:
        at: datetime
        status: Status
        path: Path
        cost_usd: float
        _hidden: int = 1

    record = Record(
        at=datetime(2026, 11, 1, tzinfo=UTC), status=Status.TRUSTED, path=Path("a/b"), cost_usd=float("inf")
    )
    assert json.loads(json.dumps(render.data([record]))) == [
        {"at": "2026-11-01T00:00:00+00:00", "status": "trusted", "path": "a/b", "cost_usd": None}
    ]


def test_ledger_rows_are_in_dollars() -> None:
    entry = LedgerEntry(
        id=3,
        at=datetime(2026, 11, 1, tzinfo=UTC),
        kind=EntryKind.CHARGE,
        amount_microusd=-450_000,
        balance_microusd=9_550_000,
    )
    row = render.ledger_entry(entry)
    assert (row["kind"], row["amount_usd"], row["balance_usd"]) == ("charge", -0.45, 9.55)


def test_a_signature_marks_what_is_optional() -> None:
    schema = {"properties": {"path": {"type": "string"}, "how": {"enum": ["a", "b"]}, "any": {}}, "required": ["path"]}
    assert render.signature(schema) == "path: string, how?: a|b, any?: any"


def test_an_explanation_reads_from_decision_to_cost() -> None:
    told = Explanation(
        goal="Calculate 2 + 3",
        decision="follow",
        trace_id="calculate@1",
        reason="every word is matched",
        bindings={"expression": "2 + 3"},
        steps=[{"id": "calc", "tool": "calculate", "args": {"expression": "2 + 3"}}],
        cost_usd=0.0,
        saved_usd=0.43,
    )
    assert render.explanation(told) == (
        "follow calculate@1: every word is matched\n\nwith\n  expression = 2 + 3\n\nsteps\n"
        "  1 calculate expression=2 + 3\n\ncost $0.0000 · saves $0.4300"
    )


def test_the_closing_line_of_a_goal_that_nobody_began_names_no_learner() -> None:
    line = render.closing_line(result(mode="none", status="failed", trace_id=None, saved_usd=0.0))
    assert line == "refused · $0.0000 · saved $0.0000 · 3 ms · run r1"


def test_the_closing_line_of_a_judged_replay_is_not_free() -> None:
    line = render.closing_line(result(mode="judged", cost_usd=0.0004))
    assert line.startswith('judged · "5" · $0.0004 · ')


def test_a_question_about_an_unproven_wording_shows_how_the_goal_was_read() -> None:
    pairs = (
        Pair(template="Sum", goal="Add", kind=PairKind.DIFFERS),
        Pair(template=None, goal="up", kind=PairKind.LEFT_OVER),
        Pair(template="<source>", goal="b.csv", kind=PairKind.SLOT),
    )
    asked = Question(
        text="Replay?",
        trace_id="sum@1",
        bindings={"source": "b.csv"},
        effect="write",
        is_proven=False,
        alignment=pairs,
    )
    shown = render_match.question(asked)
    assert shown.startswith("It is not proven that this goal means sum@1, which may change files.")
    rows = [line.split() for line in shown.splitlines()[2:5]]
    assert rows == [["Sum", "Add", "differs"], ["up", "not", "in", "the", "trace"], ["<source>", "b.csv", "bound"]]
    assert shown.endswith("with source = b.csv")


LOOP = """
format: 1
id: convert-each
goals: ["Convert {files} now"]
slots: {files: {type: path, many: true}}
steps:
- id: all
  for_each: ${{ files }}
  where:
  - equals: ["${{ each.all | suffix }}", .csv]
  expect:
  - plain: ${{ each.all }}
  steps:
  - {id: read, tool: read, args: {file_path: "${{ each.all }}"}, effect: read, when: [{exists: "${{ each.all }}"}]}
"""


def test_a_loop_and_its_conditions_read_as_sentences() -> None:
    from llmos.trace.codec import loads_yaml

    assert render_trace.trace(loads_yaml(LOOP)).split("steps\n")[1].split("\n\nanswer")[0].split("\n") == [
        "  1 all: for each of ${{ files }}",
        "      expecting that ${{ each.all }} has only plain characters",
        '      where ${{ each.all | suffix }} is ".csv"',
        "    1.1 read: read (read)",
        "        only if ${{ each.all }} exists",
        "        file_path = ${{ each.all }}   [entry of all]",
    ]


def test_an_explanation_shows_the_steps_of_a_loop_below_it() -> None:
    from llmos.interfaces.results import planned_step
    from llmos.trace.codec import loads_yaml

    assert render.planned("1", planned_step(loads_yaml(LOOP).steps[0])) == [
        '  1 for each of ${{ files }} where ${{ each.all | suffix }} is ".csv"',
        "    1.1 if ${{ each.all }} exists, read file_path=${{ each.all }}",
    ]
