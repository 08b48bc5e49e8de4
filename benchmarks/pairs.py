"""Pairs of goals: one is learned, the other decided; a pair that is not the same task must never be followed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.encoder import RememberingEmbedder
from benchmarks.goals import Call, Goal, Pair
from benchmarks.product import Product, booted
from benchmarks.scoring import share, verdict, wilson
from llmos.trace.decide import Choice
from llmos.trace.induce import NotATrace
from llmos.trace.match import Miss

COSINES = (0.80, 0.90, 0.94)


@dataclass(kw_only=True)
class PairTally:
    """What became of the pairs of one source or kind.

    Of the pairs that are the same: `accepted` with the right values, `wrong_value` with others. Of those that are
    not: `accepted_wrongly`, or `rebound` where values were exchanged and the replay has exchanged them too. The
    counters `near_…` say by cosine alone how many of either a threshold would accept.
    """

    same: int = 0
    different: int = 0
    accepted: int = 0
    wrong_value: int = 0
    accepted_wrongly: int = 0
    rebound: int = 0
    not_learned: int = 0
    near_same: Counter[float] = field(default_factory=Counter)
    near_different: Counter[float] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)

    def add(self, other: PairTally) -> None:
        """Take in what another part counted."""
        for name in ("same", "different", "accepted", "wrong_value", "accepted_wrongly", "rebound", "not_learned"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.near_same.update(other.near_same)
        self.near_different.update(other.near_different)
        self.refusals.update(other.refusals)

    def summary(self) -> Mapping[str, Any]:
        """The numbers as they stand in the JSON."""
        low, high = wilson(self.accepted_wrongly, self.different)
        return {
            "same": self.same,
            "different": self.different,
            "accepted_same": self.accepted,
            "accepted_same_pct": share(self.accepted, self.same),
            "wrong_value": self.wrong_value,
            "accepted_different": self.accepted_wrongly,
            "accepted_different_pct": share(self.accepted_wrongly, self.different),
            "accepted_different_ci95": [round(low, 3), round(high, 3)],
            "rebound_rightly": self.rebound,
            "not_learned": self.not_learned,
            "cosine_accepts_same_pct": {f"{at:.2f}": share(self.near_same[at], self.same) for at in COSINES},
            "cosine_accepts_different_pct": {
                f"{at:.2f}": share(self.near_different[at], self.different) for at in COSINES
            },
            "refusals": dict(self.refusals.most_common(12)),
        }


@dataclass(frozen=True, kw_only=True)
class Question:
    """A goal to decide after another was learned; `wanted` are the only right calls (None: it must be refused)."""

    learned: Goal
    asked: Goal
    group: str
    same: bool
    wanted: tuple[Call, ...] | None


@dataclass(kw_only=True)
class PairReport:
    """The tallies by group and each wrong acceptance."""

    tallies: dict[str, PairTally] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def of(self, group: str) -> PairTally:
        return self.tallies.setdefault(group, PairTally())


def questions(pairs: Iterable[Pair]) -> list[Question]:
    """The labelled pairs as questions, grouped by their source."""
    return [
        Question(
            learned=pair.a,
            asked=pair.b,
            group=pair.source,
            same=pair.same,
            wanted=pair.b.calls if pair.same else None,
        )
        for pair in pairs
    ]


def goals_of(asked: Iterable[Question]) -> list[Goal]:
    """All goals of the questions."""
    return [goal for question in asked for goal in (question.learned, question.asked)]


def run_pairs(asked: Sequence[Question], embedder: RememberingEmbedder) -> PairReport:
    """Decide every question in a memory that holds nothing but what was learned for it."""
    return asyncio.run(_decided(asked, embedder))


async def _decided(asked: Sequence[Question], embedder: RememberingEmbedder) -> PairReport:
    report = PairReport()
    async with booted(embedder, goals=goals_of(asked)) as product:
        for question in asked:
            await _one(question, product, embedder, report)
    return report


async def _one(question: Question, product: Product, embedder: RememberingEmbedder, report: PairReport) -> None:
    tally = report.of(question.group)
    _count_cosine(question, embedder, tally)
    trace = await product.learn(question.learned, keep_run=False)
    if isinstance(trace, NotATrace):
        tally.not_learned += 1
        return
    try:
        decision = await product.decide(question.asked.text)
        made: tuple[Call, ...] | str = ""
        if decision.choice is Choice.FOLLOW and decision.match is not None:
            made = await product.would_call(decision.match)
    finally:
        await product.llmos.traces.forget(trace.id)
    if isinstance(made, str):
        own = [one.outcome for one in decision.considered if one.trace.id == trace.id]
        tally.refusals[next((o.rule for o in own if isinstance(o, Miss)), str(decision.choice))] += 1
        return
    if question.wanted is not None and verdict(question.asked, made) == "right":
        tally.accepted += question.same
        tally.rebound += not question.same
        return
    tally.wrong_value += question.same
    tally.accepted_wrongly += not question.same
    report.errors.append(
        {
            "kind": "accepted",
            "group": question.group,
            "same": question.same,
            "learned": question.learned.text,
            "goal": question.asked.text,
            "template": trace.goals[0],
            "made": [dict(call.args) for call in made],
            "reason": decision.reason,
        }
    )


def _count_cosine(question: Question, embedder: RememberingEmbedder, tally: PairTally) -> None:
    tally.same += question.same
    tally.different += not question.same
    one, other = embedder.encode([question.learned.text, question.asked.text])
    cosine = float(one @ other)
    near = tally.near_same if question.same else tally.near_different
    near.update(at for at in COSINES if cosine >= at)
