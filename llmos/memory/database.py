"""The one DuckDB file of a home: opened once, used from one worker thread, each call one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import re
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

from llmos.errors import StorageError
from llmos.memory import schema, sql
from llmos.memory.audit_notes import Kind, note
from llmos.memory.backups import Backups
from llmos.memory.troubles import damaged, translated
from llmos.redaction import Redactor

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

T = TypeVar("T")
Clock = Callable[[], datetime]

INTERRUPTED_REASON = "the process ended before the run did"
# Never look for extensions: what is needed is in the wheel, and a lookup would reach for the network.
CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


class Witness(Protocol):
    """Sees every transaction, in the database's thread; what it adds before the commit is stored with it."""

    def begin(self) -> None: ...
    def before_commit(self, connection: DuckDBPyConnection) -> None: ...
    def after_commit(self) -> None: ...
    def after_rollback(self) -> None: ...


class Database:
    """The memory's file; `async with Database(path) as db` opens and closes it.

    All work is done by one thread, in the order it was asked for. A call whose waiter is cancelled is carried out
    all the same, or not at all. What `redactor` takes out of texts is never stored, whoever wrote the statement.
    `backups` keeps copies of the file as it was found when it was opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        witness: Witness | None = None,
        redactor: Redactor | None = None,
        backups: Backups | None = None,
    ) -> None:
        self.path = path
        self._witness = witness
        self._backups = backups
        self.redactor = redactor or Redactor()
        self._connection: DuckDBPyConnection | None = None
        self._worker: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Create the file if there is none, check its schema, and end the runs that a crash left running.

        Raises:
            DatabaseLockedError: another process holds the file.
            StorageError: it can't be created, is damaged, or was written by a newer version.
        """
        if self._worker is not None:
            return
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llmos-database")
        try:
            await asyncio.wrap_future(self._worker.submit(self._open))
        except BaseException:
            worker, self._worker = self._worker, None
            worker.submit(self._disconnect)
            worker.shutdown(wait=False)
            raise

    async def close(self) -> None:
        """Finish what was asked for and let go of the file; harmless when it is not open."""
        worker, self._worker = self._worker, None
        if worker is not None:
            try:
                await asyncio.shield(asyncio.wrap_future(worker.submit(self._disconnect)))
            finally:
                worker.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """Do `work` in one transaction: all of it is stored, durably, or nothing.

        Raises:
            StorageError: it could not be stored or read, in one sentence.
        """
        return await asyncio.wrap_future(self._submit(work))

    def run_blocking(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """The same for callers that must not yield, such as the ledger; a few milliseconds."""
        return self._submit(work).result()

    def _submit(self, work: Callable[[DuckDBPyConnection], T]) -> Future[T]:
        if self._worker is None:
            raise StorageError(f"the memory {self.path} is not open.")
        return self._worker.submit(self._transact, work)

    # --- in the worker thread ----------------------------------------------------------------------

    def _open(self) -> None:
        import duckdb

        is_new, has_log = not self.path.exists(), self.path.with_name(f"{self.path.name}.wal").exists()
        self._connection = connect(self.path)
        try:
            if not has_log and is_cut(self._connection, self.path):
                raise damaged(self.path)
            check_schema(self._connection, self.path)
            if self._backups is not None and not is_new:
                self._backups.keep(self._connection)
        except duckdb.Error as error:
            raise translated(error, self.path) from error
        self._transact(_end_left_running)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _transact(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        import duckdb

        connection = self._connection = self._connection or connect(self.path)
        witness = self._witness
        try:
            connection.execute("BEGIN")
            if witness is not None:
                witness.begin()
            result = work(cast("DuckDBPyConnection", _Redacting(connection, self.redactor)))
            if witness is not None:
                witness.before_commit(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(duckdb.Error):  # a failed COMMIT has already rolled back
                connection.execute("ROLLBACK")
            if witness is not None:
                witness.after_rollback()
            if isinstance(error, duckdb.FatalException | duckdb.InternalException):
                self._disconnect()  # DuckDB refuses everything after these; the next call opens the file again
            if isinstance(error, duckdb.Error):
                raise translated(error, self.path) from error
            raise
        if witness is not None:
            witness.after_commit()
        return result


def _end_left_running(connection: DuckDBPyConnection) -> None:
    for run_id, mode in connection.execute(sql.INTERRUPT_RUNNING, [INTERRUPTED_REASON]).fetchall():
        note(Kind.RUN_END, {"mode": mode, "status": "interrupted", "reason": INTERRUPTED_REASON}, run_id=run_id)


class _Redacting:
    """A connection that takes secrets out of the parameters of every statement that `sql.AS_THEY_ARE` does not hold."""

    def __init__(self, connection: DuckDBPyConnection, redactor: Redactor) -> None:
        self._connection = connection
        self._redactor = redactor

    def execute(self, query: str, parameters: Any = None) -> DuckDBPyConnection:
        if parameters is None:
            return self._connection.execute(query)
        if query not in sql.AS_THEY_ARE:
            parameters = _redacted(parameters, self._redactor)
        return self._connection.execute(query, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _redacted(parameters: Any, redactor: Redactor) -> Any:
    """Parameters by position or by name, the texts among them and in their lists without secrets."""
    values = parameters.items() if isinstance(parameters, dict) else enumerate(parameters)
    changed = {key: _without(value, redactor) for key, value in values}
    return changed if isinstance(parameters, dict) else list(changed.values())


_OUR_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){0,8}-[0-9a-f]{6}|[a-z]+(?:-[a-z]+){0,8}|[0-9a-f]{12}|[0-9a-f]{64}")
"""Ids of traces, runs and digests: rows are found by them, so they stay, even where a secret is a word of one."""


def _without(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, list):
        return [_without(one, redactor) for one in value] if value and isinstance(value[0], str) else value
    if not isinstance(value, str) or _OUR_ID.fullmatch(value):
        return value
    redacted = redactor.text(value)
    if redacted == value or value[:1] not in ("{", "["):
        return redacted
    try:
        return json.dumps(redactor.value(json.loads(value)))
    except (ValueError, RecursionError):
        return redacted


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# --- opening ---------------------------------------------------------------------------------------


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


# --- values ----------------------------------------------------------------------------------------


def utc_now() -> datetime:
    """The default clock."""
    return datetime.now(UTC)


def to_utc(time: datetime) -> datetime:
    """A time as it is stored: UTC without a zone; a time without a zone is taken as UTC."""
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def from_utc(time: datetime) -> datetime:
    """A stored time with its zone."""
    return time.replace(tzinfo=UTC)


def clean(text: str) -> str:
    """Text as DuckDB takes it: what is no character (a lone surrogate) becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def digest(text: str) -> str:
    """What long texts are looked up by."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
