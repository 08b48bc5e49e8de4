"""A replay that is handed over, as a user sees it: the command line, the real CLI of the learner, a scripted server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, say, slow
from tests.door import Door

GOAL = 'Note "started" in log.txt, then put the total amount by region of sales.csv into sales.md'
SQL = "SELECT region, sum({}) AS total FROM data GROUP BY region ORDER BY region"
NOTE = """\
from plugins import llm_tool

@llm_tool("note", "Append a line to a file", {"path": str, "line": str}, effect="write", open_world=False, version="1")
def note(ctx, path: str, line: str) -> dict:
    with ctx.resolve(path, write=True).open("a") as file:
        file.write(line + "\\n")
    return {"text": f"noted {line}"}
"""
NOTING = call("note", path="log.txt", line="started")


def query(column: str) -> Turn:
    return call("query_data", sql=SQL.format(column), files={"data": "sales.csv"}, format="markdown")


def write(request: Request) -> Turn:
    text = json.loads(request.tool_results[-1].text.split("<system-reminder>")[0])["text"]
    return call("write", file_path="sales.md", content=text)


DONE = (call("finish", answer="Wrote sales.md"), say("Wrote sales.md"))
LEARN = (NOTING, query("amount"), write, *DONE)


class House:
    """A door with a learned trace behind it, and the learner's turns once it takes over."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.taken: tuple[Any, ...] = ()
        self.server = ScriptedServer(self._turn).start()
        door.env |= self.server.env(door.user)
        (door.home / "plugins").mkdir(parents=True)
        (door.home / "plugins" / "note.py").write_text(NOTE)
        self.sales("amount", 10, 5)
        assert door.json(GOAL)["mode"] == "learner"
        self.sales("price", 7, 1)

    def _turn(self, request: Request) -> Turn:
        turns = self.taken if "You go on from exactly there" in request.prompt else LEARN
        turn = turns[min(len(request.tool_results), len(turns) - 1)]
        made: Turn = turn(request) if callable(turn) else turn
        return made

    def sales(self, column: str, north: int, south: int) -> None:
        (self.door.workspace / "sales.csv").write_text(f"region,{column}\nNorth,{north}\nSouth,{south}\n")

    def read(self, name: str) -> str:
        return (self.door.workspace / name).read_text()


@pytest.fixture
def house(door: Door) -> Iterator[House]:
    made = House(door)
    yield made
    made.server.stop()


def until(happened: Callable[[], bool], within_s: float = 100.0) -> None:
    end = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_the_learner_goes_on_and_the_run_tells_the_story(house: House) -> None:
    house.taken = (NOTING, query("price"), write, *DONE)
    told = house.door.json("-v", GOAL)
    shown = house.door("runs", "show", "last").stdout
    again = house.door.json(GOAL)
    assert (told["mode"], told["status"], told["answer"]) == ("follower+learner", "done", "Wrote sales.md")
    assert [step["origin"] for step in told["steps"]] == ["replayed", "replayed", "recorded", "learner", "learner"]
    lines = [line.strip() for line in shown.splitlines()]
    label = told["trace_id"].replace("@2", "@1")
    at = [lines.index(f"replayed from {label}"), lines.index("the learner went on")]
    assert at == sorted(at)
    assert lines[at[1] - 1].startswith("diverged at [query_data]: expected a result, found Binder Error")
    assert any(line.startswith("not done again, it gave: ") for line in lines)
    assert (again["mode"], again["cost_usd"], again["trace_id"]) == ("follower", 0.0, told["trace_id"])
    assert house.read("log.txt") == "started\n" * 3
    listed = house.door.json("runs", "list", "--solved-by", "follower+learner")["runs"]
    assert [run["id"] for run in listed] == [told["run_id"]]


def test_only_following_never_asks_the_learner(house: House) -> None:
    asked = len(house.server.conversation)
    done = house.door("--mode", "follow", GOAL, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["mode"], len(house.server.conversation)) == (1, "follower", asked)
    assert "1 step before it had changed things already, so nothing more was done" in told["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_the_middle_keeps_what_was_done_and_nothing_goes_on_by_itself(
    house: House, number: signal.Signals
) -> None:
    house.taken = (call("note", path="log.txt", line="mine"), slow(90, say("too late")))
    asked = len(house.server.conversation)
    process = house.door.start(GOAL)
    try:
        until(lambda: "mine" in house.read("log.txt") and len(house.server.conversation) >= asked + 2)
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
    run = house.door.json("runs", "show", "last")
    assert (run["status"], run["mode"]) == ("interrupted", "follower+learner")
    assert [(step["tool"], step["origin"]) for step in run["steps"]] == [
        ("note", "replayed"),
        ("query_data", "replayed"),
        ("note", "learner"),
    ]
    assert run["handover"]["step_id"] == "query_data"
    assert run["cost_usd"] > 0
    assert house.read("log.txt") == "started\nstarted\nmine\n"
    assert len(house.door.json("traces", "versions", run["handover"]["trace"].split("@")[0])["versions"]) == 1
