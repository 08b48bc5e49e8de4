"""Conditions of guards and filters: asked of a scope, and written for people."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from llmos.trace.json_values import json_type
from llmos.trace.program import Condition, ConditionKind
from llmos.trace.values import Scope, UnboundError, evaluate, unparse

_PLAIN = re.compile(r"(?!-)[A-Za-z0-9_./-]+")


def nothing_exists(path: str) -> bool:
    """The file system of a pure evaluation: it can't be asked."""
    raise UnboundError(f"whether {path!r} exists is not known here")


def holds(condition: Condition, scope: Scope, exists: Callable[[str], bool] = nothing_exists) -> bool:
    """Whether a condition holds in a scope.

    Raises:
        UnboundError: a reference resolves to nothing, or the value is of a kind that the question does not fit.
    """
    value = evaluate(condition.value, scope)
    match condition.kind:
        case ConditionKind.EXISTS | ConditionKind.MISSING:
            if not isinstance(value, str) or not value:
                raise UnboundError(f"{value!r} is no path")
            return exists(value) is (condition.kind is ConditionKind.EXISTS)
        case ConditionKind.EMPTY | ConditionKind.NOT_EMPTY:
            if value is not None and not isinstance(value, str | list | dict):
                raise UnboundError(f"{value!r} can't be empty or not")
            return (not value) is (condition.kind is ConditionKind.EMPTY)
        case ConditionKind.EQUALS | ConditionKind.DIFFERS:
            return same(value, _expected(condition, scope)) is (condition.kind is ConditionKind.EQUALS)
        case ConditionKind.PLAIN:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number or (isinstance(value, str) and _PLAIN.fullmatch(value) is not None)
        case ConditionKind.TYPE:
            return same(json_type(value), _expected(condition, scope))
        case ConditionKind.CONTAINS:
            return _contains(value, _expected(condition, scope))


def all_hold(conditions: Iterable[Condition], scope: Scope, exists: Callable[[str], bool] = nothing_exists) -> bool:
    """Whether every condition holds; the first that does not spares the rest."""
    return all(holds(condition, scope, exists) for condition in conditions)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal; a truth value is no number."""
    if type(one) is type(other) and isinstance(one, str | bool | int | float):
        return bool(one == other)
    return _canonical(one) == _canonical(other)


def _canonical(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _contains(value: Any, expected: Any) -> bool:
    if isinstance(value, str) and isinstance(expected, str):
        return expected in value
    if isinstance(value, list):
        return any(same(entry, expected) for entry in value)
    raise UnboundError(f"{value!r} can't contain {expected!r}")


def _expected(condition: Condition, scope: Scope) -> Any:
    if condition.expected is None:
        raise UnboundError(f"{condition.kind} needs a second value")
    return evaluate(condition.expected, scope)


def to_pair(condition: Condition) -> dict[str, Any]:
    """A condition as a trace file has it: `exists: VALUE`, `equals: [VALUE, EXPECTED]`."""
    value = unparse(condition.value)
    return {str(condition.kind): value if condition.expected is None else [value, unparse(condition.expected)]}


_PHRASES = {
    ConditionKind.EXISTS: "{} exists",
    ConditionKind.MISSING: "{} does not exist",
    ConditionKind.EMPTY: "{} is empty",
    ConditionKind.NOT_EMPTY: "{} is not empty",
    ConditionKind.PLAIN: "{} has only plain characters",
    ConditionKind.TYPE: "{} is of type {}",
    ConditionKind.EQUALS: "{} is {}",
    ConditionKind.DIFFERS: "{} is not {}",
    ConditionKind.CONTAINS: "{} contains {}",
}


def phrase(condition: Condition) -> str:
    """A condition as a sentence would say it."""
    return _PHRASES[condition.kind].format(*(_said(unparse(expr)) for expr in condition.exprs))


def _said(value: Any) -> str:
    plain = isinstance(value, str) and value.startswith("${{")
    return value if plain else json.dumps(value, ensure_ascii=False)


__all__ = ["all_hold", "holds", "nothing_exists", "phrase", "same", "to_pair"]
