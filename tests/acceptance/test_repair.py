"""A damaged memory at the command line: every command names the way out, and `repair` is it."""

from __future__ import annotations

import pytest

from tests.door import Door, assert_sentence

COMMANDS = ("Calculate 1 + 1", "battery", "runs list", "traces list", "audit verify", "undo", "journal list")


@pytest.fixture
def database_of(door: Door) -> Door:
    assert door("Calculate 1 + 1").returncode == 0
    path = door.home / "memory" / "llmos.duckdb"
    path.write_bytes(b"garbage" * 100_000)
    return door


def test_every_command_says_what_to_do_and_repair_does_it(database_of: Door) -> None:
    door = database_of
    damaged = (door.home / "memory" / "llmos.duckdb").read_bytes()
    for command in COMMANDS:
        words = [command] if command[0].isupper() else command.split()
        assert_sentence(door(*words), 7, "llmos.duckdb is damaged", "boot.py repair")
    ill = door("doctor")
    assert ill.returncode == 1
    assert "boot.py repair" in ill.stdout
    report = door.json("repair")
    assert any("can't be read as a database at all" in one for one in report["found"])
    assert report["lost"]
    aside = door.home / "memory" / report["aside"] / "llmos.duckdb"
    assert aside.read_bytes() == damaged
    assert door("Calculate 1 + 1").stdout == "2\n"
    assert door("audit", "verify").returncode == 0
    assert "copied" in door("doctor").stdout


def test_repair_says_of_a_memory_that_is_well_that_it_is(door: Door) -> None:
    assert_sentence_of_nothing(door)
    assert door("Calculate 1 + 1").returncode == 0
    done = door("repair")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Every table of ")


def assert_sentence_of_nothing(door: Door) -> None:
    done = door("repair")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to repair" in done.stdout
    assert not (door.home / "memory").exists()
