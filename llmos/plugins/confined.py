"""How a tool has a child process confined: what it asks for, and what it gets to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Child:
    """A child process that a tool wants to run.

    `tool` is whom the settings name (a tool, or an MCP server); `write` and `read` are what it may see beside programs
    and libraries, `hidden` and `sealed` what of that stays closed, or closed to changes. `network`: None asks the
    settings. A `lasting` child has no limit of processor time, `home` is the user's own folder.
    """

    tool: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    run_id: str = ""
    write: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    sealed: tuple[Path, ...] = ()
    network: bool | None = None
    lasting: bool = False


def _nothing(status: int, stderr: str) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Confined:
    """What to run instead. `explain(status, stderr)` says which wall a failure may have met; '': none it knows.

    The child must be given the descriptors that it `keeps`: through them the walls tell its peak of memory.
    """

    argv: tuple[str, ...]
    wall_s: float | None = None
    explain: Callable[[int, str], str] = _nothing
    keeps: tuple[int, ...] = ()


class Sandbox(Protocol):
    """Confines children (`llmos.kernel.sandbox.sandbox`)."""

    def confined(self, child: Child) -> AbstractAsyncContextManager[Confined]:
        """What to run for a child, for as long as the block lasts.

        Raises:
            NotPermittedError: it can't be confined here, and the settings don't say `sandbox: none`.
        """
        ...


class DeferredSandbox:
    """A sandbox that is made when the first child needs it, so that who starts none does not even import it."""

    def __init__(self, make: Callable[[], Sandbox]) -> None:
        self._make = make

    def confined(self, child: Child) -> AbstractAsyncContextManager[Confined]:
        return self._make().confined(child)
