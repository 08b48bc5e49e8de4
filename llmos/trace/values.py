"""Provenance expressions: where the value of an argument comes from, and how to compute it again.

In text form an expression is a JSON value whose strings may hold `${{ reference | transform(arg) }}`.
A string that is one such hole keeps the type of its value; otherwise the holes are pasted into the text.
References: a slot name, `steps.ID.path[0].to.value`, `env.NAME`, `secret.NAME`, and inside the loop LOOP its current
entry `each.LOOP.path` and the number of the iteration `index.LOOP`. `$${{` is a literal `${{`,
and so is a JSON string in a hole (`${{ "$" }}`). An argument the model wrote itself is `{$opaque: value, for: text}`,
with what it was written for; an object with these keys, or `$opaque` alone, is written with `$$opaque`.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llmos.errors import TraceFormatError
from llmos.redaction import mark
from llmos.trace.transforms import TRANSFORMS

ValuePath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Transform:
    """One call of the closed set in `llmos.trace.transforms`."""

    name: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Const:
    """The same value at every replay."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class SlotRef:
    """The value a slot was bound to."""

    name: str
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OutputRef:
    """A value inside an earlier step's output of this same run."""

    step: str
    path: ValuePath = ()
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EnvRef:
    """A value of the surroundings: today, now, cwd, user, last_result, last_result_name."""

    name: str
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ItemRef:
    """A value inside the current entry of an enclosing loop."""

    loop: str
    path: ValuePath = ()
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True, kw_only=True)
class IndexRef:
    """The number of the current iteration of an enclosing loop, from 0."""

    loop: str
    transforms: tuple[Transform, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SecretRef:
    """A secret, by name only; looked up at replay, never stored."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Opaque:
    """A value the model wrote itself; it stands only while everything it could depend on is unchanged.

    `purpose` says what it was written for; two of one value are equal whatever that was.
    """

    value: Any
    purpose: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class Text:
    """Constant pieces and references pasted into one string."""

    parts: tuple[str | Ref, ...]


@dataclass(frozen=True, kw_only=True)
class ListExpr:
    """A JSON array of expressions."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A JSON object of expressions."""

    fields: tuple[tuple[str, Expr], ...]


ValueRef: TypeAlias = SlotRef | OutputRef | EnvRef | ItemRef | IndexRef
Ref: TypeAlias = ValueRef | SecretRef
Leaf: TypeAlias = Const | Ref | Opaque | Text
Expr: TypeAlias = Leaf | ListExpr | Record


class UnboundError(LookupError):
    """A reference that nothing in the scope answers; the message names it."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What the references of one replay resolve to.

    `outputs` maps step ids to their outputs, `items` and `indexes` the ids of the loops that are under way to the
    current entry and its number. A secret is its mark, which only a tool's call turns into the value; `secret` may
    refuse one.
    """

    slots: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    items: Mapping[str, Any] = field(default_factory=dict)
    indexes: Mapping[str, int] = field(default_factory=dict)
    secret: Callable[[str], str] = mark


def evaluate(expr: Expr, scope: Scope) -> Any:
    """The value of an expression in a scope.

    Raises:
        UnboundError: a reference resolves to nothing, or a transform does not apply to the value.
    """
    match expr:
        case Const(value=value) | Opaque(value=value):
            return copy.deepcopy(value)
        case Text(parts=parts):
            return "".join(part if isinstance(part, str) else as_text(evaluate(part, scope)) for part in parts)
        case ListExpr(items=items):
            return [evaluate(item, scope) for item in items]
        case Record(fields=fields):
            return {key: evaluate(value, scope) for key, value in fields}
        case SecretRef(name=name):
            return scope.secret(name)
        case SlotRef() | OutputRef() | EnvRef() | ItemRef() | IndexRef():
            value = _transformed(expr, _base_value(expr, scope))
            return copy.deepcopy(value) if isinstance(value, dict | list) else value


def _base_value(ref: ValueRef, scope: Scope) -> Any:
    match ref:
        case SlotRef(name=name):
            if name not in scope.slots:
                raise UnboundError(f"slot {name!r} is not bound")
            return scope.slots[name]
        case EnvRef(name=name):
            if scope.env.get(name) is None:
                raise UnboundError(f"env.{name} has no value here")
            return scope.env[name]
        case OutputRef(step=step, path=path):
            if step not in scope.outputs:
                raise UnboundError(f"step {step!r} has not run")
            output = scope.outputs[step]
            if path == ("text",) and isinstance(output, str):  # what most outputs call what they say
                return output
            return value_at(output, path, root=f"steps.{step}")
        case ItemRef(loop=loop, path=path):
            if loop not in scope.items:
                raise UnboundError(f"the loop {loop!r} is not under way")
            return value_at(scope.items[loop], path, root=f"each.{loop}")
        case IndexRef(loop=loop):
            if loop not in scope.indexes:
                raise UnboundError(f"the loop {loop!r} is not under way")
            return scope.indexes[loop]


def value_at(value: Any, path: ValuePath, *, root: str = "value") -> Any:
    """Walk a path into a JSON value; UnboundError names the first missing part."""
    here = root
    for part in path:
        here += f"[{part}]" if isinstance(part, int) else f".{part}"
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            raise UnboundError(f"{here} does not exist") from None
    return value


def _transformed(ref: ValueRef, value: Any) -> Any:
    for transform in ref.transforms:
        try:
            value = TRANSFORMS[transform.name](value, *transform.args)
        except (TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError) as error:
            raise UnboundError(f"{transform.name} does not apply to {value!r}: {error}") from error
    return value


def as_text(value: Any) -> str:
    """A value pasted into text: strings as they are, whole floats without a tail, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def leaves_of(expr: Expr) -> Iterator[Leaf]:
    """What the lists and records of an expression hold in the end, left to right."""
    match expr:
        case ListExpr(items=items):
            for item in items:
                yield from leaves_of(item)
        case Record(fields=fields):
            for _, item in fields:
                yield from leaves_of(item)
        case _:
            yield expr


def mapped(expr: Expr, change: Callable[[Leaf], Expr]) -> Expr:
    """An expression with each of its leaves changed."""
    match expr:
        case ListExpr(items=items):
            return ListExpr(items=tuple(mapped(item, change) for item in items))
        case Record(fields=fields):
            return Record(fields=tuple((key, mapped(item, change)) for key, item in fields))
        case _:
            return change(expr)


def references(expr: Expr) -> Iterator[Ref]:
    """Every reference in an expression, left to right."""
    for leaf in leaves_of(expr):
        if isinstance(leaf, Text):
            yield from (part for part in leaf.parts if not isinstance(part, str))
        elif not isinstance(leaf, Const | Opaque):
            yield leaf


def with_references(expr: Expr, change: Callable[[Ref], Ref]) -> Expr:
    """An expression with each of its references changed."""

    def changed(leaf: Leaf) -> Expr:
        if isinstance(leaf, Text):
            return Text(parts=tuple(part if isinstance(part, str) else change(part) for part in leaf.parts))
        return leaf if isinstance(leaf, Const | Opaque) else change(leaf)

    return mapped(expr, changed)


def has_opaque(expr: Expr) -> bool:
    """Whether any leaf was written by the model itself."""
    return any(isinstance(leaf, Opaque) for leaf in leaves_of(expr))


# --- text form -------------------------------------------------------------------------------------

_HOLE = re.compile(
    r"\$(?P<literal>\$+\{\{)"
    r"|\$\{\{(?P<hole>(?:[^\"}]|\"(?:[^\"\\]|\\.)*\"|\}(?!\}))*+)\}\}"
    r"|\$\{\{(?P<broken>[^\n]*?)\}\}",
    re.DOTALL,
)
_OPAQUE = re.compile(r"\$+opaque")
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_PATH_PART = re.compile(r"\.(" + _NAME + r')|\[(-?\d+)\]|\["((?:[^"\\]|\\.)*)"\]')
_TRANSFORM = re.compile(r"\s*\|\s*(" + _NAME + r")\s*(?:\(((?:[^()\"]|\"(?:[^\"\\]|\\.)*\")*)\))?")


def parse(data: Any) -> Expr:
    """Read the text form (JSON values with `${{ }}` holes) as an expression.

    Raises:
        TraceFormatError: an unreadable hole or an unknown transform.
    """
    if isinstance(data, str):
        return _parse_text(data)
    if isinstance(data, list):
        items = tuple(parse(item) for item in data)
        return _folded(ListExpr(items=items), items)
    if isinstance(data, dict):
        if "$opaque" in data and set(data) <= {"$opaque", "for"}:
            return Opaque(value=data["$opaque"], purpose=_purpose(data.get("for", "")))
        fields = tuple((_key(key, data), parse(value)) for key, value in data.items())
        return _folded(Record(fields=fields), tuple(value for _, value in fields))
    if data is not None and not isinstance(data, bool | int | float):
        raise TraceFormatError(f"{str(data)[:80]!r} is a {type(data).__name__}, not JSON; put it in quotes")
    if isinstance(data, float) and not math.isfinite(data):
        raise TraceFormatError(f"{data} is not a JSON number")
    return Const(value=data)


def _purpose(data: Any) -> str:
    if not isinstance(data, str):
        raise TraceFormatError(f"what a value was written `for` must be a text, not {data!r}")
    return data


def _key(key: Any, data: Mapping[Any, Any]) -> str:
    """A key as it was meant: `$$opaque`, alone in an object or beside `for`, is a literal `$opaque`."""
    if not isinstance(key, str):
        raise TraceFormatError(f"the key {key!r} must be a text; put it in quotes")
    return key[1:] if _OPAQUE.fullmatch(key) and _looks_opaque(data) else key


def _looks_opaque(data: Mapping[Any, Any]) -> bool:
    """Whether an object has the keys of an opaque value, however many dollars are in front."""
    return len(data) == 1 or (len(data) == 2 and "for" in data)


def _folded(expr: ListExpr | Record, children: tuple[Expr, ...]) -> Expr:
    if all(isinstance(child, Const) for child in children):
        return Const(value=evaluate(expr, Scope()))
    return expr


def _parse_text(text: str) -> Expr:
    parts: list[str | Ref] = []
    position = 0
    for found in _HOLE.finditer(text):
        if found.start() > position:
            parts.append(text[position : found.start()])
        parts.append(found["literal"] or _parse_hole((found["hole"] or found["broken"] or "").strip()))
        position = found.end()
    if position < len(text):
        parts.append(text[position:])
    if len(parts) == 1 and not isinstance(parts[0], str):
        return parts[0]
    if all(isinstance(part, str) for part in parts):
        return Const(value="".join(str(part) for part in parts))
    return text_of(parts)


def _parse_hole(source: str) -> str | Ref:
    """A reference, or a JSON string that stands for itself."""
    if not source.startswith('"'):
        return parse_reference(source)
    try:
        return str(json.loads(source))
    except json.JSONDecodeError:
        raise TraceFormatError(f"${{{{ {source} }}}} is no JSON string") from None


def text_of(parts: list[str | Ref] | tuple[str | Ref, ...]) -> Text:
    """A Text with neighbouring constants joined."""
    joined: list[str | Ref] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return Text(parts=tuple(joined))


def parse_reference(source: str) -> Ref:
    """Read the inside of a hole: `source | stem`, `steps.read.text`, `env.today`, `secret.TOKEN`."""
    head = re.match(_NAME, source)
    if head is None:
        raise TraceFormatError(
            f"${{{{ {source} }}}} is not a reference: start with a slot name, steps., each., index., env. or secret."
        )
    name, position = head.group(0), head.end()
    path: list[str | int] = []
    while part := _PATH_PART.match(source, position):
        key, index, quoted = part.groups()
        path.append(int(index) if index is not None else json.loads(f'"{quoted}"') if quoted is not None else key)
        position = part.end()
    transforms, position = _parse_transforms(source, position)
    if source[position:].strip():
        raise TraceFormatError(f"${{{{ {source} }}}}: can't read {source[position:].strip()!r}")
    return _build_reference(source, name, path, transforms)


def _parse_transforms(source: str, position: int) -> tuple[tuple[Transform, ...], int]:
    transforms: list[Transform] = []
    while found := _TRANSFORM.match(source, position):
        name, arguments = found.groups()
        if name not in TRANSFORMS:
            raise TraceFormatError(
                f"${{{{ {source} }}}}: unknown transform {name!r}; known: {', '.join(sorted(TRANSFORMS))}"
            )
        try:
            args = tuple(json.loads(f"[{arguments or ''}]"))
        except json.JSONDecodeError as error:
            raise TraceFormatError(f"${{{{ {source} }}}}: arguments of {name} must be JSON values") from error
        transforms.append(Transform(name=name, args=args))
        position = found.end()
    return tuple(transforms), position


def _build_reference(source: str, name: str, path: list[str | int], transforms: tuple[Transform, ...]) -> Ref:
    if name == "steps" and path and isinstance(path[0], str):
        return OutputRef(step=path[0], path=tuple(path[1:]), transforms=transforms)
    if name == "env" and len(path) == 1 and isinstance(path[0], str):
        return EnvRef(name=path[0], transforms=transforms)
    if name == "each" and path and isinstance(path[0], str):
        return ItemRef(loop=path[0], path=tuple(path[1:]), transforms=transforms)
    if name == "index" and len(path) == 1 and isinstance(path[0], str):
        return IndexRef(loop=path[0], transforms=transforms)
    if name == "secret" and len(path) == 1 and isinstance(path[0], str) and not transforms:
        return SecretRef(name=path[0])
    if path:
        raise TraceFormatError(f"${{{{ {source} }}}}: a slot has no parts; did you mean steps.{name}?")
    return SlotRef(name=name, transforms=transforms)


def unparse(expr: Expr) -> Any:
    """The text form of an expression; `parse` of it gives the expression back."""
    match expr:
        case Const(value=value):
            return _escaped(value)
        case Opaque(value=value, purpose=purpose):
            return {"$opaque": value, "for": purpose} if purpose else {"$opaque": value}
        case Text(parts=parts):
            return "".join(
                _escaped_part(part, parts[i + 1 :]) if isinstance(part, str) else _hole(part)
                for i, part in enumerate(parts)
            )
        case ListExpr(items=items):
            return [unparse(item) for item in items]
        case Record(fields=fields):
            return _escaped_key({key: unparse(value) for key, value in fields})
        case SlotRef() | OutputRef() | EnvRef() | SecretRef() | ItemRef() | IndexRef():
            return _hole(expr)


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"\$+\{\{", lambda found: "$" + found.group(0), value)
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return _escaped_key({key: _escaped(item) for key, item in value.items()})
    return value


def _escaped_key(data: dict[str, Any]) -> dict[str, Any]:
    if not _looks_opaque(data):
        return data
    return {f"${key}" if _OPAQUE.fullmatch(key) else key: item for key, item in data.items()}


def _escaped_part(part: str, following: tuple[str | Ref, ...]) -> str:
    """A constant piece; dollars before a hole stand in a hole of their own, or they would escape it."""
    dollars = len(part) - len(part.rstrip("$")) if following and not isinstance(following[0], str) else 0
    kept = str(_escaped(part[: len(part) - dollars]))
    return kept + ("${{ " + json.dumps("$" * dollars) + " }}" if dollars else "")


def _hole(ref: Ref) -> str:
    match ref:
        case SecretRef(name=name):
            inner = f"secret.{name}"
        case SlotRef(name=name, transforms=transforms):
            inner = name + _pipes(transforms)
        case EnvRef(name=name, transforms=transforms):
            inner = f"env.{name}" + _pipes(transforms)
        case OutputRef(step=step, path=path, transforms=transforms):
            inner = f"steps.{step}" + "".join(_path_part(part) for part in path) + _pipes(transforms)
        case ItemRef(loop=loop, path=path, transforms=transforms):
            inner = f"each.{loop}" + "".join(_path_part(part) for part in path) + _pipes(transforms)
        case IndexRef(loop=loop, transforms=transforms):
            inner = f"index.{loop}" + _pipes(transforms)
    return "${{ " + inner + " }}"


def _path_part(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if re.fullmatch(_NAME, part) else f"[{json.dumps(part)}]"


def _pipes(transforms: tuple[Transform, ...]) -> str:
    return "".join(
        f" | {t.name}" + (f"({', '.join(json.dumps(arg) for arg in t.args)})" if t.args else "") for t in transforms
    )
