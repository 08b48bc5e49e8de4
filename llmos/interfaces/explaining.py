"""Explaining: what would happen to a goal, why, what would have been needed, and what each way costs. Does nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from llmos.errors import LearnerError, LowBatteryError
from llmos.interfaces.approving import Approving
from llmos.interfaces.deciding import Deciding
from llmos.interfaces.guiding import Guiding, Help
from llmos.interfaces.judging import Judging
from llmos.interfaces.learning import Learning
from llmos.interfaces.results import Explanation, Way, candidate_shown, planned_step
from llmos.interfaces.standing import Standing
from llmos.memory.runs import RunStore
from llmos.memory.traces import MERGED
from llmos.trace.aligning import PairKind, alignment, fitting, has_something_in_common
from llmos.trace.decide import Choice, Considered, Decision, needs_confirmation
from llmos.trace.lex import check_goal
from llmos.trace.match import Match, World
from llmos.trace.program import SlotType, Trace
from llmos.trace.run import Mode

_RECENT = 20


@dataclass(frozen=True, kw_only=True)
class Explaining:
    """Goes the way of a goal as far as it is free, and tells about it."""

    deciding: Deciding
    learning: Learning
    guiding: Guiding
    judging: Judging
    standing: Standing
    runs: RunStore
    world: World
    approving: Approving

    async def explain(self, goal: str, *, mode: str = "auto", again: bool = False) -> Explanation:
        """What a goal would do, and why; `again`: what it would do if an earlier run of it did not count."""
        goal = check_goal(goal)
        if mode == "learn":
            decision = Decision(choice=Choice.LEARN, reason="--mode learn")
        else:
            decision = await self.deciding.decide(goal)
        found, nearest = decision.match, nearest_of(goal, decision)
        estimate = await self.learning.estimate(goal)
        missing = self._missing(estimate)
        learns = decision.choice in (Choice.LEARN, Choice.GUIDED)
        choice, reason = str(decision.choice), decision.reason
        if found is None:
            reason = "; ".join([reason, *await self._set_aside(goal)])
        helped = self.guiding.help(goal, decision) if learns and mode == "auto" else None
        if learns and (mode == "follow" or missing):
            choice, reason = "refuse", reason if mode == "follow" else f"{reason}; and {missing}"
        elif helped is not None:
            choice, reason = str(Choice.GUIDED), f"{reason}; {helped.how}"
        elif found is not None and (silent := self.guiding.silent(found.trace)):
            choice, reason = "refuse", f"{reason}; but {silent}"
        stands = None
        if found is not None and decision.choice is Choice.FOLLOW and not again:
            stands = await self.standing.found(found)
        if stands is not None:
            choice, reason = str(Mode.UNCHANGED), f"would answer: {self.standing.sentence(stands)}"
        shown = self.guiding.shown(decision, helped)
        return Explanation(
            goal=goal,
            decision=choice,
            reason=reason,
            trace_id=shown.trace.label if shown else None,
            bindings=dict(shown.bindings) if shown else {},
            steps=[planned_step(step) for step in shown.trace.steps] if shown else [],
            cost_usd=self.guiding.price(shown.trace) if shown else estimate,
            model_calls=self.guiding.surroundings.thoughts(shown.trace) if shown else 0,
            saved_usd=found.trace.cost_usd if found and stands is None else 0.0,
            of_run=stands.run_id if stands else None,
            done_at=stands.done_at.isoformat() if stands else None,
            candidates=[candidate_shown(one) | _told(one).beside(goal) for one in decision.considered],
            nearest=nearest.trace.label if nearest else None,
            **(nearest.beside(goal) if nearest else {}),
            inputs=self._inputs(goal, nearest) if nearest else [],
            ways=[asdict(way) for way in await self._ways(decision, nearest, helped, estimate, missing, mode)],
            learner=missing,
            permissions=await self.approving.rulings(found) if found else [],
        )

    def _missing(self, estimate: float) -> str:
        """Why no learner could be asked; '' if one could."""
        try:
            self.learning.models.check()
            self.learning.economy.check_budget(estimate)
        except (LearnerError, LowBatteryError) as error:
            return str(error).rstrip(".")
        return ""

    def _inputs(self, goal: str, nearest: _Nearest) -> list[dict[str, Any]]:
        """The paths a goal names, and whether they exist; one that is to be written need not."""
        bound = nearest.bindings
        if not bound:
            pairs = alignment(goal, nearest.trace, nearest.template)
            named = ((str(pair.template)[1:-1], str(pair.goal)) for pair in pairs if pair.kind is PairKind.SLOT)
            bound = {name: text.strip("\"'`") for name, text in named}
        paths = [slot.name for slot in nearest.trace.slots if slot.type is SlotType.PATH and slot.name in bound]
        return [{"slot": name, "path": bound[name], "exists": self.world.exists(bound[name])} for name in paths]

    async def _set_aside(self, goal: str) -> list[str]:
        """What would be followed if it had not been quarantined, and why it was."""
        found = await self.deciding.traces.set_aside(goal)
        return [f"{trace.label} is set aside: {trace.reason}" for trace in found if not trace.reason.startswith(MERGED)]

    async def _ways(
        self,
        decision: Decision,
        nearest: _Nearest | None,
        helped: Help | None,
        estimate: float,
        missing: str,
        mode: str,
    ) -> list[Way]:
        """Every way a goal could go, whether it can, and for how many dollars."""
        found = decision.match
        near = found or (nearest.near if nearest else None)
        judged = near is not None and self.judging.may_judge(near) and not needs_confirmation(near.trace)
        paid = mode != "follow"
        why = "--mode follow" if not paid else missing
        return [
            Way(
                name="follow",
                possible=decision.choice is Choice.FOLLOW,
                cost_usd=self.guiding.price(found.trace) if found else 0.0,
                is_estimate=found is not None and self.guiding.surroundings.thoughts(found.trace) > 0,
            ),
            Way(name="confirm", possible=_is_asked(decision, near), cost_usd=0.0),
            Way(
                name="judge",
                possible=judged and not why,
                cost_usd=await self._usual(Mode.JUDGED, self.judging.settings.max_usd),
                is_estimate=True,
                note="" if self.judging.model else "off: `models.judge` is not set",
            ),
            Way(
                name="guided",
                possible=helped is not None and not why,
                cost_usd=await self._guided_usd(helped, estimate),
                is_estimate=True,
                note=helped.how if helped else "",
            ),
            Way(name="learn", possible=not why, cost_usd=estimate, is_estimate=True, note=why),
        ]

    async def _guided_usd(self, helped: Help | None, estimate: float) -> float:
        if helped is not None and helped.guide is not None:
            return self.guiding.price(helped.guide.program)
        return await self._usual(Mode.GUIDED, estimate)

    async def _usual(self, mode: Mode, otherwise: float) -> float:
        """What runs of a mode cost lately; `otherwise` while there are none."""
        costs = [run.cost_usd for run in await self.runs.list(limit=_RECENT, mode=mode) if run.cost_usd]
        return fmean(costs) if costs else otherwise


@dataclass(frozen=True, kw_only=True)
class _Nearest:
    """What is told in detail: a trace, the wording it was held against, and what that bound."""

    trace: Trace
    template: str
    found: Match | None
    near: Match | None

    @property
    def bindings(self) -> dict[str, str]:
        found = self.found or self.near
        return {name: str(value) for name, value in found.bindings.items()} if found is not None else {}

    def beside(self, goal: str) -> dict[str, Any]:
        """The goal beside the wording, and the goal that this would have taken."""
        pairs = alignment(goal, self.trace, self.template, self.bindings)
        fits = self.found is not None and self.found.is_proven
        shown = [asdict(pair) | {"kind": str(pair.kind)} for pair in pairs]
        return {"alignment": shown, "needed": "" if fits else fitting(pairs)}


def nearest_of(goal: str, decision: Decision) -> _Nearest | None:
    """The trace that was decided on, else the nearest that has anything to do with the goal."""
    if decision.match is not None:
        found = decision.match
        return _Nearest(trace=found.trace, template=found.template, found=found, near=None)
    misses = [one for one in decision.considered if has_something_in_common(goal, one.trace)]
    nearest = max(misses, key=lambda one: getattr(one.outcome, "agreed", 0), default=None)
    return None if nearest is None else _told(nearest)


def _told(one: Considered) -> _Nearest:
    if isinstance(one.outcome, Match):
        return _Nearest(trace=one.trace, template=one.outcome.template, found=one.outcome, near=None)
    return _Nearest(trace=one.trace, template=one.outcome.template, found=None, near=one.outcome.near)


def _is_asked(decision: Decision, near: Match | None) -> bool:
    return decision.choice is Choice.CONFIRM or (decision.match is None and near is not None)
