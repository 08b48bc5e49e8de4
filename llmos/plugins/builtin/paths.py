"""Paths of the workspace: checked before they are opened, walked in one order, matched by shell patterns."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from llmos.errors import InputError, NotPermittedError, ToolError, WrongKindError
from llmos.plugins.context import ToolContext

SKIPPED_FOLDERS = frozenset({".git"})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def existing_file(ctx: ToolContext, path: str) -> Path:
    """The regular file a path names.

    Raises:
        InputError: nothing there (WrongKindError: a folder, or something that is no file).
    """
    resolved = ctx.resolve(path)
    if resolved.is_file():
        return resolved
    if resolved.is_dir():
        raise WrongKindError(f"{ctx.relative(resolved)} is a folder, not a file; name a file in it.")
    if os.path.lexists(resolved):
        raise WrongKindError(f"{ctx.relative(resolved)} is not a regular file.")
    raise InputError(f"there is no file {ctx.relative(resolved)}{_similar(ctx, resolved) or '.'}")


def existing_folder(ctx: ToolContext, path: str) -> Path:
    """The folder a path names.

    Raises:
        InputError: nothing there (WrongKindError: no folder).
    """
    resolved = ctx.resolve(path)
    if resolved.is_dir():
        return resolved
    if resolved.exists():
        raise WrongKindError(f"{ctx.relative(resolved)} is a file, not a folder.")
    raise InputError(f"the folder {ctx.relative(resolved)} does not exist.")


def _similar(ctx: ToolContext, missing: Path) -> str:
    import difflib

    try:
        with os.scandir(missing.parent) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return ""
    close = difflib.get_close_matches(missing.name, names[:10_000], n=1, cutoff=0.75)
    return f"; did you mean {ctx.relative(missing.parent / close[0])}?" if close else ""


def folder_text(ctx: ToolContext, folder: Path) -> str:
    """A folder in a sentence."""
    name = ctx.relative(folder)
    return "the workspace" if name == "." else name


def os_sentence(error: OSError, what: str) -> ToolError:
    """An operating-system error as one sentence about `what`; an InputError where the disk has no room or no rights."""
    kind = InputError if error.errno in _NO_ROOM else ToolError
    return kind(f"{what}: {error.strerror or error}.")


def walk(ctx: ToolContext, root: Path, *, recursive: bool = True, left_out: list[Path] | None = None) -> Iterator[Path]:
    """The regular files below a folder, sorted by path; never through links, into `.git` or a closed folder.

    What is closed is put into `left_out`.
    """
    folders, closed = [root], left_out if left_out is not None else []
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        inner: list[Path] = []
        for entry in entries:
            path = Path(entry.path)
            if entry.is_file(follow_symlinks=False):
                if ctx.is_open(path):
                    yield path
                else:
                    closed.append(path)
            elif recursive and entry.is_dir(follow_symlinks=False) and path.name not in SKIPPED_FOLDERS:
                (inner if ctx.is_open(path) else closed).append(path)
        folders.extend(reversed(inner))


def matching(ctx: ToolContext, root: Path, pattern: str, *, recursive: bool = True) -> list[Path]:
    """The files below `root` that match a shell pattern, sorted.

    A pattern without a slash is matched against names, one with slashes against the path from `root`.

    Raises:
        NotPermittedError: none matches, but what a rule closes may.
    """
    regex = glob_regex(pattern)
    by_name = "/" not in pattern
    closed: list[Path] = []

    def matches(path: Path) -> bool:
        return regex.fullmatch(path.name if by_name else path.relative_to(root).as_posix()) is not None

    found = sorted(filter(matches, walk(ctx, root, recursive=recursive, left_out=closed)))
    hidden = [path for path in closed if path not in ctx.denied and (path.is_dir() or matches(path))]
    if hidden and not found:
        where = folder_text(ctx, hidden[0].parent)
        raise NotPermittedError(
            f"no open file matches {pattern}, and something in {where} is closed by a rule of llmos.yaml, so whether "
            "one does is not told; `permissions show` lists the rules."
        )
    return found


@lru_cache(maxsize=256)
def glob_regex(pattern: str) -> re.Pattern[str]:
    """A shell pattern as a regular expression: `*`, `?`, `[a-z]`, `[!x]`, `{a,b}`, and `**/` for any folders.

    Raises:
        ToolError: an unclosed bracket or brace.
    """
    out: list[str] = []
    position, depth = 0, 0
    while position < len(pattern):
        piece, position, depth = _piece(pattern, position, depth)
        out.append(piece)
    if depth:
        raise ToolError(f"the pattern {pattern!r} has a {{ that is never closed.")
    return re.compile("".join(out), re.DOTALL)


def _piece(pattern: str, at: int, depth: int) -> tuple[str, int, int]:
    char = pattern[at]
    if pattern.startswith("**/", at):
        return "(?:[^/]+/)*", at + 3, depth
    if pattern.startswith("**", at):
        return ".*", at + 2, depth
    if char == "[":
        end = pattern.find("]", at + 2)
        if end < 0:
            raise ToolError(f"the pattern {pattern!r} has a [ that is never closed.")
        inner = pattern[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
        return f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]", end + 1, depth
    if char == "{":
        return "(?:", at + 1, depth + 1
    if char == "}" and depth:
        return ")", at + 1, depth - 1
    if char == "," and depth:
        return "|", at + 1, depth
    simple = {"*": "[^/]*", "?": "[^/]"}
    return simple.get(char, re.escape(char)), at + 1, depth


def listing(paths: list[str], *, empty: str, limit: int = 200) -> str:
    """Paths as a person reads them, one a line."""
    if not paths:
        return empty
    more = [f"… {len(paths) - limit} more"] if len(paths) > limit else []
    return "\n".join([*paths[:limit], *more])


def size_text(size_bytes: int) -> str:
    """A size as a person reads it: `512 bytes`, `1.5 kB`, `20 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes} byte{'' if size_bytes == 1 else 's'}"
    power = 3 if size_bytes >= 10**9 else 2 if size_bytes >= 10**6 else 1
    return f"{size_bytes / 1000**power:.3g} {('kB', 'MB', 'GB')[power - 1]}"


def count_text(count: int, noun: str) -> str:
    """`1 file`, `3 files`, `no files`."""
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
