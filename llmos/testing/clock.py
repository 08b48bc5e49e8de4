"""A clock that stands still."""

from __future__ import annotations

from datetime import datetime, timedelta


class FrozenClock:
    """A clock that moves only when told to; call it for the time."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def __call__(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time on by `seconds`."""
        self._now += timedelta(seconds=seconds)
