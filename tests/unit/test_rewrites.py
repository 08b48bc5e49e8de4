from __future__ import annotations

from llmos.trace.lex import template_tokens
from llmos.trace.rewrites import Book, difference, licences, plain_words, telling_words, wordings

LIGHTS_ON = ("turn on the lights in the {area}", "switch on the lights in the {area}", "turn on the {area} lights")
LIGHTS_OFF = ("turn off the lights in the {area}",)


def words(goal: str, *, prepositions: bool = False) -> tuple[str, ...]:
    return telling_words(plain_words(template_tokens(goal)), prepositions=prepositions)


def book(goals: tuple[str, ...], *others: tuple[str, ...]) -> Book:
    return Book(goals=goals, others=others, prepositions=False)


def test_courtesies_articles_and_pronouns_come_and_go() -> None:
    assert words("Could you please turn on my lights in the {area}") == ("turn", "on", "lights", "<area>")


def test_a_question_stays_a_question() -> None:
    assert words("are all lights off") != words("all lights off")


def test_prepositions_tell_two_slots_of_a_kind_apart() -> None:
    assert words("search for {a} in {b}", prepositions=True) != words("search in {a} for {b}", prepositions=True)


def test_two_wordings_differ_in_one_place() -> None:
    assert difference(("turn", "on", "lights"), ("switch", "on", "lights")) == (("turn",), ("switch",))


def test_the_wordings_of_a_trace_license_what_they_differ_in() -> None:
    found = licences(LIGHTS_ON, False)
    assert (("turn",), ("switch",)) in found
    assert (("lights", "<area>"), ("<area>", "lights")) in found


def test_a_licence_carries_over_to_another_wording_of_the_trace() -> None:
    near = book(LIGHTS_ON).distance(words("switch on the {area} lights"), 2.0)
    assert near is not None and near[0] == 1.0


def test_what_no_wording_shows_is_not_licensed() -> None:
    assert book(LIGHTS_ON).distance(words("dim the lights in the {area}"), 3.0) is None


def test_what_parts_two_traces_is_never_licensed() -> None:
    """Both wordings of the first were recorded; the second shows that the word matters there."""
    goals = ("stop the timer for {name}", "stop the alarm for {name}")
    assert book(goals).cost(("timer",), ("alarm",)) is not None
    assert book(goals, ("stop the alarm for {name}",)).cost(("timer",), ("alarm",)) is None


def test_a_word_on_which_the_meaning_turns_needs_more_than_one_pair() -> None:
    once = ("turn on all lights", "turn on lights")
    assert book(once).cost(("all",), ()) is None
    often = (*once, "switch on all lights", "switch on lights", "activate all lights", "activate lights")
    assert book(often).cost(("all",), ()) == 1.0


def test_rewrites_that_two_other_traces_show_cost_more() -> None:
    lamps = ("dim the lights", "dim the lamps"), ("count the lights now", "count the lamps now")
    assert book(LIGHTS_OFF, *lamps).cost(("lights",), ("lamps",)) == 1.5
    assert book(LIGHTS_OFF, lamps[0]).cost(("lights",), ("lamps",)) is None


def test_all_wordings_of_a_trace_are_read() -> None:
    assert len(wordings(LIGHTS_ON, False)) == len(LIGHTS_ON)
