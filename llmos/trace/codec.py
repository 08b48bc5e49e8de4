"""Trace <-> YAML and JSON: one versioned shape, checked whole before anything is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from llmos.errors import TraceFormatError
from llmos.trace import reading
from llmos.trace.encoding import to_data
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
from llmos.trace.values import Expr, OutputRef, parse

_MAX_YAML_CHARS = 2_000_000
_MAX_DEPTH = 100
_MAX_NUMBER_BITS = 1024  # a float's range
# Characters that YAML folds, drops or refuses unless they are escaped.
_ODD_CHARS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def from_data(data: Any) -> Trace:
    """Read plain data as a trace.

    Raises:
        TraceFormatError: what is wrong, and where in the trace.
    """
    top = reading.mapping(data, "the trace")
    version = top.get("format")
    if type(version) is not int or version != FORMAT_VERSION:
        raise TraceFormatError(
            f"trace format {version!r} is not known here (this version reads {FORMAT_VERSION}); "
            "export it again with a matching LLM OS, or update this one."
        )
    reading.only(top, _TOP_KEYS, "the trace")
    steps = _nodes(top.get("steps"), "steps")
    slots = reading.mapping(top.get("slots") or {}, "slots")
    trace = Trace(
        id=reading.trace_id(top),
        version=reading.version_number(top.get("version", 1)),
        goals=tuple(reading.goal_template(goal) for goal in reading.entries(top.get("goals"), "goals")),
        slots=tuple(_slot(str(name), slot) for name, slot in slots.items()),
        steps=steps,
        answer=_answer(top.get("answer") or {}),
        checks=tuple(_check(one, "checks") for one in reading.entries(top.get("checks") or [], "checks", empty=True)),
        provenance=reading.member(Provenance, top.get("provenance", "imported"), "provenance"),
        status=reading.member(Status, top.get("status", "candidate"), "status"),
        reason=str(top.get("reason", "")),
        description=str(top.get("description", "")),
        run_id=reading.optional_text(top.get("run_id"), "run_id"),
        model=reading.optional_text(top.get("model"), "model"),
        cost_usd=reading.dollars(top.get("cost_usd", 0.0)),
        created_at=reading.time_of(top.get("created_at")),
        guided=_guided(top["guided"]) if top.get("guided") is not None else None,
        agent=reading.optional_text(top.get("agent"), "agent") or "",
    )
    validate(trace)
    if trace.guided_program is not None:
        validate(trace.guided_program)
    return trace


_TOP_KEYS = {
    *("format", "id", "version", "description", "goals", "slots", "steps", "answer", "checks", "guided", "provenance"),
    *("status", "reason", "run_id", "model", "cost_usd", "created_at", "agent"),
}


_SLOT_KEYS = {"type", "values", "suffix", "parent", "inline", "many", "folded", "listed", "examples", "default"}


def _slot(name: str, data: Any) -> Slot:
    where = f"slot {name!r}"
    fields = reading.mapping({"type": data} if isinstance(data, str) else data, where)
    reading.only(fields, _SLOT_KEYS, where)
    if not name.isidentifier():
        raise TraceFormatError(f"{where}: a slot's name is letters, digits and _")
    if name in ("steps", "env", "secret"):
        raise TraceFormatError(f"{where}: that name is taken by references; choose another")
    slot = Slot(
        name=name,
        type=reading.member(SlotType, fields.get("type"), f"{where}: type"),
        values=tuple(
            str(value) for value in reading.entries(fields.get("values") or [], f"{where}: values", empty=True)
        ),
        suffix=reading.optional_text(fields.get("suffix"), f"{where}: suffix"),
        parent=reading.optional_text(fields.get("parent"), f"{where}: parent"),
        inline=fields.get("inline") is True,
        many=reading.flag(fields.get("many", False), f"{where}: many"),
        folded=reading.flag(fields.get("folded", False), f"{where}: folded"),
        listed=_listed(fields["listed"], f"{where}: listed") if fields.get("listed") is not None else None,
        examples=tuple(_examples(fields.get("examples") or [], f"{where}: examples")),
        default=reading.optional_text(fields.get("default"), f"{where}: default"),
    )
    if slot.type is SlotType.CHOICE and not slot.values:
        raise TraceFormatError(f"{where}: a choice needs its values")
    return slot


def _listed(data: Any, where: str) -> Listed:
    fields = reading.mapping(data, where)
    reading.only(fields, {"in", "by", "like"}, where)
    source = _expr(fields.get("in"), where)
    if not isinstance(source, OutputRef):
        raise TraceFormatError(f"{where}: `in` must be a reference to an output, such as ${{{{ steps.rooms.names }}}}")
    by = reading.entries(fields.get("by") or [], f"{where}: by", empty=True)
    if not all(isinstance(part, str) for part in by):
        raise TraceFormatError(f"{where}: `by` must be the keys that lead to an entry's name, such as [name]")
    like = reading.mapping(fields.get("like") or {}, f"{where}: like")
    for key, value in like.items():
        if not isinstance(key, str) or not (value is None or isinstance(value, str | bool | int | float)):
            raise TraceFormatError(f"{where}: `like` must be keys and plain values, not {key!r}: {value!r}")
    return Listed(source=source, by=tuple(by), like=tuple(like.items()))


def _examples(data: Any, where: str) -> Iterator[str]:
    for value in reading.entries(data, where, empty=True):
        if not isinstance(value, str) or not value.strip():
            raise TraceFormatError(f"{where}: each is a text that is not empty")
        yield value


def _nodes(data: Any, where: str, depth: int = 0) -> tuple[Node, ...]:
    return tuple(_node(node, number, depth) for number, node in enumerate(reading.entries(data, where), 1))


def _node(data: Any, number: int, depth: int) -> Node:
    fields = reading.mapping(data, f"step {number}")
    where = f"step {fields.get('id', number)!r}"
    return _loop(fields, where, depth) if "for_each" in fields else _step(fields, where)


def _loop(fields: dict[str, Any], where: str, depth: int) -> Loop:
    reading.only(fields, {"id", "for_each", "where", "expect", "when", "steps"}, where)
    if depth == MAX_NESTED_LOOPS:
        raise TraceFormatError(f"{where}: more than {MAX_NESTED_LOOPS} loops in one another")
    return Loop(
        id=reading.text(fields, "id", where),
        over=_expr(fields["for_each"], f"{where}: for_each"),
        steps=_nodes(fields.get("steps"), f"{where}: steps", depth + 1),
        where=_conditions(fields.get("where"), f"{where}: where"),
        expect=_conditions(fields.get("expect"), f"{where}: expect"),
        when=_conditions(fields.get("when"), f"{where}: when"),
    )


def _conditions(data: Any, where: str) -> tuple[Condition, ...]:
    return tuple(condition_from(one, where) for one in reading.entries(data or [], where, empty=True))


def condition_from(data: Any, where: str = "condition") -> Condition:
    """Read a pair such as `exists: out.txt` as a condition."""
    fields = reading.mapping(data, where)
    if len(fields) != 1:
        raise TraceFormatError(f"{where}: a condition is one pair such as `exists: out.txt`")
    name, asked = next(iter(fields.items()))
    kind = reading.member(ConditionKind, name, where)
    if not kind.compares:
        return Condition(kind=kind, value=_expr(asked, where))
    if not isinstance(asked, list) or len(asked) != 2:
        raise TraceFormatError(f"{where}: {kind} compares two values: `{kind}: [VALUE, EXPECTED]`")
    return Condition(kind=kind, value=_expr(asked[0], where), expected=_expr(asked[1], where))


def _step(fields: dict[str, Any], where: str) -> Step:
    reading.only(fields, {"id", "tool", "args", "effect", "tool_version", "checks", "when", "expect"}, where)
    args = reading.mapping(fields.get("args") or {}, f"{where}: args")
    return Step(
        id=reading.text(fields, "id", where),
        tool=reading.text(fields, "tool", where),
        args={str(name): _expr(value, f"{where}: {name}") for name, value in args.items()},
        effect=reading.member(Effect, fields.get("effect", "unknown"), f"{where}: effect"),
        tool_version=reading.optional_text(fields.get("tool_version"), f"{where}: tool_version"),
        checks=tuple(_check(check, where) for check in reading.entries(fields.get("checks") or [], where, empty=True)),
        when=_conditions(fields.get("when"), f"{where}: when"),
        expect=_conditions(fields.get("expect"), f"{where}: expect"),
    )


def _check(data: Any, where: str) -> Check:
    fields = reading.mapping(data, f"{where}: check")
    if len(fields) != 1:
        raise TraceFormatError(f"{where}: a check is one pair such as `output_type: object`")
    kind, expected = next(iter(fields.items()))
    return Check(kind=reading.member(CheckKind, kind, f"{where}: check"), expected=expected)


def _guided(data: Any) -> Guided:
    fields = reading.mapping(data, "guided")
    reading.only(fields, {"goal", "slots", "steps", "answer", "checks"}, "guided")
    slots = reading.mapping(fields.get("slots") or {}, "guided: slots")
    return Guided(
        goal=reading.goal_template(fields.get("goal")),
        slots=tuple(_slot(str(name), slot) for name, slot in slots.items()),
        steps=_nodes(fields.get("steps"), "guided: steps"),
        answer=_answer(fields.get("answer") or {}),
        checks=tuple(
            _check(one, "guided") for one in reading.entries(fields.get("checks") or [], "guided: checks", empty=True)
        ),
    )


def _answer(data: Any) -> Answer:
    if isinstance(data, str):
        data = {"value": data}
    fields = reading.mapping(data, "answer")
    reading.only(fields, {"value", "name", "checks"}, "answer")
    expr = _expr(fields["value"], "answer") if fields.get("value") is not None else None
    checks = tuple(
        _check(check, "answer") for check in reading.entries(fields.get("checks") or [], "answer: checks", empty=True)
    )
    return Answer(expr=expr, name=reading.optional_text(fields.get("name"), "answer: name"), checks=checks)


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


__all__ = ["condition_from", "dumps_json", "dumps_yaml", "from_data", "loads_json", "loads_yaml", "to_data"]
