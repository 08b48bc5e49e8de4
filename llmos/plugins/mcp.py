"""Tools of MCP servers: they stand in the registry as `server__tool`, and a server starts when one is called."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import PluginError, ToolError
from llmos.plugins.context import ToolContext
from llmos.plugins.loader import PluginFailure
from llmos.plugins.mcp_server import McpServer
from llmos.plugins.schemas import sound
from llmos.plugins.tool import Tool, effect_of
from llmos.trace.program import Effect

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from llmos.plugins.confined import Sandbox
    from llmos.plugins.registry import ToolRegistry
    from llmos.settings import McpServerSettings

log = logging.getLogger(__name__)

CACHE_VERSION = 1
MAX_NAME_CHARS = 48

Listing = list[dict[str, Any]]
"""A server's tools as plain data: name, description, schema, annotations."""


class McpTools:
    """The tools of every server in the settings.

    `cache` is a JSON file that keeps each server's list of tools, so that knowing them starts nothing.
    `cwd` is the folder stdio servers run in, `sandbox` what confines them; a list that `is_secret` is asked for anew
    instead of kept.
    """

    def __init__(
        self,
        servers: Mapping[str, McpServerSettings],
        *,
        cache: Path | None = None,
        cwd: Path | None = None,
        sandbox: Sandbox | None = None,
        timeout_s: float | None = None,
        is_secret: Callable[[Listing], bool] = lambda listing: False,
    ) -> None:
        self._is_secret = is_secret
        self._settings = dict(servers)
        self._cache = cache
        self._registry: ToolRegistry | None = None
        self._registered: dict[str, list[Tool]] = {}
        self._failures: dict[str, PluginFailure] = {}
        self._servers = {
            name: McpServer(
                name,
                settings,
                cwd=cwd,
                sandbox=sandbox,
                timeout_s=settings.timeout_s if timeout_s is None else timeout_s,
                listed=self._listed,
            )
            for name, settings in servers.items()
        }

    @property
    def failures(self) -> list[PluginFailure]:
        """Servers whose tools are not known, and why; tools that could not be registered."""
        return list(self._failures.values())

    async def register(self, registry: ToolRegistry, *, start: bool = True) -> None:
        """Put every server's tools into a registry; with `start`, servers that were never listed are started for it."""
        self._registry = registry
        known = await asyncio.to_thread(self._read_cache)
        for name, listing in known.items():
            self._install(name, listing)
        if start:
            await self.discover()

    async def discover(self, tool: str | None = None) -> None:
        """Start the servers whose tools are not known yet (only the one that tool would belong to), all at once."""
        unknown = [name for name in self._servers if name not in self._registered]
        if tool is not None:
            unknown = [name for name in unknown if tool.startswith(tool_name(name, ""))]
        await asyncio.gather(*(self._list(name) for name in unknown))

    def tools(self) -> list[Tool]:
        """The tools registered now, by server."""
        return [tool for tools in self._registered.values() for tool in tools]

    async def aclose(self) -> None:
        """Stop every server that runs."""
        await asyncio.gather(*(server.aclose() for server in self._servers.values()))

    async def _list(self, name: str) -> None:
        try:
            await self._servers[name].start()
        except ToolError as error:
            self._fail(name, str(error))

    async def _listed(self, name: str, listing: Listing) -> None:
        """A server started and said what it has: keep it, and renew the registry where it differs."""
        self._install(name, listing)
        await asyncio.to_thread(self._write_cache, name, listing)

    def _install(self, name: str, listing: Listing) -> None:
        if self._registry is None:
            return
        gone = [path for path in self._failures if path == name or path.startswith(f"{name}.")]
        for path in gone:
            del self._failures[path]
        for tool in self._registered.pop(name, []):
            self._registry.unregister(tool.name)
        registered = self._registered.setdefault(name, [])
        for entry in listing:
            try:
                tool = self._tool(name, entry)
                self._registry.register(tool)
            except PluginError as error:
                self._fail(f"{name}.{entry['name']}", f"the tool {entry['name']!r} of MCP server {name!r}: {error}")
            else:
                registered.append(tool)

    def _fail(self, name: str, message: str) -> None:
        log.info("an MCP server or tool is unusable", extra={"action": "mcp_failed", "server": name})
        self._failures[name] = PluginFailure(path=f"mcp:{name}", line=None, message=message.rstrip(".") + ".")

    def _tool(self, server: str, entry: dict[str, Any]) -> Tool:
        settings = self._settings[server]
        version = entry_version(entry)
        return Tool(
            name=tool_name(server, entry["name"]),
            description=entry.get("description") or entry["name"],
            schema=sound(entry["name"], entry["schema"]),
            function=self._caller(server, entry["name"], version),
            effect=_effect(settings, entry),
            idempotent=bool(entry["annotations"].get("idempotentHint")),
            open_world=entry["annotations"].get("openWorldHint") is not False,
            version=version,
            source=f"mcp:{server}",
        )

    def _caller(self, server: str, tool: str, version: str) -> Callable[..., Awaitable[Any]]:
        async def call(ctx: ToolContext, /, **arguments: Any) -> Any:
            result = await self._servers[server].call(tool, arguments, expected=version)
            return output_of(result)

        return call

    # --- what is remembered of the servers -----------------------------------------------------------

    def _read_cache(self) -> dict[str, Listing]:
        """The listings that still fit their server's settings; a damaged file only means asking again."""
        if self._cache is None or not self._cache.exists():
            return {}
        try:
            data = json.loads(self._cache.read_text(encoding="utf-8"))
            if data["version"] != CACHE_VERSION:
                return {}
            return {
                name: [_checked(entry) for entry in kept["tools"]]
                for name, kept in data["servers"].items()
                if name in self._settings and kept["key"] == settings_key(self._settings[name])
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            log.warning("the list of MCP tools is unreadable, servers are asked again", extra={"action": "mcp_cache"})
            return {}

    def _write_cache(self, name: str, listing: Listing) -> None:
        if self._cache is None or self._is_secret(listing):
            return
        kept: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads(self._cache.read_text(encoding="utf-8"))
            kept = dict(data["servers"]) if data["version"] == CACHE_VERSION else {}
        kept[name] = {"key": settings_key(self._settings[name]), "tools": listing}
        kept = {server: entry for server, entry in kept.items() if server in self._settings}
        temporary = self._cache.with_name(f"{self._cache.name}.{secrets.token_hex(4)}.tmp")
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"version": CACHE_VERSION, "servers": kept}), encoding="utf-8")
            temporary.replace(self._cache)
        except OSError:
            log.warning("the list of MCP tools could not be kept", exc_info=True, extra={"action": "mcp_cache"})
            temporary.unlink(missing_ok=True)


def settings_key(settings: McpServerSettings) -> str:
    """A hash of what decides which tools a server has; values of environment and headers stay out of it."""
    facts = [settings.command, list(settings.args), settings.url, sorted(settings.env), sorted(settings.headers)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def entry_version(entry: dict[str, Any]) -> str:
    """The version of a server's tool: a hash of its name and schema."""
    text = json.dumps([entry["name"], entry["schema"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def tool_name(server: str, tool: str) -> str:
    """`server__tool` as a tool name; what is too long keeps its start and a hash."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{server}__{tool}")
    if len(name) > MAX_NAME_CHARS:
        return f"{name[: MAX_NAME_CHARS - 8]}_{hashlib.sha256(name.encode()).hexdigest()[:7]}"
    return name


def _effect(settings: McpServerSettings, entry: dict[str, Any]) -> Effect:
    """The settings' word first, then the server's annotations."""
    name, hints = entry["name"], entry["annotations"]
    if name in settings.effects:
        return Effect(settings.effects[name])
    return effect_of(
        read_only=True if name in settings.read_only else hints.get("readOnlyHint"),
        destructive=hints.get("destructiveHint"),
        open_world=hints.get("openWorldHint"),
    )


def _checked(entry: Any) -> dict[str, Any]:
    kinds = {"name": str, "description": str, "schema": dict, "annotations": dict}
    if not all(isinstance(entry[key], kind) for key, kind in kinds.items()):
        raise ValueError("not a tool")
    checked: dict[str, Any] = entry
    return checked


def output_of(result: CallToolResult) -> Any:
    """What a call came to: structured content, else its text (as JSON if that is an object or array).

    Raises:
        ToolError: the server says that the call failed.
    """
    text = "\n".join(_block_text(block) for block in result.content)
    if result.is_error:
        raise ToolError(text.strip() or "the MCP server reported an error without a word")
    if result.structured_content is not None:
        return result.structured_content
    if text.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


def _block_text(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "resource":
            return str(getattr(block.resource, "text", f"[{block.resource.uri}]"))
        case "resource_link":
            return f"[{block.uri}]"
    return f"[{block.type} {getattr(block, 'mime_type', '')}]"
