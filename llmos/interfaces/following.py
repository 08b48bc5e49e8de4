"""Following: a proven trace is replayed for $0, and its use is booked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from llmos.errors import DivergenceError, OtherKindError, StaleTraceError, UnknownValueError, WorseEffectError
from llmos.interfaces.feedback import Feedback
from llmos.interfaces.replays_kept import ReplaysKept
from llmos.interfaces.running import Running
from llmos.interfaces.standing import Standing
from llmos.interfaces.surroundings import Surroundings
from llmos.kernel.bus import EventBus
from llmos.kernel.continued import Continued
from llmos.kernel.process import current
from llmos.kernel.replay import Follower, Replay
from llmos.kernel.standing import Watching
from llmos.kernel.token_economy import TokenEconomy
from llmos.memory.replays import ReplayLog
from llmos.memory.runs import RunStore
from llmos.plugins.registry import ToolRegistry
from llmos.trace.match import Match
from llmos.trace.program import Status, Trace
from llmos.trace.run import Mode


class Crew(Protocol):
    """Other processes that may carry out what changes nothing (`llmos.crew`)."""

    def wants(self, trace: Trace) -> bool:
        """Whether a replay of the trace is worth the way to one of them."""

    async def replay(self, found: Match, run_id: str, env: Mapping[str, Any]) -> Replay | None:
        """A replay by one of them; None where this process has to do it."""

    def took(self, trace: Trace, seconds: float) -> None:
        """Note how long a replay took in this process."""


@dataclass(frozen=True, kw_only=True)
class Following:
    """Replays traces; `discover` starts the MCP server that a tool not known yet would belong to."""

    registry: ToolRegistry
    runs: RunStore
    economy: TokenEconomy
    bus: EventBus
    surroundings: Surroundings
    feedback: Feedback
    standing: Standing
    replays: ReplayLog
    discover: Callable[[str], Awaitable[None]]
    crew: Crew
    kept: ReplaysKept

    async def follow(
        self,
        run: Running,
        found: Match,
        reason: str,
        *,
        mode: Mode = Mode.FOLLOWER,
        model: str | None = None,
        continued: Continued | None = None,
    ) -> dict[str, Any]:
        """Replay a trace for a run; gives the outputs by step id, the answer goes into the run.

        With `continued` an earlier process had begun it.

        Raises:
            StaleTraceError: a tool is gone or has changed; the trace is quarantined.
            UnknownValueError: the goal names what the trace's look-up does not list; the trace did nothing wrong.
            OtherKindError: the goal names another kind of thing than the trace works on; nor did it here.
            WorseEffectError: with the goal's values a step would do more than was recorded; nor did it here.
            DivergenceError: the world is not as recorded; counted against the trace.
        """
        trace = found.trace
        run.is_harmless = not trace.effect.changes_world and not self.surroundings.thoughts(trace)
        run.is_booked = False
        run.begin(mode=mode, trace=trace, bindings=found.bindings, reason=reason, model=model)
        is_whole = mode is Mode.FOLLOWER and continued is None
        run.watching = await self.standing.watching(found) if is_whole else None
        elsewhere = await self._elsewhere(run, found)
        if elsewhere is not None:
            run.update(steps=elsewhere.records, answer=elsewhere.answer, saved_usd=trace.cost_usd)
            return elsewhere.outputs
        run.follower = follower = await self._follower(run.run.id, found, run.watching)
        if continued is not None:
            follower.env, follower.is_permitted, follower.made = continued.env, continued.is_done, continued.made
            follower.ctx = replace(follower.ctx, middleware=(continued, *follower.ctx.middleware))
        try:
            follower.preflight()
            self.surroundings.check_thinking(trace)
            if self.surroundings.thoughts(trace):
                await run.store(self.runs)
            elif not run.is_harmless:
                run.store_soon(self.runs)
            self.kept.keep(run, follower)
            started = time.perf_counter()
            replayed = await follower.run()
            if run.is_harmless:
                self.crew.took(trace, time.perf_counter() - started)
        except StaleTraceError as error:
            await self.feedback.set_aside(trace, str(error))
            raise
        except (OtherKindError, UnknownValueError, WorseEffectError):
            raise
        except DivergenceError as error:
            await self.feedback.diverged(trace, run.run.id, str(error))
            raise
        finally:
            cost_usd = run.run.cost_usd + self.surroundings.spent(run.run.id)
            run.update(steps=tuple(follower.records), cost_usd=cost_usd)
        saved_usd = max(0.0, trace.cost_usd - run.run.cost_usd)
        run.update(answer=replayed.answer, saved_usd=saved_usd)
        if mode is not Mode.FOLLOWER or trace.status is not Status.TRUSTED:
            await asyncio.to_thread(self.economy.book_saving, run.run.id, saved_usd, f"replay of {trace.label}")
            await self.feedback.replayed(trace, run.run.id, saved_usd=saved_usd)
            run.is_booked = True
        return replayed.outputs

    async def _elsewhere(self, run: Running, found: Match) -> Replay | None:
        """A replay by another process, where there is one and the trace is fit for it."""
        trace, process = found.trace, current()
        if process is not None and process.agent is not None:
            return None  # others do not know what its profile takes away
        if not run.is_harmless or run.watching is not None or trace.status is not Status.TRUSTED:
            return None
        if not self.crew.wants(trace):
            return None
        return await self.crew.replay(found, run.run.id, await self.surroundings.env(trace))

    async def end(self, running: Running) -> None:
        """Store a replay that went well, with its saving; nobody waits where nothing hangs on when that is stored."""
        run = running.run
        if running.is_booked:
            await self.runs.finish(run)
            return
        running.is_booked = True
        saving = self.economy.saving(run.id, run.saved_usd, f"replay of {run.trace_id}@{run.trace_version}")
        how: dict[str, Any] = {"counts": not self.feedback.is_frozen, "then": self.economy.tell}
        is_quick = running.is_harmless and not running.stored and not run.cost_usd
        if is_quick and self.replays.may_wait:
            self.replays.record(run, saving, **how)
        else:
            await self.replays.finish(run, saving, **how)

    async def _follower(self, run_id: str, found: Match, watching: Watching | None) -> Follower:
        for step in found.trace.calls:
            if step.tool not in self.registry:
                await self.discover(step.tool)
        ctx = self.surroundings.context(run_id)
        if watching is not None:
            ctx = replace(ctx, middleware=(*ctx.middleware, watching))
        return Follower(
            trace=found.trace,
            bindings=found.bindings,
            registry=self.registry,
            ctx=ctx,
            resolve=watching.asking(ctx.resolve) if watching is not None else None,
            bus=self.bus,
            env=await self.surroundings.env(found.trace),
            secret=self.surroundings.secret,
            process=current(),
        )
