from __future__ import annotations

import pytest

from llmos.trace.lex import Token, tokenize
from llmos.trace.phrases import anchors_of, is_anchor, shape_of, strange


def refusal(examples: tuple[str, ...], value: str, *, anchors: str = "", article: bool = False) -> str | None:
    return strange(examples, tokenize(value), frozenset(anchors.split()), article=article)


@pytest.mark.parametrize(
    ("examples", "value"),
    [
        (("books",), "space"),
        (("gates building",), "pittsburgh international airport"),
        (("Eternal Flame, Night Drive",), "City of Stars, Forever Young"),
        (("May 2023",), "Apr 2022"),
        (("the big apple",), "the windy city"),
        (("To be or not to be.",), "The cake is a lie."),
        (("suspected of being fraudulent",), "canceled"),
        (("Paris",), "New York"),
        (("Paris",), "Isle of Man"),
        (("chair",), "family table"),
        (("half-price chairs again",), "tables again"),
        (("monday",), "friday"),
        (("Celsius",), "Fahrenheit"),
    ],
)
def test_a_phrase_like_those_before_may_be_a_value(examples: tuple[str, ...], value: str) -> None:
    assert refusal(examples, value) is None


@pytest.mark.parametrize(
    ("examples", "value", "why"),
    [
        (("books",), "books that are not too long", "say more"),
        (("CMU",), "CMU I can walk to", "say more"),
        (("orders",), "the last 5 orders", "article"),
        (("white desk",), "a white desk", "article"),
        (("Busy",), "Busy.", "full stop"),
        (("Hocus Bogus",), "Hocus Bogus a", "article"),
        (("The cake is a lie.",), "The cake is a lie", "full stop"),
        (("one song",), "one song, another song", "more or fewer"),
        (("Night Drive, Moments",), "Moments", "more or fewer"),
        (("chair",), "old brown oak wood dining table", "longer"),
        (("chair",), ", chair", "punctuation"),
        (("chair",), "table again", "say more"),
        (("chair",), "table quickly", "say more"),
        (("chair",), "table (cheap)", "say more"),
        (("chair",), "table & lamp", "say more"),
        (("chair",), "everything else", "say more"),
        (("Paris",), "monday", "say more"),
        (("Paris",), "Berlin hour by hour", "say more"),
        (("Paris",), "Berlin forecast", "written small"),
        (("report",), "in/report.txt", "say more"),
        (("report",), "https://example.com", "say more"),
        (("New York",), "cities nearby", "written small"),
        (("paris", "berlin"), "christmas", "a time"),
        (("ada", "bob"), "author", "a kind"),
        (("ada", "bob"), "two authors", "a count"),
        (("ada", "bob"), "eve vs carl", "say more"),
        (("paris", "berlin"), "celsius", "a unit"),
        (("Room 12", "Room 5"), "Room 12 13", "more numbers"),
    ],
)
def test_a_phrase_unlike_those_before_is_refused(examples: tuple[str, ...], value: str, why: str) -> None:
    assert why in str(refusal(examples, value))


def test_a_word_of_the_template_is_no_part_of_a_value() -> None:
    assert "wording" in str(refusal(("chair",), "red subreddit", anchors="post subreddit"))


def test_prose_may_hold_any_words_but_a_list_keeps_its_length() -> None:
    message = "You can't make an omelette without breaking a few eggs."
    assert refusal((message,), "Not all of those who wander are lost, or so it is said.") is None
    listed = "Voices in the Hall, Eternal Flame of the North"
    assert refusal((listed,), "My Heart is Yours, City of Stars, Under the Sky and so on") is not None


def test_what_was_seen_more_widely_takes_more() -> None:
    assert refusal(("CMU Hunt library",), "university center at CMU") is not None
    assert refusal(("CMU Hunt library", "gates building at CMU"), "university center at CMU") is None


def test_the_shape_of_values_is_their_small_words_and_marks() -> None:
    shape = shape_of(("from Jan to May 2022", "2023"))
    assert shape.marks == {"from", "to", "number", "a time"}
    assert not shape.prose


def test_anchors_are_content_words_and_words_on_which_the_meaning_turns() -> None:
    assert anchors_of("Show me the latest posts in {forum}, not the oldest") == {"latest", "posts", "not", "oldest"}
    assert not is_anchor(next(token for token in tokenize("the file") if isinstance(token, Token)))


def test_a_capital_article_belongs_to_a_name_and_a_small_one_does_not() -> None:
    assert refusal(("The Hobbit",), "The Stand") is None
    assert "article" in str(refusal(("The Hobbit",), "the parable of the sower"))
    assert "article" in str(refusal(("the big apple",), "The Hague"))
