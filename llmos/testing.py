"""Doubles for tests: a scripted model server, a hash embedder and a frozen clock.

The server answers real clients over loopback HTTP, so a learner is tested without patching and without a key:

    with ScriptedServer([call("write", path="a.txt", content="hi"), say("done")]) as server:
        result = await learn("write hi to a.txt", env=server.env(tmp_path))
    assert server.unused == 0 and not server.overrun

Both `POST /v1/messages` (Anthropic) and `POST /v1/chat/completions` (OpenAI-compatible) draw from the same script.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "FrozenClock",
    "HashEmbedder",
    "Reply",
    "Request",
    "Script",
    "ScriptedServer",
    "ToolCall",
    "ToolResult",
    "Turn",
    "Usage",
    "call",
    "calls",
    "cut",
    "error",
    "garbage",
    "is_side_request",
    "say",
    "slow",
    "usage",
]

JSON: TypeAlias = dict[str, Any]

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
CHAT_COMPLETIONS = "/v1/chat/completions"

# ------------------------------------------------------------------------------------------------------ turns


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


Turn: TypeAlias = Reply | Failure | Delayed | Truncated | Garbage

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


# --------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What the client reports about one tool call."""

    id: str
    text: str
    is_error: bool = False


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
        """Results of all tool calls so far, oldest first."""
        return tuple(result for message in self._messages for result in _tool_results(message))

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


def _tool_results(message: JSON) -> Iterator[ToolResult]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield ToolResult(id=message.get("tool_call_id", ""), text=_plain(content))
    for block in content if isinstance(content, list) else ():
        if block.get("type") == "tool_result":
            failed = bool(block.get("is_error"))
            yield ToolResult(id=block["tool_use_id"], text=_plain(block.get("content")), is_error=failed)


# ------------------------------------------------------------------------------- turns as bytes on either wire


@dataclass(frozen=True, kw_only=True)
class _Response:
    """Bytes to send: one body, or one chunk for each stream event."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: tuple[bytes, ...] = ()
    streamed: bool = False
    delay_s: float = 0.0
    broken: bool = False


def _render(turn: Turn, request: Request, number: int) -> _Response:
    """The bytes that say `turn` in the request's own dialect; `number` makes ids unique and repeatable."""
    match turn:
        case Delayed():
            inner = _render(turn.turn, request, number)
            return replace(inner, delay_s=inner.delay_s + turn.delay_s)
        case Truncated():
            inner = _render(turn.turn, request, number)
            kept = inner.chunks[: turn.after_events] if inner.streamed else inner.chunks
            return replace(inner, chunks=kept, broken=True)
        case Failure():
            return _render_failure(turn, request, number)
        case Garbage() if request.stream:
            return _stream([f"event: message_start\ndata: {turn.text}\n\n"])
        case Garbage():
            return _body(turn.text)
        case Reply() if request.path == CHAT_COMPLETIONS:
            return _render_chat(turn, request, number)
        case Reply():
            return _render_message(turn, request, number)


def _body(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> _Response:
    sent = {"content-type": "application/json", **(headers or {})}
    return _Response(status=status, headers=sent, chunks=(text.encode(),))


def _stream(events: Iterable[str]) -> _Response:
    sent = {"content-type": "text/event-stream", "cache-control": "no-cache"}
    return _Response(headers=sent, chunks=tuple(event.encode() for event in events), streamed=True)


def _render_failure(turn: Failure, request: Request, number: int) -> _Response:
    if request.path == CHAT_COMPLETIONS:
        said: JSON = {"error": {"message": turn.message, "type": turn.kind, "param": None, "code": turn.kind}}
    else:
        detail = {"type": turn.kind, "message": turn.message}
        said = {"type": "error", "error": detail, "request_id": f"req_{number:04d}"}
    return _body(json.dumps(said), status=turn.status, headers=turn.headers)


def _numbered(turn: Reply, request: Request, number: int, prefix: str) -> list[tuple[str, str, JSON]]:
    """(id, full tool name, arguments) of each call."""
    return [
        (made.id or f"{prefix}_{number:04d}_{index}", request.full_name(made.name), dict(made.arguments))
        for index, made in enumerate(turn.calls)
    ]


def _render_message(turn: Reply, request: Request, number: int) -> _Response:
    """An Anthropic message, streamed or whole. Source: docs.anthropic.com, Messages API and its streaming."""
    message = _message(turn, request, number)
    if not request.stream:
        return _body(json.dumps(message))
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


def _render_chat(turn: Reply, request: Request, number: int) -> _Response:
    """An OpenAI chat completion, streamed or whole. Source: the OpenAI API reference, Chat Completions."""
    completion = _completion(turn, request, number)
    if not request.stream:
        return _body(json.dumps(completion))
    with_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
    events = [json.dumps(chunk) for chunk in _completion_chunks(completion, with_usage=with_usage)]
    return _stream(f"data: {event}\n\n" for event in [*events, "[DONE]"])


_FINISH = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}


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


def _pieces(text: str, size: int = 24) -> list[str]:
    """`text` in stream-sized parts, so that a cut falls inside a value."""
    return [text[start : start + size] for start in range(0, len(text), size)]


# ----------------------------------------------------------------------------------------------------- server

Script: TypeAlias = Iterable[Turn] | Callable[[Request], Turn]


class ScriptedServer:
    """A model server on 127.0.0.1 that answers each request of a conversation with the next scripted turn.

    `script` is the turns in order, or a function from request to turn, called in the server's threads. Each HTTP
    request takes a turn, so a client that retries after `error(500)` gets the turn after it. When the turns run
    out the answer is an error that clients don't retry, and the request is added to `overrun`. An exception in
    the function is answered the same way and raised again when the `with` block ends.
    """

    def __init__(self, script: Script, *, is_side: Callable[[Request], bool] = is_side_request) -> None:
        self.requests: list[Request] = []
        """Everything received, in order."""
        self.conversation: list[Request] = []
        """The requests that asked for a turn."""
        self.side_requests: list[Request] = []
        """The client's own requests (titles, quota checks, token counts), answered without a turn."""
        self.overrun: list[Request] = []
        """The requests for which no turn was left."""
        self._choose = script if callable(script) else None
        self._turns: list[Turn] = [] if callable(script) else list(script)
        self._is_side = is_side
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._http: _HttpServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base URL for an Anthropic client."""
        if self._http is None:
            raise RuntimeError("the scripted server is not running: use it in a `with` block, or call start()")
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def openai_url(self) -> str:
        """Base URL for an OpenAI-compatible client."""
        return self.url + "/v1"

    @property
    def unused(self) -> int:
        """How many turns of a listed script nobody has asked for yet."""
        return max(0, len(self._turns) - len(self.conversation)) if self._choose is None else 0

    def env(self, home: Path) -> dict[str, str]:
        """Environment for a Claude client that shall know this server and nothing of the user's own set-up.

        `home` is created if missing. Variables that could lead to another account or host are set empty, because
        the client's SDK adds the parent's environment. Retries are off, so one fault takes one turn.
        """
        home.mkdir(parents=True, exist_ok=True)
        return {
            **dict.fromkeys(_FOREIGN, ""),
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(home / ".claude"),
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "dummy",
            "NO_PROXY": "127.0.0.1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "0",
            "CLAUDE_CODE_TMPDIR": str(home / "tmp"),
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

    def start(self) -> Self:
        """Listen on a free port, in a background thread."""
        self._stopping.clear()
        self._http = _HttpServer(self._serve, self._stopping, self._errors)
        serve = self._http.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.02,), name="scripted-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Break open connections, end all threads and release the port."""
        if self._http is None or self._thread is None:
            return
        self._stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._http = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._errors and value is None:
            raise self._errors[0]

    def _serve(self, request: Request) -> _Response:
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        route = (request.method, request.path)
        if request.method == "HEAD":
            return _Response()
        if route == ("POST", COUNT_TOKENS):
            self.side_requests.append(request)
            return _body(json.dumps({"input_tokens": len(json.dumps(request.body)) // 4}))
        if route not in {("POST", MESSAGES), ("POST", CHAT_COMPLETIONS)}:
            return _render(error(404, f"no such route: {' '.join(route)}"), request, number)
        if self._is_side(request):
            self.side_requests.append(request)
            return _render(say('{"title": "Scripted"}', usage=Usage(input_tokens=0, output_tokens=0)), request, number)
        return _render(self._next_turn(request), request, number)

    def _next_turn(self, request: Request) -> Turn:
        with self._lock:
            self.conversation.append(request)
            index = len(self.conversation) - 1
        if self._choose is not None:
            try:
                return self._choose(request)
            except Exception as raised:
                self._errors.append(raised)
                return _script_error(f"the script's function failed: {raised!r}")
        if index < len(self._turns):
            return self._turns[index]
        self.overrun.append(request)
        return _script_error(f"the script has {len(self._turns)} turns, and this is request {index + 1}")


def _script_error(message: str) -> Failure:
    """An error that is the test's own; 418 because clients repeat a 400 in other forms, and retry most others."""
    return Failure(status=418, kind="script_error", message=message)


_FOREIGN = (
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_MODEL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)


class _HttpServer(ThreadingHTTPServer):
    """One thread for each connection; closing breaks the connections and waits for their threads."""

    request_queue_size = 64

    def __init__(
        self, answer: Callable[[Request], _Response], stopping: threading.Event, errors: list[BaseException]
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.stopping = stopping
        self._errors = errors
        self._connections: list[tuple[socket.socket, threading.Thread]] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._connections = [(old, busy) for old, busy in self._connections if busy.is_alive()]
        self._connections.append((request, thread))
        thread.start()

    def server_close(self) -> None:
        super().server_close()
        for connection, _ in self._connections:
            _shut(connection)
        for _, thread in self._connections:
            thread.join(timeout=5.0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        raised = sys.exception()
        if raised is not None and not isinstance(raised, ConnectionError):
            self._errors.append(raised)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client was faster


class _Handler(BaseHTTPRequestHandler):
    """HTTP around `_HttpServer.answer`."""

    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def do_POST(self) -> None:
        request = self._receive()
        self._send(self.server.answer(request))

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: what came in is in `ScriptedServer.requests`."""

    def _receive(self) -> Request:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        return Request(
            method=self.command,
            path=self.path.partition("?")[0],
            headers={name.lower(): value for name, value in self.headers.items()},
            body=body if isinstance(body, dict) else {},
            at=datetime.now(UTC),
        )

    def _send(self, response: _Response) -> None:
        if self.server.stopping.wait(response.delay_s):
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.streamed:
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self._send_chunks(response)
        else:
            body = b"".join(response.chunks)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if response.broken else body)
        if response.broken:
            self.close_connection = True

    def _send_chunks(self, response: _Response) -> None:
        for chunk in response.chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if not response.broken:
            self.wfile.write(b"0\r\n\r\n")


# ----------------------------------------------------------------------------------------- embedder and clock


class HashEmbedder:
    """Embeds a text as the bag of its words, hashed: equal words give equal vectors, in any process.

    Similar in the number of shared words only; a paraphrase is far away.
    """

    model_name = "hash-384"
    dim = 384

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of the texts: float32[n, dim], each of length 1."""
        import numpy as np

        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or [text]:
                vectors[row, self._bucket(word)] += 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _bucket(self, word: str) -> int:
        return int.from_bytes(blake2b(word.encode(), digest_size=8).digest()) % self.dim


class FrozenClock:
    """A clock that moves only when told to; call it for the time."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def __call__(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time on by `seconds`."""
        self._now += timedelta(seconds=seconds)
