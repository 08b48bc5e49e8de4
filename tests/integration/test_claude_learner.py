"""The learner through the real SDK and CLI: what it costs, what it says when the server fails, how it is stopped."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from llmos.errors import LearnerError, LLMOSError, LowBatteryError, NoLearnerError, WatchdogError
from llmos.kernel.bus import ModelSpoke, ToolCalled
from llmos.testing import Request, Turn, call, calls, cut, error, garbage, say, slow, usage
from tests.lab import Lab, MakeLab, finishing, steps

GOAL = "Note the weather in notes.txt"
WRITE = call("write", file_path="notes.txt", content="sunny")


def charged(lab_ledger: list[tuple[str, int]]) -> int:
    return -sum(amount for kind, amount in lab_ledger if kind != "recharge")


async def failure(lab: Lab, goal: str = GOAL) -> tuple[LLMOSError, int]:
    """The error a goal ends with, and the micro-dollars it cost by the ledger."""
    async with lab.boot() as system:
        with pytest.raises(LLMOSError) as caught:
            await system.execute(goal)
        rows = [(str(entry.kind), entry.amount_microusd) for entry in system.economy.entries(None)]
        assert sum(amount for _, amount in rows) == round(system.economy.balance * 1_000_000)
    return caught.value, charged(rows)


async def test_the_ledger_holds_exactly_what_the_cli_reports(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(
            calls(WRITE, usage=usage(input_tokens=10_000, output_tokens=300)),
            say("Done.", usage=usage(input_tokens=11_000, output_tokens=50)),
        )
    )
    async with lab.boot(model="claude-haiku-4-5") as system:
        result = await system.execute(GOAL)
        spent = system.economy.summary().spent_usd
    list_price_usd = (21_000 * 1.0 + 350 * 5.0) / 1_000_000
    assert result.cost_usd == pytest.approx(list_price_usd, abs=1e-6)
    assert spent == pytest.approx(list_price_usd, abs=1e-6)


@pytest.mark.parametrize(
    ("turn", "kind", "said"),
    [
        (error(401), NoLearnerError, "ANTHROPIC_API_KEY"),
        (error(403), NoLearnerError, "403"),
        (error(404), NoLearnerError, "--model"),
        (error(429, retry_after=600), LearnerError, "429"),
        (error(500), LearnerError, "500"),
        (error(529), LearnerError, "overloaded"),
        (garbage(), LearnerError, "failed"),
    ],
    ids=["401", "403", "404", "429", "500", "529", "garbage"],
)
async def test_a_failing_server_is_one_sentence_and_a_free_run(
    make_lab: MakeLab, turn: Turn, kind: type[LLMOSError], said: str
) -> None:
    problem, cost = await failure(make_lab(lambda request: turn))
    assert type(problem) is kind
    assert said in str(problem)
    assert "\n" not in str(problem)
    assert cost == 0


async def test_a_stream_that_is_cut_costs_what_the_cli_had_counted_of_it(make_lab: MakeLab) -> None:
    """Nothing, or the whole input: that depends on how far it had read when the connection broke."""
    price = usage(input_tokens=100, output_tokens=1)
    lab = make_lab(lambda request: cut(say("Half an answer that never ends", usage=price), after_events=3))
    problem, cost = await failure(lab)
    assert type(problem) is LearnerError
    assert "failed" in str(problem)
    assert "\n" not in str(problem)
    assert 0 <= cost <= 3 * 1_000  # three tries at most; a try is 100 tokens in and one out


async def test_a_failure_after_answers_charges_those_answers(make_lab: MakeLab) -> None:
    lab = make_lab(steps(calls(WRITE, usage=usage(input_tokens=1_000_000, output_tokens=0)), error(500)))
    problem, cost = await failure(lab)
    assert isinstance(problem, LearnerError)
    assert cost > 1_000_000


async def test_without_key_and_login_the_way_out_is_told(make_lab: MakeLab) -> None:
    lab = make_lab(lambda request: say("never asked"))
    lab.extra = {"ANTHROPIC_API_KEY": ""}
    problem, cost = await failure(lab)
    assert isinstance(problem, NoLearnerError)
    assert problem.exit_code == 5
    assert "ANTHROPIC_API_KEY" in str(problem)
    assert (cost, lab.server.conversation) == (0, [])


async def test_a_server_that_is_down_is_named(make_lab: MakeLab) -> None:
    lab = make_lab(lambda request: say("never asked"))
    lab.extra = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    problem, cost = await failure(lab)
    assert isinstance(problem, NoLearnerError)
    assert "http://127.0.0.1:9" in str(problem)
    assert cost == 0


async def test_a_battery_too_low_refuses_before_the_model_is_asked(make_lab: MakeLab) -> None:
    lab = make_lab(lambda request: say("never asked"))
    async with lab.boot(budget_usd=0.01) as system:
        with pytest.raises(LowBatteryError) as caught:
            await system.execute(GOAL)
    assert caught.value.exit_code == 3
    assert lab.server.requests == []


async def test_the_budget_of_a_run_stops_the_learner(make_lab: MakeLab) -> None:
    lab = make_lab(lambda request: calls(WRITE, usage=usage(input_tokens=200_000, output_tokens=1_000)))
    lab.configure("learner: {max_usd_per_run: 0.5, first_estimate_usd: 0.1, max_repeats: 50}\n")
    problem, cost = await failure(lab)
    assert isinstance(problem, LearnerError)
    assert "budget" in str(problem)
    assert cost >= 500_000


async def test_a_learner_that_repeats_itself_is_stopped_and_charged(make_lab: MakeLab) -> None:
    asked = usage(input_tokens=10_000, output_tokens=100)
    lab = make_lab(lambda request: calls(call("read", file_path="nothing.txt"), usage=asked))
    problem, cost = await failure(lab)
    assert isinstance(problem, WatchdogError)
    assert "times in a row" in str(problem)
    assert cost > 0


async def test_a_learner_that_takes_too_long_is_stopped(make_lab: MakeLab) -> None:
    lab = make_lab(lambda request: slow(30, say("too late")))
    lab.configure("learner: {timeout_s: 2}\n")
    problem, _ = await failure(lab)
    assert isinstance(problem, WatchdogError)
    assert "2 s" in str(problem)


async def test_cancelling_a_goal_stops_the_cli_and_keeps_the_bill(make_lab: MakeLab) -> None:
    asked = usage(input_tokens=100_000, output_tokens=100)
    lab = make_lab(steps(calls(WRITE, usage=asked), slow(30, say("too late"))))
    async with lab.boot() as system:
        called = asyncio.Event()
        system.bus.subscribe(ToolCalled, lambda event: called.set())
        goal = asyncio.create_task(system.execute(GOAL))
        await asyncio.wait_for(called.wait(), 20)
        await asyncio.sleep(0.5)
        goal.cancel()
        with pytest.raises(asyncio.CancelledError):
            await goal
        (run,) = await system.runs.list()
        assert str(run.status) == "interrupted"
        assert run.cost_usd > 0
        assert system.economy.summary().spent_usd == pytest.approx(run.cost_usd, abs=1e-6)
        assert system.economy.summary().reserved_usd == 0


async def test_progress_tells_of_words_calls_and_dollars(make_lab: MakeLab) -> None:
    asked = usage(input_tokens=100_000, output_tokens=1_000)
    lab = make_lab(steps(calls(WRITE, text="I write it down.", usage=asked), say("Done.")))
    heard: list[str] = []
    dollars: list[float] = []
    async with lab.boot() as system:
        system.bus.subscribe(ModelSpoke, lambda event: heard.append(event.text))
        system.bus.subscribe(ModelSpoke, lambda event: dollars.append(event.cost_usd))
        system.bus.subscribe(ToolCalled, lambda event: heard.append(event.tool))
        result = await system.execute(GOAL)
    assert [word for word in heard if word] == ["I write it down.", "write", "Done."]
    assert 0 < dollars[1] < result.cost_usd


async def test_the_learner_sees_our_tools_and_none_of_its_own(make_lab: MakeLab) -> None:
    lab = make_lab(steps(WRITE, say("Done.")))
    async with lab.boot() as system:
        await system.execute(GOAL)
        ours = {f"mcp__llmos__{tool.name}" for tool in system.registry} | {"mcp__llmos__finish"}
    offered = {tool["name"] for tool in lab.server.conversation[0].body["tools"]}
    assert offered == ours


@pytest.mark.parametrize("goal", ["/clear notes.txt now", "Note @/etc/hostname in notes.txt"])
async def test_a_goal_reaches_the_model_as_it_was_typed(make_lab: MakeLab, goal: str) -> None:
    lab = make_lab(steps(WRITE, say("Done.")))
    async with lab.boot() as system:
        await system.execute(goal)
    assert goal in lab.server.conversation[0].prompt


async def test_our_variables_do_not_reach_the_cli(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    seen: list[str] = []

    def script(request: Request) -> Turn:
        seen.extend(environments_of_clis())
        return steps(WRITE, say("Done."))(request)

    async with make_lab(script).boot() as system:
        await system.execute(GOAL)
    assert any("ANTHROPIC_BASE_URL=http://127.0.0.1" in environment for environment in seen)
    assert not any("hunter2" in environment for environment in seen)


def environments_of_clis() -> list[str]:
    """The environment of every Claude CLI that runs as a child of this process."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_child = f"PPid:\t{os.getpid()}\n" in (process / "status").read_text()
            if is_child and b"_bundled/claude" in (process / "cmdline").read_bytes():
                found.append((process / "environ").read_text())
    return found


async def test_think_is_metered_and_never_free(make_lab: MakeLab) -> None:
    learning = steps(call("think", prompt="What colour is the sky?"), *finishing("blue"))

    def script(request: Request) -> Turn:
        return learning(request) if request.tools else say("blue", usage=usage(input_tokens=5_000, output_tokens=5))

    lab = make_lab(script)
    lab.configure("models: {learner: claude-haiku-4-5}\n")
    async with lab.boot() as system:
        result = await system.execute("Say what colour the sky has")
        rows = system.economy.entries(None)
        followed = await system.execute("Say what colour the sky has")
    assert result.outputs["think"]["text"] == "blue"
    assert any(row.kind == "settle" and "thought" in row.operation for row in rows)
    thought_usd = (5_000 * 1.0 + 5 * 5.0) / 1_000_000
    assert result.cost_usd > thought_usd
    assert followed.mode == "follower"
    assert followed.cost_usd == pytest.approx(thought_usd, abs=1e-6)
