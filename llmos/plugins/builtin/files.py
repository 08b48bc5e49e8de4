"""Reading and changing text files: `read`, `write`, `edit`."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmos.errors import ToolError
from llmos.plugins.builtin.opening import open_to_read
from llmos.plugins.builtin.paths import count_text, existing_file, os_sentence, size_text
from llmos.plugins.builtin.reading import content_of
from llmos.plugins.builtin.writing import utf8, writable_target, write_bytes
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.plugins.resources import in_thread
from llmos.plugins.tool import FileRead, FileWrite
from llmos.trace.program import Effect

MAX_READ_BYTES = 2_000_000
MAX_FILE_BYTES = 100_000_000


@llm_tool(
    "read",
    "Read a UTF-8 text file. Gives its text and its number of lines; offset (first line, from 1) and limit "
    "(lines) read a part of a long file.",
    {
        "file_path": str,
        "offset": {"type": "integer", "minimum": 1, "description": "first line to read, from 1"},
        "limit": {"type": "integer", "minimum": 1, "description": "how many lines to read"},
    },
    defaults={"offset": None, "limit": None},
    effect=Effect.READ,
    paths=("file_path",),
    idempotent=True,
    open_world=False,
    reads=content_of("file_path"),
    version="1",
)
async def read(ctx: ToolContext, file_path: str, offset: int | None, limit: int | None) -> dict[str, Any]:
    return await in_thread(_read, ctx, file_path, offset, limit)


def _read(ctx: ToolContext, file_path: str, offset: int | None, limit: int | None) -> dict[str, Any]:
    path = existing_file(ctx, file_path)
    text = read_text(ctx, path)
    lines = text.count("\n") + (not text.endswith("\n") and text != "")
    if offset is not None or limit is not None:
        first = (offset or 1) - 1
        wanted = io.StringIO(text, newline="").readlines()[first : first + limit if limit else None]
        text = "".join(wanted)
    if len(text) > MAX_READ_BYTES:
        raise ToolError(
            f"{ctx.relative(path)} is too long to read at once ({size_text(path.stat().st_size)}, {lines} lines); "
            "read a part with offset and limit, or search it with grep or query_data."
        )
    return {"path": ctx.relative(path), "text": text, "lines": lines}


def read_text(ctx: ToolContext, path: Path) -> str:
    """A file's text, its line ends and a leading byte-order mark kept as they are.

    Raises:
        ToolError: too large, unreadable, or no UTF-8 text.
    """
    name = ctx.relative(path)
    try:
        with os.fdopen(open_to_read(path), "rb") as stream:
            if (size := os.fstat(stream.fileno()).st_size) > MAX_FILE_BYTES:
                raise ToolError(f"{name} is too large for a text file ({size_text(size)}); use query_data or bash.")
            content = stream.read()
    except OSError as error:
        raise os_sentence(error, f"{name} can't be read") from None
    if b"\0" in content[:8192]:
        raise ToolError(f"{name} is a binary file, not text.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ToolError(f"{name} is not UTF-8 text (byte {error.start} is {content[error.start]:#04x}).") from None


def _written(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileWrite]:
    target = ctx.resolve(arguments["file_path"], write=True)
    return [FileWrite(path=target, content=utf8(ctx, target, arguments["content"]))]


def _replaced(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileRead]:
    target = writable_target(ctx, arguments["file_path"])
    return [FileRead(path=target, value=target.exists(), shows_in=("created",))]


@llm_tool(
    "write",
    "Write a text file (UTF-8), replacing what was there; missing folders are made.",
    {"file_path": str, "content": str},
    effect=Effect.WRITE,
    paths=("file_path",),
    idempotent=True,
    open_world=False,
    payload=("content",),
    writes=_written,
    reads=_replaced,
    version="1",
)
async def write(ctx: ToolContext, file_path: str, content: str) -> dict[str, Any]:
    return await in_thread(_write, ctx, file_path, content)


def _write(ctx: ToolContext, file_path: str, content: str) -> dict[str, Any]:
    target = writable_target(ctx, file_path)
    body = utf8(ctx, target, content)
    created = not target.exists()
    write_bytes(ctx, target, body)
    name = ctx.relative(target)
    return {"path": name, "bytes": len(body), "created": created, "text": f"Wrote {size_text(len(body))} to {name}."}


def _to_edit(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileWrite]:
    asked = {"replace_all": False, **arguments}
    names = ("file_path", "old_string", "new_string", "replace_all")
    target, body, _ = _edited(ctx, *(asked[name] for name in names))
    return [FileWrite(path=target, content=body)]


@llm_tool(
    "edit",
    "Replace an exact piece of text in a file. old_string must occur exactly once, unless replace_all is true.",
    {"file_path": str, "old_string": str, "new_string": str, "replace_all": bool},
    defaults={"replace_all": False},
    effect=Effect.WRITE,
    paths=("file_path",),
    open_world=False,
    payload=("old_string", "new_string"),
    writes=_to_edit,
    reads=content_of("file_path"),
    version="1",
)
async def edit(ctx: ToolContext, file_path: str, old_string: str, new_string: str, replace_all: bool) -> dict[str, Any]:
    return await in_thread(_edit, ctx, file_path, old_string, new_string, replace_all)


def _edit(ctx: ToolContext, file_path: str, old: str, new: str, replace_all: bool) -> dict[str, Any]:
    target, body, found = _edited(ctx, file_path, old, new, replace_all)
    name = ctx.relative(target)
    write_bytes(ctx, target, body)
    return {"path": name, "replacements": found, "text": f"Replaced {count_text(found, 'occurrence')} in {name}."}


def _edited(ctx: ToolContext, file_path: str, old: str, new: str, replace_all: bool) -> tuple[Path, bytes, int]:
    """The file an edit changes, what it will hold, and how often the text was found; nothing is changed."""
    path = existing_file(ctx, file_path)
    name = ctx.relative(path)
    if not old:
        raise ToolError("old_string is empty; use write to make a whole file.")
    if old == new:
        raise ToolError("old_string and new_string are the same; nothing would change.")
    target = writable_target(ctx, file_path)
    text = read_text(ctx, path)
    if old not in text and "\r\n" in text:
        old, new = (part.replace("\r\n", "\n").replace("\n", "\r\n") for part in (old, new))
    found = text.count(old)
    if found == 0:
        raise ToolError(f"old_string does not occur in {name}; read the file and copy the text exactly.")
    if found > 1 and not replace_all:
        raise ToolError(f"old_string occurs {found} times in {name}; give more of its surroundings or set replace_all.")
    return target, utf8(ctx, target, text.replace(old, new)), found
