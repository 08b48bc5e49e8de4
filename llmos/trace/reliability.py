"""How far a trace can be relied on: a decayed Beta posterior over what became of its replays.

Each replay, rejection and audit is a success or a failure that counts half after a half-life. With the prior of where
the trace comes from they make a Beta distribution; its 5 % quantile is what the trace is held to. The worse a trace's
effects, the higher that must be for a replay that nobody is asked about. A prior alone always suffices: a trace
that was proven and never failed is followed at once, and does not age out of that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from llmos.trace.decide import Choice, Decision
from llmos.trace.program import Effect, Provenance, Trace

QUANTILE = 0.05

PRIORS: Mapping[Provenance, tuple[float, float]] = {
    Provenance.DEMONSTRATION: (19.0, 1.0),
    Provenance.LEARNED: (9.0, 1.0),
    Provenance.IMPORTED: (7.5, 1.0),
}
"""Successes and failures a trace is credited with before it was replayed."""

NEEDED: Mapping[Effect, float] = {
    Effect.PURE: 0.4,
    Effect.READ: 0.5,
    Effect.WRITE: 0.6,
    Effect.EXTERNAL: 0.65,
    Effect.UNKNOWN: 0.67,
}
"""The lower bound a trace must have to be followed unasked."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one replay of a trace, by the last judgement there is of it."""

    ok: bool
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Record:
    """A trace's outcomes, weighed by age; `failing` counts the failures since the last success."""

    successes: float = 0.0
    failures: float = 0.0
    failing: int = 0


def recorded(outcomes: Sequence[Outcome], now: datetime, half_life: timedelta) -> Record:
    """The outcomes of a trace, oldest first, as seen from now."""
    successes = failures = 0.0
    failing, half_s = 0, half_life.total_seconds()
    for outcome in outcomes:
        age_s = (now - outcome.at).total_seconds()
        weight = 0.5 ** (age_s / half_s) if age_s > 0 else 1.0
        if outcome.ok:
            successes, failing = successes + weight, 0
        else:
            failures, failing = failures + weight, failing + 1
    return Record(successes=successes, failures=failures, failing=failing)


def reliability(trace: Trace, record: Record) -> float:
    """The share of replays that goes well, but for a chance of QUANTILE, at least."""
    successes, failures = PRIORS[trace.provenance]
    return beta_quantile(QUANTILE, successes + record.successes, failures + record.failures)


def doubt(trace: Trace, record: Record) -> str | None:
    """Why a trace must be confirmed, in one sentence; None where it can be relied on."""
    if not record.failures:
        return None
    bound, needed = reliability(trace, record), NEEDED[trace.effect]
    if bound >= needed:
        return None
    return (
        f"{trace.label} failed too often lately: at least {math.floor(100 * bound)} % of its replays go well, "
        f"and one with the effect {trace.effect} needs {round(100 * needed)} %"
    )


def weighed(decision: Decision, record: Record) -> Decision:
    """The decision, with a question in place of a replay that can't be relied on."""
    if decision.choice is not Choice.FOLLOW or decision.match is None:
        return decision
    reason = doubt(decision.match.trace, record)
    return decision if reason is None else replace(decision, choice=Choice.CONFIRM, reason=reason)


# --- the Beta distribution ---------------------------------------------------------------------------


def beta_quantile(share: float, a: float, b: float) -> float:
    """The x below which a Beta(a, b) lies with this probability, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b). Source: DLMF 8.17.22, by Lentz's method."""
    if x <= 0.0 or x >= 1.0:
        return min(1.0, max(0.0, x))
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    return front * _continued(x, a, b) / a


_TINY = 1e-300


def _continued(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x(a, b)."""
    c, d = 1.0, 1.0 / _apart(1.0 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1.0 / _apart(1.0 + term * d), _apart(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return value


def _apart(value: float) -> float:
    """The value, kept away from zero."""
    return value if abs(value) > _TINY else _TINY
