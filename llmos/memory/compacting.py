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
from llmos.memory.database import sync_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

_STORED = (
    "SELECT coalesce(max(rows), 0) FROM (SELECT sum(count) AS rows FROM pragma_storage_info(?) GROUP BY column_id)"
)


def dead_share(connection: DuckDBPyConnection) -> float:
    """The share of the stored rows that were deleted, as the last checkpoint left them."""
    tables = [name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    stored = sum(_number(connection, _STORED, [name]) for name in tables)
    live = sum(_number(connection, f"SELECT count(*) FROM {name}") for name in tables)
    return max(0.0, 1.0 - live / stored) if stored else 0.0


def compact(connection: DuckDBPyConnection, path: Path, close: Callable[[], None]) -> int:
    """Copy the file beside it and put the copy in its place; gives the bytes that this freed, 0 if none.

    The connection is closed by `close` before the exchange. At every moment the whole content is in a file of that
    name: the copy is durable before it takes the place, and it only does if nobody has touched the file since.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}-compact")
    log_file = path.with_name(f"{path.name}.wal")
    try:
        _remove(fresh)
        connection.execute("CHECKPOINT")
        (name,) = connection.execute("SELECT database_name FROM pragma_database_size()").fetchone() or ("",)
        copy_database(connection, str(name), fresh)
        was = path.stat()
        if log_file.exists() or fresh.stat().st_size >= was.st_size:
            return 0
        close()
        with path.open("r+b") as stream:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as DuckDB does it
            except OSError:
                return 0  # another process was faster: the file is its own now
            if log_file.exists() or _identity(path.stat()) != _identity(was):
                return 0
            freed = was.st_size - fresh.stat().st_size
            fresh.replace(path)
            sync_folder(path.parent)
            return freed
    finally:
        _remove(fresh)


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _remove(fresh: Path) -> None:
    for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
        with contextlib.suppress(OSError):
            left.unlink(missing_ok=True)


def _number(connection: DuckDBPyConnection, query: str, parameters: list[str] | None = None) -> int:
    (number,) = connection.execute(query, parameters).fetchone() or (0,)
    return int(number)
