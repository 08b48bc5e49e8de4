"""Admission: a finished run becomes a stored trace, or is told why it does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.interfaces.merging import Merging
from llmos.kernel.agents import steering
from llmos.kernel.checks import Files, with_held_checks
from llmos.kernel.process import current
from llmos.kernel.proof import Prover, is_proven, standing
from llmos.kernel.scratch import Snapshot
from llmos.memory.traces import TraceStore
from llmos.plugins.context import OS_TOOLS
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool
from llmos.redaction import Redactor
from llmos.trace.induce import NotATrace, ToolFacts, induce
from llmos.trace.program import Effect, Status, Trace
from llmos.trace.run import Mode, Run
from llmos.trace.secrecy import kept_credential
from llmos.trace.taint import doubted, is_suspect, suspects
from llmos.trace.validity import validate

log = logging.getLogger(__name__)

_HEARS = frozenset({"receive_message", "share_memory"})
_HAS_FAMILY = "it works with other processes, and nobody has looked at it yet"


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Induces traces from runs, has them proven and stores them.

    `constants` gives the values of `env.*` that runs may hold; with `files` only those checks of a goal are kept that
    hold in the workspace right after the run; without a `prover` nothing is run again, without
    `merging` every trace stands for itself.
    """

    registry: ToolRegistry
    traces: TraceStore
    constants: Callable[[], Mapping[str, str]]
    redactor: Redactor = field(default_factory=Redactor)
    prover: Prover | None = None
    merging: Merging | None = None
    files: Files | None = None

    @asynccontextmanager
    async def before(self) -> AsyncIterator[Snapshot | None]:
        """The workspace as it is before a run, for as long as the block lasts; None where nothing will be proven."""
        if self.prover is None or self.traces.frozen:
            yield None
            return
        async with self.prover.snapshot() as snapshot:
            yield snapshot

    async def admit(self, run: Run, before: Snapshot | None = None) -> Trace | NotATrace:
        """The trace of a finished run as it was stored, or why there is none."""
        if self.traces.frozen:
            return NotATrace(reason="the traces are frozen")
        if heard := _heard(run):
            return NotATrace(reason=f"{heard} gave what its goal does not say, and may have steered it")
        trace = await self._induced(run)
        if isinstance(trace, Trace) and self.prover is not None and before is not None:
            trace = await self.prover.admitted(trace, run, before, lambda frozen: self._induced(run, frozen))
        if isinstance(trace, Trace) and run.mode is Mode.HANDED_OVER:
            trace = await self._stitched(trace)
        if isinstance(trace, Trace) and trace.status is Status.TRUSTED and _talked(run):
            trace = replace(trace, status=Status.CANDIDATE, reason=_HAS_FAMILY)
        return trace if isinstance(trace, NotATrace) else await self._stored(self._doubted(trace, run), run, before)

    def _doubted(self, trace: Trace, run: Run) -> Trace:
        """The trace, a candidate if a value that decides an effect of it comes from what tainted the run alone."""
        code = {tool.name: frozenset(tool.code_params) for tool in self.registry}
        payload = {tool.name: frozenset(tool.payload_params) for tool in self.registry}
        return doubted(trace, suspects(run.recording, run.taint, code, payload))

    async def _stitched(self, trace: Trace) -> Trace | NotATrace:
        """The trace of a run that two made: trusted only if it was proven from the beginning.

        One that is not leaves a trusted one of its id alone, unless its effects ask for a person anyway.
        """
        if trace.effect.rank > Effect.WRITE.rank:
            reason = trace.reason or "a replay and the learner made it, and nobody can run it again"
            return replace(trace, status=Status.CANDIDATE, reason=reason)
        if not is_proven(trace):
            reason = trace.reason or "not proven by re-execution: proofs are switched off"
            trace = replace(trace, status=Status.CANDIDATE, reason=f"a replay and the learner made it; {reason}")
        known = await self.traces.current([trace.id]) if trace.status is Status.CANDIDATE else []
        trusted = next((one for one in known if one.status is Status.TRUSTED), None)
        return trace if trusted is None else NotATrace(reason=f"{trace.reason}; {trusted.label} stays as it is")

    async def _stored(self, trace: Trace, run: Run, before: Snapshot | None) -> Trace:
        """The trace as a version of a known one that is the same program, or else as one of its own."""
        facts = self._facts()
        merged = await self.merging.merged(trace, run, facts) if self.merging is not None else None
        if merged is None or self.merging is None or is_suspect(trace):
            return await self.traces.add(trace)
        joined = merged.trace
        if merged.is_wider and self.prover is not None and before is not None:
            proof = await self.prover.prove(joined, merged.told(run), before)
            if standing(proof).status is not joined.status:
                return await self.traces.add(trace)
            joined = standing(proof)
        stored = await self.traces.supersede(merged.known, joined, runs=merged.run_ids)
        if stored is None:
            return await self.traces.add(trace)
        await self.merging.absorb_others(stored, facts)
        return stored

    def _facts(self) -> dict[str, ToolFacts]:
        return {tool.name: tool_facts(tool) for tool in self.registry}

    async def _induced(self, run: Run, frozen: frozenset[str] = frozenset()) -> Trace | NotATrace:
        """The run's trace; what breaks induction only means that nothing is learned from this run."""
        try:
            trace = await asyncio.to_thread(induce, run, self._facts(), self.constants(), frozen)
            if isinstance(trace, Trace) and (key := steering()):
                trace = replace(trace, id=f"{trace.id}-{key[:6]}", agent=key)
            if isinstance(trace, Trace):
                validate(trace)
                if self.files is not None:
                    trace = await asyncio.to_thread(with_held_checks, trace, run, self.constants(), self.files)
            if isinstance(trace, Trace) and (kept := kept_credential(trace, self.redactor)):
                return NotATrace(reason=kept, is_urgent=True)
        except Exception as error:
            log.exception("induction broke", extra={"action": "induction_broke", "run_id": run.id})
            return NotATrace(reason=f"induction broke on it ({type(error).__name__}: {error})")
        return trace


def _talked(run: Run) -> bool:
    return any(step.tool in OS_TOOLS for step in run.steps)


def _heard(run: Run) -> str:
    """The tool by which a run heard what other processes, or people, said to it ('': none)."""
    process = current()
    if process is not None and process.blocks and process.run_id == run.id:
        return "what others share with it"
    return next((step.tool for step in run.steps if step.tool in _HEARS and not step.is_error), "")


def tool_facts(tool: Tool) -> ToolFacts:
    """What induction must know of a registered tool."""
    properties: Mapping[str, Any] = tool.schema.get("properties", {})
    enums = {name: tuple(map(str, schema["enum"])) for name, schema in properties.items() if schema.get("enum")}
    return ToolFacts(
        name=tool.name,
        effect=tool.effect,
        version=tool.version,
        code_params=frozenset(tool.code_params),
        payload_params=frozenset(tool.payload_params),
        enums=enums,
        closed_params=frozenset(name for name in properties if tool.values_of(name) is not None),
    )
