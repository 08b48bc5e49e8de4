"""A session with the model through the Claude CLI: one conversation after the other, and our tools beside them."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmos.errors import LearnerError, ToolError
from llmos.interfaces.claude_heard import CLOSING_S, Heard
from llmos.interfaces.context import LOOK_BACK, LOOK_BACK_DESCRIPTION, LOOK_BACK_SCHEMA
from llmos.interfaces.learner import LearnSession, LearnTask, Rest, reply, shown
from llmos.interfaces.prompts import FINISH, FINISH_DESCRIPTION, FINISH_SCHEMA, NOT_YET
from llmos.interfaces.session_room import Room
from llmos.interfaces.transcripts import Line, Told, answered, last_calls
from llmos.plugins.schemas import validate_arguments

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeSDKClient

    from llmos.plugins.tool import Tool, ToolResult

SERVER = "llmos"
MAX_RESULT_CHARS = 30_000
GO_ON = "You were interrupted after the last results. Go on from there."
_SETTLING_S = 0.2
"""How long the CLI takes to write down what the model said, and to tell us."""
_MAX_TRIES = 50


@dataclass(kw_only=True)
class Bridge:
    """Our tools as an in-process MCP server; every call goes through the session with the model's own call id.

    A call is carried out in a task of its own: while it `is_parking` the CLI may go, and the call goes on. Where a
    session `is_full` its CLI gets no more results: they are held back until it is gone, or until that is `given_up`.
    """

    session: LearnSession
    another: Callable[[str], Awaitable[None]] | None = None
    is_full: Callable[[], Awaitable[bool]] | None = None
    answer: str | None = None
    is_parking: bool = False
    calls: dict[str, asyncio.Task[Told]] = field(default_factory=dict)
    holds: asyncio.Event = field(default_factory=asyncio.Event)
    given_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def close(self) -> None:
        """End the calls that nobody waits for any more."""
        tasks = [*self.calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def server(self) -> Any:
        """The MCP server the SDK connects the CLI to."""
        from mcp.server import Server

        return Server(SERVER, version="1", on_list_tools=self._list, on_call_tool=self._call)

    async def _list(self, ctx: Any, params: Any) -> Any:
        from mcp.types import ListToolsResult
        from mcp.types import Tool as WireTool

        tools = [WireTool.model_validate(wire_tool(tool)) for tool in self.session.tools]
        own = [{"name": FINISH, "description": FINISH_DESCRIPTION, "inputSchema": FINISH_SCHEMA}]
        if self.session.context is not None and self.session.context.offers(self.session.tools):
            own.append({"name": LOOK_BACK, "description": LOOK_BACK_DESCRIPTION, "inputSchema": LOOK_BACK_SCHEMA})
        return ListToolsResult(tools=[*tools, *map(WireTool.model_validate, own)])

    async def _call(self, ctx: Any, params: Any) -> Any:
        from mcp.types import CallToolResult, TextContent

        call_id = (params.meta or {}).get("claudecode/toolUseId") if isinstance(params.meta, dict) else None
        task = self.begin(params.name, dict(params.arguments or {}), call_id)
        try:
            told = await asyncio.shield(task)
            if await self._holds_back():
                self.holds.set()
                await self.given_up.wait()
        except asyncio.CancelledError:
            if not self.is_parking:
                task.cancel()
                await asyncio.wait({task})
            raise
        content = [TextContent(type="text", text=text) for text in (told.text, *told.said)]
        return CallToolResult(content=[*content], is_error=told.is_error)

    async def _holds_back(self) -> bool:
        """Whether the CLI gets no more results; once the work is finished there is nothing to make room for."""
        if self.answer is not None or self.is_full is None or self.given_up.is_set():
            return False
        return await self.is_full()

    def begin(self, name: str, arguments: dict[str, Any], call_id: str | None) -> asyncio.Task[Told]:
        """Carry a call out, or wait for it if it is under way already."""
        key = call_id or secrets.token_hex(8)
        if key not in self.calls:
            self.calls[key] = asyncio.create_task(self._carried_out(name, arguments, call_id))
        return self.calls[key]

    async def _carried_out(self, name: str, arguments: dict[str, Any], call_id: str | None) -> Told:
        if name == FINISH:
            said = await self.session.heard(at_end=True)
            return self._finish(arguments) if not said else Told(text=NOT_YET, said=tuple(said))
        context = self.session.context
        if name == LOOK_BACK and context is not None and context.offers(self.session.tools):
            text, is_error = await context.look_back(arguments)
            return Told(text=text, is_error=is_error)
        result = await self.session.call(name, arguments, call_id)
        if self.another is not None and (model := self.session.other_model()):
            await self.another(model)
        shortly = shortened(result.text)
        needed = [] if context is None else await context.needed(name, arguments, shortly)
        text, *said = await reply(self.session, result, shortly, needed)
        return Told(text=text, is_error=result.is_error, said=tuple(said))

    def _finish(self, arguments: dict[str, Any]) -> Told:
        try:
            validate_arguments(FINISH, FINISH_SCHEMA, arguments)
        except ToolError as error:
            return Told(text=str(error), is_error=True)
        self.answer = str(arguments["answer"])
        self.holds.clear()
        self.given_up.set()
        return Told(text=self.session.finish(**arguments))


def told(result: ToolResult) -> Told:
    """A call's result as the model is told it."""
    return Told(text=shown(result, shortened(result.text)), is_error=result.is_error)


@dataclass(kw_only=True)
class Talk:
    """A session with the model, in one conversation after the other: each has a CLI of its own."""

    task: LearnTask
    session: LearnSession
    bridge: Bridge
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    prompt: str = ""
    cost_usd: float = 0.0
    turns: int = 0
    is_begun: bool = False
    client: ClaudeSDKClient | None = None
    room: Room | None = None
    _tries: int = 0

    def __post_init__(self) -> None:
        self.bridge.another, self.bridge.is_full = self.ask_another, self._is_full
        self.prompt = self.task.prompt
        self.session_id = self.task.session_id or self.session_id

    @property
    def options(self) -> dict[str, Any]:
        """What the CLI is to be told of the session."""
        transcript = self.session.transcript
        if transcript is None or self.room is None:
            return {}
        name = {"resume": self.session_id} if self.is_begun else {"session_id": self.session_id}
        return {"session_store": transcript, "session_store_flush": "eager", **name}

    def heard(self, heard: Heard) -> None:
        """A conversation is over."""
        self.cost_usd += heard.cost_usd
        self.turns += heard.turns

    async def ask_another(self, model: str) -> None:
        """Have another model answer from the next request on, of this CLI or of the one after it."""
        self.task = replace(self.task, model=model)
        if self.client is not None:
            await self.client.set_model(model)

    async def listen(self, client: ClaudeSDKClient, heard: Heard) -> None:
        """Take every message up to the result; or end the conversation at a turn's end where its process stands."""
        listening = asyncio.ensure_future(heard.listen(client))
        measuring = asyncio.ensure_future(self._measure(client, heard))
        self.client = client
        try:
            while not listening.done():
                standing = asyncio.ensure_future(self.session.stands_still())
                held = asyncio.ensure_future(self.bridge.holds.wait())
                try:
                    await asyncio.wait({listening, standing, held}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    standing.cancel()
                    held.cancel()
                if not listening.done() and await self._can_park(heard):
                    await self._park(client, heard, listening)
                    return
                self._hold_on()
            listening.result()
        finally:
            self.client = None
            measuring.cancel()
            listening.cancel()

    async def _measure(self, client: ClaudeSDKClient, heard: Heard) -> None:
        """Learn from the CLI how much the context holds."""
        with suppress(Exception):  # one that can't tell, or that is gone
            tokens = (await client.get_context_usage()).get("maxTokens")
            if isinstance(tokens, int) and tokens > 0:
                heard.knows_window = True
                self.session.window(tokens)

    def _hold_on(self) -> None:
        """Results are not held back for ever where the conversation can't be ended to make room."""
        self._tries += self.bridge.holds.is_set()
        if self._tries >= _MAX_TRIES:
            self._tries = 0
            self.bridge.holds.clear()
            self.bridge.given_up.set()

    async def _can_park(self, heard: Heard) -> bool:
        """Whether the model's answer is there as a whole, and kept, and calls of it are what is waited for."""
        await asyncio.sleep(_SETTLING_S)
        if heard.is_answering or self.session.transcript is None or self.room is None:
            return False
        asked = {use.id for use in last_calls(await self.session.transcript.lines(self.session_id))}
        held = self.bridge.holds.is_set()
        return any(call_id in asked for call_id, task in self.bridge.calls.items() if held or not task.done())

    async def _park(self, client: ClaudeSDKClient, heard: Heard, listening: asyncio.Future[None]) -> None:
        self.bridge.is_parking = heard.is_parked = True
        self.client = None
        try:
            with suppress(Exception):
                async with asyncio.timeout(CLOSING_S):
                    await client.interrupt()
                    await listening
        finally:
            if self.session is not None:
                self.session.bill(self.cost_usd + heard.cost_usd)

    async def go_on(self) -> None:
        """Wait for the calls that were under way, and put what they came to into the session."""
        if self.session.transcript is None or self.room is None:
            raise LearnerError("a session can't be gone on with here: there is no /dev/shm to keep it in meanwhile.")
        lines = await self.session.transcript.lines(self.session_id)
        results = {}
        for use in last_calls(lines):
            name = use.name.removeprefix(f"mcp__{SERVER}__")
            results[use.id] = await self.bridge.begin(name, use.arguments, use.id)
        self.bridge.calls.clear()
        self.bridge.holds.clear()
        self.bridge.is_parking = False
        lines = answered(lines, results, datetime.now(UTC))
        await self.session.transcript.rewrite(self.session_id, lines)
        lines = await self._with_room(lines)
        await asyncio.to_thread(self.room.put, self.session_id, lines)
        self.is_begun, self.prompt = True, GO_ON

    async def _is_full(self) -> bool:
        context, transcript = self.session.context, self.session.transcript
        if context is None or transcript is None or self.room is None or not context.is_full():
            return False
        return context.foldable(await transcript.lines(self.session_id)) > 0

    async def _with_room(self, lines: list[Line]) -> list[Line]:
        """The session, without its oldest turns where it is full."""
        context, transcript = self.session.context, self.session.transcript
        count = context.foldable(lines) if context is not None else 0
        if context is None or transcript is None or not count:
            return lines
        left_usd = max(0.0, self.task.max_budget_usd - self.cost_usd)
        fold, cost_usd = await context.fold(lines, count, left_usd, self.session.tools)
        self.cost_usd += cost_usd
        await transcript.fold(self.session_id, fold.lines, fold.folded)
        await self.session.bill_turn(self.cost_usd)
        return fold.lines

    async def take_up(self, rest: Rest) -> None:
        """Go on with a session of an earlier process: calls that were recorded then are not made again."""
        self.session_id = rest.session_id
        if self.session.context is not None and self.session.transcript is not None:
            await self.session.context.restore(await self.session.transcript.folded(rest.session_id))
        for call_id, result in rest.results.items():
            self.bridge.calls[call_id] = asyncio.create_task(_as_told(result))
        await self.go_on()


async def _as_told(result: ToolResult) -> Told:
    return told(result)


def wire_tool(tool: Tool) -> dict[str, Any]:
    """A tool as MCP's tools/list shows it."""
    annotations = {
        "readOnlyHint": not tool.effect.changes_world,
        "idempotentHint": tool.idempotent,
        "openWorldHint": tool.open_world,
    }
    return {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.schema,
        "annotations": annotations,
        "_meta": {"anthropic/maxResultSizeChars": 4 * MAX_RESULT_CHARS},
    }


def shortened(text: str) -> str:
    """A result as the model gets it: the CLI withholds long ones whole, so we cut and say so."""
    if len(text) <= MAX_RESULT_CHARS:
        return text
    cut = len(text) - MAX_RESULT_CHARS
    return f"{text[:MAX_RESULT_CHARS]}\n… ({cut:,} more characters; ask for a part, with offset, limit or a query)"
