"""A goal against a trace's templates: bind every slot and leave nothing over, or say why not.

The gate is strict: literal words must stand in the template's order, every slot must bind a value of its type,
and nothing of the goal may be left unexplained. A refusal names the rule and the words.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath

from llmos.trace.lex import Kind, Place, Token, is_noise, template_tokens, tokenize, without_final
from llmos.trace.program import Slot, SlotType, Trace
from llmos.trace.values import Const, Expr, ListExpr, Opaque, Record, Text

SAFE_INLINE = re.compile(r"(?!-)[A-Za-z0-9_./][A-Za-z0-9_./-]*")
_MAX_ALIGNMENTS = 2
_MAX_TRIES = 1_000
_MAX_TEXT_TOKENS = 400
_MAX_COMPARED = 60_000


@dataclass(frozen=True, kw_only=True)
class World:
    """What the gate may ask about the surroundings.

    `exists`: does a path exist in the workspace; `values`: what a parameter of a tool may take, in its tool's own
    words (None: the tool does not say).
    """

    exists: Callable[[str], bool] = lambda path: False
    values: Callable[[str, str], frozenset[str] | None] = lambda tool, parameter: None


@dataclass(frozen=True, kw_only=True)
class Match:
    """A goal as an instance of a trace; `anchors` counts the literal words that agreed.

    `doubt` is the upper bound of the chance that it is none: 0 is a proof. `wording` is the template that the
    goal adds to the trace once it is confirmed (empty for a proof).
    """

    trace: Trace
    template: str
    bindings: Mapping[str, str]
    anchors: int
    wording: str = ""
    doubt: float = 0.0


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
    goal = unicodedata.normalize("NFC", goal)
    tokens = without_final(tokenize(goal))
    results = [_match_template(goal, tokens, trace, template, world or World()) for template in trace.goals]
    matches = [result for result in results if isinstance(result, Match)]
    if matches:
        return _single(matches)
    return max((r for r in results if isinstance(r, Miss)), key=lambda miss: miss.agreed)


def _single(matches: list[Match]) -> Match | Miss:
    best = max(matches, key=lambda found: found.anchors)
    rivals = [m for m in matches if m.anchors == best.anchors and m.bindings != best.bindings]
    if not rivals:
        return best
    return Miss(
        trace=best.trace,
        template=rivals[0].template,
        rule="ambiguous",
        words=tuple(rivals[0].bindings.values()),
        message="two of its wordings bind the goal differently",
        agreed=best.anchors,
    )


def _match_template(goal: str, tokens: Sequence[Token], trace: Trace, template: str, world: World) -> Match | Miss:
    pattern = template_tokens(template)
    alignments: list[dict[str, str]] = []
    aligner = _Aligner(goal=goal, pattern=pattern, tokens=tokens, trace=trace, world=world)
    try:
        for bindings in aligner.alignments(0, 0):
            if bindings not in alignments:
                alignments.append(bindings)
            if len(alignments) == _MAX_ALIGNMENTS:
                break
    except _TooManyWaysError:
        return _miss(trace, template, "ambiguous", [], "there are too many ways to read the goal")
    anchors = sum(isinstance(token, Token) for token in pattern)
    if not alignments:
        return _nearest_miss(pattern, tokens, trace, template, aligner)
    if len(alignments) > 1:
        return _miss(trace, template, "ambiguous", [], "the goal can be read in two ways", agreed=anchors)
    bindings = {slot.name: slot.default for slot in trace.slots if slot.default is not None} | alignments[0]
    refusal = _relation_refusal(trace, bindings, pattern)
    if refusal is not None:
        return _miss(trace, template, "relation", refusal[1], refusal[0], agreed=anchors)
    if goal.rstrip().endswith("?") and not template.endswith("?") and trace.effect.changes_world:
        return _miss(trace, template, "question", ["?"], "the goal asks, and the trace would act", agreed=anchors)
    return Match(trace=trace, template=template, bindings=bindings, anchors=anchors)


def _miss(trace: Trace, template: str, rule: str, words: Sequence[str], message: str, *, agreed: int = 0) -> Miss:
    return Miss(trace=trace, template=template, rule=rule, words=tuple(words), message=message, agreed=agreed)


def _relation_refusal(
    trace: Trace, bindings: Mapping[str, str], pattern: Sequence[Token | Place]
) -> tuple[str, list[str]] | None:
    """Paths that were different when the trace was made, in slots or in words, must be different now."""
    fixed = [part.value for part in pattern if isinstance(part, Token) and part.kind is Kind.PATH]
    seen = {_plain_path(path): f"the {path} of the steps" for path in fixed}
    for slot in trace.slots:
        if slot.type is not SlotType.PATH:
            continue
        path = _plain_path(bindings[slot.name])
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


class _TooManyWaysError(Exception):
    """The search for a reading was given up."""


@dataclass(frozen=True, kw_only=True)
class _Aligner:
    goal: str
    pattern: Sequence[Token | Place]
    tokens: Sequence[Token]
    trace: Trace
    world: World
    tries: list[None] = field(default_factory=list)

    def alignments(self, i: int, j: int) -> Iterator[dict[str, str]]:
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

    def bindings(self, place: Place, i: int, j: int) -> Iterator[dict[str, str]]:
        slot = self.trace.slot(place.slot)
        if slot.type is not SlotType.TEXT:
            j = self.past_noise(j)
        for length in self.lengths(slot, i, j):
            if not self.may_follow(i + 1, j + length):
                continue
            self.tries.append(None)
            if len(self.tries) > _MAX_TRIES:
                raise _TooManyWaysError
            value, refusal = self.bound(slot, j, length)
            if refusal is None:
                for rest in self.alignments(i + 1, j + length):
                    yield {slot.name: value, **rest}

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
        most = {SlotType.TEXT: _MAX_TEXT_TOKENS, SlotType.CHOICE: 20}.get(slot.type, 1)
        return range(1, min(left, most) + 1)

    @cached_property
    def cased(self) -> frozenset[str]:
        return case_sensitive_words(self.trace)

    def same(self, expected: Token, actual: Token) -> bool:
        """Whether a literal of the template stands here; case counts for words the steps contain."""
        if expected.key != actual.key or (expected.kind.is_literal != actual.kind.is_literal):
            return False
        if expected.text == actual.text or expected.kind is not Kind.WORD:
            return True
        return not {expected.text, actual.text} & self.cased

    def bound(self, slot: Slot, j: int, length: int) -> tuple[str, str | None]:
        """The value a slot gets from tokens j…j+length, and why it is refused (None: it is not)."""
        taken = self.tokens[j : j + length]
        value = taken[0].value if length == 1 else self.goal[taken[0].start : taken[-1].end]
        return value, self.refusal(slot, taken, value)

    def refusal(self, slot: Slot, taken: Sequence[Token], value: str) -> str | None:
        if not self.fits_type(slot, taken, value):
            return f"{value!r} is no {slot.type}"
        if slot.values and value not in slot.values:
            return f"{value!r} is none of the known values of {slot.name}: {', '.join(slot.values[:8])}"
        if slot.suffix is not None and PurePosixPath(value).suffix.lower() != slot.suffix.lower():
            return f"{value!r} does not end in {slot.suffix or 'no suffix'}, as {slot.name} must"
        if slot.parent is not None and str(PurePosixPath(value).parent) != slot.parent:
            return f"{value!r} does not lie in {slot.parent!r}, as {slot.name} must"
        if slot.type is SlotType.NUMBER and ambiguous_number(value):
            return f"{value!r} may be a thousand or a fraction; write it without the point or with more digits"
        if slot.inline and not safe_inline(value, slot.type):
            return f"{value!r} has characters that are not safe inside a command"
        return None

    def fits_type(self, slot: Slot, taken: Sequence[Token], value: str) -> bool:
        kind = taken[0].kind
        match slot.type:
            case SlotType.TEXT:
                return bool(value.strip()) and balanced(value) and not is_noise(taken[-1])
            case SlotType.CHOICE:
                return True
            case SlotType.PATH:
                named = kind in (Kind.WORD, Kind.IDENTIFIER, Kind.NUMBER, Kind.QUOTED)
                return kind is Kind.PATH or (named and self.world.exists(value))
            case SlotType.EXPRESSION:
                return kind in (Kind.EXPRESSION, Kind.NUMBER)
            case SlotType.QUOTED:
                return kind is Kind.QUOTED or (taken[0].text != value and kind is Kind.PATH)
            case _:
                return str(kind) == str(slot.type)


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
    for step in trace.steps:
        for expr in step.args.values():
            for text in constant_texts(expr):
                words.update(re.findall(r"\w+", text))
    return frozenset(words)


def constant_texts(expr: Expr) -> Iterator[str]:
    """The strings an expression holds fixed."""
    match expr:
        case Const(value=value) | Opaque(value=value):
            yield from _strings(value)
        case Text(parts=parts):
            yield from (part for part in parts if isinstance(part, str))
        case ListExpr(items=items):
            for item in items:
                yield from constant_texts(item)
        case Record(fields=fields):
            for _, item in fields:
                yield from constant_texts(item)
        case _:
            return


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)


# --- explaining a miss -------------------------------------------------------------------------------

_NEGATION = frozenset({"not", "no", "never", "without", "don't", "don’t", "doesn't", "except"})
_DIRECTION = frozenset(
    {"to", "from", "into", "onto", "before", "after", "above", "below", "over", "under", "up", "down"}
    | {"on", "off", "in", "out", "left", "right"}
)
_QUANTIFIER = frozenset(
    {"all", "any", "only", "each", "every", "some", "none", "both", "first", "last", "most", "least"}
    | {"more", "less", "fewer"}
)


def _nearest_miss(
    pattern: Sequence[Token | Place], tokens: Sequence[Token], trace: Trace, template: str, aligner: _Aligner
) -> Miss:
    tokens = [token for token in tokens if not is_noise(token)]
    if len(pattern) * len(tokens) > _MAX_COMPARED:
        return _miss(trace, template, "words", [], "the wording does not fit")
    aligner = replace(aligner, tokens=tokens)
    expected = [_place_key(part, trace) if isinstance(part, Place) else part.key for part in pattern]
    actual = [_goal_key(token) for token in tokens]
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
    parts: Sequence[Token | Place], tokens: Sequence[Token], start: int, trace: Trace, aligner: _Aligner
) -> tuple[str, str] | None:
    for offset, (part, token) in enumerate(zip(parts, tokens, strict=True)):
        if isinstance(part, Place):
            value, refusal = aligner.bound(trace.slot(part.slot), start + offset, 1)
            if refusal is not None:
                return value, refusal
        elif not aligner.same(part, token):
            return token.text, f"{token.text!r} differs from {part.text!r} in case, and the steps use it"
    return None


def _place_key(place: Place, trace: Trace) -> str:
    return f"<{trace.slot(place.slot).type}>"


def _goal_key(token: Token) -> str:
    slot_types = {str(member) for member in SlotType}
    return f"<{token.kind}>" if token.kind.is_literal and str(token.kind) in slot_types else token.key


def _shown(part: Token | Place) -> str:
    return "{" + part.slot + "}" if isinstance(part, Place) else part.text


def _rule(
    operation: str, wanted: Sequence[Token | Place], found: Sequence[Token], expected: list[str], actual: list[str]
) -> str:
    words = {part.key for part in wanted if isinstance(part, Token)} | {token.key for token in found}
    if sorted(expected) == sorted(actual):
        return "order"
    for rule, closed in (("negation", _NEGATION), ("direction", _DIRECTION), ("quantifier", _QUANTIFIER)):
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
