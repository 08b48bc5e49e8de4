"""The scripted server against the real SDK and the CLI in its wheel: what the learner builds on, seen end to end."""

from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    Message,
    ResultMessage,
    ToolResultBlock,
    UserMessage,
    create_sdk_mcp_server,
    tool,
)

from llmos.testing import ScriptedServer, call, calls, cut, error, say, usage

# A model whose list price no longer moves, in US dollars for a million tokens.
MODEL, INPUT_PRICE, OUTPUT_PRICE = "claude-haiku-4-5", 1.0, 5.0


class Notes:
    """An in-process tool server with one tool, `note`, that fails on an empty text."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.server = create_sdk_mcp_server("llmos", tools=[tool("note", "Write a note", {"text": str})(self._note)])

    async def _note(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not arguments["text"]:
            raise ValueError("nothing to note")
        self.written.append(arguments["text"])
        return {"content": [{"type": "text", "text": f"noted {arguments['text']}"}]}


async def run(server: ScriptedServer, home: Path, notes: Notes, *, env: dict[str, str] | None = None) -> list[Message]:
    """All messages of one goal, solved with the real client against `server`."""
    options = ClaudeAgentOptions(
        model=MODEL,
        tools=[],
        mcp_servers={"llmos": notes.server},
        allowed_tools=["mcp__llmos"],
        setting_sources=[],
        strict_mcp_config=True,
        system_prompt="You take notes.",
        verbatim_prompts=True,
        cwd=home,
        env=server.env(home) | (env or {}),
    )
    messages: list[Message] = []
    async with ClaudeSDKClient(options) as client:
        await client.query("note a and b")
        messages += [message async for message in client.receive_response()]
    return messages


def result(messages: list[Message]) -> ResultMessage:
    last = messages[-1]
    assert isinstance(last, ResultMessage)
    return last


async def test_two_tool_calls_and_a_text_run_through_the_real_client(tmp_path: Path) -> None:
    notes = Notes()
    with ScriptedServer([call("note", text="a"), call("note", text="b"), say("Both noted.")]) as server:
        messages = await run(server, tmp_path, notes)
    assert notes.written == ["a", "b"]
    assert (result(messages).result, result(messages).is_error) == ("Both noted.", False)
    # The CLI may add a reminder of its own below a result.
    assert [told.text.splitlines()[0] for told in server.conversation[-1].tool_results] == ["noted a", "noted b"]
    assert (server.unused, server.overrun, server.side_requests) == (0, [], [])


async def test_the_cost_is_what_the_scripted_usage_implies(tmp_path: Path) -> None:
    turns = [
        calls(call("note", text="a"), usage=usage(input_tokens=10_000, output_tokens=300)),
        say("Noted.", usage=usage(input_tokens=11_000, output_tokens=50)),
    ]
    with ScriptedServer(turns) as server:
        cost = result(await run(server, tmp_path, Notes())).total_cost_usd
    assert cost == pytest.approx((21_000 * INPUT_PRICE + 350 * OUTPUT_PRICE) / 1e6)


async def test_a_failing_tool_is_told_to_the_model_and_the_run_goes_on(tmp_path: Path) -> None:
    with ScriptedServer([call("note", text=""), say("I could not.")]) as server:
        messages = await run(server, tmp_path, Notes())
    blocks = [block for message in messages if isinstance(message, UserMessage) for block in message.content]
    assert [(b.content, b.is_error) for b in blocks if isinstance(b, ToolResultBlock)] == [("nothing to note", True)]
    assert result(messages).is_error is False


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "authentication_failed"), (429, "rate_limit"), (529, "server_error")]
)
async def test_an_api_error_ends_the_run_with_its_status(tmp_path: Path, status: int, kind: str) -> None:
    with ScriptedServer([error(status)]) as server:
        messages = await run(server, tmp_path, Notes())
    assert (result(messages).is_error, result(messages).api_error_status) == (True, status)
    assert result(messages).total_cost_usd == 0
    assert [message.error for message in messages if isinstance(message, AssistantMessage)] == [kind]


async def test_a_failed_run_still_tells_what_was_spent(tmp_path: Path) -> None:
    spent = usage(input_tokens=10_000, output_tokens=1_000)
    with ScriptedServer([calls(call("note", text="a"), usage=spent), error(500)]) as server:
        end = result(await run(server, tmp_path, Notes()))
    assert end.is_error
    assert end.total_cost_usd == pytest.approx((10_000 * INPUT_PRICE + 1_000 * OUTPUT_PRICE) / 1e6)


async def test_a_cut_stream_is_asked_again_whole(tmp_path: Path) -> None:
    with ScriptedServer([cut(say("Hello"), after_events=3), say("Hello again")]) as server:
        assert result(await run(server, tmp_path, Notes())).result == "Hello again"
    assert [request.stream for request in server.conversation] == [True, False]


async def test_an_overrun_is_asked_for_once_and_named_in_the_result(tmp_path: Path) -> None:
    with ScriptedServer([call("note", text="a")]) as server:
        end = result(await run(server, tmp_path, Notes()))
    assert end.result is not None
    assert "the script has 1 turns, and this is request 2" in end.result
    assert len(server.overrun) == 1


async def test_the_title_the_cli_asks_for_takes_no_turn(tmp_path: Path) -> None:
    with ScriptedServer([call("note", text="a"), say("Noted.")]) as server:
        messages = await run(server, tmp_path, Notes(), env={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": ""})
    assert result(messages).result == "Noted."
    assert (len(server.conversation), len(server.side_requests)) == (2, 1)


async def test_without_a_key_nothing_is_asked(tmp_path: Path) -> None:
    with ScriptedServer([say("never")]) as server:
        messages = await run(server, tmp_path, Notes(), env={"ANTHROPIC_API_KEY": ""})
    assert result(messages).is_error
    assert server.requests == []
