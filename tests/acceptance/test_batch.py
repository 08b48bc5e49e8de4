"""`batch`: many goals from a file, told in lines of JSON, gone on with after a break."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.door import Door, assert_sentence

GOALS = [f"Calculate {number} + 1" for number in range(1, 31)]


@pytest.fixture(params=["0", "1"], ids=["alone", "resident"])
def home(door: Door, request: pytest.FixtureRequest) -> Any:
    door.env["LLMOS_DAEMON"] = request.param
    yield door
    door("down", "--now")


def goals(door: Door, *lines: str, name: str = "goals.jsonl") -> Path:
    path = door.workspace / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def results(door: Door, name: str = "goals.jsonl.results.jsonl") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (door.workspace / name).read_text().splitlines()]
    return sorted((row for row in rows if row["status"] != "begun"), key=lambda row: int(row["line"]))


def test_each_goal_has_a_line_with_its_answer_and_the_summary_counts_them(home: Door) -> None:
    goals(home, *(json.dumps({"goal": goal, "id": f"n{number}"}) for number, goal in enumerate(GOALS)))
    done = home("batch", "goals.jsonl", "--jobs", "5")
    assert (done.returncode, done.stdout) == (0, "")
    assert "30 goals: 30 follower" in done.stderr
    rows = results(home)
    assert [(row["goal"], row["id"], row["answer"]) for row in rows] == [
        (goal, f"n{number}", str(number + 2)) for number, goal in enumerate(GOALS)
    ]
    stored = home.json("runs", "list", "--limit", "100")["runs"]
    assert {run["id"] for run in stored} == {row["run_id"] for row in rows}


def test_a_goal_may_stand_alone_as_a_string_or_with_its_mode(home: Door) -> None:
    goals(home, "Calculate 1 + 1", '"Calculate 1 + 2"', "", '{"goal": "Calculate 1 + 3", "mode": "follow"}')
    told = home.json("batch", "goals.jsonl")
    assert (told["goals"], told["modes"], told["failed"], told["cost_usd"]) == (3, {"follower": 3}, 0, 0.0)
    assert [(row["line"], row["answer"]) for row in results(home)] == [(1, "2"), (2, "3"), (4, "4")]


def test_what_is_done_is_not_done_again_and_what_failed_is_tried_again(home: Door) -> None:
    goals(home, "Calculate 1 + 1", "Count lines in later.txt")
    done = home("batch", "goals.jsonl")
    assert done.returncode == 1
    assert "1 of 2 goals failed" in done.stderr
    failed = results(home)[1]
    assert (failed["status"], failed["exit_code"]) == ("failed", 1)
    assert "later.txt" in failed["error"]
    (home.workspace / "later.txt").write_text("one\ntwo\n")
    told = home.json("batch", "goals.jsonl")
    assert (told["done_before"], told["modes"], told["failed"]) == (1, {"follower": 1}, 0)
    assert home.json("batch", "goals.jsonl")["done_before"] == 2
    assert len([run for run in home.json("runs", "list")["runs"] if run["goal"] == "Calculate 1 + 1"]) == 1


def test_a_changed_line_is_another_goal(home: Door) -> None:
    goals(home, "Calculate 1 + 1", "Calculate 2 + 2")
    home("batch", "goals.jsonl")
    goals(home, "Calculate 1 + 1", "Calculate 2 + 3")
    assert home.json("batch", "goals.jsonl")["done_before"] == 1
    assert [row["answer"] for row in results(home)] == ["2", "4", "5"]


def test_after_a_kill_it_goes_on_and_nothing_that_writes_is_done_twice(door: Door) -> None:
    names = [f"part{number}.csv" for number in range(12)]
    for name in names:
        (door.workspace / name).write_text("a,b\n1,2\n")
    goals(door, *(f"Convert {name} to out/{name[:-4]}.json" for name in names))
    process = door.start("batch", "goals.jsonl", "--jobs", "3")
    out = door.workspace / "out"
    deadline = time.monotonic() + 60
    while not (out.is_dir() and len(list(out.iterdir())) >= 4):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    left = door.workspace / "goals.jsonl.results.jsonl"
    left.write_bytes(left.read_bytes() + b'{"key": "cut off')
    again = door("batch", "goals.jsonl", "--jobs", "3")
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name[:-4]}.json" for name in names), again.stderr
    rows = results(door)
    assert len({row["line"] for row in rows if row["status"] == "done"}) + sum(
        row["status"] == "failed" for row in rows
    ) >= len(names)
    written = door.json("journal", "list", "--limit", "1000")["effects"]
    effects = [entry for entry in written if entry["outcome"] == "done"]
    done = [file["path"] for entry in effects for file in entry["files"] if file["path"].endswith(".json")]
    assert len(done) == len(set(done))


STAMPING = """
import asyncio

from plugins import FileWrite, ToolContext, llm_tool


async def stamp(ctx: ToolContext, path: str) -> str:
    with ctx.resolve(path, write=True).open("a") as stream:
        stream.write("stamped\\n")
    return "stamped"


async def wait(ctx: ToolContext) -> str:
    while (ctx.workspace / "hold").exists():
        await asyncio.sleep(0.05)
    return "waited"


llm_tool("stamp", "Stamp.", {"path": str}, effect="write", version="1",
         writes=lambda ctx, arguments: [FileWrite(path=ctx.resolve(arguments["path"]))])(stamp)
llm_tool("wait", "Wait.", {}, effect="read", version="1")(wait)
"""
STAMPED = """\
format: 1
id: stamp-it
goals: ["Stamp {path}"]
slots: {path: path}
steps:
  - {id: stamp, tool: stamp, args: {path: "${{ path }}"}, effect: write}
  - {id: wait, tool: wait, args: {}, effect: read}
"""


def test_a_run_broken_off_after_an_effect_is_not_done_again_until_it_is_undone(door: Door) -> None:
    (door.home / "plugins").mkdir(parents=True)
    (door.home / "plugins" / "stamping.py").write_text(STAMPING)
    trace, stamped, hold = door.folder / "stamp.yaml", door.workspace / "a.txt", door.workspace / "hold"
    trace.write_text(STAMPED)
    assert door("traces", "import", str(trace), "--trust").returncode == 0
    hold.touch()
    goals(door, "Stamp a.txt")
    process = door.start("batch", "goals.jsonl", "--yes")
    deadline = time.monotonic() + 60
    while not stamped.exists():
        assert process.poll() is None, results(door)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.5)  # the effect's outcome is on record
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    hold.unlink()
    for _ in range(2):
        assert door("batch", "goals.jsonl", "--yes").returncode == 1
        row = results(door)[-1]
        assert (row["status"], row["run_id"] in row["error"]) == ("failed", True)
        assert "broken off after it had changed something" in row["error"]
        assert stamped.read_text() == "stamped\n"
    assert door("undo", row["run_id"], "--yes").returncode == 0
    assert not stamped.exists()
    assert door.json("batch", "goals.jsonl", "--yes")["failed"] == 0
    assert stamped.read_text() == "stamped\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"gaol": "x"}', "line 2 has the key 'gaol'; goal, mode and id are known"),
        ('{"id": 1}', "line 2 has no goal"),
        ('{"goal": "x", "mode": "sideways"}', "line 2: mode must be one of auto, follow, learn"),
        ('{"goal": "x"', "line 2 is not JSON"),
        ('{"goal": 5}', "line 2 has no goal"),
        ('{"goal": "  "}', "line 2: "),
        ('{"goal": "x", "id": [1]}', "line 2: id must be"),
    ],
)
def test_a_line_that_is_no_goal_is_named_before_anything_is_done(door: Door, line: str, said: str) -> None:
    goals(door, "Calculate 1 + 1", line)
    assert_sentence(door("batch", "goals.jsonl"), 2, "goals.jsonl", said)
    assert not (door.workspace / "goals.jsonl.results.jsonl").exists()
    assert not door.home.exists()


def test_files_that_can_not_be_used_are_told_in_a_sentence(door: Door) -> None:
    assert_sentence(door("batch", "missing.jsonl"), 2, "missing.jsonl can't be read")
    goals(door, "", name="empty.txt")
    assert_sentence(door("batch", "empty.txt"), 2, "holds no goal")
    assert_sentence(door("batch", "-", stdin="Calculate 1 + 1\n"), 2, "--out FILE")
    goals(door, "Calculate 1 + 1")
    (door.workspace / "notes.txt").write_text("my notes\n")
    assert_sentence(door("batch", "goals.jsonl", "--out", "notes.txt"), 2, "line 1 is no result of a batch")
    assert (door.workspace / "notes.txt").read_text() == "my notes\n"
    assert_sentence(door("batch", "goals.jsonl", "--out", "no/where.jsonl"), 2, "no/where.jsonl can't be written")
    assert door("batch", "-", "--out", "out.jsonl", stdin="Calculate 1 + 1\n").returncode == 0
    assert results(door, "out.jsonl")[0]["answer"] == "2"


def test_two_batches_do_not_share_their_results(door: Door) -> None:
    import fcntl

    goals(door, "Calculate 1 + 1")
    with (door.workspace / "r.jsonl").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert_sentence(door("batch", "goals.jsonl", "--out", "r.jsonl"), 2, "another batch is writing to r.jsonl")
    assert door("batch", "goals.jsonl", "--out", "r.jsonl").returncode == 0
    assert_sentence(door("batch", "goals.jsonl", "--out", "/dev/full"), 2, "/dev/full is no file")


def test_results_are_kept_in_a_file_and_nowhere_else(home: Door) -> None:
    goals(home, "Calculate 2 + 3")
    assert_sentence(home("batch", "goals.jsonl", "--out", "-"), 2, "results are kept in a file")
    assert not (home.workspace / "-").exists()
