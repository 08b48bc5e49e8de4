"""The small, closed set of pure functions a provenance expression may apply to a value."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from llmos.trace import wordforms as forms


def _with_suffix(path: str, suffix: str) -> str:
    return str(PurePosixPath(path).with_suffix(suffix))


def _parent(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _format(value: Any, spec: str) -> str:
    return format(forms.number(value), spec)


def _join(values: list[Any], separator: str = ", ") -> str:
    return separator.join(str(value) for value in values)


def _column(rows: list[dict[str, Any]], *names: str) -> list[Any]:
    for name in names:
        rows = [row[name] for row in rows]
    return rows


def _sentence(values: list[Any], last: str = " and ") -> str:
    """The entries of a list as a sentence says them: a, b and c."""
    texts = [str(value) for value in values]
    return last.join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def _bullets(values: list[Any], mark: str = "- ") -> str:
    return "\n".join(f"{mark}{value}" for value in values)


def _rows(rows: list[dict[str, Any]], template: str) -> str:
    """A line for each row: `{column}` stands for its value, `{column:,.2f}` for a number in that format."""
    return "\n".join(_row(row, template) for row in rows)


def _row(row: dict[str, Any], template: str) -> str:
    def shown(hole: re.Match[str]) -> str:
        value = row[hole[1]]
        if hole[2]:
            return _format(value, hole[2])
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    return _HOLE.sub(shown, template)


_HOLE = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")


def _shell(text: str) -> str:
    """One word of a shell command; what a program may take for an option raises."""
    if text.startswith("-") or not text.isprintable():
        raise ValueError("not safe in a command")
    if re.fullmatch(r"[\w@%+=:,./-]+", text, re.ASCII):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _sql(text: str) -> str:
    """One text of an SQL statement; what a pattern may read as a sign raises."""
    if not re.fullmatch(r"[\w ,'&/-]*", text):
        raise ValueError("has characters that SQL may read as a pattern")
    return "'" + text.replace("'", "''") + "'"


def _lines(text: str) -> list[str]:
    return text.splitlines()


def chain(value: Any, calls: str) -> Any:
    """A value through transforms written as `stem | date %Y-%m`: a name, and after a blank its one argument."""
    for call in calls.split(" | "):
        name, _, rest = call.partition(" ")
        if name == "agreed":
            raise ValueError("agreed does not stand inside itself")
        value = TRANSFORMS[name](value, *([argument(rest)] if rest else []))
    return value


def argument(text: str) -> Any:
    """The argument of a call in a chain: a JSON value, or else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def agreed(value: Any, *ways: str) -> Any:
    """What several ways of making a value all give; raises where they differ, for then none of them is proven."""
    made = [chain(value, way) for way in ways]
    if not made or any(type(one) is not type(made[0]) or one != made[0] for one in made):
        raise ValueError(f"{' and '.join(ways)} differ here, and the recording does not tell them apart")
    return made[0]


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
    "capital": forms.capital,
    "strip": str.strip,
    "slug": _slug,
    "snake": lambda text: _slug(text).replace("-", "_"),
    "spaced": forms.spaced,
    "camel": forms.camel,
    "pascal": forms.pascal,
    "plural": forms.plural,
    "singular": forms.singular,
    "chomp": lambda text: text.rstrip("\n"),
    "lines": _lines,
    "listed": forms.listed,
    "split": forms.split,
    "before": forms.before,
    "after": forms.after,
    "url_name": forms.url_name,
    "shell": _shell,
    "sql": _sql,
    # numbers
    "number": forms.number,
    "position": forms.position,
    "percent": forms.percent,
    "times": forms.times,
    "over": forms.over,
    "plus": forms.plus,
    "spelled": forms.spelled,
    "ordinal": forms.ordinal,
    "text": lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
    "format": _format,
    # days
    "date": forms.dated,
    "days": forms.days,
    "months": forms.months,
    "month_start": forms.month_start,
    "month_end": forms.month_end,
    "year_start": forms.year_start,
    "year_end": forms.year_end,
    "month_number": forms.month_number,
    # lists and tables
    "count": len,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "join": _join,
    "sentence": _sentence,
    "bullets": _bullets,
    "names": lambda paths: [PurePosixPath(path).name for path in paths],
    "rows": _rows,
    "column": _column,
    "table": table,
    "json": lambda value: json.dumps(value, ensure_ascii=False),
    "pretty": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
    # what several of the above agree on
    "agreed": agreed,
}
