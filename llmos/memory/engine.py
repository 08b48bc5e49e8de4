"""How DuckDB is run here: as what, with how much memory, and who may open a file while it is exchanged."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.memory import sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Never look for extensions: what is needed is in the wheel, and a lookup would reach for the network. One thread: what
# is asked is small, and a second one, waiting for work, takes the processor from tools (a tenth of a batch's speed).
# What was read is kept up to the limit, which would be most of the machine's memory; see `ample_memory`.
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "threads": 1,
    "memory_limit": "768MB",
}

DOOR_S, DOOR_TRIES = 1.0, 50
"""How long who opens the file waits for who exchanges it, or the other way round."""


@contextlib.contextmanager
def door(folder: Path, kind: int) -> Iterator[bool]:
    """Hold a lock (`fcntl.LOCK_EX`, `fcntl.LOCK_SH`) on the folder of a file, for the length of a block; False if not.

    Who exchanges the file has to close it, and holds this alone meanwhile. Who would open it comes with others, and
    waits a little; then the file's own lock says who has it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # there is none yet
        yield False
        return
    try:
        yield _is_locked(descriptor, kind | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int, kind: int) -> bool:
    for _ in range(DOOR_TRIES):
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, kind)
            return True
        time.sleep(DOOR_S / DOOR_TRIES)
    return False


_MOST_STATEMENTS = 512
_statements: dict[str, Any] = {}


class Parsed:
    """A connection whose statements are parsed once: of a small one, that is a third of the time it takes."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, query: str, parameters: Any = None) -> DuckDBPyConnection:
        """Carry out a statement."""
        return self._connection.execute(self._parsed(query), parameters)

    def _parsed(self, query: str) -> Any:
        known = _statements.get(query)
        if known is None:
            found = self._connection.extract_statements(query)
            known = found[0] if len(found) == 1 else query
            if len(_statements) >= _MOST_STATEMENTS:
                _statements.clear()
            _statements[query] = known
        return known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@contextlib.contextmanager
def ample_memory(connection: DuckDBPyConnection) -> Iterator[None]:
    """Let DuckDB use most of the machine's memory, for the length of a block: what is rare and large needs it."""
    import duckdb

    connection.execute(sql.AMPLE_MEMORY)
    try:
        yield
    finally:
        with contextlib.suppress(duckdb.Error):  # what it holds and can't let go of, or the file was closed
            connection.execute(sql.LITTLE_MEMORY.format(limit=CONFIG["memory_limit"]))


def give_back_memory() -> None:
    """Have the C library give back what was freed; where it is another one, nothing happens."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
