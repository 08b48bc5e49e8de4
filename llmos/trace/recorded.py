"""A recorded run as an instance of a trace: its goal binds, and its calls are the trace's, argument by argument."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmos.trace.conditions import all_hold, nothing_exists
from llmos.trace.lookups import UnlistedError, looked_up
from llmos.trace.match import Match, match
from llmos.trace.program import Loop, Node, Step, Trace
from llmos.trace.run import Run, StepRecord
from llmos.trace.values import Scope, UnboundError, evaluate


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """How a run instantiates a trace.

    `records` holds what was recorded of each call of the trace, once for each iteration; `scopes` what a node's
    references stood for when it was first reached, and under `first_entry` those of a loop's first entry.
    """

    trace: Trace
    run: Run
    template: str
    bindings: Mapping[str, Any]
    records: Mapping[str, Sequence[StepRecord]]
    scopes: Mapping[str, Scope]
    scope: Scope

    @property
    def env(self) -> Mapping[str, Any]:
        return self.scope.env


class _OtherError(Exception):
    """The recording goes another way."""


def recorded(trace: Trace, run: Run, env: Mapping[str, str]) -> Recorded | None:
    """The run as an instance of the trace, or None: another goal, other arguments, or other effects.

    `env` holds the values of `cwd` and `today` at the run. A file that a condition asks for was there if a call that
    went well named it, and was not if one that failed did; of others nothing is known.
    """
    goal = unicodedata.normalize("NFC", run.goal.strip())
    found = match(goal, trace)
    if not isinstance(found, Match):
        return None
    left = [step for step in run.steps if not step.is_error]
    outputs: dict[str, Any] = {}
    bindings = dict(found.bindings)
    following = _Following(trace=trace, bindings=bindings, left=left, steps=run.steps)
    scope = Scope(slots=bindings, outputs=outputs, env=env, items=following.entries)
    try:
        following.nodes(trace.steps, scope, outputs)
    except (UnboundError, UnlistedError, _OtherError):
        return None
    if any(step.effect.changes_world for step in following.left):
        return None
    return Recorded(
        trace=trace,
        run=run,
        template=found.template,
        bindings=bindings,
        records=following.records,
        scopes=following.scopes,
        scope=scope,
    )


@dataclass(kw_only=True)
class _Following:
    """Carries a trace out on the outputs of a recording; `left` are the calls that were not met yet.

    `bindings` and `entries`, which the scopes read, take in what the look-ups give.
    """

    trace: Trace
    bindings: dict[str, Any]
    left: list[StepRecord]
    steps: Sequence[StepRecord]
    entries: dict[str, Any] = field(default_factory=dict)
    records: dict[str, list[StepRecord]] = field(default_factory=dict)
    scopes: dict[str, Scope] = field(default_factory=dict)

    def nodes(self, nodes: Sequence[Node], scope: Scope, outputs: dict[str, Any]) -> None:
        for node in nodes:
            if node.id not in self.scopes:
                self.scopes[node.id] = replace(scope, outputs=dict(scope.outputs))
            if all_hold(node.when, scope, self.exists):
                outputs[node.id] = self.loop(node, scope) if isinstance(node, Loop) else self.step(node, scope)
                found = looked_up(self.trace.slots, node.id, scope)
                self.bindings.update(found.values)
                self.entries.update(found.entries)

    def loop(self, loop: Loop, scope: Scope) -> list[dict[str, Any]]:
        entries = evaluate(loop.over, scope)
        if not isinstance(entries, list):
            raise _OtherError
        done: list[dict[str, Any]] = []
        for entry in entries:
            items, indexes = {**scope.items, loop.id: entry}, {**scope.indexes, loop.id: len(done)}
            outputs = dict(scope.outputs)
            inner = replace(scope, items=items, indexes=indexes, outputs=outputs)
            self.scopes.setdefault(first_entry(loop), replace(inner, outputs=dict(outputs)))
            if not all_hold(loop.where, inner, self.exists):
                continue
            if not all_hold(loop.expect, inner, self.exists):
                raise _OtherError
            self.nodes(loop.steps, inner, outputs)
            done.append({"each": entry} | {one.id: outputs[one.id] for one in loop.steps if one.id in outputs})
        return done

    def step(self, step: Step, scope: Scope) -> Any:
        if not all_hold(step.expect, scope, self.exists):
            raise _OtherError
        wanted = canonical({name: evaluate(expr, scope) for name, expr in step.args.items()})
        while self.left and (self.left[0].tool, canonical(self.left[0].args)) != (step.tool, wanted):
            if self.left.pop(0).effect.changes_world:
                raise _OtherError
        if not self.left:
            raise _OtherError
        record = self.left.pop(0)
        self.records.setdefault(step.id, []).append(record)
        return record.output

    def exists(self, path: str) -> bool:
        named = [step for step in self.steps if path in step.args.values()]
        return not named[0].is_error if named else nothing_exists(path)


def first_entry(loop: Loop) -> str:
    """What the scope of a loop's first entry is found by."""
    return f"{loop.id} each"


def canonical(value: Any) -> str:
    """JSON by which two values are compared: 1 is not 1.0, and keys have no order."""
    return json.dumps(value, sort_keys=True)
