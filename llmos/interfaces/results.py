"""What comes out at the doors: results, explanations and questions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from llmos.trace.decide import Considered
from llmos.trace.match import Miss
from llmos.trace.program import Step
from llmos.trace.run import StepRecord
from llmos.trace.values import unparse


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a goal ended. `outputs` maps step ids to outputs, `trace_id` is the label `id@version` or None."""

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

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What would happen to a goal, and why; nothing was done. Costs in dollars."""

    goal: str
    decision: str
    reason: str
    trace_id: str | None = None
    bindings: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    candidates: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Question:
    """Something a person must agree to before it is done."""

    text: str
    trace_id: str
    bindings: dict[str, Any]
    effect: str


Confirm: TypeAlias = Callable[[Question], Awaitable[bool]]


def step_summary(step: StepRecord) -> dict[str, Any]:
    """A step as it appears in a result."""
    return {"tool": step.tool, "args": step.args, "is_error": step.is_error, "duration_s": round(step.duration_s, 6)}


def planned_step(step: Step) -> dict[str, Any]:
    """A step as an explanation shows it: arguments as expressions."""
    return {"id": step.id, "tool": step.tool, "args": {name: unparse(expr) for name, expr in step.args.items()}}


def candidate_shown(one: Considered) -> dict[str, Any]:
    """A considered trace as an explanation shows it."""
    shown: dict[str, Any] = {"trace_id": one.trace.label, "how": one.how, "cosine": one.cosine}
    outcome = one.outcome
    if isinstance(outcome, Miss):
        refused = {"rule": outcome.rule, "words": list(outcome.words), "message": outcome.message}
        return shown | {"template": outcome.template, "fits": False} | refused
    return shown | {"template": outcome.template, "fits": True, "rule": "", "words": [], "message": ""}
