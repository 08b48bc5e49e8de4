"""The scripted model server on the wire, as plain HTTP clients see it; and the other doubles beside it."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import llmos.testing
from llmos.testing import (
    FrozenClock,
    HashEmbedder,
    Request,
    Script,
    ScriptedServer,
    Turn,
    call,
    calls,
    cut,
    error,
    garbage,
    say,
    slow,
    usage,
)

JSON = dict[str, Any]
WRITE = {"name": "mcp__llmos__write", "description": "Write a file", "input_schema": {"type": "object"}}
READ = {"name": "mcp__llmos__read", "description": "Read a file", "input_schema": {"type": "object"}}


def ask(server: ScriptedServer, *, stream: bool = False, **body: Any) -> httpx.Response:
    """One Messages API request with two tools on offer."""
    sent = {"model": "claude-x", "max_tokens": 64, "messages": [user("hello")], "tools": [WRITE, READ]}
    with httpx.Client(trust_env=False) as client:
        return client.post(server.url + "/v1/messages?beta=true", json=sent | {"stream": stream} | body)


def chat(server: ScriptedServer, *, stream: bool = False, **body: Any) -> httpx.Response:
    """One OpenAI-compatible request with one tool on offer."""
    tool = {"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}
    sent = {"model": "local", "messages": [user("hello")], "tools": [tool], "stream": stream}
    with httpx.Client(trust_env=False) as client:
        return client.post(server.openai_url + "/chat/completions", json=sent | body)


def user(text: str) -> JSON:
    return {"role": "user", "content": text}


def events(response: httpx.Response) -> list[JSON]:
    """The JSON data of each server-sent event."""
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in data if line != "[DONE]"]


# ------------------------------------------------------------------------------------------- Messages, whole


def test_turns_are_answered_in_order() -> None:
    with ScriptedServer([say("one"), say("two")]) as server:
        assert [ask(server).json()["content"][0]["text"] for _ in range(2)] == ["one", "two"]
        assert server.unused == 0


def test_a_message_has_the_shape_of_the_api() -> None:
    with ScriptedServer([say("hi", usage=usage(input_tokens=7, output_tokens=3))]) as server:
        message = ask(server).json()
    assert message["type"] == "message"
    assert message["role"] == "assistant"
    assert message["model"] == "claude-x"
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["input_tokens"] == 7
    assert message["usage"]["output_tokens"] == 3


def test_cache_tokens_are_reported() -> None:
    turn = say("hi", usage=usage(cache_creation_input_tokens=5, cache_read_input_tokens=9))
    with ScriptedServer([turn]) as server:
        told = ask(server).json()["usage"]
    assert told["cache_creation_input_tokens"] == told["cache_creation"]["ephemeral_5m_input_tokens"] == 5
    assert told["cache_read_input_tokens"] == 9


def test_a_short_tool_name_becomes_the_offered_one() -> None:
    with ScriptedServer([call("read", path="a.txt")]) as server:
        message = ask(server).json()
    (block,) = message["content"]
    assert (block["name"], block["input"]) == ("mcp__llmos__read", {"path": "a.txt"})
    assert message["stop_reason"] == "tool_use"


def test_an_unknown_tool_name_is_sent_as_it_is() -> None:
    with ScriptedServer([call("fly")]) as server:
        assert ask(server).json()["content"][0]["name"] == "fly"


def test_arguments_that_are_no_python_names_are_possible() -> None:
    with ScriptedServer([call("write", {"from": "a", "tool": "b"}, path="c")]) as server:
        assert ask(server).json()["content"][0]["input"] == {"from": "a", "tool": "b", "path": "c"}


def test_one_turn_may_have_text_and_several_calls() -> None:
    with ScriptedServer([calls(call("write", path="a"), call("read", path="b"), text="Now:")]) as server:
        blocks = ask(server).json()["content"]
    assert [block["type"] for block in blocks] == ["text", "tool_use", "tool_use"]
    assert blocks[0]["text"] == "Now:"
    assert blocks[1]["id"] != blocks[2]["id"]


def test_the_stop_reason_can_be_set() -> None:
    with ScriptedServer([say("and then", stop_reason="max_tokens")]) as server:
        assert ask(server).json()["stop_reason"] == "max_tokens"


def test_a_function_sees_the_request_and_chooses_the_turn() -> None:
    def echo(request: Request) -> Turn:
        return say(f"{request.model}: {request.prompt} / {', '.join(request.tools)}")

    with ScriptedServer(echo) as server:
        assert ask(server).json()["content"][0]["text"] == "claude-x: hello / mcp__llmos__write, mcp__llmos__read"


def test_tool_results_of_a_request_can_be_read() -> None:
    block = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "no"}], "is_error": True}
    with ScriptedServer([say("ok")]) as server:
        ask(server, messages=[user("hello"), {"role": "user", "content": [block]}], system="Be brief")
        (request,) = server.conversation
    assert [(result.id, result.text, result.is_error) for result in request.tool_results] == [("t1", "no", True)]
    assert request.system == "Be brief"


# ---------------------------------------------------------------------------------------- Messages, streamed


def test_a_stream_has_the_events_of_the_api() -> None:
    with ScriptedServer([call("write", path="a.txt")]) as server:
        response = ask(server, stream=True)
    assert response.headers["content-type"] == "text/event-stream"
    assert list(dict.fromkeys(event["type"] for event in events(response))) == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_streamed_deltas_join_to_the_whole_message() -> None:
    text, arguments = "A sentence longer than one delta is.", {"path": "a.txt", "content": "x" * 100}
    with ScriptedServer([calls(call("write", arguments), text=text)]) as server:
        told = events(ask(server, stream=True))
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == text
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == arguments
    assert len(deltas) > 2


def test_a_stream_tells_input_tokens_first_and_output_tokens_last() -> None:
    with ScriptedServer([say("hi", usage=usage(input_tokens=7, output_tokens=3))]) as server:
        told = events(ask(server, stream=True))
    assert told[0]["message"]["usage"]["input_tokens"] == 7
    assert told[-2]["usage"]["output_tokens"] == 3


# ---------------------------------------------------------------------------------------------- OpenAI dialect


def test_a_chat_completion_carries_text_and_usage() -> None:
    tokens = usage(input_tokens=5, output_tokens=2, cache_read_input_tokens=4)
    with ScriptedServer([say("hi", usage=tokens)]) as server:
        completion = chat(server).json()
    assert completion["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert (completion["usage"]["prompt_tokens"], completion["usage"]["completion_tokens"]) == (9, 2)


def test_a_chat_completion_carries_tool_calls() -> None:
    with ScriptedServer([call("write", path="a")]) as server:
        choice = chat(server).json()["choices"][0]
    (made,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert (made["function"]["name"], json.loads(made["function"]["arguments"])) == ("write", {"path": "a"})


def test_a_streamed_chat_completion_ends_with_usage_and_done() -> None:
    with ScriptedServer([say("hi", usage=usage(output_tokens=2))]) as server:
        response = chat(server, stream=True, stream_options={"include_usage": True})
    assert response.text.endswith("data: [DONE]\n\n")
    assert events(response)[-1]["usage"]["completion_tokens"] == 2


def test_a_chat_error_has_the_openai_envelope() -> None:
    with ScriptedServer([error(429, "slow down", retry_after=2)]) as server:
        response = chat(server)
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert response.json()["error"]["message"] == "slow down"


@pytest.mark.parametrize("streaming", [False, True])
async def test_pydantic_ai_runs_a_tool_and_ends(streaming: bool) -> None:
    with ScriptedServer([call("add", a=2, b=3), say("It is 5.")]) as server:
        async with local_agent(server) as agent:
            if streaming:
                async with agent.run_stream("2 + 3?") as run:
                    answer = await run.get_output()
            else:
                answer = (await agent.run("2 + 3?")).output
        assert answer == "It is 5."
        assert [result.text for result in server.conversation[1].tool_results] == ["5"]


def local_agent(server: ScriptedServer) -> Agent:
    provider = OpenAIProvider(base_url=server.openai_url, api_key="dummy")
    agent = Agent(OpenAIChatModel("local", provider=provider))

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    return agent


# ------------------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_has_its_status_and_kind(status: int, kind: str) -> None:
    with ScriptedServer([error(status)]) as server:
        response = ask(server, stream=True)
    assert response.status_code == status
    assert response.json()["error"]["type"] == kind
    assert "retry-after" not in response.headers


def test_an_error_may_tell_when_to_retry_and_other_headers() -> None:
    with ScriptedServer([error(429, retry_after=1.5, headers={"x-should-retry": "false"})]) as server:
        response = ask(server)
    assert (response.headers["retry-after"], response.headers["x-should-retry"]) == ("1.5", "false")


def test_a_retry_takes_the_next_turn() -> None:
    with ScriptedServer([error(500), say("better")]) as server:
        assert [ask(server).status_code for _ in range(2)] == [500, 200]


def test_a_slow_turn_comes_late() -> None:
    with ScriptedServer([slow(0.2, say("at last"))]) as server:
        start = time.monotonic()
        assert ask(server).json()["content"][0]["text"] == "at last"
    assert time.monotonic() - start >= 0.2


def test_closing_the_server_ends_a_slow_turn() -> None:
    with ThreadPoolExecutor(1) as pool:
        with ScriptedServer([slow(60, say("never"))]) as server:
            answer = pool.submit(ask, server)
            while not server.conversation:
                time.sleep(0.005)
        with pytest.raises(httpx.RemoteProtocolError):
            answer.result(timeout=5)


def test_a_cut_stream_breaks_after_the_events_asked_for() -> None:
    seen = ""
    with (
        ScriptedServer([cut(say("a text of more than one delta"), after_events=3)]) as server,
        httpx.Client(trust_env=False) as client,
        client.stream("POST", server.url + "/v1/messages", json={"model": "m", "stream": True}) as response,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        for part in response.iter_text():
            seen += part
    assert seen.count("event: ") == 3


def test_a_cut_whole_answer_breaks_half_way() -> None:
    with ScriptedServer([cut(say("hi"), after_events=1)]) as server, pytest.raises(httpx.RemoteProtocolError):
        ask(server)


@pytest.mark.parametrize("stream", [False, True])
def test_garbage_is_no_json(stream: bool) -> None:
    with ScriptedServer([garbage()]) as server:
        response = ask(server, stream=stream)
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.text.rpartition("data: ")[2])


def test_faults_combine() -> None:
    with ScriptedServer([slow(0.1, error(529))]) as server:
        start = time.monotonic()
        assert ask(server).status_code == 529
    assert time.monotonic() - start >= 0.1


# --------------------------------------------------------------------------------------------------- the script


def test_an_overrun_is_an_error_and_recorded() -> None:
    with ScriptedServer([say("only one")]) as server:
        ask(server)
        response = ask(server)
        assert response.status_code == 418
        assert response.json()["error"]["message"] == "the script has 1 turns, and this is request 2"
        assert server.overrun == [server.conversation[1]]


def test_unused_turns_are_counted() -> None:
    with ScriptedServer([say("one"), say("two"), say("three")]) as server:
        ask(server)
        assert server.unused == 2


def test_an_exception_in_the_function_fails_the_test() -> None:
    def choose(request: Request) -> Turn:
        assert request.model == "claude-y", "wrong model"
        return say("ok")

    with pytest.raises(AssertionError, match="wrong model"), ScriptedServer(choose) as server:
        assert ask(server).status_code == 418


def test_an_exception_in_the_block_wins_over_one_in_the_function() -> None:
    def choose(request: Request) -> Turn:
        raise ValueError("inner")

    with pytest.raises(RuntimeError, match="outer"), ScriptedServer(choose) as server:
        ask(server)
        raise RuntimeError("outer")


# ------------------------------------------------------------------------------- what else a client may ask for


def test_nothing_asked_is_nothing_recorded() -> None:
    with ScriptedServer([]) as server:
        pass
    assert server.requests == []


def test_a_request_is_recorded_with_path_headers_body_and_time() -> None:
    with ScriptedServer([say("hi")]) as server:
        ask(server)
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.headers["content-type"] == "application/json"
    assert request.body["messages"] == [user("hello")]
    assert abs(datetime.now(UTC) - request.at) < timedelta(minutes=1)


TITLE = {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {"title": {}}}}}


@pytest.mark.parametrize("body", [{"tools": [], "output_config": TITLE}, {"max_tokens": 1}])
def test_a_side_request_takes_no_turn(body: JSON) -> None:
    with ScriptedServer([say("mine")]) as server:
        assert ask(server, **body).status_code == 200
        assert (server.unused, len(server.side_requests), len(server.requests)) == (1, 1, 1)
        assert server.conversation == []


def test_a_request_without_tools_is_still_a_conversation() -> None:
    with ScriptedServer([say("plain")]) as server:
        assert ask(server, tools=[]).json()["content"][0]["text"] == "plain"


def test_what_a_side_request_is_can_be_redefined() -> None:
    with ScriptedServer([say("mine")], is_side=lambda request: request.model == "small") as server:
        ask(server, model="small")
        assert ask(server, model="big").json()["content"][0]["text"] == "mine"


def test_counting_tokens_takes_no_turn() -> None:
    with ScriptedServer([say("mine")]) as server, httpx.Client(trust_env=False) as client:
        response = client.post(server.url + "/v1/messages/count_tokens", json={"messages": [user("x" * 400)]})
        assert response.json()["input_tokens"] > 100
        assert server.unused == 1


def test_head_is_ok_and_other_routes_are_not_found() -> None:
    with ScriptedServer([]) as server, httpx.Client(trust_env=False) as client:
        assert client.head(server.url).status_code == 200
        assert client.get(server.url + "/v1/models").status_code == 404
        assert client.post(server.url + "/v1/complete", content=b"not json").status_code == 404
        assert [request.method for request in server.requests] == ["HEAD", "GET", "POST"]


# ----------------------------------------------------------------------------------------------------- lifetime


async def test_it_serves_many_connections_at_once() -> None:
    def choose(request: Request) -> Turn:
        return slow(0.2, say(request.prompt))

    with ScriptedServer(choose) as server:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            start = time.monotonic()
            sent = [client.post(server.url + "/v1/messages", json={"messages": [user(str(i))]}) for i in range(20)]
            answers = await asyncio.gather(*sent)
    assert [answer.json()["content"][0]["text"] for answer in answers] == [str(i) for i in range(20)]
    assert time.monotonic() - start < 20 * 0.2


def test_closing_leaves_no_thread_although_connections_are_open() -> None:
    before = threading.active_count()
    with httpx.Client(trust_env=False) as client:
        with ScriptedServer([say("hi")]) as server:
            client.post(server.url + "/v1/messages", json={"model": "m"})
            assert threading.active_count() > before
        assert threading.active_count() == before


def test_a_client_that_leaves_early_is_no_error() -> None:
    with ScriptedServer([slow(0.1, say("x" * 1_000_000))]) as server:
        with pytest.raises(httpx.ReadTimeout), httpx.Client(trust_env=False, timeout=0.02) as client:
            client.post(server.url + "/v1/messages", json={"model": "m"})
        time.sleep(0.15)


def test_a_server_that_is_not_running_says_so() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        _ = ScriptedServer([]).url


def test_a_server_can_be_stopped_twice() -> None:
    server = ScriptedServer([]).start()
    server.stop()
    server.stop()


def test_the_environment_points_to_the_server_and_away_from_the_user(tmp_path: Path) -> None:
    with ScriptedServer([]) as server:
        env = server.env(tmp_path / "home")
        assert env["ANTHROPIC_BASE_URL"] == server.url
    assert (env["HOME"], env["CLAUDE_CONFIG_DIR"]) == (str(tmp_path / "home"), str(tmp_path / "home" / ".claude"))
    assert (tmp_path / "home").is_dir()
    assert env["ANTHROPIC_API_KEY"] == "dummy"
    assert env["ANTHROPIC_AUTH_TOKEN"] == env["CLAUDE_CODE_OAUTH_TOKEN"] == ""
    assert env["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] == "1"


@pytest.mark.parametrize("script", [[say("hi")], (say("hi"),), lambda request: say("hi")])
def test_a_script_is_any_iterable_or_a_function(script: Script) -> None:
    with ScriptedServer(script) as server:
        assert ask(server).status_code == 200


# -------------------------------------------------------------------------------------------- embedder and clock


def test_hash_vectors_are_float32_of_length_one() -> None:
    vectors = HashEmbedder().encode(["copy a to b", "", "!?"])
    assert vectors.shape == (3, HashEmbedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)


def test_hash_vectors_are_the_same_in_every_process() -> None:
    (vector,) = HashEmbedder().encode(["copy"])
    assert np.flatnonzero(vector).tolist() == [290]


def test_shared_words_make_hash_vectors_similar() -> None:
    one, same, other = HashEmbedder().encode(["Copy the big file", "copy the small file", "what time is it"])
    assert one @ same == pytest.approx(0.75)
    assert one @ other < 0.3


def test_no_texts_give_no_vectors() -> None:
    assert HashEmbedder().encode([]).shape == (0, HashEmbedder.dim)


def test_a_frozen_clock_moves_only_when_told() -> None:
    clock = FrozenClock(datetime(2026, 11, 21, tzinfo=UTC))
    assert clock() == clock()
    clock.advance(90)
    assert clock() == datetime(2026, 11, 21, 0, 1, 30, tzinfo=UTC)


def test_every_public_name_exists() -> None:
    assert [name for name in llmos.testing.__all__ if not hasattr(llmos.testing, name)] == []
