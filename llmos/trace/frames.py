"""Frames: every way to find a value for each slot of a trace somewhere in a goal, whatever the words around it are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import Any, TypeAlias

from llmos.trace.align import Aligner, World
from llmos.trace.lex import Place, Token, escape_template
from llmos.trace.phrases import carries_content
from llmos.trace.program import Slot, SlotType, Trace

Spans: TypeAlias = dict[str, tuple[int, int, Any]]
"""Slot names to the tokens they take (from, up to) and the value these give."""

_MAX_FRAMES = 24
_MAX_VALUE_TOKENS = 8


def frames(trace: Trace, aligner: Aligner) -> Iterator[Spans]:
    """Every way to find a value for each slot in the goal, none in the place of another; the longest values first.

    Values that nothing delimits must be listed by a tool or have been seen before.
    """
    slots = [slot for slot in trace.slots if slot.default is None]
    if any(slot.many for slot in slots):
        return
    tried = 0
    for chosen in product(*(list(_places(slot, aligner)) for slot in slots)):
        if any(left[1] > right[0] for left, right in pairwise(sorted(chosen, key=lambda span: span[:2]))):
            continue
        tried += 1
        if tried > _MAX_FRAMES:
            return
        yield {slot.name: span for slot, span in zip(slots, chosen, strict=True)}


def _places(slot: Slot, aligner: Aligner) -> Iterator[tuple[int, int, Any]]:
    """Where in the goal a slot's value may stand; a value inside a longer one that also fits is passed over."""
    found: list[tuple[int, int, Any]] = []
    known = aligner.vocabulary(slot)
    seen = {example.casefold() for example in slot.examples} if known is None and slot.type is SlotType.TEXT else None
    most = 1 if known is None and seen is None else _MAX_VALUE_TOKENS
    for length in range(min(most, len(aligner.tokens)), 0, -1):
        for start in range(len(aligner.tokens) - length + 1):
            if any(a <= start and start + length <= b for a, b, _ in found):
                continue
            if seen is not None and aligner.text(start, length).casefold() not in seen:
                continue
            if known is not None and aligner.text(start, length).casefold() not in known:
                continue
            value, refusal = aligner.bound(slot, start, length)
            if refusal is None or seen is not None:
                found.append((start, start + length, value))
    return iter(found)


def with_places(tokens: Sequence[Token], spans: Spans) -> list[Token | Place]:
    """The goal with places instead of the values."""
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


def worded(goal: str, tokens: Sequence[Token], spans: Mapping[str, tuple[int, int, Any]]) -> str:
    """The goal as a template."""
    template, position = "", 0
    for name, (start, end, _) in sorted(spans.items(), key=lambda item: item[1][0]):
        template += escape_template(goal[position : tokens[start].start]) + "{" + name + "}"
        position = tokens[end - 1].end
    end = len(goal) if goal.endswith("?") else tokens[-1].end
    return template + escape_template(goal[position:end])


def leftover_values(
    parts: Sequence[Token | Place], traces: Sequence[Trace], known: Collection[str], world: World
) -> int:
    """How many values that slots of the traces may take stand among the words of a goal that no slot takes.

    Words that also stand in the trace's wordings, `known`, do not count.
    """
    values = _values_of(traces, world)
    count = position = 0
    while position < len(parts):
        longest = 0
        for end in range(position + 1, min(len(parts), position + _MAX_VALUE_TOKENS) + 1):
            tokens = [part for part in parts[position:end] if isinstance(part, Token)]
            if len(tokens) < end - position:
                break
            said = " ".join(token.key.casefold() for token in tokens)
            if said in values and carries_content(tokens) and not all(token.key in known for token in tokens):
                longest = end - position
        count += longest > 0
        position += max(1, longest)
    return count


def _values_of(traces: Sequence[Trace], world: World) -> set[str]:
    """Everything that slots of words of these traces may take, or took, without case."""
    found: set[str] = set()
    for trace in traces:
        aligner = Aligner(goal="", pattern=(), tokens=(), trace=trace, world=world)
        for slot in trace.slots:
            if slot.type in (SlotType.TEXT, SlotType.CHOICE):
                listed = aligner.vocabulary(slot)
                found.update(listed if listed is not None else (one.casefold() for one in slot.examples))
    return found
