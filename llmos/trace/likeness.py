"""How likely a goal means a trace whose wording or values it does not quite have: features of the nearest reading.

Two readings are tried. Where every value of a goal is delimited or known to a tool, the wording may differ by rewrites
that other wordings license. Where the wording fits, values may be unlike those seen before. Words on which the meaning
turns are never passed over: what differs in them without a licence is not likely at all.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

from llmos.trace.align import Aligner, Bindings, TooManyWaysError, World, case_sensitive_words
from llmos.trace.lex import Kind, Place, Token, asks, escape_template, template_tokens, tokenize, without_final
from llmos.trace.match import Match
from llmos.trace.phrases import is_anchor
from llmos.trace.program import Slot, SlotType, Trace
from llmos.trace.rewrites import UNLICENSED, Book, Words, plain_words, telling_words, wordings

_MAX_READINGS = 24
_MAX_VALUE_TOKENS = 8
_MAX_REWRITES = 2.75
_MAX_GUESSED = 2 * UNLICENSED
_MIN_HELD = 2
_MARGIN = 0.6


@dataclass(frozen=True, kw_only=True)
class Features:
    """What speaks for and against a reading.

    `rewrites` is the cost of the licensed rewrites, `held` the telling words of the wording that stand unchanged,
    `strange` the values unlike those known, `slots` all of them, `wordings` how many the trace has.
    """

    rewrites: float = 0.0
    held: int = 0
    strange: int = 0
    slots: int = 0
    wordings: int = 1


@dataclass(frozen=True, kw_only=True)
class Likely:
    """A reading of a goal as an instance of a trace, with what speaks for it."""

    found: Match
    features: Features


def likely(goal: str, traces: Sequence[Trace], world: World) -> Likely | None:
    """The one nearest reading of a goal that no trace is proven for; None if there is none, or two that differ."""
    goal = unicodedata.normalize("NFC", goal)
    found = [reading for trace in traces for reading in _reworded(goal, trace, traces, world)]
    if not found:
        found = [reading for trace in traces for reading in _stretched(goal, trace, world)]
    if not found:
        found = [reading for trace in traces for reading in _reworded(goal, trace, traces, world, guessing=True)]
    if not found:
        return None
    best = min(found, key=_distance)
    near = [one for one in found if _distance(one) <= _distance(best) + _MARGIN]
    return best if all(_does_the_same(one.found, best.found) for one in near) else None


def _distance(one: Likely) -> float:
    return one.features.rewrites + one.features.strange


def _does_the_same(one: Match, other: Match) -> bool:
    return one.trace.steps == other.trace.steps and dict(one.bindings) == dict(other.bindings)


# --- other words -------------------------------------------------------------------------------------


def _reworded(
    goal: str, trace: Trace, traces: Sequence[Trace], world: World, *, guessing: bool = False
) -> Iterator[Likely]:
    """Readings in which every value is delimited or known, and rewrites lead to one of the wordings."""
    if asks(goal) and trace.effect.changes_world:
        return
    tokens = without_final(tokenize(goal))
    aligner = Aligner(goal=goal, pattern=(), tokens=tokens, trace=trace, world=world)
    slots = [slot for slot in trace.slots if slot.default is None]
    if any(slot.many or (slot.type is SlotType.TEXT and aligner.vocabulary(slot) is None) for slot in slots):
        return
    types = [slot.type for slot in slots]
    prepositions = len(set(types)) < len(types)
    others = tuple(one.goals for one in traces if one.id != trace.id and one.steps != trace.steps)
    book = Book(goals=trace.goals, others=others, prepositions=prepositions)
    best: list[tuple[float, Likely]] = []
    for spans in _readings(slots, aligner):
        reading = _read(goal, tokens, spans, book, trace, guessing=guessing)
        if reading is not None:
            best.append((reading.features.rewrites, reading))
    if best:
        least = min(price for price, _ in best)
        chosen = [reading for price, reading in best if price == least]
        if len({str(sorted(one.found.bindings.items())) for one in chosen}) == 1:
            yield chosen[0]


_Spans = dict[str, tuple[int, int, Any]]


def _readings(slots: Sequence[Slot], aligner: Aligner) -> Iterator[_Spans]:
    """Every way to find a value for each slot in the goal, none in the place of another; the longest values first."""
    places = [list(_places(slot, aligner)) for slot in slots]
    tried = 0
    for chosen in product(*places):
        ordered = sorted(chosen)
        if any(left[1] > right[0] for left, right in pairwise(ordered)):
            continue
        tried += 1
        if tried > _MAX_READINGS:
            return
        yield {slot.name: span for slot, span in zip(slots, chosen, strict=True)}


def _places(slot: Slot, aligner: Aligner) -> Iterator[tuple[int, int, Any]]:
    """Where in the goal a slot's value may stand; a value inside a longer one that also fits is passed over."""
    found: list[tuple[int, int, Any]] = []
    most = _MAX_VALUE_TOKENS if aligner.vocabulary(slot) is not None else 1
    for length in range(most, 0, -1):
        for start in range(len(aligner.tokens) - length + 1):
            if any(a <= start and start + length <= b for a, b, _ in found):
                continue
            value, refusal = aligner.bound(slot, start, length)
            if refusal is None:
                found.append((start, start + length, value))
    return iter(found)


def _read(
    goal: str, tokens: Sequence[Token], spans: _Spans, book: Book, trace: Trace, *, guessing: bool
) -> Likely | None:
    """One way to bind the slots, if rewrites lead from a wording to what is left of the goal."""
    parts = _with_places(tokens, spans)
    cased = case_sensitive_words(trace)
    folded = {word.casefold() for word in cased}
    if any(isinstance(part, Token) and part.key in folded and part.text not in cased for part in parts):
        return None
    words = telling_words(plain_words(parts), prepositions=book.prepositions)
    near = book.distance(words, _MAX_GUESSED if guessing else _MAX_REWRITES, guessing=guessing)
    if near is None:
        return None
    price, wording = near
    shared = set(words) & set(wording) - {"?"}
    held = len(shared)
    if guessing and (held < _MIN_HELD or price > UNLICENSED * held or all(word.startswith("<") for word in shared)):
        return None
    features = Features(rewrites=price, held=held, slots=len(spans), wordings=len(trace.goals))
    defaults = {slot.name: slot.default for slot in trace.slots if slot.default is not None}
    found = Match(
        trace=trace,
        template=_template_of(wording, trace, book.prepositions),
        bindings=defaults | {name: value for name, (_, _, value) in spans.items()},
        anchors=held,
        wording=_wording(goal, tokens, spans),
        doubt=1.0,
    )
    return Likely(found=found, features=features)


def _with_places(tokens: Sequence[Token], spans: _Spans) -> list[Token | Place]:
    starts = {start: (end, name) for name, (start, end, _) in spans.items()}
    parts: list[Token | Place] = []
    position = 0
    while position < len(tokens):
        if position in starts:
            position, name = starts[position]
            parts.append(Place(slot=name))
        else:
            parts.append(tokens[position])
            position += 1
    return parts


def _template_of(words: Words, trace: Trace, prepositions: bool) -> str:
    for template, known in zip(trace.goals, wordings(trace.goals, prepositions), strict=True):
        if known == words:
            return template
    return trace.goals[0]


def _wording(goal: str, tokens: Sequence[Token], spans: Mapping[str, tuple[int, int, Any]]) -> str:
    """The goal as a template."""
    template, position = "", 0
    for name, (start, end, _) in sorted(spans.items(), key=lambda item: item[1][0]):
        template += escape_template(goal[position : tokens[start].start]) + "{" + name + "}"
        position = tokens[end - 1].end
    end = len(goal) if goal.endswith("?") else tokens[-1].end
    return template + escape_template(goal[position:end])


# --- other values ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Lenient(Aligner):
    """Binds values that the strict reading refuses because they are unlike the known ones."""

    def refusal(self, slot: Slot, taken: Sequence[Token], value: str) -> str | None:
        if slot.type is SlotType.TEXT and not slot.values:
            if not self.fits_type(slot, taken, value) or (taken[0].kind is Kind.PUNCT and taken[0].text in ",;:.!?"):
                return "it is no phrase"
            return "it belongs to the wording" if any(token.key in self.anchors for token in taken) else None
        return super().refusal(slot, taken, value)

    def is_strange(self, name: str, value: Any) -> bool:
        slot = self.trace.slot(name)
        if slot.type is not SlotType.TEXT or not isinstance(value, str):
            return False
        return super().refusal(slot, tokenize(value), value) is not None


def _stretched(goal: str, trace: Trace, world: World) -> Iterator[Likely]:
    """Readings by one of the wordings as it is, with values unlike the known ones."""
    if asks(goal) and trace.effect.changes_world:
        return
    read = tokenize(goal)
    tokens = without_final(read)
    for template in trace.goals:
        pattern = template_tokens(template)
        aligner = _Lenient(
            goal=goal, pattern=pattern, tokens=tokens, trace=trace, world=world, finals=read[len(tokens) :]
        )
        bindings = _only(aligner)
        if bindings is None:
            continue
        defaults = {slot.name: slot.default for slot in trace.slots if slot.default is not None}
        held = sum(isinstance(part, Token) and is_anchor(part) for part in pattern)
        strange = sum(aligner.is_strange(name, value) for name, value in bindings.items())
        found = Match(
            trace=trace, template=template, bindings=defaults | bindings, anchors=held, wording=template, doubt=1.0
        )
        features = Features(held=held, strange=max(strange, 1), slots=len(bindings), wordings=len(trace.goals))
        yield Likely(found=found, features=features)


def _only(aligner: Aligner) -> Bindings | None:
    """The one way to read a goal by a template; None if there is none, or a second."""
    found: list[Bindings] = []
    try:
        for bindings in aligner.alignments(0, 0):
            if bindings not in found:
                found.append(bindings)
            if len(found) > 1:
                return None
    except TooManyWaysError:
        return None
    return found[0] if found else None
