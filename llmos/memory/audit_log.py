"""The audit log as others use it: record, look at, check, export, and seal anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from llmos.errors import StorageError, UsageError
from llmos.memory import sql
from llmos.memory.audit_archive import ARCHIVED, Archive, Checkpoint, checkpoint
from llmos.memory.audit_chain import AuditChain, head_of
from llmos.memory.audit_check import (
    ChainCheck,
    Finding,
    Movement,
    Verification,
    Wrong,
    check_anchor,
    check_export,
    check_ledger,
    whole_export,
)
from llmos.memory.audit_entries import Head, Row, stamp
from llmos.memory.audit_notes import Entry, Kind, note
from llmos.memory.database import Database

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

_PAGE = 2_000


class AuditLog:
    """What was decided, approved, done, charged and set: rows that are only appended, each chained to the last."""

    def __init__(self, db: Database, chain: AuditChain, archive: Archive | None = None) -> None:
        self._db = db
        self.chain = chain
        self._archive = archive

    async def open(self) -> None:
        """Compare the log with its anchor; what is wrong is logged, and `chain.trouble` says it.

        Raises:
            StorageError: there is no log any more.
        """

        def work(connection: DuckDBPyConnection) -> None:
            self.chain.resume(connection)
            self.chain.flush(connection)  # a new log begins before anything it records

        await self._db.run(work)

    async def close(self) -> None:
        """Store what still waits, and let the anchor catch up; to be called before the database is closed."""
        if self.chain.has_pending:
            await self._db.run(self.chain.flush)
        await asyncio.to_thread(self.chain.anchor.close)

    async def append(self, kind: Kind, body: Mapping[str, Any], *, run_id: str = "") -> None:
        """Record something, durably before this returns."""
        at = self.chain.clock()
        await self._db.run(lambda _: note(kind, body, run_id=run_id, at=at))

    def later(self, kind: Kind, body: Mapping[str, Any], *, run_id: str = "") -> None:
        """Record something with the next transaction that records anything, at the latest when the memory closes."""
        self.chain.later(Entry(kind=kind, body=body, run_id=run_id))

    async def last(self, kind: Kind) -> Any:
        """The body of the newest row of a kind; None if there is none."""
        row = await self._db.run(lambda c: c.execute(sql.AUDIT_LAST_OF_KIND, [str(kind)]).fetchone())
        return None if row is None else _row((0, "", "", "", "", row[0], "", "")).facts

    async def tail(self, limit: int, *, kind: str | None = None, run_id: str | None = None) -> list[Row]:
        """The newest rows, oldest first; of one kind, or of the runs whose ids begin so."""
        wanted = [kind, kind, run_id, run_id]

        def work(connection: DuckDBPyConnection) -> list[Row]:
            numbers = [row[0] for row in connection.execute(sql.AUDIT_NUMBERS, wanted).fetchmany(limit)]
            if not numbers:
                return []
            found = connection.execute(sql.AUDIT_BETWEEN, [*wanted, numbers[-1], numbers[0]]).fetchall()
            return [_row(row) for row in found]

        await self._flush()
        return await self._db.run(work)

    async def pages(self, *, first: int = 1, since: str = "") -> AsyncIterator[list[Row]]:
        """All rows from a number on, or from the first one of a time on, some at a time; those added meanwhile not."""
        await self._flush()
        begun = False
        point = await self._db.run(checkpoint)
        for page in self._archived(point):
            page = [row for row in page if row.number >= first and (begun or row.at >= since)]
            if page:
                begun = True
                yield page
        since = "" if begun else since
        found = await self._db.run(lambda c: c.execute(sql.AUDIT_SPAN, [since]).fetchone())
        first_since, last = found if found and found[0] is not None else (1, 0)
        after = max(first, first_since) - 1
        while after < last:
            page = await self._db.run(_page(after, last))
            if not page:
                return
            yield page
            after = page[-1].number

    async def verify(self, against: Sequence[Row] = (), *, name: str = "the export") -> Verification:
        """Check every row, the anchor, the ledger, and that the log extends an earlier export, if one is given.

        An anchor that is behind, as a crash leaves it, is moved.
        """
        await self._flush()

        def work(connection: DuckDBPyConnection) -> Verification:
            return self._verified(connection, list(against), name)

        return await self._db.run(work)

    def _verified(self, connection: DuckDBPyConnection, against: list[Row], name: str) -> Verification:
        anchor, unreadable = self._anchor()
        wanted = {row.number for row in against} | ({anchor.number} if anchor is not None else set())
        check = ChainCheck(wanted=frozenset(wanted))
        missing = self._take_archived(check, checkpoint(connection))
        found = connection.execute(sql.AUDIT_ROWS)
        while page := found.fetchmany(_PAGE):
            for row in page:
                check.take(_row(row))
        findings = [missing, check.fault, check_anchor(check, anchor, unreadable)]
        findings += [_ledger_fault(connection, check)] if missing is None else []
        if against:
            findings += [whole_export(against, name) or check_export(against, check, name)]
        behind = check.head.number - anchor.number if anchor is not None else 0
        said = tuple(finding for finding in findings if finding is not None)
        if behind > 0 and not said:
            self.chain.anchor.write(check.head)
        return Verification(
            rows=check.rows,
            head=check.head,
            log_id=check.log_id,
            first_at=check.first.at if check.first else "",
            last_at=check.last.at if check.last else "",
            behind=max(0, behind, self.chain.behind),
            findings=said,
        )

    def _archived(self, point: Checkpoint | None) -> Iterator[list[Row]]:
        """The rows that are not in the table any more, some at a time."""
        rows = self._archive.rows(point.last.number) if self._archive is not None and point is not None else iter(())
        while page := list(islice(rows, _PAGE)):
            yield page

    def _take_archived(self, check: ChainCheck, point: Checkpoint | None) -> Finding | None:
        """Check what was moved into the archive; what is wrong if it does not reach the checkpoint."""
        if point is None:
            return None
        for page in self._archived(point):
            for row in page:
                check.take(row)
        if check.head == point.last:
            return None
        first, folder = check.head.number + 1, self._archive.folder if self._archive is not None else "the archive"
        check.skip_to(point.last)
        message = f"rows {first} to {point.last.number}, which were moved to {folder}, are not there as they were"
        return Finding(wrong=Wrong.MISSING, number=first, message=message)

    async def archive(self, before: datetime, limit: int = 5_000) -> int:
        """Move the oldest rows, if they are older than a time, into the archive; gives how many.

        A log that is not whole is left as it is: it is evidence.

        Raises:
            StorageError: the file can't be written; nothing was moved.
        """
        rows, point = await self._db.run(lambda connection: self._oldest(connection, before, limit))
        if not rows or self._archive is None:
            return 0
        path, sha256 = await asyncio.to_thread(self._archive.write, rows)
        first, last = rows[0].number, rows[-1].number
        said = {"change": ARCHIVED, "first": first, "last": last, "hash": rows[-1].hash, "log": point.log}
        said |= {"ledger_rows_before": point.ledger_before, "ledger_through": point.ledger_through}

        def work(connection: DuckDBPyConnection) -> None:
            connection.execute(sql.AUDIT_DELETE, [first, last])
            note(Kind.RETENTION, {**said, "file": path.name, "file_sha256": sha256})

        await self._db.run(work)
        return len(rows)

    async def archivable(self, before: datetime) -> int:
        """How many rows `archive` would move, called again and again."""
        rows, _ = await self._db.run(lambda connection: self._oldest(connection, before, 10**12))
        return len(rows) if self._archive is not None else 0

    def _oldest(self, connection: DuckDBPyConnection, before: datetime, limit: int) -> tuple[list[Row], Checkpoint]:
        """The rows to be moved, and the checkpoint behind them; never the last row of the log."""
        point = checkpoint(connection) or Checkpoint(last=Head())
        anchor, head = self._anchor()[0], head_of(connection)
        if self.chain.trouble or anchor is None:
            return [], point
        first, last = point.last.number + 1, min(point.last.number + limit, anchor.number, head.number - 1)
        check = ChainCheck(start=point.last, log_id=point.log, ledger_before=point.ledger_before)
        rows = []
        for found in connection.execute(sql.AUDIT_OLDEST, [first, last, stamp(before)]).fetchall():
            row = _row(found)
            if row.number > check.head.number + 1:
                break  # the one between is younger, for the clock was set back; or it is gone
            check.take(row)
            if check.fault is not None:
                log.error("the audit log is not moved: %s", check.fault.message, extra={"action": "audit_trouble"})
                return [], point
            rows.append(row)
        through = max([point.ledger_through, *check.charges])
        return rows, Checkpoint(
            last=check.head, log=check.log_id, ledger_before=check.ledger_before, ledger_through=through
        )

    def _anchor(self) -> tuple[Head | None, str]:
        self.chain.anchor.wait()
        try:
            return self.chain.anchor.read(), ""
        except StorageError as error:
            return None, str(error)

    async def reseal(self, reason: str) -> Verification:
        """Believe a log whose rows are whole but whose anchor is not; that it was done is a row of it.

        Raises:
            UsageError: nothing is wrong with the anchor, or more than the anchor is wrong.
        """
        verified = await self.verify()
        wrong = [finding for finding in verified.findings if finding.wrong not in (Wrong.ANCHOR, Wrong.TAIL)]
        if wrong:
            raise UsageError(f"{wrong[0].message}: no seal mends that; restore the database from a backup.")
        if verified.is_whole:
            raise UsageError("the audit log and its anchor agree: there is nothing to seal anew.")
        said = {"finding": verified.findings[0].message, "reason": reason, "rows": verified.rows}
        await self.append(Kind.RESEAL, said)
        await self._db.run(lambda connection: self.chain.reseal(head_of(connection)))
        return replace(verified, findings=())

    async def _flush(self) -> None:
        if self.chain.has_pending:
            await self._db.run(self.chain.flush)


def _page(after: int, last: int) -> Callable[[DuckDBPyConnection], list[Row]]:
    """The rows behind one, some of them."""

    def work(connection: DuckDBPyConnection) -> list[Row]:
        (first,) = connection.execute(sql.AUDIT_NEXT, [after]).fetchone() or (None,)
        if first is None:
            return []
        between = [None, None, None, None, first, min(last, first + _PAGE - 1)]
        return [_row(row) for row in connection.execute(sql.AUDIT_BETWEEN, between).fetchall()]

    return work


def _row(row: Sequence[Any]) -> Row:
    number, at, kind, run_id, principal, body, previous, digest = row
    return Row(
        number=number,
        at=at,
        kind=kind,
        run_id=run_id,
        principal=principal,
        body=body,
        previous=previous,
        hash=digest,
    )


def _ledger_fault(connection: DuckDBPyConnection, check: ChainCheck) -> Finding | None:
    """Compare with the ledger, from the first movement that the log was there for."""
    rows = connection.execute(sql.AUDIT_LEDGER, [check.ledger_before]).fetchall()
    moved = (
        (
            entry,
            Movement(kind=kind, amount_microusd=amount, balance_microusd=balance, saved_microusd=saved, run_id=run_id),
        )
        for entry, kind, amount, balance, saved, run_id in rows
    )
    return check_ledger(check, moved)
