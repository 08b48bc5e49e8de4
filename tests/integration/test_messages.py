"""Processes that begin, await, write to and share with one another, through the real SDK and CLI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from llmos.interfaces.results import Question
from llmos.kernel.process import End
from llmos.testing import Request, Script, Turn, call
from tests.lab import MakeLab, finishing, steps

SPAWNS = "permissions:\n  rules:\n    - {allow: true, tool: spawn_process}\n"


def by_goal(**scripts: Callable[[Request], Turn]) -> Script:
    """For whichever goal a conversation is about: the script whose name stands in its first message."""

    def script(request: Request) -> Turn:
        first = str(request.body["messages"][0])
        name = next(name for name in scripts if name in first)
        return scripts[name](request)

    return script


def given(request: Request, number: int) -> dict[str, Any]:
    """What the call of a number gave."""
    text = request.tool_results[number].text
    body = text.split("\n", 1)[1].rsplit("\n", 1)[0] if text.startswith("«") else text
    found: dict[str, Any] = json.loads(body)
    return found


async def yes(question: Question) -> bool:
    return True


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


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
    told = result.steps[0]["output"] if "output" in result.steps[0] else result.outputs["spawn_process"]
    assert lab.read("word.txt") == "blue"
    assert (told["answer"], told["status"], told["pid"]) == ("The word is blue.", "done", child.pid)
    assert told["cost_usd"] == pytest.approx(child.spent_usd) != 0
    assert (child.parent, child.why, child.budget.allocated_usd) == (parent.pid, End.DONE, 0.5)
    assert parent.budget.spent_usd == pytest.approx(parent.spent_usd + child.spent_usd)
