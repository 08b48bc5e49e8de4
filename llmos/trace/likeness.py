"""How likely a goal means a trace whose wording or values it does not quite have: the nearest reading, its features.

Two kinds of readings are tried. Where every value of a goal is delimited, seen before or known to a tool, the wording
may differ by rewrites that other wordings show. Where a wording fits, values may be unlike those seen before. What
speaks for and against a reading is counted; how doubtful that makes it is said in `equivalence`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmos.trace.align import Aligner, Bindings, TooManyWaysError, World, case_sensitive_words, other_suffix
from llmos.trace.english import ARTICLES
from llmos.trace.frames import Spans, frames, leftover_values, with_places, worded
from llmos.trace.lex import Kind, Place, Token, asks, is_factorial, template_tokens, tokenize, without_final
from llmos.trace.match import Match, same_file
from llmos.trace.phrases import Oddity, anchors_of, is_anchor, oddities, shape_of
from llmos.trace.program import Slot, SlotType, Trace
from llmos.trace.rewrites import Library, Words, is_counting, is_slot, plain_words, telling_words, wordings

_MAX_PRICE = 6.0
_MIN_HELD = 2
_FAR = 5.0


@dataclass(frozen=True, kw_only=True)
class Features:
    """What speaks for and against a reading.

    `licensed`, `come`, `gone`, `guessed`, `turned` and `kin` say how its wording differs (`rewrites.Way`), `held` how
    many telling words stand unchanged, `wordings` how many wordings the trace has, `slots` how many values were bound,
    `opens` how many of these nothing closes off and nobody saw, `length` how many tokens those have, `seen` how many
    values were seen before in their place, `odd` what is unlike others in them, `others` how many more texts the tools
    would take, `foreign` how many values known to other traces are left over. `cosine` is how near the masked goal and
    wording are, `lead` by how much nearer than those of the next program, `gap` by how much this reading is nearer than
    the next one that would do something else.
    """

    licensed: float = 0.0
    come: int = 0
    gone: int = 0
    guessed: int = 0
    turned: int = 0
    kin: int = 0
    held: int = 0
    wordings: int = 1
    slots: int = 0
    opens: int = 0
    length: int = 0
    seen: int = 0
    odd: tuple[str, ...] = ()
    others: int = 0
    foreign: int = 0
    cosine: float = 0.0
    lead: float = 0.0
    gap: float = _FAR


@dataclass(frozen=True, kw_only=True)
class Likely:
    """A reading of a goal as an instance of a trace, with what speaks for it."""

    found: Match
    features: Features

    @property
    def distance(self) -> float:
        """How far the goal is from what is known, roughly: readings are ranked by it."""
        it = self.features
        price = it.licensed + 1.25 * it.come + 2.0 * it.gone + 3.0 * it.guessed + 0.5 * it.kin
        return price + it.opens + len(it.odd) + it.foreign - 2.0 * it.cosine


def likely(
    goal: str, traces: Sequence[Trace], world: World, cosines: Mapping[str, float] | None = None
) -> Likely | None:
    """The nearest reading of a goal that no trace is proven for; None if there is none, or two as near that differ.

    `cosines` says how near the masked goal is to each trace, by its id.
    """
    goal = unicodedata.normalize("NFC", goal)
    last = without_final(tokenize(goal))[-1:]
    if any(token.key in ARTICLES or token.text == "!" for token in last):
        return None  # an article at the end is a name, or the goal is broken off; a `!` that is kept is a factorial
    library = Library(traces=traces)
    found = [
        replace(reading, features=_with_cosine(reading, library, cosines or {}))
        for trace in traces
        if not (asks(goal) and trace.effect.changes_world)
        if not any(is_factorial(template, trace.slots) for template in trace.goals)
        for reading in (*_reworded(goal, trace, library, world), *_stretched(goal, trace, library, world))
        if same_file(trace, reading.found.bindings, template_tokens(reading.found.template)) is None
    ]
    if not found:
        return None
    best = min(found, key=lambda one: one.distance)
    others = [one.distance for one in found if not _does_the_same(one.found, best.found)]
    gap = min(_FAR, min(others, default=best.distance + _FAR) - best.distance)
    return replace(best, features=replace(best.features, gap=round(gap, 3))) if gap > 0 else None


def opened(found: Match, world: World) -> Features:
    """What speaks for a proven reading with phrases that only their shape speaks for."""
    values = [found.bindings[name] for name in found.open]
    return Features(
        held=len(anchors_of(found.template)),
        wordings=len(found.trace.goals),
        slots=len(found.trace.slots),
        opens=len(values),
        length=sum(len(tokenize(str(value))) for value in values),
        seen=min((_seen(found.trace.slot(name), found.trace) for name in found.open), default=0),
        others=_others(found.trace, world) + sum(_is_listed(value, found.trace, world) for value in values),
    )


def _seen(slot: Slot, trace: Trace) -> int:
    """How many values say what others are like; of sentences that change something one: anything may be in them."""
    is_any = trace.effect.changes_world and shape_of(slot.examples).prose
    return min(1, len(slot.examples)) if is_any else len(slot.examples)


def _is_listed(value: Any, trace: Trace, world: World) -> bool:
    """Whether a tool of the trace takes a phrase for another parameter, which lists it."""
    said = {one.casefold() for one in (value if isinstance(value, list) else [str(value)])}
    return any(said & {one.casefold() for one in world.listed(step.tool)} for step in trace.calls)


def _others(trace: Trace, world: World) -> int:
    """How many more texts the tools of a trace would take: what else a free phrase of a goal might be."""
    return sum(len(world.phrases(step.tool) - step.args.keys()) for step in trace.calls)


def _with_cosine(reading: Likely, library: Library, cosines: Mapping[str, float]) -> Features:
    own, program = cosines.get(reading.found.trace.id, 0.0), library.program(reading.found.trace)
    others = (cosines.get(one.id, 0.0) for one in library.traces if library.program(one) != program)
    return replace(reading.features, cosine=round(own, 4), lead=round(own - max(others, default=0.0), 4))


def _does_the_same(one: Match, other: Match) -> bool:
    return one.trace.steps == other.trace.steps and dict(one.bindings) == dict(other.bindings)


# --- other words -------------------------------------------------------------------------------------


def _reworded(goal: str, trace: Trace, library: Library, world: World) -> Iterator[Likely]:
    """The nearest reading in which every value is delimited, seen or known, and rewrites lead to a wording."""
    tokens = without_final(tokenize(goal))
    aligner = Aligner(goal=goal, pattern=(), tokens=tokens, trace=trace, world=world)
    best: list[Likely] = []
    for spans in frames(trace, aligner):
        reading = _read(goal, aligner, spans, library, world)
        if reading is not None:
            best.append(reading)
    if best:
        least = min(one.distance for one in best)
        chosen = [one for one in best if one.distance == least]
        if len({str(sorted(one.found.bindings.items())) for one in chosen}) == 1:
            yield chosen[0]


def _read(goal: str, aligner: Aligner, spans: Spans, library: Library, world: World) -> Likely | None:
    """One way to bind the slots, if rewrites lead from a wording to what is left of the goal."""
    trace, tokens = aligner.trace, aligner.tokens
    parts = with_places(tokens, spans)
    cased = case_sensitive_words(trace)
    folded = {word.casefold() for word in cased}
    if any(isinstance(part, Token) and part.key in folded and part.text not in cased for part in parts):
        return None
    book = library.book(trace)
    words = telling_words(plain_words(parts), book.free)
    near = book.nearest(words, _MAX_PRICE)
    if near is None:
        return None
    way, wording = near
    shared = set(words) & set(wording) - {"?"}
    held = len(shared)
    if way.guessed and (held < _MIN_HELD or way.guessed > held or all(map(is_slot, shared))):
        return None
    features = Features(
        licensed=way.licensed,
        come=way.come,
        gone=way.gone,
        guessed=way.guessed,
        turned=way.turned,
        kin=way.kin,
        held=held,
        wordings=len(trace.goals),
        slots=len(spans),
        foreign=leftover_values(parts, library.traces, book.known, world),
    )
    defaults = {slot.name: slot.default for slot in trace.slots if slot.default is not None}
    found = Match(
        trace=trace,
        template=_template_of(wording, trace, book.free),
        bindings=defaults | {name: value for name, (_, _, value) in spans.items()},
        anchors=held,
        wording=worded(goal, tokens, spans),
        doubt=1.0,
    )
    return Likely(found=found, features=features)


def _template_of(words: Words, trace: Trace, free: frozenset[str]) -> str:
    for template, known in zip(trace.goals, wordings(trace.goals, free), strict=True):
        if known == words:
            return template
    return trace.goals[0]


# --- other values ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Lenient(Aligner):
    """Binds values that the strict reading refuses because they are unlike the known ones."""

    def refusal(self, slot: Slot, taken: Sequence[Token], value: str) -> str | None:
        if slot.type is SlotType.TEXT and self.vocabulary(slot) is None:
            if not self.fits_type(slot, taken, value) or (taken[0].kind is Kind.PUNCT and taken[0].text in ",;:.!?"):
                return "it is no phrase"
            return None
        return super().refusal(replace(slot, suffix=None), taken, value)

    def strangeness(self, name: str, value: Any) -> tuple[int, set[str]]:
        """How many tokens a value has that is unlike the known ones or new, and what is odd about it."""
        slot = self.trace.slot(name)
        if isinstance(value, str) and other_suffix(slot, value):
            return 1, {str(Oddity.SUFFIX)}
        if slot.type is not SlotType.TEXT or not isinstance(value, str) or value in slot.examples:
            return 0, set()
        tokens = tokenize(value)
        if self.vocabulary(slot) is not None:
            return 0, set()
        article, checked = slot.name in self.articles, slot.listed is not None
        odd = oddities(slot.examples, tokens, self.anchors, article=article, checked=checked)
        return 0 if checked and not odd else len(tokens), set(map(str, odd))


@dataclass(frozen=True, kw_only=True)
class _Loose(_Lenient):
    """Passes over words that are `free` to come and go, too; `pattern` has none of them."""

    free: frozenset[str]

    def past_noise(self, j: int) -> int:
        while j < len(self.tokens) and _is_free(self.tokens, j, self.free):
            j += 1
        return j


def _is_free(parts: Sequence[Token | Place], at: int, free: frozenset[str]) -> bool:
    token = parts[at]
    if isinstance(token, Place) or token.noise:
        return isinstance(token, Token)
    if is_counting([part.key if isinstance(part, Token) else "" for part in parts[: at + 1]], at):
        return False
    return token.kind is Kind.WORD and token.key in free and token.text[:1].islower()


def _stretched(goal: str, trace: Trace, library: Library, world: World) -> Iterator[Likely]:
    """Readings by one of the wordings, but for words that may come and go, with values unlike the known ones."""
    read = tokenize(goal)
    tokens, free = without_final(read), library.free(trace)
    for template in trace.goals:
        pattern = template_tokens(template)
        plain = [part for at, part in enumerate(pattern) if not _is_free(pattern, at, free)]
        finals = read[len(tokens) :]
        strict = _Lenient(goal=goal, pattern=pattern, tokens=tokens, trace=trace, world=world, finals=finals)
        loose = _Loose(goal=goal, pattern=plain, tokens=tokens, trace=trace, world=world, finals=finals, free=free)
        for aligner in (strict, loose):
            bindings = _only(aligner)
            if bindings is not None:
                yield _stretch(aligner, template, bindings)
                break


def _stretch(aligner: _Lenient, template: str, bindings: Bindings) -> Likely:
    trace = aligner.trace
    values = [aligner.strangeness(name, value) for name, value in bindings.items()]
    features = Features(
        held=sum(isinstance(part, Token) and is_anchor(part) for part in aligner.pattern),
        wordings=len(trace.goals),
        come=int(isinstance(aligner, _Loose)),
        slots=len(bindings),
        opens=sum(length > 0 for length, _ in values),
        length=sum(length for length, _ in values),
        odd=tuple(sorted({one for _, odd in values for one in odd})),
        others=_others(trace, aligner.world),
    )
    defaults = {slot.name: slot.default for slot in trace.slots if slot.default is not None}
    found = Match(
        trace=trace,
        template=template,
        bindings=defaults | bindings,
        anchors=features.held,
        wording=template,
        doubt=1.0,
    )
    return Likely(found=found, features=features)


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
