"""What stands around a tool's call: the context it runs in, and what this one asks, confines and records it by."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from llmos.errors import InputError, NotPermittedError
from llmos.plugins.confined import Sandbox

if TYPE_CHECKING:
    from llmos.plugins.tool import ToolCall, ToolResult


class FactStore(Protocol):
    """The semantic memory a tool may use (`llmos.memory.store`)."""

    async def remember(self, key: str, value: Any) -> None: ...
    async def recall(self, query: str, *, limit: int = 5) -> list[dict[str, Any]]: ...


class Middleware(Protocol):
    """What stands around every tool call: it may refuse the call, record it, or answer in its place.

    `proceed` makes the call and never raises for a failure of the tool: that is a result with `is_error`.

    Raises:
        LLMOSError: the call is not made; the learner sees the sentence as an error of the tool.
    """

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult: ...


@runtime_checkable
class Foresees(Protocol):
    """Middleware that can judge a call before its turn, so that a replay is refused before its first effect."""

    async def foresee(self, call: ToolCall, /) -> None:
        """Judge a call that will be made.

        Raises:
            LLMOSError: it will be refused.
        """


class Gate(Protocol):
    """Rules about paths and hosts, asked while a tool works."""

    def opens(self, path: Path, *, write: bool) -> bool | None:
        """Whether a resolved path is open (True) or closed (False) to the call under way; None: no rule says."""

    def reaches(self, url: str) -> bool:
        """Whether the call under way may read from a URL that it was redirected to."""

    def closed(self, tool: str) -> tuple[str, ...]:
        """Regular expressions of the paths (from the root) that a tool which opens files by itself must leave alone."""


@dataclass(frozen=True, kw_only=True)
class TraceStep:
    """The step of a trace that a call comes from; `pattern` are its arguments as the trace has them, slots unfilled.

    `hidden` are arguments that hold a secret.
    """

    trace_id: str
    step_id: str
    pattern: str
    hidden: frozenset[str] = frozenset()


class Secrets(Protocol):
    """Puts secrets into a call and takes them out of what it gives; everything around the call sees marks only."""

    def revealed(self, value: Any, /) -> Any: ...
    def hidden(self, value: Any, /) -> Any: ...


class Thinker(Protocol):
    """One metered, bounded model call; returns the text and charges the ledger."""

    async def __call__(self, prompt: str, *, max_tokens: int, model: str | None) -> str: ...


OS_TOOLS = frozenset({"spawn_process", "wait_for", "send_message", "receive_message", "share_memory"})
"""The tools that are there for processes alone; what they do can't be done in a copy, or again."""


class OsCalls(Protocol):
    """What a tool may ask of the kernel for the process that it works for (`llmos.interfaces.os_calls`).

    `key` tells a call from others of its run: one that is made again, because its result was lost, has the same.

    Raises:
        LLMOSError: it is refused, or nobody is meant.
    """

    def stays_in_family(self, to: str) -> bool: ...
    async def spawn(
        self,
        goal: str,
        *,
        budget_usd: float | None,
        kind: str,
        priority: int | None,
        group: str,
        blocks: Mapping[str, str],
        wait: bool,
    ) -> dict[str, Any]: ...
    async def mounted(self) -> str: ...
    async def wait_for(self, pids: list[int]) -> list[dict[str, Any]]: ...
    async def send(
        self,
        to: str,
        text: str,
        *,
        kind: str,
        priority: int | None,
        requires_ack: bool,
        ttl_s: float | None,
        reply_to: str,
        key: str,
    ) -> dict[str, Any]: ...
    async def receive(self, *, timeout_s: float, key: str) -> dict[str, Any]: ...
    async def read_shared(self, name: str) -> dict[str, Any]: ...
    async def write_shared(self, name: str, value: Any, *, expected: int | None) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a running tool may touch: the workspace it is confined to and the services of the process.

    `denied` are places inside the workspace that stay closed (the home's own memory), `sealed` those that may be
    read but not written (settings and plugins: what runs goals is not changed by them). `middleware` stands
    around every call, the first outermost; `step` is the number of the call in its run, from 0, where that is known.
    `sandbox` confines child processes; None: the caller takes them as they are. `gate` knows the rules about paths,
    `origin` which step is replayed. With `secrets`, arguments hold marks until the call itself.
    """

    workspace: Path
    run_id: str = ""
    facts: FactStore | None = None
    think: Thinker | None = None
    os: OsCalls | None = None
    denied: tuple[Path, ...] = ()
    sealed: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    middleware: tuple[Middleware, ...] = ()
    step: int | None = None
    sandbox: Sandbox | None = None
    gate: Gate | None = None
    origin: TraceStep | None = None
    secrets: Secrets | None = None

    def revealed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments with secrets in the place of their marks.

        Raises:
            LLMOSError: a mark names a secret that is not allowed, or not set.
        """
        return dict(arguments) if self.secrets is None else dict(self.secrets.revealed(dict(arguments)))

    def hidden(self, value: Any) -> Any:
        """What a tool gave, with marks in the place of secrets."""
        return value if self.secrets is None else self.secrets.hidden(value)

    def resolve(self, path: str, *, write: bool = False) -> Path:
        """An absolute path inside the workspace (relative ones count from it), to be read or, with `write`, changed.

        Raises:
            NotPermittedError: outside the workspace, symlinks followed, or in a place closed to this use.
            InputError: it can't be a path at all.
        """
        root = self.workspace.resolve()
        try:
            at_home = path == "~" or path.startswith("~/")  # `~name` is a file name as good as any
            named = root / (Path(path).expanduser() if at_home else path)
            resolved = named if _is_too_long(named) else named.resolve()
            if _is_too_long(resolved):
                raise ValueError("it is too long")
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{path[:200]!r} can't be used as a path: {error}.") from None
        said = self.gate.opens(resolved, write=write) if self.gate is not None else None
        if said is False:
            raise NotPermittedError(f"{path!r} is closed by a rule of llmos.yaml; `permissions show` lists them.")
        if not said and resolved != root and root not in resolved.parents:
            raise NotPermittedError(
                f"{path!r} is outside the workspace {root}; run with --workspace DIR to work elsewhere."
            )
        for closed in (*self.denied, *(self.sealed if write else ())):
            if resolved == closed or closed in resolved.parents:
                raise NotPermittedError(f"{path!r} is in {closed}, which belongs to LLM OS itself; use another folder.")
        return resolved

    def is_open(self, path: Path) -> bool:
        """Whether something found below a folder may be read."""
        return path not in self.denied and (self.gate is None or self.gate.opens(path, write=False) is not False)

    def relative(self, path: Path) -> str:
        """A path as the user would write it: relative to the workspace where possible, with slashes."""
        root = self.workspace.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _is_too_long(path: Path) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False
