"""The least general generalisation of two recorded programs, leaf by leaf, over sources that both goals have.

A leaf keeps the one explanation that holds in both runs. Nothing is generalised but what two different values justify,
and never across words that turn a goal round (not, on, first).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from llmos.trace.align import constant_texts
from llmos.trace.evidence import leaves
from llmos.trace.pieces import Piece, aligned
from llmos.trace.program import Slot, SlotType
from llmos.trace.recorded import canonical
from llmos.trace.sources import (
    ApartError,
    Joint,
    Side,
    Source,
    as_source,
    gives_value,
    may_be_pasted,
    may_be_word,
    slot_of,
    source_type,
)
from llmos.trace.values import (
    Const,
    EnvRef,
    Expr,
    IndexRef,
    ItemRef,
    ListExpr,
    Opaque,
    OutputRef,
    Record,
    Ref,
    Scope,
    SecretRef,
    SlotRef,
    Text,
    Transform,
    UnboundError,
    as_text,
    evaluate,
    references,
    text_of,
)

_NUMBER = (Transform(name="number"),)
_TELLING = 3


@dataclass(kw_only=True)
class Joining:
    """Joins the leaves of two programs; which sources belong together comes to light on the way."""

    first: Side
    second: Side
    code_params: Mapping[str, frozenset[str]] = field(default_factory=dict)
    joints: list[Joint] = field(default_factory=list)

    @cached_property
    def aligned(self) -> list[tuple[Piece, Piece]]:
        return aligned(self.first.template, self.first.seen.trace, self.second.template, self.second.seen.trace)

    def expr(self, a: Expr, b: Expr, param: str, node: str, tool: str = "") -> Expr:
        """An expression that gives the value of `a` in the first run and of `b` in the second, at a node.

        `b` names its steps as the first trace does.

        Raises:
            ApartError: there is none, or more than one.
        """
        scopes = self.first.seen.scopes.get(node), self.second.seen.scopes.get(node)
        if scopes[0] is None or scopes[1] is None:
            if a != b or any(isinstance(ref, SlotRef) for ref in references(a)):
                raise ApartError(f"{node} was not reached in both runs")
            return a
        try:
            va, vb = evaluate(a, scopes[0]), evaluate(b, scopes[1])
        except UnboundError as error:
            raise ApartError(str(error)) from None
        at = _At(param=param, first=scopes[0], second=scopes[1], code=param in self.code_params.get(tool, ()))
        return self._joined(a, b, va, vb, at)

    # --- by structure ------------------------------------------------------------------------------

    def _joined(self, a: Expr, b: Expr, va: Any, vb: Any, at: _At) -> Expr:
        if isinstance(a, Opaque) and isinstance(b, Opaque | Const):
            return _same(a, va, vb, at)
        if isinstance(b, Opaque) and isinstance(a, Const):
            return _same(b, va, vb, at)
        if isinstance(a, Const | Record) and isinstance(b, Const | Record) and isinstance(va, dict):
            return self._record(a, b, va, vb, at)
        if isinstance(a, Const | ListExpr) and isinstance(b, Const | ListExpr) and isinstance(va, list):
            return self._list(a, b, va, vb, at)
        if isinstance(a, Text) or isinstance(b, Text):
            return self._text(a, b, va, vb, at)
        return self._leaf(a, b, va, vb, at)

    def _record(self, a: Const | Record, b: Const | Record, va: dict[str, Any], vb: Any, at: _At) -> Expr:
        if not isinstance(vb, dict) or list(va) != list(vb):
            raise ApartError(f"{at.param} has other keys")
        left, right = _fields(a), _fields(b)
        fields = tuple((key, self._joined(left[key], right[key], va[key], vb[key], at)) for key in va)
        return Const(value=va) if all(isinstance(one, Const) for _, one in fields) else Record(fields=fields)

    def _list(self, a: Const | ListExpr, b: Const | ListExpr, va: list[Any], vb: Any, at: _At) -> Expr:
        if not isinstance(vb, list) or len(va) != len(vb):
            raise ApartError(f"{at.param} has another length")
        left, right = _items(a), _items(b)
        items = tuple(self._joined(*four, at) for four in zip(left, right, va, vb, strict=True))
        return Const(value=va) if all(isinstance(one, Const) for one in items) else ListExpr(items=items)

    def _text(self, a: Expr, b: Expr, va: Any, vb: Any, at: _At) -> Expr:
        """Texts with pieces: the same pieces one by one, or one text read by the pieces of the other."""
        if not isinstance(va, str) or not isinstance(vb, str):
            raise ApartError(f"{at.param} has another type")
        left, right, inside = _parts(a), _parts(b), replace(at, inside=True)
        if len(left) == len(right) and all(
            x == y if isinstance(x, str) else not isinstance(y, str) for x, y in zip(left, right, strict=True)
        ):
            pairs = zip(left, right, strict=True)
            return text_of([x if isinstance(x, str) else self._piece(x, y, inside) for x, y in pairs])
        if isinstance(a, Text) and isinstance(b, Const):
            return text_of(self._read(left, vb, inside, second=True))
        if isinstance(b, Text) and isinstance(a, Const):
            return text_of(self._read(right, va, inside, second=False))
        raise ApartError(f"{at.param} is put together in another way")

    def _piece(self, x: str | Ref, y: str | Ref, at: _At) -> str | Ref:
        assert not isinstance(x, str) and not isinstance(y, str)
        return self._ref(x, y, evaluate(x, at.first), evaluate(y, at.second), at)

    def _ref(self, a: Expr, b: Expr, va: Any, vb: Any, at: _At) -> Ref:
        joined = self._leaf(a, b, va, vb, at)
        if not isinstance(joined, Const | Opaque | Text | ListExpr | Record):
            return joined
        raise ApartError(f"{at.param} is put together in another way")

    def _read(self, parts: Sequence[str | Ref], text: str, at: _At, *, second: bool) -> list[str | Ref]:
        """One side's pieces laid over the other side's plain text."""
        pattern = "".join(re.escape(part) if isinstance(part, str) else "(.+?)" for part in parts)
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found is None:
            raise ApartError(f"{at.param} has another text")
        values = iter(found.groups())
        joined: list[str | Ref] = []
        for part in parts:
            if isinstance(part, str):
                joined.append(part)
                continue
            mine, other = evaluate(part, at.first if second else at.second), next(values)
            if second:
                joined.append(self._ref(part, Const(value=other), mine, other, at))
            else:
                joined.append(self._ref(Const(value=other), part, other, mine, at))
        return joined

    # --- one leaf ----------------------------------------------------------------------------------

    def _leaf(self, a: Expr, b: Expr, va: Any, vb: Any, at: _At) -> Expr:
        if isinstance(a, ItemRef) and isinstance(b, ItemRef) and self._is_looked_up(a, b):
            joint = self._join(self.first.source(a.loop), self.second.source(b.loop), at, ())
            return replace(a, loop=joint.name)
        if a == b and not isinstance(a, SlotRef):
            return a
        if isinstance(a, SlotRef) and isinstance(b, SlotRef) and a.transforms == b.transforms:
            joint = self._join(self.first.source(a.name), self.second.source(b.name), at, a.transforms)
            return SlotRef(name=joint.name, transforms=a.transforms)
        if isinstance(a, Const) and isinstance(b, Const) and canonical(va) == canonical(vb):
            return a
        found = self._elsewhere(a, b, va, vb, at)
        pairs = self._pairs(a, b, va, vb, at)
        if len(pairs) > 1:
            pairs = [one for one in pairs if (one[0].piece, one[1].piece) in self.aligned]
        if len(found) + len(pairs) > 1:
            raise ApartError(f"{at.param} can be explained in several ways")
        if found:
            if isinstance(found[0], OutputRef) and any(isinstance(part, int) for part in found[0].path):
                raise ApartError(f"{at.param} was picked from a list")
            return found[0]
        if pairs:
            one, two, way = pairs[0]
            return SlotRef(name=self._join(one, two, at, way).name, transforms=way)
        if isinstance(a, Const) and isinstance(b, Const) and isinstance(va, str) and isinstance(vb, str):
            return self._holes(va, vb, at)
        return self._defaulted(a, b, va, vb, at)

    def _is_looked_up(self, a: ItemRef, b: ItemRef) -> bool:
        """Whether both take the same field of the entry that a slot's value names in a look-up."""
        slots = (
            [slot.name for slot in self.first.seen.trace.slots],
            [slot.name for slot in self.second.seen.trace.slots],
        )
        return a.loop in slots[0] and b.loop in slots[1] and (a.path, a.transforms) == (b.path, b.transforms)

    def _elsewhere(self, a: Expr, b: Expr, va: Any, vb: Any, at: _At) -> list[Expr]:
        """The explanations by outputs and surroundings that hold in both runs."""
        found: list[Expr] = list(self._outputs(va, vb, at))
        for expr, scope, value in ((a, at.second, vb), (b, at.first, va)):
            is_ref = isinstance(expr, OutputRef | EnvRef | ItemRef | IndexRef)
            if is_ref and expr not in found and _gives(expr, scope, value):
                found.append(expr)
        return found

    def _outputs(self, va: Any, vb: Any, at: _At) -> Iterator[OutputRef]:
        """The places in earlier outputs that held the one value in the first run and the other in the second."""
        if isinstance(va, bool | dict | list) or va in (None, ""):
            return
        for step, output in at.first.outputs.items():
            for path, leaf in leaves(output):
                ref = OutputRef(step=step, path=path)
                if canonical(leaf) == canonical(va) and _gives(ref, at.second, vb):
                    yield ref

    def _pairs(self, a: Expr, b: Expr, va: Any, vb: Any, at: _At) -> list[tuple[Source, Source, tuple[Transform, ...]]]:
        """The sources of the two goals that give the two values."""
        known = [expr.transforms for expr in (a, b) if isinstance(expr, SlotRef)]
        ways = list(dict.fromkeys(known)) or ([_NUMBER] if isinstance(va, int | float) else [()])
        left = [self.first.source(a.name)] if isinstance(a, SlotRef) else self.first.sources
        right = [self.second.source(b.name)] if isinstance(b, SlotRef) else self.second.sources
        found = [
            (one, two, way)
            for way in ways
            for one in left
            if gives_value(one, way, va)
            for two in right
            if gives_value(two, way, vb) and self._may_join(one, two, va, vb)
        ]
        return found or [(one, two, ()) for one, two in self._worded(a, b, va, vb)]

    def _worded(self, a: Expr, b: Expr, va: Any, vb: Any) -> list[tuple[Source, Source]]:
        """Plain words in the same position of both goals, or on one side a slot that binds words."""
        found: list[tuple[Source, Source]] = []
        for one, two in self.aligned:
            pair = as_source(one, self.first), as_source(two, self.second)
            fits = pair[0].value == va and pair[1].value == vb and va != vb
            if fits and _is_side(a, pair[0]) and _is_side(b, pair[1]) and all(map(may_be_word, pair)):
                found.append(pair)
        return found[:1] if len({(x.key, y.key) for x, y in found}) == 1 else found

    def _may_join(self, one: Source, two: Source, va: Any, vb: Any) -> bool:
        if one.slot is not None and two.slot is not None:
            return True
        if one.slot is not None or two.slot is not None:
            slot, other = (one.slot, two) if one.slot is not None else (two.slot, one)
            assert slot is not None and other.piece is not None
            return str(slot.type) == str(other.piece.kind)
        assert one.piece is not None and two.piece is not None
        if one.piece.kind is not two.piece.kind or canonical(va) == canonical(vb):
            return False
        telling = min(len(one.piece.value), len(two.piece.value)) >= _TELLING
        return telling or (one.piece, two.piece) in self.aligned

    def _defaulted(self, a: Expr, b: Expr, va: Any, vb: Any, at: _At) -> Expr:
        """A slot that only one of the goals has: the other one's constant stands in for it there."""
        if isinstance(a, SlotRef) and isinstance(b, Const):
            source, constant, ways = self.first.source(a.name), vb, a.transforms
        elif isinstance(b, SlotRef) and isinstance(a, Const):
            source, constant, ways = self.second.source(b.name), va, b.transforms
        else:
            raise ApartError(f"{at.param} is explained by neither goal")
        default = as_text(constant)
        if at.inside or not gives_value(Source(value=default), ways, constant):
            raise ApartError(f"{at.param} is said by one goal alone")
        mine, its = (source, None) if isinstance(a, SlotRef) else (None, source)
        joint = self._join(mine, its, at, ways)
        if joint.default not in (None, default):
            raise ApartError(f"{at.param} would have two defaults")
        joint.default = default
        return SlotRef(name=joint.name, transforms=ways)

    def _holes(self, va: str, vb: str, at: _At) -> Expr:
        """Constant texts that differ only in literals which stand in the same position of both goals."""
        parts: list[str | Ref] = [va]
        inside = replace(at, inside=True)
        pairs = [(as_source(x, self.first), as_source(y, self.second)) for x, y in self.aligned]
        for one, two in sorted(pairs, key=lambda pair: -len(str(pair[0].value))):
            if not may_be_pasted(one, two) or not any(isinstance(p, str) and one.value in p for p in parts):
                continue
            if sum(other.value == one.value for other in self.first.sources) > 1:
                raise ApartError(f"the goal says {one.value!r} twice")
            bounded = rf"(?<![\w./-]){re.escape(one.value)}(?![\w/-]|\.\w)"
            if any(isinstance(part, str) and re.search(bounded, part) for part in parts):
                ref = SlotRef(name=self._join(one, two, inside, ()).name)
                parts = [piece for part in parts for piece in _cut(part, bounded, ref)]
        if len(parts) < 2 or self._second_text(parts) != vb:
            raise ApartError(f"{at.param} is explained by neither goal")
        return text_of(parts)

    def _second_text(self, parts: Iterable[str | Ref]) -> str:
        values = {joint.name: joint.second.value for joint in self.joints if joint.second is not None}
        return "".join(part if isinstance(part, str) else str(values[getattr(part, "name", "")]) for part in parts)

    # --- sources that belong together ----------------------------------------------------------------

    def _join(self, one: Source | None, two: Source | None, at: _At, ways: tuple[Transform, ...]) -> Joint:
        """The slot that two sources make; each belongs to one slot only."""
        keys = one and one.key, two and two.key
        for joint in self.joints:
            held = joint.first and joint.first.key, joint.second and joint.second.key
            if held == keys:
                break
            if any(mine is not None and mine == its for mine, its in zip(keys, held, strict=True)):
                raise ApartError(f"{at.param}: {joint.name} would stand for two things")
        else:
            joint = Joint(name=self._name(one, two, at.param), first=one, second=two)
            self.joints.append(joint)
        fresh = (one is None or one.slot is None) and (two is None or two.slot is None)
        number = any(source is not None and source_type(source) is SlotType.NUMBER for source in (one, two))
        joint.inline |= fresh and (at.inside or at.code or (number and not ways))
        joint.pasted |= at.inside or at.code
        return joint

    def _name(self, one: Source | None, two: Source | None, param: str) -> str:
        taken = {joint.name for joint in self.joints} | {slot.name for slot in self.first.seen.trace.slots}
        if one is not None and one.slot is not None:
            return one.slot.name
        base = two.slot.name if two is not None and two.slot is not None else re.sub(r"\W+", "_", param).strip("_")
        base = base.lower() if base and base not in ("steps", "env", "secret", "each", "index") else "value"
        base = f"value_{base}" if base[0].isdigit() else base
        name, number = base, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        return name

    def slots(self, exprs: Sequence[Expr]) -> tuple[Slot, ...]:
        """The slots of the joined trace, in the order of the first one's, new ones behind."""
        texts = [text for expr in exprs for text in constant_texts(expr)]
        order = {slot.name: place for place, slot in enumerate(self.first.seen.trace.slots)}
        joints = sorted(self.joints, key=lambda joint: order.get(joint.name, len(order)))
        return tuple(slot_of(joint, texts) for joint in joints)


@dataclass(frozen=True, kw_only=True)
class _At:
    """Where a leaf stands: its argument, what is known there in either run, and whether it is inside a longer text."""

    param: str
    first: Scope
    second: Scope
    code: bool = False
    inside: bool = False


def _same(expr: Expr, va: Any, vb: Any, at: _At) -> Expr:
    if canonical(va) != canonical(vb):
        raise ApartError(f"{at.param} was written by the model, and differs")
    return expr


def _fields(expr: Const | Record) -> dict[str, Expr]:
    return (
        dict(expr.fields) if isinstance(expr, Record) else {key: Const(value=item) for key, item in expr.value.items()}
    )


def _items(expr: Const | ListExpr) -> list[Expr]:
    return list(expr.items) if isinstance(expr, ListExpr) else [Const(value=item) for item in expr.value]


def _parts(expr: Expr) -> tuple[str | Ref, ...]:
    match expr:
        case Text(parts=parts):
            return parts
        case SlotRef() | OutputRef() | EnvRef() | SecretRef():
            return (expr,)
        case Const(value=str(text)):
            return (text,)
        case _:
            return ()


def _cut(part: str | Ref, bounded: str, ref: Ref) -> list[str | Ref]:
    if not isinstance(part, str):
        return [part]
    pieces: list[str | Ref] = []
    for index, text in enumerate(re.split(bounded, part)):
        pieces += [ref, text] if index else [text]
    return [piece for piece in pieces if piece != ""]


def _gives(expr: Expr, scope: Scope, value: Any) -> bool:
    try:
        return canonical(evaluate(expr, scope)) == canonical(value)
    except UnboundError:
        return False


def _is_side(expr: Expr, source: Source) -> bool:
    """Whether an expression may be the one that reads a source: that slot, or no slot at all."""
    if isinstance(expr, SlotRef):
        return source.slot is not None and source.slot.name == expr.name and not expr.transforms
    return isinstance(expr, Const) and source.slot is None
