"""What a tool is: a named async function with a JSON schema, effect annotations and a version."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from llmos.errors import LLMOSError
from llmos.plugins.context import OS_TOOLS, ToolContext
from llmos.plugins.touching import Touching, has_places
from llmos.trace.program import Effect

log = logging.getLogger(__name__)


class Classify(Protocol):
    """Says what one call of a tool may do to the world, from its arguments; an error counts as UNKNOWN."""

    def __call__(self, ctx: ToolContext, arguments: Mapping[str, Any], /) -> Effect: ...


class Brings(Protocol):
    """Says of one call whether what it gives may hold text that somebody else wrote; an error counts as yes."""

    def __call__(self, ctx: ToolContext, arguments: Mapping[str, Any], /) -> bool: ...


Outside: TypeAlias = Brings | bool | None
"""Whether a tool brings text from outside; None: open-world tools and those that read do."""


@dataclass(frozen=True, kw_only=True)
class FileWrite:
    """A file that a call will change, make or remove.

    `content` is what it will hold, if that is known: bytes, or the path of the file whose content it takes over (a
    copy, or a move). `removed`: it will not be there any more.
    """

    path: Path
    content: bytes | Path | None = None
    removed: bool = False


class Writes(Protocol):
    """Says which files a call will change, all of them, before it is made; it may block and changes nothing.

    An LLMOSError stands for the call's own, which is then not made.
    """

    def __call__(self, ctx: ToolContext, arguments: Mapping[str, Any], /) -> Iterable[FileWrite]: ...


@dataclass(frozen=True, kw_only=True)
class FileRead:
    """Something beside its arguments that the outcome of a call depends on.

    Without `value` it is the content of the file at `path`; with one (JSON-able) it is that, as the call finds it at
    `path`: the names in a folder, say. `shows_in` names the fields of the output that alone depend on it, where the
    rest, and what is written, does not.
    """

    path: Path
    value: Any = None
    shows_in: tuple[str, ...] = ()


class Reads(Protocol):
    """Says what the outcome of a call depends on, all of it, before it is made; it may block and changes nothing.

    An error says that it can't be told for these arguments.
    """

    def __call__(self, ctx: ToolContext, arguments: Mapping[str, Any], /) -> Iterable[FileRead]: ...


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool as learner and follower both see it.

    `schema` is the JSON schema of the arguments object. `code_params` name the arguments that hold a procedure (SQL,
    Python, a command), `payload_params` those that hold content (a file's body): induction treats them differently.
    `values(parameter)` lists what a parameter may be at the moment. `function(ctx, **arguments)` returns any JSON-able
    value; without `takes_ctx` it can't know which workspace is meant. `source` is the file it comes from (`builtin`,
    `mcp:SERVER`) and `line` where in it. `writes` says which files a call changes; without it, it may be any of the
    workspace. `paths` and `hosts` say which arguments name files and URLs (see `llmos.plugins.touching`). `reads` says
    what its outcome depends on; without it, it may be anything, which is taken to stay as it is for `valid_for_s`
    seconds (None: not at all). What is from `outside` taints
    the run that reads it.
    """

    name: str
    description: str
    schema: dict[str, Any]
    function: Callable[..., Awaitable[Any]]
    effect: Effect = Effect.UNKNOWN
    idempotent: bool = False
    open_world: bool = True
    code_params: tuple[str, ...] = ()
    payload_params: tuple[str, ...] = ()
    values: Callable[[str], Iterable[str] | None] | None = None
    takes_ctx: bool = True
    version: str = "1"
    source: str = "builtin"
    line: int | None = None
    classify: Classify | None = None
    writes: Writes | None = None
    paths: Touching = ()
    hosts: Touching = ()
    reads: Reads | None = None
    valid_for_s: float | None = None
    outside: Outside = None

    def may_bring(self, ctx: ToolContext, arguments: Mapping[str, Any], effect: Effect) -> bool:
        """Whether what a call gives may hold text that somebody else wrote; a hook that fails knows nothing: it may."""
        said = self.outside
        if callable(said):
            try:
                return bool(said(ctx, arguments))
            except Exception:  # a plugin's code
                log.warning("outside of %s failed", self.name, exc_info=True, extra={"action": "outside"})
                return True
        if said is not None:
            return said
        return effect is not Effect.PURE and (self.open_world or effect is Effect.READ)

    def effect_of(self, ctx: ToolContext, arguments: Mapping[str, Any]) -> Effect:
        """What a call with these arguments may do to the world: the tool's class, or what `classify` says of the call.

        A classification that fails knows nothing: UNKNOWN.
        """
        if self.classify is None:
            return self.effect
        try:
            return Effect(self.classify(ctx, arguments))
        except Exception:  # a plugin's code
            log.warning("classifying a call of %s failed", self.name, exc_info=True, extra={"action": "classify"})
            return Effect.UNKNOWN

    @property
    def is_remote(self) -> bool:
        """Whether it runs in a server of its own."""
        return self.source.startswith("mcp:")

    @cached_property
    def has_places(self) -> bool:
        """Whether its schema says that an argument is a path or names a host."""
        return has_places(self.schema)

    @property
    def phrases(self) -> frozenset[str]:
        """The parameters that take any text: neither a path, an address or a date, nor one of listed values."""
        properties = self.schema.get("properties", {})
        return frozenset(
            name
            for name, schema in properties.items()
            if schema.get("type") == "string" and not {"format", "pattern", "const"} & schema.keys()
            if self.values_of(name) is None
        )

    @property
    def listed(self) -> frozenset[str]:
        """Every value that some parameter may take, of those that say what they may."""
        listed = (self.values_of(name) for name in self.schema.get("properties", {}))
        return frozenset(value for values in listed if values is not None for value in values)

    def values_of(self, parameter: str) -> frozenset[str] | None:
        """What a parameter may take: its schema's enumeration or what the tool lists now; None: anything.

        A tool that fails to list its values knows none, so that nothing is followed on them.
        """
        listed = self.schema.get("properties", {}).get(parameter, {}).get("enum")
        if listed is None and self.values is not None:
            try:
                listed = self.values(parameter)
            except Exception:  # a plugin's code, asked while a goal is decided
                log.warning("values of %s.%s failed", self.name, parameter, exc_info=True, extra={"action": "values"})
                listed = ()
        return None if listed is None else frozenset(map(str, listed))


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call on its way; `effect` is what it may do with just these arguments, in which secrets are marks."""

    tool: Tool
    arguments: Mapping[str, Any]
    effect: Effect
    ctx: ToolContext


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What a call came to: a JSON-able output, or the error's sentence with `is_error`.

    `error` is the exception behind an error, for callers that must tell kinds apart; `effect` is what the call might do
    to the world, and without `made` it did nothing: it was refused before, or with `is_recorded` the same call had been
    made before, and this is what that gave. `outside` says that somebody else may have written what it holds.
    """

    output: Any
    is_error: bool = False
    error: LLMOSError | None = None
    effect: Effect = Effect.UNKNOWN
    made: bool = True
    is_recorded: bool = False
    outside: bool = False
    duration_s: float = 0.0

    @property
    def text(self) -> str:
        """The output as a model reads it."""
        return self.output if isinstance(self.output, str) else json.dumps(self.output, ensure_ascii=False)


def is_os_tool(tool: Tool) -> bool:
    """Whether a tool is there for processes alone, and reaches others."""
    return tool.name in OS_TOOLS and tool.source == "builtin"


def effect_of(
    *, read_only: bool | None, destructive: bool | None, open_world: bool | None, has_undo: bool = False
) -> Effect:
    """The effect class that MCP-style annotations imply; unannotated is UNKNOWN, the worst.

    Never PURE: a read-only tool of a closed world may still read a clock or a repository (`get_current_time`
    of mcp-server-time is annotated so). A pure function says `effect="pure"`.

    Source: Model Context Protocol, tool annotations (readOnlyHint, destructiveHint, openWorldHint).
    """
    if read_only:
        return Effect.READ
    if read_only is None and destructive is None and open_world is None:
        return Effect.UNKNOWN
    if open_world is not False:
        return Effect.EXTERNAL
    return Effect.WRITE
