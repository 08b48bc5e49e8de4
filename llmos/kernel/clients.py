"""How many clients of models may live at once: as many as there is memory for, and always one that can go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from llmos.kernel.process import Process, Wait, current

CLIENT_BYTES = 250_000_000
"""What one takes up: a Claude CLI had 183 MB resident at its beginning, 106 of them its own."""

LEFT_BYTES = 500_000_000
"""What stays free for everybody else."""

LONG = frozenset({Wait.CHILD, Wait.MESSAGE, Wait.TIMER, Wait.APPROVAL})
"""Waits in which a process does not need its client."""

_LOOK_EVERY_S = 1.0


class Clients:
    """The clients that live; `free_bytes` says how much memory there is for more (None: the system does not tell)."""

    def __init__(self, free_bytes: Callable[[], int | None] | None = None) -> None:
        self._free_bytes = free_bytes or available_bytes
        self._live: list[Process | None] = []
        self._changed = asyncio.Event()
        self.wanted = 0

    @property
    def live(self) -> int:
        return len(self._live)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Have one more live, for the length of a block; waits until there is memory for it."""
        process = current()
        if not self._fits():
            await self._wait(process)
        self._live.append(process)
        try:
            yield
        finally:
            self._live.remove(process)
            self._tell()

    async def _wait(self, process: Process | None) -> None:
        self.wanted += 1
        self._tell()
        try:
            async with AsyncExitStack() as stack:
                if process is not None:
                    await stack.enter_async_context(process.waiting(Wait.MEMORY))
                while not self._fits():
                    await self.changes()
        finally:
            self.wanted -= 1

    def _fits(self) -> bool:
        if all(process is not None and process.why in LONG for process in self._live):
            return True  # nobody else could ever give one back
        free = self._free_bytes()
        return free is None or free >= LEFT_BYTES + CLIENT_BYTES

    async def changes(self) -> None:
        """Return when one more or less lives or is wanted, or a moment has passed."""
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({changed}, timeout=_LOOK_EVERY_S)
        finally:
            changed.cancel()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def available_bytes() -> int | None:
    """Memory that could be had without swapping; None where the system does not tell. Source: proc_meminfo(5)."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


CLIENTS = Clients()
"""Those of this program: memory is the machine's, whatever home they work for."""
