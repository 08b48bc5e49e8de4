"""The small, closed set of pure functions a provenance expression may apply to a value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any


def _with_suffix(path: str, suffix: str) -> str:
    return str(PurePosixPath(path).with_suffix(suffix))


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _number(value: str | float) -> float | int:
    if isinstance(value, int | float):
        return value
    cleaned = value.replace(",", "").replace("_", "")
    number = float(cleaned)
    return int(number) if number.is_integer() and "." not in cleaned and "e" not in cleaned.lower() else number


def _format(value: Any, spec: str) -> str:
    return format(_number(value), spec)


def _join(values: list[Any], separator: str = ", ") -> str:
    return separator.join(str(value) for value in values)


def _column(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def _lines(text: str) -> list[str]:
    return text.splitlines()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.2f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table(rows: list[dict[str, Any]], limit: int = 50) -> str:
    """Rows as aligned plain text, numbers to the right; at most `limit` rows."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    cells = [[_cell(row.get(name)) for name in names] for row in rows[:limit]]
    right = [all(isinstance(row.get(n), int | float | None) for row in rows[:limit]) for n in names]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]

    def aligned(line: list[str]) -> str:
        pairs = zip(line, widths, right, strict=True)
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in pairs).rstrip()

    more = [f"… {len(rows) - limit} more"] if len(rows) > limit else []
    return "\n".join([aligned(names), "  ".join("-" * w for w in widths), *map(aligned, cells), *more])


TRANSFORMS: dict[str, Callable[..., Any]] = {
    # paths
    "name": lambda path: PurePosixPath(path).name,
    "stem": lambda path: PurePosixPath(path).stem,
    "suffix": lambda path: PurePosixPath(path).suffix,
    "parent": _parent,
    "with_suffix": _with_suffix,
    # text
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "strip": str.strip,
    "slug": _slug,
    "snake": lambda text: _slug(text).replace("-", "_"),
    "lines": _lines,
    # numbers
    "number": _number,
    "text": lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
    "format": _format,
    # lists and tables
    "count": len,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "join": _join,
    "column": _column,
    "table": table,
    "json": lambda value: json.dumps(value, ensure_ascii=False),
    "pretty": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
}
