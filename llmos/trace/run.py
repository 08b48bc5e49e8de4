"""The shape of a run: one execution of one goal, with its steps, outputs, cost and outcome."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from llmos.trace.program import Effect

CUT_OFF = "it was interrupted in the middle of this call, which may or may not have done its work"
"""The output of a call of which nobody knows what became."""


class Mode(StrEnum):
    """Who solved the goal.

    JUDGED is a replay that a small model agreed to, HANDED_OVER one that diverged and that the learner went on from,
    UNCHANGED needed none, since an earlier one still stands; UNDO took a run back, NONE: no one.
    """

    LEARNER = "learner"
    GUIDED = "guided"
    FOLLOWER = "follower"
    JUDGED = "judged"
    HANDED_OVER = "follower+learner"
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


class Origin(StrEnum):
    """Where a step of a run that was handed over comes from.

    RECORDED was asked for again and answered with what the same call had given before; nothing was done. REJOINED was
    replayed after the learner had given the rest back.
    """

    REPLAYED = "replayed"
    LEARNER = "learner"
    RECORDED = "recorded"
    REJOINED = "rejoined"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One tool call as it happened: arguments, output (JSON-able), error flag, effect, seconds taken.

    `tool_use_id` is the model's id of the call; None for a follower's step. With `is_error` the output is
    the error's sentence. `origin` is known of runs that were handed over; of others their mode tells it.
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
    origin: Origin | None = None

    @property
    def may_have_acted(self) -> bool:
        """Whether it changed something, or was cut off while it may have; a failure is taken for none."""
        was_made = self.origin is not Origin.RECORDED and (not self.is_error or self.output == CUT_OFF)
        return was_made and self.effect.changes_world


@dataclass(frozen=True, kw_only=True)
class Finish:
    """What the model said when it called `finish`: only hints, induction recomputes them."""

    answer: str
    goal_template: str | None = None
    slots: dict[str, Any] = field(default_factory=dict)
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Handover:
    """Where a replay of `trace` (its label) diverged and a learner took over.

    `step_id` is the step, `expected` and `actual` what was to be found there and what was found, as short texts;
    `rejoined` is the step from which the rest was replayed again.
    """

    trace: str
    step_id: str
    expected: str = ""
    actual: str = ""
    rejoined: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """What tainted a run: the tool that gave it, the URL, file, folder or server it came from, and the step."""

    tool: str
    place: str
    step: int | None = None

    @property
    def shown(self) -> str:
        return self.place if self.place == self.tool else f"{self.place} ({self.tool})"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One execution of one goal; `taint` is what it read that somebody else may have written."""

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
    handover: Handover | None = None
    taint: tuple[Source, ...] = ()

    @property
    def recording(self) -> Run:
        """The run as the calls it really made, for whoever learns from it."""
        return replace(self, steps=tuple(step for step in self.steps if step.origin is not Origin.RECORDED))


def step_ids(steps: Sequence[StepRecord]) -> list[str]:
    """Readable ids for recorded steps: the tool's name, numbered from the second on."""
    ids: dict[str, None] = {}
    for step in steps:
        base = re.sub(r"[^A-Za-z0-9_]+", "_", step.tool).strip("_") or "step"
        base = f"step_{base}" if base[0].isdigit() else base
        name, number = base, 2
        while name in ids:
            name, number = f"{base}_{number}", number + 1
        ids[name] = None
    return list(ids)
