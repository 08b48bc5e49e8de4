"""The ledger's rows in DuckDB: what `llmos.accounts.LedgerStore` promises, durable before `append` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmos.accounts import MICROUSD_PER_USD, EntryKind, LedgerEntry, LedgerTotals, Reservation
from llmos.errors import StorageError
from llmos.memory import sql
from llmos.memory.audit_notes import Kind, note
from llmos.memory.bulk import insert_many
from llmos.memory.database import Database, clean, from_utc, to_utc

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Ledger:
    """Keeps the rows; synchronous, because a movement must be on disk before anything is spent on it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Store a row; returns it with its `id` and the `balance_microusd` after it."""
        return self._db.run_blocking(lambda connection: append_all(connection, [entry])[0])

    def entries(self, limit: int | None = None) -> list[LedgerEntry]:
        """The newest `limit` rows (None: all), newest first."""
        query = sql.LIST_ENTRIES if limit is None else f"{sql.LIST_ENTRIES} LIMIT {max(0, int(limit))}"
        return [from_row(row) for row in self._db.run_blocking(lambda c: c.execute(query).fetchall())]

    def balance_microusd(self) -> int:
        """The sum of all rows' amounts; 0 when there are none."""
        row = self._db.run_blocking(lambda c: c.execute(sql.LAST_ENTRY).fetchone())
        return int(row[1]) if row else 0

    def open_reservations(self) -> list[Reservation]:
        """Reservations with no SETTLE or REFUND row, oldest first."""
        rows = self._db.run_blocking(lambda c: c.execute(sql.OPEN_RESERVATIONS).fetchall())
        return [_reservation(row) for row in rows]

    def totals(self) -> LedgerTotals:
        """Sums over all rows."""

        def work(connection: DuckDBPyConnection) -> LedgerTotals:
            recharged, balance, saved = connection.execute(sql.LEDGER_SUMS).fetchone() or (0, 0, 0)
            reserved = sum(row[2] for row in connection.execute(sql.OPEN_RESERVATIONS).fetchall())
            return LedgerTotals(
                recharged_microusd=int(recharged),
                spent_microusd=int(recharged) - int(balance) - int(reserved),
                reserved_microusd=int(reserved),
                saved_microusd=int(saved),
            )

        return self._db.run_blocking(work)

    def spent_usd(self, run_id: str) -> float:
        """What a run has cost, with what is still reserved for it."""
        row = self._db.run_blocking(lambda c: c.execute(sql.SPENT_BY_RUN, [clean(run_id)]).fetchone())
        return int(row[0] or 0) / MICROUSD_PER_USD if row else 0.0

    def is_new(self) -> bool:
        """Whether nothing was ever appended."""
        return self._db.run_blocking(lambda c: c.execute(sql.LAST_ENTRY).fetchone()) is None


def append_all(connection: DuckDBPyConnection, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """Add rows to the ledger in the order given; returns them as they were stored."""
    number, balance = connection.execute(sql.LAST_ENTRY).fetchone() or (0, 0)
    stored = []
    for entry in entries:
        number, balance = number + 1, balance + entry.amount_microusd
        stored.append(replace(entry, id=number, balance_microusd=balance))
    insert_many(connection, sql.INSERT_ENTRIES, [to_row(one) for one in stored])
    for one in stored:
        note(Kind.CHARGE, _audited(one), run_id=one.run_id, at=one.at)
    return stored


def _audited(entry: LedgerEntry) -> dict[str, Any]:
    """A movement as the audit log has it, stored with it."""
    return {
        "entry": entry.id,
        "kind": str(entry.kind),
        "amount_microusd": entry.amount_microusd,
        "balance_microusd": entry.balance_microusd,
        "saved_microusd": entry.saved_microusd,
        "operation": entry.operation,
        "reservation": entry.reservation_id,
    }


def to_row(entry: LedgerEntry) -> list[Any]:
    return [
        entry.id,
        to_utc(entry.at),
        str(entry.kind),
        entry.amount_microusd,
        entry.balance_microusd,
        clean(entry.run_id),
        clean(entry.operation),
        entry.saved_microusd,
        entry.reservation_id,
    ]


def from_row(row: tuple[Any, ...]) -> LedgerEntry:
    number, at, kind, amount, balance, run_id, operation, saved, reservation_id = row
    if kind not in set(EntryKind):
        raise StorageError(f"ledger row {number} has the unknown kind {kind!r}: restore the memory from a backup.")
    return LedgerEntry(
        id=number,
        at=from_utc(at),
        kind=EntryKind(kind),
        amount_microusd=amount,
        balance_microusd=balance,
        run_id=run_id,
        operation=operation,
        saved_microusd=saved,
        reservation_id=reservation_id,
    )


def _reservation(row: tuple[Any, ...]) -> Reservation:
    number, run_id, amount, operation, at = row
    return Reservation(id=number, run_id=run_id, amount_microusd=amount, operation=operation, at=from_utc(at))
