"""No secret is stored, whichever part of the memory is handed one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from llmos.errors import TraceFormatError, UsageError
from llmos.memory.database import Database
from llmos.memory.index import VectorIndex
from llmos.memory.runs import RunStore
from llmos.memory.store import SemanticMemory
from llmos.memory.traces import TraceStore
from llmos.redaction import UNNAMED, Redactor, mark
from llmos.testing import HashEmbedder
from llmos.trace.program import Status
from llmos.trace.run import Finish, Mode, Run, StepRecord
from llmos.trace.values import Const, SecretRef, Text
from tests.contract.memory_lab import a_trace
from tests.planted import planted

VALUE = "the-value/Of+it=7"
TOKEN = planted()["github token"]
NUMBER = "48151623"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    redactor = Redactor({"APP_TOKEN": VALUE, "PIN_CODE": NUMBER, "WORD": "count-lines"})
    async with Database(tmp_path / "m.duckdb", redactor=redactor) as database:
        yield database


@pytest.fixture
def traces(db: Database, tmp_path: Path) -> TraceStore:
    return TraceStore(db, VectorIndex(tmp_path / "v.faiss"))


async def texts(db: Database) -> str:
    """Everything the database holds, as text."""

    def work(connection: duckdb.DuckDBPyConnection) -> str:
        tables = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        return repr([connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables])

    return await db.run(work)


async def test_a_run_is_kept_without_them_and_read_back(db: Database) -> None:
    runs = RunStore(db)
    step = StepRecord(index=0, tool="http_get", args={"password": "swordfish"}, output={"pin": 48151623, "t": [VALUE]})
    goal = f"Use {VALUE} and {TOKEN}"
    run = Run(id="r1", goal=goal, mode=Mode.LEARNER, bindings={"token": TOKEN}, reason=f"for {TOKEN}")
    await runs.start(run)
    await runs.add_step("r1", step)
    await runs.finish(replace(run, steps=(step,), answer=f"it is {TOKEN}", finish=Finish(answer=VALUE)))
    kept = await runs.get("r1")
    assert (kept.goal, kept.answer) == (f"Use {mark('APP_TOKEN')} and {UNNAMED}", f"it is {UNNAMED}")
    assert kept.steps[0].args == {"password": UNNAMED}
    assert kept.steps[0].output == {"pin": mark("PIN_CODE"), "t": [mark("APP_TOKEN")]}
    assert not [one for one in (VALUE, TOKEN[4:14], NUMBER, "swordfish") if one in await texts(db)]


async def test_what_a_statement_is_given_is_kept_without_them_whoever_wrote_it(db: Database) -> None:
    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TABLE notes (said VARCHAR, data VARCHAR)")
        connection.execute(
            "INSERT INTO notes VALUES (?, ?)", [f"it is {VALUE}", f'{{"pin": {NUMBER}, "t": "{TOKEN}"}}']
        )
        connection.execute("INSERT INTO notes VALUES ($said, NULL)", {"said": f"{TOKEN}"})

    await db.run(work)
    rows = await db.run(lambda connection: connection.execute("SELECT * FROM notes").fetchall())
    assert rows[0][0] == f"it is {mark('APP_TOKEN')}"
    assert json.loads(rows[0][1]) == {"pin": mark("PIN_CODE"), "t": UNNAMED}
    assert not [one for one in (VALUE, TOKEN[4:14], NUMBER) if one in repr(rows)]


@pytest.mark.parametrize("value", [f"Bearer {VALUE}", TOKEN])
async def test_a_trace_that_would_keep_one_is_refused_and_its_reference_is_not(traces: TraceStore, value: str) -> None:
    trace = a_trace()
    (step,) = trace.calls
    keeps = replace(
        trace, steps=(replace(step, args={**step.args, "path": Const(value=value)}),), slots=(), goals=("Go",)
    )
    with pytest.raises(TraceFormatError, match=r"count-lines can't be stored: 'path' of read would hold"):
        await traces.add(keeps)
    with pytest.raises(TraceFormatError, match="the goal itself holds"):
        await traces.add(replace(trace, goals=(f"Count {value} in {{source}}",)))
    named = Text(parts=("Bearer ", SecretRef(name="APP_TOKEN")))
    stored = await traces.add(replace(keeps, steps=(replace(step, args={"path": named}),)))
    assert await traces.get("count-lines") == stored


async def test_an_id_is_found_though_a_secret_is_spelled_like_it(traces: TraceStore) -> None:
    await traces.put_demonstrations([a_trace("count-lines")])
    await traces.set_status("count-lines", Status.QUARANTINED, f"it said {TOKEN}")
    (summary,) = await traces.list()
    assert (summary.id, summary.reason) == ("count-lines", f"it said {UNNAMED}")


async def test_a_goal_is_refused_for_good_without_being_kept(db: Database, traces: TraceStore) -> None:
    await traces.put_demonstrations([a_trace("other")])
    await traces.add_negative("other", f"Go with {TOKEN}")
    assert await traces.wrong_for(f"Go with {TOKEN}") == {"other"}
    assert TOKEN[4:14] not in await texts(db)
    await traces.drop_negative("other", f"Go with {TOKEN}")
    assert not await traces.wrong_for(f"Go with {TOKEN}")


@pytest.mark.parametrize("value", [TOKEN, {"a": [VALUE]}, {"password": "swordfish"}])
async def test_no_fact_is_one(db: Database, value: object) -> None:
    memory = SemanticMemory(db, HashEmbedder())
    with pytest.raises(UsageError, match="is not remembered: put it in the environment as"):
        await memory.remember("wifi", value)
    assert await memory.facts() == []
