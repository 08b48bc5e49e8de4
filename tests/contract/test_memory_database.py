"""The database file: opening, transactions, and everything that can be wrong with it."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import llmos
from llmos.errors import DatabaseLockedError, StorageError
from llmos.memory.database import Database, clean

MARK = "INSERT INTO meta VALUES (?, ?)"


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process of its own that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1])},
    )


async def keys(db: Database) -> set[str]:
    return {row[0] for row in await db.run(lambda c: c.execute("SELECT key FROM meta").fetchall())}


async def put(db: Database, key: str, value: str = "") -> None:
    await db.run(lambda c: c.execute(MARK, [key, value]) and None)


async def test_an_empty_home_gets_one_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "memory" / "llmos.duckdb"

    async with Database(path) as db:
        assert await keys(db) == {"schema_version"}

    assert [file.name for file in path.parent.iterdir()] == ["llmos.duckdb"]
    assert path.parent.stat().st_mode & 0o077 == 0


async def test_what_was_stored_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    async with Database(path) as db:
        await put(db, "a")
    async with Database(path) as db:
        assert "a" in await keys(db)


async def test_a_call_that_raises_stores_nothing(tmp_path: Path) -> None:
    def half(connection: Any) -> None:
        connection.execute(MARK, ["half", ""])
        raise KeyError("stop")

    async with Database(tmp_path / "llmos.duckdb") as db:
        with pytest.raises(KeyError):
            await db.run(half)
        assert "half" not in await keys(db)


async def test_what_waits_is_stored_with_what_is_asked_for(tmp_path: Path) -> None:
    seen: list[set[str]] = []
    told: list[str] = []
    async with Database(tmp_path / "llmos.duckdb") as db:
        later(db, "first", told)
        later(db, "second", told)
        await db.run(lambda c: seen.append({row[0] for row in c.execute("SELECT key FROM meta").fetchall()}))

        def refuses(connection: Any) -> None:
            raise StorageError("no")

        later(db, "third", told)
        with pytest.raises(StorageError):
            await db.run(refuses)
        assert await keys(db) == {"schema_version", "first", "second", "third"}
    assert seen == [{"schema_version", "first", "second"}]
    assert told == ["first stored", "second stored", "third stored"]


async def test_what_waits_and_can_not_be_stored_spoils_nothing_else(tmp_path: Path) -> None:
    told: list[str] = []
    async with Database(tmp_path / "llmos.duckdb") as db:
        later(db, "a", told)
        db.later(lambda c: c.execute("INSERT INTO nowhere VALUES (1)"), otherwise=lambda: told.append("lost"))
        later(db, "b", told)
        await put(db, "c")
        assert await keys(db) == {"schema_version", "a", "b", "c"}
    assert told == ["a stored", "lost", "b stored"]


def later(db: Database, key: str, told: list[str]) -> None:
    db.later(lambda c: c.execute(MARK, [key, ""]), then=lambda: told.append(f"{key} stored"))


async def test_of_many_keys_only_those_are_read_that_no_answer_holds_for(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def values(connection: Any, missing: list[str]) -> dict[str, str]:
        asked.append(missing)
        rows = connection.execute("SELECT key, value FROM meta WHERE list_contains(?::VARCHAR[], key)", [missing])
        return dict(rows.fetchall())

    async with Database(tmp_path / "llmos.duckdb") as db:
        await put(db, "a", "1")
        await put(db, "b", "2")
        read = ("of meta", ["b", "none", "a", "b"], ("meta",), values)
        assert list((await db.read_each(*read)).items()) == [("b", "2"), ("none", None), ("a", "1")]
        assert await db.read_each("of meta", ["a", "c"], ("meta",), values) == {"a": "1", "c": None}
        assert await db.read_each("of another kind", ["a"], ("meta",), values) == {"a": "1"}
        await put(db, "none", "3")
        assert (await db.read_each(*read))["none"] == "3"

    assert asked == [["b", "none", "a"], ["c"], ["a"], ["b", "none", "a"]]


async def test_a_refused_statement_undoes_the_whole_call(tmp_path: Path) -> None:
    def twice(connection: Any) -> None:
        connection.execute(MARK, ["once", ""])
        connection.execute(MARK, ["once", ""])

    async with Database(tmp_path / "llmos.duckdb") as db:
        with pytest.raises(StorageError, match=r"llmos\.duckdb could not be read or written"):
            await db.run(twice)
        assert "once" not in await keys(db)


async def test_a_closed_memory_says_so(tmp_path: Path) -> None:
    db = Database(tmp_path / "llmos.duckdb")
    await db.open()
    await db.close()
    await db.close()
    with pytest.raises(StorageError, match="is not open"):
        await keys(db)


async def test_twenty_tasks_at_once_lose_nothing(tmp_path: Path) -> None:
    async with Database(tmp_path / "llmos.duckdb") as db:
        await asyncio.gather(*(put(db, f"{task}.{n}") for task in range(20) for n in range(5)))
        assert len(await keys(db)) == 101


async def test_a_cancelled_waiter_does_not_break_the_connection(tmp_path: Path) -> None:
    async with Database(tmp_path / "llmos.duckdb") as db:
        waiting = asyncio.create_task(put(db, "a"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await put(db, "b")
        assert "b" in await keys(db)


async def test_a_file_held_by_another_process_names_it(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    async with Database(path):
        pass
    holder = child("import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); input()", path)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DatabaseLockedError, match=rf"in use by process {holder.pid} \(.*import duckdb") as caught:
            await Database(path).open()
        assert caught.value.pid == holder.pid
        holder.communicate("\n")

    async with Database(path) as db:
        assert await keys(db)


@pytest.mark.parametrize("junk", [b"", b"hello", bytes(range(256)) * 64], ids=["empty", "short", "binary"])
async def test_a_file_of_garbage_is_named_and_left_as_it_is(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "llmos.duckdb"
    path.write_bytes(junk)
    with pytest.raises(StorageError, match=r"llmos\.duckdb is damaged or no database: `boot.py repair`"):
        await Database(path).open()
    assert path.read_bytes() == junk


async def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    async with Database(path):
        pass
    body = bytearray(path.read_bytes())
    for position in range(4096, len(body), 4096):
        body[position] ^= 0xFF
    path.write_bytes(body)
    with pytest.raises(StorageError, match="is damaged"):
        await Database(path).open()


async def test_a_write_ahead_log_without_its_database_is_not_swallowed(tmp_path: Path) -> None:
    orphan = tmp_path / "llmos.duckdb.wal"
    orphan.write_bytes(b"work of yesterday")
    with pytest.raises(StorageError, match=r"llmos\.duckdb\.wal belongs to a database that is gone"):
        await Database(tmp_path / "llmos.duckdb").open()
    assert orphan.exists()


async def test_another_duckdb_database_is_refused(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "sales.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE sales (n INTEGER)")
    with pytest.raises(StorageError, match="no memory of LLM OS"):
        await Database(path).open()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    async with Database(path) as db:
        await db.run(lambda c: c.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'") and None)
    with pytest.raises(StorageError, match=r"written by a newer LLM OS \(schema 99"):
        await Database(path).open()


async def test_a_home_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("no folder")
    with pytest.raises(StorageError, match=r"/memory can't be made \(a file stands there\)"):
        await Database(tmp_path / "memory" / "llmos.duckdb").open()


async def test_a_folder_in_the_place_of_the_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "llmos.duckdb").mkdir()
    with pytest.raises(StorageError, match=r"llmos\.duckdb"):
        await Database(tmp_path / "llmos.duckdb").open()


OPEN_UNPRIVILEGED = """
import asyncio, duckdb, os, sys
from pathlib import Path
from llmos.errors import StorageError
from llmos.memory.database import Database

if os.geteuid() == 0:
    os.setuid(65534)
try:
    asyncio.run(Database(Path(sys.argv[1])).open())
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
def test_a_memory_without_write_permission_is_one_sentence(existing: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "llmos.duckdb"
        if existing:
            asyncio.run(_open_and_close(path))
            path.chmod(0o444)
        path.parent.chmod(0o555)
        with child(OPEN_UNPRIVILEGED, path) as process:
            output = process.communicate(timeout=30)[0]
        path.parent.chmod(0o700)
    assert "llmos.duckdb can't be written: check the rights" in output


async def _open_and_close(path: Path) -> None:
    async with Database(path):
        pass


FILL = """
import asyncio, resource, sys
from pathlib import Path
from llmos.errors import StorageError
from llmos.memory.database import Database

async def main():
    async with Database(Path(sys.argv[1])) as db:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
        for n in range(10_000):
            try:
                await db.run(lambda c: c.execute("INSERT INTO meta VALUES (?, ?)", [f"row{n}", "x" * 20_000]) and None)
            except StorageError as error:
                print(error, flush=True)
                break
            print("stored", n, flush=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await db.run(lambda c: c.execute("INSERT INTO meta VALUES ('after', '')") and None)

asyncio.run(main())
"""


async def test_a_full_disk_is_one_sentence_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    async with Database(path):
        size = path.stat().st_size

    with child(FILL, path, size + 500_000) as filler:
        output = filler.communicate(timeout=60)[0].splitlines()

    assert filler.returncode == 0
    stored = {f"row{line.split()[1]}" for line in output[:-1]}
    assert stored
    assert "there is no space left for" in output[-1]
    async with Database(path) as db:
        assert await keys(db) == stored | {"schema_version", "after"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB, where this machine lets us have one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_file_system_is_one_sentence_and_keeps_what_was_acknowledged(small_disk: Path) -> None:
    stored = {"schema_version"}
    async with Database(small_disk / "llmos.duckdb") as db:
        await fill_up(db, small_disk / "others", 45_000_000, stored)
        assert await keys(db) == stored
        await fill_up(db, small_disk / "others", 24_000_000, stored)  # fails in DuckDB's checkpoint, for which it quits
        assert await keys(db) == stored
        (small_disk / "others").unlink()
        await put(db, "after")
    async with Database(small_disk / "llmos.duckdb") as db:
        assert await keys(db) == stored | {"after"}


async def fill_up(db: Database, others: Path, size: int, stored: set[str]) -> None:
    """Store rows beside a file of `size` bytes until the disk is full."""
    await asyncio.to_thread(others.write_bytes, bytes(size))
    with pytest.raises(StorageError, match="there is no space left for"):
        for n in range(len(stored), 1000):
            await put(db, f"row{n}", secrets.token_hex(50_000))
            stored.add(f"row{n}")


def test_a_disk_too_small_for_a_new_memory_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(StorageError, match="there is no space left for"):
            asyncio.run(Database(path).open())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


HAMMER = """
import asyncio, sys
from pathlib import Path
from llmos.memory.database import Database

async def main():
    async with Database(Path(sys.argv[1])) as db:
        for n in range(1_000_000):
            row = [f"{sys.argv[2]}.{n}", "x" * 300]
            await db.run(lambda c: c.execute("INSERT INTO meta VALUES (?, ?)", row) and None)
            print(row[0], flush=True)

asyncio.run(main())
"""


async def test_killing_the_writer_loses_no_acknowledged_row(tmp_path: Path) -> None:
    path = tmp_path / "llmos.duckdb"
    acknowledged: set[str] = set()
    for attempt in range(3):
        with child(HAMMER, path, attempt) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(60 + 35 * attempt)]
            writer.send_signal(signal.SIGKILL)
            lines += [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        acknowledged |= {line.strip() for line in lines}
        async with Database(path) as db:
            assert acknowledged <= await keys(db)


def test_text_that_is_no_text_is_made_storable() -> None:
    assert clean("a\udc80b 😀") == "a\ufffdb 😀"


async def test_what_needs_more_memory_than_is_allowed_is_done_with_more_and_then_that_is_over(tmp_path: Path) -> None:
    large = "SELECT sum(len(texts)) FROM (SELECT list(repeat(i::VARCHAR, 99)) AS texts FROM range(300000) s(i))"
    async with Database(tmp_path / "m.duckdb") as db:
        limit = await db.run(lambda c: c.execute("SELECT current_setting('memory_limit')").fetchone())
        await db.run(lambda c: c.execute("SET memory_limit = '20MB'") and None)
        with pytest.raises(duckdb.OutOfMemoryException), duckdb.connect(config={"memory_limit": "20MB"}) as other:
            other.execute(large).fetchall()
        tries = []

        def work(connection: Any) -> Any:
            tries.append(1)
            connection.execute("INSERT INTO meta VALUES ('once', '')")
            return connection.execute(large).fetchone()

        assert await db.run(work) == (300_000,)
        assert len(tries) == 2
        assert await db.run(lambda c: c.execute("SELECT count(*) FROM meta WHERE key = 'once'").fetchone()) == (1,)
        await db.run(lambda c: c.execute("SET memory_limit = '20MB'") and None)
        assert await db.read("large", ("meta",), lambda c: c.execute(large).fetchone()) == (300_000,)
        assert await db.run(lambda c: c.execute("SELECT current_setting('memory_limit')").fetchone()) == limit
