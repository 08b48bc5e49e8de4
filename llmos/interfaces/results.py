"""What comes out at the doors: results, explanations and questions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from llmos.trace.aligning import Pair
from llmos.trace.conditions import to_pair
from llmos.trace.decide import Considered
from llmos.trace.match import Miss
from llmos.trace.program import Node, Step
from llmos.trace.run import StepRecord
from llmos.trace.values import unparse


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a goal ended. `outputs` maps step ids to outputs, `trace_id` is the label `id@version` or None.

    `audit` says how a replay compared with the learner's own work: agreed, disagreed, undecided or failed; '' if nobody
    looked. `estimate_usd` is what learning a guided goal from nothing was thought to cost. `notice` is what the user
    should do something about. In the mode `unchanged` nothing was done: answer and outputs are those of the run
    `of_run`, which ended at `done_at` (ISO 8601) and stands.
    """

    run_id: str
    mode: str
    status: str
    answer: str
    outputs: dict[str, Any] = field(default_factory=dict)
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    trace_id: str | None = None
    bindings: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    duration_s: float = 0.0
    reason: str = ""
    audit: str = ""
    estimate_usd: float = 0.0
    notice: str = ""
    of_run: str | None = None
    done_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way a goal could go, and for how many dollars; `note` says who by, or why not."""

    name: str
    possible: bool
    cost_usd: float
    is_estimate: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What would happen to a goal, and why; nothing was done. Costs in dollars.

    `alignment` lays the goal beside a wording of the `nearest` trace, word by word; `needed` is the goal that this
    wording would have taken; `inputs` are the paths it names; `ways` what could be done with it; `learner` says why
    none could be asked. Carrying it out takes `model_calls`, which `cost_usd` then is an estimate of. `permissions`
    says of the calls that are known beforehand whether they are allowed, asked about or denied, and why. A goal
    that would only be told of has the run `of_run` that still stands, which ended at `done_at`.
    """

    goal: str
    decision: str
    reason: str
    trace_id: str | None = None
    bindings: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    candidates: list[dict[str, Any]] = field(default_factory=list)
    nearest: str | None = None
    alignment: list[dict[str, Any]] = field(default_factory=list)
    needed: str = ""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    ways: list[dict[str, Any]] = field(default_factory=list)
    learner: str = ""
    model_calls: int = 0
    permissions: list[dict[str, Any]] = field(default_factory=list)
    of_run: str | None = None
    done_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something a person must agree to before it is done.

    `is_proven` says that the goal is known to mean the trace, and only the trace's standing is asked about. `wording`
    is what a yes adds to the trace's templates. `alignment` shows the goal beside `template`, word by word. With a
    `call` it is one tool call that is asked about, and `always` may be answered too: for that step of the trace, or
    without a trace for exactly this call. `needs_reading`: somebody else may be behind it, so that only who has read it
    may agree, once, and not beforehand (`--yes`).
    """

    text: str
    trace_id: str
    bindings: dict[str, Any]
    effect: str
    is_proven: bool = True
    wording: str = ""
    template: str = ""
    alignment: tuple[Pair, ...] = ()
    steps: tuple[dict[str, Any], ...] = ()
    call: dict[str, Any] | None = None
    needs_reading: bool = False


Reply: TypeAlias = bool | Literal["always"] | None
Confirm: TypeAlias = Callable[[Question], Awaitable[Reply]]
"""Answers a question: yes, no, or None where there is nobody to ask; to a call also "always"."""


def step_summary(step: StepRecord) -> dict[str, Any]:
    """A step as it appears in a result."""
    made: dict[str, Any] = {"tool": step.tool, "args": step.args, "is_error": step.is_error}
    made["duration_s"] = round(step.duration_s, 6)
    return made if step.origin is None else {**made, "origin": str(step.origin)}


def planned_step(step: Node) -> dict[str, Any]:
    """A step as an explanation shows it: arguments as expressions; a loop with its steps inside."""
    when = {"when": [to_pair(one) for one in step.when]} if step.when else {}
    if isinstance(step, Step):
        args = {name: unparse(expr) for name, expr in step.args.items()}
        return {"id": step.id, "tool": step.tool, "args": args, **when}
    where = {"where": [to_pair(one) for one in step.where]} if step.where else {}
    inner = [planned_step(one) for one in step.steps]
    return {"id": step.id, "for_each": unparse(step.over), **where, **when, "steps": inner}


def candidate_shown(one: Considered) -> dict[str, Any]:
    """A considered trace as an explanation shows it."""
    shown: dict[str, Any] = {"trace_id": one.trace.label, "how": one.how, "cosine": one.cosine}
    shown |= {"status": str(one.trace.status), "standing": one.trace.reason}
    outcome = one.outcome
    if isinstance(outcome, Miss):
        refused = {"rule": outcome.rule, "words": list(outcome.words), "message": outcome.message}
        return shown | {"template": outcome.template, "fits": False} | refused
    return shown | {"template": outcome.template, "fits": True, "rule": "", "words": [], "message": ""}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """On what terms a goal was asked for: what its children may do, and who is asked, is the same."""

    mode: str
    confirm: Confirm | None
