"""Housekeeping: what is past its retention is removed, piece by piece, by `gc` at once or once a day by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from llmos.errors import LLMOSError
from llmos.memory.audit_log import AuditLog
from llmos.memory.compacting import WORTH
from llmos.memory.database import Database
from llmos.memory.home_files import HomeFiles
from llmos.memory.retention import OUTCOMES_AT_ONCE, Retention
from llmos.settings import RetentionSettings

log = logging.getLogger(__name__)

EVERY = timedelta(days=1)
BELIEVED = timedelta(days=30)
"""A clock that has moved further without a goal may be wrong: nothing is removed before the next time."""

PAUSE_S = 0.05
"""Between two pieces, so that goals come first."""

MOST_PAUSE_S = 0.2
"""Goals that keep coming are let go first for as long as the piece before took, but not longer: on a busy machine a
piece waits more than it works, and runs must not come faster than they go."""

LONG_S, MOST_WAIT_S = 5.0, 0.5
"""Where a pass takes longer than this, goals come faster than it goes: then each waits for its end, half a second at
most."""

LAST_S = 1.0
"""How long a process that ends goes on with what is due."""


@dataclass(kw_only=True)
class Freed:
    """What was removed: `rows` by their sort, `files` with their number and bytes; bytes of the database's file."""

    rows: Counter[str] = field(default_factory=Counter)
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    database_bytes: int = 0

    @property
    def bytes(self) -> int:
        return self.database_bytes + sum(size for _, size in self.files.values())


class Housekeeping:
    """Removes what the settings do not keep. `is_busy` says whether a goal is at work."""

    def __init__(
        self,
        *,
        retention: Retention,
        audit_log: AuditLog,
        database: Database,
        files: HomeFiles,
        settings: RetentionSettings,
        is_busy: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._retention = retention
        self._audit_log = audit_log
        self._database = database
        self._files = files
        self._settings = settings
        self._is_busy = is_busy
        self._clock = clock
        self._last: datetime | None = None
        self._since = self._seen = datetime.min.replace(tzinfo=UTC)  # goals went on by this clock, from when to when
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._is_kept_up = asyncio.Event()
        self._is_kept_up.set()

    async def room(self) -> None:
        """Wait a moment before a goal, where goals come faster than what is past its time can go beside them."""
        if not self._is_kept_up.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_kept_up.wait(), MOST_WAIT_S)

    async def planned(self) -> Freed:
        """What `collect` would remove, as far as it can be told beforehand."""
        now = self._clock()
        rows = Counter(await self._retention.planned(now))
        if self._settings.audit_days is not None:
            rows["archived"] = await self._audit_log.archivable(self._archive_before(now))
        return Freed(rows=+rows, files=await asyncio.to_thread(self._files.collect, now, dry_run=True))

    async def collect(self) -> Freed:
        """Remove all that is past its time, now, and write the database's file anew where that makes it smaller."""
        freed = Freed()
        async for piece in self._pieces():
            freed.rows += piece
        freed.files = await asyncio.to_thread(self._files.collect, self._clock())
        await self._retention.set_done(self._clock())
        freed.database_bytes = await self._database.compact()
        return freed

    # --- by itself -------------------------------------------------------------------------------------

    def after_goal(self) -> None:
        """A goal has its answer: if a day has passed, go to work in the background."""
        now = self._clock()
        if not timedelta(0) <= now - self._seen <= BELIEVED:
            self._since = now
        self._seen = now
        if self._task is None and (self._last is None or abs(now - self._last) >= EVERY):
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._keep_house(), name="housekeeping", context=Context())  # nobody's

    async def aclose(self) -> None:
        """Go on for a moment with what is due, and stop."""
        self._is_closing = True
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait({task})

    async def _keep_house(self) -> None:
        now = self._clock()
        try:
            last = await self._retention.done_at()
            is_believed = last is not None and last <= now and self._since - last <= BELIEVED
            self._last = last if is_believed else now
            if last is None or not is_believed:  # a new home, or a clock that jumped
                await self._retention.set_done(now)
            elif now - last >= EVERY:
                self._last = now
                if await self._done():
                    await self._retention.set_done(now)
        except LLMOSError as error:
            log.warning("what is past its time could not be removed: %s", error, extra={"action": "housekeeping"})
        finally:
            self._task = None
            self._is_kept_up.set()

    async def _done(self) -> bool:
        """Do all that is due; False if the process ended before."""
        until: float | None = None
        loop = asyncio.get_running_loop()
        first = began = loop.time()
        async for piece in self._pieces():
            if loop.time() - first > LONG_S:
                self._is_kept_up.clear()
            if self._is_closing:
                until = until or loop.time() + LAST_S
                if loop.time() > until:
                    return False
            else:
                await self._let_goals_go_first(min(MOST_PAUSE_S, loop.time() - began))
                await self._database.refresh()
            log.debug("removed %s", dict(piece), extra={"action": "housekeeping"})
            began = loop.time()
        await asyncio.to_thread(self._files.collect, self._clock())
        if self._is_closing:
            if await self._database.dead_share() >= WORTH:
                self._database.compact_when_closed()
        else:
            await self._database.learn_goals()
        return True

    async def _let_goals_go_first(self, most_s: float) -> None:
        until = asyncio.get_running_loop().time() + most_s
        while not self._is_closing:
            await asyncio.sleep(PAUSE_S)
            if not self._is_busy() or asyncio.get_running_loop().time() >= until:
                return

    async def _pieces(self) -> AsyncIterator[Counter[str]]:
        """Each piece of work once it is done, of each sort in turn, while there is any that was due when it began."""
        now = self._clock()
        sorts = [self._runs(now), self._savings(now), self._outcomes(), self._goals(), self._archived(now)]
        while sorts:
            for sort in tuple(sorts):
                piece = await anext(sort, None)
                if piece is None:
                    sorts.remove(sort)
                else:
                    yield piece

    async def _runs(self, now: datetime) -> AsyncIterator[Counter[str]]:
        left = await self._retention.runs_past(now)  # each goal meanwhile makes one more: those are tomorrow's
        while left > 0 and (piece := await self._retention.remove_runs(now)):
            left -= piece["runs"] + piece["emptied"]
            yield piece

    async def _savings(self, now: datetime) -> AsyncIterator[Counter[str]]:
        while piece := await self._retention.sum_savings(now):
            yield piece

    async def _outcomes(self) -> AsyncIterator[Counter[str]]:
        while piece := await self._retention.remove_outcomes():
            yield piece
            if piece["outcomes"] < OUTCOMES_AT_ONCE:
                break

    async def _goals(self) -> AsyncIterator[Counter[str]]:
        looked_at = 0
        while (piece := await self._retention.remove_goals()) and looked_at <= self._settings.max_goals:
            looked_at += piece.pop("looked_at")
            if not piece["goals"] and looked_at == 0:
                break
            yield piece

    async def _archived(self, now: datetime) -> AsyncIterator[Counter[str]]:
        if self._settings.audit_days is not None:
            while count := await self._audit_log.archive(self._archive_before(now)):
                yield Counter(archived=count)

    def _archive_before(self, now: datetime) -> datetime:
        assert self._settings.audit_days is not None
        return now - timedelta(days=self._settings.audit_days)
