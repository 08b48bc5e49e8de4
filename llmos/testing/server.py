"""The scripted model server: which turn answers which request, and what was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from llmos.testing.loopback import LoopbackServer
from llmos.testing.request import CHAT_COMPLETIONS, COUNT_TOKENS, MESSAGES, Request, is_side_request
from llmos.testing.turns import Failure, Turn, Usage, error, say
from llmos.testing.wire import Response, render, whole

Script: TypeAlias = Iterable[Turn] | Callable[[Request], Turn]

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
        self._http: LoopbackServer | None = None
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
        self._http = LoopbackServer(self._serve, self._stopping, self._errors)
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

    def _serve(self, request: Request) -> Response:
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
        route = (request.method, request.path)
        if request.method == "HEAD":
            return Response()
        if route == ("POST", COUNT_TOKENS):
            self.side_requests.append(request)
            return whole(json.dumps({"input_tokens": len(json.dumps(request.body)) // 4}))
        if route not in {("POST", MESSAGES), ("POST", CHAT_COMPLETIONS)}:
            return render(error(404, f"no such route: {' '.join(route)}"), request, number)
        if self._is_side(request):
            self.side_requests.append(request)
            return render(say('{"title": "Scripted"}', usage=Usage(input_tokens=0, output_tokens=0)), request, number)
        return render(self._next_turn(request), request, number)

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
