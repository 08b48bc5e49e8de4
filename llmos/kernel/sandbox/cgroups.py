"""A control group of a child's own, where this process may make one: it bounds the processes of root, too.

RLIMIT_NPROC does not hold for root's processes, in whatever namespace they are, and a storm of them outruns whoever
counts. Source: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/pids.rst of Linux.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN_PROCESSES = 6
"""The shell that joins, bubblewrap's two, the launcher's two."""

_PREFIX = "llmos-"
_JOIN = 'echo $$ > "$0" && exec "$@"'
_TRY_TO_JOIN = '{ echo $$ > "$0"; } 2>/dev/null; exec "$@"'
"""Others than root have RLIMIT_NPROC, too."""

_REMOVE_TRIES, _REMOVE_PAUSE_S = 100, 0.02


@cache
def place() -> Path | None:
    """The folder in which groups with a bound of processes can be made; None: there is none for this user."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, own = line.split(":", 2)
        if "pids" in controllers.split(","):
            found = [_ROOT / "pids" / own.lstrip("/")]
        elif not controllers:
            here = _ROOT / own.lstrip("/")
            # processes may stand in leaves only, so that a group of ours is a sibling of the own one
            found = [one for one in (here.parent, here) if one.is_relative_to(_ROOT) and _gives_pids(one)]
        else:
            continue
        for folder in found:
            if _can_hold_groups(folder):
                return folder
    return None


@asynccontextmanager
async def joining(max_processes: int) -> AsyncIterator[tuple[str, ...]]:
    """What stands before a command so that it runs in a group of its own; () where there can be none.

    At the end whatever is left in the group is killed, and the group removed.
    """
    folder = await asyncio.to_thread(_made, max_processes)
    if folder is None:
        yield ()
        return
    try:
        yield ("/bin/sh", "-c", _JOIN if os.geteuid() == 0 else _TRY_TO_JOIN, str(folder / "cgroup.procs"))
    finally:
        await asyncio.shield(_removed(folder))


def _made(max_processes: int) -> Path | None:
    parent = place()
    if parent is None:
        return None
    _remove_leftovers(parent)
    folder = parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
        (folder / "pids.max").write_text(str(max_processes + _OWN_PROCESSES))
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    return folder


def _remove_leftovers(parent: Path) -> None:
    """Empty groups of a process that did not end well; the death of their maker has killed what was in them."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


async def _removed(folder: Path) -> None:
    for _ in range(_REMOVE_TRIES):
        if _is_removed(folder):
            return
        _kill_all(folder)
        await asyncio.sleep(_REMOVE_PAUSE_S)


def _is_removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _kill_all(folder: Path) -> None:
    with contextlib.suppress(OSError):
        (folder / "pids.max").write_text("0")
    for line in _lines(folder / "cgroup.procs"):
        with contextlib.suppress(OSError, ValueError):
            if (pid := int(line)) > 0:  # 0 is a process of another namespace
                os.kill(pid, signal.SIGKILL)


def _gives_pids(folder: Path) -> bool:
    return any("pids" in line.split() for line in _lines(folder / "cgroup.subtree_control"))


def _can_hold_groups(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
