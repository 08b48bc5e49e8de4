"""Whether a frozen output may be let go, once a second run has told which of two explanations was the right one.

The recording is told again with values that nothing else holds in place of those that are explained, and induced:
what still freezes an output then depends on it in another way.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from llmos.trace.findings import ToolFacts
from llmos.trace.induce import induce
from llmos.trace.lex import Place, template_parts
from llmos.trace.program import CheckKind, Slot, SlotType, Step, Trace
from llmos.trace.recorded import Recorded
from llmos.trace.run import StepRecord, step_ids
from llmos.trace.values import OutputRef, Scope, evaluate, references, value_at

_FIRST = 86_413
_STEP = 1_009


def may_let_go(seen: Recorded, steps: Collection[str], tools: Mapping[str, ToolFacts]) -> bool:
    """Whether nothing freezes the outputs of these steps of the trace, and no call outside the trace is needed."""
    trace, parts = seen.trace, template_parts(seen.template)
    if not all(isinstance(node, Step) and not node.when for node in trace.steps):
        return False
    slots = {slot.name: _unheard(slot, seen.bindings[slot.name], number) for number, slot in enumerate(trace.slots)}
    goal = "".join(_written(trace.slot(p.slot), slots[p.slot]) if isinstance(p, Place) else p for p in parts)
    told, places = _told(seen, slots)
    run = replace(seen.run, goal=goal, steps=told, answer=None, finish=None)
    again = induce(run, tools, seen.env)
    if not isinstance(again, Trace):
        return False
    names = step_ids(told)
    ids = {names[place]: step.id for place, step in zip(places, trace.calls, strict=True)}
    frozen = {s.id for s in again.calls if any(check.kind is CheckKind.OUTPUT_SHA256 for check in s.checks)}
    return {step.id for step in again.calls} <= ids.keys() and not {ids[name] for name in frozen} & set(steps)


def _told(seen: Recorded, slots: Mapping[str, Any]) -> tuple[tuple[StepRecord, ...], list[int]]:
    """The recorded calls told again, and where among them those of the trace stand."""
    unheard = {str(seen.bindings[name]): value for name, value in slots.items()}
    picked = {ref for step in seen.trace.calls for expr in step.args.values() for ref in references(expr)}
    outputs: dict[str, Any] = {}
    told: list[StepRecord] = []
    places: list[int] = []
    calls = [(step, seen.records[step.id][0]) for step in seen.trace.calls]
    for record in (step for step in seen.run.steps if not step.is_error):
        if not calls or record is not calls[0][1]:
            told.append(replace(record, args=_exchanged(record.args, unheard)))
            continue
        step, _ = calls.pop(0)
        refs = sorted((ref for ref in picked if isinstance(ref, OutputRef) and ref.step == step.id), key=str)
        outputs[step.id] = _retold(record.output, refs, len(told))
        scope = Scope(slots=slots, outputs=outputs, env=seen.env)
        args = {name: evaluate(expr, scope) for name, expr in step.args.items()}
        places.append(len(told))
        told.append(replace(record, args=args, output=outputs[step.id]))
    return tuple(told), places


def _exchanged(value: Any, unheard: Mapping[str, Any]) -> Any:
    """Arguments of a call outside the trace, with the same values exchanged."""
    if isinstance(value, dict):
        return {key: _exchanged(item, unheard) for key, item in value.items()}
    if isinstance(value, list):
        return [_exchanged(item, unheard) for item in value]
    return unheard.get(value, value) if isinstance(value, str) else value


def _unheard(slot: Slot, value: Any, number: int) -> Any:
    """A value of the slot's type that stands nowhere else; a closed kind keeps its own."""
    name, figure = f"zq{number}xv", str(_FIRST + _STEP * number)
    match slot.type:
        case SlotType.PATH:
            return str(PurePosixPath(value).with_name(name + PurePosixPath(value).suffix))
        case SlotType.NUMBER:
            return figure
        case SlotType.EXPRESSION:
            return f"{figure} + {figure}7"
        case SlotType.QUOTED:
            return f"{name} wv{number}qz"
        case SlotType.URL:
            return f"https://{name}.example/{name}"
        case SlotType.EMAIL:
            return f"{name}@example.org"
        case SlotType.IDENTIFIER:
            return f"zq_{number}xv"
        case _:
            return value


def _written(slot: Slot, value: Any) -> str:
    return f'"{value}"' if slot.type is SlotType.QUOTED else str(value)


def _retold(output: Any, refs: list[OutputRef], index: int) -> Any:
    """An output with other values where they are read; the old ones stay beside them, for whoever copied them."""
    told = copy.deepcopy(output)
    if not isinstance(told, dict):
        return told
    kept: list[Any] = []
    for number, ref in enumerate(refs):
        old = value_at(told, ref.path)
        if not ref.path or ref.transforms or isinstance(old, bool | dict | list) or old is None or old in kept:
            continue
        new = f"zq{index}o{number} told again" if isinstance(old, str) else _FIRST * 11 + index * 97 + number
        value_at(told, ref.path[:-1])[ref.path[-1]] = new
        kept.append(old)
    return told | {"zq_told": kept} if kept else told
