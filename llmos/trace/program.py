"""The shape of a trace: a goal template, slots, steps, checks and an answer. Frozen, keyword-only records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias

from llmos.trace.values import Expr, OutputRef, SecretRef, ValuePath, references, unparse

FORMAT_VERSION = 1

REWRITE = "guided_rewrite"
"""The tool that stands for the one model call of a guided program; no plugin's name is like it."""


class Effect(StrEnum):
    """What a tool call can do to the world, from harmless to worst."""

    PURE = "pure"
    READ = "read"
    WRITE = "write"
    EXTERNAL = "external"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        return _RANKS[self]

    @property
    def changes_world(self) -> bool:
        return self.rank >= Effect.WRITE.rank


_RANKS = {effect: rank for rank, effect in enumerate(Effect)}


class SlotType(StrEnum):
    """The kinds of values a slot may bind."""

    PATH = "path"
    GLOB = "glob"
    NUMBER = "number"
    DATE = "date"
    QUOTED = "quoted"
    URL = "url"
    EMAIL = "email"
    IDENTIFIER = "identifier"
    CHOICE = "choice"
    EXPRESSION = "expression"
    LIST = "list"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The look-up of this run that closes a slot: what it does not list is no value.

    `source` gives the list, of texts or of objects whose text at `by` is the name; `like` is what the object must hold
    besides, as the recorded one did. Everything up to the look-up only reads, and does without the slot.
    """

    source: OutputRef
    by: ValuePath = ()
    like: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A part of the goal that may vary.

    `values` closes the kind (a choice binds nothing else); `suffix` is the file suffix a path must have,
    with its dot, `parent` the folder it must lie in (None: any); `inline` says that the value is pasted into
    code or a command, so only plain values (letters, digits, `_ . / -`) bind; a slot with a `default` may be
    missing from a template. `examples` are the values it had when the trace was learned. With `many` the goal
    gives one value or a list of them (`a.txt, b.txt and c.txt`), and the slot is bound to a list of texts.
    A `folded` value was spelled otherwise in the goal than the tool got it: only known values bind, spelled as known.
    `listed` says which look-up of the replay itself tells the known values.
    """

    name: str
    type: SlotType
    values: tuple[str, ...] = ()
    suffix: str | None = None
    parent: str | None = None
    inline: bool = False
    default: str | None = None
    examples: tuple[str, ...] = ()
    many: bool = False
    folded: bool = False
    listed: Listed | None = None


class CheckKind(StrEnum):
    """The predicates a replay can evaluate; each gives PASS, FAIL or UNKNOWN."""

    OUTPUT_TYPE = "output_type"
    OUTPUT_SHA256 = "output_sha256"
    LENGTH = "length"
    FILE_EXISTS = "file_exists"
    EXIT_STATUS = "exit_status"
    NOT_EMPTY = "not_empty"
    VALUE_TYPE = "value_type"
    SAME_NUMBER = "same_number"
    FILE_MISSING = "file_missing"
    FILE_NOT_EMPTY = "file_not_empty"
    FILE_PARSES = "file_parses"
    FILE_LENGTH = "file_length"
    FILE_CONTAINS = "file_contains"


ABOUT_FILES = frozenset(kind for kind in CheckKind if kind.startswith("file_"))
"""The checks that look at the workspace and not at an output; they may also stand at the end of a trace."""


class Verdict(StrEnum):
    """A check's result; UNKNOWN never counts as PASS."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Check:
    """An executable predicate over a step's output.

    `expected`: for OUTPUT_TYPE a JSON type name, for OUTPUT_SHA256 the hex digest of the canonical JSON
    of the output, for LENGTH `{"path": [...], "length": n}` of a list inside it, for EXIT_STATUS an int, for
    FILE_EXISTS a path in text form (`${{ target }}`), for NOT_EMPTY the path of a value inside the output. For
    VALUE_TYPE `{"path": [...], "type": "string"}`, for SAME_NUMBER two paths of numbers inside the output. FILE_MISSING
    and FILE_NOT_EMPTY name a file as FILE_EXISTS does, FILE_PARSES `{"file": ..., "as": "csv"}`, FILE_LENGTH
    `{"file": ..., "rows": n}` (or `lines`), FILE_CONTAINS `{"file": ..., "text": ...}`, all in text form.
    """

    kind: CheckKind
    expected: Any = None


class ConditionKind(StrEnum):
    """What a guard or a filter may ask of a value; a closed set."""

    EXISTS = "exists"
    MISSING = "missing"
    EMPTY = "empty"
    NOT_EMPTY = "not_empty"
    EQUALS = "equals"
    DIFFERS = "differs"
    CONTAINS = "contains"
    TYPE = "type"
    PLAIN = "plain"

    @property
    def compares(self) -> bool:
        """Whether it needs a second value beside the first."""
        return self in (ConditionKind.EQUALS, ConditionKind.DIFFERS, ConditionKind.CONTAINS, ConditionKind.TYPE)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A yes-or-no question about the run so far.

    EXISTS and MISSING ask whether `value`, a path, is there; EMPTY and NOT_EMPTY whether a text, list or object has
    anything in it (null is empty; a number or a truth value can't be asked), PLAIN whether a text is safe inside code
    or a command (letters, digits, `_ . / -`, no `-` first; numbers are), TYPE whether it has a JSON type (`string`).
    `expected` is what the others compare.
    """

    kind: ConditionKind
    value: Expr
    expected: Expr | None = None

    @property
    def exprs(self) -> tuple[Expr, ...]:
        return (self.value,) if self.expected is None else (self.value, self.expected)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One tool call; `args` maps argument names to provenance expressions.

    `tool_version` None means any version (demonstrations shipped with the tools themselves). It is left out
    unless every condition of `when` holds; if one of `expect` then doesn't, that is a divergence.
    """

    id: str
    tool: str
    args: dict[str, Expr]
    effect: Effect = Effect.UNKNOWN
    tool_version: str | None = None
    checks: tuple[Check, ...] = ()
    when: tuple[Condition, ...] = ()
    expect: tuple[Condition, ...] = ()

    @cached_property
    def pattern(self) -> str:
        """Its arguments with the slots unfilled, as JSON."""
        return json.dumps({name: unparse(e) for name, e in self.args.items()}, sort_keys=True, ensure_ascii=False)

    @cached_property
    def hidden(self) -> frozenset[str]:
        """The arguments that hold a secret."""
        return frozenset(n for n, e in self.args.items() if any(isinstance(ref, SecretRef) for ref in references(e)))

    @property
    def exprs(self) -> Iterator[Expr]:
        """Every expression of its own: arguments and conditions."""
        yield from self.args.values()
        for condition in (*self.when, *self.expect):
            yield from condition.exprs


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Its steps for each entry of a list, in the list's order.

    `over` gives the list. Entries that don't meet `where` are passed over; one that is left and doesn't meet `expect`
    is a divergence, found before the first iteration. In `where`, `expect` and `steps`, `each.ID` is the entry and
    `index.ID` the number of the iteration, from 0. The output is a list with one object for each iteration: the
    entry as `each`, and the outputs of its steps by their ids.
    """

    id: str
    over: Expr
    steps: tuple[Node, ...]
    where: tuple[Condition, ...] = ()
    expect: tuple[Condition, ...] = ()
    when: tuple[Condition, ...] = ()

    @property
    def exprs(self) -> Iterator[Expr]:
        """Every expression of its own, without those of its steps."""
        yield self.over
        for condition in (*self.where, *self.expect, *self.when):
            yield from condition.exprs


Node: TypeAlias = Step | Loop


def walk(nodes: Sequence[Node]) -> Iterator[Node]:
    """Every node in order, a loop before its steps."""
    for node in nodes:
        yield node
        if isinstance(node, Loop):
            yield from walk(node.steps)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How the answer is computed from this run's outputs.

    `expr` None renders the last step's output. `name` names the result for later goals
    (`env.last_result_name`). `checks` (LENGTH with the step's id in `expected`) must hold for `expr` to be used.
    """

    expr: Expr | None = None
    name: str | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Guided:
    """The same work for other goals, with the one value the model wrote itself written anew.

    A program of its own: one of its steps calls `REWRITE`, and that output stands where the trace
    has the value. The gate never reads it.
    """

    goal: str
    slots: tuple[Slot, ...] = ()
    steps: tuple[Node, ...]
    answer: Answer = Answer()
    checks: tuple[Check, ...] = ()


class Provenance(StrEnum):
    """Where a trace comes from."""

    LEARNED = "learned"
    DEMONSTRATION = "demonstration"
    IMPORTED = "imported"


class Status(StrEnum):
    """A trace's standing: only TRUSTED is followed without asking."""

    CANDIDATE = "candidate"
    TRUSTED = "trusted"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A verified, parameterised program induced from a run (or written as a demonstration).

    `goals` are templates (`Analyze data in {source}`), each naming every slot exactly once unless
    the slot has a default; several wordings may lead to the same steps. `checks` look at files once every step
    is done: they show that the goal was reached. `cost_usd` is what learning it cost; a replay saves that much.
    `agent` stands for the profile under which it was learned: nobody else follows it ('': everybody does).
    """

    id: str
    version: int = 1
    goals: tuple[str, ...]
    slots: tuple[Slot, ...] = ()
    steps: tuple[Node, ...]
    answer: Answer = Answer()
    checks: tuple[Check, ...] = ()
    provenance: Provenance = Provenance.LEARNED
    status: Status = Status.CANDIDATE
    reason: str = ""
    description: str = ""
    run_id: str | None = None
    model: str | None = None
    cost_usd: float = 0.0
    created_at: datetime | None = None
    guided: Guided | None = None
    agent: str = ""

    def slot(self, name: str) -> Slot:
        """The slot of that name; KeyError if there is none."""
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(name)

    @property
    def guided_program(self) -> Trace | None:
        """Its guided program as a trace of its own, if it has one."""
        if self.guided is None:
            return None
        one = self.guided
        return replace(
            self,
            goals=(one.goal,),
            slots=one.slots,
            steps=one.steps,
            answer=one.answer,
            checks=one.checks,
            guided=None,
        )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every step and loop in order, a loop before its steps."""
        return tuple(walk(self.steps))

    @property
    def calls(self) -> tuple[Step, ...]:
        """Every tool call that may be made, the steps of loops included."""
        return tuple(node for node in walk(self.steps) if isinstance(node, Step))

    @property
    def effect(self) -> Effect:
        """The worst effect among the steps."""
        return max((step.effect for step in self.calls), key=lambda effect: effect.rank, default=Effect.PURE)

    @property
    def label(self) -> str:
        return f"{self.id}@{self.version}"
