"""What a command line has read: a file it names, or standard input.

Input may come late or never. It is waited for in a daemon thread, so that neither a signal nor another caller of this
process waits with it; a thread that is left behind ends with the process or with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TypeVar

from llmos import caller
from llmos.errors import UsageError
from llmos.interfaces.session import Action, Session

T = TypeVar("T")

CHUNK_BYTES = 65_536
MAX_GOAL_BYTES = 2_000_000


async def chunk(descriptor: int) -> bytes:
    """The next bytes of a descriptor, at most CHUNK_BYTES; none at its end.

    Raises:
        OSError: it can't be read.
    """
    return await aside(lambda: os.read(descriptor, CHUNK_BYTES))


async def content(file: Path, *, most: int | None = None) -> bytes:
    """The bytes of a file, `-` for standard input; of one longer than `most`, as many that this shows.

    Raises:
        UsageError: it can't be read.
    """
    try:
        if str(file) != "-":
            return await aside(lambda: _of_file(file, most))
        stream = caller.stdin()
        if stream is None:
            raise UsageError("there is no standard input.")
        found = bytearray()
        while (most is None or len(found) <= most) and (part := await chunk(stream.fileno())):
            found += part
        return bytes(found)
    except OSError as error:
        name = "standard input" if str(file) == "-" else file
        raise UsageError(f"{name} can't be read: {error.strerror or error}.") from None


async def text_of(file: Path, *, most: int) -> str:
    """The text of a file, `-` for standard input.

    Raises:
        UsageError: it can't be read, is larger than `most` bytes, or is no text.
    """
    raw = await content(file, most=most)
    if len(raw) > most:
        raise UsageError(f"{file} is larger than {most // 1_000_000} MB.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text (byte {error.start}).") from None


def with_goal(words: list[str], make: Callable[[str], Action]) -> Action:
    """What `make` makes of a goal given in words, of which a lone `-` stands for standard input."""
    if words != ["-"]:
        return make(" ".join(words))

    async def action(session: Session) -> None:
        raw = await content(Path("-"), most=MAX_GOAL_BYTES)
        await make(raw.decode("utf-8", errors="surrogateescape"))(session)

    return action


def _of_file(file: Path, most: int | None) -> bytes:
    at = caller.placed(file)
    if stat.S_ISFIFO(at.lstat().st_mode):  # opening one waits for whoever writes it; a descriptor's path is a link
        raise UsageError(f"{file} is a pipe; `-` reads standard input.")
    with at.open("rb") as stream:
        return stream.read(-1 if most is None else most + 1)


async def aside(work: Callable[[], T]) -> T:
    """What some work comes to that may take for ever: whoever waits may leave, and then nobody waits for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[], None]) -> None:
        if not done.done():
            set_it()

    def do() -> None:
        try:
            set_it = partial(done.set_result, work())
        except Exception as error:
            set_it = partial(done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, set_it)

    context = copy_context()
    threading.Thread(target=context.run, args=(do,), name="aside", daemon=True).start()
    return await done
