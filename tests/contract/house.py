"""A home whose orders are kept with a clock of the test's own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llmos.home import OpenHome
from llmos.orders import Job, Schedule
from llmos.resident.keeper import Came, Keeper
from llmos.settings import load_settings
from llmos.testing import FrozenClock, HashEmbedder

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
GOAL = "Calculate 2 + 3"


class House:
    """A home with a clock of the test's own; `came` is what each job comes to, `done` what was begun."""

    def __init__(self, folder: Path) -> None:
        self.clock = FrozenClock(NOON)
        (folder / "work").mkdir(exist_ok=True)
        self.workspace = folder / "work"
        settings = load_settings(home=folder / "home", workspace=self.workspace, environ={}, checkout=folder)
        self.home = OpenHome(settings, embedder=HashEmbedder(), clock=self.clock)
        self.came = Came(status="done", said="5")
        self.done: list[tuple[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.keeper = Keeper(self.home, self._run, clock=self.clock)

    async def _run(self, job: Job, goal: str, run_id: str) -> Came:
        self.done.append((goal, run_id))
        await self.gate.wait()
        return self.came

    async def schedule(self, **more: Any) -> Schedule:
        given = {"every_s": 60.0, "created_at": NOON, "next_at": NOON + timedelta(seconds=60), **more}
        return await self.home.schedules.add(Schedule(job=Job(goal=GOAL, workspace=str(self.workspace)), **given))

    async def passes(self, seconds: float) -> None:
        """Time passes, and what is due then is begun, and ends where the gate is open."""
        self.clock.advance(seconds)
        await self.keeper.look()
        await self.quiet()

    async def quiet(self) -> None:
        if self.gate.is_set():
            while self.home.background:
                await asyncio.wait({*self.home.background})
        else:
            await asyncio.sleep(0.1)
