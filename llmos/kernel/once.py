"""Effects happen once: a call that was made already is answered with what it gave."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmos.errors import LLMOSError, ToolError
from llmos.plugins.context import ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool, ToolCall, ToolResult
from llmos.trace.run import StepRecord

_MAX_PATH = 1_000


@dataclass(kw_only=True)
class Once:
    """Middleware that answers in place of effects that were made before, found by tool, version and arguments.

    A call that is also `due` once more can't be told from a repetition: it is refused, with the step that makes it.
    With `stands_in` each outcome answers one call only: it stands for that step instead of being repeated by it.
    """

    ctx: ToolContext
    stands_in: bool = False
    due: Mapping[str, str] = field(default_factory=dict)
    may_rejoin: bool = True
    _outcomes: dict[str, Any] = field(default_factory=dict)
    _left: Counter[str] = field(default_factory=Counter)

    def add(self, tool: Tool, record: StepRecord) -> None:
        """Remember what an effect gave."""
        key = call_key(tool, record.args, self.ctx)
        self._outcomes[key] = record.output
        self._left[key] += 1

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult:
        key = call_key(call.tool, call.arguments, self.ctx)
        if key not in self._outcomes or (self.stands_in and not self._left[key]):
            return await proceed()
        if key in self.due:
            advice = "call rejoin to have that done" if self.may_rejoin else "it can't be told which one you mean"
            raise ToolError(
                f"this call of {call.tool.name} was made already, and the rest of the plan makes it once more, at "
                f"[{self.due[key]}]: {advice}"
            )
        self._left[key] -= 1
        return ToolResult(output=copy.deepcopy(self._outcomes[key]), is_recorded=True)


def call_key(tool: Tool, arguments: Mapping[str, Any], ctx: ToolContext) -> str:
    """What two calls that do the same have in common: defaults are filled in, and a path is one however written."""
    properties: Mapping[str, Any] = tool.schema.get("properties", {})
    defaults = {name: one["default"] for name, one in properties.items() if isinstance(one, dict) and "default" in one}
    content = {*tool.payload_params, *tool.code_params}
    bound = {
        name: value if name in content else _place(value, ctx) for name, value in (defaults | dict(arguments)).items()
    }
    return json.dumps([tool.name, tool.version, bound], sort_keys=True, default=repr)


def _place(value: Any, ctx: ToolContext) -> Any:
    """Where a text that looks like a path leads to; any other value as it is."""
    looks = isinstance(value, str) and 0 < len(value) <= _MAX_PATH and "\n" not in value
    if not looks or not ("/" in value or "." in value) or "://" in value:
        return value
    try:
        return ctx.relative(ctx.resolve(value))
    except (LLMOSError, OSError, ValueError):
        return value


def due_calls(
    calls: Iterable[tuple[str, str, dict[str, Any]]], registry: ToolRegistry, ctx: ToolContext
) -> dict[str, str]:
    """The calls still to be made, by their keys: the step that makes each first."""
    found: dict[str, str] = {}
    for label, tool, arguments in calls:
        if tool in registry:
            found.setdefault(call_key(registry.get(tool), arguments, ctx), label)
    return found
