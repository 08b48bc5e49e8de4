"""A learner that took over from a replay, and everything was killed: it goes on from its last turn."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, calls, say, slow, usage
from tests.acceptance.test_cli_handing_over import DONE, NOTE, NOTING, query, until, write
from tests.door import Door

GOAL = (
    'Note "started" in log.txt, put the total amount by region of sales.csv into sales.md, and note "ended" in log.txt'
)
ENDING = call("note", path="log.txt", line="ended")
LEARN = (NOTING, query("amount"), write, ENDING, *DONE)
DEAR = usage(input_tokens=60_000, output_tokens=100)
TURN_USD = 0.12
MOST_USD = 1.0
SLOW_NOTE = NOTE.replace("def note", "async def note").replace(
    "    return",
    "    import asyncio, pathlib\n    await asyncio.sleep(10.0 * pathlib.Path('SLOW').exists())\n    return",
)


_STORED_S = 1.5
"""By then the session holds what its model has just said; nobody beside its process can look."""


class House:
    """A door with a learned trace behind it, which diverges now, and the learner's turns once it takes over."""

    def __init__(self, door: Door) -> None:
        self.door, self.delay_s = door, 0.3
        self.taken: tuple[Any, ...] = ()
        self.server = ScriptedServer(self._turn).start()
        door.env |= {**self.server.env(door.user), "LLMOS_DAEMON": "0"}
        (door.home / "plugins").mkdir(parents=True)
        self.is_slow = door.folder / "slow"
        (door.home / "plugins" / "note.py").write_text(SLOW_NOTE.replace("SLOW", str(self.is_slow)))
        (door.home / "llmos.yaml").write_text("learner: {max_usd_per_run: 5.0, guided_max_usd: 5.0}\n")
        self.sales("amount", 10, 5)
        assert door.json(GOAL)["mode"] == "learner"
        self.sales("price", 7, 1)
        self.before_usd = float(door.json("battery", "show")["spent_usd"])

    def _turn(self, request: Request) -> Turn:
        is_over = "You go on from exactly there" in request.prompt
        turns = self.taken if is_over else LEARN
        turn = turns[min(len(request.tool_results), len(turns) - 1)]
        made = turn(request) if callable(turn) else turn
        return slow(self.delay_s, calls(made, usage=DEAR)) if is_over else made

    @property
    def asked(self) -> list[Request]:
        return [one for one in self.server.conversation if "You go on from exactly there" in one.prompt]

    def sales(self, column: str, north: int, south: int) -> None:
        (self.door.workspace / "sales.csv").write_text(f"region,{column}\nNorth,{north}\nSouth,{south}\n")

    def read(self, name: str) -> str:
        return (self.door.workspace / name).read_text()

    def left(self) -> int | None:
        found = self.door.json("ps")["processes"]
        return int(found[0]["pid"]) if found else None


@pytest.fixture
def house(door: Door) -> Iterator[House]:
    made = House(door)
    yield made
    made.server.stop()


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=60)


def test_it_is_offered_and_goes_on_from_its_last_turn(house: House) -> None:
    house.taken = (NOTING, call("note", path="log.txt", line="mine"), query("price"), write, ENDING, *DONE)
    house.delay_s = 3.0
    process = house.door.start(GOAL)
    until(lambda: len(house.asked) == 3)
    time.sleep(_STORED_S)
    killed(process)
    told = house.door("Calculate 2 + 3")
    (left,) = house.door.json("ps")["processes"]
    assert f"`resume {left['pid']}` goes on with it" in told.stderr
    assert (left["state"], left["mode"], left["goal"]) == ("suspended", "follower+learner", GOAL)
    house.delay_s = 0.0
    done = house.door("resume", str(left["pid"]))
    assert (done.returncode, done.stdout) == (0, "Wrote sales.md\n"), done.stderr
    assert house.read("log.txt") == "started\nended\nstarted\nmine\nended\n"
    run = house.door.json("runs", "show", left["run_id"])
    assert (run["status"], run["mode"]) == ("done", "follower+learner")
    assert [(step["tool"], step["origin"]) for step in run["steps"]] == [
        ("note", "replayed"),
        ("query_data", "replayed"),
        ("note", "recorded"),
        ("note", "learner"),
        ("query_data", "learner"),
        ("write", "learner"),
        ("note", "learner"),
    ]
    assert run["handover"]["step_id"] == "query_data"
    assert len(house.asked) == 3 + 1 + len(house.taken) - 3
    assert house.door.json("ps")["processes"] == []


def test_killed_before_the_first_answer_it_is_told_anew_what_was_done(house: House) -> None:
    house.taken = (NOTING, query("price"), write, ENDING, *DONE)
    house.delay_s = 5.0
    process = house.door.start(GOAL)
    until(lambda: len(house.asked) == 1)
    killed(process)
    house.delay_s = 0.0
    done = house.door("resume", str(house.left()))
    assert (done.returncode, done.stdout) == (0, "Wrote sales.md\n"), done.stderr
    assert "It stopped at [query_data]." in house.asked[-1].prompt
    assert "rejoin is not there any more" in house.asked[-1].prompt
    assert house.read("log.txt") == "started\nended\nstarted\nended\n"


def test_a_rest_that_was_being_replayed_is_not_replayed_twice(house: House) -> None:
    fixed = call("write", file_path="sales.csv", content="region,amount\nNorth,7\nSouth,1\n")
    house.taken = (fixed, call("rejoin", step="query_data"), say("Wrote sales.md"))
    process = house.door.start(GOAL)
    until(lambda: len(house.asked) == 1)
    house.is_slow.touch()  # the first note is over by then
    until(lambda: house.read("log.txt").count("ended") == 2)
    time.sleep(_STORED_S)
    killed(process)
    house.is_slow.unlink()
    done = house.door("resume", str(house.left()))
    assert (done.returncode, done.stdout) == (0, "Wrote sales.md\n"), done.stderr
    told = house.asked[-1].tool_results[-1].text
    assert "it can't be replayed again" in told
    assert "- write" in told
    assert 'The call note {"path": "log.txt", "line": "ended"} may or may not have happened' in told
    assert house.read("log.txt") == "started\nended\nstarted\nended\n"
    assert "North | 7" in house.read("sales.md")
    run = house.door.json("runs", "show", "last")
    assert (run["status"], run["handover"]["rejoined"]) == ("done", "query_data")
    assert "not kept as a trace: what a call gave was lost" in run["reason"]


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_points_nothing_is_done_twice_and_the_bill_is_right(house: House, seed: int) -> None:
    house.taken = (NOTING, call("note", path="log.txt", line="mine"), query("price"), write, ENDING, *DONE)
    rng, kills, words = random.Random(seed), 0, [GOAL]
    for _ in range(3):
        asked = len(house.asked)
        process = house.door.start(*words)
        until(lambda asked=asked, process=process: len(house.asked) > asked or process.poll() is not None)  # type: ignore[misc]
        time.sleep(rng.uniform(0.0, 2.0))
        killed(process)
        kills += 1
        pid = house.left()
        if pid is None:
            break
        words = ["resume", str(pid)]
    if len(words) == 2 and house.left() is not None:
        done = house.door(*words)
        assert done.returncode == 0, done.stderr
    (run, *_) = house.door.json("runs", "list", "--solved-by", "follower+learner")["runs"]
    battery = house.door.json("battery", "show")
    assert (run["status"], run["answer"]) == ("done", "Wrote sales.md"), run["reason"]
    assert house.read("log.txt") == "started\nended\nstarted\nmine\nended\n"
    assert battery["reserved_usd"] == 0
    assert battery["spent_usd"] - house.before_usd == pytest.approx(run["cost_usd"])
    assert (len(house.asked) - kills - 2) * TURN_USD <= run["cost_usd"] + 1e-6
    assert run["cost_usd"] <= (len(house.asked) + 1) * TURN_USD + kills * MOST_USD
    assert house.door("audit", "verify").returncode == 0
