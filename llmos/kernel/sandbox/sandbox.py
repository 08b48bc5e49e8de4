"""The sandbox of an LLM OS: finds the walls that hold here when the first child needs them, and puts it behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import platform
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmos import __version__
from llmos.errors import NotPermittedError
from llmos.events import ChildConfined, Publisher
from llmos.kernel.sandbox import cgroups
from llmos.kernel.sandbox.explain import Explanation
from llmos.kernel.sandbox.plan import Place, View
from llmos.kernel.sandbox.walls import CHOICES, Kind, Walls, find
from llmos.plugins.confined import Child, Confined
from llmos.plugins.resources import counted_in, counting
from llmos.settings import CONFIG_NAME, SandboxLimits, SandboxSettings, Settings

log = logging.getLogger(__name__)

CACHE_VERSION = 1
PEAK_BYTES = 8
_KNOBS = (
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
)
"""What decides, beside programs and settings, which walls the kernel allows; the first is new at each boot."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Which walls hold here (None: none do), and for each kind that was tried before why it does not."""

    walls: Walls | None
    failures: tuple[tuple[str, str], ...] = ()

    def said(self) -> str:
        return "; ".join(f"{kind}: {why}" for kind, why in self.failures)


class Sandbox:
    """Puts children behind the best walls that hold here.

    `memory` is the home's memory, where what was found out is kept; `hidden` and `sealed` are LLM OS's own places
    wherever a child could see them, `kinds` the walls to try instead of those of the settings. Nothing is found out
    before the first child.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        *,
        memory: Path,
        bus: Publisher,
        hidden: tuple[Path, ...] = (),
        sealed: tuple[Path, ...] = (),
        kinds: Sequence[Kind] | None = None,
    ) -> None:
        self._settings = settings
        self._kinds = CHOICES[settings.kind] if kinds is None else kinds
        self._cache = memory / "sandbox.json"
        self._bus = bus
        self._hidden = (memory, *hidden)
        self._sealed = sealed
        self._standing: Standing | None = None
        self._lock = asyncio.Lock()
        self._held: Counter[str] = Counter()

    @classmethod
    def of(cls, settings: Settings, bus: Publisher) -> Sandbox:
        """The one of some settings: it keeps LLM OS's own files, memory and plugins out of the children's reach."""
        usual = [folder / "plugins" for folder in (settings.checkout, settings.home) if folder is not None]
        return cls(
            settings.sandbox,
            memory=settings.memory,
            bus=bus,
            hidden=settings.config_files,
            sealed=tuple(dict.fromkeys([*settings.plugin_dirs, *usual])),
        )

    async def standing(self) -> Standing:
        """The walls in force; they are attacked before they are used for the first time since the machine started."""
        async with self._lock:
            if self._standing is None:
                self._standing = await asyncio.to_thread(self._read) or await self._found()
            return self._standing

    @asynccontextmanager
    async def confined(self, child: Child) -> AsyncIterator[Confined]:
        """What to run for a child.

        Raises:
            NotPermittedError: no walls hold here, and the settings don't say `sandbox: none`.
        """
        if self._settings.kind == "none":
            self._bus.publish(ChildConfined(run_id=child.run_id, tool=child.tool, walls=str(Kind.NONE), network=True))
            yield Confined(argv=tuple(child.argv))
            return
        standing = await self.standing()
        if standing.walls is None:
            raise NotPermittedError(
                f"{child.tool} can't be confined on this machine ({standing.said()}); install bubblewrap, or set "
                f"`sandbox: none` in {CONFIG_NAME} to run it with all your rights."
            )
        network = child.tool in self._settings.network if child.network is None else child.network
        async with self._behind(standing.walls, child, self._settings.limits, network) as confined:
            self._bus.publish(
                ChildConfined(run_id=child.run_id, tool=child.tool, walls=str(standing.walls), network=network)
            )
            yield confined

    # --- putting a child behind walls ----------------------------------------------------------------------

    @asynccontextmanager
    async def _behind(
        self, walls: Walls, child: Child, limits: SandboxLimits, network: bool
    ) -> AsyncIterator[Confined]:
        home = child.env.get("HOME")
        plan = View(
            write=(*_resolved(child.write), *_resolved(self._settings.writable)),
            read=(*_resolved(child.read), *_resolved(self._settings.readable)),
            hidden=_resolved((*self._hidden, *child.hidden)),
            sealed=_resolved((*self._sealed, *child.sealed)),
            home=_resolved((Path(home),))[0] if home else None,
            names=(child.cwd, *child.write, *child.read, *self._settings.writable, *self._settings.readable),
            network=network,
        ).plan()
        explanation = Explanation(child=child, network=network, limits=limits)
        has_view = walls.kind is not Kind.LANDLOCK
        with (
            self._holding(plan.missing if has_view else ()),
            _own_folder(is_needed=not has_view) as tmp,
            _told_peak(child) as keeps,
        ):
            argv = walls.command(child, plan, limits, network=network, tmp=tmp, tells=keeps[0] if keeps else None)
            async with cgroups.joining(limits.max_processes) as prefix:
                wall_s = None if child.lasting else limits.wall_s
                yield Confined(argv=(*prefix, *argv), wall_s=wall_s, explain=explanation.of, keeps=keeps)

    @contextmanager
    def _holding(self, missing: tuple[Place, ...]) -> Iterator[None]:
        """Let something empty stand where nothing must come to be, so that it can be covered; removed at the end."""
        held: list[Place] = []
        try:
            for place in missing:
                if not self._held[place.path]:
                    _make(place)
                self._held[place.path] += 1
                held.append(place)
            yield
        finally:
            for place in held:
                self._held[place.path] -= 1
                if not self._held[place.path]:
                    _unmake(place)

    # --- finding out which walls hold ----------------------------------------------------------------------

    async def _found(self) -> Standing:
        failures: list[tuple[str, str]] = []
        for kind in self._kinds:
            walls = await find(kind)
            why = walls if isinstance(walls, str) else await self._attacked(walls)
            if not why and isinstance(walls, Walls):
                standing = Standing(walls=walls, failures=tuple(failures))
                await asyncio.to_thread(self._write, standing)
                return standing
            log.info("these walls don't hold: %s", why, extra={"action": "sandbox_unfit", "walls": str(kind)})
            failures.append((str(kind), why))
        return Standing(walls=None, failures=tuple(failures))

    async def _attacked(self, walls: Walls) -> str:
        """What went through the walls; '': nothing."""
        from llmos.kernel.sandbox.probe import LIMITS, probe

        @asynccontextmanager
        async def confine(child: Child) -> AsyncIterator[Confined]:
            bare = Sandbox(SandboxSettings(), memory=Path(os.devnull), bus=self._bus)
            bare._held = self._held
            async with bare._behind(walls, child, LIMITS, network=False) as confined:
                yield confined

        try:
            with counted_in(None):  # no tool of whoever happens to be the first uses this
                seen = await probe(confine, is_bare=walls.kind is Kind.LANDLOCK)
        except (OSError, NotPermittedError) as error:
            return f"it could not be tried ({error})"
        return f"under attack, a process in it {'; '.join(seen.escapes)}" if seen.escapes else ""

    # --- remembering ---------------------------------------------------------------------------------------

    def _read(self) -> Standing | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads(self._cache.read_text(encoding="utf-8"))
            if data["key"] == self._key():
                walls = {**data["walls"], "kind": Kind(data["walls"]["kind"])}
                walls["version"] = tuple(walls["version"])
                failures = tuple((kind, why) for kind, why in data["failures"])
                return Standing(walls=Walls(**walls), failures=failures)
        return None

    def _write(self, standing: Standing) -> None:
        assert standing.walls is not None
        data = {"key": self._key(), "walls": asdict(standing.walls), "failures": standing.failures}
        temporary = self._cache.with_name(f"{self._cache.name}.{secrets.token_hex(4)}.tmp")
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(data), encoding="utf-8")
            temporary.replace(self._cache)
        except OSError:
            log.warning("the standing of the sandbox could not be kept", exc_info=True, extra={"action": "sandbox"})
            temporary.unlink(missing_ok=True)

    def _key(self) -> str:
        """A hash of all that decides which walls hold: this boot, the kernel's switches, programs, user, settings."""
        program = shutil.which("bwrap")
        files = [Path(program)] if program else []
        files += [Path(sys.executable), *sorted(Path(__file__).parent.glob("*.py"))]
        facts: list[Any] = [CACHE_VERSION, __version__, platform.release(), os.geteuid(), str(self._settings.kind)]
        facts += [_said_by(path) for path in _KNOBS]
        facts += [(str(path), status.st_mtime_ns, status.st_size) for path in files for status in (path.stat(),)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@contextmanager
def _own_folder(*, is_needed: bool) -> Iterator[str]:
    """A folder of temporary files, for walls that can't make /tmp a new one."""
    if not is_needed:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="llmos-sandbox-", ignore_cleanup_errors=True) as folder:
        yield folder


@contextmanager
def _told_peak(child: Child) -> Iterator[tuple[int, ...]]:
    """A descriptor through which the launcher tells a child's peak of memory, which is then counted."""
    resources = counting()
    if resources is None or child.lasting:
        yield ()
        return
    reading, writing = os.pipe()
    try:
        yield (writing,)
    finally:
        os.close(writing)
        os.set_blocking(reading, False)
        with open(reading, "rb", buffering=0) as pipe:  # noqa: PTH123
            told = pipe.read(PEAK_BYTES) or b""
        if len(told) == PEAK_BYTES:  # else it was ended before it could tell
            resources.add(peak_memory_bytes=int.from_bytes(told, sys.byteorder))


def _resolved(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(path.resolve() for path in paths)


def _said_by(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _make(place: Place) -> None:
    path = Path(place.path)
    try:
        if place.is_folder:
            path.mkdir(exist_ok=True)
        else:
            path.touch()
    except OSError as error:
        raise NotPermittedError(
            f"{path} could be made by a command, and then changes what LLM OS does; it can't be kept free "
            f"({error.strerror}): choose another workspace."
        ) from None


def _unmake(place: Place) -> None:
    path = Path(place.path)
    with contextlib.suppress(OSError):
        if place.is_folder:
            path.rmdir()
        elif path.stat().st_size == 0:
            path.unlink()
