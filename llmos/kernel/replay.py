"""The interpreter of traces: bind, call, check, and stop at the first divergence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, cast

from llmos.errors import (
    CallRefusedError,
    DivergenceError,
    InputError,
    NotPermittedError,
    OtherKindError,
    StaleTraceError,
    StorageError,
    ToolError,
    UnknownValueError,
    WorseEffectError,
    WrongKindError,
)
from llmos.kernel.bus import EventBus, ToolCalled, ToolReturned
from llmos.kernel.checks import Files, evaluate_check
from llmos.kernel.process import Process
from llmos.plugins.context import Foresees, ToolContext, TraceStep
from llmos.plugins.registry import ToolRegistry, is_plainly_valid, validate, validate_values
from llmos.plugins.tool import Tool, ToolCall, ToolResult
from llmos.trace.conditions import all_hold, phrase
from llmos.trace.lookups import UnlistedError, looked_up, steps_before
from llmos.trace.program import CheckKind, Condition, ConditionKind, Effect, Loop, Node, Step, Trace, Verdict
from llmos.trace.run import CUT_OFF, Origin, StepRecord
from llmos.trace.secrecy import secrets_of
from llmos.trace.transforms import table
from llmos.trace.values import (
    EnvRef,
    Expr,
    IndexRef,
    ItemRef,
    OutputRef,
    Ref,
    Scope,
    SecretRef,
    SlotRef,
    UnboundError,
    evaluate,
    references,
)

MAX_ITERATIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What following a trace came to: outputs by the ids of steps and loops, the calls as made, this run's answer."""

    outputs: dict[str, Any]
    records: tuple[StepRecord, ...]
    answer: str


@dataclass(kw_only=True)
class Frame:
    """Where a replay is in one list of nodes: `at` is the node under way.

    Of a loop that is under way `passes` are the scopes of its iterations, and `done` what those gave that are over.
    """

    nodes: Sequence[Node]
    scope: Scope
    outputs: dict[str, Any]
    at: int = 0
    asked: list[tuple[Condition, bool]] = field(default_factory=list)
    passes: list[Scope] | None = None
    done: list[dict[str, Any]] = field(default_factory=list)


@dataclass(kw_only=True)
class Follower:
    """Replays one trace with one set of bindings.

    `env` holds what `env.*` may refer to; `secret` gives a secret's mark, or refuses it; `resolve` gives the places of
    paths that checks and conditions ask for (by default the context does). `records` and `effects_done` tell, also
    after a failure, which calls were made and how many of them may have changed the world. `spelled` are the bindings
    as the look-ups made so far spell them, `entries` what these list by those names; a run's scopes read both. `labels`
    name the step of each record, the first `settled` records passed their checks, and `frames` say where a replay that
    diverged has stopped, the innermost list last. The first record has the number `first_step`; `keep` stores each.
    Between two steps `process` may be stopped, or let others work. Calls that `is_permitted` knows need no judging, and
    the first `made` calls were made by an earlier process: all but the last of them had passed their checks then, and
    what they changed may not pass them now.
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
    iterations: int = 0
    resolve: Callable[[str], Path] | None = None
    spelled: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, Any] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    settled: int = 0
    frames: list[Frame] = field(default_factory=list)
    first_step: int = 0
    keep: Callable[[StepRecord], Awaitable[None]] | None = None
    process: Process | None = None
    foreseen: list[ToolCall] = field(default_factory=list)
    is_foreseen: bool = False
    made: int = 0
    is_permitted: Callable[[ToolCall], bool] | None = None
    _known_references: dict[int, tuple[Expr, tuple[Ref, ...]]] = field(default_factory=dict)
    _contexts: dict[int, tuple[Step, ToolContext, ToolContext]] = field(default_factory=dict)

    async def run(self) -> Replay:
        """Preflight, then every step in order, then the answer.

        Raises:
            StaleTraceError: a tool is gone or has changed (nothing was called).
            DivergenceError: a step met another world than the recorded one; names step, expected and actual.
            UnknownValueError: a look-up of the trace does not list a value of the goal (nothing was changed).
            OtherKindError: a value of the goal is another kind of thing than a tool takes (nothing was changed).
            WorseEffectError: with these bindings a call would do more than was recorded; it was not made.
            SettingsError: a secret that the trace needs is not set, or not allowed (nothing was called).
            NotPermittedError, InputError: the call may not, or can't, be made with these bindings.
        """
        self.spelled, self.entries = dict(self.bindings), {}
        if not self.is_foreseen:
            self.preflight()
        self.is_foreseen = False
        await self._permit()
        outputs: dict[str, Any] = {}
        self.iterations = 0
        await self._nodes(self.trace.steps, self._scope(outputs), outputs)
        return await self.ended(outputs)

    async def ended(self, outputs: dict[str, Any]) -> Replay:
        """What it came to once every step is done, and the goal is checked."""
        await self._check_goal(self._scope(outputs))
        return Replay(outputs=outputs, records=tuple(self.records), answer=self._answer(outputs))

    def preflight(self) -> None:
        """Everything that can be known before the first effect; the calls that are, are `foreseen`."""
        self.iterations = 0
        self.foreseen.clear()
        for step in self.trace.calls:
            self._tool(step)
        self._check_lookups()
        for node in self.trace.nodes:
            for expr in node.exprs:
                needed = [ref for ref in self._references(expr) if isinstance(ref, EnvRef)]
                for ref in (*needed, *(SecretRef(name=name) for name in sorted(secrets_of(expr)))):
                    self._evaluated(node, ref, self._scope({}))
        self._foresee(self.trace.steps, self._scope({}))
        self.is_foreseen = True

    def foresee(self, nodes: Sequence[Node], scope: Scope) -> None:
        """Whether the next call, or list, can be made as things are, and all that follow as far as they are known."""
        first = nodes[0] if nodes and not nodes[0].when else None
        if isinstance(first, Step):
            self._expect(first, scope)
            validate(self._tool(first), self._revealed(first, self._arguments(first, scope), scope))
        elif first is not None:
            self._iterations(first, scope)
        self._foresee(nodes, scope)

    def _foresee(self, nodes: Sequence[Node], scope: Scope) -> None:
        """Check arguments and lists that are known already, for each entry of a list that is."""
        for node in nodes:
            if isinstance(node, Step):
                self._foresee_call(node, scope)
            elif self._is_known(node.exprs, scope, node.id) and not _asks_for_files(node):
                for inner in self._iterations(node, scope):
                    self._foresee(node.steps, inner)
            else:
                self._foresee(node.steps, scope)

    def _foresee_call(self, step: Step, scope: Scope) -> None:
        """Check the arguments of one call as far as they are known: what the goal gives by itself, then all of them."""
        tool = self._tool(step)
        is_known = self._is_known(step.args.values(), scope)
        if is_known:
            arguments = self._arguments(step, scope)
            revealed = self._revealed(step, arguments, scope)
            if is_plainly_valid(tool, revealed):
                self._foreseen(step, arguments, scope)
                return
        refs = [ref for expr in step.args.values() for ref in self._references(expr)]
        for ref in (one for one in refs if self._is_known((one,), scope)):
            self._evaluated(step, ref, scope)
        given = {name: expr for name, expr in step.args.items() if any(map(_is_given, self._references(expr)))}
        known = {name: expr for name, expr in given.items() if self._is_known((expr,), scope)}
        validate_values(
            tool, self._revealed(step, {n: self._evaluated(step, e, scope) for n, e in known.items()}, scope)
        )
        if is_known:
            validate(tool, revealed)
            self._foreseen(step, arguments, scope)

    def _foreseen(self, step: Step, arguments: dict[str, Any], scope: Scope) -> None:
        call = self._call(step, arguments, scope)
        if not self._is_ruled_out(step, scope):
            self.foreseen.append(call)

    def _call(self, step: Step, arguments: dict[str, Any], scope: Scope) -> ToolCall:
        """A step's call with its effect; one that would do more than was recorded is refused.

        Raises:
            WorseEffectError: what it would do.
        """
        tool, ctx = self._tool(step), self._context(step)
        effect = tool.effect
        if tool.classify is not None:
            effect = tool.effect_of(ctx, self._revealed(step, arguments, scope))
        if effect.rank > max(step.effect.rank, Effect.READ.rank):
            raise WorseEffectError(
                f"{self.trace.label}, step {label_of(step, scope)}: with these values {step.tool} may do more than was "
                f"recorded ({effect}, not {step.effect}), so it was not called",
                step_id=label_of(step, scope),
                expected=str(step.effect),
                actual=str(effect),
                effects_done=self.effects_done,
            )
        return ToolCall(tool=tool, arguments=arguments, effect=effect, ctx=ctx)

    def _references(self, expr: Expr) -> tuple[Ref, ...]:
        """The references of an expression, which are asked for at every turn.

        It is kept with them: so no other object gets its id.
        """
        found = self._known_references.get(id(expr))
        if found is None:
            found = self._known_references[id(expr)] = expr, tuple(references(expr))
        return found[1]

    def _context(self, step: Step) -> ToolContext:
        """The context of a step's calls, made anew where the replay's own has changed (a learner took over)."""
        _, whole, found = self._contexts.get(id(step), (step, None, self.ctx))
        if whole is not self.ctx:
            origin = TraceStep(trace_id=self.trace.id, step_id=step.id, pattern=step.pattern, hidden=step.hidden)
            found = replace(self.ctx, origin=origin)
            self._contexts[id(step)] = step, self.ctx, found
        return found

    def _is_ruled_out(self, step: Step, scope: Scope) -> bool:
        """Whether a step's own conditions, as far as they are known and stay so, keep it from being called."""
        lasting = [one for one in step.when if one.kind not in (ConditionKind.EXISTS, ConditionKind.MISSING)]
        try:
            return not all_hold(lasting, scope, self._files.exists)
        except UnboundError:
            return False

    async def _permit(self) -> None:
        """Have the calls that are known judged before the first of them is made."""
        calls, self.foreseen = self.foreseen, []
        if self.is_permitted is not None:
            calls = [call for call in calls if not self.is_permitted(call)]
        if not calls:
            return
        foreseeing = [cast("Foresees", one) for one in self.ctx.middleware if _can_foresee(type(one))]
        for call in calls:
            for one in foreseeing:
                await one.foresee(call)

    def _check_lookups(self) -> None:
        """What comes before a value was looked up must not change anything, whatever the trace says of it."""
        for listed in (slot.listed for slot in self.trace.slots if slot.listed is not None):
            for step in steps_before(self.trace, listed):
                tool = self._tool(step)
                effect = tool.effect if tool.classify is None else step.effect  # each call is classed before it is made
                if effect.changes_world:
                    message = f"the tool {step.tool!r} may change something ({effect}) before a value is looked up"
                    raise self._diverged(step, self._scope({}), message, expected="read", actual=str(effect))

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

    def _is_known(self, exprs: Iterable[Expr], scope: Scope, own: str = "") -> bool:
        """Whether neither an output of this run is needed nor the entry of a loop that is not under way (but `own`).

        A value that is still to be looked up is not known.
        """
        loops = (own, *scope.items)
        return all(self._is_open(ref, loops) for expr in exprs for ref in self._references(expr))

    def _is_open(self, ref: Ref, loops: Collection[str]) -> bool:
        """Whether a reference leads to something while these loops are under way."""
        if isinstance(ref, SlotRef):
            return ref.name not in self._listed or ref.name in self.entries
        if isinstance(ref, ItemRef | IndexRef):
            return ref.loop in loops
        return not isinstance(ref, OutputRef)

    @cached_property
    def _listed(self) -> frozenset[str]:
        """The slots whose values are looked up."""
        return frozenset(slot.name for slot in self.trace.slots if slot.listed is not None)

    def _scope(self, outputs: Mapping[str, Any]) -> Scope:
        slots = self.spelled or self.bindings
        return Scope(slots=slots, outputs=outputs, env=self.env, items=self.entries, secret=self.secret or _no_secret)

    def _arguments(self, step: Step, scope: Scope) -> dict[str, Any]:
        return {name: self._evaluated(step, expr, scope) for name, expr in step.args.items()}

    def _revealed(self, step: Step, arguments: dict[str, Any], scope: Scope) -> dict[str, Any]:
        """Arguments as the tool will get them, for a look ahead."""
        try:
            return self.ctx.revealed(arguments)
        except ToolError as error:
            raise self._diverged(step, scope, str(error), actual=str(error)) from None

    def _evaluated(self, node: Node, expr: Any, scope: Scope) -> Any:
        try:
            return evaluate(expr, scope)
        except UnboundError as error:
            raise self._diverged(node, scope, str(error), actual=str(error)) from None

    # --- loops and guards --------------------------------------------------------------------------

    async def _nodes(self, nodes: Sequence[Node], scope: Scope, outputs: dict[str, Any]) -> None:
        """Carry out nodes in order; `outputs`, which the scope reads, takes in what each gives."""
        self.frames.append(Frame(nodes=nodes, scope=scope, outputs=outputs))
        await self.go_on()

    async def go_on(self) -> None:
        """Carry out what is left of the innermost list of nodes, and leave it; where it diverges, it is not left.

        A condition is asked once, at the first node that has it: what that node changes does not turn the others.
        """
        frame = self.frames[-1]
        for at in range(frame.at, len(frame.nodes)):
            frame.at, node = at, frame.nodes[at]
            if not self._is_wanted(node, frame.scope, frame.asked):
                continue
            if isinstance(node, Loop):
                frame.passes, frame.done = None, []
                frame.passes = self._iterations(node, frame.scope)
                await self.go_through(node, frame)
            else:
                if self.process is not None and self.process.is_due:
                    await self.process.turn()
                frame.outputs[node.id] = await self._step(node, frame.scope)
                self.look_up(node, frame.scope)
                await self._permit()
        self.frames.pop()

    def _is_wanted(self, node: Node, scope: Scope, asked: list[tuple[Condition, bool]]) -> bool:
        for condition in node.when:
            known = [answer for one, answer in asked if one == condition]
            if not known:
                known = [self._all_hold(node, (condition,), scope)]
                asked.append((condition, known[0]))
            if not known[0]:
                return False
        return True

    async def go_through(self, loop: Loop, frame: Frame) -> None:
        """The iterations that are left of the loop a frame is at; it gives one object for each: see `made_of`."""
        for inner in (frame.passes or [])[len(frame.done) :]:
            await asyncio.sleep(0)
            outputs = dict(frame.scope.outputs)
            await self._nodes(loop.steps, replace(inner, outputs=outputs), outputs)
            frame.done.append(made_of(loop, inner, outputs))
        frame.outputs[loop.id] = frame.done

    def _iterations(self, loop: Loop, scope: Scope) -> list[Scope]:
        """A scope for each iteration; the whole list is looked at before the first one."""
        entries = self._evaluated(loop, loop.over, scope)
        if not isinstance(entries, list):
            raise self._diverged(loop, scope, "expected a list to go through", expected="array", actual=entries)
        if len(entries) > MAX_ITERATIONS - self.iterations:
            message = f"expected at most {MAX_ITERATIONS:,} iterations, got a list of {len(entries):,}"
            raise self._diverged(loop, scope, message, expected=MAX_ITERATIONS, actual=len(entries))
        scopes: list[Scope] = []
        for position, entry in enumerate(entries):
            items, indexes = {**scope.items, loop.id: entry}, {**scope.indexes, loop.id: len(scopes)}
            inner = replace(scope, items=items, indexes=indexes)
            if self._all_hold(loop, loop.where, inner):
                self._expect(loop, inner, position)
                scopes.append(inner)
        self.iterations += len(scopes)
        return scopes

    def _expect(self, node: Node, scope: Scope, position: int | None = None) -> None:
        """Conditions that must hold for what the recording left open: of an entry of a loop, or before a call."""
        for condition in node.expect:
            if self._all_hold(node, (condition,), scope):
                continue
            expected = phrase(condition)
            actual = evaluate(condition.value, scope) if position is None else scope.items[node.id]
            where = "" if position is None else f"entry {position} of the list is of another kind: "
            message = f"{where}expected that {expected}, got {actual!r}"
            raise self._diverged(node, scope, message[:600], expected=expected, actual=actual)

    def _all_hold(self, node: Node, conditions: Sequence[Condition], scope: Scope) -> bool:
        try:
            return all_hold(conditions, scope, self._files.exists)
        except UnboundError as error:
            raise self._diverged(node, scope, str(error), actual=str(error)) from None

    def look_up(self, step: Step, scope: Scope) -> None:
        """Hold the goal's values against the list that a step gave, spell them as it does, and look ahead again."""
        try:
            found = looked_up(self.trace.slots, step.id, scope)
        except UnboundError as error:
            raise self._diverged(step, scope, str(error), actual=str(error)) from None
        except UnlistedError as error:
            raise UnknownValueError(
                f"{self.trace.label}, step {label_of(step, scope)}: {error}",
                step_id=label_of(step, scope),
                expected="a value that is listed",
                actual=str(error),
                effects_done=self.effects_done,
            ) from None
        if found.entries:
            self.spelled.update(found.values)
            self.entries.update(found.entries)
            made = self.iterations
            self._foresee(self.trace.steps, scope)
            self.iterations = made

    # --- calls -------------------------------------------------------------------------------------

    async def _step(self, step: Step, scope: Scope) -> Any:
        if self.process is not None:
            self.process.steps += 1
        number = len(self.records) + 1
        if number > self.made:
            self._expect(step, scope)
        arguments = self._arguments(step, scope)
        call = self._call(step, arguments, scope)
        run_id, step_id = self.ctx.run_id, label_of(step, scope)
        self.bus.publish(ToolCalled(run_id=run_id, tool=step.tool, args=arguments, step_id=step_id))
        effect = max(step.effect, call.effect, key=lambda one: one.rank)
        self.effects_done += effect.changes_world
        self.labels.append(step_id)
        try:
            ctx = replace(call.ctx, step=self.first_step + len(self.records))
            result = await self.registry.call(step.tool, arguments, ctx)
        except asyncio.CancelledError:
            if effect.changes_world:
                self._record(step, arguments, ToolResult(output=CUT_OFF, is_error=True), effect)
            raise
        record = self._record(step, arguments, result, effect)
        if self.keep is not None:
            await self.keep(record)
        self.bus.publish(
            ToolReturned(
                run_id=run_id,
                tool=step.tool,
                is_error=result.is_error,
                duration_s=result.duration_s,
                output=result.output,
                step_id=step_id,
            )
        )
        if result.is_error:
            self._refuse(step, scope, effect, result)
        if number >= self.made:
            self.check(step, result.output, scope)
        self.settled = len(self.records)
        return result.output

    def _record(self, step: Step, arguments: dict[str, Any], result: ToolResult, effect: Effect) -> StepRecord:
        record = StepRecord(
            index=self.first_step + len(self.records),
            tool=step.tool,
            args=arguments,
            output=result.output,
            is_error=result.is_error,
            effect=effect,
            tool_version=self.registry.get(step.tool).version,
            duration_s=result.duration_s,
            origin=Origin.RECORDED if result.is_recorded else None,
        )
        self.records.append(record)
        return record

    def _refuse(self, step: Step, scope: Scope, effect: Effect, result: ToolResult) -> None:
        refused = not result.made or isinstance(result.error, CallRefusedError)
        if effect is Effect.WRITE or (effect.changes_world and refused):
            self.effects_done -= 1  # our writes are whole or not at all, and what was refused was not called
        listed = {node.id for node in self.trace.nodes if isinstance(node, Loop) and isinstance(node.over, SlotRef)}
        refs = [ref for expr in step.args.values() for ref in self._references(expr)]
        from_goal = any(isinstance(ref, SlotRef) or (isinstance(ref, ItemRef) and ref.loop in listed) for ref in refs)
        final = isinstance(result.error, NotPermittedError) or (isinstance(result.error, InputError) and from_goal)
        final = final or (isinstance(result.error, StorageError) and not result.made)
        if result.error is not None and final and self.effects_done == 0:
            if isinstance(result.error, WrongKindError):
                raise OtherKindError(str(result.error), step_id=label_of(step, scope), actual=result.output)
            raise result.error
        message = f"{step.tool} failed: {result.output}"
        raise self._diverged(step, scope, message, expected="a result", actual=result.output)

    def check(self, step: Step, output: Any, scope: Scope) -> None:
        for check in step.checks:
            verdict, actual = evaluate_check(check, output, scope, self._files)
            if verdict is not Verdict.PASS:
                expected = f"{check.kind} {check.expected}"
                message = f"expected {expected}, got {actual}"
                raise self._diverged(step, scope, message, expected=expected, actual=actual)

    async def _check_goal(self, scope: Scope) -> None:
        """What shows in the workspace that the goal was reached."""
        for check in self.trace.checks:
            verdict, actual = await asyncio.to_thread(evaluate_check, check, None, scope, self._files)
            if verdict is not Verdict.PASS:
                expected = f"{check.kind} {check.expected}"
                message = f"the goal was not reached: expected {expected}, got {actual}"
                raise self._diverged(self.trace.steps[-1], scope, message, expected=expected, actual=actual)

    @property
    def _files(self) -> Files:
        return Files(resolve=self.resolve or self.ctx.resolve)

    def _diverged(
        self, node: Node, scope: Scope, message: str, *, expected: Any = None, actual: Any = None
    ) -> DivergenceError:
        return DivergenceError(
            f"{self.trace.label}, step {label_of(node, scope)}: {message}",
            step_id=label_of(node, scope),
            expected=expected,
            actual=actual,
            effects_done=self.effects_done,
        )

    def _answer(self, outputs: Mapping[str, Any]) -> str:
        """The answer template over this run's outputs; the last output itself where its checks say that it can't hold.

        Raises:
            DivergenceError: it refers to what no step gave: another output would be no answer.
        """
        answer = self.trace.answer
        if answer.expr is not None and all(self._answer_holds(check, outputs) for check in answer.checks):
            try:
                return as_answer(evaluate(answer.expr, self._scope(outputs)))
            except UnboundError as error:
                if outputs:
                    last = self.trace.steps[-1]
                    message = f"the answer can't be made: {error}"
                    raise self._diverged(last, self._scope(outputs), message, actual=str(error)) from None
        done = [node for node in self.trace.steps if node.id in outputs]
        return _last_output(done[-1], outputs[done[-1].id]) if done else "Nothing had to be done."

    def _answer_holds(self, check: Any, outputs: Mapping[str, Any]) -> bool:
        step = check.expected.get("step") if isinstance(check.expected, dict) else None
        if check.kind is not CheckKind.LENGTH or not isinstance(step, str) or step not in outputs:
            return False
        verdict, _ = evaluate_check(check, outputs[step], self._scope(outputs), self._files)
        return verdict is Verdict.PASS


@lru_cache(maxsize=64)
def _can_foresee(kind: type) -> bool:
    return issubclass(kind, Foresees)


def made_of(loop: Loop, scope: Scope, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What an iteration of a loop gives: its entry and the outputs of its steps."""
    return {"each": scope.items[loop.id], **{node.id: outputs[node.id] for node in loop.steps if node.id in outputs}}


def _no_secret(name: str) -> str:
    raise UnboundError(f"the secret {name} is not set")


def _is_given(ref: Ref) -> bool:
    """Whether a reference may read what the goal says, or an entry that it names."""
    return isinstance(ref, SlotRef | ItemRef)


def label_of(node: Node, scope: Scope) -> str:
    """A node's id with the numbers of the iterations it is in: `write[3]`."""
    inside = scope.indexes if isinstance(node, Step) else {k: v for k, v in scope.indexes.items() if k != node.id}
    return node.id + "".join(f"[{number}]" for number in inside.values())


def _asks_for_files(loop: Loop) -> bool:
    return any(c.kind in (ConditionKind.EXISTS, ConditionKind.MISSING) for c in (*loop.where, *loop.expect))


def _last_output(node: Node, output: Any) -> str:
    """What the last node gave; of a loop the last output of each iteration, one below the other."""
    if isinstance(node, Step):
        return as_answer(output)
    told = [
        _last_output(inner[-1], made[inner[-1].id])
        for made in output
        if (inner := [one for one in node.steps if one.id in made])
    ]
    return "\n".join(told) if told else "Nothing had to be done: there was no entry."


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
