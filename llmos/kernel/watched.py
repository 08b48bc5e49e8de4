"""Watched folders: what lies below one, what changed there since a moment, and what is seen of each watch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MOST_FOLDERS = 50_000
"""Each folder takes a part of the system's memory and time before the first change is told of."""

Identity = tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """Whether a watch is on; if it is not, why, in a `word` or two and as it is `said` in a sentence."""

    word: str = ""
    said: str = ""


class Sight:
    """What the kernel that looks sees of each watch, by its number."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}
        self._told = asyncio.Event()

    def tell(self, number: int, seen: Seen) -> bool:
        """Take in what is seen of a watch now; whether that is something else than before."""
        is_new = self._seen.get(number) != seen
        self._seen[number] = seen
        self._told.set()
        self._told = asyncio.Event()
        return is_new

    def forget(self, number: int) -> None:
        """Nobody looks for a watch any more."""
        self._seen.pop(number, None)

    def of(self, number: int) -> Seen | None:
        """What is seen of a watch; None where nobody has looked yet."""
        return self._seen.get(number)

    async def first(self, number: int, patience_s: float) -> Seen | None:
        """What is seen of a watch, once somebody has looked; None where nobody did in time."""
        try:
            async with asyncio.timeout(patience_s):
                while number not in self._seen:
                    await self._told.wait()
        except TimeoutError:
            return None
        return self._seen[number]


def gone(path: Path) -> Seen:
    """What is seen of a watch whose path is not there."""
    return Seen("gone", f"{path} is gone; it is watched again once it is back")


def too_large(path: Path) -> str:
    """Why a folder can't be watched, where it holds too much; else ''."""
    for number, _ in enumerate(folders_below(path)):
        if number >= MOST_FOLDERS:
            return (
                f"{path} holds more than {MOST_FOLDERS:,} folders, with those its links lead to, which are too many to "
                "be watched: name one below it"
            )
    return ""


def folders_below(top: Path) -> Iterator[str]:
    """A folder and all below it, also those that links lead to, as the system's watch has them; none in a circle."""
    waiting: list[tuple[str, frozenset[Identity]]] = [(str(top), frozenset())]
    while waiting:
        folder, above = waiting.pop()
        own = identity(folder)
        if own is None:
            continue
        yield folder
        above |= {own}
        waiting += [(one.path, above) for one in _entries(folder) if _is_folder(one) and not _is_circle(one, above)]


def files_below(top: Path, since_ns: int = 0) -> Iterator[str]:
    """The files at and below a path that were made or written since a moment, or came there under another name."""
    if not top.is_dir():
        yield from [str(top)] if _changed_ns(str(top)) >= since_ns else []
        return
    for folder in islice(folders_below(top), MOST_FOLDERS):
        yield from (one.path for one in _entries(folder) if not _is_folder(one) and _changed_ns(one.path) >= since_ns)


def identity(path: str | Path) -> Identity | None:
    """What is another one where a path leads to another file or folder; None: it leads nowhere."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def leads_below(memory: Path) -> Callable[[str], bool]:
    """Says of a path whether it leads into a folder, also through links."""
    real: dict[str, str] = {}
    inside = str(memory.resolve()) + os.sep

    def is_below(path: str) -> bool:
        folder, _, name = path.rpartition(os.sep)
        if folder not in real:
            real[folder] = os.path.realpath(folder or os.sep)
        return os.path.join(real[folder], name, "").startswith(inside)  # noqa: PTH118

    return is_below


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:  # it is gone, or not ours to read
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_circle(entry: os.DirEntry[str], above: frozenset[Identity]) -> bool:
    return entry.is_symlink() and identity(entry.path) in above


def _changed_ns(path: str) -> int:
    """When a file, or its name, was changed last, by the system's clock; -1 where there is none."""
    try:
        return os.stat(path).st_ctime_ns  # noqa: PTH116
    except OSError:
        return -1
