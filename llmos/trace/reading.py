"""The fields of a trace file, each read with a sentence for what it must not be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from llmos.errors import TraceFormatError
from llmos.trace.lex import template_parts

S = TypeVar("S", bound=StrEnum)
_MAX_VERSION = 2**31 - 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def mapping(data: Any, where: str) -> dict[str, Any]:
    """A mapping with text or other keys."""
    if not isinstance(data, Mapping):
        raise TraceFormatError(f"{where} must be a mapping, not {type(data).__name__}")
    return dict(data)


def entries(data: Any, where: str, *, empty: bool = False) -> list[Any]:
    """A list, not empty unless it may be."""
    if not isinstance(data, list) or not (data or empty):
        raise TraceFormatError(f"{where} must be a list{'' if empty else ' with at least one entry'}")
    return data


def only(data: Mapping[str, Any], allowed: set[str], where: str) -> None:
    """Refuse keys that nobody knows."""
    if unknown := sorted(str(key) for key in data if key not in allowed):
        raise TraceFormatError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(allowed))}")


def flag(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise TraceFormatError(f"{where} must be true or false, not {value!r}")
    return value


def text(data: Mapping[str, Any], key: str, where: str) -> str:
    """A text that is not blank, under a key."""
    value = data.get(key)
    if not isinstance(value, str) or not value.strip():
        raise TraceFormatError(f"{where}: {key} must be a text")
    return value


def optional_text(value: Any, where: str) -> str | None:
    """A text, or nothing."""
    if value is not None and not isinstance(value, str):
        raise TraceFormatError(f"{where} must be a text, not {type(value).__name__}")
    return value


def goal_template(goal: Any) -> str:
    """A template of goals."""
    if not isinstance(goal, str) or not goal.strip():
        raise TraceFormatError("each goal template must be a text")
    template_parts(goal)
    return goal


def member(kind: type[S], value: Any, where: str) -> S:
    """One of the members of an enumeration."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(member) for member in kind)
        raise TraceFormatError(f"{where} {value!r} is not known; known: {known}") from None


def trace_id(data: Mapping[str, Any]) -> str:
    """The id of a trace."""
    value = text(data, "id", "the trace")
    if not _ID.fullmatch(value):
        raise TraceFormatError(
            f"id {value[:90]!r} must be 1 to 80 letters, digits, `.`, `_` or `-`, a letter or digit first"
        )
    return value


def version_number(value: Any) -> int:
    """The number of a version."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_VERSION:
        raise TraceFormatError(f"version must be a whole number from 1 to {_MAX_VERSION}, not {value!r}")
    return value


def dollars(value: Any) -> float:
    """An amount in dollars."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise TraceFormatError(f"cost_usd must be dollars, not {value!r}")
    return float(value)


def time_of(value: Any) -> datetime | None:
    """An ISO 8601 time, or nothing."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise TraceFormatError(f"created_at {value!r} is not an ISO 8601 time") from None
