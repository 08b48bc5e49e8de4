"""A learner's run made by hand: real tools or written outputs, induced, matched and followed for real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from llmos.interfaces.admission import tool_facts
from llmos.kernel.bus import EventBus
from llmos.kernel.replay import Follower, Replay
from llmos.plugins.builtin import llmos_tools
from llmos.plugins.context import ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool
from llmos.trace.codec import dumps_json, dumps_yaml, loads_json, loads_yaml
from llmos.trace.findings import ToolFacts
from llmos.trace.induce import NotATrace, induce
from llmos.trace.match import Match, Miss, World, match
from llmos.trace.program import Effect, Trace
from llmos.trace.run import Finish, Mode, Run, RunStatus, StepRecord, step_ids
from llmos.trace.values import Scope, evaluate

Args: TypeAlias = dict[str, Any]
Call: TypeAlias = "tuple[str, Args | Callable[[list[Any]], Args]]"

ENV = {"cwd": "/home/ann/project", "today": "2026-11-21"}


BUILTINS = {tool.name: tool for tool in llmos_tools()}
FACTS = {name: tool_facts(tool) for name, tool in BUILTINS.items()}


def plugin(name: str, effect: Effect = Effect.READ, **enums: Sequence[str]) -> ToolFacts:
    """The facts of a plugin's or an MCP server's tool."""
    return ToolFacts(name=name, effect=effect, version="1", enums={k: tuple(v) for k, v in enums.items()})


def step(
    tool: str, args: Args, output: Any = None, *, is_error: bool = False, effect: Effect | None = None
) -> StepRecord:
    """One recorded call; effect and version as the built-in tool has them."""
    known = BUILTINS.get(tool)
    return StepRecord(
        index=0,
        tool=tool,
        args=args,
        output=output,
        is_error=is_error,
        effect=effect or (known.effect if known else Effect.READ),
        tool_version=known.version if known else "1",
    )


def run_of(goal: str, *steps: StepRecord, answer: str | None = "Done.", finish: Finish | None = None) -> Run:
    """A finished learner's run."""
    return Run(
        id="r1",
        goal=goal,
        mode=Mode.LEARNER,
        status=RunStatus.DONE,
        steps=tuple(steps),
        answer=answer,
        finish=finish,
        cost_usd=0.25,
    )


def learned(goal: str, *steps: StepRecord, answer: str | None = "Done.", extra: Sequence[ToolFacts] = ()) -> Trace:
    """The trace of a run that must become one; it has been through both codecs."""
    trace = induce(run_of(goal, *steps, answer=answer), FACTS | {one.name: one for one in extra}, ENV)
    assert not isinstance(trace, NotATrace), trace.reason
    assert loads_json(dumps_json(trace)) == trace
    assert loads_yaml(dumps_yaml(trace)) == trace
    return trace


def bound(trace: Trace, goal: str, outputs: Mapping[str, Any] | None = None, exists: Sequence[str] = ()) -> Any:
    """The arguments of every step when the goal is followed, or the Miss."""
    found = match(goal, trace, World(exists=lambda path: path in exists))
    if isinstance(found, Miss):
        return found
    scope = Scope(slots=found.bindings, outputs=outputs or {}, env=ENV)
    return [{name: evaluate(expr, scope) for name, expr in one.args.items()} for one in trace.calls]


def refused(trace: Trace, goal: str, exists: Sequence[str] = ()) -> bool:
    """Whether the gate keeps a goal from being followed."""
    return isinstance(match(goal, trace, World(exists=lambda path: path in exists)), Miss)


@dataclass
class Lab:
    """A workspace with the built-in tools in which goals are learned by script and followed for real."""

    workspace: Path
    tools: Sequence[Tool] = ()
    registry: ToolRegistry = field(default_factory=ToolRegistry)

    def __post_init__(self) -> None:
        for tool in (*BUILTINS.values(), *self.tools):
            self.registry.register(tool)
        self.ctx = ToolContext(workspace=self.workspace, run_id="lab")

    def put(self, **files: str) -> None:
        """Write files; `__` in a name is a slash and the last `_` a dot: `data__a_csv`."""
        for name, text in files.items():
            folder, _, suffix = name.rpartition("_")
            self.write(f"{folder.replace('__', '/')}.{suffix}", text)

    def write(self, path: str, text: str) -> None:
        target = self.workspace / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def text(self, path: str) -> str:
        return (self.workspace / path).read_text(encoding="utf-8")

    def record(self, calls: Sequence[Call]) -> list[StepRecord]:
        """Carry out a learner's calls; a function gets the outputs so far and gives the next arguments."""
        steps: list[StepRecord] = []
        for tool, made in calls:
            args = made([one.output for one in steps]) if callable(made) else made
            result = asyncio.run(self.registry.call(tool, args, self.ctx))
            steps.append(
                StepRecord(
                    index=len(steps),
                    tool=tool,
                    args=args,
                    output=result.output,
                    is_error=result.is_error,
                    effect=self.registry.get(tool).effect,
                    tool_version=self.registry.get(tool).version,
                )
            )
        return steps

    def learn(self, goal: str, *calls: Call, answer: str | Callable[[list[Any]], str] = "Done.") -> Trace:
        """Solve a goal by script and induce its trace."""
        steps = self.record(calls)
        said = answer if isinstance(answer, str) else answer([one.output for one in steps])
        trace = induce(
            run_of(goal, *steps, answer=said),
            {tool.name: tool_facts(tool) for tool in self.registry},
            {"cwd": str(self.workspace), "today": ENV["today"]},
        )
        assert not isinstance(trace, NotATrace), trace.reason
        return loads_yaml(dumps_yaml(trace))

    def match(self, trace: Trace, goal: str) -> Match | Miss:
        return match(goal, trace, World(exists=lambda path: (self.workspace / path).exists()))

    def follow(self, trace: Trace, goal: str) -> Replay:
        """Follow a trace for a goal that must match it."""
        found = self.match(trace, goal)
        assert isinstance(found, Match), found.message
        follower = Follower(
            trace=trace,
            bindings=found.bindings,
            registry=self.registry,
            ctx=self.ctx,
            bus=EventBus(),
            env={"cwd": str(self.workspace), "today": ENV["today"]},
        )
        return asyncio.run(follower.run())


__all__ = ["ENV", "FACTS", "Lab", "bound", "learned", "plugin", "refused", "run_of", "step", "step_ids"]
