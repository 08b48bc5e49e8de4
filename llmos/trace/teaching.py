"""What a trace learns from a goal that was agreed to mean it: the wording, and values it had not seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from llmos.trace.align import other_suffix
from llmos.trace.match import Match
from llmos.trace.program import Slot, SlotType, Trace

MAX_EXAMPLES = 50


def taught(trace: Trace, found: Match) -> Trace:
    """The trace with the match's wording among its goals, and with its values among the examples of its slots."""
    known = with_values(trace, found)
    if not found.wording or found.wording in known.goals:
        return known
    return replace(known, goals=(*known.goals, found.wording))


def with_values(trace: Trace, found: Match) -> Trace:
    """The trace whose slots know the values that the match bound."""
    return replace(trace, slots=tuple(_with_value(slot, found.bindings.get(slot.name)) for slot in trace.slots))


def _with_value(slot: Slot, value: object) -> Slot:
    """What guards a slot learns: its examples, or the suffixes of its files; without any it takes all as it is."""
    if isinstance(value, str) and other_suffix(slot, value):
        return replace(slot, suffix=f"{slot.suffix}|{PurePosixPath(value).suffix.lower()}")
    values = value if isinstance(value, list | tuple) else [value]
    fresh = [one for one in values if isinstance(one, str) and one and one not in slot.examples]
    if slot.type is not SlotType.TEXT or not slot.examples or not fresh:
        return slot
    return replace(slot, examples=(*slot.examples, *fresh)[-MAX_EXAMPLES:])
