"""Opening what was judged, and nothing else: a resolved path is walked folder by folder, and no link is followed.

Between resolving a path and opening it by name, another process could put a link in place of one of its folders. Here
each folder is opened in the one before it (openat), so that a link put there is an error.

Source: openat(2), O_NOFOLLOW and O_PATH.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmos.errors import NotPermittedError

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_SWAPPED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})


@contextmanager
def folder_of(path: Path, *, made: list[tuple[int, str]] | None = None) -> Iterator[int]:
    """A descriptor of the folder that a resolved path is in; with `made` missing ones are made and noted there.

    Each is noted as a descriptor of the folder it was made in, closed at the end, and its name.

    Raises:
        NotPermittedError: a link, or something that is no folder, stands where a folder was.
        OSError: it can't be opened or made.
    """
    opened: list[int] = []
    try:
        try:
            opened.append(os.open("/", _FOLDER))
            for part in path.parent.parts[1:]:
                opened.append(_step(opened[-1], part, path, made))
        except BaseException:
            remove_made(made or [])
            raise
        yield opened[-1]
    finally:
        for descriptor in reversed(opened):
            os.close(descriptor)


def remove_made(made: list[tuple[int, str]]) -> None:
    """Remove the folders that were made, as far as they are empty."""
    for folder, part in reversed(made):
        with suppress(OSError):
            os.rmdir(part, dir_fd=folder)


def _step(folder: int, part: str, path: Path, made: list[tuple[int, str]] | None) -> int:
    try:
        return os.open(part, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if made is None:
            raise
        os.mkdir(part, dir_fd=folder)
        made.append((folder, part))
        return os.open(part, _FOLDER, dir_fd=folder)
    except OSError as error:
        raise _swapped(error, folder, part, path) from None


def open_to_read(path: Path) -> int:
    """A descriptor of the file at a resolved path.

    Raises:
        NotPermittedError: a link stands where the file or one of its folders was.
        OSError: it can't be opened.
    """
    with folder_of(path) as folder:
        try:
            return os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        except OSError as error:
            raise _swapped(error, folder, path.name, path) from None


def in_folder(folder: int, name: str, path: Path) -> Path:
    """A path to a name in an open folder, for those who open by path; without /proc `path` itself."""
    known = Path(f"/proc/self/fd/{folder}")
    return known / name if known.exists() else path


def _swapped(error: OSError, folder: int, name: str, path: Path) -> OSError | NotPermittedError:
    """The error, or what it means if a link stands there."""
    if error.errno not in _SWAPPED or not stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return error
    return NotPermittedError(f"{path} was changed while it was opened (a link stands in its way), and is left alone.")
