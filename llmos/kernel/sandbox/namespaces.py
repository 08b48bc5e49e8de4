"""Namespaces and a mount view of one's own, for where bubblewrap is missing.

Runs inside the sandbox before its walls stand: the standard library only.
Source: user_namespaces(7), mount_namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
from collections.abc import Mapping, Sequence

from llmos.kernel.sandbox import syscalls

TYPE_CHECKING = False  # importing typing would take as long as all the rest
if TYPE_CHECKING:
    from typing import Any

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_DETACH = 2
_LOCKED = {0x0001: _RDONLY, 0x0002: _NOSUID, 0x0004: _NODEV, 0x0008: _NOEXEC, 0x0400: 1 << 10, 0x0800: 1 << 11}
"""Flags of statvfs and the mount flags that a less privileged owner must keep when it remounts."""

_RELATIVE_ATIME, _ST_RELATIME = 1 << 21, 0x1000
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_OLD, _NEW = "/old", "/new"


def enter(view: Mapping[str, Any], *, network: bool) -> None:
    """Leave the host's namespaces; returns in process 1 of the new ones, whose end ends the calling process.

    Raises:
        OSError: the kernel allows no user namespaces, or no such view.
    """
    uid, gid = os.getuid(), os.getgid()
    flags = _NEWUSER | _NEWNS | _NEWPID | _NEWIPC | _NEWUTS | _NEWCGROUP | (0 if network else _NEWNET)
    syscalls.call("unshare", flags)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)
    child = os.fork()
    if child:
        _be_outside(child)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    socket.sethostname("sandbox")
    if not network:
        _bring_up_loopback()
    _mount_view(view)


def _be_outside(child: int) -> None:
    """Wait for the end of process 1 and end alike."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _bring_up_loopback() -> None:
    get_flags, set_flags, is_up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        answer = fcntl.ioctl(control, get_flags, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", answer)[1]
        fcntl.ioctl(control, set_flags, struct.pack("16sh14x", b"lo", flags | is_up))


def _mount_view(view: Mapping[str, Any]) -> None:
    """Build the view below a new root, then make it the root and let the old one go."""
    syscalls.mount("none", "/", None, _REC | _PRIVATE)
    base = "/tmp"
    syscalls.mount("tmpfs", base, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    os.mkdir(base + _OLD)
    os.mkdir(base + _NEW)
    syscalls.call("pivot_root", _text(base), _text(base + _OLD))
    os.chdir("/")
    syscalls.mount("tmpfs", _NEW, "tmpfs", _NOSUID | _NODEV, "mode=0755,size=1m")
    for path, access, is_folder in view["places"]:
        _place(path, access, is_folder, int(view["tmp_bytes"]))
    for name, target in view["links"].items():
        _make(_NEW + os.path.dirname(name), True)
        os.symlink(target, _NEW + name)
    for path, access, is_folder in view["places"]:  # only now: a copy of the workspace may stand in the hidden memory
        if access == "hidden" and is_folder:
            _remount(_NEW + path, _RDONLY | _NOSUID | _NODEV)
    _mount_system(int(view["tmp_bytes"]))
    syscalls.mount("none", _NEW, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    os.chdir(_NEW)
    syscalls.call("pivot_root", _text("."), _text("."))  # the old root now lies upon the new one
    syscalls.call("umount2", _text("."), _DETACH)
    os.chdir("/")


def _place(path: str, access: str, is_folder: bool, tmp_bytes: int) -> None:
    target = _NEW + path
    _make(target, is_folder)
    match access:
        case "read":
            _bind(_OLD + path, target)
            _make_read_only(target)
        case "write":
            _bind(_OLD + path, target)
            _remount(target, _NOSUID | _NODEV)
        case "temporary":
            syscalls.mount("tmpfs", target, "tmpfs", _NOSUID | _NODEV, f"mode=0700,size={tmp_bytes}")
        case "hidden" if is_folder:
            syscalls.mount("tmpfs", target, "tmpfs", _NOSUID | _NODEV, "mode=0500,size=64k")
        case "hidden":
            _bind(_OLD + "/dev/null", target)
            _remount(target, _RDONLY | _NODEV)


def _mount_system(tmp_bytes: int) -> None:
    """/proc of the new namespace, and a /dev with what every program needs."""
    for name in ("/proc", "/dev"):
        _make(_NEW + name, True)
    syscalls.mount("proc", f"{_NEW}/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    syscalls.mount("tmpfs", f"{_NEW}/dev", "tmpfs", _NOSUID, "mode=0755,size=64k")
    for name in _DEVICES:
        _make(f"{_NEW}/dev/{name}", False)
        _bind(f"{_OLD}/dev/{name}", f"{_NEW}/dev/{name}")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{_NEW}/dev/{name}")
    _make(f"{_NEW}/dev/shm", True)
    syscalls.mount("tmpfs", f"{_NEW}/dev/shm", "tmpfs", _NOSUID | _NODEV, f"mode=0700,size={tmp_bytes}")
    syscalls.mount("none", f"{_NEW}/dev", None, _REMOUNT | _BIND | _RDONLY | _NOSUID)


def _make(target: str, is_folder: bool) -> None:
    """What a mount needs to stand on."""
    if os.path.exists(target):
        return
    os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)
    if not is_folder:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _bind(source: str, target: str) -> None:
    syscalls.mount(source, target, None, _BIND | _REC)


def _make_read_only(target: str) -> None:
    """The mount and every other one below it."""
    for point in _mounts_below(target):
        _remount(point, _RDONLY | _NOSUID | _NODEV)


def _mounts_below(target: str) -> Sequence[str]:
    with open("/old/proc/self/mountinfo", "rb") as stream:
        points = [os.fsdecode(_unescaped(line.split(b" ")[4])) for line in stream]
    return [point for point in points if point == target or point.startswith(target.rstrip("/") + "/")]


def _unescaped(name: bytes) -> bytes:
    for octal, plain in ((rb"\040", b" "), (rb"\011", b"\t"), (rb"\012", b"\n"), (rb"\134", b"\\")):
        name = name.replace(octal, plain)
    return name


def _remount(target: str, flags: int) -> None:
    """Change a bind mount's flags, and keep those that are locked."""
    now = os.statvfs(target).f_flag
    for said, flag in _LOCKED.items():
        flags |= flag if now & said else 0
    if now & _ST_RELATIME:
        flags |= _RELATIVE_ATIME
    syscalls.mount("none", target, None, _REMOUNT | _BIND | flags)


def _text(path: str) -> Any:
    import ctypes

    return ctypes.c_char_p(os.fsencode(path))
