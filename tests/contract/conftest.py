"""Fixtures of the contracts: a database, and traces in it at a time that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmos.memory.database import Database
from llmos.memory.index import VectorIndex
from llmos.memory.traces import TraceStore
from llmos.testing import FrozenClock
from tests.contract.house import House
from tests.contract.memory_lab import NOW


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "llmos.duckdb") as database:
        yield database


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(NOW)


@pytest.fixture
def traces(db: Database, clock: FrozenClock, tmp_path: Path) -> TraceStore:
    return TraceStore(db, VectorIndex(tmp_path / "vectors.faiss"), clock=clock)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    found = House(tmp_path)
    async with found.home:
        yield found
        found.gate.set()
        await found.quiet()
