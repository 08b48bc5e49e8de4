"""A trace with other names for its steps and slots, in every reference to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llmos.trace.program import Condition, Slot, Step, Trace
from llmos.trace.sources import ApartError
from llmos.trace.values import Expr, OutputRef, SlotRef, with_references


def with_ids(trace: Trace, known: Trace) -> Trace:
    """The trace with the step ids of a known one, in its references too."""
    if len(trace.nodes) != len(known.nodes):
        raise ApartError("they make different numbers of calls")
    ids = {theirs.id: ours.id for ours, theirs in zip(known.nodes, trace.nodes, strict=True)}
    if all(name == other for name, other in ids.items()):
        return trace
    if not all(isinstance(node, Step) for node in (*trace.steps, *known.steps)):
        raise ApartError("they have loops, and call their steps otherwise")
    steps = tuple(
        replace(
            step,
            id=ids[step.id],
            args={name: _relabelled(expr, ids) for name, expr in step.args.items()},
            when=tuple(_asked_of(one, ids) for one in step.when),
            expect=tuple(_asked_of(one, ids) for one in step.expect),
        )
        for step in trace.calls
    )
    answer = trace.answer
    if answer.expr is not None:
        checks = tuple(
            replace(one, expected={**one.expected, "step": ids[one.expected["step"]]}) for one in answer.checks
        )
        answer = replace(answer, expr=_relabelled(answer.expr, ids), checks=checks)
    return replace(trace, slots=tuple(_looked_up(slot, ids) for slot in trace.slots), steps=steps, answer=answer)


def _looked_up(slot: Slot, ids: Mapping[str, str]) -> Slot:
    if slot.listed is None:
        return slot
    source = replace(slot.listed.source, step=ids[slot.listed.source.step])
    return replace(slot, listed=replace(slot.listed, source=source))


def _asked_of(condition: Condition, ids: Mapping[str, str]) -> Condition:
    expected = None if condition.expected is None else _relabelled(condition.expected, ids)
    return replace(condition, value=_relabelled(condition.value, ids), expected=expected)


def _relabelled(expr: Expr, ids: Mapping[str, str]) -> Expr:
    return with_references(expr, lambda ref: replace(ref, step=ids[ref.step]) if isinstance(ref, OutputRef) else ref)


def renamed(expr: Expr, names: Mapping[str, str]) -> Expr:
    return with_references(
        expr, lambda ref: replace(ref, name=names.get(ref.name, ref.name)) if isinstance(ref, SlotRef) else ref
    )
