"""Stops what runs too long or goes round in circles."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from llmos.errors import UsageError, WatchdogError
from llmos.kernel.bus import EventBus, WatchdogBarked
from llmos.kernel.process import current

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Watchdog:
    """The limits of a run: `timeout_s` in all, and `max_repeats` of one call with one outcome in a row.

    `grace_s` is how long work may take to end by itself after `saw_call` raised in it; `clock` gives monotonic seconds.
    """

    timeout_s: float = 900.0
    max_repeats: int = 3
    grace_s: float = 1.0
    bus: EventBus | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if not self.timeout_s > 0 or self.max_repeats < 1:
            raise UsageError(
                f"a watchdog needs a time above 0 seconds and at least one repeat, "
                f"not {self.timeout_s} s and {self.max_repeats}."
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
        self._process = current()
        self._idle_s = 0.0 if self._process is None else self._process.idle_s

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below zero; those in which its process stood still or waited don't count."""
        idle_s = 0.0 if self._process is None else self._process.idle_s - self._idle_s
        return max(0.0, self._deadline_s + idle_s - self._watchdog.clock())

    def saw_call(self, tool: str, args: Mapping[str, Any], output: Any = None, *, is_error: bool = False) -> None:
        """Tell of a call and what came of it; the work under `limit` is stopped too, should it swallow the error.

        Raises:
            WatchdogError: the same call came to the same thing more than `max_repeats` times in a row.
        """
        this = json.dumps([tool, args, output, is_error], sort_keys=True, default=repr)
        self._in_a_row = self._in_a_row + 1 if this == self._last_call else 1
        self._last_call = this
        if self._in_a_row > self._watchdog.max_repeats:
            self.stop(f"{tool} was called {self._in_a_row} times in a row with the same arguments and the same result")

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
        try:
            while not task.done() and self.remaining_s > 0:
                await asyncio.wait({task}, timeout=self.remaining_s)
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
        return self._error(f"it took more than {self._watchdog.timeout_s:g} s")

    def _error(self, reason: str) -> WatchdogError:
        if self._watchdog.bus is not None:
            self._watchdog.bus.publish(WatchdogBarked(run_id=self.run_id, reason=reason))
        return WatchdogError(f"the run was stopped: {reason}.")
