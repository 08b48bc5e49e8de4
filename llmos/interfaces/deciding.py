"""Deciding: what recall finds for a goal goes through the gate, and the gate's verdicts become one decision."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from llmos.kernel.process import Process, current
from llmos.memory.outcomes import Outcomes
from llmos.memory.recall import Recall
from llmos.memory.traces import TraceStore
from llmos.trace.aligning import has_something_in_common
from llmos.trace.decide import DEFAULT_BOUNDS, Considered, Decision, consider, decide
from llmos.trace.lex import normalise
from llmos.trace.match import Match, World
from llmos.trace.phrases import anchors_of
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
        decision = decide(_own(await self.considered(goal)), goal=goal, world=self.world, bounds=self.bounds)
        if decision.match is None and not any(has_something_in_common(goal, one.trace) for one in decision.considered):
            return replace(decision, reason=NOTHING_ALIKE)
        if self.outcomes is None or decision.match is None:
            return decision
        return weighed(decision, await self.outcomes.record(decision.match.trace.id))

    async def considered(self, goal: str) -> list[Considered]:
        """What recall finds, cheapest way first; the next way is only gone where it may change the decision."""
        wrong, exact = await asyncio.gather(self.traces.wrong_for(goal), self.recall.exact(goal))
        found = _Found(goal=goal, world=self.world, wrong=wrong, key=key_of(current()))
        found.add("exact", exact)
        if not found.proven:
            found.add("skeleton", await self.recall.skeleton(goal))
        if found.proven:
            return list(found.considered.values())
        worded = await self.recall.words(goal)
        found.add("words", worded.traces)
        if not (worded.is_all and found.is_settled):
            near = await self.recall.semantic(goal, also=found.considered)
            cosines = {one.trace.id: one.cosine for one in reversed(near)}  # each trace's nearest template counts
            found.add("semantic", [one.trace for one in near], cosines)
        return list(found.considered.values())


def key_of(process: Process | None) -> str:
    """The key of what makes runs of a process's agent others than those of nobody in particular; '' for nothing."""
    return "" if process is None or process.agent is None else process.agent.key


def is_own(trace: Trace, process: Process | None) -> bool:
    """Whether a trace was made as the agent that a process works as, or by nobody for nobody in particular."""
    return trace.agent == key_of(process)


def _own(considered: Sequence[Considered]) -> Sequence[Considered]:
    """What the agent that asks learned itself, if that is proven; else all."""
    own = [one for one in considered if one.trace.agent]
    return own if any(isinstance(one.outcome, Match) for one in own) else considered


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What was considered for a goal until now, by the traces' ids; `wrong` are those known to be wrong for it.

    What other agents learned under their profiles counts for nothing; `key` is that of the one that asks.
    """

    goal: str
    world: World
    wrong: frozenset[str]
    key: str = ""
    considered: dict[str, Considered] = field(default_factory=dict)

    def add(self, how: str, traces: Sequence[Trace], cosines: Mapping[str, float] | None = None) -> None:
        """Put traces through the gate, each once; how near one is counts however it was found."""
        for trace in (one for one in traces if one.agent in ("", self.key)):
            known, cosine = self.considered.get(trace.id), (cosines or {}).get(trace.id)
            if known is None:
                negatives = frozenset({normalise(self.goal)} if trace.id in self.wrong else ())
                known = consider(self.goal, trace, how=how, world=self.world, cosine=cosine, negatives=negatives)
            elif cosine is not None:
                known = replace(known, cosine=cosine)
            self.considered[trace.id] = known

    @property
    def proven(self) -> list[Match]:
        return [one.outcome for one in self.considered.values() if isinstance(one.outcome, Match)]

    @property
    def is_settled(self) -> bool:
        """Whether no trace but those whose words the goal has could change the decision.

        A rival has as many telling words as what is proven, or more, and all of them stand in the goal: it is among
        them, if there are any such words. Whatever lacks one of its words in the goal is not proven.
        """
        return bool(self.proven) and all(anchors_of(found.template) for found in self.proven)
