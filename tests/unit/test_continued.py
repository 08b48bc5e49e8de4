"""A replay that an earlier process had begun: every place it may have been cut off at, and what is refused then."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import DivergenceError
from llmos.kernel.bus import EventBus
from llmos.kernel.continued import Continued, Recording, is_needed, is_worth_keeping
from llmos.kernel.journal import key_of
from llmos.kernel.replay import Follower
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.trace.effects import JournalEntry, Outcome, Reach
from llmos.trace.program import Answer, Check, CheckKind, Effect, Loop, Step, Trace
from llmos.trace.run import StepRecord
from llmos.trace.values import Const, ItemRef, OutputRef

DONE: list[str] = []


@llm_tool("list", "List entries", {"of": str}, effect=Effect.READ, open_world=False, version="1")
async def listing(of: str) -> dict[str, Any]:
    return {"entries": [{"name": name} for name in of.split()]}


@llm_tool("put", "Put something down", {"what": str}, effect=Effect.WRITE, open_world=False, version="1")
async def put(what: str) -> dict[str, Any]:
    DONE.append(what)
    return {"text": f"put {what}"}


@pytest.fixture(autouse=True)
def _clean() -> None:
    DONE.clear()


LIST = Step(id="list", tool="list", args={"of": Const(value="a b c")}, effect=Effect.READ, tool_version="1")
EACH = Step(id="one", tool="put", args={"what": ItemRef(loop="loop", path=("name",))}, effect=Effect.WRITE)
LOOP = Loop(id="loop", over=OutputRef(step="list", path=("entries",)), steps=(EACH,))
LAST = Step(id="last", tool="put", args={"what": Const(value="end")}, effect=Effect.WRITE)
TOLD = Answer(expr=OutputRef(step="last", path=("text",)))


def trace_of(*steps: Step | Loop, answer: Answer = TOLD) -> Trace:
    return Trace(id="t", version=1, goals=("Put",), steps=steps, answer=answer)


TRACE = trace_of(LIST, LOOP, LAST)


def follower(trace: Trace, root: Path, kept: list[StepRecord], continued: Continued | None = None) -> Follower:
    registry = ToolRegistry()
    for function in (listing, put):
        registry.register(tool_of(function))
    recording = Recording(trace=trace, keep=kept.append)
    around = (recording,) if continued is None else (continued, recording)
    ctx = ToolContext(workspace=root, run_id="r", middleware=around)
    made = Follower(trace=trace, bindings={}, registry=registry, ctx=ctx, bus=EventBus())
    made.made = 0 if continued is None else continued.made
    return made


def whole(root: Path) -> list[StepRecord]:
    """The records of a replay that nobody cut off."""
    kept: list[StepRecord] = []
    asyncio.run(follower(TRACE, root, kept).run())
    DONE.clear()
    return kept


def lost(record: StepRecord) -> JournalEntry:
    return JournalEntry(
        run_id="r",
        step=record.index,
        tool=record.tool,
        tool_version="1",
        effect=Effect.WRITE,
        key=key_of(record.tool, "1", record.args),
        arguments=record.args,
        workspace="/",
        reach=Reach.EXACT,
        outcome=Outcome.DONE,
    )


@pytest.mark.parametrize("made", range(6))
def test_cut_off_anywhere_the_rest_is_done_and_nothing_twice(tmp_path: Path, made: int) -> None:
    records, kept = whole(tmp_path), list[StepRecord]()
    continued = Continued(trace=TRACE, records={one.index: one for one in records[:made]})
    replay = asyncio.run(follower(TRACE, tmp_path, kept, continued).run())
    assert [one.index for one in records] == [0, 1, 2, 3, 4]
    done = ["a", "b", "c", "end"]
    assert done[max(0, made - 1) :] == DONE
    assert [one.index for one in kept] == [*range(made, 5)]
    assert [(one.tool, one.args, one.output) for one in replay.records] == [
        (one.tool, one.args, one.output) for one in records
    ]
    assert replay.answer == "put end"


def test_what_is_lost_and_not_asked_for_is_passed_over(tmp_path: Path) -> None:
    records = whole(tmp_path)
    known, gone = {one.index: one for one in records[:3]}, {3: lost(records[3])}
    replay = asyncio.run(follower(TRACE, tmp_path, [], Continued(trace=TRACE, records=known, lost=gone)).run())
    assert (DONE, replay.answer) == (["end"], "put end")


def test_what_is_lost_and_asked_for_stops_it(tmp_path: Path) -> None:
    records = whole(tmp_path)
    known, gone = {one.index: one for one in records[:4]}, {4: lost(records[4])}
    continued = Continued(trace=TRACE, records=known, lost=gone)
    with pytest.raises(DivergenceError):
        asyncio.run(follower(TRACE, tmp_path, [], continued).run())
    assert "put was made as step 5 and what it gave is lost, so nobody can go on" in str(continued.refused)
    assert DONE == []


def test_other_calls_than_were_made_stop_it(tmp_path: Path) -> None:
    records = whole(tmp_path)
    known = {one.index: one for one in records[:3]}
    known[1] = replace(known[1], args={"what": "z"})
    continued = Continued(trace=TRACE, records=known)
    with pytest.raises(DivergenceError):
        asyncio.run(follower(TRACE, tmp_path, [], continued).run())
    assert "step 2 was put {'what': 'z'}, and would be put {'what': 'a'} now" in str(continued.refused)
    assert DONE == []


def test_a_call_is_known_that_needs_no_judging(tmp_path: Path) -> None:
    records = whole(tmp_path)
    continued = Continued(trace=TRACE, records={1: records[1]}, lost={2: lost(records[2])})
    asked = follower(TRACE, tmp_path, [])
    asked.preflight()
    (end,) = [call for call in asked.foreseen if call.tool.name == "put"]
    assert not continued.is_done(end)
    for number, known in ((1, True), (2, True), (3, False)):
        assert continued.is_done(replace(end, arguments=records[number].args)) is known


def test_a_step_is_needed_for_its_checks_for_a_reference_and_for_the_answer() -> None:
    checked = replace(LAST, checks=(Check(kind=CheckKind.NOT_EMPTY, expected="text"),))
    assert [is_needed(TRACE, one) for one in ("list", "one", "last")] == [True, False, True]
    assert is_needed(trace_of(LIST, LOOP, LAST, answer=Answer(expr=OutputRef(step="loop", path=()))), "one")
    assert is_needed(trace_of(LIST, LOOP, checked, answer=Answer(expr=Const(value="x"))), "last")
    assert not is_needed(trace_of(LIST, LOOP, LAST, answer=Answer(expr=Const(value="x"))), "last")
    assert is_needed(trace_of(LIST, LOOP, LAST, answer=Answer()), "last")


def test_what_has_one_call_or_changes_nothing_is_not_kept() -> None:
    assert is_worth_keeping(TRACE)
    assert is_worth_keeping(trace_of(LIST, LAST))
    assert not is_worth_keeping(trace_of(LAST))
    assert not is_worth_keeping(trace_of(LIST, replace(LIST, id="again"), answer=Answer()))
