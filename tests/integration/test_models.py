"""Which model does what: other servers as any of them, fallbacks, and another model for a process that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("pydantic_ai")

from llmos.boot import LLMOS
from llmos.errors import LearnerError, UsageError
from llmos.interfaces.prices import Tokens
from llmos.interfaces.results import Result
from llmos.kernel.process import Process, State
from llmos.testing import Request, Script, ScriptedServer, Turn, call, calls, error, say, slow, usage
from tests.lab import Lab, MakeLab, finishing, steps, until

HAIKU, SONNET = "claude-haiku-4-5", "claude-sonnet-4-5"
BIG = usage(input_tokens=100_000, output_tokens=1_000)
PRICED = (
    "prices: {m: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 10.0}, "
    "n: {input_usd_per_mtok: 2.0, output_usd_per_mtok: 0.0}}\n"
)
WRITES = (call("write", file_path="a.txt", content="x"), *finishing("Written."))


@pytest.fixture
def serve() -> Iterator[Callable[[Script], ScriptedServer]]:
    """Starts another server, which speaks as OpenAI's does."""
    started: list[ScriptedServer] = []

    def start(script: Script) -> ScriptedServer:
        started.append(ScriptedServer(script).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


Serve = Callable[[Script], ScriptedServer]


def with_server(lab: Lab, server: ScriptedServer, text: str) -> Lab:
    lab.configure(f"servers: {{local: {{base_url: '{server.openai_url}'}}}}\n{PRICED}{text}\n")
    return lab


async def _model(system: LLMOS, result: Result) -> str:
    return (await system.runs.get(result.run_id)).model or ""


async def _process(system: LLMOS, state: State = State.THINKING) -> Process:
    await until(lambda: [one for one in system.home.processes if one.state is state])
    return next(one for one in system.home.processes if one.state is state)


# ------------------------------------------------------------------------------------------ which model does what


async def test_a_local_server_learns_and_what_it_did_is_followed(make_lab: MakeLab, serve: Serve) -> None:
    local = serve(steps(*WRITES))
    lab = with_server(make_lab([]), local, "models: {learner: 'local:m'}")
    async with lab.boot() as system:
        learned = await system.execute("Write x into a.txt")
        assert await _model(system, learned) == "local:m"
        followed = await system.execute("Write x into a.txt", again=True)
    assert (learned.mode, followed.mode) == ("learner", "follower")
    assert learned.cost_usd == pytest.approx(sum((100 * 1 + 20 * 10) / 1e6 for _ in local.conversation))
    assert lab.server.requests == []


async def test_a_guided_run_is_the_guided_models(make_lab: MakeLab, serve: Serve) -> None:
    local = serve(steps(call("write", file_path="b.txt", content="y\n"), *finishing("Written.")))
    lab = with_server(
        make_lab(steps(call("write", file_path="a.txt", content="x\n"), *finishing("Written."))),
        local,
        "models: {guided: 'local:m'}",
    )
    async with lab.boot() as system:
        await system.execute("Write a file a.txt about foxes and say when it was written")
        guided = await system.execute("Write a file b.txt about geese and say when it was printed")
        assert (guided.mode, await _model(system, guided)) == ("guided", "local:m")
    assert {request.model for request in local.conversation} == {"m"}


async def test_a_thought_of_the_summary_task_is_asked_of_its_own_model(make_lab: MakeLab, serve: Serve) -> None:
    local = serve([say("short", usage=usage(input_tokens=1000, output_tokens=0))])
    lab = with_server(make_lab([]), local, "models: {summary: 'local:m'}")
    async with lab.boot() as system:
        model = system.models.first("summary")
        thought = await system.models.think("Say it", max_tokens=50, model=model, max_budget_usd=0.1, task="summary")
    assert (thought.text, thought.model) == ("short", "local:m")
    assert thought.cost_usd == pytest.approx(0.001)


# -------------------------------------------------------------------------------------------------------- fallback


async def test_a_server_that_is_gone_is_stood_in_for_and_left_alone_for_a_while(
    make_lab: MakeLab, serve: Serve
) -> None:
    gone, local = serve([]), serve(steps(*WRITES))
    url = gone.openai_url
    gone.stop()
    lab = make_lab([])
    lab.configure(
        f"servers: {{gone: {{base_url: '{url}'}}, local: {{base_url: '{local.openai_url}'}}}}\n"
        f"{PRICED}models: {{learner: ['gone:m', 'local:n']}}\n"
    )
    async with lab.boot() as system:
        learned = await system.execute("Write x into a.txt")
        run = await system.runs.get(learned.run_id)
        assert system.models.down.why("gone:m")
        assert system.models.first("learner") == "local:n"
    assert (learned.status, run.model) == ("done", "local:n")
    assert "gone:m is down" in run.reason and "can't be reached" in run.reason
    assert lab.read("a.txt") == "x"


async def test_claude_overloaded_falls_back_to_another_provider(make_lab: MakeLab, serve: Serve) -> None:
    local = serve(steps(*WRITES))
    lab = with_server(make_lab(lambda _: error(529)), local, f"models: {{learner: [{HAIKU}, 'local:m']}}")
    async with lab.boot() as system:
        learned = await system.execute("Write x into a.txt")
        assert system.economy.summary().spent_usd == pytest.approx(learned.cost_usd)
        assert await _model(system, learned) == "local:m"


async def test_one_claude_model_stands_in_for_another_in_a_session_of_its_own(make_lab: MakeLab) -> None:
    def script(request: Request) -> Turn:
        return error(529) if request.model == HAIKU else steps(*WRITES)(request)

    lab = make_lab(script)
    lab.configure(f"models: {{learner: [{HAIKU}, {SONNET}]}}\n")
    async with lab.boot() as system:
        learned = await system.execute("Write x into a.txt")
        assert (await _model(system, learned)).startswith(SONNET)
        again = await system.execute("Write y into c.txt", mode="learn")
        assert again.status == "done"
    asked = [request.model for request in lab.server.conversation]
    assert asked.count(HAIKU) == 1  # and nobody asks it a second time so soon
    assert lab.read("a.txt") == "x"


async def test_what_a_failed_attempt_cost_is_charged_beside_what_the_next_one_does(
    make_lab: MakeLab, serve: Serve
) -> None:
    first = serve(steps(calls(call("finish"), usage=BIG), error(529)))  # without an answer it is none
    second = serve(steps(calls(call("write", file_path="a.txt", content="x"), usage=BIG), *finishing("Written.")))
    lab = make_lab([])
    lab.configure(
        f"servers: {{one: {{base_url: '{first.openai_url}'}}, two: {{base_url: '{second.openai_url}'}}}}\n"
        f"{PRICED}models: {{learner: ['one:m', 'two:n']}}\n"
    )
    async with lab.boot() as system:
        learned = await system.execute("Write x into a.txt")
        assert system.economy.summary().spent_usd == pytest.approx(learned.cost_usd)
        assert await _model(system, learned) == "two:n"
    assert learned.cost_usd == pytest.approx(0.11 + 0.2 + 0.0002)


async def test_after_a_call_no_other_model_begins_anew(make_lab: MakeLab, serve: Serve) -> None:
    script = steps(calls(call("write", file_path="a.txt", content="x"), usage=BIG), error(529))
    first, second = serve(script), serve([say("Done.", usage=usage(input_tokens=0, output_tokens=0))])
    lab = make_lab([])
    lab.configure(
        f"servers: {{one: {{base_url: '{first.openai_url}'}}, two: {{base_url: '{second.openai_url}'}}}}\n"
        f"{PRICED}models: {{learner: ['one:m', 'two:n']}}\n"
    )
    async with lab.boot() as system:
        with pytest.raises(LearnerError, match="1 call had been made already, so no other model begins anew"):
            await system.execute("Write x into a.txt")
        assert system.economy.summary().spent_usd == pytest.approx(0.11)
    assert second.conversation == []


async def test_a_refused_key_is_no_outage(make_lab: MakeLab, serve: Serve) -> None:
    local = serve(steps(*WRITES))
    lab = with_server(make_lab(lambda _: error(401)), local, f"models: {{learner: [{HAIKU}, 'local:m']}}")
    async with lab.boot() as system:
        with pytest.raises(LearnerError, match="refused the key"):
            await system.execute("Write x into a.txt")
    assert local.conversation == []


# ------------------------------------------------------------------------------------- another model while it runs


def by_model(request: Request) -> Turn:
    """Slow first turns, so that somebody can change the model meanwhile."""
    turns = [slow(1.5, calls(call("write", file_path=f"{n}.txt", content="x"), usage=BIG)) for n in range(2)]
    closing = calls(call("finish", answer="Written."), usage=BIG), say("Written.", usage=BIG)
    return steps(*turns, *closing)(request)


async def test_claude_goes_on_with_another_model_at_the_end_of_its_turn(make_lab: MakeLab) -> None:
    lab = make_lab(by_model)
    async with lab.boot(model=SONNET) as system:
        task = asyncio.create_task(system.execute("Write x into two files"))
        process = await _process(system)
        await until(lambda: lab.server.conversation)
        system.home.processes.change_model(process.pid, HAIKU)
        result = await asyncio.wait_for(task, 60)
        price = {name: system.models.price(name) for name in (SONNET, HAIKU)}
        assert (await _model(system, result)).startswith(HAIKU)
    asked = [request.model for request in lab.server.conversation]
    assert asked == [SONNET] + [HAIKU] * (len(asked) - 1)
    assert len(asked) >= 3
    turn = Tokens(input=100_000, output=1_000)
    assert result.cost_usd == pytest.approx(
        price[SONNET].cost_usd(turn) + (len(asked) - 1) * price[HAIKU].cost_usd(turn), rel=0.01
    )
    assert process.model == HAIKU


async def test_the_budget_holds_across_the_change(make_lab: MakeLab) -> None:
    lab = make_lab(by_model)
    lab.configure("learner: {max_usd_per_run: 0.45, first_estimate_usd: 0.1}\n")
    async with lab.boot(model=HAIKU) as system:
        task = asyncio.create_task(system.execute("Write x into two files"))
        process = await _process(system)
        system.home.processes.change_model(process.pid, SONNET)
        with pytest.raises(LearnerError, match="stopped at its budget"):
            await asyncio.wait_for(task, 60)


async def test_another_server_goes_on_with_its_own_price(make_lab: MakeLab, serve: Serve) -> None:
    one, two = serve(by_model), serve(by_model)
    lab = make_lab([])
    lab.configure(
        f"servers: {{one: {{base_url: '{one.openai_url}'}}, two: {{base_url: '{two.openai_url}'}}}}\n"
        f"{PRICED}models: {{learner: 'one:m'}}\n"
    )
    async with lab.boot() as system:
        task = asyncio.create_task(system.execute("Write x into two files"))
        process = await _process(system)
        await until(lambda: one.conversation)
        with pytest.raises(UsageError, match="worked on by the learner provider, which can't ask sonnet"):
            system.home.processes.change_model(process.pid, "sonnet")
        with pytest.raises(LearnerError, match="openai:gpt-5 needs a key"):
            system.home.processes.change_model(process.pid, "openai:gpt-5")
        system.home.processes.change_model(process.pid, "two:n")
        result = await asyncio.wait_for(task, 60)
        assert await _model(system, result) == "two:n"
    assert (len(one.conversation), len(two.conversation)) == (1, 2)
    assert result.cost_usd == pytest.approx(0.11 + 2 * 0.2)


async def test_a_process_that_no_model_works_on_has_none_to_change(make_lab: MakeLab) -> None:
    lab = make_lab([])
    async with lab.boot() as system:
        await system.execute("Calculate 2 + 3")
        process = system.home.processes.spawn("Calculate 2 + 3")
        process.mode = "follower"
        with pytest.raises(UsageError, match=rf"no model works on process {process.pid} \(it is a follower\)"):
            system.home.processes.change_model(process.pid, "haiku")
