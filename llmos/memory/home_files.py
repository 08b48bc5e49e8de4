"""The files of a home beside its database that gather: the shell's history, what repairs put aside, what kills left."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llmos.memory.backups import Backups
from llmos.settings import RetentionSettings

_HALF_WRITTEN = (
    (".", (".llmos.duckdb.*", ".audit-anchor.json.*", "mcp_tools.json.*.tmp", ".history.*")),
    ("audit", (".audit-*",)),
    ("backups", (".llmos-*",)),
)
"""How files are called that were to take another's place; their process was killed."""

_OLD_S = 3_600
_DAMAGED = re.compile(r"damaged-(\d{8}T\d{6})\d*")
_ACCOUNT = "repaired.txt"
"""Only what has an account of a repair that was done is put aside for good."""


class HomeFiles:
    """The files below `memory`; only the process that holds the home may remove any."""

    def __init__(self, memory: Path, settings: RetentionSettings, backups: Backups) -> None:
        self._memory = memory
        self._settings = settings
        self._backups = backups

    def collect(self, now: datetime, *, dry_run: bool = False) -> dict[str, tuple[int, int]]:
        """Remove what is past its time; gives for each sort how many (files, folders or lines) and how many bytes."""
        found: dict[str, tuple[int, int]] = {}
        for name, paths in (
            ("half-written files", list(self._half_written())),
            ("copies of the database", self._backups.too_many()),
            ("damaged files put aside", list(self._damaged(now))),
        ):
            if paths:
                found[name] = len(paths), sum(map(_size, paths))
            for path in [] if dry_run else paths:
                _remove(path)
        lines = self._history(dry_run=dry_run)
        return found | ({"lines of the shell's history": lines} if lines[0] else {})

    def _half_written(self) -> Iterator[Path]:
        limit = time.time() - _OLD_S
        for folder, patterns in _HALF_WRITTEN:
            for pattern in patterns:
                for path in (self._memory / folder).glob(pattern):
                    with contextlib.suppress(OSError):
                        if path.is_file() and path.lstat().st_mtime < limit:
                            yield path

    def _damaged(self, now: datetime) -> Iterator[Path]:
        if self._settings.damaged_days is None:
            return
        limit = now - timedelta(days=self._settings.damaged_days)
        for folder in self._memory.glob("damaged-*"):
            name = _DAMAGED.fullmatch(folder.name)
            if name is None or not (folder / _ACCOUNT).is_file():
                continue
            with contextlib.suppress(ValueError):
                if datetime.strptime(name[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) < limit:
                    yield folder

    def _history(self, *, dry_run: bool) -> tuple[int, int]:
        """Cut the shell's history to its newest lines; each begins with an empty line and one with its time."""
        path = self._memory / "history"
        try:
            text = path.read_bytes()
        except OSError:
            return 0, 0
        entries = [entry for entry in re.split(rb"(?m)^(?=\n# )", text) if entry]
        gone = entries[: -self._settings.history_lines]
        if gone and not dry_run:
            fresh = path.with_name(f".history.{os.getpid()}")
            with contextlib.suppress(OSError):
                with open(fresh, "wb", opener=_private) as stream:
                    stream.write(text[sum(map(len, gone)) :])
                    stream.flush()
                    os.fsync(stream.fileno())
                fresh.replace(path)
        return len(gone), sum(map(len, gone))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(one.lstat().st_size for one in [path, *path.rglob("*")] if one.is_file() and not one.is_symlink())
    return 0


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
