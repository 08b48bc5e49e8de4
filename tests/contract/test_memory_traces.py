"""The trace store: versions, standing, quarantine, demonstrations."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from llmos.errors import NotFoundError, StorageError, TraceFormatError
from llmos.memory.database import Database
from llmos.memory.index import VectorIndex
from llmos.memory.traces import TraceStore
from llmos.testing import FrozenClock
from llmos.trace.lex import normalise
from llmos.trace.program import Provenance, Status, Trace
from tests.contract.memory_lab import NOW, a_trace, shipped


async def damage(db: Database, trace_id: str, body: str) -> None:
    change = "UPDATE trace_versions SET body = ? WHERE trace_id = ?"
    await db.run(lambda c: c.execute(change, [body, trace_id]) and None)


async def test_a_trace_comes_back_as_it_was_stored(traces: TraceStore) -> None:
    stored = await traces.add(a_trace())

    assert stored == replace(a_trace(), version=1, created_at=NOW)
    assert await traces.get("count-lines") == stored


async def test_a_known_id_becomes_a_new_version_and_the_old_one_stays(traces: TraceStore) -> None:
    first = await traces.add(a_trace())
    second = await traces.add(a_trace("count-lines", "How long is {source}"))

    assert second.label == "count-lines@2"
    assert await traces.get("count-lines") == second
    assert await traces.get("count-lines", 1) == first


async def test_a_trace_that_could_not_be_read_back_is_not_stored(traces: TraceStore) -> None:
    with pytest.raises(TraceFormatError):
        await traces.add(a_trace("bad", "Count the lines of {nothing}"))
    assert await traces.list() == []


async def test_an_unknown_trace_or_version_is_named(traces: TraceStore) -> None:
    await traces.add(a_trace())
    with pytest.raises(NotFoundError, match="there is no trace 'x'"):
        await traces.get("x")
    with pytest.raises(NotFoundError, match="there is no trace 'count-lines@7'"):
        await traces.get("count-lines", 7)
    for change in (
        traces.set_status("x", Status.TRUSTED, ""),
        traces.forget("x"),
        traces.add_negative("x", "goal"),
        traces.record_use("x", True, 0.0),
    ):
        with pytest.raises(NotFoundError, match="there is no trace 'x'"):
            await change


async def test_the_list_tells_standing_and_use(traces: TraceStore, clock: FrozenClock) -> None:
    await traces.add(a_trace())
    clock.advance(60)
    await traces.record_use("count-lines", True, 0.41)
    await traces.record_use("count-lines", False, 0.0)
    await traces.add(a_trace("other", status=Status.CANDIDATE))

    first, second = await traces.list()
    assert (first.id, first.goals, first.status) == ("count-lines", ("Count the lines of {source}",), Status.TRUSTED)
    assert (first.uses, first.successes, first.failures, first.saved_usd, first.cost_usd) == (2, 1, 1, 0.41, 0.41)
    assert (first.created_at, first.last_used_at) == (NOW, clock())
    assert second.last_used_at is None
    assert [summary.id for summary in await traces.list(Status.CANDIDATE)] == ["other"]


async def test_status_belongs_to_the_trace_in_all_its_versions(traces: TraceStore) -> None:
    await traces.add(a_trace())
    await traces.add(a_trace())
    await traces.set_status("count-lines", Status.REJECTED, "wrong column")

    for version in (None, 1, 2):
        trace = await traces.get("count-lines", version)
        assert (trace.status, trace.reason) == (Status.REJECTED, "wrong column")


async def test_a_forgotten_trace_leaves_nothing_but_its_number(traces: TraceStore, db: Database) -> None:
    await traces.add(a_trace())
    await traces.add_negative("count-lines", "Count the lines of a.csv")
    await traces.forget("count-lines")

    assert await traces.list() == []
    assert await traces.negatives("count-lines") == set()
    for table in ("traces", "trace_versions", "trace_templates", "hard_negatives", "embeddings"):
        assert await db.run(lambda c, table=table: c.execute(f"FROM {table}").fetchall()) == []  # type: ignore[misc]
    assert (await traces.add(a_trace())).version == 2  # count-lines@1 never means two programs


async def test_negatives_are_normalised_goals(traces: TraceStore) -> None:
    await traces.add(a_trace())
    await traces.add_negative("count-lines", "Count the lines of a.csv")
    await traces.add_negative("count-lines", "count  the lines of a.csv.")

    assert await traces.negatives("count-lines") == {normalise("Count the lines of a.csv")}


@pytest.mark.parametrize(
    "body",
    ["{", "null", '{"format": 99}', '{"format": 1, "id": "count-lines"}', "[" * 100_000],
    ids=["cut", "null", "newer", "incomplete", "deep"],
)
async def test_a_row_that_cannot_be_read_is_quarantined_alone(
    traces: TraceStore, db: Database, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    await traces.add(a_trace())
    await traces.add(a_trace("other"))
    await damage(db, "count-lines", body)

    with caplog.at_level(logging.ERROR):
        broken, fine = await traces.list()

    assert (broken.id, broken.status, broken.goals) == ("count-lines", Status.QUARANTINED, ())
    assert "stored version 1 can't be read" in broken.reason
    assert "count-lines was quarantined" in caplog.text
    assert (fine.id, fine.status) == ("other", Status.TRUSTED)
    assert [trace.id for trace in await traces.current(["count-lines", "other"])] == ["other"]
    with pytest.raises(StorageError, match="trace 'count-lines' is not followed, for its stored version 1"):
        await traces.get("count-lines")


async def test_a_row_of_another_trace_is_quarantined(traces: TraceStore, db: Database) -> None:
    await traces.add(a_trace())
    other = await traces.add(a_trace("other"))
    from llmos.trace.codec import dumps_json

    await damage(db, "count-lines", dumps_json(other))
    with pytest.raises(StorageError, match=r"is that of another trace \(other@1\)"):
        await traces.get("count-lines")


async def test_a_missing_version_row_is_quarantined(traces: TraceStore, db: Database) -> None:
    await traces.add(a_trace())
    await db.run(lambda c: c.execute("DELETE FROM trace_versions") and None)

    assert (await traces.list())[0].status is Status.QUARANTINED


async def test_a_quarantined_trace_can_be_stored_again(traces: TraceStore, db: Database) -> None:
    await traces.add(a_trace())
    await damage(db, "count-lines", "{")
    assert (await traces.list())[0].status is Status.QUARANTINED

    await traces.add(a_trace())
    assert (await traces.get("count-lines")).status is Status.TRUSTED


async def test_a_damaged_old_version_does_not_hurt_the_current_one(traces: TraceStore, db: Database) -> None:
    await traces.add(a_trace())
    await traces.add(a_trace())
    await db.run(lambda c: c.execute("UPDATE trace_versions SET body = '{' WHERE version = 1") and None)

    with pytest.raises(StorageError, match="count-lines@1"):
        await traces.get("count-lines", 1)
    assert (await traces.get("count-lines")).status is Status.TRUSTED


async def test_demonstrations_are_stored_once_and_again_when_they_change(traces: TraceStore) -> None:
    await traces.put_demonstrations([shipped("a"), shipped("b")])
    await traces.put_demonstrations([shipped("a"), shipped("b", "How long is {source}")])

    assert [(summary.id, summary.version) for summary in await traces.list()] == [("a", 1), ("b", 2)]


async def test_use_of_a_demonstration_survives_its_update(traces: TraceStore) -> None:
    await traces.put_demonstrations([shipped("a")])
    await traces.record_use("a", True, 0.5)
    await traces.put_demonstrations([shipped("a", "How long is {source}")])

    assert (await traces.list())[0].uses == 1


async def test_a_forgotten_demonstration_stays_forgotten_until_it_is_added_again(traces: TraceStore) -> None:
    await traces.put_demonstrations([shipped("a")])
    await traces.forget("a")
    await traces.put_demonstrations([shipped("a"), shipped("b")])
    await traces.put_demonstrations([shipped("a", "How long is {source}")])
    assert [summary.id for summary in await traces.list()] == ["b"]

    await traces.add(shipped("a"))
    assert {summary.id for summary in await traces.list()} == {"a", "b"}


async def test_a_rejected_demonstration_stays_rejected_even_when_it_changes(traces: TraceStore) -> None:
    await traces.put_demonstrations([shipped("a")])
    await traces.set_status("a", Status.REJECTED, "not for me")
    await traces.put_demonstrations([shipped("a")])
    await traces.put_demonstrations([shipped("a", "How long is {source}")])

    trace = await traces.get("a")
    assert (trace.version, trace.status, trace.reason) == (2, Status.REJECTED, "not for me")


async def test_a_users_own_version_of_a_demonstration_stays(traces: TraceStore) -> None:
    await traces.put_demonstrations([shipped("a")])
    mine = await traces.add(replace(a_trace("a"), provenance=Provenance.IMPORTED))
    await traces.put_demonstrations([shipped("a"), shipped("b")])

    assert await traces.get("a") == mine


async def test_twenty_tasks_adding_one_trace_get_twenty_versions(traces: TraceStore) -> None:
    stored = await asyncio.gather(*(traces.add(a_trace()) for _ in range(20)))

    assert sorted(trace.version for trace in stored) == list(range(1, 21))
    await asyncio.gather(*(traces.record_use("count-lines", True, 0.1) for _ in range(20)))
    assert (await traces.list())[0].uses == 20


# ------------------------------------------------------------------------------------ versions, wordings, shapes


async def test_a_wording_is_a_new_version_with_one_more_template(traces: TraceStore) -> None:
    first = await traces.add(replace(a_trace(), run_id="r1"))
    worded = await traces.add_wording("count-lines", "How long is {source}")

    assert worded.label == "count-lines@2"
    assert worded.goals == (*first.goals, "How long is {source}")
    assert await traces.get("count-lines", 1) == first
    assert await traces.runs_of(worded) == ["r1"]


async def test_a_wording_that_says_nothing_new_changes_nothing(traces: TraceStore) -> None:
    await traces.add(a_trace())

    assert (await traces.add_wording("count-lines", "Please count the lines of {source}.")).version == 1


async def test_a_trace_has_at_most_fifty_wordings(traces: TraceStore) -> None:
    words = [f"Count w{number}x the lines of {{source}}" for number in range(50)]
    await traces.add(a_trace("count-lines", *words))

    assert (await traces.add_wording("count-lines", "How long is {source}")).version == 1


async def test_a_wording_that_does_not_name_the_slots_is_not_stored(traces: TraceStore) -> None:
    await traces.add(a_trace())

    with pytest.raises(TraceFormatError):
        await traces.add_wording("count-lines", "How long is it")
    with pytest.raises(NotFoundError):
        await traces.add_wording("nothing", "How long is {source}")
    assert (await traces.get("count-lines")).version == 1


async def test_traces_of_one_shape_are_found_the_newest_first(traces: TraceStore, clock: FrozenClock) -> None:
    for trace_id in ("first", "second", "third"):
        await traces.add(a_trace(trace_id))
        clock.advance(60)
    other = a_trace("other")
    await traces.add(replace(other, steps=(replace(other.calls[0], tool="grep"),)))
    await traces.set_status("second", Status.REJECTED, "wrong")

    assert [trace.id for trace in await traces.alike(a_trace())] == ["third", "first"]
    assert [trace.id for trace in await traces.alike(a_trace(), limit=1)] == ["third"]
    await traces.forget("third")
    assert [trace.id for trace in await traces.alike(a_trace())] == ["first"]


async def test_a_version_names_the_runs_it_was_proven_on(traces: TraceStore) -> None:
    await traces.add(replace(a_trace(), run_id="r1"))
    second = await traces.add(replace(a_trace(), run_id="r2"), runs=["r1", "r2"])

    assert await traces.runs_of(second) == ["r1", "r2"]
    assert [(one.version, one.run_ids) for one in await traces.versions("count-lines")] == [
        (1, ("r1",)),
        (2, ("r1", "r2")),
    ]
    with pytest.raises(NotFoundError):
        await traces.versions("nothing")


async def test_a_version_made_from_one_that_is_not_current_any_more_is_not_stored(traces: TraceStore) -> None:
    known = await traces.add(a_trace())
    await traces.add_wording("count-lines", "How long is {source}")
    assert await traces.supersede(known, a_trace("count-lines", "Lines of {source}")) is None

    current = await traces.get("count-lines")
    await traces.set_status("count-lines", Status.REJECTED, "wrong")
    assert await traces.supersede(current, a_trace("count-lines", "Lines of {source}")) is None
    await traces.set_status("count-lines", Status.TRUSTED, "")
    stored = await traces.supersede(current, a_trace("count-lines", "Lines of {source}"), runs=["r1"])
    assert stored is not None
    assert (stored.version, await traces.runs_of(stored)) == (3, ["r1"])


async def test_an_absorbed_trace_is_kept_but_not_followed(traces: TraceStore) -> None:
    await traces.add(a_trace())
    other = await traces.add(a_trace("other"))
    await traces.add_negative("other", "Count the lines of secret.txt")
    await traces.absorb(await traces.get("count-lines"), "other")

    found = await traces.get("other")
    assert (found.status, found.reason) == (Status.QUARANTINED, "merged into count-lines@1")
    assert found.steps == other.steps
    assert [trace.id for trace in await traces.current(["count-lines", "other"])] == ["count-lines"]
    assert await traces.negatives("count-lines") == {normalise("Count the lines of secret.txt")}


async def test_a_memory_of_version_1_keeps_its_traces_and_gets_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    old = a_memory_of_version_1(path)

    async with Database(path) as db:
        traces = TraceStore(db, VectorIndex(tmp_path / "vectors.faiss"))
        kept = await traces.get("count-lines")
        assert kept == old
        assert await traces.runs_of(kept) == ["r1"]
        assert [trace.id for trace in await traces.alike(a_trace("fresh"))] == ["count-lines"]
        assert (await traces.add_wording("count-lines", "How long is {source}")).version == 2
    async with Database(path) as db:
        assert len((await TraceStore(db, VectorIndex(tmp_path / "v")).get("count-lines")).goals) == 2


def a_memory_of_version_1(path: Path) -> Trace:
    """A file as the first version wrote it, with one trace."""
    import duckdb

    from llmos.trace.codec import dumps_json

    trace = replace(a_trace(), run_id="r1", created_at=NOW)
    now = NOW.replace(tzinfo=None)
    with duckdb.connect(str(path)) as connection:
        connection.execute((Path(__file__).parent / "schema_1.sql").read_text(encoding="utf-8"))
        connection.execute("INSERT INTO meta VALUES ('schema_version', '1')")
        connection.execute(
            "INSERT INTO traces VALUES (?, 1, 'trusted', '', 'learned', 3, 3, 0, 0.5, ?, NULL)", [trace.id, now]
        )
        connection.execute(
            "INSERT INTO trace_versions VALUES (?, 1, ?, '', 'r1', ?)", [trace.id, dumps_json(trace), now]
        )
    return trace
