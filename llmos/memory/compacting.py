"""Writing the database file anew, without what was removed from it: DuckDB uses the room again, but keeps the size."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.memory.backups import copy_database
from llmos.memory.engine import door
from llmos.memory.opening import sync_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

WORTH = 0.5
"""The file is written anew by itself once so large a share of its rows is gone."""

GROWN, GROWN_BYTES = 2, 4_000_000
"""Or while goals are reached, once it has become so many times as large, and so much larger."""

SMALL_BYTES = 200_000_000
"""But a larger file than this only when somebody asks for it, or at the end: it takes seconds."""

_STORED = """
SELECT coalesce(max(rows), 0) FROM (
    SELECT sum(count) AS rows FROM pragma_storage_info(?) WHERE segment_type <> 'VALIDITY' GROUP BY column_id
)
"""


def dead_share(connection: DuckDBPyConnection) -> float:
    """The share of the stored rows that were deleted, as the last checkpoint left them."""
    tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    stored = sum(_number(connection, _STORED, [name]) for name in tables)
    live = sum(_number(connection, f"SELECT count(*) FROM {name}") for name in tables)
    return max(0.0, 1.0 - live / stored) if stored else 0.0


def has_grown(now: int, before: int) -> bool:
    """Whether a file of so many bytes may be written anew while goals are reached."""
    return max(GROWN * before, before + GROWN_BYTES) <= now <= SMALL_BYTES


def compact(
    connection: DuckDBPyConnection,
    path: Path,
    close: Callable[[], None],
    *,
    reopen: Callable[[], object] = lambda: None,
    always: bool = False,
) -> int:
    """Copy the file beside it and put the copy in its place; gives the bytes that this freed, 0 if none.

    It is not put there if it is no smaller, unless `always`. The connection is closed by `close` before the exchange,
    and opened by `reopen` after it, and no other process of ours gets in between. At every moment the whole content is
    in a file of that name: the copy is durable before it takes the place, and it only does if nobody has touched the
    file since.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}-compact")
    try:
        _remove(fresh)
        connection.execute("CHECKPOINT")
        (name,) = connection.execute("SELECT database_name FROM pragma_database_size()").fetchone() or ("",)
        copy_database(connection, str(name), fresh)
        was, size = path.stat(), fresh.stat().st_size
        if path.with_name(f"{path.name}.wal").exists() or (size >= was.st_size and not always):
            return 0
        with door(path.parent, fcntl.LOCK_EX) as is_mine:
            if not is_mine:
                return 0
            close()
            try:
                return was.st_size - size if _exchanged(fresh, path, was) else 0
            finally:
                reopen()
    finally:
        _remove(fresh)


def _exchanged(fresh: Path, path: Path, was: os.stat_result) -> bool:
    with path.open("r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as DuckDB does it
        except OSError:
            return False  # some program was faster: the file is its own now
        if path.with_name(f"{path.name}.wal").exists() or _identity(path.stat()) != _identity(was):
            return False
        fresh.replace(path)
        sync_folder(path.parent)
        return True


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _remove(fresh: Path) -> None:
    for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
        with contextlib.suppress(OSError):
            left.unlink(missing_ok=True)


def _number(connection: DuckDBPyConnection, query: str, parameters: list[str] | None = None) -> int:
    (number,) = connection.execute(query, parameters).fetchone() or (0,)
    return int(number)
