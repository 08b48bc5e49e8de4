"""How doubts are fitted: scores rank, bins count, each goal counts once."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.equivalence import RIVALS, Model, Sample, distinct
from benchmarks.goals import Goal, mostly_new
from benchmarks.logistic import MIN_BIN, binned, cross_scored, expected, upper_bound, weights_of
from llmos.trace.equivalence import INPUTS, SIGNS, ReadingKind, kind_of, vector_of
from llmos.trace.equivalence_table import WEIGHTS
from llmos.trace.likeness import Features


def readings(count: int = 400) -> tuple[list[tuple[float, float]], list[bool]]:
    """One input beside the constant; the higher it is, the more often the reading is wrong."""
    draw = random.Random(1)
    inputs = [(1.0, draw.uniform(-3, 3)) for _ in range(count)]
    return inputs, [draw.random() < 1 / (1 + 2.718 ** (-2 * x)) for _, x in inputs]


def test_what_makes_readings_wrong_gets_a_positive_weight() -> None:
    inputs, wrong = readings()
    constant, slope = weights_of(inputs, wrong)
    assert abs(constant) < 0.5
    assert 1 < slope < 3


def test_nothing_to_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="no readings"):
        weights_of([], [])


def test_bins_rise_and_hold_enough_readings() -> None:
    inputs, wrong = readings()
    bins = binned(cross_scored(inputs, wrong), wrong)
    assert [score for score, _ in bins] == sorted(score for score, _ in bins)
    assert [chance for _, chance in bins] == sorted(chance for _, chance in bins)
    assert bins[0][1] < 0.2 < 0.8 < bins[-1][1]


def test_scores_that_say_nothing_end_in_one_bin() -> None:
    wrong = [place % 2 == 0 for place in range(4 * MIN_BIN)]
    bins = binned([float(place) for place in range(len(wrong))], wrong)
    ((score, chance),) = bins
    assert score == len(wrong) - 1
    assert chance == pytest.approx(0.5, abs=0.01)


def test_fifty_without_an_error_are_held_wrong_with_less_than_one_percent() -> None:
    assert expected(0, MIN_BIN) < 0.01 < expected(1, MIN_BIN)


def test_the_bound_is_clopper_and_pearsons() -> None:
    assert upper_bound(0, 60) == pytest.approx(1 - 0.05 ** (1 / 60), abs=1e-6)


def sample(goal: str, *, right: bool, seen: str = "s", features: Features | None = None) -> Sample:
    kind = str(kind_of(features)) if features else "open"
    return Sample(source=seen, kind=kind, right=right, goal=goal, features=features)


def test_another_order_of_a_stream_makes_no_new_goals() -> None:
    once = [sample("a", right=True), sample("b", right=True)]
    assert len(distinct([*once, *once])) == 2


def test_a_goal_that_was_once_read_wrongly_counts_as_wrong() -> None:
    for order in ([True, False], [False, True]):
        (kept,) = distinct([sample("a", right=right) for right in order])
        assert not kept.right


def test_the_table_is_python_that_gives_the_doubts_back() -> None:
    draw = random.Random(2)
    kinds = {
        ReadingKind.REWORDED: Features(licensed=1.0, held=3),
        ReadingKind.STRETCHED: Features(held=4, opens=1, length=2),
        ReadingKind.ODD: Features(held=4, opens=1, length=2, odd=("list",)),
        ReadingKind.GUESSED: Features(guessed=1, held=2),
    }
    samples = [
        sample(f"{kind} {number}", right=draw.random() < 0.7, features=features)
        for kind, features in kinds.items()
        for number in range(80)
    ]
    samples += [
        Sample(source="s", kind="open", right=True, goal=f"g{n}", features=Features(opens=1)) for n in range(60)
    ]
    samples += [Sample(source="s", kind=RIVALS, right=True, goal=f"r{n}") for n in range(9)]
    model, namespace = Model.of(samples), dict[str, object]()
    exec(model.module(), namespace)
    assert namespace["WEIGHTS"] == model.weights
    assert namespace["BINS"] == {kind: tuple(rows) for kind, rows in model.bins.items()}
    assert namespace["RIVAL"] == model.rival == pytest.approx(0.05)
    report = model.report(samples)
    assert sum(one["readings"] for one in report["kinds"]["guessed"]["bins"]) == 80


@pytest.mark.parametrize(
    "against",
    [
        {"guessed": 1},
        {"gone": 1},
        {"turned": 1},
        {"foreign": 1},
    ],
)
def test_what_nothing_speaks_for_makes_a_reading_a_guess(against: dict[str, Any]) -> None:
    shown = Features(licensed=1.0, held=9)
    assert kind_of(shown) is ReadingKind.REWORDED
    assert kind_of(replace(shown, **against)) is ReadingKind.GUESSED


@pytest.mark.parametrize(
    "unlike", [{"come": 1}, {"odd": ("list",)}, {"odd": ("negation",)}, {"odd": ("clause",)}, {"odd": ("suffix",)}]
)
def test_a_value_as_none_was_makes_a_reading_odd_and_it_always_asks(unlike: dict[str, Any]) -> None:
    kind = kind_of(Features(held=9, opens=1, **unlike))
    assert kind is ReadingKind.ODD
    assert not kind.may_go_unasked


def test_a_value_unlike_the_known_ones_always_asks() -> None:
    stretched = kind_of(Features(held=9, opens=1, odd=("small",)))
    assert stretched is ReadingKind.STRETCHED
    assert not stretched.may_go_unasked
    assert not ReadingKind.GUESSED.may_go_unasked


def test_more_rewriting_never_makes_a_reading_less_doubtful() -> None:
    for kind, weights in WEIGHTS.items():
        wrong = [(name, weight) for name, weight, sign in zip(INPUTS, weights, SIGNS, strict=True) if sign * weight < 0]
        assert not wrong, kind
    assert len(vector_of(Features())) == len(INPUTS) == len(SIGNS)


def test_a_weight_of_the_wrong_sign_is_left_out() -> None:
    inputs, wrong = readings()
    assert weights_of(inputs, wrong, (0, -1))[1] == 0.0
    assert weights_of(inputs, wrong, (0, 1)) == weights_of(inputs, wrong)


def test_what_is_mostly_new_no_tool_could_list() -> None:
    def goals(name: str, *values: str) -> list[Goal]:
        return [Goal(id=value, text=f"play {value}", task_id="t", slots={name: value}) for value in values]

    songs, rooms = goals("song", *"abcde"), goals("room", "hall", "hall", "kitchen", "hall", "kitchen")
    assert mostly_new([*songs, *rooms]) == {"song"}
