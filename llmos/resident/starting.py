"""Starting, asking and ending the resident kernel, from another process."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmos import thin
from llmos.errors import LLMOSError, SettingsError, StorageError
from llmos.settings import Settings, load_settings

READY = "ready"
TAKEN = "taken"
LOG = "kernel.log"
PATIENCE_S = 10.0
NOW_S = 10.0
"""What is told to end at once has so long for it; then it is left as a crash would leave it."""

_MOST_LOG_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class NotStartedError(Exception):
    """There is no kernel; `reason` says why."""

    reason: str


def started(args: list[str]) -> tuple[str | None, bool]:
    """Start the kernel for a command line, if the settings want one: its memory's folder, and whether one was started.

    Without a folder the command is to be done elsewhere, and tells there what is wrong.
    """
    try:
        settings = load_settings(home=Path(home) if (home := thin.home_of(args)) else None)
    except LLMOSError:
        return None, False
    if not settings.daemon.enabled or in_the_way(settings.memory / thin.SOCKET):
        return None, False
    try:
        start(settings)
    except NotStartedError:
        return str(settings.memory), False
    return str(settings.memory), True


def start(settings: Settings) -> int | None:
    """Start a kernel, unless one answers; its process id, or None if another was there or came first.

    One that is about to end is waited for, for a while.

    Raises:
        NotStartedError: it could not.
    """
    folder = settings.memory
    if reason := in_the_way(folder / thin.SOCKET):
        raise NotStartedError(reason=reason)
    known = status(settings)
    if known is not None and not known.get("ending"):
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = folder / LOG
        descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        if os.fstat(descriptor).st_size > _MOST_LOG_BYTES:
            os.ftruncate(descriptor, 0)
    except OSError as error:
        raise NotStartedError(reason=f"{folder} can't be written: {error.strerror or error}") from None
    command = [sys.executable, *_program(settings), "up", "--foreground", "--home", str(settings.home)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=descriptor,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise NotStartedError(reason=f"{sys.executable} can't be started: {error.strerror or error}") from None
    finally:
        os.close(descriptor)
    assert process.stdout is not None
    with process.stdout as told:
        said = told.readline().decode("utf-8", "replace").strip()
    process.returncode = 0  # it goes on without us, and nobody shall wait for it
    if said == READY:
        return process.pid
    if said == TAKEN:
        return None
    raise NotStartedError(reason=said or f"it ended at once; {log} may say why")


def in_the_way(place: Path) -> str:
    """Why no kernel can be, where something stands in its socket's place that is not simply replaced; else ''."""
    try:
        mode = place.lstat().st_mode
    except OSError:
        return ""
    if stat.S_ISSOCK(mode):
        return ""  # of a dead kernel, or of one that answers
    what = "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"
    return f"{place} is a {what}, and its socket belongs there: remove it"


def _program(settings: Settings) -> list[str]:
    checkout = settings.checkout
    return ["-m", "llmos"] if checkout is None else [str(checkout / "boot.py")]


def status(settings: Settings) -> dict[str, Any] | None:
    """What the kernel says of itself; None if there is none."""
    try:
        connection = thin.connect(str(settings.memory))
        with closing(connection):
            thin.send(connection, thin.request(thin.STATUS, [], ""), streams=False)
            told = b""
            while more := connection.recv(65_536):
                told += more
        answer: dict[str, Any] = json.loads(told)
        return answer
    except (thin.NoKernelError, OSError, ValueError):
        return None


def stop(settings: Settings, pid: int, *, now: bool) -> None:
    """End the kernel that is the process `pid`, once its work is done or at once.

    Raises:
        StorageError: it did not end.
    """
    try:
        connection = thin.connect(str(settings.memory))
        with closing(connection):
            if now:
                connection.settimeout(NOW_S + PATIENCE_S)
            thin.send(connection, thin.request(thin.DOWN, ["--now"] if now else [], ""), streams=False)
            connection.recv(1)
    except (thin.NoKernelError, OSError):
        pass  # it was about to
    deadline = time.monotonic() + PATIENCE_S
    while _lives(pid):
        if time.monotonic() > deadline:
            raise StorageError(f"the resident kernel (process {pid}) was told to end and has not yet; look again.")
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


__all__ = ["NotStartedError", "SettingsError", "start", "started", "status", "stop"]
