"""From a run with one value that the model wrote itself to a guided program, in which that value is written anew.

The value is put into the recording as if a call of REWRITE had given it, made before anything was changed, from the
outputs there were. What induction makes of that recording varies with the goal as any trace does, under the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from llmos.errors import TraceFormatError
from llmos.trace.findings import ToolFacts
from llmos.trace.guided import leaf_of
from llmos.trace.program import REWRITE, CheckKind, Effect, Guided, Step, Trace
from llmos.trace.run import Run, StepRecord
from llmos.trace.validity import validate
from llmos.trace.values import Const, Expr, Opaque, OutputRef, Record, has_opaque, mapped, references

FACTS = ToolFacts(name=REWRITE, effect=Effect.READ, payload_params=frozenset({"given"}))
_OF_ANY_CONTENT = (CheckKind.FILE_EXISTS, CheckKind.FILE_MISSING, CheckKind.FILE_NOT_EMPTY, CheckKind.FILE_PARSES)
_PINNING = (CheckKind.OUTPUT_SHA256, CheckKind.LENGTH, CheckKind.NOT_EMPTY)


def with_purposes(trace: Trace, goal: str) -> Trace:
    """The trace, with each value that the model wrote saying what for: the argument, its call and the goal."""
    steps = tuple(_purposeful(node, goal) if isinstance(node, Step) else node for node in trace.steps)
    return replace(trace, steps=steps)


def _purposeful(step: Step, goal: str) -> Step:
    args = {name: _told(expr, f"{name} of {step.tool}, for: {goal}") for name, expr in step.args.items()}
    return replace(step, args=args)


def _told(expr: Expr, purpose: str) -> Expr:
    return mapped(expr, lambda leaf: replace(leaf, purpose=purpose) if isinstance(leaf, Opaque) else leaf)


def rewritable(run: Run, trace: Trace, ids: Sequence[str]) -> Run | None:
    """The run as it would have been recorded if REWRITE had given the trace's one opaque value.

    None if there is none such, or if something was read after the first effect that the value may be made of. `ids`
    are the step ids of the run's successful calls.
    """
    leaf = leaf_of(trace)
    done = [step for step in run.steps if not step.is_error]
    if leaf is None or leaf.step.id not in ids or len(leaf.value) < 2 or any(step.tool == REWRITE for step in done):
        return None
    at = list(ids).index(leaf.step.id)
    first = next(i for i, step in enumerate(done) if step.effect.changes_world or i == at)
    if any(not step.effect.changes_world for step in done[first:at]):
        return None
    given = {one: step.output for one, step in zip(ids[:first], done[:first], strict=True)}
    call = StepRecord(index=0, tool=REWRITE, args={"given": given}, output={"text": leaf.value}, effect=Effect.READ)
    before = run.steps.index(done[first])
    steps = [*run.steps[:before], call, *run.steps[before:]]
    return replace(run, steps=tuple(replace(step, index=i) for i, step in enumerate(steps)))


def guided_of(trace: Trace) -> Guided | None:
    """What induction made of a rewritable run, if the value in it is free and everything else is explained."""
    calls = [step for step in trace.steps if isinstance(step, Step) and step.tool == REWRITE]
    users = [step for node in trace.nodes for step in _users(node, calls)]
    if len(calls) != 1 or len(users) != 1 or leaf_of(trace) is not None or _has_opaque(trace):
        return None
    if any(check.kind in _PINNING for check in calls[0].checks) or not all(map(_is_taken, _given(calls[0].args))):
        return None
    checks = tuple(check for check in trace.checks if check.kind in _OF_ANY_CONTENT)
    guided = Guided(goal=trace.goals[0], slots=trace.slots, steps=trace.steps, answer=trace.answer, checks=checks)
    try:
        validate(replace(trace, checks=checks, guided=None))
    except TraceFormatError:
        return None
    return guided


def _users(node: Any, calls: Sequence[Step]) -> Iterator[Any]:
    """The node itself, once for each reference it has to a call."""
    ids = {call.id for call in calls}
    for expr in node.exprs:
        yield from (node for ref in references(expr) if isinstance(ref, OutputRef) and ref.step in ids)


def _has_opaque(trace: Trace) -> bool:
    return any(has_opaque(expr) for node in trace.nodes for expr in node.exprs)


def _given(args: dict[str, Expr]) -> Iterator[Expr]:
    given = args["given"]
    if isinstance(given, Record):
        yield from (expr for _, expr in given.fields)
    elif given != Const(value={}):
        yield given


def _is_taken(expr: Expr) -> bool:
    """Whether an output is handed on as it comes."""
    if isinstance(expr, Record):
        return all(_is_taken(item) for _, item in expr.fields)
    return isinstance(expr, OutputRef) and not expr.transforms
