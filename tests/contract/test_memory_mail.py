"""Mailboxes and shared blocks in a real database: kept, read once, buried when nobody will read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import UsageError
from llmos.kernel.messages import Envelope, Type, envelope_of, expiry
from llmos.memory import mail as mail_module
from llmos.memory.database import Database
from llmos.memory.mail import MailStore, StaleBlockError
from llmos.redaction import Redactor

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "memory" / "llmos.duckdb") as opened:
        yield opened


def body(name: str, to: str = "run-b", *, priority: int = 10, ttl_s: float = 60.0, text: str = "") -> dict[str, Any]:
    return Envelope(
        id=name,
        sender=1,
        sender_run="run-a",
        receiver=2,
        receiver_run=to,
        type=Type.REQUEST,
        payload=text or name,
        priority=priority,
        sent_at=NOW.isoformat(),
        expires_at=expiry(NOW, ttl_s).isoformat(),
    ).data


def ids(bodies: Any) -> list[str]:
    return [one["id"] for one in bodies]


async def test_the_most_urgent_is_read_first_and_each_once(db: Database) -> None:
    store = MailStore(db, clock=Clock())
    await store.put([body("a"), body("b", priority=3), body("c"), body("other", to="run-c")], most_waiting=9)
    assert ids(await store.take("run-b", "key-1", limit=2)) == ["b", "a"]
    assert ids(await store.take("run-b", "key-2", limit=9)) == ["c"]
    assert ids(await store.take("run-b", "key-3", limit=9)) == []


async def test_a_call_whose_result_was_lost_is_given_the_same_messages_again(db: Database) -> None:
    store = MailStore(db, clock=Clock())
    await store.put([body("a"), body("b")], most_waiting=9)
    first = await store.take("run-b", "run-b:4", limit=1)
    assert await store.take("run-b", "run-b:4", limit=1) == first
    assert ids(await store.take("run-b", "run-b:5", limit=1)) == ["b"]


async def test_what_is_sent_twice_is_there_once(db: Database) -> None:
    store = MailStore(db, clock=Clock())
    assert await store.put([body("a")], most_waiting=9) == [True]
    assert await store.put([body("a", text="again"), body("b")], most_waiting=9) == [False, True]
    assert [one["payload"] for one in await store.take("run-b", "key", limit=9)] == ["a", "b"]


async def test_a_full_mailbox_takes_nothing_more(db: Database) -> None:
    store = MailStore(db, clock=Clock())
    await store.put([body("a"), body("b")], most_waiting=2)
    with pytest.raises(UsageError, match=r"full \(2 messages\)"):
        await store.put([body("other", to="run-c"), body("c")], most_waiting=2)
    assert [one.body["id"] for one in await store.list()] == ["b", "a"]  # all, or none


async def test_the_dead_say_why_and_are_not_read(db: Database) -> None:
    clock = Clock()
    store = MailStore(db, clock=clock)
    await store.put([body("late", ttl_s=5.0), body("unread"), body("lost", to="run-c")], most_waiting=9)
    clock.now = NOW + timedelta(seconds=6)
    assert ids(await store.over()) == ["late"]
    assert ids(await store.ended("run-b")) == ["unread"]
    assert ids(await store.orphaned({"run-b"})) == ["lost"]
    assert await store.take("run-b", "key", limit=9) == []
    assert {one.body["id"]: (one.state, one.note) for one in await store.list()} == {
        "late": ("dead", "its time was up"),
        "unread": ("dead", "its receiver had ended"),
        "lost": ("dead", "its receiver had ended"),
    }
    assert [one.body["id"] for one in await store.list("run-c")] == ["lost"]


async def test_mail_outlives_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "memory" / "llmos.duckdb"
    async with Database(path) as db:
        await MailStore(db, clock=Clock()).put([body("a", text="see you")], most_waiting=9)
        await MailStore(db, clock=Clock()).write("run-a", "plan", [1, 2], expected=0, by="run-a")
    async with Database(path) as db:
        (found,) = await MailStore(db, clock=Clock()).take("run-b", "key", limit=9)
        assert (envelope_of(found).payload, envelope_of(found).type) == ("see you", Type.REQUEST)
        assert (await MailStore(db).block("run-a", "plan")).value == [1, 2]


async def test_what_nobody_waits_for_does_not_grow_without_end(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_module, "KEPT", 5)
    clock = Clock()
    store = MailStore(db, clock=clock)
    for number in range(101):
        await store.put([body(f"m{number}")], most_waiting=9)
        await store.take("run-b", f"key-{number}", limit=9)
    assert len(await store.list()) <= 6
    clock.now = NOW + timedelta(days=mail_module.KEPT_DAYS + 1)
    await MailStore(db, clock=clock).put([body("new")], most_waiting=9)
    assert [one.body["id"] for one in await store.list()] == ["new"]


async def test_secrets_are_not_stored(tmp_path: Path) -> None:
    async with Database(tmp_path / "memory" / "llmos.duckdb", redactor=Redactor()) as db:
        store = MailStore(db, clock=Clock())
        await store.put([body("a", text="key sk-ant-api03-" + "x" * 90)], most_waiting=9)
        (found,) = await store.take("run-b", "key", limit=9)
    assert "x" * 90 not in str(found)


# --- shared memory -----------------------------------------------------------------------------------


async def test_a_block_is_replaced_only_in_the_version_that_was_read(db: Database) -> None:
    store = MailStore(db, clock=Clock())
    assert (await store.block("run-a", "plan")).version == 0
    await store.write("run-a", "plan", {"step": 1}, expected=0, by="run-a")
    await store.write("run-a", "plan", {"step": 2}, expected=1, by="run-b")
    with pytest.raises(StaleBlockError, match="has version 2, not 1"):
        await store.write("run-a", "plan", {"step": 9}, expected=1, by="run-a")
    found = await store.block("run-a", "plan")
    assert (found.version, found.value) == (2, {"step": 2})
    assert (await store.block("run-z", "plan")).version == 0  # another family's


async def test_of_many_who_count_up_at_once_nobody_is_lost(db: Database) -> None:
    store = MailStore(db, clock=Clock())

    async def count(by: str) -> None:
        for _ in range(5):
            while True:
                found = await store.block("run-a", "count")
                try:
                    await store.write("run-a", "count", (found.value or 0) + 1, expected=found.version, by=by)
                    break
                except StaleBlockError:
                    continue

    await asyncio.gather(*(count(f"run-{n}") for n in range(8)))
    found = await store.block("run-a", "count")
    assert (found.value, found.version) == (40, 40)


async def test_shared_memory_is_bounded(db: Database) -> None:
    store = MailStore(db, clock=Clock())
    with pytest.raises(UsageError, match="64,000 characters"):
        await store.write("run-a", "big", "x" * 64_001, expected=None, by="run-a")
    for number in range(mail_module.MAX_BLOCKS):
        await store.write("run-a", f"b{number}", number, expected=None, by="run-a")
    with pytest.raises(UsageError, match="share 50 blocks"):
        await store.write("run-a", "more", 1, expected=None, by="run-a")
