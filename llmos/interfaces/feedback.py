"""Feedback: what people, audits and replays say of a trace, and what follows for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from hashlib import sha256

from llmos.errors import NotFoundError, TraceFormatError
from llmos.memory.outcomes import Judge, Outcomes
from llmos.memory.traces import TraceStore
from llmos.trace.lex import normalise
from llmos.trace.match import Match, match
from llmos.trace.program import Status, Trace
from llmos.trace.run import Run
from llmos.trace.teaching import with_values

log = logging.getLogger(__name__)

FAILING = "it failed too often"
"""How the reason of a trace begins that was set aside for its replays."""

_SHOWN_GOAL = 200


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """Counts outcomes, stores confirmed wordings and hard negatives.

    What replays say of frozen traces is left unsaid; what a person says of them is refused. `max_failures` is how many
    replays in a row may fail before a trace is set aside.
    """

    traces: TraceStore
    outcomes: Outcomes
    max_failures: int = 3

    @property
    def is_frozen(self) -> bool:
        return self.traces.frozen

    # --- replays ---------------------------------------------------------------------------------------

    async def replayed(self, trace: Trace, run_id: str, *, saved_usd: float) -> None:
        """A replay went well: it is counted, and a candidate that a person agreed to is trusted."""
        if self.is_frozen:
            return
        await self.traces.record_use(trace.id, True, saved_usd)
        await self.outcomes.judge(trace.id, run_id, ok=True, by=Judge.REPLAY)
        if trace.status is Status.CANDIDATE:
            await self.traces.set_status(trace.id, Status.TRUSTED, "confirmed, and the replay went well")

    async def diverged(self, trace: Trace, run_id: str, reason: str) -> None:
        """A replay failed: it is counted, and too many in a row set the trace aside."""
        if self.is_frozen:
            return
        await self.traces.record_use(trace.id, False, 0.0)
        await self.outcomes.judge(trace.id, run_id, ok=False, by=Judge.REPLAY)
        failing = (await self.outcomes.record(trace.id)).failing
        if failing >= self.max_failures:
            await self.set_aside(trace, f"{FAILING}: {failing} replays in a row, the last one so: {reason}")

    async def set_aside(self, trace: Trace, reason: str) -> None:
        """Quarantine a trace: it is kept, and not followed until it is verified again."""
        if self.is_frozen:
            return
        log.warning("%s is set aside: %s", trace.label, reason, extra={"action": "quarantine", "trace": trace.id})
        await self.traces.set_status(trace.id, Status.QUARANTINED, reason)

    # --- goals -----------------------------------------------------------------------------------------

    async def confirmed(self, goal: str, found: Match) -> Trace:
        """This goal means this trace: its wording and its values are kept, so that nobody is asked for them again.

        The replay itself was counted when it went well. Gives the trace as it is now.
        """
        if self.is_frozen or found.is_proven:
            return found.trace
        try:
            trace = await self.traces.get(found.trace.id)
            if found.wording:
                trace = await self.traces.add_wording(trace.id, found.wording)
            known = with_values(trace, found)
            if known.slots == trace.slots:
                return trace
            return await self.traces.add(replace(known, created_at=None), runs=await self.traces.runs_of(trace))
        except TraceFormatError as error:  # the wording does not fit a version stored meanwhile
            log.warning("a wording of %s was not kept: %s", found.trace.label, error, extra={"action": "wording_lost"})
            return found.trace

    async def rejected(
        self, goal: str, trace_id: str, reason: str, *, run_id: str | None = None, by: Judge = Judge.PERSON
    ) -> None:
        """This goal never means this trace.

        With the `run_id` of a replay that answered it, the replay counts as failed, a wording that a person had
        confirmed and that led there is taken away, and the trace must be confirmed again. Without one the trace was
        only suggested, and nothing is held against it.
        """
        await self.traces.add_negative(trace_id, goal)
        if run_id is None:
            return
        await self.traces.record_use(trace_id, False, 0.0)
        await self.outcomes.judge(trace_id, run_id, ok=False, by=by)
        trace = await self._withdrawn(await self.traces.get(trace_id), goal)
        if trace.status in (Status.TRUSTED, Status.CANDIDATE):
            await self.traces.set_status(trace_id, Status.CANDIDATE, reason)

    async def _withdrawn(self, trace: Trace, goal: str) -> Trace:
        """The trace without the added wordings that this goal was read by, as a new version; as it is without any."""
        try:
            original = (await self.traces.get(trace.id, 1)).goals
        except NotFoundError:
            original = trace.goals[:1]
        added = [template for template in trace.goals if template not in original]
        wrong = [one for one in added if isinstance(match(goal, replace(trace, goals=(one,))), Match)]
        kept = tuple(template for template in trace.goals if template not in wrong)
        if not wrong or not kept:
            return trace
        runs = await self.traces.runs_of(trace)
        return await self.traces.add(replace(trace, goals=kept, created_at=None), runs=runs)

    # --- runs ------------------------------------------------------------------------------------------

    async def approve(self, run: Run) -> Trace:
        """A person says that a run was right: its trace is trusted, and the run counts for it.

        Raises:
            NotFoundError: the run has no trace.
        """
        trace = await self.traces.get(_trace_of(run))
        if run.mode.is_replay:
            await self.traces.drop_negative(trace.id, run.goal)
            await self.outcomes.judge(trace.id, run.id, ok=True, by=Judge.PERSON)
        return await self.trust(trace) if trace.status is not Status.TRUSTED or not run.mode.is_replay else trace

    async def trust(self, trace: Trace) -> Trace:
        """A person trusts a trace as it is: it is followed without asking, whatever failed before."""
        await self.traces.set_status(trace.id, Status.TRUSTED, "confirmed by the user")
        await self.outcomes.restart(trace.id)
        return await self.traces.get(trace.id)

    async def disapprove(self, run: Run, goal: str | None = None) -> tuple[str, str | None]:
        """A person says that a run was wrong; gives the trace's id and the goal it was wrong for (None: altogether).

        A replay was wrong for its goal. A learner's run made a wrong trace, which is rejected for good, unless `goal`
        names what alone it is wrong for.

        Raises:
            NotFoundError: the run has no trace.
        """
        trace_id = _trace_of(run)
        wrong = goal or (run.goal if run.mode.is_replay else None)
        if wrong is None:
            await self.condemn(trace_id)
        else:
            await self.rejected(wrong, trace_id, rejection(wrong), run_id=run.id)
        return trace_id, wrong

    async def disapprove_trace(self, trace_id: str, goal: str | None) -> None:
        """A person says that a trace is wrong: for one goal, or altogether."""
        if goal is None:
            await self.condemn(trace_id)
        else:  # whichever run that was; said twice it counts once
            known_as = f"goal {sha256(normalise(goal).encode()).hexdigest()[:16]}"
            await self.rejected(goal, trace_id, rejection(goal), run_id=known_as)

    async def condemn(self, trace_id: str) -> None:
        """A trace is wrong altogether: it is never followed again."""
        await self.traces.set_status(trace_id, Status.REJECTED, "rejected by the user")


def rejection(goal: str) -> str:
    """The reason of a trace that was rejected for a goal."""
    flat = " ".join(goal.split())
    return f"rejected by the user for {flat if len(flat) <= _SHOWN_GOAL else flat[: _SHOWN_GOAL - 1] + '…'!r}"


def _trace_of(run: Run) -> str:
    if run.trace_id is None:
        raise NotFoundError(f"run {run.id} has no trace, so there is nothing to confirm or reject.")
    return run.trace_id
