"""Guiding: a near trace is at hand, so only what differs is paid for.

Either one value that a model had written is written anew by one call and everything else is replayed, or the learner
gets the trace as a plan and works within smaller limits. What fails before it changed anything falls back to the
learner alone, once; both bills are booked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmos.errors import (
    DivergenceError,
    LearnerError,
    LowBatteryError,
    NoLearnerError,
    StaleTraceError,
    WatchdogError,
)
from llmos.interfaces.learning import Attempt, Learning
from llmos.interfaces.results import Confirm, Question, planned_step
from llmos.interfaces.rewriting import rewriting_tools
from llmos.interfaces.running import Running
from llmos.interfaces.surroundings import Surroundings
from llmos.kernel.bus import EventBus
from llmos.kernel.replay import Follower
from llmos.kernel.scratch import Snapshot
from llmos.kernel.token_economy import TokenEconomy
from llmos.memory.runs import RunStore
from llmos.memory.traces import TraceStore
from llmos.plugins.registry import ToolRegistry
from llmos.settings import GUIDED, LearnerSettings
from llmos.trace.aligning import alignment
from llmos.trace.decide import Considered, Decision
from llmos.trace.guided import Guide, guide
from llmos.trace.match import Match, Miss, World
from llmos.trace.plans import Stopped, nearness, plan_of
from llmos.trace.program import REWRITE, Effect, Provenance, Status, Trace
from llmos.trace.run import Mode, RunStatus

_UNSEEN = "one value in it was written anew by a model, and nobody has looked at it yet"
_NO_HELP = frozenset({"rejected", "error"})


@dataclass(frozen=True, kw_only=True)
class Help:
    """What a near trace offers a goal: a value to write anew, or a plan."""

    trace: Trace
    guide: Guide | None = None
    plan: str = ""

    @property
    def how(self) -> str:
        if self.guide is None:
            return f"{self.trace.label} is the learner's plan"
        leaf = self.guide.leaf
        return f"{self.trace.label} guides it: {leaf.param} of {leaf.step.tool} is written anew, the rest is replayed"


@dataclass(frozen=True, kw_only=True)
class Guiding:
    """Solves goals with the help of near traces where there are any; else they are learned as before."""

    learning: Learning
    limits: LearnerSettings
    registry: ToolRegistry
    traces: TraceStore
    runs: RunStore
    economy: TokenEconomy
    bus: EventBus
    surroundings: Surroundings
    world: World
    discover: Callable[[str], Awaitable[None]]

    @property
    def model(self) -> str:
        return self.learning.models.first(GUIDED)

    async def solve(
        self,
        run: Running,
        decision: Decision,
        reason: str,
        *,
        confirm: Confirm | None = None,
        declined: bool = False,
        diverged: DivergenceError | None = None,
    ) -> dict[str, Any]:
        """Reach a goal no trace is followed for.

        `declined` says that the decision's match was asked about and is not meant, `diverged` how its replay stopped
        before it changed anything.

        Raises:
            LowBatteryError, NoLearnerError: nobody can be asked.
            DivergenceError: a guided replay stopped after it had changed something.
            LearnerError, WatchdogError: the learner was asked and did not finish.
        """
        found = self.help(run.run.goal, decision, declined=declined, diverged=diverged)
        if found is None:
            return await self.learning.learn(run, reason)
        estimate_usd = await self.learning.estimate(run.run.goal)
        if found.guide is not None and not await self._may_rewrite(run.run.goal, found.guide, confirm):
            found = replace(found, guide=None)
        try:
            if found.guide is not None:
                return await self._rewritten(run, found.guide, reason, estimate_usd)
            return await self._planned(run, found, reason, estimate_usd)
        except (LearnerError, WatchdogError, DivergenceError) as error:
            self._check_untouched(run, error)
            reason = f"{reason}; guided by {found.trace.label} it failed: {error}"
            return await self.learning.learn(run, reason, self.learning.alone(first_step=len(run.run.steps)))

    def help(
        self,
        goal: str,
        decision: Decision,
        *,
        declined: bool = False,
        diverged: DivergenceError | None = None,
    ) -> Help | None:
        """The near trace that helps most, and how; None where there is none, or guiding is off."""
        if not self.learning.models.wanted(GUIDED):
            return None
        if diverged is not None and decision.match is not None:
            return self._after(goal, decision.match.trace, diverged)
        refused = decision.match.trace.id if declined and decision.match is not None else None
        near = [one for one in decision.considered if _may_help(one) and one.trace.id != refused]
        found = self._guide(goal, [one.trace for one in near])
        if found is not None:
            return Help(trace=found.trace, guide=found, plan=plan_of(goal, found.trace))
        trace = self._nearest(goal, decision, near, refused)
        return Help(trace=trace, plan=plan_of(goal, trace)) if trace is not None else None

    def rewrites(self, goal: str, decision: Decision, diverged: DivergenceError) -> bool:
        """Whether a replay that stopped before it changed anything can be done again with one value written anew."""
        helped = self.help(goal, decision, diverged=diverged)
        return helped is not None and helped.guide is not None

    def _after(self, goal: str, trace: Trace, diverged: DivergenceError) -> Help:
        stopped = Stopped(step_id=diverged.step_id, expected=diverged.expected, actual=diverged.actual)
        found = None if isinstance(diverged, StaleTraceError) else guide(goal, trace, self.world)
        return Help(trace=trace, guide=found, plan=plan_of(goal, trace, stopped))

    def _guide(self, goal: str, traces: Sequence[Trace]) -> Guide | None:
        """The guide with the fewest other words; none where two that differ are as good."""
        found = [one for trace in traces if (one := guide(goal, trace, self.world)) is not None]
        ranked = sorted(found, key=lambda one: (len(one.changed), one.trace.status is not Status.TRUSTED))
        best = [one for one in ranked if len(one.changed) == len(ranked[0].changed)]
        trusted = [one for one in best if one.trace.status is Status.TRUSTED] or best
        return trusted[0] if trusted and all(one.program.steps == trusted[0].program.steps for one in trusted) else None

    @staticmethod
    def _nearest(goal: str, decision: Decision, near: Sequence[Considered], refused: str | None) -> Trace | None:
        """The decision's own plan, else the trace whose words cover the goal best."""
        if decision.plan is not None and decision.plan.id != refused:
            return decision.plan
        near = [one for one in near if one.trace.provenance is not Provenance.DEMONSTRATION]
        ranked = sorted(near, key=lambda one: (-nearness(goal, one.trace), -(one.cosine or 0.0)))
        return ranked[0].trace if ranked and nearness(goal, ranked[0].trace) else None

    def price(self, trace: Trace) -> float:
        """What the model calls of a trace, or of a guided program, cost, roughly; 0 without any."""
        rewrites = any(step.tool == REWRITE for step in trace.calls)
        return self.surroundings.thinking_usd(trace, self.model if rewrites else None)

    def silent(self, trace: Trace) -> str:
        """Why the model calls of a trace could not be made; '' if they could, or there are none."""
        try:
            self.surroundings.check_thinking(trace)
        except (NoLearnerError, LowBatteryError) as error:
            return str(error).rstrip(".")
        return ""

    @staticmethod
    def shown(decision: Decision, helped: Help | None) -> Match | None:
        """What would be replayed: the match, or the program around the new value."""
        if decision.match is not None:
            return decision.match
        return helped.guide.found if helped is not None and helped.guide is not None else None

    # --- one value written anew ----------------------------------------------------------------------

    async def _may_rewrite(self, goal: str, found: Guide, confirm: Confirm | None) -> bool:
        """Whether the replay around the new value needs no agreement, or a person gives it."""
        trace, program = found.trace, found.program
        if trace.status is Status.TRUSTED and program.effect.rank <= Effect.WRITE.rank:
            return True
        if confirm is None:
            return False
        bindings = dict(found.found.bindings)
        shown = ", ".join(f"{name}={value}" for name, value in bindings.items())
        price_usd = self.price(program)
        text = (
            f"Replay {trace.label}{' with ' + shown if shown else ''} and have {found.leaf.param} of "
            f"{found.leaf.step.tool} written anew for about ${price_usd:.2f}?"
        )
        asked = Question(
            text=text,
            trace_id=trace.label,
            bindings=bindings,
            effect=str(program.effect),
            template=program.goals[0],
            alignment=tuple(alignment(goal, program, program.goals[0], bindings)),
            is_proven=not found.changed,
            steps=tuple(planned_step(step) for step in program.steps),
        )
        return bool(await confirm(asked))

    async def _rewritten(self, run: Running, found: Guide, reason: str, estimate_usd: float) -> dict[str, Any]:
        """Replay a guided program; its one model call comes before anything is changed."""
        program, run_id = found.program, run.run.id
        for step in program.calls:
            if step.tool != REWRITE and step.tool not in self.registry:
                await self.discover(step.tool)
        self.surroundings.check_thinking(program)
        told = f"{reason}; guided by {found.trace.label}: {found.leaf.param} of {found.leaf.step.tool} written anew"
        run.begin(mode=Mode.GUIDED, reason=told, bindings=found.found.bindings, model=self.model)
        ctx = self.surroundings.context(run_id)
        follower = Follower(
            trace=program,
            bindings=found.found.bindings,
            registry=rewriting_tools(self.registry, found, run.run.goal, model=self.model),
            ctx=ctx,
            bus=self.bus,
            env=await self.surroundings.env(program),
            secret=self.surroundings.secret,
        )
        async with self.learning.admission.before() as before:
            try:
                follower.preflight()
                await run.store(self.runs)
                replayed = await follower.run()
            finally:
                spent_usd = self.surroundings.spent(run_id)
                run.update(steps=tuple(follower.records), cost_usd=run.run.cost_usd + spent_usd)
            run.update(answer=replayed.answer, status=RunStatus.DONE)
            run.update(taint=self.learning.taint.sources(run_id))
            await self._book(run, found.trace, estimate_usd)
            await self._keep(run, before)
        return {name: output for name, output in replayed.outputs.items() if name != REWRITE}

    async def _keep(self, run: Running, before: Snapshot | None) -> None:
        """Admit what was done as if the value had been there; the trace waits for somebody to look at it."""
        steps = tuple(step for step in run.run.steps if step.tool != REWRITE)
        trace = await self.learning.keep(run, before, replace(run.run, steps=steps))
        if isinstance(trace, Trace) and trace.status is Status.TRUSTED and trace.run_id == run.run.id:
            await self.traces.set_status(trace.id, Status.CANDIDATE, _UNSEEN)

    # --- a plan for the learner ----------------------------------------------------------------------

    async def _planned(self, run: Running, found: Help, reason: str, estimate_usd: float) -> dict[str, Any]:
        attempt = Attempt(
            model=self.model,
            max_usd=min(self.limits.guided_max_usd, self.limits.max_usd_per_run),
            max_turns=min(self.limits.guided_max_turns, self.limits.max_turns),
            plan=found.plan,
        )
        if found.trace.status is not Status.TRUSTED and found.trace.run_id is not None:
            await self.learning.taint.inherit(run.run.id, found.trace.run_id)
        outputs = await self.learning.learn(run, f"{reason}; guided by {found.trace.label}", attempt)
        await self._book(run, found.trace, estimate_usd)
        return outputs

    # --- both ----------------------------------------------------------------------------------------

    async def _book(self, run: Running, trace: Trace, estimate_usd: float) -> None:
        """Say in the ledger and in the run what learning from nothing was estimated at."""
        saved_usd = max(0.0, estimate_usd - run.run.cost_usd)
        operation = f"guided by {trace.label}: learning was estimated at ${estimate_usd:.4f}"
        await asyncio.to_thread(self.economy.book_saving, run.run.id, saved_usd, operation)
        run.update(saved_usd=saved_usd, reason=f"{run.run.reason}; learning was estimated at ${estimate_usd:.4f}")
        run.estimate_usd = estimate_usd

    @staticmethod
    def _check_untouched(run: Running, error: LearnerError | WatchdogError | DivergenceError) -> None:
        """Raise the error itself unless the learner may start over: somebody can be asked, and nothing was changed."""
        acted = sum(step.may_have_acted for step in run.run.steps)
        if isinstance(error, NoLearnerError):
            raise error
        if isinstance(error, DivergenceError):
            if error.effects_done:
                raise error
            return
        if acted:
            error.args = (
                f"{error}; {acted} step{'s' * (acted > 1)} before that had changed things already, so nothing more "
                "was done: `runs show` lists them",
            )
            raise error


def _may_help(one: Considered) -> bool:
    return not (isinstance(one.outcome, Miss) and one.outcome.rule in _NO_HELP)
