"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmos.errors import ToolError
from llmos.plugins.builtin.paths import os_sentence
from llmos.plugins.tool import ToolContext


def writable_target(ctx: ToolContext, path: str) -> Path:
    """The place a file may be written to.

    Raises:
        ToolError: a folder, a special file, or a file marked read-only.
    """
    target = ctx.resolve(path, write=True)
    name = ctx.relative(target)
    if target.is_dir():
        raise ToolError(f"{name} is a folder; name a file to write.")
    if target.exists() and not target.is_file():
        raise ToolError(f"{name} is not a regular file and is left alone.")
    if target.exists() and not os.access(target, os.W_OK):
        raise ToolError(f"{name} is read-only; change its permissions first if it may be replaced.")
    return target


@contextmanager
def replacing(ctx: ToolContext, target: Path) -> Iterator[Path]:
    """Gives a fresh path beside `target`; what is written there takes its place when the block ends well.

    On any failure neither the temporary file nor folders made for it stay behind.

    Raises:
        ToolError: the file can't be written (the sentence names it).
    """
    made: list[Path] = []
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(6)}.tmp")
    try:
        made = _make_folders(target.parent)
        yield temporary
        _settle(temporary, target)
    except BaseException as error:
        for remove in (temporary.unlink, *(folder.rmdir for folder in made)):
            with contextlib.suppress(OSError):
                remove()
        if isinstance(error, OSError):
            raise os_sentence(error, f"{ctx.relative(target)} can't be written") from None
        raise


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


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; gives those that were not there, deepest first."""
    made = []
    here = folder
    while not here.exists():
        made.append(here)
        here = here.parent
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _settle(temporary: Path, target: Path) -> None:
    if target.exists():
        temporary.chmod(target.stat().st_mode & 0o7777)
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
