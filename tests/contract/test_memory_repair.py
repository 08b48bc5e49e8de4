"""Repairing a memory: nothing is destroyed, what can be read comes back, and what is lost is said."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from llmos.accounts import EntryKind, LedgerEntry
from llmos.errors import DatabaseLockedError, StorageError
from llmos.kernel.token_economy import TokenEconomy
from llmos.memory.audit_anchor import Anchor
from llmos.memory.audit_archive import Archive
from llmos.memory.audit_chain import AuditChain
from llmos.memory.audit_log import AuditLog
from llmos.memory.backups import EVERY, KEPT, Backups, made_at
from llmos.memory.database import Database
from llmos.memory.index import VectorIndex
from llmos.memory.ledger import Ledger
from llmos.memory.repair import Places, Repair, repair
from llmos.memory.runs import RunStore
from llmos.memory.salvage import Source, assembled, source_of
from llmos.memory.salvaged_money import take_log
from llmos.memory.traces import TraceStore
from llmos.testing import FrozenClock
from llmos.trace.program import Status
from llmos.trace.run import Mode, Run, RunStatus
from tests.contract.memory_lab import NOW, a_trace, shipped
from tests.contract.test_memory_database import child


@pytest.fixture
def places(tmp_path: Path) -> Places:
    memory = tmp_path / "memory"
    return Places(
        memory=memory,
        database=memory / "llmos.duckdb",
        anchor=memory / "audit-anchor.json",
        vectors=memory / "traces.faiss",
        backups=memory / "backups",
        archive=memory / "audit",
    )


@asynccontextmanager
async def opened(places: Places, at: FrozenClock | None = None) -> AsyncIterator[tuple[Database, AuditLog]]:
    """The memory, as boot opens and closes it."""
    clock = at or FrozenClock(NOW)
    chain = AuditChain(Anchor(places.anchor), clock=clock)
    async with Database(places.database, witness=chain, backups=Backups(places.backups, clock=clock)) as db:
        log = AuditLog(db, chain)
        await log.open()
        try:
            yield db, log
        finally:
            await log.close()


async def lived(places: Places, name: str = "first", at: FrozenClock | None = None, cost_usd: float = 0.25) -> None:
    """A process that learned something and paid for it."""
    async with opened(places, at) as (db, _):
        economy = TokenEconomy(10.0, ledger=Ledger(db))
        run = Run(id=f"run-{name}", goal=f"learn {name}", mode=Mode.LEARNER, started_at=NOW)
        await RunStore(db).start(run)
        reservation = economy.reserve(1.0, run.id, "learn")
        economy.settle(reservation, cost_usd)
        await RunStore(db).finish(replace(run, status=RunStatus.DONE, cost_usd=cost_usd))
        index = VectorIndex(places.vectors)
        traces = TraceStore(db, index)
        await traces.add(a_trace(f"trace-{name}", f"Count the {name} lines of {{source}}"))
        await traces.put_demonstrations([shipped("shown", "Show {source}")])


async def mended(places: Places) -> Repair:
    return await repair(places, clock=FrozenClock(NOW + timedelta(days=1)))


async def held(places: Places) -> dict[str, Any]:
    """What stands in a memory now; its audit log must be whole."""
    async with opened(places, FrozenClock(NOW + timedelta(days=1))) as (db, log):
        verified = await log.verify()
        assert verified.is_whole, verified.findings
        ledger = Ledger(db)
        return {
            "runs": sorted(run.id for run in await RunStore(db).list()),
            "traces": {one.id: one.status for one in await TraceStore(db, VectorIndex(places.vectors)).list()},
            "balance": ledger.balance_microusd(),
            "ledger": [(row.kind, row.amount_microusd, row.run_id) for row in ledger.entries()[::-1]],
            "last": (await log.tail(1))[-1],
        }


def garbage(path: Path, at: int = 0) -> bytes:
    """Overwrite a file from somewhere on; gives what it holds then."""
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(np.random.default_rng(7).bytes(size - at))
    return path.read_bytes()


PAYING = """
import asyncio, sys
from pathlib import Path
from llmos.kernel.token_economy import TokenEconomy
from llmos.memory.audit_anchor import Anchor
from llmos.memory.audit_archive import Archive
from llmos.memory.audit_chain import AuditChain
from llmos.memory.audit_log import AuditLog
from llmos.memory.database import Database
from llmos.memory.ledger import Ledger

async def main(path):
    chain = AuditChain(Anchor(path.with_name("audit-anchor.json")))
    async with Database(path, witness=chain) as db:
        log = AuditLog(db, chain)
        await log.open()
        economy = TokenEconomy(ledger=Ledger(db))
        for number in range(20):
            economy.deduct(0.01, f"bill {number}")
        chain.anchor.wait()
        print("paid", flush=True)
        await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


@contextmanager
def stopped_after(code: str, database: Path) -> Iterator[None]:
    """A process that has said its first line, and is killed at the end."""
    process = child(code, database)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "paid"
        yield
    finally:
        process.kill()
        process.communicate()


async def test_a_memory_that_is_whole_is_left_as_it_is(places: Places) -> None:
    await lived(places)
    before = places.database.read_bytes()
    report = await mended(places)
    assert report.found == [f"every table of {places.database} can be read"]
    assert (report.done, report.lost, report.aside) == ([], [], None)
    assert places.database.read_bytes() == before
    assert not list(places.memory.glob(".repair-*"))


async def test_where_nothing_is_there_is_nothing_to_repair(places: Places) -> None:
    report = await mended(places)
    assert "nothing to repair" in report.found[0]
    assert not places.memory.exists()


async def test_a_cut_database_is_refused_at_once_and_brought_back_from_a_copy(places: Places) -> None:
    await lived(places)
    await lived(places, "second", FrozenClock(NOW + timedelta(hours=1)))  # what the first did is copied now
    size = places.database.stat().st_size
    with places.database.open("r+b") as stream:
        stream.truncate(size // 10)
    damaged = places.database.read_bytes()
    with pytest.raises(StorageError, match=r"boot\.py repair"):
        await held(places)
    report = await mended(places)
    assert f"{places.database} was cut: it is shorter than what it holds" in report.found
    assert report.aside is not None
    assert (report.aside / places.database.name).read_bytes() == damaged
    assert any(f"the copy of {NOW + timedelta(hours=1):%Y-%m-%d %H:%M} UTC" in one for one in report.lost)
    found = await held(places)
    assert "run-first" in found["runs"]
    assert found["traces"]["trace-first"] is Status.CANDIDATE, "it may have been rejected since the copy"
    assert found["traces"]["shown"] is Status.TRUSTED
    assert found["last"].kind == "reseal"
    assert (await mended(places)).aside is None


async def test_without_a_copy_a_new_memory_begins_and_everything_is_said_to_be_lost(places: Places) -> None:
    await lived(places)
    garbage(places.database)
    report = await mended(places)
    assert any("neither the database nor a copy has it whole" in one for one in report.lost)
    assert any("ledger and audit log of the database can't be read, and no copy has them" in one for one in report.lost)
    assert (await held(places))["runs"] == []


async def test_the_log_is_kept_up_to_its_first_damaged_entry(places: Places) -> None:
    await lived(places)
    with stopped_after(PAYING, places.database):
        pass
    log = places.log
    garbage(log, log.stat().st_size * 3 // 4)
    with pytest.raises(StorageError, match=r"boot\.py repair"):
        await held(places)
    report = await mended(places)
    assert any("are damaged" in one for one in report.found)
    assert any("its anchor names row" in one and "the last movement of money" in one for one in report.lost)
    charged = [row for row in (await held(places))["ledger"] if row[0] is EntryKind.CHARGE]
    assert 0 < len(charged) < 20


async def test_damaged_files_that_a_killed_repair_had_put_aside_are_taken_up_again(places: Places) -> None:
    await lived(places)
    aside = places.memory / "damaged-20261121T120000000000"
    aside.mkdir()
    places.database.rename(aside / places.database.name)
    report = await mended(places)
    assert report.found == [f"{places.database} is gone"]
    assert report.lost == []
    assert (await held(places))["traces"]["trace-first"] is Status.TRUSTED


async def test_a_repair_that_was_killed_between_log_and_database_loses_nothing(places: Places) -> None:
    await lived(places)
    with stopped_after(PAYING, places.database):
        pass
    aside = places.memory / "damaged-20261121T120000000000"
    aside.mkdir()
    (aside / places.database.name).hardlink_to(places.database)
    places.log.rename(aside / places.log.name)
    report = await mended(places)
    assert "an earlier repair was ended before it was done; it is done anew" in report.found
    assert report.lost == []
    charged = [row for row in (await held(places))["ledger"] if row[0] is EntryKind.CHARGE]
    assert len(charged) == 20
    assert (await mended(places)).aside is None


async def test_a_log_without_its_database_is_put_aside(places: Places) -> None:
    await lived(places)
    async with opened(places, FrozenClock(NOW + timedelta(hours=1))):
        pass
    places.database.unlink()
    places.log.write_bytes(b"changes of a database that is gone")
    with pytest.raises(StorageError, match=r"belongs to a database that is gone.*boot\.py repair"):
        await held(places)
    report = await mended(places)
    assert report.aside is not None
    assert (report.aside / places.log.name).read_bytes() == b"changes of a database that is gone"
    assert "run-first" in (await held(places))["runs"]


async def test_a_memory_that_somebody_holds_is_not_touched(places: Places) -> None:
    await lived(places)
    with (
        stopped_after(PAYING, places.database),
        pytest.raises(DatabaseLockedError, match="in use by another process"),
    ):
        await mended(places)


async def test_a_database_of_something_else_is_not_touched(places: Places) -> None:
    places.memory.mkdir()
    with duckdb.connect(str(places.database)) as connection:
        connection.execute("CREATE TABLE mine (n INTEGER)")
    with pytest.raises(StorageError, match="no memory of LLM OS"):
        await mended(places)
    with duckdb.connect(str(places.database)) as connection:
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (0,)


# --- money -------------------------------------------------------------------------------------------


def without(source: Source, *tables: str) -> Source:
    """A source some tables of which can't be read."""
    return replace(source, rows={name: count for name, count in source.rows.items() if name not in tables})


async def two_sources(places: Places, tmp_path: Path, *unread: str) -> list[Source]:
    """The database after two lives, without some tables, and a copy of it after the first."""
    await lived(places)
    old, new = tmp_path / "old" / "llmos.duckdb", tmp_path / "new" / "llmos.duckdb"
    for path in (old, new):
        path.parent.mkdir()
    shutil.copy(places.database, old)
    await lived(places, "second")
    shutil.copy(places.database, new)
    return [without(source_of("the database", new), *unread), source_of("the copy", old)]


async def rows_of(path: Path) -> list[LedgerEntry]:
    async with Database(path) as db:
        return Ledger(db).entries()[::-1]


async def test_the_ledger_is_made_again_of_the_audit_log(places: Places, tmp_path: Path) -> None:
    sources = await two_sources(places, tmp_path, "ledger")
    target = tmp_path / "fresh.duckdb"
    assembled(target, sources)
    log, missing = take_log(target, sources, Archive(places.archive))
    assert (log, missing) == (sources[0], [])
    assert await rows_of(target) == await rows_of(places.database)


async def test_what_only_the_ledger_holds_is_given_back_to_the_audit_log(places: Places, tmp_path: Path) -> None:
    sources = await two_sources(places, tmp_path, "audit_log")
    target = tmp_path / "fresh.duckdb"
    assembled(target, sources)
    log, missing = take_log(target, sources, Archive(places.archive))
    assert log is sources[1]
    whole = await rows_of(places.database)
    assert [*await rows_of(target), *missing] == whole
    assert sum(row.amount_microusd for row in whole) == 9_500_000


async def test_where_both_are_lost_known_runs_are_charged_and_the_loss_is_said(places: Places, tmp_path: Path) -> None:
    """Ledger and log come from the copy; what the second run cost is known from the run."""
    await lived(places)
    await lived(places, "second", FrozenClock(NOW + timedelta(hours=1)), cost_usd=0.5)
    with duckdb.connect(str(places.database)) as connection:
        connection.execute("DROP TABLE ledger")
        connection.execute("DROP TABLE audit_log")
    report = await mended(places)
    assert any("number 3, with a balance of $9.7500; movements after it are lost" in one for one in report.lost)
    assert "1 runs that the ledger does not know are charged anew: $0.5000" in report.done
    assert (await held(places))["balance"] == 9_250_000


# --- copies ------------------------------------------------------------------------------------------


async def test_copies_are_made_now_and_then_and_a_few_are_kept(places: Places) -> None:
    clock, copies = FrozenClock(NOW), Backups(places.backups, clock=FrozenClock(NOW))
    await lived(places, "0", clock)
    assert copies.newest_first() == [], "of a new memory there is nothing to copy"
    for number in range(1, KEPT + 3):
        for _ in range(2):
            async with opened(places, clock):
                pass
        assert len(copies.newest_first()) == min(number, KEPT)
        clock.advance(EVERY.total_seconds())
    newest = copies.newest_first()[0]
    assert made_at(newest) == NOW + (KEPT + 1) * EVERY
    with duckdb.connect(str(newest), read_only=True) as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == [("run-0",)]


async def test_a_copy_from_the_future_neither_stops_nor_outlives_others(places: Places) -> None:
    await lived(places)
    for hours in (24 * 400, 0):
        async with opened(places, FrozenClock(NOW + timedelta(hours=hours))):
            pass
    assert [made_at(path) for path in Backups(places.backups, clock=FrozenClock(NOW)).newest_first()] == [
        NOW,
        NOW + timedelta(days=400),
    ]


async def test_a_damaged_table_is_found_when_the_copy_is_made(places: Places) -> None:
    await lived(places)
    size = places.database.stat().st_size
    garbage(places.database, size * 2 // 3)
    with places.database.open("r+b") as stream:
        stream.truncate(size)
    with pytest.raises(StorageError, match=r"boot\.py repair"):
        async with opened(places):
            pass
    assert Backups(places.backups, clock=FrozenClock(NOW)).newest_first() == []


async def test_a_damaged_snapshot_of_the_vectors_is_made_anew(places: Places) -> None:
    await lived(places)
    vectors = np.eye(3, 8, dtype=np.float32)
    async with opened(places) as (db, _):
        rows = [[n + 1, "template", "trace-first", 1, n, "t", "m", vectors[n].tolist()] for n in range(3)]
        await db.run(lambda c: c.executemany("INSERT INTO embeddings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows) and None)
    places.vectors.write_bytes(b"no index")
    report = await mended(places)
    assert report.done == ["the vector snapshot traces.faiss is made anew: 3 vectors"]
    index = VectorIndex(places.vectors)
    assert index.load("m", 8)
    assert [number for number, _ in index.search(vectors[1], 1)] == [2]
    assert (await mended(places)).done == []
