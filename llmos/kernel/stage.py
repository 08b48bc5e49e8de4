"""The world as a proof sees it: tools confined to a copy of the workspace, and recordings of what lies beyond."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmos.errors import ToolError
from llmos.plugins.context import ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool, ToolResult
from llmos.trace.program import Effect
from llmos.trace.run import StepRecord


def recorded_output(steps: Sequence[StepRecord], tool: str, args: Mapping[str, Any]) -> tuple[Any] | None:
    """What a call gave in a run, if the run made exactly that call."""
    wanted = json.dumps(args, sort_keys=True)
    for step in steps:
        if step.tool == tool and not step.is_error and json.dumps(step.args, sort_keys=True) == wanted:
            return (copy.deepcopy(step.output),)
    return None


def is_mcp(tool: Tool) -> bool:
    """Whether a tool runs in a server of its own."""
    return tool.is_remote


@dataclass(frozen=True, kw_only=True)
class Place:
    """A copy's folder, and the workspace it stands for in every argument and output."""

    here: Path
    there: str
    names: re.Pattern[str]

    @classmethod
    def of(cls, ctx: ToolContext, here: Path) -> Place:
        known = sorted({str(ctx.workspace), str(ctx.workspace.resolve())}, key=len, reverse=True)
        names = "|".join(re.escape(name) for name in known)
        return cls(here=here, there=str(ctx.workspace), names=re.compile(rf"(?<![\w./-])(?:{names})(?![\w-]|\.\w)"))

    def written(self, value: Any) -> Any:
        """A value for a tool: the workspace's path becomes the copy's."""
        return _mapped(value, lambda text: self.names.sub(lambda _: str(self.here), text))

    def read(self, value: Any) -> Any:
        """A value from a tool: the copy's path becomes the workspace's."""
        return _mapped(value, lambda text: text.replace(str(self.here), self.there))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): _mapped(item, change) for key, item in value.items()}
    return value


@dataclass(frozen=True, kw_only=True)
class ScratchContext(ToolContext):
    """A context confined to a copy, in which the workspace's own path leads to the copy."""

    place: Place

    def resolve(self, path: str, *, write: bool = False) -> Path:
        return super().resolve(self.place.written(path), write=write)


@dataclass(kw_only=True)
class _ScratchFacts:
    """Facts that last as long as a proof; looking up any others is noted in `asked`."""

    known: dict[str, Any] = field(default_factory=dict)
    asked: bool = False

    async def remember(self, key: str, value: Any) -> None:
        self.known[key.strip().casefold()] = value

    async def recall(self, query: str, *, limit: int = 5) -> list[dict[str, Any]]:
        name = query.strip().casefold()
        if name in self.known:
            return [{"key": query, "value": self.known[name], "score": 1.0}]
        self.asked = True
        raise ToolError("the user's facts are not looked up in a proof")


class Stage(ToolRegistry):
    """The tools as a proof calls them, with its own place in the world.

    What reads beyond the workspace (the network, an MCP server, a model, the user's facts) is not asked again: its
    recorded output stands in for exactly the recorded call, noted in `recorded`. Any other such call is `unknown`.
    """

    def __init__(self, registry: ToolRegistry, recorded: Sequence[StepRecord], place: Place) -> None:
        super().__init__()
        for tool in registry:
            self.register(tool)
        self.place = place
        self.unknown = ""
        self.recorded: list[str] = []
        self._recorded = recorded
        self._facts = _ScratchFacts()

    def context(self, ctx: ToolContext) -> ScratchContext:
        """What a tool may touch in this proof."""

        async def think(prompt: str, *, max_tokens: int, model: str | None) -> str:
            self._facts.asked = True
            raise ToolError("no model is asked in a proof")

        root = ctx.workspace.resolve()
        denied, sealed = (
            tuple(self.place.here / path.relative_to(root) for path in paths if path.is_relative_to(root))
            for paths in (ctx.denied, ctx.sealed)
        )
        return ScratchContext(
            workspace=self.place.here,
            run_id=ctx.run_id,
            facts=self._facts,
            think=think,
            denied=denied,
            sealed=sealed,
            env=ctx.env,
            sandbox=ctx.sandbox,
            secrets=ctx.secrets,
            place=self.place,
        )

    async def call(self, name: str, arguments: dict[str, Any], ctx: ToolContext) -> ToolResult:
        tool = self.get(name)
        if is_mcp(tool) or (tool.open_world and tool.effect is Effect.READ):
            return self._stand_in(name, arguments)
        self._facts.asked = False
        result = await super().call(name, self.place.written(arguments), ctx)
        if self._facts.asked:
            return self._stand_in(name, arguments)
        return replace(result, output=self.place.read(result.output))

    def _stand_in(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        known = recorded_output(self._recorded, name, arguments)
        if known is not None:
            self.recorded.append(name)
            return ToolResult(output=known[0])
        self.unknown = self.unknown or f"{name} looks beyond the workspace and is not asked again"
        return ToolResult(output=self.unknown, is_error=True, error=ToolError(self.unknown))
