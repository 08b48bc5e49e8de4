"""The interpreter of traces: bind, call, check, and stop at the first divergence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llmos.errors import DivergenceError, InputError, NotPermittedError, StaleTraceError
from llmos.kernel.bus import EventBus, ToolCalled, ToolReturned
from llmos.kernel.checks import evaluate_check
from llmos.plugins.registry import ToolRegistry, ToolResult, validate
from llmos.plugins.tool import Tool, ToolContext
from llmos.trace.program import CheckKind, Effect, Step, Trace, Verdict
from llmos.trace.run import StepRecord
from llmos.trace.transforms import table
from llmos.trace.values import EnvRef, Scope, SecretRef, SlotRef, UnboundError, evaluate, references


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What following a trace came to: outputs by step id, the calls as made, the answer of this run."""

    outputs: dict[str, Any]
    records: tuple[StepRecord, ...]
    answer: str


@dataclass(kw_only=True)
class Follower:
    """Replays one trace with one set of bindings.

    `env` holds the values `env.*` may refer to, `secret` looks one up by name. `records` and `effects_done`
    tell, also after a failure, which calls were made and how many of them may have changed the world.
    """

    trace: Trace
    bindings: Mapping[str, Any]
    registry: ToolRegistry
    ctx: ToolContext
    bus: EventBus
    env: Mapping[str, Any] = field(default_factory=dict)
    secret: Callable[[str], str] | None = None
    records: list[StepRecord] = field(default_factory=list)
    effects_done: int = 0

    async def run(self) -> Replay:
        """Preflight, then every step in order, then the answer.

        Raises:
            StaleTraceError: a tool is gone or has changed (nothing was called).
            DivergenceError: a step met another world than the recorded one; names step, expected and actual.
            NotPermittedError, InputError: the call may not, or can't, be made with these bindings.
        """
        self.preflight()
        outputs: dict[str, Any] = {}
        for step in self.trace.steps:
            outputs[step.id] = await self._step(step, self._scope(outputs))
        return Replay(outputs=outputs, records=tuple(self.records), answer=self._answer(outputs))

    def preflight(self) -> None:
        """Everything that can be known before the first effect."""
        for step in self.trace.steps:
            tool = self._tool(step)
            for expr in step.args.values():
                for ref in references(expr):
                    if isinstance(ref, EnvRef | SecretRef):
                        self._evaluated(step, ref, self._scope({}))
            if not self._needs_outputs(step):
                validate(tool, self._arguments(step, self._scope({})))

    def _tool(self, step: Step) -> Tool:
        if step.tool not in self.registry:
            raise StaleTraceError(
                f"{self.trace.label} needs the tool {step.tool!r}, which is not loaded", step_id=step.id
            )
        tool = self.registry.get(step.tool)
        if step.tool_version is not None and step.tool_version != tool.version:
            raise StaleTraceError(
                f"the tool {step.tool!r} has changed since {self.trace.label} was made",
                step_id=step.id,
                expected=step.tool_version,
                actual=tool.version,
            )
        return tool

    @staticmethod
    def _needs_outputs(step: Step) -> bool:
        return any(hasattr(ref, "step") for expr in step.args.values() for ref in references(expr))

    def _scope(self, outputs: Mapping[str, Any]) -> Scope:
        if self.secret is None:
            return Scope(slots=self.bindings, outputs=outputs, env=self.env)
        return Scope(slots=self.bindings, outputs=outputs, env=self.env, secret=self.secret)

    def _arguments(self, step: Step, scope: Scope) -> dict[str, Any]:
        return {name: self._evaluated(step, expr, scope) for name, expr in step.args.items()}

    def _evaluated(self, step: Step, expr: Any, scope: Scope) -> Any:
        try:
            return evaluate(expr, scope)
        except UnboundError as error:
            raise self._diverged(step, str(error), actual=str(error)) from None

    async def _step(self, step: Step, scope: Scope) -> Any:
        arguments = self._arguments(step, scope)
        run_id = self.ctx.run_id
        self.bus.publish(ToolCalled(run_id=run_id, tool=step.tool, args=arguments, step_id=step.id))
        effect = max(step.effect, self.registry.get(step.tool).effect, key=lambda one: one.rank)
        self.effects_done += effect.changes_world
        result = await self.registry.call(step.tool, arguments, self.ctx)
        self._record(step, arguments, result, effect)
        self.bus.publish(
            ToolReturned(
                run_id=run_id,
                tool=step.tool,
                is_error=result.is_error,
                duration_s=result.duration_s,
                output=result.output,
                step_id=step.id,
            )
        )
        if result.is_error:
            self._refuse(step, effect, result)
        self._check(step, result.output, scope)
        return result.output

    def _record(self, step: Step, arguments: dict[str, Any], result: ToolResult, effect: Effect) -> None:
        self.records.append(
            StepRecord(
                index=len(self.records),
                tool=step.tool,
                args=arguments,
                output=result.output,
                is_error=result.is_error,
                effect=effect,
                tool_version=self.registry.get(step.tool).version,
                duration_s=result.duration_s,
            )
        )

    def _refuse(self, step: Step, effect: Effect, result: ToolResult) -> None:
        if effect is Effect.WRITE:
            self.effects_done -= 1  # our writes are whole or not at all: this one was not
        from_goal = any(isinstance(ref, SlotRef) for expr in step.args.values() for ref in references(expr))
        final = isinstance(result.error, NotPermittedError) or (isinstance(result.error, InputError) and from_goal)
        if result.error is not None and final and self.effects_done == 0:
            raise result.error
        raise self._diverged(step, f"{step.tool} failed: {result.output}", expected="a result", actual=result.output)

    def _check(self, step: Step, output: Any, scope: Scope) -> None:
        for check in step.checks:
            verdict, actual = evaluate_check(check, output, scope, self._exists)
            if verdict is not Verdict.PASS:
                expected = f"{check.kind} {check.expected}"
                raise self._diverged(step, f"expected {expected}, got {actual}", expected=expected, actual=actual)

    def _exists(self, path: str) -> bool:
        try:
            return self.ctx.resolve(path).exists()
        except (NotPermittedError, OSError):
            return False

    def _diverged(self, step: Step, message: str, *, expected: Any = None, actual: Any = None) -> DivergenceError:
        return DivergenceError(
            f"{self.trace.label}, step {step.id}: {message}",
            step_id=step.id,
            expected=expected,
            actual=actual,
            effects_done=self.effects_done,
        )

    def _answer(self, outputs: Mapping[str, Any]) -> str:
        """The answer template over this run's outputs; the last output itself where the template can't hold."""
        answer = self.trace.answer
        if answer.expr is not None and all(self._answer_holds(check, outputs) for check in answer.checks):
            try:
                return as_answer(evaluate(answer.expr, self._scope(outputs)))
            except UnboundError:
                pass
        return as_answer(outputs[self.trace.steps[-1].id])

    def _answer_holds(self, check: Any, outputs: Mapping[str, Any]) -> bool:
        step = check.expected.get("step") if isinstance(check.expected, dict) else None
        if check.kind is not CheckKind.LENGTH or not isinstance(step, str) or step not in outputs:
            return False
        verdict, _ = evaluate_check(check, outputs[step], self._scope(outputs), self._exists)
        return verdict is Verdict.PASS


def as_answer(value: Any) -> str:
    """An output as a person reads it: its `text` if it has one, a table for rows, else JSON."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return str(value["text"]).strip("\n")
    if isinstance(value, dict) and set(value) == {"result"}:
        return as_answer(value["result"])
    if isinstance(value, str):
        return value.strip("\n")
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return table(value)
    return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict | list) and value else None)
