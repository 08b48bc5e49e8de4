"""Phrases of a goal as values: what an unquoted value must look like to be taken for one more of its kind.

Nothing closes a free phrase off, so it has to resemble the values seen before: the same kinds of small words, lists
of the same length, an article or a full stop only where one was. What does not is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from llmos.trace.english import (
    ARTICLES,
    COUNTED,
    CRITICAL,
    DEICTIC,
    FUNCTION,
    LIGHT,
    MODIFYING,
    NAMED_LY,
    NEGATION,
    NEUTRAL,
    PLAIN,
    RECORDED,
    TIMES,
    UNITS,
)
from llmos.trace.lex import Kind, Token, template_tokens, tokenize

_INNER = frozenset("(-–—/&+")
_MARKED = (Kind.NUMBER, Kind.QUOTED, Kind.PATH, Kind.GLOB, Kind.URL, Kind.EMAIL)
_POINTING = frozenset(map(str, (Kind.PATH, Kind.GLOB, Kind.URL)))
_SIGNS = frozenset({*map(str, _MARKED), ","})
_FINAL = ".!?"
_OPENING = frozenset("$#(€£@")
_PROSE_TOKENS = 6


def is_anchor(token: Token) -> bool:
    """Whether a literal token of a template tells the task from others: a content word or a critical one."""
    return token.kind is not Kind.PUNCT and not token.noise and token.key not in LIGHT


def carries_content(tokens: Sequence[Token]) -> bool:
    """Whether a phrase holds at least one word that may be a value."""
    return any(token.kind is not Kind.PUNCT and token.key not in FUNCTION for token in tokens)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What values have in common: marks and small words, commas, articles in front, full stops at the end.

    A `The` in front is another article than a `the`: the one belongs to a name. `named` says that all their words are
    written as names are, with a capital.
    """

    marks: frozenset[str]
    literals: int
    commas: frozenset[int]
    articles: frozenset[str]
    stops: frozenset[bool]
    tokens: int
    prose: bool
    named: bool


@lru_cache(maxsize=4096)
def shape_of(examples: tuple[str, ...]) -> Shape:
    """The shape of the values seen so far."""
    read = [tokenize(example) for example in examples]
    marks = frozenset(mark for tokens in read for mark in marks_of(tokens))
    longest = max(map(len, read), default=0)
    return Shape(
        marks=marks,
        literals=max(map(_literals, read), default=0),
        commas=frozenset(_commas(tokens) for tokens in read),
        articles=frozenset(_article(tokens) for tokens in read if tokens),
        stops=frozenset(tokens[-1].text in _FINAL for tokens in read if tokens),
        tokens=longest,
        prose=bool(read) and 2 * sum(map(_is_prose, read)) >= len(read),
        named=bool(read) and not any(map(_plain_words, read)),
    )


def _literals(tokens: Sequence[Token]) -> int:
    """How many numbers, paths, addresses and quoted texts a phrase has."""
    return sum(token.kind in _MARKED for token in tokens)


def _article(tokens: Sequence[Token]) -> str:
    """The article in front of a phrase, apart from which one it is: capital, small or none."""
    if tokens[0].key not in ARTICLES:
        return ""
    return "The" if tokens[0].text[:1].isupper() else "the"


def _is_prose(tokens: Sequence[Token]) -> bool:
    """Whether a value is a sentence rather than a name: long, with small words of its own."""
    small = marks_of(tokens) & FUNCTION - NEUTRAL
    return len(tokens) >= _PROSE_TOKENS and len(small) >= 2


def _plain_words(tokens: Sequence[Token]) -> list[str]:
    """The words of a phrase that are written small, small words aside."""
    return [t.text for t in tokens if t.kind is Kind.WORD and t.text[:1].islower() and t.key not in FUNCTION]


def marks_of(tokens: Sequence[Token]) -> set[str]:
    """The small and modifying words of a phrase, and signs for times, numbers, paths, quotes and punctuation."""
    marks: set[str] = set()
    for position, token in enumerate(tokens):
        after = tokens[position + 1] if position + 1 < len(tokens) else None
        if token.kind is Kind.WORD and token.key in FUNCTION:
            is_month = token.text == "May" and after is not None and after.kind is Kind.NUMBER
            marks |= {_TIME} if is_month else {token.key}
        elif token.kind is Kind.WORD and token.key in _CLASSES:
            marks.add(_CLASSES[token.key])
        elif token.kind is Kind.WORD and (token.key in MODIFYING or (position and _is_adverb(token.key))):
            marks.add(token.key)
        elif token.kind in _MARKED:
            marks.add(str(token.kind))
        elif token.text == "," or (token.text in ".!?;:" and after is not None):
            marks.add("," if token.text == "," else ".")
        elif token.text in _INNER and position:
            marks.add(token.text)
    return marks


_TIME = "a time"
_CLASSES = {
    word: name
    for name, words in ((_TIME, TIMES), ("a kind", RECORDED), ("a count", COUNTED), ("a unit", UNITS))
    for word in words
}
"""Words that are alike as values: where one stood, another may."""


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and len(word) > 4 and word not in NAMED_LY


class Oddity(StrEnum):
    """What a phrase, or a file's name, has that the values seen so far had not."""

    ARTICLE = "article"
    STOP = "stop"
    PUNCTUATION = "punctuation"
    WORDING = "wording"
    LIST = "list"
    EDGE = "edge"
    CLAUSE = "clause"
    MODIFIER = "modifier"
    NEGATION = "negation"
    CRITICAL = "critical"
    SMALL = "small"
    NUMBER = "number"
    CASE = "case"
    LONG = "long"
    SUFFIX = "suffix"


def oddities(
    examples: tuple[str, ...], tokens: Sequence[Token], anchors: frozenset[str], *, article: bool, checked: bool = False
) -> dict[Oddity, str]:
    """How a phrase is unlike the values seen so far, each with a sentence; empty if it may be one of them.

    `anchors` are the literal words of the template, `article` says that one stands before the slot there. What a
    look-up will have `checked` before anything is done may hold other words and numbers.
    """
    shape = shape_of(examples)
    first, last = tokens[0], tokens[-1]
    found: dict[Oddity, str] = {}
    if first.key in ARTICLES and (article or (_article(tokens) not in shape.articles and not shape.prose)):
        found[Oddity.ARTICLE] = "it begins with an article, as no value did before"
    elif last.noise or last.key in ARTICLES:
        found[Oddity.ARTICLE] = "it ends with an article"
    if (last.text in _FINAL) not in shape.stops:
        found[Oddity.STOP] = "the full stop may or may not belong to it"
    if (first.kind is Kind.PUNCT and first.text not in _OPENING) or last.text in (",", ";", ":"):
        found[Oddity.PUNCTUATION] = "it begins or ends with punctuation"
    repeated = next((token.text for token in tokens if token.key in anchors), None)
    if repeated is not None:
        found[Oddity.WORDING] = f"{repeated!r} belongs to the wording"
    if checked:
        return found
    if (not shape.prose or 0 not in shape.commas) and _commas(tokens) not in shape.commas:
        found[Oddity.LIST] = "it lists more or fewer things than before"
    if shape.literals and _literals(tokens) > shape.literals:
        found[Oddity.LIST] = "it holds more numbers, files or addresses than before"
    return found | (_unlike_prose(shape, tokens) if shape.prose else _unlike(shape, tokens))


def _unlike_prose(shape: Shape, tokens: Sequence[Token]) -> dict[Oddity, str]:
    """A file or an address in a sentence, where no sentence had one: the text may be in it."""
    new = marks_of(tokens) & _POINTING - shape.marks
    return {Oddity.CLAUSE: f"it names {' and '.join(sorted(new))}, as no value did"} if new else {}


def _unlike(shape: Shape, tokens: Sequence[Token]) -> dict[Oddity, str]:
    """Small words, numbers and signs that no value had, small letters among names, a length beyond all of theirs."""
    found: dict[Oddity, str] = {}
    new = marks_of(tokens) - shape.marks - NEUTRAL
    kinds = {
        Oddity.CLAUSE: new & ({"."} | _INNER),
        Oddity.NEGATION: new & NEGATION,
        Oddity.CRITICAL: new & CRITICAL - NEGATION,
        Oddity.SMALL: new & PLAIN,
        Oddity.NUMBER: new & _SIGNS,
        Oddity.MODIFIER: new - FUNCTION - _INNER - _SIGNS - {"."},
    }
    for kind, marks in kinds.items():
        if marks:
            found[kind] = f"{', '.join(sorted(map(repr, marks)))} may say more than a value does"
    if tokens[-1].key in new & FUNCTION:
        found[Oddity.EDGE] = f"{tokens[-1].text!r} at its end may belong to what follows"
    if shape.named and _plain_words(tokens):
        found[Oddity.CASE] = f"{_plain_words(tokens)[0]!r} is written small, and names stood there before"
    if len(tokens) > 2 * shape.tokens + 3:
        found[Oddity.LONG] = "it is much longer than the values before"
    return found


def strange(
    examples: tuple[str, ...], tokens: Sequence[Token], anchors: frozenset[str], *, article: bool, checked: bool = False
) -> str | None:
    """Why a phrase is unlike the values seen so far; None if it may be one of them."""
    return next(iter(oddities(examples, tokens, anchors, article=article, checked=checked).values()), None)


def _commas(tokens: Sequence[Token]) -> int:
    return sum(token.text == "," for token in tokens)


def is_clause(tokens: Sequence[Token]) -> bool:
    """Whether a phrase of which no example is known begins as a clause does, or says more than one thing.

    Words about a file (`5 in config.yaml`) may be a clause of the goal, too, and words that only point at something
    (`me`, `last result`) are no name of it.
    """
    if tokens[0].key in _OPENING_CLAUSE or (len(tokens) > 1 and marks_of(tokens) & _POINTING):
        return True
    if all(token.kind is Kind.WORD and token.key in DEICTIC for token in tokens):
        return True
    return any(token.key in _JOINING or token.text == ";" for token in tokens[1:-1])


_OPENING_CLAUSE = frozenset(["that", "to", "when", "if", "how", "why", "whether", "because"])
_JOINING = frozenset(["and", "then", "but"])


def words_in(text: str) -> list[str]:
    """The words of a text, without case, in order."""
    return re.findall(r"\w+(?:['’-]\w+)*", text.casefold())


def words_of(text: str) -> frozenset[str]:
    """The words of a goal, as templates' anchors are compared with them."""
    return frozenset(token.key for token in tokenize(text))


@lru_cache(maxsize=8192)
def anchors_of(template: str) -> frozenset[str]:
    """The words that tell a template's task from others."""
    return frozenset(part.key for part in template_tokens(template) if isinstance(part, Token) and is_anchor(part))


@lru_cache(maxsize=8192)
def needed_words(template: str) -> frozenset[str]:
    """The words without which no goal is proven by a template: its telling words; if it has none, all it has."""
    literals = (part.key for part in template_tokens(template) if isinstance(part, Token))
    return anchors_of(template) or frozenset(literals)
