"""Secrets in traces: named ones by reference, and a reason against a trace that would keep a credential."""

from __future__ import annotations

from typing import Any

from llmos.redaction import Credential, Redactor, marks_in
from llmos.redaction.marks import MARK
from llmos.trace.codec import to_data
from llmos.trace.program import Trace
from llmos.trace.values import (
    Const,
    Expr,
    ListExpr,
    Opaque,
    Record,
    Ref,
    SecretRef,
    Text,
    mapped,
    references,
    text_of,
    unparse,
)


def with_secret_refs(expr: Expr) -> Expr:
    """An expression with references in the place of marks; what the model wrote itself keeps its marks."""
    return mapped(expr, _referring)


def _referring(leaf: Expr) -> Expr:
    match leaf:
        case Const(value=value):
            return _of_value(value) if _has_marks(value) else leaf
        case Text(parts=parts) if any(isinstance(part, str) and marks_in(part) for part in parts):
            split: list[str | Ref] = []
            for part in parts:
                split += _parts(part) if isinstance(part, str) else [part]
            return text_of(split)
        case _:
            return leaf


def _of_value(value: Any) -> Expr:
    if isinstance(value, str):
        parts = _parts(value)
        return parts[0] if len(parts) == 1 and isinstance(parts[0], SecretRef) else _text(parts, value)
    if isinstance(value, list):
        return ListExpr(items=tuple(_of_value(item) for item in value))
    if isinstance(value, dict):
        return Record(fields=tuple((key, _of_value(item)) for key, item in value.items()))
    return Const(value=value)


def _text(parts: list[str | Ref], value: str) -> Expr:
    return text_of(parts) if any(isinstance(part, SecretRef) for part in parts) else Const(value=value)


def _parts(text: str) -> list[str | Ref]:
    """A text divided at the marks of whole plain values; those of encodings and parts stay text."""
    parts: list[str | Ref] = []
    position = 0
    for found in MARK.finditer(text):
        if found["name"] and not (found["quoted"] or found["form"] or found["part"]):
            parts += [text[position : found.start()], SecretRef(name=found["name"])]
            position = found.end()
    return [part for part in (*parts, text[position:]) if part != ""]


def _has_marks(value: Any) -> bool:
    if isinstance(value, str):
        return bool(marks_in(value))
    if isinstance(value, list):
        return any(map(_has_marks, value))
    return isinstance(value, dict) and any(map(_has_marks, value.values()))


def secrets_of(expr: Expr) -> set[str]:
    """The names of the secrets that an expression needs, whether by reference or by mark."""
    names = {ref.name for ref in references(expr) if isinstance(ref, SecretRef)}

    def seen(leaf: Expr) -> Expr:
        match leaf:
            case Const(value=value) | Opaque(value=value):
                names.update(_names(value))
            case Text(parts=parts):
                names.update(name for part in parts if isinstance(part, str) for name in marks_in(part))
        return leaf

    mapped(expr, seen)
    return names


def _names(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(marks_in(value))
    inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return {name for one in inner for name in _names(one)}


def kept_credential(trace: Trace, redactor: Redactor) -> str:
    """Why a trace must not be stored: it would keep a credential as it is; '' if it keeps none."""
    for goal in trace.goals:
        for found in redactor.credentials(goal):
            return f"the goal itself holds {found.kind}, which no trace may keep: {put_away(found)}"
    for step in trace.calls:
        for found in redactor.credentials({name: unparse(expr) for name, expr in step.args.items()}):
            where = f"{found.path[0]!r} of {step.tool}" if found.path else step.tool
            return f"{where} would hold {found.kind}, which no trace may keep: {put_away(found)}"
    said = [{slot.name: value} for slot in trace.slots for value in (*slot.examples, *(slot.values or ()))]
    rest = {key: value for key, value in to_data(trace).items() if key not in ("id", "run_id")}
    for found in redactor.credentials([said, rest]):
        return f"it would keep {found.kind}: {put_away(found)}"
    return ""


def put_away(found: Credential) -> str:
    """What a person does with a credential instead."""
    return (
        f"put it in the environment as {found.variable}, name that under `secrets` in llmos.yaml, and say "
        f"«secret:{found.variable}» in its place"
    )
