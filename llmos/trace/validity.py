"""What the types of a trace can't say: references resolve, every slot stands in a template and is consumed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from llmos.errors import TraceFormatError
from llmos.trace.lex import Kind, Place, Token, template_parts, template_tokens
from llmos.trace.lookups import LISTABLE, steps_before
from llmos.trace.program import ABOUT_FILES, Check, Condition, Listed, Loop, Node, Slot, Step, Trace, walk
from llmos.trace.values import Const, Expr, IndexRef, ItemRef, ListExpr, OutputRef, Ref, SlotRef, parse, references

MAX_NESTED_LOOPS = 8


def validate(trace: Trace) -> None:
    """Check a trace as a whole.

    Raises:
        TraceFormatError: the first thing that does not hold.
    """
    names = {slot.name for slot in trace.slots}
    required = {slot.name for slot in trace.slots if slot.default is None}
    for goal in trace.goals:
        _check_template(goal, names, required)
    ids = [node.id for node in walk(trace.steps)]
    for number, one in enumerate(ids):
        if one in ids[:number] or one == "each" or not one.replace("-", "_").isidentifier():
            raise TraceFormatError(f"step id {one!r} must be unique, of letters, digits, _ and -, and not `each`")
    lists = {slot.name: slot.listed.source.step for slot in trace.slots if slot.listed is not None}
    if both := sorted(lists.keys() & set(ids)):
        raise TraceFormatError(f"slot {both[0]!r} is looked up, so no step may have its name")
    for slot in trace.slots:
        if slot.listed is not None:
            _check_listed(trace, slot, slot.listed)
    sight = _Sight(slots=names, lists=lists)
    sight.check_nodes(trace.steps)
    if trace.answer.expr is not None:
        sight.check(trace.answer.expr, "answer", None)
    for check in trace.checks:
        if check.kind not in ABOUT_FILES:
            raise TraceFormatError(f"checks: {check.kind} is about one output; write it at its step")
        sight.check_texts(check, "checks")
    consumed = {ref.name for node in trace.nodes for ref in _refs(node) if isinstance(ref, SlotRef)}
    consumed |= {ref.loop for node in trace.nodes for ref in _refs(node) if isinstance(ref, ItemRef)}
    if unused := names - consumed:
        raise TraceFormatError(f"slot {sorted(unused)[0]!r} is used by no step, so it can't vary; write it as text")


def _check_listed(trace: Trace, slot: Slot, listed: Listed) -> None:
    """A look-up runs at each replay, before anything may be changed, and does without the value it looks for."""
    where = f"slot {slot.name!r}: listed"
    look_up = next((node for node in trace.steps if node.id == listed.source.step), None)
    if not isinstance(look_up, Step) or look_up.when:
        raise TraceFormatError(f"{where}: {listed.source.step!r} must be a step that is always done, outside of loops")
    if slot.many:
        raise TraceFormatError(f"{where}: a slot of several values can't be looked up")
    if slot.type not in LISTABLE:
        raise TraceFormatError(f"{where}: only {', '.join(sorted(LISTABLE))} can be looked up, not {slot.type}")
    if any(step.effect.changes_world for step in steps_before(trace, listed)):
        raise TraceFormatError(f"{where}: up to {look_up.id!r} steps may only read")
    for node in trace.steps[: trace.steps.index(look_up) + 1]:
        for one in walk((node,)):
            if any(isinstance(ref, SlotRef) and ref.name == slot.name for ref in _refs(one)):
                raise TraceFormatError(f"{where}: step {one.id!r} uses the value before it is looked up")


def _refs(node: Node) -> Iterator[Ref]:
    return (ref for expr in node.exprs for ref in references(expr))


def _check_template(goal: str, names: set[str], required: set[str]) -> None:
    places = [part.slot for part in template_parts(goal) if isinstance(part, Place)]
    own = any(isinstance(part, Token) and part.kind is not Kind.PUNCT for part in template_tokens(goal))
    if places and not own:
        raise TraceFormatError(f"goal template {goal!r} has no word of its own, so it would fit any goal")
    if len(places) != len(set(places)) or not required <= set(places) <= names:
        raise TraceFormatError(
            f"goal template {goal!r} must name each of its slots exactly once: {sorted(names) or 'it has none'}"
        )


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """What may be referred to here: the steps done, each with its guard, and the loops that are under way.

    `lists` has the slots that are looked up, and the steps that do it.
    """

    slots: set[str]
    lists: dict[str, str] = field(default_factory=dict)
    done: dict[str, tuple[Condition, ...]] = field(default_factory=dict)
    loops: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()

    def check_nodes(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            where = f"step {node.id!r}"
            for condition in node.when:
                self._check_condition(condition, where)
            inside = replace(self, when=(*self.when, *node.when))
            if isinstance(node, Loop):
                inside._check_loop(node)
            else:
                inside._check_step(node)
            self.done[node.id] = inside.when

    def _check_step(self, step: Step) -> None:
        where = f"step {step.id!r}"
        for expr in step.args.values():
            self.check(expr, where, self.when)
        for condition in step.expect:
            self._check_condition(condition, where)
        for check in step.checks:
            self.check_texts(check, where)

    def check_texts(self, check: Check, where: str) -> None:
        """References in the texts of a check about files lead somewhere."""
        if check.kind in ABOUT_FILES:
            texts = list(check.expected.values()) if isinstance(check.expected, dict) else [check.expected]
            for text in texts:
                self.check(_parsed(text, where), where, self.when)

    def _check_loop(self, loop: Loop) -> None:
        where = f"step {loop.id!r}"
        if isinstance(loop.over, Const) and not isinstance(loop.over.value, list):
            raise TraceFormatError(f"{where}: for_each must be a list or a reference to one")
        if not isinstance(loop.over, Const | ListExpr | SlotRef | OutputRef | ItemRef):
            raise TraceFormatError(f"{where}: for_each must be a list or a reference to one")
        if len(self.loops) == MAX_NESTED_LOOPS:
            raise TraceFormatError(f"{where}: more than {MAX_NESTED_LOOPS} loops in one another")
        self.check(loop.over, where, self.when)
        inside = replace(self, done=dict(self.done), loops=(*self.loops, loop.id))
        for condition in (*loop.where, *loop.expect):
            inside._check_condition(condition, where)
        inside.check_nodes(loop.steps)

    def _check_condition(self, condition: Condition, where: str) -> None:
        if condition.kind.compares != (condition.expected is not None):
            raise TraceFormatError(
                f"{where}: {condition.kind} needs {'two values' if condition.kind.compares else 'one'}"
            )
        for expr in condition.exprs:
            self.check(expr, where, self.when)

    def check(self, expr: Expr, where: str, when: Iterable[Condition] | None) -> None:
        """References of an expression lead somewhere; with `when`, they lead to what was surely done under it."""
        for ref in references(expr):
            if isinstance(ref, SlotRef) and ref.name not in self.slots:
                raise TraceFormatError(f"{where}: there is no slot {ref.name!r}")
            if isinstance(ref, ItemRef) and ref.loop in self.lists:
                if self.lists[ref.loop] not in self.done:
                    raise TraceFormatError(f"{where}: {ref.loop!r} is not looked up yet")
            elif isinstance(ref, ItemRef | IndexRef) and ref.loop not in self.loops:
                raise TraceFormatError(f"{where}: it does not stand inside a loop {ref.loop!r}")
            if isinstance(ref, OutputRef):
                if ref.step not in self.done:
                    raise TraceFormatError(f"{where}: step {ref.step!r} is not an earlier step")
                if when is not None and any(one not in when for one in self.done[ref.step]):
                    raise TraceFormatError(
                        f"{where}: step {ref.step!r} may have been left out; give both the same `when`"
                    )


def _parsed(text: object, where: str) -> Expr:
    try:
        return parse(text)
    except TraceFormatError as error:
        raise TraceFormatError(f"{where}: {error}") from None


__all__ = ["MAX_NESTED_LOOPS", "validate"]
