"""The database's file: made whole, opened, its schema brought up to date, and what is wrong with it told."""

from __future__ import annotations

import errno
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.errors import StorageError
from llmos.memory import schema, sql
from llmos.memory.engine import CONFIG
from llmos.memory.troubles import translated

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def connect(path: Path) -> DuckDBPyConnection:
    """Open the file, made if there is none.

    Raises:
        DatabaseLockedError: another process holds it.
        StorageError: it can't be created or read.
    """
    import duckdb

    try:
        _make_folder(path.parent)
        if not path.exists():
            create(path)
        return duckdb.connect(str(path), config=CONFIG)
    except (duckdb.Error, OSError) as error:
        raise translated(error, path) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        reason = "a file stands there" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise StorageError(
            f"the folder {folder} can't be made ({reason}); name another place with --home or LLMOS_HOME."
        ) from None


def create(path: Path) -> None:
    """Make the file beside its place and link it there whole, so that a crash leaves none or a complete one."""
    import duckdb

    orphan = path.with_name(f"{path.name}.wal")
    if orphan.exists():
        raise StorageError(
            f"{orphan} belongs to a database that is gone: put {path.name} back, or let `boot.py repair` bring back "
            "a copy."
        )
    fresh = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with duckdb.connect(str(fresh), config=CONFIG) as connection:
            connection.execute("BEGIN")
            connection.execute(schema.TABLES)
            connection.execute(sql.SET_META, ["schema_version", str(schema.VERSION)])
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")  # closing does it too, but says nothing when the disk is full
        _place(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
        fresh.with_name(f"{fresh.name}.wal").unlink(missing_ok=True)


def _place(fresh: Path, path: Path) -> None:
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return  # another process was faster; its file is as good
    except OSError:
        fresh.rename(path)  # a file system without links
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_cut(connection: DuckDBPyConnection, path: Path) -> bool:
    """Whether a file is shorter than what it holds; it opens all the same, and fails only where it is read.

    Only for one that was opened without a write-ahead log: blocks that such a log fills are not in the file yet.
    """
    blocks, block_bytes = connection.execute(sql.FILE_BLOCKS).fetchone() or (0, 0)
    return path.stat().st_size < int(blocks) * int(block_bytes)


def check_schema(connection: DuckDBPyConnection, path: Path) -> None:
    """Bring an older memory up to date.

    Raises:
        StorageError: it is none, or a newer LLM OS wrote it.
    """
    import duckdb

    try:
        row = connection.execute(sql.GET_META, ["schema_version"]).fetchone()
    except duckdb.CatalogException:
        row = None
    if row is None:
        raise StorageError(f"{path} is a DuckDB database, but no memory of LLM OS: choose another --home.")
    version = int(row[0]) if row[0].isdecimal() else 0
    if version > schema.VERSION:
        raise StorageError(
            f"{path} was written by a newer LLM OS (schema {version}, this one knows {schema.VERSION}): "
            "update this one."
        )
    if version < 1:
        raise StorageError(
            f"{path} names {row[0]!r} as its schema, which no LLM OS ever wrote: restore it from a backup."
        )
    if version < schema.VERSION:
        _migrate(connection, version)
    connection.execute(schema.INDEXES)


def _migrate(connection: DuckDBPyConnection, version: int) -> None:
    """Bring a file of an older version up to date: all of it, or nothing."""
    log.info("the memory is brought from schema %s to %s", version, schema.VERSION, extra={"action": "migrate"})
    connection.execute("BEGIN")
    try:
        for step in range(version, schema.VERSION):
            connection.execute(schema.MIGRATIONS[step])
        connection.execute(sql.SET_META, ["schema_version", str(schema.VERSION)])
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
