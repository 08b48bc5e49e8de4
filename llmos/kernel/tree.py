"""What stands in a folder, and what has changed in it since it was looked at."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_MAX_TEXT_BYTES = 1_000_000
_MAX_NORMALISED_BYTES = 8_000_000


class Kind(StrEnum):
    """What can stand at a path, or be true of it afterwards."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What stood at a path: `source` has a file's content, `target` is what a link led to, counted from the root."""

    kind: Kind
    source: Path
    size: int = 0
    mtime_ns: int = 0
    target: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of a path; `digest` tells contents apart, `text` is a small UTF-8 file's content."""

    kind: Kind
    digest: str = ""
    text: str | None = None


def walk(root: Path, skip: frozenset[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a folder by its path from there, a folder before what is in it; links are not followed."""
    folders = [("", str(root))]
    while folders:
        prefix, folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except (PermissionError, FileNotFoundError):
            continue
        for entry in entries:
            if entry.path in skip:
                continue
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                folders.append((f"{prefix}{entry.name}/", entry.path))


def led_to(root: Path, link: Path) -> str | None:
    """Where a link leads, counted from the root; None if that is outside, or nowhere (a circle)."""
    try:
        resolved, root = link.resolve(), root.resolve()
    except (OSError, RuntimeError):
        return None
    return os.path.relpath(resolved, root) if resolved.is_relative_to(root) else None


def changes_below(
    root: Path,
    origin: Mapping[str, Entry],
    *,
    said: tuple[str, str] | None = None,
    skip: frozenset[str] = frozenset(),
    ignored: set[str] | None = None,
    limit: int = 1 << 62,
) -> dict[str, Change]:
    """What differs below a folder from what stood there; `said`: a text in contents and what it is read as."""
    found: dict[str, Change] = {}
    seen: set[str] = set()
    for path, entry in walk(root, skip):
        seen.add(path)
        if len(seen) > limit:
            raise OSError("the workspace has grown too large")
        if path in (ignored or ()):
            continue
        change = _change(root, Path(entry.path), origin.get(path), said)
        if change is not None:
            found[path] = change
    return found | {path: Change(kind=Kind.GONE) for path in origin.keys() - seen}


def _change(root: Path, path: Path, known: Entry | None, said: tuple[str, str] | None) -> Change | None:
    """What became of one path, or None where it is as it was (or special, or gone meanwhile)."""
    try:
        info = path.lstat()
        if stat.S_ISDIR(info.st_mode):
            return None if known and known.kind is Kind.FOLDER else Change(kind=Kind.FOLDER)
        if stat.S_ISLNK(info.st_mode):
            target = led_to(root, path) or str(path.readlink())
            same = known is not None and known.kind is Kind.LINK and known.target == target
            return None if same else Change(kind=Kind.LINK, digest=target)
        if not stat.S_ISREG(info.st_mode):
            return None
        if known and known.kind is Kind.FILE and (known.size, known.mtime_ns) == (info.st_size, info.st_mtime_ns):
            return None
        if known and known.kind is Kind.FILE and known.size == info.st_size and _sha256(known.source) == _sha256(path):
            return None
        return _content(path, info.st_size, said)
    except FileNotFoundError:
        return None


def _content(path: Path, size: int, said: tuple[str, str] | None) -> Change:
    if size > _MAX_NORMALISED_BYTES:
        return Change(kind=Kind.FILE, digest=_sha256(path))
    content = path.read_bytes()
    if said is not None:
        content = content.replace(os.fsencode(said[0]), os.fsencode(said[1]))
    text = None
    if len(content) <= _MAX_TEXT_BYTES:
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode("utf-8")
    return Change(kind=Kind.FILE, digest=hashlib.sha256(content).hexdigest(), text=text)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
