"""What a process's tools used of the machine, counted for the process whose call it was.

Two things are counted. Of programs that a tool starts, what the system says of them when they end, or of those that
are ended by force just before that (`llmos.plugins.builtin.reaping`). Of tools that work in our own process, the
processor time of the code of the call itself, on the event loop and in the threads of `in_thread`, and the size of the
files they write. Of servers that several processes share (MCP), and of what a plugin starts by itself, nothing is
known.
"""

from __future__ import annotations

import asyncio
import threading
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(kw_only=True, eq=False)
class Resources:
    """What tools used; None: nothing is known.

    `cpu_s` is processor time in seconds, user and system together. `peak_memory_bytes` is the most that one program
    ever held in memory (resident, shared pages included), not the sum of those that ran at once; of tools in our own
    process it is not known. `disk_written_bytes` is what programs caused to be sent to a disk, as Linux counts it
    (whole pages; files in memory don't count), and the size of the files that tools of our own wrote.
    """

    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    disk_written_bytes: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(
        self, *, cpu_s: float | None = None, peak_memory_bytes: int | None = None, disk_written_bytes: int | None = None
    ) -> None:
        """Count something more; from any thread. Times and bytes add up, of peaks the highest stays."""
        with self._lock:
            if cpu_s is not None:
                self.cpu_s = (self.cpu_s or 0.0) + cpu_s
            if peak_memory_bytes is not None:
                self.peak_memory_bytes = max(self.peak_memory_bytes or 0, peak_memory_bytes)
            if disk_written_bytes is not None:
                self.disk_written_bytes = (self.disk_written_bytes or 0) + disk_written_bytes

    def include(self, other: Resources) -> None:
        """Count what was counted elsewhere."""
        self.add(
            cpu_s=other.cpu_s,
            peak_memory_bytes=other.peak_memory_bytes,
            disk_written_bytes=other.disk_written_bytes,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


_counting: ContextVar[Resources | None] = ContextVar("llmos_resources", default=None)


def counting() -> Resources | None:
    """Where what this code uses is counted; None: nowhere."""
    return _counting.get()


@contextmanager
def counted_in(resources: Resources | None) -> Iterator[None]:
    """Count what tools use here, or nowhere, for the length of a block, with all tasks made in it."""
    token = _counting.set(resources)
    try:
        yield
    finally:
        _counting.reset(token)


def wrote(size_bytes: int) -> None:
    """Count a file that a tool of our own has written."""
    resources = counting()
    if resources is not None:
        resources.add(disk_written_bytes=size_bytes)


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread`, which counts the processor time of the thread."""
    resources = counting()
    if resources is None:
        return await asyncio.to_thread(function, *args, **kwargs)
    return await asyncio.to_thread(_timed, resources, function, *args, **kwargs)


def _timed(resources: Resources, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    began_s = time.thread_time()
    try:
        return function(*args, **kwargs)
    finally:
        resources.add(cpu_s=time.thread_time() - began_s)


async def timed(work: Awaitable[T]) -> T:
    """Await a call's own coroutine, and count the processor time that it takes on the event loop.

    What else runs there while it waits, for others, is not counted.
    """
    resources = counting()
    if resources is None or not isinstance(work, types.CoroutineType):
        return await work
    return await _stepped(work, resources)


@types.coroutine
def _stepped(work: Coroutine[Any, Any, T], resources: Resources) -> Generator[Any, Any, T]:
    resume: Callable[[Any], Any] = work.send
    value: Any = None
    cpu_s, clock = 0.0, time.thread_time
    try:
        while True:
            began_s = clock()
            try:
                awaited = resume(value)
            except StopIteration as over:
                result: T = over.value
                return result
            finally:
                cpu_s += clock() - began_s
            resume = work.send
            try:
                value = yield awaited
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:  # a cancellation, too: it is the coroutine's to handle
                resume, value = work.throw, error
    finally:
        resources.add(cpu_s=cpu_s)
