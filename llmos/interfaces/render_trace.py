"""A trace for reading: what it may be asked, what it does, and where each value comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmos.interfaces.render import data, moment, money, one_line, plain

if TYPE_CHECKING:
    from llmos.trace.program import Listed, Node, Step, Trace
    from llmos.trace.values import Expr, Ref


def trace(shown: Trace) -> str:
    """A trace for reading: its goals, slots, steps with where each argument comes from, and its answer."""
    head = " · ".join([shown.label, shown.status, shown.provenance, f"effect {shown.effect}"])
    lines = [head, *([plain(shown.description)] if shown.description else [])]
    if shown.reason:
        lines.append(f"reason: {one_line(shown.reason, 300)}")
    if shown.agent:
        lines.append(f"learned under the profile {shown.agent} of an agent, and followed under that alone")
    lines += ["", "goals", *(f"  {one_line(goal, 300)}" for goal in shown.goals)]
    if shown.slots:
        lines += ["", "slots", *(f"  {_slot(slot)}" for slot in shown.slots)]
    lines += ["", "steps"]
    for number, step in enumerate(shown.steps, 1):
        lines += _node(str(number), step)
    lines += ["", "answer", f"  {_answer(shown)}", *_guided(shown)]
    origin = _origin(shown)
    return "\n".join([*lines, *(["", origin] if origin else [])])


def _guided(shown: Trace) -> list[str]:
    """For which goals one value of a trace is written anew."""
    from llmos.trace.guided import leaf_of

    leaf = leaf_of(shown)
    if shown.guided is None or leaf is None:
        return []
    told = f"one model call writes {leaf.param} of {leaf.step.id} anew, everything else is replayed"
    return ["", "guided", f"  {one_line(shown.guided.goal, 300)}: {told}"]


def _slot(slot: Any) -> str:
    notes = [str(slot.type)]
    notes += [f"one of {', '.join(slot.values)}"] if slot.values else []
    notes += [f"ends in {slot.suffix}"] if slot.suffix is not None else []
    notes += ["plain values only"] if slot.inline else []
    notes += ["one or several"] if slot.many else []
    notes += [_looked_up(slot.listed)] if slot.listed is not None else []
    default = getattr(slot, "default", None)
    notes += [f"default {default!r}"] if default is not None else []
    return f"{slot.name}: {', '.join(notes)}"


def _looked_up(listed: Listed) -> str:
    by = f" by {'.'.join(map(str, listed.by))}" if listed.by else ""
    like = f" with {', '.join(f'{key} {value!r}' for key, value in listed.like)}" if listed.like else ""
    return f"looked up in {_origin_of(listed.source)}{by}{like}"


def _node(number: str, node: Node) -> list[str]:
    from llmos.trace.conditions import phrase
    from llmos.trace.program import Step
    from llmos.trace.values import unparse

    pad = "  " + "  " * number.count(".")
    asked = [f"{pad}    only if {one_line(phrase(condition))}" for condition in node.when]
    asked += [f"{pad}    expecting that {one_line(phrase(condition))}" for condition in node.expect]
    if isinstance(node, Step):
        head, *rest = _step(number, node)
        return [pad + head, *asked, *(pad + line for line in rest)]
    lines = [f"{pad}{number} {node.id}: for each of {one_line(unparse(node.over))}", *asked]
    lines += [f"{pad}    where {one_line(phrase(condition))}" for condition in node.where]
    for inner, one in enumerate(node.steps, 1):
        lines += _node(f"{number}.{inner}", one)
    return lines


def _step(number: str, step: Step) -> list[str]:
    from llmos.trace.values import unparse

    lines = [f"{number} {step.id}: {step.tool} ({step.effect})"]
    for name, expr in step.args.items():
        value = unparse(expr)
        shown = value.get("$opaque", value) if isinstance(value, dict) else value
        lines.append(f"    {name} = {one_line(shown)}   [{_origin_of(expr)}]")
    lines += [f"    check {check.kind}: {one_line(_expected(check.expected))}" for check in step.checks]
    return lines


def _expected(value: Any) -> Any:
    from llmos.trace import values

    kinds = (values.Const, values.SlotRef, values.OutputRef, values.EnvRef, values.Text, values.ListExpr, values.Record)
    return values.unparse(value) if isinstance(value, kinds) else data(value)


def _answer(shown: Trace) -> str:
    from llmos.trace.values import unparse

    value = "the last step's output" if shown.answer.expr is None else one_line(unparse(shown.answer.expr), 300)
    return value + (f"   (kept as {shown.answer.name})" if shown.answer.name else "")


def _origin(shown: Trace) -> str:
    parts = [f"from run {shown.run_id}"] if shown.run_id else []
    parts += [f"by {shown.model}"] if shown.model else []
    parts += [f"for {money(shown.cost_usd)}"] if shown.cost_usd else []
    parts += [f"on {moment(shown.created_at)}"] if shown.created_at else []
    return f"made {' '.join(parts)}" if parts else ""


def _origin_of(expr: Expr) -> str:
    """Where a value comes from, in words: `slot source`, `step read: text`, `constant`, `written by the model`."""
    from llmos.trace.values import has_opaque, references

    parts = [_reference(ref) for ref in references(expr)]
    if has_opaque(expr):
        parts.append("written by the model")
    return ", ".join(dict.fromkeys(parts)) or "constant"


def _reference(ref: Ref) -> str:
    from llmos.trace.values import EnvRef, IndexRef, ItemRef, OutputRef, SlotRef

    match ref:
        case SlotRef(name=name):
            return f"slot {name}"
        case OutputRef(step=step, path=path):
            return f"step {step}" + (f": {'.'.join(map(str, path))}" if path else "")
        case EnvRef(name=name):
            return f"environment {name}"
        case ItemRef(loop=loop, path=path):
            return f"entry of {loop}" + (f": {'.'.join(map(str, path))}" if path else "")
        case IndexRef(loop=loop):
            return f"number of the entry of {loop}"
        case _:
            return f"secret {ref.name}"
