"""The LLMOS of a resident kernel: one for each settings that are asked for, all over the same open home."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from llmos.boot import LLMOS
from llmos.errors import DatabaseLockedError
from llmos.home import OpenHome
from llmos.settings import Settings

MOST = 16
IDLE_S = 120.0


@dataclass(kw_only=True, eq=False)
class _Entry:
    settings: Settings
    system: LLMOS
    used_at: float
    users: int = 0


class Pool:
    """Boots an LLMOS for settings that nobody had yet, and shuts it down when nobody has had them for a while.

    One with a budget of its own is nobody else's: its cap counts what one command spends.
    """

    def __init__(self, home: OpenHome, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.home = home
        self._clock = clock
        self._entries: list[_Entry] = []
        self._booting = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @asynccontextmanager
    async def opened(self, settings: Settings) -> AsyncIterator[LLMOS]:
        """An LLMOS with these settings, for the length of a block.

        Raises:
            DatabaseLockedError: the settings are of another home, or need it opened otherwise.
            LLMOSError: it can't be booted.
        """
        if not self.home.fits(settings):
            raise DatabaseLockedError(
                f"the resident kernel holds {self.home.settings.memory} with other settings: `boot.py down` stops it."
            )
        if settings.budget_usd is not None:
            async with LLMOS(settings=settings, home=self.home) as system:
                yield system
            return
        entry = await self._entry(settings)
        entry.users += 1
        try:
            yield entry.system
        finally:
            entry.users -= 1
            entry.used_at = self._clock()

    async def _entry(self, settings: Settings) -> _Entry:
        found = self._known(settings)
        if found is not None:
            return found
        async with self._booting:
            found = self._known(settings)
            if found is None:
                system = LLMOS(settings=settings, home=self.home)
                await system.boot()
                found = _Entry(settings=settings, system=system, used_at=self._clock())
                self._entries.append(found)
        return found

    def _known(self, settings: Settings) -> _Entry | None:
        return next((one for one in self._entries if one.settings == settings), None)

    async def tidy(self) -> None:
        """Shut down what nobody has used for a while, and the longest unused where there are too many."""
        unused = sorted((one for one in self._entries if not one.users), key=lambda one: one.used_at)
        surplus = len(self._entries) - MOST
        for number, entry in enumerate(unused):
            if number < surplus or self._clock() - entry.used_at > IDLE_S:
                self._entries.remove(entry)
                await entry.system.shutdown()

    async def close(self) -> None:
        """Shut all of them down; nobody may use one any more."""
        entries, self._entries = self._entries, []
        await asyncio.gather(*(entry.system.shutdown() for entry in entries))
