"""What the scripted model says: one record for each kind of turn, and a short function that makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens a reply reports, and so what the client charges for it."""

    input_tokens: int = 100
    output_tokens: int = 20
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One tool the scripted model asks for; without an id the server numbers it."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A well-formed assistant turn: text, tool calls, or both.

    `stop_reason` is in Anthropic's words; by default `tool_use` if there are calls, else `end_turn`.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    stop_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An HTTP error; made by `error`."""

    status: int
    kind: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Delayed:
    """A turn sent only after a pause; made by `slow`."""

    turn: Turn
    delay_s: float


@dataclass(frozen=True, kw_only=True)
class Truncated:
    """A turn whose connection breaks after some stream events; made by `cut`."""

    turn: Turn
    after_events: int


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A 200 answer that no client can parse; made by `garbage`."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Tampered:
    """A turn whose bytes are changed on the way, one chunk for each stream event; made by `tampered`."""

    turn: Turn
    change: Callable[[tuple[bytes, ...]], Iterable[bytes]]


Turn: TypeAlias = Reply | Failure | Delayed | Truncated | Garbage | Tampered

ERROR_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def usage(
    *,
    input_tokens: int = 100,
    output_tokens: int = 20,
    cache_creation_input_tokens: int = 0,
    cache_read_input_tokens: int = 0,
) -> Usage:
    """The tokens to report with a turn: `say("done", usage=usage(input_tokens=9_000))`."""
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_creation_input_tokens=cache_creation_input_tokens,
        cache_read_input_tokens=cache_read_input_tokens,
    )


def say(text: str, *, usage: Usage = Usage(), stop_reason: str | None = None) -> Reply:
    """A turn of text, which ends the conversation."""
    return Reply(text=text, usage=usage, stop_reason=stop_reason)


def call(tool: str, given: Mapping[str, Any] | None = None, /, **arguments: Any) -> Reply:
    """A turn that calls one tool by its short or full name.

    Arguments that are no Python names go into `given`: `call("write", {"from": "a"}, path="b")`.
    """
    return Reply(calls=(ToolCall(name=tool, arguments={**(given or {}), **arguments}),))


def calls(
    *parts: Reply | ToolCall,
    text: str = "",
    usage: Usage = Usage(),
    stop_reason: str | None = None,
) -> Reply:
    """One turn of several tool calls, with text before them if given: `calls(call(..), call(..), text="Now")`."""
    made = tuple(c for part in parts for c in (part.calls if isinstance(part, Reply) else (part,)))
    said = "".join(part.text for part in parts if isinstance(part, Reply))
    return Reply(text=text + said, calls=made, usage=usage, stop_reason=stop_reason)


def error(
    status: int,
    message: str = "",
    *,
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Failure:
    """An HTTP error in the API's own envelope; `retry_after` is in seconds."""
    extra = dict(headers or {})
    if retry_after is not None:
        extra["retry-after"] = f"{retry_after:g}"
    kind = ERROR_KINDS.get(status, "api_error")
    return Failure(status=status, kind=kind, message=message or f"scripted {kind}", headers=extra)


def slow(seconds: float, turn: Turn) -> Delayed:
    """A turn whose first byte comes after `seconds`; closing the server ends the wait."""
    return Delayed(turn=turn, delay_s=seconds)


def cut(turn: Turn, *, after_events: int) -> Truncated:
    """A turn whose connection breaks after `after_events` stream events, or half-way if it is not streamed."""
    return Truncated(turn=turn, after_events=after_events)


def garbage(text: str = '{"type": "message", "content": [') -> Garbage:
    """A 200 answer whose body, or whose only stream event, is not JSON."""
    return Garbage(text=text)


def tampered(turn: Turn, change: Callable[[tuple[bytes, ...]], Iterable[bytes]]) -> Tampered:
    """A turn as `change` makes it of its stream events, each the bytes of one."""
    return Tampered(turn=turn, change=change)
