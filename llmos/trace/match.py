"""A goal against a trace's templates: bind every slot and leave nothing over, or say why not.

The gate is strict: literal words must stand in the template's order, every slot must bind a value of its type,
and nothing of the goal may be left unexplained. A refusal names the rule and the words.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.align import Aligner, Bindings, TooManyWaysError, World
from llmos.trace.english import DIRECTION, NEGATION, QUANTIFIER
from llmos.trace.lex import Kind, Place, Token, asks, is_factorial, is_noise, template_tokens, tokenize, without_final
from llmos.trace.program import Slot, SlotType, Trace

__all__ = ["Match", "Miss", "World", "match", "same_file"]

_MAX_ALIGNMENTS = 2
_MAX_COMPARED = 60_000
_SLOT_TYPES = frozenset(map(str, SlotType))


@dataclass(frozen=True, kw_only=True)
class Match:
    """A goal as an instance of a trace; `anchors` counts the literal words that agreed.

    `open` names the slots that took a new free phrase, which nothing but its shape speaks for. `doubt` is the chance
    that the goal is no instance: 0 is a proof. `wording` is the template that the goal adds to
    the trace once it is confirmed (empty for a proof).
    """

    trace: Trace
    template: str
    bindings: Mapping[str, Any]
    anchors: int
    open: frozenset[str] = frozenset()
    wording: str = ""
    doubt: float = 0.0

    @property
    def is_proven(self) -> bool:
        return not self.wording and self.doubt == 0.0


@dataclass(frozen=True, kw_only=True)
class Miss:
    """Why a goal is no instance of a trace: the rule that failed, the words it failed on, one sentence.

    `near` binds every slot where only the wording is not proven: it may be confirmed or judged.
    """

    trace: Trace
    template: str
    rule: str
    words: tuple[str, ...]
    message: str
    agreed: int = 0
    near: Match | None = None


def match(goal: str, trace: Trace, world: World | None = None) -> Match | Miss:
    """Bind a goal to a trace, by whichever of its templates fits; the nearest miss if none does."""
    read, kinds = _read(unicodedata.normalize("NFC", goal)), {slot.name: f"<{slot.type}>" for slot in trace.slots}
    world = world or World()
    results = [_match_template(read, trace, template, world, kinds) for template in trace.goals]
    matches = [result for result in results if isinstance(result, Match)]
    return _single(matches) if matches else _nearest(results)


def _nearest(results: Sequence[Match | Miss | _Unaligned]) -> Miss:
    """The first of the misses that agree in most; one that can't agree in as much as another is not looked into."""
    misses = [one for one in results if not isinstance(one, Match)]
    most = [one.most if isinstance(one, _Unaligned) else one.agreed for one in misses]
    best, nearest = (-1, 0), misses[0]
    for place in sorted(range(len(misses)), key=lambda one: -most[one]):
        if (most[place], -place) > best:
            one = misses[place]
            miss = one.explained() if isinstance(one, _Unaligned) else one
            best, nearest = max((best, nearest), ((miss.agreed, -place), miss), key=lambda found: found[0])
    assert isinstance(nearest, Miss)
    return nearest


def _single(matches: list[Match]) -> Match | Miss:
    best = max(matches, key=lambda found: found.anchors)
    rivals = [m for m in matches if m.anchors == best.anchors and m.bindings != best.bindings]
    if not rivals:
        return best
    return Miss(
        trace=best.trace,
        template=rivals[0].template,
        rule="ambiguous",
        words=tuple(map(str, rivals[0].bindings.values())),
        message="two of its wordings bind the goal differently",
        agreed=best.anchors,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Goal:
    """A goal, read once for all templates that it is held against.

    `finals` are the marks that end its sentence, `meant` the tokens that are no noise, `keys` what these are like.
    """

    text: str
    tokens: tuple[Token, ...]
    finals: tuple[Token, ...]
    meant: tuple[Token, ...]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, text: str, tokens: Sequence[Token], finals: Sequence[Token]) -> _Goal:
        """The goal of these tokens."""
        meant = tuple(token for token in tokens if not is_noise(token))
        keys = tuple(map(_goal_key, meant))
        return cls(text=text, tokens=tuple(tokens), finals=tuple(finals), meant=meant, keys=keys)

    @cached_property
    def counts(self) -> Counter[str]:
        """How often it has each key."""
        return Counter(self.keys)


@lru_cache(maxsize=16)
def _read(goal: str) -> _Goal:
    read = tokenize(goal)
    tokens = without_final(read)
    return _Goal.of(goal, tokens, read[len(tokens) :])


def _match_template(
    goal: _Goal, trace: Trace, template: str, world: World, kinds: Mapping[str, str]
) -> Match | Miss | _Unaligned:
    pattern = template_tokens(template)
    if is_factorial(template, trace.slots):
        if not goal.tokens or goal.tokens[-1].text != "!":
            return _miss(trace, template, "missing", ["!"], _sentence(["!"], []))
        goal = _Goal.of(goal.text, goal.tokens[:-1], goal.finals)
    far = _Unaligned(goal=goal, pattern=pattern, trace=trace, template=template, world=world, kinds=kinds)
    first = pattern[0] if pattern else None
    if isinstance(first, Token) and (not goal.meant or goal.meant[0].key != first.key):
        return far
    alignments: list[Bindings] = []
    aligner = far.aligner(goal.tokens)
    try:
        for bindings in aligner.alignments(0, 0):
            if bindings not in alignments:
                alignments.append(bindings)
            if len(alignments) == _MAX_ALIGNMENTS:
                break
    except TooManyWaysError:
        return _miss(trace, template, "ambiguous", [], "there are too many ways to read the goal")
    anchors = sum(isinstance(token, Token) for token in pattern)
    if not alignments:
        return far
    if len(alignments) > 1:
        return _miss(trace, template, "ambiguous", [], "the goal can be read in two ways", agreed=anchors)
    bindings = {slot.name: slot.default for slot in trace.slots if slot.default is not None} | alignments[0]
    refusal = same_file(trace, bindings, pattern)
    if refusal is not None:
        return _miss(trace, template, "relation", refusal[1], refusal[0], agreed=anchors)
    if asks(goal.text) and not template.endswith("?") and trace.effect.changes_world:
        return _miss(trace, template, "question", ["?"], "the goal asks, and the trace would act", agreed=anchors)
    free = frozenset(slot.name for slot in trace.slots if _is_free(slot, bindings[slot.name], aligner))
    return Match(trace=trace, template=template, bindings=bindings, anchors=anchors, open=free)


def _is_free(slot: Slot, value: Any, aligner: Aligner) -> bool:
    """Whether a slot took a phrase that nothing closes off and that was not seen before."""
    if slot.listed is not None or slot.type is not SlotType.TEXT or not slot.examples:
        return False  # what a look-up closes is checked by it, before anything is done
    if aligner.vocabulary(slot) is not None:
        return False
    return not set(value if isinstance(value, list) else [value]) <= set(slot.examples)


def _miss(trace: Trace, template: str, rule: str, words: Sequence[str], message: str, *, agreed: int = 0) -> Miss:
    return Miss(trace=trace, template=template, rule=rule, words=tuple(words), message=message, agreed=agreed)


def same_file(
    trace: Trace, bindings: Mapping[str, Any], pattern: Sequence[Token | Place]
) -> tuple[str, list[str]] | None:
    """What would be one file now that was two when the trace was made, in slots or in words; None: nothing."""
    fixed = [part.value for part in pattern if isinstance(part, Token) and part.kind is Kind.PATH]
    seen = {_plain_path(path): f"the {path} of the steps" for path in fixed}
    for slot in trace.slots:
        if slot.type is not SlotType.PATH:
            continue
        value = bindings[slot.name]
        for path in map(_plain_path, value if isinstance(value, list) else [value]):
            if path in seen:
                return f"{slot.name} and {seen[path]} would be the same file", [path]
            seen[path] = slot.name
    return None


def _plain_path(path: str) -> str:
    """A path as far as its text tells which file it is; case is ignored, as some file systems do."""
    kept: list[str] = []
    for part in PurePosixPath(path.casefold()).parts:
        if part == ".." and kept and kept[-1] not in ("..", "/"):
            kept.pop()
        else:
            kept.append(part)
    return str(PurePosixPath(*kept))


# --- explaining a miss -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Unaligned:
    """A goal and a template that do not fit; what is wrong is only looked into where somebody wants to know."""

    goal: _Goal
    pattern: Sequence[Token | Place]
    trace: Trace
    template: str
    world: World
    kinds: Mapping[str, str]

    def aligner(self, tokens: Sequence[Token]) -> Aligner:
        """What lays the template over these tokens of the goal."""
        goal = self.goal
        return Aligner(
            goal=goal.text, pattern=self.pattern, tokens=tokens, trace=self.trace, world=self.world, finals=goal.finals
        )

    @cached_property
    def expected(self) -> list[str]:
        """What the goal's keys would be if it fitted."""
        return [self.kinds[part.slot] if isinstance(part, Place) else part.key for part in self.pattern]

    @cached_property
    def most(self) -> int:
        """How much of the template the goal can have at most, whatever the order."""
        counts = self.goal.counts
        wanted = [key for key in self.expected if key in counts]
        return sum(min(wanted.count(key), counts[key]) for key in set(wanted))

    def explained(self) -> Miss:
        """The miss, with the first thing that is wrong."""
        return _nearest_miss(self)


def _nearest_miss(far: _Unaligned) -> Miss:
    pattern, tokens, trace, template = far.pattern, far.goal.meant, far.trace, far.template
    if len(pattern) * len(tokens) > _MAX_COMPARED:
        return _miss(trace, template, "words", [], "the wording does not fit")
    aligner = far.aligner(tokens)
    expected, actual = far.expected, list(far.goal.keys)
    matcher = difflib.SequenceMatcher(a=expected, b=actual, autojunk=False)
    agreed = sum(block.size for block in matcher.get_matching_blocks())
    for operation, a1, a2, b1, b2 in matcher.get_opcodes():
        if operation == "equal":
            refused = _refused_value(pattern[a1:a2], tokens[b1:b2], b1, trace, aligner)
            if refused is not None:
                return _miss(trace, template, "slot_value", [refused[0]], refused[1], agreed=agreed)
            continue
        wanted = [_shown(part) for part in pattern[a1:a2]]
        found = [token.text for token in tokens[b1:b2]]
        rule = _rule(operation, pattern[a1:a2], tokens[b1:b2], expected, actual)
        return _miss(trace, template, rule, [*wanted, *found], _sentence(wanted, found), agreed=agreed)
    return _miss(trace, template, "words", [], "the wording does not fit", agreed=agreed)


def _refused_value(
    parts: Sequence[Token | Place], tokens: Sequence[Token], start: int, trace: Trace, aligner: Aligner
) -> tuple[str, str] | None:
    for offset, (part, token) in enumerate(zip(parts, tokens, strict=True)):
        if isinstance(part, Place):
            value, refusal = aligner.bound(trace.slot(part.slot), start + offset, 1)
            if refusal is not None:
                return value, refusal
        elif not aligner.same(part, token):
            return token.text, f"{token.text!r} differs from {part.text!r} in case, and the steps use it"
    return None


def _goal_key(token: Token) -> str:
    return f"<{token.kind}>" if token.kind.is_literal and str(token.kind) in _SLOT_TYPES else token.key


def _shown(part: Token | Place) -> str:
    return f"<{part.slot}>" if isinstance(part, Place) else part.text


def _rule(
    operation: str, wanted: Sequence[Token | Place], found: Sequence[Token], expected: list[str], actual: list[str]
) -> str:
    words = {part.key for part in wanted if isinstance(part, Token)} | {token.key for token in found}
    if sorted(expected) == sorted(actual):
        return "order"
    for rule, closed in (("negation", NEGATION), ("direction", DIRECTION), ("quantifier", QUANTIFIER)):
        if words & closed:
            return rule
    if any(token.kind is Kind.NUMBER for token in found):
        return "number"
    if any(isinstance(part, Place) for part in wanted):
        return "unbound_slot"
    return {"insert": "leftover", "delete": "missing"}.get(operation, "words")


def _sentence(wanted: list[str], found: list[str]) -> str:
    if wanted and found:
        return f"it says {' '.join(wanted)!r} where the goal says {' '.join(found)!r}"
    if found:
        return f"nothing in it explains {' '.join(found)!r}"
    return f"the goal lacks {' '.join(wanted)!r}"
