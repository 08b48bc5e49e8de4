"""Which models are down: a model that could not be reached is left alone for a while, then one caller tries it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

DOWN_S = 60.0
"""How long a model is left alone, unless its server says when to come back."""

MOST_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Why a model is down, and until when it is left alone, on the clock."""

    why: str
    until_s: float
    is_tried: bool = False


class Outages:
    """The models that are down, for everybody who shares a home (a circuit breaker for each model)."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._down: dict[str, Outage] = {}

    def why(self, model: str) -> str:
        """Why a model is to be left alone; '' where it may be asked."""
        found = self._down.get(model)
        if found is None or (self._clock() >= found.until_s and not found.is_tried):
            return ""
        return found.why

    def left_s(self, model: str) -> float | None:
        """Seconds until a model is tried again; None where it is not down."""
        found = self._down.get(model)
        return None if found is None else max(0.0, found.until_s - self._clock())

    def tries(self, model: str) -> None:
        """Somebody asks a model; of one that was down nobody else does until it is known how that went."""
        found = self._down.get(model)
        if found is not None:
            self._down[model] = Outage(why=found.why, until_s=found.until_s, is_tried=True)

    def is_up(self, model: str) -> None:
        """A model answered."""
        self._down.pop(model, None)

    def is_down(self, model: str, why: str, retry_after_s: float | None = None) -> None:
        """A model could not be reached."""
        wait_s = min(MOST_S, retry_after_s) if retry_after_s else DOWN_S
        self._down[model] = Outage(why=why, until_s=self._clock() + wait_s)

    def untried(self, model: str) -> None:
        """A try ended without showing whether a model is there."""
        found = self._down.get(model)
        if found is not None:
            self._down[model] = Outage(why=found.why, until_s=found.until_s)
