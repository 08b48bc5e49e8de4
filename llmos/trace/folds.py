"""The ways to fold a recording: its loops found, laid out, and put in place of their calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmos.trace.evidence import Evidence, leaves
from llmos.trace.findings import ToolFacts
from llmos.trace.folding import Fold, canonical
from llmos.trace.generalize import Marks, NoLoopError, marked
from llmos.trace.layout import Body, Column, Layout
from llmos.trace.lex import Token
from llmos.trace.listed import Found, GoalList, calls, column_key, goal_lists
from llmos.trace.loops import LoopFinder
from llmos.trace.run import Run, StepRecord, step_ids
from llmos.trace.values import (
    OutputRef,
    Transform,
    UnboundError,
    value_at,
)

_MAX_CHOSEN = 6
_JOINERS = ("\n", "", "\n\n", ", ", ",", " ", "; ")


def folds(run: Run, tokens: Sequence[Token], tools: Mapping[str, ToolFacts]) -> Iterator[Fold]:
    """The ways to fold a run, the one with most loops first; the last one has none."""
    words = frozenset(form.casefold() for token in tokens for form in (token.text, token.value))
    finder = LoopFinder(steps=run.steps, tools=tools, words=words, given=goal_lists(tokens))
    plain = list(range(len(run.steps)))
    found = plain if marked([run.goal, *(step.args for step in run.steps)]) else finder.find()
    loops = [one for one in found if isinstance(one, Found)]
    choices = [loops] if loops else []
    if 1 < len(loops) <= _MAX_CHOSEN:
        choices += [[one for one in loops if one is not left_out] for left_out in loops]
    for chosen in [*choices, []]:
        elements = [
            part
            for one in found
            for part in ([one] if isinstance(one, int) or any(one is c for c in chosen) else calls([one]))
        ]
        if fold := _fold(run, tokens, finder, tools, elements):
            yield fold


def _fold(
    run: Run,
    tokens: Sequence[Token],
    finder: LoopFinder,
    tools: Mapping[str, ToolFacts],
    elements: Sequence[int | Found],
) -> Fold | None:
    marks = Marks()
    layout = Layout(steps=run.steps, tools=tools, words=finder.words, marks=marks)
    try:
        parts = tuple(one if isinstance(one, int) else layout.lay_out(one) for one in elements)
    except NoLoopError:
        return None
    steps: list[StepRecord] = []
    origin: list[int] = []
    for part in parts:
        for column in [] if isinstance(part, int) else part.columns():
            origin.append(column.indexes[0])
            steps.append(replace(run.steps[origin[-1]], args=dict(column.args)))
        if isinstance(part, int):
            done = [one for one in parts[: parts.index(part)] if isinstance(one, Body)]
            origin.append(part)
            steps.append(replace(run.steps[part], args=_gathered(run.steps, part, done, marks)))
    ids = tuple(step_ids(steps))
    names = {column_key(one): name for one, name in zip(origin, ids, strict=True)}
    loops = [body for part in parts if isinstance(part, Body) for body in part.bodies()]
    if {body.found.source.loop for body in loops} - {"", *(body.key for body in loops)}:
        return None
    names |= _loop_names(loops, ids)
    goal, left, positions = _shortened(run.goal, tokens, loops, names)
    return Fold(
        run=replace(run, goal=goal, steps=tuple(steps)),
        original=run,
        tokens=left,
        ids=ids,
        origin=tuple(origin),
        parts=parts,
        names=names,
        positions=positions,
        marks=marks,
    )


def _gathered(steps: Sequence[StepRecord], at: int, loops: Sequence[Body], marks: Marks) -> dict[str, Any]:
    """The arguments of a call after loops, with marks for lists of what each iteration gave, or texts joined of these.

    What another call gave as a whole is that call's.
    """
    made: dict[str, OutputRef | None] = {}
    for body in loops:
        for column in body.children:
            if isinstance(column, Column) and len(column.indexes) > 1:
                for ref, values in _gathered_of(body, column, steps):
                    made[canonical(values)] = None if canonical(values) in made else ref
    inside = {index for body in loops for column in body.columns() for index in column.indexes}
    evidence = Evidence(steps) if made else None
    for key in [
        key for key, ref in made.items() if ref and evidence and _is_given(json.loads(key), at, evidence, inside)
    ]:
        del made[key]
    known = {key: ref for key, ref in made.items() if ref}
    return {name: _with_lists(value, known, marks) for name, value in steps[at].args.items()}


def _is_given(value: Any, at: int, evidence: Evidence, inside: set[int]) -> bool:
    """Whether a call outside of loops gave a text or a list as it is."""
    if isinstance(value, str):
        return any(leaf.step not in inside for leaf in evidence.equal(value, at))
    return any(step not in inside for step, _ in evidence.containers(value, at))


def _gathered_of(body: Body, column: Column, steps: Sequence[StepRecord]) -> Iterator[tuple[OutputRef, Any]]:
    """The lists of what one call of a loop gave in each iteration, and the texts they make when joined."""
    outputs = [steps[index].output for index in column.indexes]
    for path, _ in [((), None), *leaves(outputs[0])]:
        if not all(isinstance(part, str) for part in path):
            continue
        try:
            values = [value_at(output, path) for output in outputs]
        except UnboundError:
            continue
        columns = tuple(Transform(name="column", args=(part,)) for part in (column.key, *path))
        ref = OutputRef(step=body.key, transforms=columns)
        if len({canonical(value) for value in values}) > 1:
            yield ref, values
            if all(isinstance(value, str) for value in values):
                for joiner in _JOINERS:
                    joined = Transform(name="join", args=(joiner,))
                    yield replace(ref, transforms=(*columns, joined)), joiner.join(values)


def _with_lists(value: Any, made: Mapping[str, OutputRef], marks: Marks) -> Any:
    ref = made.get(canonical(value)) if isinstance(value, list | str) else None
    if ref is not None:
        return marks.mark(ref)
    if isinstance(value, dict):
        return {key: _with_lists(item, made, marks) for key, item in value.items()}
    return [_with_lists(item, made, marks) for item in value] if isinstance(value, list) else value


def _loop_names(loops: Sequence[Body], ids: Sequence[str]) -> dict[str, str]:
    """An id for each loop: the name of its list."""
    names: dict[str, str] = {}
    for body in loops:
        source = body.found.source
        last = source.path[-1] if source.path and isinstance(source.path[-1], str) else "entries"
        base = re.sub(r"[^A-Za-z0-9_]+", "_", "given" if source.given else last).strip("_") or "entries"
        base = f"list_{base}" if base[0].isdigit() or base == "each" else base
        name, number = base, 2
        while name in ids or name in names.values():
            name, number = f"{base}_{number}", number + 1
        names[body.key] = name
    return names


def _shortened(
    goal: str, tokens: Sequence[Token], loops: Sequence[Body], names: Mapping[str, str]
) -> tuple[str, list[Token], dict[str, int]]:
    """The goal with the first entry only of each list that a loop goes through, and where that entry is."""
    lists = {given: None for body in loops if (given := body.found.source.given) is not None}
    if not lists:
        return goal, list(tokens), {}
    kept: dict[GoalList, int] = {}
    left: list[Token] = []
    text, end, cut = "", 0, 0
    inside: GoalList | None = None
    for at, token in enumerate(tokens):
        inside = next((one for one in lists if one.first <= at <= one.last), None)
        if inside is not None and at > inside.first:
            if at == inside.last:
                cut += token.end - tokens[inside.first].end
                end = token.end
            continue
        if inside is not None:
            kept[inside] = len(left)
        text += goal[end : token.end]
        end = token.end
        left.append(replace(token, start=token.start - cut, end=token.end - cut))
    positions = {names[body.key]: kept[given] for body in loops if (given := body.found.source.given) is not None}
    return text + goal[end:], left, positions
