"""The audit log in a real database: what belongs together is stored together, and tampering is found."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.errors import NotFoundError, StorageError, UsageError
from llmos.kernel.token_economy import TokenEconomy
from llmos.memory import sql
from llmos.memory.audit_anchor import Anchor
from llmos.memory.audit_chain import AuditChain
from llmos.memory.audit_check import Verification, Wrong
from llmos.memory.audit_entries import Head, Row, hash_of, row_of
from llmos.memory.audit_log import AuditLog
from llmos.memory.audit_notes import Kind, note
from llmos.memory.database import Database
from llmos.memory.ledger import Ledger
from llmos.memory.outcomes import Judge, Outcomes
from llmos.memory.runs import RunStore
from llmos.memory.traces import TraceStore
from llmos.testing import FrozenClock
from llmos.trace.program import Status
from llmos.trace.run import Mode, Run, RunStatus
from tests.contract.memory_lab import NOW, a_trace
from tests.contract.old_homes import as_version
from tests.contract.test_memory_database import child

Tamper = Callable[[Any], object]


@asynccontextmanager
async def opened(folder: Path, **chain: Any) -> AsyncIterator[tuple[AuditLog, Database]]:
    """The log of a home, as boot opens and closes it."""
    witness = AuditChain(Anchor(folder / "audit-anchor.json"), **{"principal": "ada", **chain})
    async with Database(folder / "llmos.duckdb", witness=witness) as db:
        log = AuditLog(db, witness)
        await log.open()
        try:
            yield log, db
        finally:
            await log.close()


async def filled(folder: Path, count: int = 12) -> list[Row]:
    """A log with a row for each of some decisions, after its first one."""
    async with opened(folder) as (log, _):
        for n in range(1, count):
            await log.append(Kind.DECISION, {"decision": "follow", "n": n}, run_id=f"run{n}")
        return await log.tail(1000)


async def verified(folder: Path, **how: Any) -> Verification:
    async with opened(folder) as (log, _):
        return await log.verify(**how)


def tampered(folder: Path, *statements: str | Tamper) -> None:
    """Change a closed database behind everybody's back."""
    with duckdb.connect(str(folder / "llmos.duckdb")) as connection:
        for statement in statements:
            connection.execute(statement) if isinstance(statement, str) else statement(connection)


def anchor(folder: Path) -> Any:
    return json.loads((folder / "audit-anchor.json").read_text())


# --------------------------------------------------------------------------------------------------------- writing


async def test_rows_are_numbered_chained_and_named_by_the_anchor(tmp_path: Path) -> None:
    rows = await filled(tmp_path)
    assert [row.number for row in rows] == list(range(1, 13))
    assert rows[0].kind == "start" and rows[0].previous == "0" * 64
    assert all(after.previous == before.hash == hash_of(before) for before, after in pairwise(rows))
    assert rows[3].principal == "ada" and rows[3].facts == {"decision": "follow", "n": 3} and rows[3].run_id == "run3"
    assert anchor(tmp_path) == {"format": 1, "number": 12, "hash": rows[-1].hash}
    assert (await verified(tmp_path)).is_whole


async def test_what_a_failed_transaction_noted_is_not_there_and_the_chain_goes_on(tmp_path: Path) -> None:
    def failing(connection: Any) -> None:
        note(Kind.SETTING, {"n": 1})
        raise KeyError("stop")

    def refused(connection: Any) -> None:
        note(Kind.SETTING, {"n": 2})
        connection.execute("INSERT INTO meta VALUES ('schema_version', 'twice')")

    async with opened(tmp_path) as (log, db):
        with pytest.raises(KeyError):
            await db.run(failing)
        with pytest.raises(StorageError):
            await db.run(refused)
        await log.append(Kind.SETTING, {"n": 3})
        assert [row.facts for row in (await log.tail(10))[1:]] == [{"n": 3}]
        assert (await log.verify()).is_whole


async def test_what_waits_comes_before_the_next_row_and_at_the_end_at_the_latest(tmp_path: Path) -> None:
    clock = FrozenClock(NOW)
    async with opened(tmp_path, clock=clock) as (log, _):
        log.later(Kind.DECISION, {"n": 1})
        clock.advance(seconds=5)
        await log.append(Kind.EFFECT, {"n": 2})
        log.later(Kind.EFFECT, {"n": 3})
    async with opened(tmp_path) as (log, _):
        rows = (await log.tail(10))[1:]
        assert [row.facts["n"] for row in rows] == [1, 2, 3]
        assert [row.at for row in rows[:2]] == ["2026-11-21T12:00:00.000000Z", "2026-11-21T12:00:05.000000Z"]


async def test_what_waited_for_a_transaction_that_failed_waits_for_the_next(tmp_path: Path) -> None:
    def failing(connection: Any) -> None:
        note(Kind.SETTING, {"n": 2})
        connection.execute("INSERT INTO meta VALUES ('schema_version', 'twice')")

    async with opened(tmp_path) as (log, db):
        log.later(Kind.DECISION, {"n": 1})
        with pytest.raises(StorageError):
            await db.run(failing)
        await log.append(Kind.EFFECT, {"n": 3})
        assert [row.facts["n"] for row in (await log.tail(10))[1:]] == [1, 3]


async def test_many_writers_at_once_keep_one_chain(tmp_path: Path) -> None:
    async with opened(tmp_path) as (log, db):
        economy = TokenEconomy(budget_usd=10.0, ledger=Ledger(db))

        async def goal(n: int) -> None:
            log.later(Kind.DECISION, {"n": n}, run_id=f"run{n}")
            await log.append(Kind.EFFECT, {"n": n}, run_id=f"run{n}")
            await asyncio.to_thread(economy.deduct, 0.01, "learn", run_id=f"run{n}")

        await asyncio.gather(*(goal(n) for n in range(30)))
        found = await log.verify()
        assert found.is_whole
        assert found.rows == 2 + 3 * 30
        for n in range(30):
            kinds = [row.kind for row in await log.tail(1000, run_id=f"run{n}") if row.run_id == f"run{n}"]
            assert kinds == ["decision", "effect", "charge"]


async def test_every_movement_of_money_is_stored_with_its_row_or_not_at_all(tmp_path: Path) -> None:
    async with opened(tmp_path) as (log, db):
        economy = TokenEconomy(budget_usd=10.0, ledger=Ledger(db))
        economy.settle(economy.reserve(1.0, "run1", "learn"), 0.25)
        charges = [row.facts for row in await log.tail(10, kind="charge")]
        assert [(one["kind"], one["amount_microusd"], one["balance_microusd"]) for one in charges] == [
            ("recharge", 10_000_000, 10_000_000),
            ("reserve", -1_000_000, 9_000_000),
            ("settle", 750_000, 9_750_000),
        ]
        await db.run(lambda c: c.execute("ALTER TABLE audit_log RENAME TO elsewhere") and None)
        with pytest.raises(StorageError):
            economy.deduct(1.0, "unrecorded")
        await db.run(lambda c: c.execute("ALTER TABLE elsewhere RENAME TO audit_log") and None)
        assert economy.balance == 9.75
        assert (await log.verify()).is_whole


async def test_ends_of_runs_standings_of_traces_and_what_people_say_are_recorded(tmp_path: Path) -> None:
    from llmos.memory.index import VectorIndex

    async with opened(tmp_path) as (log, db):
        traces, runs = TraceStore(db, VectorIndex(tmp_path / "vectors.faiss")), RunStore(db)
        await traces.add(a_trace())
        await traces.set_status("count-lines", Status.QUARANTINED, "three failures")
        await traces.add_negative("count-lines", "Count the stars")
        await traces.drop_negative("count-lines", "Count the stars")
        await traces.drop_negative("count-lines", "Count the stars")
        await traces.forget("count-lines")
        await runs.finish(Run(id="r1", goal="Count", mode=Mode.FOLLOWER, status=RunStatus.DONE, saved_usd=0.41))
        await Outcomes(db).judge("count-lines", "r1", ok=True, by=Judge.REPLAY)
        await Outcomes(db).judge("count-lines", "r1", ok=False, by=Judge.PERSON)
        rows = (await log.tail(100))[1:]
        said = [(row.kind, row.facts.get("change") or row.facts.get("status") or row.facts["right"]) for row in rows]
        assert said == [
            ("trace", "stored"),
            ("trace", "status"),
            ("trace", "rejected for a goal"),
            ("trace", "rejection taken back"),
            ("trace", "forgotten"),
            ("run_end", "done"),
            ("approval", False),
        ]
        assert (rows[1].facts["was"], rows[1].facts["status"]) == ("trusted", "quarantined")
        assert rows[5].facts["saved_microusd"] == 410_000


async def test_a_trace_that_can_not_be_read_is_quarantined_on_record(tmp_path: Path) -> None:
    from llmos.memory.index import VectorIndex

    async with opened(tmp_path) as (log, db):
        traces = TraceStore(db, VectorIndex(tmp_path / "vectors.faiss"))
        await traces.add(a_trace())
        await db.run(lambda c: c.execute("UPDATE trace_versions SET body = 'junk'") and None)
        with pytest.raises(StorageError):
            await traces.get("count-lines")
        assert (await log.tail(1))[0].facts["status"] == "quarantined"
        with pytest.raises(NotFoundError):
            await traces.get("another")


async def test_a_run_that_a_crash_left_running_ends_on_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, db):
        await RunStore(db).start(Run(id="r1", goal="Count", mode=Mode.LEARNER))
    async with opened(tmp_path) as (log, _):
        (row,) = await log.tail(10, kind="run_end")
        assert (row.run_id, row.facts["status"]) == ("r1", "interrupted")


# ------------------------------------------------------------------------------------------------------- tampering

FORGED = (
    "INSERT INTO audit_log SELECT 6, happened_at, 'approval', run_id, 'root', body, previous, hash FROM audit_log "
    "WHERE number = 5"
)
SWAPPED = "UPDATE audit_log SET number = CASE number WHEN 5 THEN 8 WHEN 8 THEN 5 ELSE number END"
CLOSED_UP = ("DELETE FROM audit_log WHERE number = 6", "UPDATE audit_log SET number = number - 1 WHERE number > 6")


@pytest.mark.parametrize(
    ("statements", "wrong", "number"),
    [
        (["UPDATE audit_log SET body = '{\"n\":7}' WHERE number = 5"], Wrong.CHANGED, 5),
        (["UPDATE audit_log SET body = body || ' ' WHERE number = 5"], Wrong.CHANGED, 5),
        (["UPDATE audit_log SET happened_at = '2020-01-01T00:00:00.000000Z' WHERE number = 5"], Wrong.CHANGED, 5),
        (["UPDATE audit_log SET principal = 'eve' WHERE number = 1"], Wrong.CHANGED, 1),
        (["UPDATE audit_log SET run_id = 'run6' WHERE number = 12"], Wrong.CHANGED, 12),
        (["UPDATE audit_log SET kind = 'effect' WHERE number = 5"], Wrong.CHANGED, 5),
        (["UPDATE audit_log SET hash = upper(hash) WHERE number = 5"], Wrong.CHANGED, 5),
        (["DELETE FROM audit_log WHERE number = 6"], Wrong.MISSING, 6),
        (["DELETE FROM audit_log WHERE number < 4"], Wrong.MISSING, 1),
        (["DELETE FROM audit_log WHERE number > 9"], Wrong.TAIL, 10),
        (["DELETE FROM audit_log"], Wrong.TAIL, 2),
        ([SWAPPED], Wrong.OUT_OF_ORDER, 5),
        ([*CLOSED_UP], Wrong.OUT_OF_ORDER, 6),
        (["UPDATE audit_log SET number = number + 1 WHERE number > 6"], Wrong.OUT_OF_ORDER, 8),
        ([FORGED], Wrong.CHANGED, 6),
        (["INSERT INTO audit_log SELECT * FROM audit_log WHERE number = 5"], Wrong.INSERTED, 5),
    ],
)
async def test_tampering_is_found_at_its_first_row(
    tmp_path: Path, statements: list[str], wrong: Wrong, number: int
) -> None:
    await filled(tmp_path)
    tampered(tmp_path, *statements)
    first = (await verified(tmp_path)).findings[0]
    assert (first.wrong, first.number) == (wrong, number)
    for n in range(6):  # neither looking at it nor going on with it makes it good
        async with opened(tmp_path) as (log, _):
            await log.append(Kind.DECISION, {"n": n})
    assert (await verified(tmp_path)).findings[0].wrong is wrong


def rehashed(*, first: int, change: Callable[[Row], Row], last: int = 10**6) -> Tamper:
    """Rewrite rows as somebody does who knows how they are hashed."""

    def tamper(connection: Any) -> None:
        rows = [_read(row) for row in connection.execute(sql.AUDIT_ROWS).fetchall()]
        previous = None
        for row in rows:
            if row.number < first or row.number > last:
                continue
            new = change(row) if row.number == first else row
            new = replace(new, previous=previous) if previous is not None else new
            new = replace(new, hash=hash_of(new))
            previous = new.hash
            connection.execute(
                "UPDATE audit_log SET body = ?, previous = ?, hash = ?, principal = ? WHERE number = ?",
                [new.body, new.previous, new.hash, new.principal, new.number],
            )

    return tamper


def _read(row: Any) -> Row:
    names = ("number", "at", "kind", "run_id", "principal", "body", "previous", "hash")
    return Row(**dict(zip(names, row, strict=True)))


async def test_a_row_rewritten_with_its_hash_is_found_at_the_next_one(tmp_path: Path) -> None:
    await filled(tmp_path)
    tampered(tmp_path, rehashed(first=5, last=5, change=lambda row: replace(row, principal="eve")))
    finding = (await verified(tmp_path)).findings[0]
    assert (finding.wrong, finding.number) == (Wrong.REWRITTEN, 6)
    assert "row 5 was rewritten" in finding.message


async def test_a_chain_rewritten_to_its_end_is_found_by_the_anchor_and_by_an_export(tmp_path: Path) -> None:
    exported = await filled(tmp_path)
    tampered(tmp_path, rehashed(first=5, change=lambda row: replace(row, principal="eve")))
    (finding,) = (await verified(tmp_path)).findings
    assert (finding.wrong, finding.number) == (Wrong.TAIL, 12)
    (_, finding) = (await verified(tmp_path, against=exported, name="mine")).findings
    assert (finding.wrong, finding.number) == (Wrong.EXPORT, 5)


async def test_who_rewrites_database_and_anchor_is_found_only_by_an_export(tmp_path: Path) -> None:
    exported = await filled(tmp_path)
    tampered(tmp_path, rehashed(first=5, change=lambda row: replace(row, principal="eve")))
    (tmp_path / "audit-anchor.json").unlink()
    with duckdb.connect(str(tmp_path / "llmos.duckdb")) as connection:
        ((number, digest),) = connection.execute(sql.AUDIT_HEAD).fetchall()
    (tmp_path / "audit-anchor.json").write_text(json.dumps({"format": 1, "number": number, "hash": digest}))
    assert (await verified(tmp_path)).is_whole
    assert (await verified(tmp_path, against=exported)).findings[0].wrong is Wrong.EXPORT


async def test_an_older_copy_of_the_database_is_found_by_the_anchor(tmp_path: Path) -> None:
    await filled(tmp_path, 6)
    shutil.copy(tmp_path / "llmos.duckdb", tmp_path / "backup")
    async with opened(tmp_path) as (log, _):
        for n in range(5):
            await log.append(Kind.EFFECT, {"n": n})
    shutil.copy(tmp_path / "backup", tmp_path / "llmos.duckdb")
    async with opened(tmp_path) as (log, _):  # the log grows beyond the anchor's number
        assert "ends with row 6, and its anchor names row 11" in log.chain.trouble
        for n in range(9):
            await log.append(Kind.EFFECT, {"n": n})
    (finding,) = (await verified(tmp_path)).findings
    assert (finding.wrong, finding.number) == (Wrong.TAIL, 11)
    assert "older copy of the database" in finding.message


@pytest.mark.parametrize("junk", [None, "", "{}", "[1]", '{"format": 1, "number": "12", "hash": ""}', "\udcff"])
async def test_an_anchor_that_is_gone_or_junk_is_found(tmp_path: Path, junk: str | None) -> None:
    await filled(tmp_path)
    path = tmp_path / "audit-anchor.json"
    path.unlink() if junk is None else path.write_bytes(junk.encode("utf-8", "surrogateescape"))
    async with opened(tmp_path) as (log, _):
        await log.append(Kind.DECISION, {"n": 1})
    (finding,) = (await verified(tmp_path)).findings
    assert finding.wrong is Wrong.ANCHOR


async def test_an_anchor_that_a_crash_left_behind_is_moved(tmp_path: Path) -> None:
    rows = await filled(tmp_path)
    Anchor(tmp_path / "audit-anchor.json").write(Head(number=9, hash=rows[8].hash))
    found = await verified(tmp_path)
    assert found.is_whole and found.behind == 3
    assert anchor(tmp_path)["number"] == 12
    assert (await verified(tmp_path)).behind == 0


async def test_a_log_whose_table_is_gone_stops_what_would_be_recorded(tmp_path: Path) -> None:
    await filled(tmp_path)
    tampered(tmp_path, "DROP TABLE audit_log")
    with pytest.raises(StorageError, match="the audit log is gone"):
        await verified(tmp_path)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE ledger SET amount_microusd = 0 WHERE id = 2", "movement 2 of the ledger is not what row 3 says"),
        ("UPDATE ledger SET balance_microusd = 1 WHERE id = 3", "movement 3 of the ledger is not what row 4 says"),
        ("DELETE FROM ledger WHERE id = 2", "movement 2, which row 3 records, is missing in the ledger"),
        (
            "INSERT INTO ledger SELECT 9, moved_at, kind, 5, 5, run_id, operation, 0, NULL FROM ledger WHERE id = 1",
            "movement 9 of the ledger is not in the audit log",
        ),
    ],
)
async def test_a_ledger_that_was_tampered_with_is_found(tmp_path: Path, statement: str, message: str) -> None:
    async with opened(tmp_path) as (_, db):
        economy = TokenEconomy(budget_usd=10.0, ledger=Ledger(db))
        economy.settle(economy.reserve(1.0, "run1", "learn"), 0.25)
    assert (await verified(tmp_path)).is_whole
    tampered(tmp_path, statement)
    (finding,) = (await verified(tmp_path)).findings
    assert finding.wrong is Wrong.LEDGER
    assert message in finding.message


async def test_a_home_older_than_the_log_begins_one_and_its_movements_count_from_there(tmp_path: Path) -> None:
    async with Database(tmp_path / "llmos.duckdb") as db:
        economy = TokenEconomy(budget_usd=10.0, ledger=Ledger(db))
        economy.deduct(1.0, "before the log")
    tampered(tmp_path, *as_version(2))
    async with opened(tmp_path) as (log, db):
        assert (await log.tail(1))[0].facts["ledger_rows_before"] == 2
        TokenEconomy(ledger=Ledger(db)).deduct(0.5, "with the log")
        assert (await log.verify()).is_whole


async def test_a_first_charge_in_a_log_that_nobody_opened_is_its_own_first_movement(tmp_path: Path) -> None:
    chain = AuditChain(Anchor(tmp_path / "audit-anchor.json"))
    async with Database(tmp_path / "llmos.duckdb", witness=chain) as db:
        TokenEconomy(budget_usd=10.0, ledger=Ledger(db))
        assert (await AuditLog(db, chain).verify()).is_whole
        chain.anchor.close()


# ---------------------------------------------------------------------------------------- random tampering (property)


@pytest.fixture(scope="module")
def original() -> Iterator[tuple[Path, list[Row]]]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder), asyncio.run(filled(Path(folder), 10))


numbers = st.integers(1, 10)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
columns = st.sampled_from(["happened_at", "kind", "run_id", "principal", "body", "previous", "hash"])
CHANGE = "UPDATE audit_log SET {0} = ? WHERE number = ?"
RENUMBER = "UPDATE audit_log SET number = CASE number WHEN ? THEN ? WHEN ? THEN ? ELSE number END"
COPY = (
    "INSERT INTO audit_log SELECT ?, happened_at, kind, run_id, ?, body, previous, hash FROM audit_log WHERE number = ?"
)
moves = st.one_of(
    st.builds(lambda column, text, n: (CHANGE.format(column), [text, n]), columns, texts, numbers),
    st.builds(lambda n: ("DELETE FROM audit_log WHERE number = ?", [n]), numbers),
    st.builds(lambda n: ("DELETE FROM audit_log WHERE number > ?", [n]), numbers),
    st.builds(lambda a, b: (RENUMBER, [a, b, b, a]), numbers, numbers),
    st.builds(lambda n, by: ("UPDATE audit_log SET number = number + ? WHERE number > ?", [by, n]), numbers, numbers),
    st.builds(lambda to, text, n: (COPY, [to, text, n]), st.integers(-1, 14), texts, numbers),
    st.builds(lambda n, text: ("rehash", [n, text]), numbers, texts),
)


@given(tampering=st.lists(moves, min_size=1, max_size=3))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_done_to_the_rows_is_found(original: tuple[Path, list[Row]], tampering: list[Any]) -> None:
    before, rows = original
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("llmos.duckdb", "audit-anchor.json"):
            shutil.copy(before / file, folder / file)
        with duckdb.connect(str(folder / "llmos.duckdb")) as connection:
            for statement, values in tampering:
                if statement == "rehash":
                    n, text = values
                    rehashed(first=n, change=lambda row, text=text: replace(row, principal=text))(connection)  # type: ignore[misc]
                else:
                    connection.execute(statement, values)
            after = [_read(row) for row in connection.execute(sql.AUDIT_ROWS).fetchall()]
        found = asyncio.run(verified(folder))
        assert found.is_whole == (after == rows), found.findings


# ---------------------------------------------------------------------------------------------------------- exports


async def test_an_export_of_the_past_is_extended_by_the_present(tmp_path: Path) -> None:
    rows = await filled(tmp_path)
    exported = [row_of(json.loads(json.dumps(row.to_data()))) for row in rows]
    assert exported == rows
    async with opened(tmp_path) as (log, _):
        await log.append(Kind.EFFECT, {"n": 1})
        assert (await log.verify(exported)).is_whole
        assert (await log.verify(exported[4:])).is_whole
        (finding,) = (await log.verify([*exported[:4], *exported[5:]], name="mine")).findings
        assert finding.message == "in mine row 5 is missing"
        changed = replace(exported[3], principal="eve")
        (finding,) = (await log.verify([*exported[:3], changed], name="mine")).findings
        assert finding.message.startswith("in mine row 4 was changed")


async def test_another_homes_export_is_not_extended(tmp_path: Path) -> None:
    other = await filled(tmp_path / "other")
    await filled(tmp_path / "home")
    (finding,) = (await verified(tmp_path / "home", against=other)).findings
    assert (finding.wrong, finding.number) == (Wrong.EXPORT, 1)


async def test_pages_begin_at_a_number_or_at_a_time(tmp_path: Path) -> None:
    clock = FrozenClock(NOW)
    async with opened(tmp_path, clock=clock) as (log, _):
        for n in range(4):
            clock.advance(seconds=60)
            await log.append(Kind.EFFECT, {"n": n})
        assert [row.number async for page in log.pages(first=3) for row in page] == [3, 4, 5]
        assert [row.number async for page in log.pages(since="2026-11-21T12:02") for row in page] == [3, 4, 5]
        assert [page async for page in log.pages(since="2027")] == []


# ----------------------------------------------------------------------------------------------------------- sealing


async def test_a_restored_backup_can_be_accepted_and_that_is_on_record(tmp_path: Path) -> None:
    await filled(tmp_path)
    tampered(tmp_path, "DELETE FROM audit_log WHERE number > 8")
    async with opened(tmp_path) as (log, _):
        await log.reseal("restored the backup of Sunday")
        assert (await log.verify()).is_whole
        facts = (await log.tail(1))[0].facts
        assert facts["reason"] == "restored the backup of Sunday"
        assert "ends with row 8, and its anchor names row 12" in facts["finding"]
        await log.append(Kind.EFFECT, {})
    assert (await verified(tmp_path)).is_whole


async def test_a_seal_mends_no_row_and_is_not_given_for_nothing(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path) as (log, _):
        with pytest.raises(UsageError, match="nothing to seal anew"):
            await log.reseal("just so")
    tampered(tmp_path, "UPDATE audit_log SET principal = 'eve' WHERE number = 3")
    async with opened(tmp_path) as (log, _):
        with pytest.raises(UsageError, match=r"row 3 was changed.*no seal mends that"):
            await log.reseal("just so")


# ------------------------------------------------------------------------------------------------------------ crashes

HAMMER = """
import asyncio, sys
from pathlib import Path
from llmos.memory.audit_anchor import Anchor
from llmos.memory.audit_chain import AuditChain
from llmos.memory.audit_log import AuditLog
from llmos.memory.audit_notes import Kind
from llmos.memory.database import Database

async def main():
    folder = Path(sys.argv[1])
    chain = AuditChain(Anchor(folder / "audit-anchor.json"))
    async with Database(folder / "llmos.duckdb", witness=chain) as db:
        log = AuditLog(db, chain)
        await log.open()

        async def writer(name):
            for n in range(1_000_000):
                log.later(Kind.DECISION, {"n": n})
                await log.append(Kind.EFFECT, {"n": f"{sys.argv[2]}.{name}.{n}"})
                print(f"{sys.argv[2]}.{name}.{n}", flush=True)

        await asyncio.gather(*(writer(name) for name in "abc"))

asyncio.run(main())
"""


async def test_killing_the_writer_leaves_a_chain_that_verifies_with_every_acknowledged_row(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    for attempt in range(4):
        with child(HAMMER, tmp_path, attempt) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(1 + 17 * attempt)]
            writer.send_signal(signal.SIGKILL)
            lines += [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        acknowledged |= {line.strip() for line in lines}
        async with opened(tmp_path) as (log, _):
            assert (await log.verify()).is_whole
            stored = {row.facts["n"] for row in await log.tail(100_000, kind="effect")}
        assert acknowledged <= stored


async def test_killing_it_before_its_first_row_leaves_a_log_that_can_begin(tmp_path: Path) -> None:
    async with Database(tmp_path / "llmos.duckdb"):
        pass
    Anchor(tmp_path / "audit-anchor.json").write(Head())
    found = await verified(tmp_path)
    assert found.is_whole and found.rows == 1
