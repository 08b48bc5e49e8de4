"""What a tool call touches: the paths and hosts in its arguments, each with what is done to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from llmos.trace.program import Effect

if TYPE_CHECKING:
    from llmos.plugins.context import ToolContext
    from llmos.plugins.tool import Tool


class Kind(StrEnum):
    """What a rule may name."""

    PATH = "path"
    HOST = "host"


@dataclass(frozen=True, kw_only=True)
class Touch:
    """One path or URL as it stands in the arguments; `recursive`: and what is below it, unseen by the context."""

    kind: Kind
    value: str
    effect: Effect
    recursive: bool = False


class TouchHook(Protocol):
    """Says which paths (or URLs) one call touches; an error counts as UNKNOWN."""

    def __call__(self, ctx: ToolContext, arguments: Mapping[str, Any], /) -> Iterable[Touch]: ...


Touching: TypeAlias = TouchHook | Mapping[str, Effect | str] | tuple[str, ...]
"""A hook, or the names of the parameters: with what is done to each, or as the call's own effect says."""

_FORMATS = {"path": Kind.PATH, "file-path": Kind.PATH, "uri": Kind.HOST, "url": Kind.HOST, "hostname": Kind.HOST}


_SAME_VALUE = frozenset({"anyOf", "oneOf", "allOf", "$ref"})


def touches(tool: Tool, ctx: ToolContext, arguments: Mapping[str, Any], effect: Effect) -> tuple[Touch, ...]:
    """Everything a call touches, as far as its tool says so.

    Raises:
        Exception: whatever a plugin's hook raises.
    """
    found = [*_by_schema(tool.schema, arguments, effect)] if tool.has_places else []
    for kind, said in ((Kind.PATH, tool.paths), (Kind.HOST, tool.hosts)):
        if callable(said):
            found += said(ctx, arguments)
        else:
            found += _by_name(kind, said, arguments, effect)
    return tuple(dict.fromkeys(found))


def has_places(schema: Mapping[str, Any]) -> bool:
    """Whether a schema says anywhere that a text is a path or names a host."""
    waiting: list[Any] = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if str(one.get("format", "")) in _FORMATS:
                return True
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
    return False


def _by_name(
    kind: Kind, named: Mapping[str, Effect | str] | tuple[str, ...], arguments: Mapping[str, Any], effect: Effect
) -> Iterator[Touch]:
    uses = named if isinstance(named, Mapping) else dict.fromkeys(named, effect)
    for name, use in uses.items():
        for text in _texts(arguments.get(name)):
            yield Touch(kind=kind, value=text, effect=Effect(use))


def _by_schema(schema: Mapping[str, Any], value: Any, effect: Effect, whole: Any = None) -> Iterator[Touch]:
    """The texts whose schema has one of the formats, also inside lists, objects, choices and references to `whole`."""
    whole = schema if whole is None else whole
    for other in _others(schema, whole):
        yield from _by_schema(other, value, effect, whole)
    kind = _FORMATS.get(str(schema.get("format", "")))
    if kind is not None:
        yield from (Touch(kind=kind, value=text, effect=effect) for text in _texts(value))
    if isinstance(value, Mapping):
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        for name in properties.keys() & value.keys():
            if isinstance(properties[name], Mapping):
                yield from _by_schema(properties[name], value[name], effect, whole)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for item in value:
            yield from _by_schema(schema["items"], item, effect, whole)


def _others(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas that hold for the same value: those of a choice, and what is referred to, each one once."""
    waiting, seen = [schema], [id(schema)]
    while waiting:
        one = waiting.pop()
        found = [other for key in ("anyOf", "oneOf", "allOf") for other in _list(one.get(key))]
        found += [_referred(whole, one.get("$ref"))]
        for other in found:
            if isinstance(other, Mapping) and id(other) not in seen:
                seen.append(id(other))
                waiting.append(other)
                yield {key: part for key, part in other.items() if key not in _SAME_VALUE}


def _referred(whole: Mapping[str, Any], ref: Any) -> Any:
    """What a reference such as `#/$defs/place` leads to."""
    if not isinstance(ref, str) or not ref.startswith("#/"):
        return None
    found: Any = whole
    for part in ref[2:].split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
