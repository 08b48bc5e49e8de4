"""Loops in a recording: neighbouring groups of calls that go through a list, entry by entry, in its order.

The list is an earlier output or one that the goal gives (`a.txt, b.txt and c.txt`). A loop is only found where one
call with references, evaluated for every entry, gives exactly the recorded calls; anything less is left unrolled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.evidence import containers, leaves
from llmos.trace.findings import ToolFacts
from llmos.trace.generalize import Marks, NoLoopError
from llmos.trace.layout import Body, Layout
from llmos.trace.listed import Element, Filter, Found, GoalList, Source, calls, column_key, feature
from llmos.trace.run import StepRecord
from llmos.trace.values import Transform, ValuePath

_MAX_BODY = 8
_MAX_PASSES = 3
_TELLING = 100


@dataclass(frozen=True, kw_only=True)
class LoopFinder:
    """Finds the loops of one recording; `words` are those of the goal, folded, `given` the lists it gives."""

    steps: Sequence[StepRecord]
    tools: Mapping[str, ToolFacts]
    words: frozenset[str]
    given: Sequence[GoalList] = ()
    _known: dict[int, list[Found]] = field(default_factory=dict)

    def find(self) -> list[Element]:
        """The calls by index, with every proven loop in place of its calls."""
        elements = self._scan(list(range(len(self.steps))))
        for _ in range(_MAX_PASSES):
            found = self._scan(self._with_singles(elements))
            if not any(isinstance(one, Found) and _depth(one) > 1 for one in found):
                found = self._scan(elements)
            found = [one for element in found for one in _unless_single(element)]
            if found == elements:
                break
            elements = found
        return elements

    def _scan(self, elements: Sequence[Element]) -> list[Element]:
        made: list[Element] = []
        position = 0
        while position < len(elements):
            found, length = self._best(elements[position:], made)
            made.append(elements[position] if found is None else found)
            position += length
        return made

    def _best(self, elements: Sequence[Element], before: Sequence[Element]) -> tuple[Found | None, int]:
        """The loop that begins here and explains most calls, and how many elements it takes."""
        options = self._options(before)
        sizes = {len(option.taken) for option in options}
        for length, count in sorted(self._repeats(elements), key=lambda size: -size[0] * size[1]):
            for rows in sorted((size for size in sizes if size <= count), reverse=True):
                found = self._loop([tuple(elements[i * length : (i + 1) * length]) for i in range(rows)], options)
                if found is not None:
                    return found, rows * length
        return None, 1

    def _repeats(self, elements: Sequence[Element]) -> Iterator[tuple[int, int]]:
        """How long the groups are that repeat from here on, and how often they do."""
        signs = [self._sign(element) for element in elements]
        for length in range(1, min(_MAX_BODY, len(signs) // 2) + 1):
            count = 1
            while signs[count * length : (count + 1) * length] == signs[:length]:
                count += 1
            if count > 1:
                yield length, count

    def _sign(self, element: Element) -> str:
        """What two elements have in common if they may be instances of one."""
        if isinstance(element, int):
            return self.steps[element].tool
        tool = "" if element.source.step < 0 else self.steps[element.source.step].tool
        return f"for {tool} {element.source.path} {element.where}"

    # --- which list --------------------------------------------------------------------------------

    def _loop(self, rows: Sequence[tuple[Element, ...]], options: Sequence[Found]) -> Found | None:
        """The rows as iterations over the one list that explains them; None if there is none, or more than one.

        A list of the goal is meant; of others, what an earlier loop came to counts where it explains more.
        """
        fitting = (replace(option, rows=tuple(rows)) for option in options if len(option.taken) == len(rows))
        near = [found for found in fitting if self._is_near(found)]
        proven = [(found, body) for found in near if (body := self._laid_out(found))]
        left = {kind: [one for one in proven if kind(one[0].source)] for kind in (_is_given, _is_output, _is_loop)}
        cost = {kind: min((_constant(body) for _, body in ones), default=0) for kind, ones in left.items()}
        better = left[_is_loop] and (not left[_is_output] or cost[_is_loop] < cost[_is_output])
        chosen = left[_is_given] or left[_is_loop if better else _is_output]
        if len({(found.source.step, found.source.loop, str(found.where)) for found, _ in chosen}) != 1:
            return None
        return min((found for found, _ in chosen), key=lambda found: (found.source.lines, len(found.source.path)))

    def _options(self, before: Sequence[Element]) -> list[Found]:
        """The lists there are so far, whole and as the goal's words select from them, without rows."""
        options = [
            option for group in self.given for option in self._selected(Source(entries=group.values, given=group))
        ]
        for element in before:
            if isinstance(element, int):
                options += self._listed(element)
            elif _depth(element) == 1:
                options += self._selected(Source(entries=tuple(self._came_to(element)), loop=element.key))
        return options

    def _listed(self, step: int) -> list[Found]:
        if step not in self._known:
            sources = lists_in(self.steps[step].output, step)
            self._known[step] = [option for source in sources for option in self._selected(source)]
        return self._known[step]

    def _selected(self, source: Source) -> list[Found]:
        found = [Found(source=source, taken=source.entries, rows=())]
        for where in self._filters(source):
            taken = tuple(entry for entry in source.entries if where.takes(entry))
            if len(taken) < len(source.entries):
                found.append(Found(source=source, taken=taken, rows=(), where=where))
        return [option for option in found if len(option.taken) > 1 and _may_be(option.taken)]

    def _came_to(self, found: Found) -> Iterator[dict[str, Any]]:
        """What each iteration of a loop came to, by the keys of its calls."""
        keys = [column_key(index) for index in calls(found.rows[0])]
        for entry, row in zip(found.taken, found.rows, strict=True):
            outputs = [self.steps[index].output for index in calls(row)]
            yield {"each": entry, **dict(zip(keys, outputs, strict=True))}

    def _filters(self, source: Source) -> list[Filter]:
        """What the goal's own words may select from a list: by suffix, or by the value of a field."""
        found: list[Filter] = []
        for entry in () if source.given or source.loop else source.entries:
            for path, _ in leaves(entry):
                for transforms in ((), (Transform(name="suffix"), Transform(name="lower"))):
                    for value in feature(entry, path, transforms):
                        one = Filter(path=path, transforms=transforms, value=value)
                        if self._is_said(value, path) and one not in found:
                            found.append(one)
        return found

    def _is_said(self, value: Any, path: ValuePath) -> bool:
        """Whether the goal names a value, or, for a truth value, its field."""
        if isinstance(value, bool):
            return value and bool(path) and str(path[-1]).casefold().removeprefix("is_") in self.words
        said = str(value).casefold()
        return value is not None and (said in self.words or said.removeprefix(".") in self.words)

    def _is_near(self, found: Found) -> bool:
        """A quick look whether each row says anything of its entry."""
        for entry, row in zip(found.taken, found.rows, strict=True):
            said = " ".join(json.dumps(self.steps[i].args, ensure_ascii=False) for i in calls(row)).casefold()
            nested = any(isinstance(element, Found) for element in row)
            if not nested and not any(form in said for _, leaf in leaves(entry) for form in _near_forms(leaf)):
                return False
        return True

    def _laid_out(self, found: Found) -> Body | None:
        try:
            return Layout(steps=self.steps, tools=self.tools, words=self.words, marks=Marks()).lay_out(found)
        except NoLoopError:
            return None

    # --- inner loops of one iteration or none ------------------------------------------------------

    def _with_singles(self, elements: list[Element]) -> list[Element]:
        """The elements, with inner loops also where their list had one entry or none."""
        seen: set[str] = set()
        for model in list(elements):
            if isinstance(model, Found) and model.source.step in elements and self._sign(model) not in seen:
                seen.add(self._sign(model))
                gap = elements.index(model) - elements.index(model.source.step)
                elements = self._folded_like(model, gap, elements)
        return elements

    def _folded_like(self, model: Found, gap: int, elements: Sequence[Element]) -> list[Element]:
        made: list[Element] = []
        position = 0
        while position < len(elements):
            made.append(elements[position])
            position += 1
            source = made[-gap] if gap <= len(made) else None
            if isinstance(source, int) and self.steps[source].tool == self.steps[model.source.step].tool:
                found = self._single(model, source, elements[position:])
                if found is not None:
                    made.append(found)
                    position += sum(len(row) for row in found.rows)
        return made

    def _single(self, model: Found, step: int, following: Sequence[Element]) -> Found | None:
        """The calls that follow as one iteration, or none, of a loop known from elsewhere."""
        shape = (model.source.path, model.source.lines)
        lists = [one for one in lists_in(self.steps[step].output, step, least=0) if (one.path, one.lines) == shape]
        if len(lists) != 1:
            return None
        taken = tuple(entry for entry in lists[0].entries if model.where is None or model.where.takes(entry))
        rows = [tuple(following[: len(model.rows[0])])] * len(taken)
        signs = [self._sign(element) for element in model.rows[0]]
        if len(taken) > 1 or any([self._sign(element) for element in row] != signs for row in rows):
            return None
        return Found(source=lists[0], taken=taken, rows=tuple(rows), where=model.where)


def lists_in(output: Any, step: int, least: int = 2) -> Iterator[Source]:
    """The lists in an output that are reached by names alone, and texts of lines where there is no such list."""
    lists = [
        Source(entries=tuple(value), step=step, path=path)
        for path, value in containers(output)
        if isinstance(value, list) and not any(isinstance(one, list) for one in value)
    ]
    yield from (one for one in lists if len(one.entries) >= least)
    for path, leaf in [] if lists else leaves(output):
        if isinstance(leaf, str) and all(isinstance(part, str) for part in path):
            lines = leaf.splitlines()
            if len(lines) >= least and all(lines):
                yield Source(entries=tuple(lines), step=step, path=path, lines=True)


def _is_given(source: Source) -> bool:
    return source.given is not None


def _is_output(source: Source) -> bool:
    return source.step >= 0


def _is_loop(source: Source) -> bool:
    return source.loop != ""


def _constant(body: Body) -> int:
    """How much of a loop's calls is the same in each of them: what the entries do not explain."""
    return sum(len(str(leaf)) for column in body.columns() for _, leaf in leaves(dict(column.args)))


def _depth(found: Found) -> int:
    return 1 + max((_depth(e) for row in found.rows for e in row if isinstance(e, Found)), default=0)


def _unless_single(element: Element) -> Sequence[Element]:
    """A loop, or its elements where it went round less than twice."""
    if isinstance(element, Found) and len(element.rows) < 2:
        return element.rows[0] if element.rows else ()
    return (element,)


def _may_be(entries: Sequence[Any]) -> bool:
    """Whether entries tell enough: two small numbers or single letters may agree with arguments by chance."""
    return len(entries) > 2 or any(_is_telling(leaf) for entry in entries for _, leaf in leaves(entry))


def _is_telling(leaf: Any) -> bool:
    if isinstance(leaf, str):
        return len(leaf) > 1 and not leaf.isdigit()
    return isinstance(leaf, int | float) and not isinstance(leaf, bool) and abs(leaf) >= _TELLING


def _near_forms(leaf: Any) -> Iterator[str]:
    if isinstance(leaf, str) and leaf:
        folded = leaf.casefold().strip()
        yield folded
        yield PurePosixPath(folded).stem
        yield str(PurePosixPath(folded).parent)
        yield from re.findall(r"[^\W_]+", folded)[:1]
    elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
        yield str(leaf)


__all__ = ["LoopFinder"]
