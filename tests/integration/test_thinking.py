"""Traces with a model call inside: metered, announced with their price, and refused before the first effect."""

from __future__ import annotations

import dataclasses

import pytest

from llmos.boot import LLMOS, Result
from llmos.errors import LowBatteryError, NoLearnerError
from llmos.interfaces.render import closing_line
from llmos.testing import HashEmbedder, Request, Turn, call, say, usage
from tests.lab import Lab, MakeLab, finishing, steps

GOAL = 'Write a haiku about "autumn leaves" into haiku.txt'
AGAIN = 'Write a haiku about "winter sun" into winter.txt'


def haiku_lab(make_lab: MakeLab) -> Lab:
    """The learner has a haiku thought of and writes it down as it comes."""
    learner = steps(
        call("think", prompt="autumn leaves"),
        lambda request: call("write", file_path="haiku.txt", content=thought(request)),
        *finishing("Wrote haiku.txt"),
    )
    tokens = usage(input_tokens=400, output_tokens=60)

    def script(request: Request) -> Turn:
        if request.tools:
            return learner(request)
        return say(f"a haiku of {request.prompt.strip().splitlines()[-1]}", usage=tokens)

    return make_lab(script)


def thought(request: Request) -> str:
    import json

    text: str = json.loads(request.tool_results[0].text.split("<system-reminder>")[0])["text"]
    return text


async def learned(system: LLMOS) -> Result:
    result = await system.execute(GOAL)
    assert result.trace_id is not None, result.reason
    return result


async def test_a_replay_with_a_thought_asks_one_model_and_is_charged(make_lab: MakeLab) -> None:
    lab = haiku_lab(make_lab)
    async with lab.boot() as system:
        await learned(system)
        asked, spent = len(lab.server.conversation), system.economy.spent_usd
        result = await system.execute(AGAIN, mode="follow")
        booked = system.economy.spent_usd - spent
        stored = await system.runs.get(result.run_id)
        rows = [row.operation for row in system.economy.entries(None)]
    assert len(lab.server.conversation) == asked + 1
    assert (result.mode, lab.read("winter.txt")) == ("follower", "a haiku of winter sun")
    assert 0 < result.cost_usd == pytest.approx(booked, abs=1e-6) == pytest.approx(stored.cost_usd, abs=1e-6)
    assert sum(operation.startswith("thought") for operation in rows) == 2
    assert f"${result.cost_usd:.4f} ·" in closing_line(result)
    assert "$0.0000 ·" not in closing_line(result).split("saved")[0]


async def test_the_price_of_a_thought_is_told_beforehand(make_lab: MakeLab) -> None:
    lab = haiku_lab(make_lab)
    async with lab.boot() as system:
        await learned(system)
        rows = len(system.economy.entries(None))
        would = await system.explain(AGAIN)
        assert len(system.economy.entries(None)) == rows
    assert (would.decision, would.model_calls) == ("follow", 1)
    assert 0 < would.cost_usd < 0.1


async def test_a_battery_too_low_for_a_thought_is_told_before_the_first_step(make_lab: MakeLab) -> None:
    lab = haiku_lab(make_lab)
    async with lab.boot() as system:
        await learned(system)
    asked = len(lab.server.conversation)
    async with lab.boot(budget_usd=0.001) as system:
        with pytest.raises(LowBatteryError, match="needs 1 model call") as caught:
            await system.execute(AGAIN, mode="follow")
        assert system.economy.spent_usd == 0.0
    assert (len(lab.server.conversation), (lab.workspace / "winter.txt").exists()) == (asked, False)
    assert caught.value.exit_code == 3


async def test_a_thought_nobody_can_think_is_told_before_the_first_step(make_lab: MakeLab) -> None:
    lab = haiku_lab(make_lab)
    async with lab.boot() as system:
        await learned(system)
    without = {name: value for name, value in lab.environ().items() if not name.startswith("ANTHROPIC")}
    settings = lab.settings()
    settings = dataclasses.replace(
        settings, environment=without, learner=dataclasses.replace(settings.learner, has_key=False)
    )
    async with LLMOS(settings=settings, embedder=HashEmbedder()) as system:
        with pytest.raises(NoLearnerError, match="needs 1 model call"):
            await system.execute(AGAIN, mode="follow")
    assert not (lab.workspace / "winter.txt").exists()
