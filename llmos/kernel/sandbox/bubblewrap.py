"""The arguments of bubblewrap for a plan. Source: bwrap(1) and its NEWS."""

from __future__ import annotations

from collections.abc import Sequence

from llmos.kernel.sandbox.plan import Access, Place, Plan

MIN_VERSION = (0, 5)
"""Since then there is `--perms`."""

_SIZE_VERSION = (0, 7)
_HIDDEN_BYTES = 65_536


def arguments(
    program: str, plan: Plan, command: Sequence[str], *, cwd: str, network: bool, tmp_bytes: int, version: Sequence[int]
) -> list[str]:
    """The whole command line.

    As root bwrap keeps its capabilities and makes no user namespace unless it is told otherwise, hence `--cap-drop`
    and `--unshare-user`. As process 1 our own launcher can't be stopped from inside, and its end is the end of all.
    """
    size = ["--size", str(tmp_bytes)] if tuple(version) >= _SIZE_VERSION else []
    argv = [program, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    argv += [] if network else ["--unshare-net"]
    argv += ["--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--hostname", "sandbox"]
    for place in plan.places:
        argv += _mount(place, size)
    for name, target in plan.links.items():
        argv += ["--symlink", target, name]
    for place in plan.places:  # only now: a copy of the workspace may stand in the hidden memory
        argv += ["--remount-ro", place.path] if place.access is Access.HIDDEN and place.is_folder else []
    argv += ["--proc", "/proc", "--dev", "/dev", *size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    # bwrap's own root is a tmpfs that its user could fill; where the workspace is the root there is none
    argv += [] if "/" in plan.of(Access.WRITE) else ["--remount-ro", "/"]
    return [*argv, "--chdir", cwd, "--", *command]


def _mount(place: Place, size: Sequence[str]) -> list[str]:
    path = place.path
    match place.access:
        case Access.READ:
            return ["--ro-bind", path, path]
        case Access.WRITE:
            return ["--bind", path, path]
        case Access.TEMPORARY:
            return ["--perms", "0700", *size, "--tmpfs", path]
        case Access.HIDDEN if place.is_folder:
            return ["--perms", "0500", *_sized(size), "--tmpfs", path]
        case Access.HIDDEN:
            return ["--ro-bind", "/dev/null", path]


def _sized(size: Sequence[str]) -> list[str]:
    return ["--size", str(_HIDDEN_BYTES)] if size else []
