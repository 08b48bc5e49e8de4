"""Goals as tokens: typed literals (paths, numbers, quoted text …) and words, and the masks recall works with."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from itertools import zip_longest

from llmos.errors import GoalError, TraceFormatError
from llmos.trace.english import ARTICLES, COURTESY, LINKS
from llmos.trace.program import Slot

MAX_GOAL_CHARS = 20_000


class Kind(StrEnum):
    """What a token is; the literal kinds carry the names of the slot types they bind to.

    TEXT is a phrase that an argument of a recorded run holds as a whole; no goal is read so by itself.
    """

    QUOTED = "quoted"
    URL = "url"
    EMAIL = "email"
    DATE = "date"
    PATH = "path"
    GLOB = "glob"
    NUMBER = "number"
    EXPRESSION = "expression"
    IDENTIFIER = "identifier"
    LIST = "list"
    TEXT = "text"
    WORD = "word"
    PUNCT = "punct"

    @property
    def is_literal(self) -> bool:
        return self not in (Kind.WORD, Kind.PUNCT)


@dataclass(frozen=True, kw_only=True)
class Token:
    """A piece of a goal: `text` as written (`goal[start:end]`), `value` without quotes.

    `noise` says that it is a courtesy or an article, which changes nothing.
    """

    kind: Kind
    text: str
    value: str
    start: int
    end: int
    noise: bool = False

    @cached_property
    def key(self) -> str:
        """What two tokens are compared by: words without case, everything else as written."""
        return self.text.casefold() if self.kind is Kind.WORD else self.value


_REQUEST = re.compile(
    r"(?:(?:can|could|would|will) you|i(?:'d| would) like you to|i (?:want|need) you to)\b(?: please| kindly)?", re.I
)
_FINAL = frozenset(".!?")

_EDGE = "\ue000"
"""Stands where a slot begins or ends while the text around it is read; no goal holds it."""

_FUNCTIONS = frozenset(
    {"sqrt", "sin", "cos", "tan", "log", "log10", "log2", "exp", "round", "abs", "min", "max", "floor", "ceil"}
)
# Everything repeated is possessive or bounded, so that no text of MAX_GOAL_CHARS makes matching slow.
_SEGMENT = r"(?:\.{1,2}(?=/)|(?:[\w@+=~-]++|[.,]++(?=[\w@+=~-])){1,64}+)"
_UNIT = r"(?:h|hrs?|min|mins|secs?|ms|kg|mg|km|cm|mm|kb|mb|gb|tb|kB|MB|GB|TB|KB|px|pt|am|pm)"
"""What may stand right behind a number without being part of a name."""
_GLOB_CHARS = r"[\w.@+=~*?\[\]-]"

_TOKEN = re.compile(
    r"""
      (?P<quoted>"[^"\n]*"|“[^“”\n]*”|`[^`\n]+`|(?<![\w])'(?:[^'\n]|(?<=\w)'(?=\w)){0,2000}+'(?![\w]))
    | (?P<list>\[[^\[\]\n]{0,2000}+\])
    | (?P<ranked>(?:top|bottom|first|last|next)-(?=\d{1,4}(?!\w)|EDGE))
    | (?P<url>https?://[^\s<>"'`]*[^\s<>"'`.,;:!?)\]}])
    | (?P<email>(?<![\w.+-])[\w.+-]{1,64}@[\w-]++(?:\.[\w-]++)+)
    | (?P<date>(?<![\w-])\d{4}-\d{2}-\d{2}(?![\w-]))
    | (?P<glob>(?<![\w.@+=~*?/\[\]-])
          (?=[\w.@+=~/\[\]-]{0,100}+[*?][\w.*?/\[-])(?=(?:~|\.{1,2})?/|[*?\d.]*+[^\W\d]|\*++/|[\[])
          ~?/?(?:GLB{1,255}+/)*+GLB{0,255}[\w*])
    | (?P<path>(?<![\w./~@+=-])(?:
          (?=[\w.@+=~,/-]{0,100}[^\W\d]|\.{0,2}/)(?:~/|\.{0,2}/)?+(?:SEG/)++(?:\.\.(?![\w./])|SEG)?+(?![\w/])
        | ~?/(?:SEG)?+(?![\w/])
        | \.{1,2}/(?:SEG)(?![\w/])
        | (?<!\S)(?:\.{1,2}/){0,50}\.{1,2}/?(?=\s|$)
        | \.?[\w@+=~-][\w.@+=~-]{0,255}\.[^\W\d_][A-Za-z0-9]{0,9}(?![\w/])
      ))
    | (?P<number>(?<![\w.])(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)|[1-9]\d*(?:\.\d+)?(?=UNIT(?!\w))))
    | (?P<word>\w+(?:['’-]\w+|\.\d+)*)
    | (?P<punct>\*\*|//|\S)
    """.replace("EDGE", _EDGE)
    .replace("UNIT", _UNIT)
    .replace("SEG", _SEGMENT)
    .replace("GLB", _GLOB_CHARS),
    re.VERBOSE,
)


def check_goal(goal: str) -> str:
    """The goal without surrounding space.

    Raises:
        GoalError: empty, longer than MAX_GOAL_CHARS, or not text.
    """
    if len(goal) > MAX_GOAL_CHARS:
        raise GoalError(
            f"the goal has {len(goal):,} characters, more than the {MAX_GOAL_CHARS:,} allowed; "
            "put the material in a file and name the file."
        )
    if any(unicodedata.category(char) in ("Cc", "Cs", "Cn", "Co") and char not in "\n\r\t" for char in goal):
        raise GoalError("the goal has bytes that are not text; state it in plain words.")
    if not any(char.isalnum() for char in goal):
        raise GoalError("the goal is empty; state in plain words what should be done.")
    return unicodedata.normalize("NFC", goal.strip())


def tokenize(goal: str) -> list[Token]:
    """Split a goal into tokens, typed literals first; arithmetic becomes one EXPRESSION."""
    return list(_tokens(goal))


@lru_cache(maxsize=1024)
def _tokens(goal: str) -> tuple[Token, ...]:
    goal = unicodedata.normalize("NFC", goal)
    return tuple(_with_noise(goal, _merge_expressions(goal, list(_read(goal)))))


def _read(goal: str) -> Iterator[Token]:
    """The tokens as found; what only looked like a pattern, before the marks of the sentence, is read again."""
    for found in _TOKEN.finditer(goal):
        token = _token(found)
        if token.kind is not Kind.GLOB or re.search(r"[*?\[]", token.text):
            yield token
            continue
        for inner in _TOKEN.finditer(token.text):
            part = _token(inner)
            yield replace(part, start=token.start + part.start, end=token.start + part.end)


def _with_noise(goal: str, tokens: Sequence[Token]) -> list[Token]:
    """Mark courtesies, articles before what they belong to, and a request's polite opening."""
    opening = _REQUEST.match(goal)
    polite = opening.end() if opening else 0
    return [
        replace(token, noise=token.kind is Kind.WORD and (token.end <= polite or _changes_nothing(token, after)))
        for token, after in zip_longest(tokens, tokens[1:])
    ]


def _changes_nothing(token: Token, after: Token | None) -> bool:
    """Whether a word is a courtesy or an article; an `a` that stands alone may be a name."""
    if token.key in COURTESY or token.key == "the":
        return True
    if token.key not in ARTICLES or after is None or (token.text.isupper() and token.start > 0):
        return False
    counted = after.kind in (Kind.NUMBER, Kind.QUOTED, Kind.DATE)
    return counted or after.text == _EDGE or (after.kind is Kind.WORD and after.key not in LINKS)


def _token(found: re.Match[str]) -> Token:
    name, text = str(found.lastgroup), found.group(0)
    kind, value = Kind.WORD if name == "ranked" else Kind(name), text
    if kind is Kind.QUOTED:
        value = text[1:-1]
        kind = _quoted_kind(value)
    elif kind is Kind.WORD and (re.search(r"[\d_]", text) or re.search(r"[a-z][A-Z]", text)):
        kind = Kind.IDENTIFIER
    elif kind is Kind.PATH:
        value = text.rstrip("/") or text if text not in ("./", "../") else text.rstrip("/")
    return Token(kind=kind, text=text, value=value, start=found.start(), end=found.end())


def _quoted_kind(value: str) -> Kind:
    if re.fullmatch(r"[^\n*?]*[\w)]\.[A-Za-z][A-Za-z0-9]{0,9}|[\w. -]+(/[\w. -]+)+/?", value) and "://" not in value:
        return Kind.PATH
    return Kind.QUOTED


def _merge_expressions(goal: str, tokens: list[Token]) -> list[Token]:
    merged: list[Token] = []
    position = 0
    while position < len(tokens):
        length = _expression_length(tokens, position)
        if length > 1:
            start, end = tokens[position].start, tokens[position + length - 1].end
            text = goal[start:end]
            merged.append(Token(kind=Kind.EXPRESSION, text=text, value=text, start=start, end=end))
        else:
            merged.append(tokens[position])
        position += max(length, 1)
    return merged


_OPERATORS = frozenset({"+", "-", "*", "/", "%", "^", "**", "//"})
_MAX_DEPTH = 6


def _expression_length(tokens: Sequence[Token], start: int) -> int:
    """How many tokens from `start` on form arithmetic with an operator and balanced parentheses (0: none)."""
    best, depth, operators, operand, signed = 0, 0, 0, False, False
    for position in range(start, len(tokens)):
        token = tokens[position]
        text = token.text if token.kind in (Kind.PUNCT, Kind.WORD, Kind.IDENTIFIER) or token.text == "/" else ""
        if token.kind is Kind.NUMBER and not operand:
            operand = True
        elif text in _FUNCTIONS and not operand and _text(tokens, position + 1) == "(":
            operators += 1
        elif text == "(" and not operand and depth < _MAX_DEPTH:
            depth += 1
        elif text == ")" and operand and depth:
            depth -= 1
        elif text == "," and operand and depth:
            operand = False
        elif text in _OPERATORS and operand:
            operators, operand = operators + 1, text == "%" and not _starts_operand(tokens, position + 1)
        elif text in ("+", "-") and not signed:
            operators, signed = operators + 1, True
            continue
        else:
            break
        signed = False
        if depth == 0 and operators and operand:
            best = position - start + 1
    return best


def _text(tokens: Sequence[Token], position: int) -> str:
    return tokens[position].text if position < len(tokens) else ""


def _starts_operand(tokens: Sequence[Token], position: int) -> bool:
    follows = _text(tokens, position)
    return follows in _FUNCTIONS or follows == "(" or (position < len(tokens) and tokens[position].kind is Kind.NUMBER)


def asks(goal: str) -> bool:
    """Whether a goal is a question; `can you …?` is a request."""
    return goal.rstrip().endswith("?") and _REQUEST.match(goal) is None


def is_noise(token: Token) -> bool:
    """Whether a token is a courtesy or an article that changes nothing."""
    return token.noise


def without_final(tokens: Iterable[Token]) -> list[Token]:
    """The tokens without punctuation at the end of the sentence."""
    kept = list(tokens)
    while kept and kept[-1].kind is Kind.PUNCT and kept[-1].text in _FINAL and not _is_factorial(kept):
        kept.pop()
    return kept


def _is_factorial(tokens: Sequence[Token]) -> bool:
    """Whether a sentence ends with a number and a `!` that belongs to it."""
    if len(tokens) < 2 or tokens[-1].text != "!" or tokens[-2].end != tokens[-1].start:
        return False
    return tokens[-2].kind in (Kind.NUMBER, Kind.EXPRESSION) or tokens[-2].text == ")"


def significant(tokens: Iterable[Token]) -> list[Token]:
    """The tokens that carry meaning: no courtesy words, no punctuation at the end."""
    return [token for token in without_final(tokens) if not is_noise(token)]


def normalise(goal: str) -> str:
    """The goal as the exact look-up sees it: words without case, literals as written, one space between."""
    return " ".join(f"{t.kind}:{t.key}" if t.kind.is_literal else t.key for t in significant(tokenize(goal)))


def skeleton(goal: str) -> str:
    """The goal with every typed literal masked by its kind."""
    return " ".join(f"<{t.kind}>" if t.kind.is_literal else t.key for t in significant(tokenize(goal)))


_NOUNS = {
    Kind.QUOTED: "some text",
    Kind.URL: "a web address",
    Kind.EMAIL: "an email address",
    Kind.DATE: "a date",
    Kind.PATH: "a file",
    Kind.GLOB: "files",
    Kind.NUMBER: "a number",
    Kind.EXPRESSION: "an expression",
    Kind.LIST: "some things",
}


def masked(goal: str) -> str:
    """The goal as the encoder reads it: typed literals replaced by nouns."""
    return " ".join(_NOUNS.get(t.kind, t.text) for t in significant(tokenize(goal)))


# --- templates -------------------------------------------------------------------------------------

_PLACE = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A slot's place in a template; `article` says that an article stands right before it."""

    slot: str
    article: bool = False


def template_parts(template: str) -> list[str | Place]:
    """A template as literal text and slot places; `{{` and `}}` are braces."""
    parts: list[str | Place] = []
    literal, position = "", 0
    for found in _PLACE.finditer(template):
        literal += template[position : found.start()]
        position = found.end()
        if found.group(1):
            parts += [literal, Place(slot=found.group(1))] if literal else [Place(slot=found.group(1))]
            literal = ""
        else:
            literal += found.group(0)[0]
    literal += template[position:]
    if "{" in re.sub(_PLACE, "", template) or "}" in re.sub(_PLACE, "", template):
        raise TraceFormatError(f"goal template {template!r}: write a single brace as {{{{ or }}}}, a slot as {{name}}")
    return [*parts, literal] if literal else parts


def escape_template(text: str) -> str:
    """Literal text as it stands in a template."""
    return text.replace("{", "{{").replace("}", "}}")


def template_tokens(template: str) -> list[Token | Place]:
    """A template as significant tokens and places."""
    return list(_template_tokens(template))


@lru_cache(maxsize=4096)
def _template_tokens(template: str) -> tuple[Token | Place, ...]:
    tokens: list[Token | Place] = []
    parts = template_parts(template)
    for index, part in enumerate(parts):
        if isinstance(part, Place):
            before = tokens[-1] if tokens else None
            article = isinstance(before, Token) and before.key in ARTICLES
            tokens.append(replace(part, article=article))
        else:
            text = (_EDGE if index else "") + part + (_EDGE if index + 1 < len(parts) else "")
            tokens += [t for t in tokenize(text) if t.text != _EDGE]
    while tokens and isinstance(tokens[-1], Token) and tokens[-1].kind is Kind.PUNCT and tokens[-1].text in _FINAL:
        tokens.pop()
    return tuple(token for token in tokens if isinstance(token, Place) or not is_noise(token))


_COUNTED = frozenset(map(str, (Kind.NUMBER, Kind.EXPRESSION)))


def is_factorial(template: str, slots: Sequence[Slot]) -> bool:
    """Whether a template ends with a `!` that belongs to the number before it, whatever marks follow it."""
    stem = template.rstrip(".?!" + string.whitespace)
    if not template[len(stem) :].startswith("!"):
        return False
    last = template_parts(stem)[-1:]
    if last and isinstance(last[0], Place):
        return any(slot.name == last[0].slot and str(slot.type) in _COUNTED for slot in slots)
    tokens = tokenize("".join(map(str, last)))
    return bool(tokens) and (tokens[-1].kind in _COUNTED or tokens[-1].text == ")")


def template_skeleton(template: str, slots: Sequence[Slot]) -> str:
    """The skeleton of the goals a template stands for (slots of words keep a mask no goal has)."""
    types = {slot.name: slot.type for slot in slots}
    words = [
        f"<{types[t.slot]}>" if isinstance(t, Place) else f"<{t.kind}>" if t.kind.is_literal else t.key
        for t in template_tokens(template)
    ]
    return " ".join([*words, *("!" * is_factorial(template, slots))])


def template_masked(template: str, slots: Sequence[Slot]) -> str:
    """The template as the encoder reads it: slots and typed literals replaced by nouns."""
    types = {slot.name: slot.type for slot in slots}
    nouns = {str(kind): noun for kind, noun in _NOUNS.items()}
    words: list[str] = []
    for token in template_tokens(template):
        if isinstance(token, Place):
            words.append(nouns.get(str(types[token.slot]), token.slot.replace("_", " ")))
        else:
            words.append(_NOUNS.get(token.kind, token.text))
    return " ".join([*words, *("!" * is_factorial(template, slots))])
