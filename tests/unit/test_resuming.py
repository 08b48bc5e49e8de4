"""A replay that diverged goes on from a later place: where it may, what it needs for that, and what is done then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import DivergenceError, ToolError
from llmos.kernel.bus import EventBus
from llmos.kernel.replay import Follower, Replay
from llmos.kernel.resuming import Resuming
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.trace.program import Check, CheckKind, Effect, Loop, Node, Step, Trace
from llmos.trace.values import Const, Expr, ItemRef, OutputRef, Transform

BROKEN: set[str] = set()
DONE: list[str] = []


@llm_tool("list", "List entries", {"of": str}, effect=Effect.READ, open_world=False, version="1")
async def listing(of: str) -> dict[str, Any]:
    if of in BROKEN:
        raise ToolError(f"{of} is broken")
    return {"entries": [{"name": name} for name in of.split()], "first": of.split()[0]}


@llm_tool("put", "Put something down", {"what": str}, effect=Effect.WRITE, open_world=False, version="1")
async def put(what: str) -> dict[str, Any]:
    if what in BROKEN:
        raise ToolError(f"{what} is broken")
    DONE.append(what)
    return {"text": f"put {what}"}


@pytest.fixture(autouse=True)
def _clean() -> None:
    BROKEN.clear()
    DONE.clear()


def do(name: str, what: Expr | str, tool: str = "put", **more: Any) -> Step:
    param, effect = ("of", Effect.READ) if tool == "list" else ("what", Effect.WRITE)
    expr = Const(value=what) if isinstance(what, str) else what
    return Step(id=name, tool=tool, args={param: expr}, effect=effect, tool_version="1", **more)


def each(loop: str = "loop") -> ItemRef:
    return ItemRef(loop=loop, path=("name",))


LIST = do("list", "a b c", "list")
LOOP = Loop(
    id="loop",
    over=OutputRef(step="list", path=("entries",)),
    steps=(do("one", each()), do("two", OutputRef(step="one", path=("text",)))),
)
LAST = do("last", OutputRef(step="list", path=("first",)))


def stopped(tmp_path: Path, *nodes: Node) -> Resuming:
    """A follower that has met what is broken."""
    registry = ToolRegistry()
    for tool in (listing, put):
        registry.register(tool_of(tool))
    trace = Trace(id="t", goals=("go",), steps=nodes)
    follower = Follower(
        trace=trace, bindings={}, registry=registry, ctx=ToolContext(workspace=tmp_path), bus=EventBus()
    )
    with pytest.raises(DivergenceError):
        asyncio.run(follower.run())
    return Resuming(follower=follower)


def resumed(resuming: Resuming, label: str, **given: Any) -> Replay:
    BROKEN.clear()
    place = resuming.places()[label]
    resuming.prepare(place, given)
    return asyncio.run(resuming.resume(place))


def test_the_step_where_it_stopped_is_tried_again_and_the_rest_follows(tmp_path: Path) -> None:
    BROKEN.add("b")
    resuming = stopped(tmp_path, LIST, LOOP, LAST)
    assert DONE == ["a", "put a"]
    replay = resumed(resuming, "one[1]")
    assert DONE == ["a", "put a", "b", "put b", "c", "put c", "a"]
    assert [sorted(made) for made in replay.outputs["loop"]] == [["each", "one", "two"]] * 3
    assert replay.answer == "put a"


def test_the_places_are_what_comes_next_from_the_inside_out(tmp_path: Path) -> None:
    BROKEN.add("put b")
    resuming = stopped(tmp_path, LIST, LOOP, LAST)
    assert list(resuming.places()) == ["two[1]", "one[2]", "last"]
    assert [(part.loop, len(part.entries), [node.id for node in part.nodes]) for part in resuming.left()] == [
        ("", 0, ["two"]),
        ("loop", 1, ["one", "two"]),
        ("", 0, ["last"]),
    ]


def test_the_next_entry_leaves_the_one_under_way_to_others(tmp_path: Path) -> None:
    BROKEN.add("b")
    replay = resumed(stopped(tmp_path, LIST, LOOP, LAST), "one[2]")
    assert DONE == ["a", "put a", "c", "put c", "a"]
    assert [sorted(made) for made in replay.outputs["loop"]] == [
        ["each", "one", "two"],
        ["each"],
        ["each", "one", "two"],
    ]


def test_a_later_step_leaves_the_whole_loop_to_others(tmp_path: Path) -> None:
    BROKEN.add("b")
    assert resumed(stopped(tmp_path, LIST, LOOP, LAST), "last").answer == "put a"
    assert DONE == ["a", "put a", "a"]


def test_what_all_of_a_loop_gave_can_not_be_left_out(tmp_path: Path) -> None:
    BROKEN.add("b")
    names = (Transform(name="column", args=("one",)), Transform(name="count"))
    after = do("list_2", OutputRef(step="loop", transforms=names), "list")
    resuming = stopped(tmp_path, LIST, LOOP, after)
    with pytest.raises(ToolError, match=r"need what all of \[loop\] gave"):
        resuming.needed(resuming.places()["list_2"])
    assert resuming.needed(resuming.places()["one[2]"]) == ["one[1]", "two[1]"]


def test_an_output_that_the_rest_needs_must_be_given_and_pass_the_checks_of_its_step(tmp_path: Path) -> None:
    BROKEN.add("a b c")
    expected = {"path": ["first"], "type": "string"}
    checked = do("list", "a b c", "list", checks=(Check(kind=CheckKind.VALUE_TYPE, expected=expected),))
    resuming = stopped(tmp_path, do("start", "start"), checked, LAST)
    place = resuming.places()["last"]
    with pytest.raises(ToolError, match=r"needs what \[list\] would have given"):
        resuming.prepare(place, {})
    for wrong in ({"first": 3}, {"other": "x"}):
        with pytest.raises(ToolError, match=r"can't be replayed from \[last\]"):
            resuming.prepare(place, {"list": wrong})
        assert "list" not in resuming.frames[0].outputs, "a refusal must leave nothing behind"
    assert resumed(resuming, "last", list={"first": "given"}).answer == "put given"
    assert DONE == ["start", "given"]


def test_a_list_that_is_given_is_gone_through(tmp_path: Path) -> None:
    BROKEN.add("a b c")
    resuming = stopped(tmp_path, LIST, LOOP)
    replay = resumed(resuming, "loop", list={"entries": [{"name": "x"}, {"name": "y"}]})
    assert DONE == ["x", "put x", "y", "put y"]
    assert len(replay.outputs["loop"]) == 2


def test_a_list_of_another_kind_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    BROKEN.add("a b c")
    resuming = stopped(tmp_path, LIST, LOOP)
    with pytest.raises(ToolError, match="expected a list"):
        resuming.prepare(resuming.places()["loop"], {"list": {"entries": "x"}})
    assert DONE == []


def test_a_loop_inside_a_loop_goes_on_where_it_was(tmp_path: Path) -> None:
    outer = Loop(
        id="outer",
        over=Const(value=[{"name": "p q"}, {"name": "r s"}]),
        steps=(
            do("list", each("outer"), "list"),
            Loop(id="inner", over=OutputRef(step="list", path=("entries",)), steps=(do("put", each("inner")),)),
            do("end", each("outer")),
        ),
    )
    BROKEN.add("q")
    resuming = stopped(tmp_path, outer)
    assert list(resuming.places()) == ["put[0][1]", "end[0]", "list[1]"]
    assert [step[0] for step in resuming.calls_left()] == ["put[0][1]", "end[0]", "list[1]", "end[1]"]
    resumed(resuming, "put[0][1]")
    assert DONE == ["p", "q", "p q", "r", "s", "r s"]


def test_a_goal_that_was_not_reached_leaves_nothing_to_go_on_with(tmp_path: Path) -> None:
    registry = ToolRegistry()
    registry.register(tool_of(put))
    missing = Check(kind=CheckKind.FILE_EXISTS, expected="never.txt")
    trace = Trace(id="t", goals=("go",), steps=(do("put", "x"),), checks=(missing,))
    follower = Follower(
        trace=trace, bindings={}, registry=registry, ctx=ToolContext(workspace=tmp_path), bus=EventBus()
    )
    with pytest.raises(DivergenceError, match="the goal was not reached"):
        asyncio.run(follower.run())
    resuming = Resuming(follower=follower)
    assert (resuming.places(), list(resuming.left()), follower.settled) == ({}, [], 1)
