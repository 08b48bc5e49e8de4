"""The attack on a sandbox from inside: it tries what must fail, and tells what did not.

Run as `python -I -S -B probe_child.py STORM|HOG|ESCAPE TARGETS`; the standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

_STORM, _STORM_S = 2_000, 5.0
_TIMEOUT_S = 0.5
_NEWUSER = 0x10000000


def main() -> None:
    kind, targets = sys.argv[1], json.loads(sys.argv[2])
    if kind == "STORM":
        _storm()
    elif kind == "HOG":
        _hog(targets["bytes"])
    else:
        sys.stdout.write(json.dumps(list(_escapes(targets))))


def _storm() -> None:
    """Start processes without an end; those that come to be only wait."""
    for count in range(_STORM):
        try:
            if os.fork() == 0:
                time.sleep(_STORM_S)
                os._exit(0)
        except OSError:
            sys.stdout.write(f"stopped at {count}")
            sys.stdout.flush()
            os._exit(0)
    sys.stdout.write("unbounded")
    sys.stdout.flush()
    time.sleep(_STORM_S)


def _hog(size: int) -> None:
    """Take memory in pieces, which must be touched to count."""
    pieces = []
    for _ in range(16):
        pieces.append(b"x" * (size // 16))
        time.sleep(0.01)
    time.sleep(0.2)
    sys.stdout.write("unbounded")


def _escapes(targets: dict[str, Any]) -> Iterator[str]:
    inside: list[tuple[str, Callable[[], object]]] = [
        ("read a hidden file in the workspace", lambda: _read(targets["hidden"])),
        ("changed a sealed file", lambda: _write(targets["sealed"])),
        ("made a file that must not come to be", lambda: _write(targets["missing"])),
        ("renamed a folder with a hidden one inside", lambda: os.rename(targets["folder"], targets["folder"] + "2")),
    ]
    outside: list[tuple[str, Callable[[], object]]] = [
        ("read a file outside of the workspace", lambda: _read(targets["secret"])),
        ("read a file outside through /proc/self/root", lambda: _read("/proc/self/root" + targets["secret"])),
        ("changed the mode of a file outside", lambda: os.chmod(targets["secret"], 0o666)),
        ("cut a file outside", lambda: os.truncate(targets["secret"], 0)),
        ("reached the network", lambda: _connect((socket.AF_INET, socket.SOCK_STREAM), tuple(targets["tcp"]))),
        ("reached a socket of the host", lambda: _connect((socket.AF_UNIX, socket.SOCK_STREAM), targets["abstract"])),
        ("killed a process outside", lambda: _kill(targets["pid"])),
        ("made a user namespace", _unshare),
    ]
    for path in (targets["outside"], targets["link"], f"/proc/self/root{targets['outside']}"):
        with contextlib.suppress(OSError):  # whether it came to the real place is seen there
            _write(path)
    for said, attempt in [*outside, *([] if targets["bare"] else inside)]:
        with contextlib.suppress(OSError):
            attempt()
            yield said
    yield from _sees_secret(targets["token"])
    yield from _privileges()
    yield from _work(targets["workspace"])


def _write(path: str) -> None:
    with open(path, "a") as stream:
        stream.write("x")


def _read(path: str) -> None:
    with open(path, "rb") as stream:
        if not stream.read(1):
            raise OSError("empty")


def _connect(kind: tuple[Any, Any], address: Any) -> None:
    with socket.socket(*kind) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(address)


def _kill(pid: int) -> None:
    if pid in (1, os.getpid(), os.getppid()):
        raise OSError("this number belongs to somebody else in here")
    os.kill(pid, signal.SIGKILL)


def _unshare() -> None:
    import ctypes

    if ctypes.CDLL(None).unshare(_NEWUSER) != 0:
        raise OSError("refused")


def _sees_secret(token: str) -> Iterator[str]:
    """The planted variable, in the own environment or in that of any process."""
    environments = [f"/proc/{name}/environ" for name in _listed("/proc") if name.isdigit()]
    for path in environments:
        with contextlib.suppress(OSError), open(path, "rb") as stream:
            if token.encode() in stream.read():
                yield "read the environment of another process"
                return


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _privileges() -> Iterator[str]:
    try:
        with open("/proc/self/status") as stream:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
    except OSError:
        return  # where nothing of /proc can be seen
    if int(status["CapEff"], 16) or int(status["CapPrm"], 16):
        yield "kept capabilities"
    if status["NoNewPrivs"].strip() != "1" or status["Seccomp"].strip() != "2":
        yield "had no filter of system calls"


def _work(workspace: str) -> Iterator[str]:
    """What must work, or the sandbox is of no use."""
    try:
        _write(os.path.join(workspace, "made"))
        if os.spawnv(os.P_WAIT, "/bin/sh", ["sh", "-c", "true"]) != 0:
            yield "could run no program"
    except OSError as error:
        yield f"could not work in the workspace ({error.strerror})"


if __name__ == "__main__":
    main()
