"""Going on with a learner's process that a kernel left behind: from its last finished turn, with no effect repeated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from llmos.errors import LearnerError, LowBatteryError, NotFoundError, StorageError
from llmos.interfaces.context import LOOK_BACK
from llmos.interfaces.handing import HandingOver
from llmos.interfaces.learner import LearnTask, Rest
from llmos.interfaces.learning import Learning
from llmos.interfaces.prompts import FINISH, REJOIN
from llmos.interfaces.recorder import Recorder
from llmos.interfaces.running import Running
from llmos.interfaces.transcripts import Use, last_calls, results_of, uses
from llmos.kernel.bus import LearnerStarted
from llmos.kernel.journal import key_of
from llmos.kernel.once import Once
from llmos.kernel.process import current
from llmos.memory.journal import JournalStore
from llmos.memory.processes import Checkpoint
from llmos.memory.runs import RunStore
from llmos.memory.sessions import FOLDED, SessionStore
from llmos.memory.traces import TraceStore
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import ToolResult
from llmos.trace.effects import JournalEntry, Outcome
from llmos.trace.plans import cut, shown
from llmos.trace.program import Status, Trace
from llmos.trace.run import Origin, RunStatus, StepRecord, step_ids
from llmos.trace.takeover import MAY_HAVE_HAPPENED

TAKEN_UP = (
    "The process that began this has ended, and the program with it: rejoin is not there any more. What is done stays "
    "done; do the rest with the other tools."
)
LOST = "This call was made, and did what it was asked to; what it gave was lost with the process that made it."
_UNSEEN = "it went on after the process that began it had ended, and nobody has looked at it yet"
_PREFIX = "mcp__llmos__"
_NO_STEPS = (FINISH, REJOIN, LOOK_BACK)
_BESIDE = ("taken_over", "trace_id", "trace_version", "settled", "due", "rejoined")
_SHOWN = 300


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Takes up learners' runs; `learning` solves the rest as it solves the whole."""

    learning: Learning
    handing: HandingOver
    runs: RunStore
    journal: JournalStore
    sessions: SessionStore
    traces: TraceStore
    registry: ToolRegistry

    def check(self, checkpoint: Checkpoint) -> None:
        """Whether a run can be gone on with now.

        Raises:
            NoLearnerError: nobody can be asked.
            LowBatteryError: it has spent what it may.
        """
        self.learning.models.check()
        if checkpoint.max_usd <= checkpoint.spent_usd:
            raise LowBatteryError(
                f"process {checkpoint.pid} has spent what its run may (${checkpoint.max_usd:.4f}): `kill "
                f"{checkpoint.pid}` forgets it."
            )

    async def take_up(self, run: Running, checkpoint: Checkpoint) -> dict[str, Any]:
        """Go on with a run; gives the outputs by step id, answer and trace go into the run.

        Raises:
            LowBatteryError: the battery, or what its process may spend, can't carry the rest.
            LearnerError, WatchdogError: it did not finish; what it cost is charged.
        """
        learning, done = self.learning, run.run.steps
        await learning.discover()
        self.check(checkpoint)
        await learning.taint.inherit(run.run.id, run.run.id)
        known, is_lost = await self._known(checkpoint, done)
        recorder = await self._recorder(run, checkpoint, known)
        await self._count(checkpoint, known, done)
        left_usd = checkpoint.max_usd - checkpoint.spent_usd
        reason = f"{run.run.reason}; gone on with after its process had ended"
        run.update(status=RunStatus.RUNNING, reason=reason, model=checkpoint.model)
        operation = f"going on: {checkpoint.model}"
        reservation = await asyncio.to_thread(
            learning.reserve, run.run.id, min(left_usd, checkpoint.dearest_usd), operation, left_usd
        )
        try:
            await self.runs.go_on(run.run)
            answer = await self._answered(run, recorder, checkpoint, reservation.amount_usd)
        finally:
            await asyncio.shield(self._settled(run, recorder, reservation, done))
        run.update(answer=answer, finish=recorder.finished, status=RunStatus.DONE)
        run.update(taint=learning.taint.sources(run.run.id))
        if checkpoint.taken_over:
            await self._book(run, checkpoint)
        if is_lost:
            run.update(reason=f"{run.run.reason}; not kept as a trace: what a call gave was lost")
        else:
            await self._keep(run)
        steps = run.run.recording.steps
        return {i: s.output for i, s in zip(step_ids(steps), steps, strict=True) if not s.is_error}

    async def _keep(self, run: Running) -> None:
        """What was learned in two parts was not seen from its beginning: a person looks at it first."""
        trace = await self.learning.keep(run, None, run.run.recording)
        if isinstance(trace, Trace) and trace.status is Status.TRUSTED and trace.run_id == run.run.id:
            await self.traces.set_status(trace.id, Status.CANDIDATE, _UNSEEN)

    async def _book(self, run: Running, checkpoint: Checkpoint) -> None:
        """Book what the replay that had begun it saved, where its trace is still known."""
        with suppress(NotFoundError, StorageError):
            trace = await self.traces.get(checkpoint.trace_id, checkpoint.trace_version)
            await self.handing.book(run, trace, await self.learning.estimate(run.run.goal))

    async def _answered(self, run: Running, recorder: Recorder, checkpoint: Checkpoint, most_usd: float) -> str:
        task = LearnTask(
            run_id=run.run.id,
            goal=run.run.goal,
            model=checkpoint.model,
            max_budget_usd=most_usd,
            max_turns=max(1, checkpoint.max_turns - checkpoint.turns),
            plan=_plan(checkpoint),
            taken_over=checkpoint.taken_over,
            secrets=() if checkpoint.taken_over else self.learning.surroundings.settings.secrets,
        )
        self.learning.bus.publish(LearnerStarted(run_id=run.run.id, model=checkpoint.model, reserved_usd=most_usd))
        learned = await self.learning.ask(task, recorder)
        run.update(model=learned.model)
        if recorder.refused is not None:
            raise recorder.refused
        return learned.answered()

    async def _settled(self, run: Running, recorder: Recorder, reservation: Any, done: tuple[StepRecord, ...]) -> None:
        """Charge what is known of the bill, and keep the steps of both parts."""
        settle = self.learning.economy.settle
        await asyncio.to_thread(settle, reservation, recorder.cost_usd, f"gone on: {run.run.model}")
        cost_usd = run.run.cost_usd + recorder.cost_usd + self.learning.surroundings.spent(run.run.id)
        run.update(steps=(*done, *recorder.steps), cost_usd=cost_usd)
        if run.run.handover is not None:
            run.update(handover=replace(run.run.handover, rejoined=recorder.beside.get("rejoined")))

    # --- what was done before ------------------------------------------------------------------------

    async def _known(self, checkpoint: Checkpoint, done: Sequence[StepRecord]) -> tuple[dict[str, ToolResult], bool]:
        """What the last calls had come to, if they were made, by the call's id; and whether something is lost."""
        by_id = {step.tool_use_id: step for step in done if step.tool_use_id}
        unrecorded, unknown = await self._unrecorded(checkpoint.run_id, done)
        results: dict[str, ToolResult] = {}
        left = [*unrecorded]
        lines = await self.sessions.load(checkpoint.session_id)
        for use in last_calls(lines):
            if checkpoint.taken_over and use.name.removeprefix(_PREFIX) == REJOIN and REJOIN not in self.registry:
                said = results_of(lines).get(use.id)
                text = said.text if said is not None else _stopped(done, left, unknown)
                results[use.id] = ToolResult(output=text, is_error=said is None or said.is_error)
                left = left if said is not None else []
                continue
            made = next((entry for entry in left if self._is_made(entry, use)), None)
            if use.id in by_id:
                step = by_id[use.id]
                results[use.id] = ToolResult(output=step.output, is_error=step.is_error, is_recorded=True)
            elif made is not None:
                left.remove(made)
                results[use.id] = ToolResult(output=LOST, is_recorded=True)
        if left:
            entry = left[0]
            raise LearnerError(
                f"{entry.tool} was made as step {entry.step + 1} and what it gave is lost, so nobody can go on: "
                f"`runs show {entry.run_id}` says what was done, `undo {entry.run_id}` takes files back."
            )
        return results, bool(unrecorded or unknown)

    async def _count(self, checkpoint: Checkpoint, known: Mapping[str, ToolResult], done: Sequence[StepRecord]) -> None:
        """Turns and steps go on from what was done: a call that is made again counts once."""
        process = current()
        if process is None:
            return
        lines = await self.sessions.load(checkpoint.session_id)
        every = [*await self.sessions.load(checkpoint.session_id, FOLDED), *lines]
        asked = [use for use in uses(every) if use.name.removeprefix(_PREFIX) not in _NO_STEPS]
        last = {use.id for use in last_calls(lines)}
        again = [use for use in asked if use.id in last and use.id not in known]
        process.turns -= max(0, min(len(again), process.turns - (len(asked) - len(again))))
        process.steps = max(process.steps, len(done))  # the last one may have been stored, and not counted any more

    async def _unrecorded(
        self, run_id: str, done: Sequence[StepRecord]
    ) -> tuple[list[JournalEntry], list[JournalEntry]]:
        """The effects whose steps were not stored any more: those that were made, and those nobody knows of."""
        stored = {step.index for step in done}
        entries = [one for one in await self.journal.of_run(run_id) if one.step not in stored]
        made = [one for one in entries if one.outcome in (Outcome.DONE, Outcome.FAILED)]
        return made, [one for one in entries if one.outcome is Outcome.UNKNOWN]

    def _is_made(self, entry: JournalEntry, use: Use) -> bool:
        name = use.name.removeprefix(_PREFIX)
        if entry.tool != name or name not in self.registry:
            return False
        tool = self.registry.get(name)
        return entry.key == key_of(tool.name, tool.version, use.arguments)

    async def _recorder(self, running: Running, checkpoint: Checkpoint, known: Mapping[str, ToolResult]) -> Recorder:
        """Records the rest; calls whose place in the session was lost are answered once with what they gave.

        What the model was about to be told when its kernel ended, and has not read, it is told again.
        """
        run = running.run
        recorder = self.learning.recorder(running, _next_number(run.steps, await self.journal.of_run(run.id)))
        if checkpoint.taken_over:
            recorder.origin = Origin.LEARNER
            recorder.beside = {name: getattr(checkpoint, name) for name in _BESIDE}
        lines = await self.sessions.load(checkpoint.session_id)
        every = [*await self.sessions.load(checkpoint.session_id, FOLDED), *lines]
        told, again = {use.id for use in uses(every)}, {use.id for use in last_calls(lines)}
        read = "\n".join(one.text for id_, one in results_of(every).items() if id_ not in again)
        recorder.told += [one for one in await self.learning.interrupts.told(run.id) if one.text not in read]
        once = Once(ctx=recorder.ctx, stands_in=True)
        replayed = Once(ctx=recorder.ctx, due=checkpoint.due, may_rejoin=False)
        for number, step in enumerate(run.steps):
            if not step.effect.changes_world or step.is_error:
                continue
            if step.origin is Origin.REJOINED or (step.origin is Origin.REPLAYED and number < checkpoint.settled):
                replayed.add(self.registry.get(step.tool), step)
            elif step.origin in (None, Origin.LEARNER) and step.tool_use_id not in told:
                once.add(self.registry.get(step.tool), step)
        recorder.ctx = replace(recorder.ctx, middleware=(replayed, once, *recorder.ctx.middleware))
        if checkpoint.context_tokens:
            recorder.unsent_bytes = checkpoint.unsent_bytes + sum(len(one.text.encode()) for one in known.values())
        else:
            recorder.unsent_bytes = sum(len(json.dumps(line)) for line in lines)  # the next request sends it all
        recorder.rest = Rest(
            session_id=checkpoint.session_id if uses(lines) else "",
            results=known,
            spent_usd=checkpoint.spent_usd,
            max_usd=checkpoint.max_usd,
            dearest_usd=checkpoint.dearest_usd,
            is_measured=checkpoint.context_tokens > 0,
        )
        return recorder


def _plan(checkpoint: Checkpoint) -> str | None:
    """What a model is told that begins anew, for nothing is kept of what was said."""
    plan = checkpoint.plan
    return f"{plan}\n\n{TAKEN_UP}" if checkpoint.taken_over and plan and TAKEN_UP not in plan else plan


def _stopped(done: Sequence[StepRecord], lost: Sequence[JournalEntry], unknown: Sequence[JournalEntry]) -> str:
    """What a learner is told of a replay of the rest that ended with its process."""
    made = [f"{step.tool} {cut(shown(step.args), _SHOWN)}" for step in done if step.origin is Origin.REJOINED]
    made += [f"{_call(entry)} (what it gave is lost)" for entry in lost]
    doubt = "".join(f"\n{MAY_HAVE_HAPPENED.format(_call(entry))}" for entry in unknown)
    said = "".join(f"\n- {one}" for one in made) or " nothing"
    return (
        "the rest was being replayed when the process that did it ended, and it can't be replayed again. Done by then:"
        f"{said}{doubt}\nGo on yourself from there; don't repeat any of it."
    )


def _call(entry: JournalEntry) -> str:
    return f"{entry.tool} {cut(shown(dict(entry.arguments)), _SHOWN)}"


def _next_number(done: Sequence[StepRecord], journalled: Sequence[JournalEntry]) -> int:
    return max([-1, *(step.index for step in done), *(entry.step for entry in journalled)]) + 1
