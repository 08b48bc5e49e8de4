"""A goal beside a template, word by word: for people, and for whoever judges a wording. It decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from llmos.trace.english import COMMON
from llmos.trace.lex import Kind, Place, Token, is_noise, template_parts, template_tokens, tokenize, without_final
from llmos.trace.program import Slot, SlotType, Trace

_MAX_COMPARED = 60_000
_MAX_VALUE_TOKENS = 20


class PairKind(StrEnum):
    """How a piece of a template and a piece of a goal go together."""

    SAME = "same"
    SLOT = "slot"
    DIFFERS = "differs"
    MISSING = "missing"
    LEFT_OVER = "left_over"
    IGNORED = "ignored"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A piece of a template (`<name>` for a slot) beside a piece of a goal; None where one has nothing."""

    template: str | None
    goal: str | None
    kind: PairKind


def alignment(goal: str, trace: Trace, template: str, bindings: Mapping[str, str] | None = None) -> list[Pair]:
    """The cheapest way to lay a goal beside a template; `bindings` says what the slots were bound to, if that is known.

    Empty for texts too long to be read side by side.
    """
    pattern = template_tokens(template)
    tokens = without_final(tokenize(goal))
    if len(pattern) * len(tokens) > _MAX_COMPARED:
        return []
    slots = {slot.name: slot for slot in trace.slots}
    return _Grid(goal=goal, pattern=pattern, tokens=tokens, slots=slots, bindings=bindings or {}).pairs()


@dataclass(frozen=True, kw_only=True)
class _Move:
    """One step through the grid: how much of the template and of the goal it takes, and what it costs."""

    cost: float
    parts: int
    tokens: int
    kind: PairKind


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Dynamic programming from the end: the cheapest rest from each pair of positions. Source: Needleman & Wunsch."""

    goal: str
    pattern: Sequence[Token | Place]
    tokens: Sequence[Token]
    slots: Mapping[str, Slot]
    bindings: Mapping[str, str]

    def pairs(self) -> list[Pair]:
        best = self._cheapest()
        found: list[Pair] = []
        i = j = 0
        while (i, j) in best and best[i, j][1] is not None:
            move = best[i, j][1]
            assert move is not None
            part = self.pattern[i] if move.parts else None
            taken = self.tokens[j : j + move.tokens]
            text = self.goal[taken[0].start : taken[-1].end] if taken else None
            found.append(Pair(template=shown(part) if part is not None else None, goal=text, kind=move.kind))
            i, j = i + move.parts, j + move.tokens
        return found

    def _cheapest(self) -> dict[tuple[int, int], tuple[float, _Move | None]]:
        best: dict[tuple[int, int], tuple[float, _Move | None]] = {(len(self.pattern), len(self.tokens)): (0.0, None)}
        for i in range(len(self.pattern), -1, -1):
            for j in range(len(self.tokens), -1, -1):
                for move in self._moves(i, j):
                    cost = move.cost + best[i + move.parts, j + move.tokens][0]
                    if (i, j) not in best or cost < best[i, j][0]:
                        best[i, j] = cost, move
        return best

    def _moves(self, i: int, j: int) -> Iterable[_Move]:
        part = self.pattern[i] if i < len(self.pattern) else None
        token = self.tokens[j] if j < len(self.tokens) else None
        if part is not None and token is not None:
            if isinstance(part, Place):
                yield from self._values(self.slots[part.slot], j)
            elif part.key == token.key:
                yield _Move(cost=0.0, parts=1, tokens=1, kind=PairKind.SAME)
            elif not is_noise(token):
                yield _Move(cost=1.6, parts=1, tokens=1, kind=PairKind.DIFFERS)
        if token is not None:
            noise = is_noise(token)
            yield _Move(cost=0.0 if noise else 1.0, parts=0, tokens=1, kind=_noise_kind(noise))
        if part is not None:
            yield _Move(cost=1.0, parts=1, tokens=0, kind=PairKind.MISSING)

    def _values(self, slot: Slot, j: int) -> Iterable[_Move]:
        """What a slot may take at j: its bound value, or what looks like one of its type."""
        bound = self.bindings.get(slot.name)
        if bound is not None:
            for length in range(1, min(_MAX_VALUE_TOKENS, len(self.tokens) - j) + 1):
                taken = self.tokens[j : j + length]
                text = taken[0].value if length == 1 else self.goal[taken[0].start : taken[-1].end]
                if text == bound:
                    yield _Move(cost=0.0, parts=1, tokens=length, kind=PairKind.SLOT)
                    return
        token = self.tokens[j]
        if _looks_like(slot, token):
            yield _Move(cost=0.1, parts=1, tokens=1, kind=PairKind.SLOT)
        elif not is_noise(token):
            yield _Move(cost=1.4, parts=1, tokens=1, kind=PairKind.DIFFERS)


def _noise_kind(noise: bool) -> PairKind:
    return PairKind.IGNORED if noise else PairKind.LEFT_OVER


def _looks_like(slot: Slot, token: Token) -> bool:
    if slot.values:
        return token.value in slot.values
    if slot.type is SlotType.EXPRESSION:
        return token.kind in (Kind.EXPRESSION, Kind.NUMBER)
    return str(token.kind) == str(slot.type) or slot.type is SlotType.TEXT


def shown(part: Token | Place) -> str:
    """A piece of a template as people read it."""
    return f"<{part.slot}>" if isinstance(part, Place) else part.text


def readable(template: str) -> str:
    """A template as people read it: `<name>` in place of each slot, braces as they are."""
    return "".join(f"<{part.slot}>" if isinstance(part, Place) else part for part in template_parts(template))


def fitting(pairs: Sequence[Pair]) -> str:
    """The goal that the template would have taken, as far as this one says it."""
    kept = (pair.goal if pair.kind in (PairKind.SAME, PairKind.SLOT) else pair.template for pair in pairs)
    return " ".join(text for text in kept if text is not None)


def has_something_in_common(goal: str, trace: Trace) -> bool:
    """Whether a word that means something, or two values, of the goal agree with a template of the trace."""
    tokens = tokenize(goal)
    said, literals = _content(tokens), Counter(str(token.kind) for token in tokens if token.kind.is_literal)
    types = {slot.name: str(slot.type) for slot in trace.slots}
    for template in trace.goals:
        parts = template_tokens(template)
        if said & _content(part for part in parts if isinstance(part, Token)):
            return True
        wanted = Counter(types[part.slot] for part in parts if isinstance(part, Place))
        if (wanted & literals).total() > 1:
            return True
    return False


def _content(tokens: Iterable[Token]) -> set[str]:
    words = (token.key for token in tokens if token.kind in (Kind.WORD, Kind.IDENTIFIER) and not is_noise(token))
    return {_stem(word) for word in words if word not in COMMON and len(word) > 1}


def _stem(word: str) -> str:
    """A word without its commonest ending, so that `count` and `counts` are one."""
    for ending in ("ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
