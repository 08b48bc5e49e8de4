"""The way of a goal: recall, decide, then follow, ask or learn; every cent and every effect accounted for."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from llmos.errors import (
    DivergenceError,
    LLMOSError,
    LowBatteryError,
    NoLearnerError,
    NothingToFollowError,
    NotPermittedError,
    StorageError,
)
from llmos.interfaces.deciding import Deciding
from llmos.interfaces.following import Following
from llmos.interfaces.learning import Learning
from llmos.interfaces.results import Confirm, Explanation, Question, Result, candidate_shown, planned_step
from llmos.interfaces.running import Running, result_of
from llmos.kernel.bus import Decided, Diverged, EventBus, GoalAccepted, RunEnded
from llmos.kernel.token_economy import TokenEconomy
from llmos.memory.runs import RunStore
from llmos.trace.decide import Choice, Decision
from llmos.trace.induce import step_ids
from llmos.trace.lex import check_goal
from llmos.trace.run import Mode, Run, RunStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dispatcher:
    """Carries goals out. It alone knows both the kernel's side and the memory's."""

    deciding: Deciding
    runs: RunStore
    economy: TokenEconomy
    bus: EventBus
    clock: Callable[[], datetime]
    following: Following
    learning: Learning

    async def handle(self, goal: str, *, mode: str = "auto", confirm: Confirm | None = None) -> Result:
        """One goal from top to bottom.

        Raises:
            LLMOSError: the goal was refused or failed; `.result` holds what is known of the run.
        """
        goal = check_goal(goal)
        run = Running(run=Run(id=uuid.uuid4().hex[:12], goal=goal, mode=Mode.FOLLOWER, started_at=self.clock()))
        self.bus.publish(GoalAccepted(run_id=run.run.id, goal=goal))
        try:
            decision = await self._decided(run, mode)
            if decision.choice is Choice.CONFIRM:
                decision = await self._confirmed(decision, mode, confirm)
            outputs = await self._carried_out(run, decision, mode)
            return await self._done(run, outputs)
        except (Exception, asyncio.CancelledError) as error:  # a run is a border: whatever ended it is kept with it
            if not isinstance(error, LLMOSError | asyncio.CancelledError):
                log.exception("a run broke", extra={"action": "run_broke", "run_id": run.run.id})
            await asyncio.shield(self._failed(run, error))
            raise

    async def _carried_out(self, run: Running, decision: Decision, mode: str) -> dict[str, Any]:
        """Follow, or learn; a replay that stopped before it changed anything is learned from the start."""
        reason = decision.reason
        if decision.choice is Choice.FOLLOW and decision.match is not None:
            try:
                return await self.following.follow(run, decision.match, reason)
            except DivergenceError as error:
                reason = self._after_divergence(run, error, mode)
        try:
            return await self.learning.learn(run, reason)
        except (LowBatteryError, NoLearnerError) as error:
            # where nobody can be asked, the sentence says first why somebody had to be
            error.args = (f"{reason[:400].rstrip('.')}; learning it needs more: {error}",)
            raise

    async def explain(self, goal: str, *, mode: str = "auto") -> Explanation:
        """What `handle` would do, and why; reads, but does nothing."""
        goal = check_goal(goal)
        asked = mode == "learn"
        decision = Decision(choice=Choice.LEARN, reason="--mode learn") if asked else await self.deciding.decide(goal)
        found = decision.match
        estimate = 0.0 if found is not None else await self.learning.estimate(goal)
        choice, reason = str(decision.choice), decision.reason
        if decision.choice is Choice.LEARN and mode == "follow":
            choice = "refuse"
        elif decision.choice is Choice.LEARN:
            try:
                self.economy.check_budget(estimate)
            except LowBatteryError as error:
                choice, reason = "refuse", f"{reason}; and {error}"
        return Explanation(
            goal=goal,
            decision=choice,
            reason=reason,
            trace_id=found.trace.label if found else None,
            bindings=dict(found.bindings) if found else {},
            steps=[planned_step(step) for step in found.trace.steps] if found else [],
            cost_usd=estimate,
            saved_usd=found.trace.cost_usd if found else 0.0,
            candidates=[candidate_shown(one) for one in decision.considered],
        )

    # --- deciding ------------------------------------------------------------------------------------

    async def _decided(self, run: Running, mode: str) -> Decision:
        if mode == "learn":
            decision = Decision(choice=Choice.LEARN, reason="learning was asked for")
        else:
            decision = await self.deciding.decide(run.run.goal)
        if mode == "follow" and decision.choice is Choice.LEARN:
            raise NothingToFollowError(f"no trace is proven for this goal: {decision.reason}")
        label = decision.match.trace.label if decision.match else None
        self.bus.publish(Decided(run_id=run.run.id, decision=str(decision.choice), reason=decision.reason, trace=label))
        return decision

    async def _confirmed(self, decision: Decision, mode: str, confirm: Confirm | None) -> Decision:
        assert decision.match is not None
        trace, bindings = decision.match.trace, dict(decision.match.bindings)
        shown = ", ".join(f"{name}={value}" for name, value in bindings.items())
        text = f"Replay {trace.label}{' with ' + shown if shown else ''}? ({decision.reason})"
        question = Question(text=text, trace_id=trace.label, bindings=bindings, effect=str(trace.effect))
        if confirm is not None and await confirm(question):
            return replace(decision, choice=Choice.FOLLOW, reason=f"{trace.label} was confirmed for this goal")
        if mode == "follow":
            raise NotPermittedError(f"{trace.label} needs a confirmation ({decision.reason}); add --yes to give it")
        how = "was not confirmed" if confirm is not None else "needs a confirmation nobody could give (--yes gives it)"
        return replace(decision, choice=Choice.LEARN, reason=f"{trace.label} {how}")

    def _after_divergence(self, run: Running, error: DivergenceError, mode: str) -> str:
        """A replay that has changed nothing yet may be learned from the start; any other one has failed."""
        self.bus.publish(Diverged(run_id=run.run.id, step_id=error.step_id, message=str(error)))
        if error.effects_done:
            raise DivergenceError(
                f"{error}; {error.effects_done} step{'s' * (error.effects_done > 1)} before it had changed things "
                "already, so nothing more was done: `runs show` lists them",
                step_id=error.step_id,
                expected=error.expected,
                actual=error.actual,
                effects_done=error.effects_done,
            ) from error
        if mode == "follow":
            raise error
        return f"the replay stopped before it changed anything: {error}"

    # --- ending --------------------------------------------------------------------------------------

    async def _done(self, run: Running, outputs: Mapping[str, Any]) -> Result:
        run.end(RunStatus.DONE)
        await self.runs.finish(run.run)
        self._tell_ended(run.run)
        return result_of(run.run, outputs)

    async def _failed(self, run: Running, error: BaseException) -> None:
        """Keep what is known of a run that did not end well; the error carries it out."""
        cancelled = isinstance(error, asyncio.CancelledError)
        run.update(reason=str(error) or "interrupted")
        run.end(RunStatus.INTERRUPTED if cancelled else RunStatus.FAILED)
        try:
            await self.runs.finish(run.run)
        except StorageError:
            log.warning("a failed run could not be stored", exc_info=True, extra={"action": "run_lost"})
        self._tell_ended(run.run)
        outputs = {i: s.output for i, s in zip(step_ids(run.run.steps), run.run.steps, strict=True)}
        error.result = result_of(run.run, outputs)  # type: ignore[attr-defined]

    def _tell_ended(self, run: Run) -> None:
        self.bus.publish(
            RunEnded(
                run_id=run.id,
                mode=str(run.mode),
                status=str(run.status),
                cost_usd=run.cost_usd,
                duration_s=run.duration_s,
            )
        )
