"""Which goals were done before, by the digests of their words: so a goal that is new is not looked for in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmos.memory import sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_DIGITS = 15
"""Hexadecimal digits of a digest that are kept, in eight bytes each; two goals alike in them only cost a look."""


class Numbers:
    """The beginnings of many digests, as sorted numbers."""

    def __init__(self, column: Any) -> None:
        import numpy as np

        self._sorted = np.unique(np.asarray(column, dtype=np.int64))

    @classmethod
    def read(cls, connection: DuckDBPyConnection, query: str) -> Numbers:
        """What a query of numbers of `$digits` digits gives."""
        return cls(connection.execute(query, {"digits": _DIGITS}).fetchnumpy()["number"])

    def __contains__(self, number: int) -> bool:
        at = int(self._sorted.searchsorted(number))
        return at < len(self._sorted) and int(self._sorted[at]) == number


class KnownGoals:
    """Says of a goal whether its runs need looking for; until `take` it can't tell, and says yes.

    What ends in this process is added as it ends, and nobody else writes to the file.
    """

    def __init__(self) -> None:
        self._added: set[int] = set()
        self._before: set[int] = set()
        self._long_before: set[int] = set()
        self._stored: Numbers | None = None

    def add(self, goal_hash: str) -> None:
        """A run of this goal ended."""
        self._added.add(number_of(goal_hash))

    def may_hold(self, goal_hash: str) -> bool:
        """Whether there may be runs of this goal."""
        if self._stored is None:
            return True
        number = number_of(goal_hash)
        if number in self._added or number in self._before or number in self._long_before:
            return True
        return number in self._stored

    def take(self, connection: DuckDBPyConnection) -> None:
        """Read the digests of all runs, in the thread of whoever has the connection.

        What was added before the last time was stored long ago, or never; what came later may not be there to be read.
        """
        self._long_before, self._before, self._added = self._before, self._added, set()
        self._stored = Numbers.read(connection, sql.GOAL_NUMBERS)
        self._long_before = set()


def number_of(goal_hash: str) -> int:
    """The beginning of a digest as a number."""
    return int(goal_hash[:_DIGITS], 16)
