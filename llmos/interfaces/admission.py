"""Admission: a finished run becomes a stored trace, or is told why it does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmos.memory.traces import TraceStore
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool
from llmos.trace.codec import validate
from llmos.trace.induce import NotATrace, ToolFacts, induce
from llmos.trace.program import Trace
from llmos.trace.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Induces traces from runs and stores them; `constants` gives the values of `env.*` that runs may hold."""

    registry: ToolRegistry
    traces: TraceStore
    constants: Callable[[], Mapping[str, str]]

    async def admit(self, run: Run) -> Trace | NotATrace:
        """The trace of a finished run as it was stored, or why there is none."""
        trace = await self._induced(run)
        return trace if isinstance(trace, NotATrace) else await self.traces.add(trace)

    async def _induced(self, run: Run) -> Trace | NotATrace:
        """The run's trace; what breaks induction only means that nothing is learned from this run."""
        facts = {tool.name: tool_facts(tool) for tool in self.registry}
        try:
            trace = await asyncio.to_thread(induce, run, facts, self.constants())
            if isinstance(trace, Trace):
                validate(trace)
        except Exception as error:
            log.exception("induction broke", extra={"action": "induction_broke", "run_id": run.id})
            return NotATrace(reason=f"induction broke on it ({type(error).__name__}: {error})")
        return trace


def tool_facts(tool: Tool) -> ToolFacts:
    """What induction must know of a registered tool."""
    properties: Mapping[str, Any] = tool.schema.get("properties", {})
    enums = {name: tuple(map(str, schema["enum"])) for name, schema in properties.items() if schema.get("enum")}
    return ToolFacts(
        name=tool.name,
        effect=tool.effect,
        version=tool.version,
        code_params=frozenset(tool.code_params),
        payload_params=frozenset(tool.payload_params),
        enums=enums,
    )
