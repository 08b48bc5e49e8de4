"""Contents of files as they were: kept by their SHA-256 in a folder of our own, durable before they are relied on.

What holds a secret is kept encrypted, in a file with a suffix of its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos.errors import NotPermittedError, StorageError
from llmos.kernel.scratch import copy_file
from llmos.kernel.sealing import Sealing
from llmos.settings import JournalSettings

_SMALL_BYTES = 4_000_000
_SEALED = ".sealed"
_FEW = 4
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Images:
    """The kept contents below `folder`, within the limits of the settings.

    What `keep` and `put` took is there, and durable, once `flush` returned; `was_full` says that something did not fit.
    The methods block; one thread at a time.
    """

    def __init__(self, folder: Path, limits: JournalSettings, sealing: Sealing) -> None:
        self.folder = folder
        self._sealing = sealing
        self._limits = limits
        self._fresh: dict[str, Path] = {}
        self._used_bytes: int | None = None
        self.was_full = False

    def has(self, sha256: str) -> bool:
        """Whether a content is kept."""
        return bool(sha256) and (self._is_fresh(sha256) or self._path(sha256) is not None)

    def content(self, sha256: str) -> bytes:
        """A kept content; OSError: it is not there, or can't be read."""
        path = self._path(sha256)
        if path is None:
            raise FileNotFoundError(errno.ENOENT, "it is not kept any more", str(self.folder / sha256))
        content = path.read_bytes()
        return self._sealing.opened(content, sha256) if path.suffix == _SEALED else content

    def copy(self, sha256: str, target: Path) -> None:
        """Put a kept content into a file; OSError: it is not there, or can't be read."""
        path = self._path(sha256)
        if path is not None and path.suffix != _SEALED:
            copy_file(str(path), target)
        else:
            target.write_bytes(self.content(sha256))

    def _is_fresh(self, sha256: str) -> bool:
        return sha256 in self._fresh or f"{sha256}{_SEALED}" in self._fresh

    def _path(self, sha256: str) -> Path | None:
        return next((path for end in ("", _SEALED) if (path := self.folder / f"{sha256}{end}").is_file()), None)

    def keep(self, source: Path, name: str) -> tuple[str, int]:
        """Keep what a regular file holds; gives its SHA-256 and size. `name` stands in sentences.

        Raises:
            NotPermittedError: it is larger than one file, or all of them, may be.
            StorageError: it can't be stored.
            FileNotFoundError: it is gone.
            OSError: it can't be read.
        """
        size = source.lstat().st_size
        if size > self._limits.max_file_bytes:
            raise NotPermittedError(
                f"{name} has {size:,} bytes, and what is changed is kept up to {self._limits.max_file_bytes:,} bytes "
                "(journal.max_file_bytes in llmos.yaml) so that it can be undone: raise that, or change it by hand."
            )
        if size <= _SMALL_BYTES:
            content = read_regular(source, self._limits.max_file_bytes)
            if len(content) <= self._limits.max_file_bytes:
                return self._put(content, name), len(content)
            raise StorageError(f"{name} grew while it was read to be kept, so it is not changed: try again.")
        known = sha256_of(source)
        if self.has(known):
            return known, size
        self._check_room(size)
        with self._storing(name, size), self._temporary() as temporary:
            copy_file(str(source), temporary)
            content = temporary.read_bytes()
            digest, size = hashlib.sha256(content).hexdigest(), len(content)
            self._take(temporary, digest, content)
        return digest, size

    def put(self, content: bytes) -> str:
        """Keep a content of our own, whatever its size; gives its SHA-256.

        Raises:
            StorageError: it can't be stored.
        """
        return self._put(content, "the list of the workspace's files")

    def _put(self, content: bytes, name: str) -> str:
        digest = hashlib.sha256(content).hexdigest()
        if not self.has(digest):
            self._check_room(len(content))
            with self._storing(name, len(content)), self._temporary() as temporary:
                temporary.touch(mode=0o600)
                self._take(temporary, digest, content)
        return digest

    def flush(self) -> None:
        """Make durable what was kept since the last flush.

        Raises:
            StorageError: the disk does not take it.
        """
        fresh, self._fresh = self._fresh, {}
        if not fresh:
            return
        try:
            with self._storing("what is to be changed", 0):
                if len(fresh) <= _FEW:
                    for temporary in fresh.values():
                        _sync(temporary)
                else:
                    _sync_file_system(self.folder)
                for digest, temporary in fresh.items():  # only now: a name never stands for half a content
                    temporary.replace(self.folder / digest)
                _sync(self.folder)
        finally:
            self._forget(fresh)

    def discard(self) -> None:
        """Let go of what was kept since the last flush."""
        fresh, self._fresh = self._fresh, {}
        self._forget(fresh)

    def prune(self, needed: set[str]) -> int:
        """Remove every content that is not needed; gives how many bytes that freed."""
        freed = 0
        for entry in self._entries():
            if entry.name.removesuffix(_SEALED) not in needed:
                with contextlib.suppress(OSError):
                    size = entry.stat().st_size
                    Path(entry.path).unlink()
                    freed += size
        self._used_bytes = None
        return freed

    @property
    def used_bytes(self) -> int:
        """What all contents take up."""
        if self._used_bytes is None:
            self._used_bytes = sum(entry.stat().st_size for entry in self._entries())
        return self._used_bytes

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            return [entry for entry in os.scandir(self.folder) if entry.is_file(follow_symlinks=False)]
        except OSError:  # none yet, or none that we may see: `keep` says which
            return []

    @contextmanager
    def _storing(self, name: str, size: int) -> Iterator[None]:
        """The system's errors as sentences; whoever asked does not make its call."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StorageError(
                    f"there is no space left in {self.folder} to keep {name} ({size:,} bytes) as it is, so it is not "
                    "changed: make room and try again."
                ) from error
            raise StorageError(
                f"{name} can't be kept as it is in {self.folder} ({error.strerror or error}), so it is not changed: "
                "check the rights of that folder, or choose another --home."
            ) from error

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self.folder / f".{secrets.token_hex(8)}.tmp"
        try:
            yield temporary
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _check_room(self, size: int) -> None:
        most = self._limits.max_bytes
        if self.used_bytes + size > most:
            self.was_full = True
            raise NotPermittedError(
                f"the contents kept for undo have reached {most:,} bytes (journal.max_bytes in llmos.yaml), so nothing "
                "is changed: raise that, or lower journal.keep_days and run `llmos journal prune`."
            )

    def _take(self, temporary: Path, digest: str, content: bytes) -> None:
        """Keep what a temporary file is to hold, or holds already."""
        if self.has(digest):
            temporary.unlink()
            return
        name, kept = digest, content
        if self._sealing.is_needed(content):
            name, kept = f"{digest}{_SEALED}", self._sealing.sealed(content, digest)
        if kept is not content or temporary.stat().st_size != len(content):
            temporary.write_bytes(kept)
        temporary.chmod(0o400)
        self._fresh[name] = temporary
        self._used_bytes = self.used_bytes + len(kept)

    def _forget(self, fresh: dict[str, Path]) -> None:
        """Remove what a flush left behind (nothing, unless it failed)."""
        for temporary in fresh.values():
            temporary.unlink(missing_ok=True)
        self._used_bytes = None if fresh else self._used_bytes


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file, never through a link, never waiting for a pipe; OSError for anything else."""
    reading = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(reading, "rb") as stream:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return stream.read(most_bytes + 1)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a regular file's content; OSError for anything else."""
    reading = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(reading, "rb") as stream:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(folder: Path) -> None:
    """All of the folder's file system at once: one wait instead of one for each of many files."""
    import ctypes

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)
