"""When schedules are due: spoken times, cron expressions, clocks that are put forward and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.errors import UsageError
from llmos.kernel.timing import LATE_S, advanced, checked_cron, is_missed, next_of_cron, next_time, spoken, zone_of
from llmos.orders import Job, OrderState, Schedule

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
JOB = Job(goal="Calculate 2 + 3", workspace="/tmp")

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
CRONS = st.builds(
    "{} {} * * {}".format,
    st.one_of(st.integers(0, 59).map(str), st.sampled_from(["*", "*/10", "15,45"])),
    st.one_of(st.integers(0, 23).map(str), st.sampled_from(["*", "*/6", "1-3"])),
    st.sampled_from(["*", "1-5", "0"]),
)


def schedule(**more: Any) -> Schedule:
    return Schedule(**{"job": JOB, "created_at": NOON, **more})


def times(cron: str, after: datetime, count: int) -> list[str]:
    """The next times of a cron expression in Berlin, as its clocks show them."""
    found = []
    for _ in range(count):
        after = next_of_cron(cron, BERLIN, after)
        found.append(after.astimezone(BERLIN).strftime("%d %H:%M %Z"))
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("every 10 minutes", (600.0, "")),
        ("Every  minute", (60.0, "")),
        ("every 2 weeks", (1_209_600.0, "")),
        ("every day at 9:00", (None, "0 9 * * *")),
        ("every weekday at 17:30", (None, "30 17 * * 1-5")),
        ("every Sunday at 8", (None, "0 8 * * 0")),
    ],
)
def test_spoken_times(words: str, expected: tuple[float | None, str]) -> None:
    assert spoken(words) == expected


@pytest.mark.parametrize("words", ["", "often", "every 0 minutes", "every 400 days", "every day at 25:00", "10 days"])
def test_what_says_no_times_is_told(words: str) -> None:
    with pytest.raises(UsageError):
        spoken(words)


@pytest.mark.parametrize("cron", ["", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "@reboot", "a b c d e"])
def test_what_is_no_cron_expression_or_never_comes_is_told(cron: str) -> None:
    with pytest.raises(UsageError, match="no cron expression"):
        checked_cron(cron, BERLIN, NOON)


def test_there_are_time_zones_and_other_words() -> None:
    assert zone_of("Europe/Berlin") == BERLIN
    for name in ("Mars/Base", "", "../../etc/passwd"):
        with pytest.raises(UsageError, match="no time zone"):
            zone_of(name)


def test_a_time_that_the_clock_leaves_out_is_the_moment_after_it() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=BERLIN)  # on the 29th 02:00 is followed by 03:00
    assert times("30 2 * * *", before, 2) == ["29 03:00 CEST", "30 02:30 CEST"]
    assert times("15,30 2 * * *", before, 2) == ["29 03:00 CEST", "30 02:15 CEST"]


def test_a_time_that_comes_twice_counts_once() -> None:
    before = datetime(2026, 10, 24, 12, tzinfo=BERLIN)  # on the 25th 03:00 is followed by 02:00
    assert times("30 2 * * *", before, 2) == ["25 02:30 CEST", "26 02:30 CET"]


def test_what_is_for_every_hour_goes_on_through_a_change_of_the_clock() -> None:
    forward = datetime(2026, 3, 29, 1, tzinfo=BERLIN)
    assert times("*/30 * * * *", forward, 3) == ["29 01:30 CET", "29 03:00 CEST", "29 03:30 CEST"]
    back = datetime(2026, 10, 25, 1, 45, tzinfo=BERLIN)
    assert times("*/30 * * * *", back, 5) == [
        "25 02:00 CEST",
        "25 02:30 CEST",
        "25 02:00 CET",
        "25 02:30 CET",
        "25 03:00 CET",
    ]


@given(CRONS, ZONES, MOMENTS)
def test_the_next_time_lies_ahead_and_nothing_lies_between(cron: str, zone: str, after: datetime) -> None:
    due = next_of_cron(cron, zone_of(zone), after)
    assert due > after
    between = after + (due - after) / 2
    assert next_of_cron(cron, zone_of(zone), between) == due
    assert next_of_cron(cron, zone_of(zone), due) > due


@given(st.integers(1, 10**7), st.integers(0, 10**9))
def test_an_interval_counts_from_when_it_was_made_and_not_from_its_runs(every_s: int, passed_s: int) -> None:
    one = schedule(every_s=float(every_s))
    due = next_time(one, NOON + timedelta(seconds=passed_s))
    assert due is not None
    since_s = (due - NOON).total_seconds()
    assert passed_s < since_s <= passed_s + every_s
    assert since_s % every_s == 0


def test_one_time_comes_once() -> None:
    at = NOON + timedelta(hours=1)
    one = schedule(at=at, next_at=at)
    assert next_time(one, NOON) == at
    over = advanced(one, at)
    assert (over.state, over.next_at) == (OrderState.OVER, None)


@given(st.integers(1, 1000), st.integers(0, 10**6))
def test_however_much_was_missed_it_is_made_up_for_once(every_s: int, late_s: int) -> None:
    one = schedule(every_s=float(every_s), next_at=NOON)
    now = NOON + timedelta(seconds=late_s)
    following = advanced(one, now).next_at
    assert following is not None
    assert now < following <= now + timedelta(seconds=every_s)
    assert is_missed(one, now) == (late_s > LATE_S)


def test_a_schedule_that_is_not_due_was_not_missed() -> None:
    assert not is_missed(replace(schedule(every_s=60.0), next_at=None), NOON)
