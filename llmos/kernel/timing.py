"""When a schedule is due: after so many seconds, at the times of a cron expression, or once.

A cron expression is meant in wall clock time, as cron has it. Where a clock is put forward, a time that is left out is
the moment after it; where it is put back, a time that comes twice counts once, unless the expression is for every hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from llmos.errors import UsageError
from llmos.orders import OrderState, Schedule

if TYPE_CHECKING:
    from croniter import croniter

LATE_S = 30.0
"""A run that is so late was missed: nobody kept the time when it was due."""

MOST_S = 366 * 86_400.0
_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_EVERY = re.compile(r"every\s+(?:(?P<number>\d{1,9})\s+)?(?P<unit>second|minute|hour|day|week)s?", re.IGNORECASE)
_DAYS = {"day": "*", "weekday": "1-5", "sunday": "0", "monday": "1", "tuesday": "2", "wednesday": "3"} | {
    "thursday": "4",
    "friday": "5",
    "saturday": "6",
}
_DAILY = re.compile(
    rf"every\s+(?P<day>{'|'.join(_DAYS)})\s+at\s+(?P<hour>[01]?\d|2[0-3])(?::(?P<minute>[0-5]\d))?", re.IGNORECASE
)
_CLOCK_CHANGE = timedelta(hours=3)
_HOURS = 1
"""The field of a cron expression that holds the hours."""


def zone_of(name: str) -> tzinfo:
    """The time zone of a name.

    Raises:
        UsageError: there is none.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"there is no time zone {name!r}; write one as Europe/Berlin or UTC.") from None


def spoken(text: str) -> tuple[float | None, str]:
    """What `every 10 minutes` or `every weekday at 9:00` says: the seconds between, or a cron expression.

    Raises:
        UsageError: it says nothing that is understood.
    """
    words = " ".join(text.split())
    daily = _DAILY.fullmatch(words)
    if daily is not None:
        return None, f"{int(daily['minute'] or 0)} {int(daily['hour'])} * * {_DAYS[daily['day'].lower()]}"
    found = _EVERY.fullmatch(words)
    if found is None:
        raise UsageError(
            f"{words!r} says no times: write `every 10 minutes`, `every day at 9:00` or `every monday at 9:00`, or use "
            "--cron or --at."
        )
    every_s = float(found["number"] or 1) * _UNITS[found["unit"].lower()]
    if not 1 <= every_s <= MOST_S:
        raise UsageError("a schedule is for every second at most, and for every year at least.")
    return every_s, ""


def checked_cron(text: str, zone: tzinfo, now: datetime) -> str:
    """A cron expression that has a next time.

    Raises:
        UsageError: it is none, or never comes.
    """
    cron = " ".join(text.split())
    if len(cron.split()) != 5 and not re.fullmatch(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)", cron):
        raise UsageError(f"{cron!r} is no cron expression: it has five fields, as in `0 9 * * 1-5`.")
    next_of_cron(cron, zone, now)
    return cron


def next_of_cron(cron: str, zone: tzinfo, after: datetime) -> datetime:
    """The first time of a cron expression after a moment.

    Raises:
        UsageError: it is none, or never comes.
    """
    from croniter import CroniterError, croniter

    after = after.astimezone(UTC)
    wall = after.astimezone(zone).replace(tzinfo=None, fold=0)
    try:
        times = croniter(cron, wall - _CLOCK_CHANGE)
        moments = (moment.astimezone(UTC) for moment in _moments(times, zone, _is_hourly(cron)))
        return next(moment for moment in moments if moment > after)
    except (CroniterError, ValueError, OverflowError) as error:
        raise UsageError(f"{cron!r} is no cron expression that comes: {str(error).rstrip('.')}.") from None


def _is_hourly(cron: str) -> bool:
    return cron == "@hourly" or (cron[0] != "@" and cron.split()[_HOURS].startswith("*"))


def _moments(times: croniter, zone: tzinfo, is_hourly: bool) -> Iterator[datetime]:
    """The moments of wall clock times, in order; the second ones of those that come twice once their first are over."""
    again: list[datetime] = []
    while True:
        wall: datetime = times.get_next(datetime)
        first, second = wall.replace(tzinfo=zone), wall.replace(tzinfo=zone, fold=1)
        gap = first.utcoffset() != second.utcoffset()
        if gap and not _exists(first):
            if not is_hourly:
                yield _after_gap(first)
            continue
        while again and again[0].astimezone(UTC) < first.astimezone(UTC):
            yield again.pop(0)
        yield first
        if gap and is_hourly:
            again.append(second)


def _exists(moment: datetime) -> bool:
    """Whether a clock shows this time."""
    shown = moment.astimezone(UTC).astimezone(moment.tzinfo)
    return shown.replace(tzinfo=None) == moment.replace(tzinfo=None)


def _after_gap(moment: datetime) -> datetime:
    """The first moment after the clock was put forward over a time."""
    before, after = moment.replace(fold=1).utcoffset(), moment.replace(fold=0).utcoffset()
    assert before is not None
    assert after is not None
    low = moment.replace(fold=1).astimezone(UTC)
    high = moment.replace(fold=0).astimezone(UTC)
    offset = low.astimezone(moment.tzinfo).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(moment.tzinfo).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def next_time(schedule: Schedule, after: datetime) -> datetime | None:
    """When a schedule is next due after a moment; None: never again.

    Raises:
        UsageError: its cron expression never comes.
    """
    if schedule.at is not None:
        return schedule.at if schedule.at > after else None
    if schedule.every_s is not None:
        passed = max(0.0, (after - schedule.created_at).total_seconds())
        due = schedule.created_at + timedelta(seconds=(passed // schedule.every_s + 1) * schedule.every_s)
        return due if due > after else due + timedelta(seconds=schedule.every_s)
    return next_of_cron(schedule.cron, zone_of(schedule.timezone), after)


def advanced(schedule: Schedule, now: datetime) -> Schedule:
    """The schedule once what was due by now was seen to: however much was missed, that is once."""
    following = next_time(schedule, now)
    if following is None:
        return replace(schedule, next_at=None, state=OrderState.OVER, reason="its time has come")
    return replace(schedule, next_at=following)


def is_missed(schedule: Schedule, now: datetime) -> bool:
    """Whether nobody kept the time when it was due."""
    return schedule.next_at is not None and (now - schedule.next_at).total_seconds() > LATE_S
