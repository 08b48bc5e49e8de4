"""Trace <-> YAML and JSON: every trace comes back, everything else is refused in one sentence."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmos.errors import TraceFormatError
from llmos.trace.codec import dumps_json, dumps_yaml, from_data, loads_json, loads_yaml, to_data
from llmos.trace.lex import escape_template
from llmos.trace.program import Answer, Check, CheckKind, Effect, Provenance, Slot, SlotType, Status, Step, Trace
from llmos.trace.values import Const, SlotRef, references
from tests.unit.strategies import EXPRS, KEYS, TEXTS

TRACE = Trace(
    id="convert-a1",
    version=3,
    goals=("Convert {source} into {target}", "Make {target} of {source}"),
    slots=(
        Slot(name="source", type=SlotType.PATH, suffix=".csv", parent="data"),
        Slot(name="target", type=SlotType.PATH, inline=True),
        Slot(name="mode", type=SlotType.CHOICE, values=("fast", "slow"), default="fast"),
    ),
    steps=(
        Step(
            id="convert",
            tool="convert_data",
            args={"source": SlotRef(name="source"), "target": SlotRef(name="target"), "mode": SlotRef(name="mode")},
            effect=Effect.WRITE,
            tool_version="1",
            checks=(Check(kind=CheckKind.OUTPUT_TYPE, expected="object"),),
        ),
    ),
    answer=Answer(expr=Const(value="Done"), name="result"),
    provenance=Provenance.DEMONSTRATION,
    status=Status.TRUSTED,
    reason="because",
    description="A description: with a colon",
    run_id="r1",
    model="m",
    cost_usd=0.25,
    created_at=datetime(2026, 11, 21, 12, tzinfo=UTC),
)


def test_a_trace_comes_back_from_yaml_and_json() -> None:
    assert loads_yaml(dumps_yaml(TRACE)) == TRACE
    assert loads_json(dumps_json(TRACE)) == TRACE
    assert from_data(to_data(TRACE)) == TRACE


def printable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def own_refs_only(expr: Any) -> bool:
    return not list(references(expr))


@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    goal=TEXTS.filter(lambda text: bool(text.strip()) and printable(text)),
    args=st.dictionaries(KEYS.filter(printable), EXPRS.filter(own_refs_only), max_size=3),
    description=TEXTS.filter(printable),
    status=st.sampled_from(Status),
    expected=st.one_of(st.none(), st.integers(), TEXTS),
)
@example(
    goal="x",
    args={"a": Const(value="\x85 \u2028 \ufeff\x7f trailing \n\n")},
    description="\x85",
    status=Status.TRUSTED,
    expected=1,
)
@example(goal="x", args={"a": Const(value="2026-11-21")}, description="yes", status=Status.TRUSTED, expected="0x1")
@example(
    goal="x", args={"a": Const(value="\n  indented\n\ttab \r\n")}, description="", status=Status.TRUSTED, expected=""
)
def test_any_trace_comes_back(goal: str, args: dict[str, Any], description: str, status: Status, expected: Any) -> None:
    steps = (Step(id="one", tool="t", args=args, checks=(Check(kind=CheckKind.OUTPUT_TYPE, expected=expected),)),)
    trace = Trace(id="x", goals=(escape_template(goal),), steps=steps, description=description, status=status)
    assert loads_json(dumps_json(trace)) == trace
    assert loads_yaml(dumps_yaml(trace)) == trace


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80).map(lambda data: data.decode("utf-8", "replace"))))
@example("")
@example("a: &x 1\nb: *x")
@example("!!python/object:os.system {}")
@example("[" * 5000)
@example("{" * 5000)
@example("- " * 3000)
@example("format: 1\nid: x\ngoals: [a]\nsteps: [{id: a, tool: t, args: {d: 2026-11-21}}]")
@example("format: 1\nid: x\ngoals: [a]\nsteps: [{id: a, tool: t, args: {d: .nan}}]")
@example("format: 1\nid: x\ngoals: [a]\nsteps: [{id: a, tool: t, args: {d: {1: 2}}}]")
@example("? [a]\n: b")
def test_what_is_no_trace_is_refused_in_a_sentence(text: str) -> None:
    for load in (loads_yaml, loads_json):
        with pytest.raises(TraceFormatError):
            load(text)


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_file_is_a_trace_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([dumps_yaml(TRACE), dumps_json(TRACE)]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    damaged = text[:start] + data.draw(st.text(max_size=6)) + text[end:]
    for load in (loads_yaml, loads_json):
        try:
            assert isinstance(load(damaged), Trace)
        except TraceFormatError as error:
            assert str(error)


CHANGES: list[tuple[str, Any, str]] = [
    ("format", 2, "format 2"),
    ("format", None, "format None"),
    ("id", "", "id"),
    ("id", 5, "id"),
    ("goals", [], "goals"),
    ("goals", ["Convert {source}"], "exactly once"),
    ("goals", ["Convert {source} into {target} {target}"], "exactly once"),
    ("goals", ["{"], "brace"),
    ("steps", [], "steps"),
    ("steps", [{"id": "a"}], "tool"),
    ("steps", [{"id": "a b", "tool": "t"}], "step id"),
    ("steps", [{"id": "a", "tool": "t", "args": {"x": "${{ nothing }}"}}], "nothing"),
    ("steps", [{"id": "a", "tool": "t", "args": {"x": "${{ steps.later.x }}"}}], "later"),
    ("steps", [{"id": "a", "tool": "t", "args": {}}], "used by no step"),
    ("steps", [{"id": "a", "tool": "t", "checks": [{"odd": 1}]}], "odd"),
    ("steps", [{"id": "a", "tool": "t", "checks": [{"file_exists": "${{ gone }}"}]}], "gone"),
    ("status", "great", "great"),
    ("version", 0, "version"),
    ("version", True, "version"),
    ("cost_usd", -1, "cost_usd"),
    ("cost_usd", float("nan"), "cost_usd"),
    ("created_at", "yesterday", "created_at"),
    ("extra", 1, "extra"),
    ("slots", {"steps": "path"}, "taken"),
    ("slots", {"a-b": "path"}, "name"),
    ("slots", {"größe": "path"}, "name"),
    ("slots", {"x": "colour"}, "colour"),
    ("slots", {"x": {"type": "choice"}}, "values"),
    ("run_id", {"a": 1}, "run_id"),
    ("model", [1], "model"),
]


@pytest.mark.parametrize(("key", "value", "named"), CHANGES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CHANGES)])
def test_what_is_wrong_is_named(key: str, value: Any, named: str) -> None:
    with pytest.raises(TraceFormatError, match=named):
        from_data({**to_data(TRACE), key: value})


def test_the_error_names_source_and_line() -> None:
    with pytest.raises(TraceFormatError, match=r"mine\.yaml, line \d"):
        loads_yaml("format: 1\nid: [", source="mine.yaml")
    with pytest.raises(TraceFormatError, match=r"mine\.yaml"):
        loads_yaml("- 1", source="mine.yaml")


def test_yaml_is_for_people() -> None:
    step = replace(TRACE.calls[0], args={**TRACE.calls[0].args, "sql": Const(value="SELECT 1\nFROM x")})
    text = dumps_yaml(replace(TRACE, steps=(step,)))
    assert "sql: |-\n" in text
    assert json.loads(dumps_json(TRACE))["id"] == "convert-a1"


LOOPS = """
format: 1
id: convert-each
goals: ["Convert {files} into {folder}"]
slots: {files: {type: path, many: true}, folder: path}
steps:
- id: outer
  for_each: ${{ files }}
  where:
  - equals: ["${{ each.outer | suffix }}", .csv]
  expect:
  - plain: ${{ each.outer }}
  when:
  - exists: ${{ folder }}
  steps:
  - id: read
    tool: read
    args: {file_path: "${{ each.outer }}"}
    effect: read
  - id: inner
    for_each: ${{ steps.read.text | lines }}
    steps:
    - id: write
      tool: write
      args: {file_path: "${{ folder }}/${{ index.outer }}-${{ index.inner }}", content: "${{ each.inner }}"}
      effect: write
      when:
      - not_empty: ${{ each.inner }}
- id: note
  tool: write
  args: {file_path: done.txt, content: "${{ steps.outer | count }}"}
  when:
  - exists: ${{ folder }}
"""


def test_loops_and_conditions_survive_both_codecs() -> None:
    trace = loads_yaml(LOOPS)
    assert loads_yaml(dumps_yaml(trace)) == trace
    assert loads_json(dumps_json(trace)) == trace
    assert [step.id for step in trace.calls] == ["read", "write", "note"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("where:", "whither:", "unknown key 'whither'"),
        ("each.inner", "each.other", "does not stand inside a loop 'other'"),
        ("index.inner", "index.note", "does not stand inside a loop 'note'"),
        ("steps.outer |", "steps.read |", "step 'read' is not an earlier step"),
        ("steps.outer | count", "each.outer", "does not stand inside a loop 'outer'"),
        ("- plain:", "- pretty:", "is not known"),
        (", .csv]", "]", "compares two values"),
        ("- plain: ${{ each.outer }}", "- {plain: 1, empty: 2}", "a condition is one pair"),
        ("for_each: ${{ files }}", "for_each: files", "a list or a reference to one"),
        ("id: inner", "id: read", "must be unique"),
        ("id: inner", "id: each", "not `each`"),
        ("many: true", "many: 2", "must be true or false"),
        ("steps.read.text", "steps.inner", "step 'inner' is not an earlier step"),
    ],
)
def test_a_loop_that_does_not_hold_together_is_refused(old: str, new: str, said: str) -> None:
    assert old in LOOPS
    with pytest.raises(TraceFormatError, match=re.escape(said)):
        loads_yaml(LOOPS.replace(old, new))


def test_what_may_be_left_out_is_only_used_under_the_same_condition() -> None:
    head, _, tail = LOOPS.rpartition("  when:")
    with pytest.raises(TraceFormatError, match="may have been left out"):
        loads_yaml(head + tail.partition("\n")[2].partition("\n")[2])


def test_loops_in_loops_without_end_are_refused() -> None:
    steps: list[dict[str, object]] = [{"id": "last", "tool": "t"}]
    for depth in range(9):
        steps = [{"id": f"l{depth}", "for_each": [1], "steps": steps}]
    with pytest.raises(TraceFormatError, match="more than 8 loops"):
        from_data({"format": 1, "id": "deep", "goals": ["Go deep"], "steps": steps})
