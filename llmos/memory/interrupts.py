"""Interrupts in DuckDB: each stored before anybody is told of it, and marked in the transaction that delivers it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from llmos.memory import order_sql as sql
from llmos.memory.database import Clock, Database, clean, from_utc, to_utc, utc_now
from llmos.orders import Interrupt, InterruptKind

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KEPT = 1_000
"""So many of the newest are kept, and all of the last day."""

KEPT_FOR = timedelta(days=1)
WAITS_FOR = timedelta(days=30)
"""What nobody has taken after so long is nobody's any more."""


class InterruptStore:
    """The queue's rows."""

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock

    async def add(self, interrupt: Interrupt) -> Interrupt | None:
        """Store one durably; None where one of its key was stored before."""
        return await self._db.run(lambda connection: insert(connection, interrupt, self._clock()))

    def add_soon(self, interrupt: Interrupt) -> None:
        """The same with whatever is stored next, or soon.

        Raises:
            StorageError: the memory is not open.
        """
        self._db.later(lambda connection: insert(connection, interrupt, self._clock()))

    async def take(self, run_id: str) -> list[Interrupt]:
        """Those for a run that were not delivered, which they are then, in the order they came."""
        now = to_utc(self._clock())
        return await self._db.run(lambda connection: read(connection, sql.TAKE_INTERRUPTS, [now, clean(run_id)]))

    async def waiting(self) -> list[Interrupt]:
        """Those that were not delivered, in the order they came."""
        return await self._db.run(lambda connection: read(connection, sql.WAITING_INTERRUPTS, []))

    async def of_run(self, run_id: str) -> list[Interrupt]:
        """Those that were delivered to a run, in the order they came."""
        return await self._db.run(lambda connection: read(connection, sql.INTERRUPTS_OF_RUN, [clean(run_id)]))

    async def list(self, limit: int) -> Sequence[Interrupt]:
        """The newest ones first."""
        return await self._db.run(lambda connection: read(connection, sql.NEWEST_INTERRUPTS, [limit]))


def insert(connection: DuckDBPyConnection, interrupt: Interrupt, now: datetime) -> Interrupt | None:
    """Store one in the transaction under way, and remove what is past its time; None where its key is known."""
    key = clean(interrupt.key)
    if key and connection.execute(sql.INTERRUPT_OF_KEY, [key]).fetchone():
        return None
    connection.execute(sql.TRIM_INTERRUPTS, [KEPT, to_utc(now - KEPT_FOR), to_utc(now - WAITS_FOR)])
    row = [
        str(interrupt.kind),
        clean(interrupt.run_id),
        interrupt.pid,
        clean(interrupt.order),
        clean(json.dumps(dict(interrupt.payload), ensure_ascii=False)),
        key,
        to_utc(interrupt.created_at),
    ]
    return _from_row(connection.execute(sql.INSERT_INTERRUPT, row).fetchone())


def read(connection: DuckDBPyConnection, query: str, parameters: list[Any]) -> list[Interrupt]:
    """What a statement gives, in the order it was raised."""
    rows = connection.execute(query, parameters).fetchall()
    return sorted(map(_from_row, rows), key=lambda one: one.id)


def _from_row(row: Any) -> Interrupt:
    number, kind, run_id, pid, order, body, key, created_at, delivered_at = row
    return Interrupt(
        id=number,
        kind=InterruptKind(kind),
        run_id=run_id,
        pid=pid,
        order=order,
        payload=json.loads(body),
        key=key,
        created_at=from_utc(created_at),
        delivered_at=from_utc(delivered_at) if delivered_at is not None else None,
    )
