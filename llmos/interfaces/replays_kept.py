"""What a replay goes on from after its kernel has ended: how it began, and each of its calls as it is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmos.interfaces.results import Asked
from llmos.interfaces.running import Running
from llmos.kernel.continued import Recording, is_worth_keeping
from llmos.kernel.process import Process, current
from llmos.kernel.replay import Follower
from llmos.memory.processes import Checkpoint, ProcessStore
from llmos.memory.runs import RunStore
from llmos.trace.run import StepRecord


@dataclass(frozen=True, kw_only=True)
class ReplaysKept:
    """Keeps replays of several steps that change something; while the house `is_ending` what there is stays kept.

    All of it is stored with what is durable anyway, the intent of the next effect or the end of the run: it takes no
    write of its own.
    """

    checkpoints: ProcessStore
    runs: RunStore
    workspace: Path
    is_ending: Callable[[], bool]

    def keep(self, run: Running, follower: Follower) -> None:
        """Keep a replay from here on, before its first call; nothing where nobody could go on with it."""
        process, trace = current(), follower.trace
        if process is None or trace.version is None or not is_worth_keeping(trace):
            return
        first = _first(process, run, follower, self.workspace)
        if not self.checkpoints.is_whole(first) or not self.runs.is_whole(run.run):
            return  # a secret was taken out, so the rest would be carried out without it
        run.is_kept = True
        self.checkpoints.put_soon(first)
        process.keep = lambda: _now(first, process)

        def record(step: StepRecord) -> None:
            self.runs.add_step_soon(run.run.id, step)

        recording = Recording(trace=trace, keep=record)
        follower.ctx = replace(follower.ctx, middleware=(*follower.ctx.middleware, recording))

    def forget(self, run: Running, error: BaseException | None = None) -> None:
        """It is over, unless the house ends it where it stands."""
        process = current()
        stays = isinstance(error, asyncio.CancelledError) and self.is_ending()
        if process is not None and run.is_kept:
            process.keep = None
            if not stays or process.killed is not None:
                self.checkpoints.remove_soon(run.run.id)


def _first(process: Process, run: Running, follower: Follower, workspace: Path) -> Checkpoint:
    asked = process.asked.mode if isinstance(process.asked, Asked) else "auto"
    return Checkpoint(
        run_id=run.run.id,
        pid=process.pid,
        goal=run.run.goal,
        kind=str(process.kind),
        priority=process.priority,
        model="",
        session_id="",
        workspace=str(workspace),
        began_at=process.created_at.isoformat(),
        mode=str(run.run.mode),
        parent=process.parent,
        above=tuple(map(str, process.above)),
        origin=process.origin,
        blocks=dict(process.blocks),
        agent=None if process.agent is None else process.agent.to_data(),
        budget_usd=process.own_usd,
        budget_tokens=process.budget.tokens.allocated,
        spent_usd=run.run.cost_usd,
        trace_id=follower.trace.id,
        trace_version=follower.trace.version,
        env=_plain(follower.env),
        asked=asked,
    )


def _now(first: Checkpoint, process: Process) -> Checkpoint:
    return replace(
        first,
        priority=process.own_priority,
        budget_usd=process.own_usd,
        borrowed=dict(process.borrowed),
        is_suspended=process.is_stopped,
    )


def _plain(env: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in env.items() if value is None or isinstance(value, str | int | float | bool)}
