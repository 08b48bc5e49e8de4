"""Deciding: what recall finds for a goal goes through the gate, and the gate's verdicts become one decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmos.memory.recall import Recall
from llmos.memory.traces import TraceStore
from llmos.trace.decide import DEFAULT_BOUNDS, Considered, Decision, consider, decide
from llmos.trace.match import Match, World
from llmos.trace.program import Effect, Trace


@dataclass(frozen=True, kw_only=True)
class Deciding:
    """Finds what a goal may mean and says what to do with it; reads, but does nothing.

    `bounds` is how likely a replay may be wrong, by effect class.
    """

    recall: Recall
    traces: TraceStore
    world: World
    bounds: Mapping[Effect, float] = field(default_factory=lambda: DEFAULT_BOUNDS)

    async def decide(self, goal: str) -> Decision:
        """What to do with a goal."""
        return decide(await self.considered(goal), bounds=self.bounds)

    async def considered(self, goal: str) -> list[Considered]:
        """What recall finds, cheapest way first; the next way is only gone where nothing was proven."""
        considered: list[Considered] = []
        for how in ("exact", "skeleton", "semantic"):
            for trace, cosine in await self._recalled(how, goal):
                if any(one.trace.id == trace.id for one in considered):
                    continue
                negatives = frozenset(await self.traces.negatives(trace.id))
                considered.append(consider(goal, trace, how=how, world=self.world, cosine=cosine, negatives=negatives))
            if any(isinstance(one.outcome, Match) for one in considered):
                break
        return considered

    async def _recalled(self, how: str, goal: str) -> list[tuple[Trace, float | None]]:
        if how == "semantic":
            return [(found.trace, found.cosine) for found in await self.recall.semantic(goal)]
        found = await (self.recall.exact(goal) if how == "exact" else self.recall.skeleton(goal))
        return [(trace, None) for trace in found]
