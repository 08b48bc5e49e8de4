"""Processes that begin, await, write to and share with one another, through the real SDK and CLI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from llmos.errors import LLMOSError
from llmos.interfaces.results import Question
from llmos.kernel.process import End, State, Wait
from llmos.testing import Request, Script, Turn, call
from llmos.trace.program import Status
from tests.lab import MakeLab, finishing, steps, until


def by_goal(**scripts: Callable[[Request], Turn]) -> Script:
    """For whichever goal a conversation is about: the script whose name stands in its first message."""

    def script(request: Request) -> Turn:
        first = str(request.body["messages"][0])
        name = next(name for name in scripts if name in first)
        return scripts[name](request)

    return script


def given(request: Request, number: int) -> dict[str, Any]:
    """What the call of a number gave."""
    found: dict[str, Any] = json.JSONDecoder().raw_decode(request.tool_results[number].text)[0]
    return found


async def yes(question: Question) -> bool:
    return True


async def test_a_parent_waits_for_its_child_in_the_only_slot_and_is_told_what_came_of_it(make_lab: MakeLab) -> None:
    lab = make_lab(
        by_goal(
            Manage=steps(
                call("spawn_process", goal="Note the word blue", budget_usd=0.5, wait=True), *finishing("Delegated.")
            ),
            Note=steps(call("write", file_path="word.txt", content="blue"), *finishing("The word is blue.")),
        )
    )
    lab.configure("scheduler: {max_concurrent: 1}\n")
    async with lab.boot() as system:
        result = await system.execute("Manage it", confirm=yes, budget_usd=1.0)
        parent, child = system.home.processes
        run = await system.runs.get(child.run_id)
    told = result.outputs["spawn_process"]
    assert run.taint == ()  # what the child says taints its parent, not the child
    assert lab.read("word.txt") == "blue"
    assert (told["answer"], told["status"], told["pid"]) == ("The word is blue.", "done", child.pid)
    assert told["cost_usd"] == pytest.approx(child.spent_usd) != 0
    assert (child.parent, child.why, child.budget.allocated_usd) == (parent.pid, End.DONE, 0.5)
    assert parent.budget.spent_usd == pytest.approx(parent.spent_usd + child.spent_usd)


DELEGATING = steps(call("spawn_process", goal="Calculate 2 + 3", wait=True), *finishing("The child says 5"))


async def test_what_was_delegated_is_replayed_only_after_somebody_agreed(make_lab: MakeLab) -> None:
    lab = make_lab(DELEGATING)
    async with lab.boot() as system:
        first = await system.execute("Have a child calculate it", confirm=yes)
        run = await system.runs.get(first.run_id)
        assert run.trace_id is not None
        status = (await system.traces.get(run.trace_id)).status
        asked = len(lab.server.conversation)
        with pytest.raises(LLMOSError):
            await system.execute("Have a child calculate it", mode="follow")
        again = await system.execute("Have a child calculate it", confirm=yes)
        *_, child = system.home.processes
    assert status is Status.CANDIDATE
    assert (again.mode, again.cost_usd, len(lab.server.conversation)) == ("follower", 0.0, asked)
    assert (child.goal, child.mode, child.why) == ("Calculate 2 + 3", "follower", End.DONE)


async def test_without_anybody_to_ask_nothing_is_begun(make_lab: MakeLab) -> None:
    lab = make_lab(DELEGATING)
    async with lab.boot() as system:
        with pytest.raises(LLMOSError, match=r"spawn_process .* needs an approval nobody could give"):
            await system.execute("Have a child calculate it")
        assert len([*system.home.processes]) == 1


async def test_a_run_that_heard_a_message_is_no_trace(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(
            call("receive_message", timeout_s=30), call("write", file_path="a.txt", content="x"), *finishing("Written.")
        )
    )
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Write x into a.txt"))
        await until(lambda: [one for one in system.home.processes if one.why is Wait.MESSAGE])
        (process,) = system.home.processes
        assert (process.state, system.home.turns.taken) == (State.BLOCKED, 0)
        await system.home.post.send(None, str(process.pid), "a.txt it is")
        result = await task
        run = await system.runs.get(result.run_id)
    assert "a.txt it is" in lab.server.conversation[1].tool_results[0].text
    assert "«data" in lab.server.conversation[1].tool_results[0].told  # as data, not as an order
    assert (lab.read("a.txt"), run.trace_id) == ("x", None)
    assert [one.place for one in run.taint] == ["receive_message"]


async def test_a_killed_parent_takes_its_children_with_it(make_lab: MakeLab) -> None:
    lab = make_lab(
        by_goal(
            Manage=steps(call("spawn_process", goal="Listen to nobody", wait=True), *finishing("Delegated.")),
            Listen=steps(call("receive_message", timeout_s=60), *finishing("Nothing.")),
        )
    )
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Manage it", confirm=yes))
        await until(lambda: [one for one in system.home.processes if one.why is Wait.MESSAGE])
        parent, child = system.home.processes
        assert (parent.why, child.parent) == (Wait.CHILD, parent.pid)
        system.home.processes.kill(parent.pid)
        with pytest.raises(LLMOSError, match="was killed"):
            await asyncio.wait_for(task, 30)
        assert system.economy.summary().spent_usd == pytest.approx(parent.spent_usd + child.spent_usd)
    assert (parent.why, child.why) == (End.KILLED, End.KILLED)


async def test_a_suspended_process_that_waits_for_a_child_goes_on_when_it_is_resumed(make_lab: MakeLab) -> None:
    lab = make_lab(
        by_goal(
            Manage=steps(call("spawn_process", goal="Listen to me", wait=True), *finishing("Delegated.")),
            Listen=steps(call("receive_message", timeout_s=60), *finishing("Heard.")),
        )
    )
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Manage it", confirm=yes))
        await until(lambda: [one for one in system.home.processes if one.why is Wait.MESSAGE])
        parent, child = system.home.processes
        system.home.processes.suspend(parent.pid)
        await system.home.post.send(None, str(child.pid), "go on")
        await until(lambda: parent.state is State.SUSPENDED)
        assert child.why is End.DONE
        system.home.processes.resume(parent.pid)
        result = await asyncio.wait_for(task, 60)
    assert result.outputs["spawn_process"]["answer"] == "Heard."
    assert (result.answer, parent.why) == ("Delegated.", End.DONE)


async def test_a_block_that_is_given_to_read_is_shown_at_once_and_not_written(make_lab: MakeLab) -> None:
    lab = make_lab(
        by_goal(
            Manage=steps(
                call("share_memory", name="style", value="tabs"),
                call("spawn_process", goal="Write in style", blocks={"style": "read"}, wait=True),
                *finishing("Delegated."),
            ),
            Write=steps(
                call("share_memory", name="style", value="spaces"),
                call("write", file_path="a.txt", content="x"),
                *finishing("Written."),
            ),
        )
    )
    async with lab.boot() as system:
        await system.execute("Manage it", confirm=yes)
        parent, child = system.home.processes
        block = await system.home.post.store.block(parent.run_id, "style")
        run = await system.runs.get(child.run_id)
    first, second, *_ = [one for one in lab.server.conversation if "Write in style" in str(one.body["messages"][0])]
    shown = str(first.body["messages"][0])
    assert "«data" in shown
    assert "tabs" in shown
    assert "was given to this process to read" in second.tool_results[0].text
    assert (block.value, block.version) == ("tabs", 1)
    assert run.trace_id is None
    assert [one.place for one in run.taint] == ["the shared block style"]
