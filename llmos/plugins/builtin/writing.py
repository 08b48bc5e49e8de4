"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos.errors import ToolError, WrongKindError
from llmos.plugins.builtin.opening import folder_of, in_folder, remove_made
from llmos.plugins.builtin.paths import os_sentence
from llmos.plugins.context import ToolContext
from llmos.plugins.resources import wrote


def writable_target(ctx: ToolContext, path: str) -> Path:
    """The place a file may be written to.

    Raises:
        ToolError: a file marked read-only (WrongKindError: a folder, or a special file).
    """
    target = ctx.resolve(path, write=True)
    name = ctx.relative(target)
    if target.is_dir():
        raise WrongKindError(f"{name} is a folder; name a file to write.")
    if target.exists() and not target.is_file():
        raise WrongKindError(f"{name} is not a regular file and is left alone.")
    if target.exists() and not os.access(target, os.W_OK):
        raise ToolError(f"{name} is read-only; change its permissions first if it may be replaced.")
    return target


@contextmanager
def replacing(ctx: ToolContext, target: Path) -> Iterator[Path]:
    """Gives a fresh path beside `target`, a resolved path; what is written there takes its place if all goes well.

    On any failure neither the temporary file nor folders made for it stay behind.

    Raises:
        ToolError: the file can't be written (the sentence names it).
    """
    made: list[tuple[int, str]] = []
    name = f".{os.fsdecode(os.fsencode(target.name)[:80])}.{secrets.token_hex(6)}.tmp"  # a name has 255 bytes at most
    try:
        with folder_of(target, made=made) as folder:
            try:
                yield in_folder(folder, name, target.with_name(name))
                _settle(folder, name, target.name)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                remove_made(made)
                raise
    except OSError as error:
        raise os_sentence(error, f"{ctx.relative(target)} can't be written") from None


def write_bytes(ctx: ToolContext, target: Path, content: bytes) -> None:
    """Replace a file's content atomically; ToolError if it can't be."""
    with replacing(ctx, target) as temporary:
        temporary.write_bytes(content)


def utf8(ctx: ToolContext, target: Path, text: str) -> bytes:
    """Text as the bytes of a file; ToolError when it holds what UTF-8 can't carry."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ToolError(
            f"the text for {ctx.relative(target)} holds half a surrogate pair at character {error.start}."
        ) from None


def _settle(folder: int, name: str, target: str) -> None:
    """Put the temporary file in the target's place, with its rights, durably."""
    stream = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(stream, os.stat(target, dir_fd=folder, follow_symlinks=False).st_mode & 0o7777)
        os.fsync(stream)
        size_bytes = os.fstat(stream).st_size
    finally:
        os.close(stream)
    os.replace(name, target, src_dir_fd=folder, dst_dir_fd=folder)
    names = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fsync(names)
    finally:
        os.close(names)
    wrote(size_bytes)
