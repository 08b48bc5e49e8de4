"""Goals that nobody types: schedules and watches of a real kernel, through kills and restarts, and what costs what."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, say, slow
from tests.door import ROOT, Door, assert_sentence

WAIT_S = 60.0


@pytest.fixture
def home(door: Door) -> Iterator[Door]:
    """A door whose commands go through a resident kernel, which is ended after the test."""
    door.env["LLMOS_DAEMON"] = "1"
    yield door
    door("down", "--now")


def until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def shown(door: Door, kind: str, number: int) -> dict[str, Any]:
    found: dict[str, Any] = door.json(kind, "show", str(number))[kind]
    return found


def kernel(door: Door) -> int:
    return int(door.json("status")["pid"])


def runs(door: Door) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = door.json("runs", "list", "--limit", "1000")["runs"]
    return found


def test_a_schedule_fires_a_shipped_trace_for_nothing_and_survives_a_kill_of_its_kernel(home: Door) -> None:
    assert "schedule 1: next at" in home("schedule", "add", "every 2 seconds", "Calculate 2 + 3").stdout
    until(lambda: shown(home, "schedule", 1)["runs"] >= 2)
    before = kernel(home)
    os.kill(before, signal.SIGKILL)
    known = shown(home, "schedule", 1)  # which starts another kernel
    assert kernel(home) != before
    found = until(
        lambda: (
            (one := shown(home, "schedule", 1))
            and one["runs"] > known["runs"] + 1
            and one["last_status"] == "done"
            and one
        )
    )
    assert (found["state"], found["last_status"], found["last_said"]) == ("active", "done", "5")
    assert found["spent_usd"] == 0.0
    home("schedule", "pause", "1")
    time.sleep(0.5)
    done = [run for run in runs(home) if run["goal"] == "Calculate 2 + 3"]
    fired = shown(home, "schedule", 1)["runs"]
    assert fired - 1 <= len(done) <= fired  # one may have been killed before it was more than an intent
    assert {run["cost_usd"] for run in done} == {0.0}
    raised = home.json("interrupts", "--all")["interrupts"]
    due = [one["payload"]["due"] for one in raised]
    assert len(due) == len(set(due))
    assert home.json("interrupts")["interrupts"] == []


def test_a_kernel_with_a_schedule_does_not_end_for_idleness(home: Door) -> None:
    home.home.mkdir(parents=True, exist_ok=True)
    (home.home / "llmos.yaml").write_text("daemon: {idle_s: 1}\n")
    home("schedule", "add", "every 1 hours", "Calculate 2 + 3")
    first = kernel(home)
    assert "schedules and watches are kept (1)" in home("status").stdout
    time.sleep(4)
    assert kernel(home) == first
    home("schedule", "remove", "1")
    until(lambda: "no resident kernel runs" in home("status").stdout)


def test_a_goal_that_needs_a_model_fails_with_a_sentence_and_is_paused_in_the_end(home: Door) -> None:
    with ScriptedServer([say("Nobody may ask me.")]) as server:
        home.env |= server.env(home.user)
        home("schedule", "add", "every 1 seconds", "Frobnicate the gadget")
        found = until(lambda: (one := shown(home, "schedule", 1))["state"] == "paused" and one)
        assert server.unused == 1
    assert "5 runs in a row failed" in found["reason"]
    assert "it would need a model, and may not learn" in found["last_said"]
    assert found["spent_usd"] == 0.0
    assert {run["status"] for run in runs(home)} == {"failed"}
    assert home("schedule", "continue", "1").returncode == 0


def writes(request: Request) -> Turn:
    made = [call("write", file_path="poem.txt", content="roses\n"), call("finish", answer="written"), say("written")]
    return made[min(len(request.tool_results), 2)]


def test_a_schedule_that_may_learn_pays_once_and_is_followed_from_then_on(home: Door) -> None:
    with ScriptedServer(writes) as server:
        home.env |= server.env(home.user)
        home("up")
        done = home("schedule", "add", "every 3 seconds", "Write roses into poem.txt", "--may-learn", "--budget", "1")
        assert done.returncode == 0, done.stderr
        found = until(lambda: (one := shown(home, "schedule", 1))["runs"] >= 3 and one)
    assert found["failures"] == 0
    paid = [run for run in runs(home) if run["mode"] == "learner"]
    assert len(paid) == 1
    assert found["spent_usd"] == pytest.approx(paid[0]["cost_usd"])
    assert (home.workspace / "poem.txt").read_text() == "roses\n"


def test_another_terminal_tells_a_goal_something_and_sees_that_it_was_delivered(home: Door) -> None:
    def turn(request: Request) -> Turn:
        done = call("finish", answer="x")
        turns: list[Turn] = [slow(4, call("write", file_path="a.txt", content="x")), done, say("x")]
        return turns[min(len(request.tool_results), 2)]

    with ScriptedServer(turn) as server:
        home.env |= server.env(home.user)
        home("up")
        (process,) = home.json("spawn", "Write x into a.txt")["processes"]
        pid = str(process["pid"])
        until(lambda: home.json("ps")["processes"][0]["mode"] == "learner")
        assert home("tell", pid, "Write", "it", "large").stdout == f"process {pid} is told at its next turn\n"
        assert [one["kind"] for one in home.json("interrupts")["interrupts"]] == ["user"]
        assert home("wait", pid).returncode == 0
        told = [result.told for request in server.conversation for result in request.tool_results]
    assert any(text.endswith("Write it large") for text in told)
    (said,) = home.json("interrupts", "--all")["interrupts"]
    assert said["delivered_at"] is not None
    (run,) = [run for run in runs(home) if run["mode"] == "learner"]
    assert run["trace_id"] is None
    assert_sentence(home("tell", pid, "Too late"), 2, f"process {pid} has ended (done)")


def test_a_schedule_runs_in_the_folder_it_was_added_in(home: Door) -> None:
    (home.workspace / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 15))
    added = home("schedule", "add", "--at", at, "--timezone", "UTC", "Count lines in rows.csv")
    assert added.returncode == 0, added.stderr
    elsewhere = home.folder / "elsewhere"
    elsewhere.mkdir()
    home.workspace = elsewhere
    found = until(lambda: (one := shown(home, "schedule", 1))["last_status"] not in ("", "running") and one)
    assert (found["state"], found["last_status"], found["last_said"]) == ("over", "done", "3")


def test_a_watch_is_served_once_for_each_change_and_not_for_its_own_writing(home: Door) -> None:
    sales = home.workspace / "sales.csv"
    sales.write_text("a,b\n1,2\n")
    home("watch", "add", ".", "Convert sales.csv to sales.json")
    sales.write_text("a,b\n1,2\n3,4\n")
    until(lambda: shown(home, "watch", 1)["last_status"] == "done")
    assert len(json.loads((home.workspace / "sales.json").read_text())) == 2
    time.sleep(4)
    assert shown(home, "watch", 1)["runs"] == 1
    sales.write_text("a,b\n1,2\n3,4\n5,6\n")
    until(lambda: shown(home, "watch", 1)["runs"] == 2)
    until(lambda: len(json.loads((home.workspace / "sales.json").read_text())) == 3)
    assert home("watch", "remove", "1").stdout == "watch 1 is removed\n"
    sales.write_text("a,b\n")
    time.sleep(2)
    assert "nothing is watched" in home("watch", "list").stderr
    assert len(runs(home)) == 2


def test_a_change_right_after_watch_add_is_served(home: Door) -> None:
    home("up")
    for number in range(1, 4):
        folder = home.workspace / str(number)
        folder.mkdir()
        for deep in range(300):
            (folder / f"d{deep}").mkdir()
        assert home("watch", "add", str(number), "Calculate 2 + 3").returncode == 0
        (folder / "d299" / "a.txt").write_text("1")
        until(lambda: shown(home, "watch", number)["last_status"] == "done")  # noqa: B023


def test_a_watched_folder_that_is_gone_is_listed_so_and_served_again_when_it_is_back(home: Door) -> None:
    inbox = home.workspace / "inbox"
    inbox.mkdir()
    home("watch", "add", "inbox", "Count lines in {path}")
    inbox.rmdir()
    until(lambda: "active (gone)" in home("watch", "list").stdout)
    told = home("watch", "list")
    assert f"watch 1: {inbox} is gone; it is watched again once it is back" in told.stderr
    assert home.json("watch", "list")["watches"][0]["sight"] == "gone"
    home("down")
    home.env["LLMOS_DAEMON"] = "0"
    assert "active (gone)" in home("watch", "list").stdout  # also where no kernel looks
    home.env["LLMOS_DAEMON"] = "1"
    home("up")
    until(lambda: "active (gone)" in home("watch", "list").stdout)
    inbox.mkdir()
    (inbox / "a.txt").write_text("1\n2\n")
    found = until(lambda: (one := shown(home, "watch", 1))["last_status"] == "done" and one)
    assert (found["runs"], found["last_said"]) == (1, "2")
    assert home("watch", "list").stderr == ""


def test_a_folder_above_the_home_is_watched_and_what_the_kernel_writes_is_no_change(home: Door) -> None:
    assert home("watch", "add", str(home.folder), "Calculate 2 + 3").returncode == 0
    (home.folder / "a.txt").write_text("1")
    until(lambda: shown(home, "watch", 1)["last_status"] == "done")
    time.sleep(4)
    assert shown(home, "watch", 1)["runs"] == 1


@pytest.mark.parametrize("daemon", ["0", "1"])
def test_what_is_too_large_to_be_watched_is_refused(home: Door, daemon: str) -> None:
    home.env["LLMOS_DAEMON"] = daemon
    assert_sentence(home("watch", "add", "/", "Calculate 2 + 3"), 2, "/ holds more than", "name one below it")
    assert "nothing is watched" in home("watch", "list").stderr


def test_files_that_are_left_out_for_their_names_are_told_of(home: Door) -> None:
    home("watch", "add", ".", "Count lines in {path}")
    (home.workspace / "it's.txt").write_text("1\n")
    (home.workspace / "plain.txt").write_text("1\n")
    until(lambda: shown(home, "watch", 1)["last_status"] == "done")
    told = until(lambda: (one := home("watch", "list")) and one.stderr and one)
    assert "watch 1: 1 file left out, whose name can't stand in a goal: " in told.stderr
    assert "it's.txt" in told.stderr
    assert "it's.txt" in (home.home / "memory" / "kernel.log").read_text()


def test_new_code_is_run_by_the_same_kernel_so_that_schedules_go_on(home: Door, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "llmos", copy / "llmos", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "boot.py", copy)
    home.home.mkdir(parents=True, exist_ok=True)
    (home.home / "llmos.yaml").write_text("daemon: {idle_s: 2}\n")
    program = [sys.executable, str(copy / "boot.py")]

    def do(*args: str) -> Any:
        done = subprocess.run(
            [*program, *args, "--json"],
            cwd=home.workspace,
            env=home.env,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )
        return json.loads(done.stdout)

    do("schedule", "add", "every 1 seconds", "Calculate 2 + 3")
    first = do("status")
    (copy / "llmos" / "interfaces" / "added.py").write_text('"""New."""\n')
    again = until(lambda: (now := do("status")).get("up_s", 99.0) < first["up_s"] + 0.5 and now.get("orders") and now)
    assert again["pid"] == first["pid"]
    known = do("schedule", "show", "1")["schedule"]["runs"]
    until(lambda: do("schedule", "show", "1")["schedule"]["runs"] > known)
    subprocess.run([*program, "down", "--now"], cwd=home.workspace, env=home.env, timeout=WAIT_S)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("schedule", "add", "now and then", "Calculate 2 + 3"), "says no times"),
        (("schedule", "add", "every 5 minutes"), "when?"),
        (("schedule", "add", "--cron", "1 2 3", "Calculate 2 + 3"), "five fields"),
        (("schedule", "add", "--at", "2020-01-01T00:00", "Calculate 2 + 3"), "is over"),
        (("schedule", "add", "--at", "soon", "Calculate 2 + 3"), "is no time"),
        (("schedule", "add", "every 5 minutes", "x", "--timezone", "Mars/Base"), "no time zone"),
        (("schedule", "add", "every 5 minutes", "x", "--budget", "1"), "needs --may-learn"),
        (("schedule", "remove", "7"), "no schedule 7"),
        (("watch", "add", "nowhere", "Calculate 2 + 3"), "is not there"),
        (("watch", "continue", "7"), "no watch 7"),
        (("tell", "7", "Hello"), "no process 7"),
    ],
)
def test_what_can_not_be_is_one_sentence(door: Door, args: tuple[str, ...], told: str) -> None:
    assert_sentence(door(*args), 2, told)


@pytest.mark.parametrize("goal", ["watch the folder", "schedule a meeting", "tell me a joke"])
def test_words_that_fit_no_command_are_a_goal(door: Door, goal: str) -> None:
    assert "no trace is proven for this goal" in door(*goal.split(), "--mode", "follow").stderr


def test_without_a_kernel_an_order_is_stored_and_whoever_gave_it_is_told(door: Door) -> None:
    done = door("schedule", "add", "every day at 9:00", "Calculate 2 + 3")
    assert "nobody keeps the time until a resident kernel runs" in done.stderr
    assert shown(door, "schedule", 1)["cron"] == "0 9 * * *"
