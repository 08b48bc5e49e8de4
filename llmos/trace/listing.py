"""Lists and tables as an answer says them: counted, joined, or one line for each row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import Transform, ValuePath, as_text

Listed: TypeAlias = tuple[str, ValuePath, tuple[Transform, ...]]

_MAX_ENTRIES = 500
_MAX_DEPTH = 3
_JOINED = (
    Transform(name="join", args=(", ",)),
    Transform(name="join", args=("\n",)),
    Transform(name="join", args=("; ",)),
    Transform(name="sentence"),
    Transform(name="sentence", args=(", and ",)),
    Transform(name="sentence", args=(" or ",)),
    Transform(name="bullets"),
    Transform(name="bullets", args=("* ",)),
)
_FORMATS = ("", ",", ".0f", ".1f", ".2f", ",.2f")


def list_sources(output: Any, answer: str) -> Iterator[Listed]:
    """The texts in an answer that a list inside an output gives, each with its path and transforms."""
    for path, entries in _lists(output):
        if str(len(entries)) in answer:
            yield str(len(entries)), path, (Transform(name="count"),)
        if not 2 <= len(entries) <= _MAX_ENTRIES:
            continue
        for columns, values in _columns(entries):
            yield from ((text, path, made) for text, made in _joined(values, columns, answer))
        if all(isinstance(entry, dict) for entry in entries):
            yield from ((text, path, (made,)) for text, made in _row_texts(entries, answer))


def said_by(transform: Transform) -> str:
    """The words that a transform itself puts into an answer."""
    return re.sub(r"\{[^{}]*\}", " ", str(transform.args[0])) if transform.name == "rows" else ""


def _lists(value: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, list[Any]]]:
    if isinstance(value, list):
        yield path, value
    elif isinstance(value, dict) and len(path) < _MAX_DEPTH:
        for key, item in value.items():
            yield from _lists(item, (*path, key))


def _columns(entries: Sequence[Any]) -> Iterator[tuple[tuple[Transform, ...], list[str | float]]]:
    """The entries themselves if they are plain, else each column of plain values, also one level down."""
    if all(_is_plain(entry) for entry in entries):
        yield (), list(entries)
        if any("/" in str(entry) for entry in entries) and all(isinstance(entry, str) for entry in entries):
            yield (Transform(name="names"),), TRANSFORMS["names"](entries)
        return
    if not all(isinstance(entry, dict) for entry in entries):
        return
    for names in _column_names(entries[0]):
        column = Transform(name="column", args=names)
        values = _tried(column, entries)
        if values is not None and all(_is_plain(value) for value in values):
            yield (column,), values
            if any("/" in str(value) for value in values) and all(isinstance(value, str) for value in values):
                yield (column, Transform(name="names")), TRANSFORMS["names"](values)


def _column_names(entry: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in entry.items():
        if _is_plain(value):
            yield (key,)
        elif isinstance(value, dict):
            yield from ((key, inner) for inner, item in value.items() if _is_plain(item))


def _joined(
    values: Sequence[str | float], before: tuple[Transform, ...], answer: str
) -> Iterator[tuple[str, tuple[Transform, ...]]]:
    if not all(str(value) in answer for value in values):
        return
    seen: set[str] = set()
    for joined in _JOINED:
        text = _tried(joined, values)
        if text is not None and text in answer and text not in seen:
            seen.add(text)
            yield text, (*before, joined)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _tried(transform: Transform, value: Any) -> Any:
    try:
        return TRANSFORMS[transform.name](value, *transform.args)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        return None


# --- one line for each row ---------------------------------------------------------------------------------


def _row_texts(rows: Sequence[Mapping[str, Any]], answer: str) -> Iterator[tuple[str, Transform]]:
    """Blocks of lines that one template gives, a line for each row."""
    lines = answer.split("\n")
    for start in range(len(lines) - len(rows) + 1):
        block = lines[start : start + len(rows)]
        found = {_template(row, line) for row, line in zip(rows, block, strict=True)} - {None}
        for template in sorted(str(one) for one in found):
            made = Transform(name="rows", args=(template,))
            if _tried(made, rows) == "\n".join(block) and _is_certain(template, rows):
                yield "\n".join(block), made
                break


def _template(row: Mapping[str, Any], line: str) -> str | None:
    """A line with the values of a row replaced by the names of their columns; None if it holds none of them."""
    if "{" in line or "}" in line:
        return None
    pieces: list[str] = [line]
    shown = [(text, hole) for key, value in row.items() for text, hole in _shown(str(key), value)]
    for text, hole in sorted(shown, key=lambda one: -len(one[0])):
        bounded = rf"(?<![\w.,]){re.escape(text)}(?!\w|[.,]\d)"
        for at, piece in enumerate(pieces):
            found = None if piece.startswith("{") else re.search(bounded, piece)
            if found is not None:
                pieces[at : at + 1] = [piece[: found.start()], hole, piece[found.end() :]]
                break
    return "".join(pieces) if any(piece.startswith("{") for piece in pieces) else None


def _shown(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if not _is_plain(value) or value == "" or re.search(r"[{}:]", key):
        return
    seen: set[str] = set()
    for spec in _FORMATS if not isinstance(value, str) else ("",):
        text = format(value, spec) if spec else as_text(value)
        if text not in seen and (not spec or abs(float(text.replace(",", "")) - value) < 0.06):
            seen.add(text)
            yield text, "{" + key + (f":{spec}" if spec else "") + "}"


def _is_certain(template: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no other column has the same values as one the template uses."""
    used = {hole.partition(":")[0] for hole in re.findall(r"\{([^{}]*)\}", template)}
    columns = {key: [row.get(key) for row in rows] for key in rows[0]}
    return not any(key not in used and values == columns.get(one) for one in used for key, values in columns.items())
