"""A model that is down is left alone for a while, then one caller tries it while the others still go past it."""

from __future__ import annotations

import pytest

from llmos.kernel.outages import DOWN_S, MOST_S, Outages


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def outages(now: list[float]) -> Outages:
    return Outages(clock=lambda: now[0])


def test_a_model_is_left_alone_until_its_time_is_over(outages: Outages, now: list[float]) -> None:
    assert (outages.why("m"), outages.left_s("m")) == ("", None)
    outages.is_down("m", "overloaded")
    assert (outages.why("m"), outages.left_s("m"), outages.why("n")) == ("overloaded", DOWN_S, "")
    now[0] = DOWN_S
    assert (outages.why("m"), outages.left_s("m")) == ("", 0.0)


def test_one_caller_tries_it_and_the_others_go_past_it(outages: Outages, now: list[float]) -> None:
    outages.is_down("m", "gone")
    now[0] = DOWN_S
    outages.tries("m")
    assert outages.why("m") == "gone"
    outages.untried("m")
    assert outages.why("m") == ""
    outages.tries("m")
    outages.is_down("m", "still gone")
    assert (outages.why("m"), outages.left_s("m")) == ("still gone", DOWN_S)
    outages.is_up("m")
    assert outages.left_s("m") is None


def test_its_server_may_say_when_to_come_back_but_not_for_ever(outages: Outages) -> None:
    outages.is_down("m", "limited", 5.0)
    assert outages.left_s("m") == 5.0
    outages.is_down("m", "limited", 1e9)
    assert outages.left_s("m") == MOST_S
