"""The one place tools live and the one path every tool call takes, learner's and follower's alike."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from llmos.errors import DuplicateToolError, LLMOSError, ToolError, ToolNotFoundError
from llmos.plugins.context import Middleware, ToolContext
from llmos.plugins.resources import timed
from llmos.plugins.schemas import plainly_valid, validate_arguments
from llmos.plugins.tool import Tool, ToolCall, ToolResult
from llmos.trace.program import Effect

log = logging.getLogger(__name__)


class ToolRegistry:
    """Tools by name."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}

    def __iter__(self) -> Iterator[Tool]:
        return iter(sorted(self._tools.values(), key=lambda tool: tool.name))

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def register(self, tool: Tool) -> None:
        """Add a tool.

        Raises:
            DuplicateToolError: the name is taken; the first tool stays.
        """
        if tool.name in self._tools:
            other = self._tools[tool.name].source
            raise DuplicateToolError(
                f"a tool {tool.name!r} exists already (from {other}); rename this one",
                path=tool.source,
                line=tool.line,
            )
        self._tools[tool.name] = tool

    def unregister(self, name: str) -> None:
        """Remove a tool if it is there."""
        self._tools.pop(name, None)

    def get(self, name: str) -> Tool:
        """The tool of that name.

        Raises:
            ToolNotFoundError: none is registered.
        """
        try:
            return self._tools[name]
        except KeyError:
            raise ToolNotFoundError(f"there is no tool {name!r}; `tools` lists those there are") from None

    async def call(self, name: str, arguments: dict[str, Any], ctx: ToolContext) -> ToolResult:
        """Call a tool, with its context's middleware around; every failure comes back as an error result.

        Cancellation passes through.
        """
        started, effect, made = time.perf_counter(), Effect.UNKNOWN, False

        async def make() -> ToolResult:
            nonlocal made
            made = True
            return await _made(call, revealed)

        try:
            tool = self.get(name)
            effect = tool.effect
            revealed = ctx.revealed(arguments)
            validate(tool, revealed)
            effect = tool.effect_of(ctx, revealed)
            call = ToolCall(tool=tool, arguments=arguments, effect=effect, ctx=ctx)
            result = await _through(ctx.middleware, call, make)
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            result = _failure(name, error, ctx)
        return replace(result, effect=effect, made=made, duration_s=time.perf_counter() - started)


async def _through(
    middleware: Sequence[Middleware], call: ToolCall, make: Callable[[], Awaitable[ToolResult]]
) -> ToolResult:
    if not middleware:
        return await make()
    return await middleware[0](call, lambda: _through(middleware[1:], call, make))


async def _made(call: ToolCall, revealed: dict[str, Any]) -> ToolResult:
    """The call itself: the one place where secrets are in the arguments."""
    name, ctx = call.tool.name, call.ctx
    try:
        work = call.tool.function(ctx, **revealed)
        output = jsonable(name, await (work if call.tool.is_remote else timed(work)))
        return ToolResult(output=ctx.hidden(output))
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        return _failure(name, error, ctx)


def _failure(name: str, error: BaseException, ctx: ToolContext) -> ToolResult:
    """What a failed call came to; a cancellation of the task passes through."""
    if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
        raise error
    if isinstance(error, LLMOSError):
        error.args = tuple(map(ctx.hidden, error.args))
        return ToolResult(output=str(error), is_error=True, error=error)
    log.info("tool %s raised", name, exc_info=error, extra={"action": "tool_raised", "tool": name})
    failure = ToolError(ctx.hidden(f"{name}: {type(error).__name__}: {error}"))
    return ToolResult(output=str(failure), is_error=True, error=failure)


def _is_being_cancelled() -> bool:
    """Whether somebody cancels this task; a CancelledError is a tool's own failure otherwise."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def validate(tool: Tool, arguments: dict[str, Any]) -> None:
    """Check arguments against the tool's schema.

    Raises:
        ToolError: names the argument and what is wrong with it.
    """
    validate_arguments(tool.name, tool.schema, arguments)


def is_plainly_valid(tool: Tool, arguments: dict[str, Any]) -> bool:
    """Whether arguments are seen at a glance to fit a schema that asks for nothing that takes more than a glance."""
    return plainly_valid(tool.schema, arguments)


def validate_values(tool: Tool, arguments: dict[str, Any]) -> None:
    """Check those arguments that are known already, each by itself, `format` included.

    Raises:
        ToolError: names the argument and what is wrong with it.
    """
    properties = tool.schema.get("properties", {})
    known = {name: value for name, value in arguments.items() if name in properties}
    shared = ("$schema", "$defs", "definitions")
    schema: dict[str, Any] = {key: tool.schema[key] for key in shared if key in tool.schema}
    schema |= {"type": "object", "properties": {name: properties[name] for name in known}}
    validate_arguments(tool.name, schema, known, formats=True)


def jsonable(name: str, value: Any) -> Any:
    """The value as plain JSON data: what is stored, referenced and compared.

    Raises:
        ToolError: it can't be written as JSON.
    """
    if value is None or type(value) in (str, int, bool):
        return value
    try:
        return json.loads(json.dumps(value, ensure_ascii=False, default=_simpler, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ToolError(f"{name}: its result can't be written as JSON: {error}") from None


def _simpler(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "__float__"):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if hasattr(value, "__fspath__"):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
