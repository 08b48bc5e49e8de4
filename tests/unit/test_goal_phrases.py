"""What of a recorded goal becomes a slot: phrases that share words, numbers with units, and how two runs join them."""

from __future__ import annotations

from typing import Any

from llmos.trace.lex import Kind, tokenize
from llmos.trace.match import Match, match
from llmos.trace.program import SlotType, Trace
from llmos.trace.unify import unify
from tests.unit.trace_lab import ENV, FACTS, learned, plugin, run_of, step

EXTRA = (plugin("get"),)


def learn(goal: str, **args: Any) -> Trace:
    return learned(goal, step("get", args, "done"), answer="Done.", extra=EXTRA)


def joined(first: str, second: str, one: dict[str, Any], other: dict[str, Any]) -> Trace | None:
    tools = FACTS | {"get": EXTRA[0]}
    runs = [run_of(goal, step("get", args, "done")) for goal, args in ((first, one), (second, other))]
    return unify(learn(first, **one), learn(second, **other), runs[1], runs[:1], tools=tools, env_of=lambda run: ENV)


def test_two_phrases_may_share_a_word() -> None:
    trace = learn(
        "Sum the kayaking from October 4 2023 to October 14 2023", start="October 4 2023", end="October 14 2023"
    )
    assert trace.goals == ("Sum the kayaking from {start} to {end}",)
    found = match("Sum the kayaking from October 7 2023 to October 9 2023", trace)
    assert isinstance(found, Match)
    assert found.bindings == {"start": "October 7 2023", "end": "October 9 2023"}


def test_a_number_may_have_its_unit_right_behind_it() -> None:
    assert [(token.kind, token.text) for token in tokenize("at 21h")][1:] == [(Kind.NUMBER, "21"), (Kind.WORD, "h")]
    assert [token.text for token in tokenize("a11y 5B 3rd 0h")] == ["a11y", "5B", "3rd", "0h"]


def test_a_number_in_one_run_and_a_phrase_in_another_are_one_slot() -> None:
    trace = joined(
        "Sum the refunds of cancelled orders in 2022 with shipping",
        "Sum the refunds of cancelled orders in April 2022 with shipping",
        {"time": "2022"},
        {"time": "April 2022"},
    )
    assert trace is not None
    (slot,) = trace.slots
    assert slot.type is SlotType.TEXT
    assert isinstance(match("Sum the refunds of cancelled orders in May 2023 with shipping", trace), Match)


def test_an_article_makes_another_wording_of_one_trace() -> None:
    trace = joined(
        "Add Spring Meadow to my wish list",
        "Add a white desk to my wish list",
        {"product": "Spring Meadow"},
        {"product": "white desk"},
    )
    assert trace is not None
    assert len(trace.goals) == 2


def test_where_too_little_holds_a_template_the_shortest_phrase_stays() -> None:
    trace = learn("Tell me the closest cafe(s) to CMU Hunt library", kind="cafe", place="CMU Hunt library")
    assert trace.goals == ("Tell me the closest cafe(s) to {place}",)
