"""Approving: a call that rules want asked about is put to whoever answers the questions of its run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from llmos.errors import LLMOSError
from llmos.interfaces.results import Confirm, Question, Reply
from llmos.interfaces.surroundings import Surroundings
from llmos.kernel.bus import EventBus
from llmos.kernel.permissions import Asked, Permissions
from llmos.kernel.replay import Follower
from llmos.kernel.taint import Taint
from llmos.plugins.registry import ToolRegistry
from llmos.trace.match import Match


@dataclass(frozen=True, kw_only=True)
class Approving:
    """Lets the permissions of calls ask the person who answers for a run."""

    permissions: Permissions
    taint: Taint
    registry: ToolRegistry
    surroundings: Surroundings

    async def rulings(self, found: Match) -> list[dict[str, Any]]:
        """What would be said to each call of a replay whose arguments are known before it begins; nothing is done."""
        follower = Follower(
            trace=found.trace,
            bindings=found.bindings,
            registry=self.registry,
            ctx=self.surroundings.context(""),
            bus=EventBus(),
            env=await self.surroundings.env(found.trace),
            secret=self.surroundings.secret,
        )
        with suppress(LLMOSError):  # what else stands in its way is not asked here
            follower.preflight()
        told = []
        for call in follower.foreseen:
            said, origin = self.permissions.said(call), call.ctx.origin
            step = origin.step_id if origin is not None else ""
            told.append(
                {"step": step, "tool": call.tool.name, "effect": str(call.effect), "verdict": str(said.answer)}
                | {"why": said.why, "line": said.line}
            )
        return told

    @contextmanager
    def asking(self, run_id: str, goal: str, confirm: Confirm | None) -> Iterator[None]:
        """Ask `confirm` about the calls of a run, for as long as the block lasts; None: nobody can be asked."""

        async def ask(asked: Asked) -> Reply:
            assert confirm is not None
            return await confirm(question(asked))

        with self.taint.run(run_id, goal), self.permissions.asking(run_id, ask if confirm is not None else None):
            yield


def question(asked: Asked) -> Question:
    """What a person is asked: the tool, its arguments and what the call may do."""
    after = f"After reading {asked.read}: allow" if asked.read else "Allow"
    return Question(
        needs_reading=bool(asked.read),
        text=f"{after} {asked.tool} (effect {asked.effect})?",
        trace_id=asked.trace_id or "",
        bindings={},
        effect=str(asked.effect),
        call={"tool": asked.tool, "arguments": asked.arguments, "effect": str(asked.effect), "why": asked.why},
    )
