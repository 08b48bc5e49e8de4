"""The shape of a run: one execution of one goal, with its steps, outputs, cost and outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from llmos.trace.program import Effect


class Mode(StrEnum):
    """Who solved the goal.

    JUDGED is a replay that a small model agreed to, UNCHANGED needed none, since an earlier one still stands; UNDO took
    a run back, NONE: no one.
    """

    LEARNER = "learner"
    GUIDED = "guided"
    FOLLOWER = "follower"
    JUDGED = "judged"
    UNCHANGED = "unchanged"
    UNDO = "undo"
    NONE = "none"

    @property
    def is_replay(self) -> bool:
        return self in (Mode.FOLLOWER, Mode.JUDGED, Mode.UNCHANGED)


class RunStatus(StrEnum):
    """How a run stands or ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One tool call as it happened: arguments, output (JSON-able), error flag, effect, seconds taken.

    `tool_use_id` is the model's id of the call; None for a follower's step. With `is_error` the output is
    the error's sentence.
    """

    index: int
    tool: str
    args: dict[str, Any]
    output: Any = None
    is_error: bool = False
    effect: Effect = Effect.UNKNOWN
    tool_version: str | None = None
    tool_use_id: str | None = None
    duration_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What the model said when it called `finish`: only hints, induction recomputes them."""

    answer: str
    goal_template: str | None = None
    slots: dict[str, Any] = field(default_factory=dict)
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of one goal."""

    id: str
    goal: str
    mode: Mode
    status: RunStatus = RunStatus.RUNNING
    steps: tuple[StepRecord, ...] = ()
    answer: str | None = None
    finish: Finish | None = None
    trace_id: str | None = None
    trace_version: int | None = None
    bindings: dict[str, Any] = field(default_factory=dict)
    model: str | None = None
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    reason: str = ""
    started_at: datetime | None = None
    duration_s: float = 0.0
