"""A turn as the bytes that say it, in the dialect of the request that it answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from llmos.testing.request import CHAT_COMPLETIONS, JSON, Request
from llmos.testing.turns import Delayed, Failure, Garbage, Reply, Tampered, Truncated, Turn


@dataclass(frozen=True, kw_only=True)
class Response:
    """Bytes to send: one body, or one chunk for each stream event."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] = ()
    streamed: bool = False
    delay_s: float = 0.0
    broken: bool = False


def render(turn: Turn, request: Request, number: int) -> Response:
    """The bytes that say `turn` in the request's own dialect; `number` makes ids unique and repeatable."""
    match turn:
        case Delayed():
            inner = render(turn.turn, request, number)
            return replace(inner, delay_s=inner.delay_s + turn.delay_s)
        case Truncated():
            inner = render(turn.turn, request, number)
            kept = inner.chunks[: turn.after_events] if inner.streamed else inner.chunks
            return replace(inner, chunks=kept, broken=True)
        case Tampered():
            inner = render(turn.turn, request, number)
            return replace(inner, chunks=tuple(turn.change(inner.chunks)))
        case Failure():
            return _render_failure(turn, request, number)
        case Garbage() if request.stream:
            return _stream([f"event: message_start\ndata: {turn.text}\n\n"])
        case Garbage():
            return whole(turn.text)
        case Reply() if request.path == CHAT_COMPLETIONS:
            return _render_chat(turn, request, number)
        case Reply():
            return _render_message(turn, request, number)


def whole(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in one piece: JSON, or what is said to be."""
    sent = {"content-type": "application/json", **(headers or {})}
    return Response(status=status, headers=sent, chunks=(text.encode(),))


def _stream(events: Iterable[str]) -> Response:
    """An answer of server-sent events, each as it goes over the wire."""
    sent = {"content-type": "text/event-stream", "cache-control": "no-cache"}
    return Response(headers=sent, chunks=tuple(event.encode() for event in events), streamed=True)


def _render_failure(turn: Failure, request: Request, number: int) -> Response:
    if request.path == CHAT_COMPLETIONS:
        said: JSON = {"error": {"message": turn.message, "type": turn.kind, "param": None, "code": turn.kind}}
    else:
        detail = {"type": turn.kind, "message": turn.message}
        said = {"type": "error", "error": detail, "request_id": f"req_{number:04d}"}
    return whole(json.dumps(said), status=turn.status, headers=turn.headers)


def _numbered(turn: Reply, request: Request, number: int, prefix: str) -> list[tuple[str, str, JSON]]:
    """(id, full tool name, arguments) of each call."""
    return [
        (made.id or f"{prefix}_{number:04d}_{index}", request.full_name(made.name), dict(made.arguments))
        for index, made in enumerate(turn.calls)
    ]


def _pieces(text: str, size: int = 24) -> list[str]:
    """`text` in stream-sized parts, so that a cut falls inside a value."""
    return [text[start : start + size] for start in range(0, len(text), size)]


# ------------------------------------------------------------------------------------------- Messages API


def _render_message(turn: Reply, request: Request, number: int) -> Response:
    """An Anthropic message, streamed or whole. Source: docs.anthropic.com, Messages API and its streaming."""
    message = _message(turn, request, number)
    if not request.stream:
        return whole(json.dumps(message))
    return _stream(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _message_events(message))


def _message(turn: Reply, request: Request, number: int) -> JSON:
    content: list[JSON] = [{"type": "text", "text": turn.text}] if turn.text or not turn.calls else []
    for id_, name, arguments in _numbered(turn, request, number, "toolu"):
        content.append({"type": "tool_use", "id": id_, "name": name, "input": arguments})
    written = turn.usage.cache_creation_input_tokens
    return {
        "id": f"msg_{number:04d}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content,
        "stop_reason": turn.stop_reason or ("tool_use" if turn.calls else "end_turn"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": turn.usage.input_tokens,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": turn.usage.cache_read_input_tokens,
            "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
            "output_tokens": turn.usage.output_tokens,
        },
    }


def _message_events(message: JSON) -> Iterator[JSON]:
    """The stream events from which a client rebuilds `message`."""
    opening = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
    yield {"type": "message_start", "message": opening}
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty: JSON = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": part} for part in _pieces(block["text"])]
        else:
            empty = {**block, "input": {}}
            written = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in _pieces(written)]
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": message["usage"]}
    yield {"type": "message_stop"}


# --------------------------------------------------------------------------------------- Chat Completions

_FINISH = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}


def _render_chat(turn: Reply, request: Request, number: int) -> Response:
    """An OpenAI chat completion, streamed or whole. Source: the OpenAI API reference, Chat Completions."""
    completion = _completion(turn, request, number)
    if not request.stream:
        return whole(json.dumps(completion))
    with_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
    events = [json.dumps(chunk) for chunk in _completion_chunks(completion, with_usage=with_usage)]
    return _stream(f"data: {event}\n\n" for event in [*events, "[DONE]"])


def _completion(turn: Reply, request: Request, number: int) -> JSON:
    made = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for id_, name, arguments in _numbered(turn, request, number, "call")
    ]
    message: JSON = {"role": "assistant", "content": turn.text or (None if made else "")}
    if made:
        message["tool_calls"] = made
    stop = turn.stop_reason or ("tool_use" if made else "end_turn")
    cached = turn.usage.cache_read_input_tokens
    prompt = turn.usage.input_tokens + turn.usage.cache_creation_input_tokens + cached
    return {
        "id": f"chatcmpl-{number:04d}",
        "object": "chat.completion",
        "created": int(request.at.timestamp()),
        "model": request.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH.get(stop, stop)}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": turn.usage.output_tokens,
            "total_tokens": prompt + turn.usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }


def _completion_chunks(completion: JSON, *, with_usage: bool) -> Iterator[JSON]:
    """The stream chunks from which a client rebuilds `completion`."""
    head = {key: completion[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = completion["choices"][0]

    def chunk(delta: JSON, finish: str | None = None) -> JSON:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for part in _pieces(choice["message"]["content"] or ""):
        yield chunk({"content": part})
    for index, made in enumerate(choice["message"].get("tool_calls", ())):
        function = made["function"]
        yield chunk({"tool_calls": [{**made, "index": index, "function": {**function, "arguments": ""}}]})
        for part in _pieces(function["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield chunk({}, choice["finish_reason"])
    if with_usage:
        yield {**head, "choices": [], "usage": completion["usage"]}
