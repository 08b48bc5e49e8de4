"""Provenance expressions: evaluation, and a text form that gives every expression back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmos.errors import TraceFormatError
from llmos.trace.values import (
    Const,
    EnvRef,
    ListExpr,
    Opaque,
    OutputRef,
    Record,
    Scope,
    SecretRef,
    SlotRef,
    Text,
    Transform,
    UnboundError,
    evaluate,
    has_opaque,
    parse,
    parse_reference,
    references,
    text_of,
    unparse,
)

TEXTS = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.sampled_from(["$", "{", "}", "${{", "$${{", "}}", "$opaque", " x ", '"', "\\", "\n", "a|b", "${{ x }}"]),
        max_size=6,
    ).map("".join),
)
KEYS = st.one_of(TEXTS, st.sampled_from(["$opaque", "$$opaque", "$$$opaque", "$opaquex"]))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(
    lambda n: n not in ("steps", "env", "secret")
)
PATHS = st.lists(st.one_of(TEXTS, st.integers(min_value=-3, max_value=9), NAMES), max_size=3).map(tuple)
TRANSFORMS = st.lists(
    st.one_of(
        st.sampled_from(["stem", "lower", "number"]).map(lambda name: Transform(name=name)),
        TEXTS.map(lambda text: Transform(name="join", args=(text,))),
        st.integers().map(lambda n: Transform(name="table", args=(n,))),
    ),
    max_size=2,
).map(tuple)
REFS = st.one_of(
    st.builds(SlotRef, name=NAMES, transforms=TRANSFORMS),
    st.builds(OutputRef, step=NAMES, path=PATHS, transforms=TRANSFORMS),
    st.builds(EnvRef, name=NAMES, transforms=TRANSFORMS),
    st.builds(SecretRef, name=NAMES),
)


def is_mixed(expr: Text) -> bool:
    kinds = {isinstance(part, str) for part in expr.parts}
    return len(kinds) == 2 or len(expr.parts) > 1


EXPRS: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        JSON.map(lambda value: Const(value=value)),
        JSON.map(lambda value: Opaque(value=value)),
        REFS,
        st.tuples(REFS, st.lists(st.one_of(TEXTS, REFS), max_size=4))
        .map(lambda x: text_of([*x[1], x[0]]))
        .filter(is_mixed),
    ),
    lambda inner: st.one_of(
        st.tuples(REFS, st.lists(inner, max_size=2)).map(lambda x: ListExpr(items=(x[0], *x[1]))),
        st.tuples(KEYS, REFS, st.dictionaries(KEYS, inner, max_size=2)).map(
            lambda x: Record(fields=tuple({**x[2], x[0]: x[1]}.items()))
        ),
    ),
    max_leaves=4,
)


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
        (SecretRef(name="KEY"), "KEY"),
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
