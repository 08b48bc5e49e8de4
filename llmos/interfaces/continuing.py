"""Going on with a replay that a kernel left behind: from its first unfinished step, with no effect repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmos.errors import LLMOSError, NotPermittedError
from llmos.interfaces.following import Following
from llmos.interfaces.running import Running
from llmos.interfaces.undoing import Undoing
from llmos.kernel.continued import Continued
from llmos.kernel.taint import Taint
from llmos.memory.journal import JournalStore
from llmos.memory.processes import Checkpoint, ProcessStore
from llmos.memory.runs import RunStore
from llmos.memory.traces import FOLLOWABLE, TraceStore
from llmos.trace.effects import JournalEntry, Outcome
from llmos.trace.match import Match
from llmos.trace.program import Trace
from llmos.trace.run import CUT_OFF, Mode, RunStatus


@dataclass(frozen=True, kw_only=True)
class Continuing:
    """Takes up replays: `following` carries out the rest as it carries out the whole."""

    following: Following
    runs: RunStore
    journal: JournalStore
    traces: TraceStore
    checkpoints: ProcessStore
    taint: Taint
    undoing: Undoing

    async def check(self, left: Checkpoint) -> None:
        """Whether a replay can be gone on with now; nothing is done, and it stays as it is.

        Raises:
            NotPermittedError: nobody knows what came of one of its effects, or they were undone.
            NotFoundError, StorageError: its trace is gone.
            LLMOSError: its trace is not followed any more, or a tool of it has changed.
        """
        trace, registry = await self._trace(left), self.following.registry
        for step in trace.calls:
            is_known = step.tool in registry
            if is_known and step.tool_version not in (None, registry.get(step.tool).version):
                raise LLMOSError(f"the tool {step.tool} has changed since {trace.label} was made: {_forgets(left)}.")
        made = []
        for entry in await self._last(left.run_id):
            if entry.outcome is Outcome.UNKNOWN:
                raise NotPermittedError(
                    f"nobody knows what came of {entry.tool} in run {entry.run_id} (step {entry.step + 1}), so process "
                    f"{left.pid} does not go on: look (`runs show {entry.run_id}`), then say `journal settle "
                    f"{entry.run_id} {entry.step + 1} done` or `not-done`."
                )
            made += [entry] if entry.outcome is Outcome.DONE else []
        if made and not await self.undoing.stands(left.run_id):
            raise NotPermittedError(
                f"what process {left.pid} had done was undone, so it can't go on: {_forgets(left)}."
            )

    async def take_up(self, run: Running, left: Checkpoint) -> dict[str, Any]:
        """Go on with a replay; gives the outputs by step id, the answer goes into the run.

        Raises:
            DivergenceError: the world is not as recorded; counted against the trace.
            LLMOSError: what an effect had given is lost and is needed, or it comes to other calls than it had made.
        """
        await self.check(left)
        trace = await self._trace(left)
        continued = await self._continued(run, left, trace)
        await self.taint.inherit(run.run.id, run.run.id)
        reason = f"{run.run.reason}; gone on with after its process had ended"
        run.update(status=RunStatus.RUNNING, reason=reason, cost_usd=left.spent_usd)
        await self.runs.go_on(run.run)
        found = Match(trace=trace, template=trace.goals[0], bindings=run.run.bindings, anchors=0)
        try:
            return await self.following.follow(run, found, reason, mode=Mode(left.mode), continued=continued)
        except LLMOSError as error:
            if continued.refused is not None:
                raise continued.refused from error
            raise

    async def _continued(self, run: Running, left: Checkpoint, trace: Trace) -> Continued:
        """What is known of the calls that were made; what is kept of one that was cut off is dropped."""
        cut_off = [step.index for step in run.run.steps if step.is_error and step.output == CUT_OFF]
        await self.runs.drop_steps(left.run_id, cut_off)
        records = {step.index: step for step in run.run.steps if step.index not in cut_off}
        made = [one for one in await self._last(left.run_id) if one.outcome in (Outcome.DONE, Outcome.FAILED)]
        lost = {entry.step: entry for entry in made if entry.step not in records}
        return Continued(trace=trace, records=records, lost=lost, env=left.env)

    async def _last(self, run_id: str) -> list[JournalEntry]:
        """How each of a run's steps stands: a call that was not made may have been made later."""
        return [*{entry.step: entry for entry in await self.journal.of_run(run_id)}.values()]

    async def _trace(self, left: Checkpoint) -> Trace:
        trace = await self.traces.get(left.trace_id, left.trace_version)
        if trace.status not in FOLLOWABLE:
            raise LLMOSError(f"{trace.label} is not followed any more ({trace.status}): {_forgets(left)}.")
        return trace


def _forgets(left: Checkpoint) -> str:
    return f"`runs show {left.run_id}` says what was done, `kill {left.pid}` forgets the rest"
