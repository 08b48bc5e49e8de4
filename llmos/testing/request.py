"""What a client sent, read the same way in both dialects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

_MARKED = re.compile(r"«data (\w+)»\n(.*)\n«end \1»", re.DOTALL)
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
CHAT_COMPLETIONS = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What the client reports about one tool call; `told` is the text as sent, with the marks around foreign text."""

    id: str
    told: str
    is_error: bool = False

    @property
    def text(self) -> str:
        """The text of the result itself."""
        marked = _MARKED.fullmatch(self.told)
        return marked[2] if marked else self.told


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request the server received.

    `headers` have lower-case names, `path` has no query, `body` is empty unless a JSON object was sent.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: JSON
    at: datetime

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether the client wants server-sent events."""
        return bool(self.body.get("stream"))

    @property
    def tools(self) -> tuple[str, ...]:
        """Full names of the tools offered, in the order sent."""
        entries = (tool.get("function", tool) for tool in self.body.get("tools") or ())
        return tuple(entry["name"] for entry in entries if "name" in entry)

    @property
    def system(self) -> str:
        """The system prompt as plain text."""
        prompts = [self.body.get("system", "")]
        prompts += [m.get("content") for m in self._messages if m.get("role") == "system"]
        return "\n".join(filter(None, map(_plain, prompts)))

    @property
    def prompt(self) -> str:
        """Text of the first user message."""
        return next((_plain(m.get("content")) for m in self._messages if m.get("role") == "user"), "")

    @property
    def tool_results(self) -> tuple[ToolResult, ...]:
        """Results of all tool calls so far, in the order of the calls: the CLI sends those of one turn as they come."""
        asked = [id_ for message in self._messages for id_ in _calls(message)]
        place = {id_: at for at, id_ in enumerate(asked)}
        found = [result for message in self._messages for result in _tool_results(message)]
        return tuple(sorted(found, key=lambda result: place.get(result.id, len(asked))))

    def full_name(self, tool: str) -> str:
        """The offered name a short tool name stands for: `write` is `mcp__llmos__write`; unknown ones stay."""
        if tool in self.tools:
            return tool
        return next((name for name in self.tools if name.endswith("__" + tool)), tool)

    @property
    def _messages(self) -> list[JSON]:
        return [m for m in self.body.get("messages") or () if isinstance(m, dict)]


def is_side_request(request: Request) -> bool:
    """Whether the CLI asks on its own account (a title, a quota check) and not for the conversation."""
    if request.body.get("max_tokens") == 1:
        return True
    output = request.body.get("output_config") or {}
    schema = (output.get("format") or {}).get("schema") or {}
    return not request.tools and set(schema.get("properties") or ()) == {"title"}


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(block.get("text", "") for block in blocks if block.get("type") == "text")


def _calls(message: JSON) -> Iterator[str]:
    """The ids of the calls that a message of the model asked for."""
    for call in message.get("tool_calls") or ():
        yield str(call.get("id"))
    content = message.get("content")
    for block in content if isinstance(content, list) else ():
        if block.get("type") == "tool_use":
            yield str(block.get("id"))


def _tool_results(message: JSON) -> Iterator[ToolResult]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield ToolResult(id=message.get("tool_call_id", ""), told=_plain(content))
    for block in content if isinstance(content, list) else ():
        if block.get("type") == "tool_result":
            failed = bool(block.get("is_error"))
            yield ToolResult(id=block["tool_use_id"], told=_plain(block.get("content")), is_error=failed)
