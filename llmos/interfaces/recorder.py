"""The recording session of a run, through which alone a learner reaches tools."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.errors import CallRefusedError, LearnerError
from llmos.interfaces.context import Context
from llmos.interfaces.hearing import is_steered, said
from llmos.interfaces.learner import Rest, Transcript
from llmos.interfaces.prompts import FINISH
from llmos.kernel.bus import EventBus, ModelSpoke, ToolCalled, ToolReturned
from llmos.kernel.clients import CLIENTS, LONG
from llmos.kernel.interrupts import NEARLY_SPENT, Interrupts
from llmos.kernel.process import Process, State, Wait, current
from llmos.kernel.watchdog import Watch
from llmos.memory.context_use import Use
from llmos.orders import Interrupt
from llmos.plugins.context import ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool, ToolResult, is_os_tool
from llmos.trace.program import Effect
from llmos.trace.run import CUT_OFF, Finish, Origin, StepRecord

_BILL_S = 2.0


@dataclass(kw_only=True)
class Recorder:
    """Records a learner's calls in the order they were made; `keep` stores each, a watch sees each.

    `first_step` is the number of the first call, where an earlier attempt made some already; `origin` is noted with
    each. `checkpoint` is told at each turn whether the model is asked next. `told` is what an earlier attempt of the
    run was told, and then what this one is; past most of `limit_usd` its process is told so. `refusals` counts the
    calls that were not permitted; `refused` is the last one, if no call was made after. `beside` are the fields of its
    checkpoint that only whoever began the run knows.
    """

    run_id: str
    registry: ToolRegistry
    ctx: ToolContext
    bus: EventBus
    keep: Callable[[StepRecord], Awaitable[None]] | None = None
    watch: Watch | None = None
    finished: Finish | None = None
    cost_usd: float = 0.0
    asked: bool = False
    first_step: int = 0
    origin: Origin | None = None
    refusals: int = 0
    refused: CallRefusedError | None = None
    transcript: Transcript | None = None
    context: Context | None = None
    rest: Rest | None = None
    checkpoint: Callable[[bool], Awaitable[None]] | None = None
    interrupts: Interrupts | None = None
    told: list[Interrupt] = field(default_factory=list)
    limit_usd: float | None = None
    beside: dict[str, Any] = field(default_factory=dict)
    _heard: int = 0
    session_id: str = ""
    _under_way: int = 0
    _is_asking: bool = True
    unsent_bytes: int = 0
    _metered: asyncio.Event = field(default_factory=asyncio.Event)
    _has_metered: bool = False
    _keeping: set[asyncio.Task[None]] = field(default_factory=set)
    _limits: set[asyncio.Task[None]] = field(default_factory=set)
    _steps: dict[int, StepRecord] = field(default_factory=dict)
    _started: int = 0

    @property
    def tools(self) -> list[Tool]:
        process = current()
        alone, agent = self.ctx.os is None or process is None, None if process is None else process.agent
        tools = [tool for tool in self.registry if tool.name != FINISH and not (alone and is_os_tool(tool))]
        return tools if agent is None else [tool for tool in tools if agent.has(tool.name)]

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """The calls so far, in order; one still running is missing, one cut off is there if it may have acted."""
        return tuple(step for _, step in sorted(self._steps.items()))

    @property
    def unfinished(self) -> int:
        """How many calls were started and never came back."""
        return self._started - len(self._steps)

    async def call(self, tool: str, args: dict[str, Any], tool_use_id: str | None = None) -> ToolResult:
        process = current()
        if process is None:
            return await self._called(tool, args, tool_use_id)
        process.turns += 1
        self._under_way += 1
        self._is_asking = False
        if self.watch is not None:
            self.watch.answered()
        try:
            await asyncio.gather(*self._limits)
            await self._answered()
            await process.turn()
            self._check_budget(process)
            with process.doing(State.RUNNING):
                result = await self._called(tool, args, tool_use_id)
        finally:
            self._under_way -= 1
        process.steps += 1
        self.unsent_bytes += len(result.text.encode("utf-8", "replace"))
        if not self._under_way:
            if self.watch is not None:
                self.watch.asked()
            await self._asked()
        return result

    async def _answered(self) -> None:
        """The model's answer is there: keep how things stand before what it asks for is done."""
        await self._billed()
        await self._check_point(is_asking=not self._metered.is_set())

    async def _asked(self) -> None:
        """What it asked for is done, so it is asked again."""
        self._metered.clear()
        self._is_asking = True
        await self._check_point(is_asking=True)

    async def _check_point(self, *, is_asking: bool) -> None:
        if self.checkpoint is not None:
            await self.checkpoint(is_asking)

    async def begin_anew(self, *, is_kept: bool) -> str:
        self.session_id = str(uuid.uuid4()) if is_kept and self.checkpoint is not None else ""
        await self._check_point(is_asking=True)
        return self.session_id

    async def stands_still(self) -> None:
        process = current()
        if process is None or self.transcript is None:
            await asyncio.Event().wait()
        while process is not None and not _needs_no_client(process):
            moves, changes = asyncio.ensure_future(process.moves()), asyncio.ensure_future(CLIENTS.changes())
            try:
                await asyncio.wait({moves, changes}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                moves.cancel()
                changes.cancel()

    async def _billed(self) -> None:
        """Wait a moment for the bill of the turn that ends: a call may begin before its answer has ended."""
        if self._has_metered:
            with suppress(TimeoutError):
                async with asyncio.timeout(_BILL_S):
                    await self._metered.wait()

    def _check_budget(self, process: Process) -> None:
        """Go on only with money to go on with; the CLI's own fence does not know what children spend."""
        if process.budget.is_spent:
            spent = f"${process.budget.spent_usd:.4f}, {process.budget.tokens.spent:,} tokens"
            reason = f"its budget is spent ({spent}, with its children)"
            if self.watch is None:
                raise LearnerError(f"the learner was stopped: {reason}", cost_usd=self.cost_usd)
            self.watch.stop(reason)

    async def _called(self, tool: str, args: dict[str, Any], tool_use_id: str | None) -> ToolResult:
        index = self.number()
        known = self.registry.get(tool) if tool in self.registry else None
        self.bus.publish(ToolCalled(run_id=self.run_id, tool=tool, args=args))
        step = StepRecord(
            index=index,
            tool=tool,
            args=args,
            tool_version=known.version if known else None,
            tool_use_id=tool_use_id,
            origin=self.origin,
        )
        try:
            result = await self.registry.call(tool, args, replace(self.ctx, step=index))
        except asyncio.CancelledError:
            effect = known.effect_of(self.ctx, args) if known is not None else Effect.PURE
            if effect.changes_world:
                self._steps[index] = replace(step, output=CUT_OFF, is_error=True, effect=effect)
            raise
        self._note_refusal(result)
        await self.take(
            replace(
                step,
                output=result.output,
                is_error=result.is_error,
                effect=result.effect,
                duration_s=result.duration_s,
                origin=Origin.RECORDED if result.is_recorded else self.origin,
            )
        )
        self.bus.publish(
            ToolReturned(
                run_id=self.run_id,
                tool=tool,
                is_error=result.is_error,
                duration_s=result.duration_s,
                output=result.output,
            )
        )
        if self.watch is not None:
            self.watch.saw_call(tool, args, result.output, is_error=result.is_error)
        return result

    def number(self) -> int:
        """The number of a call that begins now."""
        self._started += 1
        return self.first_step + self._started - 1

    async def take(self, step: StepRecord) -> None:
        """Record a call that was made, under its number."""
        self._steps[step.index] = step
        if self.keep is not None:
            await self.keep(step)

    def _note_refusal(self, result: ToolResult) -> None:
        if isinstance(result.error, CallRefusedError):
            self.refusals, self.refused = self.refusals + 1, result.error
        elif not result.is_error:
            self.refused = None

    def finish(
        self,
        answer: str,
        goal_template: str | None = None,
        slots: dict[str, Any] | None = None,
        checks: Sequence[str] = (),
    ) -> str:
        self.finished = Finish(
            answer=answer, goal_template=goal_template, slots=dict(slots or {}), checks=tuple(map(str, checks))
        )
        self._is_asking = True
        return "Noted. End your turn now with the answer and nothing else."

    async def heard(self, *, at_end: bool = False) -> list[str]:
        if self.interrupts is not None:
            self.told += await self.interrupts.take(self.run_id)
        new, self._heard = self.told[self._heard :], len(self.told)
        return [said(one) for one in new if not at_end or is_steered([one])]

    def spoke(self, text: str, cost_usd: float) -> None:
        self.asked = True
        if self.context is not None and text.strip():
            self.context.said = text
        self.bill(cost_usd)
        self._warn()
        self.bus.publish(ModelSpoke(run_id=self.run_id, text=text, cost_usd=self.cost_usd))

    def _warn(self) -> None:
        """Say once that most of what this may cost is spent."""
        process, limit_usd = current(), self.limit_usd
        if process is None or self.interrupts is None or not limit_usd:
            return
        share = max(self.cost_usd / limit_usd, process.budget.share_spent)
        if share >= NEARLY_SPENT:
            self.interrupts.nearly_spent(process, self.cost_usd, limit_usd)
            self.limit_usd = None

    def other_model(self) -> str:
        process = current()
        if process is None or not process.next_model:
            return ""
        process.model, process.next_model = process.next_model, ""
        return process.model

    def bill(self, cost_usd: float) -> None:
        process, more_usd = current(), max(0.0, cost_usd - self.cost_usd)
        self.cost_usd += more_usd
        if process is not None:
            process.spend(more_usd)

    async def bill_turn(self, cost_usd: float) -> None:
        self.bill(cost_usd)
        if self.watch is not None:
            self.watch.asked()
        await self._check_point(is_asking=True)
        process = current()
        if process is not None:
            await process.turn()

    def metered(self, *, sent: int, received: int, cached: int = 0) -> None:
        self._metered.set()
        if self.context is not None:
            self.context.use.count(Use.SENT, sent)
            self.context.use.count(Use.CACHED, cached)
        self._is_asking = False
        self._has_metered, self.unsent_bytes = True, 0
        if self._under_way and self.checkpoint is not None:  # a call may begin before its answer has ended
            task = asyncio.create_task(self._check_point(is_asking=False))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
        process = current()
        if process is not None:
            process.tokens_in += sent
            process.tokens_out += received
            process.context_tokens = sent + received
            process.spend(0.0, sent + received)

    def limited(self, seconds: float) -> None:
        process = current()
        if process is not None:
            if self.interrupts is not None:
                self.interrupts.rate_limited(process, seconds)
            task = asyncio.create_task(_blocked(process, seconds))
            self._limits.add(task)
            task.add_done_callback(self._limits.discard)

    def asked_tokens(self) -> int:
        process = current()
        context = 0 if process is None else process.context_tokens
        return context + self.unsent_bytes if self._is_asking else 0

    def unlimited(self) -> None:
        """Nobody asks any more, so no limit is waited for."""
        for task in self._limits:
            task.cancel()

    def window(self, tokens: int) -> None:
        process = current()
        if process is not None:
            process.context_max = tokens


def _needs_no_client(process: Process) -> bool:
    """Whether it stands still, or waits for long while somebody else has no memory for a client."""
    return process.state is State.SUSPENDED or (process.why in LONG and CLIENTS.wanted > 0)


async def _blocked(process: Process, seconds: float) -> None:
    """Let others work while a rate limit is waited for."""
    if process.state is State.THINKING:
        async with process.waiting(Wait.RATE_LIMIT):
            await asyncio.sleep(seconds)
