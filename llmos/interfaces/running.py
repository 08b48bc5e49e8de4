"""A run on its way: its record is replaced as things become known, and stored before anything is done for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.errors import DivergenceError
from llmos.interfaces.results import Result, step_summary
from llmos.kernel.process import current
from llmos.kernel.replay import Follower
from llmos.kernel.standing import Watching
from llmos.memory.runs import RunStore
from llmos.orders import Interrupt
from llmos.trace.decide import Decision
from llmos.trace.program import Trace
from llmos.trace.run import Mode, Run, RunStatus
from llmos.trace.standing import StandingRun


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What came of asking: the decision as it is now, and who agreed (`is_new`: to a wording that was not proven).

    `declined` says that somebody was asked and the match is not what was meant.
    """

    decision: Decision
    mode: Mode = Mode.FOLLOWER
    model: str | None = None
    is_new: bool = False
    declined: bool = False


@dataclass(kw_only=True)
class Running:
    """The record of one run, as far as it is known.

    `estimate_usd` is what learning a guided goal may have cost; `follower` is the replay that was begun last, `again`
    says that it is to be done even if an earlier run still stands, `standing` is that run where this one only tells of
    it, `watching` what was seen of a replay; `is_harmless` that its replay only looks and computes, so
    that nothing hangs on when it is stored; `is_booked` that its saving is, or that there is none, `is_kept` that a
    later kernel could go on with it. `told` is what was said to whoever works on it.
    """

    run: Run
    stored: bool = False
    estimate_usd: float = 0.0
    audit: str = ""
    follower: Follower | None = None
    notice: str = ""
    again: bool = False
    standing: StandingRun | None = None
    watching: Watching | None = None
    is_harmless: bool = False
    is_booked: bool = True
    is_kept: bool = False
    told: list[Interrupt] = field(default_factory=list)
    started_s: float = field(default_factory=time.perf_counter)

    def begin(
        self,
        *,
        mode: Mode,
        reason: str,
        trace: Trace | None = None,
        bindings: Mapping[str, Any] | None = None,
        model: str | None = None,
    ) -> None:
        """Start over in a mode; what an earlier attempt cost stays."""
        self.run = replace(
            self.run,
            mode=mode,
            reason=reason,
            model=model,
            steps=(),
            trace_id=trace.id if trace else None,
            trace_version=trace.version if trace else None,
            bindings=dict(bindings or {}),
        )
        process = current()
        if process is not None:
            process.mode = str(mode)

    def store_soon(self, runs: RunStore) -> None:
        """The same, with the intent of the first effect: until then nothing happens that a crash must not forget."""
        if not self.stored:
            runs.start_soon(self.run)
            self.stored = True

    async def store(self, runs: RunStore) -> None:
        """Store the run, unless it is stored already."""
        if not self.stored:
            await runs.start(self.run)
            self.stored = True

    def update(self, **changes: Any) -> None:
        """Replace fields of the record."""
        self.run = replace(self.run, **changes)

    def end(self, status: RunStatus) -> None:
        """Close the record."""
        self.run = replace(self.run, status=status, duration_s=time.perf_counter() - self.started_s)
        process = current()
        if process is not None:
            process.spend(max(0.0, self.run.cost_usd - process.spent_usd))
            process.saved_usd = self.run.saved_usd


def result_of(
    run: Run,
    outputs: Mapping[str, Any],
    audit: str = "",
    estimate_usd: float = 0.0,
    notice: str = "",
    standing: StandingRun | None = None,
) -> Result:
    """A finished run as the doors show it."""
    return Result(
        run_id=run.id,
        mode=str(run.mode),
        status=str(run.status),
        answer=run.answer or "",
        outputs=dict(outputs),
        cost_usd=run.cost_usd,
        saved_usd=run.saved_usd,
        trace_id=f"{run.trace_id}@{run.trace_version}" if run.trace_id else None,
        bindings=dict(run.bindings),
        steps=[step_summary(step) for step in run.steps],
        duration_s=run.duration_s,
        reason=run.reason,
        audit=audit,
        estimate_usd=estimate_usd,
        notice=notice,
        of_run=standing.run_id if standing else None,
        done_at=standing.done_at.isoformat() if standing else None,
    )


def unable(error: DivergenceError, why: str = "") -> DivergenceError:
    """The same divergence with an account of what was done, where nobody goes on."""
    before = f"{error.effects_done} step{'s' * (error.effects_done > 1)} before it had changed things already"
    so = "so nothing more was done" if not why else f"and {why}, so nothing more was done"
    return DivergenceError(
        f"{error}; {before}, {so}: `runs show` lists them, and `undo` takes their files back",
        step_id=error.step_id,
        expected=error.expected,
        actual=error.actual,
        effects_done=error.effects_done,
    )
