"""Runs that may still stand: what a replay read and wrote, which tells whether doing it again would change nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from llmos.trace.effects import FileState, state_data, state_from
from llmos.trace.program import CheckKind, Effect, Loop, Trace
from llmos.trace.values import EnvRef, Expr, OutputRef, SecretRef, references

LASTING = frozenset({"today", "cwd", "user"})
"""The values of `env.*` that are the same again a moment later."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """What one input was: a digest of it, and the `stamp` of its file where that tells whether it is still the same."""

    digest: str
    stamp: str = ""


@dataclass(frozen=True, kw_only=True)
class CallInputs:
    """One call of a run: what it was called with, what it read by name, and the places it wrote to."""

    tool: str
    version: str
    effect: Effect
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Input] = field(default_factory=dict)
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A path that a check or a condition asked for: the place it led to, and what stood there."""

    place: str
    state: Input


@dataclass(frozen=True, kw_only=True)
class StandingRun:
    """A finished replay: its inputs, and its outputs as they were when it ended.

    `world` is what else it depended on (values of `env.*`, versions), `files` what it wrote, by path; what it read
    elsewhere counts until `valid_until`.
    """

    key: str
    run_id: str
    trace_id: str
    done_at: datetime
    answer: str
    outputs: Mapping[str, Any]
    world: Mapping[str, Any]
    calls: tuple[CallInputs, ...]
    asked: Mapping[str, Asked]
    files: Mapping[str, FileState]
    valid_until: datetime | None = None


def key_of(trace: Trace, bindings: Mapping[str, Any], workspace: str) -> str:
    """What a run is found by: the digest of a trace version, its bindings and the workspace."""
    text = json.dumps([trace.id, trace.version, dict(bindings), workspace], sort_keys=True, default=str)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# --- traces ------------------------------------------------------------------------------------------


def may_stand(trace: Trace) -> bool:
    """Whether a trace writes, does nothing worse, and asks for nothing that is gone a moment later."""
    effects = {step.effect for step in trace.calls}
    if Effect.WRITE not in effects or any(effect.rank > Effect.WRITE.rank for effect in effects):
        return False
    refs = [ref for expr in _exprs(trace) for ref in references(expr)]
    return not any(isinstance(ref, SecretRef) for ref in refs) and env_names(trace) <= LASTING


def env_names(trace: Trace) -> set[str]:
    """The values of `env.*` a trace asks for."""
    return {ref.name for expr in _exprs(trace) for ref in references(expr) if isinstance(ref, EnvRef)} | {
        name for name in ("now", "last_result", "last_result_name", *LASTING) if f"env.{name}" in _checked(trace)
    }


def shows(trace: Trace, name: str) -> bool:
    """Whether a field of that name, of any step's output, may show in what a trace does or answers."""
    loops = {node.id for node in trace.nodes if isinstance(node, Loop)}
    refs = [ref for expr in _exprs(trace) for ref in references(expr) if isinstance(ref, OutputRef)]
    if any(not ref.path or ref.step in loops or name in ref.path for ref in refs):
        return True
    digested = any(check.kind is CheckKind.OUTPUT_SHA256 for step in trace.calls for check in step.checks)
    return digested or name in _checked(trace)


def _exprs(trace: Trace) -> list[Expr]:
    exprs = [expr for node in trace.nodes for expr in node.exprs]
    return exprs + ([trace.answer.expr] if trace.answer.expr is not None else [])


def _checked(trace: Trace) -> str:
    """What the checks of a trace expect, as one text to look for names in."""
    checks = [*trace.checks, *trace.answer.checks, *(check for step in trace.calls for check in step.checks)]
    return json.dumps([check.expected for check in checks], default=str)


# --- as plain data -----------------------------------------------------------------------------------


def standing_data(run: StandingRun) -> dict[str, Any]:
    """A run as JSON data."""
    return {
        "key": run.key,
        "run_id": run.run_id,
        "trace_id": run.trace_id,
        "done_at": run.done_at.isoformat(),
        "answer": run.answer,
        "outputs": dict(run.outputs),
        "world": dict(run.world),
        "calls": [_call_data(call) for call in run.calls],
        "asked": {path: [one.place, _input_data(one.state)] for path, one in run.asked.items()},
        "files": {path: state_data(state) for path, state in run.files.items()},
        "valid_until": run.valid_until.isoformat() if run.valid_until else None,
    }


def standing_from(data: Mapping[str, Any]) -> StandingRun:
    """The run of `standing_data`; ValueError, KeyError or TypeError if it is none."""
    until = data["valid_until"]
    return StandingRun(
        key=data["key"],
        run_id=data["run_id"],
        trace_id=data["trace_id"],
        done_at=datetime.fromisoformat(data["done_at"]),
        answer=data["answer"],
        outputs=data["outputs"],
        world=data["world"],
        calls=tuple(map(_call_from, data["calls"])),
        asked={path: Asked(place=place, state=_input_from(state)) for path, (place, state) in data["asked"].items()},
        files={path: state_from(state) for path, state in data["files"].items()},
        valid_until=datetime.fromisoformat(until) if until else None,
    )


def _call_data(call: CallInputs) -> dict[str, Any]:
    inputs = {name: _input_data(one) for name, one in call.inputs.items()}
    facts = {"tool": call.tool, "version": call.version, "effect": str(call.effect)}
    return {**facts, "arguments": dict(call.arguments), "inputs": inputs, "targets": list(call.targets)}


def _call_from(data: Mapping[str, Any]) -> CallInputs:
    return CallInputs(
        tool=data["tool"],
        version=data["version"],
        effect=Effect(data["effect"]),
        arguments=data["arguments"],
        inputs={name: _input_from(one) for name, one in data["inputs"].items()},
        targets=tuple(data["targets"]),
    )


def _input_data(one: Input) -> list[str]:
    return [one.digest, one.stamp]


def _input_from(data: list[str]) -> Input:
    digest, stamp = data
    return Input(digest=digest, stamp=stamp)
