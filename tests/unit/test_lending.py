"""Lending between processes: for a time, and what is left comes back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from llmos.errors import LowBatteryError
from llmos.kernel.lending import Loan
from llmos.kernel.process import End, Process
from llmos.kernel.process_table import ProcessTable


@pytest.fixture
def table() -> ProcessTable:
    return ProcessTable(clock=lambda: datetime(2026, 11, 28, tzinfo=UTC))


def two(table: ProcessTable) -> tuple[Process, Process]:
    rich = table.spawn("rich", priority=3, budget_usd=1.0)
    return rich, table.spawn("poor", priority=12, budget_usd=0.1)


async def test_a_loan_ends_with_its_time(table: ProcessTable) -> None:
    rich, poor = two(table)
    Loan.begin(rich, poor, 0.5, 0.05)
    assert (rich.budget.left_usd, poor.budget.left_usd, poor.priority) == (0.5, 0.6, 3)
    poor.spend(0.2)
    await asyncio.sleep(0.2)
    assert rich.budget.left_usd == pytest.approx(0.9)
    assert poor.budget.left_usd == 0.0
    assert poor.priority == 12


async def test_a_loan_ends_with_the_lender(table: ProcessTable) -> None:
    rich, poor = two(table)
    Loan.begin(rich, poor, 0.5)
    table.ended(rich, End.DONE)
    await asyncio.sleep(0.01)
    assert (poor.budget.left_usd, poor.priority) == (0.1, 12)


async def test_what_was_lent_and_not_spent_is_the_lenders_when_the_borrower_ends(table: ProcessTable) -> None:
    rich, poor = two(table)
    Loan.begin(rich, poor, 0.5)
    poor.spend(0.3)
    table.ended(poor, End.DONE)
    await asyncio.sleep(0.01)
    assert rich.budget.left_usd == pytest.approx(0.8)


async def test_a_priority_that_was_set_meanwhile_stays(table: ProcessTable) -> None:
    rich, poor = two(table)
    Loan.begin(rich, poor, 0.0, 0.05)
    table.renice(poor.pid, 19)
    await asyncio.sleep(0.2)
    assert poor.priority == 19


async def test_nobody_lends_what_is_not_there(table: ProcessTable) -> None:
    rich, poor = two(table)
    with pytest.raises(LowBatteryError, match="only"):
        Loan.begin(rich, poor, 1.5)
    assert poor.priority == 12
