"""A goal template cut into words, literals and places, so that another template can be laid beside it and rewritten."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from llmos.trace.lex import Kind, Place, escape_template, is_noise, template_parts, tokenize
from llmos.trace.program import SlotType, Trace

Spot: TypeAlias = tuple[int, int]
"""Where a piece begins and ends in the flat text of its template, in which each place is one character."""

_EDGE = "\ue000"
_PLACE = "\ue001"
_MAX_WORDS = 5
_WORDY = frozenset({Kind.WORD, Kind.IDENTIFIER})


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A token of a template or a slot's place; `kind` is None for a place, `value` what it has in one run."""

    spot: Spot
    value: str
    kind: Kind | None = None
    slot: str | None = None


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template as flat text, its pieces without courtesy words, and the slots of its places in order."""

    flat: str
    pieces: tuple[Piece, ...]
    slots: tuple[str, ...]

    def words(self, pieces: Sequence[Piece]) -> Piece:
        """Neighbouring words as one piece."""
        spot = pieces[0].spot[0], pieces[-1].spot[1]
        return Piece(spot=spot, value=self.flat[slice(*spot)], kind=Kind.WORD)

    def rewritten(self, names: Mapping[Spot, str]) -> str:
        """The template with slots at these spots; every place must be among them."""
        text, position = "", 0
        for (start, end), name in sorted(names.items()):
            text += escape_template(self.flat[position:start]) + "{" + name + "}"
            position = end
        return text + escape_template(self.flat[position:])


def template_of(template: str, bindings: Mapping[str, object]) -> Template:
    """Cut a template; its places get the values they were bound to."""
    flat, pieces, slots = "", [], []
    parts = template_parts(template)
    for index, part in enumerate(parts):
        if isinstance(part, Place):
            spot = len(flat), len(flat) + 1
            bound = bindings.get(part.slot)
            pieces.append(Piece(spot=spot, value=bound if isinstance(bound, str) else "", slot=part.slot))
            slots.append(part.slot)
            flat += _PLACE
            continue
        before = _EDGE if index else ""
        for token in tokenize(before + part + (_EDGE if index + 1 < len(parts) else "")):
            if token.text != _EDGE and not is_noise(token):
                start = len(flat) + token.start - len(before)
                spot = start, start + token.end - token.start
                pieces.append(Piece(spot=spot, value=token.value, kind=token.kind))
        flat += part
    return Template(flat=flat, pieces=tuple(pieces), slots=tuple(slots))


def aligned(first: Template, a: Trace, second: Template, b: Trace) -> list[tuple[Piece, Piece]]:
    """The pieces of two templates that stand in the same position: the words around them agree."""
    keys = [_key(piece, a) for piece in first.pieces], [_key(piece, b) for piece in second.pieces]
    matcher = difflib.SequenceMatcher(a=keys[0], b=keys[1], autojunk=False)
    pairs: list[tuple[Piece, Piece]] = []
    for operation, a1, a2, b1, b2 in matcher.get_opcodes():
        left, right = first.pieces[a1:a2], second.pieces[b1:b2]
        if len(left) == len(right):
            pairs += zip(left, right, strict=True)
        if operation == "replace" and 1 < max(len(left), len(right)) <= _MAX_WORDS:
            pairs += [(one, two) for one in _whole(first, left) for two in _whole(second, right)]
    return pairs


def _whole(template: Template, pieces: Sequence[Piece]) -> list[Piece]:
    """What words between agreeing words may be as one value: themselves, or the one place there."""
    if len(pieces) == 1 and pieces[0].slot is not None:
        return [pieces[0]]
    return [template.words(pieces)] if all(piece.kind in _WORDY for piece in pieces) else []


def _key(piece: Piece, trace: Trace) -> str:
    if piece.slot is not None:
        return f"<{trace.slot(piece.slot).type}>"
    assert piece.kind is not None
    if piece.kind.is_literal and str(piece.kind) in {str(kind) for kind in SlotType}:
        return f"<{piece.kind}>"
    return piece.value.casefold()
