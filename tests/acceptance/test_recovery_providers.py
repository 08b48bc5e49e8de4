"""Learners of other providers after a kernel was killed: they go on from their last turn, and repeat nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("pydantic_ai")

from llmos.testing import Request, ScriptedServer, Turn, calls, say, slow, usage
from llmos.testing.turns import ToolCall
from tests.acceptance.killing import RING, RINGS, kill_kernel, killed_at_random, rings, until
from tests.acceptance.test_recovery import only
from tests.acceptance.test_secrets import Traces, own
from tests.door import Door, assert_sentence

GOAL = "Ring the bell four times"
TURN_USD = 0.101  # 100,000 tokens sent at $1 a million, 100 received at $10
ANSWER_USD = 0.32  # the longest answer there can be
BIG = usage(input_tokens=100_000, output_tokens=100)
TOKEN = "own-S3cret/Value+of=this&app" + "q" * 12


def ringing(request: Request) -> Turn:
    """A ring a turn, each numbered, then the end; ids count from 0 in each answer, as some servers have it."""
    done = len(request.tool_results)
    delay_s = 3.0 if "slowly" in request.prompt else 0.3
    if done < RINGS:
        return slow(delay_s, calls(ToolCall(name="ring", arguments={"times": str(done)}, id="call_0"), usage=BIG))
    if "in words" in request.prompt:
        return say("Rang.", usage=BIG)
    return calls(ToolCall(name="finish", arguments={"answer": "Rang."}, id="call_0"), usage=BIG)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(ringing) as running:
        yield running


@pytest.fixture
def home(door: Door, server: ScriptedServer) -> Iterator[Door]:
    """A door to a resident kernel whose model is a server of the user's own, with a bell that can't be unrung."""
    door.env |= {"LLMOS_DAEMON": "1", "HOME": str(door.user), "APP_TOKEN": TOKEN}
    (door.home / "plugins").mkdir(parents=True)
    bell = RING.replace("BELL", str(door.workspace / "bell.txt")).replace(
        'f"rang {times}"', f'f"rang {{times}} {TOKEN}"'
    )
    (door.home / "plugins" / "ring.py").write_text(bell)
    (door.home / "llmos.yaml").write_text(
        f"servers: {{mine: {{base_url: '{server.openai_url}'}}}}\nmodels: {{learner: 'mine:m'}}\nsecrets: [APP_TOKEN]\n"
        "prices: {m: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 10.0}}\n"
        "permissions: {rules: [{allow: ring, effect: external, tainted: true}]}\nlearner: {max_usd_per_run: 6.0}\n"
    )
    yield door
    door("down", "--now")


def spawned(door: Door, *more: str, goal: str = GOAL) -> int:
    return int(door.json("spawn", goal, *more)["processes"][0]["pid"])


def finished(door: Door, pid: int) -> dict[str, object]:
    """The run of a process that was waited for, which went well."""
    done = door("wait", str(pid))
    (run,) = [one for one in door.json("runs", "list")["runs"] if "Ring" in one["goal"]]
    assert done.returncode == 0, (done.stderr, run)
    return dict(door.json("runs", "show", run["id"]))


@pytest.mark.parametrize("goal", [GOAL, f"{GOAL} and say so in words"])
def test_what_was_running_is_offered_and_goes_on_from_its_last_turn(
    home: Door, server: ScriptedServer, goal: str
) -> None:
    pid = spawned(home, goal=goal)
    until(lambda: len(rings(home)) == 2)
    asked = len(server.conversation)
    kill_kernel(home)
    told = home("Calculate 2 + 3")
    assert told.stdout == "5\n"
    assert f"`resume {pid}` goes on with it" in told.stderr
    assert (only(home)["state"], only(home)["goal"]) == ("suspended", goal)
    assert only(home)["cost_usd"] >= TURN_USD
    assert home("resume", str(pid)).returncode == 0
    run = finished(home, pid)
    assert rings(home) == ["0", "1", "2", "3"]
    assert len(server.conversation) <= asked + 1 + (RINGS - 2) + 1
    assert (run["status"], run["answer"]) == ("done", "Rang.")
    assert [step["tool"] for step in run["steps"]] == ["ring"] * RINGS  # type: ignore[attr-defined]
    assert home.json("ps")["processes"] == []


def test_the_model_reads_on_where_it_was(home: Door, server: ScriptedServer) -> None:
    pid = spawned(home, goal=f"{GOAL} slowly")
    until(lambda: len(server.conversation) == 3)
    kill_kernel(home)
    assert home("resume", str(pid)).returncode == 0
    finished(home, pid)
    last = server.conversation[-1]
    assert [one.text.split()[1] for one in last.tool_results] == ["0", "1", "2", "3"]
    assert len({one.id for one in last.tool_results}) == RINGS
    assert last.prompt == server.conversation[0].prompt
    assert last.system == server.conversation[0].system


@pytest.mark.parametrize("how", ["kill", "down"])
def test_what_is_suspended_outlives_its_kernel(home: Door, server: ScriptedServer, how: str) -> None:
    pid = spawned(home)
    until(lambda: rings(home))
    assert home("suspend", str(pid)).returncode == 0
    until(lambda: only(home)["state"] == "suspended")
    spent_usd, asked, rung = only(home)["cost_usd"], len(server.conversation), rings(home)
    assert spent_usd == pytest.approx(asked * TURN_USD)
    if how == "kill":
        kill_kernel(home)
    else:
        assert home("down").returncode == 0
    process = only(home)
    assert (process["pid"], process["state"]) == (pid, "suspended")
    assert process["cost_usd"] == pytest.approx(spent_usd)
    assert (len(server.conversation), rings(home)) == (asked, rung)
    assert home("resume", str(pid)).returncode == 0
    run = finished(home, pid)
    assert rings(home) == ["0", "1", "2", "3"]
    assert run["cost_usd"] == pytest.approx((RINGS + 1) * TURN_USD)
    assert len(server.conversation) == RINGS + 1  # no turn was paid for twice
    assert home.json("battery", "show")["spent_usd"] == pytest.approx(run["cost_usd"])


def test_suspended_and_resumed_in_one_kernel_it_asks_nobody_meanwhile(home: Door, server: ScriptedServer) -> None:
    pid = spawned(home)
    until(lambda: rings(home))
    assert home("suspend", str(pid)).returncode == 0
    until(lambda: only(home)["state"] == "suspended")
    asked = len(server.conversation)
    time.sleep(1.0)
    assert len(server.conversation) == asked
    assert home("resume", str(pid)).returncode == 0
    finished(home, pid)
    assert rings(home) == ["0", "1", "2", "3"]
    assert len(server.conversation) == RINGS + 1


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_points_nothing_is_done_twice_and_the_bill_is_right(
    home: Door, server: ScriptedServer, seed: int
) -> None:
    kills, run = killed_at_random(home, server, spawned(home), seed)
    asked, battery = len(server.conversation), home.json("battery", "show")
    steps = home.json("runs", "show", run["id"])["steps"]
    unknown = [step["args"]["times"] for step in steps if "nobody knows" in str(step["output"])]
    assert sorted({*rings(home), *unknown}) == ["0", "1", "2", "3"]  # of what was cut off a person decides
    assert battery["spent_usd"] == pytest.approx(run["cost_usd"])
    # a request that was broken off costs more than nothing, and not more than the longest answer to it may
    assert (asked - kills) * TURN_USD <= battery["spent_usd"] + 1e-6
    assert battery["spent_usd"] <= asked * TURN_USD + kills * (TURN_USD + ANSWER_USD)
    assert home("audit", "verify").returncode == 0


def test_without_a_kernel_it_goes_on_in_front(home: Door) -> None:
    home.env["LLMOS_DAEMON"] = "0"
    process = home.start(GOAL)
    until(lambda: len(rings(home)) == 2)
    process.kill()
    process.communicate()
    (left,) = home.json("ps")["processes"]
    done = home("resume", str(left["pid"]))
    assert (done.returncode, done.stdout) == (0, "Rang.\n"), done.stderr
    assert rings(home) == ["0", "1", "2", "3"]


def test_what_has_spent_what_it_may_is_not_begun_again(home: Door, server: ScriptedServer) -> None:
    pid = spawned(home, "--budget", "0.5", goal=f"{GOAL} slowly")
    until(lambda: len(server.conversation) == 3)
    kill_kernel(home)
    process = only(home)
    assert process["cost_usd"] == pytest.approx(home.json("battery", "show")["spent_usd"])
    assert process["budget_left_usd"] == 0
    assert_sentence(home("resume", str(pid)), 3, str(pid))
    assert len(rings(home)) == 2
    assert home("kill", str(pid)).returncode == 0


def test_a_secret_that_a_tool_gave_is_in_no_file_while_the_conversation_is_kept(
    home: Door, server: ScriptedServer
) -> None:
    pid = spawned(home)
    until(lambda: len(rings(home)) == 2)
    kill_kernel(home)
    found = Traces(home).leaks(own(TOKEN))
    kept = json.dumps([row for place, row in Traces(home).places() if place == "table session_lines"], default=repr)
    assert "rang 0" in kept
    assert {place for place, _ in found} <= {str(home.home / "plugins" / "ring.py")}  # where the user wrote it
    assert home("resume", str(pid)).returncode == 0
    finished(home, pid)
    assert TOKEN not in json.dumps([request.body for request in server.conversation])
