"""Proof by re-execution: a trace runs again in a copy of the workspace as it was, and must come to the same."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from llmos.errors import LLMOSError, NotPermittedError, WorseEffectError
from llmos.kernel.bus import EventBus
from llmos.kernel.replay import Follower, Replay, as_answer
from llmos.kernel.scratch import Scratch, Snapshot
from llmos.kernel.stage import Place, Stage, is_mcp, recorded_output
from llmos.kernel.tree import Change
from llmos.kernel.varying import Outcome, Variation, bound, compare, variations
from llmos.plugins.context import ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import is_os_tool
from llmos.settings import ProofSettings
from llmos.trace.evidence import leaves, token_bounded
from llmos.trace.induce import NotATrace
from llmos.trace.match import Match, match
from llmos.trace.program import Effect, Status, Step, Trace, Verdict
from llmos.trace.run import Run, StepRecord

log = logging.getLogger(__name__)

PROVEN = "proven by re-execution"

_MAX_REASON = 300

Narrower: TypeAlias = Callable[[frozenset[str]], Awaitable[Trace | NotATrace]]
"""Induces a run again with values of its goal that must not vary."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What re-execution said of a trace, and why.

    `frozen` are values of the goal that must not vary, where that is all that failed; `stopped` says that the
    trace did not even run to its end with its own goal. `trace` has the versions that the tools have now.
    """

    trace: Trace
    verdict: Verdict
    reason: str
    frozen: frozenset[str] = frozenset()
    stopped: bool = False


def standing(proof: Proof) -> Trace:
    """The trace with the status its proof leaves it, never a better one than it had, and the reason.

    Without a proof, what only reads keeps its standing, and what writes asks a person first.
    """
    trace = proof.trace
    if trace.effect.rank > Effect.WRITE.rank:
        return trace
    if proof.verdict is Verdict.PASS or trace.status is not Status.TRUSTED:
        return replace(trace, reason="; ".join(filter(None, [trace.reason, proof.reason])))
    if proof.verdict is Verdict.FAIL or trace.effect.changes_world:
        return replace(trace, status=Status.CANDIDATE, reason=proof.reason)
    return replace(trace, reason=proof.reason)


def is_proven(trace: Trace) -> bool:
    """Whether the standing that `standing` has left a trace says that it passed."""
    return any(part.startswith(PROVEN) for part in trace.reason.split("; "))


@dataclass(frozen=True, kw_only=True)
class Prover:
    """Runs traces in copies of the workspace; nothing of that reaches the workspace, the ledger or the memory.

    `context` gives what a run may touch, `env` and `secret` what traces refer to, as for a replay.
    """

    registry: ToolRegistry
    limits: ProofSettings
    memory: Path
    context: Callable[[str], ToolContext]
    env: Callable[[Trace], Awaitable[Mapping[str, Any]]]
    secret: Callable[[str], str]

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """The workspace as it is now, for as long as the block lasts."""
        ctx = self.context("")
        snapshot = Snapshot(ctx.workspace, self.memory, self.limits, ctx.denied)
        try:
            await asyncio.to_thread(snapshot.take)
            yield snapshot
        finally:
            snapshot.stop()
            await asyncio.shield(asyncio.to_thread(snapshot.remove))

    async def admitted(self, trace: Trace, run: Run, snapshot: Snapshot, narrower: Narrower) -> Trace | NotATrace:
        """The trace with the standing its proof leaves it, or none where it doesn't run to its end.

        Values that must not vary are frozen by `narrower`, and what that gives is proven again.
        """
        frozen: frozenset[str] = frozenset()
        proof = await self.prove(trace, run, snapshot)
        why = proof.reason
        while proof.frozen - frozen:
            frozen |= proof.frozen
            found = await narrower(frozen)
            if isinstance(found, NotATrace):
                return found
            proof = await self.prove(found, run, snapshot)
        if proof.verdict is Verdict.FAIL and proof.stopped:
            return NotATrace(reason=proof.reason)
        fixed = f"; {', '.join(map(repr, sorted(frozen)))} can't vary ({why})" if frozen else ""
        return standing(replace(proof, reason=proof.reason + fixed))

    async def prove(self, trace: Trace, run: Run, snapshot: Snapshot) -> Proof:
        """Run a trace again with the goal it was learned from, then with other values.

        `snapshot` is the workspace before the run; the workspace itself is read as the run left it. With a snapshot of
        now it is a second look at a known trace: it must change nothing that is not so already, and answer the same.
        """
        found = match(run.goal, trace)
        reason = cannot_run(trace, self.registry) or snapshot.refused
        if not reason and not isinstance(found, Match):
            reason = "its own goal does not bind it"
        if reason or not isinstance(found, Match):
            return self._unknown(trace, reason)
        trial = _Trial(prover=self, trace=trace, run=run, snapshot=snapshot, bindings=found.bindings)
        return await self._bounded(trace, trial.proof())

    async def _bounded(self, trace: Trace, proving: Awaitable[Proof]) -> Proof:
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                return await proving
        except TimeoutError:
            return self._unknown(trace, f"it took longer than {self.limits.timeout_s:g} s (proof.timeout_s)")
        except Exception as error:  # whatever breaks a proof, the run that was learned is fine
            log.warning("a proof broke", exc_info=True, extra={"action": "proof_broke", "trace": trace.id})
            said = error.strerror or error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            return self._unknown(trace, f"the proof broke ({said})")

    @staticmethod
    def _unknown(trace: Trace, reason: str) -> Proof:
        return Proof(trace=trace, verdict=Verdict.UNKNOWN, reason=f"not proven by re-execution: {reason}")


def cannot_run(trace: Trace, registry: ToolRegistry) -> str:
    """Why a trace can't be run in a copy ('': it can): a step might change what no copy holds."""
    for step in trace.calls:
        tool = registry.get(step.tool)
        if is_os_tool(tool):
            return f"{step.tool} reaches other processes"
        by_call = tool.classify is not None  # each call is classed again, and refused if it would do more
        effect = step.effect if by_call else max(step.effect, tool.effect, key=lambda one: one.rank)
        if effect.rank > step.effect.rank:
            return f"{step.tool} may do more than the trace says ({effect})"
        if effect.rank > Effect.WRITE.rank:
            return f"what {step.tool} does ({effect}) can't be done in a copy"
        confined = by_call and tool.source == "builtin"  # `bash`, whose WRITE is inside the workspace
        if effect is Effect.WRITE and ((tool.open_world and not confined) or is_mcp(tool) or not tool.takes_ctx):
            return f"{step.tool} may change things outside of a copy"
    return ""


def renew(trace: Trace, registry: ToolRegistry) -> Trace:
    """The trace with the versions that its tools have now."""

    def renewed(nodes: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            replace(node, tool_version=node.tool_version and registry.get(node.tool).version)
            if isinstance(node, Step)
            else replace(node, steps=renewed(node.steps))
            for node in nodes
        )

    return replace(trace, steps=renewed(trace.steps))


# --- one trace, run again ----------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Trial:
    """One trace under proof."""

    prover: Prover
    trace: Trace
    run: Run
    snapshot: Snapshot
    bindings: Mapping[str, Any]
    executed: int = 0

    async def proof(self) -> Proof:
        """Its own goal first, then other values."""
        left = await asyncio.to_thread(self.snapshot.changes)
        own = await self._execute(())
        if own.unknown or (own.records and len(own.recorded) == len(own.records)):
            beyond = f"{', '.join(own.recorded[:1])} looks beyond the workspace and is not asked again"
            return self._verdict(Verdict.UNKNOWN, own.unknown or beyond)
        wrong = own.stopped and f"it stopped: {own.stopped}"
        wrong = wrong or self._other_effects(left, own) or self._other_answer(own)
        if wrong and self.snapshot.left_out:
            return self._verdict(Verdict.UNKNOWN, f"{wrong} (the copy lacks {self.snapshot.left_out[0]})")
        if wrong:
            return replace(self._verdict(Verdict.FAIL, wrong), stopped=bool(own.stopped))
        return await self._varied(own)

    async def _varied(self, own: Outcome) -> Proof:
        """Other names where everything else must be the same; then, if anything is changed, other values too."""
        varied = variations(self.trace, self.bindings, self.snapshot, own.outputs)
        names = [one for one in varied if one.names]
        values = [one for one in varied if not one.names] if own.changes else []
        culprits, why, doubt = await self._culprits(own, names, values)
        fine = [one for one in names if one.old not in culprits]
        more, other, another = await self._culprits(own, values, fine)
        if culprits | more:
            return replace(self._verdict(Verdict.FAIL, why or other), frozen=culprits | more)
        tried = [what for what, some, no in (("names", names, doubt), ("values", values, another)) if some and not no]
        said = PROVEN + (f", also with other {' and '.join(tried)}" if tried else "")
        said += f"; answers recorded from {', '.join(sorted(set(own.recorded)))} stood in" if own.recorded else ""
        said += f"; with other values it stopped: {doubt or another}" if doubt or another else ""
        return Proof(trace=self.trace, verdict=Verdict.PASS, reason=said[:_MAX_REASON])

    async def _culprits(
        self, own: Outcome, varied: Sequence[Variation], others: Sequence[Variation]
    ) -> tuple[frozenset[str], str, str]:
        """The old values that must stay, why, and what kept the rest from being tried to the end."""
        if not varied:
            return frozenset(), "", ""
        verdict, said = compare(own, await self._execute(varied), varied, others)
        if verdict is Verdict.PASS:
            return frozenset(), "", ""
        alone: dict[str, tuple[Verdict, str]] = {one.old: (verdict, said) for one in varied}
        if len(varied) > 1:
            alone |= {one.old: await self._alone(own, one, [*varied, *others]) for one in varied}
        failed = {old: why for old, (result, why) in alone.items() if result is Verdict.FAIL}
        if verdict is Verdict.FAIL and not failed:
            failed = {one.old: said for one in varied}
        return frozenset(failed), next(iter(failed.values()), ""), said

    async def _alone(self, own: Outcome, one: Variation, every: Sequence[Variation]) -> tuple[Verdict, str]:
        others = [other for other in every if other is not one]
        return compare(own, await self._execute((one,)), (one,), others)

    def _other_effects(self, left: Mapping[str, Change], own: Outcome) -> str:
        """How what the copy became differs from what the run made of the workspace; '' where it does not."""
        for path, change in sorted(own.changes.items()):
            if path not in left:
                return f"run again, it also changed {path}"
            if (left[path].kind, left[path].digest) != (change.kind, change.digest):
                return f"run again, it left {path} different"
        said = [text for step in self.run.steps if step.effect.changes_world for text in _said(step)]
        for path in sorted(left.keys() - own.changes.keys()):  # what nothing of the run names, others did meanwhile
            if any(token_bounded(path, text) for text in said):
                return f"run again, it did not change {path}"
        return ""

    def _other_answer(self, own: Outcome) -> str:
        expected: str | None = (self.run.answer or "").strip()
        if self.trace.answer.expr is None:
            last = own.records[-1] if own.records and isinstance(self.trace.steps[-1], Step) else None
            recorded = recorded_output(self.run.steps, last.tool, last.args) if last is not None else None
            expected = as_answer(recorded[0]).strip() if recorded is not None else None
        return "" if expected in (None, own.answer.strip()) else "run again, it answered differently"

    async def _execute(self, varied: Sequence[Variation]) -> Outcome:
        """One run in a fresh copy."""
        self.executed += 1
        scratch = await asyncio.to_thread(self.snapshot.restore, f"run{self.executed}")
        try:
            for one in varied:
                if one.renamed:
                    scratch.rename(one.path, one.renamed)
            return await self._followed(scratch, bound(self.bindings, varied))
        finally:
            await asyncio.shield(asyncio.to_thread(self.snapshot.discard, scratch))

    async def _followed(self, scratch: Scratch, bindings: Mapping[str, Any]) -> Outcome:
        prover = self.prover
        stage = Stage(prover.registry, self.run.steps, Place.of(prover.context(""), scratch.root))
        follower = Follower(
            trace=self.trace,
            bindings=bindings,
            registry=stage,
            ctx=stage.context(prover.context(self.run.id)),
            bus=EventBus(),  # one of its own: nobody hears of a proof's calls
            env=await prover.env(self.trace),
            secret=prover.secret,
        )
        stopped = ""
        done = Replay(outputs={}, records=(), answer="")
        try:
            done = await follower.run()
        except (NotPermittedError, WorseEffectError) as error:
            stage.unknown = stage.unknown or str(error)
        except LLMOSError as error:
            stopped = stage.place.read(str(error)).removeprefix(f"{self.trace.label}, ")
        changes = await asyncio.to_thread(scratch.changes, self.snapshot.workspace)
        return Outcome(
            changes=changes,
            answer=done.answer,
            outputs=done.outputs,
            records=tuple(follower.records),
            stopped=stopped,
            unknown=stage.unknown,
            recorded=tuple(stage.recorded),
        )

    def _verdict(self, verdict: Verdict, said: str) -> Proof:
        how = {Verdict.PASS: PROVEN, Verdict.FAIL: "refuted by re-execution"}.get(verdict, "not proven by re-execution")
        reason = f"{how}: {said}" if said else how
        return Proof(trace=self.trace, verdict=verdict, reason=reason[:_MAX_REASON])


def _said(step: StepRecord) -> list[str]:
    """The texts of a successful call's arguments and output."""
    return [] if step.is_error else [str(leaf) for part in (step.args, step.output) for _, leaf in leaves(part)]
