"""Agreeing: what is not to be followed unasked is put to a person or, where none is there, to the judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llmos.errors import NothingToFollowError, NotPermittedError
from llmos.interfaces.feedback import Feedback
from llmos.interfaces.judging import Judging, Verdict
from llmos.interfaces.results import Confirm, Question, planned_step
from llmos.interfaces.running import Agreement, Running
from llmos.kernel.bus import Agreed, EventBus
from llmos.memory.runs import RunStore
from llmos.trace.aligning import alignment
from llmos.trace.decide import Choice, Decision, needs_confirmation
from llmos.trace.match import Match
from llmos.trace.run import Mode
from llmos.trace.taint import is_suspect


@dataclass(frozen=True, kw_only=True)
class Agreeing:
    """Asks before a replay. A refusal of what is not proven is kept: that goal is never put to that trace again."""

    feedback: Feedback
    judging: Judging
    runs: RunStore
    bus: EventBus

    async def agree(self, run: Running, decision: Decision, mode: str, confirm: Confirm | None) -> Agreement:
        """Have a replay agreed to, or decide to learn instead.

        Raises:
            NotPermittedError: only following was allowed, and nobody agreed.
            NothingToFollowError: the same, where the goal is not even proven to mean the trace.
        """
        found, goal = decision.match, run.run.goal
        assert found is not None
        label = found.trace.label
        asked = question(goal, decision, found)
        agreed = await confirm(asked) if confirm is not None else None
        if agreed is not None:
            self.bus.publish(
                Agreed(run_id=run.run.id, trace=label, agreed=bool(agreed), by="user", question=asked.text)
            )
        if agreed:
            reason = f"{label} was confirmed for this goal"
            followed = replace(decision, choice=Choice.FOLLOW, reason=reason)
            return Agreement(decision=followed, is_new=not found.is_proven)
        if agreed is False and not found.is_proven and not self.feedback.is_frozen:
            await self.feedback.rejected(goal, found.trace.id, "not what was meant")
        if mode == "follow" and not found.is_proven:
            raise NothingToFollowError(
                f"no trace is proven for this goal, and nobody agreed to {label}: {decision.reason}"
            )
        if mode == "follow":
            raise NotPermittedError(f"{label} needs a confirmation ({decision.reason}); {_hint(found)}")
        if agreed is None and self.judging.may_judge(found) and not needs_confirmation(found.trace):
            return await self._judged(run, decision, found)
        how = "was not confirmed" if agreed is False else f"needs a confirmation nobody could give ({_hint(found)})"
        learned = replace(decision, choice=Choice.LEARN, reason=f"{label} {how}")
        return Agreement(decision=learned, declined=agreed is False)

    async def _judged(self, run: Running, decision: Decision, found: Match) -> Agreement:
        """Ask the judge; its no is kept like a person's, an answer that is none is not."""
        label, goal = found.trace.label, run.run.goal
        run.begin(
            mode=Mode.JUDGED,
            trace=found.trace,
            bindings=found.bindings,
            reason=decision.reason,
            model=self.judging.model,
        )
        await run.store(self.runs)
        verdict = await self.judging.judge(run.run.id, goal, found)
        run.update(cost_usd=run.run.cost_usd + verdict.cost_usd)
        if verdict.same is not None:
            said = Agreed(run_id=run.run.id, trace=label, agreed=verdict.same, by="judge", question=verdict.why)
            self.bus.publish(said)
        if verdict.same:
            followed = replace(decision, choice=Choice.FOLLOW, reason=f"{label} was {verdict.why} to be meant")
            return Agreement(decision=followed, mode=Mode.JUDGED, model=verdict.model, is_new=True)
        if verdict.same is False and not self.feedback.is_frozen:
            await self.feedback.rejected(goal, found.trace.id, verdict.why)
        learned = replace(decision, choice=Choice.LEARN, reason=_declined(label, verdict))
        return Agreement(decision=learned, declined=verdict.same is False)


def _declined(label: str, verdict: Verdict) -> str:
    paid = f", for ${verdict.cost_usd:.4f}" if verdict.cost_usd else ""
    return f"{label} was not followed: {verdict.why}{paid}"


def _hint(found: Match) -> str:
    return (
        "--yes gives it" if found.is_proven and not is_suspect(found.trace) else "a person at a terminal or a judge can"
    )


def question(goal: str, decision: Decision, found: Match) -> Question:
    """What a person is asked: what would be done with what, and how the goal was read."""
    trace, bindings = found.trace, dict(found.bindings)
    shown = ", ".join(f"{name}={value}" for name, value in bindings.items())
    return Question(
        text=f"Replay {trace.label}{' with ' + shown if shown else ''}? ({decision.reason})",
        trace_id=trace.label,
        bindings=bindings,
        effect=str(trace.effect),
        is_proven=found.is_proven,
        needs_reading=is_suspect(trace),
        wording=found.wording,
        template=found.template,
        alignment=tuple(alignment(goal, trace, found.template, bindings)),
        steps=tuple(planned_step(step) for step in trace.steps),
    )
