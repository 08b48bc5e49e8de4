"""Goals as tokens: what is a literal, what is lost (nothing), and that no text makes it slow."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given

from llmos.errors import GoalError, TraceFormatError
from llmos.trace.lex import (
    MAX_GOAL_CHARS,
    Kind,
    Place,
    check_goal,
    escape_template,
    masked,
    normalise,
    skeleton,
    template_masked,
    template_parts,
    template_skeleton,
    tokenize,
    without_final,
)
from llmos.trace.program import Slot, SlotType
from tests.unit.strategies import GOALS

TOKENS = [
    ("a.csv,b.csv", [("path", "a.csv"), ("punct", ","), ("path", "b.csv")]),
    ("x/../y.txt.", [("path", "x/../y.txt"), ("punct", ".")]),
    ("a/..", [("path", "a/..")]),
    ("see a/...", [("word", "see"), ("path", "a/"), ("punct", "."), ("punct", "."), ("punct", ".")]),
    ("/tmp/*.log ./*.py", [("glob", "/tmp/*.log"), ("glob", "./*.py")]),
    ("src/**/*.py?", [("glob", "src/**/*.py"), ("punct", "?")]),
    ("2 + 3 * (4-1)", [("expression", "2 + 3 * (4-1)")]),
    ("1 2 + 3", [("number", "1"), ("expression", "2 + 3")]),
    ("photo (1)", [("word", "photo"), ("punct", "("), ("number", "1"), ("punct", ")")]),
    ("sqrt(2) + 15%", [("expression", "sqrt(2) + 15%")]),
    ("-5", [("expression", "-5")]),
    ("1,000.50 1,00", [("number", "1,000.50"), ("number", "1"), ("punct", ","), ("number", "00")]),
    ("'two words' “x”", [("quoted", "'two words'"), ("quoted", "“x”")]),
    ("don't", [("word", "don't")]),
    ("'my file.csv'", [("path", "'my file.csv'")]),
    ("mail a.b@c.org.", [("word", "mail"), ("email", "a.b@c.org"), ("punct", ".")]),
    ("https://x.y/z?a=1).", [("url", "https://x.y/z?a=1"), ("punct", ")"), ("punct", ".")]),
    ("2026-11-21 2026-11", [("date", "2026-11-21"), ("expression", "2026-11")]),
    ("unit_price v1.2 camelCase", [("identifier", "unit_price"), ("identifier", "v1.2"), ("identifier", "camelCase")]),
]


@pytest.mark.parametrize(("goal", "expected"), TOKENS, ids=[goal for goal, _ in TOKENS])
def test_a_goal_is_read_as_words_and_literals(goal: str, expected: list[tuple[str, str]]) -> None:
    assert [(str(token.kind), token.text) for token in tokenize(goal)] == expected


@given(GOALS)
def test_tokens_lose_nothing_and_do_not_overlap(goal: str) -> None:
    text = unicodedata.normalize("NFC", goal)
    position, seen = 0, ""
    for token in tokenize(goal):
        assert token.start >= position
        assert text[token.start : token.end] == token.text != ""
        assert text[position : token.start].strip() == ""
        seen, position = seen + token.text, token.end
    assert text[position:].strip() == ""
    assert "".join(seen.split()) == "".join(text.split())


@given(GOALS)
def test_the_exact_look_up_does_not_see_space_case_and_courtesy(goal: str) -> None:
    spaced = " " + unicodedata.normalize("NFD", goal).replace(" ", "  ") + " "
    if not {*"'\"`“["} & {*goal}:  # what is quoted, and a list, counts as written
        assert normalise(spaced) == normalise(goal)
    assert normalise(goal) == normalise(goal.strip())
    assert isinstance(skeleton(goal), str)
    assert isinstance(masked(goal), str)


def test_normalising_keeps_what_matters() -> None:
    assert normalise("Please convert the a.csv!") == normalise("convert  a.csv")
    for one, other in [("A.csv", "a.csv"), ("'A'", "'a'"), ("5", "6"), ("not x", "x"), ("a.csv b.csv", "b.csv a.csv")]:
        assert normalise(f"use {one}") != normalise(f"use {other}")
    assert skeleton("convert a.csv to 'x y'") == "convert <path> to <quoted>"
    assert masked("convert a.csv to 5") == "convert a file to a number"


@given(GOALS)
def test_escaped_text_is_one_literal_part_of_a_template(goal: str) -> None:
    assert "".join(str(part) for part in template_parts(escape_template(goal))) == goal


def test_a_template_is_text_and_places() -> None:
    assert template_parts("a {x} {{b}} {y}") == ["a ", Place(slot="x"), " {b} ", Place(slot="y")]
    for broken in ("a {", "a }", "{1}", "{a b}"):
        with pytest.raises(TraceFormatError):
            template_parts(broken)


def test_a_template_has_the_skeleton_of_its_goals() -> None:
    slots = (Slot(name="a", type=SlotType.PATH), Slot(name="b", type=SlotType.NUMBER))
    assert template_skeleton("Cut {a} to the {b} lines.", slots) == skeleton("cut x.txt to 7 lines")
    assert template_masked("Cut {a} to {b} lines", slots) == masked("Cut x.txt to 7 lines")


ADVERSARIAL = {
    **{f"{char!r} only": char * MAX_GOAL_CHARS for char in "./'\"“`()[{*?-+~,@=1aé:"},
    **{
        f"{piece!r} again": piece * (MAX_GOAL_CHARS // len(piece))
        for piece in (
            "1,",
            "111,",
            "a,",
            "a@",
            "a.",
            "a*",
            "a/",
            "1+",
            "(1+",
            "1-",
            "a-",
            "a=",
            "*[",
            "?a",
            "./",
            "../",
        )
    },
    **{
        f"{piece!r} again": piece * (MAX_GOAL_CHARS // len(piece))
        for piece in ("http://", "'a ", "=,", "@.", "+1,", "sqrt(")
    },
}


@pytest.mark.parametrize("goal", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_no_text_makes_reading_slow(goal: str) -> None:
    started = time.perf_counter()
    tokenize(goal)
    assert time.perf_counter() - started < 20.0  # about 0.2 s on an idle core; quadratic reading takes minutes


@pytest.mark.parametrize("goal", ["", "  \n", "...", "?", "a\x00b", "\x1b[31mx", "x" * (MAX_GOAL_CHARS + 1), "\ud800x"])
def test_what_is_no_goal_is_refused(goal: str) -> None:
    with pytest.raises(GoalError):
        check_goal(goal)


def test_a_goal_is_taken_composed_and_stripped() -> None:
    assert check_goal(" caf\u0065\u0301 \n") == "caf\u00e9"
    assert all(kind.is_literal for kind in Kind if kind not in (Kind.WORD, Kind.PUNCT))


def test_a_factorial_is_no_end_of_a_sentence() -> None:
    assert [token.text for token in without_final(tokenize("What is 5!"))][-1] == "!"
    assert [token.text for token in without_final(tokenize("Show a.csv!"))][-1] == "a.csv"
