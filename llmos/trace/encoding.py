"""A trace as plain data, in the order in which people read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmos.trace.conditions import to_pair
from llmos.trace.program import FORMAT_VERSION, Answer, Check, Guided, Listed, Node, Slot, Step, Trace
from llmos.trace.values import unparse


def to_data(trace: Trace) -> dict[str, Any]:
    """A trace as plain JSON data in reading order; defaults are left out."""
    data: dict[str, Any] = {"format": FORMAT_VERSION, "id": trace.id, "version": trace.version}
    if trace.description:
        data["description"] = trace.description
    data["goals"] = list(trace.goals)
    data |= _program_data(trace)
    if trace.guided is not None:
        data["guided"] = _guided_data(trace.guided)
    data["provenance"] = str(trace.provenance)
    data["status"] = str(trace.status)
    for key in ("reason", "run_id", "model", "cost_usd", "agent"):
        if getattr(trace, key):
            data[key] = getattr(trace, key)
    if trace.created_at is not None:
        data["created_at"] = trace.created_at.isoformat()
    return data


def _slot_data(slot: Slot) -> dict[str, Any]:
    data: dict[str, Any] = {"type": str(slot.type)}
    if slot.values:
        data["values"] = list(slot.values)
    if slot.suffix is not None:
        data["suffix"] = slot.suffix
    if slot.parent is not None:
        data["parent"] = slot.parent
    if slot.inline:
        data["inline"] = True
    if slot.many:
        data["many"] = True
    if slot.folded:
        data["folded"] = True
    if slot.listed is not None:
        data["listed"] = _listed_data(slot.listed)
    if slot.examples:
        data["examples"] = list(slot.examples)
    if slot.default is not None:
        data["default"] = slot.default
    return data


def _listed_data(listed: Listed) -> dict[str, Any]:
    data: dict[str, Any] = {"in": unparse(listed.source)}
    if listed.by:
        data["by"] = list(listed.by)
    if listed.like:
        data["like"] = dict(listed.like)
    return data


def _node_data(node: Node) -> dict[str, Any]:
    if isinstance(node, Step):
        return _step_data(node)
    data: dict[str, Any] = {"id": node.id, "for_each": unparse(node.over)}
    for key in ("where", "expect", "when"):
        if conditions := getattr(node, key):
            data[key] = [to_pair(condition) for condition in conditions]
    data["steps"] = [_node_data(inner) for inner in node.steps]
    return data


def _step_data(step: Step) -> dict[str, Any]:
    data: dict[str, Any] = {"id": step.id, "tool": step.tool}
    if step.when:
        data["when"] = [to_pair(condition) for condition in step.when]
    if step.expect:
        data["expect"] = [to_pair(condition) for condition in step.expect]
    data["args"] = {name: unparse(expr) for name, expr in step.args.items()}
    data["effect"] = str(step.effect)
    if step.tool_version is not None:
        data["tool_version"] = step.tool_version
    if step.checks:
        data["checks"] = _checks_data(step.checks)
    return data


def _guided_data(guided: Guided) -> dict[str, Any]:
    return {"goal": guided.goal} | _program_data(guided)


def _program_data(program: Trace | Guided) -> dict[str, Any]:
    """What a trace and its guided program have in common."""
    data: dict[str, Any] = {}
    if program.slots:
        data["slots"] = {slot.name: _slot_data(slot) for slot in program.slots}
    data["steps"] = [_node_data(node) for node in program.steps]
    if answer := _answer_data(program.answer):
        data["answer"] = answer
    if program.checks:
        data["checks"] = _checks_data(program.checks)
    return data


def _checks_data(checks: Iterable[Check]) -> list[dict[str, Any]]:
    return [{str(check.kind): check.expected} for check in checks]


def _answer_data(answer: Answer) -> dict[str, Any]:
    data: dict[str, Any] = {"value": unparse(answer.expr)} if answer.expr is not None else {}
    if answer.name:
        data["name"] = answer.name
    if answer.checks:
        data["checks"] = _checks_data(answer.checks)
    return data
