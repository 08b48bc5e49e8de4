"""Reviving: a trace whose tools have changed is run again in a copy, and followed again if it comes to the same."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from llmos.errors import NotFoundError
from llmos.interfaces.feedback import FAILING
from llmos.kernel.proof import Proof, Prover, renew
from llmos.memory.outcomes import Outcomes
from llmos.memory.runs import RunStore
from llmos.memory.traces import MERGED, TraceStore
from llmos.trace.decide import consider
from llmos.trace.match import Match, World, match
from llmos.trace.program import Status, Trace, Verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reviving:
    """Verifies traces with the tools and the workspace as they are now; without a prover it never can.

    `discover` starts the MCP server that a tool not known yet would belong to.
    """

    traces: TraceStore
    outcomes: Outcomes
    runs: RunStore
    world: World
    discover: Callable[[str], Awaitable[None]]
    prover: Prover | None = None

    async def revive(self, goal: str) -> list[str]:
        """Prove anew, by the run it was made of, what a goal means and was set aside; a sentence for each.

        Only what changes nothing is run unasked, and only what was set aside for its tools: one that failed too often
        waits for a person.
        """
        if self.prover is None or self.traces.frozen:
            return []
        said = []
        for trace in await self.traces.set_aside(goal):
            if trace.effect.changes_world or trace.reason.startswith((MERGED, FAILING)):
                continue
            negatives = frozenset(await self.traces.negatives(trace.id))
            found = consider(goal, trace, how="exact", world=self.world, negatives=negatives).outcome
            if isinstance(found, Match) and not found.wording:
                stored, proof = await self.verify(trace)
                outcome = "proven again" if stored.status is not Status.QUARANTINED else f"still is: {proof.reason}"
                said.append(f"{trace.label} was set aside ({trace.reason}); {outcome}")
        return said

    async def verify(self, trace: Trace) -> tuple[Trace, Proof]:
        """Do the run again that a trace was made of, in a copy of the workspace; it must come to the same.

        One that passes is stored as a new version with its tools' present versions. If it only reads, it has the
        standing again that the version was stored with; if it writes, it asks a person once. One that does not pass
        stays as it is.
        """
        proof = await self._proof(trace)
        wanted = trace.status is Status.QUARANTINED or proof.trace.steps != trace.steps
        if proof.verdict is not Verdict.PASS or not wanted or self.traces.frozen or trace.status is Status.REJECTED:
            return trace, proof
        status = Status.CANDIDATE if trace.effect.changes_world else await self._status_when_made(trace)
        runs = await self.traces.runs_of(trace)
        renewed = replace(trace, steps=proof.trace.steps, status=status, reason=proof.reason, created_at=None)
        stored = await self.traces.add(renewed, runs=runs)
        await self.outcomes.restart(trace.id)
        log.info("%s was verified anew", stored.label, extra={"action": "verified", "trace": trace.id})
        return stored, proof

    async def _proof(self, trace: Trace) -> Proof:
        """What doing its run again says of a trace; UNKNOWN where that can't be done."""
        if self.prover is None:
            return _unknown(trace, "proofs are switched off (`proof.enabled`)")
        for step in trace.calls:
            if step.tool not in self.prover.registry:
                await self.discover(step.tool)
            if step.tool not in self.prover.registry:
                return _unknown(trace, f"the tool {step.tool!r} is not loaded")
        try:
            run = (await self.runs.get(trace.run_id or "")).recording
        except NotFoundError:
            return _unknown(trace, "the run it was made of is not known")
        renewed = renew(trace, self.prover.registry)
        if not isinstance(match(run.goal, renewed, self.world), Match):
            return _unknown(trace, "the goal of the run it was made of does not bind it any more")
        async with self.prover.snapshot() as snapshot:
            return await self.prover.prove(renewed, run, snapshot)

    async def _status_when_made(self, trace: Trace) -> Status:
        """The standing that this version was stored with; a candidate unless that was trusted."""
        for version in await self.traces.versions(trace.id):
            if version.version == trace.version and version.trace is not None:
                return Status.TRUSTED if version.trace.status is Status.TRUSTED else Status.CANDIDATE
        return Status.CANDIDATE


def _unknown(trace: Trace, reason: str) -> Proof:
    return Proof(trace=trace, verdict=Verdict.UNKNOWN, reason=f"it can't be verified: {reason}")
