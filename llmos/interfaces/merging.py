"""Merging: a fresh trace that is the program of a known one makes that one better instead of standing beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from llmos.errors import NotFoundError, StorageError
from llmos.memory.runs import RunStore
from llmos.memory.traces import TraceStore
from llmos.redaction import UNNAMED
from llmos.trace.findings import ToolFacts
from llmos.trace.lex import normalise
from llmos.trace.program import Provenance, Trace
from llmos.trace.recorded import recorded
from llmos.trace.run import Run
from llmos.trace.unify import may_unify, unify
from llmos.trace.values import as_text, evaluate

log = logging.getLogger(__name__)

MAX_TRIED = 20
MAX_RUNS = 50


@dataclass(frozen=True, kw_only=True)
class Merged:
    """The next version of a known trace, and the runs that it was proven on besides the newest."""

    known: Trace
    fresh: Trace
    trace: Trace
    run_ids: tuple[str, ...]
    env: Mapping[str, str]

    @property
    def is_wider(self) -> bool:
        """Whether more may vary than in one of the two, so that what was proven of that one does not cover it."""
        other = (self.known.slots, self.known.steps) != (self.trace.slots, self.trace.steps)
        return other or len(self.trace.slots) > len(self.fresh.slots)

    @property
    def says_more(self) -> bool:
        """Whether it answers more than the known one, or in another way."""
        known, trace = self.known, self.trace
        return (known.goals, known.slots, known.steps) != (trace.goals, trace.slots, trace.steps)

    def told(self, run: Run) -> Run:
        """The newest run as this trace would have answered it."""
        seen = recorded(self.trace, run, self.env)
        if seen is None or self.trace.answer.expr is None:
            return run
        return replace(run, answer=as_text(evaluate(self.trace.answer.expr, seen.scope)))


@dataclass(frozen=True, kw_only=True)
class Merging:
    """Looks for known traces with the same tools; `constants` gives the values of `env.*` that runs may hold."""

    traces: TraceStore
    runs: RunStore
    constants: Callable[[], Mapping[str, str]]

    async def merged(self, trace: Trace, run: Run, tools: Mapping[str, ToolFacts]) -> Merged | None:
        """A known trace that both runs prove, the newest first; None where the fresh one stands for itself."""
        for known in await self._alike(trace):
            found = await self._with(known, trace, run, tools)
            if found is not None:
                return found
        return None

    async def absorb_others(self, trace: Trace, tools: Mapping[str, ToolFacts]) -> None:
        """Set the other traces aside whose goals this one answers already, with the same calls."""
        for other in await self._alike(trace):
            ids = await self.traces.runs_of(other) if other.id != trace.id else []
            runs = await self._recordings(ids)
            found = await self._with(trace, other, runs[-1], tools) if len(runs) == 1 else None
            if found is not None and not found.says_more:
                await self.traces.absorb(trace, other.id)

    async def _alike(self, trace: Trace) -> Sequence[Trace]:
        """The learned traces of the same standing and agent that may be one program; that of the same wording first."""
        same = await self.traces.current([trace.id])
        alike = [one for one in await self.traces.alike(trace) if one.id != trace.id and may_unify(one, trace)]
        learned = [one for one in (*same, *alike) if one.provenance is Provenance.LEARNED]
        return [one for one in learned if (one.status, one.agent) == (trace.status, trace.agent)][:MAX_TRIED]

    async def _with(self, known: Trace, trace: Trace, run: Run, tools: Mapping[str, ToolFacts]) -> Merged | None:
        """The two as one; never for a goal that the known one was rejected for."""
        ids = [one for one in await self.traces.runs_of(known) if one != run.id]
        if not ids or normalise(run.goal) in await self.traces.negatives(known.id):
            return None
        found = await self._unified(known, trace, run, ids[-1:], tools)
        if found is not None and len(ids) > 1 and (found.slots, found.steps) != (known.slots, known.steps):
            found = await self._unified(known, trace, run, ids, tools)  # what is wider must hold for all of them
        if found is None or found.status is not known.status:
            return None
        return Merged(known=known, fresh=trace, trace=found, run_ids=tuple(ids), env=self._env(run))

    async def _unified(
        self, known: Trace, trace: Trace, run: Run, ids: Sequence[str], tools: Mapping[str, ToolFacts]
    ) -> Trace | None:
        runs = await self._recordings(ids)
        try:
            return await asyncio.to_thread(unify, known, trace, run, runs, tools=tools, env_of=self._env)
        except Exception:  # what breaks here only means that two traces stand
            log.exception("unification broke", extra={"action": "unification_broke", "trace": known.label})
            return None

    async def _recordings(self, ids: Sequence[str]) -> Sequence[Run]:
        """These runs with their steps; none if one of them is gone or lacks a secret, or there are too many."""
        try:
            runs = [(await self.runs.get(run_id)).recording for run_id in ids] if len(ids) <= MAX_RUNS else []
            return [] if any(UNNAMED in repr((run.goal, run.steps)) for run in runs) else runs  # two may look like one
        except (NotFoundError, StorageError):
            return []

    def _env(self, run: Run) -> Mapping[str, str]:
        day = {"today": run.started_at.astimezone().date().isoformat()} if run.started_at else {}
        return {**self.constants(), **day}
