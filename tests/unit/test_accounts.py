"""Money: dollars to micro-dollars and back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.accounts import MAX_USD, Reservation, to_microusd, to_usd
from llmos.errors import UsageError


@pytest.mark.parametrize(
    ("usd", "microusd"),
    [
        (0, 0),
        (10, 10_000_000),
        (0.45, 450_000),
        (0.1 + 0.2, 300_000),
        (0.000001, 1),
        (0.0000004, 0),
        (0.0000006, 1),
        (2.675e-6, 3),
        (1e-320, 0),
        (MAX_USD, 10**15),
    ],
)
def test_dollars_become_the_nearest_micro_dollars(usd: float, microusd: int) -> None:
    assert to_microusd(usd) == microusd


@pytest.mark.parametrize("usd", [-0.01, float("nan"), float("inf"), -float("inf"), 2e9, True, "1", None])
def test_what_is_no_amount_is_refused_by_name(usd: object) -> None:
    with pytest.raises(UsageError, match=r"^the cost must be "):
        to_microusd(usd, what="the cost")  # type: ignore[arg-type]


@given(st.integers(min_value=0, max_value=10**12))
def test_micro_dollars_survive_the_way_through_float_dollars(amount_microusd: int) -> None:
    assert to_microusd(to_usd(amount_microusd)) == amount_microusd


def test_a_reservation_tells_its_dollars() -> None:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    assert Reservation(id="r", run_id="run", amount_microusd=2_500_000, operation="learn", at=at).amount_usd == 2.5
