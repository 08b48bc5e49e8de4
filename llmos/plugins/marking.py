"""Marking a function as a tool: `llm_tool` checks its name, parameters and signature, and wraps it."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeVar, Union, get_args, get_origin

from llmos.errors import PluginError
from llmos.plugins.context import ToolContext
from llmos.plugins.resources import in_thread
from llmos.plugins.schemas import sound
from llmos.plugins.source import fingerprint
from llmos.plugins.tool import Classify, Outside, Reads, Tool, Writes, effect_of
from llmos.plugins.touching import Touching
from llmos.trace.program import Effect

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__llmos_tool__"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")
_collected: ContextVar[list[Tool] | None] = ContextVar("llmos_collected_tools", default=None)


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
            schema=_sound(name, function, _object_schema(name, function, parameters, schema, defaults)),
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
        result = await in_thread(function, **named)
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


def _sound(name: str, function: Callable[..., Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return sound(name, schema)
    except PluginError as error:
        error.line = _line(function)
        raise


def _object_schema(
    name: str,
    function: Callable[..., Any],
    parameters: Mapping[str, Any] | None,
    schema: Mapping[str, Any] | None,
    defaults: Mapping[str, Any] | None,
) -> Mapping[str, Any]:
    if schema is None and parameters is not None and _is_schema(parameters):
        schema = parameters
    if schema is not None:
        return schema
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
