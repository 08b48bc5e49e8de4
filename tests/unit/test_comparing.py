"""Whether the learner, asked again, comes to what a replay came to."""

from __future__ import annotations

import pytest

from llmos.trace.comparing import Audit, compared, facts
from llmos.trace.run import StepRecord

GOAL = "How many lines has a.csv"
ONE = (StepRecord(index=0, tool="read", args={"path": "a.csv"}),)
OTHER = (StepRecord(index=0, tool="read", args={"path": "b.csv"}),)
FAILED = StepRecord(index=0, tool="read", args={"path": "no.csv"}, is_error=True)


@pytest.mark.parametrize(
    ("replayed", "learned", "calls", "verdict"),
    [
        ("12 lines", "12  LINES.", OTHER, Audit.AGREED),
        ("a.csv: 12", "There are 12 lines in a.csv.", OTHER, Audit.AGREED),
        ("1,250.50", "The sum is 1250.5", OTHER, Audit.AGREED),
        ("12", "There are 13 lines.", ONE, Audit.DISAGREED),
        ("see b.csv", "It is in c.csv.", ONE, Audit.DISAGREED),
        ("12", "It was written on 2026-03-31.", ONE, Audit.DISAGREED),
        ("North leads", "The region North leads", OTHER, Audit.UNDECIDED),
        ("The region North leads", "North leads", OTHER, Audit.AGREED),
        ("North leads", "South leads", OTHER, Audit.UNDECIDED),
        ("Done.", "I have looked at everything.", ONE, Audit.AGREED),
    ],
)
def test_an_answer_is_compared_by_its_facts_then_by_its_words_then_by_its_calls(
    replayed: str, learned: str, calls: tuple[StepRecord, ...], verdict: Audit
) -> None:
    assert compared(GOAL, replayed, ONE, learned, calls) is verdict


def test_failed_calls_and_the_order_of_calls_do_not_count() -> None:
    calls, swapped = (*ONE, *OTHER), (*OTHER, FAILED, *ONE)
    assert compared(GOAL, "Done.", calls, "All is well.", swapped) is Audit.AGREED


def test_what_the_goal_says_itself_is_no_fact_of_the_answer() -> None:
    assert compared("Show 3 rows of a.csv", "x", ONE, "Here are 3 rows of a.csv: x", OTHER) is not Audit.DISAGREED


def test_numbers_are_facts_whatever_their_format() -> None:
    assert facts("1,250.50 and 1250.5 and -3") == {"1250.5", "-3"}
