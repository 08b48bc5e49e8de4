"""What of a call passes with the day of its run: days, months, weeks and years that the goal does not say itself.

A program that holds one is right on the day of its recording and wrong later, so it is no trace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise

from llmos.trace.derive import date_shapes
from llmos.trace.evidence import token_bounded
from llmos.trace.inside import month_forms
from llmos.trace.leaks import day_forms
from llmos.trace.lex import Kind, Token
from llmos.trace.wordforms import MONTH_WORDS, MONTHS, WEEKDAYS

_PERIODS = frozenset({"hour", "day", "week", "month", "year", "quarter", "weekend", "season", "semester"})
_NOW = frozenset({"today", "today's", "todays", "yesterday", "yesterday's", "tomorrow", "tonight", "now", "ago"})
_NEAR = frozenset({"current", "latest", "recent", "recently"}) | _NOW | _PERIODS | {f"{one}s" for one in _PERIODS}
_THIS = frozenset({"this", "last", "next", "current", "previous", "past", "coming"})
_NAMED = frozenset({*MONTH_WORDS, *(day.casefold() for day in WEEKDAYS)}) | frozenset(
    {"spring", "summer", "autumn", "winter", "christmas", "easter"}
)
_DAYS_AROUND = 31
_DAYS_NEAR = 400


@dataclass(frozen=True, kw_only=True)
class Passing:
    """Asks of constants whether they pass with the day of a run; `seen` is the text of its outputs."""

    goal: str
    tokens: Sequence[Token]
    today: date
    seen: str

    def passes(self, text: str) -> bool:
        """Whether a constant says a day, or a part of the calendar, that only holds around the day of the run."""
        shapes = [shape for shape in date_shapes(text) if shape not in self.goal]
        if any(self._is_spoken_of(shape) or self._is_near(shape) for shape in shapes):
            return True
        days = [self.today]
        if self._words & _NEAR:
            days = [self.today + timedelta(days=n) for n in range(-_DAYS_AROUND, _DAYS_AROUND + 1)]
        written = {form for day in days for form in day_forms(day)} | self._counted
        return any(token_bounded(form, text) and form not in self.goal for form in written if form in text)

    @cached_property
    def _words(self) -> set[str]:
        return {token.key.casefold() for token in self.tokens if token.kind in (Kind.WORD, Kind.TEXT)}

    def _is_spoken_of(self, shape: str) -> bool:
        """Whether the goal speaks of days without saying this one's year."""
        return bool(self._words & _NEAR) or (bool(self._words & _NAMED) and not self._says_year_of(shape))

    def _says_year_of(self, shape: str) -> bool:
        year = re.search(r"(?<!\d)\d{4}", shape)
        return year is not None and token_bounded(year.group(), self.goal)

    def _is_near(self, shape: str) -> bool:
        """Whether a day around the day of the run comes neither from the goal nor from an output."""
        found = re.match(r"(\d{4})[-/._](\d{1,2})", shape)
        if found is None or shape in self.seen or self._says_year_of(shape) or not 1 <= int(found[2]) <= 12:
            return False
        return abs((date(int(found[1]) or 1, int(found[2]), 15) - self.today).days) < _DAYS_NEAR

    @cached_property
    def _counted(self) -> set[str]:
        """The years, and where the goal speaks of this month, week or day their numbers, around the day of the run."""
        if not self._words & (_NEAR | _NAMED):
            return set()
        found = {str(self.today.year + n) for n in (-1, 0, 1)}
        keys = [token.key.casefold().removesuffix("'s") for token in self.tokens]
        meant = {period for before, period in pairwise(keys) if before in _THIS}
        if meant & {"month", "quarter", "season", "semester"} or self._words & _NOW:
            found |= {form for n in (-2, -1, 0) for form in month_forms(MONTHS[(self.today.month + n) % 12])}
        if "week" in meant:
            found |= {str(self.today.isocalendar().week + n) for n in (-1, 0, 1)}
        if "day" in meant or self._words & _NOW:
            found |= {str((self.today + timedelta(days=n)).day) for n in (-1, 0, 1)}
        return found


__all__ = ["Passing"]
