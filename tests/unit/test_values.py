"""Provenance expressions: evaluation, and a text form that gives every expression back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given

from llmos.errors import TraceFormatError
from llmos.trace.values import (
    Const,
    EnvRef,
    OutputRef,
    Record,
    Scope,
    SlotRef,
    Text,
    Transform,
    UnboundError,
    evaluate,
    has_opaque,
    parse,
    parse_reference,
    references,
    unparse,
)
from tests.unit.strategies import EXPRS, JSON, TEXTS


@given(JSON)
@example({"$opaque": 1})
@example({"$$opaque": {"$opaque": "${{ x }}"}})
@example("$${{ a }} $$$${{")
@example("${{")
def test_any_constant_survives_its_text_form(value: Any) -> None:
    written = unparse(Const(value=value))
    assert parse(written) == Const(value=value)
    assert evaluate(parse(written), Scope()) == value


@given(EXPRS)
@example(Text(parts=("cost $", SlotRef(name="x"))))
@example(Text(parts=("${{", SlotRef(name="x"), "}}")))
@example(OutputRef(step="s", path=("a}}b", '"', 0)))
@example(Record(fields=(("$opaque", SlotRef(name="x")),)))
def test_any_expression_survives_its_text_form(expr: Any) -> None:
    assert parse(unparse(expr)) == expr


@given(TEXTS)
def test_any_text_is_read_or_refused_in_a_sentence(text: str) -> None:
    try:
        parse(text)
    except TraceFormatError as error:
        assert str(error)


def test_a_doubled_dollar_is_a_literal_hole() -> None:
    assert parse("$${{ x }} and ${{ y }}") == Text(parts=("${{ x }} and ", SlotRef(name="y")))


def test_a_single_hole_keeps_the_type_of_its_value() -> None:
    scope = Scope(slots={"n": "1,200"}, outputs={"s": {"rows": [1, 2]}})
    assert evaluate(parse("${{ n | number }}"), scope) == 1200
    assert evaluate(parse("${{ steps.s.rows }}"), scope) == [1, 2]
    assert evaluate(parse("n=${{ n | number }} rows=${{ steps.s.rows }}"), scope) == "n=1200 rows=[1, 2]"


@pytest.mark.parametrize("source", ["", "1x", "x | nothing", "x.part", "x y", "secret.a | lower", "x | join(1"])
def test_an_unreadable_hole_is_refused(source: str) -> None:
    with pytest.raises(TraceFormatError):
        parse_reference(source)


@pytest.mark.parametrize("data", [{1: 2}, [float("nan")], float("inf"), b"x", {"a": {3}}, object()])
def test_what_is_not_json_is_refused(data: Any) -> None:
    with pytest.raises(TraceFormatError):
        parse(data)


@pytest.mark.parametrize(
    ("expr", "missing"),
    [
        (SlotRef(name="x"), "slot 'x'"),
        (OutputRef(step="s"), "step 's'"),
        (OutputRef(step="t", path=("rows", 3)), r"steps\.t\.rows\[3\]"),
        (EnvRef(name="today"), r"env\.today"),
        (OutputRef(step="t", path=("rows",), transforms=(Transform(name="lower"),)), "lower"),
    ],
)
def test_what_is_missing_is_named(expr: Any, missing: str) -> None:
    with pytest.raises(UnboundError, match=missing):
        evaluate(expr, Scope(outputs={"t": {"rows": [1]}}))


def test_a_tool_that_changes_its_arguments_changes_no_trace_and_no_output() -> None:
    constant, outputs = Const(value={"a": [1]}), {"s": {"rows": [1]}}
    for expr in (constant, OutputRef(step="s")):
        evaluate(expr, Scope(outputs=outputs)).clear()
    assert constant == Const(value={"a": [1]})
    assert outputs == {"s": {"rows": [1]}}


def test_references_are_found_everywhere() -> None:
    expr = parse({"a": ["${{ x }}", "y ${{ steps.s.t }}"], "b": {"c": "${{ secret.K }}"}, "d": {"$opaque": 1}})
    assert [type(ref).__name__ for ref in references(expr)] == ["SlotRef", "OutputRef", "SecretRef"]
    assert has_opaque(expr)
    assert not has_opaque(parse({"a": 1}))
