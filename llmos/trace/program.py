"""The shape of a trace: a goal template, slots, steps, checks and an answer. Frozen, keyword-only records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from llmos.trace.values import Expr

FORMAT_VERSION = 1


class Effect(StrEnum):
    """What a tool call can do to the world, from harmless to worst."""

    PURE = "pure"
    READ = "read"
    WRITE = "write"
    EXTERNAL = "external"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        return list(Effect).index(self)

    @property
    def changes_world(self) -> bool:
        return self.rank >= Effect.WRITE.rank


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
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A part of the goal that may vary.

    `values` closes the kind (a choice binds nothing else); `suffix` is the file suffix a path must have,
    with its dot, `parent` the folder it must lie in (None: any); `inline` says that the value is pasted into
    code or a command, so only plain values (letters, digits, `_ . / -`) bind; a slot with a `default` may be
    missing from a template.
    """

    name: str
    type: SlotType
    values: tuple[str, ...] = ()
    suffix: str | None = None
    parent: str | None = None
    inline: bool = False
    default: str | None = None


class CheckKind(StrEnum):
    """The predicates a replay can evaluate; each gives PASS, FAIL or UNKNOWN."""

    OUTPUT_TYPE = "output_type"
    OUTPUT_SHA256 = "output_sha256"
    LENGTH = "length"
    FILE_EXISTS = "file_exists"
    EXIT_STATUS = "exit_status"
    NOT_EMPTY = "not_empty"


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
    FILE_EXISTS a path in text form (`${{ target }}`), for NOT_EMPTY the path of a value inside the output.
    """

    kind: CheckKind
    expected: Any = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One tool call; `args` maps argument names to provenance expressions.

    `tool_version` None means any version (demonstrations shipped with the tools themselves).
    """

    id: str
    tool: str
    args: dict[str, Expr]
    effect: Effect = Effect.UNKNOWN
    tool_version: str | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How the answer is computed from this run's outputs.

    `expr` None renders the last step's output. `name` names the result for later goals
    (`env.last_result_name`). `checks` (LENGTH with the step's id in `expected`) must hold for `expr` to be used.
    """

    expr: Expr | None = None
    name: str | None = None
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
    the slot has a default; several wordings may lead to the same steps. `cost_usd` is what
    learning it cost; a replay saves that much.
    """

    id: str
    version: int = 1
    goals: tuple[str, ...]
    slots: tuple[Slot, ...] = ()
    steps: tuple[Step, ...]
    answer: Answer = Answer()
    provenance: Provenance = Provenance.LEARNED
    status: Status = Status.CANDIDATE
    reason: str = ""
    description: str = ""
    run_id: str | None = None
    model: str | None = None
    cost_usd: float = 0.0
    created_at: datetime | None = None

    def slot(self, name: str) -> Slot:
        """The slot of that name; KeyError if there is none."""
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(name)

    @property
    def effect(self) -> Effect:
        """The worst effect among the steps."""
        return max((step.effect for step in self.steps), key=lambda effect: effect.rank, default=Effect.PURE)

    @property
    def label(self) -> str:
        return f"{self.id}@{self.version}"
