"""Bringing files back: everything that may fail is prepared first, and each path is then replaced whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llmos.errors import UndoError
from llmos.kernel.images import Images, sha256_of
from llmos.kernel.scratch import copy_file
from llmos.kernel.survey import glance, inside
from llmos.kernel.undo import Restoration
from llmos.trace.effects import FileKind

_OWNER = 0o700


def restore_all(root: Path, work: Sequence[Restoration], images: Images) -> list[str]:
    """Bring every path back; gives the folders that the run had made and that stay, for there is something in them.

    Raises:
        UndoError: something could not be prepared (nothing was changed), or not be done (the sentence says so).
    """
    _check_still(root, work)
    with _opened(root, work), _prepared(root, work, images) as contents:
        done = 0
        try:
            left = _remove(root, work)
            for one in sorted(work, key=lambda one: one.path.count("/")):
                if one.before.kind is FileKind.FOLDER and one.present.kind is not FileKind.FOLDER:
                    (root / one.path).mkdir(mode=_OWNER)
            for one in work:
                if one.path in contents:
                    contents[one.path].replace(root / one.path)
                done += 1
            _set_modes(root, work)
            _sync(root, work)
        except OSError as error:
            raise UndoError(
                f"undo stopped at {error.filename or work[min(done, len(work) - 1)].path} ({error.strerror or error}); "
                "what was brought back so far stays so: mend that and run undo again."
            ) from error
    return left


def _check_still(root: Path, work: Iterable[Restoration]) -> None:
    """Nothing may have changed since the plan was made."""
    for one in work:
        now = glance(inside(root, one.path))
        if now.kind is not one.present.kind or now.stamp != one.present.stamp or now.target != one.present.target:
            raise UndoError(f"{one.path} was changed this very moment; nothing was restored: run undo again.")


@contextmanager
def _prepared(root: Path, work: Iterable[Restoration], images: Images) -> Iterator[dict[str, Path]]:
    """Contents and links beside their places, durable, by path; what was not put in place is removed at the end."""
    made: dict[str, Path] = {}
    try:
        for one in work:
            try:
                if one.before.kind is FileKind.LINK and not one.before.same_content(one.present):
                    made[one.path] = _beside(root, one.path)
                    made[one.path].symlink_to(one.before.target)
                elif one.source:
                    made[one.path] = _beside(root, one.path)
                    _copy(one, made[one.path], images)
            except OSError as error:
                raise UndoError(
                    f"{one.path} can't be brought back ({error.strerror or error}); nothing was restored."
                ) from error
        yield made
    finally:
        for temporary in made.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def put_back(images: Images, one: Restoration, present: Path, target: Path) -> None:
    """Put what a path held before into a file; OSError: it is not there, or can't be read. `present` is there now."""
    if one.source and one.source == one.before.sha256:
        images.copy(one.source, target)
    else:
        copy_file(one.source or str(present), target)


def _copy(one: Restoration, target: Path, images: Images) -> None:
    put_back(images, one, target, target)
    if sha256_of(target) != one.before.sha256:
        raise UndoError(f"what is kept of {one.path} is damaged or was changed this very moment; nothing was restored.")
    target.chmod(one.before.mode)
    _sync_path(target)


def _beside(root: Path, path: str) -> Path:
    """A fresh name in the nearest folder that is there and stays."""
    folder = (root / path).parent
    while folder != root and glance(folder).kind is not FileKind.FOLDER:
        folder = folder.parent
    return folder / f".llmos-{secrets.token_hex(8)}.tmp"


def _remove(root: Path, work: Iterable[Restoration]) -> list[str]:
    """Take away what was not there before, the inner things first."""
    left: list[str] = []
    for one in sorted(work, key=lambda one: -one.path.count("/")):
        if one.present.kind is FileKind.ABSENT or one.present.kind is one.before.kind:
            continue
        place = root / one.path
        if one.present.kind is not FileKind.FOLDER:
            if one.before.kind in (FileKind.ABSENT, FileKind.FOLDER):
                place.unlink()
            continue
        try:
            place.rmdir()
        except OSError:
            if one.before.kind is not FileKind.ABSENT or not any(place.iterdir()):
                raise
            left.append(one.path)
    return left


def _set_modes(root: Path, work: Iterable[Restoration]) -> None:
    for one in sorted(work, key=lambda one: -one.path.count("/")):
        if one.before.kind in (FileKind.FILE, FileKind.FOLDER):
            (root / one.path).chmod(one.before.mode)


@contextmanager
def _opened(root: Path, work: Iterable[Restoration]) -> Iterator[None]:
    """Folders in which something is to be done, made writable meanwhile if they are not."""
    folders = {folder for one in work for folder in (root / one.path).parents if folder.is_relative_to(root)}
    shut = {folder: state.mode for folder in sorted(folders) if (state := glance(folder)).kind is FileKind.FOLDER}
    shut = {folder: mode for folder, mode in shut.items() if mode & _OWNER != _OWNER}
    mentioned = {root / one.path for one in work}
    for folder, mode in shut.items():
        with contextlib.suppress(OSError):
            folder.chmod(mode | _OWNER)
    try:
        yield
    finally:
        for folder, mode in shut.items():
            if folder not in mentioned:
                with contextlib.suppress(OSError):
                    folder.chmod(mode)


def _sync(root: Path, work: Iterable[Restoration]) -> None:
    for folder in {(root / one.path).parent for one in work}:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            _sync_path(folder)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
