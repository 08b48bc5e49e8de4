"""A few kills and faults of `python -m benchmarks.reliability`, so that what it measures stays so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reliability.damage import damage_databases
from benchmarks.reliability.deeds import Deeds
from benchmarks.reliability.kills import Worker, kill_workers
from benchmarks.reliability.learning import kill_learners
from benchmarks.reliability.machine import fill_disk, forbid_writing, jump_clocks
from benchmarks.reliability.place import Place

SEED = 5


@pytest.mark.parametrize("scenario", ["following", "storing", "undoing", "paying"])
def test_killed_workers_lose_nothing_and_do_nothing_twice(scenario: str, tmp_path: Path) -> None:
    outcome = kill_workers(tmp_path, scenario, 3, SEED)
    assert outcome.violations == []
    assert outcome.trials == 3
    assert outcome.facts["checks"] >= 2


def test_a_killed_learner_is_charged_and_rings_once(tmp_path: Path) -> None:
    outcome = kill_learners(tmp_path, 1, SEED)
    assert outcome.violations == []
    assert outcome.trials == 1


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    outcome = fill_disk(tmp_path, 1, SEED)
    assert outcome.violations == []
    assert outcome.facts["refused with a sentence"] > 0


def test_a_read_only_home_is_told(tmp_path: Path) -> None:
    outcome = forbid_writing(tmp_path, 1, SEED)
    assert outcome.violations == []
    assert outcome.trials == 1


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    outcome = jump_clocks(tmp_path, 2, SEED)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert outcome.violations == []
    assert outcome.trials == 2


def test_a_damaged_database_is_recovered_or_refused(tmp_path: Path) -> None:
    outcome = damage_databases(tmp_path, 1, SEED)
    assert outcome.violations == []
    assert outcome.trials == 1


def test_the_check_finds_what_is_lost_and_what_is_done_twice(tmp_path: Path) -> None:
    """The other tests would pass if it looked at nothing."""
    place = Place(tmp_path / "place")
    place.prepare()
    life = Worker(place, "everything", SEED)
    life.wait_for("round")
    life.kill()
    whole = Worker(place, "check", SEED)
    assert whole.end() == 0
    assert whole.violations() == []

    deeds = Deeds(path=place.deeds)
    name = next(deed.facts["name"] for deed in deeds.all.values() if deed.kind == "ring" and deed.done is not None)
    with place.bell.open("a") as stream:
        stream.write(f"{name}\n")
    (place.workspace / "one.txt").write_text("half a te")
    (place.workspace / "two.txt").unlink()
    with place.deeds.open("a") as stream:
        for number, kind, facts, done in (
            (900, "store", {"id": "task-900"}, {}),
            (901, "remember", {"key": "colour 901", "value": "red"}, {}),
            (902, "charge", {"run": "paid-902", "actual": 7}, {}),
            (899, "calculate", {"goal": "x"}, {"run": "run-903", "answer": "1"}),
        ):
            stream.write(json.dumps({"begin": kind, "no": number, "facts": facts}) + "\n")
            stream.write(json.dumps({"done": number, "facts": done}) + "\n")
    check = Worker(place, "check", SEED)
    check.end()
    said = "\n".join(check.violations())
    for part in (
        "files: one.txt is half-written",
        "files: ['two.txt']",
        f"effects: the bell was rung 2 times for {name}",
        "traces: ['task-900'] are lost",
        "facts: colour 901 is None",
        "ledger: {'run': 'paid-902', 'actual': 7} moved 0",
        "runs: run-903 is lost",
    ):
        assert part in said, said
