"""Learning: the model solves a goal within a reservation, and what it did becomes a trace if it can."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmos.accounts import Reservation
from llmos.errors import LearnerError, NoLearnerError, WatchdogError
from llmos.interfaces.admission import Admission
from llmos.interfaces.context import SUMMARY_TOKENS, Context
from llmos.interfaces.hearing import HURRIED, TOLD, is_hurried, is_steered
from llmos.interfaces.keeping import Keeping
from llmos.interfaces.learner import Learned, LearnTask, Thought
from llmos.interfaces.logbook import telling
from llmos.interfaces.models import Models
from llmos.interfaces.prices import Tokens
from llmos.interfaces.prompts import SYSTEM, delimited
from llmos.interfaces.recorder import Recorder
from llmos.interfaces.running import Running
from llmos.interfaces.surroundings import Surroundings
from llmos.kernel.agents import acting
from llmos.kernel.bus import EventBus, LearnerStarted, TraceRefused, TraceStored
from llmos.kernel.interrupts import Interrupts
from llmos.kernel.process import current, thinking
from llmos.kernel.scratch import Snapshot
from llmos.kernel.taint import Taint
from llmos.kernel.token_economy import TokenEconomy, estimate_cost
from llmos.kernel.watchdog import Watchdog
from llmos.memory.context_use import ContextUse
from llmos.memory.earlier import EarlierTurns
from llmos.memory.recall import Recall
from llmos.memory.runs import RunStore
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool
from llmos.settings import GUIDED, LEARNER, SUMMARY, LearnerSettings
from llmos.trace.induce import NotATrace
from llmos.trace.program import Status, Trace
from llmos.trace.run import Mode, Run, RunStatus, StepRecord, step_ids

_SURROUNDINGS_BYTES = 4_000
_WAY_ROUND = "it goes round a call that was not permitted, and nobody has looked at it yet"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """With what help, and within what limits, a goal is worked on; `first_step` numbers the first call."""

    model: str
    max_usd: float
    max_turns: int
    plan: str | None = None
    first_step: int = 0

    @property
    def mode(self) -> Mode:
        return Mode.LEARNER if self.plan is None else Mode.GUIDED

    @property
    def task(self) -> str:
        return LEARNER if self.plan is None else GUIDED

    @property
    def what(self) -> str:
        return "learning" if self.plan is None else "guided"


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Has goals solved by the learner; every run is charged, good or not.

    `discover` starts MCP servers whose tools are not known yet.
    """

    models: Models
    limits: LearnerSettings
    registry: ToolRegistry
    recall: Recall
    admission: Admission
    runs: RunStore
    economy: TokenEconomy
    bus: EventBus
    watchdog: Watchdog
    surroundings: Surroundings
    discover: Callable[[], Awaitable[None]]
    taint: Taint
    keeping: Keeping
    interrupts: Interrupts
    context_use: ContextUse
    _reserving: threading.Lock = field(default_factory=threading.Lock)

    async def learn(self, run: Running, reason: str, attempt: Attempt | None = None) -> dict[str, Any]:
        """Solve a run's goal with the model; gives the outputs by step id, answer and trace go into the run.

        Without an `attempt` nobody helps, and the learner's own limits hold.

        Raises:
            LowBatteryError: the battery can't carry the estimate; nobody was asked.
            LearnerError, WatchdogError: it was asked and did not finish; what it cost is charged.
            CallRefusedError: it ended after a call that was not permitted, and found no other way; charged likewise.
        """
        await self.discover()
        attempt = attempt or self.alone()
        self.models.check(attempt.task)
        estimate = await self.estimate(run.run.goal)
        if attempt.plan is not None:
            estimate = min(estimate, attempt.max_usd)
        recorder = self.recorder(run, attempt.first_step)
        async with self.admission.before() as before:
            operation = f"{attempt.what}: {attempt.model}"
            reservation = await asyncio.to_thread(self.reserve, run.run.id, estimate, operation, attempt.max_usd)
            run.begin(mode=attempt.mode, reason=reason, model=attempt.model)
            try:
                await run.store(self.runs)
                answer = await self._solved(run, recorder, reservation, attempt)
            finally:
                await asyncio.shield(self._settled(run, recorder, reservation))
            run.update(answer=answer, finish=recorder.finished, status=RunStatus.DONE)
            run.update(taint=self.taint.sources(run.run.id))
            trace = await self.keep(run, before)
            if recorder.refusals and isinstance(trace, Trace):
                await self._doubt(run, trace, _WAY_ROUND)
        return {i: s.output for i, s in zip(step_ids(recorder.steps), recorder.steps, strict=True) if not s.is_error}

    def alone(self, first_step: int = 0) -> Attempt:
        """The attempt of a learner that nobody helps."""
        limits = self.limits
        return Attempt(
            model=self.models.first(LEARNER),
            max_usd=limits.max_usd_per_run,
            max_turns=limits.max_turns,
            first_step=first_step,
        )

    def recorder(self, run: Running, first_step: int) -> Recorder:
        """What records the calls of a run from a number on."""
        run_id = run.run.id

        async def keep(step: StepRecord) -> None:
            await self.runs.add_step(run_id, step)

        ctx = self.surroundings.context(run_id)
        return Recorder(
            run_id=run_id,
            registry=self.registry,
            ctx=ctx,
            bus=self.bus,
            keep=keep,
            first_step=first_step,
            interrupts=self.interrupts,
            told=run.told,
        )

    def reserve(self, run_id: str, estimate_usd: float, operation: str, most_usd: float | None = None) -> Reservation:
        """Set aside what the run may cost at most; the estimate must fit before anything is asked."""
        with self._reserving:  # or another run could take what was just found to suffice
            self.economy.check_budget(estimate_usd)
            limit = self.limits.max_usd_per_run if most_usd is None else most_usd
            most = min(limit, self.economy.available_usd)
            return self.economy.reserve(most, run_id, operation)

    async def estimate(self, goal: str) -> float:
        """What learning is likely to cost, judged by similar goals learned before."""
        if not await self.runs.learner_costs(None, 1):
            return self.limits.first_estimate_usd
        history = await self.runs.learner_costs(await self.recall.embed(goal))
        return estimate_cost(history, self.limits.first_estimate_usd)

    async def _shared(self) -> str:
        """What other processes share with this one, as its model is shown it."""
        found = "" if self.surroundings.os is None else await self.surroundings.os.mounted()
        return delimited(found, secrets.token_hex(8)) if found else ""

    async def _solved(self, run: Running, recorder: Recorder, reservation: Reservation, attempt: Attempt) -> str:
        task = LearnTask(
            run_id=run.run.id,
            goal=run.run.goal,
            model=attempt.model,
            max_budget_usd=reservation.amount_usd,
            max_turns=attempt.max_turns,
            plan=attempt.plan,
            secrets=self.surroundings.settings.secrets,
            task=attempt.task,
            shared=await self._shared(),
        )
        self.bus.publish(LearnerStarted(run_id=run.run.id, model=attempt.model, reserved_usd=reservation.amount_usd))
        try:
            learned = await self.ask(task, recorder)
            run.update(model=learned.model)
            if recorder.refused is not None:
                raise recorder.refused
            if learned.fell_back:
                run.update(reason=f"{run.run.reason}; {learned.fell_back}")
            return learned.answered()
        except (LearnerError, WatchdogError) as error:
            if recorder.refused is not None and not isinstance(error, NoLearnerError):
                raise recorder.refused from error
            raise

    async def _doubt(self, run: Running, trace: Trace, why: str) -> None:
        """What this run made is followed only once a person has looked at it."""
        if trace.status is Status.TRUSTED and trace.run_id == run.run.id:
            await self.admission.traces.set_status(trace.id, Status.CANDIDATE, why)

    async def ask(self, task: LearnTask, recorder: Recorder) -> Learned:
        """Let the learner work on a task, watched; the recorder knows the bill, however it ends.

        Raises:
            LearnerError, WatchdogError: it did not finish.
        """
        agent = acting()
        task = task if agent is None else replace(task, persona=agent.persona)
        try:
            with (
                self.watchdog.watching(task.run_id) as watch,
                self.taint.steered(task.run_id),
                telling(self.bus, task.run_id),
            ):
                if recorder.rest is None or not recorder.rest.is_measured:
                    recorder.unsent_bytes += opening_bytes(task, recorder.tools)
                _works_in(self.surroundings.settings.workspace)
                recorder.watch, recorder.limit_usd = watch, task.max_budget_usd
                recorder.context = self._context(recorder)
                async with self.keeping.kept(task, recorder) as kept:
                    with thinking():
                        learned = await watch.limit(self.models.solve(kept, recorder))
        except (LearnerError, WatchdogError) as error:
            bill = error.__cause__ if isinstance(error, WatchdogError) else error
            recorder.bill(bill.cost_usd if isinstance(bill, LearnerError) else 0.0)
            raise
        finally:
            recorder.unlimited()
        recorder.bill(learned.cost_usd)
        return learned

    def _context(self, recorder: Recorder) -> Context:
        """What becomes of the model's context when it is full."""

        limit_s = self.limits.turn_timeout_s / 2  # the turn goes on after it

        async def think(prompt: str, left_usd: float) -> Thought:
            self.models.check(SUMMARY)
            model, sent = self.models.first(SUMMARY), len(prompt.encode())
            most_usd = 0.0
            with suppress(NoLearnerError):  # nobody knows the price
                tokens = Tokens(input=sent, output=SUMMARY_TOKENS, written=sent)
                most_usd = min(left_usd, self.models.most_usd(model, tokens))
            try:
                async with asyncio.timeout(limit_s):
                    return await self.models.think(
                        prompt, max_tokens=SUMMARY_TOKENS, model=model, max_budget_usd=left_usd, task=SUMMARY
                    )
            except TimeoutError:
                raise LearnerError(f"a summary took more than {limit_s:g} s", cost_usd=most_usd) from None
            except asyncio.CancelledError:
                recorder.bill(recorder.cost_usd + most_usd)
                raise

        return Context(
            limits=self.limits,
            think=think,
            earlier=EarlierTurns(encode=self.recall.encode),
            use=self.context_use,
            unsent_bytes=lambda: recorder.unsent_bytes,
        )

    async def _settled(self, run: Running, recorder: Recorder, reservation: Reservation) -> None:
        """Charge what is known of the bill, whatever became of the run, and keep the steps that were taken."""
        what = "guided" if run.run.mode is Mode.GUIDED else "learned"
        await asyncio.to_thread(self.economy.settle, reservation, recorder.cost_usd, f"{what}: {run.run.model}")
        extra_usd = self.surroundings.spent(run.run.id)
        run.update(steps=recorder.steps, cost_usd=run.run.cost_usd + recorder.cost_usd + extra_usd)
        await self.context_use.store()

    async def keep(self, run: Running, before: Snapshot | None, recorded: Run | None = None) -> Trace | NotATrace:
        """Turn the finished run, or what of it counts, into a stored trace, or say why it is none."""
        told = await self.interrupts.told(run.run.id)
        if is_steered(told):
            trace: Trace | NotATrace = NotATrace(reason=TOLD)
        else:
            trace = await self.admission.admit(recorded or run.run, before)
        if isinstance(trace, NotATrace):
            self.bus.publish(TraceRefused(run_id=run.run.id, reason=trace.reason))
            run.update(reason=f"{run.run.reason}; not kept as a trace: {trace.reason}")
            run.notice = f"not kept as a trace: {trace.reason}" if trace.is_urgent else run.notice
            return trace
        if is_hurried(told):
            await self._doubt(run, trace, HURRIED)
        run.update(trace_id=trace.id, trace_version=trace.version)
        if trace.reason:
            run.update(reason=f"{run.run.reason}; {trace.label}: {trace.reason}")
        self.bus.publish(TraceStored(run_id=run.run.id, trace=trace.label, status=str(trace.status)))
        return trace


def opening_bytes(task: LearnTask, tools: Sequence[Tool]) -> int:
    """How long the first request is: instructions, tools and task, and what a client says of its surroundings."""
    described = "".join(f"{tool.name}{tool.description}{json.dumps(tool.schema)}" for tool in tools)
    return len(f"{SYSTEM}{task.prompt}{described}".encode()) + _SURROUNDINGS_BYTES


def _works_in(workspace: Path) -> None:
    process = current()
    if process is not None:
        process.workspace = workspace
