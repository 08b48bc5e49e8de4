"""A goal beside a trace, as the user reads it: word by word, with what it lacked and what each way costs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmos.interfaces.render import money, one_line, plain

if TYPE_CHECKING:
    from llmos.interfaces.results import Explanation, Question
    from llmos.trace.aligning import Pair

_SAYS = {
    "same": "",
    "slot": "bound",
    "differs": "differs",
    "missing": "missing in the goal",
    "left_over": "not in the trace",
    "ignored": "does not count",
}
_WIDTH = 32


def beside(told: Explanation) -> str:
    """The part of an explanation that shows the nearest trace word by word, the inputs, and the cost of each way."""
    lines: list[str] = []
    if told.alignment:
        lines += ["", f"the goal beside {told.nearest}", *rows(_row(pair) for pair in told.alignment)]
    if told.needed:
        lines += ["", f"it would take: {one_line(told.needed, 300)}"]
    if told.inputs:
        lines += ["", "paths", *(f"  {one['slot']} = {one_line(one['path'])} ({_there(one)})" for one in told.inputs)]
    if told.ways:
        lines += ["", "ways", *(_way(way) for way in told.ways)]
    return "\n".join(lines)


def question(asked: Question) -> str:
    """What a person must see before agreeing to a wording that is not proven."""
    lines = [f"It is not proven that this goal means {asked.trace_id}, which may {_may(asked.effect)}."]
    lines += rows(_pair(pair) for pair in asked.alignment)
    lines += [f"with {name} = {one_line(value)}" for name, value in asked.bindings.items()]
    return plain("\n".join(lines))


def rows(cells: Iterable[tuple[str, str, str]]) -> list[str]:
    """Template, goal and remark in columns."""
    table = [("trace", "goal", ""), *cells]
    left = min(_WIDTH, max(len(row[0]) for row in table))
    right = min(_WIDTH, max(len(row[1]) for row in table))
    return [f"  {a:<{left}}  {b:<{right}}  {c}".rstrip() for a, b, c in table]


def _row(pair: Mapping[str, Any]) -> tuple[str, str, str]:
    return one_line(pair["template"] or "", _WIDTH), one_line(pair["goal"] or "", _WIDTH), _SAYS[pair["kind"]]


def _pair(pair: Pair) -> tuple[str, str, str]:
    return _row({"template": pair.template, "goal": pair.goal, "kind": str(pair.kind)})


def _there(one: Mapping[str, Any]) -> str:
    return "exists" if one["exists"] else "does not exist"


def _may(effect: str) -> str:
    return {"pure": "only compute", "read": "only read", "write": "change files"}.get(effect, "do anything")


def _way(way: Mapping[str, Any]) -> str:
    cost = f"{'≈ ' if way['is_estimate'] else ''}{money(way['cost_usd'])}" if way["possible"] else "no"
    note = f"  {one_line(way['note'], 200)}" if way["note"] else ""
    return f"  {way['name']:<8}{cost:<10}{note}".rstrip()


def call(asked: dict[str, Any]) -> str:
    """A tool call that somebody must approve: the tool, its arguments in full, and what it may do."""
    lines = [f"{asked['tool']} wants to be called ({asked['why']}); it may {_may(asked['effect'])}:"]
    for name, value in asked["arguments"].items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        first, *rest = plain(text).splitlines() or [""]
        lines += [f"  {name}: {first}", *(f"    {line}" for line in rest)]
    return "\n".join(lines)
