"""The learner: the Claude Code CLI that the Claude Agent SDK bundles, with our tools and none of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import LearnerError, NoLearnerError, ToolError
from llmos.interfaces.learner import Learned, LearnSession, LearnTask, Rest, Thought, reply, shown
from llmos.interfaces.prices import Price, Tokens, price_of
from llmos.interfaces.prompts import FINISH, FINISH_DESCRIPTION, FINISH_SCHEMA, NOT_YET, SYSTEM
from llmos.interfaces.session_room import Room, session_room
from llmos.interfaces.transcripts import Told, answered, last_calls
from llmos.kernel.clients import CLIENTS
from llmos.plugins.schemas import validate_arguments
from llmos.settings import hidden_variables

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, SystemMessage

    from llmos.plugins.tool import Tool, ToolResult
    from llmos.settings import Settings

log = logging.getLogger(__name__)

SERVER = "llmos"
MAX_RESULT_CHARS = 30_000
_CLOSING_S = 5.0
_SETTLING_S = 0.2
"""How long the CLI takes to write down what the model said, and to tell us."""

_FORGETFUL: dict[str, str | None] = {"no-session-persistence": None}
GO_ON = "You were interrupted after the last results. Go on from there."
_NO_SERVER = ("Connection refused", "ENOTFOUND", "EAI_AGAIN", "ENETUNREACH", "EHOSTUNREACH")
_BUFFER_BYTES = 64 * 2**20
_TOO_MANY = 429
_MAX_TOKENS = 10**9  # of one answer; more are a mistake
# A title request costs money, retries cost minutes, and nothing else the CLI sends home is needed.
_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "ENABLE_TOOL_SEARCH": "false",
    # The CLI logs what tools say in errors below its cache; in a place that can't be, it goes without.
    "XDG_CACHE_HOME": os.devnull,
}
NO_LOGIN = (
    "no Claude key or login was found: set ANTHROPIC_API_KEY, or log in with Claude Code (`claude` and then /login), "
    "or point ANTHROPIC_BASE_URL at a server that speaks the Messages API"
)


@dataclass(frozen=True, kw_only=True)
class ClaudeLearner:
    """Drives Claude through the SDK; `settings` gives model, server, limits and the environment the CLI may see."""

    settings: Settings
    name: str = "claude"
    changes_model: bool = True
    keeps_sessions: bool = True

    def check(self) -> None:
        """NoLearnerError where there is neither a key nor a login nor a cloud's account."""
        if not (self.settings.learner.has_key or self.settings.has_claude_login):
            raise NoLearnerError(NO_LOGIN)

    async def solve(self, task: LearnTask, session: LearnSession) -> Learned:
        """Solve a goal with the session's tools; see `Learner.solve`.

        While its process is suspended there is no CLI: the session is gone on with in a new one.
        """
        with session_room(self.settings.environment) as room:
            return await self._solved(task, session, room)

    async def _solved(self, task: LearnTask, session: LearnSession, room: Room | None) -> Learned:
        bridge = _Bridge(session=session)
        talk = Talk(task=task, session=session, bridge=bridge, room=room)
        bridge.another = talk.ask_another
        try:
            if session.rest is not None and session.rest.session_id:
                await talk.take_up(session.rest)
            while True:
                heard = await self._converse(self._solving(talk), talk.prompt, talk)
                talk.heard(heard)
                if not heard.is_parked:
                    break
                await talk.go_on()
        finally:
            await bridge.close()
        session.bill(talk.cost_usd)
        if heard.failure is not None:
            raise heard.failure
        answer = bridge.answer if bridge.answer is not None else heard.text
        model = heard.model or talk.task.model
        return Learned(answer=answer.strip(), finish=None, cost_usd=talk.cost_usd, model=model, turns=talk.turns)

    def _solving(self, talk: Talk) -> ClaudeAgentOptions:
        """The options of the next CLI: what is left of money and turns, and the session it begins or goes on with."""
        return self._options(
            model=talk.task.model,
            max_budget_usd=max(0.0, talk.task.max_budget_usd - talk.cost_usd),
            max_turns=max(1, talk.task.max_turns - talk.turns),
            system_prompt=SYSTEM,
            mcp_servers={SERVER: {"type": "sdk", "name": SERVER, "instance": talk.bridge.server()}},
            allowed_tools=[f"mcp__{SERVER}"],
            env=talk.room.environment if talk.room is not None else None,
            **talk.options,
        )

    async def think(self, prompt: str, *, max_tokens: int, model: str, max_budget_usd: float) -> Thought:
        """One answer without tools, at most `max_tokens` long; see `Learner.think`."""
        options = self._options(
            model=model,
            max_budget_usd=max_budget_usd,
            max_turns=1,
            system_prompt="Answer the prompt directly and briefly. Give the answer only.",
            env={"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(max_tokens)},
        )
        heard = await self._converse(options, prompt, None)
        if heard.failure is not None:
            raise heard.failure
        return Thought(text=heard.text.strip(), cost_usd=heard.cost_usd)

    def _options(self, *, env: dict[str, str] | None = None, **more: Any) -> ClaudeAgentOptions:
        from claude_agent_sdk import ClaudeAgentOptions

        leash, leash_env = leashed_cli()
        return ClaudeAgentOptions(
            cli_path=leash,
            tools=[],
            setting_sources=[],
            strict_mcp_config=True,
            verbatim_prompts=True,
            permission_mode="dontAsk",
            include_partial_messages=True,
            max_buffer_size=_BUFFER_BYTES,
            cwd=self.settings.workspace,
            extra_args={"disable-slash-commands": None, **({} if "session_store" in more else _FORGETFUL)},
            stderr=lambda line: log.debug("claude: %s", line, extra={"action": "cli_stderr"}),
            env=self._environment() | leash_env | (env or {}),
            **more,
        )

    def _environment(self) -> dict[str, str]:
        """What the CLI sees: the settings' environment; every other variable of ours is blanked.

        The SDK lays `env` over the process's own environment, so a variable can be emptied but not removed.
        """
        seen = dict(self.settings.environment)
        hidden = dict.fromkeys(hidden_variables(seen), "")
        base_url = {"ANTHROPIC_BASE_URL": self.settings.learner.base_url} if self.settings.learner.base_url else {}
        return hidden | {"CLAUDE_CODE_MAX_RETRIES": "2"} | seen | base_url | _QUIET

    async def _converse(self, options: ClaudeAgentOptions, prompt: str, talk: Talk | None) -> _Heard:
        """Send one prompt and listen until the result; a cancelled conversation is still billed."""
        from claude_agent_sdk import ClaudeSDKError

        heard = _Heard(
            price_of=self._price,
            session=talk.session if talk is not None else None,
            before_usd=talk.cost_usd if talk is not None else 0.0,
            base_url=self._server(),
            asked_model=options.model or "by default",
        )
        try:
            async with _client(options) as client:
                await client.query(prompt)
                try:
                    await (heard.listen(client) if talk is None else talk.listen(client, heard))
                except asyncio.CancelledError:
                    await heard.stop(client)
                    raise
        except ClaudeSDKError as error:
            if heard.result is None:
                cost_usd = heard.before_usd + heard.cost_usd
                raise LearnerError(f"the Claude CLI failed: {_first_line(error)}", cost_usd=cost_usd) from error
        return heard

    def _price(self, model: str) -> Price | None:
        try:
            return price_of(f"anthropic:{model}", None, self.settings)
        except NoLearnerError:
            return None

    def _server(self) -> str:
        return self.settings.learner.base_url or "the Anthropic API"


def leashed_cli() -> tuple[Path | None, dict[str, str]]:
    """The script that ties the bundled CLI's life to ours, and its environment; (None, {}) where that can't be had.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    import claude_agent_sdk

    binary = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
    script = Path(__file__).with_name("leash.sh")
    if not binary.is_file() or not os.access(script, os.X_OK) or shutil.which("setpriv") is None:
        return None, {}
    return script, {"LLMOS_CLAUDE_CLI": str(binary)}


@asynccontextmanager
async def _client(options: ClaudeAgentOptions) -> AsyncIterator[ClaudeSDKClient]:
    from claude_agent_sdk import ClaudeSDKClient

    async with CLIENTS.one():
        client = ClaudeSDKClient(options)
        await client.connect()
        try:
            yield client
        finally:
            await _finished(client.disconnect())


async def _finished(work: Coroutine[Any, Any, None]) -> None:
    """Do something to its end, even where this task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


@dataclass(kw_only=True)
class _Heard:
    """What came back in one conversation; `text` is the last thing the model itself said.

    `before_usd` is what earlier conversations of the same session cost; `is_parked`: it was ended for its process.
    """

    price_of: Callable[[str], Price | None]
    base_url: str
    asked_model: str
    session: LearnSession | None = None
    text: str = ""
    model: str = ""
    error_kind: str = ""
    result: ResultMessage | None = None
    running_usd: float = 0.0
    before_usd: float = 0.0
    is_answering: bool = False
    is_parked: bool = False
    _price: Price | None = None
    _input: dict[str, Any] = field(default_factory=dict)

    @property
    def cost_usd(self) -> float:
        """The CLI's own bill once there is one; until then the priced usage of the answers so far."""
        if self.result is not None and self.result.total_cost_usd is not None:
            return self.result.total_cost_usd
        return self.running_usd

    @property
    def turns(self) -> int:
        return self.result.num_turns if self.result is not None else 0

    async def listen(self, client: ClaudeSDKClient) -> None:
        """Take every message up to the result."""
        async for message in client.receive_response():
            self.take(message)

    async def stop(self, client: ClaudeSDKClient) -> None:
        """Interrupt the model and wait a moment for the bill."""
        with suppress(Exception):
            async with asyncio.timeout(_CLOSING_S):
                await client.interrupt()
                await self.listen(client)
        if self.session is not None:
            self.session.bill(self.before_usd + self.cost_usd)

    def take(self, message: Any) -> None:
        """Take in one message of the SDK."""
        from claude_agent_sdk import AssistantMessage, ResultMessage, StreamEvent, SystemMessage, TextBlock

        if isinstance(message, ResultMessage):
            self.result = message
        elif isinstance(message, StreamEvent):
            self._meter(message.event)
        elif isinstance(message, SystemMessage):
            self._limited(message)
        elif isinstance(message, AssistantMessage):
            if message.error is not None:
                self.error_kind = message.error
                return
            self.model = message.model
            for block in message.content:
                if isinstance(block, TextBlock) and block.text.strip():
                    self.text = block.text
                    if self.session is not None:
                        self.session.spoke(block.text, self.before_usd + self.running_usd)

    def _limited(self, message: SystemMessage) -> None:
        """The CLI waits, because the server limits the rate."""
        delay_ms = message.data.get("retry_delay_ms")
        is_limited = message.subtype == "api_retry" and message.data.get("error_status") == _TOO_MANY
        if is_limited and isinstance(delay_ms, int | float) and self.session is not None:
            self.session.limited(delay_ms / 1e3)

    def _meter(self, event: dict[str, Any]) -> None:
        """Add up what the answers used, so that progress shows dollars before the bill arrives."""
        if event.get("type") == "message_stop":
            self.is_answering = False
        if event.get("type") == "message_start":
            self.is_answering = True
            message = _mapping(event.get("message"))
            self._input = _mapping(message.get("usage"))
            self._price = self.price_of(str(message.get("model")))
        if event.get("type") == "message_delta":
            usage = self._input | {k: v for k, v in _mapping(event.get("usage")).items() if v}
            cached, written = (_count(usage.get(f"cache_{kind}_input_tokens")) for kind in ("read", "creation"))
            tokens = Tokens(
                input=_count(usage.get("input_tokens")) + cached + written,
                output=_count(usage.get("output_tokens")),
                cached=cached,
                written=written,
            )
            self.running_usd += self._price.cost_usd(tokens) if self._price is not None else 0.0
            if self.session is not None:
                self.session.metered(sent=tokens.input, received=tokens.output)
                self.session.spoke("", self.before_usd + self.running_usd)

    @property
    def failure(self) -> LearnerError | None:
        """Why the conversation did not end well; None if it did."""
        result = self.result
        if result is None:
            return LearnerError("the Claude CLI ended without a result", cost_usd=self.cost_usd)
        if not result.is_error:
            return None
        kind = NoLearnerError if self._unreachable(result.api_error_status) else LearnerError
        return kind(self._sentence(result), cost_usd=self.cost_usd, is_down=self._is_down(result))

    @staticmethod
    def _is_down(result: ResultMessage) -> bool:
        """Whether another model may do: not where a key is refused, which somebody must mend."""
        status = result.api_error_status
        if status is None:
            return any(sign in (result.result or "") for sign in _NO_SERVER)
        return status in (404, 408, 429) or status >= 500

    def _unreachable(self, status: int | None) -> bool:
        said = self.result.result or "" if self.result is not None else ""
        return (
            status in (401, 403, 404)
            or self.error_kind == "authentication_failed"
            or any(sign in said for sign in _NO_SERVER)
        )

    def _sentence(self, result: ResultMessage) -> str:
        said = _first_line(result.result or "; ".join(result.errors or []) or result.subtype)
        status = result.api_error_status
        if result.subtype == "error_max_turns":
            return "the learner was stopped after its allowed number of turns; raise learner.max_turns in llmos.yaml"
        if result.subtype == "error_max_budget_usd":
            return "the learner was stopped at its budget; raise --budget or learner.max_usd_per_run in llmos.yaml"
        if status is None and self.error_kind == "authentication_failed":
            return NO_LOGIN
        known = {
            401: f"{self.base_url} refused the key (401); check ANTHROPIC_API_KEY",
            403: f"{self.base_url} does not allow this key to use the model (403)",
            404: f"{self.base_url} does not know the model {self.asked_model!r}; choose another with --model",
            429: f"{self.base_url} limits the rate (429); wait a little and try again",
            529: f"{self.base_url} is overloaded (529); try again later",
        }
        if status in known:
            return known[status]
        if "Connection refused" in said:
            return f"{self.base_url} can't be reached (connection refused); check ANTHROPIC_BASE_URL and the network"
        return f"{self.base_url} failed: {said}"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    """A number of tokens; whatever is none counts nothing, so that it takes nothing off what others cost."""
    return value if isinstance(value, int) and 0 < value < _MAX_TOKENS else 0


def _first_line(error: object) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


@dataclass(kw_only=True)
class _Bridge:
    """Our tools as an in-process MCP server; every call goes through the session with the model's own call id.

    A call is carried out in a task of its own: while it `is_parking` the CLI may go, and the call goes on.
    """

    session: LearnSession
    another: Callable[[str], Awaitable[None]] | None = None
    answer: str | None = None
    is_parking: bool = False
    calls: dict[str, asyncio.Task[Told]] = field(default_factory=dict)

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
        finish = {"name": FINISH, "description": FINISH_DESCRIPTION, "inputSchema": FINISH_SCHEMA}
        return ListToolsResult(tools=[*tools, WireTool.model_validate(finish)])

    async def _call(self, ctx: Any, params: Any) -> Any:
        from mcp.types import CallToolResult, TextContent

        call_id = (params.meta or {}).get("claudecode/toolUseId") if isinstance(params.meta, dict) else None
        task = self.begin(params.name, dict(params.arguments or {}), call_id)
        try:
            told = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not self.is_parking:
                task.cancel()
                await asyncio.wait({task})
            raise
        content = [TextContent(type="text", text=text) for text in (told.text, *told.said)]
        return CallToolResult(content=[*content], is_error=told.is_error)

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
        result = await self.session.call(name, arguments, call_id)
        if self.another is not None and (model := self.session.other_model()):
            await self.another(model)
        text, *said = await reply(self.session, result, shortened(result.text))
        return Told(text=text, is_error=result.is_error, said=tuple(said))

    def _finish(self, arguments: dict[str, Any]) -> Told:
        try:
            validate_arguments(FINISH, FINISH_SCHEMA, arguments)
        except ToolError as error:
            return Told(text=str(error), is_error=True)
        self.answer = str(arguments["answer"])
        return Told(text=self.session.finish(**arguments))


def told(result: ToolResult) -> Told:
    """A call's result as the model is told it."""
    return Told(text=shown(result, shortened(result.text)), is_error=result.is_error)


@dataclass(kw_only=True)
class Talk:
    """A session with the model, in one conversation after the other: each has a CLI of its own."""

    task: LearnTask
    session: LearnSession
    bridge: _Bridge
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    prompt: str = ""
    cost_usd: float = 0.0
    turns: int = 0
    is_begun: bool = False
    client: ClaudeSDKClient | None = None
    room: Room | None = None

    def __post_init__(self) -> None:
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

    def heard(self, heard: _Heard) -> None:
        """A conversation is over."""
        self.cost_usd += heard.cost_usd
        self.turns += heard.turns

    async def ask_another(self, model: str) -> None:
        """Have another model answer from the next request on, of this CLI or of the one after it."""
        self.task = replace(self.task, model=model)
        if self.client is not None:
            await self.client.set_model(model)

    async def listen(self, client: ClaudeSDKClient, heard: _Heard) -> None:
        """Take every message up to the result; or end the conversation at a turn's end where its process stands."""
        listening = asyncio.ensure_future(heard.listen(client))
        self.client = client
        try:
            while not listening.done():
                standing = asyncio.ensure_future(self.session.stands_still())
                try:
                    await asyncio.wait({listening, standing}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    standing.cancel()
                if not listening.done() and await self._can_park(heard):
                    await self._park(client, heard, listening)
                    return
            listening.result()
        finally:
            self.client = None
            listening.cancel()

    async def _can_park(self, heard: _Heard) -> bool:
        """Whether the model's answer is there as a whole, and kept, and calls of it are what is waited for."""
        await asyncio.sleep(_SETTLING_S)
        if heard.is_answering or self.session.transcript is None or self.room is None:
            return False
        asked = {use.id for use in last_calls(await self.session.transcript.lines(self.session_id))}
        return any(call_id in asked for call_id, task in self.bridge.calls.items() if not task.done())

    async def _park(self, client: ClaudeSDKClient, heard: _Heard, listening: asyncio.Future[None]) -> None:
        self.bridge.is_parking = heard.is_parked = True
        self.client = None
        try:
            with suppress(Exception):
                async with asyncio.timeout(_CLOSING_S):
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
        self.bridge.is_parking = False
        lines = answered(lines, results, datetime.now(UTC))
        await self.session.transcript.rewrite(self.session_id, lines)
        await asyncio.to_thread(self.room.put, self.session_id, lines)
        self.is_begun, self.prompt = True, GO_ON

    async def take_up(self, rest: Rest) -> None:
        """Go on with a session of an earlier process: calls that were recorded then are not made again."""
        self.session_id = rest.session_id
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
