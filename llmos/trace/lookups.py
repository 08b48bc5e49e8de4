"""Look-ups: a value of the goal that this run's own read-only call lists, and what it does not list is refused.

Induction finds the list that a recorded value stood in; a replay looks for its own value in the list as it is now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmos.trace.evidence import MIN_PIECE, Evidence, OutputLeaf, containers, leaves
from llmos.trace.program import Listed, Slot, SlotType, Step, Trace
from llmos.trace.run import StepRecord
from llmos.trace.values import OutputRef, Scope, Transform, UnboundError, ValuePath, evaluate, value_at

LISTABLE = frozenset({SlotType.TEXT, SlotType.IDENTIFIER, SlotType.QUOTED})
"""The slots that a look-up may close; whether a path is there, the file system says."""

_LINES = (Transform(name="lines"),)
_MAX_LINE = 200
_MANY = 10_000
_NAMING = frozenset(
    {"name", "title", "label", "subject", "summary", "key", "code", "slug", "alias", "username", "login", "email"}
)
"""How fields are called that name their entry."""

_IDENTIFYING = frozenset({"id", "uid", "uuid", "guid", "key", "code", "number", "no", "nr", "ref", "handle", "slug"})
"""How fields are called that stand for their entry; any other may hold what a call got by chance."""
_SHOWN = 8


class UnlistedError(Exception):
    """A value that the look-up does not list; the message says which, and what it lists."""


# --- at a replay -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LookedUp:
    """What a step's output says of the slots it closes: their values as it spells them, and the entries it has."""

    values: Mapping[str, str]
    entries: Mapping[str, Any]


def looked_up(slots: Sequence[Slot], step: str, scope: Scope) -> LookedUp:
    """The values of those slots that a step closes, looked up in its output, which the scope holds.

    Raises:
        UnlistedError: the look-up does not list a value, lists it twice, or lists another kind of thing by that name.
        UnboundError: the look-up gave no list of names.
    """
    found: dict[str, tuple[str, Any]] = {}
    for slot in slots:
        if slot.listed is not None and slot.listed.source.step == step:
            found[slot.name] = _found(slot, scope.slots[slot.name], slot.listed, _entries(slot.listed, scope))
    return LookedUp(
        values={name: value for name, (value, _) in found.items()},
        entries={name: entry for name, (_, entry) in found.items()},
    )


def others(slot: Slot, value: str, scope: Scope) -> list[str]:
    """What else a slot's look-up lists that could stand in a value's place."""
    assert slot.listed is not None
    try:
        entries = _entries(slot.listed, scope)
    except UnboundError:
        return []
    return [name for name, entry in entries if name != value and not _unlike(slot.listed, entry)]


def _entries(listed: Listed, scope: Scope) -> list[tuple[str, Any]]:
    """The entries of a look-up's list, each with its name; an entry without a name is none."""
    found = evaluate(listed.source, scope)
    if not isinstance(found, list):
        raise UnboundError(f"{listed.source.step} gave no list to look a value up in")
    named = [(_name(entry, listed.by), entry) for entry in found]
    return [(name, entry) for name, entry in named if name is not None]


def _name(entry: Any, by: ValuePath) -> str | None:
    try:
        name = value_at(entry, by)
    except UnboundError:
        return None
    return name if isinstance(name, str) and name.strip() else None


def _found(slot: Slot, value: Any, listed: Listed, entries: Sequence[tuple[str, Any]]) -> tuple[str, Any]:
    """The one entry that a value names, as written, or for a phrase in another case; its name goes before it."""
    said = str(value)
    fits = [(name, entry) for name, entry in entries if name == said]
    if not fits and slot.type is SlotType.TEXT:
        fits = [(name, entry) for name, entry in entries if name.casefold() == said.casefold()]
    if not fits:
        names = ", ".join(name for name, _ in entries[:_SHOWN]) or "nothing"
        more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
        raise UnlistedError(f"{said[:80]!r} is no {slot.name}: {listed.source.step} lists {names[:300]}{more}")
    if len(fits) > 1:
        raise UnlistedError(f"{said[:80]!r} may be {len(fits)} entries that {listed.source.step} lists")
    unlike = _unlike(listed, fits[0][1])
    if unlike:
        raise UnlistedError(f"{said[:80]!r} is another kind of {slot.name}: {listed.source.step} says {unlike}")
    return fits[0]


def _unlike(listed: Listed, entry: Any) -> str:
    """What an entry holds otherwise than the recorded one; '' if nothing."""
    for key, expected in listed.like:
        actual = entry.get(key) if isinstance(entry, Mapping) else None
        if type(actual) is not type(expected) or actual != expected:
            return f"{key} {actual!r}, not {expected!r}"
    return ""


# --- in a recording ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """The list in the output of a recorded step (an index) that has a value as the name of one entry, the `entry`th.

    With `lines` it is the text at `path`, line by line.
    """

    step: int
    path: ValuePath
    entry: int
    by: ValuePath = ()
    lines: bool = False
    like: tuple[tuple[str, Any], ...] = ()

    def listed(self, step_id: str) -> Listed:
        source = OutputRef(step=step_id, path=self.path, transforms=_LINES if self.lines else ())
        return Listed(source=source, by=self.by, like=self.like)


def place_of(value: str, evidence: Evidence, at: int) -> Place | None:
    """The one look-up before step `at` that lists a value; None if there is none, or no telling which.

    Nothing may have been changed before the look-up; its list has other entries, and no two of one name.
    """
    found = evidence.equal(value, at)
    place = _in_list(found, evidence) if found else _in_lines(value, evidence, at)
    if place is None or any(step.effect.changes_world for step in evidence.steps[: place.step + 1]):
        return None
    return place


def field_of(value: str | float, param: str, found: Sequence[OutputLeaf]) -> OutputLeaf | None:
    """The field of one entry that an argument was taken from: no other entry has the same.

    What may be chance (a setting, a small number), or stands in several places, must be an identifier that is called
    as the argument is.
    """
    alike = [leaf for leaf in found if leaf.path and _identifies(str(leaf.path[-1]), param)]
    chosen = alike if len(found) > 1 or not _is_sure(value) else found
    if len(chosen) != 1:
        return None
    _, number, keys = _parts(chosen[0].path)
    return chosen[0] if number is not None and keys else None


def in_entry(leaf: OutputLeaf, place: Place) -> tuple[str, ...] | None:
    """The keys that lead to a leaf in the entry at a place, if that is found by its name; else None."""
    path, number, keys = _parts(leaf.path)
    same = (leaf.step, path, number) == (place.step, place.path, place.entry) and not place.lines
    return keys if same and keys and place.by and _is_a_name(place.by[-1]) else None


def _identifies(key: str, param: str) -> bool:
    """Whether field and argument are one identifier: `id` and `room_id`, `issueNumber` and `number`; not `level`."""
    field, argument = sorted((_words(key), _words(param)), key=len)
    return field[-1:] != [] and field[-1] in _IDENTIFYING and argument[-len(field) :] == field


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]


def names_beside(steps: Sequence[StepRecord]) -> set[str]:
    """The texts that may name the entry of a look-up from which a call took another field.

    A state or a kind that only one entry has (`open`) is no name: other words of the goal may have chosen the entry.
    """
    taken: dict[Any, set[str]] = {}
    for step in steps:
        for path, leaf in leaves(step.args):
            if _is_data(leaf):
                taken.setdefault(leaf, set()).add(str(path[0]))
    found: set[str] = set()
    for step in steps:
        if step.effect.changes_world:
            break
        rows = [part for _, part in containers(step.output) if isinstance(part, list)] if not step.is_error else []
        for row in (row for part in rows for row in part if isinstance(row, dict)):
            fields = [(str(path[-1]), leaf) for path, leaf in leaves(row) if _is_data(leaf)]
            if any(_may_come_from(leaf, key, taken) for key, leaf in fields):
                found |= {
                    leaf for key, leaf in fields if isinstance(leaf, str) and _is_a_name(key) and leaf not in taken
                }
    return found


def _is_a_name(key: str | int) -> bool:
    return any(word in _NAMING for word in _words(str(key))[-1:])


def _is_data(leaf: Any) -> bool:
    return leaf is not None and not isinstance(leaf, bool)


def _may_come_from(leaf: Any, key: str, taken: Mapping[Any, set[str]]) -> bool:
    return any(_is_sure(leaf) or _identifies(key, param) for param in taken.get(leaf, ()))


def _is_sure(value: str | float) -> bool:
    """Whether a value is so much a name that an equal one is no chance: `light.hall`, 48113, but not `eco`."""
    if isinstance(value, str):
        return len(value) >= MIN_PIECE and re.search(r"\w[\d_.:/@#]|\d\w", value) is not None
    return abs(value) >= _MANY


def named_before(steps: Sequence[StepRecord]) -> Iterator[frozenset[str]]:
    """For each step the texts that earlier read-only calls gave, whole or as a line, before anything was changed."""
    known: set[str] = set()
    changed = False
    for step in steps:
        yield frozenset(known)
        changed |= step.effect.changes_world
        for _, leaf in leaves(step.output) if not (changed or step.is_error) else ():
            if isinstance(leaf, str):
                known |= {leaf, *_lines(leaf)}


def _in_list(found: Sequence[OutputLeaf], evidence: Evidence) -> Place | None:
    """The list whose entry holds a value; in several fields of the entry only if they always say the same."""
    ways = {(leaf.step, *_parts(leaf.path)) for leaf in found}
    if len({way[:3] for way in ways}) != 1:
        return None
    step, path, number, _ = next(iter(ways))
    if number is None or any(isinstance(part, int) for part in path):
        return None
    entries = value_at(evidence.steps[step].output, path)
    fields = sorted((way[3] for way in ways), key=lambda by: (len(by), by))
    names = [[_name(entry, by) for entry in entries] for by in fields]
    first = [name.casefold() for name in names[0] if name is not None]
    if len(entries) < 2 or len(set(first)) < len(entries) or any(other != names[0] for other in names):
        return None
    return Place(step=step, path=path, entry=number, by=fields[0], like=_kind(entries, number))


def _parts(path: ValuePath) -> tuple[ValuePath, int | None, tuple[str, ...]]:
    """A leaf's path as the list it stands in, the number of the entry, and the keys inside the entry."""
    places = [depth for depth, part in enumerate(path) if isinstance(part, int)]
    if not places:
        return path, None, ()
    last = places[-1]
    number = path[last]
    assert isinstance(number, int)
    return path[:last], number, tuple(str(part) for part in path[last + 1 :])


def _kind(entries: Sequence[Any], number: int) -> tuple[tuple[str, Any], ...]:
    """What of an entry may tell its kind or state: truth values, nothing, and texts that other entries have as well."""
    entry = entries[number]
    if not isinstance(entry, Mapping):
        return ()
    rest = [one for position, one in enumerate(entries) if position != number and isinstance(one, Mapping)]
    return tuple(
        (key, value)
        for key, value in entry.items()
        if value is None
        or isinstance(value, bool)
        or (isinstance(value, str) and any(other.get(key) == value for other in rest))
    )


def _in_lines(value: str, evidence: Evidence, at: int) -> Place | None:
    """The one text before step `at` of which a value is one whole line."""
    found = [
        (step, path, leaf)
        for step in range(at)
        for path, leaf in leaves(evidence.steps[step].output)
        if isinstance(leaf, str) and value in leaf and value in _lines(leaf)
    ]
    if len(found) != 1 or any(isinstance(part, int) for part in found[0][1]):
        return None
    step, path, text = found[0]
    folded = [line.casefold() for line in _lines(text)]
    if folded.count(value.casefold()) != 1:
        return None
    return Place(step=step, path=path, entry=_lines(text).index(value), lines=True)


def _lines(text: str) -> list[str]:
    """The lines of a text that has several; a long one is no name."""
    lines = [line for line in text.splitlines() if line.strip()] if "\n" in text.strip() else []
    return [line for line in lines if len(line) <= _MAX_LINE]


def steps_before(trace: Trace, listed: Listed) -> list[Step]:
    """The calls of a trace up to the look-up, itself included."""
    found: list[Step] = []
    for step in trace.calls:
        found.append(step)
        if step.id == listed.source.step:
            break
    return found


__all__ = [
    "LISTABLE",
    "LookedUp",
    "Place",
    "UnlistedError",
    "field_of",
    "in_entry",
    "looked_up",
    "named_before",
    "names_beside",
    "others",
    "place_of",
    "steps_before",
]
