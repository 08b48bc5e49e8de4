"""Trace <-> YAML and JSON: one versioned shape, checked whole before anything is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from llmos.errors import TraceFormatError
from llmos.trace.conditions import to_pair
from llmos.trace.lex import template_parts
from llmos.trace.program import (
    FORMAT_VERSION,
    Answer,
    Check,
    CheckKind,
    Condition,
    ConditionKind,
    Effect,
    Guided,
    Listed,
    Loop,
    Node,
    Provenance,
    Slot,
    SlotType,
    Status,
    Step,
    Trace,
)
from llmos.trace.validity import MAX_NESTED_LOOPS, validate
from llmos.trace.values import Expr, OutputRef, parse, unparse

S = TypeVar("S", bound=StrEnum)
_MAX_YAML_CHARS = 2_000_000
_MAX_DEPTH = 100
_MAX_VERSION = 2**31 - 1
_MAX_NUMBER_BITS = 1024  # a float's range
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
# Characters that YAML folds, drops or refuses unless they are escaped.
_ODD_CHARS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def to_data(trace: Trace) -> dict[str, Any]:
    """A trace as plain JSON data in reading order; defaults are left out."""
    data: dict[str, Any] = {"format": FORMAT_VERSION, "id": trace.id, "version": trace.version}
    if trace.description:
        data["description"] = trace.description
    data["goals"] = list(trace.goals)
    if trace.slots:
        data["slots"] = {slot.name: _slot_data(slot) for slot in trace.slots}
    data["steps"] = [_node_data(node) for node in trace.steps]
    if answer := _answer_data(trace.answer):
        data["answer"] = answer
    if trace.checks:
        data["checks"] = [{str(check.kind): check.expected} for check in trace.checks]
    if trace.guided is not None:
        data["guided"] = _guided_data(trace.guided)
    data["provenance"] = str(trace.provenance)
    data["status"] = str(trace.status)
    for key in ("reason", "run_id", "model", "cost_usd"):
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
        data["checks"] = [{str(check.kind): check.expected} for check in step.checks]
    return data


def _guided_data(guided: Guided) -> dict[str, Any]:
    data: dict[str, Any] = {"goal": guided.goal}
    if guided.slots:
        data["slots"] = {slot.name: _slot_data(slot) for slot in guided.slots}
    data["steps"] = [_node_data(node) for node in guided.steps]
    if answer := _answer_data(guided.answer):
        data["answer"] = answer
    if guided.checks:
        data["checks"] = [{str(check.kind): check.expected} for check in guided.checks]
    return data


def _answer_data(answer: Answer) -> dict[str, Any]:
    data: dict[str, Any] = {"value": unparse(answer.expr)} if answer.expr is not None else {}
    if answer.name:
        data["name"] = answer.name
    if answer.checks:
        data["checks"] = [{str(check.kind): check.expected} for check in answer.checks]
    return data


def from_data(data: Any) -> Trace:
    """Read plain data as a trace.

    Raises:
        TraceFormatError: what is wrong, and where in the trace.
    """
    top = _mapping(data, "the trace")
    version = top.get("format")
    if type(version) is not int or version != FORMAT_VERSION:
        raise TraceFormatError(
            f"trace format {version!r} is not known here (this version reads {FORMAT_VERSION}); "
            "export it again with a matching LLM OS, or update this one."
        )
    _only(top, _TOP_KEYS, "the trace")
    steps = _nodes(top.get("steps"), "steps")
    slots = _mapping(top.get("slots") or {}, "slots")
    trace = Trace(
        id=_trace_id(top),
        version=_positive(top.get("version", 1)),
        goals=tuple(_goal(goal) for goal in _list(top.get("goals"), "goals")),
        slots=tuple(_slot(str(name), slot) for name, slot in slots.items()),
        steps=steps,
        answer=_answer(top.get("answer") or {}),
        checks=tuple(_check(one, "checks") for one in _list(top.get("checks") or [], "checks", empty=True)),
        provenance=_enum(Provenance, top.get("provenance", "imported"), "provenance"),
        status=_enum(Status, top.get("status", "candidate"), "status"),
        reason=str(top.get("reason", "")),
        description=str(top.get("description", "")),
        run_id=_optional_text(top.get("run_id"), "run_id"),
        model=_optional_text(top.get("model"), "model"),
        cost_usd=_dollars(top.get("cost_usd", 0.0)),
        created_at=_time(top.get("created_at")),
        guided=_guided(top["guided"]) if top.get("guided") is not None else None,
    )
    validate(trace)
    if trace.guided_program is not None:
        validate(trace.guided_program)
    return trace


_TOP_KEYS = {
    *("format", "id", "version", "description", "goals", "slots", "steps", "answer", "checks", "guided", "provenance"),
    *("status", "reason", "run_id", "model", "cost_usd", "created_at"),
}


_SLOT_KEYS = {"type", "values", "suffix", "parent", "inline", "many", "folded", "listed", "examples", "default"}


def _slot(name: str, data: Any) -> Slot:
    where = f"slot {name!r}"
    fields = _mapping({"type": data} if isinstance(data, str) else data, where)
    _only(fields, _SLOT_KEYS, where)
    if not name.isidentifier():
        raise TraceFormatError(f"{where}: a slot's name is letters, digits and _")
    if name in ("steps", "env", "secret"):
        raise TraceFormatError(f"{where}: that name is taken by references; choose another")
    slot = Slot(
        name=name,
        type=_enum(SlotType, fields.get("type"), f"{where}: type"),
        values=tuple(str(value) for value in _list(fields.get("values") or [], f"{where}: values", empty=True)),
        suffix=_optional_text(fields.get("suffix"), f"{where}: suffix"),
        parent=_optional_text(fields.get("parent"), f"{where}: parent"),
        inline=fields.get("inline") is True,
        many=_flag(fields.get("many", False), f"{where}: many"),
        folded=_flag(fields.get("folded", False), f"{where}: folded"),
        listed=_listed(fields["listed"], f"{where}: listed") if fields.get("listed") is not None else None,
        examples=tuple(_examples(fields.get("examples") or [], f"{where}: examples")),
        default=_optional_text(fields.get("default"), f"{where}: default"),
    )
    if slot.type is SlotType.CHOICE and not slot.values:
        raise TraceFormatError(f"{where}: a choice needs its values")
    return slot


def _listed(data: Any, where: str) -> Listed:
    fields = _mapping(data, where)
    _only(fields, {"in", "by", "like"}, where)
    source = _expr(fields.get("in"), where)
    if not isinstance(source, OutputRef):
        raise TraceFormatError(f"{where}: `in` must be a reference to an output, such as ${{{{ steps.rooms.names }}}}")
    by = _list(fields.get("by") or [], f"{where}: by", empty=True)
    if not all(isinstance(part, str) for part in by):
        raise TraceFormatError(f"{where}: `by` must be the keys that lead to an entry's name, such as [name]")
    like = _mapping(fields.get("like") or {}, f"{where}: like")
    for key, value in like.items():
        if not isinstance(key, str) or not (value is None or isinstance(value, str | bool | int | float)):
            raise TraceFormatError(f"{where}: `like` must be keys and plain values, not {key!r}: {value!r}")
    return Listed(source=source, by=tuple(by), like=tuple(like.items()))


def _examples(data: Any, where: str) -> Iterator[str]:
    for value in _list(data, where, empty=True):
        if not isinstance(value, str) or not value.strip():
            raise TraceFormatError(f"{where}: each is a text that is not empty")
        yield value


def _nodes(data: Any, where: str, depth: int = 0) -> tuple[Node, ...]:
    return tuple(_node(node, number, depth) for number, node in enumerate(_list(data, where), 1))


def _node(data: Any, number: int, depth: int) -> Node:
    fields = _mapping(data, f"step {number}")
    where = f"step {fields.get('id', number)!r}"
    return _loop(fields, where, depth) if "for_each" in fields else _step(fields, where)


def _loop(fields: dict[str, Any], where: str, depth: int) -> Loop:
    _only(fields, {"id", "for_each", "where", "expect", "when", "steps"}, where)
    if depth == MAX_NESTED_LOOPS:
        raise TraceFormatError(f"{where}: more than {MAX_NESTED_LOOPS} loops in one another")
    return Loop(
        id=_text(fields, "id", where),
        over=_expr(fields["for_each"], f"{where}: for_each"),
        steps=_nodes(fields.get("steps"), f"{where}: steps", depth + 1),
        where=_conditions(fields.get("where"), f"{where}: where"),
        expect=_conditions(fields.get("expect"), f"{where}: expect"),
        when=_conditions(fields.get("when"), f"{where}: when"),
    )


def _conditions(data: Any, where: str) -> tuple[Condition, ...]:
    return tuple(condition_from(one, where) for one in _list(data or [], where, empty=True))


def condition_from(data: Any, where: str = "condition") -> Condition:
    """Read a pair such as `exists: out.txt` as a condition."""
    fields = _mapping(data, where)
    if len(fields) != 1:
        raise TraceFormatError(f"{where}: a condition is one pair such as `exists: out.txt`")
    name, asked = next(iter(fields.items()))
    kind = _enum(ConditionKind, name, where)
    if not kind.compares:
        return Condition(kind=kind, value=_expr(asked, where))
    if not isinstance(asked, list) or len(asked) != 2:
        raise TraceFormatError(f"{where}: {kind} compares two values: `{kind}: [VALUE, EXPECTED]`")
    return Condition(kind=kind, value=_expr(asked[0], where), expected=_expr(asked[1], where))


def _step(fields: dict[str, Any], where: str) -> Step:
    _only(fields, {"id", "tool", "args", "effect", "tool_version", "checks", "when", "expect"}, where)
    args = _mapping(fields.get("args") or {}, f"{where}: args")
    return Step(
        id=_text(fields, "id", where),
        tool=_text(fields, "tool", where),
        args={str(name): _expr(value, f"{where}: {name}") for name, value in args.items()},
        effect=_enum(Effect, fields.get("effect", "unknown"), f"{where}: effect"),
        tool_version=_optional_text(fields.get("tool_version"), f"{where}: tool_version"),
        checks=tuple(_check(check, where) for check in _list(fields.get("checks") or [], where, empty=True)),
        when=_conditions(fields.get("when"), f"{where}: when"),
        expect=_conditions(fields.get("expect"), f"{where}: expect"),
    )


def _check(data: Any, where: str) -> Check:
    fields = _mapping(data, f"{where}: check")
    if len(fields) != 1:
        raise TraceFormatError(f"{where}: a check is one pair such as `output_type: object`")
    kind, expected = next(iter(fields.items()))
    return Check(kind=_enum(CheckKind, kind, f"{where}: check"), expected=expected)


def _guided(data: Any) -> Guided:
    fields = _mapping(data, "guided")
    _only(fields, {"goal", "slots", "steps", "answer", "checks"}, "guided")
    slots = _mapping(fields.get("slots") or {}, "guided: slots")
    return Guided(
        goal=_goal(fields.get("goal")),
        slots=tuple(_slot(str(name), slot) for name, slot in slots.items()),
        steps=_nodes(fields.get("steps"), "guided: steps"),
        answer=_answer(fields.get("answer") or {}),
        checks=tuple(_check(one, "guided") for one in _list(fields.get("checks") or [], "guided: checks", empty=True)),
    )


def _answer(data: Any) -> Answer:
    if isinstance(data, str):
        data = {"value": data}
    fields = _mapping(data, "answer")
    _only(fields, {"value", "name", "checks"}, "answer")
    expr = _expr(fields["value"], "answer") if fields.get("value") is not None else None
    checks = tuple(_check(check, "answer") for check in _list(fields.get("checks") or [], "answer: checks", empty=True))
    return Answer(expr=expr, name=_optional_text(fields.get("name"), "answer: name"), checks=checks)


def _expr(value: Any, where: str) -> Expr:
    try:
        return parse(value)
    except TraceFormatError as error:
        raise TraceFormatError(f"{where}: {error}") from None


# --- text ------------------------------------------------------------------------------------------


def dumps_json(trace: Trace) -> str:
    """A trace as one line of JSON."""
    return json.dumps(to_data(trace), ensure_ascii=False, separators=(",", ":"))


def loads_json(text: str) -> Trace:
    """Read JSON as a trace; TraceFormatError says what is wrong."""
    try:
        return from_data(json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise TraceFormatError(f"not JSON: {error}") from None


def dumps_yaml(trace: Trace) -> str:
    """A trace as YAML for people: block strings for code, keys in reading order."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = '"' if _ODD_CHARS.search(text) else "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, block)
    return yaml.dump(to_data(trace), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)


def loads_yaml(text: str, *, source: str = "the file") -> Trace:
    """Read YAML as a trace.

    Raises:
        TraceFormatError: `source`, line and what is wrong; nothing half-read is returned.
    """
    import yaml

    if len(text) > _MAX_YAML_CHARS:
        raise TraceFormatError(f"{source}: {len(text):,} characters are too many for a trace")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(text, Loader=loader), source)
        data = yaml.load(text, Loader=loader)
        _check_numbers(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark is not None else source
        raise TraceFormatError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    try:
        return from_data(data)
    except (TraceFormatError, RecursionError) as error:
        raise TraceFormatError(f"{source}: {error}") from None


def _check_events(events: Iterable[Any], source: str) -> None:
    """Refuse what a reader of the file would not see: aliases, tags, keys said twice, and nesting without end."""
    import yaml

    open_keys: list[set[str] | None] = []
    expects_key: list[bool] = []
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise TraceFormatError(
                f"{source}, line {line}: YAML aliases are not allowed in a trace; write the value out"
            )
        if getattr(event, "tag", None) is not None:
            raise TraceFormatError(f"{source}, line {line}: YAML tags are not allowed in a trace; write the value out")
        if isinstance(event, yaml.NodeEvent) and open_keys:
            keys = open_keys[-1]
            if keys is not None and expects_key[-1] and isinstance(event, yaml.ScalarEvent):
                if event.value in keys:
                    raise TraceFormatError(f"{source}, line {line}: the key {event.value!r} stands twice")
                keys.add(event.value)
            expects_key[-1] = not expects_key[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            open_keys.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
            expects_key.append(True)
            if len(open_keys) > _MAX_DEPTH:
                raise TraceFormatError(f"{source}, line {line}: nested too deeply for a trace")
        elif isinstance(event, yaml.CollectionEndEvent):
            open_keys.pop()
            expects_key.pop()


def _check_numbers(data: Any) -> None:
    """Refuse numbers of more digits than Python would write down again."""
    inner = [*data, *data.values()] if isinstance(data, dict) else data if isinstance(data, list) else []
    for value in inner:
        _check_numbers(value)
    if isinstance(data, int) and data.bit_length() > _MAX_NUMBER_BITS:
        raise ValueError("a number is too long")


# --- small readers ---------------------------------------------------------------------------------


def _mapping(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise TraceFormatError(f"{where} must be a mapping, not {type(data).__name__}")
    return dict(data)


def _list(data: Any, where: str, *, empty: bool = False) -> list[Any]:
    if not isinstance(data, list) or not (data or empty):
        raise TraceFormatError(f"{where} must be a list{'' if empty else ' with at least one entry'}")
    return data


def _only(data: Mapping[str, Any], allowed: set[str], where: str) -> None:
    if unknown := sorted(str(key) for key in data if key not in allowed):
        raise TraceFormatError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(allowed))}")


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise TraceFormatError(f"{where} must be true or false, not {value!r}")
    return value


def _text(data: Mapping[str, Any], key: str, where: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value.strip():
        raise TraceFormatError(f"{where}: {key} must be a text")
    return value


def _optional_text(value: Any, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TraceFormatError(f"{where} must be a text, not {type(value).__name__}")
    return value


def _goal(goal: Any) -> str:
    if not isinstance(goal, str) or not goal.strip():
        raise TraceFormatError("each goal template must be a text")
    template_parts(goal)
    return goal


def _enum(kind: type[S], value: Any, where: str) -> S:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(member) for member in kind)
        raise TraceFormatError(f"{where} {value!r} is not known; known: {known}") from None


def _trace_id(data: Mapping[str, Any]) -> str:
    value = _text(data, "id", "the trace")
    if not _ID.fullmatch(value):
        raise TraceFormatError(
            f"id {value[:90]!r} must be 1 to 80 letters, digits, `.`, `_` or `-`, a letter or digit first"
        )
    return value


def _positive(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_VERSION:
        raise TraceFormatError(f"version must be a whole number from 1 to {_MAX_VERSION}, not {value!r}")
    return value


def _dollars(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise TraceFormatError(f"cost_usd must be dollars, not {value!r}")
    return float(value)


def _time(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise TraceFormatError(f"created_at {value!r} is not an ISO 8601 time") from None
