"""Stops what runs too long or goes round in circles."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from llmos.errors import UsageError, WatchdogError
from llmos.kernel.bus import EventBus, WatchdogBarked
from llmos.kernel.process import current

T = TypeVar("T")
_LOOK_EVERY_S = 5.0
"""A turn may begin while its limit is waited for."""


@dataclass(frozen=True, kw_only=True)
class Watchdog:
    """The limits of a run: `timeout_s` in all, and `max_repeats` of one call with one outcome in a row.

    `turn_timeout_s` is how long the model may take to come to its next call or to its end, `max_fruitless` how many
    calls in a row may fail, or do again what was done before with the same outcome, and `max_output_chars` how much all
    outputs of a run may come to. `grace_s` is how long work may take to end by itself after `saw_call` raised in it;
    `clock` gives monotonic seconds.
    """

    timeout_s: float = 900.0
    max_repeats: int = 3
    turn_timeout_s: float = 300.0
    max_fruitless: int = 12
    max_output_chars: int = 50_000_000
    grace_s: float = 1.0
    bus: EventBus | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if not self.timeout_s > 0 or self.max_repeats < 1:
            raise UsageError(
                f"a watchdog needs a time above 0 seconds and at least one repeat, "
                f"not {self.timeout_s} s and {self.max_repeats}."
            )
        if not self.turn_timeout_s > 0 or self.max_fruitless < 1 or self.max_output_chars < 1:
            raise UsageError(
                f"a watchdog needs limits of a turn above 0, not {self.turn_timeout_s} s, {self.max_fruitless} calls "
                f"and {self.max_output_chars} characters."
            )

    @contextmanager
    def watching(self, run_id: str) -> Iterator[Watch]:
        """Watch one run for the length of a block; its time starts here."""
        yield Watch(self, run_id)


class Watch:
    """The eye on one run."""

    def __init__(self, watchdog: Watchdog, run_id: str) -> None:
        self.run_id = run_id
        self._watchdog = watchdog
        self._deadline_s = watchdog.clock() + watchdog.timeout_s
        self._last_call = ""
        self._in_a_row = 0
        self._bark: WatchdogError | None = None
        self._task: asyncio.Task[Any] | None = None
        self._asked_s: float | None = None
        self._seen: set[str] = set()
        self._fruitless = 0
        self._output_chars = 0
        self._process = current()
        self._idle_s = 0.0 if self._process is None else self._process.idle_s

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below zero; those in which its process stood still or waited don't count."""
        return max(0.0, self._deadline_s - self._now_s)

    @property
    def _now_s(self) -> float:
        """The time, as far as the process was not idle."""
        return self._watchdog.clock() - (0.0 if self._process is None else self._process.idle_s - self._idle_s)

    @property
    def _turn_s(self) -> float:
        """Seconds left of the model's turn, while it has one."""
        if self._asked_s is None:
            return math.inf
        return max(0.0, self._asked_s + self._watchdog.turn_timeout_s - self._now_s)

    def asked(self) -> None:
        """The model's turn begins."""
        self._asked_s = self._now_s

    def answered(self) -> None:
        """The model has come to a call, or to its end."""
        self._asked_s = None

    def saw_call(self, tool: str, args: Mapping[str, Any], output: Any = None, *, is_error: bool = False) -> None:
        """Tell of a call and what came of it; the work under `limit` is stopped too, should it swallow the error.

        Raises:
            WatchdogError: the same call came to the same thing more than `max_repeats` times in a row, too many calls
                came to nothing new, or the outputs are too long.
        """
        limits = self._watchdog
        this = json.dumps([tool, args, output, is_error], sort_keys=True, default=repr)
        self._in_a_row = self._in_a_row + 1 if this == self._last_call else 1
        self._last_call = this
        self._output_chars += len(output) if isinstance(output, str) else len(this)
        digest = hashlib.sha256(this.encode("utf-8", "surrogatepass")).hexdigest()
        self._fruitless = self._fruitless + 1 if is_error or digest in self._seen else 0
        self._seen.add(digest)
        if self._in_a_row > limits.max_repeats:
            self.stop(f"{tool} was called {self._in_a_row} times in a row with the same arguments and the same result")
        if self._fruitless > limits.max_fruitless:
            self.stop(f"the last {self._fruitless} calls failed or gave what had been given before")
        if self._output_chars > limits.max_output_chars:
            self.stop(f"its tools gave more than {limits.max_output_chars:,} characters")

    async def limit(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` for as long as the run has time left.

        Raises:
            WatchdogError: time was up, or `saw_call` raised; the work was cancelled and has ended. Its own last
                exception, if there was one, is the `__cause__`.
        """
        if self._bark is not None or self.remaining_s == 0:
            work.close()
            raise self._bark or self._late()
        self._task = task = asyncio.create_task(work)
        self.asked()
        try:
            while not task.done() and self.remaining_s > 0 and self._turn_s > 0:
                await asyncio.wait({task}, timeout=min(self.remaining_s, self._turn_s, _LOOK_EVERY_S))
            if not task.done():
                self._bark = self._bark or self._late()
        finally:
            self._task = None
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            cause = None if task.cancelled() else task.exception()
        if self._bark is None:
            return task.result()
        raise self._bark from (None if cause is self._bark else cause)

    def stop(self, reason: str) -> NoReturn:
        """End the work under `limit`, from inside of it or from elsewhere.

        Raises:
            WatchdogError: always.
        """
        if self._bark is None:
            self._bark = self._error(reason)
        if self._task is not None and self._task is asyncio.current_task():
            # The error ends the work from inside; a cancellation now would only disturb its cleaning up.
            asyncio.get_running_loop().call_later(self._watchdog.grace_s, self._task.cancel)
        elif self._task is not None:
            self._task.cancel()
        raise self._bark

    def _late(self) -> WatchdogError:
        if self.remaining_s > 0:
            return self._error(f"the model took more than {self._watchdog.turn_timeout_s:g} s for one turn")
        return self._error(f"it took more than {self._watchdog.timeout_s:g} s")

    def _error(self, reason: str) -> WatchdogError:
        if self._watchdog.bus is not None:
            self._watchdog.bus.publish(WatchdogBarked(run_id=self.run_id, reason=reason))
        return WatchdogError(f"the run was stopped: {reason}.")
