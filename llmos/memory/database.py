"""The one DuckDB file of a home: opened once, used from one worker thread, each call one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, TypeVar, cast

from llmos.errors import StorageError
from llmos.memory import sql
from llmos.memory.audit_notes import Kind, note
from llmos.memory.backups import Backups
from llmos.memory.caching import NONE, K, ReadCache
from llmos.memory.engine import Parsed, ample_memory, door, give_back_memory
from llmos.memory.known import KnownGoals
from llmos.memory.opening import check_schema, connect, is_cut
from llmos.memory.redacted import Redacting
from llmos.memory.troubles import damaged, translated
from llmos.redaction import Redactor

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

T = TypeVar("T")
Clock = Callable[[], datetime]
_Tell: TypeAlias = Callable[[], None]
_Waiting: TypeAlias = "tuple[Callable[[DuckDBPyConnection], object], _Tell, _Tell]"

SOON_S = 0.005
"""How long what nobody waits for is left: the answer goes first."""

GATHER_S, BUSY_S = 0.4, 0.5
"""And how long while more comes at such a rate: a transaction of many takes hardly longer than one of one."""

INTERRUPTED_REASON = "the process ended before the run did"


class _NotBesideError(Exception):
    """What is asked can't be read beside the worker: the file is opened anew, or memory is short."""


class Witness(Protocol):
    """Sees every transaction, in the database's thread; what it adds before the commit is stored with it."""

    def begin(self) -> None: ...
    def before_commit(self, connection: DuckDBPyConnection) -> None: ...
    def after_commit(self) -> None: ...
    def after_rollback(self) -> None: ...


class Database:
    """The memory's file; `async with Database(path) as db` opens and closes it.

    All work is done by one thread, in the order it was asked for; only what `read` asks for has a thread of its own and
    waits for nobody. A call whose waiter is cancelled is carried out all the same, or not at all. What `redactor` takes
    out of texts is never stored, whoever wrote the statement.
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
        self.cache = ReadCache(quiet=sql.QUIET)
        self.goals = KnownGoals()
        self._waiting: deque[_Waiting] = deque()
        self._asked_at = 0.0
        self._connection: DuckDBPyConnection | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._reading: tuple[DuckDBPyConnection, DuckDBPyConnection] | None = None
        self._is_compacted_last = False
        self._size = 0

    async def open(self) -> None:
        """Create the file if there is none, check its schema, and end the runs that a crash left running.

        Raises:
            DatabaseLockedError: another process holds the file.
            StorageError: it can't be created, is damaged, or was written by a newer version.
        """
        if self._worker is not None:
            return
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llmos-database")
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llmos-reader")
        try:
            await asyncio.wrap_future(self._worker.submit(self._open))
        except BaseException:
            worker, self._worker = self._worker, None
            worker.submit(self._disconnect)
            worker.shutdown(wait=False)
            self._reader.shutdown(wait=False)
            self._reader = None
            raise

    async def close(self) -> None:
        """Finish what was asked for and let go of the file; harmless when it is not open."""
        worker, self._worker = self._worker, None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.submit(self._stop_reading)
            reader.shutdown(wait=False)
        if worker is not None:
            worker.submit(self._do_waiting)
            try:
                last = self._compact_last if self._is_compacted_last else self._disconnect
                await asyncio.shield(asyncio.wrap_future(worker.submit(last)))
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

    async def read(self, key: Hashable, tables: tuple[str, ...], work: Callable[[DuckDBPyConnection], T]) -> T:
        """What `work` reads from these tables, and from no other; the last answer for the key while it holds.

        What others asked to be done `later`, or are doing, it need not see.

        Raises:
            StorageError: it could not be read.
        """
        found = self.cache.get(key)
        if found is not NONE:
            return cast("T", found)
        version = self.cache.version(tables)
        answer = await self._asked(work)
        self.cache.put(key, tables, version, answer)
        return answer

    async def read_each(
        self,
        kind: str,
        keys: Iterable[K],
        tables: tuple[str, ...],
        work: Callable[[DuckDBPyConnection, list[K]], Mapping[K, T]],
    ) -> dict[K, T | None]:
        """What `work` reads for each of these keys, None where it gives nothing; asked once for all not kept.

        Raises:
            StorageError: it could not be read.
        """
        keys = list(dict.fromkeys(keys))
        kept: dict[K, T | None] = self.cache.get_each(kind, keys, tables)
        missing = [key for key in keys if key not in kept]
        if missing:
            version = self.cache.version(tables)
            found = await self._asked(lambda connection: work(connection, missing))
            for key in missing:
                kept[key] = found.get(key)
                self.cache.put((kind, key), tables, version, kept[key])
        return {key: kept[key] for key in keys}

    async def learn_goals(self) -> None:
        """Get to know the goals that were done before, so that what is new need not be looked for."""
        if self._reader is not None:
            await self._asked(self.goals.take)

    async def _asked(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        if self._reader is None:
            raise StorageError(f"the memory {self.path} is not open.")
        try:
            return await asyncio.wrap_future(self._reader.submit(self._read, work))
        except _NotBesideError:  # the file is opened anew just now, or the question takes more memory
            return await self.run(work)

    def later(
        self,
        work: Callable[[DuckDBPyConnection], object],
        *,
        then: _Tell = lambda: None,
        otherwise: _Tell = lambda: None,
    ) -> None:
        """Do `work` soon, in one transaction with whatever else waits; whoever asks for something after this sees it.

        For what nobody's safety hangs on: that it could not be stored is only logged. It is stored at the latest
        before the file is closed. Then `then` is called in the database's thread, or `otherwise` if that failed.
        """
        if self._worker is None:
            raise StorageError(f"the memory {self.path} is not open.")
        self._waiting.append((work, then, otherwise))
        try:
            loop = asyncio.get_running_loop()
            is_busy = loop.time() - self._asked_at < BUSY_S
            self._asked_at = loop.time()
            loop.call_later(GATHER_S if is_busy else SOON_S, self._store_waiting)
        except RuntimeError:  # in another thread than the loop's
            self._store_waiting()

    def _store_waiting(self) -> None:
        if self._waiting and self._worker is not None:
            self._worker.submit(self._do_waiting)

    def _submit(self, work: Callable[[DuckDBPyConnection], T]) -> Future[T]:
        if self._worker is None:
            raise StorageError(f"the memory {self.path} is not open.")
        return self._worker.submit(self._together, work)

    async def dead_share(self) -> float:
        """The share of the rows in the file that were deleted."""
        from llmos.memory.compacting import dead_share

        return await self.run(dead_share)

    async def compact(self) -> int:
        """Write the file anew without what was removed; gives the bytes that this freed.

        Raises:
            StorageError: it could not be copied; the file is as it was.
        """
        if self._worker is None:
            raise StorageError(f"the memory {self.path} is not open.")
        self._store_waiting()
        return await asyncio.wrap_future(self._worker.submit(self._compact))

    async def refresh(self) -> None:
        """Write a small file anew if it has grown much, and give back the memory that DuckDB has come to hold.

        Raises:
            StorageError: it could not be copied; the file is as it was.
        """
        from llmos.memory.compacting import has_grown

        if self._worker is not None and has_grown(self.path.stat().st_size, self._size):
            await asyncio.wrap_future(self._worker.submit(self._refresh))

    def compact_when_closed(self) -> None:
        """Do that as the last thing before the file is let go of."""
        self._is_compacted_last = True

    # --- in the worker thread ----------------------------------------------------------------------

    def _compact_last(self) -> None:
        try:
            self._compact(goes_on=False)
        except StorageError as error:
            log.info("the memory was not written anew: %s", error, extra={"action": "compact"})
        finally:
            self._disconnect()

    def _refresh(self) -> None:
        self._compact(always=True)
        give_back_memory()

    def _compact(self, *, goes_on: bool = True, always: bool = False) -> int:
        import duckdb

        from llmos.memory.compacting import compact

        def reopen() -> None:
            if goes_on:
                self._connection = self._connection or connect(self.path)
                self._size = self.path.stat().st_size

        try:
            self._connection = self._connection or connect(self.path)
            with ample_memory(self._connection):
                return compact(self._connection, self.path, self._disconnect, reopen=reopen, always=always)
        except (duckdb.Error, OSError) as error:
            raise translated(error, self.path) from error
        finally:
            reopen()

    def _open(self) -> None:
        import duckdb

        is_new, has_log = not self.path.exists(), self.path.with_name(f"{self.path.name}.wal").exists()
        with door(self.path.parent, fcntl.LOCK_SH):
            self._connection = connect(self.path)
        self._size = self.path.stat().st_size
        try:
            if not has_log and is_cut(self._connection, self.path):
                raise damaged(self.path)
            with ample_memory(self._connection):
                check_schema(self._connection, self.path)
                if self._backups is not None and not is_new:
                    self._backups.keep(self._connection)
        except duckdb.Error as error:
            raise translated(error, self.path) from error
        self._transact(_end_left_running)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if self._reader is not None:  # a connection left open would keep the file that is to be let go of
            self._reader.submit(self._stop_reading).result()
        if connection is not None:
            connection.close()

    def _read(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """In the reader's thread: with a connection of its own, which sees what is committed."""
        import duckdb

        connection = self._connection
        if connection is None:
            raise _NotBesideError
        try:
            if self._reading is None or self._reading[0] is not connection:
                self._reading = connection, connection.cursor()
            return work(cast("DuckDBPyConnection", Redacting(self._reading[1], self.redactor, self.cache)))
        except duckdb.Error as error:
            self._reading = None
            if isinstance(error, duckdb.OutOfMemoryException):
                raise _NotBesideError from error
            raise translated(error, self.path) from error

    def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading[1].close()

    def _together(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """Do `work` and store what waits before it in one transaction: what is durable then costs one write."""
        waiting = self._taken()
        if not waiting:
            return self._transact(work)
        is_spoilt = True

        def both(connection: DuckDBPyConnection) -> T:
            nonlocal is_spoilt
            is_spoilt = True
            for before, _, _ in waiting:
                before(connection)
            is_spoilt = False
            return work(connection)

        try:
            done = self._transact(both)
        except BaseException:
            self._store_apart(waiting)
            if not is_spoilt:
                raise
            return self._transact(work)
        for _, then, _ in waiting:
            then()
        return done

    def _do_waiting(self) -> None:
        """Store what waits: all at once, or, where something spoils that, each by itself."""
        self._store_apart(self._taken())

    def _taken(self) -> list[_Waiting]:
        waiting = []
        while self._waiting:
            waiting.append(self._waiting.popleft())
        return waiting

    def _store_apart(self, waiting: list[_Waiting]) -> None:
        if not waiting or self._is_stored(waiting, is_last=len(waiting) == 1):
            return
        for one in waiting if len(waiting) > 1 else ():
            self._is_stored([one], is_last=True)

    def _is_stored(self, waiting: list[_Waiting], *, is_last: bool) -> bool:
        try:
            self._transact(lambda connection: [work(connection) for work, _, _ in waiting])
        except Exception as error:
            if is_last:
                for _, _, otherwise in waiting:
                    otherwise()
                log.warning("what was done could not be stored: %s", error, extra={"action": "not_stored"})
            return False
        for _, then, _ in waiting:
            then()
        return True

    def _transact(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """Do `work` in a transaction; where the memory for it was too little, once more with as much as there is."""
        import duckdb

        try:
            return self._try(work)
        except StorageError as error:
            connection = self._connection
            if not isinstance(error.__cause__, duckdb.OutOfMemoryException) or connection is None:
                raise
        with ample_memory(connection):
            return self._try(work)

    def _try(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        import duckdb

        connection = self._connection = self._connection or connect(self.path)
        witness = self._witness
        parsed = cast("DuckDBPyConnection", Parsed(connection))
        try:
            parsed.execute("BEGIN")
            if witness is not None:
                witness.begin()
            result = work(cast("DuckDBPyConnection", Redacting(connection, self.redactor, self.cache)))
            if witness is not None:
                witness.before_commit(parsed)
            parsed.execute("COMMIT")
            self.cache.committed()
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
