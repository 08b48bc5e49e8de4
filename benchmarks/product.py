"""The product as a system under test: booted as a user boots it, in a home of its own, its learner being the data."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.goals import PROCEDURE, SHELL, Call, Goal
from llmos.boot import LLMOS
from llmos.errors import LLMOSError
from llmos.interfaces.running import Running
from llmos.kernel.bus import EventBus
from llmos.kernel.replay import Follower
from llmos.kernel.scratch import Snapshot
from llmos.memory.embeddings import Embedder
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.settings import load_settings
from llmos.trace.decide import Decision
from llmos.trace.induce import NotATrace
from llmos.trace.match import Match
from llmos.trace.program import Effect, Trace
from llmos.trace.run import Mode, Run, RunStatus, StepRecord

OUTPUT = "done"
"""What every tool gives: nothing that a later argument could be explained by."""
_NOW = datetime(2000, 1, 1, 12, tzinfo=UTC)
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


@asynccontextmanager
async def booted(
    embedder: Embedder,
    *,
    vocabulary: bool = False,
    unlisted: frozenset[str] = frozenset(),
    bound: float | None = None,
    goals: Iterable[Goal] = (),
) -> AsyncIterator[Product]:
    """A product over an empty home; with `vocabulary` its tools list the values that their parameters had.

    Those of `unlisted` parameters no tool lists. The tools have the parameters that the calls of `goals` take. `bound`
    sets how likely a replay may be wrong, whatever its effect; None leaves the product's defaults.
    """
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        root = Path(folder)
        (root / "workspace").mkdir()
        (root / "home").mkdir()
        if bound is not None:
            shares = ", ".join(f"{effect}: {bound}" for effect in ("pure", "read", "write"))
            (root / "home" / "llmos.yaml").write_text(f"matching: {{max_wrong: {{{shares}}}}}\n", encoding="utf-8")
        environ = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "LANG": "C.UTF-8"}
        settings = load_settings(home=root / "home", workspace=root / "workspace", environ=environ, checkout=root)
        async with LLMOS(settings=settings, embedder=embedder, clock=lambda: _NOW) as llmos:
            properties = properties_of(goals)
            yield Product(llmos=llmos, vocabulary=vocabulary, unlisted=unlisted, properties=properties)


@dataclass(kw_only=True)
class Product:
    """What a stream needs of a booted LLM OS: decide, follow, learn.

    With `vocabulary` the tools list the values that parameters had so far, but for those that are `unlisted`.
    `properties` are the parameters of the tools, where they are known before their first call.
    """

    llmos: LLMOS
    vocabulary: bool = False
    unlisted: frozenset[str] = frozenset()
    properties: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    known: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    @property
    def now(self) -> datetime:
        """The time it always is here."""
        return _NOW

    async def decide(self, goal: str) -> Decision:
        """Recall and gate, as the dispatcher asks them."""
        return await self.llmos.deciding.decide(goal)

    async def follow(self, goal: Goal, match: Match, reason: str) -> tuple[Call, ...] | str:
        """Replay a trace with the product's follower; the calls it made, or why it stopped."""
        running = Running(run=_run(goal, Mode.FOLLOWER))
        try:
            await self.llmos.dispatcher.following.follow(running, match, reason)
        except LLMOSError as error:
            return f"{type(error).__name__}: {error}"
        running.end(RunStatus.DONE)
        await self.llmos.dispatcher.following.end(running)
        return tuple(Call.made(step.tool, step.args) for step in running.run.steps)

    async def would_call(self, match: Match) -> tuple[Call, ...] | str:
        """The calls a replay would make, with nothing booked: what a person is shown before saying yes."""
        llmos = self.llmos
        follower = Follower(
            trace=match.trace,
            bindings=match.bindings,
            registry=llmos.registry,
            ctx=ToolContext(workspace=llmos.settings.workspace, facts=llmos.memory),
            bus=EventBus(),
        )
        try:
            replay = await follower.run()
        except LLMOSError as error:
            return f"{type(error).__name__}: {error}"
        return tuple(Call.made(step.tool, step.args) for step in replay.records)

    async def learn(self, goal: Goal, *, keep_run: bool = True) -> Trace | NotATrace:
        """Admit the recorded run of a goal and keep the run, as the product does after its learner has solved it."""
        self.meet([goal])
        steps = tuple(self._recorded(number, call, goal) for number, call in enumerate(goal.calls))
        run = replace(_run(goal, Mode.LEARNER), steps=steps, answer=OUTPUT, model="recorded", status=RunStatus.DONE)
        trace = await self.admit(run)
        if isinstance(trace, Trace):
            run = replace(run, trace_id=trace.id, trace_version=trace.version)
        if keep_run:
            await self.llmos.runs.finish(run)
        return trace

    async def admit(self, run: Run, before: Snapshot | None = None) -> Trace | NotATrace:
        """The stored trace of a run; an admission that fails is one that gave none.

        It is proven by running it again where there is a workspace `before` it, which recorded tools have none of.
        """
        try:
            return await self.llmos.admission.admit(run, before)
        except LLMOSError as error:
            return NotATrace(reason=f"admission failed ({type(error).__name__}: {error})")

    def meet(self, goals: Iterable[Goal]) -> None:
        """Let the tools list the values of these goals from now on; only texts make a closed vocabulary."""
        for goal in goals:
            for call in goal.calls:
                for name, value in call.args.items():
                    if isinstance(value, str):
                        self.known[call.tool, name].add(value)

    def _recorded(self, number: int, call: Call, goal: Goal) -> StepRecord:
        if call.tool not in self.llmos.registry:
            self._register(call, goal, number)
        tool = self.llmos.registry.get(call.tool)
        return StepRecord(
            index=number,
            tool=call.tool,
            args=call.sent,
            output=OUTPUT,
            effect=tool.effect,
            tool_version=tool.version,
            tool_use_id=f"call_{number}",
        )

    def _register(self, call: Call, goal: Goal, number: int) -> None:
        """A tool for one call of a procedure.

        One call is a read. Of several, each is a write: all ground-truth calls have to be made, and a read whose
        output nobody uses is rightly left out of a trace.
        """
        source = goal.recorded[number].tool if goal.recorded else ""

        async def tool(args: dict[str, Any]) -> str:
            return OUTPUT

        marked = llm_tool(
            call.tool,
            "One step of a recorded procedure.",
            schema={"type": "object", "properties": self.properties.get(call.tool) or properties_of([goal])[call.tool]},
            effect=Effect.READ if len(goal.calls) == 1 else Effect.WRITE,
            code=("command",) if source == SHELL else (),
            values=partial(self._values, call.tool) if self.vocabulary else None,
            version="1",
        )(tool)
        self.llmos.registry.register(tool_of(marked))

    def listed(self, tool: str, parameter: str) -> frozenset[str]:
        """The values of a tool's parameter that it lists now."""
        return frozenset(self._values(tool, parameter) or ()) if self.vocabulary else frozenset()

    def _values(self, tool: str, parameter: str) -> Iterable[str] | None:
        return None if parameter in self.unlisted else self.known.get((tool, parameter))


def properties_of(goals: Iterable[Goal]) -> dict[str, dict[str, Any]]:
    """The parameters of each tool that the goals' calls go to; the procedures it can carry out are an enumeration."""
    properties: dict[str, dict[str, Any]] = defaultdict(dict)
    procedures: dict[str, set[str]] = defaultdict(set)
    for call in (call for goal in goals for call in goal.calls):
        properties[call.tool] |= {name: _schema_of(value) for name, value in call.args.items()}
        procedures[call.tool] |= {call.procedure} - {""}
    for tool, known in procedures.items():
        properties[tool] |= {PROCEDURE: {"enum": sorted(known)}} if known else {}
    return properties


def _schema_of(value: Any) -> dict[str, Any]:
    kind = _JSON_TYPES.get(type(value))
    return {"type": "number" if kind == "integer" else kind} if kind else {}


def _run(goal: Goal, mode: Mode) -> Run:
    return Run(id=uuid.uuid4().hex[:12], goal=goal.text, mode=mode, started_at=_NOW)
