"""The ledger in DuckDB keeps what `LedgerStore` promises, across processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.accounts import EntryKind, LedgerEntry, LedgerStore, LedgerTotals, Reservation
from llmos.errors import StorageError
from llmos.memory.database import Database
from llmos.memory.ledger import Ledger
from tests.contract.memory_lab import NOW


@pytest.fixture
def ledger(db: Database) -> LedgerStore:
    return Ledger(db)


def moved(kind: EntryKind, amount: int, reservation_id: str | None = None, saved: int = 0) -> LedgerEntry:
    return LedgerEntry(
        at=NOW,
        kind=kind,
        amount_microusd=amount,
        run_id="r1",
        operation="learn",
        saved_microusd=saved,
        reservation_id=reservation_id,
    )


async def test_a_new_ledger_is_empty(ledger: LedgerStore) -> None:
    assert ledger.is_new()
    assert ledger.balance_microusd() == 0
    assert ledger.entries(10) == []
    assert ledger.open_reservations() == []
    assert ledger.totals() == LedgerTotals(
        recharged_microusd=0, spent_microusd=0, reserved_microusd=0, saved_microusd=0
    )


async def test_a_row_comes_back_numbered_and_with_the_balance_after_it(ledger: LedgerStore) -> None:
    first = ledger.append(moved(EntryKind.RECHARGE, 10_000_000))
    second = ledger.append(moved(EntryKind.CHARGE, -450_000))

    assert (first.id, first.balance_microusd) == (1, 10_000_000)
    assert (second.id, second.balance_microusd) == (2, 9_550_000)
    assert ledger.entries() == [second, first]
    assert ledger.entries(1) == [second]
    assert ledger.balance_microusd() == 9_550_000
    assert not ledger.is_new()


async def test_a_reservation_is_open_until_it_is_settled_or_refunded(ledger: LedgerStore) -> None:
    ledger.append(moved(EntryKind.RECHARGE, 10_000_000))
    for name in ("a", "b", "c"):
        ledger.append(moved(EntryKind.RESERVE, -500_000, name))
    ledger.append(moved(EntryKind.SETTLE, 100_000, "a"))
    ledger.append(moved(EntryKind.REFUND, 500_000, "c"))
    ledger.append(moved(EntryKind.SAVING, 0, saved=410_000))

    assert ledger.open_reservations() == [
        Reservation(id="b", run_id="r1", amount_microusd=500_000, operation="learn", at=NOW)
    ]
    assert ledger.totals() == LedgerTotals(
        recharged_microusd=10_000_000, spent_microusd=400_000, reserved_microusd=500_000, saved_microusd=410_000
    )
    assert ledger.balance_microusd() == 9_100_000


async def test_the_balance_survives_a_restart(tmp_path: Path) -> None:
    async with Database(tmp_path / "b.duckdb") as db:
        Ledger(db).append(moved(EntryKind.RECHARGE, 7))
    async with Database(tmp_path / "b.duckdb") as db:
        assert Ledger(db).balance_microusd() == 7


async def test_a_row_of_unknown_kind_is_named(db: Database, ledger: LedgerStore) -> None:
    ledger.append(moved(EntryKind.RECHARGE, 7))
    await db.run(lambda c: c.execute("UPDATE ledger SET kind = 'gift'") and None)

    with pytest.raises(StorageError, match="ledger row 1 has the unknown kind 'gift'"):
        ledger.entries()


async def test_a_closed_memory_refuses_a_movement(tmp_path: Path) -> None:
    db = Database(tmp_path / "b.duckdb")
    await db.open()
    await db.close()
    with pytest.raises(StorageError, match="is not open"):
        Ledger(db).append(moved(EntryKind.RECHARGE, 7))
