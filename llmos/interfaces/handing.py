"""Handing over: where a replay diverges the learner goes on from there, and what was done is not done again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llmos.accounts import Reservation
from llmos.errors import (
    DivergenceError,
    LearnerError,
    LLMOSError,
    LowBatteryError,
    NoLearnerError,
    NotFoundError,
    StaleTraceError,
    WatchdogError,
)
from llmos.interfaces.learner import LearnTask
from llmos.interfaces.learning import Learning
from llmos.interfaces.prompts import delimited
from llmos.interfaces.rejoining import Takeover as Session
from llmos.interfaces.running import Running, unable
from llmos.interfaces.undoing import Undoing
from llmos.kernel.bus import HandedOver, LearnerStarted
from llmos.kernel.images import Images
from llmos.kernel.once import Once, due_calls
from llmos.kernel.process import current
from llmos.kernel.replay import Follower
from llmos.kernel.restore import put_back
from llmos.kernel.resuming import Resuming
from llmos.kernel.scratch import Content, Snapshot
from llmos.kernel.undo import UndoPlan
from llmos.memory.runs import RunStore
from llmos.plugins.registry import ToolRegistry
from llmos.settings import GUIDED, LEARNER, LearnerSettings
from llmos.trace.effects import FileKind
from llmos.trace.plans import cut, shown
from llmos.trace.program import Effect, Trace
from llmos.trace.run import Handover, Mode, Origin, RunStatus, StepRecord, step_ids
from llmos.trace.takeover import Takeover, masked, told
from llmos.trace.values import SecretRef, UnboundError, references

_SHOWN = 500


@dataclass(frozen=True, kw_only=True)
class HandingOver:
    """Lets the learner go on where a replay stopped, once in a run."""

    learning: Learning
    limits: LearnerSettings
    registry: ToolRegistry
    runs: RunStore
    undoing: Undoing

    @property
    def model(self) -> str:
        return self.learning.models.first(self._task)

    @property
    def _task(self) -> str:
        return GUIDED if self.learning.models.wanted(GUIDED) else LEARNER

    @staticmethod
    def has_begun(run: Running, error: DivergenceError) -> bool:
        """Whether a replay got as far as its first call, with the tools it was made for."""
        return run.follower is not None and bool(run.follower.records) and not isinstance(error, StaleTraceError)

    async def take_over(self, run: Running, error: DivergenceError, reason: str) -> dict[str, Any]:
        """Have the learner go on; gives the outputs by step id, answer and trace go into the run.

        Raises:
            LowBatteryError, NoLearnerError: nobody can be asked, and nothing was changed.
            DivergenceError: nobody can be asked, and the replay had changed something.
            LearnerError, WatchdogError: the learner was asked and did not finish.
        """
        assert run.follower is not None
        follower = run.follower
        done = tuple(replace(step, origin=step.origin or Origin.REPLAYED) for step in follower.records)
        session = self._session(run, Resuming(follower=follower), done)
        estimate_usd = await self.learning.estimate(run.run.goal)
        least_usd, most_usd = min(estimate_usd, self._most_usd), self._most_usd
        with _told_of(error):
            await self.learning.discover()
            self.learning.models.check(self._task)
            self.learning.economy.check_budget(least_usd)
        async with self.learning.admission.before() as before:
            if before is not None:
                await self._rewind(run, follower, before)
            with _told_of(error):
                reservation = await asyncio.to_thread(
                    self.learning.reserve, run.run.id, least_usd, f"taking over: {self.model}", most_usd
                )
            await self._carried_on(run, session, error, reason, reservation)
            run.update(taint=self.learning.taint.sources(run.run.id))
            await self.book(run, follower.trace, estimate_usd)
            await self.learning.keep(run, before, run.run.recording)
        made = [step for step in run.run.recording.steps if not step.is_error]
        return {name: step.output for name, step in zip(step_ids(made), made, strict=True)}

    @property
    def _most_usd(self) -> float:
        full = self.limits.max_usd_per_run
        return full if self._task == LEARNER else min(self.limits.guided_max_usd, full)

    @property
    def _most_turns(self) -> int:
        full = self.limits.max_turns
        return full if self._task == LEARNER else min(self.limits.guided_max_turns, full)

    async def _rewind(self, run: Running, follower: Follower, before: Snapshot) -> None:
        """Make a copy of the workspace as it is now one of as it was before the replay, as far as the journal tells."""
        if not any(step.effect.changes_world for step in follower.records):
            return
        try:
            plan = await self.undoing.plan(run.run.id)
        except NotFoundError:
            return  # it was about to change something, and did not
        except LLMOSError as error:
            await asyncio.to_thread(before.rewind, {}, _unknown(str(error)))
            return
        odd = [one for one in plan.restore if one.before.kind not in (FileKind.FILE, FileKind.ABSENT)]
        why = [*plan.beyond, *(one.why for one in plan.conflicts), *(why for _, why in plan.lost)]
        why += [f"{one.path} was a {one.before.kind}" for one in odd]
        states = _states(plan, self.undoing.journal.images)
        await asyncio.to_thread(before.rewind, states, _unknown(why[0]) if why else "")

    # --- the learner's part --------------------------------------------------------------------------

    async def _carried_on(
        self, run: Running, session: Session, error: DivergenceError, reason: str, reservation: Reservation
    ) -> None:
        """The learner's part of the run; whatever becomes of it is charged and recorded."""
        label, hidden, done = session.resuming.follower.trace.label, session.hidden, session.done
        run.update(mode=Mode.HANDED_OVER, model=self.model, reason=reason, steps=done)
        process = current()
        if process is not None:
            process.mode = str(Mode.HANDED_OVER)
        run.update(trace_id=None, trace_version=None)
        try:
            handover = Handover(
                trace=label,
                step_id=error.step_id,
                expected=masked(cut(shown(error.expected), _SHOWN), hidden),
                actual=masked(cut(shown(error.actual), _SHOWN), hidden),
            )
            run.update(handover=handover)
            await self.runs.hand_over(run.run)
            told_of = HandedOver(run_id=run.run.id, trace=label, step_id=error.step_id, done=len(done))
            self.learning.bus.publish(told_of)
            text = masked(told(self._takeover(session, error)), hidden)
            answer = await self._answered(run, session, reservation, text)
        finally:
            await asyncio.shield(self._settled(run, session, reservation))
        run.update(answer=answer, finish=session.finished, status=RunStatus.DONE)

    def _session(self, run: Running, resuming: Resuming, done: tuple[StepRecord, ...]) -> Session:
        run_id, ctx = run.run.id, self.learning.surroundings.context(run.run.id)
        once = Once(ctx=ctx, due=due_calls(resuming.calls_left(), self.registry, ctx))
        for step in done[: resuming.follower.settled]:
            if step.effect.changes_world:
                once.add(self.registry.get(step.tool), step)

        async def keep(step: StepRecord) -> None:
            await self.runs.add_step(run_id, step)

        return Session(
            run_id=run_id,
            registry=self.registry,
            ctx=replace(ctx, middleware=(once, *ctx.middleware)),
            bus=self.learning.bus,
            interrupts=self.learning.interrupts,
            told=run.told,
            keep=keep,
            first_step=len(done),
            done=done,
            resuming=resuming,
            once=once,
            beside={
                "taken_over": True,
                "trace_id": resuming.follower.trace.id,
                "trace_version": resuming.follower.trace.version,
                "settled": resuming.follower.settled,
                "due": dict(once.due),
            },
            around=ctx.middleware,
            hidden=_secrets(resuming.follower),
        )

    def _takeover(self, session: Session, error: DivergenceError) -> Takeover:
        resuming, done = session.resuming, session.done
        follower = resuming.follower
        settled = follower.settled
        return Takeover(
            trace=follower.trace,
            bindings=follower.spelled or follower.bindings,
            step_id=error.step_id,
            expected=error.expected,
            actual=error.actual,
            done=tuple(zip(follower.labels[:settled], done[:settled], strict=True)),
            doubtful=next((step for step in done[settled:] if self._may_have_acted(step)), None),
            left=tuple(resuming.left()),
            places=tuple(session.places),
            delimit=partial(delimited, mark=secrets.token_hex(8)),
        )

    def _may_have_acted(self, step: StepRecord) -> bool:
        """Whether a call that failed, or came out otherwise, may have changed something; our own writes are whole."""
        whole = step.effect is Effect.WRITE and self.registry.get(step.tool).source == "builtin"
        return step.effect.changes_world and not (whole and step.is_error)

    async def _answered(self, run: Running, session: Session, reservation: Reservation, text: str) -> str:
        """The learner's answer; that of the replay where the learner gave the rest back and did no more."""
        bus = self.learning.bus
        task = LearnTask(
            run_id=run.run.id,
            goal=run.run.goal,
            model=self.model,
            max_budget_usd=reservation.amount_usd,
            max_turns=self._most_turns,
            plan=text,
            taken_over=True,
            task=self._task,
        )
        bus.publish(LearnerStarted(run_id=run.run.id, model=self.model, reserved_usd=reservation.amount_usd))
        try:
            learned = await self.learning.ask(task, session)
            run.update(model=learned.model)
            is_replayed = session.replayed is not None and not session.acted_since
            return session.replayed.answer if is_replayed and session.replayed else learned.answered()
        except (LearnerError, WatchdogError) as error:
            if session.replayed is not None and not session.acted_since:
                return session.replayed.answer
            error.args = (f"{error}{_account((*run.run.steps, *session.steps))}",)
            raise

    async def _settled(self, run: Running, session: Session, reservation: Reservation) -> None:
        """Charge what is known of the bill, whatever became of the run, and keep the steps that were taken."""
        operation = f"taken over: {run.run.model}"
        await asyncio.to_thread(self.learning.economy.settle, reservation, session.cost_usd, operation)
        extra_usd = self.learning.surroundings.spent(run.run.id)
        handover = run.run.handover and replace(run.run.handover, rejoined=session.rejoined)
        cost_usd = run.run.cost_usd + session.cost_usd + extra_usd
        run.update(steps=(*session.done, *session.steps), cost_usd=cost_usd, handover=handover)

    async def book(self, run: Running, trace: Trace, estimate_usd: float) -> None:
        """Book as saved what the whole would have cost beyond what the learner's part did, if anything was replayed."""
        replayed = any(
            step.origin in (Origin.REPLAYED, Origin.REJOINED) and not step.is_error for step in run.run.steps
        )
        saved_usd = max(0.0, min(trace.cost_usd, estimate_usd) - run.run.cost_usd)
        if replayed and saved_usd > 0:
            operation = f"{trace.label} was replayed in part: learning it cost ${trace.cost_usd:.4f}"
            await asyncio.to_thread(self.learning.economy.book_saving, run.run.id, saved_usd, operation)
            run.update(saved_usd=saved_usd)


@contextmanager
def _told_of(error: DivergenceError) -> Iterator[None]:
    """Where nobody can be asked after something was changed, what was done is told first."""
    try:
        yield
    except (LowBatteryError, NoLearnerError) as missing:
        if not error.effects_done:
            raise
        raise unable(error, f"the learner could not take over ({str(missing).rstrip('.')})") from error


def _unknown(why: str) -> str:
    return f"the workspace before the replay is not known ({why.rstrip('.')})"


def _states(plan: UndoPlan, images: Images) -> dict[str, tuple[Content, int] | None]:
    """What stood at the paths of a plan before: a file's content and permissions, or nothing."""
    return {
        one.path: None
        if one.before.kind is FileKind.ABSENT
        else (partial(put_back, images, one, plan.root / one.path), one.before.mode)
        for one in plan.restore
    }


def _account(steps: tuple[StepRecord, ...]) -> str:
    acted = [one for one in steps if one.may_have_acted]
    if not acted:
        return ""
    return (
        f"; {len(acted)} step{'s' * (len(acted) > 1)} before that had changed things already, so nothing more was "
        "done: `runs show` lists them, and `undo` takes their files back"
    )


def _secrets(follower: Follower) -> dict[str, str]:
    """The secrets a trace names, by their values: no model is told them."""
    exprs = [expr for node in follower.trace.nodes for expr in node.exprs]
    names = {ref.name for expr in exprs for ref in references(expr) if isinstance(ref, SecretRef)}
    found: dict[str, str] = {}
    for name in names if follower.secret is not None else ():
        try:
            found[follower.secret(name)] = name  # type: ignore[misc]
        except UnboundError:
            continue
    return {value: name for value, name in found.items() if value}
