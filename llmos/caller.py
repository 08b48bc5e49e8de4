"""Who asks: the environment, the folder and the streams that a command line came with.

In a process of its own those are the process's. The resident kernel serves many processes at once, so there each task
carries its own caller, and so does every task and thread that asyncio starts from it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO, cast

_STREAMS = ("stdin", "stdout", "stderr")
_OWN = re.compile(r"/dev/(?P<name>stdin|stdout|stderr)|/(?:dev|proc/self)/fd/(?P<number>\d{1,6})")
"""Paths that mean another file in each process."""


class Outlet(Protocol):
    """Writes to a caller's streams (`llmos.resident.outlet`)."""

    async def drained(self, descriptor: int) -> None: ...
    def close(self) -> None: ...


@dataclass(kw_only=True, eq=False)
class Caller:
    """The process behind a connection; `verbose` is how many `-v` it gave, `outlet` what its streams are written by."""

    environ: Mapping[str, str]
    cwd: Path
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    verbose: int = 0
    pid: int | None = None
    outlet: Outlet | None = None


_caller: ContextVar[Caller | None] = ContextVar("llmos_caller", default=None)


def current() -> Caller | None:
    """Who asks, as far as it is not this process itself."""
    return _caller.get()


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Work for a caller, for the length of a block."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def folder() -> Path:
    """The folder that relative paths are meant from."""
    caller = _caller.get()
    return Path.cwd() if caller is None else caller.cwd


def placed(path: Path) -> Path:
    """A path that the caller named, to open it by: relative ones and descriptors are meant as the caller has them."""
    caller = _caller.get()
    if caller is None:
        return path
    own = _OWN.fullmatch(str(path))
    if own is not None and caller.pid is not None:
        number = _STREAMS.index(own["name"]) if own["name"] else int(own["number"])
        return Path(f"/proc/{caller.pid}/fd/{number}")
    return caller.cwd / path


def stdin() -> TextIO | None:
    """The caller's standard input; None when it is closed."""
    return _stream("stdin")


def stdout() -> TextIO | None:
    """The caller's standard output; None when it is closed."""
    return _stream("stdout")


def stderr() -> TextIO | None:
    """The caller's standard error; None when it is closed."""
    return _stream("stderr")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is an open terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def columns(stream: TextIO | None) -> int | None:
    """Columns of the terminal that a stream leads to; None when it leads to none."""
    return os.get_terminal_size(stream.fileno()).columns or None if stream is not None and is_terminal(stream) else None


def _stream(name: str) -> TextIO | None:
    caller = _caller.get()
    return cast("TextIO | None", getattr(sys if caller is None else caller, name))


class _Forwarded:
    """A standard stream of a process with many callers: what libraries write to it reaches the one they work for."""

    def __init__(self, name: str, own: TextIO) -> None:
        self._name = name
        self._own = own

    def __getattr__(self, attribute: str) -> Any:
        caller = _caller.get()
        return getattr(self._own if caller is None else getattr(caller, self._name), attribute)


@contextmanager
def forwarding() -> Iterator[None]:
    """Let `sys.stdin`, `sys.stdout` and `sys.stderr` be those of the caller, for the length of a block."""
    before = {name: getattr(sys, name) for name in _STREAMS}
    for name, own in before.items():
        setattr(sys, name, _Forwarded(name, own))
    try:
        yield
    finally:
        for name, own in before.items():
            setattr(sys, name, own)
