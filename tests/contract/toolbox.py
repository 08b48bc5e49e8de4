"""Calls built-in tools as learner and follower do: through the registry, in a workspace of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from llmos.plugins.context import ToolContext
from llmos.plugins.loader import PluginLoader
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import ToolResult


@cache
def builtin_registry() -> ToolRegistry:
    """A registry with the built-in tools, shared by all tests."""
    registry = ToolRegistry()
    loader = PluginLoader(registry)
    loader.load()
    assert loader.failures == []
    return registry


@dataclass(kw_only=True)
class Toolbox:
    """A workspace and the tools to work in it."""

    workspace: Path
    registry: ToolRegistry = field(default_factory=builtin_registry)
    services: dict[str, Any] = field(default_factory=dict)

    @property
    def ctx(self) -> ToolContext:
        return ToolContext(workspace=self.workspace, **self.services)

    async def result(self, tool: str, args: dict[str, Any] | None = None, /, **named: Any) -> ToolResult:
        return await self.registry.call(tool, {**(args or {}), **named}, self.ctx)

    async def call(self, tool: str, args: dict[str, Any] | None = None, /, **named: Any) -> Any:
        """The output; the test fails on an error."""
        result = await self.result(tool, args, **named)
        assert not result.is_error, result.output
        return result.output

    async def error(self, tool: str, args: dict[str, Any] | None = None, /, **named: Any) -> str:
        """The sentence of the error; the test fails on a success."""
        result = await self.result(tool, args, **named)
        assert result.is_error, result.output
        return str(result.output)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def names(self) -> list[str]:
        """Every file of the workspace, temporary ones included."""
        return sorted(
            path.relative_to(self.workspace).as_posix() for path in self.workspace.rglob("*") if path.is_file()
        )


def toolbox(root: Path, **services: Any) -> Toolbox:
    """A toolbox over a new workspace below `root`."""
    workspace = root / "workspace"
    workspace.mkdir()
    return Toolbox(workspace=workspace, services=services)
