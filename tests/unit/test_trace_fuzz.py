"""Random lessons: what is learned from one instance of a known program must never misread another instance of it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from llmos.trace.codec import dumps_json, dumps_yaml, loads_json, loads_yaml
from llmos.trace.induce import NotATrace, induce
from llmos.trace.lex import Kind, normalise, skeleton, template_skeleton, tokenize
from llmos.trace.match import Match, match
from llmos.trace.program import Effect, SlotType, Trace
from llmos.trace.run import StepRecord
from llmos.trace.values import Scope, UnboundError, evaluate
from tests.unit.strategies import GOALS
from tests.unit.trace_lab import ENV, FACTS, plugin, run_of, step

# Few values, so that they collide: with each other, with constants, with words of the goal, with outputs.
VALUES: dict[str, list[str]] = {
    "path": [
        "a.txt",
        "b.txt",
        "in/a.txt",
        "in/b.csv",
        "out/a_b.csv",
        "sales.csv",
        "report",
        "src/",
        "x.tar.gz",
        "/v/a.txt",
    ],
    "number": ["1", "2", "5", "10", "100", "1000", "1,000", "2.5", "99", "101", "007"],
    "quoted": ["'a'", "'foo'", "'sales'", "'a b'", '"it"', "'5'", "'a.txt'", "''", "'{x}'", "'${{ a }}'", "'O\"B'"],
    "identifier": ["v1", "unit_price", "a_b", "x2"],
}
WORDS = ["sort", "sales", "of", "to", "the", "by", "report", "not", "Foo", "a", "in", "5", "it", "from", "then"]
SHAPES = [
    "{0}",
    "{0}",
    "{0}",
    "{1}",
    "{0} {1}",
    "x {0}",
    "out/{stem0}.md",
    "{stem0}_report.csv",
    "{name1}",
    "{parent0}/z.txt",
]
SHAPES += [
    "cat {0} > {1}",
    "SELECT '{0}' FROM a WHERE n > {2}",
    "{0}_{1}",
    "page{2}.html",
    "x{0}",
    "({2})",
    "{2}0",
    "report",
    "a",
    "5",
    "sales",
]

Program = tuple[list[Any], list[dict[str, Any]]]


def plain(kind: str, text: str) -> Any:
    if kind == "quoted":
        return text[1:-1]
    if kind == "number":
        number = float(text.replace(",", ""))
        return int(number) if number.is_integer() else number
    return text.rstrip("/") if kind == "path" else text


def filled(shape: str, kinds: list[str], values: list[str]) -> Any:
    """An argument as the true program computes it from the goal's values; a lone hole keeps its type."""
    read = [plain(kind, value) for kind, value in zip(kinds, values, strict=True)]
    names: dict[str, str] = {}
    for index in range(3):
        value = read[index % len(read)]
        path = PurePosixPath(str(value))
        if shape == "{" + str(index) + "}":
            return value
        names |= {f"v{index}": str(value), f"stem{index}": path.stem, f"name{index}": path.name}
        names |= {f"parent{index}": str(path.parent)}
        shape = shape.replace("{" + str(index) + "}", "{v" + str(index) + "}")
    return shape.format(**names)


@st.composite
def lessons(draw: st.DrawFn) -> tuple[list[str], list[str], list[str], list[str], list[tuple[str, dict[str, str]]]]:
    """Kinds of the values, two sets of values, the words between them, and the calls' argument shapes."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3))
    first, second = ([draw(st.sampled_from(VALUES[kind])) for kind in kinds] for _ in range(2))
    words = [" ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))) for _ in range(len(kinds) + 1)]
    tools = st.sampled_from(["tool", "bash", "write"])
    shapes = st.sampled_from(SHAPES)
    calls = []
    for _ in range(draw(st.integers(1, 3))):
        tool = draw(tools)
        names = {"tool": ["p", "q"], "bash": ["command"], "write": ["file_path", "content"]}[tool]
        calls.append((tool, {name: draw(shapes) for name in names}))
    return kinds, first, second, words, calls


def looks_different(shape: str, kinds: list[str], values: list[str], words: list[str]) -> bool:
    """Whether one instance can't tell the shape: a constant that equals a value or the goal's words, a word glued to a
    value."""
    whole = [plain(kind, value) for kind, value in zip(kinds, values, strict=True)]
    glued = {"page{2}.html": 2, "x{0}": 0}.get(shape)
    if glued is not None and kinds[glued % len(kinds)] != "number":
        return True
    derived = re.search(r"(?:stem|name|parent)(\d)", shape)
    if derived is not None and kinds[int(derived[1]) % len(kinds)] != "path":
        return True
    direct = shape in ("{0}", "{1}")
    made = str(filled(shape, kinds, values))
    stands_there = "{" in shape and any(f" {made} " in f" {part} " for part in words)
    return not direct and (stands_there or made in [*map(str, whole), *values])


def goal_of(words: list[str], values: list[str]) -> str:
    return " ".join([part for pair in zip(words, values, strict=False) for part in pair] + [words[-1]])


def records_of(calls: list[tuple[str, dict[str, str]]], kinds: list[str], values: list[str]) -> list[StepRecord]:
    effects = {"tool": Effect.READ, "bash": Effect.UNKNOWN, "write": Effect.WRITE}
    return [
        step(tool, {name: filled(shape, kinds, values) for name, shape in shapes.items()}, "ok", effect=effects[tool])
        for tool, shapes in calls
    ]


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(lessons())
@example((["path"], ["a.txt"], ["/v/a.txt"], ["sort", "sort"], [("tool", {"p": "{0}", "q": "{parent0}/z.txt"})]))
@example(
    (
        ["path", "path"],
        ["report", "a.txt"],
        ["in/a.txt", "a.txt"],
        ["sort", "sort", "sort"],
        [("tool", {"p": "{0}", "q": "{parent0}/z.txt"})],
    )
)
def test_another_instance_is_done_right_or_not_at_all(lesson: Any) -> None:
    kinds, first, second, words, calls = lesson
    assume(not any(looks_different(shape, kinds, first, words) for _, shapes in calls for shape in shapes.values()))
    goal = goal_of(words, first)
    trace = induce(run_of(goal, *records_of(calls, kinds, first)), FACTS | {"tool": plugin("tool")}, ENV)
    assume(isinstance(trace, Trace))
    assert isinstance(trace, Trace)
    own = match(goal, trace)
    assert isinstance(own, Match)
    found = match(goal_of(words, second), trace)
    if not isinstance(found, Match):
        return
    expected = [record.args for record in records_of(calls, kinds, second)]
    try:
        scope = Scope(slots=found.bindings, env=ENV)
        made = [{name: evaluate(expr, scope) for name, expr in one.args.items()} for one in trace.calls]
    except UnboundError:
        return  # stops before the first effect
    if len(made) == len(expected):
        assert made == expected, (goal, goal_of(words, second), trace.goals)
    else:
        assert all(one in expected for one in made), (goal, goal_of(words, second), trace.goals)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(goal=GOALS, data=st.data())
def test_any_goal_matches_what_was_induced_from_it(goal: str, data: st.DataObject) -> None:
    tokens = tokenize(goal.strip())
    assume(any(char.isalnum() for char in goal))
    assume(not any((ord(char) < 32 and char not in "\n\t\r") or 0xD800 <= ord(char) < 0xF900 for char in goal))
    values = [token.value for token in tokens if token.kind.is_literal] or ["x"]
    args = {name: data.draw(st.sampled_from([*values, "constant", 5])) for name in ("p", "q")}
    trace = induce(run_of(goal, step("tool", args, "ok")), {"tool": plugin("tool")}, ENV)
    assert isinstance(trace, Trace), trace
    found = match(goal, trace)
    assert isinstance(found, Match)
    scope = Scope(slots=found.bindings, env=ENV)
    assert {name: evaluate(expr, scope) for name, expr in trace.calls[0].args.items()} == args
    assert loads_json(dumps_json(trace)) == trace
    assert loads_yaml(dumps_yaml(trace)) == trace
    if all(slot.type not in (SlotType.TEXT, SlotType.CHOICE) for slot in trace.slots):
        assert template_skeleton(trace.goals[0], trace.slots) == skeleton(goal)


@given(GOALS)
@example("0!?")
@example("0!!")
@example("say (1)!.")
def test_a_goal_with_nothing_to_vary_is_followed_for_itself_and_its_like(goal: str) -> None:
    assume(any(char.isalnum() for char in goal))
    assume(not any((ord(char) < 32 and char not in "\n\t\r") or 0xD800 <= ord(char) < 0xF900 for char in goal))
    trace = induce(run_of(goal, step("tool", {}, "ok")), {"tool": plugin("tool")}, ENV)
    assert not isinstance(trace, NotATrace), trace.reason
    for alike in (goal, f"  {goal} ", goal.replace(" ", "  ")):
        quoted = any(token.kind is Kind.QUOTED or " " in token.value for token in tokenize(goal))
        assert isinstance(match(alike, trace), Match) or quoted
    assert normalise(goal) == normalise(f"  {goal} ")
