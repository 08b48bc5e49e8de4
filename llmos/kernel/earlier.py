"""The workspace as it was before a replay: what its calls are about to change is kept, until they all went well."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmos.errors import LLMOSError
from llmos.kernel.scratch import copy_file, new_folder, remove
from llmos.kernel.tree import walk
from llmos.plugins.tool import ToolCall, ToolResult
from llmos.trace.evidence import leaves
from llmos.trace.program import Effect

_MAX_KEPT_BYTES = 64 * 2**20
_MAX_LISTED = 10_000
_MAX_PATH = 1_000
# The clock that the kernel stamps files with.
_FILE_CLOCK = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)


@dataclass(kw_only=True)
class Earlier:
    """Middleware of a replay that keeps the files its writing calls name, as they were when it began.

    `memory` is where copies may lie. What changed without being named is found by its time stamps: then, and where more
    than files was changed, the earlier state is not known. A file that another process removed meanwhile, from a folder
    the replay wrote into, is taken for one it removed.
    """

    workspace: Path
    memory: Path
    closed: tuple[Path, ...] = ()
    unknown: str = ""
    kept: dict[str, Path | None] = field(default_factory=dict)
    _since_ns: int = field(default_factory=lambda: time.clock_gettime_ns(_FILE_CLOCK))
    _listed: dict[str, frozenset[str]] = field(default_factory=dict)
    _folder: Path | None = None
    _bytes: int = 0

    async def __call__(self, call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult:
        if call.effect.changes_world and not self.unknown:
            await asyncio.to_thread(self._keep, call)
        return await proceed()

    def before(self) -> Mapping[str, Path | None]:
        """What stood at the paths that changed since; why that is not known stands in `unknown`."""
        self.unknown = self.unknown or self._unseen()
        return self.kept

    def remove(self) -> None:
        """Remove the copies."""
        folder, self._folder = self._folder, None
        if folder is not None:
            remove(folder)

    # --- before a call -----------------------------------------------------------------------------

    def _keep(self, call: ToolCall) -> None:
        if call.effect is not Effect.WRITE:
            self.unknown = f"{call.tool.name} may have changed anything ({call.effect})"
            return
        try:
            for path in self._named(call):
                self._keep_path(path)
        except OSError as error:
            self.unknown = f"what {call.tool.name} was about to change can't be kept ({error.strerror or error})"

    def _named(self, call: ToolCall) -> Iterator[Path]:
        """Each path of the workspace that an argument may mean; most texts name nothing and never will."""
        for _, leaf in leaves(dict(call.arguments)):
            if isinstance(leaf, str) and 0 < len(leaf) <= _MAX_PATH and "\n" not in leaf:
                with contextlib.suppress(LLMOSError, OSError, ValueError):
                    path = call.ctx.resolve(leaf, write=True)
                    if path != self.workspace.resolve():
                        yield path

    def _keep_path(self, path: Path) -> None:
        root = self.workspace.resolve()
        if path.is_dir():
            return  # whatever is changed in it has time stamps of its own
        missing = [one for one in (path, *path.parents) if root in one.parents and not os.path.lexists(one)]
        for one in missing or (path,):
            self._list(one.parent)
            name = one.relative_to(root).as_posix()
            if name not in self.kept:
                self.kept[name] = None if missing else self._copied(one)

    def _list(self, folder: Path) -> None:
        """Remember what is in a folder before anything in it is changed."""
        if str(folder) in self._listed or not folder.is_dir():
            return
        names = frozenset(entry.name for _, entry in zip(range(_MAX_LISTED + 1), os.scandir(folder), strict=False))
        if len(names) > _MAX_LISTED:
            self.unknown = f"{folder.name} has more than {_MAX_LISTED:,} entries"
        self._listed[str(folder)] = names

    def _copied(self, path: Path) -> Path | None:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode):
            self.unknown = self.unknown or f"{path.name} was no file"
            return None
        self._bytes += info.st_size
        if self._bytes > _MAX_KEPT_BYTES:
            self.unknown = f"the files that were changed are larger than {_MAX_KEPT_BYTES // 2**20} MiB"
            return None
        self._folder = self._folder or new_folder(self.memory, self.workspace)
        copy = self._folder / str(len(self.kept))
        copy_file(str(path), copy)
        os.utime(copy, ns=(info.st_atime_ns, info.st_mtime_ns))
        copy.chmod(stat.S_IMODE(info.st_mode) & 0o777)
        return copy

    # --- after the replay --------------------------------------------------------------------------

    def _unseen(self) -> str:
        """What changed since without being named by a call; '' if nothing did."""
        root = self.workspace.resolve()
        skip = frozenset(str(folder) for folder in self.closed)
        for folder in (root, *(root / path for path, entry in walk(root, skip) if entry.is_dir(follow_symlinks=False))):
            name = folder.relative_to(root).as_posix()
            if not self._is_new(name) and str(folder) not in self._listed and self._changed(folder):
                return f"something in {'the workspace' if folder == root else name} was changed too"
        for path, entry in walk(root, skip):
            if not entry.is_dir(follow_symlinks=False) and not self._is_known(path) and self._changed(Path(entry.path)):
                return f"{path} was changed too"
        for listed, names in self._listed.items():
            gone = names - {entry.name for entry in _entries(listed)}
            if any(not self._is_known(Path(listed, name).relative_to(root).as_posix()) for name in gone):
                return f"something in {Path(listed).name} was removed too"
        return ""

    def _changed(self, path: Path) -> bool:
        try:
            return path.lstat().st_ctime_ns >= self._since_ns
        except FileNotFoundError:
            return True

    def _is_known(self, path: str) -> bool:
        return path in self.kept or self._is_new(path)

    def _is_new(self, path: str) -> bool:
        """Whether nothing stood here before, or in the place of a folder around it."""
        parts = Path(path).parts
        names = ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
        return any(name in self.kept and self.kept[name] is None for name in names)


def _entries(folder: str) -> list[Any]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []
