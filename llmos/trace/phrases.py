"""Phrases of a goal as values: what an unquoted value must look like to be taken for one more of its kind.

Nothing closes a free phrase off, so it has to resemble the values seen before: the same kinds of small words, lists
of the same length, an article or a full stop only where one was. What does not is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from llmos.trace.lex import ARTICLES, Kind, Token, template_tokens, tokenize

NEGATION = frozenset(
    {"not", "no", "never", "none", "without", "except", "nor", "neither", "cannot"}
    | {f"{verb}n{mark}t" for verb in ("do", "does", "did", "is", "are", "was", "wo", "ca") for mark in "'’"}
)
DIRECTION = frozenset(
    {"to", "from", "into", "onto", "before", "after", "above", "below", "over", "under", "up", "down", "between"}
    | {"on", "off", "in", "out", "left", "right", "until", "since", "top", "bottom", "enable", "disable"}
)
QUANTIFIER = frozenset(
    {"all", "any", "only", "each", "every", "some", "both", "first", "last", "next", "previous", "most", "least"}
    | {"more", "less", "fewer", "latest", "newest", "oldest", "closest", "nearest", "farthest", "cheapest"}
    | {"highest", "lowest", "largest", "smallest", "biggest", "best", "worst", "longest", "shortest"}
    | {"max", "min", "maximum", "minimum", "average", "total"}
)
_WEAK = frozenset({"to", "from", "into", "onto", "on", "in", "some"})
CRITICAL = (NEGATION | DIRECTION | QUANTIFIER) - _WEAK
"""Words on which the meaning turns; they anchor a template as content words do."""

FUNCTION = CRITICAL | frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "into", "onto", "from", "for", "with", "by", "as", "some"}
    | {"is", "are", "was", "were", "be", "been", "am", "do", "does", "did", "has", "have", "had", "can", "could"}
    | {"may", "might", "must", "shall", "should", "will", "would", "it", "its", "this", "that", "these", "those"}
    | {"my", "me", "i", "you", "your", "he", "him", "his", "she", "her", "they", "them", "their", "we", "us", "our"}
    | {"who", "whom", "whose", "which", "what", "when", "where", "why", "how", "and", "or", "but", "if", "unless"}
    | {"whether", "while", "because", "although", "though", "than", "then", "so", "among", "within", "till"}
    | {"during", "per", "further", "like", "dislike", "there", "here", "also", "too", "just", "about", "today"}
    | {"yesterday", "tomorrow", "tonight", "now", "current", "recent", "recently", "ago"}
)
PLAIN = FUNCTION - CRITICAL
"""Words that say nothing of a task by themselves."""
_MODIFYING = frozenset(
    {"again", "instead", "else", "other", "others", "another", "half", "same", "different", "both", "via", "using"}
    | {"including", "excluding", "ignoring", "skipping", "containing", "starting", "ending", "named", "called"}
    | {"sorted", "ordered", "grouped", "filtered", "thanks", "thank", "everywhere", "anywhere", "elsewhere"}
    | {"everything", "everyone", "everybody", "anyone", "anything", "nobody", "nothing", "even", "ever", "once"}
    | {"hourly", "daily", "weekly", "monthly", "yearly", "morning", "afternoon", "evening", "weekend", "week"}
    | {"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
)
"""Words that mostly say how, when or of how many something is done, and belong to no name."""
_NAMED_LY = frozenset({"family", "assembly", "supply", "reply", "july", "italy", "sicily", "emily", "butterfly"})
_INNER = frozenset("(-–—/&+")
_LIGHT = PLAIN | {"please", "kindly", "tell", "show", "give", "find", "get", "s"}
_NEUTRAL = frozenset({"a", "an", "the", "of"})
_FINAL = ".!?"
_OPENING = frozenset("$#(€£@")
_PROSE_TOKENS = 6


def is_anchor(token: Token) -> bool:
    """Whether a literal token of a template tells the task from others: a content word or a critical one."""
    return token.kind is not Kind.PUNCT and not token.noise and token.key not in _LIGHT


def carries_content(tokens: Sequence[Token]) -> bool:
    """Whether a phrase holds at least one word that may be a value."""
    return any(token.kind is not Kind.PUNCT and token.key not in FUNCTION for token in tokens)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What values have in common: marks and small words, commas, articles in front, full stops at the end.

    `named` says that all their words are written as names are, with a capital.
    """

    marks: frozenset[str]
    commas: frozenset[int]
    articles: frozenset[bool]
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
        commas=frozenset(_commas(tokens) for tokens in read),
        articles=frozenset(tokens[0].key in ARTICLES for tokens in read if tokens),
        stops=frozenset(tokens[-1].text in _FINAL for tokens in read if tokens),
        tokens=longest,
        prose=longest >= _PROSE_TOKENS and len(marks & FUNCTION) >= 2,
        named=bool(read) and not any(map(_plain_words, read)),
    )


def _plain_words(tokens: Sequence[Token]) -> list[str]:
    """The words of a phrase that are written small, small words aside."""
    return [t.text for t in tokens if t.kind is Kind.WORD and t.text[:1].islower() and t.key not in FUNCTION]


def marks_of(tokens: Sequence[Token]) -> set[str]:
    """The small and modifying words of a phrase, and signs for a number, quotes and punctuation inside it."""
    marks: set[str] = set()
    for position, token in enumerate(tokens):
        after = tokens[position + 1] if position + 1 < len(tokens) else None
        if token.kind is Kind.WORD and token.key in FUNCTION:
            is_month = token.text == "May" and after is not None and after.kind is Kind.NUMBER
            marks |= set() if is_month else {token.key}
        elif token.kind is Kind.WORD and (token.key in _MODIFYING or (position and _is_adverb(token.key))):
            marks.add(token.key)
        elif token.kind in (Kind.NUMBER, Kind.QUOTED):
            marks.add(str(token.kind))
        elif token.text == "," or (token.text in ".!?;:" and after is not None):
            marks.add("," if token.text == "," else ".")
        elif token.text in _INNER and position:
            marks.add(token.text)
    return marks


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and len(word) > 4 and word not in _NAMED_LY


def strange(
    examples: tuple[str, ...], tokens: Sequence[Token], anchors: frozenset[str], *, article: bool
) -> str | None:
    """Why a phrase is unlike the values seen so far; None if it may be one of them.

    `anchors` are the literal words of the template, `article` says that one stands before the slot there.
    """
    shape = shape_of(examples)
    first, last = tokens[0], tokens[-1]
    if first.key in ARTICLES and (article or (True not in shape.articles and not shape.prose)):
        return "it begins with an article, as no value did before"
    if last.noise or last.key in ARTICLES:
        return "it ends with an article"
    if (last.text in _FINAL) not in shape.stops:
        return "the full stop may or may not belong to it"
    if (first.kind is Kind.PUNCT and first.text not in _OPENING) or last.text in (",", ";", ":"):
        return "it begins or ends with punctuation"
    repeated = next((token.text for token in tokens if token.key in anchors), None)
    if repeated is not None:
        return f"{repeated!r} belongs to the wording"
    if (not shape.prose or 0 not in shape.commas) and _commas(tokens) not in shape.commas:
        return "it lists more or fewer things than before"
    if shape.prose:
        return None
    new = marks_of(tokens) - shape.marks - _NEUTRAL
    if new:
        return f"{', '.join(sorted(map(repr, new)))} may say more than a value does"
    if shape.named and _plain_words(tokens):
        return f"{_plain_words(tokens)[0]!r} is written small, and names stood there before"
    if len(tokens) > 2 * shape.tokens + 3:
        return "it is much longer than the values before"
    return None


def _commas(tokens: Sequence[Token]) -> int:
    return sum(token.text == "," for token in tokens)


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
