"""Other values for a trace's slots, and whether what came of them is the same with the names changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import product
from pathlib import PurePosixPath
from typing import Any

from llmos.kernel.scratch import Snapshot
from llmos.kernel.tree import Change, Kind
from llmos.trace.evidence import leaves, token_bounded
from llmos.trace.lookups import others as listed_others
from llmos.trace.program import Slot, SlotType, Trace, Verdict
from llmos.trace.run import StepRecord
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import Scope

_FORMS = ("lower", "upper", "title", "capital", "slug", "snake", "spaced", "camel", "pascal")
_MAX_FORMS = 64
_MIN_PIECE = 3
_LETTERS = "qkjvwb"


@dataclass(frozen=True, kw_only=True)
class Variation:
    """Another value for a slot, or for one of its values where it takes many (`index`).

    `word` is its own word in the new value, `stem` what stood there in the old one.
    `path` is a path's place in the workspace and `renamed` its new place, set where something stood there before.
    """

    slot: str
    old: str
    new: str
    index: int | None = None
    word: str = ""
    stem: str = ""
    path: str = ""
    renamed: str = ""

    @property
    def names(self) -> bool:
        """Whether it changes names only, so that everything else must come out the same."""
        return self.path != ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run in a copy came to: what it changed, its answer, its outputs by step and its calls.

    `stopped` says why it did not run to its end, `unknown` what could not be carried out in a copy; `recorded` are the
    calls for which a recorded output stood in.
    """

    changes: Mapping[str, Change]
    answer: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[StepRecord, ...] = ()
    stopped: str = ""
    unknown: str = ""
    recorded: tuple[str, ...] = ()


# --- other values ----------------------------------------------------------------------------------


def variations(
    trace: Trace, bindings: Mapping[str, Any], snapshot: Snapshot, outputs: Mapping[str, Any] | None = None
) -> list[Variation]:
    """Another value wherever there is one: of a look-up's list in the outputs, or made of words new to the world."""
    known = "\n".join([*map(str, bindings.values()), *trace.goals, *snapshot.entries]).casefold()
    words = _words(known)
    values = [(slot, index, value) for slot in trace.slots for index, value in _values(bindings[slot.name])]
    places = [_place(slot, value, snapshot) for slot, _, value in values]
    found: list[Variation] = []
    for number, ((slot, index, value), place) in enumerate(zip(values, places, strict=True)):
        others = [other for position, other in enumerate(places) if position != number and other]
        if place and any(other == place or other.startswith(f"{place}/") for other in others):
            continue  # what lies in it would move along
        varied = _varied(slot, value, place, words) if slot.listed is None else _elsewhere(slot, value, outputs or {})
        if varied is not None:
            renamed = str(PurePosixPath(place).with_name(_name(varied.new))) if place in snapshot.entries else ""
            found.append(replace(varied, index=index, renamed=renamed))
    return found


def bound(bindings: Mapping[str, Any], varied: Sequence[Variation]) -> dict[str, Any]:
    """The bindings with the new values in place of the old ones."""
    changed = {name: list(value) if isinstance(value, list) else value for name, value in bindings.items()}
    for one in varied:
        if one.index is None:
            changed[one.slot] = one.new
        else:
            changed[one.slot][one.index] = one.new
    return changed


def _values(value: Any) -> list[tuple[int | None, str]]:
    return [(index, str(item)) for index, item in enumerate(value)] if isinstance(value, list) else [(None, str(value))]


def _words(known: str) -> Iterator[str]:
    """Words of one length that nothing known holds; letters only, so that no transform takes them apart."""
    for letters in product(_LETTERS, repeat=4):
        word = "proof" + "".join(letters)
        if word not in known:
            yield word


def _place(slot: Slot, value: str, snapshot: Snapshot) -> str:
    """Where in the workspace a path leads; '' for other slots, the workspace itself and what lies outside of it."""
    if slot.type is not SlotType.PATH or value.startswith("~") or "\0" in value:
        return ""
    path = os.path.relpath(os.path.normpath(snapshot.workspace / value), snapshot.workspace)
    return "" if path == "." or path.startswith("..") else path


def _varied(slot: Slot, old: str, place: str, words: Iterator[str]) -> Variation | None:
    if slot.values:
        others = [value for value in slot.values if value != old]
        return Variation(slot=slot.name, old=old, new=others[0]) if others else None
    match slot.type:
        case SlotType.PATH if place:
            word, stem, suffix = next(words), *_stem_and_suffix(_name(old))
            folder = old.rstrip("/")[: -len(_name(old))]
            new = f"{folder}{'.' if stem.startswith('.') else ''}{word}{suffix}{'/' if old.endswith('/') else ''}"
            return Variation(slot=slot.name, old=old, new=new, word=word, stem=stem.removeprefix("."), path=place)
        case SlotType.QUOTED | SlotType.TEXT:
            word = next(words)
            return Variation(slot=slot.name, old=old, new=word, word=word, stem=old)
        case SlotType.NUMBER if (number := _other_number(old)) is not None:
            return Variation(slot=slot.name, old=old, new=number)
        case SlotType.DATE if (day := _other_day(old)) is not None:
            return Variation(slot=slot.name, old=old, new=day)
    return None


def _elsewhere(slot: Slot, old: str, outputs: Mapping[str, Any]) -> Variation | None:
    """Another entry of the look-up that closes a slot; words it does not list would only stop the replay."""
    names = listed_others(slot, old, Scope(outputs=outputs))
    return Variation(slot=slot.name, old=old, new=names[0]) if names else None


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _stem_and_suffix(name: str) -> tuple[str, str]:
    """`a`, `.tar.gz` of `a.tar.gz`."""
    suffix = PurePosixPath(name).suffix
    stem = name.removesuffix(suffix) if suffix else name
    return (stem[:-4], f".tar{suffix}") if stem.endswith(".tar") and stem != ".tar" else (stem, suffix)


def _other_number(text: str) -> str | None:
    """The next number of the same form (the one before where that would need another digit)."""
    if not text or not text[-1].isascii() or not text[-1].isdigit():
        return None
    return text[:-1] + (str(int(text[-1]) + 1) if text[-1] != "9" else "8")


def _other_day(text: str) -> str | None:
    try:
        return (date.fromisoformat(text) - timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return None


# --- the same with the names changed ---------------------------------------------------------------


def compare(
    own: Outcome, varied: Outcome, variations: Sequence[Variation], others: Sequence[Variation] = ()
) -> tuple[Verdict, str]:
    """Whether a run with other values came to the same with the names changed; `others` were not varied.

    Refuted only on evidence: an old name that was touched, or, where nothing but names was changed, other effects or
    another answer. A run that stopped refutes nothing by itself: a replay that stops does no harm.
    """
    if varied.unknown:
        return Verdict.UNKNOWN, varied.unknown
    touched = _old_name_touched(own, varied, variations, others)
    if touched:
        return Verdict.FAIL, touched
    if varied.stopped:
        return Verdict.UNKNOWN, varied.stopped
    if not all(one.names for one in variations):
        return Verdict.PASS, ""
    return _same(own, varied, variations)


def _old_name_touched(
    own: Outcome, varied: Outcome, variations: Sequence[Variation], others: Sequence[Variation]
) -> str:
    for one in variations:
        asked = [str(leaf) for record in varied.records[-1:] for _, leaf in leaves(record.args)]
        for path in sorted(varied.changes.keys() & own.changes.keys()):
            if path == one.path or (_is_of(one, path) and not any(_is_of(other, path) for other in others)):
                return f"with {one.new!r} instead of {one.old!r} it still changed {path}"
        for path in varied.changes:
            if one.renamed and (path == one.path or path.startswith(f"{one.path}/")):
                return f"with {one.new!r} instead of {one.old!r} it still changed {path}"
        if one.names and varied.stopped and any(token_bounded(_name(one.old), text) for text in asked):
            return f"with {one.new!r} instead of {one.old!r} it still asked for {_name(one.old)}"
    return ""


def _is_of(one: Variation, path: str) -> bool:
    """Whether a path is named after a slot's old value: the path itself, its stem, or a piece of its name."""
    if not one.names:
        return len(one.old) > 1 and token_bounded(one.old, path)
    name, stem = _name(path).casefold(), one.stem.casefold()
    if path == one.path or _stem_and_suffix(name)[0] == stem != "":
        return True
    return len(stem) >= _MIN_PIECE and re.search(rf"(?<![^\W_]){re.escape(stem)}(?![^\W_])", name) is not None


def _same(own: Outcome, varied: Outcome, variations: Sequence[Variation]) -> tuple[Verdict, str]:
    shown = ", ".join(f"{one.new!r} instead of {one.old!r}" for one in variations)
    left = dict(own.changes)
    for path, change in varied.changes.items():
        old = next((was for was in _readings(path, variations) if was in left), None)
        if old is None:
            return Verdict.FAIL, f"with {shown} it also changed {path}"
        verdict = _same_change(left.pop(old), change, variations)
        if verdict is not Verdict.PASS:
            return verdict, f"with {shown} {path} came out differently"
    if left:
        return Verdict.FAIL, f"with {shown} nothing came of {min(left)}"
    if not _same_text(own.answer, varied.answer, variations):
        return Verdict.FAIL, f"with {shown} it answered differently"
    return Verdict.PASS, ""


def _same_change(was: Change, now: Change, variations: Sequence[Variation]) -> Verdict:
    if was.kind is not now.kind:
        return Verdict.FAIL
    if was.digest == now.digest:
        return Verdict.PASS
    if was.kind is Kind.LINK:
        return Verdict.PASS if was.digest in _readings(now.digest, variations) else Verdict.FAIL
    if was.text is None or now.text is None:
        return Verdict.UNKNOWN  # names inside a binary or huge file can't be found
    return Verdict.PASS if _same_text(was.text, now.text, variations) else Verdict.FAIL


def _same_text(was: str, now: str, variations: Sequence[Variation]) -> bool:
    """Equal with the old names put back; widths of columns and the order of what is sorted by name don't count."""
    readings = list(_readings(now, variations))
    if was in readings or _plain(was) in map(_plain, readings):
        return True
    pieces = sorted(re.findall(r"[^\s,;|]+", _plain(was)))
    return any(sorted(re.findall(r"[^\s,;|]+", _plain(reading))) == pieces for reading in readings)


def _plain(text: str) -> str:
    return re.sub(r"[ \t]+", " ", re.sub(r"-{2,}", "--", text))


def _readings(text: str, variations: Sequence[Variation]) -> Iterator[str]:
    """A text with the old names put back, in each way they may have been written."""
    present = [one for one in variations if one.word and one.word in text.casefold()]
    for number, forms in enumerate(product(*(_forms(one) for one in present))):
        if number == _MAX_FORMS:
            return
        read = text
        for one, form in zip(present, forms, strict=True):
            read = read.replace(one.word, form).replace(one.word.upper(), form.upper())
            read = read.replace(one.word.title(), TRANSFORMS["title"](form))
        yield read


def _forms(one: Variation) -> list[str]:
    """The ways an old name may have been written; the plain one first."""
    written = [one.stem, *(str(TRANSFORMS[name](one.stem)) for name in _FORMS)]
    return list(dict.fromkeys(written))
