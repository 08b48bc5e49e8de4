"""Choices: what only one of two runs did gets the condition that tells the two runs apart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import TraceFormatError
from llmos.kernel.bus import EventBus
from llmos.kernel.replay import Follower, Replay
from llmos.trace.codec import dumps_yaml, loads_yaml
from llmos.trace.guards import Side, guarded
from llmos.trace.program import Check, CheckKind, Condition, ConditionKind, Effect, Slot, SlotType, Step, Trace
from llmos.trace.run import StepRecord
from llmos.trace.values import Const, Expr, Opaque, OutputRef, SlotRef
from tests.unit.trace_lab import Lab

GLOB: dict[str, Expr] = {"pattern": Const(value="logs/*.log")}
NAMED: dict[str, Expr] = {"file_path": SlotRef(name="target"), "content": Const(value="there were logs")}
EMPTY = {"files": [], "count": 0, "text": "No file matches."}
FOUND = {"files": ["logs/a.log"], "count": 1, "text": "logs/a.log"}


def look(sha: str, step: str = "glob") -> Step:
    check = Check(kind=CheckKind.OUTPUT_SHA256, expected=sha * 64)
    return Step(id=step, tool="glob", args=GLOB, effect=Effect.READ, checks=(check,))


def write(step: str = "write", text: str = "there were logs") -> Step:
    args = {**NAMED, "content": Const(value=text)}
    return Step(id=step, tool="write", args=args, effect=Effect.WRITE)


def trace_of(*steps: Step) -> Trace:
    slot = Slot(name="target", type=SlotType.PATH)
    return Trace(id="note", goals=("Note in {target} whether there are logs",), slots=(slot,), steps=steps)


def side(outputs: dict[str, Any], *steps: Step, failed: tuple[StepRecord, ...] = ()) -> Side:
    return Side(trace=trace_of(*steps), outputs=outputs, failed=failed, bindings={"target": "n.txt"})


def follow(lab: Lab, trace: Trace) -> Replay:
    follower = Follower(trace=trace, bindings={"target": "n.txt"}, registry=lab.registry, ctx=lab.ctx, bus=EventBus())
    return asyncio.run(follower.run())


def kinds(trace: Trace) -> list[list[ConditionKind]]:
    return [[one.kind for one in step.when] for step in trace.calls]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_what_only_one_run_did_depends_on_the_look_up_before_it(lab: Lab) -> None:
    made = guarded(side({"glob": FOUND}, look("a"), write()), side({"glob": EMPTY}, look("b")))
    assert made is not None
    made = loads_yaml(dumps_yaml(made))
    assert kinds(made) == [[], [ConditionKind.NOT_EMPTY]]
    follow(lab, made)
    assert not (lab.workspace / "n.txt").exists()
    lab.write("logs/z.log", "")
    follow(lab, made)
    assert lab.text("n.txt") == "there were logs"


def test_the_choice_is_the_same_whichever_run_came_first() -> None:
    one = guarded(side({"glob": FOUND}, look("a"), write()), side({"glob": EMPTY}, look("b")))
    other = guarded(side({"glob": EMPTY}, look("b")), side({"glob": FOUND}, look("a"), write()))
    assert one is not None and other is not None
    assert [step.when for step in one.calls] == [step.when for step in other.calls]


def test_two_different_deeds_become_either_and_or(lab: Lab) -> None:
    made = guarded(
        side({"glob": FOUND}, look("a"), write(text="some")), side({"glob": EMPTY}, look("b"), write(text="none"))
    )
    assert made is not None
    assert kinds(made) == [[], [ConditionKind.NOT_EMPTY], [ConditionKind.EMPTY]]
    follow(lab, made)
    assert lab.text("n.txt") == "none"
    lab.write("logs/z.log", "")
    follow(lab, made)
    assert lab.text("n.txt") == "some"


def test_a_file_that_one_run_could_not_read_decides(lab: Lab) -> None:
    read = Step(id="read", tool="read", args={"file_path": SlotRef(name="target")}, effect=Effect.READ)
    again = replace(write(), args={**NAMED, "content": OutputRef(step="read", path=("text",))})
    missing = StepRecord(
        index=0, tool="read", args={"file_path": "n.txt"}, output="n.txt does not exist", is_error=True
    )
    made = guarded(side({"read": {"text": "old"}}, read, again), side({}, write(text="new"), failed=(missing,)))
    assert made is not None
    assert kinds(made) == [[ConditionKind.EXISTS], [ConditionKind.EXISTS], [ConditionKind.MISSING]]
    follow(lab, made)
    assert lab.text("n.txt") == "new"
    follow(lab, made)
    assert lab.text("n.txt") == "new"


def test_a_condition_is_asked_once_though_the_first_step_turns_it(lab: Lab) -> None:
    absent = Condition(kind=ConditionKind.MISSING, value=SlotRef(name="target"))
    second = replace(write("write_2", "second"), when=(absent,))
    follow(lab, trace_of(replace(write(text="first"), when=(absent,)), second))
    assert lab.text("n.txt") == "second"


def test_two_look_ups_that_both_differ_decide_nothing() -> None:
    other = replace(look("c", "glob_2"), args={"pattern": Const(value="*.txt")})
    one = side({"glob": FOUND, "glob_2": FOUND}, look("a"), other, write())
    assert guarded(one, side({"glob": EMPTY, "glob_2": EMPTY}, look("b"), replace(other, checks=()))) is None


@pytest.mark.parametrize(
    ("seen", "then"),
    [
        ({"hidden": False, "locked": False}, {"hidden": True, "locked": True}),
        ({"warnings": [], "errors": ["x"]}, {"warnings": ["y"], "errors": []}),
        ({"locked": False, "files": ["a"]}, {"locked": True, "files": []}),
        ({"files": ["a"], "count": 7}, {"files": [], "count": 0}),
    ],
)
def test_a_look_up_that_differs_in_two_things_decides_nothing(seen: dict[str, Any], then: dict[str, Any]) -> None:
    assert guarded(side({"glob": seen}, look("a"), write()), side({"glob": then}, look("b"))) is None


def test_a_look_up_that_differs_in_content_only_decides_nothing() -> None:
    more = {"files": ["logs/b.log"], "count": 1, "text": "logs/b.log"}
    assert guarded(side({"glob": FOUND}, look("a"), write()), side({"glob": more}, look("b"))) is None


def test_a_constant_read_off_the_look_up_keeps_both_runs_apart() -> None:
    named = write(text="seen: logs/a.log")
    assert guarded(side({"glob": FOUND}, look("a"), named), side({"glob": EMPTY}, look("b"))) is None


def test_what_the_model_wrote_from_the_look_up_keeps_both_runs_apart() -> None:
    args = {**NAMED, "content": Opaque(value="a summary of it all")}
    prose = replace(write(), args=args)
    assert guarded(side({"glob": FOUND}, look("a"), prose), side({"glob": EMPTY}, look("b"))) is None
    made = guarded(side({"glob": FOUND}, look("a")), side({"glob": EMPTY}, look("b"), prose))
    assert made is not None and kinds(made) == [[], [ConditionKind.EMPTY]]


def test_a_step_may_not_use_what_may_have_been_left_out() -> None:
    absent = Condition(kind=ConditionKind.MISSING, value=SlotRef(name="target"))
    using = replace(write("write_2"), args={**NAMED, "content": OutputRef(step="glob", path=("text",))})
    with pytest.raises(TraceFormatError, match="may have been left out"):
        loads_yaml(dumps_yaml(trace_of(replace(look("a"), when=(absent,)), using)))
