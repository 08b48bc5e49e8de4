"""Running a child process so that nothing of it outlives the call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.errors import ToolError
from llmos.plugins.confined import Child, Confined
from llmos.plugins.context import ToolContext
from llmos.plugins.resources import counting
from llmos.settings import plain_environment

if TYPE_CHECKING:
    from llmos.plugins.builtin.reaping import Started, Watch

_SECRET = re.compile(
    r"(ANTHROPIC_|CLAUDE|AWS_|OPENAI_).*|.*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|COOKIE)(_.*)?", re.IGNORECASE
)
_GRACE_S = 0.5
_REAP_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Completed:
    """How a process ended; `status` is negative for a signal. `truncated`: output beyond the cap was dropped."""

    stdout: str
    stderr: str
    status: int
    timed_out: bool
    truncated: bool


class _Capture(asyncio.Protocol):
    """Keeps the first bytes that come through a pipe and reads on, so that the writer never blocks."""

    def __init__(self, max_bytes: int) -> None:
        self._kept = bytearray()
        self._room = max_bytes
        self.truncated = False
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._kept += data[: self._room]
        self.truncated = self.truncated or len(data) > self._room
        self._room -= min(len(data), self._room)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", errors="replace")


def clean_environment(ctx: ToolContext) -> dict[str, str]:
    """The variables a child may see: what the settings pass on, else the plain ones of this process; no secrets."""
    given: Mapping[str, str] = ctx.env or plain_environment()
    return {name: value for name, value in given.items() if not _SECRET.fullmatch(name)}


@contextlib.asynccontextmanager
async def confined(ctx: ToolContext, child: Child) -> AsyncIterator[Confined]:
    """What to run for a child of a tool: the child itself where the context has no sandbox.

    Raises:
        NotPermittedError: it can't be confined.
    """
    if ctx.sandbox is None:
        yield Confined(argv=tuple(child.argv))
        return
    asked = replace(child, run_id=ctx.run_id, hidden=(*child.hidden, *ctx.denied), sealed=(*child.sealed, *ctx.sealed))
    async with ctx.sandbox.confined(asked) as walls:
        yield walls


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes = b"",
    timeout_s: float,
    max_bytes: int,
    keeps: Sequence[int] = (),
) -> Completed:
    """Run a command in a process group of its own, which is killed at its end, the time-out, or a cancellation.

    `max_bytes` caps what is kept of stdout and of stderr; `keeps` are more descriptors for it, of walls that tell its
    peak of memory (`Confined.keeps`). What it used is counted for the process at work, however it ends.

    Raises:
        ToolError: the command can't be started.
    """
    out, err = _Capture(max_bytes), _Capture(max_bytes)
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.ExitStack() as ours:
            source = ours.enter_context(tempfile.TemporaryFile())
            source.write(stdin)
            source.seek(0)
            fds = [source.fileno(), *[await _pipe_to(capture, stack, ours) for capture in (out, err)]]
            process = _start(argv, cwd, env, fds, keeps)
        async with _watched(process, is_told=bool(keeps)) as watch:
            timed_out = await _finish(process, timeout_s, watch)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await out.ended.wait()
                await err.ended.wait()
    return Completed(
        stdout=out.text,
        stderr=err.text,
        status=-signal.SIGKILL if process.returncode is None else process.returncode,
        timed_out=timed_out,
        truncated=out.truncated or err.truncated,
    )


async def _pipe_to(capture: _Capture, stack: contextlib.AsyncExitStack, ours: contextlib.ExitStack) -> int:
    """A file descriptor whose writes reach `capture`.

    Own pipes instead of asyncio's: with those, waiting for the process also waits for every background process
    that inherited them.
    """
    reading, writing = os.pipe()
    ours.callback(os.close, writing)
    reader = os.fdopen(reading, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: capture, reader)
    stack.callback(transport.close)
    return writing


def _start(argv: Sequence[str], cwd: Path, env: Mapping[str, str], fds: Sequence[int], keeps: Sequence[int]) -> Started:
    from llmos.plugins.builtin.reaping import Started

    try:
        return Started(argv, cwd=cwd, env=env, fds=fds, keeps=keeps)
    except FileNotFoundError as error:
        if error.filename == str(cwd):
            raise ToolError(f"the folder {cwd} does not exist.") from None
        raise ToolError(f"the program {argv[0]!r} is not installed or not on the PATH.") from None
    except (OSError, ValueError) as error:
        raise ToolError(f"{argv[0]!r} can't be started: {error}.") from None


@contextlib.asynccontextmanager
async def _watched(process: Started, *, is_told: bool) -> AsyncIterator[Watch | None]:
    """Watch what a program uses and count it at its end; None where nobody counts."""
    from llmos.plugins.builtin.reaping import Watch

    resources = counting()
    if resources is None:
        yield None
        return
    watch = Watch(program=process, is_told=is_told)
    looking = asyncio.ensure_future(watch.looking())
    try:
        yield watch
    finally:
        looking.cancel()
        watch.tell(resources)


async def _finish(process: Started, timeout_s: float, watch: Watch | None) -> bool:
    """Wait for the end of a process and its group; True if it had to be stopped for its time."""
    try:
        async with asyncio.timeout(timeout_s):
            await process.wait()
        return False
    except TimeoutError:
        return True
    finally:
        if process.returncode is None:
            _look(watch)
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await process.wait()
            if process.returncode is None:
                _look(watch)
        _signal_group(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_REAP_S):
                await process.wait()


def _look(watch: Watch | None) -> None:
    if watch is not None:
        watch.look()


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
