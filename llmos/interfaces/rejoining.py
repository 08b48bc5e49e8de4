"""The session of a learner that took over from a replay: done effects stay done, and the rest may be replayed again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.errors import DivergenceError, LLMOSError, ToolError
from llmos.interfaces.prompts import REJOIN, REJOIN_DESCRIPTION, REJOIN_SCHEMA
from llmos.interfaces.recorder import Recorder
from llmos.kernel.bus import Diverged, Rejoined, ToolCalled, ToolReturned
from llmos.kernel.once import Once, due_calls
from llmos.kernel.replay import Replay
from llmos.kernel.resuming import Place, Resuming
from llmos.plugins.context import Middleware
from llmos.plugins.schemas import validate_arguments
from llmos.plugins.tool import Tool, ToolResult
from llmos.trace.plans import cut, shown
from llmos.trace.program import Effect
from llmos.trace.run import Origin, StepRecord
from llmos.trace.takeover import MAY_HAVE_HAPPENED, masked

_SHOWN = 300


async def _never(*_: Any, **__: Any) -> Any:
    raise ToolError(f"{REJOIN} is answered by its session")


REJOIN_TOOL = Tool(
    name=REJOIN,
    description=REJOIN_DESCRIPTION,
    schema=REJOIN_SCHEMA,
    function=_never,
    effect=Effect.UNKNOWN,
    open_world=False,
)


@dataclass(kw_only=True)
class Takeover(Recorder):
    """Records a learner's calls, and once has the rest of a replay that diverged carried out.

    `done` is what the replay had done, and `once` answers for that; `around` is the middleware of the rest. `rejoined`
    is the step it went on from, `replayed` what it came to if it went well; `hidden` are secrets by their values, which
    no model is told.
    """

    origin: Origin | None = Origin.LEARNER
    resuming: Resuming
    once: Once
    done: tuple[StepRecord, ...] = ()
    around: tuple[Middleware, ...] = ()
    hidden: Mapping[str, str] = field(default_factory=dict)
    rejoined: str | None = None
    replayed: Replay | None = None
    acted_since: bool = False
    _own: dict[int, StepRecord] = field(default_factory=dict)
    _begun: int = 0
    _is_replaying: bool = False

    @property
    def places(self) -> dict[str, Place]:
        """Where the replay may go on; nowhere a second time, and not where a plugin's tool has taken the name."""
        return {} if self.rejoined is not None or REJOIN in self.registry else self.resuming.places()

    @property
    def tools(self) -> list[Tool]:
        return [*super().tools, REJOIN_TOOL] if self.places else super().tools

    async def call(self, tool: str, args: dict[str, Any], tool_use_id: str | None = None) -> ToolResult:
        if tool == REJOIN and REJOIN not in self.registry:
            return await self._rejoin(args)
        if self._is_replaying:
            return _refused("the rest of the plan is being replayed: wait for the result of rejoin")
        self._begun, number = self._begun + 1, self._begun + 1
        result = await super().call(tool, args, tool_use_id)
        if not result.is_error:
            self._own[number] = StepRecord(index=number, tool=tool, args=args, output=result.output)
            acted = result.effect.changes_world and not result.is_recorded
            self.acted_since = self.acted_since or (acted and self.replayed is not None)
        return result

    # --- going on with the replay --------------------------------------------------------------------

    async def _rejoin(self, args: dict[str, Any]) -> ToolResult:
        await self._answered()
        self.bus.publish(ToolCalled(run_id=self.run_id, tool=REJOIN, args=args))
        try:
            result = ToolResult(output=masked(await self._rest(args), self.hidden))
        except ToolError as error:
            result = _refused(masked(str(error), self.hidden))
        self.bus.publish(
            ToolReturned(
                run_id=self.run_id, tool=REJOIN, is_error=result.is_error, duration_s=0.0, output=result.output
            )
        )
        if self.watch is not None:
            self.watch.saw_call(REJOIN, args, result.output, is_error=result.is_error)
        await self._asked()
        return result

    async def _rest(self, args: dict[str, Any]) -> str:
        """Replay the rest; what to tell the learner.

        Raises:
            ToolError: it did not begin, or it diverged again.
        """
        validate_arguments(REJOIN, REJOIN_SCHEMA, args)
        if self.rejoined is not None:
            raise ToolError("the rest was replayed once already, which is all: go on with the other tools")
        if self.unfinished or self._is_replaying:
            raise ToolError("other calls are still under way: wait for their results, then call rejoin again")
        place = self.places.get(_label(args["step"]))
        if place is None:
            places = ", ".join(self.places) or "no step"
            raise ToolError(f"the replay can't go on at {args['step']!r}, only at {places}")
        try:
            self.resuming.prepare(place, self._given(place, args.get("outputs") or {}))
        except ToolError as error:
            raise ToolError(f"{error}. Your own calls that went well: {self._listed()}") from None
        self.rejoined = self.beside["rejoined"] = place.label
        await self._check_point(is_asking=False)
        self.bus.publish(Rejoined(run_id=self.run_id, step_id=place.label))
        return await self._replay(place)

    def _given(self, place: Place, outputs: Mapping[str, int]) -> dict[str, Any]:
        """What the learner's own calls gave, by the labels of the steps of the same tools that they stand in for."""
        left_out, given = self.resuming.left_out(place), {}
        for label, number in ((_label(one), number) for one, number in outputs.items()):
            step, own = left_out.get(label), self._own.get(number)
            if step is None:
                raise ToolError(f"[{label}] is no step that is left out before [{place.label}]")
            if own is None or own.tool != step.tool:
                made = "is none that went well" if own is None else f"was one of {own.tool}"
                raise ToolError(f"[{label}] is a call of {step.tool}, and your call {number} {made}")
            given[label] = own.output
        return given

    def _listed(self) -> str:
        told = [f"{number} {one.tool} {cut(shown(one.args), _SHOWN)}" for number, one in sorted(self._own.items())]
        return "; ".join(told) or "none"

    async def _replay(self, place: Place) -> str:
        follower = self.resuming.follower
        follower.records, follower.labels, follower.settled = [], [], 0
        follower.first_step, follower.keep = self.first_step + self._started, self._kept
        follower.ctx = replace(self.ctx, middleware=(self._own_effects(), *self.around))
        self._is_replaying = True
        try:
            self.replayed = await self.resuming.resume(place)
        except LLMOSError as error:
            raise ToolError(await self._stopped_again(error)) from None
        finally:
            self._is_replaying = False
            for step in follower.records[len(follower.records) - self._missing() :]:  # cut off in the middle
                self._steps[self.number()] = replace(step, origin=Origin.REJOINED)
        return (
            f"The rest was replayed, {len(follower.records)} call{'s' * (len(follower.records) > 1)}, and the goal was "
            "checked. The answer is:\n"
            f"{self.replayed.answer}\nEnd your turn now with this answer and nothing else."
        )

    def _missing(self) -> int:
        return sum(step.index not in self._steps for step in self.resuming.follower.records)

    async def _kept(self, step: StepRecord) -> None:
        self.number()
        await self.take(replace(step, origin=step.origin or Origin.REJOINED))

    def _own_effects(self) -> Once:
        """What the learner has done itself stands for one step of the rest that is the same call."""
        own = Once(ctx=self.ctx, stands_in=True)
        for step in self.steps:
            if step.origin is Origin.LEARNER and step.effect.changes_world and not step.is_error:
                own.add(self.registry.get(step.tool), step)
        return own

    async def _stopped_again(self, error: LLMOSError) -> str:
        """Remember what the rest has done, and say where it stopped."""
        follower = self.resuming.follower
        step_id = error.step_id if isinstance(error, DivergenceError) else (follower.labels or [""])[-1]
        self.bus.publish(Diverged(run_id=self.run_id, step_id=step_id, message=str(error)))
        done = follower.records[: follower.settled]
        for step in done:
            if step.effect.changes_world and step.origin is not Origin.RECORDED:
                self.once.add(self.registry.get(step.tool), step)
        left = self.resuming.calls_left()
        self.once.due, self.once.may_rejoin = due_calls(left, self.registry, self.ctx), False
        self.beside["due"] = dict(self.once.due)
        said = "".join(f"\n- {one.tool} {cut(shown(one.args), _SHOWN)}" for one in done) or " nothing"
        doubtful = [one for one in follower.records[follower.settled :] if one.effect.changes_world]
        doubt = f"\n{MAY_HAVE_HAPPENED.format(shown(doubtful[0].args))}" if doubtful else ""
        return (
            f"it stopped again: {error}\nDone by then:{said}{doubt}\nGo on yourself from there; don't repeat any of it."
        )


def _label(said: str) -> str:
    """A step as it was named, `note[2]` or `[note[2]]`."""
    text = said.strip()
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _refused(said: str) -> ToolResult:
    return ToolResult(output=said, is_error=True, error=ToolError(said))


__all__ = ["REJOIN_TOOL", "Takeover"]
