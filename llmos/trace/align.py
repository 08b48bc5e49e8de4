"""A template laid over a goal: every way its words and slots read the goal's tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from llmos.trace.english import ASKING, COMING_AND_GOING
from llmos.trace.lex import Kind, Place, Token, is_noise
from llmos.trace.phrases import is_anchor, is_clause, strange
from llmos.trace.program import Slot, SlotType, Trace
from llmos.trace.suffixes import suffix_of
from llmos.trace.values import Const, Expr, Opaque, SlotRef, Text, leaves_of

SAFE_INLINE = re.compile(r"(?!-)[A-Za-z0-9_./][A-Za-z0-9_./-]*")
_MAX_TRIES = 1_000
_MAX_TEXT_TOKENS = 400
_MAX_CHOICE_TOKENS = 20
_MAX_LIST_TOKENS = 2_000

Bindings: TypeAlias = dict[str, Any]
"""Slot names to their values: texts, for slots that take many lists of texts."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What the gate may ask about the surroundings.

    `exists`: does a path exist in the workspace; `values`: what a parameter of a tool may take, in its tool's own
    words (None: the tool does not say); `phrases`: which parameters of a tool take any text; `listed`: every value
    that some parameter of a tool may take.
    """

    exists: Callable[[str], bool] = lambda path: False
    values: Callable[[str, str], frozenset[str] | None] = lambda tool, parameter: None
    phrases: Callable[[str], frozenset[str]] = lambda tool: frozenset()
    listed: Callable[[str], frozenset[str]] = lambda tool: frozenset()


class TooManyWaysError(Exception):
    """The search for a reading was given up."""


@dataclass(frozen=True, kw_only=True)
class Aligner:
    """Lays one template (`pattern`) of a trace over a goal; `finals` are the marks that end its sentence."""

    goal: str
    pattern: Sequence[Token | Place]
    tokens: Sequence[Token]
    trace: Trace
    world: World
    finals: Sequence[Token] = ()
    tries: list[None] = field(default_factory=list)

    def alignments(self, i: int, j: int) -> Iterator[Bindings]:
        """Every way the pattern from i on reads the tokens from j on."""
        while i < len(self.pattern):
            part = self.pattern[i]
            if isinstance(part, Place):
                yield from self.bindings(part, i, j)
                return
            j = self.past_noise(j)
            if j == len(self.tokens) or not self.same(part, self.tokens[j]):
                return
            i, j = i + 1, j + 1
        if self.past_noise(j) == len(self.tokens):
            yield {}

    def bindings(self, place: Place, i: int, j: int) -> Iterator[Bindings]:
        """Every way a slot, and what follows it, reads the tokens from j on."""
        slot = self.trace.slot(place.slot)
        if slot.type is not SlotType.TEXT or self.vocabulary(slot) is not None:
            j = j if self._is_listed_with_article(slot, j) else self.past_noise(j)
        elif place.article and j < len(self.tokens) and self.tokens[j].noise and not self._may_be_of_name(j):
            j += 1
        for length in self.lengths(slot, i, j):
            if not self.may_follow(i + 1, j + length):
                continue
            self.tries.append(None)
            if len(self.tries) > _MAX_TRIES:
                raise TooManyWaysError
            value, refusal = self.bound(slot, j, length)
            if refusal is None:
                for rest in self.alignments(i + 1, j + length):
                    yield {slot.name: value, **rest}

    def _is_listed_with_article(self, slot: Slot, j: int) -> bool:
        """Whether the article at j is the first word of a value that a tool lists: `The Batman`."""
        known = self.vocabulary(slot)
        if known is None or j == len(self.tokens) or not self.tokens[j].noise:
            return False
        most = min(len(self.tokens) - j, _MAX_CHOICE_TOKENS)
        return any(self.text(j, length).casefold() in known for length in range(2, most + 1))

    def _may_be_of_name(self, j: int) -> bool:
        """Whether an article may be the first word of a name: `Rate The Hobbit`, not `The hobbit`."""
        after = self.tokens[j + 1].text if j + 1 < len(self.tokens) else ""
        return bool(j) and self.tokens[j].text[:1].isupper() and after[:1].isupper()

    def may_follow(self, i: int, j: int) -> bool:
        """Whether the next word of the template may stand at j (spares trying values that lead nowhere)."""
        if i == len(self.pattern):
            return self.past_noise(j) == len(self.tokens)
        part, j = self.pattern[i], self.past_noise(j)
        return isinstance(part, Place) or (j < len(self.tokens) and self.same(part, self.tokens[j]))

    def past_noise(self, j: int) -> int:
        while j < len(self.tokens) and is_noise(self.tokens[j]):
            j += 1
        return j

    def lengths(self, slot: Slot, i: int, j: int) -> range:
        """How many tokens a slot may take at j."""
        left = len(self.tokens) - j - (len(self.pattern) - i - 1)
        many = {SlotType.TEXT: _MAX_TEXT_TOKENS, SlotType.CHOICE: _MAX_CHOICE_TOKENS}
        most = _MAX_LIST_TOKENS if slot.many else many.get(slot.type, 1)
        return range(1, min(left, most) + 1)

    @cached_property
    def cased(self) -> frozenset[str]:
        return case_sensitive_words(self.trace)

    @cached_property
    def anchors(self) -> frozenset[str]:
        return frozenset(part.key for part in self.pattern if isinstance(part, Token) and is_anchor(part))

    @cached_property
    def articles(self) -> frozenset[str]:
        return frozenset(part.slot for part in self.pattern if isinstance(part, Place) and part.article)

    @cached_property
    def parameters(self) -> dict[str, list[tuple[str, str]]]:
        """The tools' parameters that take each slot as it is."""
        found: dict[str, list[tuple[str, str]]] = {}
        for step in self.trace.calls:
            for parameter, expr in step.args.items():
                if isinstance(expr, SlotRef) and not expr.transforms:
                    found.setdefault(expr.name, []).append((step.tool, parameter))
        return found

    @cached_property
    def _vocabularies(self) -> dict[str, dict[str, str] | None]:
        return {slot.name: self._vocabulary(slot) for slot in self.trace.slots}

    def vocabulary(self, slot: Slot) -> dict[str, str] | None:
        """What a slot may be, as the tools spell it, by its form without case; None if nothing closes it off."""
        return self._vocabularies[slot.name]

    def _vocabulary(self, slot: Slot) -> dict[str, str] | None:
        if slot.values:
            return {value: value for value in slot.values}
        closed = []
        for tool, parameter in self.parameters.get(slot.name, ()):
            listed = self.world.values(tool, parameter)
            closed += [set(listed)] if listed is not None else []
        if not closed and slot.folded and slot.listed is None:
            closed = [set(slot.examples)]
        if not closed:
            return None
        known = sorted(set.intersection(*closed))
        return {value.casefold(): value for value in known} | {value: value for value in known}

    def same(self, expected: Token, actual: Token) -> bool:
        """Whether a literal of the template stands here; case counts for words the steps contain."""
        if expected.key != actual.key or (expected.kind.is_literal != actual.kind.is_literal):
            return False
        if expected.text == actual.text or expected.kind is not Kind.WORD:
            return True
        return not {expected.text, actual.text} & self.cased

    def text(self, j: int, length: int) -> str:
        """What the goal says in the tokens j…j+length, without quotes around a single one."""
        taken = self.tokens[j : j + length]
        return taken[0].value if length == 1 else self.goal[taken[0].start : taken[-1].end]

    def bound(self, slot: Slot, j: int, length: int) -> tuple[Any, str | None]:
        """The value a slot gets from tokens j…j+length, and why it is refused (None: it is not)."""
        taken = list(self.tokens[j : j + length])
        if slot.many:
            return self._bound_many(slot, taken)
        if slot.type is SlotType.TEXT and j + length == len(self.tokens) and self._keeps_stop(slot):
            taken += self.finals[:1]
        return self._bound_one(slot, taken)

    def _keeps_stop(self, slot: Slot) -> bool:
        """Whether the mark at the end of the sentence belongs to the value, as it did when it was learned."""
        return bool(slot.examples) and all(example[-1:] in (".", "!", "?") for example in slot.examples)

    def _bound_one(self, slot: Slot, taken: Sequence[Token]) -> tuple[Any, str | None]:
        value = taken[0].value if len(taken) == 1 else self.goal[taken[0].start : taken[-1].end]
        known = self.vocabulary(slot)
        if known is not None and len(taken) == 1 and known.get(value, value) != value and value in COMING_AND_GOING:
            return value, f"{value!r} may be the small word, not {known[value]!r}"
        if known is None and slot.folded:  # of a look-up that is still to come, the spelling of these is known
            known = {example.casefold(): example for example in slot.examples}
        if known is not None and not slot.values:
            value = known.get(value, known.get(value.casefold(), value))
        return value, self.refusal(slot, taken, value)

    def _bound_many(self, slot: Slot, taken: Sequence[Token]) -> tuple[Any, str | None]:
        """A list of values: `a, b and c`."""
        items: list[list[Token]] = [[]]
        for token in taken:
            if token.text in (",", "&") or token.key == "and":
                items.append([])
            elif not is_noise(token):
                items[-1].append(token)
        if not items[-1] or not items[0]:
            return [], "the list is not complete"
        bound = [self._bound_one(slot, item) for item in items if item]
        values = [value for value, _ in bound]
        refusal = next((why for _, why in bound if why is not None), None)
        if refusal is None and len(set(values)) < len(values):
            refusal = f"{slot.name} names something twice"
        return values, refusal

    def refusal(self, slot: Slot, taken: Sequence[Token], value: str) -> str | None:
        """Why a slot does not take a value; None if it does."""
        if not self.fits_type(slot, taken, value):
            return f"{value!r} is no {slot.type}"
        known = self.vocabulary(slot)
        if known is not None and value not in known:
            listed = sorted(set(known.values()))
            return f"{value!r} is none of the known values of {slot.name}: {', '.join(listed[:8]) or 'none'}"
        if slot.suffix is not None and other_suffix(slot, value):
            return f"{value!r} does not end in {slot.suffix.replace('|', ' or ') or 'no suffix'}, as {slot.name} must"
        if slot.parent is not None and str(PurePosixPath(value).parent) != slot.parent:
            return f"{value!r} does not lie in {slot.parent!r}, as {slot.name} must"
        if slot.type is SlotType.EXPRESSION and self._is_no_arithmetic(value):
            return f"{value!r} may be a date, a telephone number or a figure of speech; with spaces it is arithmetic"
        if slot.type is SlotType.EXPRESSION and any(map(ambiguous_number, re.findall(r"[\d.,]+", value))):
            return f"{value!r} has a number that may be a thousand or a fraction; write it without the point"
        if slot.type is SlotType.NUMBER and ambiguous_number(value):
            return f"{value!r} may be a thousand or a fraction; write it without the point or with more digits"
        if slot.inline and not safe_inline(value, slot.type):
            return f"{value!r} has characters that are not safe inside a command"
        if slot.type is SlotType.TEXT and slot.examples and known is None:
            article, checked = slot.name in self.articles, slot.listed is not None
            why = strange(slot.examples, taken, self.anchors, article=article, checked=checked)
            return None if why is None else f"{value!r} may be no value of {slot.name}: {why}"
        if slot.type is SlotType.TEXT and known is None and is_clause(taken):
            return f"{value!r} may be no value of {slot.name}: it may be a clause, or hold a second task"
        return None

    def _is_no_arithmetic(self, value: str) -> bool:
        """Whether what looks like arithmetic is more likely a date, a telephone number or, asked about, a phrase."""
        asked = self.tokens[0].key in ASKING if self.tokens else False
        return _NO_ARITHMETIC.fullmatch(value) is not None or (asked and value in _FIGURES_OF_SPEECH)

    def fits_type(self, slot: Slot, taken: Sequence[Token], value: str) -> bool:
        """Whether tokens are of a slot's kind."""
        kind = taken[0].kind
        match slot.type:
            case SlotType.TEXT:
                return bool(value.strip()) and balanced(value) and (bool(slot.examples) or not is_noise(taken[-1]))
            case SlotType.CHOICE:
                return True
            case _ if len(taken) > 1:
                return False
            case SlotType.PATH:
                named = kind in (Kind.WORD, Kind.IDENTIFIER, Kind.NUMBER, Kind.QUOTED)
                return kind is Kind.PATH or (named and self.world.exists(value))
            case SlotType.EXPRESSION:
                return kind in (Kind.EXPRESSION, Kind.NUMBER)
            case SlotType.QUOTED:
                return kind is Kind.QUOTED or (taken[0].text != value and kind is Kind.PATH)
            case _:
                return str(kind) == str(slot.type)


def other_suffix(slot: Slot, value: str) -> bool:
    """Whether a file's name ends otherwise than a slot wants it."""
    return slot.suffix is not None and suffix_of(value).lower() not in slot.suffix.lower().split("|")


_NO_ARITHMETIC = re.compile(r"\d{1,2}/\d{1,2}/\d{2,4}|\d{1,2}-\d{1,2}-\d{2,4}|\d{3}-\d{4}")
_FIGURES_OF_SPEECH = frozenset(("24/7", "9/11", "9-5"))
_PLAIN_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")
_SAFE_WORD = re.compile(r"(?!-)[A-Za-z0-9_-]+")


def safe_inline(value: str, kind: SlotType) -> bool:
    """Whether a value pasted into code stays one plain value there: no quote, blank, operator or pattern."""
    if kind is SlotType.NUMBER:
        return _PLAIN_NUMBER.fullmatch(value) is not None and not ambiguous_number(value)
    plain = SAFE_INLINE if kind in (SlotType.PATH, SlotType.DATE) else _SAFE_WORD
    return plain.fullmatch(value) is not None


def ambiguous_number(text: str) -> bool:
    """Whether a number is a thousand to some readers and a fraction to others (1.250)."""
    return re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", text) is not None


def balanced(text: str) -> bool:
    """Whether brackets and double quotes in a text are closed, so that a value is not cut in two."""
    closers = {")": "(", "]": "[", "}": "{"}
    stack: list[str] = []
    for char in text:
        if char in closers.values():
            stack.append(char)
        elif char in closers and (not stack or stack.pop() != closers[char]):
            return False
    return not stack and text.count('"') % 2 == 0


def case_sensitive_words(trace: Trace) -> frozenset[str]:
    """The words that stand in a trace's arguments: there, case may matter."""
    words: set[str] = set()
    for node in trace.nodes:
        for expr in node.exprs:
            for text in constant_texts(expr):
                words.update(re.findall(r"\w+", text))
    return frozenset(words)


def constant_texts(expr: Expr) -> Iterator[str]:
    """The strings an expression holds fixed."""
    for leaf in leaves_of(expr):
        if isinstance(leaf, Const | Opaque):
            yield from _strings(leaf.value)
        elif isinstance(leaf, Text):
            yield from (part for part in leaf.parts if isinstance(part, str))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
