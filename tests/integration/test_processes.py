"""Learners as processes, through the real SDK and CLI: their states, turns, bills, and how they are stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from llmos.boot import LLMOS
from llmos.errors import LLMOSError
from llmos.kernel.bus import ToolCalled
from llmos.kernel.process import End, Kind, Process, State, Wait
from llmos.testing import Request, Turn, call, calls, error, slow, usage
from tests.lab import Lab, MakeLab, finishing, steps, until

BIG = usage(input_tokens=100_000, output_tokens=100)


def writing(name: str) -> tuple[Turn, ...]:
    """Three files, one after the other, then the end."""
    made = tuple(calls(call("write", file_path=f"{name}{n}.txt", content=name), usage=BIG) for n in range(3))
    return (*made, *finishing("Written."))


def by_goal(request: Request) -> Turn:
    """The turns for whichever of two goals a conversation is about."""
    name = "alpha" if "Write alpha" in str(request.body) else "beta"
    return steps(*writing(name))(request)


def only(system: LLMOS) -> Process:
    (process,) = system.home.processes
    return process


async def test_a_learner_thinks_runs_tools_and_is_billed_in_the_table(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(slow(1.0, calls(call("write", file_path="a.txt", content="x"), usage=BIG)), *finishing("Written."))
    )
    seen: list[State] = []
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Write x into a.txt"))
        await until(lambda: [one for one in system.home.processes if one.state is State.THINKING])
        system.bus.subscribe(ToolCalled, lambda event: seen.append(only(system).state))
        result = await task
        process = only(system)
    assert seen == [State.RUNNING]
    assert (process.state, process.why, process.mode) == (State.TERMINATED, End.DONE, "learner")
    assert process.turns >= 1
    assert process.spent_usd == pytest.approx(result.cost_usd)
    assert process.vruntime > 0


async def test_two_learners_take_turns_in_one_slot(make_lab: MakeLab) -> None:
    lab = make_lab(by_goal)
    lab.configure("scheduler: {max_concurrent: 1}\n")
    order: list[str] = []
    async with lab.boot() as system:
        system.bus.subscribe(ToolCalled, lambda event: order.append(str(event.args.get("content", "finish"))))
        await asyncio.gather(
            system.execute("Write alpha into three files"), system.execute("Write beta into three files")
        )
    alone = ["alpha"] * 3 + ["beta"] * 3
    written = [name for name in order if name in ("alpha", "beta")]
    assert sorted(written) == alone
    assert written not in (alone, alone[::-1])  # neither waited until the other was through


async def test_a_killed_learner_is_charged_and_its_run_says_so(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(calls(call("write", file_path="a.txt", content="x"), usage=BIG), slow(60.0, finishing("Late.")[1]))
    )
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Write x into a.txt"))
        await until(lambda: (lab.workspace / "a.txt").exists())
        system.home.processes.kill(only(system).pid)
        with pytest.raises(LLMOSError, match="was killed"):
            await asyncio.wait_for(task, 30)
        process, (run, *_) = only(system), await system.runs.list()
        spent_usd = system.economy.summary().spent_usd
    assert (process.state, process.why) == (State.TERMINATED, End.KILLED)
    assert (str(run.status), run.reason) == ("interrupted", "killed")
    assert spent_usd == pytest.approx(run.cost_usd)
    assert spent_usd > 0


def clis(lab: Lab) -> list[int]:
    """The Claude CLIs that work in the workspace of a lab."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            is_cli = entry.name.isdigit() and b"_bundled/claude" in (entry / "cmdline").read_bytes()
            if is_cli and (entry / "cwd").resolve() == lab.workspace.resolve():
                found.append(int(entry.name))
    return found


async def test_a_suspended_learner_has_no_cli_and_makes_no_call_until_it_is_resumed(make_lab: MakeLab) -> None:
    lab = make_lab(steps(slow(1.0, writing("a")[0]), *writing("a")[1:]))
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Write a into three files"))
        await until(lambda: [one for one in system.home.processes if one.state is State.THINKING])
        process = only(system)
        await until(lambda: clis(lab))
        system.home.processes.suspend(process.pid)
        await until(lambda: process.state is State.SUSPENDED)
        await until(lambda: not clis(lab))
        assert [*lab.workspace.iterdir()] == []
        assert system.home.turns.taken == 0
        asked = len(lab.server.conversation)
        await asyncio.sleep(1.0)
        assert len(lab.server.conversation) == asked == 1
        system.home.processes.resume(process.pid)
        result = await asyncio.wait_for(task, 60)
        spent_usd = system.economy.summary().spent_usd
        rows = await system.home.checkpoints.list()
    assert [lab.read(f"a{n}.txt") for n in range(3)] == ["a"] * 3
    assert len(lab.server.conversation) == len(writing("a"))  # no turn was paid for twice
    assert result.answer == "Written."
    assert spent_usd == pytest.approx(result.cost_usd) == pytest.approx(process.spent_usd)
    assert rows == []
    sent = lab.server.conversation[1].body["messages"]
    assert "interrupted" not in str([one for one in sent if "tool_result" in str(one)])


async def test_calls_made_side_by_side_all_have_their_results_after_a_suspension(make_lab: MakeLab) -> None:
    both = calls(call("write", file_path="a.txt", content="a"), call("write", file_path="b.txt", content="b"))
    lab = make_lab(steps(slow(1.0, both), finishing("Written.")[0], *finishing("Written.")))
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Write a and b"))
        await until(lambda: [one for one in system.home.processes if one.state is State.THINKING])
        process = only(system)
        system.home.processes.suspend(process.pid)
        await until(lambda: process.state is State.SUSPENDED and not clis(lab))
        system.home.processes.resume(process.pid)
        await asyncio.wait_for(task, 60)
    assert (lab.read("a.txt"), lab.read("b.txt")) == ("a", "b")
    results = lab.server.conversation[1].tool_results
    assert len(results) == 2
    assert "interrupted" not in str(results)


async def test_a_suspended_learner_that_is_killed_is_charged_for_what_it_did(make_lab: MakeLab) -> None:
    lab = make_lab(steps(slow(1.0, writing("a")[0]), *writing("a")[1:]))
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Write a into three files"))
        await until(lambda: [one for one in system.home.processes if one.state is State.THINKING])
        process = only(system)
        system.home.processes.suspend(process.pid)
        await until(lambda: process.state is State.SUSPENDED and not clis(lab))
        system.home.processes.kill(process.pid)
        with pytest.raises(LLMOSError, match="was killed"):
            await asyncio.wait_for(task, 30)
        assert system.economy.summary().spent_usd == pytest.approx(process.spent_usd)
        assert process.spent_usd > 0
        assert await system.home.checkpoints.list() == []
    assert [*lab.workspace.iterdir()] == []


async def test_who_is_asked_keeps_nobody_from_working(make_lab: MakeLab) -> None:
    lab: Lab = make_lab(steps(call("bash", command="curl -s http://example.com"), *finishing("Sent.")))
    lab.configure("scheduler: {max_concurrent: 1}\n")
    asked = asyncio.Event()
    waiting: list[tuple[State, object]] = []

    async with lab.boot() as system:

        async def confirm(question: object) -> bool:
            waiting.append((only(system).state, only(system).why))
            asked.set()
            await asyncio.sleep(0.5)
            assert (await system.execute("Calculate 2 + 3")).answer == "5"
            return False

        with pytest.raises(LLMOSError):
            await system.execute("Fetch example.com with curl", confirm=confirm)
    assert asked.is_set()
    assert waiting[0] == (State.BLOCKED, Wait.APPROVAL)


async def test_a_learner_that_tries_can_not_spend_more_than_its_budget_by_more_than_a_turn(make_lab: MakeLab) -> None:
    """Each turn costs twenty cents or more, and the model would go on for ever."""
    lab = make_lab(lambda request: calls(call("write", file_path=f"{len(request.tool_results)}.txt"), usage=BIG))
    lab.configure("learner: {first_estimate_usd: 0.10, max_usd_per_run: 5.0, max_turns: 100}\n")
    async with lab.boot() as system:
        with pytest.raises(LLMOSError, match="budget"):
            await system.execute("Write many files", budget_usd=0.50)
        process = only(system)
        spent_usd = system.economy.summary().spent_usd
    assert process.budget.is_spent
    assert 0.5 <= spent_usd <= 0.5 + 0.21
    assert spent_usd == pytest.approx(process.budget.spent_usd)


async def test_tokens_are_a_budget_too(make_lab: MakeLab) -> None:
    lab = make_lab(lambda request: calls(call("write", file_path=f"{len(request.tool_results)}.txt"), usage=BIG))
    lab.configure("learner: {first_estimate_usd: 0.10, max_usd_per_run: 5.0, max_turns: 100}\n")
    async with lab.boot() as system:
        with pytest.raises(LLMOSError, match="budget is spent"):
            await system.execute("Write many files", budget_tokens=150_000)
        process = only(system)
    assert process.tokens_in + process.tokens_out == 200_200
    assert process.context_tokens == 100_100
    assert process.context_max is not None
    assert process.context_max >= 200_000


async def test_a_class_gives_priority_allowance_and_stricter_rules(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("write", file_path="a.txt", content="x"), *finishing("Done.")))
    lab.configure(
        "classes: {specialist: {priority: 3, max_usd: 1.0, roles: [reader]}}\n"
        "permissions: {roles: {reader: [{deny: write}]}}\n"
    )
    async with lab.boot() as system:
        with pytest.raises(LLMOSError, match=r"write with .* is not permitted"):
            await system.execute("Write x into a.txt", kind=Kind.SPECIALIST)
        process = only(system)
        assert (process.kind, process.priority, process.budget.allocated_usd) == (Kind.SPECIALIST, 3, 1.0)
        assert not (lab.workspace / "a.txt").exists()
        await system.execute("Write x into a.txt")
    assert lab.read("a.txt") == "x"


def one_file(request: Request) -> Turn:
    """Writes the file that the goal names, slowly."""
    name = "a.txt" if "into a.txt" in str(request.body["messages"][0]) else "b.txt"
    return steps(slow(1.0, call("write", file_path=name, content="hello")), *finishing("Written."))(request)


async def test_the_same_task_is_learned_once_where_two_ask_for_it_at_the_same_time(make_lab: MakeLab) -> None:
    lab = make_lab(one_file)
    async with lab.boot() as system:
        first = asyncio.create_task(system.execute("Write hello into a.txt"))
        await until(lambda: clis(lab))
        second = asyncio.create_task(system.execute("Write hello into b.txt"))
        await until(lambda: [one for one in system.home.processes if one.why is Wait.TWIN])
        learned, followed = await first, await second
    assert (lab.read("a.txt"), lab.read("b.txt")) == ("hello", "hello")
    assert (str(learned.mode), str(followed.mode), followed.cost_usd) == ("learner", "follower", 0.0)
    assert len({str(request.body["messages"][0]) for request in lab.server.conversation}) == 1


async def test_nobody_waits_for_one_that_waits_for_a_person(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("bash", command="curl -s http://example.com"), *finishing("Sent.")))
    asked = asyncio.Event()

    async with lab.boot() as system:

        async def never(question: object) -> bool:
            asked.set()
            await asyncio.Event().wait()
            return False

        waiting = asyncio.create_task(system.execute("Fetch example.com with curl", confirm=never))
        await asyncio.wait_for(asked.wait(), 60)
        with pytest.raises(LLMOSError, match="approval"):
            await asyncio.wait_for(system.execute("Fetch example.com with curl"), 60)
        system.home.processes.kill(1)
        with pytest.raises(LLMOSError, match="killed"):
            await waiting


async def test_a_learner_whose_server_limits_the_rate_is_blocked_and_holds_no_slot(make_lab: MakeLab) -> None:
    turns = iter([error(429, retry_after=2), *finishing("Done.")])
    lab = make_lab(lambda request: next(turns))
    lab.extra["CLAUDE_CODE_MAX_RETRIES"] = "2"
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Say that it is done"))
        await until(lambda: [one for one in system.home.processes if one.why is Wait.RATE_LIMIT])
        assert system.home.turns.taken == 0
        result = await asyncio.wait_for(task, 60)
    assert result.answer == "Done."
