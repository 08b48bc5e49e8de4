"""Watches in a real database and a real file system: what is served, what is not, and what is said of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import llmos
from llmos.kernel.watched import Seen, folders_below, too_large
from llmos.orders import Job, Watch
from llmos.resident.watcher import FIRST_GAP_S, KNOWN_S, signature, spelled
from tests.contract.house import GOAL, NOON, House


@pytest.fixture
async def watch(house: House) -> AsyncIterator[Watch]:
    """A watch of the workspace for each file that changes."""
    job = Job(goal="Count lines in {path}", workspace=str(house.workspace))
    found = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(house.workspace)))
    keeping = asyncio.create_task(house.keeper.run())
    assert await house.home.sight.first(found.id, 20) == Seen()
    yield found
    keeping.cancel()
    await asyncio.wait({keeping})


async def _until(what: Any) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_goal_begins_for_each_file_that_changes(house: House, watch: Watch) -> None:
    (house.workspace / "a.txt").write_text("1")
    (house.workspace / "b c.txt").write_text("1")
    (house.workspace / "folder").mkdir()
    await _until(lambda: len(house.done) == 2)
    assert {goal for goal, _ in house.done} == {"Count lines in a.txt", 'Count lines in "b c.txt"'}
    await house.quiet()
    assert (await house.home.watches.get(watch.id)).runs == 2


async def test_what_changes_while_its_own_run_is_at_work_is_served_after_it(house: House, watch: Watch) -> None:
    house.gate.clear()
    (house.workspace / "a.txt").write_text("1")
    await _until(lambda: house.done)
    (house.workspace / "b.txt").write_text("1")
    await asyncio.sleep(1.0)
    assert len(house.done) == 1
    house.gate.set()
    await _until(lambda: len(house.done) == 2)
    assert house.done[1][0] == "Count lines in b.txt"


async def test_a_watch_of_one_file_sees_it_replaced(house: House) -> None:
    file = house.workspace / "a.txt"
    file.write_text("1")
    job = Job(goal=GOAL, workspace=str(house.workspace))
    one = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(file)))
    keeping = asyncio.create_task(house.keeper.run())
    assert await house.home.sight.first(one.id, 20) == Seen()
    (house.workspace / "other.txt").write_text("1")
    await asyncio.sleep(1.0)
    assert house.done == []
    (house.workspace / "other.txt").replace(file)
    await _until(lambda: house.done)
    await asyncio.sleep(FIRST_GAP_S + 0.3)
    (house.workspace / "new.txt").write_text("2")
    (house.workspace / "new.txt").replace(file)
    await _until(lambda: len(house.done) == 2)
    keeping.cancel()
    await asyncio.wait({keeping})


def _word(house: House, number: int) -> str | None:
    seen = house.home.sight.of(number)
    return None if seen is None else seen.word


def _served(house: House) -> set[str]:
    return {goal.removeprefix("Count lines in ") for goal, _ in house.done}


@pytest.mark.parametrize("how", ["removed", "moved away"])
async def test_a_folder_that_is_gone_is_told_of_and_served_again_when_it_is_back(
    house: House, watch: Watch, how: str
) -> None:
    if how == "removed":
        shutil.rmtree(house.workspace)
    else:
        house.workspace.rename(house.workspace.with_name("away"))
    await _until(lambda: _word(house, watch.id) == "gone")
    house.workspace.mkdir()
    (house.workspace / "with.txt").write_text("it was there before anybody looked again")
    await _until(lambda: "with.txt" in _served(house))
    assert _word(house, watch.id) == ""
    (house.workspace / "after.txt").write_text("1")
    await _until(lambda: "after.txt" in _served(house))
    assert len(house.done) == 2


async def test_a_folder_that_is_made_again_at_once_is_served_too(house: House, watch: Watch) -> None:
    shutil.rmtree(house.workspace)
    house.workspace.mkdir()
    (house.workspace / "a.txt").write_text("1")
    await _until(lambda: house.done)
    (house.workspace / "b.txt").write_text("1")
    await _until(lambda: _served(house) == {"a.txt", "b.txt"})


async def test_what_did_not_change_while_its_folder_was_away_is_not_served(house: House, watch: Watch) -> None:
    (house.workspace / "old.txt").write_text("1")
    await _until(lambda: house.done)
    away = house.workspace.with_name("away")
    house.workspace.rename(away)
    await _until(lambda: _word(house, watch.id) == "gone")
    await asyncio.sleep(KNOWN_S)
    (away / "new.txt").write_text("1")
    away.rename(house.workspace)
    await _until(lambda: "new.txt" in _served(house))
    await asyncio.sleep(FIRST_GAP_S)
    assert [goal for goal, _ in house.done] == ["Count lines in old.txt", "Count lines in new.txt"]


async def test_a_folder_that_is_not_there_yet_is_watched_once_it_is(house: House) -> None:
    job = Job(goal=GOAL, workspace=str(house.workspace))
    place = house.workspace / "later"
    one = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(place)))
    keeping = asyncio.create_task(house.keeper.run())
    await house.home.sight.first(one.id, 20)
    assert _word(house, one.id) == "gone"
    place.mkdir()
    await _until(lambda: _word(house, one.id) == "")
    (place / "a.txt").write_text("1")
    await _until(lambda: house.done)
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_files_that_come_with_their_folder_are_served(house: House, watch: Watch) -> None:
    made = house.workspace.with_name("made")
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "a.txt").write_text("1")
    (made / "b.txt").write_text("1")
    made.rename(house.workspace / "made")
    await _until(lambda: len(house.done) == 2)
    assert _served(house) == {"made/deep/a.txt", "made/b.txt"}


async def test_a_name_that_can_not_stand_in_a_goal_is_told_of_also_after_the_next_run(
    house: House, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    (house.workspace / "it's.txt").write_text("1")
    (house.workspace / "plain.txt").write_text("1")
    await _until(lambda: house.done)
    await house.quiet()
    found = await house.home.watches.get(watch.id)
    assert (found.runs, found.last_status, found.left_out) == (1, "done", 1)
    assert "it's.txt" in found.note
    assert "can't stand in a goal" in found.note
    assert "it's.txt" in caplog.text


async def test_a_name_that_is_no_text_is_told_of_and_keeps_nobody_from_being_served(house: House, watch: Watch) -> None:
    (house.workspace / os.fsdecode(b"\xff.txt")).write_text("1")
    (house.workspace / "plain.txt").write_text("1")
    await _until(lambda: house.done)
    (house.workspace / "after.txt").write_text("1")
    await _until(lambda: _served(house) == {"plain.txt", "after.txt"})
    await house.quiet()
    assert (await house.home.watches.get(watch.id)).left_out == 1


async def test_a_folder_is_watched_whatever_the_folders_above_it_are_called(house: House) -> None:
    place = house.workspace / "node_modules" / "own"
    (place / "node_modules").mkdir(parents=True)
    job = Job(goal="Count lines in {path}", workspace=str(place))
    one = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(place)))
    keeping = asyncio.create_task(house.keeper.run())
    await house.home.sight.first(one.id, 20)
    (place / "node_modules" / "theirs.txt").write_text("1")
    (place / "a.txt").write_text("1")
    await _until(lambda: house.done)
    await asyncio.sleep(FIRST_GAP_S)
    assert _served(house) == {"a.txt"}
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_what_is_written_to_the_memory_is_no_change_also_through_a_link(house: House) -> None:
    (house.workspace / "link").symlink_to(house.home.settings.home)
    one = await house.home.watches.add(
        Watch(job=Job(goal=GOAL, workspace=str(house.workspace)), created_at=NOON, path=str(house.workspace))
    )
    keeping = asyncio.create_task(house.keeper.run())
    await house.home.sight.first(one.id, 20)
    (house.workspace / "a.txt").write_text("1")
    await _until(lambda: house.done)
    await asyncio.sleep(3 * FIRST_GAP_S)
    assert len(house.done) == 1
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_a_watch_that_is_too_large_says_so(house: House) -> None:
    job = Job(goal=GOAL, workspace=str(house.workspace))
    one = await house.home.watches.add(Watch(job=job, created_at=NOON, path="/"))
    keeping = asyncio.create_task(house.keeper.run())
    seen = await house.home.sight.first(one.id, 20)
    assert seen is not None
    assert (seen.word, seen.said) == ("not watched", too_large(Path("/")))
    assert "too many to be watched" in seen.said
    keeping.cancel()
    await asyncio.wait({keeping})


WATCHING = """
import asyncio, sys
from pathlib import Path
from llmos.orders import Job, Watch
from tests.contract.house import NOON, House
from tests.contract.test_watches import _until

async def main():
    house = House(Path(sys.argv[1]))
    async with house.home:
        job = Job(goal="Count lines in {path}", workspace=str(house.workspace))
        one = await house.home.watches.add(Watch(job=job, created_at=NOON, path=str(house.workspace)))
        keeping = asyncio.create_task(house.keeper.run())
        print(await house.home.sight.first(one.id, 30), flush=True)
        (house.workspace / "new").mkdir()
        for name in sys.argv[2:]:
            (house.workspace / name).write_text("1")
        await _until(lambda: len(house.done) == len(sys.argv) - 2)
        (house.workspace / "new" / "later.txt").write_text("1")
        await _until(lambda: len(house.done) == len(sys.argv) - 1)
        print(sorted(goal for goal, _ in house.done), flush=True)
        keeping.cancel()
        await asyncio.wait({keeping})

asyncio.run(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may write, with a `work` in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        yield folder


def _watching(folder: Path, *names: str, by: Sequence[str], lines: int) -> list[str]:
    """What a process that may do less than this one tells first of watching `work`, and of files written there."""
    child = subprocess.Popen(
        [*by, sys.executable, "-c", textwrap.dedent(WATCHING), str(folder), *names],
        env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1]), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    assert child.stdout is not None
    with child.stdout as told:
        found = [told.readline().rstrip() for _ in range(lines)]
    child.kill()
    child.wait()
    return found


def test_a_folder_that_is_closed_to_us_hides_no_other_one(open_folder: Path) -> None:
    numbers = range(6)
    for number in numbers:
        (open_folder / "work" / str(number)).mkdir()
    by: list[str] = []
    if os.geteuid() == 0:
        by = ["setpriv", "--reuid", "65534", "--clear-groups"]
        if subprocess.run([*by, sys.executable, "-c", "import pytest"], capture_output=True, check=False).returncode:
            pytest.skip("nobody else can read this environment")
        for one in (open_folder, *open_folder.rglob("*")):
            os.chown(one, 65534, -1)
    (open_folder / "work" / "3").chmod(0)
    told = _watching(open_folder, *(f"{number}/a.txt" for number in numbers if number != 3), by=by, lines=2)
    (open_folder / "work" / "3").chmod(0o700)
    goals = [f"Count lines in {number}/a.txt" for number in numbers if number != 3]
    assert told == [str(Seen()), str([*goals, "Count lines in new/later.txt"])]


def test_where_the_system_watches_no_more_folders_that_is_said(open_folder: Path) -> None:
    for number in range(50):
        (open_folder / "work" / str(number)).mkdir()
    limit = "echo 20 > /proc/sys/user/max_inotify_watches && exec unshare -Ur"
    by = ["unshare", "-Ur", "sh", "-c", f'{limit} "$@"', "sh"]
    if subprocess.run([*by, "true"], capture_output=True).returncode != 0:
        pytest.skip("no right to set a limit")
    (told,) = _watching(open_folder, "a.txt", by=by, lines=1)
    assert "can't be watched: the system watches no more folders" in told


def test_folders_are_counted_as_their_links_lead_to_them_and_not_in_a_circle(tmp_path: Path) -> None:
    top, other = tmp_path / "top", tmp_path / "other"
    (top / "a" / "b").mkdir(parents=True)
    (other / "c").mkdir(parents=True)
    (top / "a" / "circle").symlink_to(top)
    (top / "beside").symlink_to(other)
    found = {os.path.relpath(one, top) for one in folders_below(top)}
    assert found == {".", "a", "a/b", "beside", "beside/c"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a\u2028b", None),
        ("a\x85b", None),
        ("a\udcffb", None),
        ("a/b-1.csv", "a/b-1.csv"),
        ("b c.csv", '"b c.csv"'),
        ("x; delete all.csv", '"x; delete all.csv"'),
        ('a" and delete "b', None),
        ("a\nb", None),
        ("it's.csv", None),
    ],
)
def test_a_name_stands_in_a_goal_as_a_name_or_not_at_all(path: str, expected: str | None) -> None:
    assert spelled(path) == expected


def test_a_file_that_is_gone_has_no_signature(tmp_path: Path) -> None:
    assert signature(str(tmp_path / "gone")) is None
