"""A started program, up to its end: waited for by ourselves, so that the system says what it used.

wait(2) tells it of the program and of all its descendants that were waited for in their turn, `bwrap` and what runs
behind its walls included. What it does not tell is seen in /proc: of descendants that are killed together with the
program, what they had used just before; and how much memory each program holds, since the peak that wait(2) knows is
at least that of our own process, of which every program is born.

Source: getrusage(2), proc(5), fs/exec.c of Linux (`exec_mmap` hands the peak on).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.plugins.resources import Resources

if TYPE_CHECKING:
    from resource import struct_rusage

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGER = 0.03, 0.25, 1.5
_BLOCK_BYTES = 512
_KIB = 1024


class Started:
    """A running program, in a session of its own."""

    def __init__(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], fds: Sequence[int], keeps: Sequence[int] = ()
    ) -> None:
        """Start it; `fds` become its stdin, stdout and stderr, `keeps` it gets as they are.

        Raises:
            OSError, ValueError: it can't be started.
        """
        stdin, stdout, stderr = fds
        self._popen = subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(keeps),
            start_new_session=True,
        )
        self.pid = self._popen.pid
        self.usage: struct_rusage | None = None
        self._ended = asyncio.Event()
        self._watch()

    @property
    def returncode(self) -> int | None:
        """How it ended, negative for a signal; None: it runs."""
        return self._popen.returncode

    async def wait(self) -> None:
        """Return when it has ended."""
        await self._ended.wait()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            watching = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # another system, or no descriptor is left
            threading.Thread(target=self._wait_in_thread, args=(loop,), name=f"wait-{self.pid}", daemon=True).start()
            return

        def ended() -> None:
            loop.remove_reader(watching)
            os.close(watching)
            self._note(*_waited_for(self.pid))

        loop.add_reader(watching, ended)

    def _wait_in_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        found = _waited_for(self.pid)
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(self._note, *found)

    def _note(self, status: int, usage: struct_rusage | None) -> None:
        self._popen.returncode, self.usage = status, usage
        self._ended.set()


def _waited_for(pid: int) -> tuple[int, struct_rusage | None]:
    """The exit status of a program that has ended, and what it used."""
    try:
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:  # somebody else took it
        return 255, None
    return os.waitstatus_to_exitcode(status), usage


@dataclass(kw_only=True, eq=False)
class Watch:
    """Knows what a program and its descendants used, as far as it was seen.

    With `is_told` somebody else tells its peak of memory, so that there is nothing to look at while it runs.
    """

    program: Started
    is_told: bool = False
    own_peak_bytes: int = field(default_factory=lambda: _own_peak_bytes())
    _cpu_s: float = 0.0
    _peak_bytes: int = 0
    _written_bytes: int = 0
    _family: set[int] = field(default_factory=set)
    _strangers: set[int] = field(default_factory=set)

    async def looking(self) -> None:
        """Look again and again."""
        pause_s = _FIRST_PAUSE_S
        while not self.is_told and sys.platform == "linux":
            await asyncio.sleep(pause_s)
            self.look()
            pause_s = min(pause_s * _LONGER, _LONGEST_PAUSE_S)

    def look(self) -> None:
        """See what those that run now have used; nothing where there is no /proc."""
        with contextlib.suppress(OSError):
            cpu_s, written_bytes = 0.0, 0
            for pid in self._living():
                cpu_s += _cpu_s(pid)
                written_bytes += _written_bytes(pid)
                self._peak_bytes = max(self._peak_bytes, _peak_bytes(pid))
            self._cpu_s = max(self._cpu_s, cpu_s)
            self._written_bytes = max(self._written_bytes, written_bytes)

    def tell(self, resources: Resources) -> None:
        """Count what the program used, which has ended."""
        usage = self.program.usage
        cpu_s, written_bytes, peak_bytes = self._cpu_s, self._written_bytes, self._peak_bytes
        if usage is not None:
            cpu_s = max(cpu_s, usage.ru_utime + usage.ru_stime)
            written_bytes = max(written_bytes, usage.ru_oublock * _BLOCK_BYTES)
            known_bytes = usage.ru_maxrss * _KIB
            peak_bytes = max(peak_bytes, known_bytes if known_bytes > self.own_peak_bytes else 0)
        is_linux = sys.platform == "linux"
        resources.add(
            cpu_s=cpu_s if cpu_s or usage is not None else None,
            peak_memory_bytes=peak_bytes if peak_bytes and is_linux else None,
            disk_written_bytes=written_bytes if Path("/proc/self/io").exists() else None,
        )

    def _living(self) -> Iterator[int]:
        """The program and its descendants, those too that have lost their parents since they were last seen."""
        running = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208 - each look counts
        self._family = (self._family | {self.program.pid}) & running
        self._strangers &= running
        parents = {pid: _parent(pid) for pid in running - self._family - self._strangers}
        for pid in parents:
            line = [pid]
            while (above := parents.get(line[-1], 0)) and above not in line:
                line.append(above)
            (self._family if self._family.intersection(line) else self._strangers).update(
                one for one in line if one in parents
            )
        yield from self._family


def _own_peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def _stat(pid: int) -> list[bytes]:
    """What /proc/PID/stat says after the name: state, parent, …; nothing where there is no such process any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def _cpu_s(pid: int) -> float:
    """Seconds of a process and of those it has waited for."""
    return sum(map(int, _stat(pid)[11:15])) / os.sysconf("SC_CLK_TCK")


def _written_bytes(pid: int) -> int:
    return _field(f"/proc/{pid}/io", "write_bytes:")


def _peak_bytes(pid: int) -> int:
    return _field(f"/proc/{pid}/status", "VmHWM:") * _KIB


def _field(path: str, name: str) -> int:
    """A number of a file of lines; 0 where it can't be read."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
