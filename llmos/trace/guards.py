"""A choice that two runs of one task show: what only one of them did gets a condition that tells the two apart.

The condition asks what a look-up before the choice gave (empty or not, true or false, nought or not), or whether a
file exists that one run read and the other could not. Where several conditions would do, none is made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.errors import TraceFormatError
from llmos.trace.evidence import leaves, token_bounded
from llmos.trace.leaks import constants
from llmos.trace.program import (
    Answer,
    Check,
    CheckKind,
    Condition,
    ConditionKind,
    Loop,
    Node,
    Status,
    Step,
    Trace,
    walk,
)
from llmos.trace.run import StepRecord
from llmos.trace.validity import validate
from llmos.trace.values import (
    Const,
    Expr,
    OutputRef,
    Ref,
    Scope,
    UnboundError,
    ValuePath,
    evaluate,
    has_opaque,
    value_at,
    with_references,
)

_OPPOSITE = {
    ConditionKind.EXISTS: ConditionKind.MISSING,
    ConditionKind.EMPTY: ConditionKind.NOT_EMPTY,
    ConditionKind.EQUALS: ConditionKind.DIFFERS,
}
_OPPOSITE |= {other: one for one, other in _OPPOSITE.items()}
_PINNING = frozenset({CheckKind.OUTPUT_SHA256, CheckKind.LENGTH, CheckKind.NOT_EMPTY, CheckKind.VALUE_TYPE})
_ABSENT = re.compile(r"does not exist|not exist|no such|not found|there is no", re.IGNORECASE)
_MIN_TELLING = 2


@dataclass(frozen=True, kw_only=True)
class Side:
    """One run of the task: its trace, the outputs by step id, the calls that failed, what the slots were bound to."""

    trace: Trace
    outputs: Mapping[str, Any]
    failed: Sequence[StepRecord] = ()
    bindings: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        return Scope(slots=self.bindings, outputs=self.outputs, env=self.env)


@dataclass(frozen=True, kw_only=True)
class _Fork:
    """Two programs side by side: what both begin with, what only one does, what both end with."""

    before: tuple[tuple[Node, Node], ...]
    one: tuple[Node, ...]
    other: tuple[Node, ...]
    after: tuple[Node, ...]


def guarded(one: Side, other: Side) -> Trace | None:
    """The program of two runs that did the same but for one choice; None if nothing tells surely what decided it.

    Both traces must have the same goal templates and slots.
    """
    if one.trace.goals != other.trace.goals or one.trace.slots != other.trace.slots:
        return None
    fork = _fork(one.trace.steps, other.trace.steps)
    if fork is None:
        return None
    conditions = list(_conditions(fork, one, other))
    if len(conditions) != 1:
        return None
    condition, lookup = conditions[0]
    before = [_merged(left, right, left.id == lookup) for left, right in fork.before]
    kept = [node for node in before if node is not None]
    if len(kept) != len(before) or _depends(fork, lookup, one, other) or _is_written_from(fork, condition, one, other):
        return None
    steps = (
        *kept,
        *(_with(node, condition) for node in fork.one),
        *(_with(node, _opposite(condition)) for node in fork.other),
        *fork.after,
    )
    return _whole(one.trace, other.trace, steps)


def _whole(one: Trace, other: Trace, steps: tuple[Node, ...]) -> Trace | None:
    candidates = [trace for trace in (one, other) if trace.status is not Status.TRUSTED]
    standing = candidates[0] if candidates else one
    trace = replace(
        one,
        steps=steps,
        answer=one.answer if one.answer == other.answer else Answer(),
        checks=tuple(check for check in one.checks if check in other.checks),
        status=standing.status,
        reason=standing.reason,
        guided=None,
    )
    try:
        validate(trace)
    except TraceFormatError:
        return None
    return trace


# --- side by side ----------------------------------------------------------------------------------


def _fork(one: Sequence[Node], other: Sequence[Node]) -> _Fork | None:
    names: dict[str, str] = {}
    length = 0
    while length < min(len(one), len(other)) and _are_alike(one[length], other[length], names):
        names[other[length].id] = one[length].id
        length += 1
    left, right = list(one[length:]), list(other[length:])
    tail = _common_tail(left, right, names)
    only_left, only_right = left[: len(left) - tail], right[: len(right) - tail]
    if not (only_left or only_right):
        return None
    taken = {node.id for node in one}
    renamed: list[Node] = []
    for node in only_right:
        fresh = _fresh(node.id, taken)
        taken.add(fresh)
        names[node.id] = fresh
        renamed.append(_renamed(node, names))
    return _Fork(
        before=tuple(zip(one[:length], other[:length], strict=True)),
        one=tuple(only_left),
        other=tuple(renamed),
        after=tuple(left[len(left) - tail :]),
    )


def _common_tail(left: Sequence[Node], right: Sequence[Node], names: Mapping[str, str]) -> int:
    """How many nodes both end with; the longest tail whose nodes are alike once its own names are."""
    for length in range(min(len(left), len(right)), 0, -1):
        known = dict(names)
        pairs = list(zip(left[len(left) - length :], right[len(right) - length :], strict=True))
        for mine, theirs in pairs:
            if not _are_alike(mine, theirs, known):
                break
            known[theirs.id] = mine.id
        else:
            return length
    return 0


def _are_alike(mine: Node, theirs: Node, names: Mapping[str, str]) -> bool:
    """Whether two nodes do the same; checks aside, names given."""
    return _bare(mine) == _bare(_renamed(theirs, {**names, theirs.id: mine.id}))


def _bare(node: Node) -> Node:
    if isinstance(node, Step):
        return replace(node, checks=())
    return replace(node, steps=tuple(_bare(inner) for inner in node.steps))


def _fresh(name: str, taken: set[str]) -> str:
    made, number = name, 2
    while made in taken:
        made, number = f"{name}_{number}", number + 1
    return made


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    """A node with other names for itself and for the steps it refers to; the insides of loops keep theirs."""
    when = tuple(_renamed_condition(one, names) for one in node.when)
    expect = tuple(_renamed_condition(one, names) for one in node.expect)
    name = names.get(node.id, node.id)
    if isinstance(node, Step):
        args = {key: _renamed_expr(expr, names) for key, expr in node.args.items()}
        return replace(node, id=name, args=args, when=when, expect=expect)
    inner = tuple(_renamed(one, {k: v for k, v in names.items() if k != one.id}) for one in node.steps)
    where = tuple(_renamed_condition(one, names) for one in node.where)
    over = _renamed_expr(node.over, names)
    return replace(node, id=node.id, over=over, steps=inner, where=where, expect=expect, when=when)


def _renamed_condition(condition: Condition, names: Mapping[str, str]) -> Condition:
    expected = None if condition.expected is None else _renamed_expr(condition.expected, names)
    return replace(condition, value=_renamed_expr(condition.value, names), expected=expected)


def _renamed_expr(expr: Expr, names: Mapping[str, str]) -> Expr:
    def renamed(ref: Ref) -> Ref:
        return replace(ref, step=names.get(ref.step, ref.step)) if isinstance(ref, OutputRef) else ref

    return with_references(expr, renamed)


# --- what decided ----------------------------------------------------------------------------------


def _conditions(fork: _Fork, one: Side, other: Side) -> Iterator[tuple[Condition, str]]:
    """Conditions that hold in the first run and not in the second, each with the look-up it asks (or none)."""
    for left, right in fork.before:
        if isinstance(left, Loop) or left.effect.changes_world:
            continue
        asked = _asked(left.id, one.outputs.get(left.id), other.outputs.get(right.id))
        yield from ((condition, left.id) for condition in asked)
    yield from ((condition, "") for condition in _files(fork.one, one, other, ConditionKind.EXISTS))
    yield from ((condition, "") for condition in _files(fork.other, other, one, ConditionKind.MISSING))


def _asked(step: str, mine: Any, theirs: Any) -> list[Condition]:
    """What differs between two outputs of a look-up in a way that a condition can ask, each thing once.

    The number of a list's entries and a `text` say the same as the list.
    """
    found = [(path, value, _value_or_none(theirs, path)) for path, value in _named(mine)]
    asked: list[Condition] = []
    for path, left, right in found:
        if isinstance(left, bool) and isinstance(right, bool) and left is not right:
            ref = OutputRef(step=step, path=path)
            asked.append(Condition(kind=ConditionKind.EQUALS, value=ref, expected=Const(value=left)))
    lengths = [(len(left), len(right)) for _, left, right in found if _is_list(left) and _is_list(right)]
    filled = [(p, x, y) for p, x, y in found if _may_be_empty(x) and _may_be_empty(y) and bool(x) is not bool(y)]
    for path, left, _ in [one for one in filled if one[0] != ("text",)] or filled:
        kind = ConditionKind.NOT_EMPTY if left else ConditionKind.EMPTY
        asked.append(Condition(kind=kind, value=OutputRef(step=step, path=path)))
    for path, left, right in found:
        if _is_count(left) and _is_count(right) and (left == 0) is not (right == 0) and (left, right) not in lengths:
            kind = ConditionKind.EQUALS if left == 0 else ConditionKind.DIFFERS
            asked.append(Condition(kind=kind, value=OutputRef(step=step, path=path), expected=Const(value=0)))
    return asked


def _named(value: Any, path: ValuePath = ()) -> Iterator[tuple[ValuePath, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _named(item, (*path, key))


def _value_or_none(value: Any, path: ValuePath) -> Any:
    try:
        return value_at(value, path)
    except UnboundError:
        return None


def _may_be_empty(value: Any) -> bool:
    return isinstance(value, list | str | dict)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _files(nodes: Sequence[Node], here: Side, there: Side, kind: ConditionKind) -> Iterator[Condition]:
    """A file that the calls of one side read first, while the same call failed on the other side for want of it."""
    first = nodes[0] if nodes else None
    if not isinstance(first, Step) or first.effect.changes_world:
        return
    for name, expr in first.args.items():
        for record in there.failed:
            try:
                same_call = _json({n: evaluate(e, there.scope) for n, e in first.args.items()}) == _json(record.args)
            except UnboundError:
                return
            absent = record.tool == first.tool and same_call and _ABSENT.search(str(record.output)) is not None
            if absent and name in ("path", "file_path", "source", "file") and isinstance(record.args.get(name), str):
                yield Condition(kind=kind, value=expr)
                return


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _opposite(condition: Condition) -> Condition:
    return replace(condition, kind=_OPPOSITE[condition.kind])


def _with(node: Node, condition: Condition) -> Node:
    return replace(node, when=(*node.when, condition))


# --- what the choice may not hide ------------------------------------------------------------------


def _merged(mine: Node, theirs: Node, is_lookup: bool) -> Node | None:
    """A node of both runs with the checks that hold in both; None if they pin it to different outputs."""
    if isinstance(mine, Loop) or isinstance(theirs, Loop):
        return mine if mine == theirs else None
    common = tuple(check for check in mine.checks if check in theirs.checks)
    dropped = [check for check in (*mine.checks, *theirs.checks) if check not in common]
    if dropped and not (is_lookup and all(_is_pinning(check) for check in dropped)):
        return None
    return replace(mine, checks=common)


def _is_pinning(check: Check) -> bool:
    return check.kind in _PINNING


def _depends(fork: _Fork, lookup: str, one: Side, other: Side) -> bool:
    """Whether a constant of what follows may have been read off the look-up, whose output is free from now on."""
    if not lookup:
        return False
    theirs = next(right.id for left, right in fork.before if left.id == lookup)
    told = [leaf for output in (one.outputs[lookup], other.outputs[theirs]) for _, leaf in leaves(output)]
    texts = [str(leaf) for leaf in told if leaf is not None and not isinstance(leaf, bool)]
    said = [text for node in (*fork.one, *fork.other, *fork.after) for text in _said(node)]
    return any(
        len(text) >= _MIN_TELLING
        and len(piece) >= _MIN_TELLING
        and (token_bounded(piece, text) or token_bounded(text, piece))
        for text in texts
        for piece in said
    )


def _is_written_from(fork: _Fork, condition: Condition, one: Side, other: Side) -> bool:
    """Whether the model wrote something with the look-up's output in sight: it may be made of it in other words."""
    if isinstance(condition.value, OutputRef):
        left = _value_or_none(one.outputs[condition.value.step], condition.value.path)
        theirs = next(right.id for mine, right in fork.before if mine.id == condition.value.step)
        right = _value_or_none(other.outputs[theirs], condition.value.path)
        sighted = [node for value, nodes in ((left, fork.one), (right, fork.other)) if value for node in nodes]
    else:
        sighted = []
    return any(has_opaque(expr) for node in walk([*sighted, *fork.after]) for expr in node.exprs)


def _said(node: Node) -> list[str]:
    nodes = [node] if isinstance(node, Step) else list(node.steps)
    own = [text for expr in node.exprs for text in constants(expr)]
    return own if isinstance(node, Step) else own + [text for inner in nodes for text in _said(inner)]


__all__ = ["Side", "guarded"]
