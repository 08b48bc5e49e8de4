"""What a run may see of the world: its context, the values of `env.*`, secrets, and the meter of `think`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from llmos.accounts import Reservation
from llmos.errors import LearnerError, LowBatteryError, NoLearnerError
from llmos.interfaces.models import Models
from llmos.interfaces.prices import Tokens
from llmos.kernel.process import current, spend, thinking
from llmos.kernel.token_economy import TokenEconomy
from llmos.memory.runs import RunStore
from llmos.memory.store import SemanticMemory
from llmos.memory.traces import TraceStore
from llmos.plugins.confined import Sandbox
from llmos.plugins.context import Gate, Middleware, OsCalls, ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.redaction import UNNAMED, Redactor, mark
from llmos.settings import AGENTS, GUIDED, LEARNER, Settings, plain_environment
from llmos.trace.match import World
from llmos.trace.program import REWRITE, Trace
from llmos.trace.run import Run
from llmos.trace.values import EnvRef, references

_THINK_MAX_USD = 0.25
_THINK_LEAST_USD = _THINK_MAX_USD / 10
_THINK_TYPICAL = Tokens(input=1_500, output=500)
_THINK_TYPICAL_USD = 0.01
_THINKING = frozenset({"think", REWRITE})
_RECENT_RUNS = 50


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Everything a run takes from outside its goal; `now` is the injected clock, `middleware` is around its calls.

    `strict_gate` stands for `gate` where an agent's profile has rules.
    """

    settings: Settings
    facts: SemanticMemory
    runs: RunStore
    traces: TraceStore
    economy: TokenEconomy
    models: Models
    redactor: Redactor
    now: Callable[[], datetime]
    middleware: tuple[Middleware, ...] = ()
    sandbox: Sandbox | None = None
    gate: Gate | None = None
    strict_gate: Gate | None = None
    os: OsCalls | None = None
    _thought_usd: dict[str, float] = field(default_factory=dict)

    def world(self, registry: ToolRegistry) -> World:
        """What the gate may ask: whether a path exists in the workspace, and what a tool's parameter may be."""
        workspace = self.settings.workspace.resolve()

        def exists(path: str) -> bool:
            """Whatever rules say of it: they judge what is done with it, not what the goal means."""
            try:
                place = (workspace / path).resolve()
                return place.is_relative_to(workspace) and place.exists()
            except Exception:
                return False

        def values(tool: str, parameter: str) -> frozenset[str] | None:
            return registry.get(tool).values_of(parameter) if tool in registry else None

        def phrases(tool: str) -> frozenset[str]:
            return registry.get(tool).phrases if tool in registry else frozenset()

        def listed(tool: str) -> frozenset[str]:
            return registry.get(tool).listed if tool in registry else frozenset()

        return World(exists=exists, values=values, phrases=phrases, listed=listed)

    def context(self, run_id: str) -> ToolContext:
        """What a tool may touch in this run."""

        async def think(prompt: str, *, max_tokens: int, model: str | None) -> str:
            return await self._think(run_id, prompt, max_tokens=max_tokens, model=model)

        return ToolContext(
            workspace=self.settings.workspace,
            run_id=run_id,
            facts=self.facts,
            think=think,
            os=self.os,
            denied=(_real(self.settings.memory),),
            sealed=tuple(map(_real, (*self.settings.config_files, *self.settings.plugin_dirs, *self._profiles()))),
            env=plain_environment(),
            middleware=self.middleware,
            sandbox=self.sandbox,
            gate=self._gate(),
            secrets=self.redactor,
        )

    def _gate(self) -> Gate | None:
        process = current()
        has_rules = process is not None and process.agent is not None and process.agent.rules
        return self.strict_gate or self.gate if has_rules else self.gate

    def _profiles(self) -> tuple[Path, ...]:
        """The user's own folders of agents' profiles, and those profiles that are in the workspace."""
        own, folder = self.settings.agent_folders, self.settings.workspace / AGENTS
        if folder in own or not folder.is_dir():
            return own
        from llmos.interfaces.agents import profiles_in

        return (*own, *profiles_in(folder))

    def spent(self, run_id: str) -> float:
        """What `think` cost in a run that is over."""
        return self._thought_usd.pop(run_id, 0.0)

    @staticmethod
    def thoughts(trace: Trace) -> int:
        """How many model calls following a trace takes; those of a loop are counted once."""
        return sum(step.tool in _THINKING for step in trace.calls)

    def thinking_usd(self, trace: Trace, model: str | None = None) -> float:
        """What the model calls of a trace cost, roughly: at the model's price for a call of usual size."""
        count = self.thoughts(trace)
        if not count:
            return 0.0
        try:
            price = self.models.price(model or self.models.first(LEARNER))
        except NoLearnerError:
            return count * _THINK_TYPICAL_USD
        return count * price.cost_usd(_THINK_TYPICAL)

    def check_thinking(self, trace: Trace) -> None:
        """Refuse before the first step what would stop at a model call later; nothing if a trace has none.

        Raises:
            NoLearnerError: there is plainly no model to ask.
            LowBatteryError: the battery can't carry the calls.
        """
        count = self.thoughts(trace)
        if not count:
            return
        needs = f"{trace.label} needs {count} model call{'s' * (count > 1)}"
        try:
            self.models.check()
            self.economy.check_budget(count * _THINK_LEAST_USD)
        except (NoLearnerError, LowBatteryError) as error:
            error.args = (f"{needs}: {error}",)
            raise

    async def _think(self, run_id: str, prompt: str, *, max_tokens: int, model: str | None) -> str:
        task = LEARNER if model is None else GUIDED
        name = model or self.models.first(LEARNER)
        reservation = await asyncio.to_thread(self._reserve, run_id, name)
        cost_usd = 0.0
        try:
            asked = self.redactor.named(prompt)
            with thinking():
                most_usd = reservation.amount_usd
                thought = await self.models.think(
                    asked, max_tokens=max_tokens, model=name, max_budget_usd=most_usd, task=task
                )
            cost_usd, name = thought.cost_usd, thought.model or name
            return thought.text
        except LearnerError as error:
            cost_usd = error.cost_usd
            raise
        finally:
            self._thought_usd[run_id] = self._thought_usd.get(run_id, 0.0) + cost_usd
            spend(cost_usd)
            await asyncio.shield(asyncio.to_thread(self.economy.settle, reservation, cost_usd, f"thought: {name}"))

    def _reserve(self, run_id: str, model: str) -> Reservation:
        self.economy.check_budget(_THINK_LEAST_USD)
        most = min(_THINK_MAX_USD, self.economy.available_usd)
        return self.economy.reserve(most, run_id, f"thinking: {model}")

    def constants(self) -> dict[str, str]:
        """The values of `env.*` that induction looks for in arguments."""
        return {"cwd": str(self.settings.workspace), "today": self.now().astimezone().date().isoformat()}

    async def env(self, trace: Trace) -> Mapping[str, Any]:
        """The values of `env.*` for a replay; the last result is only looked up where the trace asks for it."""
        exprs = [expr for node in trace.nodes for expr in node.exprs]
        exprs += [trace.answer.expr] if trace.answer.expr is not None else []
        wanted = {ref.name for expr in exprs for ref in references(expr) if isinstance(ref, EnvRef)}
        values: dict[str, Any] = {
            **self.constants(),
            "now": self.now().astimezone().isoformat(timespec="seconds"),
            "user": self.settings.environment.get("USER") or self.settings.environment.get("LOGNAME"),
        }
        if wanted & {"last_result", "last_result_name"}:
            values |= await self._last_result()
        return values

    async def _last_result(self) -> dict[str, Any]:
        """The answer of the last run whose result has a name."""
        for run in await self.runs.list(limit=_RECENT_RUNS):
            name = await self._result_name(run) if run.answer else None
            if name is not None and UNNAMED in (run.answer or ""):
                return {}  # what was left out of it is not known, and an older result is not meant
            if name is not None:
                return {"last_result": run.answer, "last_result_name": name}
        return {}

    async def _result_name(self, run: Run) -> str | None:
        if run.trace_id is None:
            return "result"
        try:
            return (await self.traces.get(run.trace_id, run.trace_version)).answer.name
        except LookupError:
            return None

    def secret(self, name: str) -> str:
        """The mark of a secret for a replay; the value itself is put in by the tool's call alone.

        Raises:
            SettingsError: it is not allowed or not set. No divergence: learning would not mend it.
        """
        self.settings.secret(name)
        return mark(name)


def _real(path: Path) -> Path:
    """The path with links followed; `Path.resolve` asks once more whether they go round in circles."""
    return Path(os.path.realpath(path))
