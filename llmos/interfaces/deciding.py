"""Deciding: what recall finds for a goal goes through the gate, and the gate's verdicts become one decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from llmos.memory.outcomes import Outcomes
from llmos.memory.recall import Recall
from llmos.memory.traces import TraceStore
from llmos.trace.aligning import has_something_in_common
from llmos.trace.decide import DEFAULT_BOUNDS, Considered, Decision, consider, decide
from llmos.trace.lex import normalise
from llmos.trace.match import Match, World
from llmos.trace.program import Effect, Trace
from llmos.trace.reliability import weighed

NOTHING_ALIKE = "no trace is known for anything like it"


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """Finds what a goal may mean and says what to do with it; reads, but does nothing.

    `bounds` is how likely a replay may be wrong, by effect class; `outcomes` how earlier replays went (None: unknown).
    """

    recall: Recall
    traces: TraceStore
    world: World
    bounds: Mapping[Effect, float] = field(default_factory=lambda: DEFAULT_BOUNDS)
    outcomes: Outcomes | None = None

    async def decide(self, goal: str) -> Decision:
        """What to do with a goal."""
        decision = decide(await self.considered(goal), goal=goal, world=self.world, bounds=self.bounds)
        if decision.match is None and not any(has_something_in_common(goal, one.trace) for one in decision.considered):
            return replace(decision, reason=NOTHING_ALIKE)
        if self.outcomes is None or decision.match is None:
            return decision
        return weighed(decision, await self.outcomes.record(decision.match.trace.id))

    async def considered(self, goal: str) -> list[Considered]:
        """What recall finds, cheapest way first; the next way is only gone where nothing was proven."""
        considered: list[Considered] = []
        wrong = await self.traces.wrong_for(goal)
        for how in ("exact", "skeleton", "semantic"):
            for trace, cosine in await self._recalled(how, goal):
                if any(one.trace.id == trace.id for one in considered):
                    continue
                negatives = frozenset({normalise(goal)} if trace.id in wrong else ())
                considered.append(consider(goal, trace, how=how, world=self.world, cosine=cosine, negatives=negatives))
            if any(isinstance(one.outcome, Match) for one in considered):
                break
        return considered

    async def _recalled(self, how: str, goal: str) -> list[tuple[Trace, float | None]]:
        if how == "semantic":
            return [(found.trace, found.cosine) for found in await self.recall.semantic(goal)]
        found = await (self.recall.exact(goal) if how == "exact" else self.recall.skeleton(goal))
        return [(trace, None) for trace in found]
