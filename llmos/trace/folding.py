"""A recording with its loops folded: each loop as one iteration with marks, which induction explains like any run.

Afterwards the steps are nested into loops again, and the whole program is carried out on the recording: it must give
exactly the recorded calls, in their order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from llmos.trace.conditions import all_hold
from llmos.trace.evidence import Evidence
from llmos.trace.findings import Findings, ToolFacts
from llmos.trace.generalize import Marks, NoLoopError
from llmos.trace.layout import Body, Column
from llmos.trace.leaks import constants, mentions, pieces
from llmos.trace.lex import Kind, Token
from llmos.trace.listed import column_key
from llmos.trace.lookups import UnlistedError, looked_up
from llmos.trace.program import Condition, Loop, Node, Slot, Step, Trace
from llmos.trace.run import Run, StepRecord
from llmos.trace.selection import selecting
from llmos.trace.transforms import TRANSFORMS
from llmos.trace.values import (
    Expr,
    IndexRef,
    ItemRef,
    OutputRef,
    Ref,
    Scope,
    SlotRef,
    UnboundError,
    as_text,
    evaluate,
    references,
)

_CERTAIN = 3


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One way to fold a recording; `origin` gives, for each call of the folded run, the recorded one it stands for.

    `names` maps the keys of calls and loops to their ids, `positions` the loops over a list of the goal to the token
    that is left of it.
    """

    run: Run
    original: Run
    tokens: list[Token]
    ids: tuple[str, ...]
    origin: tuple[int, ...]
    parts: tuple[int | Body, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, int] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks)

    @property
    def is_flat(self) -> bool:
        return not self.bodies

    @cached_property
    def bodies(self) -> tuple[Body, ...]:
        return tuple(body for part in self.parts if isinstance(part, Body) for body in part.bodies())

    @cached_property
    def columns(self) -> dict[int, Column]:
        """The calls of loops by their place in the folded run."""
        by_key = {column.key: column for part in self.parts if isinstance(part, Body) for column in part.columns()}
        return {at: by_key[key] for at, one in enumerate(self.origin) if (key := column_key(one)) in by_key}

    @cached_property
    def sources(self) -> dict[str, frozenset[int]]:
        """The loops by id, with the places of the calls that their lists come from."""
        found: dict[str, frozenset[int]] = {}
        for body in self.bodies:
            found[self.names[body.key]] = self._giving(self.names.get(body.over.step, body.over.step))
        return found

    def _giving(self, name: str) -> frozenset[int]:
        """The call of that name, or every call of the loop of that name."""
        inside = [body for body in self.bodies if self.names[body.key] == name]
        keys = {column.key for body in inside for column in body.columns()}
        return frozenset(
            at
            for at, (one, origin) in enumerate(zip(self.ids, self.origin, strict=True))
            if one == name or column_key(origin) in keys
        )

    @cached_property
    def _loops_around(self) -> dict[int, list[str]]:
        around: dict[int, list[str]] = {}
        for body in self.bodies:
            keys = {column.key for column in body.columns()}
            for at, one in enumerate(self.origin):
                if column_key(one) in keys:
                    around.setdefault(at, []).append(self.names[body.key])
        return around

    # --- while induction explains ------------------------------------------------------------------

    def filled(self, expr: Expr) -> Expr:
        """An expression with the references that its marks stand for."""
        return self._marks.filled(expr)

    @cached_property
    def _marks(self) -> Marks:
        return Marks(refs={mark: self._ref(ref) for mark, ref in self.marks.refs.items()})

    def expected(self, at: int) -> tuple[Condition, ...]:
        column = self.columns.get(at)
        return self._conditions(column.expect) if column is not None else ()

    def note(self, at: int, step: Step, found: Findings) -> None:
        """What a call in a loop means for the goal's tokens: its list is used."""
        for expr in step.exprs:
            for ref in references(expr):
                if isinstance(ref, ItemRef) and ref.loop in self.positions:
                    position = self.positions[ref.loop]
                    names = [name for name, value in step.args.items() if ref in references(value)]
                    found.use(position, names[0] if names else "items")
                    if any(t.name in ("name", "stem") for t in ref.transforms):
                        found.parents.add(position)

    def needed(self, at: int, step: Step) -> set[int]:
        """The calls that a step needs: of the steps and loops it refers to, and for the lists of the loops it is in."""
        used = {ref.step for expr in step.exprs for ref in references(expr) if isinstance(ref, OutputRef)}
        giving = [self._giving(name) for name in used]
        giving += [self.sources[loop] for loop in self._loops_around.get(at, ())]
        return {place for places in giving for place in places}

    def is_certain(self, at: int, step: Step) -> bool:
        """Whether the words of a call in a loop were the same often enough not to come from what it went through."""
        column = self.columns.get(at)
        said = [text for expr in step.args.values() for text in constants(expr)]
        return column is not None and len(column.indexes) >= _CERTAIN and not any(re.search(r"\d", s) for s in said)

    @cached_property
    def gone_through(self) -> frozenset[int]:
        """The calls of loops and those that give their lists."""
        return frozenset(self.columns).union(*self.sources.values())

    # --- afterwards --------------------------------------------------------------------------------

    def refusal(self, frozen: set[int], steps: Sequence[Step]) -> str | None:
        """Why the loops can't stay: something depends on what one iteration, or the list, held."""
        if self.is_flat:
            return None
        if frozen & self.gone_through:
            return "something depends on what one entry held"
        if any(not body.found.source.given for body in self.bodies):
            looked = [
                at for at, step in enumerate(steps) if not step.id and not self.run.steps[at].effect.changes_world
            ]
            word = selecting(self.tokens, self.original.steps)
            if looked or word is not None:
                return (
                    f"the entries may have been selected by {word!r}"
                    if word
                    else "what was read may have selected entries"
                )
        inside = {step.id for at, step in enumerate(steps) if at in self.columns}
        for at, step in enumerate(steps):
            used = {ref.step for expr in step.exprs for ref in references(expr) if isinstance(ref, OutputRef)}
            if step.id and at not in self.columns and used & inside:
                return f"step {step.id} uses what one iteration gave"
        return None

    def nested(self, steps: Sequence[Step], names: Mapping[int, str]) -> tuple[Node, ...]:
        """The steps that were kept, those of loops inside them; `names` gives the goal's tokens their slots."""
        kept = {step.id: step for step in steps if step.id}
        return tuple(node for part in self.parts for node in self._nodes(part, kept, names))

    def _nodes(self, part: int | Body | Column, kept: Mapping[str, Step], names: Mapping[int, str]) -> Iterator[Node]:
        if not isinstance(part, Body):
            key = column_key(part) if isinstance(part, int) else part.key
            if self.names[key] in kept:
                yield kept[self.names[key]]
            return
        inner = tuple(node for child in part.children for node in self._nodes(child, kept, names))
        if inner:
            name = self.names[part.key]
            over = SlotRef(name=names[self.positions[name]]) if name in self.positions else self._ref(part.over)
            yield Loop(
                id=name,
                over=over,
                steps=inner,
                where=self._conditions(part.where),
                expect=self._conditions(part.expect),
            )

    def slots(self, slots: Sequence[Slot], names: Mapping[int, str]) -> tuple[Slot, ...]:
        """The slots, those for a list of the goal told so; what its entries don't share is no constraint."""
        lists = {names[at]: loop for loop, at in self.positions.items()}
        return tuple(self._listed(slot, lists[slot.name]) if slot.name in lists else slot for slot in slots)

    def _listed(self, slot: Slot, loop: str) -> Slot:
        values = next(body.found.source.entries for body in self.bodies if self.names[body.key] == loop)
        suffixes, parents = ({re.sub(r".*(?=\.)|.*", "", v) for v in values}, {v.rpartition("/")[0] for v in values})
        return replace(
            slot,
            many=True,
            examples=tuple(values),
            suffix=slot.suffix if len(suffixes) == 1 else None,
            parent=slot.parent if len(parents) == 1 else None,
        )

    # --- carried out on the recording --------------------------------------------------------------

    def mismatch(self, trace: Trace, bindings: Mapping[str, Any], env: Mapping[str, str]) -> str | None:
        """How the program differs from the recording; None if it gives exactly the recorded calls in order."""
        indexes = {name: list(self._indexes(at)) for at, name in enumerate(self.ids)}
        try:
            self._carried_out(trace.steps, bindings, env, indexes, trace.slots)
        except (UnboundError, UnlistedError, NoLoopError) as error:
            return str(error)
        left = [node.id for node in trace.calls if indexes[node.id]]
        return f"step {left[0]} would be left out" if left else None

    def loop_outputs(
        self, nodes: Sequence[Node], bindings: Mapping[str, Any], env: Mapping[str, str]
    ) -> dict[str, list[Any]]:
        """What each loop gave in the recording; nothing where the nodes are not what was recorded."""
        indexes = {name: list(self._indexes(at)) for at, name in enumerate(self.ids)}
        try:
            outputs = self._carried_out(nodes, bindings, env, indexes)
        except (UnboundError, NoLoopError):
            return {}
        return {node.id: outputs[node.id] for node in nodes if isinstance(node, Loop)}

    def _carried_out(
        self,
        nodes: Sequence[Node],
        bindings: Mapping[str, Any],
        env: Mapping[str, str],
        indexes: dict[str, list[int]],
        slots: Sequence[Slot] = (),
    ) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        check = _Recording(steps=self.original.steps, indexes=indexes, slots=slots)
        check.carry_out(nodes, Scope(slots=bindings, outputs=outputs, env=env, items=check.entries), outputs)
        return outputs

    def _indexes(self, at: int) -> Sequence[int]:
        return self.columns[at].indexes if at in self.columns else (self.origin[at],)

    def tainted(self, trace: Trace, tools: Mapping[str, ToolFacts]) -> str | None:
        """The step with a constant that an iteration which is folded away may have given, or a list of the goal.

        Such as how many entries there were, or a number of the goal parted among them.
        """
        folded = set(range(len(self.original.steps))) - set(self.origin)
        evidence = Evidence(self.original.steps)
        known = {form.casefold() for token in self.tokens for form in (token.text, token.value)}
        listed = [v for body in self.bodies if body.found.source.given for v in body.found.source.entries]
        places = {name: at for at, name in enumerate(self.ids)}
        for step in trace.calls:
            before = {one for one in folded if one < self.origin[places[step.id]]}
            if any(token_form_in(value, step) for value in listed) or self._counts(step):
                return step.id
            for name, expr in step.args.items() if before else ():
                for text in constants(expr):
                    code = name in tools[step.tool].code_params
                    if any(_read_in(piece, evidence, known) & before for piece in pieces(text, code=code)):
                        return step.id
        return None

    def _counts(self, step: Step) -> bool:
        """Whether a step has a constant number that may be made of the number of entries."""
        said = [TRANSFORMS["number"](token.value) for token in self.tokens if token.kind is Kind.NUMBER]
        fixed = {text for expr in step.args.values() for text in constants(expr)}
        lengths = {len(body.found.taken) for body in self.bodies}
        made = {as_text(one) for n in lengths for one in (n, *(number * n for number in said), *(x / n for x in said))}
        return bool(fixed & (made - {as_text(number) for number in said}))

    # --- names -------------------------------------------------------------------------------------

    def _conditions(self, conditions: Sequence[Condition]) -> tuple[Condition, ...]:
        return tuple(
            replace(
                one,
                value=self._named(one.value),
                expected=None if one.expected is None else self._named(one.expected),
            )
            for one in conditions
        )

    def _named(self, expr: Expr) -> Expr:
        return self._ref(expr) if isinstance(expr, ItemRef | IndexRef | OutputRef) else expr

    def _ref(self, ref: Ref) -> Ref:
        """A reference with ids in place of keys."""
        match ref:
            case ItemRef(loop=loop, path=path):
                named = tuple(self.names.get(part, part) if isinstance(part, str) else part for part in path)
                return replace(ref, loop=self.names[loop], path=named)
            case IndexRef(loop=loop):
                return replace(ref, loop=self.names[loop])
            case OutputRef(step=step, transforms=transforms):
                renamed = tuple(replace(t, args=tuple(self.names.get(a, a) for a in t.args)) for t in transforms)
                return replace(ref, step=self.names.get(step, step), transforms=renamed)
            case _:
                return ref


@dataclass(frozen=True, kw_only=True)
class _Recording:
    """Carries out a program with recorded outputs; `indexes` are the recorded calls that are left for each step.

    `entries`, which the scope reads, takes in what look-ups list for the `slots` they close.
    """

    steps: Sequence[StepRecord]
    indexes: dict[str, list[int]]
    slots: Sequence[Slot] = ()
    entries: dict[str, Any] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)

    def carry_out(self, nodes: Sequence[Node], scope: Scope, outputs: dict[str, Any]) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                outputs[node.id] = [self._iteration(node, one) for one in self._iterations(node, scope)]
            else:
                outputs[node.id] = self._call(node, scope)
                self.entries.update(looked_up(self.slots, node.id, scope).entries)

    def _iterations(self, loop: Loop, scope: Scope) -> list[Scope]:
        entries = evaluate(loop.over, scope)
        if not isinstance(entries, list):
            raise NoLoopError(f"{loop.id} does not go through a list")
        scopes: list[Scope] = []
        for entry in entries:
            items, indexes = {**scope.items, loop.id: entry}, {**scope.indexes, loop.id: len(scopes)}
            inner = replace(scope, items=items, indexes=indexes)
            if all_hold(loop.where, inner):
                if not all_hold(loop.expect, inner):
                    raise NoLoopError(f"{loop.id} expects other entries than the recorded ones")
                scopes.append(inner)
        return scopes

    def _iteration(self, loop: Loop, scope: Scope) -> dict[str, Any]:
        outputs = dict(scope.outputs)
        self.carry_out(loop.steps, replace(scope, outputs=outputs), outputs)
        return {"each": scope.items[loop.id], **{node.id: outputs[node.id] for node in loop.steps}}

    def _call(self, step: Step, scope: Scope) -> Any:
        if not self.indexes[step.id]:
            raise NoLoopError(f"step {step.id} would be called more often than recorded")
        index = self.indexes[step.id].pop(0)
        record = self.steps[index]
        if self.done and index < self.done[-1]:
            raise NoLoopError(f"step {step.id} would be called in another order")
        self.done.append(index)
        args = {name: evaluate(expr, scope) for name, expr in step.args.items()}
        if canonical(args) != canonical(record.args):
            raise NoLoopError(f"step {step.id} would get other arguments than the recorded ones")
        if not all_hold(step.expect, scope):
            raise NoLoopError(f"step {step.id} expects something else")
        return record.output


def token_form_in(value: str, step: Step) -> bool:
    """Whether a step still says, as a constant, an entry of a list that the goal gives."""
    return any(mentions(form, step) for form in {value.casefold(), value.casefold().rpartition("/")[2]} if form)


def _read_in(piece: str, evidence: Evidence, known: set[str]) -> set[int]:
    """The calls in whose output a piece stands, or one of whose values stands in it."""
    if piece.casefold() in known:
        return set()
    last = len(evidence.steps)
    return evidence.holding(piece, last) | evidence.standing_in(piece, last) | evidence.naming(piece, last, known)


def canonical(value: Any) -> str:
    """JSON by which two values are compared."""
    return json.dumps(value, sort_keys=True)


__all__ = ["Fold", "canonical"]
