"""The journal's rows in DuckDB: intents and outcomes, only ever added, each durable before its method returns."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmos.errors import StorageError
from llmos.memory import sql
from llmos.memory.audit_notes import Kind, note, take_waiting
from llmos.memory.database import Clock, Database, clean, from_utc, to_utc, utc_now
from llmos.trace.effects import JournalEntry, Outcome, Reach, change_data, change_from
from llmos.trace.program import Effect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_PRUNED = "journal_pruned_at"
_NEWEST = 64


class JournalStore:
    """Entries of the journal; the last outcome of an entry counts."""

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock
        self._newest: OrderedDict[str, dict[int, JournalEntry]] = OrderedDict()

    def _note(self, entry: JournalEntry) -> None:
        """Keep the entries that this process made for the newest runs."""
        self._newest.setdefault(entry.run_id, {})[entry.no] = entry
        while len(self._newest) > _NEWEST:
            self._newest.popitem(last=False)

    async def made_by(self, run_id: str) -> list[JournalEntry]:
        """The entries of a run that has just ended, as far as this process made them, in order."""
        found = list(self._newest.get(run_id, {}).values())
        is_settled = found and all(entry.outcome is not Outcome.OPEN for entry in found)
        return found if is_settled else await self.of_run(run_id)

    async def intend(self, entry: JournalEntry, *, undoes: str | None = None) -> JournalEntry:
        """Store an intent and give it its number; or give the unsettled entry of the same key, and store nothing.

        What waits to be recorded in the audit log is stored with it: so is that the effect begins. One that `undoes` a
        run goes into the log as such.
        """
        row = _intent_row(entry, self._clock())

        def work(connection: DuckDBPyConnection) -> JournalEntry:
            (unknown,) = connection.execute(sql.UNKNOWN_OF_KEY, [entry.key]).fetchone() or (None,)
            if unknown is not None:
                return _get(connection, unknown)
            take_waiting()
            (number,) = connection.execute(sql.INSERT_INTENT, row).fetchone() or (0,)
            connection.execute(sql.INSERT_UNSETTLED, [number, entry.key, True])
            if undoes is not None:
                said = {"undoes": undoes, "files": [change.path for change in entry.files]}
                connection.execute(sql.DELETE_STANDING_RUN, [clean(undoes)])
                note(Kind.UNDO, said, run_id=entry.run_id)
            return replace(entry, no=int(number))

        stored = await self._db.run(work)
        self._note(stored)
        return stored

    async def conclude(self, entry: JournalEntry) -> None:
        """Store the outcome, files and note of an entry."""
        await self._db.run(self._conclusion(entry))
        self._note(entry)

    def conclude_soon(self, entry: JournalEntry, *, otherwise: Callable[[], None]) -> None:
        """The same with whatever is stored next, or soon; `otherwise` is called where that failed."""
        self._db.later(self._conclusion(entry), otherwise=otherwise)
        self._note(entry)

    def _conclusion(self, entry: JournalEntry) -> Callable[[DuckDBPyConnection], None]:
        files = _files(entry)
        at = to_utc(entry.ended_at or self._clock())
        row = [entry.no, str(entry.outcome), str(entry.reach), files, clean(entry.note), at]

        def work(connection: DuckDBPyConnection) -> None:
            connection.execute(sql.INSERT_JOURNAL_OUTCOME, row)
            connection.execute(sql.DELETE_UNSETTLED, [entry.no])
            if entry.outcome is Outcome.UNKNOWN:
                connection.execute(sql.INSERT_UNSETTLED, [entry.no, entry.key, False])

        return work

    async def open(self) -> list[JournalEntry]:
        """The entries without an outcome, oldest first."""

        def work(connection: DuckDBPyConnection) -> list[JournalEntry]:
            numbers = connection.execute(sql.OPEN_INTENTS).fetchall()
            return [_get(connection, number) for (number,) in numbers]

        return await self._db.run(work)

    async def of_run(self, run_id: str) -> list[JournalEntry]:
        """The entries of a run, in order."""
        return await self._select(sql.JOURNAL_OF_RUN, [clean(run_id)])

    async def newest(self, limit: int, outcome: Outcome | None = None) -> list[JournalEntry]:
        """The newest entries first."""
        return await self._select(sql.JOURNAL_NEWEST, [outcome and str(outcome), outcome and str(outcome), limit])

    async def runs(self, workspace: str) -> list[str]:
        """The runs with entries in a workspace that may have changed something, newest first."""
        rows = await self._db.run(lambda c: c.execute(sql.JOURNAL_RUNS, [json.dumps(workspace)]).fetchall())
        return [row[0] for row in rows]

    async def by_tool(self, tool: str) -> list[JournalEntry]:
        """The entries of a tool, oldest first."""
        return await self._select(sql.JOURNAL_BY_TOOL, [tool])

    async def needed(self, since: datetime, newest: int = 0) -> set[str]:
        """The contents that undoing a run begun since then, or one of the newest, or settling any, may need."""
        entries = await self._select(sql.JOURNAL_NEEDING, [to_utc(since), newest])
        return set().union(*(entry.digests for entry in entries))

    async def pruned_at(self) -> datetime | None:
        """When contents were removed last."""
        row = await self._db.run(lambda connection: connection.execute(sql.GET_META, [_PRUNED]).fetchone())
        return datetime.fromisoformat(row[0]) if row else None

    async def set_pruned(self, at: datetime) -> None:
        """Say that contents were removed."""
        row = [_PRUNED, at.isoformat()]
        await self._db.run(lambda connection: connection.execute(sql.SET_META, row) and None)

    async def _select(self, query: str, parameters: list[Any]) -> list[JournalEntry]:
        rows = await self._db.run(lambda connection: connection.execute(query, parameters).fetchall())
        return [_entry(row) for row in rows]


def _get(connection: DuckDBPyConnection, number: int) -> JournalEntry:
    row = connection.execute(sql.GET_JOURNAL_ENTRY, [number]).fetchone()
    if row is None:
        raise StorageError(f"journal entry {number} is gone: restore the memory from a backup.")
    return _entry(row)


def _intent_row(entry: JournalEntry, now: datetime) -> list[Any]:
    return [
        clean(entry.run_id),
        entry.step,
        clean(entry.tool),
        clean(entry.tool_version),
        str(entry.effect),
        entry.key,
        json.dumps(dict(entry.arguments), default=str),
        json.dumps(entry.workspace),
        str(entry.reach),
        _files(entry),
        entry.manifest,
        clean(entry.note),
        to_utc(entry.began_at or now),
    ]


def _files(entry: JournalEntry) -> str:
    """Files as JSON in ASCII, which holds names that are no text, too."""
    return json.dumps([change_data(change) for change in entry.files])


def _entry(row: Sequence[Any]) -> JournalEntry:
    no, run_id, step, tool, version, effect, key, arguments, workspace, manifest, began_at, *last = row
    reach, files, note, outcome, ended_at = last
    try:
        return JournalEntry(
            no=no,
            run_id=run_id,
            step=step,
            tool=tool,
            tool_version=version,
            effect=Effect(effect),
            key=key,
            arguments=json.loads(arguments),
            workspace=json.loads(workspace),
            reach=Reach(reach),
            files=tuple(change_from(one) for one in json.loads(files)),
            manifest=manifest,
            began_at=from_utc(began_at),
            outcome=Outcome(outcome or Outcome.OPEN),
            note=note,
            ended_at=from_utc(ended_at) if ended_at else None,
        )
    except (ValueError, TypeError, KeyError) as error:
        raise StorageError(f"journal entry {no} can't be read: {error}; restore the memory from a backup.") from error
