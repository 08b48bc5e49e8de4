"""A stream: goals in a seeded order, each replayed or learned, by the product or by another policy."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.baselines import BASELINES, Baseline
from benchmarks.encoder import RememberingEmbedder
from benchmarks.goals import PROCEDURE, Call, Goal
from benchmarks.product import Product, booted
from benchmarks.scoring import Outcome, Tally, procedure_of, verdict
from llmos.trace.decide import Choice, Considered, Decision
from llmos.trace.induce import NotATrace
from llmos.trace.match import Match, Miss
from llmos.trace.program import Trace
from llmos.trace.values import Const

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class OwnSystem:
    """A way to run the product: whether its tools list values, and whether a person answers its questions.

    `bound` is how likely a replay may be wrong (None: the product's defaults).
    """

    name: str
    vocabulary: bool = False
    confirm: bool = False
    bound: float | None = None


@dataclass(kw_only=True)
class Report:
    """What one system did on one stream: the numbers, and each wrong replay and missed repeat."""

    tally: Tally
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True)
class _Seen:
    """The tasks and procedures that came before."""

    tasks: set[str] = field(default_factory=set)
    procedures: set[str] = field(default_factory=set)

    def flags(self, goal: Goal) -> dict[str, bool]:
        return {"seen": goal.procedure in self.procedures, "seen_task": goal.task_id in self.tasks}

    def add(self, goal: Goal) -> None:
        self.tasks.add(goal.task_id)
        self.procedures.add(goal.procedure)


def in_order(goals: Sequence[Goal], seed: int, limit: int | None) -> list[Goal]:
    """The goals of a stream in the order of a seed, at most `limit` of them."""
    order = list(goals)
    random.Random(seed).shuffle(order)
    return order[:limit]


def run_baseline(name: str, goals: Sequence[Goal], seed: int, vectors: NDArray[np.float32]) -> Report:
    """One stream through another policy; `vectors` are the goals' embeddings, float32[len(goals), dim]."""
    policy: Baseline = BASELINES[name](len(goals), seed)
    tally, seen = Tally(distinct=len(goals), seeds=1), _Seen()
    for goal, vector in zip(goals, vectors, strict=True):
        started = time.perf_counter()
        done = policy.step(goal, vector)
        latency = time.perf_counter() - started
        found = done if isinstance(done, str) else None
        judged = None if isinstance(done, str) else verdict(goal, done)
        tally.count(Outcome(verdict=judged, rule=found or "", latency_s=latency, **seen.flags(goal)))
        seen.add(goal)
    return Report(tally=tally)


def run_product(
    system: OwnSystem, goals: Sequence[Goal], embedder: RememberingEmbedder, unlisted: frozenset[str] = frozenset()
) -> Report:
    """One stream through the product; no tool lists the values of `unlisted` parameters."""
    return asyncio.run(_through_product(system, goals, embedder, unlisted))


async def _through_product(
    system: OwnSystem, goals: Sequence[Goal], embedder: RememberingEmbedder, unlisted: frozenset[str]
) -> Report:
    async with booted(
        embedder, vocabulary=system.vocabulary, unlisted=unlisted, bound=system.bound, goals=goals
    ) as product:
        stream = Stream(product=product, embedder=embedder, confirm=system.confirm, distinct=len(goals))
        for goal in goals:
            await stream.step(goal)
        return stream.report


@dataclass(kw_only=True)
class Stream:
    """The product in the middle of a stream.

    `admitted` says what became of each learned procedure's runs; `questioned` are those a person was asked about.
    """

    product: Product
    embedder: RememberingEmbedder
    confirm: bool
    distinct: int
    report: Report = field(init=False)
    seen: _Seen = field(default_factory=_Seen)
    admitted: dict[str, list[Trace | NotATrace]] = field(default_factory=dict)
    questioned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.report = Report(tally=Tally(distinct=self.distinct, seeds=1))

    async def step(self, goal: Goal) -> None:
        """Decide one goal, follow or learn it, and count what became of it."""
        started, owed = time.perf_counter(), self.embedder.owed_s
        decision = await self.product.decide(goal.text)
        latency = time.perf_counter() - started + self.embedder.owed_s - owed
        made, asked = await self._made(goal, decision)
        judged = None if isinstance(made, str) else verdict(goal, made, self.product.listed)
        rule = ""
        if judged is None:
            rule = self._why(goal, decision) if made == "" else str(made)
        outcome = Outcome(verdict=judged, rule=rule, asked=asked, latency_s=latency, **self.seen.flags(goal))
        self.report.tally.count(outcome)
        if judged not in (None, "right") or (judged is None and outcome.seen):
            self.report.errors.append(self._told(goal, decision, outcome, made))
        if judged is None:
            trace = await self.product.learn(goal)
            self.admitted.setdefault(goal.procedure, []).append(trace)
        else:
            self.product.meet([goal])
        self.seen.add(goal)

    async def _made(self, goal: Goal, decision: Decision) -> tuple[tuple[Call, ...] | str, int]:
        """The calls made for a goal ("" for none, else why a replay stopped), and how many questions it took."""
        if decision.match is None or decision.choice not in (Choice.FOLLOW, Choice.CONFIRM):
            return "", 0
        asks = decision.choice is Choice.CONFIRM
        if asks and (not self.confirm or goal.procedure in self.questioned):
            return "", 0
        if asks and not await self._agreed(goal, decision.match):
            return "denied", 1
        made = await self.product.follow(goal, decision.match, decision.reason)
        if asks and isinstance(made, tuple):
            await self.product.llmos.feedback.confirmed(goal.text, decision.match)
        return ("diverged" if isinstance(made, str) else made), int(asks)

    async def _agreed(self, goal: Goal, match: Match) -> bool:
        """The person's answer, from the labels; one question for each task, and after that nobody is asked."""
        self.questioned.add(goal.procedure)
        made = await self.product.would_call(match)
        if isinstance(made, tuple) and verdict(goal, made, self.product.listed) == "right":
            return True
        await self.product.llmos.feedback.rejected(goal.text, match.trace.id, "the person said no")
        return False

    # --- why a repeat was missed ---------------------------------------------------------------------

    def _why(self, goal: Goal, decision: Decision) -> str:
        """The rule that kept a goal from the traces of its own procedure."""
        if goal.procedure not in self.admitted:
            return "never_learned"
        if decision.choice is Choice.CONFIRM:
            return "question_spent" if self.confirm else "needs_confirmation"
        own = self._own(goal, decision)
        if own:
            nearest = max(own, key=lambda one: one.outcome.agreed if isinstance(one.outcome, Miss) else 1_000_000)
            return nearest.outcome.rule if isinstance(nearest.outcome, Miss) else "rivals"
        refused = [trace.reason for trace in self.admitted[goal.procedure] if isinstance(trace, NotATrace)]
        if len(refused) == len(self.admitted[goal.procedure]):
            broke = refused[-1].startswith(("induction broke", "admission failed"))
            return "induction_broke" if broke else "not_a_trace"
        return "not_recalled"

    @staticmethod
    def _own(goal: Goal, decision: Decision) -> list[Considered]:
        """The considered traces of the goal's own procedure."""
        return [one for one in decision.considered if procedure_of_trace(one.trace) == goal.procedure]

    def _told(self, goal: Goal, decision: Decision, outcome: Outcome, made: tuple[Call, ...] | str) -> dict[str, Any]:
        """One wrong replay or missed repeat, as a line of the errors file."""
        line: dict[str, Any] = {
            "kind": "miss" if outcome.verdict is None else "wrong",
            "why": outcome.rule or outcome.verdict,
            "id": goal.id,
            "goal": goal.text,
            "task_id": goal.task_id,
            "slots": dict(goal.slots),
            "proc": sorted(goal.proc),
            "reason": decision.reason,
        }
        if isinstance(made, tuple) and decision.match is not None:
            line["followed"] = decision.match.template
            line["bindings"] = dict(decision.match.bindings)
            line["made"] = [dict(call.args) for call in made]
            line["wanted"] = [dict(call.args) for call in goal.calls]
            return line
        line["own"] = [_considered(one) for one in self._own(goal, decision)][:5]
        others = [one for one in decision.considered if procedure_of_trace(one.trace) != goal.procedure]
        line["others"] = [_considered(one) for one in others][:3]
        traces = self.admitted.get(goal.procedure, [])
        line["known"] = [t.goals[0] if isinstance(t, Trace) else f"none: {t.reason}" for t in traces][:8]
        return line


def procedure_of_trace(trace: Trace) -> str:
    """The procedure a trace carries out."""
    step = trace.calls[0]
    told = step.args.get(PROCEDURE)
    return procedure_of(Call.made(step.tool, {PROCEDURE: told.value} if isinstance(told, Const) else {}))


def _considered(one: Considered) -> dict[str, Any]:
    outcome = one.outcome
    said: dict[str, Any] = {"template": outcome.template, "how": one.how, "cosine": one.cosine}
    if isinstance(outcome, Miss):
        near = outcome.near
        said |= {"rule": outcome.rule, "words": list(outcome.words), "message": outcome.message}
        return said | ({"near": dict(near.bindings), "doubt": near.doubt} if near else {})
    return said | {"bindings": dict(outcome.bindings)}
