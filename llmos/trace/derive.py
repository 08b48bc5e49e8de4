"""Programs that make an argument of a piece of the goal, searched as in programming by example.

The search is bounded: every chain of transforms that the kind of the piece allows and that gives the recorded value.
The simplest kind of chain wins; chains of one kind that differ on other values stand side by side in `agreed`, which
stops the replay where they differ. A result that a constant may as well have been is explained but not `telling`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise, takewhile
from typing import Any

from llmos.trace.lex import Kind, Token
from llmos.trace.transforms import argument, chain
from llmos.trace.units import conversions
from llmos.trace.values import Transform
from llmos.trace.wordforms import MONTHS, NUMBER_WORDS, ORDINAL_WORDS

MIN_PIECE = 3
_MIN_DATED = 6
_CASES = ("lower", "upper", "title", "capital", "slug", "snake", "camel", "pascal")
_NUMBERS = (
    *("number | text", "format ,", "format .1f", "format .2f", "format ,.2f"),
    *("spelled", "spelled | capital", "ordinal"),
)
_PADDED = ("format 02d", "format 03d", "format 04d", "format 05d", "format 06d", "format .0f")
_LISTS = ("listed", "split ,", "split ;")
FORMATS = (
    *("%Y%m%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y_%m_%d", "%Y.%m.%d"),
    *("%-d.%-m.%Y", "%-d/%-m/%Y", "%-m/%-d/%Y", "%d.%m.%y", "%y%m%d", "%m/%d/%y"),
    *("%B %-d, %Y", "%-d %B %Y", "%b %-d, %Y", "%-d %b %Y", "%d %B %Y", "%B %d, %Y", "%d %b %Y", "%A, %B %-d, %Y"),
    *("%Y-%m", "%Y/%m", "%Y%m", "%m/%Y", "%B %Y", "%b %Y", "%Y_%m", "%Y", "%Y-%m-%dT00:00:00", "%Y-%m-%dT00:00:00Z"),
)
_PARTS = ("%Y", "%-m", "%-d")
_SHORT = ("%m", "%d", "%B", "%b", "%A", "%a", "%B %-d", "%-d %B", "%b %-d", "%-d %b")
_SHIFTS = (
    *(
        "days 1",
        "days -1",
        "days 6",
        "days -6",
        "days 7",
        "days -7",
        "months 1",
        "months -1",
        "months 12",
        "months -12",
    ),
    *("month_start", "month_end", "year_start", "year_end", "month_start | months 1", "month_start | months -1"),
    *("month_start | months 1 | month_end", "month_start | months -1 | month_end"),
)
_MONTH_SHIFT = {"last": " | months -1", "previous": " | months -1", "next": " | months 1", "this": "", "current": ""}
_WORDY = frozenset({Kind.WORD, Kind.TEXT})
_CALENDAR = frozenset({"today", "yesterday", "tomorrow", "month", "year", *_MONTH_SHIFT})
_PROBES: dict[Kind, tuple[str, ...]] = {
    Kind.QUOTED: ("Ada", "ada lovelace", "North-East 2", "orderItem", "city", "BOX", "a, b and c", "Éa", "x_y", "O'B"),
    Kind.IDENTIFIER: ("order_item", "orderItem", "A1", "x2y", "a_B"),
    Kind.TEXT: ("Ada", "ada lovelace", "North-East 2", "orderItem", "city", "BOX", "a, b and c", "Éa", "x_y", "O'B"),
    Kind.PATH: ("a.csv", "in/Sales_Report.csv", "x/y z.tar.gz", "2024-01_b.md", "orderItem", "../Ä b.txt"),
    Kind.DATE: ("2026-03-31", "2024-02-29", "2025-12-01", "2023-05-05", "2026-11-10", "1999-10-12", "2026-05-09"),
    Kind.NUMBER: ("0", "1", "7", "12", "42", "1000", "10,000", "2.5", "1234567", "0.125", "999.999"),
    Kind.EXPRESSION: ("10%", "0%", "2.5 %", "150%"),
    Kind.EMAIL: ("ada@example.org", "a.b+c@x.co.uk"),
    Kind.URL: ("https://x.org/a.csv", "https://x.org/a/b-c.tar.gz", "http://y.org/?q=1"),
}


@dataclass(frozen=True, kw_only=True)
class Span:
    """A piece of the goal that an argument may have been made of; `unit` are the words behind a number."""

    position: int
    kind: Kind
    value: str
    unit: str = ""
    unit_at: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Derived:
    """How a piece of the goal, or the day of the run (position -1), makes a value.

    `anchors` are words of the goal that it relies on, such as a unit: they must stay as they are.
    """

    position: int
    transforms: tuple[Transform, ...]
    telling: bool
    loses_folder: bool = False
    anchors: frozenset[int] = frozenset()


def goal_spans(tokens: Sequence[Token]) -> list[Span]:
    """The pieces of a goal that arguments are made of: its literals, with the words that are units of numbers."""
    spans: list[Span] = []
    for position, token in enumerate(tokens):
        if token.kind in _PROBES:
            behind = range(position + 1, min(position + 3, len(tokens))) if token.kind is Kind.NUMBER else range(0)
            at = tuple(takewhile(lambda i: tokens[i].kind in _WORDY, behind))
            unit = " ".join(tokens[i].key.casefold() for i in at)
            spans.append(Span(position=position, kind=token.kind, value=token.value, unit=unit, unit_at=at))
    return spans


@dataclass(frozen=True, kw_only=True)
class Deriver:
    """Searches the pieces of one goal, and the day of the run where the goal speaks of it."""

    tokens: Sequence[Token]
    env: Mapping[str, str] = field(default_factory=dict)

    def whole(self, value: str | float) -> list[Derived]:
        """Every piece of the goal that a whole argument may have been made of."""
        found = [made for span in self._spans if (made := self._made(span, value)) is not None]
        today = self._of_today(value) if isinstance(value, str) and len(value) >= _MIN_DATED else None
        return found if today is None else [*found, today]

    def lists(self, value: list[Any]) -> list[Derived]:
        """Every quoted text of the goal that says a list of texts."""
        found: list[Derived] = []
        for span in self._spans:
            ways = [way for way in _LISTS if span.kind is Kind.QUOTED and tried(span.value, way) == value]
            settled = _settled(ways, Kind.QUOTED) if ways else None
            if settled is not None:
                found.append(Derived(position=span.position, transforms=settled, telling=True))
        return found

    def numbered(self, value: float) -> list[tuple[int, tuple[Transform, ...], tuple[str, ...]]]:
        """The number words of the goal that say a number: position, how it is read, what may stand there instead."""
        found: list[tuple[int, tuple[Transform, ...], tuple[str, ...]]] = []
        for position, token in enumerate(self.tokens):
            if token.kind is not Kind.WORD or isinstance(value, float):
                continue
            if token.text in NUMBER_WORDS[2:] and chain(token.text, "number") == value:
                found.append((position, as_transforms("number"), NUMBER_WORDS[2:]))
            elif token.text in ORDINAL_WORDS[2:] and chain(token.text, "position") == value:
                found.append((position, as_transforms("position"), ORDINAL_WORDS[2:]))
        return found

    @cached_property
    def pieces(self) -> list[tuple[str, Derived]]:
        """What of the goal may stand in another form inside a longer text, each form with how it is made."""
        found: list[tuple[str, Derived]] = []
        for span in self._spans:
            for form in dict.fromkeys(_piece_forms(span)):
                made = self._made(span, form)
                if made is not None and made.telling:
                    found.append((form, made))
        for way in self._ways_of_today:
            form = tried(self.env["today"], way)
            made = self._of_today(form) if isinstance(form, str) and len(form) >= _MIN_DATED else None
            if made is not None and made.telling:
                found.append((str(form), made))
        return found

    @cached_property
    def _spans(self) -> list[Span]:
        return goal_spans(self.tokens)

    def _made(self, span: Span, value: str | float) -> Derived | None:
        if not _may_be_made(span, value):
            return None
        tiers = _tiers(span.kind, span.unit)
        for tier in tiers:
            ways = [way for way in tier if _gives(span.value, way, value)]
            if ways:
                settled = _settled(ways, span.kind)
                return Derived(
                    position=span.position,
                    transforms=settled or (),
                    telling=settled is not None and self._is_telling(span, value),
                    loses_folder=span.kind is Kind.PATH,
                    anchors=frozenset(span.unit_at if tier is tiers[-1] else ()),
                )
        return None

    def _is_telling(self, span: Span, value: str | float) -> bool:
        """Whether a value made of a piece of the goal is unlikely to be a constant by chance."""
        year = self.env.get("today", "")[:4]
        if not isinstance(value, str):
            fraction = span.kind is Kind.EXPRESSION and value != int(value)
            dated = span.kind is Kind.DATE and value >= 1000 and str(value) != year
            return fraction or dated or (span.kind is Kind.NUMBER and (abs(value) >= 100 or value != int(value)))
        if any(token.text.casefold() == value.casefold() for token in self.tokens if token.kind is Kind.WORD):
            return False
        if span.kind is Kind.NUMBER and re.fullmatch(re.escape(span.value) + r"\d+", value):
            return False  # digits may have been put behind it: 2.50 of 2.5
        if span.kind is Kind.PATH:
            return len(value) > 4 and re.search(r"\w[\W_]\w|\d", value) is not None
        if span.kind is Kind.DATE:
            return len(value) >= _MIN_DATED or (len(value) == 4 and value != year)
        return len(value) >= MIN_PIECE

    # --- the day of the run ----------------------------------------------------------------------------

    @cached_property
    def _ways_of_today(self) -> list[str]:
        """How the day the goal speaks of comes from today, in every format; nothing where it speaks of none."""
        if "today" not in self.env or any(token.kind is Kind.DATE for token in self.tokens):
            return []
        words = [word for token in self.tokens if token.kind in _WORDY for word in token.key.casefold().split()]
        shifts = {"today": "days 0", "yesterday": "days -1", "tomorrow": "days 1"}
        said = [shifts[word] for word in words if word in shifts]
        for before, word in pairwise(words):
            if before in _MONTH_SHIFT and word == "month":
                start = "month_start" + _MONTH_SHIFT[before]
                said += [start, f"{start} | month_end"]
            if before in _MONTH_SHIFT and word == "year":
                start = "year_start" + _MONTH_SHIFT[before].replace("1", "12")
                said += [start, f"{start} | year_end"]
        return [way for shift in dict.fromkeys(said) for way in (shift, *(f"{shift} | date {f}" for f in FORMATS))]

    def _of_today(self, value: str) -> Derived | None:
        ways = [way for way in self._ways_of_today if _gives(self.env["today"], way, value)]
        if not ways or value == self.env["today"]:
            return None
        settled = _settled(ways, Kind.DATE)
        return Derived(position=-1, transforms=settled or (), telling=settled is not None, anchors=self.calendar)

    @cached_property
    def calendar(self) -> frozenset[int]:
        """The words of the goal that say which day is meant."""
        return frozenset(i for i, token in enumerate(self.tokens) if _CALENDAR & set(token.key.casefold().split()))


def _piece_forms(span: Span) -> Iterator[str]:
    """The forms of a piece that are long and odd enough to be looked for inside other texts."""
    ways: Sequence[str] = ()
    if span.kind is Kind.DATE:
        ways = [f"date {pattern}" for pattern in FORMATS]
    elif span.kind is Kind.NUMBER and len(span.value) >= MIN_PIECE:
        ways = ("number | text", "format ,")
    elif span.kind in (Kind.QUOTED, Kind.TEXT) and re.search(r"\w\W+\w", span.value):
        ways = ("slug", "snake")
    for way in ways:
        form = tried(span.value, way)
        enough = MIN_PIECE if span.kind is Kind.NUMBER else _MIN_DATED
        if isinstance(form, str) and len(form) >= enough and form != span.value:
            yield form


def _may_be_made(span: Span, value: str | float) -> bool:
    """A quick look whether the search is worth while."""
    if isinstance(value, bool) or (isinstance(value, str) and not 0 < len(value) <= 4 * len(span.value) + 40):
        return False
    if span.kind is Kind.DATE:
        return not isinstance(value, str) or re.search(r"\d|^[A-Z][a-z]{2}", value) is not None
    if span.kind is Kind.NUMBER:
        return True
    return isinstance(value, str) or span.kind is Kind.EXPRESSION


@lru_cache(maxsize=512)
def _tiers(kind: Kind, unit: str) -> tuple[tuple[str, ...], ...]:
    """The chains that may explain something made of a kind of literal, the simplest first."""
    if kind in (Kind.QUOTED, Kind.IDENTIFIER, Kind.TEXT):
        counted = tuple(f"{case} | {number}" for case in _CASES for number in ("plural", "singular"))
        return (*_CASES, "spaced"), ("plural", "singular"), ("spaced | title", "spaced | capital"), counted
    if kind is Kind.PATH:
        plain = ("spaced", "spaced | title", "spaced | capital", "spaced | lower")
        return ("stem",), tuple(f"stem | {case}" for case in (*_CASES, *plain))
    if kind is Kind.DATE:
        formats = tuple(f"date {pattern}" for pattern in (*FORMATS, *_SHORT))
        parts = tuple(f"date {part} | number" for part in _PARTS)
        shifted = tuple(way for shift in _SHIFTS for way in (shift, *(f"{shift} | {one}" for one in formats)))
        return (*formats, *parts), shifted
    if kind is Kind.NUMBER:
        return _NUMBERS, _PADDED, conversions(unit)
    if kind is Kind.EXPRESSION:
        return (("percent", "percent | over 100"),)
    return (("before @", "after @"),) if kind is Kind.EMAIL else (("url_name",),)


def tried(value: str, way: str) -> Any:
    """What a chain gives, or None where it does not apply."""
    try:
        return chain(value, way)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError):
        return None


def _gives(source: str, way: str, value: str | float) -> bool:
    made = tried(source, way)
    return type(made) is type(value) and made == value


def _settled(ways: Sequence[str], kind: Kind) -> tuple[Transform, ...] | None:
    """One program for several: those that give the same for every sample are one, the rest must agree at replay."""
    distinct: dict[tuple[Any, ...], str] = {}
    for way in ways:
        signature = tuple(repr(tried(probe, way)) for probe in _PROBES[kind])
        distinct.setdefault(signature, way)
    kept = list(distinct.values())
    if len(kept) > 8:
        return None
    if len(kept) == 1:
        return as_transforms(kept[0])
    return (Transform(name="agreed", args=tuple(kept)),)


def as_transforms(way: str) -> tuple[Transform, ...]:
    """A chain in the form that expressions hold."""
    calls = [call.partition(" ") for call in way.split(" | ")]
    return tuple(Transform(name=name, args=(argument(rest),) if rest else ()) for name, _, rest in calls)


def date_shapes(text: str) -> list[str]:
    """What in a text looks like a day, or like a month of a year."""
    return [found.group(0) for found in _DATE_LIKE.finditer(text)]


_MONTH = "(?:" + "|".join(f"{month}|{month[:3]}" for month in MONTHS) + ")"
_DATE_LIKE = re.compile(
    r"(?<!\d)\d{4}[-/._]\d{1,2}(?!\d)|(?<!\d)\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}(?!\d)"
    rf"|\b{_MONTH}\.?\s\d|\d\.?\s{_MONTH}\b|(?<!\d)20\d{{6}}(?!\d)",
    re.IGNORECASE,
)
