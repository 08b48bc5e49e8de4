"""What became of replays, and traces that may not change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from llmos.errors import NotPermittedError
from llmos.memory.database import Database
from llmos.memory.frozen import FrozenTraces
from llmos.memory.index import VectorIndex
from llmos.memory.outcomes import Judge, Outcomes
from llmos.memory.traces import TraceStore
from llmos.testing import FrozenClock
from llmos.trace.program import Status
from tests.contract.memory_lab import a_trace, shipped


@pytest.fixture
def outcomes(db: Database, clock: FrozenClock) -> Outcomes:
    return Outcomes(db, half_life=timedelta(days=10), clock=clock)


async def test_each_run_counts_once_by_its_last_judgement(outcomes: Outcomes) -> None:
    await outcomes.judge("one", "r1", ok=True, by=Judge.REPLAY)
    await outcomes.judge("one", "r2", ok=True, by=Judge.REPLAY)
    await outcomes.judge("one", "r1", ok=False, by=Judge.PERSON)
    record = await outcomes.record("one")
    assert (record.successes, record.failures, record.failing) == (1.0, 1.0, 1)


async def test_outcomes_fade(outcomes: Outcomes, clock: FrozenClock) -> None:
    await outcomes.judge("one", "r1", ok=False, by=Judge.REPLAY)
    clock.advance(timedelta(days=20).total_seconds())
    assert (await outcomes.record("one")).failures == pytest.approx(0.25)


async def test_a_restart_leaves_what_was_before_behind(outcomes: Outcomes) -> None:
    await outcomes.judge("one", "r1", ok=False, by=Judge.REPLAY)
    await outcomes.restart("one")
    await outcomes.judge("one", "r2", ok=True, by=Judge.REPLAY)
    await outcomes.judge("other", "r3", ok=False, by=Judge.REPLAY)
    record = await outcomes.record("one")
    assert (record.successes, record.failures) == (1.0, 0.0)


async def test_a_forgotten_trace_leaves_no_record(traces: TraceStore, outcomes: Outcomes) -> None:
    await traces.add(a_trace())
    await outcomes.judge("count-lines", "r1", ok=False, by=Judge.REPLAY)
    await traces.forget("count-lines")
    assert (await outcomes.record("count-lines")).failures == 0.0


async def test_a_rejection_can_be_taken_back(traces: TraceStore) -> None:
    await traces.add(a_trace())
    await traces.add_negative("count-lines", "Count the lines of a.csv")
    await traces.drop_negative("count-lines", "count  the lines of a.csv.")
    assert await traces.negatives("count-lines") == set()


async def test_what_was_set_aside_is_found_by_its_wording(traces: TraceStore) -> None:
    await traces.add(a_trace())
    assert await traces.set_aside("Count lines of b.csv") == []
    await traces.set_status("count-lines", Status.QUARANTINED, "the tool has changed")
    (found,) = await traces.set_aside("Count the lines of b.csv")
    assert (found.id, found.reason) == ("count-lines", "the tool has changed")
    assert await traces.set_aside("Tell a joke") == []


async def test_a_wording_added_to_a_shipped_trace_outlives_the_next_start(traces: TraceStore) -> None:
    await traces.put_demonstrations([shipped("a")])
    await traces.add_wording("a", "How long is {source}")
    await traces.add_wording("a", "Length of {source}")
    await traces.put_demonstrations([shipped("a")])
    assert len((await traces.get("a")).goals) == 3


async def test_a_shipped_trace_that_changed_replaces_the_one_people_added_wordings_to(traces: TraceStore) -> None:
    await traces.put_demonstrations([shipped("a")])
    await traces.add_wording("a", "How long is {source}")
    await traces.put_demonstrations([shipped("a", "Count all lines of {source}")])
    assert (await traces.get("a")).goals == ("Count all lines of {source}",)


async def test_a_frozen_store_reads_and_refuses_every_change(db: Database, tmp_path: Path) -> None:
    open_store = TraceStore(db, VectorIndex(tmp_path / "vectors.faiss"))
    await open_store.add(a_trace())
    frozen = FrozenTraces(db, VectorIndex(tmp_path / "vectors.faiss"))
    before = await frozen.list()
    changes = [
        frozen.add(a_trace("new")),
        frozen.add_wording("count-lines", "How long is {source}"),
        frozen.absorb(a_trace(), "count-lines"),
        frozen.set_status("count-lines", Status.REJECTED, ""),
        frozen.forget("count-lines"),
        frozen.add_negative("count-lines", "goal"),
        frozen.drop_negative("count-lines", "goal"),
        frozen.record_use("count-lines", True, 0.1),
    ]
    for change in changes:
        with pytest.raises(NotPermittedError, match="frozen"):
            await change
    assert await frozen.list() == before
    assert await frozen.get("count-lines") == replace(await open_store.get("count-lines"))


def test_every_way_to_change_a_trace_is_refused_when_frozen() -> None:
    reading = {"get", "alike", "runs_of", "has_demonstrated", "versions", "list", "negatives", "wrong_for"}
    reading |= {"set_aside", "current"}
    public = {name for name in vars(TraceStore) if not name.startswith("_") and callable(getattr(TraceStore, name))}
    assert public - reading - {"put_demonstrations"} == {
        name for name in vars(FrozenTraces) if not name.startswith("_") and name != "frozen"
    }
