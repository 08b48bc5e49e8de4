"""The mailboxes of processes and the memory they share, in the database: what was sent is not lost with the kernel."""

from __future__ import annotations

import builtins
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from llmos.errors import LLMOSError, UsageError
from llmos.memory import mail_sql as sql
from llmos.memory.database import Clock, Database, clean, to_utc, utc_now

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

KEPT_DAYS = 30
KEPT = 2_000
"""How many messages are kept, of those that nobody waits for any more."""

MAX_VALUE_CHARS = 64_000
MAX_BLOCKS = 50

Body = Mapping[str, Any]


class StaleBlockError(LLMOSError):
    """A block of shared memory has another version than the one that was to be replaced."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message as it is stored: `state` is waiting, received or dead, `note` why, `body` its envelope."""

    state: str
    note: str
    body: Body


@dataclass(frozen=True, kw_only=True)
class Block:
    """A named value that the processes of a family share; `version` counts its changes, 0: there is none yet."""

    name: str
    version: int
    value: Any = None


class MailStore:
    """All mailboxes of a home. A mailbox is that of a run: numbers of processes are given anew by the next kernel."""

    def __init__(self, db: Database, *, clock: Clock = utc_now) -> None:
        self._db = db
        self._clock = clock
        self._puts = 0

    async def put(self, bodies: Sequence[Body], *, most_waiting: int) -> list[bool]:
        """Store messages, all or none; whether each is new: one whose id is known is there already.

        Raises:
            UsageError: a mailbox is full.
        """
        now = self._clock()
        self._puts += 1
        prune = self._puts % 100 == 1

        def work(connection: DuckDBPyConnection) -> list[bool]:
            fresh = [not _count(connection, sql.HAS_MAIL, [clean(str(body["id"]))]) for body in bodies]
            for body in bodies:
                receiver = str(body["receiver_run"])
                if _count(connection, sql.COUNT_WAITING, [receiver]) >= most_waiting:
                    raise UsageError(f"the mailbox of process {body['receiver']} is full ({most_waiting} messages).")
                row = [body["id"], receiver, body["priority"], json.dumps(body), *_times(body)]
                connection.execute(sql.PUT_MAIL, [clean(one) if isinstance(one, str) else one for one in row])
            if prune:
                before = to_utc(now - timedelta(days=KEPT_DAYS))
                connection.execute(sql.PRUNE_MAIL, [before, KEPT])
                connection.execute(sql.PRUNE_BLOCKS, [before])
            return fresh

        return await self._db.run(work)

    async def take(self, receiver: str, key: str, *, limit: int) -> list[Body]:
        """The next messages of a mailbox, which are received now; those that the same `key` took before come again."""
        now = to_utc(self._clock())

        def work(connection: DuckDBPyConnection) -> list[Body]:
            again = _bodies(connection, sql.TAKEN, [receiver, key])
            if again:
                return again
            found = _bodies(connection, sql.WAITING, [receiver, limit])
            if found:
                connection.execute(sql.SETTLE_MAIL, ["received", key, now, [str(one["id"]) for one in found]])
            return found

        return await self._db.run(work)

    async def over(self) -> list[Body]:
        """The messages whose time is up; they are dead now."""
        now = to_utc(self._clock())
        return await self._bury(lambda connection: _bodies(connection, sql.OVER, [now]), "its time was up")

    async def ended(self, receiver: str) -> list[Body]:
        """The messages of a process that has ended; they are dead now."""
        return await self._bury(
            lambda connection: _bodies(connection, sql.ALL_WAITING, [receiver]), "its receiver had ended"
        )

    async def orphaned(self, alive: Collection[str]) -> list[Body]:
        """The messages of all processes but these; they are dead now."""

        def found(connection: DuckDBPyConnection) -> list[Body]:
            waiting = [str(row[0]) for row in connection.execute(sql.RECEIVERS_WAITING).fetchall()]
            gone = [one for one in waiting if one not in alive]
            return [body for one in gone for body in _bodies(connection, sql.ALL_WAITING, [one])]

        return await self._bury(found, "its receiver had ended")

    async def _bury(self, found: Callable[[DuckDBPyConnection], list[Body]], note: str) -> list[Body]:
        now = to_utc(self._clock())

        def work(connection: DuckDBPyConnection) -> list[Body]:
            bodies = found(connection)
            if bodies:
                connection.execute(sql.SETTLE_MAIL, ["dead", note, now, [str(one["id"]) for one in bodies]])
            return bodies

        return await self._db.run(work)

    async def list(self, receiver: str | None = None, *, limit: int = 200) -> builtins.list[Letter]:
        """The messages of a mailbox, or of all, the newest first."""

        def work(connection: DuckDBPyConnection) -> builtins.list[Letter]:
            rows = connection.execute(sql.LIST_MAIL, [receiver, receiver, limit]).fetchall()
            return [
                Letter(state=str(state), note=str(note) if state == "dead" else "", body=body)
                for state, note, text in rows
                if (body := _read(text)) is not None
            ]

        return await self._db.run(work)

    # --- shared memory -------------------------------------------------------------------------------

    async def block(self, family: str, name: str) -> Block:
        """A block as it is now; version 0 where there is none."""
        key = _key(family, name)

        def work(connection: DuckDBPyConnection) -> Block:
            return _block(connection, key, name)

        return await self._db.run(work)

    async def write(self, family: str, name: str, value: Any, *, expected: int | None, by: str) -> Block:
        """Replace a block, if it has still the version that is expected (None: whichever it has).

        Raises:
            StaleBlockError: it has another one; nothing is changed.
            UsageError: the value is too large, or there are too many blocks.
        """
        text = json.dumps(value)
        if len(text) > MAX_VALUE_CHARS:
            raise UsageError(f"a shared block has {MAX_VALUE_CHARS:,} characters at most: put it into a file.")
        key, now = _key(family, name), to_utc(self._clock())

        def work(connection: DuckDBPyConnection) -> Block:
            known = _block(connection, key, name)
            if expected is not None and known.version != expected:
                raise StaleBlockError(
                    f"the block {name!r} has version {known.version}, not {expected}: read it again, and write what "
                    f"you make of it."
                )
            if not known.version and _count(connection, sql.COUNT_BLOCKS, [family]) >= MAX_BLOCKS:
                raise UsageError(f"these processes share {MAX_BLOCKS} blocks already, and more there can't be.")
            row = [key, family, clean(name), known.version + 1, clean(text), by, now]
            connection.execute(sql.PUT_BLOCK, row)
            return Block(name=name, version=known.version + 1, value=value)

        return await self._db.run(work)

    async def blocks(self, family: str) -> builtins.list[Block]:
        """All blocks of a family, by name."""

        def work(connection: DuckDBPyConnection) -> builtins.list[Block]:
            rows = connection.execute(sql.LIST_BLOCKS, [family]).fetchall()
            return [Block(name=str(name), version=int(version), value=json.loads(text)) for name, version, text in rows]

        return await self._db.run(work)


def _key(family: str, name: str) -> str:
    return f"{family} {clean(name)}"


def _block(connection: DuckDBPyConnection, key: str, name: str) -> Block:
    row = connection.execute(sql.GET_BLOCK, [key]).fetchone()
    return Block(name=name, version=0) if row is None else Block(name=name, version=row[0], value=json.loads(row[1]))


def _count(connection: DuckDBPyConnection, statement: str, parameters: builtins.list[Any]) -> int:
    row = connection.execute(statement, parameters).fetchone()
    return int(row[0]) if row else 0


def _times(body: Body) -> tuple[Any, Any]:
    return to_utc(datetime.fromisoformat(body["sent_at"])), to_utc(datetime.fromisoformat(body["expires_at"]))


def _bodies(connection: DuckDBPyConnection, statement: str, parameters: builtins.list[Any]) -> builtins.list[Body]:
    rows = connection.execute(statement, parameters).fetchall()
    return [body for _, text in rows if (body := _read(text)) is not None]


def _read(text: str) -> Body | None:
    try:
        found: Body = json.loads(text)
        return found
    except ValueError as error:
        log.warning("a message can't be read: %s", error, extra={"action": "mail_unread"})
        return None
