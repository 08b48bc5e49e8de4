"""Traces whose tools have changed: set aside, proven again by the run they were made of, or left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmos.errors import DivergenceError, NothingToFollowError, NotPermittedError
from llmos.interfaces.feedback import FAILING
from llmos.testing import call, say
from llmos.trace.program import Status, Verdict
from tests.lab import Lab, MakeLab, finishing, steps

PLUGIN = """\
from plugins import llm_tool

@llm_tool("shout", "Say it louder", {"text": str}, read_only=True, open_world=False)
async def shout(text: str) -> dict:
    return {"text": text.upper() + "!"}
"""
REWRITTEN = PLUGIN.replace('text.upper() + "!"', '"".join([text.upper(), "!"])')
OTHERWISE = PLUGIN.replace("text.upper()", "text.lower()")
WRITER = """\
from plugins import llm_tool

@llm_tool("note", "Note it", {"text": str}, effect="write", open_world=False)
async def note(ctx, text: str) -> dict:
    ctx.resolve("note.txt").write_text(text)
    return {"text": "noted"}
"""
GOAL = 'Shout "hello there" out loud'
OTHER = 'Shout "good morning" out loud'


def shouting(make_lab: MakeLab) -> Lab:
    lab = make_lab(steps(call("shout", text="hello there"), *finishing("HELLO THERE!")))
    lab.plugin("shout.py", PLUGIN)
    return lab


async def test_a_tool_that_was_only_rewritten_is_proven_again_and_followed(make_lab: MakeLab) -> None:
    lab = shouting(make_lab)
    async with lab.boot() as system:
        name = str((await system.execute(GOAL)).trace_id).split("@")[0]
        lab.plugin("shout.py", REWRITTEN)
        asked = len(lab.server.requests)
        result = await system.execute(OTHER)
        trace = await system.traces.get(name)
        assert len(lab.server.requests) == asked
        assert trace.calls[0].tool_version == system.registry.get("shout").version
    assert (result.mode, result.answer, result.cost_usd) == ("follower", "GOOD MORNING!", 0.0)
    assert (trace.version, trace.status) == (2, Status.TRUSTED)


async def test_a_trace_set_aside_earlier_is_proven_again_when_it_is_wanted(make_lab: MakeLab) -> None:
    lab = shouting(make_lab)
    async with lab.boot() as system:
        name = str((await system.execute(GOAL)).trace_id).split("@")[0]
        await system.traces.set_status(name, Status.QUARANTINED, "the tool 'shout' has changed")
    lab.plugin("shout.py", REWRITTEN)
    async with lab.boot() as system:
        assert (await system.execute(OTHER, mode="follow")).answer == "GOOD MORNING!"


async def test_a_tool_that_does_something_else_leaves_its_traces_set_aside(make_lab: MakeLab) -> None:
    lab = shouting(make_lab)
    async with lab.boot() as system:
        name = str((await system.execute(GOAL)).trace_id).split("@")[0]
        lab.plugin("shout.py", OTHERWISE)
        with pytest.raises(DivergenceError):
            await system.execute(OTHER, mode="follow")
        with pytest.raises(NothingToFollowError, match="still is"):
            await system.execute(OTHER, mode="follow")
        told = await system.explain(OTHER)
        assert (await system.traces.get(name)).status is Status.QUARANTINED
    assert "is set aside: the tool 'shout' has changed" in told.reason


async def test_what_failed_too_often_is_not_revived_unasked(make_lab: MakeLab) -> None:
    lab = shouting(make_lab)
    async with lab.boot() as system:
        name = str((await system.execute(GOAL)).trace_id).split("@")[0]
        await system.traces.set_status(name, Status.QUARANTINED, f"{FAILING}: 3 replays in a row")
        with pytest.raises(NothingToFollowError):
            await system.execute(OTHER, mode="follow")
        trace, proof = await system.reviving.verify(await system.traces.get(name))
    assert (proof.verdict, trace.status) == (Verdict.PASS, Status.TRUSTED)


async def test_what_writes_asks_once_after_its_tool_has_changed(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("note", text="hello there"), *finishing("noted")))
    lab.plugin("note.py", WRITER)
    goal = 'Note "hello there" down'
    async with lab.boot() as system:
        name = str((await system.execute(goal)).trace_id).split("@")[0]
        await system.feedback.trust(await system.traces.get(name))
        lab.plugin("note.py", WRITER.replace("write_text(text)", "write_text(str(text))"))
        with pytest.raises(DivergenceError):
            await system.execute(goal, mode="follow")
        trace, proof = await system.reviving.verify(await system.traces.get(name))
        with pytest.raises(NotPermittedError):
            await system.execute(goal, mode="follow")
    assert (proof.verdict, trace.status) == (Verdict.PASS, Status.CANDIDATE)


async def test_a_trace_that_only_a_person_made_trusted_asks_again_after_it_was_set_aside(make_lab: MakeLab) -> None:
    lab = shouting(make_lab)
    async with lab.boot() as system:
        name = str((await system.execute(GOAL)).trace_id).split("@")[0]
        imported = replace(await system.traces.get(name), status=Status.CANDIDATE)
        await system.feedback.trust(await system.traces.add(imported))
        lab.plugin("shout.py", REWRITTEN)
        with pytest.raises(NotPermittedError):
            await system.execute(OTHER, mode="follow")


async def test_another_python_sets_the_traces_of_the_python_tool_aside(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("python", code="result = 2 * 21"), say("42")))
    goal = "Work out the answer with python"
    async with lab.boot() as system:
        name = str((await system.execute(goal)).trace_id).split("@")[0]
        trace = await system.traces.get(name)
        elsewhere = replace(trace.calls[0], tool_version="1 on Python 3.9, beos")
        await system.traces.add(replace(trace, steps=(elsewhere,), run_id=None))
        with pytest.raises(DivergenceError, match="'python' has changed"):
            await system.execute(goal, mode="follow")
        assert (await system.traces.get(name)).status is Status.QUARANTINED
