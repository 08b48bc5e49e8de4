"""The way of a goal: recall, decide, then follow, ask or learn; every cent and every effect accounted for."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmos.errors import (
    DivergenceError,
    LLMOSError,
    LowBatteryError,
    NoLearnerError,
    NothingToFollowError,
    OtherKindError,
    StaleTraceError,
    StorageError,
)
from llmos.interfaces.approving import Approving
from llmos.interfaces.deciding import Deciding, is_own, key_of
from llmos.interfaces.following import Following
from llmos.interfaces.results import Confirm, Result
from llmos.interfaces.running import Agreement, Running, result_of, unable
from llmos.interfaces.standing import Standing
from llmos.kernel.bus import Decided, Diverged, EventBus, GoalAccepted, RunEnded, TwinFound
from llmos.kernel.process import Process, Wait, current
from llmos.kernel.process_table import ProcessTable
from llmos.memory.runs import RunStore
from llmos.trace.decide import Choice, Decision
from llmos.trace.lex import check_goal, skeleton
from llmos.trace.run import Mode, Run, RunStatus, step_ids

if TYPE_CHECKING:
    from llmos.interfaces.agreeing import Agreeing
    from llmos.interfaces.auditing import Auditing
    from llmos.interfaces.continuing import Continuing
    from llmos.interfaces.guiding import Guiding
    from llmos.interfaces.handing import HandingOver
    from llmos.interfaces.learning import Learning
    from llmos.interfaces.recovery import Recovery
    from llmos.interfaces.reviving import Reviving
    from llmos.memory.processes import Checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Dispatcher:
    """Carries goals out. It alone knows both the kernel's side and the memory's."""

    deciding: Deciding
    runs: RunStore
    bus: EventBus
    clock: Callable[[], datetime]
    following: Following
    agreeing: Agreeing
    auditing: Auditing | None
    reviving: Reviving
    learning: Learning
    guiding: Guiding
    handing: HandingOver
    approving: Approving
    standing: Standing
    recovery: Recovery
    continuing: Continuing
    processes: ProcessTable

    async def handle(
        self,
        goal: str,
        *,
        mode: str = "auto",
        confirm: Confirm | None = None,
        again: bool = False,
        run_id: str | None = None,
    ) -> Result:
        """One goal from top to bottom; `again`: also if an earlier run of it still stands.

        Raises:
            LLMOSError: the goal was refused or failed; `.result` holds what is known of the run.
        """
        goal = check_goal(goal)
        first = Run(id=run_id or uuid.uuid4().hex[:12], goal=goal, mode=Mode.NONE, started_at=self.clock())
        run = Running(run=first, again=again)
        process = current()
        if process is not None:
            process.run_id = first.id
        self.bus.publish(GoalAccepted(run_id=run.run.id, goal=goal))
        try:
            decision = await self._decided(run, mode)
            with self.approving.asking(run.run.id, goal, confirm):
                outputs = await self._carried_out(run, decision, mode, confirm)
            return await self._done(run, outputs)
        except (Exception, asyncio.CancelledError) as error:  # a run is a border: whatever ended it is kept with it
            if not isinstance(error, LLMOSError | asyncio.CancelledError):
                log.exception("a run broke", extra={"action": "run_broke", "run_id": run.run.id})
            await asyncio.shield(self._failed(run, error))
            raise

    async def go_on(self, left: Checkpoint, *, confirm: Confirm | None = None) -> Result:
        """Go on with the run of a process that an earlier kernel left.

        Raises:
            LLMOSError: it failed; `.result` holds what is known of the run.
        """
        run = Running(run=await self.runs.get(left.run_id), stored=True)
        self.bus.publish(GoalAccepted(run_id=run.run.id, goal=run.run.goal))
        try:
            with self.approving.asking(run.run.id, run.run.goal, confirm):
                outputs = await self._taken_up(run, left)
            return await self._done(run, outputs)
        except (Exception, asyncio.CancelledError) as error:
            if not isinstance(error, LLMOSError | asyncio.CancelledError):
                log.exception("a run broke", extra={"action": "run_broke", "run_id": run.run.id})
            await asyncio.shield(self._failed(run, error))
            if not isinstance(error, asyncio.CancelledError):
                await self.following.kept.checkpoints.remove(left.run_id)
            raise

    async def check(self, left: Checkpoint) -> None:
        """Whether a process that an earlier kernel left can be gone on with now; nothing is done.

        Raises:
            LLMOSError: it can't, and stays as it is.
        """
        if left.is_replay:
            await self.continuing.check(left)
        else:
            self.recovery.check(left)

    async def _taken_up(self, run: Running, left: Checkpoint) -> dict[str, Any]:
        """Go on with a learner's work or a replay; where that stops now, the learner goes on from there."""
        if not left.is_replay:
            return await self.recovery.take_up(run, left)
        try:
            return await self.continuing.take_up(run, left)
        except DivergenceError as error:
            reason = self._after_divergence(run, error, left.asked)
            if not self.handing.has_begun(run, error):
                raise
            return await self.handing.take_over(run, error, reason)

    async def _carried_out(
        self, run: Running, decision: Decision, mode: str, confirm: Confirm | None, *, is_second: bool = False
    ) -> dict[str, Any]:
        """Follow, or learn, with a near trace's help; where a replay stops, the learner goes on from there."""
        diverged: DivergenceError | None = None
        agreement = Agreement(decision=decision)
        if decision.choice is Choice.FOLLOW and decision.match is not None and not run.again:
            run.standing = await self.standing.found(decision.match)
            if run.standing is not None:
                return await self.standing.told(run, decision.match, run.standing)
        if decision.choice is Choice.CONFIRM:
            agreement = await self.agreeing.agree(run, decision, mode, confirm)
        decision = agreement.decision
        reason = decision.reason
        if mode == "auto" and decision.match is None and not is_second and await self._twin_ended(run):
            decision = await self._decided(run, mode)  # it may have left a trace
            return await self._carried_out(run, decision, mode, confirm, is_second=True)
        if decision.choice is Choice.FOLLOW and decision.match is not None:
            try:
                return await self._followed(run, agreement, mode)
            except DivergenceError as error:
                if isinstance(error, StaleTraceError) and not is_second:
                    decision = await self._revived(run, decision)
                    if decision.choice is not Choice.LEARN:
                        return await self._carried_out(run, decision, mode, confirm, is_second=True)
                reason, diverged = self._after_divergence(run, error, mode), error
        try:
            if mode == "learn":
                return await self.learning.learn(run, reason)
            if isinstance(diverged, OtherKindError):  # another task is meant: its trace would only mislead
                return await self.learning.learn(run, reason, self.learning.alone(first_step=len(run.run.steps)))
            if diverged is not None and self._is_handed_over(run, decision, diverged):
                return await self.handing.take_over(run, diverged, reason)
            return await self.guiding.solve(
                run, decision, reason, confirm=confirm, declined=agreement.declined, diverged=diverged
            )
        except DivergenceError as error:
            if diverged is None or error.__cause__ is not diverged:  # a guided replay, not the one told of already
                self.bus.publish(Diverged(run_id=run.run.id, step_id=error.step_id, message=str(error)))
                if error.effects_done:
                    raise unable(error) from error
            raise
        except (LowBatteryError, NoLearnerError) as error:
            if isinstance(diverged, OtherKindError) and isinstance(error, NoLearnerError):
                raise diverged from error
            # where nobody can be asked, the sentence says first why somebody had to be
            error.args = (f"{reason[:400].rstrip('.')}; learning it needs more: {error}",)
            raise

    async def _followed(self, run: Running, agreement: Agreement, mode: str) -> dict[str, Any]:
        """Replay what was decided; a wording that was agreed to is kept only after the replay went well."""
        found = agreement.decision.match
        assert found is not None
        outputs = await self.following.follow(
            run, found, agreement.decision.reason, mode=agreement.mode, model=agreement.model
        )
        if agreement.is_new:
            await self.agreeing.feedback.confirmed(run.run.goal, found)
        if mode == "auto" and self.auditing is not None and is_own(found.trace, current()):
            await self.auditing.audit(run, found)
        return outputs

    async def _twin_ended(self, run: Running) -> bool:
        """Wait for an earlier process that is at work on the same task, so that it is learned once; False: none is.

        Only for an earlier one, so that nobody waits in a circle, and while it does not wait for somebody itself.
        """
        process = current()
        twin = None if process is None else twin_of(process, self.processes)
        if process is None or twin is None:
            return False
        self.bus.publish(TwinFound(run_id=run.run.id, pid=twin.pid, goal=twin.goal))
        async with process.waiting(Wait.TWIN):
            while twin.is_alive and twin_of(process, self.processes) is twin:
                await twin.moves()
        return True

    # --- deciding ------------------------------------------------------------------------------------

    async def _decided(self, run: Running, mode: str) -> Decision:
        if mode == "learn":
            decision = Decision(choice=Choice.LEARN, reason="learning was asked for")
        else:
            decision = await self.deciding.decide(run.run.goal)
            if decision.match is None:
                decision = await self._revived(run, decision)
        if mode == "follow" and decision.match is None:
            raise NothingToFollowError(f"no trace is proven for this goal: {decision.reason}")
        label = decision.match.trace.label if decision.match else None
        self.bus.publish(Decided(run_id=run.run.id, decision=str(decision.choice), reason=decision.reason, trace=label))
        return decision

    async def _revived(self, run: Running, decision: Decision) -> Decision:
        """The decision once what was set aside for its tools was verified, as far as it can be."""
        said = await self.reviving.revive(run.run.goal)
        if not said:
            return decision if decision.match is None else replace(decision, choice=Choice.LEARN, match=None)
        again = await self.deciding.decide(run.run.goal)
        return again if again.match is not None else replace(again, reason="; ".join([again.reason, *said]))

    def _after_divergence(self, run: Running, error: DivergenceError, mode: str) -> str:
        """Why somebody else must go on; where only following is allowed, nobody does."""
        self.bus.publish(Diverged(run_id=run.run.id, step_id=error.step_id, message=str(error)))
        if mode == "follow":
            raise unable(error) if error.effects_done else error
        done = f"after {error.effects_done} step{'s' * (error.effects_done > 1)} that changed things"
        return f"the replay stopped {done if error.effects_done else 'before it changed anything'}: {error}"

    def _is_handed_over(self, run: Running, decision: Decision, error: DivergenceError) -> bool:
        """Whether the learner goes on; where nothing was changed, a value written anew may be enough."""
        if not self.handing.has_begun(run, error):
            return False
        assert run.follower is not None
        changed = any(step.effect.changes_world for step in run.follower.records)
        return changed or not self.guiding.rewrites(run.run.goal, decision, error)

    # --- ending --------------------------------------------------------------------------------------

    async def _done(self, run: Running, outputs: Mapping[str, Any]) -> Result:
        run.end(RunStatus.DONE)
        self.following.kept.forget(run)
        if run.run.mode is Mode.FOLLOWER:
            await self.following.end(run)
        else:
            await self.runs.finish(run.run)
        self._tell_ended(run.run)
        if run.watching is not None and run.run.mode is Mode.FOLLOWER:
            await self.standing.keep(run.run, run.watching, outputs)
        return result_of(run.run, outputs, run.audit, run.estimate_usd, run.notice, run.standing)

    async def _failed(self, run: Running, error: BaseException) -> None:
        """Keep what is known of a run that did not end well; the error carries it out."""
        cancelled = isinstance(error, asyncio.CancelledError)
        process = current()
        run.update(reason=str(error) or ("killed" if process is not None and process.killed else "interrupted"))
        run.end(RunStatus.INTERRUPTED if cancelled else RunStatus.FAILED)
        self.following.kept.forget(run, error)
        try:
            await self.runs.finish(run.run)
        except StorageError:
            level = logging.INFO if isinstance(error, StorageError) else logging.WARNING  # or it is said twice
            log.log(level, "a failed run could not be stored", exc_info=True, extra={"action": "run_lost"})
        self._tell_ended(run.run)
        outputs = {i: s.output for i, s in zip(step_ids(run.run.steps), run.run.steps, strict=True)}
        error.result = result_of(run.run, outputs)  # type: ignore[attr-defined]

    def _tell_ended(self, run: Run) -> None:
        self.bus.publish(
            RunEnded(
                run_id=run.id,
                mode=str(run.mode),
                status=str(run.status),
                cost_usd=run.cost_usd,
                duration_s=run.duration_s,
            )
        )


def twin_of(process: Process, processes: ProcessTable) -> Process | None:
    """The first of the earlier processes that are at work on the same task, with other values in it or the same."""
    above = {process.pid}
    parent = process.parent
    while parent is not None and parent not in above:
        above.add(parent)
        parent = next((one.parent for one in processes if one.pid == parent), None)
    own = skeleton(process.goal)
    for one in processes:
        is_earlier = one.pid < process.pid and one.pid not in above and one.task is not None
        is_earlier = is_earlier and key_of(one) in ("", key_of(process))
        if is_earlier and (one.is_at_work or one.why in (Wait.TURN, Wait.TWIN)) and skeleton(one.goal) == own:
            return one
    return None
