"""Which goals were done before is read anew now and then, and none is missed meanwhile."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import duckdb

from llmos.memory import opening
from llmos.memory.known import KnownGoals


def hashed(goal: str) -> str:
    return sha256(goal.encode()).hexdigest()


def a_run(connection: duckdb.DuckDBPyConnection, goal: str) -> None:
    connection.execute(
        "INSERT INTO runs SELECT ?, nextval('run_no'), nextval('run_end_no'), ?, ?, 'follower', 'done', 'yes', NULL, "
        "NULL, NULL, '{}', NULL, 0, 0, '', now(), 0",
        [goal, goal, hashed(goal)],
    )


def test_what_was_added_is_known_although_it_is_stored_later(tmp_path: Path) -> None:
    opening.create(tmp_path / "m.duckdb")
    known = KnownGoals()
    with duckdb.connect(str(tmp_path / "m.duckdb")) as connection:
        assert known.may_hold(hashed("a"))
        a_run(connection, "a")
        known.take(connection)
        known.add(hashed("b"))
        known.take(connection)

        assert [known.may_hold(hashed(goal)) for goal in "abc"] == [True, True, False]
        a_run(connection, "b")
        known.take(connection)
        assert known.may_hold(hashed("b"))


def test_what_was_removed_is_not_kept_for_ever(tmp_path: Path) -> None:
    opening.create(tmp_path / "m.duckdb")
    known = KnownGoals()
    with duckdb.connect(str(tmp_path / "m.duckdb")) as connection:
        known.add(hashed("a"))
        known.take(connection)
        known.take(connection)

        assert not known.may_hold(hashed("a"))
