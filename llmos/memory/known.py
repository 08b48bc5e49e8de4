"""Which goals were done before, by the digests of their words: so a goal that is new is not looked for in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmos.memory import sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_DIGITS = 15
"""Hexadecimal digits of a digest that are kept, in eight bytes each; two goals alike in them only cost a look."""


class KnownGoals:
    """Says of a goal whether its runs need looking for; until `take` it can't tell, and says yes.

    What ends in this process is added as it ends, and nobody else writes to the file.
    """

    def __init__(self) -> None:
        self._added: set[int] = set()
        self._stored: Any = None

    def add(self, goal_hash: str) -> None:
        """A run of this goal ended."""
        self._added.add(_number(goal_hash))

    def may_hold(self, goal_hash: str) -> bool:
        """Whether there may be runs of this goal."""
        if self._stored is None:
            return True
        number = _number(goal_hash)
        if number in self._added:
            return True
        at = int(self._stored.searchsorted(number))
        return at < len(self._stored) and int(self._stored[at]) == number

    def take(self, connection: DuckDBPyConnection) -> None:
        """Read the digests of all runs, in the thread of whoever has the connection."""
        import numpy as np

        column = connection.execute(sql.GOAL_NUMBERS, {"digits": _DIGITS}).fetchnumpy()["number"]
        self._stored = np.unique(np.asarray(column, dtype=np.int64))


def _number(goal_hash: str) -> int:
    return int(goal_hash[:_DIGITS], 16)
