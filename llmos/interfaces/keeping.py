"""What a learner's process goes on from: its state is kept at each end of a turn, its model's session line by line."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from llmos.errors import NoLearnerError
from llmos.interfaces.learner import Learner, LearnTask
from llmos.interfaces.prices import Tokens
from llmos.interfaces.recorder import Recorder
from llmos.kernel.process import Process, current
from llmos.memory.processes import Checkpoint, ProcessStore
from llmos.memory.sessions import SessionStore

_ANSWER_TOKENS = 32_000
"""What an answer holds at most: the CLI asks for no more."""


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Keeps learners' processes for the length of their work; while the house `is_ending` what there is stays kept."""

    checkpoints: ProcessStore
    sessions: SessionStore
    learner_of: Callable[[str], Learner]
    most_usd: Callable[[str, Tokens], float]
    workspace: Path
    is_ending: Callable[[], bool]

    @asynccontextmanager
    async def kept(self, task: LearnTask, recorder: Recorder) -> AsyncIterator[LearnTask]:
        """Keep a learner's process; gives the task with the session it is to have."""
        process = current()
        if process is None:
            yield task
            return
        if not getattr(self.learner_of(task.model), "keeps_sessions", False):
            await self.checkpoints.remove(task.run_id)  # nobody could go on with it, nor with a replay before it
            yield task
            return
        task = replace(task, session_id=(recorder.rest and recorder.rest.session_id) or str(uuid.uuid4()))
        recorder.session_id = task.session_id
        recorder.transcript = self.sessions.of_run(task.run_id)
        first = _first(process, task, recorder, self.workspace)
        dearest_usd = 0.0 if recorder.rest is None else recorder.rest.dearest_usd
        kept = _Kept(first=first, process=process, recorder=recorder, most_usd=self.most_usd, dearest_usd=dearest_usd)

        async def keep(is_asking: bool) -> None:
            if recorder.session_id:
                await self.checkpoints.put(kept.now(is_asking=is_asking))
            else:  # nobody could go on with it
                await self.checkpoints.remove(task.run_id)

        await keep(True)
        recorder.checkpoint, process.keep = keep, lambda: kept.now(is_asking=kept.is_asking)
        try:
            yield task
        except asyncio.CancelledError:
            if self.is_ending() and process.killed is None:
                await asyncio.shield(keep(False))
                raise
            await asyncio.shield(self.checkpoints.remove(task.run_id))
            raise
        except BaseException:
            await asyncio.shield(self.checkpoints.remove(task.run_id))
            raise
        finally:
            process.keep = None
        await asyncio.shield(self.checkpoints.remove(task.run_id))


@dataclass(kw_only=True)
class _Kept:
    """The checkpoints of one process, the dearest turn seen so far included."""

    first: Checkpoint
    process: Process
    recorder: Recorder
    most_usd: Callable[[str, Tokens], float]
    dearest_usd: float = 0.0
    seen_usd: float = 0.0
    is_asking: bool = True

    def _most_usd(self, model: str) -> float:
        """What a request made now may cost at most; all that the run may where nobody knows the price.

        A token is a byte at least, so what was not sent yet is no more tokens than bytes.
        """
        tokens = self.process.context_tokens + self.recorder.unsent_bytes
        try:
            return self.most_usd(model, Tokens(input=tokens, output=_ANSWER_TOKENS, written=tokens))
        except NoLearnerError:
            return self.first.max_usd

    def now(self, *, is_asking: bool) -> Checkpoint:
        process, cost_usd = self.process, self.recorder.cost_usd
        self.dearest_usd = max(self.dearest_usd, cost_usd - self.seen_usd)
        self.seen_usd, self.is_asking = cost_usd, is_asking
        model = process.next_model or process.model if process.reach is not None else self.first.model
        return replace(
            self.first,
            model=model,
            asking_usd=max(self.dearest_usd, self._most_usd(model)) if is_asking else 0.0,
            session_id=self.recorder.session_id,
            priority=process.own_priority,
            budget_usd=process.own_usd,
            borrowed=dict(process.borrowed),
            turns=process.turns,
            steps=process.steps,
            held_s=process.held_s,
            spent_usd=self.first.spent_usd + cost_usd,
            open_usd=cost_usd,
            dearest_usd=self.dearest_usd,
            tokens=process.tokens_in + process.tokens_out,
            tokens_out=process.tokens_out,
            context_tokens=process.context_tokens,
            context_max=process.context_max,
            unsent_bytes=self.recorder.unsent_bytes,
            is_asking=is_asking,
            is_suspended=process.is_stopped,
            **self.recorder.beside,
        )


def _first(process: Process, task: LearnTask, recorder: Recorder, workspace: Path) -> Checkpoint:
    rest = recorder.rest
    return Checkpoint(
        run_id=task.run_id,
        pid=process.pid,
        goal=task.goal,
        kind=str(process.kind),
        priority=process.priority,
        model=task.model,
        session_id=task.session_id,
        workspace=str(workspace),
        began_at=process.created_at.isoformat(),
        parent=process.parent,
        above=tuple(map(str, process.above)),
        origin=process.origin,
        blocks=dict(process.blocks),
        agent=None if process.agent is None else process.agent.to_data(),
        budget_tokens=process.budget.tokens.allocated,
        spent_usd=0.0 if rest is None else rest.spent_usd,
        max_usd=task.max_budget_usd if rest is None else rest.max_usd,
        max_turns=process.turns + task.max_turns,
        mode=process.mode,
        plan=task.plan,
    )
