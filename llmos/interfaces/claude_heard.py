"""What comes back from the Claude CLI in one conversation: words, the bill as it grows, and why it did not end well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmos.errors import LearnerError, NoLearnerError
from llmos.interfaces.learner import LearnSession
from llmos.interfaces.prices import Price, Tokens, context_window

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeSDKClient, ResultMessage, SystemMessage

CLOSING_S = 5.0
_NO_SERVER = ("Connection refused", "ENOTFOUND", "EAI_AGAIN", "ENETUNREACH", "EHOSTUNREACH")
_TOO_MANY = 429
_MAX_TOKENS = 10**9  # of one answer; more are a mistake
AT_BUDGET = "the learner was stopped at its budget; raise --budget or learner.max_usd_per_run in llmos.yaml"
NO_LOGIN = (
    "no Claude key or login was found: set ANTHROPIC_API_KEY, or log in with Claude Code (`claude` and then /login), "
    "or point ANTHROPIC_BASE_URL at a server that speaks the Messages API"
)


@dataclass(kw_only=True)
class Heard:
    """What came back in one conversation; `text` is the last thing the model itself said.

    `before_usd` is what earlier conversations of the same session cost; `is_parked`: it was ended for its process.
    Where the CLI `knows_window`, the size of the model's context, the published one does not count.
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
    knows_window: bool = False
    _price: Price | None = None
    _input: dict[str, Any] = field(default_factory=dict)
    _said_bytes: int = 0

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
        """Interrupt the model and wait a moment for the bill; what is under way is charged, whatever the CLI says."""
        under_way_usd, known_usd = self._under_way_usd(), self.running_usd
        with suppress(Exception):
            async with asyncio.timeout(CLOSING_S):
                await client.interrupt()
                await self.listen(client)
        if self.running_usd > known_usd:  # it came to its end after all
            under_way_usd = 0.0
        if self.session is not None:
            self.session.bill(self.before_usd + self.cost_usd + under_way_usd)

    def _under_way_usd(self) -> float:
        """What a request costs that is broken off now, at most: a token is a byte or more."""
        price = self._price or self.price_of(self.asked_model)
        if self.session is None or self.result is not None or price is None:
            return 0.0
        if self.is_answering:
            return price.cost_usd(_tokens(self._input, self._said_bytes))
        asked = self.session.asked_tokens()
        return price.cost_usd(Tokens(input=asked, output=0, written=asked)) if asked else 0.0

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
            self.is_answering, self._said_bytes = True, 0
            message = _mapping(event.get("message"))
            self._input = _mapping(message.get("usage"))
            model = str(message.get("model"))
            self._price = self.price_of(model)
            if self.session is not None and not self.knows_window and (window := context_window(model)):
                self.session.window(window)
        if event.get("type") == "content_block_delta":
            said = _mapping(event.get("delta"))
            self._said_bytes += sum(len(part.encode()) for part in said.values() if isinstance(part, str))
        if event.get("type") == "message_delta":
            usage = self._input | {k: v for k, v in _mapping(event.get("usage")).items() if v}
            tokens = _tokens(usage, _count(usage.get("output_tokens")))
            self.running_usd += self._price.cost_usd(tokens) if self._price is not None else 0.0
            if self.session is not None:
                self.session.metered(sent=tokens.input, received=tokens.output, cached=tokens.cached)
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
        said = first_line(result.result or "; ".join(result.errors or []) or result.subtype)
        status = result.api_error_status
        if result.subtype == "error_max_turns":
            return "the learner was stopped after its allowed number of turns; raise learner.max_turns in llmos.yaml"
        if result.subtype == "error_max_budget_usd":
            return AT_BUDGET
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


def _tokens(usage: dict[str, Any], output: int) -> Tokens:
    cached, written = (_count(usage.get(f"cache_{kind}_input_tokens")) for kind in ("read", "creation"))
    sent = _count(usage.get("input_tokens")) + cached + written
    return Tokens(input=sent, output=output, cached=cached, written=written)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    """A number of tokens; whatever is none counts nothing, so that it takes nothing off what others cost."""
    return value if isinstance(value, int) and 0 < value < _MAX_TOKENS else 0


def first_line(error: object) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
