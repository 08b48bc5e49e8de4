"""Replays on several cores: processes that carry out traces which only look and compute, and remember nothing.

A worker has the tools, the permissions and the sandbox of the settings, and no memory. Whatever it can't do it leaves
to the process that asked, which does it in its own way: so a worker never refuses, stores or changes anything. It works
for the process of the goal: by the rules of its class, and what its tools use is counted for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copyreg
import logging
import os
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import BrokenExecutor
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from llmos.events import Event, ToolCalled, ToolReturned

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    from llmos.kernel.bus import EventBus
    from llmos.kernel.process import Process
    from llmos.kernel.replay import Replay
    from llmos.plugins.resources import Resources
    from llmos.settings import Settings
    from llmos.trace.match import Match
    from llmos.trace.program import Trace

log = logging.getLogger(__name__)

WORTH_S = 0.004
"""What takes no longer here than this is not sent anywhere: the way there and back costs about a millisecond."""


def _proxy(values: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(values)


def _plain(values: MappingProxyType[Any, Any]) -> tuple[Any, tuple[dict[Any, Any]]]:
    return _proxy, (dict(values),)


copyreg.pickle(MappingProxyType, _plain)  # settings hold their tables so


@dataclass(kw_only=True, eq=False)
class Crew:
    """Workers for one set of settings, there while somebody has `working` open; `bus` is told what they call."""

    settings: Settings
    bus: EventBus
    _pool: ProcessPoolExecutor | None = None
    _users: int = 0
    _is_ready: bool = False
    _took_s: dict[str, float] = field(default_factory=dict)

    @asynccontextmanager
    async def working(self, count: int) -> AsyncIterator[None]:
        """Have workers for the length of a block, one a core at most; fewer than two are none."""
        count = min(count, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        self._users += 1
        if self._pool is None and count > 1:
            Context().run(self._start, count)  # nobody's: what is started must not hold on to a caller's streams
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                await self._end()

    def _start(self, count: int) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(self.settings,))
        for one in [self._pool.submit(_is_there) for _ in range(count)]:
            one.add_done_callback(lambda done: self._note_ready(done.cancelled() or done.exception() is not None))

    def _note_ready(self, failed: bool) -> None:
        self._is_ready = not failed

    async def _end(self) -> None:
        pool, self._pool, self._is_ready = self._pool, None, False
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

    def took(self, trace: Trace, seconds: float) -> None:
        """Note how long a replay took in this process."""
        known = self._took_s.get(trace.label, seconds)
        self._took_s[trace.label] = 0.7 * known + 0.3 * seconds

    def wants(self, trace: Trace) -> bool:
        """Whether there are workers, and a replay of the trace takes so long that it is worth the way."""
        return self._pool is not None and self._is_ready and self._took_s.get(trace.label, 0.0) >= WORTH_S

    async def replay(self, found: Match, run_id: str, env: Mapping[str, Any]) -> Replay | None:
        """Have a trace replayed that changes nothing; None where this process has to do it itself."""
        pool = self._pool
        if pool is None:
            return None
        from llmos.kernel.process import current

        process = current()
        whose = None if process is None else _Whose.of(process)
        try:
            done = pool.submit(_replay, found.trace, dict(found.bindings), run_id, dict(env), whose)
            told = await asyncio.wrap_future(done)
        except (BrokenExecutor, RuntimeError) as error:
            log.info("the workers are gone: %s", error, extra={"action": "crew_broken"})
            self._is_ready = False
            return None
        replay, events, used = told
        if process is not None:
            process.resources.include(used)
        if replay is None:
            return None
        for event in events:
            self.bus.publish(event)
        return replay


@dataclass(frozen=True, kw_only=True)
class _Whose:
    """The process that a worker works for, as far as it decides on what is permitted."""

    pid: int
    kind: str
    above: tuple[str, ...]

    @classmethod
    def of(cls, process: Process) -> _Whose:
        return cls(pid=process.pid, kind=str(process.kind), above=tuple(map(str, process.above)))

    def process(self, goal: str) -> Process:
        from llmos.kernel.process import Kind, Process

        kind, above = Kind(self.kind), tuple(map(Kind, self.above))
        return Process(pid=self.pid, goal=goal, kind=kind, above=above, created_at=datetime.now(UTC))


# ------------------------------------------------------------------------------------------------- in the workers


class _Nowhere:
    """Stands for a memory: nothing is known there, and nothing can be stored."""

    async def approved(self, digests: tuple[str, ...], effect: Any) -> bool:
        return False

    async def is_own(self, workspace: str, path: str, sha256: str) -> bool:
        return False

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(f"a worker has no memory to ask ({name})")


class _Worker:
    """What a worker process has ready."""

    def __init__(self, settings: Settings) -> None:
        from llmos.interfaces.surroundings import Surroundings
        from llmos.kernel.bus import EventBus
        from llmos.kernel.permissions import Permissions, policies_of_classes
        from llmos.kernel.rules import Policy
        from llmos.kernel.sandbox.sandbox import Sandbox
        from llmos.kernel.taint import Taint
        from llmos.plugins.confined import DeferredSandbox
        from llmos.plugins.loader import PluginLoader
        from llmos.plugins.registry import ToolRegistry

        nowhere: Any = _Nowhere()
        self.loop = asyncio.new_event_loop()
        self.bus = EventBus()
        self.events: list[Event] = []
        for kind in (ToolCalled, ToolReturned):
            self.bus.subscribe(kind, self.events.append)
        self.registry = ToolRegistry()
        self.plugins = PluginLoader(self.registry, EventBus(), settings.plugin_dirs)
        self.plugins.load()
        policy = Policy.of(settings.permissions.effective, settings.workspace)
        taint = Taint(log=nowhere)
        stricter = policies_of_classes(settings)
        permissions = Permissions(usual=policy, by_kind=stricter, approvals=nowhere, doubts=taint)
        redactor = settings.redactor
        sandbox = DeferredSandbox(lambda: Sandbox.of(settings, self.bus))
        self.surroundings = Surroundings(
            settings=settings,
            facts=nowhere,
            runs=nowhere,
            traces=nowhere,
            economy=nowhere,
            models=nowhere,
            redactor=redactor,
            now=nowhere,
            middleware=(permissions, taint),
            sandbox=sandbox,
            gate=None if policy.is_empty and not stricter else permissions,
        )

    async def replay(self, trace: Trace, bindings: dict[str, Any], run_id: str, env: dict[str, Any]) -> Replay:
        from llmos.kernel.replay import Follower

        self.plugins.rescan()
        follower = Follower(
            trace=trace,
            bindings=bindings,
            registry=self.registry,
            ctx=self.surroundings.context(run_id),
            bus=self.bus,
            env=env,
            secret=self.surroundings.secret,
        )
        return await follower.run()


_worker: _Worker | None = None


def _begin(settings: Settings) -> None:
    """Get ready, and end with the process that wants the work, however that ends."""
    global _worker
    from multiprocessing import parent_process

    parent = parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(0)

    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    logging.disable(logging.CRITICAL)  # what is wrong is told by the process that does it then
    _worker = _Worker(settings)


def _is_there() -> bool:
    return _worker is not None


def _replay(
    trace: Trace, bindings: dict[str, Any], run_id: str, env: dict[str, Any], whose: _Whose | None
) -> tuple[Replay | None, list[Event], Resources]:
    """The replay, or None where it can't be done here, with the events it published and what its tools used."""
    from llmos.kernel.process import at_work_for
    from llmos.plugins.resources import Resources

    worker = _worker
    assert worker is not None
    worker.events.clear()
    process, replay = None if whose is None else whose.process(trace.label), None
    with contextlib.suppress(Exception), contextlib.nullcontext() if process is None else at_work_for(process):
        replay = worker.loop.run_until_complete(worker.replay(trace, bindings, run_id, env))
    return replay, list(worker.events), Resources() if process is None else process.resources
