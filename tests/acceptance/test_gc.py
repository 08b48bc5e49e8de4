"""`gc` as a user has it: what it says beforehand, what it removes, and what is as before."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tests.door import Door, assert_sentence

OLD_RUNS = """
INSERT INTO runs BY NAME SELECT r.* REPLACE ('old' || i AS id, nextval('run_no') AS no, goal || ' + ' || i AS goal,
    sha256(lower(goal) || ' + ' || i) AS goal_hash, TIMESTAMP '2020-01-01' + to_days(i::INTEGER) AS started_at)
FROM runs r, range(120) t(i)
"""
OLD_STEPS = "INSERT INTO steps BY NAME SELECT s.* REPLACE ('old' || i AS run_id) FROM steps s, range(120) t(i)"
OLD_SAVINGS = "UPDATE ledger SET moved_at = TIMESTAMP '2020-01-01' + to_days(id::INTEGER) WHERE kind = 'saving'"


@pytest.fixture
def used(door: Door) -> Door:
    """A home in which goals were reached years ago."""
    assert door("Calculate 2 + 3").returncode == 0
    with duckdb.connect(str(database(door))) as connection:
        for statement in (OLD_RUNS, OLD_STEPS):
            connection.execute(statement)
    for goal in ("Calculate 3 + 4", "Calculate 4 + 5"):
        assert door(goal).returncode == 0
    with duckdb.connect(str(database(door))) as connection:
        connection.execute(OLD_SAVINGS)
        connection.execute("CHECKPOINT")
    return door


def database(door: Door) -> Path:
    return door.home / "memory" / "llmos.duckdb"


def test_a_new_home_has_nothing_to_remove(door: Door) -> None:
    done = door("gc")
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("freed "), done.stderr
    assert door("gc", "--dry-run").stderr == "nothing is past its retention\n"
    assert door.json("gc", "--dry-run")["rows"] == {}


def test_what_is_past_its_time_is_said_then_removed_and_the_rest_is_as_before(used: Door) -> None:
    battery, explained = used.json("battery", "show"), used.json("explain", "Calculate 2 + 3")
    shown = used("gc", "--dry-run")
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [
        ["what", "count"],
        ["steps", "72"],
        ["runs", "72"],
        ["rows", "of"],
    ]
    assert used.json("gc", "--dry-run")["freed_bytes"] == 0
    assert len(used.json("runs", "list", "--limit", "1000")["runs"]) == 123

    done = used.json("gc")
    assert done["rows"] == {"runs": 72, "steps": 72, "savings": 1}
    assert done["freed_bytes"] == done["database_bytes"] + done["undo_bytes"]
    assert len(used.json("runs", "list", "--limit", "1000")["runs"]) == 51
    assert used.json("gc")["rows"] == {}
    assert used.json("battery", "show") == battery
    assert used.json("explain", "Calculate 2 + 3")["decision"] == explained["decision"] == "follow"
    assert used("audit", "verify").returncode == 0
    (row,) = [row for row in used.json("audit", "tail", "--kind", "retention")["rows"] if "runs" in row["body"]]
    assert row["body"] == {"change": "runs removed", "runs": 72, "steps": 72}


def test_the_settings_say_how_much_is_kept(used: Door) -> None:
    (used.home / "llmos.yaml").write_text("retention: {runs_days: 100000, savings_days: 100000, max_runs: 60}\n")
    assert used.json("gc")["rows"] == {"runs": 63, "steps": 63}
    (used.home / "llmos.yaml").write_text("retention: {runs_days: 0}\n")
    assert_sentence(used("gc"), 2, "line 1: retention.runs_days must be a number of days above 0")


def test_the_audit_log_moves_into_its_archive_and_verifies_there(used: Door) -> None:
    exported = used.folder / "export.jsonl"
    assert used("audit", "export", str(exported)).returncode == 0
    (used.home / "llmos.yaml").write_text("retention: {audit_days: 0.00001}\n")
    assert used.json("gc")["rows"]["archived"] >= 20
    (archive,) = (used.home / "memory" / "audit").iterdir()
    verified = used.json("audit", "verify", "--against", str(exported))
    assert verified["whole"] and verified["rows"] == verified["head"]["number"]
    assert used("audit", "verify", "--against", str(archive)).returncode == 0

    elsewhere = archive.rename(used.folder / archive.name)
    assert_sentence(used("audit", "verify"), 7, "rows 1 to ", "which were moved to ", "are not there")
    elsewhere.rename(archive)
    assert used("audit", "verify").returncode == 0


def test_what_a_day_has_left_goes_by_itself_after_a_goal(used: Door) -> None:
    assert len(used.json("runs", "list", "--limit", "1000")["runs"]) == 123
    with duckdb.connect(str(database(used))) as connection:
        connection.execute("UPDATE meta SET value = (now() - INTERVAL 2 DAY)::VARCHAR WHERE key = 'retained_at'")
    assert used("Calculate 5 + 6").stdout == "11\n"
    assert len(used.json("runs", "list", "--limit", "1000")["runs"]) == 51
    assert used("Calculate 6 + 7").stdout == "13\n"
    assert used("audit", "verify").returncode == 0
