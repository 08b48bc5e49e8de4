"""What to do with a goal: a pure function of what recall found. Cosine ranks, it never authorises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from llmos.trace.lex import normalise
from llmos.trace.match import Match, Miss, World, match
from llmos.trace.program import Effect, Status, Trace

DEFAULT_BOUNDS: Mapping[Effect, float] = {Effect.PURE: 0.01, Effect.READ: 0.01, Effect.WRITE: 0.001}
"""How likely a replay may be wrong, by the trace's effect; an effect that is missing needs a proof."""

_WHOLLY = 1_000_000
"""`agreed` of a trace that was refused before its words were looked at: it is the nearest there is."""


class Choice(StrEnum):
    """The ways a goal can go."""

    FOLLOW = "follow"
    CONFIRM = "confirm"
    GUIDED = "guided"
    LEARN = "learn"


@dataclass(frozen=True, kw_only=True)
class Considered:
    """A trace that recall brought up (`how`: exact, skeleton or semantic) and what the gate said of it."""

    trace: Trace
    how: str
    cosine: float | None
    outcome: Match | Miss


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do, why in one sentence, and everything that was considered, nearest first.

    `match` is what would be followed or confirmed; `plan` the nearest trace, where it may help a learner.
    """

    choice: Choice
    reason: str
    match: Match | None = None
    considered: tuple[Considered, ...] = ()
    plan: Trace | None = None


def consider(
    goal: str,
    trace: Trace,
    *,
    how: str,
    world: World,
    cosine: float | None = None,
    negatives: frozenset[str] = frozenset(),
) -> Considered:
    """Put one recalled trace through the gate; an error inside the gate is a miss."""
    if normalise(goal) in negatives:
        outcome: Match | Miss = _refused(trace, "rejected", "this goal was rejected for it")
    else:
        try:
            outcome = match(goal, trace, world)
        except Exception as error:
            outcome = _refused(trace, "error", f"the gate failed on it ({type(error).__name__}: {error})")
    return Considered(trace=trace, how=how, cosine=cosine, outcome=outcome)


def _refused(trace: Trace, rule: str, message: str) -> Miss:
    return Miss(trace=trace, template=trace.goals[0], rule=rule, words=(), message=message, agreed=_WHOLLY)


def decide(considered: Sequence[Considered], *, bounds: Mapping[Effect, float] = DEFAULT_BOUNDS) -> Decision:
    """Follow the most specific proven trace, ask where its effects or its standing need it, else learn."""
    proven = [one.outcome for one in considered if isinstance(one.outcome, Match)]
    ordered = tuple(considered)
    if not proven:
        return Decision(choice=Choice.LEARN, reason=_nearest(considered), considered=ordered)
    best = max(proven, key=_preference)
    rivals = [m for m in proven if _preference(m)[:2] == _preference(best)[:2] and m.trace.id != best.trace.id]
    if any(rival.trace.steps != best.trace.steps for rival in rivals):
        labels = ", ".join(sorted({best.trace.label, *(rival.trace.label for rival in rivals)}))
        return Decision(choice=Choice.LEARN, reason=f"{labels} all claim this goal and differ", considered=ordered)
    if needs_confirmation(best.trace):
        reason = best.trace.reason or f"{best.trace.label} was not confirmed yet"
        return Decision(choice=Choice.CONFIRM, reason=reason, match=best, considered=ordered)
    reason = f"{best.trace.label} is proven for this goal"
    return Decision(choice=Choice.FOLLOW, reason=reason, match=best, considered=ordered)


def _preference(found: Match) -> tuple[bool, int, int]:
    """Trusted before candidate, more literal words before fewer, newer version last resort."""
    return found.trace.status is Status.TRUSTED, found.anchors, found.trace.version


def needs_confirmation(trace: Trace) -> bool:
    """Whether a person must agree before a trace is followed; once one did and it went well, it is trusted."""
    return trace.status is not Status.TRUSTED


def may_be_trusted(trace: Trace) -> bool:
    """Whether a fresh trace may be followed unasked: its effects stay in the workspace and can be looked at."""
    return trace.effect.rank <= Effect.WRITE.rank


def _nearest(considered: Sequence[Considered]) -> str:
    misses = [(one.outcome.agreed, one.outcome) for one in considered if isinstance(one.outcome, Miss)]
    if not misses:
        return "no trace is known for anything like it"
    _, nearest = max(misses, key=lambda pair: pair[0])
    return f"the nearest trace, {nearest.trace.label}, does not fit: {nearest.message}"
