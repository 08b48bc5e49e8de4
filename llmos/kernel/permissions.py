"""Permissions: the one place where a tool call is allowed, asked about or refused, learner's and follower's alike."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from llmos.errors import CallRefusedError
from llmos.kernel.places import Host, Place, host_of, resource_of
from llmos.kernel.process import Kind as ProcessKind
from llmos.kernel.process import current
from llmos.kernel.rules import Answer, Policy, Said, intersection, line_for
from llmos.plugins.context import TraceStep
from llmos.plugins.tool import ToolCall, ToolResult
from llmos.plugins.touching import Kind, Touch, touches
from llmos.settings import RuleSettings, Settings
from llmos.trace.program import Effect

log = logging.getLogger(__name__)

Reply: TypeAlias = bool | Literal["always"] | None
"""Yes (once), always, no, or None where there is nobody to ask."""

_MAX_SHOWN = 2_000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call that somebody must approve: what is shown, and why it is asked about.

    `read` is what a run has read before that somebody else may have written, where that is why.
    """

    tool: str
    arguments: dict[str, Any]
    effect: Effect
    why: str
    line: str
    trace_id: str | None
    read: str = ""


def policies_of_classes(settings: Settings) -> dict[ProcessKind, Policy]:
    """The policies of those classes of processes that have roles of their own."""
    return {
        kind: Policy.of(settings.permissions.with_roles(settings.classes[kind].roles), settings.workspace)
        for kind in ProcessKind
        if settings.classes[kind].roles
    }


Ask: TypeAlias = Callable[[Asked], Awaitable[Reply]]


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What is remembered: a call (`digest` of tool, version and bound arguments), or a step of a trace with any slots.

    It holds for calls no worse than `effect`.
    """

    digest: str
    tool: str
    effect: Effect
    shown: str
    trace_id: str | None = None
    step_id: str | None = None


class ApprovalStore(Protocol):
    """Where approvals are remembered (`llmos.memory.approvals`)."""

    async def approved(self, digests: tuple[str, ...], effect: Effect) -> bool: ...
    async def remember(self, approval: Approval) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Why a call may not be what the user wants: what the run has `read`, and what it `wants` now, to what."""

    read: str
    wants: str
    resource: Place | Host | None = None

    @property
    def why(self) -> str:
        return f"after reading {self.read} this run wants to {self.wants}"


class Doubts(Protocol):
    """Tells calls that may come from what a run has read (`llmos.kernel.taint`)."""

    async def doubt(self, call: ToolCall, resources: Sequence[Place | Host], /) -> Doubt | None: ...


@dataclass(frozen=True, kw_only=True)
class _UnderWay:
    """The call that is being made, and the paths it was allowed to touch."""

    tool: str
    granted: tuple[tuple[Path, bool], ...]


_under_way: ContextVar[_UnderWay | None] = ContextVar("llmos_call_under_way", default=None)


@dataclass(kw_only=True)
class Permissions:
    """Middleware: holds each call against the policy, and asks the person of its run where the policy says so.

    One approval holds for its digest until the run ends. It is also the gate of its contexts. Classes of processes that
    have roles of their own have a policy `by_kind`. The profile of an agent, whose paths count from the `workspace`,
    takes more away.
    """

    usual: Policy
    by_kind: Mapping[ProcessKind, Policy] = field(default_factory=dict)
    approvals: ApprovalStore | None = None
    doubts: Doubts | None = None
    workspace: Path | None = None
    _asks: dict[str, Ask] = field(default_factory=dict)
    _granted: dict[str, set[str]] = field(default_factory=dict)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _met: dict[tuple[ProcessKind, ...], Policy] = field(default_factory=dict)
    _narrowed: dict[tuple[int, tuple[RuleSettings, ...]], Policy] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """The policy for whoever asks: that of its class, and what its agent's profile leaves of it."""
        process, policy = current(), self._of_class()
        if process is None or process.agent is None or not process.agent.rules:
            return policy
        key = (id(policy), process.agent.rules)
        if key not in self._narrowed:
            self._narrowed[key] = policy.narrowed(process.agent.rules, self.workspace or Path.cwd())
        return self._narrowed[key]

    def _of_class(self) -> Policy:
        """The policy of a process's class; a child may do nothing that those above it may not."""
        process = current()
        if process is None or not self.by_kind:
            return self.usual
        own = self.by_kind.get(process.kind, self.usual)
        if not process.above:
            return own
        kinds = (*process.above, process.kind)
        if kinds not in self._met:
            policies = dict.fromkeys(map(id, (self.by_kind.get(kind, self.usual) for kind in kinds)))
            met = [one for one in (*self.by_kind.values(), self.usual) if id(one) in policies]
            self._met[kinds] = reduce(intersection, met)
        return self._met[kinds]

    @contextmanager
    def asking(self, run_id: str, ask: Ask | None) -> Iterator[None]:
        """Who is asked about a run's calls, for as long as the block lasts; None: nobody."""
        if ask is not None:
            self._asks[run_id] = ask
        try:
            yield
        finally:
            self._asks.pop(run_id, None)
            self._granted.pop(run_id, None)

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult:
        granted = await self._permit(call)
        token = _under_way.set(_UnderWay(tool=call.tool.name, granted=granted))
        try:
            return await proceed()
        finally:
            _under_way.reset(token)

    async def foresee(self, call: ToolCall, /) -> None:
        """Judge a call before its turn.

        Raises:
            CallRefusedError: it is denied, or was not approved.
        """
        await self._permit(call)

    def said(self, call: ToolCall) -> Said:
        """What the policy says of a call; nobody is asked."""
        return self._judged(call)[0]

    def opens(self, path: Path, *, write: bool) -> bool | None:
        """Whether rules, or the call's own permission, open or close a path to the call under way."""
        call = _under_way.get()
        effect = Effect.WRITE if write else Effect.READ
        place = Place(path=path, inside=_is_inside(self.policy, path), effect=effect)
        said = self.policy.explicit(call.tool if call is not None else None, place)
        if said is Answer.DENY:
            return False
        if call is not None and any(
            (writable or not write) and (path == there or there in path.parents) for there, writable in call.granted
        ):
            return True
        return None if said is None else said is Answer.ALLOW

    def reaches(self, url: str) -> bool:
        """Whether the call under way may read from a URL that it was redirected to; nobody is asked in its midst."""
        call = _under_way.get()
        host = host_of(Touch(kind=Kind.HOST, value=url, effect=Effect.READ))
        return self.policy.judge(call.tool if call is not None else "", Effect.READ, [host]).answer is Answer.ALLOW

    def closed(self, tool: str) -> tuple[str, ...]:
        """Regular expressions of the paths that a tool which opens files by itself must leave alone."""
        return self.policy.closed(tool)

    # --- one call --------------------------------------------------------------------------------------

    def _judged(self, call: ToolCall) -> tuple[Said, list[Place | Host]]:
        process = current()
        if process is not None and process.agent is not None and not process.agent.has(call.tool.name):
            why = f"the profile of the agent {process.agent.name} does not list this tool"
            return Said(answer=Answer.DENY, why=why), []
        try:
            touched = touches(call.tool, call.ctx, call.arguments, call.effect)
        except Exception:  # a plugin's code
            log.warning("what %s touches is not known", call.tool.name, exc_info=True, extra={"action": "touches"})
            return self.policy.judge(call.tool.name, Effect.UNKNOWN, ()), []
        resources = [resource_of(touch, call.ctx.workspace) for touch in touched]
        for resource in resources:
            if isinstance(resource, Place) and (closed := _closed(call, resource)) is not None:
                return Said(answer=Answer.DENY, why=f"{closed} belongs to LLM OS itself"), resources
        return self.policy.judge(call.tool.name, call.effect, resources), resources

    async def _permit(self, call: ToolCall) -> tuple[tuple[Path, bool], ...]:
        """The paths a call may touch, once it is allowed or approved."""
        said, resources = self._judged(call)
        if said.answer is Answer.DENY:
            raise _refusal(call, said)
        doubt = await self.doubts.doubt(call, resources) if self.doubts is not None else None
        if doubt is not None and not self._covers(call, doubt, said, resources):
            async with self._alone(call):
                await self._ask_doubting(call, said, doubt)
        elif said.answer is Answer.ASK and not await self._approved(call):
            async with self._alone(call):
                if not await self._approved(call):
                    await self._ask(call, said)
        places = (one for one in resources if isinstance(one, Place) and one.path is not None)
        return tuple((place.path, place.effect.changes_world) for place in places if place.path is not None)

    def _alone(self, call: ToolCall) -> AbstractAsyncContextManager[Any]:
        """One question at a time; where there is nobody to ask, nobody waits for somebody else's answer."""
        return self._asking if call.ctx.run_id in self._asks else nullcontext()

    def _covers(self, call: ToolCall, doubt: Doubt, said: Said, resources: Sequence[Place | Host]) -> bool:
        """Whether rules allow the call to a run that has read what somebody else wrote."""
        if said.answer is not Answer.ALLOW:
            return False
        asked = [doubt.resource] if doubt.resource is not None else resources
        return self.policy.judge(call.tool.name, call.effect, asked).tainted

    async def _ask_doubting(self, call: ToolCall, said: Said, doubt: Doubt) -> None:
        """Ask about a call that may come from what its run has read; no earlier approval counts, and none is kept."""
        key, granted = f"tainted {_digests(call)[0]}", self._granted.setdefault(call.ctx.run_id, set())
        if key in granted:
            return
        effect = doubt.resource.effect if doubt.resource is not None else call.effect
        line = line_for(call.tool.name, effect, doubt.resource)
        asked = replace(_asked(call, replace(said, why=doubt.why, line=line)), read=doubt.read)
        ask = self._asks.get(call.ctx.run_id)
        reply = await ask(asked) if ask is not None else None
        if not reply:
            raise _doubted(call, doubt, line, refused=reply is False)
        granted.add(key)

    async def _approved(self, call: ToolCall) -> bool:
        digests = _digests(call)
        if digests[0] in self._granted.get(call.ctx.run_id, ()):
            return True
        return self.approvals is not None and await self.approvals.approved(digests, call.effect)

    async def _ask(self, call: ToolCall, said: Said) -> None:
        ask = self._asks.get(call.ctx.run_id)
        reply = await ask(_asked(call, said)) if ask is not None else None
        if not reply:
            raise _refusal(call, said, refused=reply is False)
        self._granted.setdefault(call.ctx.run_id, set()).add(_digests(call)[0])
        if reply == "always" and self.approvals is not None:
            await self.approvals.remember(_remembered(call))


def _asked(call: ToolCall, said: Said) -> Asked:
    origin = call.ctx.origin
    return Asked(
        tool=call.tool.name,
        arguments=shown_arguments(call),
        effect=call.effect,
        why=said.why,
        line=said.line,
        trace_id=origin.trace_id if origin is not None else None,
    )


def _is_inside(policy: Policy, path: Path) -> bool:
    workspace = next((rule.workspace for layer in policy.layers for rule in layer), None)
    return workspace is not None and (path == workspace or workspace in path.parents)


def _closed(call: ToolCall, place: Place) -> Path | None:
    """The place of LLM OS's own that a path lies in, if what is done there is closed to tools."""
    if place.path is None:
        return None
    closed = (*call.ctx.denied, *(call.ctx.sealed if place.effect.changes_world else ()))
    return next((one for one in closed if place.path == one or one in place.path.parents), None)


def _refusal(call: ToolCall, said: Said, *, refused: bool = False) -> CallRefusedError:
    what = f"{call.tool.name} with {_text(shown_arguments(call), 300)} (effect {call.effect})"
    if refused:
        return CallRefusedError(f"{what} was not approved")
    if said.answer is Answer.DENY:
        hint = f"; this line under `permissions: rules:` in llmos.yaml would allow it: {said.line}" if said.line else ""
        return CallRefusedError(f"{what} is not permitted ({said.why}){hint}", line=said.line)
    line = f" or add this line under `permissions: rules:` in llmos.yaml: {said.line}" if said.line else ""
    return CallRefusedError(
        f"{what} needs an approval nobody could give ({said.why}); run it at a terminal, give --yes,{line}",
        line=said.line,
    )


def _doubted(call: ToolCall, doubt: Doubt, line: str, *, refused: bool) -> CallRefusedError:
    what = f"{call.tool.name} with {_text(shown_arguments(call), 300)} (effect {call.effect})"
    if refused:
        return CallRefusedError(f"{what} was not approved: {doubt.why}")
    hint = f", or add this line under `permissions: rules:` in llmos.yaml: {line}" if line else ""
    return CallRefusedError(
        f"{doubt.why}, which needs an approval nobody could give: {what}; run it at a terminal (--yes does not give "
        f"it){hint}",
        line=line,
    )


def shown_arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments as people may see them: without secrets."""
    hidden = call.ctx.origin.hidden if call.ctx.origin is not None else frozenset()
    return {name: "(a secret)" if name in hidden else value for name, value in call.arguments.items()}


def _text(arguments: Mapping[str, Any], limit: int) -> str:
    text = json.dumps(arguments, ensure_ascii=False, default=str)
    return text if len(text) <= limit else f"{text[:limit]}…"


# --- what an approval is bound to --------------------------------------------------------------------


def digest(tool: str, version: str, arguments: Mapping[str, Any]) -> str:
    """SHA-256 of a call: tool, version and bound arguments as canonical JSON (sorted keys, no blanks, UTF-8)."""
    return _sha256({"tool": tool, "version": version, "arguments": arguments})


def step_digest(tool: str, version: str, origin: TraceStep) -> str:
    """SHA-256 of a step of a trace, its slots unfilled."""
    return _sha256({"tool": tool, "version": version, "trace": origin.trace_id, "pattern": origin.pattern})


def _sha256(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _digests(call: ToolCall) -> tuple[str, ...]:
    tool, origin = call.tool, call.ctx.origin
    own = digest(tool.name, tool.version, call.arguments)
    return (own,) if origin is None else (own, step_digest(tool.name, tool.version, origin))


def _remembered(call: ToolCall) -> Approval:
    """Always: for the step of the trace that is replayed, else for exactly this call."""
    origin = call.ctx.origin
    return Approval(
        digest=_digests(call)[-1],
        tool=call.tool.name,
        effect=call.effect,
        shown=origin.pattern[:_MAX_SHOWN] if origin is not None else _text(shown_arguments(call), _MAX_SHOWN),
        trace_id=origin.trace_id if origin is not None else None,
        step_id=origin.step_id if origin is not None else None,
    )
