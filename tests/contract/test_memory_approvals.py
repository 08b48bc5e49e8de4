"""Approvals in a real database: kept, found by digest, listed and revoked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest

from llmos.errors import NotFoundError
from llmos.kernel.permissions import Approval
from llmos.memory.approvals import Approvals
from llmos.memory.database import Database
from llmos.trace.program import Effect
from tests.contract.old_homes import as_version


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "memory" / "llmos.duckdb") as opened:
        yield opened


def approval(digest: str, trace_id: str | None = None, effect: Effect = Effect.EXTERNAL) -> Approval:
    return Approval(digest=digest, tool="send", effect=effect, shown='{"to": "ada"}', trace_id=trace_id, step_id="s")


async def test_an_approval_is_found_by_its_digest_for_effects_no_worse(db: Database) -> None:
    approvals = Approvals(db)
    await approvals.remember(approval("aa1"))
    assert await approvals.approved(("zz9", "aa1"), Effect.EXTERNAL)
    assert await approvals.approved(("aa1",), Effect.WRITE)
    assert not await approvals.approved(("aa1",), Effect.UNKNOWN)
    assert not await approvals.approved(("aa",), Effect.READ)
    await approvals.remember(approval("aa1", effect=Effect.UNKNOWN))
    assert await approvals.approved(("aa1",), Effect.UNKNOWN)
    assert len(await approvals.list()) == 1


async def test_one_or_all_of_a_trace_are_revoked(db: Database) -> None:
    approvals = Approvals(db)
    for digest, trace_id in (("aa1", None), ("ab2", "mail"), ("ab3", "mail")):
        await approvals.remember(approval(digest, trace_id))
    for name in ("a", "ab", "none", ""):
        with pytest.raises(NotFoundError):
            await approvals.revoke(name)
    assert [one.digest for one in await approvals.revoke("aa")] == ["aa1"]
    assert sorted(one.digest for one in await approvals.revoke("mail")) == ["ab2", "ab3"]
    assert await approvals.list() == []


async def test_they_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "memory" / "llmos.duckdb"
    async with Database(path) as db:
        await Approvals(db).remember(approval("aa1"))
    async with Database(path) as db:
        assert [one.id for one in await Approvals(db).list()] == ["aa1"]


def _as_of_schema_2(connection: duckdb.DuckDBPyConnection) -> None:
    for statement in as_version(2):
        connection.execute(statement)


async def test_a_memory_of_schema_2_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "memory" / "llmos.duckdb"
    async with Database(path) as db:
        await db.run(_as_of_schema_2)
    async with Database(path) as db:
        await Approvals(db).remember(approval("aa1"))
        assert len(await Approvals(db).list()) == 1
