"""A workspace as it was before a run, kept beside it, and copies of that in which a program can run without harm."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import math
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from llmos.kernel.tree import Change, Entry, Kind, changes_below, led_to, walk
from llmos.settings import ProofSettings

log = logging.getLogger(__name__)

Content: TypeAlias = Callable[[Path], None]
"""Puts a content into a file."""

_FICLONE = 0x40049409
_CHUNK_BYTES = 1 << 20
_FOLDER = "scratch"


class _UnfitError(OSError):
    """Why a workspace is not copied."""


@dataclass(frozen=True, kw_only=True)
class _Budget:
    """How much may still be copied, and until when (on the monotonic clock)."""

    limits: ProofSettings
    stop: threading.Event
    until_s: float = math.inf
    taken: list[int] = field(default_factory=lambda: [0, 0])

    def take(self, size: int) -> None:
        self.taken[0] += 1
        self.taken[1] += size
        if self.stop.is_set():
            raise _UnfitError("it was interrupted")
        if time.monotonic() > self.until_s:
            raise _UnfitError(f"copying the workspace took longer than {self.limits.timeout_s:g} s (proof.timeout_s)")
        if self.taken[0] > self.limits.max_files:
            raise _UnfitError(f"the workspace has more than {self.limits.max_files:,} files (proof.max_files)")
        if self.taken[1] > self.limits.max_bytes:
            raise _UnfitError(f"the workspace is larger than {self.limits.max_bytes:,} bytes (proof.max_bytes)")


@dataclass(kw_only=True)
class Scratch:
    """A working copy: `origin` says what stood where before anything ran in it."""

    root: Path
    origin: dict[str, Entry]

    def rename(self, old: str, new: str) -> None:
        """Give a file or folder another name; this is part of the world, no change of it."""
        (self.root / old).rename(self.root / new)
        moved = {path: entry for path, entry in self.origin.items() if path == old or path.startswith(f"{old}/")}
        for path, entry in moved.items():
            del self.origin[path]
            self.origin[new + path[len(old) :]] = entry

    def changes(self, workspace: Path) -> dict[str, Change]:
        """What was changed; its own place reads as `workspace` in contents."""
        return changes_below(self.root, self.origin, said=(str(self.root), str(workspace)))


class Snapshot:
    """A workspace as it was, from `take` until `remove`; neither raises.

    `refused` says why there is no copy, `left_out` names what the copy lacks: special and unreadable files, and links
    that lead out of the workspace. `closed` folders are no part of the workspace. A removal stops a copy under way.
    """

    def __init__(self, workspace: Path, memory: Path, limits: ProofSettings, closed: tuple[Path, ...] = ()) -> None:
        self.workspace = workspace.resolve()
        self.entries: dict[str, Entry] = {}
        self.left_out: list[str] = []
        self.refused = ""
        self._memory = memory
        self._limits = limits
        self._closed = frozenset(str(folder.resolve()) for folder in closed)
        self._folder: Path | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Copy the workspace; whatever prevents it is kept in `refused`."""
        with self._lock:
            try:
                until_s = time.monotonic() + self._limits.timeout_s
                self._measure(self._budget(until_s))
                self._folder = _new_folder(self._memory, self.workspace)
                budget, place = self._budget(until_s), self._folder / "before"
                self.entries, self.left_out = _copy_tree(self.workspace, place, budget, self._closed)
            except _UnfitError as error:
                self.refused = str(error)
            except OSError as error:
                log.info("no copy of the workspace", exc_info=True, extra={"action": "snapshot_failed"})
                self.refused = f"the workspace can't be copied ({error.strerror or error})"
            if self.refused:
                self.entries = {}
                self._drop()

    def rewind(self, before: Mapping[str, tuple[Content, int] | None], unknown: str = "") -> None:
        """Make it the workspace as it was earlier.

        `before` has what puts the content into a file, and the permissions, of what stood at a path, None where nothing
        did. `unknown` says why that is not all that has changed since; the snapshot is then `refused`.
        """
        with self._lock:
            if self.refused or self._folder is None:
                return
            self.refused = unknown
            try:
                for path, state in before.items() if not unknown else ():
                    self._put_back(self._folder / "before", path, state)
            except OSError as error:
                self.refused = f"the workspace as it was can't be made again ({error.strerror or error})"
            if self.refused:
                self.entries = {}
                self._drop()

    def _put_back(self, root: Path, path: str, state: tuple[Content, int] | None) -> None:
        place = root / path
        for one in [known for known in self.entries if known == path or known.startswith(f"{path}/")]:
            del self.entries[one]
        if place.is_dir() and not place.is_symlink():
            _remove(place)
        else:
            place.unlink(missing_ok=True)
        if state is None:
            return
        for folder in (parent for parent in reversed(Path(path).parents) if parent.parts):
            (root / folder).mkdir(mode=0o700, exist_ok=True)
            self.entries.setdefault(folder.as_posix(), Entry(kind=Kind.FOLDER, source=root / folder))
        state[0](place)
        place.chmod(state[1])
        info = place.lstat()
        self.entries[path] = Entry(kind=Kind.FILE, source=place, size=info.st_size, mtime_ns=info.st_mtime_ns)

    def restore(self, name: str) -> Scratch:
        """A working copy of the workspace as it was.

        Raises:
            OSError: it can't be made, or the snapshot is gone.
        """
        with self._lock:
            if self._folder is None or self._stop.is_set():
                raise OSError("the copy of the workspace is gone")
            root = self._folder / name / (self.workspace.name or "workspace")
            root.parent.mkdir(mode=0o700)
            _copy_tree(self._folder / "before", root, _Budget(limits=_ANY, stop=self._stop), frozenset())
            return Scratch(root=root, origin=dict(self.entries))

    def discard(self, scratch: Scratch) -> None:
        """Remove a working copy."""
        with self._lock:
            _remove(scratch.root.parent)

    def changes(self) -> dict[str, Change]:
        """What has become of the workspace since; OSError if it has grown beyond reading."""
        limit = 2 * self._limits.max_files
        return changes_below(self.workspace, self.entries, skip=self._closed, ignored=set(self.left_out), limit=limit)

    def stop(self) -> None:
        """End a copy under way, without waiting for it."""
        self._stop.set()

    def remove(self) -> None:
        """Remove the copy from the disk; what can't be removed now is when the next boot looks."""
        self.stop()
        with self._lock:
            self._drop()

    def _budget(self, until_s: float) -> _Budget:
        return _Budget(limits=self._limits, stop=self._stop, until_s=until_s)

    def _measure(self, budget: _Budget) -> None:
        """Refuse before anything is copied."""
        for _, entry in walk(self.workspace, self._closed):
            with contextlib.suppress(PermissionError, FileNotFoundError):
                info = entry.stat(follow_symlinks=False)
                budget.take(info.st_size if stat.S_ISREG(info.st_mode) else 0)

    def _drop(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            _remove(folder)


_ANY = ProofSettings(max_files=1 << 62, max_bytes=1 << 62)


def remove_leftovers(memory: Path) -> None:
    """Remove the copies that a crash left behind; only for the process that holds the home."""
    found = [*_glob(memory / _FOLDER, ""), *_glob(Path(tempfile.gettempdir()), _prefix(memory))]
    for path in found:
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.getuid() and not path.is_symlink():
                _remove(path)


def _glob(folder: Path, prefix: str) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(prefix)]
    except OSError:
        return []


def _new_folder(memory: Path, workspace: Path) -> Path:
    """A folder of our own: in the memory if that is on the workspace's file system, so that blocks can be shared."""
    place = memory / _FOLDER
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if place.stat().st_dev == workspace.stat().st_dev:
            return Path(tempfile.mkdtemp(prefix="proof-", dir=place)).resolve()
    return Path(tempfile.mkdtemp(prefix=_prefix(memory))).resolve()


def _prefix(memory: Path) -> str:
    return f"llmos-proof-{hashlib.sha256(os.fsencode(memory.resolve())).hexdigest()[:12]}-"


# --- copying ---------------------------------------------------------------------------------------


def _copy_tree(source: Path, target: Path, budget: _Budget, skip: frozenset[str]) -> tuple[dict[str, Entry], list[str]]:
    """Copy a tree with its times and permissions; gives what was copied, and the paths of what was not."""
    target.mkdir(mode=0o700)
    entries: dict[str, Entry] = {}
    left_out: list[str] = []
    folders: list[tuple[Path, os.stat_result]] = []
    for path, found in walk(source, skip):
        place = target / path
        try:
            info = found.stat(follow_symlinks=False)
            budget.take(info.st_size if stat.S_ISREG(info.st_mode) else 0)
            entry = _copied(source, found, place, info)
        except (PermissionError, FileNotFoundError, NotADirectoryError):
            entry = None
        if entry is None:
            left_out.append(path)
            continue
        entries[path] = entry
        if entry.kind is Kind.FOLDER:
            folders.append((place, info))
            if not os.access(found.path, os.R_OK | os.X_OK):
                left_out.append(path)
    for place, info in reversed(folders):
        os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))
        place.chmod(stat.S_IMODE(info.st_mode) & 0o777)
    return entries, left_out


def _copied(root: Path, found: os.DirEntry[str], place: Path, info: os.stat_result) -> Entry | None:
    """One entry copied, or None where it is of a kind that is not."""
    if stat.S_ISDIR(info.st_mode):
        place.mkdir(mode=0o700)
        return Entry(kind=Kind.FOLDER, source=place)
    if stat.S_ISLNK(info.st_mode):
        return _copied_link(root, Path(found.path), place)
    if not stat.S_ISREG(info.st_mode):
        return None
    copy_file(found.path, place)
    os.utime(place, ns=(info.st_atime_ns, info.st_mtime_ns))
    place.chmod(stat.S_IMODE(info.st_mode) & 0o777)
    return Entry(kind=Kind.FILE, source=place, size=info.st_size, mtime_ns=info.st_mtime_ns)


def _copied_link(root: Path, link: Path, place: Path) -> Entry | None:
    """A link that stays inside the tree, written so that it also does in the copy."""
    target = led_to(root, link)
    if target is None:
        return None
    place.symlink_to(os.path.relpath(target, os.path.relpath(link.parent.resolve(), root)))
    return Entry(kind=Kind.LINK, source=place, target=target)


def copy_file(source: str, target: Path) -> None:
    """Copy a regular file's content, sharing its blocks where the file system can."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(reading, "rb") as old, open(target, "xb") as new:  # noqa: PTH123 - a descriptor
        size = os.fstat(reading).st_size
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, reading)
        except OSError:
            _copy_bytes(old.fileno(), new.fileno(), size)


def _copy_bytes(old: int, new: int, size: int) -> None:
    """Copy what the file had when it was opened, inside the kernel where that is possible."""
    left = size
    while left > 0:
        try:
            copied = os.copy_file_range(old, new, left)
        except (OSError, AttributeError):
            break
        if copied == 0:
            return
        left -= copied
    while left > 0 and (chunk := os.read(old, min(left, _CHUNK_BYTES))):
        left -= len(chunk)
        while chunk:
            chunk = chunk[os.write(new, chunk) :]


def _remove(folder: Path) -> None:
    """Remove a tree of our own, folders without write permission included; never through a link."""
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
    for here, names, _ in os.walk(folder):
        for name in names:
            path = Path(here, name)
            with contextlib.suppress(OSError):
                if not path.is_symlink():
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
