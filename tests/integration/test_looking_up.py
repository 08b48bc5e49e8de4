"""A look-up of the trace closes a slot: the learner looks up, the follower holds each new value against the list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmos.errors import UnknownValueError
from llmos.testing import Request, Turn, call
from llmos.trace.program import Status
from tests.lab import Lab, MakeLab, finishing

PLUGIN = """
import json
from typing import Any
from plugins import llm_tool

@llm_tool("list_rooms", "List the rooms", {}, read_only=True, open_world=False)
def list_rooms(ctx) -> dict:
    return {"rooms": json.loads(ctx.resolve("house.json").read_text())}

@llm_tool("light_up", "Turn on", {"room_id": int, "into": str}, read_only=False, destructive=False, open_world=False)
def light_up(ctx, room_id: int, into: str) -> dict:
    ctx.resolve(into, write=True).write_text(f"{room_id}\\n")
    return {"path": into}
"""
ROOMS: list[dict[str, Any]] = [
    {"name": "Kitchen", "id": 31},
    {"name": "Hall", "id": 45},
    {"name": "Living Room", "id": 12},
]
GOAL = "Write the light of the {} into {}"


def lighting(request: Request) -> Turn:
    """Looks the rooms up and lights the one that the goal names; for what is no room it says so."""
    named = [room for room in ROOMS if f"of the {room['name'].lower()} " in request.prompt.lower()]
    into = next((name for name in ("a.txt", "b.txt", "c.txt", "d.txt") if name in request.prompt), "a.txt")
    if not named:
        turns = [call("write", file_path=into, content="no such room\n"), *finishing(f"Wrote {into}.")]
    else:
        turns = [
            call("list_rooms"),
            call("light_up", room_id=named[0]["id"], into=into),
            *finishing(f"Wrote {into}."),
        ]
    return turns[min(len(request.tool_results), len(turns) - 1)]


def house(make_lab: MakeLab) -> Lab:
    lab = make_lab(lighting)
    lab.plugin("house.py", PLUGIN)
    lab.write("house.json", json.dumps(ROOMS))
    return lab


async def test_what_a_run_looked_up_is_looked_up_again_for_other_values(make_lab: MakeLab) -> None:
    lab = house(make_lab)
    async with lab.boot() as system:
        first = await system.execute(GOAL.format("kitchen", "a.txt"))
        assert first.mode == "learner"
        trace = await system.traces.get(str(first.trace_id).partition("@")[0])
        assert trace.status is Status.TRUSTED, trace.reason
        assert trace.reason == "proven by re-execution, also with other names and values"
        assert [slot.name for slot in trace.slots if slot.listed is not None] == ["room"]
        asked = len(lab.server.requests)
        lab.write("house.json", json.dumps([{"name": "Living Room", "id": 77}, *ROOMS[:2]]))
        second = await system.execute(GOAL.format("living room", "b.txt"))
        assert (second.mode, second.cost_usd, lab.read("b.txt")) == ("follower", 0.0, "77\n")
        assert len(lab.server.requests) == asked


async def test_what_is_not_listed_is_left_to_the_learner_and_not_held_against_the_trace(make_lab: MakeLab) -> None:
    lab = house(make_lab)
    async with lab.boot() as system:
        first = await system.execute(GOAL.format("kitchen", "a.txt"))
        for number in range(4):
            with pytest.raises(UnknownValueError, match="'first floor' is no room"):
                await system.execute(GOAL.format("first floor", f"x{number}.txt"), mode="follow")
            assert not (lab.workspace / f"x{number}.txt").exists()
        solved = await system.execute(GOAL.format("first floor", "c.txt"))
        assert (solved.mode, lab.read("c.txt")) == ("follower+learner", "no such room\n")
        trace = await system.traces.get(str(first.trace_id).partition("@")[0])
        assert trace.status is Status.TRUSTED
        again = await system.execute(GOAL.format("hall", "d.txt"))
        assert (again.mode, lab.read("d.txt")) == ("follower", "45\n")
