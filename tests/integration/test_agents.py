"""Goals reached as agents, through the real SDK and CLI: what models are told, what they may do, what is replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from llmos.errors import CallRefusedError, NothingToFollowError
from llmos.interfaces.agents import find_agent
from llmos.kernel.agents import Agent
from llmos.kernel.process import Process, State, at_work_for
from llmos.kernel.replay import Replay
from llmos.settings import RuleSettings
from llmos.testing import Request, Turn, call, calls, say, slow, usage
from llmos.trace.match import Match
from llmos.trace.program import Status, Trace
from tests.lab import Lab, MakeLab, finishing, steps, until

GOAL = "Write hello into greeting.txt"
TOLD = Agent(name="scribe", instructions="Write as a scribe does.", memory={"ink": "blue", "pages": 12})
WRITES = (call("write", file_path="greeting.txt", content="hello"), *finishing("Wrote hello into greeting.txt"))


def denying(path: str, source: str = "careful.yaml") -> RuleSettings:
    return RuleSettings(answer="deny", tool="write", path=path, source=source)


def writing(make_lab: MakeLab) -> Lab:
    lab = make_lab(steps(*WRITES))
    lab.workspace.mkdir(exist_ok=True)
    return lab


def system_of(request: Request) -> str:
    return str(request.body["system"])


async def test_instructions_and_memory_reach_the_models_system_prompt_and_no_other_run(make_lab: MakeLab) -> None:
    lab = writing(make_lab)
    async with lab.boot() as system:
        await system.execute(GOAL, mode="learn", agent=TOLD)
        told = len(lab.server.conversation)
        await system.execute(GOAL, mode="learn")
    with_profile, without = lab.server.conversation[:told], lab.server.conversation[told:]
    for request in with_profile:
        assert "You work as the agent scribe." in system_of(request)
        assert "Write as a scribe does." in system_of(request)
        assert 'ink: "blue"' in system_of(request)
        assert "pages: 12" in system_of(request)
    assert without
    assert not any("scribe" in system_of(request) for request in without)


async def test_a_profile_in_the_workspace_gives_class_priority_budget_and_model(make_lab: MakeLab) -> None:
    lab = writing(make_lab)
    lab.write(
        "agents/cheap.yaml",
        "format: 1\nname: cheap\nclass: specialist\npriority: 15\nbudget_usd: 0.5\nmodel: claude-haiku-4-5\n",
    )
    seen: list[Process] = []
    async with lab.boot() as system:
        agent = find_agent("cheap", system.settings).agent
        await system.execute(GOAL, agent=agent, begun=seen.append)
    (process,) = seen
    assert (process.kind, process.priority, process.budget.allocated_usd) == ("specialist", 15, 0.5)
    assert process.agent == agent
    assert {request.model for request in lab.server.conversation} == {"claude-haiku-4-5"}


async def test_a_tool_that_is_not_in_the_profile_is_not_offered_and_not_made(make_lab: MakeLab) -> None:
    lab = writing(make_lab)
    async with lab.boot() as system:
        await system.execute(GOAL, agent=Agent(name="reader", tools=("read",)))
    offered = {name.rpartition("__")[2] for name in lab.server.conversation[0].tools}
    assert "read" in offered
    assert "write" not in offered
    assert not (lab.workspace / "greeting.txt").exists()


async def test_a_rule_of_the_profile_is_held_and_the_model_is_told(make_lab: MakeLab) -> None:
    lab = writing(make_lab)
    agent = Agent(name="careful", rules=(denying("greeting.txt"),))
    async with lab.boot() as system:
        with pytest.raises(CallRefusedError, match=r"careful\.yaml"):
            await system.execute(GOAL, agent=agent)
    assert not (lab.workspace / "greeting.txt").exists()
    assert "is not permitted" in lab.server.conversation[1].tool_results[0].text


# --- replays -----------------------------------------------------------------------------------------


async def test_what_an_agent_learned_by_its_instructions_is_followed_as_the_same_agent_alone(
    make_lab: MakeLab,
) -> None:
    lab = writing(make_lab)
    others = [
        None,
        Agent(name="other", instructions=TOLD.instructions, memory=TOLD.memory),
        Agent(name="scribe", instructions="Write badly.", memory=TOLD.memory),
        Agent(name="scribe", instructions=TOLD.instructions, memory={"ink": "red", "pages": 12}),
    ]
    async with lab.boot() as system:
        learned = await system.execute(GOAL, agent=TOLD)
        (summary,) = [one for one in await system.traces.list() if one.provenance == "learned"]
        assert summary.status is Status.TRUSTED
        (lab.workspace / "greeting.txt").unlink()
        for goal in (GOAL, "Write goodbye into greeting.txt"):
            for other in others:
                with pytest.raises(NothingToFollowError):
                    await system.execute(goal, mode="follow", agent=other)
                assert (await system.explain(goal, agent=other)).decision == "learn"
        again = await system.execute(GOAL, mode="follow", agent=TOLD)
    assert learned.cost_usd > 0
    assert (again.cost_usd, again.trace_id) == (0.0, f"{summary.id}@1")
    assert lab.read("greeting.txt") == "hello"


async def test_two_agents_and_none_learn_one_goal_each_for_itself(make_lab: MakeLab) -> None:
    lab = writing(make_lab)
    other = Agent(name="poet", instructions="Write in rhymes.")
    async with lab.boot() as system:
        made = [await system.execute(GOAL, mode="learn", agent=one) for one in (TOLD, other, None)]
        ids = {(await system.runs.get(one.run_id)).trace_id for one in made}
        followed = [await system.execute(GOAL, mode="follow", again=True, agent=one) for one in (TOLD, other, None)]
        traces = [(await system.traces.get(str(one.trace_id).partition("@")[0])).agent for one in followed]
    assert len(ids) == 3
    assert traces == [TOLD.key, other.key, ""]
    assert [one.cost_usd for one in followed] == [0.0, 0.0, 0.0]


async def test_what_was_learned_without_a_profile_is_followed_as_an_agent_that_has_its_tools(
    make_lab: MakeLab,
) -> None:
    lab = writing(make_lab)
    async with lab.boot() as system:
        await system.execute(GOAL)
        (lab.workspace / "greeting.txt").unlink()
        asked = len(lab.server.conversation)
        result = await system.execute(GOAL, agent=TOLD)
        assert (result.mode, result.cost_usd) == ("follower", 0.0)
        (lab.workspace / "greeting.txt").unlink()
        with pytest.raises(CallRefusedError, match="does not list this tool"):
            await system.execute(GOAL, mode="follow", agent=Agent(name="reader", tools=("read",)))
    assert not (lab.workspace / "greeting.txt").exists()
    assert len(lab.server.conversation) == asked


async def test_that_an_agent_had_no_tool_for_a_goal_is_learned_for_nobody_else(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("read", file_path="a.txt"), *finishing("a.txt can't be changed here")))
    lab.write("a.txt", "hello")
    async with lab.boot() as system:
        await system.execute("Put a full stop behind a.txt", agent=Agent(name="reader", tools=("read",)))
        with pytest.raises(NothingToFollowError):
            await system.execute("Put a full stop behind a.txt", mode="follow")


async def test_a_profile_with_a_budget_and_no_more_learns_for_everybody(make_lab: MakeLab) -> None:
    lab = writing(make_lab)
    async with lab.boot() as system:
        await system.execute(GOAL, agent=Agent(name="thrifty", budget_usd=1.0, priority=15))
        (lab.workspace / "greeting.txt").unlink()
        assert (await system.execute(GOAL, mode="follow")).cost_usd == 0.0


# --- children, restarts, and the files themselves ------------------------------------------------------


async def yes(question: Any) -> bool:
    return True


async def test_what_an_agent_begins_has_no_more_than_it_has_itself(make_lab: MakeLab) -> None:
    def script(request: Request) -> Turn:
        if "Have somebody" not in str(request.body["messages"][0]):
            return steps(*WRITES)(request)
        return steps(call("spawn_process", goal=GOAL, wait=True), *finishing("Had it done"))(request)

    lab = make_lab(script)
    agent = Agent(name="lead", instructions="Lead.", tools=("read", "spawn_process"))
    async with lab.boot() as system:
        await system.execute("Have somebody say hello", agent=agent, confirm=yes)
        processes = [*system.home.processes]
    assert [one.agent for one in processes] == [agent, agent]
    assert not (lab.workspace / "greeting.txt").exists()


async def test_a_process_goes_on_as_the_same_agent_after_its_kernel_has_ended(make_lab: MakeLab) -> None:
    big = usage(input_tokens=100_000, output_tokens=100)
    first = calls(call("write", file_path="one.txt", content="1"), usage=big)
    bad = calls(call("write", file_path="secret.txt", content="2"), usage=big)
    lab = make_lab(steps(first, slow(1.0, bad), *finishing("Written.")))
    agent = Agent(name="careful", instructions="Take care.", rules=(denying("secret.txt"),))
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Write one and two", agent=agent))
        await until(lambda: (lab.workspace / "one.txt").exists())
        (process,) = system.home.processes
        system.home.processes.suspend(process.pid)
        await until(lambda: process.state is State.SUSPENDED)
        system.home.let_go()
        await asyncio.wait([task])
    told = len(lab.server.conversation)
    async with lab.boot() as system:
        (left,) = system.home.processes
        assert left.agent == agent
        system.home.processes.resume(left.pid)
        with pytest.raises(CallRefusedError, match=r"secret\.txt"):
            await system.execute(left.goal, resumed=left)
    assert not (lab.workspace / "secret.txt").exists()
    later = lab.server.conversation[told:]
    assert later
    assert all("Take care." in system_of(request) for request in later)


async def test_no_tool_writes_a_profile_that_somebody_may_choose(make_lab: MakeLab) -> None:
    lab = make_lab(lambda request: say("nobody asks"))
    profile = "format: 1\nname: mine\ninstructions: be good\n"
    lab.write("agents/mine.yaml", profile)
    flow = "{format: 1, 'name': flow, rules: [{deny: write}]}"
    lab.write("agents/flow.yaml", flow)
    lab.write("agents/crew.py", "x = 1\n")
    async with lab.boot() as system:
        ctx = system.surroundings.context("r")
        write = {"content": "x"}
        kept = [lab.workspace / "agents" / name for name in ("mine.yaml", "flow.yaml")]
        for path in (*kept, lab.home / "agents" / "new.yaml"):
            result = await system.registry.call("write", {"file_path": str(path), **write}, ctx)
            assert result.is_error, path
        other = await system.registry.call("write", {"file_path": "agents/crew.py", **write}, ctx)
    assert not other.is_error
    assert (lab.read("agents/mine.yaml"), lab.read("agents/flow.yaml")) == (profile, flow)
    assert not (lab.home / "agents").exists()


class Workers:
    """Other processes that would take any replay, and note that they were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def wants(self, trace: Trace) -> bool:
        return True

    async def replay(self, found: Match, run_id: str, env: Mapping[str, Any]) -> Replay | None:
        self.asked.append(run_id)
        return None

    def took(self, trace: Trace, seconds: float) -> None:
        pass


async def test_replays_of_agents_are_left_to_no_worker_that_does_not_know_their_profiles(make_lab: MakeLab) -> None:
    lab = make_lab(lambda request: say("nobody asks"))
    lab.workspace.mkdir(exist_ok=True)
    async with lab.boot() as system:
        workers = Workers()
        following = replace(system.dispatcher.following, crew=workers)
        system.dispatcher = replace(system.dispatcher, following=following)
        await system.execute("Calculate 2 + 3", agent=Agent(name="counter", tools=("calculate",)))
        assert workers.asked == []
        await system.execute("Calculate 2 + 3")
        assert len(workers.asked) == 1


async def test_audits_do_not_hold_an_agents_instructions_against_what_was_learned_without_them(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(steps(call("read", file_path="a.txt"), *finishing("It says hello")))
    lab.write("a.txt", "hello")
    async with lab.boot(audit_rate=1.0) as system:
        await system.execute("What does a.txt say")
        asked = len(lab.server.conversation)
        followed = await system.execute("What does a.txt say", again=True, agent=TOLD)
        assert (followed.mode, followed.audit) == ("follower", "")
        assert len(lab.server.conversation) == asked


@pytest.mark.parametrize(
    ("tool", "args"),
    [
        ("read", {"file_path": "secret.csv"}),
        ("query_data", {"sql": "SELECT * FROM t", "files": {"t": "secret.csv"}}),
        ("python", {"code": "print(open('secret.csv').read())"}),
        ("grep", {"pattern": "hid+en", "output_mode": "content"}),
        ("bash", {"command": "cat secret.csv"}),
    ],
)
async def test_a_path_that_a_profile_denies_is_closed_to_every_tool(
    make_lab: MakeLab, tool: str, args: dict[str, Any]
) -> None:
    lab = make_lab(lambda request: say("nobody asks"))
    lab.write("secret.csv", "word\nhidden\n")
    lab.write("plain.csv", "word\nplain\n")
    agent = Agent(name="careful", rules=(RuleSettings(answer="deny", tool="*", path="secret.csv", source="p"),))
    async with lab.boot() as system:
        plain = await system.registry.call(tool, args, system.surroundings.context("r"))
        with at_work_for(Process(pid=1, goal="g", created_at=datetime.now(UTC), agent=agent)):
            narrowed = await system.registry.call(tool, args, system.surroundings.context("r"))
    assert "hidden" not in narrowed.text, (plain.text, narrowed.text)
    assert "hidden" in plain.text
