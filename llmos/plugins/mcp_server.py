"""One MCP server: its client lives in a task of its own and serves calls from any other."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from llmos import caller
from llmos.errors import ToolError
from llmos.plugins.confined import Child

if TYPE_CHECKING:
    from mcp import Client, MCPError
    from mcp.client import Transport
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp_types import CallToolResult

    from llmos.plugins.confined import Sandbox
    from llmos.settings import McpServerSettings

log = logging.getLogger(__name__)

MAX_PAGES = 100
STOP_S = 10.0

OnListed = Callable[[str, list[dict[str, Any]]], Awaitable[None]]


class McpServer:
    """Starts on the first call, again after it ended, and stops with `aclose`.

    anyio's cancel scopes must be left by the task that entered them, so the client is opened and closed by one
    long-lived task; requests are sent from the tasks of the callers.
    """

    def __init__(
        self,
        name: str,
        settings: McpServerSettings,
        *,
        cwd: Path | None,
        timeout_s: float,
        listed: OnListed,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._cwd = cwd
        self._timeout_s = timeout_s
        self._on_listed = listed
        self._sandbox = sandbox
        self._explain: Callable[[int, str], str] | None = None
        self._versions: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._client: Client | None = None

    async def start(self) -> Client:
        """The client of the running server, which is started if need be.

        Raises:
            ToolError: it can't be started, or does not answer in time.
        """
        async with self._lock:
            if self._client is not None and not self._ended.is_set():
                return self._client
            await self._stop()
            self._ended = asyncio.Event()
            ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._live(ready, self._ended), name=f"mcp {self._name}")
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._client = await ready
                return self._client
            except TimeoutError:
                raise ToolError(f"{self._label} did not answer within {self._timeout_s:g} s of its start.") from None
            finally:
                if self._client is None:
                    self._task.cancel()
                    await self._stop()

    async def call(self, tool: str, arguments: dict[str, Any], *, expected: str) -> CallToolResult:
        """Call a tool of the given version.

        Raises:
            ToolError: no such tool any more, another version, a protocol error, too slow, or the server ended.
        """
        client = await self.start()
        from mcp import MCPError

        if self._versions.get(tool) != expected:
            what = "is not offered any more" if tool not in self._versions else "takes other arguments now"
            raise ToolError(f"{tool!r} of {self._label} {what}; it was looked up again, see `tools`.")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await client.call_tool(tool, arguments)
        except TimeoutError:
            raise ToolError(f"{tool!r} of {self._label} did not answer within {self._timeout_s:g} s.") from None
        except MCPError as error:
            if _is_closed(error):
                self._ended.set()
                raise ToolError(f"{self._label} ended during {tool!r}; it is started again at the next call.") from None
            raise ToolError(f"{tool!r} of {self._label} failed: {error.message}") from None
        except Exception as error:
            # a transport's own error: a broken HTTP connection, an answer that is no MCP
            log.info("an MCP call broke", exc_info=True, extra={"action": "mcp_call", "server": self._name})
            self._ended.set()
            raise ToolError(f"{tool!r} of {self._label} failed: {_leaf(error)}") from None

    async def aclose(self) -> None:
        """Stop the server if it runs."""
        async with self._lock:
            await self._stop()

    @property
    def _label(self) -> str:
        return f"the MCP server {self._name!r}"

    async def _stop(self) -> None:
        task, self._task, self._client = self._task, None, None
        self._ended.set()
        if task is not None:
            _, running = await asyncio.wait({task}, timeout=STOP_S)
            if running:
                task.cancel()
                await asyncio.wait({task}, timeout=STOP_S)

    async def _live(self, ready: asyncio.Future[Client], ended: asyncio.Event) -> None:
        """The server's whole life: open, list, wait for its end, close. The border its exceptions stop at."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            try:
                async with self._open(errors, ended) as client:
                    listing = await _list_tools(client)
                    await self._take(listing)
                    if not ready.done():
                        ready.set_result(client)
                    await ended.wait()
            except BaseException as error:
                if not ready.done():
                    ready.set_exception(
                        ToolError(f"{self._label} can't be used: {_leaf(error)}{_said(errors)}{self._denied(errors)}")
                    )
                else:
                    log.info("an MCP server ended", exc_info=True, extra={"action": "mcp_ended", "server": self._name})
                if isinstance(error, asyncio.CancelledError):
                    raise
            finally:
                ended.set()

    async def _take(self, listing: list[dict[str, Any]]) -> None:
        from llmos.plugins.mcp import entry_version

        self._versions = {entry["name"]: entry_version(entry) for entry in listing}
        await self._on_listed(self._name, listing)

    @asynccontextmanager
    async def _open(self, errors: IO[str], ended: asyncio.Event) -> AsyncIterator[Client]:
        await asyncio.to_thread(importlib.import_module, "mcp")
        from mcp import Client

        async with contextlib.AsyncExitStack() as stack:
            transport = await self._transport(errors, stack)
            yield await stack.enter_async_context(Client(_Watched(transport, ended)))

    async def _transport(self, errors: IO[str], stack: contextlib.AsyncExitStack) -> Transport:
        settings = self._settings
        if settings.command:
            from mcp import StdioServerParameters
            from mcp.client.stdio import stdio_client

            command, *args = await self._command(settings, stack)
            parameters = StdioServerParameters(command=command, args=args, env=dict(settings.env), cwd=self._cwd)
            return stdio_client(parameters, errlog=cast(TextIO, errors))
        if settings.url:
            import httpx2
            from mcp.client.streamable_http import streamable_http_client

            limits = httpx2.Timeout(30.0, read=self._timeout_s)
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=dict(settings.headers), timeout=limits))
            return streamable_http_client(settings.url, http_client=http)
        raise ToolError(f"{self._label} has neither a command nor a url in the settings.")

    async def _command(self, settings: McpServerSettings, stack: contextlib.AsyncExitStack) -> list[str]:
        """The command line to start, confined unless the settings say otherwise."""
        assert settings.command is not None
        if self._sandbox is None or not settings.sandboxed:
            return [settings.command, *settings.args]
        from llmos.plugins.programs import program, seen_by
        from llmos.settings import plain_environment

        cwd = (self._cwd or caller.folder()).resolve()
        env = {**plain_environment(), **settings.env}
        argv = [program(settings.command, env), *settings.args]
        child = Child(
            tool=self._name,
            argv=argv,
            cwd=cwd,
            env=env,
            write=(cwd, *settings.writable),
            read=(*seen_by(argv, cwd), *settings.readable),
            network=settings.network,
            lasting=True,
        )
        confined = await stack.enter_async_context(self._sandbox.confined(child))
        self._explain = confined.explain
        return list(confined.argv)

    def _denied(self, errors: IO[str]) -> str:
        """Which wall of the sandbox a server met that could not start."""
        if self._explain is None:
            return ""
        errors.seek(0)
        said = self._explain(0, errors.read())
        opened = (
            f"it is confined to the workspace; readable, writable and network under mcp_servers.{self._name} open more"
        )
        return f"; {said or opened}"


class _Watched:
    """A transport that says when its server has ended, so that the next call starts it again."""

    def __init__(self, inner: Transport, ended: asyncio.Event) -> None:
        self._inner = inner
        self._ended = ended

    async def __aenter__(self) -> TransportStreams:
        reading, writing = await self._inner.__aenter__()
        return _WatchedStream(reading, self._ended), writing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)


class _WatchedStream:
    """The stream of a server's messages; its end sets `ended`."""

    def __init__(self, inner: ReadStream[Any], ended: asyncio.Event) -> None:
        self._inner = inner
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def receive(self) -> Any:
        import anyio

        try:
            return await self._inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._ended.set()
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    def __aiter__(self) -> _WatchedStream:
        return self

    async def __anext__(self) -> Any:
        import anyio

        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> _WatchedStream:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)


async def _list_tools(client: Client) -> list[dict[str, Any]]:
    """Every page of a server's tools, as plain data."""
    listing: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            hints = tool.annotations.model_dump(by_alias=True, exclude_none=True) if tool.annotations else {}
            listing.append(
                {
                    "name": tool.name,
                    "description": tool.description or "",
                    "schema": tool.input_schema,
                    "annotations": hints,
                }
            )
        cursor = page.next_cursor
        if cursor is None:
            break
    return listing


def _is_closed(error: MCPError) -> bool:
    from mcp_types import CONNECTION_CLOSED

    return bool(error.code == CONNECTION_CLOSED)


def _leaf(error: BaseException) -> str:
    """The first real cause inside anyio's exception groups, in words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"the program {error.filename!r} is not installed or not on the PATH"
    if callable(errors := getattr(error, "errors", None)):  # pydantic's: what came does not fit the protocol
        first = errors()[0]
        return f"it sent what is no MCP ({'.'.join(map(str, first['loc']))}: {first['msg']})"
    return " ".join(str(error).split())[:400] or type(error).__name__


def _said(errors: IO[str]) -> str:
    """The last lines a server wrote to stderr."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
    return f" (it said: {' / '.join(lines[-2:])[-400:]})" if lines else ""
