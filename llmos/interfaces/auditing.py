"""Auditing: now and then the learner does a replay's goal again, so that what is known of traces is not only praise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from llmos.accounts import Reservation
from llmos.errors import LearnerError, LowBatteryError, WatchdogError
from llmos.interfaces.feedback import Feedback
from llmos.interfaces.learner import LearnTask
from llmos.interfaces.learning import Learning
from llmos.interfaces.recorder import Recorder
from llmos.interfaces.running import Running
from llmos.kernel.bus import Audited
from llmos.memory.outcomes import Judge
from llmos.plugins.registry import ToolRegistry
from llmos.settings import LEARNER
from llmos.trace.comparing import Audit, compared
from llmos.trace.match import Match
from llmos.trace.program import Effect

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Auditing:
    """Has a random share of replays that changed nothing done again, with tools that can't change anything either.

    `chance` gives a number from 0 to 1 for each replay; one below `rate` is audited. The battery pays as for learning;
    without money there is no audit.
    """

    rate: float
    chance: Callable[[], float]
    learning: Learning
    feedback: Feedback

    async def audit(self, run: Running, found: Match) -> None:
        """Audit a replay that went well, if it is its turn; what came of it goes into the run."""
        if not self._is_due(run):
            return
        model = self.learning.models.first(LEARNER)
        try:
            self.learning.models.check()
            estimate = await self.learning.estimate(run.run.goal)
            reservation = await asyncio.to_thread(self.learning.reserve, run.run.id, estimate, f"auditing: {model}")
        except (LowBatteryError, LearnerError) as error:
            log.info("no audit: %s", error, extra={"action": "no_audit", "run_id": run.run.id})
            return
        verdict, said, cost_usd = await self._done_again(run, reservation)
        run.audit = str(verdict)
        told = f"audited by {model} for ${cost_usd:.4f}: {verdict}{f' ({said})' if said else ''}"
        run.update(reason=f"{run.run.reason}; {told}")
        await self._judged(run, found, verdict, said)
        self.learning.bus.publish(Audited(run_id=run.run.id, verdict=str(verdict), message=told, cost_usd=cost_usd))

    def _is_due(self, run: Running) -> bool:
        if self.rate <= 0 or self.feedback.is_frozen or self.chance() >= self.rate:
            return False
        return all(step.effect.rank <= Effect.READ.rank for step in run.run.steps)

    async def _done_again(self, run: Running, reservation: Reservation) -> tuple[Audit, str, float]:
        """The verdict, the sentence about it, and what it cost; every cent is settled, whatever happens."""
        recorder = Recorder(
            run_id=run.run.id,
            registry=readers(self.learning.registry),
            ctx=self.learning.surroundings.context(run.run.id),
            bus=self.learning.bus,
        )
        try:
            answer = await self._solved(run, recorder, reservation)
        except (LearnerError, WatchdogError) as error:
            return Audit.FAILED, str(error).rstrip("."), recorder.cost_usd
        finally:
            settle = self.learning.economy.settle
            await asyncio.shield(asyncio.to_thread(settle, reservation, recorder.cost_usd, "audited"))
            extra_usd = self.learning.surroundings.spent(run.run.id)
            run.update(cost_usd=run.run.cost_usd + recorder.cost_usd + extra_usd)
        replayed = run.run.answer or ""
        verdict = compared(run.run.goal, replayed, run.run.steps, answer, recorder.steps)
        said = f"the learner's answer is {_short(answer)}" if verdict is Audit.DISAGREED else ""
        return verdict, said, recorder.cost_usd

    async def _solved(self, run: Running, recorder: Recorder, reservation: Reservation) -> str:
        limits = self.learning.limits
        task = LearnTask(
            run_id=run.run.id,
            goal=run.run.goal,
            model=self.learning.models.first(LEARNER),
            max_budget_usd=reservation.amount_usd,
            max_turns=limits.max_turns,
            secrets=self.learning.surroundings.settings.secrets,
        )
        return (await self.learning.ask(task, recorder)).answered()

    async def _judged(self, run: Running, found: Match, verdict: Audit, said: str) -> None:
        if verdict is Audit.AGREED:
            await self.feedback.outcomes.judge(found.trace.id, run.run.id, ok=True, by=Judge.AUDIT)
        elif verdict is Audit.DISAGREED:
            reason = f"an audit (run {run.run.id}) disagreed: {said}"
            await self.feedback.rejected(run.run.goal, found.trace.id, reason, run_id=run.run.id, by=Judge.AUDIT)


def readers(registry: ToolRegistry) -> ToolRegistry:
    """The tools that change nothing."""
    kept = ToolRegistry()
    for tool in registry:
        if tool.effect.rank <= Effect.READ.rank:
            kept.register(tool)
    return kept


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 120 else flat[:119] + "…")
