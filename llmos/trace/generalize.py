"""Calls that repeat, laid over one another: what is the same stays, what differs must come from the entry or its calls.

The result is one call with marks (single private characters) where values differ, and the reference each mark
stands for; evaluated for each instance it gives exactly the recorded arguments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.conditions import same
from llmos.trace.evidence import leaves
from llmos.trace.program import Condition, ConditionKind
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import (
    Const,
    Expr,
    IndexRef,
    ItemRef,
    Leaf,
    ListExpr,
    OutputRef,
    Record,
    Ref,
    Text,
    Transform,
    ValuePath,
    as_text,
    mapped,
    text_of,
)

_PATHLIKE = ("name", "stem", "suffix", "parent")
_WORDLIKE = ("lower", "upper", "title", "slug", "snake", "strip", "number")
_MAX_TRANSFORMED = 300
_FIRST_MARK, _LAST_MARK = 0xE100, 0xF8FF
_MARK = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_LAST_MARK)}]")


class NoLoopError(Exception):
    """The calls are not instances of one call."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One recorded call: its arguments, the values it may draw from, and the numbers of its iterations."""

    args: Mapping[str, Any]
    sources: Mapping[ItemRef | OutputRef, Any]
    numbers: Mapping[str, int]


@dataclass(kw_only=True)
class Marks:
    """The references that marks stand for, and what must hold for them to be right."""

    refs: dict[str, Ref] = field(default_factory=dict)

    def mark(self, ref: Ref) -> str:
        """The character that stands for a reference."""
        for mark, known in self.refs.items():
            if known == ref:
                return mark
        if len(self.refs) > _LAST_MARK - _FIRST_MARK:
            raise NoLoopError("too many references")
        mark = chr(_FIRST_MARK + len(self.refs))
        self.refs[mark] = ref
        return mark

    def filled(self, expr: Expr) -> Expr:
        """An expression with references in place of its marks."""
        return mapped(expr, self._filled_leaf)

    def _filled_leaf(self, leaf: Leaf) -> Expr:
        match leaf:
            case Const(value=value):
                return self._filled_value(value)
            case Text(parts=parts):
                return text_of([piece for part in parts for piece in self._pieces(part)])
            case _:
                return leaf

    def _filled_value(self, value: Any) -> Expr:
        if isinstance(value, str) and _MARK.search(value):
            pieces = self._pieces(value)
            return pieces[0] if len(pieces) == 1 and not isinstance(pieces[0], str) else text_of(pieces)
        if isinstance(value, list) and marked(value):
            return ListExpr(items=tuple(self._filled_value(item) for item in value))
        if isinstance(value, dict) and marked(value):
            return Record(fields=tuple((key, self._filled_value(item)) for key, item in value.items()))
        return Const(value=value)

    def _pieces(self, part: str | Ref) -> list[str | Ref]:
        if not isinstance(part, str):
            return [part]
        pieces: list[str | Ref] = []
        start = 0
        for found in _MARK.finditer(part):
            pieces += [part[start : found.start()], self.refs[found.group()]]
            start = found.end()
        return [piece for piece in [*pieces, part[start:]] if piece != ""]


def marked(value: Any) -> bool:
    """Whether a JSON value holds a mark (or a character that would be taken for one)."""
    return _MARK.search(json.dumps(value, ensure_ascii=False)) is not None


@dataclass(kw_only=True)
class Generalizer:
    """Lays instances over one another; `expects` collects what the recording leaves open and a replay must ask."""

    instances: Sequence[Instance]
    marks: Marks
    code_params: frozenset[str] = frozenset()
    expects: list[Condition] = field(default_factory=list)
    used: list[Ref] = field(default_factory=list)

    def arguments(self) -> dict[str, Any]:
        """The one call, with marks.

        Raises:
            NoLoopError: something differs that neither the entry nor its calls explain.
        """
        names = list(self.instances[0].args)
        if any(set(one.args) != set(names) for one in self.instances):
            raise NoLoopError("the calls have different arguments")
        return {name: self._value([one.args[name] for one in self.instances], name) for name in names}

    def _value(self, values: list[Any], param: str) -> Any:
        first = values[0]
        if all(same(first, value) for value in values[1:]):
            return first
        refs = self._equal.get(_key(values), [])
        if refs:
            return self._hole(refs, values, param)
        if all(isinstance(value, dict) and list(value) == list(first) for value in values):
            return {key: self._value([value[key] for value in values], param) for key in first}
        if all(isinstance(value, list) and len(value) == len(first) for value in values):
            return [self._value([value[i] for value in values], param) for i in range(len(first))]
        if all(isinstance(value, str) for value in values):
            return self._text(values, param)
        counted = self._counted(values)
        if counted is None:
            raise NoLoopError(f"{param} differs")
        return self._marked(counted, param)

    # --- whole values ------------------------------------------------------------------------------

    @cached_property
    def _varying(self) -> list[tuple[ItemRef | OutputRef, list[Any]]]:
        """What every instance can draw from, with the values, where these are not all the same."""
        first, *others = (one.sources for one in self.instances)
        found: list[tuple[ItemRef | OutputRef, list[Any]]] = []
        for ref in first:
            if all(ref in other for other in others):
                values = [first[ref], *(other[ref] for other in others)]
                if any(not same(values[0], value) for value in values[1:]):
                    found += [(ref, values), *_transformed(ref, values)]
        return found

    @cached_property
    def _equal(self) -> dict[str, list[ItemRef | OutputRef]]:
        index: dict[str, list[ItemRef | OutputRef]] = {}
        for ref, values in self._varying:
            index.setdefault(_key(values), []).append(ref)
        return index

    def _hole(self, refs: Sequence[Ref], values: Sequence[Any], param: str, *, inside: bool = False) -> str:
        """The mark for the best of several references; the others must agree with it at replay."""
        ranked = sorted(refs, key=_rank)
        chosen = ranked[0]
        rivals = [ref for ref in ranked[1:] if _is_rival(ref, chosen, inside=inside)]
        counted = self._counted(list(values))
        self.expects += [
            Condition(kind=ConditionKind.EQUALS, value=chosen, expected=rival)
            for rival in [*rivals, *([counted] if counted is not None else [])]
        ]
        return self._marked(chosen, param)

    def _marked(self, ref: Ref, param: str) -> str:
        if param in self.code_params:
            self.expects.append(Condition(kind=ConditionKind.PLAIN, value=ref))
        self.used.append(ref)
        return self.marks.mark(ref)

    def _counted(self, values: Sequence[Any]) -> IndexRef | None:
        """The number of an iteration, counted from 0 or from 1, that whole numbers or digits are."""
        for loop in self.instances[0].numbers:
            for start in (0, 1):
                for ref in _countings(loop, start):
                    made = [_count(ref, one.numbers[loop]) for one in self.instances]
                    if len(set(map(str, made))) > 1 and all(map(same, made, values)):
                        return ref
        return None

    # --- texts -------------------------------------------------------------------------------------

    def _text(self, values: list[str], param: str) -> str:
        """Replace what varies in a text, longest first, until the rest is the same in all instances."""
        work = list(values)
        groups = [
            (refs, [as_text(value) for value in found])
            for refs, found in ((refs, self._values[key]) for key, refs in self._equal.items())
            if all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in found)
        ]
        for refs, pieces in sorted(groups, key=lambda group: -sum(map(len, group[1]))):
            if all(piece and piece in text for piece, text in zip(pieces, work, strict=True)):
                patterns = [_bounded(piece) for piece in pieces]
                counts = {len(pattern.findall(text)) for pattern, text in zip(patterns, work, strict=True)}
                if len(counts) == 1 and counts != {0}:
                    mark = self._hole(refs, pieces, param, inside=True)
                    work = [pattern.sub(mark, text) for pattern, text in zip(patterns, work, strict=True)]
            if len(set(work)) == 1:
                return work[0]
        return self._numbered(work, param)

    @cached_property
    def _values(self) -> dict[str, list[Any]]:
        return {_key(values): values for _, values in self._varying}

    def _numbered(self, work: list[str], param: str) -> str:
        """Texts that differ in numbers which count the iterations."""
        split = [re.split(r"(\d+)", text) for text in work]
        if len({len(parts) for parts in split}) != 1:
            raise NoLoopError(f"{param} differs")
        made: list[str] = []
        for position, pieces in enumerate(zip(*split, strict=True)):
            if len(set(pieces)) == 1:
                made.append(pieces[0])
                continue
            counted = self._counted(pieces) if position % 2 else None
            if counted is None:
                raise NoLoopError(f"{param} differs")
            made.append(self._marked(counted, param))
        return "".join(made)


def sources_of(
    items: Mapping[str, Any], outputs: Mapping[str, tuple[Mapping[str, Any], Any]]
) -> dict[ItemRef | OutputRef, Any]:
    """What a call in a loop may draw from: the entries of the loops it is in, and the outputs of its iteration.

    `outputs` maps steps to their arguments and output; an output that only repeats an argument is left out.
    """
    found: dict[ItemRef | OutputRef, Any] = {}
    for loop, entry in items.items():
        found |= {ItemRef(loop=loop, path=path): value for path, value in _named(entry)}
    for step, (args, output) in outputs.items():
        echoes = [leaf for _, leaf in leaves(args)]
        found |= {
            OutputRef(step=step, path=path): value
            for path, value in _named(output)
            if not any(same(value, echo) for echo in echoes)
        }
    return found


def _named(value: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any]]:
    """Every value inside a JSON value that is reached by names alone, null and truth values left out."""
    if value is not None and not isinstance(value, bool):
        yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _named(item, (*path, key))


def _transformed(ref: ItemRef | OutputRef, values: list[Any]) -> Iterator[tuple[ItemRef | OutputRef, list[Any]]]:
    if not all(isinstance(value, str) and len(value) <= _MAX_TRANSFORMED for value in values):
        return
    for name in (*_PATHLIKE, *_WORDLIKE):
        try:
            made = [TRANSFORMS[name](value) for value in values]
        except (TypeError, ValueError):
            continue
        varies = any(not same(made[0], one) for one in made[1:])
        if varies and not all(map(same, made, values)) and all(one != "" for one in made):
            yield replace(ref, transforms=(Transform(name=name),)), made


def _rank(ref: Ref) -> tuple[Any, ...]:
    """The simplest reference first: unchanged, of the entry, short."""
    transforms = [*_PATHLIKE, *_WORDLIKE]
    changed = [transforms.index(t.name) for t in getattr(ref, "transforms", ())]
    return (len(changed), isinstance(ref, OutputRef), len(getattr(ref, "path", ())), changed, str(ref))


def _is_rival(ref: Ref, chosen: Ref, *, inside: bool) -> bool:
    """Whether another explanation must agree at replay: what a path or word is turned into only rivals its like."""
    if not isinstance(ref, ItemRef | OutputRef) or not isinstance(chosen, ItemRef | OutputRef):
        return True
    if not ref.transforms or chosen.transforms:
        return True
    return inside and replace(ref, transforms=()) == chosen and ref.transforms[0].name in ("name", "stem")


def _countings(loop: str, start: int) -> list[IndexRef]:
    plus = (Transform(name="plus", args=(start,)),) if start else ()
    widths = [(), *((Transform(name="format", args=(f"0{width}d",)),) for width in (2, 3, 4))]
    return [IndexRef(loop=loop, transforms=(*plus, *width)) for width in ((Transform(name="text"),), *widths)]


def _count(ref: IndexRef, number: int) -> Any:
    value: Any = number
    for transform in ref.transforms:
        value = TRANSFORMS[transform.name](value, *transform.args)
    return value


def _bounded(piece: str) -> re.Pattern[str]:
    left = r"(?<![^\W_])" if piece[:1].isalnum() else ""
    right = r"(?![^\W_])" if piece[-1:].isalnum() else ""
    return re.compile(left + re.escape(piece) + right)


def _key(values: Iterable[Any]) -> str:
    return json.dumps(list(values), sort_keys=True, ensure_ascii=False)


def path_suffix(text: Any) -> str:
    """The suffix of what looks like a file's name; nothing otherwise."""
    found = PurePosixPath(text).suffix if isinstance(text, str) and len(text) <= _MAX_TRANSFORMED else ""
    return found if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{0,7}", found) else ""


__all__ = ["Generalizer", "Instance", "Marks", "NoLoopError", "marked", "path_suffix", "sources_of"]
