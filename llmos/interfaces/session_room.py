"""Where the Claude CLI keeps a session while it works: in memory, never on a disk, for what tools gave may be secret.

The CLI writes a session into a folder below its configuration. Ours is a link there, to a folder of the file system in
memory; with the link gone, and the folder, nothing is left of it. The session itself stays in the home's database, with
its secrets taken out (`llmos.memory.sessions`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

IN_MEMORY = Path("/dev/shm")
_PREFIX = "llmos-"


@dataclass(frozen=True, kw_only=True)
class Room:
    """A folder in memory; `name` is how the CLI finds it."""

    name: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"CLAUDE_CODE_PROJECT_DIR_NAME": self.name}

    def put(self, session_id: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Lay a session there for the CLI to go on with."""
        text = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
        (self.folder / f"{session_id}.jsonl").write_text(text, encoding="utf-8")


@contextmanager
def session_room(environment: Mapping[str, str]) -> Iterator[Room | None]:
    """A room for the CLI of this environment, for the length of a block; None where there can be none."""
    remove_leftovers(environment)
    room = _made(_projects(environment))
    try:
        yield room
    finally:
        if room is not None:
            _remove(_projects(environment) / room.name)
            _remove(room.folder)


def remove_leftovers(environment: Mapping[str, str]) -> None:
    """Remove what processes that were killed left of their sessions."""
    for place in (IN_MEMORY, _projects(environment)):
        _remove_leftovers(place)


def _projects(environment: Mapping[str, str]) -> Path:
    config = environment.get("CLAUDE_CONFIG_DIR") or Path(environment.get("HOME") or Path.home(), ".claude")
    return Path(config, "projects")


def _made(projects: Path) -> Room | None:
    name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    folder = IN_MEMORY / name
    try:
        folder.mkdir(mode=0o700)
        projects.mkdir(parents=True, exist_ok=True, mode=0o700)
        (projects / name).symlink_to(folder)
    except OSError as error:
        log.info("sessions of models are not kept: %s", error, extra={"action": "no_session_room"})
        _remove(folder)
        return None
    return Room(name=name, folder=folder)


def _remove_leftovers(place: Path) -> None:
    """Remove what processes that were killed left there."""
    for path in place.glob(f"{_PREFIX}*-*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
