"""What `top` draws: budgets as bars, tokens as columns."""

from __future__ import annotations

from datetime import UTC, datetime

from llmos.interfaces.process_commands import told_used, used_of
from llmos.interfaces.process_top import Pace, budget_bar
from llmos.kernel.process_table import ProcessTable


def table() -> ProcessTable:
    return ProcessTable(clock=lambda: datetime(2026, 11, 28, tzinfo=UTC))


def test_the_bar_is_as_full_as_the_budget_is_spent() -> None:
    process = table().spawn("goal", budget_usd=1.0)
    drawn = []
    for _ in range(3):
        drawn.append(budget_bar(process))
        process.spend(0.5)
    assert drawn == ["░░░░░░░░░░", "█████░░░░░", "██████████"]
    process.spend(5.0)
    assert budget_bar(process) == "██████████"
    assert budget_bar(table().spawn("without")) == ""


def test_the_columns_are_the_tokens_of_each_second() -> None:
    process, pace = table().spawn("goal"), Pace()
    for tokens in (0, 100, 400, 0, 800):
        process.tokens_in += tokens
        pace.look([process])
    assert pace.line(process.pid) == " ▁▄ █"
    assert pace.line(99) == ""


def test_only_the_last_seconds_are_drawn() -> None:
    process, pace = table().spawn("goal"), Pace()
    for _ in range(100):
        process.tokens_out += 5
        pace.look([process])
    assert pace.line(process.pid) == "█" * 20


def test_what_tools_used_is_told_and_what_is_not_known_left_out() -> None:
    process = table().spawn("goal")
    assert used_of(process.resources) == ("", "", "")
    assert told_used(process.resources) == ""
    process.resources.add(cpu_s=0.25, disk_written_bytes=0)
    process.resources.add(cpu_s=1.0)
    assert used_of(process.resources) == ("1.2 s", "", "0 bytes")
    process.resources.add(peak_memory_bytes=62_000_000)
    process.resources.add(peak_memory_bytes=5)
    said = "its tools used 1.2 s of processor time, 62 MB of memory at most, 0 bytes written to disk"
    assert told_used(process.resources) == said
