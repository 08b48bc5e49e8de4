"""The learner over pydantic-ai, with its real client, against a scripted OpenAI-compatible server on loopback."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")

from llmos.errors import LearnerError, LLMOSError, NoLearnerError, WatchdogError
from llmos.interfaces.judging import Judging
from llmos.interfaces.learner import Learned, LearnTask
from llmos.interfaces.models import Models
from llmos.interfaces.prices import Tokens, is_own_machine, price_of
from llmos.interfaces.prompts import FINISH
from llmos.interfaces.provider_client import bare_name
from llmos.interfaces.provider_learner import ProviderLearner
from llmos.interfaces.recorder import Recorder
from llmos.kernel.bus import EventBus, ModelSpoke
from llmos.kernel.token_economy import TokenEconomy
from llmos.kernel.watchdog import Watchdog
from llmos.orders import Interrupt, InterruptKind
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.settings import JudgeSettings, Settings, load_settings
from llmos.testing import Request, Script, ScriptedServer, call, calls, cut, error, garbage, say, slow, usage
from llmos.testing.wire import whole
from llmos.trace.match import Match, World
from llmos.trace.program import Effect, Slot, SlotType, Step, Trace
from llmos.trace.run import Finish
from llmos.trace.values import SlotRef

GOAL = "Write 'hello' to a.txt"
PRICED = "\nprices: {m: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 10.0, cached_input_usd_per_mtok: 0.1}}"
DONE = call("finish", answer="wrote hello to a.txt")


@llm_tool("write", "Write a text file", {"path": str, "content": str}, effect=Effect.WRITE)
def write(path: str, content: str, ctx: ToolContext) -> dict[str, Any]:
    ctx.resolve(path).write_text(content, encoding="utf-8")
    return {"path": path, "bytes": len(content)}


@llm_tool("sleep", "Wait", {"seconds": float}, read_only=True, open_world=False)
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    registry = ToolRegistry()
    for function in (write, sleep):
        registry.register(tool_of(function))
    return Recorder(run_id="run-1", registry=registry, ctx=ToolContext(workspace=tmp_path), bus=EventBus())


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a home whose llmos.yaml names this server."""

    def configure(
        url: str | None, more: str = "", *, model: str = "own:m", environ: dict[str, str] | None = None
    ) -> Settings:
        key = ", api_key_env: MY_KEY" if environ else ""
        servers = f"servers: {{own: {{base_url: '{url}'{key}}}}}" if url else ""
        (tmp_path / "home").mkdir(exist_ok=True)
        text = (f"models: {{learner: '{model}'}}\n" if model else "") + servers + more
        (tmp_path / "home" / "llmos.yaml").write_text(text, encoding="utf-8")
        return load_settings(home=tmp_path / "home", workspace=tmp_path, environ=environ or {}, checkout=tmp_path)

    return configure


@pytest.fixture
def solve(configure: Callable[..., Settings], recorder: Recorder) -> Callable[..., Any]:
    """Solve the goal against a server of its own; the server of the last call stays readable in `solve.server`."""

    async def solve(script: Script, more: str = "", *, budget_usd: float = 1.0, **task: Any) -> Learned:
        with ScriptedServer(script) as server:
            solve.server = server  # type: ignore[attr-defined]
            settings = configure(server.openai_url, more)
            given = {
                "run_id": "run-1",
                "goal": GOAL,
                "model": settings.models.learner[0],
                "max_budget_usd": budget_usd,
                **task,
            }
            return await ProviderLearner(settings).solve(LearnTask(**given), recorder)

    return solve


Solve = Callable[..., Any]


# ------------------------------------------------------------------------------------------------- solving a goal


async def test_a_goal_is_solved_through_the_session_and_finished(
    solve: Solve, recorder: Recorder, tmp_path: Path
) -> None:
    spoken: list[ModelSpoke] = []
    recorder.bus.subscribe(ModelSpoke, spoken.append)
    hints = {"goal_template": "Write {text} to {path}", "slots": {"path": "a.txt"}, "checks": ["a.txt exists"]}
    learned = await solve(
        [
            calls(call("write", path="a.txt", content="hello"), text="I write."),
            call("finish", answer="wrote 5 bytes", **hints),
        ]
    )
    assert (tmp_path / "a.txt").read_text() == "hello"
    assert learned == Learned(
        answer="wrote 5 bytes",
        finish=Finish(
            answer="wrote 5 bytes",
            goal_template="Write {text} to {path}",
            slots={"path": "a.txt"},
            checks=("a.txt exists",),
        ),
        cost_usd=0.0,
        model="own:m",
        turns=2,
        note="127.0.0.1 is a machine of yours, so it costs $0",
    )
    assert recorder.finished == learned.finish
    [step] = recorder.steps
    assert (step.tool, step.args, step.is_error) == ("write", {"path": "a.txt", "content": "hello"}, False)
    assert step.output == {"path": "a.txt", "bytes": 5}
    assert step.tool_use_id == solve.server.conversation[1].tool_results[0].id  # type: ignore[attr-defined]
    assert [event.text for event in spoken] == ["I write.", ""]


async def test_the_model_is_told_the_goal_the_way_to_work_and_the_tools(solve: Solve) -> None:
    await solve([DONE])
    [request] = solve.server.conversation  # type: ignore[attr-defined]
    assert request.prompt == GOAL
    assert "replayed by plain Python" in request.system
    assert request.tools == ("sleep", "write", FINISH)
    assert request.model == "m"


async def test_a_near_trace_is_told_as_a_plan(solve: Solve) -> None:
    await solve([DONE], plan="1. write(path=b.txt)")
    [request] = solve.server.conversation  # type: ignore[attr-defined]
    assert request.prompt.startswith(GOAL)
    assert request.prompt.endswith("1. write(path=b.txt)")


async def test_several_calls_of_one_turn_are_made_in_their_order(solve: Solve, recorder: Recorder) -> None:
    await solve(
        [calls(call("sleep", seconds=0.05), call("write", path="a", content=""), call("sleep", seconds=0)), DONE]
    )
    assert [(step.index, step.tool) for step in recorder.steps] == [(0, "sleep"), (1, "write"), (2, "sleep")]


async def test_what_the_user_says_meanwhile_is_a_message_of_theirs_after_the_results(
    solve: Solve, recorder: Recorder
) -> None:
    said = {"text": "In capitals, please"}
    recorder.told.append(Interrupt(kind=InterruptKind.USER, payload=said, created_at=datetime.now(UTC)))
    await solve([call("write", path="a.txt", content="hello"), DONE])
    result, message = solve.server.conversation[1].body["messages"][-2:]  # type: ignore[attr-defined]
    assert (result["role"], message["role"]) == ("tool", "user")
    assert result["content"].startswith("«data ")
    assert "«the user says»" in str(message["content"])
    assert "In capitals, please" in str(message["content"])


async def test_who_is_told_something_does_not_finish_before_it_was_heard(solve: Solve, recorder: Recorder) -> None:
    said = {"text": "In capitals, please"}
    recorder.told.append(Interrupt(kind=InterruptKind.USER, payload=said, created_at=datetime.now(UTC)))
    learned = await solve([call("finish", answer="hello"), call("finish", answer="HELLO")])
    assert learned.answer == "HELLO"
    assert "In capitals, please" in str(solve.server.conversation[1].body["messages"][-1])  # type: ignore[attr-defined]


async def test_a_failed_call_is_told_as_an_error_and_recorded(solve: Solve, recorder: Recorder) -> None:
    await solve([call("write", path="../x", content=""), call("nothing"), call("write", path=5), DONE])
    said = [result.text for result in solve.server.conversation[-1].tool_results]  # type: ignore[attr-defined]
    assert "outside the workspace" in said[0]
    assert "there is no tool 'nothing'" in said[1]
    assert all(step.is_error for step in recorder.steps)
    assert len(recorder.steps) == 3


async def test_ending_in_plain_words_is_an_answer_too(solve: Solve, recorder: Recorder) -> None:
    learned = await solve([call("write", path="a", content="x"), say(" It is written. \n")])
    assert (learned.answer, learned.finish) == ("It is written.", None)
    assert len(recorder.steps) == 1


async def test_a_finish_without_an_answer_is_asked_for_again(solve: Solve, recorder: Recorder) -> None:
    learned = await solve([call("finish", goal_template="x"), call("finish", answer=" "), DONE])
    assert learned.answer == "wrote hello to a.txt"
    assert learned.turns == 3
    assert "finish needs `answer`" in solve.server.conversation[1].tool_results[0].text  # type: ignore[attr-defined]


async def test_hints_of_another_shape_are_left_out(solve: Solve) -> None:
    learned = await solve([call("finish", answer="done", goal_template=["x"], slots="path", checks="none")])
    assert learned.finish == Finish(answer="done")


async def test_calls_before_finish_in_one_turn_are_made(solve: Solve, tmp_path: Path) -> None:
    learned = await solve([calls(call("write", path="a.txt", content="x"), DONE)])
    assert (learned.turns, (tmp_path / "a.txt").read_text()) == (1, "x")


async def test_the_first_model_offered_is_taken_when_none_is_named(
    configure: Callable[..., Settings], recorder: Recorder
) -> None:
    with ScriptedServer([DONE]) as server:
        settings = configure(server.openai_url, model="own:")
        task = LearnTask(run_id="r", goal=GOAL, model=settings.models.learner[0], max_budget_usd=1.0)
        with pytest.raises(
            NoLearnerError, match=r"does not say which models it has: .*; start it, or name one as own:model"
        ):
            await ProviderLearner(settings).solve(task, recorder)
    with _listing(["local-7b", "other"], [DONE]) as server:
        settings = configure(server.openai_url, model="own:")
        learned = await ProviderLearner(settings).solve(task, recorder)
        assert (learned.model, server.conversation[0].model) == ("own:local-7b", "local-7b")


class _Listing(ScriptedServer):
    models: list[str]

    def _serve(self, request: Request) -> Any:
        if (request.method, request.path) != ("GET", "/v1/models"):
            return super()._serve(request)
        return whole(json.dumps({"object": "list", "data": [{"id": m, "object": "model"} for m in self.models]}))


def _listing(models: list[str], script: Script) -> _Listing:
    server = _Listing(script)
    server.models = models
    return server


async def test_a_key_is_sent_only_where_it_is_named(configure: Callable[..., Settings], recorder: Recorder) -> None:
    sent = []
    for environ in ({"MY_KEY": "k-1"}, {}):
        with ScriptedServer([DONE]) as server:
            settings = configure(server.openai_url, environ=environ)
            task = LearnTask(run_id="r", goal=GOAL, model="own:openai:m", max_budget_usd=1.0)
            await ProviderLearner(settings).solve(task, recorder)
            sent.append(server.conversation[0].headers["authorization"])
            assert server.conversation[0].model == "m"
    assert sent[0] == "Bearer k-1"
    assert "k-1" not in sent[1]


# ------------------------------------------------------------------------------------------------------- the bill


async def test_every_request_is_charged_at_the_users_price(solve: Solve, recorder: Recorder) -> None:
    first = calls(call("write", path="a", content=""), usage=usage(input_tokens=1_000, output_tokens=100))
    second = calls(DONE, usage=usage(input_tokens=2_000, output_tokens=50))
    learned = await solve([first, second], PRICED)
    assert learned.cost_usd == pytest.approx(0.003 + 0.0015)
    assert recorder.cost_usd == learned.cost_usd
    assert learned.note == "the price is the one in llmos.yaml"


@pytest.mark.parametrize("last", [garbage("{]"), garbage('{"choices": []}')])
async def test_an_answer_that_can_not_be_read_is_charged_for_what_was_sent(solve: Solve, last: Any) -> None:
    with pytest.raises(LearnerError, match="it cost") as caught:
        await solve([last], PRICED)
    assert 0.0005 < caught.value.cost_usd < 0.01


async def test_failures_are_charged_for_what_was_done_before(solve: Solve, recorder: Recorder) -> None:
    first = calls(call("write", path="a", content=""), usage=usage(input_tokens=1_000, output_tokens=100))
    with pytest.raises(LearnerError) as caught:
        await solve([first, error(400, "no")], PRICED)
    assert caught.value.cost_usd == recorder.cost_usd == pytest.approx(0.002)
    assert "it cost $0.0020" in str(caught.value)


async def test_no_request_is_made_that_the_budget_can_not_carry(solve: Solve) -> None:
    expensive = calls(call("write", path="a", content=""), usage=usage(input_tokens=90_000, output_tokens=100))
    with pytest.raises(
        LearnerError, match=r"the budget of \$0\.1000 for this goal is used up; it cost \$0\.0910"
    ) as caught:
        await solve([expensive, DONE], PRICED, budget_usd=0.1)
    assert caught.value.cost_usd == pytest.approx(0.091)
    assert len(solve.server.requests) == 1  # type: ignore[attr-defined]


async def test_a_budget_too_small_for_one_request_makes_none(solve: Solve) -> None:
    with pytest.raises(LearnerError, match="is used up") as caught:
        await solve([DONE], PRICED, budget_usd=0.001)
    assert caught.value.cost_usd == 0.0
    assert solve.server.requests == []  # type: ignore[attr-defined]


async def test_the_rest_of_the_budget_limits_the_output(solve: Solve) -> None:
    await solve([DONE], PRICED, budget_usd=0.02)
    [request] = solve.server.conversation  # type: ignore[attr-defined]
    limit = request.body.get("max_tokens") or request.body.get("max_completion_tokens")
    assert 1_000 < limit < 2_000


async def test_a_server_that_does_not_count_is_counted_for(solve: Solve) -> None:
    learned = await solve([calls(DONE, usage=usage(input_tokens=0, output_tokens=0))], PRICED)
    assert 0.0005 < learned.cost_usd < 0.01


def test_prices(configure: Callable[..., Settings]) -> None:
    settings = configure("http://localhost:5001/v1", PRICED)
    million = Tokens(input=1_000_000, output=1_000_000, cached=400_000)
    assert price_of("m", "http://localhost:5001/v1", settings).cost_usd(million) == pytest.approx(0.6 + 0.04 + 10)
    assert price_of("openai:m", None, settings).cost_usd(million) == pytest.approx(10.64)
    assert price_of("local", "http://localhost:5001/v1", settings).cost_usd(million) == 0.0
    published = price_of("openai:gpt-5", None, settings)
    assert published.cost_usd(Tokens(input=1_000, output=100)) == pytest.approx(0.00225)
    assert published.cost_usd(Tokens(input=1_000, output=100, cached=1_000)) < 0.00225
    with pytest.raises(
        NoLearnerError, match=r"the price of x is not known, .* add it to llmos\.yaml under `prices: \{x"
    ):
        price_of("x", "https://models.example.com/v1", settings)
    with pytest.raises(NoLearnerError, match="the price of openai:nonesuch-9 is not known"):
        price_of("openai:nonesuch-9", None, settings)


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("http://localhost:5001/v1", True),
        ("http://127.0.0.1:5001", True),
        ("http://[::1]:80", True),
        ("http://192.168.1.7/v1", True),
        ("http://10.0.0.1", True),
        ("http://gpu-box:8000", True),
        ("http://studio.local", True),
        ("https://api.openai.com/v1", False),
        ("http://8.8.8.8", False),
        ("http://localhost.example.com", False),
    ],
)
def test_what_counts_as_a_machine_of_ones_own(url: str, own: bool) -> None:
    assert is_own_machine(url) is own


@pytest.mark.parametrize(("model", "name"), [("openai:gpt-5", "gpt-5"), ("llama3:8b", "llama3:8b"), ("m", "m")])
def test_only_our_own_prefix_is_taken_off_a_servers_model(model: str, name: str) -> None:
    assert bare_name(model) == name


# -------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (
            [error(401, "bad key")],
            NoLearnerError,
            "m at http://127.* refuses the key: bad key; check servers.own.",
        ),
        ([error(404, "no model m")], NoLearnerError, "is not there: no model m; name another with --model"),
        ([error(429, "slow down", retry_after=0.01)] * 3, LearnerError, "takes no more requests now: slow down; try a"),
        ([error(402, "pay first")], LearnerError, "has no credit left: pay first"),
        ([error(500, "oops", headers={"retry-after-ms": "1"})] * 3, LearnerError, "failed: oops"),
        ([error(529, "busy", headers={"retry-after-ms": "1"})] * 3, LearnerError, "failed: busy"),
        ([error(400, "context too long")], LearnerError, "failed: context too long"),
        ([garbage("{]")], LearnerError, "m at http.* answered what can't be understood: "),
        ([garbage('{"choices": []}')], LearnerError, "answered what can't be understood: "),
        ([garbage('{"choices": 5}')], LearnerError, "answered what can't be understood: "),
        ([cut(say("x" * 500), after_events=1)] * 3, LearnerError, "m at http.* broke off: Connection error"),
        ([say("")], LearnerError, "m said nothing and called nothing"),
        ([say("half an ans", stop_reason="max_tokens")], LearnerError, "m was cut off in the middle"),
        ([call("sleep", seconds=0)] * 3, LearnerError, "m did not finish within 3 turns"),
    ],
    ids=lambda value: None if isinstance(value, str) else getattr(value, "__name__", ""),
)
async def test_a_failure_is_one_sentence(solve: Solve, script: Script, kind: type[LLMOSError], message: str) -> None:
    with pytest.raises(LearnerError, match=message) as caught:
        await solve(script, max_turns=3)
    assert type(caught.value) is kind
    assert caught.value.exit_code == (5 if kind is NoLearnerError else 1)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


async def test_a_rate_limit_that_passes_is_waited_for(solve: Solve) -> None:
    learned = await solve([error(429, "slow down", headers={"retry-after-ms": "1"}), DONE])
    assert (learned.answer, learned.turns) == ("wrote hello to a.txt", 1)


async def test_arguments_that_are_no_json_are_sent_back(solve: Solve, recorder: Recorder) -> None:
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "t1", "type": "function", "function": {"name": "write", "arguments": '{"path": '}}
                    ],
                },
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
    }
    learned = await solve([garbage(json.dumps(body)), DONE])
    assert learned.turns == 2
    assert recorder.steps == ()
    assert "not a JSON object" in solve.server.conversation[1].tool_results[0].text  # type: ignore[attr-defined]


async def test_no_server_is_said_with_its_address(configure: Callable[..., Settings], recorder: Recorder) -> None:
    with ScriptedServer([]) as server:
        url = server.openai_url
    task = LearnTask(run_id="r", goal=GOAL, model="own:m", max_budget_usd=1.0)
    with pytest.raises(NoLearnerError, match=r"m at http://127\.0\.0\.1:\d+/v1/? can't be reached: .*; start it, or"):
        await ProviderLearner(configure(url)).solve(task, recorder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("openai:", "'openai:' names no model: say which, as in openai:gpt-5"),
        ("openai:gpt-5", "openai:gpt-5 needs a key: export OPENAI_API_KEY=…"),
        ("nonesuch:x", r"nonesuch:x can't be used: Unknown (model|provider).*; name a model as provider:name"),
        ("anthropic:claude-sonnet-4-5", r'needs a package: pip install "pydantic-ai-slim\[anthropic\]"\.'),
    ],
)
async def test_a_model_that_can_not_be_used_is_said_before_anything_is_asked(
    configure: Callable[..., Settings],
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    message: str,
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = configure(None, model=model)
    task = LearnTask(run_id="r", goal=GOAL, model=model, max_budget_usd=1.0)
    with pytest.raises(NoLearnerError, match=message) as caught:
        await ProviderLearner(settings).solve(task, recorder)
    assert "\n" not in str(caught.value)


async def test_without_the_library_the_sentence_says_how_to_get_it(
    configure: Callable[..., Settings], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pydantic_ai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Missing(), *sys.meta_path])
    task = LearnTask(run_id="r", goal=GOAL, model="own:m", max_budget_usd=1.0)
    with pytest.raises(NoLearnerError, match=r"needs pydantic-ai: pip install 'llmos\[providers\]'"):
        await ProviderLearner(configure("http://localhost:5001/v1")).solve(task, recorder)


class _Missing:
    """An environment without pydantic-ai."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "pydantic_ai":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


# ---------------------------------------------------------------------------------------------- being stopped


async def _until(happened: Callable[[], bool]) -> None:
    while not happened():  # noqa: ASYNC110 (the server is a thread)
        await asyncio.sleep(0.01)


async def test_cancelling_passes_through_and_what_was_sent_is_billed(solve: Solve, recorder: Recorder) -> None:
    work = asyncio.create_task(solve([slow(30, DONE)], PRICED))
    await _until(lambda: hasattr(solve, "server") and bool(solve.server.conversation))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, 5)
    assert 0 < recorder.cost_usd < 0.01


async def test_the_watchdog_stops_a_model_that_repeats_itself(solve: Solve, recorder: Recorder) -> None:
    with Watchdog(max_repeats=2).watching("run-1") as watch:
        recorder.watch = watch
        with pytest.raises(WatchdogError, match="sleep was called 3 times in a row"):
            await watch.limit(solve([call("sleep", seconds=0)] * 10))
    assert len(recorder.steps) == 3


# -------------------------------------------------------------------------------------------------------- thinking


async def test_a_thought_is_one_bounded_request_without_tools(configure: Callable[..., Settings]) -> None:
    with ScriptedServer([say("a haiku", usage=usage(input_tokens=100, output_tokens=10))]) as server:
        learner = ProviderLearner(configure(server.openai_url, PRICED))
        thought = await learner.think("Write a haiku", max_tokens=64, model="own:m", max_budget_usd=0.01)
    assert thought.text == "a haiku"
    assert thought.cost_usd == pytest.approx(0.0002)
    [request] = server.conversation
    assert (request.prompt, request.tools) == ("Write a haiku", ())
    assert 64 in (request.body.get("max_tokens"), request.body.get("max_completion_tokens"))


async def test_a_thought_that_failed_carries_its_cost(configure: Callable[..., Settings]) -> None:
    with ScriptedServer([say("", usage=usage(input_tokens=100, output_tokens=0))]) as server:
        learner = ProviderLearner(configure(server.openai_url, PRICED))
        with pytest.raises(LearnerError, match="m said nothing") as caught:
            await learner.think("Write", max_tokens=64, model="own:m", max_budget_usd=0.01)
    assert caught.value.cost_usd == pytest.approx(0.0001)


# --------------------------------------------------------------------------------------------------------- judging


JUDGED_TRACE = Trace(
    id="sum",
    goals=("Sum the amounts of {source}",),
    slots=(Slot(name="source", type=SlotType.PATH),),
    steps=(Step(id="s", tool="t", args={"file": SlotRef(name="source")}, effect=Effect.READ),),
)
NEAR = Match(
    trace=JUDGED_TRACE,
    template="Sum the amounts of {source}",
    bindings={"source": "b.csv"},
    anchors=4,
    wording="Add up the amounts of {source}",
    doubt=0.2,
)


@pytest.mark.parametrize(
    ("said", "same"),
    [('{"same": true, "wrong": []}', True), ('{"same": false, "wrong": ["up"]}', False), ("Yes!", None)],
)
async def test_a_model_of_another_provider_judges_a_wording(
    configure: Callable[..., Settings], said: str, same: bool | None
) -> None:
    with ScriptedServer([say(said, usage=usage(input_tokens=100, output_tokens=10))]) as server:
        settings = configure(server.openai_url, "\nmodels: {judge: 'own:m'}" + PRICED, model="")
        learner = ProviderLearner(settings)
        models = Models(settings=settings, learner_of=lambda name: learner)
        economy = TokenEconomy(budget_usd=1.0)
        judging = Judging(settings=JudgeSettings(), models=models, economy=economy, world=World())
        verdict = await judging.judge("r1", "Add up the amounts of b.csv", NEAR)
    assert verdict.same is same
    assert verdict.cost_usd == economy.spent_usd == pytest.approx(0.0002)
    [request] = server.conversation
    assert request.tools == ()
    for part in ('"Sum the amounts of <source>"', '{"source": "b.csv"}', '"Add up the amounts of b.csv"'):
        assert part in request.prompt
