"""What stands at a path, and what stands in a workspace, by a look that does not read what has not changed."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmos.errors import NotPermittedError
from llmos.kernel.images import Images, sha256_of
from llmos.kernel.tree import walk
from llmos.settings import JournalSettings
from llmos.trace.effects import FileKind, FileState, state_data, state_from

_RACY_NS = 100_000_000
"""Within this time of a change, another one may leave the same times behind; such a file is read again."""


def glance(path: Path) -> FileState:
    """What stands at a path, without reading a file's content; never through a link."""
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return FileState()
    except PermissionError:
        return FileState(kind=FileKind.SPECIAL)
    mode = stat.S_IMODE(info.st_mode)
    if stat.S_ISLNK(info.st_mode):
        try:
            return FileState(kind=FileKind.LINK, target=str(path.readlink()))
        except OSError:
            return FileState()
    if stat.S_ISDIR(info.st_mode):
        return FileState(kind=FileKind.FOLDER, mode=mode)
    if not stat.S_ISREG(info.st_mode):
        return FileState(kind=FileKind.SPECIAL, mode=mode)
    stamp = f"{info.st_size}.{info.st_mtime_ns}.{info.st_ctime_ns}.{info.st_dev}.{info.st_ino}"
    return FileState(kind=FileKind.FILE, size=info.st_size, mode=mode, links=info.st_nlink, stamp=stamp)


def look(path: Path) -> FileState:
    """What stands at a path, a file's content read; a file that can't be read has no SHA-256."""
    seen = glance(path)
    if seen.kind is not FileKind.FILE:
        return seen
    try:
        return replace(seen, sha256=sha256_of(path))
    except FileNotFoundError:
        return FileState()
    except OSError:
        return seen


def look_and_keep(path: Path, name: str, images: Images) -> FileState:
    """What stands at a path, a file's content kept.

    Raises:
        NotPermittedError, StorageError: it can't be kept, see `Images.keep`.
        OSError: it can't be read.
    """
    seen = glance(path)
    if seen.kind is not FileKind.FILE:
        return seen
    try:
        digest, size = images.keep(path, name)
    except FileNotFoundError:
        return FileState()
    return replace(seen, sha256=digest, size=size, kept=True)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What stood in a workspace at `at_ns`, by path; `why` says why contents, or all of it, are not known."""

    root: Path
    at_ns: int
    files: Mapping[str, FileState] = field(default_factory=dict)
    complete: bool = True
    why: str = ""

    def manifest(self) -> bytes:
        """The survey as it is kept for the time after a crash."""
        states = {path: state_data(state) for path, state in self.files.items()}
        return json.dumps({"at_ns": self.at_ns, "files": states}, sort_keys=True).encode()

    @classmethod
    def from_manifest(cls, root: Path, content: bytes) -> Survey:
        data = json.loads(content)
        return cls(root=root, at_ns=data["at_ns"], files={path: state_from(one) for path, one in data["files"].items()})


class Surveyor:
    """Surveys workspaces, and remembers the contents of files whose stamps are as they were.

    `closed` are folders that are no part of a workspace. The methods block; one thread at a time.
    """

    def __init__(self, images: Images, limits: JournalSettings, closed: frozenset[str]) -> None:
        self._images = images
        self._limits = limits
        self._closed = closed
        self._known: dict[str, str] = {}

    def before(self, root: Path) -> Survey:
        """What stands in a workspace now, its files' contents kept where it is small enough.

        Raises:
            StorageError: they can't be stored.
        """
        survey = self._glanced(root)
        if not survey.complete:
            return survey
        total = sum(state.size for state in survey.files.values())
        if total > self._limits.max_workspace_bytes:
            most = self._limits.max_workspace_bytes
            return replace(survey, why=f"the workspace is larger than {most:,} bytes (journal.max_workspace_bytes)")
        kept: dict[str, FileState] = {}
        try:
            for path, state in survey.files.items():
                kept[path] = self._kept(root / path, path, state, survey.at_ns)
        except NotPermittedError:
            why = f"the contents kept for undo have reached {self._limits.max_bytes:,} bytes (journal.max_bytes)"
            return replace(survey, why=why)
        return replace(survey, files=kept)

    def _kept(self, place: Path, path: str, state: FileState, at_ns: int) -> FileState:
        if state.kind is not FileKind.FILE or state.size > self._limits.max_file_bytes:
            return state
        known = self._known.get(state.stamp)
        if known is not None and self._images.has(known):
            return replace(state, sha256=known, kept=True)
        try:
            found = look_and_keep(place, path, self._images)
        except PermissionError:
            return state
        except OSError:
            return glance(place)
        if found.stamp == state.stamp and not is_racy(found.stamp, at_ns):
            self._known[found.stamp] = found.sha256
        return found

    def after(self, before: Survey) -> dict[str, tuple[FileState, FileState]] | None:
        """What differs now from a survey: by path the state before and the one now; None: there is too much to tell."""
        now = self._glanced(before.root, twice=True)
        if not now.complete:
            return None
        changed: dict[str, tuple[FileState, FileState]] = {}
        for path in sorted(before.files.keys() | now.files.keys()):
            old, new = before.files.get(path, FileState()), now.files.get(path, FileState())
            if old.kind is FileKind.FILE and old.stamp == new.stamp and not is_racy(old.stamp, before.at_ns):
                continue
            if new.kind is FileKind.FILE:
                new = look(before.root / path)
            if not old.same(new):
                changed[path] = (old, new)
        return changed

    def _glanced(self, root: Path, *, twice: bool = False) -> Survey:
        at_ns = time.time_ns()
        files: dict[str, FileState] = {}
        most = self._limits.max_files * (2 if twice else 1)
        for path, entry in walk(root, self._closed):
            if len(files) >= most:
                why = f"the workspace has more than {self._limits.max_files:,} files (journal.max_files)"
                return Survey(root=root, at_ns=at_ns, complete=False, why=why)
            files[path] = glance(Path(entry.path))
        return Survey(root=root, at_ns=at_ns, files=files)


def is_racy(stamp: str, at_ns: int, window_ns: int = _RACY_NS) -> bool:
    """Whether a file was changed so shortly before it was looked at that its stamp may not show the next change."""
    return bool(stamp) and int(stamp.split(".")[2]) > at_ns - window_ns


def inside(root: Path, path: str) -> Path:
    """The place of a path of the workspace.

    Raises:
        NotPermittedError: its folder is reached through a link, or lies outside.
    """
    place = root / path
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts:
        raise NotPermittedError(f"{path!r} is no path inside {root}.")
    here = root
    for part in parts[:-1]:
        here /= part
        if here.is_symlink():
            raise NotPermittedError(
                f"the folder {here.relative_to(root)} is a link now, so nothing below it is touched."
            )
    return place
