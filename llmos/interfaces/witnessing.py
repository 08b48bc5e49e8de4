"""Witnessing: what is decided, approved, done and set goes into the audit log; an effect before it happens.

Charges, the ends of runs and the standing of traces are noted where they are stored (`llmos.memory.audit_notes`).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from llmos.kernel.bus import Agreed, Decided, EventBus, GoalAccepted, RunEnded
from llmos.kernel.journal import Journal
from llmos.memory.audit_chain import shortened
from llmos.memory.audit_entries import canonical
from llmos.memory.audit_log import AuditLog
from llmos.memory.audit_notes import Kind
from llmos.memory.database import clean
from llmos.memory.redacting import REDACTED, SECRET_NAME, without_secrets
from llmos.plugins.tool import ToolCall, ToolResult
from llmos.settings import Settings, effective_values

_SHOWN_ARGUMENT = 120
_SHOWN_ENTRIES = 8
_SHOWN_DEPTH = 3
_LONG = 16_384


@dataclass(frozen=True, kw_only=True)
class Witnessing:
    """Stands around every tool call (`llmos.plugins.tool.Middleware`) and listens to the bus."""

    log: AuditLog
    redact: Callable[[str], str]
    _goals: dict[str, str] = field(default_factory=dict)

    # --- decisions ---------------------------------------------------------------------------------
    # They are stored with the next row: an effect or a charge of the run, or its end. So none of these is without.

    def listen(self, bus: EventBus) -> None:
        """Record decisions and approvals as the bus tells them."""
        bus.subscribe(GoalAccepted, self._accepted)
        bus.subscribe(Decided, self._decided)
        bus.subscribe(Agreed, self._agreed)
        bus.subscribe(RunEnded, self._ended)

    def _accepted(self, event: GoalAccepted) -> None:
        self._goals[event.run_id] = event.goal

    def _ended(self, event: RunEnded) -> None:
        self._goals.pop(event.run_id, None)

    def _decided(self, event: Decided) -> None:
        said = {"decision": event.decision, "trace": event.trace, "reason": event.reason}
        self.log.later(Kind.DECISION, {**said, "goal": self._goals.get(event.run_id)}, run_id=event.run_id)

    def _agreed(self, event: Agreed) -> None:
        said = {"trace": event.trace, "right": event.agreed, "by": event.by, "asked": event.question}
        self.log.later(Kind.APPROVAL, said, run_id=event.run_id)

    # --- effects -----------------------------------------------------------------------------------

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult:
        """Make a call that may change something only once that is on record; what came of it is stored after it."""
        if not call.effect.changes_world:
            return await proceed()
        about = {"call": uuid.uuid4().hex[:12], "tool": call.tool.name, "effect": str(call.effect)}
        await self._begun(call, {"state": "begun", **about, **self._arguments(call)})
        state, said = "broken off", ""
        try:
            result = await proceed()
            state, said = ("failed", result.text) if result.is_error else ("done", "")
            return result
        except (Exception, asyncio.CancelledError) as error:
            state, said = ("broken off" if isinstance(error, asyncio.CancelledError) else "refused"), str(error)
            raise
        finally:
            self.log.later(Kind.EFFECT, {"state": state, **about, "said": said}, run_id=call.ctx.run_id)

    async def _begun(self, call: ToolCall, said: dict[str, Any]) -> None:
        """Have it on record before the call is made: with the journal's intent, else in a transaction of its own.

        What stands between here and the journal may take long, such as a person who is asked, but changes nothing.
        """
        if any(isinstance(one, Journal) for one in call.ctx.middleware):
            self.log.later(Kind.EFFECT, said, run_id=call.ctx.run_id)
        else:
            await self.log.append(Kind.EFFECT, said, run_id=call.ctx.run_id)

    def _arguments(self, call: ToolCall) -> dict[str, Any]:
        """Arguments as they are recorded: short and without secrets, and a hash of all of them without secrets."""
        hashed = without_secrets(dict(call.arguments), self._hashed)
        digest = sha256(canonical(hashed).encode()).hexdigest()
        return {"arguments": self._short(dict(call.arguments)), "arguments_sha256": digest}

    def _hashed(self, text: str) -> str:
        """A text as it is hashed: a long one counts by its own hash, which tells nobody what is in it."""
        return self.redact(text) if len(text) <= _LONG else sha256(clean(text).encode()).hexdigest()

    def _short(self, value: Any, depth: int = 0) -> Any:
        """Data small enough to be shown, without secrets."""
        if isinstance(value, str):
            return shortened(value, self.redact, _SHOWN_ARGUMENT)
        if isinstance(value, dict | list) and value and depth == _SHOWN_DEPTH:
            return f"… ({len(value)})"
        if isinstance(value, dict):
            kept = {name: self._entry(name, inner, depth) for name, inner in list(value.items())[:_SHOWN_ENTRIES]}
            return kept if len(kept) == len(value) else {**kept, "…": f"({len(value)})"}
        if isinstance(value, list):
            items = [self._short(inner, depth + 1) for inner in value[:_SHOWN_ENTRIES]]
            return items if len(items) == len(value) else [*items, f"… ({len(value)})"]
        return without_secrets(value, self.redact)

    def _entry(self, name: str, value: Any, depth: int) -> Any:
        return REDACTED if value and SECRET_NAME.search(name) else self._short(value, depth + 1)

    # --- settings ----------------------------------------------------------------------------------

    async def record_settings(self, settings: Settings) -> None:
        """Record the effective settings if they are not those of the last time."""
        values = without_secrets_of(effective_values(settings), self.redact)
        fingerprint = sha256(canonical(values).encode()).hexdigest()
        last = await self.log.last(Kind.SETTING)
        before = last if isinstance(last, dict) else {}
        if before.get("fingerprint") == fingerprint:
            return
        changed = changes(before.get("values"), values)
        await self.log.append(Kind.SETTING, {"fingerprint": fingerprint, "changed": changed, "values": values})


def without_secrets_of(values: Mapping[str, Any], redact: Callable[[str], str]) -> dict[str, Any]:
    """Settings without what looks like a secret in them; their names are ours and stay."""
    return {
        name: redact(value)
        if isinstance(value, str)
        else [redact(one) for one in value]
        if isinstance(value, list)
        else value
        for name, value in values.items()
    }


def changes(before: Any, now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Each setting that is not as it was, with its value before and now; nothing where none are known."""
    if not isinstance(before, dict):
        return {}
    names = sorted({*before, *now})
    return {name: [before.get(name), now.get(name)] for name in names if before.get(name) != now.get(name)}
