"""A loop of a recording as a program: one body, its references, and what a replay must ask of the entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmos.trace.findings import ToolFacts
from llmos.trace.generalize import Generalizer, Instance, Marks, NoLoopError, sources_of
from llmos.trace.json_values import json_type
from llmos.trace.listed import Element, Found, column_key, feature
from llmos.trace.program import Condition, ConditionKind
from llmos.trace.run import StepRecord
from llmos.trace.selection import named_in_all, shared
from llmos.trace.values import Const, IndexRef, ItemRef, OutputRef, Ref, Transform, references, value_at


@dataclass(frozen=True, kw_only=True)
class Column:
    """One call of a body: where it was recorded, and its arguments with marks."""

    indexes: tuple[int, ...]
    args: Mapping[str, Any]
    used: tuple[Ref, ...]
    expect: tuple[Condition, ...] = ()

    @property
    def key(self) -> str:
        return column_key(self.indexes[0])


@dataclass(frozen=True, kw_only=True)
class Body:
    """A loop as a program; `key` is its name, `children` its calls and inner loops."""

    key: str
    found: Found
    over: OutputRef
    children: tuple[Column | Body, ...]
    where: tuple[Condition, ...] = ()
    expect: tuple[Condition, ...] = ()

    def columns(self) -> Iterator[Column]:
        """Every call of the body in order, those of inner loops included."""
        for child in self.children:
            if isinstance(child, Body):
                yield from child.columns()
            else:
                yield child

    def bodies(self) -> Iterator[Body]:
        """This loop and those inside it."""
        yield self
        for child in self.children:
            if isinstance(child, Body):
                yield from child.bodies()


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One iteration: its entries and numbers by loop, and the calls so far by column (`keys`: by their place)."""

    elements: tuple[Element, ...]
    items: Mapping[str, Any]
    numbers: Mapping[str, int]
    outputs: dict[str, tuple[Mapping[str, Any], Any]] = field(default_factory=dict)
    keys: dict[int, str] = field(default_factory=dict)

    def inner(self, loop: str, entry: Any, number: int, elements: tuple[Element, ...]) -> _Row:
        return _Row(
            elements=elements,
            items={**self.items, loop: entry},
            numbers={**self.numbers, loop: number},
            outputs=dict(self.outputs),
            keys=dict(self.keys),
        )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Lays the rows of a loop over one another; `words` are those of the goal, folded."""

    steps: Sequence[StepRecord]
    tools: Mapping[str, ToolFacts]
    words: frozenset[str]
    marks: Marks

    def lay_out(self, found: Found) -> Body:
        """The program of a loop.

        Raises:
            NoLoopError: its rows are not instances of one body, or say nothing of the entries.
        """
        outer = _Row(elements=(found,), items={}, numbers={})
        return self._body([outer], 0)

    def _body(self, rows: Sequence[_Row], position: int) -> Body:
        """A loop from the rows of all its runs together."""
        loops = [(row, found) for row in rows if isinstance(found := row.elements[position], Found)]
        key = next((found.key for _, found in loops if found.rows), "")
        inner = [
            row.inner(key, entry, number, elements)
            for row, found in loops
            for number, (entry, elements) in enumerate(zip(found.taken, found.rows, strict=True))
        ]
        overs = [found.source.over(row.keys) for row, found in loops]
        wheres = [found.where for _, found in loops]
        if not inner or any(over != overs[0] for over in overs) or any(where != wheres[0] for where in wheres):
            raise NoLoopError("the inner loops differ")
        found = next(found for _, found in loops if found.rows)
        body = Body(
            key=key,
            found=found,
            over=overs[0],
            children=self._children(inner),
            where=(wheres[0].asked(key),) if wheres[0] is not None else (),
        )
        whole = list(self._wholeness(body, [found for _, found in loops]))
        return self._finished(body, [row.items[key] for row in inner], whole)

    def _children(self, rows: Sequence[_Row]) -> tuple[Column | Body, ...]:
        if len({len(row.elements) for row in rows}) != 1:
            raise NoLoopError("the rows have different lengths")
        children: list[Column | Body] = []
        for position in range(len(rows[0].elements)):
            indexes = [element for row in rows if isinstance(element := row.elements[position], int)]
            if len(indexes) == len(rows):
                children.append(self._column(rows, indexes))
            elif not indexes:
                children.append(self._body(rows, position))
            else:
                raise NoLoopError("calls stand beside loops")
        return tuple(children)

    def _column(self, rows: Sequence[_Row], indexes: Sequence[int]) -> Column:
        steps = [self.steps[index] for index in indexes]
        if len({(step.tool, step.tool_version, step.effect) for step in steps}) != 1:
            raise NoLoopError("different tools")
        general = Generalizer(
            instances=[
                Instance(args=step.args, sources=sources_of(row.items, row.outputs), numbers=row.numbers)
                for row, step in zip(rows, steps, strict=True)
            ],
            marks=self.marks,
            code_params=self.tools[steps[0].tool].code_params,
        )
        args = general.arguments()
        key = column_key(indexes[0])
        for row, index, step in zip(rows, indexes, steps, strict=True):
            row.outputs[key] = (step.args, step.output)
            row.keys[index] = key
        return Column(indexes=tuple(indexes), args=args, used=tuple(general.used), expect=_unique(general.expects))

    # --- what entries must be like -----------------------------------------------------------------

    def _finished(self, body: Body, entries: Sequence[Any], whole: Sequence[Condition]) -> Body:
        """The body with what every entry had; a loop that does not use its entries is none."""
        refs = [ref for column in body.columns() for ref in column.used]
        own = {ref for ref in refs if isinstance(ref, ItemRef) and ref.loop == body.key}
        if not own or not _tells_apart(own, entries):
            raise NoLoopError("the entries are not used")
        children, moved = _with_conditions_moved(body.children, body.key)
        source = body.found.source
        alike = (
            []
            if source.given or source.loop
            else [*self._suffixes(body, own, entries), *self._alike(body, own, entries)]
        )
        typed = [] if source.given else self._types(body, own, entries)
        expect = _unique([one for one in (*typed, *whole, *moved, *alike) if one not in body.where])
        return Body(key=body.key, found=body.found, over=body.over, children=children, where=body.where, expect=expect)

    @staticmethod
    def _types(body: Body, own: set[ItemRef], entries: Sequence[Any]) -> Iterator[Condition]:
        """The type of each value that is used of an entry."""
        for path in sorted({ref.path for ref in own}, key=str):
            ref = ItemRef(loop=body.key, path=path)
            types = {json_type(value_at(entry, path)) for entry in entries}
            if len(types) != 1:
                raise NoLoopError("the entries have different types")
            yield Condition(kind=ConditionKind.TYPE, value=ref, expected=Const(value=next(iter(types))))

    def _wholeness(self, body: Body, runs: Sequence[Found]) -> Iterator[Condition]:
        """What an output says beside a list about whether it is all there: truth values, and the number of entries."""
        source = body.found.source
        if source.step < 0 or not source.path or source.lines:
            return
        beside = [value_at(self.steps[run.source.step].output, source.path[:-1]) for run in runs]
        for key, value in beside[0].items():
            said = OutputRef(step=body.over.step, path=(*source.path[:-1], key))
            values = [one.get(key) for one in beside]
            if isinstance(value, bool) and all(one is value for one in values):
                yield Condition(kind=ConditionKind.EQUALS, value=said, expected=Const(value=value))
            counts = [len(run.source.entries) for run in runs]
            if type(value) is int and values == counts:
                count = OutputRef(step=body.over.step, path=source.path, transforms=(Transform(name="count"),))
                yield Condition(kind=ConditionKind.EQUALS, value=said, expected=count)

    @staticmethod
    def _suffixes(body: Body, own: set[ItemRef], entries: Sequence[Any]) -> Iterator[Condition]:
        """The suffix that every path had."""
        suffix = (Transform(name="suffix"), Transform(name="lower"))
        for path in sorted({ref.path for ref in own}, key=str):
            found = [feature(entry, path, suffix) for entry in entries]
            if len(set(found)) == 1 and found[0]:
                yield _equals(ItemRef(loop=body.key, path=path, transforms=suffix), found[0][0])

    def _alike(self, body: Body, own: set[ItemRef], entries: Sequence[Any]) -> Iterator[Condition]:
        """What may be why these entries were taken: fields of one value, and words of the goal in all their names."""
        for path, leaf in shared(entries):
            yield _equals(ItemRef(loop=body.key, path=path), leaf)
        for path in sorted({ref.path for ref in own}, key=str):
            texts = [value for entry in entries for value in feature(entry, path, ())]
            if len(texts) == len(entries) and all(isinstance(text, str) for text in texts):
                low = ItemRef(loop=body.key, path=path, transforms=(Transform(name="lower"),))
                for word in named_in_all(self.words, texts):
                    yield Condition(kind=ConditionKind.CONTAINS, value=low, expected=Const(value=word))


def _tells_apart(used: set[ItemRef], entries: Sequence[Any]) -> bool:
    """Whether what is used of two different entries is never the same."""
    paths = sorted({ref.path for ref in used}, key=str)
    seen: dict[str, str] = {}
    for entry in entries:
        key = repr([value_at(entry, path) for path in paths])
        if seen.setdefault(key, repr(entry)) != repr(entry):
            return False
    return True


def _equals(ref: ItemRef, value: Any) -> Condition:
    return Condition(kind=ConditionKind.EQUALS, value=ref, expected=Const(value=value))


def _with_conditions_moved(
    children: Sequence[Column | Body], loop: str
) -> tuple[tuple[Column | Body, ...], list[Condition]]:
    """Conditions that ask of the entry alone go to the loop, where they are asked before its first iteration."""
    kept: list[Column | Body] = []
    moved: list[Condition] = []
    for child in children:
        if isinstance(child, Column):
            asked = [one for one in child.expect if _asks_of_entry(one, loop)]
            moved += asked
            expect = tuple(one for one in child.expect if one not in asked)
            child = Column(indexes=child.indexes, args=child.args, used=child.used, expect=expect)
        kept.append(child)
    return tuple(kept), moved


def _asks_of_entry(condition: Condition, loop: str) -> bool:
    return all(_is_of(ref, loop) for expr in condition.exprs for ref in references(expr))


def _is_of(ref: Ref, loop: str) -> bool:
    return isinstance(ref, ItemRef | IndexRef) and ref.loop == loop


def _unique(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    kept: list[Condition] = []
    for condition in conditions:
        if condition not in kept:
            kept.append(condition)
    return tuple(kept)


__all__ = ["Body", "Column", "Layout"]
