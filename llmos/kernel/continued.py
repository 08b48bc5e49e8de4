"""Going on with a replay that an earlier process had begun: what it had done is told again instead of done again."""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmos.errors import LLMOSError
from llmos.kernel.journal import key_of
from llmos.plugins.tool import ToolCall, ToolResult
from llmos.trace.effects import JournalEntry
from llmos.trace.program import Loop, Node, Step, Trace, walk
from llmos.trace.run import StepRecord
from llmos.trace.values import OutputRef, references

_SHOWN = 200


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Middleware, the innermost, that gives each call to `keep` before the journal stores how it ended.

    So what an effect gave is stored with its outcome, or neither is.
    """

    trace: Trace
    keep: Callable[[StepRecord], None]

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult:
        started = time.perf_counter()
        result = await proceed()
        if call.ctx.step is not None and call.ctx.origin is not None:
            recorded = next(step.effect for step in self.trace.calls if step.id == call.ctx.origin.step_id)
            self.keep(
                StepRecord(
                    index=call.ctx.step,
                    tool=call.tool.name,
                    args=dict(call.arguments),
                    output=result.output,
                    is_error=result.is_error,
                    effect=max(recorded, call.effect, key=lambda one: one.rank),
                    tool_version=call.tool.version,
                    duration_s=time.perf_counter() - started,
                )
            )
        return result


@dataclass(kw_only=True)
class Continued:
    """Middleware, the outermost, that answers the calls of an earlier process by their numbers.

    `records` are those that are known with what they gave, `lost` those of which only the journal knows that they were
    made. `env` are the values of `env.*` that the replay began with. `refused` says why it can't go on, once it can't.
    """

    trace: Trace
    records: Mapping[int, StepRecord]
    lost: Mapping[int, JournalEntry] = field(default_factory=dict)
    env: Mapping[str, Any] = field(default_factory=dict)
    refused: LLMOSError | None = None

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult:
        number = call.ctx.step
        record = self.records.get(number) if number is not None else None
        lost = self.lost.get(number) if number is not None else None
        if record is not None:
            self._check(call, record.index, record.tool, self._key(record), record.args)
            return ToolResult(output=copy.deepcopy(record.output), is_error=record.is_error)
        if lost is None:
            return await proceed()
        self._check(call, lost.step, lost.tool, lost.key, lost.arguments)
        if call.ctx.origin is None or is_needed(self.trace, call.ctx.origin.step_id):
            raise self._refusal(
                f"{lost.tool} was made as step {lost.step + 1} and what it gave is lost, so nobody can go on: "
                f"`runs show {lost.run_id}` says what was done, `undo {lost.run_id}` takes files back."
            )
        return ToolResult(output=None)

    @property
    def made(self) -> int:
        """How many calls were made."""
        return max((number + 1 for number in (*self.records, *self.lost)), default=0)

    def is_done(self, call: ToolCall) -> bool:
        """Whether the same call was made before, so that nobody need be asked for it again."""
        key = key_of(call.tool.name, call.tool.version, call.arguments)
        return key in {*map(self._key, self.records.values()), *(entry.key for entry in self.lost.values())}

    @staticmethod
    def _key(record: StepRecord) -> str:
        return key_of(record.tool, record.tool_version or "", record.args)

    def _check(self, call: ToolCall, number: int, tool: str, key: str, arguments: Mapping[str, Any]) -> None:
        if key == key_of(call.tool.name, call.tool.version, call.arguments):
            return
        raise self._refusal(
            f"step {number + 1} was {tool} {str(dict(arguments))[:_SHOWN]}, and would be {call.tool.name} "
            f"{str(call.arguments)[:_SHOWN]} now, so nobody can go on: `runs show` says what was done."
        )

    def _refusal(self, said: str) -> LLMOSError:
        self.refused = LLMOSError(said)
        return self.refused


def is_needed(trace: Trace, step_id: str) -> bool:
    """Whether what a step gave is asked for: by its checks, a later step, a list of values, or the answer."""
    step, around = _found(trace.steps, step_id, ())
    if step is None or step.checks or trace.answer.expr is None or trace.answer.checks:
        return True
    exprs = [*(expr for node in walk(trace.steps) for expr in node.exprs), trace.answer.expr]
    asked = {ref.step for expr in exprs for ref in references(expr) if isinstance(ref, OutputRef)}
    asked |= {slot.listed.source.step for slot in trace.slots if slot.listed is not None}
    return bool(asked & {step_id, *around})


def _found(nodes: tuple[Node, ...], step_id: str, around: tuple[str, ...]) -> tuple[Step | None, tuple[str, ...]]:
    """A step, and the loops that it is in."""
    for node in nodes:
        if isinstance(node, Loop):
            inner = _found(node.steps, step_id, (*around, node.id))
            if inner[0] is not None:
                return inner
        elif node.id == step_id:
            return node, around
    return None, around


def is_worth_keeping(trace: Trace) -> bool:
    """Whether a replay may be cut off between two effects, or between one and what is made of it."""
    changes = trace.effect.changes_world
    return changes and (len(trace.calls) > 1 or any(isinstance(node, Loop) for node in trace.nodes))
