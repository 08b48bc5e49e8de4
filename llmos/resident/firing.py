"""Reaching a goal that nobody asks for now, as whoever set it up had it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from llmos import caller
from llmos.errors import LLMOSError, NoLearnerError, NothingToFollowError
from llmos.interfaces.options import Options
from llmos.interfaces.process_commands import nowhere
from llmos.interfaces.render import one_line
from llmos.orders import Job
from llmos.resident.keeper import Came
from llmos.settings import Settings, variables

if TYPE_CHECKING:
    from llmos.boot import LLMOS

SAID_CHARS = 300


class Firing:
    """Does jobs in the kernel of a home, with an LLMOS that `opened` gives."""

    def __init__(self, home: Path, opened: Callable[[Settings], AbstractAsyncContextManager[LLMOS]]) -> None:
        self._home = home
        self._opened = opened

    async def __call__(self, job: Job, goal: str, run_id: str) -> Came:
        """Reach a job's goal in these words; what went wrong is what it came to."""
        streams = nowhere()
        asking = caller.Caller(environ={**variables(), **job.environ}, cwd=Path(job.workspace), **streams)
        try:
            with caller.calling(asking):
                return await self._done(job, goal, run_id)
        finally:
            for stream in streams.values():
                stream.close()

    async def _done(self, job: Job, goal: str, run_id: str) -> Came:
        try:
            async with self._opened(self._options(job).settings()) as system:
                result = await system.execute(
                    goal,
                    mode="auto" if job.may_learn else "follow",
                    again=job.again,
                    run_id=run_id,
                    budget_usd=job.budget_usd if job.may_learn else 0.0,
                )
        except LLMOSError as error:
            cost_usd = getattr(getattr(error, "result", None), "cost_usd", 0.0)
            return Came(status="failed", said=one_line(_sentence(error, job), SAID_CHARS), cost_usd=cost_usd)
        return Came(status="done", said=one_line(result.answer, SAID_CHARS), cost_usd=result.cost_usd)

    def _options(self, job: Job) -> Options:
        return Options(
            home=self._home,
            workspace=Path(job.workspace),
            plugins=tuple(map(Path, job.plugins)),
            model=job.model,
            audit_rate=job.audit_rate,
            frozen=job.frozen,
        )


def _sentence(error: LLMOSError, job: Job) -> str:
    needs = isinstance(error, NothingToFollowError | NoLearnerError) and not job.may_learn
    return f"it would need a model, and may not learn: {error}" if needs else str(error)
