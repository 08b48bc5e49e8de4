"""The way of a goal: recall, decide, then follow, ask or learn; every cent and every effect accounted for."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.accounts import Reservation
from llmos.errors import (
    DivergenceError,
    LearnerError,
    LLMOSError,
    LowBatteryError,
    NothingToFollowError,
    NotPermittedError,
    StaleTraceError,
)
from llmos.interfaces.learner import Learner, LearnTask, Recorder
from llmos.interfaces.results import Confirm, Explanation, Question, Result, step_summary
from llmos.interfaces.surroundings import Surroundings
from llmos.kernel.bus import (
    Decided,
    Diverged,
    EventBus,
    GoalAccepted,
    LearnerStarted,
    RunEnded,
    TraceRefused,
    TraceStored,
)
from llmos.kernel.replay import Follower
from llmos.kernel.token_economy import TokenEconomy, estimate_cost
from llmos.kernel.watchdog import Watchdog
from llmos.memory.recall import Recall
from llmos.memory.runs import RunStore
from llmos.memory.traces import TraceStore
from llmos.plugins.registry import ToolRegistry
from llmos.settings import LearnerSettings
from llmos.trace.decide import Choice, Considered, Decision, consider, decide
from llmos.trace.induce import NotATrace, ToolFacts, induce, step_ids
from llmos.trace.lex import check_goal
from llmos.trace.match import Match, Miss
from llmos.trace.program import Status, Trace
from llmos.trace.run import Mode, Run, RunStatus, StepRecord
from llmos.trace.values import unparse

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dispatcher:
    """Carries goals out. It alone knows both the kernel's side and the memory's."""

    recall: Recall
    traces: TraceStore
    runs: RunStore
    registry: ToolRegistry
    economy: TokenEconomy
    bus: EventBus
    watchdog: Watchdog
    learner: Learner
    limits: LearnerSettings
    surroundings: Surroundings

    async def handle(self, goal: str, *, mode: str = "auto", confirm: Confirm | None = None) -> Result:
        """One goal from top to bottom.

        Raises:
            LLMOSError: the goal was refused or failed; `.result` holds what is known of the run.
        """
        goal = check_goal(goal)
        run = _Running(
            run=Run(id=uuid.uuid4().hex[:12], goal=goal, mode=Mode.FOLLOWER, started_at=self.surroundings.now())
        )
        self.bus.publish(GoalAccepted(run_id=run.run.id, goal=goal))
        try:
            decision = await self._decided(run, mode)
            if decision.choice is Choice.CONFIRM:
                decision = await self._confirmed(decision, mode, confirm)
            if decision.choice is Choice.FOLLOW and decision.match is not None:
                try:
                    return await self._follow(run, decision.match, decision.reason)
                except DivergenceError as error:
                    reason = await self._after_divergence(error, decision.match.trace, mode)
            else:
                reason = decision.reason
            return await self._learn(run, reason)
        except (Exception, asyncio.CancelledError) as error:  # a run is a border: whatever ended it is kept with it
            if not isinstance(error, LLMOSError | asyncio.CancelledError):
                log.exception("a run broke", extra={"action": "run_broke", "run_id": run.run.id})
            await asyncio.shield(self._failed(run, error))
            raise

    async def explain(self, goal: str, *, mode: str = "auto") -> Explanation:
        """What `handle` would do, and why; reads, but does nothing."""
        goal = check_goal(goal)
        considered = await self._considered(goal) if mode != "learn" else []
        decision = decide(considered) if mode != "learn" else Decision(choice=Choice.LEARN, reason="--mode learn")
        found = decision.match
        estimate = 0.0 if found is not None else await self._estimate(goal)
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
            steps=[_planned_step(step) for step in found.trace.steps] if found else [],
            cost_usd=estimate,
            saved_usd=found.trace.cost_usd if found else 0.0,
            candidates=[_candidate(one) for one in decision.considered],
        )

    # --- deciding ------------------------------------------------------------------------------------

    async def _decided(self, run: _Running, mode: str) -> Decision:
        if mode == "learn":
            decision = Decision(choice=Choice.LEARN, reason="learning was asked for")
        else:
            decision = decide(await self._considered(run.run.goal))
        if mode == "follow" and decision.choice is Choice.LEARN:
            raise NothingToFollowError(f"no trace is proven for this goal: {decision.reason}")
        label = decision.match.trace.label if decision.match else None
        self.bus.publish(Decided(run_id=run.run.id, decision=str(decision.choice), reason=decision.reason, trace=label))
        return decision

    async def _considered(self, goal: str) -> list[Considered]:
        """What recall finds, cheapest way first; the next way is only gone where nothing was proven."""
        considered: list[Considered] = []
        for how in ("exact", "skeleton", "semantic"):
            for trace, cosine in await self._recalled(how, goal):
                if any(one.trace.id == trace.id for one in considered):
                    continue
                negatives = frozenset(await self.traces.negatives(trace.id))
                world = self.surroundings.world
                considered.append(consider(goal, trace, how=how, world=world, cosine=cosine, negatives=negatives))
            if any(isinstance(one.outcome, Match) for one in considered):
                break
        return considered

    async def _recalled(self, how: str, goal: str) -> list[tuple[Trace, float | None]]:
        if how == "semantic":
            return [(found.trace, found.cosine) for found in await self.recall.semantic(goal)]
        found = await (self.recall.exact(goal) if how == "exact" else self.recall.skeleton(goal))
        return [(trace, None) for trace in found]

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

    # --- following -----------------------------------------------------------------------------------

    async def _follow(self, run: _Running, found: Match, reason: str) -> Result:
        trace = found.trace
        run.begin(mode=Mode.FOLLOWER, trace=trace, bindings=found.bindings, reason=reason)
        follower = Follower(
            trace=trace,
            bindings=found.bindings,
            registry=self.registry,
            ctx=self.surroundings.context(run.run.id),
            bus=self.bus,
            env=await self.surroundings.env(trace),
            secret=self.surroundings.secret,
        )
        try:
            follower.preflight()
            await self._stored(run)
            replayed = await follower.run()
        except StaleTraceError as error:
            await self.traces.set_status(trace.id, Status.QUARANTINED, str(error))
            raise
        except DivergenceError:
            await self.traces.record_use(trace.id, False, 0.0)
            raise
        finally:
            cost_usd = run.run.cost_usd + self.surroundings.spent(run.run.id)
            run.run = replace(run.run, steps=tuple(follower.records), cost_usd=cost_usd)
        saved_usd = max(0.0, trace.cost_usd - run.run.cost_usd)
        await asyncio.to_thread(self.economy.book_saving, run.run.id, saved_usd, f"replay of {trace.label}")
        await self.traces.record_use(trace.id, True, saved_usd)
        if trace.status is Status.CANDIDATE:
            await self.traces.set_status(trace.id, Status.TRUSTED, "confirmed, and the replay went well")
        run.run = replace(run.run, answer=replayed.answer, saved_usd=saved_usd)
        return await self._done(run, replayed.outputs)

    async def _after_divergence(self, error: DivergenceError, trace: Trace, mode: str) -> str:
        """A replay that has changed nothing yet may be learned from the start; any other one has failed."""
        self.bus.publish(Diverged(step_id=error.step_id, message=str(error)))
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

    # --- learning ------------------------------------------------------------------------------------

    async def _learn(self, run: _Running, reason: str) -> Result:
        run.begin(mode=Mode.LEARNER, reason=reason, model=self.limits.model)
        estimate = await self._estimate(run.run.goal)
        reservation = await asyncio.to_thread(self._reserve, run.run.id, estimate)
        recorder = Recorder(
            run_id=run.run.id, registry=self.registry, ctx=self.surroundings.context(run.run.id), bus=self.bus
        )
        try:
            await self.runs.start(run.run) if not run.stored else None
            run.stored = True
            answer = await self._solved(run, recorder, reservation)
        except LearnerError as error:
            recorder.bill(error.cost_usd)
            raise
        finally:
            await asyncio.shield(self._settled(run, recorder, reservation))
        run.run = replace(run.run, answer=answer, finish=recorder.finished, status=RunStatus.DONE)
        await self._admit(run)
        outputs = {i: s.output for i, s in zip(step_ids(recorder.steps), recorder.steps, strict=True) if not s.is_error}
        return await self._done(run, outputs)

    def _recorder(self, run_id: str) -> Recorder:
        async def keep(step: StepRecord) -> None:
            await self.runs.add_step(run_id, step)

        ctx = self.surroundings.context(run_id)
        return Recorder(run_id=run_id, registry=self.registry, ctx=ctx, bus=self.bus, keep=keep)

    async def _stored(self, run: _Running) -> None:
        if not run.stored:
            await self.runs.start(run.run)
            run.stored = True

    def _reserve(self, run_id: str, estimate_usd: float) -> Reservation:
        """Set aside what the run may cost at most; the estimate must fit before anything is asked."""
        self.economy.check_budget(estimate_usd)
        most = min(self.limits.max_usd_per_run, self.economy.available_usd)
        return self.economy.reserve(most, run_id, f"learning: {self.limits.model}")

    async def _estimate(self, goal: str) -> float:
        """What learning is likely to cost, judged by similar goals learned before."""
        if not await self.runs.learner_costs(None, 1):
            return self.limits.first_estimate_usd
        history = await self.runs.learner_costs(await self.recall.embed(goal))
        return estimate_cost(history, self.limits.first_estimate_usd)

    async def _solved(self, run: _Running, recorder: Recorder, reservation: Reservation) -> str:
        task = LearnTask(
            run_id=run.run.id,
            goal=run.run.goal,
            model=self.limits.model,
            max_budget_usd=reservation.amount_usd,
            max_turns=self.limits.max_turns,
        )
        self.bus.publish(
            LearnerStarted(run_id=run.run.id, model=self.limits.model, reserved_usd=reservation.amount_usd)
        )
        with self.watchdog.watching(run.run.id) as watch:
            recorder.watch = watch
            learned = await watch.limit(self.learner.solve(task, recorder))
        recorder.bill(learned.cost_usd)
        run.run = replace(run.run, model=learned.model)
        if not learned.answer:
            raise LearnerError("the learner ended without an answer", cost_usd=learned.cost_usd)
        return learned.answer

    async def _settled(self, run: _Running, recorder: Recorder, reservation: Reservation) -> None:
        """Charge what is known of the bill, whatever became of the run, and keep the steps that were taken."""
        await asyncio.to_thread(self.economy.settle, reservation, recorder.cost_usd, f"learned: {run.run.model}")
        extra_usd = self.surroundings.spent(run.run.id)
        run.run = replace(run.run, steps=recorder.steps, cost_usd=run.run.cost_usd + recorder.cost_usd + extra_usd)

    async def _admit(self, run: _Running) -> None:
        """Turn the finished run into a stored trace, or say why it is none."""
        facts = {tool.name: tool_facts(tool) for tool in self.registry}
        trace = induce(run.run, facts, self.surroundings.constants())
        if isinstance(trace, NotATrace):
            self.bus.publish(TraceRefused(run_id=run.run.id, reason=trace.reason))
            run.run = replace(run.run, reason=f"{run.run.reason}; not kept as a trace: {trace.reason}")
            return
        stored = await self.traces.add(trace)
        run.run = replace(run.run, trace_id=stored.id, trace_version=stored.version)
        self.bus.publish(TraceStored(run_id=run.run.id, trace=stored.label, status=str(stored.status)))

    # --- ending --------------------------------------------------------------------------------------

    async def _done(self, run: _Running, outputs: Mapping[str, Any]) -> Result:
        run.end(RunStatus.DONE)
        await self.runs.finish(run.run)
        self._tell_ended(run.run)
        return result_of(run.run, outputs)

    async def _failed(self, run: _Running, error: BaseException) -> None:
        """Keep what is known of a run that did not end well; the error carries it out."""
        cancelled = isinstance(error, asyncio.CancelledError)
        run.run = replace(run.run, reason=str(error) or "interrupted")
        run.end(RunStatus.INTERRUPTED if cancelled else RunStatus.FAILED)
        await self.runs.finish(run.run)
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


@dataclass(kw_only=True)
class _Running:
    """A run on its way; its record is replaced as things become known."""

    run: Run
    stored: bool = False
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

    def end(self, status: RunStatus) -> None:
        self.run = replace(self.run, status=status, duration_s=time.perf_counter() - self.started_s)


def tool_facts(tool: Any) -> ToolFacts:
    """What induction must know of a registered tool."""
    properties: Mapping[str, Any] = tool.schema.get("properties", {})
    enums = {name: tuple(map(str, schema["enum"])) for name, schema in properties.items() if schema.get("enum")}
    return ToolFacts(
        name=tool.name,
        effect=tool.effect,
        version=tool.version,
        code_params=frozenset(tool.code_params),
        payload_params=frozenset(tool.payload_params),
        enums=enums,
    )


def result_of(run: Run, outputs: Mapping[str, Any]) -> Result:
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
    )


def _planned_step(step: Any) -> dict[str, Any]:
    return {"id": step.id, "tool": step.tool, "args": {name: unparse(expr) for name, expr in step.args.items()}}


def _candidate(one: Considered) -> dict[str, Any]:
    shown: dict[str, Any] = {"trace_id": one.trace.label, "how": one.how, "cosine": one.cosine}
    outcome = one.outcome
    if isinstance(outcome, Miss):
        refused = {"rule": outcome.rule, "words": list(outcome.words), "message": outcome.message}
        return shown | {"template": outcome.template, "fits": False} | refused
    return shown | {"template": outcome.template, "fits": True, "rule": "", "words": [], "message": ""}
