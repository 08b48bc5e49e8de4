"""The learner: the Claude Code CLI that the Claude Agent SDK bundles, with our tools and none of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import LearnerError, NoLearnerError, ToolError
from llmos.interfaces.learner import Learned, LearnSession, LearnTask, Thought, shown
from llmos.interfaces.prices import Price, Tokens, price_of
from llmos.interfaces.prompts import FINISH, FINISH_DESCRIPTION, FINISH_SCHEMA, SYSTEM
from llmos.plugins.schemas import validate_arguments
from llmos.settings import hidden_variables

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

    from llmos.plugins.tool import Tool
    from llmos.settings import Settings

log = logging.getLogger(__name__)

SERVER = "llmos"
MAX_RESULT_CHARS = 30_000
_CLOSING_S = 5.0
_NO_SERVER = ("Connection refused", "ENOTFOUND", "EAI_AGAIN", "ENETUNREACH", "EHOSTUNREACH")
_BUFFER_BYTES = 64 * 2**20
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

    def check(self) -> None:
        """NoLearnerError where there is neither a key nor a login nor a cloud's account."""
        if not (self.settings.learner.has_key or self.settings.has_claude_login):
            raise NoLearnerError(NO_LOGIN)

    async def solve(self, task: LearnTask, session: LearnSession) -> Learned:
        """Solve a goal with the session's tools; see `Learner.solve`."""
        bridge = _Bridge(session=session, heard=self._heard(task.model, session))
        options = self._options(
            model=task.model,
            max_budget_usd=task.max_budget_usd,
            max_turns=task.max_turns,
            system_prompt=SYSTEM,
            mcp_servers={SERVER: {"type": "sdk", "name": SERVER, "instance": bridge.server()}},
            allowed_tools=[f"mcp__{SERVER}"],
        )
        heard = await self._converse(options, task.prompt, bridge.heard)
        cost_usd = heard.cost_usd
        session.bill(cost_usd)
        if heard.failure is not None:
            raise heard.failure
        answer = bridge.answer if bridge.answer is not None else heard.text
        return Learned(
            answer=answer.strip(), finish=None, cost_usd=cost_usd, model=heard.model or task.model, turns=heard.turns
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
        heard = await self._converse(options, prompt, self._heard(model, None))
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
            extra_args={"no-session-persistence": None, "disable-slash-commands": None},
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

    def _heard(self, model: str, session: LearnSession | None) -> _Heard:
        return _Heard(price_of=self._price, session=session, base_url=self._server(), asked_model=model or "by default")

    async def _converse(self, options: ClaudeAgentOptions, prompt: str, heard: _Heard) -> _Heard:
        """Send one prompt and listen until the result; a cancelled conversation is still billed."""
        from claude_agent_sdk import ClaudeSDKError

        try:
            async with _client(options) as client:
                heard.client = client
                await client.query(prompt)
                try:
                    await heard.listen(client)
                except asyncio.CancelledError:
                    await heard.stop(client)
                    raise
        except ClaudeSDKError as error:
            if heard.result is None:
                raise LearnerError(f"the Claude CLI failed: {_first_line(error)}", cost_usd=heard.cost_usd) from error
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

    client = ClaudeSDKClient(options)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


@dataclass(kw_only=True)
class _Heard:
    """What came back in one conversation; `text` is the last thing the model itself said."""

    price_of: Callable[[str], Price | None]
    base_url: str
    asked_model: str
    session: LearnSession | None = None
    text: str = ""
    model: str = ""
    error_kind: str = ""
    result: ResultMessage | None = None
    running_usd: float = 0.0
    client: ClaudeSDKClient | None = None
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

    async def ask_another(self, model: str) -> None:
        """Have another model answer from the next request on."""
        if self.client is not None:
            await self.client.set_model(model)
            self.asked_model = model

    async def stop(self, client: ClaudeSDKClient) -> None:
        """Interrupt the model and wait a moment for the bill."""
        with suppress(Exception):
            async with asyncio.timeout(_CLOSING_S):
                await client.interrupt()
                await self.listen(client)
        if self.session is not None:
            self.session.bill(self.cost_usd)

    def take(self, message: Any) -> None:
        """Take in one message of the SDK."""
        from claude_agent_sdk import AssistantMessage, ResultMessage, StreamEvent, TextBlock

        if isinstance(message, ResultMessage):
            self.result = message
        elif isinstance(message, StreamEvent):
            self._meter(message.event)
        elif isinstance(message, AssistantMessage):
            if message.error is not None:
                self.error_kind = message.error
                return
            self.model = message.model
            for block in message.content:
                if isinstance(block, TextBlock) and block.text.strip():
                    self.text = block.text
                    if self.session is not None:
                        self.session.spoke(block.text, self.running_usd)

    def _meter(self, event: dict[str, Any]) -> None:
        """Add up what the answers used, so that progress shows dollars before the bill arrives."""
        if event.get("type") == "message_start":
            message = _mapping(event.get("message"))
            self._input = _mapping(message.get("usage"))
            self._price = self.price_of(str(message.get("model")))
        if event.get("type") == "message_delta" and self._price is not None:
            usage = self._input | {k: v for k, v in _mapping(event.get("usage")).items() if v}
            cached, written = (_count(usage.get(f"cache_{kind}_input_tokens")) for kind in ("read", "creation"))
            tokens = Tokens(
                input=_count(usage.get("input_tokens")) + cached + written,
                output=_count(usage.get("output_tokens")),
                cached=cached,
                written=written,
            )
            self.running_usd += self._price.cost_usd(tokens)
            if self.session is not None:
                self.session.spoke("", self.running_usd)

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
    """Our tools as an in-process MCP server; every call goes through the session with the model's own call id."""

    session: LearnSession
    heard: _Heard
    answer: str | None = None

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

        arguments = dict(params.arguments or {})
        if params.name == FINISH:
            text, failed = self._finish(arguments)
        else:
            call_id = (params.meta or {}).get("claudecode/toolUseId") if isinstance(params.meta, dict) else None
            result = await self.session.call(params.name, arguments, call_id)
            if model := self.session.other_model():
                await self.heard.ask_another(model)
            text, failed = shown(result, shortened(result.text)), result.is_error
        return CallToolResult(content=[TextContent(type="text", text=text)], is_error=failed)

    def _finish(self, arguments: dict[str, Any]) -> tuple[str, bool]:
        try:
            validate_arguments(FINISH, FINISH_SCHEMA, arguments)
        except ToolError as error:
            return str(error), True
        self.answer = str(arguments["answer"])
        return self.session.finish(**arguments), False


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
