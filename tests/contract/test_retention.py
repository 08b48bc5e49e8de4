"""Retention: what is past its time goes, and nothing that something still rests on goes with it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import random
import shutil
import signal
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.errors import NotFoundError
from llmos.interfaces import housekeeping
from llmos.interfaces.housekeeping import EVERY
from llmos.memory import retention
from llmos.memory.audit_check import Verification, Wrong
from llmos.memory.audit_entries import row_of
from llmos.memory.database import Database
from llmos.memory.ledger import Ledger
from llmos.memory.outcomes import Judge
from llmos.memory.salvage import assembled, source_of
from llmos.memory.salvaged_money import take_log
from llmos.settings import RetentionSettings
from llmos.trace.effects import Outcome
from llmos.trace.run import RunStatus
from tests.contract.keeping import LIMITS, Deed, Memory, a_memory, count
from tests.contract.memory_lab import NOW, a_trace
from tests.contract.test_memory_database import child

GOALS = ("Count the lines of a.csv", "count the lines of B.csv", "Sum up a.csv", "What does a.csv come to?")
OLD = 200.0

deeds = st.builds(
    Deed,
    days=st.sampled_from([0.5, 10.0, 45.0, 100.0, 130.0, 400.0]),
    goal=st.sampled_from(GOALS),
    trace=st.sampled_from([None, "count-lines", "sum-of", "gone"]),
    status=st.sampled_from([RunStatus.DONE, RunStatus.DONE, RunStatus.FAILED, RunStatus.RUNNING]),
    cost_usd=st.sampled_from([0.0, 0.0, 0.41, 0.07]),
    effect=st.sampled_from([None, None, Outcome.DONE, Outcome.UNKNOWN, Outcome.OPEN]),
    is_proof=st.booleans(),
    is_failure=st.booleans(),
    leaves_open=st.sampled_from([False, False, False, True]),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lived=st.lists(deeds, min_size=4, max_size=16), max_runs=st.sampled_from([1, 5, 1_000]), archives=st.booleans())
async def test_nothing_that_anything_rests_on_changes(lived: list[Deed], max_runs: int, archives: bool) -> None:
    limits = replace(LIMITS, max_runs=max_runs, audit_days=90 if archives else None)
    with tempfile.TemporaryDirectory() as folder:
        async with a_memory(Path(folder), limits) as memory:
            ids = await memory.live(lived)
            await memory.traces.add_negative("count-lines", GOALS[1])
            before = await memory.what_must_stay(GOALS, ids)
            planned = await memory.house.planned()
            freed = await memory.collect()
            assert await memory.what_must_stay(GOALS, ids) == before
            assert before["whole"] == ()
            for name, number in planned.rows.items():
                assert name == "archived" or freed.rows[name] == number
            assert +(await memory.collect()).rows == {}, "what is past its time is gone at once"
        async with a_memory(Path(folder), limits) as again:  # from the disk, after the reservations were closed
            assert (await again.log.verify()).is_whole


async def test_a_run_past_its_days_goes_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    async with a_memory(tmp_path) as memory:
        old, new = await memory.live([Deed(days=OLD, effect=Outcome.DONE), Deed(days=1, effect=Outcome.DONE)])
        freed = await memory.collect()
        assert freed.rows == {"runs": 1, "steps": 1, "effects": 1}
        with pytest.raises(NotFoundError):
            await memory.runs.get(old)
        assert (await memory.runs.get(new)).steps
        for table in ("runs", "steps", "journal", "journal_outcomes", "taints"):
            assert await count(memory, table) == 1, table
        (row,) = await memory.log.tail(10, kind="retention")
        assert row.facts == {"change": "runs removed", "runs": 1, "steps": 1, "effects": 1}


async def test_beyond_the_most_runs_the_oldest_go(tmp_path: Path) -> None:
    async with a_memory(tmp_path, replace(LIMITS, max_runs=2)) as memory:
        ids = await memory.live([Deed(days=day) for day in (5, 4, 3, 2)])
        assert (await memory.collect()).rows["runs"] == 2
        assert [run.id for run in await memory.runs.list()] == ids[:1:-1]


async def test_the_newest_stay_however_old_the_clock_makes_them(tmp_path: Path) -> None:
    async with a_memory(tmp_path, newest=3) as memory:
        ids = await memory.live([Deed(days=OLD, effect=Outcome.DONE)] * 5)
        assert (await memory.collect()).rows["runs"] == 2
        assert [run.id for run in await memory.runs.list()] == ids[:1:-1]


async def test_a_run_that_cost_money_keeps_its_row(tmp_path: Path) -> None:
    async with a_memory(tmp_path) as memory:
        paid, _ = await memory.live([Deed(days=OLD, cost_usd=0.41), Deed(days=1)])
        assert await memory.retention.emptied_at(paid) is None
        assert (await memory.collect()).rows == {"emptied": 1, "steps": 1}
        assert (await memory.runs.get(paid)).steps == () and (await memory.runs.get(paid)).cost_usd == 0.41
        assert await memory.retention.emptied_at(paid) == memory.clock()


async def test_an_undo_stays_while_what_it_undid_is_known(tmp_path: Path) -> None:
    """Without it the run would seem not undone, and be undone once more."""
    async with a_memory(tmp_path) as memory:
        done = Deed(days=OLD, effect=Outcome.DONE, is_proof=True)
        kept, undo, _ = await memory.live([done, Deed(days=OLD - 1), Deed(days=1)])
        await memory.effect(undo, "undo", Outcome.DONE, run=kept)
        memory.clock.advance(40 * 86_400)
        assert "runs" not in (await memory.collect()).rows
        assert {run.id for run in await memory.runs.list()} >= {kept, undo}


async def test_a_goal_is_found_by_the_same_trace_after_its_run_is_gone(tmp_path: Path) -> None:
    """By a wording that no template has: only the run knew it."""
    goal = "How long is a.csv, in lines?"
    async with a_memory(tmp_path) as memory:
        await memory.live([Deed(days=OLD, goal=goal), Deed(days=OLD - 1, goal=goal), Deed(days=1)])
        assert (await memory.collect()).rows["runs"] == 2
        assert [trace.id for trace in await memory.recall.exact(goal)] == ["count-lines"]
        assert await memory.recall.skeleton(goal) == []
        assert await count(memory, "recalled_goals") == 1
        await memory.db.run(lambda c: c.execute("UPDATE meta SET value = 'older' WHERE key = 'lexicon'") and None)
        await memory.db.run(lambda c: c.execute("UPDATE recalled_goals SET goal_hash = 'older'") and None)
    async with a_memory(tmp_path) as again:
        assert [trace.id for trace in await again.recall.exact(goal)] == ["count-lines"], "hashed anew with the lexer"


async def test_beyond_the_most_goals_only_those_go_that_are_found_anyway(tmp_path: Path) -> None:
    said = ["How long is a.csv, in lines?", *(f"Count the lines of {n}.csv" for n in range(4))]
    async with a_memory(tmp_path, replace(LIMITS, max_goals=1)) as memory:
        await memory.live([*(Deed(days=OLD, goal=goal) for goal in said), Deed(days=1)])
        assert (await memory.collect()).rows["goals"] == 4
        for goal in said:
            found = await memory.recall.exact(goal) or await memory.recall.skeleton(goal)
            assert [trace.id for trace in found] == ["count-lines"], goal


async def test_goals_that_two_traces_would_claim_stay(tmp_path: Path) -> None:
    async with a_memory(tmp_path, replace(LIMITS, max_goals=1)) as memory:
        await memory.traces.add(a_trace("rival"))
        goals = [f"Count the lines of {n}.csv" for n in range(3)]
        await memory.live([*(Deed(days=OLD, goal=goal) for goal in goals), Deed(days=1)])
        assert "goals" not in (await memory.collect()).rows
        assert [[trace.id for trace in await memory.recall.exact(goal)] for goal in goals] == [["count-lines"]] * 3


async def test_of_many_successes_the_newest_stay_and_all_failures(tmp_path: Path) -> None:
    rows = "SELECT 'count-lines', 'r' || i, nextval('outcome_no'), 'replay', i % 100 <> 0, $at FROM range(1500) s(i)"
    async with a_memory(tmp_path) as memory:
        at = {"at": NOW.replace(tzinfo=None)}
        await memory.db.run(lambda c: c.execute(f"INSERT INTO outcomes {rows}", at) and None)
        before = await memory.outcomes.record("count-lines")
        assert (await memory.collect()).rows == {"outcomes": 495}
        after = await memory.outcomes.record("count-lines")
        assert (after.failures, after.failing) == (before.failures, before.failing)
        assert after.successes == before.successes == 990, "no more than are kept were looked at before"
        await memory.outcomes.restart("count-lines")
        await memory.outcomes.judge("count-lines", "later", ok=True, by=Judge.REPLAY)
        assert (await memory.collect()).rows == {"outcomes": 1005}, "what came before the restart does not count"
        assert (await memory.outcomes.record("count-lines")).successes == 1


# ---------------------------------------------------------------------------------------------------------- savings


async def test_savings_become_one_row_for_each_month(tmp_path: Path) -> None:
    async with a_memory(tmp_path) as memory:
        lived = [Deed(days=day) for day in (203, 202, 201, 170, 169, 1)]
        await memory.live([*lived, Deed(days=202.5, cost_usd=0.41)])
        totals, balance = memory.ledger.totals(), memory.ledger.balance_microusd()
        assert (await memory.collect()).rows["savings"] == 4
        savings = [row for row in memory.ledger.entries() if row.kind == "saving"][::-1]
        assert [(row.operation, row.saved_microusd) for row in savings] == [
            ("savings of 2026-05", 1_000_000),
            ("savings of 2026-06", 500_000),
            ("replay", 250_000),
        ]
        assert (memory.ledger.totals(), memory.ledger.balance_microusd()) == (totals, balance)
        assert (await memory.log.verify()).is_whole


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET saved_microusd = saved_microusd + 1 WHERE operation LIKE 'savings of%'",
        "DELETE FROM ledger WHERE operation LIKE 'savings of%'",
        "UPDATE ledger SET amount_microusd = 5 WHERE operation LIKE 'savings of%'",
        "UPDATE ledger SET kind = 'recharge' WHERE operation LIKE 'savings of%'",
        "INSERT INTO ledger SELECT 99, moved_at, kind, 0, balance_microusd, '', 'x', 1, NULL FROM ledger WHERE id = 3",
    ],
)
async def test_who_changes_a_sum_is_found(tmp_path: Path, statement: str) -> None:
    async with a_memory(tmp_path) as memory:
        await memory.live([Deed(days=203), Deed(days=202), Deed(days=1)])
        assert (await memory.collect()).rows["savings"] == 1
        await memory.db.run(lambda connection: connection.execute(statement) and None)
        (found,) = (await memory.log.verify()).findings
        assert found.wrong is Wrong.LEDGER


@pytest.mark.parametrize("archives", [False, True])
@pytest.mark.parametrize("lost", ["ledger", "nothing"])
async def test_a_repair_counts_no_saving_twice_and_loses_none(tmp_path: Path, lost: str, archives: bool) -> None:
    limits = replace(LIMITS, audit_days=150 if archives else None)
    async with a_memory(tmp_path, limits) as memory:
        await memory.live([Deed(days=203), Deed(days=202), Deed(days=160, cost_usd=0.41), Deed(days=159), Deed(days=1)])
        assert (await memory.collect()).rows["savings"] == 2
        totals, balance, archive = memory.ledger.totals(), memory.ledger.balance_microusd(), memory.archive
        assert bool(archive.files()) is archives
    source = source_of("the database", tmp_path / "llmos.duckdb")
    if lost == "ledger":
        source = replace(source, rows={name: n for name, n in source.rows.items() if name != "ledger"})
    target = tmp_path / "fresh.duckdb"
    assembled(target, [source])
    assert take_log(target, [source], archive)[1] == []
    async with Database(target) as db:
        assert (Ledger(db).totals(), Ledger(db).balance_microusd()) == (totals, balance)


# ---------------------------------------------------------------------------------------------------------- archive


async def archived(folder: Path) -> None:
    """A memory whose log begins with row 13 or so; the rows before are in two files."""
    async with a_memory(folder, replace(LIMITS, audit_days=90)) as memory:
        await memory.live([Deed(days=day) for day in (203, 202, 160, 159, 1)])
        cut = memory.clock() - timedelta(days=180)
        assert await memory.log.archive(cut) > 0
        assert await memory.log.archivable(memory.clock() - timedelta(days=90)) > 0
        assert (await memory.collect()).rows["archived"] > 0
        assert await memory.log.archive(cut) == 0


async def verified(folder: Path, **how: Any) -> Verification:
    async with a_memory(folder) as memory:
        return await memory.log.verify(**how)


async def test_an_archived_log_is_whole_and_read_from_its_first_row(tmp_path: Path) -> None:
    await archived(tmp_path)
    first, second = sorted((tmp_path / "audit").iterdir())
    found = await verified(tmp_path)
    assert found.is_whole and found.rows == found.head.number and found.log_id
    async with a_memory(tmp_path) as memory:
        exported = [row async for page in memory.log.pages() for row in page]
        assert [row.number for row in exported] == list(range(1, found.head.number + 1))
        begun = next(n for n, row in enumerate(exported) if row.at > exported[0].at)
        since = [row async for page in memory.log.pages(since=exported[begun].at) for row in page]
        assert 0 < begun < 12 and since == exported[begun:]
        assert [row async for page in memory.log.pages(first=len(exported) - 1) for row in page] == exported[-2:]
        lowest = await memory.db.run(lambda c: c.execute("SELECT min(number) FROM audit_log").fetchone())
    assert lowest is not None and lowest[0] == int(second.name.split("-")[2].split(".")[0]) + 1
    assert (await verified(tmp_path, against=exported)).is_whole
    for path in (first, second):
        rows = [row_of(json.loads(line)) for line in gzip.decompress(path.read_bytes()).splitlines()]
        assert (await verified(tmp_path, against=rows)).is_whole
        changed = [replace(rows[0], body='{"x":1}'), *rows[1:]]
        assert [one.wrong for one in (await verified(tmp_path, against=changed)).findings] == [Wrong.EXPORT]


@pytest.mark.parametrize("what", ["file", "cut", "line", "rows", "all files", "first rows"])
async def test_who_removes_or_changes_what_was_archived_is_found(tmp_path: Path, what: str) -> None:
    await archived(tmp_path)
    first, second = sorted((tmp_path / "audit").iterdir())
    if what in ("file", "all files"):
        first.unlink()
    if what == "all files":
        second.unlink()
    if what == "cut":
        second.write_bytes(second.read_bytes()[:-20])
    if what == "line":
        lines = gzip.decompress(first.read_bytes()).replace(b"count-lines", b"count-words")
        first.write_bytes(gzip.compress(lines))
    if what == "rows":
        lines = b"".join(gzip.decompress(second.read_bytes()).splitlines(keepends=True)[1:])
        second.write_bytes(gzip.compress(lines))
    if what == "first rows":
        with duckdb.connect(str(tmp_path / "llmos.duckdb")) as connection:
            connection.execute("DELETE FROM audit_log WHERE number = (SELECT min(number) FROM audit_log)")
    findings = (await verified(tmp_path)).findings
    assert findings and findings[0].wrong in (Wrong.MISSING, Wrong.CHANGED), findings


async def test_a_crash_between_file_and_transaction_is_made_good(tmp_path: Path) -> None:
    async with a_memory(tmp_path, replace(LIMITS, audit_days=90)) as memory:
        await memory.live([Deed(days=205), Deed(days=1)])
        rows = (await memory.log.tail(1_000))[:4]
        memory.archive.write(rows)
        assert (await memory.log.verify()).is_whole, "files without a checkpoint are not the log"
        assert (await memory.collect()).rows["archived"] > 4
        assert (await memory.log.verify()).is_whole


async def test_a_log_that_is_not_whole_is_left_as_it_is(tmp_path: Path) -> None:
    async with a_memory(tmp_path, replace(LIMITS, audit_days=90)) as memory:
        await memory.live([Deed(days=205), Deed(days=1)])
        await memory.db.run(lambda c: c.execute("UPDATE audit_log SET body = '{}' WHERE number = 3") and None)
        assert "archived" not in (await memory.collect()).rows
        assert not memory.archive.files()


# ------------------------------------------------------------------------------------------------------------ files


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


async def test_files_of_a_home_have_their_time_too(tmp_path: Path) -> None:
    async with a_memory(tmp_path, replace(LIMITS, backups=2, damaged_days=30, history_lines=2)) as memory:
        (tmp_path / "backups").mkdir()
        for number in range(4):
            (tmp_path / "backups" / f"llmos-00000{number}-2026112{number}T000000Z.duckdb").write_text("x")
        for name, is_done in (("damaged-20260101T000000000000", True), ("damaged-20260102T000000000000", False)):
            (tmp_path / name).mkdir()
            (tmp_path / name / ("repaired.txt" if is_done else "llmos.duckdb")).write_text("x")
        (tmp_path / "history").write_text("".join(f"\n# 2026-01-0{n}\n+goal {n}\n" for n in range(1, 5)))
        half = tmp_path / ".audit-anchor.json.77"
        half.write_text("x")
        memory.clock.set(NOW)
        planned = (await memory.house.planned()).files
        assert planned["lines of the shell's history"][0] == 2 and half.exists()
        assert set((await memory.collect()).files) == set(planned)
        assert names(tmp_path / "backups", "*") == [f"llmos-00000{n}-2026112{n}T000000Z.duckdb" for n in (2, 3)]
        assert names(tmp_path, "damaged-*") == ["damaged-20260102T000000000000"]
        assert (tmp_path / "history").read_text() == "\n# 2026-01-03\n+goal 3\n\n# 2026-01-04\n+goal 4\n"
        assert half.exists(), "it may be another process's of this very moment"


# ------------------------------------------------------------------------------------------------------- compaction


async def test_the_file_is_written_anew_with_all_that_is_left(tmp_path: Path) -> None:
    async with a_memory(tmp_path) as memory:
        await memory.live([Deed(days=OLD), Deed(days=1)])
        fill = "INSERT INTO facts SELECT i, i, repeat(md5(i::VARCHAR), 40), '', now() FROM range(9000) s(i)"
        await memory.db.run(lambda c: c.execute(fill) and None)
        await memory.db.run(lambda c: c.execute("DELETE FROM facts WHERE key::INT > 5") and None)
        before = await memory.what_must_stay(GOALS, [])
        freed = await memory.collect()
        assert freed.database_bytes > 1_000_000
        assert (tmp_path / "llmos.duckdb").stat().st_size < 8_000_000  # a block for each table, whatever it holds
        assert await memory.what_must_stay(GOALS, []) == before
        assert await count(memory, "facts") == 6
        await memory.runs.start(replace(await _any_run(memory), id="later"))  # sequences and keys go on
        assert names(tmp_path, ".llmos*") == []


async def _any_run(memory: Memory) -> Any:
    return (await memory.runs.list())[0]


COLLECTING = """
    import asyncio, sys
    from pathlib import Path
    from dataclasses import replace
    from tests.contract.keeping import LIMITS, Deed, a_memory

    async def main():
        limits = replace(LIMITS, audit_days=90, max_runs=3)
        async with a_memory(Path(sys.argv[1]), limits) as memory:
            print("ready", flush=True)
            await memory.collect()
            while True:
                await memory.db.compact()

    asyncio.run(main())
"""


def test_a_kill_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """Collecting, archiving and writing the file anew, each ended by SIGKILL somewhere."""
    import asyncio

    chance = random.Random(7)
    lived = [Deed(days=day, effect=Outcome.DONE if day % 3 == 0 else None) for day in range(260, 0, -4)]
    lived += [Deed(days=201.5, cost_usd=0.41, is_proof=True), Deed(days=150.5, goal=GOALS[3])]
    whole = tmp_path / "whole"
    whole.mkdir()

    async def began() -> tuple[list[str], dict[str, Any]]:
        async with a_memory(whole) as memory:
            ids = await memory.live(lived)
            return ids, await memory.what_must_stay(GOALS, ids)

    async def state(home: Path) -> dict[str, Any]:
        async with a_memory(home) as memory:
            return await memory.what_must_stay(GOALS, ids)

    ids, before = asyncio.run(began())
    shortened = 0
    for number in range(6):
        home = tmp_path / f"home{number}"
        shutil.copytree(whole, home)
        process = child(COLLECTING, home)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        after = asyncio.run(state(home))
        assert after["whole"] == ()
        assert after == before
        shortened += len(list((home / "audit").glob("audit-*"))) > 0
    assert shortened, "no kill came after the work had begun"


TRYING = """
    import asyncio, sys
    from pathlib import Path
    from llmos.errors import DatabaseLockedError
    from llmos.memory.database import Database

    async def main():
        print("ready", flush=True)
        while True:
            try:
                async with Database(Path(sys.argv[1]) / "llmos.duckdb"):
                    print("got it", flush=True)
            except DatabaseLockedError:
                pass

    asyncio.run(main())
"""


async def test_no_other_process_gets_the_file_while_it_is_written_anew(tmp_path: Path) -> None:
    async with a_memory(tmp_path) as memory:
        process = child(TRYING, tmp_path)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for number in range(12):
            await memory.db.run(lambda c, n=number: c.execute("INSERT INTO meta VALUES (?, '')", [f"n{n}"]) and None)  # type: ignore[misc]
            assert memory.db._worker is not None
            await asyncio.wrap_future(memory.db._worker.submit(memory.db._refresh))
        assert process.poll() is None
        process.kill()
        assert process.communicate()[0] == ""
        there = await memory.db.run(lambda c: c.execute("SELECT count(*) FROM meta WHERE key LIKE 'n%'").fetchone())
        assert there == (12,)
        assert len(opened_in(tmp_path)) == 1
    assert opened_in(tmp_path) == []


def opened_in(folder: Path) -> list[str]:
    """The files of a folder that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(link.readlink()))
    return [one for one in found if one.startswith(str(folder))]


async def test_a_file_that_has_grown_is_written_anew_by_itself_and_no_other(tmp_path: Path) -> None:
    fill = "INSERT INTO facts SELECT i, i, repeat(md5(i::VARCHAR), 80), '', now() FROM range(9000) s(i)"
    async with a_memory(tmp_path) as memory:
        file = tmp_path / "llmos.duckdb"
        before = file.stat().st_ino
        await memory.db.refresh()
        assert file.stat().st_ino == before
        await memory.db.run(lambda c: c.execute(fill) and None)
        await memory.db.run(lambda c: c.execute("DELETE FROM facts WHERE key::INT > 5") and None)
        await memory.db.run(lambda c: c.execute("INSERT INTO recalled_goals VALUES ('h', 't', 'g', 1)") and None)
        await asyncio.to_thread(_checkpoint, memory)
        size = file.stat().st_size
        await memory.db.refresh()
        assert file.stat().st_ino != before
        assert file.stat().st_size < size - 4_000_000
        assert (await count(memory, "facts"), await count(memory, "recalled_goals")) == (6, 1)
        again = file.stat().st_ino
        await memory.db.refresh()
        assert file.stat().st_ino == again


def _checkpoint(memory: Memory) -> None:
    assert memory.db._connection is not None
    memory.db._connection.execute("CHECKPOINT")


# ----------------------------------------------------------------------------------------------------- housekeeping


async def test_it_is_done_once_a_day_and_not_for_a_clock_that_jumped(tmp_path: Path) -> None:
    limits = RetentionSettings(runs_days=1, max_runs=1_000)

    async def after_a_goal(memory: Memory) -> int:
        house = memory.house
        house.after_goal()
        await house.aclose()
        return await count(memory, "runs")

    async with a_memory(tmp_path, limits) as memory:
        await memory.live([Deed(days=3), Deed(days=2), Deed(days=0)])
        assert await after_a_goal(memory) == 3, "a new home is only marked"
        memory.clock.advance(86_000)
        assert await after_a_goal(memory) == 3, "the day has not passed"
        memory.clock.advance(400)
        assert await after_a_goal(memory) == 1
        await memory.runs.start(replace(await _any_run(memory), id="second", started_at=memory.clock()))
        await memory.runs.finish(replace(await memory.runs.get("second"), status=RunStatus.DONE, answer="2"))
        memory.clock.advance(400 * 86_400)
        assert await after_a_goal(memory) == 2, "a clock that jumped is not believed at once"
        memory.clock.advance(86_400)
        assert await after_a_goal(memory) == 1, "but the next day it is"


async def test_goals_that_keep_coming_do_not_stop_it(tmp_path: Path) -> None:
    async with a_memory(tmp_path, RetentionSettings(runs_days=1, max_runs=1_000)) as memory:
        await memory.live([Deed(days=3), Deed(days=2), Deed(days=0)])
        await memory.retention.set_done(memory.clock() - EVERY)
        memory.is_busy, house = True, memory.house
        house.after_goal()
        for _ in range(500):
            if await count(memory, "runs") == 1:
                break
            await asyncio.sleep(0.02)
        assert await count(memory, "runs") == 1
        await house.aclose()


async def test_a_pass_that_took_long_is_no_jump_of_the_clock(tmp_path: Path) -> None:
    async with a_memory(tmp_path, RetentionSettings(runs_days=1, max_runs=1_000)) as memory:
        await memory.live([Deed(days=3), Deed(days=2), Deed(days=0)])
        await memory.retention.set_done(memory.clock())
        house = memory.house
        house._task = asyncio.current_task()  # at work
        for _ in range(40):
            memory.clock.advance(86_400)
            house.after_goal()
        house._task = None
        memory.clock.advance(60)
        house.after_goal()
        await house.aclose()
        assert await count(memory, "runs") == 1


async def test_goals_wait_a_moment_for_a_pass_that_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "LONG_S", 0.0)
    monkeypatch.setattr(housekeeping, "MOST_WAIT_S", 30.0)
    monkeypatch.setattr(retention, "AT_ONCE", 1)
    async with a_memory(tmp_path, RetentionSettings(runs_days=1, max_runs=1_000)) as memory:
        await memory.live([Deed(days=5), Deed(days=4), Deed(days=3), Deed(days=2), Deed(days=0)])
        await memory.retention.set_done(memory.clock() - EVERY)
        house = memory.house
        await house.room()  # nobody waits where nothing is to be done
        house.after_goal()
        async with asyncio.timeout(30):
            while house._is_kept_up.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0)
        await house.room()
        assert await count(memory, "runs") == 1
        house._is_kept_up.clear()
        monkeypatch.setattr(housekeeping, "MOST_WAIT_S", 0.01)
        await house.room()  # not for ever
        await house.aclose()
