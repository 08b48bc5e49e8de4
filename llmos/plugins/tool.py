"""What a tool is: a named async function with a JSON schema, effect annotations and a version."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
import re
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, Union, get_args, get_origin, runtime_checkable

from llmos.errors import InputError, LLMOSError, NotPermittedError, PluginError
from llmos.plugins.confined import Sandbox
from llmos.plugins.source import fingerprint
from llmos.plugins.touching import Touching
from llmos.trace.program import Effect

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__llmos_tool__"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")
_collected: ContextVar[list[Tool] | None] = ContextVar("llmos_collected_tools", default=None)


class FactStore(Protocol):
    """The semantic memory a tool may use (`llmos.memory.store`)."""

    async def remember(self, key: str, value: Any) -> None: ...
    async def recall(self, query: str, *, limit: int = 5) -> list[dict[str, Any]]: ...


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


class Middleware(Protocol):
    """What stands around every tool call: it may refuse the call, record it, or answer in its place.

    `proceed` makes the call and never raises for a failure of the tool: that is a result with `is_error`.

    Raises:
        LLMOSError: the call is not made; the learner sees the sentence as an error of the tool.
    """

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult: ...


@runtime_checkable
class Foresees(Protocol):
    """Middleware that can judge a call before its turn, so that a replay is refused before its first effect."""

    async def foresee(self, call: ToolCall, /) -> None:
        """Judge a call that will be made.

        Raises:
            LLMOSError: it will be refused.
        """


class Gate(Protocol):
    """Rules about paths and hosts, asked while a tool works."""

    def opens(self, path: Path, *, write: bool) -> bool | None:
        """Whether a resolved path is open (True) or closed (False) to the call under way; None: no rule says."""

    def reaches(self, url: str) -> bool:
        """Whether the call under way may read from a URL that it was redirected to."""

    def closed(self, tool: str) -> tuple[str, ...]:
        """Regular expressions of the paths (from the root) that a tool which opens files by itself must leave alone."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The step of a trace that a call comes from; `pattern` are its arguments as the trace has them, slots unfilled.

    `hidden` are arguments that hold a secret.
    """

    trace_id: str
    step_id: str
    pattern: str
    hidden: frozenset[str] = frozenset()


class Secrets(Protocol):
    """Puts secrets into a call and takes them out of what it gives; everything around the call sees marks only."""

    def revealed(self, value: Any, /) -> Any: ...
    def hidden(self, value: Any, /) -> Any: ...


class Thinker(Protocol):
    """One metered, bounded model call; returns the text and charges the ledger."""

    async def __call__(self, prompt: str, *, max_tokens: int, model: str | None) -> str: ...


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a running tool may touch: the workspace it is confined to and the services of the process.

    `denied` are places inside the workspace that stay closed (the home's own memory), `sealed` those that may be
    read but not written (settings and plugins: what runs goals is not changed by them). `middleware` stands
    around every call, the first outermost; `step` is the number of the call in its run, from 0, where that is known.
    `sandbox` confines child processes; None: the caller takes them as they are. `gate` knows the rules about paths,
    `origin` which step is replayed. With `secrets`, arguments hold marks until the call itself.
    """

    workspace: Path
    run_id: str = ""
    facts: FactStore | None = None
    think: Thinker | None = None
    denied: tuple[Path, ...] = ()
    sealed: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    middleware: tuple[Middleware, ...] = ()
    step: int | None = None
    sandbox: Sandbox | None = None
    gate: Gate | None = None
    origin: Origin | None = None
    secrets: Secrets | None = None

    def revealed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments with secrets in the place of their marks.

        Raises:
            LLMOSError: a mark names a secret that is not allowed, or not set.
        """
        return dict(arguments) if self.secrets is None else dict(self.secrets.revealed(dict(arguments)))

    def hidden(self, value: Any) -> Any:
        """What a tool gave, with marks in the place of secrets."""
        return value if self.secrets is None else self.secrets.hidden(value)

    def resolve(self, path: str, *, write: bool = False) -> Path:
        """An absolute path inside the workspace (relative ones count from it), to be read or, with `write`, changed.

        Raises:
            NotPermittedError: outside the workspace, symlinks followed, or in a place closed to this use.
            InputError: it can't be a path at all.
        """
        root = self.workspace.resolve()
        try:
            at_home = path == "~" or path.startswith("~/")  # `~name` is a file name as good as any
            resolved = (root / (Path(path).expanduser() if at_home else path)).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{path[:200]!r} can't be used as a path: {error}.") from None
        said = self.gate.opens(resolved, write=write) if self.gate is not None else None
        if said is False:
            raise NotPermittedError(f"{path!r} is closed by a rule of llmos.yaml; `permissions show` lists them.")
        if not said and resolved != root and root not in resolved.parents:
            raise NotPermittedError(
                f"{path!r} is outside the workspace {root}; run with --workspace DIR to work elsewhere."
            )
        for closed in (*self.denied, *(self.sealed if write else ())):
            if resolved == closed or closed in resolved.parents:
                raise NotPermittedError(f"{path!r} is in {closed}, which belongs to LLM OS itself; use another folder.")
        return resolved

    def is_open(self, path: Path) -> bool:
        """Whether something found below a folder may be read."""
        return path not in self.denied and (self.gate is None or self.gate.opens(path, write=False) is not False)

    def relative(self, path: Path) -> str:
        """A path as the user would write it: relative to the workspace where possible, with slashes."""
        root = self.workspace.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


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
    def phrases(self) -> frozenset[str]:
        """The parameters that take any text: neither a path, an address or a date, nor one of listed values."""
        properties = self.schema.get("properties", {})
        return frozenset(
            name
            for name, schema in properties.items()
            if schema.get("type") == "string" and not {"format", "pattern", "const"} & schema.keys()
            if self.values_of(name) is None
        )

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


def llm_tool(
    name: str,
    description: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    schema: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    idempotent: bool = False,
    open_world: bool | None = None,
    effect: Effect | str | None = None,
    code: tuple[str, ...] = (),
    payload: tuple[str, ...] = (),
    values: Callable[[str], Iterable[str] | None] | None = None,
    writes: Writes | None = None,
    classify: Classify | None = None,
    paths: Touching = (),
    hosts: Touching = (),
    reads: Reads | None = None,
    valid_for_s: float | None = None,
    outside: Outside = None,
    version: str | None = None,
) -> Callable[[F], F]:
    """Mark an async (or plain) function as a tool.

    `parameters` maps names to Python types (`{"shots": int}`); those with a default (in `defaults` or the function's
    signature) are optional. A full JSON schema object may stand instead, here or as `schema`. The function takes the
    parameters by name, or one dict called `args`; a parameter `ctx` receives the ToolContext. A plain function runs in
    a thread, so that it may block. `values(parameter)` may list what a parameter can be at the moment (None: anything);
    a goal that asks for something else is not followed. `writes(ctx, arguments)` names the files that a call will
    change. `classify(ctx, arguments)` says what one call may do, where calls differ; `paths` and `hosts` which
    arguments name files and URLs: their names, a mapping of names to what is done (`{"source": "read"}`), or a
    function. `reads(ctx, arguments)` says what its outcome depends on; what a tool reads elsewhere is taken to stay as
    it is for `valid_for_s` seconds. `outside` says whether what it gives may be text that somebody else wrote (by
    default of whatever reads, or is open to the world). Without `version` the tool's source is its version.

    Raises:
        PluginError: the name, the schema or the function's signature can't be used.
    """

    def mark(function: F) -> F:
        tool = build_tool(
            function,
            name=name,
            description=description,
            schema=_object_schema(name, function, parameters, schema, defaults),
            effect=Effect(effect)
            if effect is not None
            else effect_of(read_only=read_only, destructive=destructive, open_world=open_world),
            defaults=dict(defaults or {}),
            idempotent=idempotent,
            open_world=open_world is not False,
            code=code,
            payload=payload,
            values=values,
            writes=writes,
            reads=reads,
            valid_for_s=valid_for_s,
            version=version,
        )
        tool = replace(tool, classify=classify, paths=paths, hosts=hosts, outside=outside)
        setattr(function, MARK, tool)
        if (collected := _collected.get()) is not None:
            collected.append(tool)
        return function

    return mark


@contextmanager
def collecting() -> Iterator[list[Tool]]:
    """Gather every tool marked inside the block, in order (what a plugin file defines while it is loaded)."""
    tools: list[Tool] = []
    token = _collected.set(tools)
    try:
        yield tools
    finally:
        _collected.reset(token)


def tool_of(item: Any) -> Tool:
    """The Tool that a decorated function carries, or the Tool itself.

    Raises:
        PluginError: it is neither.
    """
    tool = item if isinstance(item, Tool) else getattr(item, MARK, None)
    if not isinstance(tool, Tool):
        raise PluginError(f"{item!r} is no tool: decorate the function with @llm_tool(name, description, parameters)")
    return tool


def build_tool(
    function: Callable[..., Any],
    *,
    name: str,
    description: str,
    schema: dict[str, Any],
    effect: Effect,
    defaults: dict[str, Any],
    idempotent: bool,
    open_world: bool,
    code: tuple[str, ...],
    payload: tuple[str, ...],
    values: Callable[[str], Iterable[str] | None] | None,
    version: str | None,
    writes: Writes | None = None,
    reads: Reads | None = None,
    valid_for_s: float | None = None,
) -> Tool:
    """Wrap a function as a Tool and check that its signature takes what the schema promises."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(f"tool name {name!r} must be 1-48 letters, digits, _ or -", line=_line(function))
    if not isinstance(description, str) or not description.strip():
        raise PluginError(f"tool {name!r} has no description; say what it does", line=_line(function))
    call = _adapter(function, name, schema, defaults)
    return Tool(
        name=name,
        description=description,
        schema=schema,
        function=call,
        effect=effect,
        idempotent=idempotent,
        open_world=open_world,
        code_params=code,
        payload_params=payload,
        values=values,
        writes=writes,
        reads=reads,
        valid_for_s=_seconds(name, valid_for_s, function),
        takes_ctx=_takes_ctx(function, schema),
        version=version or fingerprint(function, schema),
        source=inspect.getsourcefile(inspect.unwrap(function)) or "",
        line=_line(function),
    )


def _seconds(name: str, valid_for_s: Any, function: Callable[..., Any]) -> float | None:
    if valid_for_s is None:
        return None
    if isinstance(valid_for_s, int | float) and not isinstance(valid_for_s, bool) and 0 < valid_for_s < math.inf:
        return float(valid_for_s)
    raise PluginError(f"tool {name!r}: valid_for_s must be a number of seconds above 0", line=_line(function))


def _adapter(
    function: Callable[..., Any], name: str, schema: dict[str, Any], defaults: dict[str, Any]
) -> Callable[..., Awaitable[Any]]:
    properties = set(schema.get("properties", {}))
    signature = inspect.signature(function).parameters
    takes_ctx = _takes_ctx(function, schema)
    as_dict = set(signature) - {"ctx"} == {"args"} and "args" not in properties
    if not as_dict:
        _check_signature(function, name, properties, schema, takes_ctx)

    async def call(ctx: ToolContext, /, **arguments: Any) -> Any:
        extra = {"ctx": ctx} if takes_ctx else {}
        arguments = {**defaults, **arguments}
        named = {"args": arguments, **extra} if as_dict else {**arguments, **extra}
        if inspect.iscoroutinefunction(inspect.unwrap(function)):
            return await function(**named)
        result = await asyncio.to_thread(function, **named)
        return await result if inspect.isawaitable(result) else result

    return call


def _takes_ctx(function: Callable[..., Any], schema: Mapping[str, Any]) -> bool:
    return "ctx" in inspect.signature(function).parameters and "ctx" not in schema.get("properties", {})


def _check_signature(
    function: Callable[..., Any], name: str, properties: set[str], schema: dict[str, Any], takes_ctx: bool
) -> None:
    signature = inspect.signature(function).parameters
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in signature.values())
    accepted = {n for n, p in signature.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    missing = properties - accepted if not any_keyword else set()
    demanded = {
        n
        for n, p in signature.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY)
    }
    unknown = demanded - properties - ({"ctx"} if takes_ctx else set())
    if missing or unknown:
        wrong = [f"it does not take {n!r}" for n in sorted(missing)]
        wrong += [f"it needs {n!r}, which the schema does not have" for n in sorted(unknown)]
        raise PluginError(
            f"tool {name!r}: the function's signature does not fit: {'; '.join(wrong)}", line=_line(function)
        )


def _line(function: Callable[..., Any]) -> int | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_firstlineno if code is not None else None


def _object_schema(
    name: str,
    function: Callable[..., Any],
    parameters: Mapping[str, Any] | None,
    schema: Mapping[str, Any] | None,
    defaults: Mapping[str, Any] | None,
) -> dict[str, Any]:
    if schema is None and parameters is not None and _is_schema(parameters):
        schema = parameters
    if schema is not None:
        if schema.get("type") != "object" or not isinstance(schema.get("properties", {}), Mapping):
            raise PluginError(f"tool {name!r}: the schema must be a JSON schema of type object", line=_line(function))
        return dict(schema)
    properties: dict[str, Any] = {}
    required: list[str] = []
    signature = inspect.signature(function).parameters
    for parameter, annotation in (parameters or {}).items():
        properties[parameter] = _type_schema(name, parameter, annotation, function)
        default = signature[parameter].default if parameter in signature else inspect.Parameter.empty
        default = (defaults or {}).get(parameter, default)
        if default is inspect.Parameter.empty:
            required.append(parameter)
        elif isinstance(default, str | int | float):
            properties[parameter] = {"default": default, **properties[parameter]}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _is_schema(parameters: Mapping[str, Any]) -> bool:
    return parameters.get("type") == "object" and isinstance(parameters.get("properties"), Mapping)


_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}


def _type_schema(tool: str, parameter: str, annotation: Any, function: Callable[..., Any]) -> dict[str, Any]:
    if isinstance(annotation, Mapping):
        return dict(annotation)
    if annotation is Any:
        return {}
    if isinstance(annotation, type) and annotation in _SIMPLE:
        return {"type": _SIMPLE[annotation]}
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is list:
        return {"type": "array", "items": _type_schema(tool, parameter, args[0], function)}
    if origin is dict:
        return {"type": "object"}
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin in (Union, types.UnionType):
        choices = [_type_schema(tool, parameter, arg, function) for arg in args if arg is not type(None)]
        return {"anyOf": choices + ([{"type": "null"}] if type(None) in args else [])}
    raise PluginError(
        f"tool {tool!r}: {parameter!r} has no JSON type: {annotation!r}; "
        "use str, int, float, bool, list, dict or a JSON schema",
        line=_line(function),
    )
