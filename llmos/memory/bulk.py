"""Many rows in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

AT_ONCE = 50


def insert_many(connection: DuckDBPyConnection, insert: str, rows: Sequence[Sequence[Any]]) -> None:
    """Add rows, many in one statement, which takes hardly longer than one; `insert` is the statement for one row."""
    head, _, form = insert.rpartition("VALUES ")
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        values = [value for row in some for value in row]
        connection.execute(f"{head}VALUES {', '.join([form.strip()] * len(some))}", values)
