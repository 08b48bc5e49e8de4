"""How often each level of memory had what was asked of it, over the life of a home."""

from __future__ import annotations

import json
import logging
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from llmos.errors import StorageError
from llmos.memory import sql
from llmos.memory.database import Database

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

_KEY = "context_use"


class Use(StrEnum):
    """What is counted: tokens sent to models and those of them that came from a prompt's cache; turns of sessions that
    were summarised, look-ups among them and those that found something; look-ups of facts, and those that did."""

    SENT = "sent_tokens"
    CACHED = "cached_tokens"
    FOLDS = "folds"
    FOLDED = "folded_turns"
    LOOKED_BACK = "looked_back"
    BROUGHT_BACK = "brought_back"
    ASKED_FACTS = "asked_facts"
    FOUND_FACTS = "found_facts"


class ContextUse:
    """Counts in memory, and adds what it counted to the home's own count when told to: a kill loses what was since."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._new: Counter[str] = Counter()

    def count(self, what: Use, times: int = 1) -> None:
        if times > 0:
            self._new[what] += times

    async def totals(self) -> dict[Use, int]:
        """What was counted so far, everything of this process included."""
        row = await self._db.run(lambda connection: connection.execute(sql.GET_META, [_KEY]).fetchone())
        known = _read(row[0] if row else "")
        return {what: known[what] + self._new[what] for what in Use}

    async def store(self) -> None:
        """Add what was counted to what is stored; where there is no room it is counted on."""
        if not self._new:
            return
        new, self._new = self._new, Counter()

        def work(connection: DuckDBPyConnection) -> None:
            row = connection.execute(sql.GET_META, [_KEY]).fetchone()
            connection.execute(sql.SET_META, [_KEY, json.dumps(_read(row[0] if row else "") + new)])

        try:
            await self._db.run(work)
        except StorageError as error:
            self._new.update(new)
            log.info("the use of contexts is not stored: %s", error, extra={"action": "context_use"})


def _read(text: str) -> Counter[str]:
    try:
        given = json.loads(text or "{}")
    except ValueError:
        given = {}
    known = set(Use)
    return Counter({name: value for name, value in given.items() if name in known and type(value) is int})
