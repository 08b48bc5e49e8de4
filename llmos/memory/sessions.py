"""The sessions of models, line by line as the Claude CLI writes them: what a process goes on from.

An `OfRun` fits the SDK's `SessionStore`, by its form alone: nothing of the SDK is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from llmos.memory import process_sql as sql
from llmos.memory.bulk import insert_many
from llmos.memory.database import Database, clean

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Line: TypeAlias = dict[str, Any]
"""One entry of a session, of the CLI's own form: `type` and `uuid` are ours to read, and the messages in them."""


FOLDED = "folded"
"""Where the turns of a session are kept that its model has only a summary of any more."""


class SessionStore:
    """The lines of all sessions; those of a run go with its process (`llmos.memory.processes`)."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def append(self, run_id: str, session_id: str, lines: Sequence[Mapping[str, Any]], subpath: str = "") -> None:
        """Keep lines in their order; one whose `uuid` is known in the session is kept once."""
        rows = self._rows(run_id, session_id, subpath, lines)
        place = [clean(session_id), clean(subpath)]

        def work(connection: DuckDBPyConnection) -> None:
            known = {row[0] for row in connection.execute(sql.SESSION_UUIDS, place).fetchall()}
            fresh = []
            for row in rows:
                if not row[3] or row[3] not in known:
                    fresh.append(row)
                    known.add(row[3])
            insert_many(connection, sql.INSERT_SESSION_LINES, fresh)

        await self._db.run(work)

    async def load(self, session_id: str, subpath: str = "") -> list[Line]:
        """The lines of a session, in their order."""
        query = [clean(session_id), clean(subpath)]
        rows = await self._db.run(lambda connection: connection.execute(sql.SESSION_LINES, query).fetchall())
        return [json.loads(body) for (body,) in rows]

    async def rewrite(self, run_id: str, session_id: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Put these lines in the place of those that a session has, all or none."""
        rows = self._rows(run_id, session_id, "", lines)

        def work(connection: DuckDBPyConnection) -> None:
            connection.execute(sql.DELETE_SESSION, [clean(session_id), ""])
            insert_many(connection, sql.INSERT_SESSION_LINES, rows)

        await self._db.run(work)

    async def fold(
        self, run_id: str, session_id: str, lines: Sequence[Mapping[str, Any]], folded: Sequence[Mapping[str, Any]]
    ) -> None:
        """Put these lines in the place of those that a session has, and keep the `folded` ones beside it."""
        rows = [*self._rows(run_id, session_id, "", lines), *self._rows(run_id, session_id, FOLDED, folded)]

        def work(connection: DuckDBPyConnection) -> None:
            connection.execute(sql.DELETE_SESSION, [clean(session_id), ""])
            insert_many(connection, sql.INSERT_SESSION_LINES, rows)

        await self._db.run(work)

    def _rows(self, run_id: str, session_id: str, subpath: str, lines: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        redact = self._db.redactor.value
        head = [clean(run_id), clean(session_id), clean(subpath)]
        return [[*head, str(line.get("uuid") or ""), clean(json.dumps(redact(dict(line))))] for line in lines]

    def of_run(self, run_id: str) -> OfRun:
        return OfRun(store=self, run_id=run_id)


@dataclass(frozen=True, kw_only=True)
class OfRun:
    """The sessions of one run, as the SDK asks for them."""

    store: SessionStore
    run_id: str

    async def append(self, key: Mapping[str, str], entries: Sequence[Mapping[str, Any]]) -> None:
        await self.store.append(self.run_id, key["session_id"], entries, key.get("subpath", ""))

    async def load(self, key: Mapping[str, str]) -> list[Line] | None:
        """None, whatever there is: the SDK would lay it on a disk, with a copy of the user's login beside it.

        The CLI finds it in memory (`llmos.interfaces.session_room`).
        """
        return None

    async def lines(self, session_id: str) -> list[Line]:
        return await self.store.load(session_id)

    async def folded(self, session_id: str) -> list[Line]:
        return await self.store.load(session_id, FOLDED)

    async def fold(
        self, session_id: str, lines: Sequence[Mapping[str, Any]], folded: Sequence[Mapping[str, Any]]
    ) -> None:
        await self.store.fold(self.run_id, session_id, lines, folded)

    async def rewrite(self, session_id: str, lines: Sequence[Mapping[str, Any]]) -> None:
        await self.store.rewrite(self.run_id, session_id, lines)
