"""How much a confined child may use; the names are those of `sandbox_limits` in llmos.yaml."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping

_RLIMITS = {
    "cpu_s": resource.RLIMIT_CPU,
    "memory_bytes": resource.RLIMIT_DATA,
    "max_processes": resource.RLIMIT_NPROC,
    "file_bytes": resource.RLIMIT_FSIZE,
    "max_open_files": resource.RLIMIT_NOFILE,
}
"""RLIMIT_DATA, not RLIMIT_AS: what is only reserved does not count, and Node and Java reserve many gigabytes."""


_COUNTED_APART_SINCE = (5, 14)
"""Since this Linux the processes of a user namespace are counted apart from the user's others."""


def apply(limits: Mapping[str, float], *, others: int) -> None:
    """Bound this process, and each it starts; `others` are the user's own, which count with its processes."""
    for name, kind in _RLIMITS.items():
        if name in limits:
            wanted = int(limits[name]) + (others if kind == resource.RLIMIT_NPROC else 0)
            _, hard = resource.getrlimit(kind)
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            # the soft limit of processor time says by its signal what was exceeded; a second later comes the hard one
            later = kind == resource.RLIMIT_CPU and (hard == resource.RLIM_INFINITY or value < hard)
            resource.setrlimit(kind, (value, value + 1 if later else value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def others(*, is_apart: bool) -> int:
    """How many tasks of this user count with those of the sandbox: none where it has a user namespace (`is_apart`).

    Without one they are all counted by the kernel, threads too; under an old kernel nobody can tell from inside.
    """
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit())
    if is_apart:
        return 0 if release >= _COUNTED_APART_SINCE else _CANT_TELL
    found = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                found += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return found


def exceeded(pids: list[int], limits: Mapping[str, float]) -> str:
    """Which limit all processes together are beyond, as a sentence; '': none."""
    most = int(limits.get("max_processes", 0))
    if most and len(pids) > most:
        return f"it started more than {most} processes (sandbox_limits.max_processes)"
    most = int(limits.get("memory_bytes", 0))
    if most and sum(_memory_bytes(pid) for pid in pids) > most:
        return f"it took more than {most:,} bytes of memory (sandbox_limits.memory_bytes)"
    return ""


def _memory_bytes(pid: int) -> int:
    """What a process holds of memory, its share of what it has in common with others."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as stream:
            resident, shared = stream.read().split()[1:3]
        if int(shared) < _MUCH_SHARED_PAGES:
            return (int(resident) - int(shared)) * _PAGE_BYTES
        with open(f"/proc/{pid}/smaps_rollup", "rb") as stream:
            lines = dict(line.split(b":")[:2] for line in stream.read().splitlines()[1:] if b":" in line)
        return sum(int(lines[key].split()[0]) for key in (b"Pss_Anon", b"Pss_Shmem")) * 1024
    except (OSError, ValueError, KeyError):
        return 0


def peak_bytes(pid: int) -> int:
    """The most memory that a running process held, shared pages included; 0 where it can't be seen."""
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:
            return next((int(line.split()[1]) * 1024 for line in stream if line.startswith(b"VmHWM:")), 0)
    except (OSError, ValueError):
        return 0


def peak_bytes_of_ended() -> int:
    """The same of the largest descendant that has ended, as it was born of this one: at least what this one held."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


_CANT_TELL = 1_000_000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MUCH_SHARED_PAGES = 64_000_000 // _PAGE_BYTES
