"""What a loop in a recording consists of: a list, what selects from it, and the calls made for each entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from llmos.trace.conditions import same
from llmos.trace.generalize import path_suffix
from llmos.trace.lex import Kind, Token
from llmos.trace.program import Condition, ConditionKind
from llmos.trace.values import Const, ItemRef, OutputRef, Transform, UnboundError, ValuePath, value_at

_LISTED = frozenset({Kind.PATH, Kind.URL, Kind.EMAIL, Kind.QUOTED, Kind.IDENTIFIER, Kind.NUMBER, Kind.DATE})


@dataclass(frozen=True, kw_only=True)
class GoalList:
    """Literals of one kind that the goal gives one after the other; `first` and `last` are their tokens' positions."""

    first: int
    last: int
    values: tuple[str, ...]


def goal_lists(tokens: Sequence[Token]) -> list[GoalList]:
    """The lists of two literals or more that a goal gives: `a.txt, b.txt and c.txt`."""
    found: list[GoalList] = []
    position = 0
    while position < len(tokens):
        last, values = position, [tokens[position].value]
        while tokens[position].kind in _LISTED and (after := _next_entry(tokens, last)) is not None:
            last = after
            values.append(tokens[after].value)
        if len(values) > 1:
            found.append(GoalList(first=position, last=last, values=tuple(values)))
        position = last + 1
    return found


def _next_entry(tokens: Sequence[Token], at: int) -> int | None:
    """The position of the literal of the same kind that a comma, `and` or both join to the one at a position."""
    here = at + 1
    while here < len(tokens) and here <= at + 2 and tokens[here].text in (",", "and", "&", ";"):
        here += 1
    joined = here > at + 1 and here < len(tokens)
    return here if joined and tokens[here].kind is tokens[at].kind else None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A list that a loop may go through.

    It is `given` by the goal, or what an earlier loop (by its key) came to, or stands at a path of the output of call
    `step`; `lines` says that it is a text there, line by line.
    """

    entries: tuple[Any, ...]
    step: int = -1
    path: ValuePath = ()
    lines: bool = False
    loop: str = ""
    given: GoalList | None = None

    def over(self, keys: Mapping[int, str]) -> OutputRef:
        """A reference to the list; `keys` names the calls of the loops around it."""
        transforms = (Transform(name="lines"),) if self.lines else ()
        step = self.loop or keys.get(self.step, column_key(self.step))
        return OutputRef(step=step, path=self.path, transforms=transforms)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What every entry that was taken has, and every other lacks: the value of a field, or its suffix."""

    path: ValuePath
    transforms: tuple[Transform, ...]
    value: Any

    def takes(self, entry: Any) -> bool:
        return any(same(self.value, found) for found in feature(entry, self.path, self.transforms))

    def asked(self, loop: str) -> Condition:
        ref = ItemRef(loop=loop, path=self.path, transforms=self.transforms)
        return Condition(kind=ConditionKind.EQUALS, value=ref, expected=Const(value=self.value))


@dataclass(frozen=True, kw_only=True)
class Found:
    """A loop in a recording: for each entry that was taken, its calls (by index) and inner loops."""

    source: Source
    taken: tuple[Any, ...]
    rows: tuple[tuple[Element, ...], ...]
    where: Filter | None = None

    @property
    def key(self) -> str:
        """Its name until it has an id."""
        return f"{column_key(next(calls(self.rows[0])))}:"


Element: TypeAlias = int | Found


def column_key(index: int) -> str:
    """The name of a call until its step has an id."""
    return f"#{index}"


def calls(elements: Sequence[Element]) -> Iterator[int]:
    """The calls among elements, those of loops included."""
    for element in elements:
        if isinstance(element, int):
            yield element
        else:
            for row in element.rows:
                yield from calls(row)


def feature(entry: Any, path: ValuePath, transforms: tuple[Transform, ...]) -> tuple[Any, ...]:
    """The value of an entry's field, or its suffix in small letters if it is a path; nothing if there is none."""
    try:
        value = value_at(entry, path)
    except UnboundError:
        return ()
    if transforms:
        return (suffix.lower(),) if (suffix := path_suffix(value)) else ()
    return (value,) if isinstance(value, str | int | float) and value != "" else ()


__all__ = ["Element", "Filter", "Found", "GoalList", "Source", "calls", "column_key", "feature", "goal_lists"]
