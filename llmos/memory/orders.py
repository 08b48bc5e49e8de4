"""Standing orders in DuckDB: schedules and watches, and the interrupts that they raise, each change one transaction."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llmos.errors import NotFoundError
from llmos.memory import order_sql as sql
from llmos.memory.database import Clock, Database, clean, to_utc, utc_now
from llmos.memory.interrupts import insert, read
from llmos.orders import AnyOrder, Interrupt, Job, OrderState, Schedule, Watch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

O = TypeVar("O", Schedule, Watch)  # noqa: E741
_TIMES = ("created_at", "last_at", "at", "next_at")


class OrderStore(Generic[O]):
    """The orders of one sort; `kind` is Schedule or Watch."""

    def __init__(self, db: Database, kind: type[O], *, clock: Clock = utc_now) -> None:
        self._db = db
        self._kind: type[O] = kind
        self._clock = clock
        self._table, self._sequence = (
            ("schedules", "schedule_no") if issubclass(kind, Schedule) else ("watches", "watch_no")
        )
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call somebody whenever an order was added, removed or changed by a person."""
        self._listeners.append(listener)

    def told(self) -> None:
        """Call everybody who listens."""
        for listener in self._listeners:
            listener()

    async def add(self, order: O) -> O:
        """Store an order, under a number of its own."""
        row = [_body(order), to_utc(self._clock())]

        def work(connection: DuckDBPyConnection) -> O:
            (number,) = connection.execute(self._sql(sql.ADD_ORDER), row).fetchone() or (0,)
            return replace(order, id=int(number))

        stored = await self._db.run(work)
        self.told()
        return stored

    async def list(self) -> list[O]:
        """All of them, the oldest first."""

        def work(connection: DuckDBPyConnection) -> builtins.list[O]:
            rows = connection.execute(self._sql(sql.LIST_ORDERS)).fetchall()
            return [self._order(row) for row in rows]

        return await self._db.run(work)

    async def get(self, number: int) -> O:
        """The order of a number.

        Raises:
            NotFoundError: there is none.
        """
        found = await self._db.run(lambda connection: self._get(connection, number))
        if found is None:
            raise self._missing(number)
        return found

    async def change(self, number: int, change: Callable[[O], O], *, by_person: bool = False) -> O | None:
        """Replace an order by what `change` makes of it; None where it is gone."""
        changed = await self._db.run(lambda connection: self._changed(connection, number, change))
        if by_person:
            if changed is None:
                raise self._missing(number)
            self.told()
        return changed

    async def remove(self, number: int) -> None:
        """Forget an order, and what it raised that did not begin.

        Raises:
            NotFoundError: there is none.
        """

        def work(connection: DuckDBPyConnection) -> bool:
            name = f"{self._kind.__name__.lower()} {number}"
            connection.execute(sql.DROP_WAITING, [name])
            return connection.execute(self._sql(sql.REMOVE_ORDER), [number]).fetchone() is not None

        if not await self._db.run(work):
            raise self._missing(number)
        self.told()

    async def fire(self, number: int, change: Callable[[O], O], interrupts: Sequence[Interrupt]) -> None:
        """Raise what an order is due for, and change it, in one transaction."""

        def work(connection: DuckDBPyConnection) -> None:
            if self._changed(connection, number, change) is not None:
                for one in interrupts:
                    insert(connection, one, self._clock())

        await self._db.run(work)

    async def waiting(self, order: O) -> builtins.list[Interrupt]:
        """What it raised that did not begin yet, in the order it came."""
        return await self._db.run(lambda connection: read(connection, sql.WAITING_OF_ORDER, [order.name]))

    async def begin(self, order: O, interrupt: Interrupt, run_id: str, change: Callable[[O], O]) -> O | None:
        """Deliver an interrupt of an order, as a run; None where it was delivered, or the order is gone."""
        row = [to_utc(self._clock()), run_id, interrupt.id]

        def work(connection: DuckDBPyConnection) -> O | None:
            if not connection.execute(sql.DELIVER, row).fetchone():
                return None
            return self._changed(connection, order.id, change)

        return await self._db.run(work)

    # --- inside ----------------------------------------------------------------------------------------

    def _sql(self, statement: str) -> str:
        return statement.format(table=self._table, sequence=self._sequence)

    def _missing(self, number: int) -> NotFoundError:
        name = self._kind.__name__.lower()
        return NotFoundError(f"there is no {name} {number}; `{name} list` has those there are.")

    def _get(self, connection: DuckDBPyConnection, number: int) -> O | None:
        row = connection.execute(self._sql(sql.GET_ORDER), [number]).fetchone()
        return None if row is None else self._order(row)

    def _changed(self, connection: DuckDBPyConnection, number: int, change: Callable[[O], O]) -> O | None:
        found = self._get(connection, number)
        if found is None:
            return None
        changed = change(found)
        if changed != found:
            row = [_body(changed), to_utc(self._clock()), number]
            connection.execute(self._sql(sql.CHANGE_ORDER), row)
        return changed

    def _order(self, row: Any) -> O:
        number, body = row
        order: O = self._kind(**{**_fields(json.loads(body)), "id": number})
        return order


def _body(order: AnyOrder) -> str:
    values = {name: value for name, value in asdict(order).items() if name != "id"}
    values |= {name: values[name].isoformat() for name in _TIMES if values.get(name) is not None}
    return clean(json.dumps(values, ensure_ascii=False))


def _fields(data: dict[str, Any]) -> dict[str, Any]:
    job = data["job"]
    times = {name: datetime.fromisoformat(data[name]) for name in _TIMES if data.get(name) is not None}
    return {
        **data,
        **times,
        "job": Job(**{**job, "plugins": tuple(job["plugins"])}),
        "state": OrderState(data["state"]),
    }
