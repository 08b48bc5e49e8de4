"""Goals as processes, as somebody in a second terminal sees them: listed, stopped, hurried, ended, awaited."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.door import Door, assert_sentence, assert_told

WAIT_S = 60.0

NAP = """\
import asyncio

from plugins import llm_tool


async def nap(seconds: str) -> str:
    await asyncio.sleep(float(seconds))
    return f"slept {seconds} s"


async def cling(seconds: str) -> str:
    until = asyncio.get_running_loop().time() + float(seconds)
    while (left := until - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            pass
    return f"clung for {seconds} s"


llm_tool("nap", "Sleep a little.", {"seconds": str}, effect="read", version="1")(nap)
llm_tool("cling", "Sleep, and hear nothing.", {"seconds": str}, effect="read", version="1")(cling)
"""
CLING = """\
format: 1
id: cling
goals: ["Cling for {n} s"]
slots: {n: number}
steps:
  - {id: cling, tool: cling, args: {seconds: "${{ n }}"}, effect: read}
  - {id: nap, tool: nap, args: {seconds: "0"}, effect: read}
answer: "${{ steps.cling.text }}"
"""
STEPS = "".join(f'  - {{id: s{n}, tool: nap, args: {{seconds: "${{{{ n }}}}"}}, effect: read}}\n' for n in range(200))
TRACE = (
    "format: 1\nid: nap-often\ngoals: ['Nap {n} s again and again']\nslots: {n: number}\n"
    f'steps:\n{STEPS}answer: "${{{{ steps.s0.text }}}}"\n'
)


@pytest.fixture
def home(door: Door) -> Iterator[Door]:
    """A door whose commands go through a resident kernel, with a trace of two hundred naps."""
    door.env["LLMOS_DAEMON"] = "1"
    (door.home / "plugins").mkdir(parents=True)
    (door.home / "plugins" / "nap.py").write_text(NAP)
    (door.workspace / "nap.yaml").write_text(TRACE.replace(".text", ""))
    assert door("traces", "import", "nap.yaml", "--trust").returncode == 0
    yield door
    door("down", "--now")


def processes(door: Door, *args: str) -> dict[int, dict[str, Any]]:
    return {one["pid"]: one for one in door.json("ps", *args)["processes"]}


def spawned(door: Door, goal: str, *args: str) -> int:
    (process,) = door.json("spawn", goal, *args)["processes"]
    return int(process["pid"])


def until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def test_what_another_terminal_does_is_seen_with_its_state_and_ended_from_here(home: Door) -> None:
    other = home.start("Nap 0.2 s again and again")
    ((pid, told),) = until(lambda: processes(home)).items()
    assert (told["goal"], told["state"], told["priority"], told["class"]) == (
        "Nap 0.2 s again and again",
        "running",
        10,
        "user",
    )
    assert home("kill", str(pid)).stdout == f"process {pid} is ended\n"
    out, err = other.communicate(timeout=WAIT_S)
    assert_told(subprocess.CompletedProcess(other.args, other.returncode, out, err), 1, f"process {pid} was killed")
    assert processes(home) == {}
    ended = processes(home, "--all")[pid]
    assert (ended["state"], ended["why"]) == ("terminated", "killed")
    shown = home.json("runs", "show", ended["run_id"])
    assert (shown["status"], shown["reason"]) == ("interrupted", "killed")
    assert_sentence(home("kill", str(pid)), 2, f"process {pid} has ended (killed)")


def test_what_can_not_be_broken_off_is_said_to_be_ending(home: Door) -> None:
    (home.workspace / "cling.yaml").write_text(CLING)
    assert home("traces", "import", "cling.yaml", "--trust").returncode == 0
    pid = spawned(home, "Cling for 14 s")
    until(lambda: processes(home)[pid]["steps"])
    told = home("kill", str(pid)).stdout
    assert told.startswith(f"process {pid} is being ended: ")
    assert "`ps` lists it until then" in told
    assert processes(home)[pid]["state"] == "running"
    assert home("wait", str(pid)).returncode == 1
    assert processes(home, "--all")[pid]["why"] == "killed"


def test_a_goal_in_the_background_goes_on_when_its_command_is_over_and_is_waited_for(home: Door) -> None:
    pid = spawned(home, "Calculate 2 + 3")
    done = home("wait", str(pid))
    assert (done.returncode, done.stdout) == (
        0,
        f"process {pid}: done (run {processes(home, '--all')[pid]['run_id']})\n",
    )
    run = processes(home, "--all")[pid]["run_id"]
    assert home.json("runs", "show", run)["answer"] == "5"
    failed = spawned(home, "Count the lines of missing.txt")
    assert_told(home("wait", str(failed)), 1, f"process {failed} ended without reaching its goal (failed)")


def test_a_suspended_goal_stands_still_until_it_is_resumed(home: Door) -> None:
    pid = spawned(home, "Nap 0.01 s again and again")
    until(lambda: processes(home)[pid]["steps"] > 2)
    assert home("suspend", str(pid)).returncode == 0
    until(lambda: processes(home)[pid]["state"] == "suspended")
    steps = processes(home)[pid]["steps"]
    time.sleep(0.5)
    assert processes(home)[pid]["steps"] == steps
    assert_sentence(home("suspend", "99"), 2, "no process 99")
    assert home("resume", str(pid)).returncode == 0
    assert home("wait", str(pid)).returncode == 0
    assert processes(home, "--all")[pid]["steps"] == 200
    assert_sentence(home("resume", str(pid)), 2, f"process {pid} has ended (done)")


def test_one_slot_is_shared_by_turns_and_the_urgent_goal_is_through_first(home: Door) -> None:
    (home.home / "llmos.yaml").write_text("scheduler: {max_concurrent: 1}\n")
    home("down")
    low = spawned(home, "Nap 0.05 s again and again", "--priority", "19")
    until(lambda: processes(home)[low]["steps"])
    high = spawned(home, "Nap 0.02 s again and again", "--priority", "0")
    assert home("wait", str(high)).returncode == 0
    left = processes(home)[low]
    assert left["steps"] < 100  # it had a few turns meanwhile, of 200
    assert home.json("nice", str(low), "0")["processes"][0]["priority"] == 0
    assert_sentence(home("nice", str(low), "20"), 2, "20")
    home("kill", str(low))


def test_processes_are_found_by_what_they_mean(home: Door) -> None:
    nap = spawned(home, "Nap 0.3 s again and again")
    spawned(home, "Calculate 2 + 3")
    found = home.json("ps", "--all", "--like", "sleeping many times")["processes"]
    assert found[0]["pid"] == nap
    assert found[0]["like"] > found[1]["like"]
    home("kill", str(nap))


def test_the_kernel_ends_when_what_is_in_the_background_has_ended(home: Door) -> None:
    pid = spawned(home, "Nap 0.01 s again and again")
    run = processes(home)[pid]["run_id"] or until(lambda: processes(home)[pid]["run_id"])
    assert home("down").returncode == 0
    assert home.json("runs", "show", run)["status"] == "done"
    pid = spawned(home, "Nap 0.5 s again and again")
    run = until(lambda: processes(home)[pid]["run_id"])
    until(lambda: processes(home)[pid]["steps"])
    assert home("down", "--now").returncode == 0
    assert home.json("runs", "show", run)["status"] == "interrupted"


def test_words_that_are_no_numbers_make_a_goal_of_it(home: Door) -> None:
    done = home("top", "5", "customers", "of", "sales.csv", "--mode", "follow")
    assert "no trace is proven for this goal" in done.stderr
    assert "no goal is at work" in home("top").stderr
    assert json.loads(home("top", "--json").stdout) == {"processes": []}


def test_without_a_kernel_nothing_is_left_in_the_background(door: Door) -> None:
    assert_sentence(door("spawn", "Calculate 2 + 3"), 2, "needs the resident kernel")
    assert "no goal is at work" in door("ps").stderr


def test_a_budget_and_urgency_are_lent_for_a_time(home: Door) -> None:
    rich = spawned(home, "Nap 0.3 s again and again", "--budget", "1", "--priority", "2")
    poor = spawned(home, "Nap 0.2 s again and again", "--budget", "0.1", "--class", "specialist")
    told = home.json("lend", str(rich), "0.5", "--to", str(poor), "--for", "1.5")["processes"]
    assert [(one["budget_left_usd"], one["priority"]) for one in told] == [(0.5, 2), (0.6, 2)]
    until(lambda: processes(home)[poor]["priority"] == 10)
    assert (processes(home)[rich]["budget_left_usd"], processes(home)[poor]["budget_left_usd"]) == (1.0, 0.1)
    assert_sentence(home("lend", str(rich), "2", "--to", str(poor)), 3, "only $1.0000 of the budget is left")
    assert_sentence(home("lend", str(rich), "1", "--to", str(rich)), 2, "can't lend to itself")
    home("kill", str(rich), str(poor))


def test_what_a_process_says_is_there_for_learners_only(home: Door) -> None:
    pid = spawned(home, "Calculate 2 + 3")
    home("wait", str(pid))
    said = home("logs", str(pid))
    assert said.returncode == 0
    assert "has said nothing" in said.stderr
    assert_sentence(home("logs", "99"), 2, "no process 99")


def test_a_word_from_a_person_lies_in_a_mailbox_and_is_dead_when_its_process_is(home: Door) -> None:
    pid = spawned(home, "Nap 0.2 s again and again")
    (sent,) = home.json("send", str(pid), "Use", "tabs", "--priority", "3")["messages"]
    assert (sent["sender"], sent["receiver"], sent["payload"], sent["priority"]) == (0, pid, "Use tabs", 3)
    assert home("mail", str(pid)).stdout.count("Use tabs") == 1
    assert [one["state"] for one in home.json("mail", str(pid))["messages"]] == ["waiting"]
    home("kill", str(pid))
    (dead,) = until(lambda: [one for one in home.json("mail")["messages"] if one["state"] == "dead"])
    assert (dead["id"], dead["why"]) == (sent["id"], "its receiver had ended")
    assert_sentence(home("send", str(pid), "Too", "late"), 2, f"process {pid} has ended (killed)")
    assert_sentence(home("send", str(spawned(home, "Nap 0.1 s again and again")), " "), 2, "the message is empty")


@pytest.mark.parametrize("words", [["send", "the", "report", "to", "Ada"], ["mail", "the", "report"], ["send"]])
def test_words_that_no_process_is_sent_are_a_goal(door: Door, words: list[str]) -> None:
    said = door(*words, "--mode", "follow")
    assert said.returncode == 6, said.stderr
    assert "no trace is proven for this goal" in said.stderr
