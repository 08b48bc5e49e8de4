"""What a value of the goal says inside itself: the year of `sales_2026.csv`, the name of `ada@example.org`.

A constant beside the value may have been made of that, so such a value can't vary.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from llmos.trace.align import constant_texts
from llmos.trace.codewords import data_in_code
from llmos.trace.lex import Kind, Token
from llmos.trace.program import Step
from llmos.trace.values import Expr, ItemRef, OutputRef, references
from llmos.trace.wordforms import MONTHS, spaced

_NAMES = frozenset({Kind.PATH, Kind.GLOB, Kind.URL, Kind.EMAIL, Kind.QUOTED, Kind.IDENTIFIER, Kind.TEXT})
_MIN_WORD = 3
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])(?:\2([0-2]\d|3[01]))?(?!\d)")
_SPAN = re.compile(r"(?<![^\W_])([qh])([1-4])(?!\d)")


def numbers_in(token: Token) -> set[str]:
    """The numbers, months and quarters that a name holds, and how a constant made of them may say them.

    One digit tells little, so it counts only in a word of its own, such as `3rd` or `v2`.
    """
    if token.kind not in _NAMES:
        return set()
    text = _told(token).casefold()
    least = 1 if token.kind is Kind.IDENTIFIER else 2
    runs = re.findall(r"\d+", text)
    found = {run for run in [*runs, "".join(runs)] if len(run) >= least}
    found |= {form for word in re.findall(r"[^\W\d_]+", text) for form in month_forms(word)}
    for year, _, month, day in _DAY.findall(text):
        found |= {year, *month_forms(MONTHS[int(month) - 1]), *((day, day.lstrip("0")) if day else ())}
    for kind, number in _SPAN.findall(text):
        length = 3 if kind == "q" else 6
        months = range((int(number) - 1) * length, min(int(number) * length, 12))
        found |= {number, *(form for month in months for form in month_forms(MONTHS[month]))}
    return found


def month_forms(word: str) -> set[str]:
    """A month's name, short name and number; nothing for another word."""
    for number, month in enumerate(MONTHS, 1):
        if word in (month, month[:3]):
            return {month, month[:3], str(number), f"{number:02}"}
    return set()


def stem_in(token: Token) -> set[str]:
    """The name without its suffix of what a web address leads to."""
    name = re.sub(r"[?#].*", "", token.value).rstrip("/").rpartition("/")[2]
    stem = PurePosixPath(name).stem.casefold()
    return {stem} if token.kind is Kind.URL and len(stem) >= _MIN_WORD else set()


def words_in(token: Token) -> set[str]:
    """The words that a name is put together of, their initials, and the beginning that may be its code.

    A folder is none of them: a path whose folder a constant says is bound to it.
    """
    if token.kind not in _NAMES:
        return set()
    name = PurePosixPath(token.value).stem if token.kind is Kind.PATH else token.value
    words = re.findall(r"[^\W\d_]+", spaced(name).casefold())
    if token.kind in (Kind.QUOTED, Kind.TEXT) and words:
        words += ["".join(word[0] for word in words), *(word[:_MIN_WORD] for word in words[:1] if len(word) > 4)]
    return {word for word in words if len(word) >= _MIN_WORD or (len(word) == 2 and word == words[-1])}


def _told(token: Token) -> str:
    """A name without the suffix of a path, which is held anyway."""
    return token.value.removesuffix(PurePosixPath(token.value).suffix) if token.kind is Kind.PATH else token.value


def states(word: str, step: Step) -> bool:
    """Whether a step has a constant that is this word, alone or in quotes, or a name that it is a part of."""
    texts = [text for expr in step.args.values() for text in constant_texts(expr)]
    said = {one.strip().casefold() for text in texts for one in {text} | data_in_code(text)}
    return word in said or any(
        word in re.findall(r"[^\W\d_]+", name) for name in said if not re.search(r"\s", name) and word in name
    )


def keys_in(expr: Expr) -> set[str]:
    """The names by which an expression reaches into outputs and entries."""
    refs = [ref for ref in references(expr) if isinstance(ref, OutputRef | ItemRef)]
    named = [part for ref in refs for part in ref.path]
    named += [arg for ref in refs for way in ref.transforms if way.name == "column" for arg in way.args]
    return {part.casefold() for part in named if isinstance(part, str)}


__all__ = ["keys_in", "month_forms", "numbers_in", "states", "stem_in", "words_in"]
