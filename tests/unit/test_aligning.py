"""A goal beside a template, word by word."""

from __future__ import annotations

import pytest
from hypothesis import given

from llmos.trace.aligning import PairKind, alignment, fitting, has_something_in_common
from llmos.trace.lex import is_noise, template_tokens, tokenize, without_final
from llmos.trace.program import Slot, SlotType, Step, Trace
from llmos.trace.values import Const
from tests.unit.strategies import GOALS

CONVERT = "Convert {source} to {target}"


def a_trace(*goals: str) -> Trace:
    slots = (Slot(name="source", type=SlotType.PATH), Slot(name="target", type=SlotType.PATH))
    step = Step(id="s", tool="t", args={"a": Const(value=1)})
    return Trace(id="one", goals=goals or (CONVERT,), slots=slots, steps=(step,))


def read(goal: str, template: str = CONVERT, **bindings: str) -> list[tuple[str | None, str | None, str]]:
    return [
        (pair.template, pair.goal, str(pair.kind)) for pair in alignment(goal, a_trace(template), template, bindings)
    ]


def test_each_word_is_shown_with_what_became_of_it() -> None:
    assert read("please convert a.csv into b.json quickly") == [
        (None, "please", "ignored"),
        ("Convert", "convert", "same"),
        ("<source>", "a.csv", "slot"),
        ("to", "into", "differs"),
        ("<target>", "b.json", "slot"),
        (None, "quickly", "left_over"),
    ]


def test_what_the_goal_lacks_is_missing() -> None:
    assert read("Convert a.csv") == [
        ("Convert", "Convert", "same"),
        ("<source>", "a.csv", "slot"),
        ("to", None, "missing"),
        ("<target>", None, "missing"),
    ]


def test_a_value_of_several_words_stands_beside_its_slot() -> None:
    pairs = read("Convert my old notes to b.json", source="my old notes", target="b.json")
    assert ("<source>", "my old notes", "slot") in pairs
    assert [kind for _, _, kind in pairs] == ["same", "slot", "same", "slot"]


@pytest.mark.parametrize(
    ("goal", "needed"),
    [
        ("Convert a.csv into b.json quickly", "Convert a.csv to b.json"),
        ("Convert a.csv", "Convert a.csv to <target>"),
        ("Translate a.csv to b.json", "Convert a.csv to b.json"),
    ],
)
def test_what_would_have_fitted_is_the_goal_in_the_templates_words(goal: str, needed: str) -> None:
    assert fitting(alignment(goal, a_trace(), CONVERT)) == needed


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ("hello there", False),
        ("Are you there", False),
        ("Write a poem about the sea", False),
        ("Convert the currency", True),
        ("Converting a.csv", True),
        ("Turn a.csv into b.json", True),
        ("Summarise a.csv", False),
    ],
)
def test_a_trace_has_to_do_with_a_goal_by_its_words_or_its_values(goal: str, expected: bool) -> None:
    assert has_something_in_common(goal, a_trace()) is expected


@given(GOALS)
def test_nothing_of_a_goal_or_a_template_is_lost(goal: str) -> None:
    pairs = alignment(goal, a_trace(), CONVERT)
    tokens = without_final(tokenize(goal))
    if not pairs:
        return
    assert sum(len(tokenize(pair.goal)) for pair in pairs if pair.goal is not None) >= len(tokens) - 1
    assert len([pair for pair in pairs if pair.template is not None]) == len(template_tokens(CONVERT))
    ignored = [pair.goal for pair in pairs if pair.kind is PairKind.IGNORED]
    assert all(text is not None and is_noise(tokenize(text)[0]) for text in ignored)


def test_texts_too_long_to_be_read_are_not_laid_side_by_side() -> None:
    assert alignment("word " * 30_000, a_trace(), CONVERT) == []
