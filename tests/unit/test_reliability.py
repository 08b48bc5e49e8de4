"""How far a trace can be relied on, and when that no longer suffices to follow it unasked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from llmos.trace.decide import Choice, Decision
from llmos.trace.match import Match
from llmos.trace.program import Effect, Provenance, Status, Step, Trace
from llmos.trace.reliability import (
    NEEDED,
    Outcome,
    Record,
    beta_cdf,
    beta_quantile,
    doubt,
    recorded,
    reliability,
    weighed,
)
from llmos.trace.values import Const

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MONTH = timedelta(days=30)


def a_trace(effect: Effect = Effect.READ, provenance: Provenance = Provenance.LEARNED) -> Trace:
    step = Step(id="s", tool="t", args={"a": Const(value=1)}, effect=effect)
    return Trace(id="one", goals=("Do it",), steps=(step,), provenance=provenance, status=Status.TRUSTED)


def following(trace: Trace) -> Decision:
    return Decision(
        choice=Choice.FOLLOW, reason="proven", match=Match(trace=trace, template="Do it", bindings={}, anchors=2)
    )


def outcomes(*oks: bool, age: timedelta = timedelta()) -> list[Outcome]:
    return [Outcome(ok=ok, at=NOW - age) for ok in oks]


@pytest.mark.parametrize(("a", "b", "x"), [(1.0, 1.0, 0.3), (2.0, 1.0, 0.5), (1.0, 3.0, 0.2), (9.0, 1.0, 0.7)])
def test_the_beta_distribution_agrees_with_its_closed_forms(a: float, b: float, x: float) -> None:
    closed = x**a if b == 1.0 else 1 - (1 - x) ** b
    assert beta_cdf(x, a, b) == pytest.approx(closed, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (3.2, 1.7), (40.0, 3.0), (900.0, 12.0)])
def test_a_quantile_is_where_the_distribution_has_that_much_below(a: float, b: float) -> None:
    assert beta_cdf(beta_quantile(0.05, a, b), a, b) == pytest.approx(0.05, abs=1e-9)


def test_the_quantile_of_a_known_case() -> None:
    assert beta_quantile(0.05, 10, 2) == pytest.approx(0.6356, abs=1e-4)  # published table of the Beta distribution


@pytest.mark.parametrize("effect", list(Effect))
@pytest.mark.parametrize("provenance", list(Provenance))
def test_a_trusted_trace_that_never_failed_is_followed_at_once(effect: Effect, provenance: Provenance) -> None:
    trace = a_trace(effect, provenance)
    assert weighed(following(trace), Record()).choice is Choice.FOLLOW
    assert reliability(trace, Record()) >= NEEDED[effect]


def test_failures_make_a_trace_ask_the_sooner_the_worse_its_effects() -> None:
    def allowed(effect: Effect) -> int:
        return next(n for n in range(20) if doubt(a_trace(effect), Record(failures=n + 1)) is not None)

    assert 1 <= allowed(Effect.EXTERNAL) + 1 <= allowed(Effect.WRITE) + 1
    assert allowed(Effect.WRITE) < allowed(Effect.READ) <= allowed(Effect.PURE)


def test_the_question_says_why_it_is_asked() -> None:
    asked = weighed(following(a_trace(Effect.WRITE)), Record(failures=4))
    assert asked.choice is Choice.CONFIRM
    assert asked.match is not None
    assert "failed too often lately" in asked.reason
    assert "write" in asked.reason


def test_a_decision_that_is_none_to_follow_stays() -> None:
    learning = Decision(choice=Choice.LEARN, reason="nothing known")
    assert weighed(learning, Record(failures=50)) is learning


def test_an_outcome_counts_half_after_its_half_life() -> None:
    record = recorded(outcomes(True, False, age=MONTH), NOW, MONTH)
    assert [record.successes, record.failures] == pytest.approx([0.5, 0.5])


def test_old_failures_are_forgiven() -> None:
    fresh, old = (recorded(outcomes(False, False, age=age), NOW, MONTH) for age in (timedelta(), 12 * MONTH))
    assert doubt(a_trace(Effect.WRITE), fresh) is not None
    assert doubt(a_trace(Effect.WRITE), old) is None


def test_failures_in_a_row_are_those_since_the_last_success() -> None:
    assert recorded(outcomes(False, True, False, False), NOW, MONTH).failing == 2
    assert recorded(outcomes(False, False, True), NOW, MONTH).failing == 0


def test_successes_raise_what_can_be_relied_on() -> None:
    trace = a_trace()
    assert (
        reliability(trace, Record(successes=20))
        > reliability(trace, Record())
        > reliability(replace(trace, provenance=Provenance.IMPORTED), Record())
    )


def test_a_time_that_lies_ahead_counts_as_now() -> None:
    assert recorded([Outcome(ok=True, at=NOW + MONTH)], NOW, MONTH).successes == 1.0
