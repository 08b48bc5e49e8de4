"""Files by the folder: `count_files`, `find_files`, `find_duplicates`, `rename_files`."""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmos.errors import InputError
from llmos.plugins.builtin.opening import open_to_read
from llmos.plugins.builtin.paths import (
    count_text,
    existing_folder,
    folder_text,
    listing,
    matching,
    os_sentence,
    size_text,
)
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.plugins.resources import in_thread
from llmos.plugins.tool import FileRead, FileWrite
from llmos.trace.program import Effect

PATTERN = {"type": "string", "description": "shell pattern for names ('*.csv') or paths ('**/test_*.py')"}
RECURSIVE = {"type": "boolean", "description": "also in the folders below (default true)"}


def _sizes(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileRead]:
    asked = {"path": ".", "pattern": "*", "recursive": True, **arguments}
    root = existing_folder(ctx, asked["path"])
    files = matching(ctx, root, asked["pattern"], recursive=asked["recursive"])
    return [FileRead(path=root, value=[[ctx.relative(file), _stat(file).st_size] for file in files])]


@llm_tool(
    "count_files",
    "Count the files of a folder that match a pattern, folders below included; with their size and number by suffix.",
    {"path": str, "pattern": PATTERN, "recursive": RECURSIVE},
    defaults={"path": ".", "pattern": "*", "recursive": True},
    effect=Effect.READ,
    paths=("path",),
    idempotent=True,
    open_world=False,
    code=("pattern",),
    reads=_sizes,
    outside=False,
    version="1",
)
async def count_files(ctx: ToolContext, path: str, pattern: str, recursive: bool) -> dict[str, Any]:
    return await in_thread(_count, ctx, path, pattern, recursive)


def _count(ctx: ToolContext, path: str, pattern: str, recursive: bool) -> dict[str, Any]:
    root = existing_folder(ctx, path)
    files = matching(ctx, root, pattern, recursive=recursive)
    size = sum(_stat(file).st_size for file in files)
    suffixes = Counter(file.suffix.lower() for file in files)
    matching_text = "" if pattern == "*" else f" matching {pattern}"
    return {
        "path": ctx.relative(root),
        "count": len(files),
        "bytes": size,
        "by_suffix": dict(sorted(suffixes.items())),
        "text": f"{count_text(len(files), 'file')}{matching_text} in {folder_text(ctx, root)} ({size_text(size)})",
    }


def _entries(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileRead]:
    asked = {"path": ".", "pattern": "*", "recursive": True, **arguments}
    found = _find(ctx, *(asked[name] for name in ("path", "pattern", "recursive")))
    return [FileRead(path=existing_folder(ctx, asked["path"]), value=found["files"])]


@llm_tool(
    "find_files",
    "List the files of a folder that match a pattern, folders below included, with size and time of change.",
    {"path": str, "pattern": PATTERN, "recursive": RECURSIVE},
    defaults={"path": ".", "pattern": "*", "recursive": True},
    effect=Effect.READ,
    paths=("path",),
    idempotent=True,
    open_world=False,
    code=("pattern",),
    reads=_entries,
    outside=False,
    version="1",
)
async def find_files(ctx: ToolContext, path: str, pattern: str, recursive: bool) -> dict[str, Any]:
    return await in_thread(_find, ctx, path, pattern, recursive)


def _find(ctx: ToolContext, path: str, pattern: str, recursive: bool) -> dict[str, Any]:
    root = existing_folder(ctx, path)
    entries = [_entry(ctx, file) for file in matching(ctx, root, pattern, recursive=recursive)]
    names = [str(entry["path"]) for entry in entries]
    text = listing(names, empty=f"No file in {folder_text(ctx, root)} matches {pattern}.")
    return {"path": ctx.relative(root), "files": entries, "count": len(entries), "text": text}


def _entry(ctx: ToolContext, file: Path) -> dict[str, Any]:
    stat = _stat(file)
    modified = datetime.datetime.fromtimestamp(stat.st_mtime, datetime.UTC).isoformat(timespec="seconds")
    return {"path": ctx.relative(file), "bytes": stat.st_size, "modified": modified}


def _stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise os_sentence(error, f"{file.name} can't be examined") from None


def _compared(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileRead]:
    root = existing_folder(ctx, arguments.get("path", "."))
    sizes = {file: _stat(file).st_size for file in matching(ctx, root, arguments.get("pattern", "*"))}
    shared = Counter(sizes.values())
    named = FileRead(path=root, value=[[ctx.relative(file), size] for file, size in sizes.items()])
    return [named, *(FileRead(path=file) for file, size in sizes.items() if shared[size] > 1)]


@llm_tool(
    "find_duplicates",
    "Find files with the same content in a folder and those below (compared by size, then by SHA-256).",
    {"path": str, "pattern": PATTERN},
    defaults={"path": ".", "pattern": "*"},
    effect=Effect.READ,
    paths=("path",),
    idempotent=True,
    open_world=False,
    code=("pattern",),
    reads=_compared,
    outside=False,
    version="1",
)
async def find_duplicates(ctx: ToolContext, path: str, pattern: str) -> dict[str, Any]:
    return await in_thread(_duplicates, ctx, path, pattern)


def _duplicates(ctx: ToolContext, path: str, pattern: str) -> dict[str, Any]:
    root = existing_folder(ctx, path)
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in matching(ctx, root, pattern):
        by_size[_stat(file).st_size].append(file)
    groups: list[dict[str, Any]] = []
    for size, files in sorted(by_size.items(), reverse=True):
        by_hash: dict[str, list[str]] = defaultdict(list)
        for file in files if len(files) > 1 else []:
            by_hash[_sha256(file)].append(ctx.relative(file))
        groups += [{"sha256": h, "bytes": size, "files": same} for h, same in by_hash.items() if len(same) > 1]
    wasted = sum(group["bytes"] * (len(group["files"]) - 1) for group in groups)
    lines = [f"{size_text(group['bytes'])}: {', '.join(group['files'])}" for group in groups]
    head = f"{count_text(len(groups), 'group')} of duplicates in {folder_text(ctx, root)}, {size_text(wasted)} to save"
    return {
        "path": ctx.relative(root),
        "groups": groups,
        "count": len(groups),
        "wasted_bytes": wasted,
        "text": "\n".join([head, *lines]) if groups else f"No duplicates in {folder_text(ctx, root)}.",
    }


def _sha256(file: Path) -> str:
    try:
        with os.fdopen(open_to_read(file), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise os_sentence(error, f"{file.name} can't be read") from None


def _to_rename(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileWrite]:
    asked = {"path": ".", "pattern": "*", **arguments}
    _, moves = _planned(ctx, *(asked[name] for name in ("path", "find", "replace", "pattern")))
    gone = [FileWrite(path=file, removed=True) for file in sorted(moves.keys() - set(moves.values()))]
    return [*gone, *(FileWrite(path=target, content=file) for file, target in moves.items())]


@llm_tool(
    "rename_files",
    "Rename the files of a folder (not those below): every occurrence of the text find in their names becomes replace. "
    "Nothing is renamed if two files would get one name.",
    {"path": str, "find": str, "replace": str, "pattern": PATTERN},
    defaults={"path": ".", "pattern": "*"},
    effect=Effect.WRITE,
    paths=("path",),
    open_world=False,
    code=("pattern",),
    writes=_to_rename,
    outside=False,
    version="1",
)
async def rename_files(ctx: ToolContext, path: str, find: str, replace: str, pattern: str) -> dict[str, Any]:
    return await in_thread(_rename, ctx, path, find, replace, pattern)


def _rename(ctx: ToolContext, path: str, find: str, replace: str, pattern: str) -> dict[str, Any]:
    root, moves = _planned(ctx, path, find, replace, pattern)
    _move_all(moves)
    renamed = [{"from": ctx.relative(file), "to": ctx.relative(target)} for file, target in moves.items()]
    lines = [f"{move['from']} -> {move['to']}" for move in renamed]
    text = listing(lines, empty=f"No file name in {folder_text(ctx, root)} contains {find!r}.")
    return {"path": ctx.relative(root), "renamed": renamed, "count": len(renamed), "text": text}


def _planned(ctx: ToolContext, path: str, find: str, replace: str, pattern: str) -> tuple[Path, dict[Path, Path]]:
    """The folder, and which file of it would get which place; nothing is renamed.

    Raises:
        ToolError: what could lose a file.
    """
    root = existing_folder(ctx, path)
    if not find:
        raise InputError("find is empty; say which part of the names is replaced.")
    files = [file for file in matching(ctx, root, pattern, recursive=False) if find in file.name]
    moves = {file: file.name.replace(find, replace) for file in files}
    moves = {file: name for file, name in moves.items() if name != file.name}
    for file in moves:
        ctx.resolve(str(file), write=True)
    _check_names(ctx, root, moves)
    return root, {file: root / name for file, name in moves.items()}


def _check_names(ctx: ToolContext, root: Path, moves: dict[Path, str]) -> None:
    """Refuse before the first rename what could lose a file."""
    owners: dict[str, Path] = {}
    for file, name in moves.items():
        if not name or name in (".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
            raise InputError(f"{file.name} would be named {name!r}, which is no file name; nothing was renamed.")
        if name in owners:
            raise InputError(f"{owners[name].name} and {file.name} would both be named {name}; nothing was renamed.")
        owners[name] = file
        taken = root / name
        if os.path.lexists(taken) and taken not in moves:
            raise InputError(f"{file.name} would be named {name}, which exists; nothing was renamed.")


def _move_all(moves: dict[Path, Path]) -> None:
    """Rename all or none, through names of their own so that chains (a to b, b to c) work."""
    done: list[tuple[Path, Path]] = []
    aside = {file: file.with_name(f".{secrets.token_hex(8)}.tmp") for file in moves}
    steps = [*aside.items(), *((aside[file], target) for file, target in moves.items())]
    try:
        for source, target in steps:
            source.rename(target)
            done.append((source, target))
    except OSError as error:
        for source, target in reversed(done):
            target.rename(source)
        raise os_sentence(error, "renaming failed, and all names are as they were") from None
