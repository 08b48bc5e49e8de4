"""What a caller is told: a reader who does not read holds up nobody else.

What can be written without waiting is written at once, for a thread gets its turn of the interpreter up to 5 ms later.
The rest is written by a thread of the caller's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import queue
import stat
import threading

_NULL = os.makedev(1, 3)
"""/dev/null, on Linux."""


class Outlet:
    """Writes to a caller's descriptors, in the order in which it was asked to, and closes them at the end."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[int, bytes] | asyncio.Future[None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._descriptors: set[int] = set()
        self.errors: dict[int, OSError] = {}

    def stream(self, descriptor: int, encoding: str, errors: str) -> io.TextIOWrapper:
        """A text stream that leads to a descriptor."""
        self._descriptors.add(descriptor)
        raw = io.BufferedWriter(_Raw(self, descriptor), 1)
        return io.TextIOWrapper(raw, encoding=encoding, errors=errors, write_through=True)

    def put(self, descriptor: int, body: bytes) -> None:
        """Have something written.

        Raises:
            OSError: what was asked for earlier could not be.
        """
        if descriptor in self.errors:
            raise self.errors[descriptor]
        if self._thread is None:
            try:
                body = body[_write_now(descriptor, body) :]
            except OSError as error:
                self.errors[descriptor] = error
                return
            if not body:
                return
            self._thread = threading.Thread(target=self._work, name="outlet", daemon=True)
            self._thread.start()
        self._asked.put((descriptor, body))

    async def drained(self, descriptor: int) -> None:
        """Wait until all is written.

        Raises:
            OSError: it could not be.
        """
        if self._thread is not None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._asked.put(done)
            await done
        if descriptor in self.errors:
            raise self.errors[descriptor]

    def close(self) -> None:
        """Close the descriptors once what was asked for is written."""
        if self._thread is None:
            self._close()
        else:
            self._asked.put(None)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            if isinstance(asked, asyncio.Future):
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    asked.get_loop().call_soon_threadsafe(_settle, asked)
            elif asked[0] not in self.errors:
                try:
                    _write(*asked)
                except OSError as error:
                    self.errors[asked[0]] = error
        self._close()

    def _close(self) -> None:
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._descriptors = set()


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _write_now(descriptor: int, body: bytes) -> int:
    """Write what there is room for; how many bytes that was, none where nobody can tell.

    Raises:
        OSError: it can't be written, now or later.
    """
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) or (stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL):
        return os.write(descriptor, body)
    if not stat.S_ISFIFO(found.st_mode) or not hasattr(os, "RWF_NOWAIT"):
        return 0
    try:
        return os.pwritev(descriptor, [body], -1, os.RWF_NOWAIT)  # a pipe has no place to write at
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ESPIPE, errno.EINVAL):
            return 0
        raise


def _write(descriptor: int, body: bytes) -> None:
    while body:
        body = body[os.write(descriptor, body) :]


class _Raw(io.RawIOBase):
    """One descriptor, written through an outlet."""

    def __init__(self, outlet: Outlet, descriptor: int) -> None:
        self._outlet = outlet
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, body: object, /) -> int:
        content = bytes(memoryview(body))  # type: ignore[arg-type]
        self._outlet.put(self._descriptor, content)
        return len(content)
