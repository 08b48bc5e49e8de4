"""Ledger and audit log of a repaired memory: each holds what the other says of money, so one of them is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmos.accounts import EntryKind, LedgerEntry
from llmos.memory import sql
from llmos.memory.audit_archive import Archive, Checkpoint, checkpoint
from llmos.memory.audit_entries import Head
from llmos.memory.audit_notes import Kind
from llmos.memory.ledger import from_row, to_row
from llmos.memory.salvage import Source, opened, take_money

_COST = "repair: the cost of a run whose movements could not be read"


def take_log(target: Path, sources: Sequence[Source], archive: Archive) -> tuple[Source | None, list[LedgerEntry]]:
    """Fill the new audit log, and the ledger as far as that log, with what was moved to its archive, has it.

    Savings come from the log, one by one: a row of the ledger may be the sum of some, which must not count twice.
    Gives where the log came from, and the movements it does not have yet, oldest first.
    """
    ledger = next((source for source in sources if "ledger" in source.rows), None)
    log = next((source for source in sources if "audit_log" in source.rows), None)
    if log is not None:
        take_money(target, "audit_log", log)
    known = _movements(ledger)
    audited, before = _audited(log, archive), _before(log, archive)
    with opened(target) as connection:
        connection.execute("BEGIN")
        for number in sorted(audited | {n: row for n, row in known.items() if n <= before}):
            row = audited.get(number)
            if row is None or row.kind is not EntryKind.SAVING:
                row = known.get(number) or audited[number]
            connection.execute(sql.INSERT_ENTRIES, to_row(row))
        connection.execute("COMMIT")
    highest = max(audited, default=before)
    return log, [row for number, row in sorted(known.items()) if number > highest]


def unbooked(target: Path) -> list[LedgerEntry]:
    """Charges for the runs of the new database that cost something and that its ledger knows nothing of."""
    with opened(target) as connection:
        rows = connection.execute(sql.UNBOOKED_RUNS).fetchall()
    return [
        LedgerEntry(
            at=datetime.now(UTC), kind=EntryKind.CHARGE, amount_microusd=-amount, run_id=run_id, operation=_COST
        )
        for run_id, amount in rows
    ]


def balance_of(target: Path) -> tuple[int, int]:
    """The number of the last movement, and the balance after it."""
    with opened(target) as connection:
        number, balance = connection.execute(sql.LAST_ENTRY).fetchone() or (0, 0)
    return int(number), int(balance)


def head_in(target: Path) -> Head:
    """The last row of the audit log in a file."""
    with opened(target) as connection:
        row = connection.execute(sql.AUDIT_HEAD).fetchone()
    return Head() if row is None else Head(number=row[0], hash=row[1])


def _movements(source: Source | None) -> dict[int, LedgerEntry]:
    if source is None:
        return {}
    with opened(source.path) as connection:
        rows = [from_row(row) for row in connection.execute(sql.LIST_ENTRIES).fetchall()]
    return {row.id: row for row in rows if row.id is not None}


def _before(log: Source | None, archive: Archive) -> int:
    """How many movements are older than the log, or than what can still be read of it."""
    if facts := _facts(log, Kind.START, archive):
        return int(facts[0][2].get("ledger_rows_before", 0))
    point = _checkpoint(log)
    return point.ledger_through if point is not None else 0


def _checkpoint(log: Source | None) -> Checkpoint | None:
    if log is None:
        return None
    with opened(log.path) as connection:
        return checkpoint(connection)


def _audited(log: Source | None, archive: Archive) -> dict[int, LedgerEntry]:
    """The movements that an audit log records."""
    found = {}
    for at, run_id, facts in _facts(log, Kind.CHARGE, archive):
        entry = LedgerEntry(
            at=datetime.fromisoformat(at),
            kind=EntryKind(facts["kind"]),
            amount_microusd=int(facts["amount_microusd"]),
            run_id=run_id,
            operation=str(facts["operation"]),
            saved_microusd=int(facts["saved_microusd"]),
            reservation_id=facts.get("reservation"),
        )
        number = int(facts["entry"])
        found[number] = replace(entry, id=number, balance_microusd=int(facts["balance_microusd"]))
    return found


def _facts(log: Source | None, kind: Kind, archive: Archive) -> list[tuple[str, str, dict[str, Any]]]:
    import json

    if log is None:
        return []
    point = _checkpoint(log)
    moved = archive.rows(point.last.number) if point is not None else ()
    before = [(row.at, row.run_id, row.facts) for row in moved if row.kind == kind]
    with opened(log.path) as connection:
        rows = connection.execute(sql.AUDIT_OF_KIND, [str(kind)]).fetchall()
    return before + [(at, run_id, json.loads(body)) for at, run_id, body in rows]
