"""What the goals of two runs offer to their programs, slots, literals and words, and the slots that pairs make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.english import TURNING
from llmos.trace.evidence import MIN_PIECE
from llmos.trace.lex import Kind
from llmos.trace.pieces import Piece, Template, template_of
from llmos.trace.program import Listed, Slot, SlotType
from llmos.trace.provenance import SLOT_KINDS
from llmos.trace.recorded import Recorded, canonical
from llmos.trace.suffixes import suffix_of
from llmos.trace.values import Scope, SlotRef, Transform, UnboundError, evaluate


class ApartError(Exception):
    """The two are not one program; the message says where they part."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a goal says that a leaf may come from: a slot of the trace, or a literal or words of its template."""

    slot: Slot | None = None
    piece: Piece | None = None
    value: Any

    @property
    def key(self) -> str:
        return f"slot {self.slot.name}" if self.slot else f"spot {self.piece.spot}" if self.piece else ""


@dataclass(kw_only=True)
class Joint:
    """One slot of the joined trace: its source in either goal; the goal that has none gets a `default`.

    `pasted` says that a leaf holds it inside a longer text.
    """

    name: str
    first: Source | None
    second: Source | None
    inline: bool = False
    pasted: bool = False
    default: str | None = None


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two recorded programs, with what its goal offers."""

    seen: Recorded
    template: Template

    @cached_property
    def sources(self) -> list[Source]:
        slots = [
            Source(slot=self.seen.trace.slot(piece.slot), piece=piece, value=self.seen.bindings[piece.slot])
            for piece in self.template.pieces
            if piece.slot is not None
        ]
        return slots + [Source(piece=p, value=p.value) for p in self.template.pieces if p.kind in SLOT_KINDS]

    def source(self, name: str) -> Source:
        """A slot, whether the template has it or its default stands in."""
        for source in self.sources:
            if source.slot is not None and source.slot.name == name:
                return source
        return Source(slot=self.seen.trace.slot(name), value=self.seen.bindings[name])


def side_of(seen: Recorded) -> Side:
    return Side(seen=seen, template=template_of(seen.template, seen.bindings))


def gives_value(source: Source, ways: tuple[Transform, ...], value: Any) -> bool:
    try:
        made = evaluate(SlotRef(name="it", transforms=ways), Scope(slots={"it": source.value}))
    except UnboundError:
        return False
    return canonical(made) == canonical(value)


def as_source(piece: Piece, side: Side) -> Source:
    if piece.slot is None:
        return Source(piece=piece, value=piece.value)
    return side.source(piece.slot)


def may_be_word(source: Source) -> bool:
    if source.slot is not None:
        return source.slot.type in (SlotType.CHOICE, SlotType.TEXT)
    words = set(str(source.value).casefold().split())
    return source.piece is not None and source.piece.kind is Kind.WORD and not words & TURNING


def may_be_pasted(one: Source, two: Source) -> bool:
    """Whether two literals may stand for each other inside a longer text."""
    if one.slot is not None or two.slot is not None or one.piece is None or two.piece is None:
        return False
    same = one.piece.kind is two.piece.kind and one.piece.kind in SLOT_KINDS
    return same and one.value != two.value and min(len(one.value), len(two.value)) >= MIN_PIECE


def source_type(source: Source) -> SlotType:
    if source.slot is not None:
        return source.slot.type
    kind = source.piece.kind if source.piece is not None else None
    return SlotType(str(kind)) if kind in SLOT_KINDS else SlotType.CHOICE


_PHRASES = {SlotType.TEXT, SlotType.IDENTIFIER, SlotType.NUMBER, SlotType.DATE}


def slot_of(joint: Joint, texts: Sequence[str]) -> Slot:
    """The slot of a joint: what both sides bind, no wider than either was or than the two values show."""
    sources = [source for source in (joint.first, joint.second) if source is not None]
    known = [source.slot for source in sources if source.slot is not None]
    values = tuple(dict.fromkeys(source.value for source in sources if isinstance(source.value, str)))
    kinds = {source_type(source) for source in sources}
    if SlotType.TEXT in kinds and len(kinds) > 1 and kinds <= _PHRASES and not joint.pasted:
        # `2022` or `web_agent` is a phrase as `April 2022` is, where a call got either as it stands
        known, kinds = [replace(one, type=SlotType.TEXT, inline=False) for one in known], {SlotType.TEXT}
    if len(kinds) > 1:
        raise ApartError(f"{joint.name} binds values of other types")
    slot = _narrower(known, joint.name) if known else _fresh(joint.name, kinds.pop(), values, texts)
    closed = tuple(dict.fromkeys([*slot.values, *values])) if slot.type is SlotType.CHOICE else slot.values
    default = joint.default if joint.default is not None else slot.default
    examples = tuple(dict.fromkeys([example for one in known for example in one.examples] + list(values)))
    kept = examples if any(one.examples for one in known) or not known else ()
    return replace(slot, inline=slot.inline or joint.inline, values=closed, default=default, examples=kept)


def _narrower(known: Sequence[Slot], name: str) -> Slot:
    """Two slots as one: equal in what they bind, except that either may have a constraint more."""
    slot = replace(known[0], name=name)
    for other in known[1:]:
        if slot.many != other.many:
            raise ApartError(f"{name} binds a list in one of them")
        slot = replace(
            slot,
            suffix=_both(slot.suffix, other.suffix),
            parent=_either(slot.parent, other.parent, f"{name}: folder"),
            default=_either(slot.default, other.default, f"{name}: default"),
            values=tuple(dict.fromkeys([*slot.values, *other.values])),
            inline=slot.inline or other.inline,
            folded=slot.folded or other.folded,
            listed=_listed(slot.listed, other.listed, name),
        )
    return slot


def _listed(mine: Listed | None, its: Listed | None, name: str) -> Listed | None:
    """The look-up of either; what the two entries held otherwise does not matter to it."""
    if mine is None or its is None:
        return its if mine is None else mine
    if (mine.source, mine.by) != (its.source, its.by):
        raise ApartError(f"{name} is looked up elsewhere in one of them")
    return replace(mine, like=tuple(one for one in mine.like if canonical(one) in map(canonical, its.like)))


def _both(mine: str | None, its: str | None) -> str | None:
    """The suffixes of either: both were really used."""
    if mine is None or its is None:
        return its if mine is None else mine
    return "|".join(dict.fromkeys([*mine.split("|"), *its.split("|")]))


def _either(mine: str | None, its: str | None, what: str) -> str | None:
    if mine is not None and its is not None and mine != its:
        raise ApartError(f"{what} differs")
    return its if mine is None else mine


def _fresh(name: str, kind: SlotType, values: Sequence[str], texts: Sequence[str]) -> Slot:
    """A slot that neither trace had: what its two values have in common."""
    if kind is not SlotType.PATH:
        return Slot(name=name, type=kind)
    suffixes = dict.fromkeys(suffix_of(value) for value in values)
    parents = {str(PurePosixPath(value).parent) for value in values}
    mentioned = any(parent != "." and parent in text for parent, text in product(parents, texts))
    if mentioned and len(parents) > 1:
        raise ApartError(f"{name} lies in another folder, which the steps name")
    return Slot(name=name, type=kind, suffix="|".join(suffixes), parent=parents.pop() if mentioned else None)
