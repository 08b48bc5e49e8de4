"""Taking runs back: what undo would do, doing it as a run of its own, and the user's word on what nobody knows."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from llmos.errors import NotFoundError, NotPermittedError, UndoError
from llmos.kernel.journal import Journal, key_of
from llmos.kernel.restore import restore_all
from llmos.kernel.survey import glance, look_and_keep
from llmos.kernel.undo import Restoration, UndoPlan, plan_undo
from llmos.memory.journal import JournalStore
from llmos.memory.runs import RunStore
from llmos.trace.effects import FileChange, FileState, JournalEntry, Outcome, Reach
from llmos.trace.program import Effect
from llmos.trace.run import Mode, Run, RunStatus, StepRecord

UNDO = "undo"
_OURS = "llmos"
"""The version that tells our entries from those of a plugin's tool of that name."""


@dataclass(frozen=True, kw_only=True)
class Undone:
    """What undoing did; `run_id` is its own run, which can be undone in turn; `left` are folders that are not empty."""

    run_id: str
    plan: UndoPlan
    left: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Undoing:
    """Takes runs of one workspace back."""

    journal: Journal
    store: JournalStore
    runs: RunStore
    workspace: Path
    closed: frozenset[str]
    clock: Callable[[], datetime]

    async def last(self) -> str:
        """The last run in this workspace with effects that is not undone; an undo is none.

        What was only stored elsewhere than in files, such as a fact, counts where nothing else was done.

        Raises:
            NotFoundError: there is none.
        """
        undone, undos = await self._undone()
        await self.journal.settle_loose()
        other: str | None = None
        for run_id in await self.store.runs(str(self.workspace.resolve())):
            if run_id in undone or run_id in undos:
                continue
            entries = await self.store.of_run(run_id)
            if any(map(_has_effect, entries)):
                return run_id
            stored = any(entry.outcome is not Outcome.NOT_DONE and not entry.files for entry in entries)
            other = other or (run_id if stored else None)
        if other is not None:
            return other
        raise NotFoundError(f"no run has changed anything in {self.workspace} that is not undone already.")

    async def stands(self, run_id: str) -> bool:
        """Whether a run has changed something, or may have, and is not undone."""
        await self.journal.settle_loose()
        if not any(map(_has_effect, await self.store.of_run(run_id))):
            return False
        undone, _ = await self._undone()
        return run_id not in undone

    async def plan(self, run_id: str) -> UndoPlan:
        """What undoing a run would do; nothing is done.

        Raises:
            NotFoundError: it has changed nothing.
            NotPermittedError: it worked in another workspace.
            UndoError: it is still at work.
        """
        await self.journal.settle_loose()
        found = await self.store.of_run(run_id)
        if any(entry.outcome is Outcome.OPEN for entry in found):
            raise UndoError(f"run {run_id} is still at work; undo it when it has ended.")
        entries = [entry for entry in found if entry.outcome is not Outcome.NOT_DONE or entry.changed]
        if not entries:
            raise NotFoundError(f"run {run_id} changed nothing that the journal knows of, so there is nothing to undo.")
        root = self.workspace.resolve()
        other = next((entry.workspace for entry in entries if entry.workspace != str(root)), None)
        if other is not None:
            raise NotPermittedError(f"run {run_id} worked in {other}: undo it with --workspace {other}.")
        return await asyncio.to_thread(plan_undo, run_id, root, entries, self.journal.images, self.closed)

    async def undo(self, plan: UndoPlan, *, keep_changed: bool = False) -> Undone:
        """Restore what a plan says, as a run of its own.

        Raises:
            UndoError: something was changed since and `keep_changed` does not leave it alone (nothing was restored), or
                a file can't be brought back.
            NotPermittedError, StorageError: what is there now can't be kept; nothing was restored.
        """
        if plan.conflicts and not keep_changed:
            raise UndoError(refusal(plan))
        run = Run(
            id=uuid.uuid4().hex[:12],
            goal=f"undo {plan.run_id}",
            mode=Mode.UNDO,
            reason=f"undoes run {plan.run_id}",
            started_at=self.clock(),
        )
        await self.runs.start(run)
        try:
            left = await self._restored(run, plan)
        except BaseException as error:
            failed = replace(
                run, status=RunStatus.FAILED, reason=str(error) or "interrupted", duration_s=self._since(run)
            )
            await asyncio.shield(self.runs.finish(failed))
            raise
        done = replace(run, status=RunStatus.DONE, steps=(_step(plan, left),), duration_s=self._since(run))
        await self.runs.finish(done)
        return Undone(run_id=run.id, plan=plan, left=tuple(left))

    async def _restored(self, run: Run, plan: UndoPlan) -> list[str]:
        """The files brought back, between an intent and its outcome."""
        async with self.journal.alone():
            files = await asyncio.to_thread(self._kept, plan)
            arguments = {"run": plan.run_id}
            entry = JournalEntry(
                run_id=run.id,
                step=0,
                tool=UNDO,
                tool_version=_OURS,
                effect=Effect.WRITE,
                key=key_of(UNDO, run.id, arguments),
                arguments=arguments,
                workspace=str(plan.root),
                reach=Reach.EXACT,
                files=files,
                began_at=self.clock(),
            )
            entry = await self.store.intend(entry, undoes=plan.run_id)
        return await self.journal.carried_out(entry, lambda: restore_all(plan.root, plan.restore, self.journal.images))

    def _kept(self, plan: UndoPlan) -> tuple[FileChange, ...]:
        """What is there now, kept so that the undo can be undone."""
        images, back = self.journal.images, {one.before.sha256 for one in plan.restore}
        try:
            files = tuple(self._change(plan, one, back) for one in plan.restore)
            images.flush()
        except BaseException:
            images.discard()
            raise
        return files

    def _change(self, plan: UndoPlan, one: Restoration, back: set[str]) -> FileChange:
        place = plan.root / one.path
        stays = one.before.same_content(one.present) or (one.present.sha256 and one.present.sha256 in back)
        now: FileState = one.present
        if not stays or one.present.size <= self.journal.limits.max_file_bytes:
            try:
                now = look_and_keep(place, one.path, self.journal.images)
            except OSError as error:
                raise UndoError(
                    f"{one.path} can't be read ({error.strerror or error}); nothing was restored."
                ) from error
        if not now.same_content(one.present) or glance(place).kind is not one.present.kind:
            raise UndoError(f"{one.path} was changed this very moment; nothing was restored: run undo again.")
        return FileChange(path=one.path, before=now, intended=one.before)

    def _since(self, run: Run) -> float:
        return (self.clock() - run.started_at).total_seconds() if run.started_at else 0.0

    # --- what is undone, and what is known -------------------------------------------------------------

    async def _undone(self) -> tuple[set[str], set[str]]:
        """The runs that are undone, and the runs that are undos."""
        entries = [entry for entry in await self.store.by_tool(UNDO) if entry.tool_version == _OURS]
        targets = {entry.run_id: str(entry.arguments["run"]) for entry in entries}
        undone: set[str] = set()

        def mark(run_id: str, is_undone: bool) -> None:
            (undone.add if is_undone else undone.discard)(run_id)
            if run_id in targets:
                mark(targets[run_id], not is_undone)

        for entry in entries:
            if entry.outcome is Outcome.DONE:
                mark(targets[entry.run_id], True)
        return undone, set(targets)

    async def settle(self, run_id: str, step: int, *, is_done: bool) -> list[JournalEntry]:
        """Take the user's word for what came of a step (from 1) whose outcome nobody knows.

        Raises:
            NotFoundError: nothing about that step is unknown.
        """
        await self.journal.settle_loose()
        unknown = [entry for entry in await self.store.of_run(run_id) if entry.outcome is Outcome.UNKNOWN]
        meant = [entry for entry in unknown if entry.step == step - 1]
        if not meant:
            others = ", ".join(sorted({str(entry.step + 1) for entry in unknown}))
            hint = f"unknown is step {others}" if others else "nothing of that run is unknown"
            raise NotFoundError(f"the outcome of step {step} of run {run_id} is not unknown; {hint}.")
        return [await self.journal.settled(entry, is_done=is_done) for entry in meant]


def _has_effect(entry: JournalEntry) -> bool:
    """Whether a call changed files or the world outside, or may have."""
    if entry.changed or entry.outcome is Outcome.UNKNOWN:
        return True
    if entry.outcome is Outcome.NOT_DONE:
        return False
    return entry.effect is not Effect.WRITE or entry.reach is Reach.UNSEEN


def _step(plan: UndoPlan, left: Sequence[str]) -> StepRecord:
    output = {"restored": [one.path for one in plan.restore], "left": list(left)}
    arguments = {"run": plan.run_id}
    return StepRecord(index=0, tool=UNDO, args=arguments, output=output, effect=Effect.WRITE, tool_version=_OURS)


def refusal(plan: UndoPlan) -> str:
    """Why nothing is restored."""
    first, more = plan.conflicts[0], len(plan.conflicts) - 1
    others = f", and {more} more file{'s' * (more > 1)}" * (more > 0)
    return (
        f"{first.path}: {first.why}{others}; nothing was restored. --keep-changed leaves "
        f"{'them' if more else 'it'} alone and restores the rest."
    )
