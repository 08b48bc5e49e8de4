"""What to do with a goal: a pure function of what recall found. Cosine ranks, it never authorises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from llmos.trace.align import Aligner
from llmos.trace.lex import normalise, template_tokens
from llmos.trace.match import Match, Miss, World, match
from llmos.trace.phrases import anchors_of, words_in, words_of
from llmos.trace.program import Effect, Provenance, Status, Trace

DEFAULT_BOUNDS: Mapping[Effect, float] = {Effect.PURE: 0.01, Effect.READ: 0.01, Effect.WRITE: 0.001}
"""How likely a replay may be wrong, by the trace's effect; an effect that is missing needs a proof."""

MAX_ASKED = 0.65
"""Readings more doubtful than this are not worth a question, though a question costs less than learning."""

_FINAL_RULES = frozenset({"rejected", "error", "relation", "question", "ambiguous"})
"""What no other reading of the goal may get round."""
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
    """A trace that recall brought up (`how`: exact, skeleton, words or semantic) and what the gate said of it."""

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
    if negatives and normalise(goal) in negatives:
        outcome: Match | Miss = _refused(trace, "rejected", "this goal was rejected for it")
    else:
        try:
            outcome = match(goal, trace, world)
        except Exception as error:
            outcome = _refused(trace, "error", f"the gate failed on it ({type(error).__name__}: {error})")
    return Considered(trace=trace, how=how, cosine=cosine, outcome=outcome)


def _refused(trace: Trace, rule: str, message: str) -> Miss:
    return Miss(trace=trace, template=trace.goals[0], rule=rule, words=(), message=message, agreed=_WHOLLY)


def decide(
    considered: Sequence[Considered],
    *,
    goal: str,
    world: World | None = None,
    bounds: Mapping[Effect, float] = DEFAULT_BOUNDS,
) -> Decision:
    """Follow the most specific proven trace, ask where its effects or its standing need it, else learn.

    Where none is proven, the likeliest reading is followed if its doubt is within the bound of the trace's effect,
    and put to a person if not.
    """
    proven = [one.outcome for one in considered if isinstance(one.outcome, Match)]
    ordered = tuple(considered)
    if not proven:
        return _unproven(ordered, goal, world or World(), bounds)
    best = max(proven, key=_preference)
    rivals = [m for m in proven if _preference(m)[:3] == _preference(best)[:3] and m.trace.id != best.trace.id]
    if any(rival.trace.steps != best.trace.steps for rival in rivals):
        labels = ", ".join(sorted({best.trace.label, *(rival.trace.label for rival in rivals)}))
        return Decision(choice=Choice.LEARN, reason=f"{labels} all claim this goal and differ", considered=ordered)
    if needs_confirmation(best.trace):
        reason = best.trace.reason or f"{best.trace.label} was not confirmed yet"
        return Decision(choice=Choice.CONFIRM, reason=reason, match=best, considered=ordered)
    rival = _rival(goal, best, considered, world or World()) if best.open else None
    if rival is not None:
        from llmos.trace.equivalence import RIVAL

        reason = f"{rival.label} has the same words and another program, so the goal may mean either"
        asked = replace(best, doubt=RIVAL)
        return Decision(choice=Choice.CONFIRM, reason=reason, match=asked, considered=ordered)
    found = replace(best, doubt=_open_doubt(best, world or World()) if best.open else 0.0)
    if found.doubt > bounds.get(best.trace.effect, 0.0):
        reason = f"{best.trace.label} takes {_quoted(best)} for a value, and too few were seen to be sure"
        return Decision(choice=Choice.CONFIRM, reason=reason, match=found, considered=ordered)
    reason = f"{best.trace.label} is proven for this goal"
    return Decision(choice=Choice.FOLLOW, reason=reason, match=found, considered=ordered)


def _open_doubt(best: Match, world: World) -> float:
    from llmos.trace.equivalence import open_doubt
    from llmos.trace.likeness import opened

    return open_doubt(opened(best, world))


def _unproven(considered: tuple[Considered, ...], goal: str, world: World, bounds: Mapping[Effect, float]) -> Decision:
    """What to do with a goal that no trace is proven for."""
    from llmos.trace.equivalence import doubt, kind_of
    from llmos.trace.likeness import likely

    nearest = _nearest(considered)
    may_be = readable(considered)
    cosines = {one.trace.id: one.cosine for one in considered if one.cosine is not None}
    reading = likely(goal, may_be, world, cosines)
    if reading is None or needs_confirmation(reading.found.trace):
        return Decision(choice=Choice.LEARN, reason=nearest, considered=considered)
    found = replace(reading.found, doubt=doubt(reading.features))
    label, chance = found.trace.label, f"wrong in {found.doubt:.1%} of such cases"
    if kind_of(reading.features).may_go_unasked and found.doubt <= bounds.get(found.trace.effect, 0.0):
        reason = f"{label} is meant in other words ({chance})"
        return Decision(choice=Choice.FOLLOW, reason=reason, match=found, considered=considered)
    if found.doubt <= MAX_ASKED:
        reason = f"{label} may be meant ({chance}); {nearest}"
        return Decision(choice=Choice.CONFIRM, reason=reason, match=found, considered=considered)
    return Decision(choice=Choice.LEARN, reason=nearest, considered=considered)


def readable(considered: Sequence[Considered]) -> list[Trace]:
    """The traces that a goal may mean in another reading than the gate's; only trusted ones are then followed."""
    return [one.trace for one in considered if isinstance(one.outcome, Miss) and one.outcome.rule not in _FINAL_RULES]


def _quoted(found: Match) -> str:
    return " and ".join(repr(str(found.bindings[name])[:60]) for name in sorted(found.open))


def _rival(goal: str, best: Match, considered: Sequence[Considered], world: World) -> Trace | None:
    """Another program whose telling words the goal has as well: a free phrase can't say which of them is meant."""
    words = words_of(goal)
    held = anchors_of(best.template)
    for one in considered:
        if one.trace.id == best.trace.id or one.trace.steps == best.trace.steps:
            continue
        for template in one.trace.goals:
            anchors = anchors_of(template)
            if anchors <= words and len(anchors) >= len(held) and _has_values(goal, one.trace, template, world):
                return one.trace
    return None


def _has_values(goal: str, trace: Trace, template: str, world: World) -> bool:
    """Whether a goal may hold a value for each slot of a template that tools list the values of."""
    aligner = Aligner(goal=goal, pattern=template_tokens(template), tokens=(), trace=trace, world=world)
    said = f" {' '.join(words_in(goal))} "
    for slot in trace.slots:
        known = aligner.vocabulary(slot)
        if known is not None and not any(f" {' '.join(words_in(value))} " in said for value in known):
            return False
    return True


def _preference(found: Match) -> tuple[bool, int, bool, int]:
    """Trusted before candidate, more literal words before fewer, the user's own before a demonstration, then newer."""
    own = found.trace.provenance is not Provenance.DEMONSTRATION
    return found.trace.status is Status.TRUSTED, found.anchors, own, found.trace.version


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
