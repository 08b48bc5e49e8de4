"""The chain of the audit log: what is noted in a transaction becomes rows of it, linked to those before."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmos.errors import StorageError
from llmos.memory import sql
from llmos.memory.audit_anchor import Anchor
from llmos.memory.audit_entries import GENESIS, Head, Row, canonical, linked, stamp, storable
from llmos.memory.audit_notes import Entry, Kind, begin_notes, noted, takes_waiting
from llmos.memory.bulk import insert_many
from llmos.memory.database import Clock, clean, utc_now

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

SHOWN = 400
_WINDOW = 8_000


class AuditChain:
    """Sees every transaction of the memory (`llmos.memory.database.Witness`) and adds its rows before the commit.

    `redact` takes what is secret out of a text. `trouble` says what is wrong between the table and the anchor as they
    were found (''; nothing): then the anchor stays as evidence, while rows are added all the same.
    All but `later` happens in the database's one thread, which is why several goals at once have one chain.
    """

    def __init__(
        self,
        anchor: Anchor,
        *,
        principal: str = "",
        redact: Callable[[str], str] = str,
        clock: Clock = utc_now,
    ) -> None:
        self.anchor = anchor
        self.principal = principal or os_user()
        self.redact = redact
        self.clock = clock
        self.trouble = ""
        self.behind = 0
        self._pending: deque[Entry] = deque()
        self._head: Head | None = None
        self._staged: tuple[Head, int] | None = None
        self._flushing = False
        self._is_compared = False

    def later(self, entry: Entry) -> None:
        """Record something with the next transaction that records anything; from any thread."""
        self._pending.append(entry if entry.at is not None else _timed(entry, self.clock))

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    # --- in the database's thread ------------------------------------------------------------------

    def begin(self) -> None:
        """A transaction begins."""
        begin_notes()
        self._staged, self._flushing = None, False

    def flush(self, connection: DuckDBPyConnection) -> None:
        """Let this transaction store what waits, whatever else it does."""
        self._flushing = True

    def before_commit(self, connection: DuckDBPyConnection) -> None:
        """Add the rows of this transaction, and those that waited for one."""
        entries = noted()
        if not entries and not self._flushing and not takes_waiting():
            return
        head = self._head or (head_of(connection) if self._is_compared else self.resume(connection))
        waiting = tuple(self._pending)
        first = (_start(connection, entries),) if head.number == 0 else ()
        rows = linked([self._row(entry) for entry in (*first, *waiting, *entries)], head)
        if not rows:
            return
        insert_rows(connection, rows)
        self._staged = Head(number=rows[-1].number, hash=rows[-1].hash), len(waiting)

    def after_commit(self) -> None:
        """The rows are durable."""
        if self._staged is None:
            return
        (self._head, waited), self._staged = self._staged, None
        for _ in range(waited):
            self._pending.popleft()
        if not self.trouble:
            self.anchor.move(self._head)

    def after_rollback(self) -> None:
        """Nothing was stored, or nobody knows: where the log ends is read again."""
        self._staged, self._head = None, None

    def resume(self, connection: DuckDBPyConnection) -> Head:
        """Where the log ends, compared with the anchor.

        Raises:
            StorageError: there is no log any more.
        """
        head = self._head = head_of(connection)
        self.trouble, self.behind = "", 0
        try:
            anchor = self.anchor.read()
        except StorageError as error:
            self.trouble = str(error)
        else:
            self._compare(connection, head, anchor)
        self._is_compared = True
        if self.trouble:
            log.error("%s `audit verify` says more.", self.trouble, extra={"action": "audit_trouble"})
        return head

    def _compare(self, connection: DuckDBPyConnection, head: Head, anchor: Head | None) -> None:
        if anchor is None and head.number == 0:
            self.anchor.write(Head())  # before the first row, so that a missing anchor is never a crash's doing
        elif anchor is None:
            self.trouble = f"the audit log's anchor {self.anchor.path} is gone."
        else:
            self.trouble = disagreement(head, anchor, hash_at(connection, anchor.number))
            self.behind = 0 if self.trouble else head.number - anchor.number

    def reseal(self, head: Head) -> None:
        """Believe the table as it is from now on."""
        self.trouble = ""
        self.anchor.write(head)

    def _row(self, entry: Entry) -> Row:
        return Row(
            number=0,
            at=stamp(entry.at or self.clock()),
            kind=str(entry.kind),
            run_id=clean(entry.run_id),
            principal=self.principal,
            body=canonical(self._told(storable(dict(entry.body)))),
            previous="",
        )

    def _told(self, value: Any) -> Any:
        """A body without secrets, its texts shortened."""
        if isinstance(value, str):
            return shortened(value, self.redact)
        if isinstance(value, dict):
            return {self.redact(key): self._told(inner) for key, inner in value.items()}
        return [self._told(inner) for inner in value] if isinstance(value, list) else value


def shortened(text: str, redact: Callable[[str], str], limit: int = SHOWN) -> str:
    """The beginning of a text without secrets; secrets are taken out first, so that none is cut and missed."""
    window = text[:_WINDOW]
    told = redact(window)
    if len(told) <= limit and len(window) == len(text):
        return told
    kept = told[:limit] if len(told) > 2 * limit or len(window) == len(text) else ""
    return f"{kept}… ({len(text)} characters)"


def disagreement(head: Head, anchor: Head, hash_there: str | None) -> str:
    """What is wrong ('': nothing) where a log ends with `head` and has `hash_there` at the anchor's number."""
    if anchor.number > head.number:
        return (
            f"the audit log ends with row {head.number}, and its anchor names row {anchor.number}: "
            "rows were cut off, or an older copy of the database was put back."
        )
    if anchor.hash != (hash_there if anchor.number else GENESIS):
        return (
            f"row {anchor.number} of the audit log is not the one its anchor names: "
            "rows were cut off or rewritten, or an older copy of the database was put back."
        )
    return ""


def _timed(entry: Entry, clock: Clock) -> Entry:
    return Entry(kind=entry.kind, body=entry.body, run_id=entry.run_id, at=clock())


def _start(connection: DuckDBPyConnection, entries: Sequence[Entry]) -> Entry:
    """The first row: which log this is, and the movements of money that are older than it."""
    import uuid

    (ledger_id,) = connection.execute(sql.AUDIT_LEDGER_BEFORE).fetchone() or (0,)
    older = ledger_id - sum(entry.kind is Kind.CHARGE for entry in entries)
    return Entry(kind=Kind.START, body={"log": uuid.uuid4().hex, "ledger_rows_before": older})


def os_user() -> str:
    """Who runs this process, as the system has it; no variable of the environment is believed."""
    uid = os.geteuid()
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"uid {uid}"


# --- rows ------------------------------------------------------------------------------------------


def insert_rows(connection: DuckDBPyConnection, rows: Sequence[Row]) -> None:
    """Add rows, many in one statement: a few take no longer than one."""
    insert_many(connection, sql.INSERT_AUDIT, [_values(row) for row in rows])


def _values(row: Row) -> tuple[object, ...]:
    return row.number, row.at, row.kind, row.run_id, row.principal, row.body, row.previous, row.hash


def head_of(connection: DuckDBPyConnection) -> Head:
    """The row with the highest number.

    Raises:
        StorageError: the table is gone.
    """
    import duckdb

    try:
        row = connection.execute(sql.AUDIT_HEAD).fetchone()
    except duckdb.CatalogException:
        raise StorageError(
            "the audit log is gone from the memory, and nothing is done that can't be recorded: "
            "restore the database from a backup."
        ) from None
    return Head() if row is None else Head(number=row[0], hash=row[1])


def hash_at(connection: DuckDBPyConnection, number: int) -> str | None:
    """The hash of one row; None where there is none."""
    row = connection.execute(sql.AUDIT_HASH_AT, [number]).fetchone()
    return None if row is None else str(row[0])
