"""Done a moment ago: while an earlier replay of a goal still stands, the goal is told of instead of done again."""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from llmos import __version__
from llmos.errors import LLMOSError
from llmos.interfaces.render import ago
from llmos.interfaces.running import Running
from llmos.interfaces.surroundings import Surroundings
from llmos.kernel.agents import acting
from llmos.kernel.standing import ChangedError, Watching, could_stand, still_stands
from llmos.memory.journal import JournalStore
from llmos.memory.runs import RunStore
from llmos.memory.standing import StandingStore
from llmos.plugins.registry import ToolRegistry
from llmos.trace.match import Match
from llmos.trace.program import Trace
from llmos.trace.run import Mode, Run
from llmos.trace.standing import StandingRun, env_names, key_of

log = logging.getLogger(__name__)

_LOCAL_TIME = Path("/etc/localtime")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Keeps what is known of replays and tells whether one still stands; in doubt none does, and nothing is kept."""

    store: StandingStore
    journal: JournalStore
    runs: RunStore
    registry: ToolRegistry
    surroundings: Surroundings
    clock: Callable[[], datetime]
    is_enabled: bool = True

    # --- before ----------------------------------------------------------------------------------------

    async def found(self, found: Match) -> StandingRun | None:
        """The earlier run that did what a match asks for, if doing it again would change nothing."""
        if not self._could_stand(found.trace):
            return None
        try:
            run = await self.store.get(self._key(found))
            if run is None:
                return None
            if run.world != await self._world(found.trace):
                raise ChangedError("the day, the user or a version is another one")
            ctx = self.surroundings.context("")
            seen = await asyncio.to_thread(still_stands, run, self.registry, ctx, self.clock())
            if seen != run:
                await self.store.renew(seen)
            return seen
        except (ChangedError, LLMOSError, OSError) as error:
            log.info("%s is done again: %s", found.trace.label, error, extra={"action": "changed"})
            return None

    async def told(self, run: Running, found: Match, standing: StandingRun) -> dict[str, Any]:
        """Answer a goal with the run that stands, as what it is: a run that did nothing and saved nothing."""
        run.begin(mode=Mode.UNCHANGED, trace=found.trace, bindings=found.bindings, reason=self.sentence(standing))
        await run.store(self.runs)
        run.update(answer=standing.answer)
        return dict(standing.outputs)

    def sentence(self, standing: StandingRun) -> str:
        """When it was done, and that nothing has changed."""
        passed_s = (self.clock() - standing.done_at).total_seconds()
        return f"done {ago(passed_s)} (run {standing.run_id}), and nothing has changed since"

    # --- during and after ------------------------------------------------------------------------------

    async def watching(self, found: Match) -> Watching | None:
        """What is to watch a replay, if it might stand later."""
        if not self._could_stand(found.trace):
            return None
        return Watching(trace=found.trace, now=self.clock, world=await self._world(found.trace))

    async def keep(self, run: Run, watching: Watching, outputs: Mapping[str, Any]) -> None:
        """Keep what was seen of a replay that went well; one that will not count takes the place of none."""
        key = key_of(watching.trace, run.bindings, self._root)
        try:
            entries = await self.journal.made_by(run.id)
            seen = await asyncio.to_thread(watching.ended, entries, self.surroundings.settings.workspace.resolve())
            if watching.world != await self._world(watching.trace):
                raise ChangedError("the day changed while it was done")
            named = replace(seen, key=key, run_id=run.id, answer=run.answer or "")
            self.store.put(replace(named, outputs=outputs))
        except (ChangedError, LLMOSError, OSError) as error:
            log.info("%s will be done again: %s", watching.trace.label, error, extra={"action": "void"})
            try:
                await self.store.drop(key)
            except LLMOSError:
                log.warning("what is known of an earlier run stays", exc_info=True, extra={"action": "standing_stays"})

    def _could_stand(self, trace: Trace) -> bool:
        agent = acting()
        may = agent is None or all(agent.has(step.tool) for step in trace.calls)
        return self.is_enabled and may and could_stand(trace, self.registry)

    @property
    def _root(self) -> str:
        return str(self.surroundings.settings.workspace.resolve())

    def _key(self, found: Match) -> str:
        return key_of(found.trace, found.bindings, self._root)

    async def _world(self, trace: Trace) -> dict[str, Any]:
        """What a replay depends on beside its bindings and files: values of `env.*`, versions, the time zone."""
        env = await self.surroundings.env(trace)
        names = sorted(env_names(trace))
        return {"env": {name: env.get(name) for name in names}, **await asyncio.to_thread(self._machine)}

    def _machine(self) -> dict[str, Any]:
        import duckdb

        zone = [self.surroundings.context("").env.get("TZ"), *time.tzname, str(_LOCAL_TIME.resolve())]
        return {"zone": zone, "versions": [__version__, platform.python_version(), duckdb.__version__]}
