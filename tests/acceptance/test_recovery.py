"""Processes after a kernel was killed: what was running is offered, goes on from its last turn, and repeats nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, calls, slow, usage
from tests.acceptance.killing import RING, RINGS, kill_kernel, killed_at_random, rings, until
from tests.door import Door, assert_sentence
from tests.lab import finishing, steps

TURN_USD = 0.2012  # of the tokens below, with the default model
MOST_USD = 1.0  # more than any request here may cost, with an answer as long as can be
BIG = usage(input_tokens=100_000, output_tokens=100)


def ringing(request: Request) -> Turn:
    """A ring a turn, each numbered, then the end."""
    is_slow = "slowly" in str(request.body["messages"][0])
    turns = [slow(3.0 if is_slow else 0.3, calls(call("ring", times=str(n)), usage=BIG)) for n in range(RINGS)]
    return steps(*turns, *finishing("Rang."))(request)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(ringing) as running:
        yield running


@pytest.fixture
def home(door: Door, server: ScriptedServer) -> Iterator[Door]:
    """A door to a resident kernel whose model is scripted, with a bell that can't be unrung."""
    door.env |= {**server.env(door.user), "LLMOS_DAEMON": "1", "HOME": str(door.user)}
    (door.home / "plugins").mkdir(parents=True)
    (door.home / "plugins" / "ring.py").write_text(RING.replace("BELL", str(door.workspace / "bell.txt")))
    (door.home / "llmos.yaml").write_text(
        "permissions: {rules: [{allow: ring, effect: external, tainted: true}]}\nlearner: {max_usd_per_run: 6.0}\n"
    )
    yield door
    door("down", "--now")


def only(door: Door) -> dict[str, Any]:
    (process,) = [one for one in door.json("ps", "--all")["processes"] if "Ring" in one["goal"]]
    return dict(process)


def test_what_was_running_is_offered_and_goes_on_from_its_last_turn(home: Door, server: ScriptedServer) -> None:
    pid = home.json("spawn", "Ring the bell four times")["processes"][0]["pid"]
    until(lambda: len(rings(home)) == 2)
    asked = len(server.conversation)
    kill_kernel(home)
    told = home("Calculate 2 + 3")
    assert told.stdout == "5\n"
    assert f"`resume {pid}` goes on with it" in told.stderr
    assert "resume" not in home("Calculate 2 + 3").stderr  # it is said once
    process = only(home)
    assert (process["pid"], process["state"], process["goal"]) == (pid, "suspended", "Ring the bell four times")
    assert process["cost_usd"] >= TURN_USD
    assert home("resume", str(pid)).returncode == 0
    done = home("wait", str(pid))
    assert done.returncode == 0, done.stderr
    assert rings(home) == ["0", "1", "2", "3"]
    assert len(server.conversation) <= asked + 1 + (RINGS + len(finishing("")) - 2)
    lines = home("logs", str(pid), "--follow").stdout.splitlines()
    assert [line[:16] for line in lines if line.startswith("ring gave")][-1] == "ring gave rang 3"
    run = home.json("runs", "show", process["run_id"])
    assert (run["status"], run["answer"]) == ("done", "Rang.")
    assert [step["tool"] for step in run["steps"]] == ["ring"] * RINGS
    assert home.json("ps")["processes"] == []


def test_what_is_not_gone_on_with_is_forgotten_by_kill(home: Door) -> None:
    pid = home.json("spawn", "Ring the bell four times")["processes"][0]["pid"]
    until(lambda: rings(home))
    kill_kernel(home)
    assert home("kill", str(pid)).returncode == 0
    kill_kernel(home)
    assert pid not in {process["pid"] for process in home.json("ps", "--all")["processes"]}


def clis(door: Door) -> list[str]:
    """The Claude CLIs that work in the workspace of a door."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            is_cli = entry.name.isdigit() and b"_bundled/claude" in (entry / "cmdline").read_bytes()
            if is_cli and (entry / "cwd").resolve() == door.workspace.resolve():
                found.append(entry.name)
    return found


def test_what_kill_says_is_ended_has_ended_and_its_cli_is_gone(home: Door, server: ScriptedServer) -> None:
    pid = home.json("spawn", "Ring the bell four times slowly")["processes"][0]["pid"]
    until(lambda: server.conversation and clis(home))
    done = home("kill", str(pid))
    left = clis(home)
    assert done.stdout == f"process {pid} is ended\n"
    assert left == []
    assert home.json("ps")["processes"] == []


def test_times_and_counts_are_those_of_the_whole_life(home: Door) -> None:
    pid = home.json("spawn", "Ring the bell four times slowly")["processes"][0]["pid"]
    known = until(lambda: (one := only(home))["steps"] and one)
    for rung in (2, 3):
        until(lambda: len(rings(home)) >= rung)  # noqa: B023
        before = only(home)
        kill_kernel(home)
        left = only(home)
        assert left["created_at"] == known["created_at"]
        assert left["age_s"] >= before["age_s"]
        assert left["steps"] >= before["steps"] >= rung - 1
        assert left["turns"] >= before["turns"] >= rung - 1
        assert left["tokens_in"] >= before["tokens_in"] > 0
        assert left["slot_s"] > 0
        assert home("resume", str(pid)).returncode == 0
    assert home("wait", str(pid)).returncode == 0
    ended = only(home)
    assert (ended["created_at"], ended["steps"], ended["turns"]) == (known["created_at"], RINGS, RINGS)
    assert ended["age_s"] > left["age_s"]
    assert ended["tokens_in"] > left["tokens_in"]


def test_a_suspended_process_outlives_an_orderly_end_of_its_kernel(home: Door) -> None:
    pid = home.json("spawn", "Ring the bell four times")["processes"][0]["pid"]
    until(lambda: rings(home))
    assert home("suspend", str(pid)).returncode == 0
    until(lambda: only(home)["state"] == "suspended")
    spent_usd = only(home)["cost_usd"]
    assert home("down").returncode == 0
    process = only(home)
    assert (process["pid"], process["state"]) == (pid, "suspended")
    assert process["cost_usd"] == pytest.approx(spent_usd)
    assert home("resume", str(pid)).returncode == 0
    assert home("wait", str(pid)).returncode == 0
    assert rings(home) == ["0", "1", "2", "3"]


def test_what_can_not_go_on_now_stays_as_it_is(home: Door) -> None:
    pid = home.json("spawn", "Ring the bell four times")["processes"][0]["pid"]
    until(lambda: rings(home))
    kill_kernel(home)
    key = home.env.pop("ANTHROPIC_API_KEY")
    refused = home("resume", str(pid))
    assert refused.returncode == 5
    assert "no Claude key or login was found" in refused.stderr
    assert only(home)["state"] == "suspended"
    home.env["ANTHROPIC_API_KEY"] = key
    here = home.workspace.rename(home.folder / "elsewhere")
    workspace, home.workspace = home.workspace, home.folder
    assert_sentence(home("resume", str(pid)), 2, f"the workspace {workspace} of process {pid} is gone")
    assert only(home)["state"] == "suspended"
    here.rename(workspace)
    home.workspace = workspace
    assert home("resume", str(pid)).returncode == 0
    assert home("wait", str(pid)).returncode == 0


def test_what_stands_still_has_cost_what_it_has_cost(home: Door, server: ScriptedServer) -> None:
    pid = home.json("spawn", "Ring the bell four times")["processes"][0]["pid"]
    until(lambda: rings(home))
    assert home("suspend", str(pid)).returncode == 0
    until(lambda: only(home)["state"] == "suspended")
    until(lambda: only(home)["cost_usd"] == pytest.approx(len(server.conversation) * TURN_USD, abs=0.01))
    time.sleep(0.5)
    kill_kernel(home)
    assert only(home)["cost_usd"] == pytest.approx(len(server.conversation) * TURN_USD, abs=0.01)


def test_without_a_kernel_it_goes_on_in_front(home: Door) -> None:
    home.env["LLMOS_DAEMON"] = "0"
    process = home.start("Ring the bell four times")
    until(lambda: len(rings(home)) == 2)
    process.kill()
    process.communicate()
    (left,) = home.json("ps")["processes"]
    done = home("resume", str(left["pid"]))
    assert (done.returncode, done.stdout) == (0, "Rang.\n"), done.stderr
    assert rings(home) == ["0", "1", "2", "3"]
    assert home.json("ps")["processes"] == []


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_points_nothing_is_done_twice_and_the_bill_is_right(
    home: Door, server: ScriptedServer, seed: int
) -> None:
    pid = home.json("spawn", "Ring the bell four times")["processes"][0]["pid"]
    kills, run = killed_at_random(home, server, pid, seed)
    asked = sum(len(request.tool_results) < RINGS for request in server.conversation)
    battery = home.json("battery", "show")
    assert battery["spent_usd"] == pytest.approx(run["cost_usd"])
    assert (asked - kills) * TURN_USD <= battery["spent_usd"] + 1e-6
    assert battery["spent_usd"] <= (asked + 1) * TURN_USD + kills * MOST_USD
    assert home("audit", "verify").returncode == 0


def test_down_does_not_wait_for_what_comes_to_stand_still_after_it(home: Door, server: ScriptedServer) -> None:
    pid = home.json("spawn", "Ring the bell four times slowly")["processes"][0]["pid"]
    until(lambda: server.conversation)
    assert home("suspend", str(pid)).returncode == 0  # while the model still thinks
    assert home("down").returncode == 0
    process = only(home)
    assert (process["pid"], process["state"]) == (pid, "suspended")
    assert home("resume", str(pid)).returncode == 0
    assert home("wait", str(pid)).returncode == 0
    assert rings(home) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("how", ["kill", "down"])
def test_a_request_that_is_broken_off_is_not_free(home: Door, server: ScriptedServer, how: str) -> None:
    """What was sent of it is charged at least, up to what it may hold at most."""
    pid = home.json("spawn", "Ring the bell four times slowly")["processes"][0]["pid"]
    until(lambda: len(server.conversation) == 2)
    assert home("kill", str(pid)).returncode == 0 if how == "kill" else home("down", "--now").returncode == 0
    until(lambda: home.json("battery", "show")["reserved_usd"] == 0)
    (run,) = [one for one in home.json("runs", "list")["runs"] if "Ring" in one["goal"]]
    assert 2 * TURN_USD - 0.01 <= run["cost_usd"] <= 2 * TURN_USD + 0.5
    assert home.json("battery", "show")["spent_usd"] == pytest.approx(run["cost_usd"])


def test_a_loan_ends_with_its_kernel_and_no_money_comes_of_it(home: Door) -> None:
    rich = home.json("spawn", "Ring the bell four times slowly", "--budget", "3")["processes"][0]["pid"]
    poor = home.json("spawn", "Ring the big bell slowly", "--budget", "2")["processes"][0]["pid"]
    until(lambda: len([one for one in home.json("ps")["processes"] if one["cost_usd"] > 0]) == 2)
    assert home("lend", str(rich), "1", "--to", str(poor)).returncode == 0
    kill_kernel(home)
    left = {one["pid"]: one for one in home.json("ps")["processes"]}
    assert (left[rich]["budget_usd"], left[poor]["budget_usd"]) == (3.0, 2.0)
    assert home("lend", str(rich), "1", "--to", str(poor)).returncode == 0  # of processes that stand still
    kill_kernel(home)
    left = {one["pid"]: one for one in home.json("ps")["processes"]}
    assert (left[rich]["budget_usd"], left[poor]["budget_usd"]) == (3.0, 2.0)


def test_what_has_spent_what_it_may_is_not_begun_again_and_ends_for_good(home: Door) -> None:
    pid = home.json("spawn", "Ring the bell four times", "--budget", "0.5")["processes"][0]["pid"]
    until(lambda: rings(home))
    kill_kernel(home)
    process = only(home)
    assert process["cost_usd"] == pytest.approx(home.json("battery", "show")["spent_usd"])
    if process["budget_left_usd"] > 0:
        assert home("resume", str(pid)).returncode == 0
        assert home("wait", str(pid)).returncode == 1
    else:
        assert_sentence(home("resume", str(pid)), 3, str(pid))
        assert home("kill", str(pid)).returncode == 0
    kill_kernel(home)
    assert pid not in {one["pid"] for one in home.json("ps", "--all")["processes"] if "Ring" in one["goal"]}


def test_another_model_is_kept_with_a_process_that_stands_still(home: Door, server: ScriptedServer) -> None:
    pid = home.json("spawn", "Ring the bell four times")["processes"][0]["pid"]
    until(lambda: rings(home))
    assert home("suspend", str(pid)).returncode == 0
    until(lambda: only(home)["state"] == "suspended")
    assert home("model", str(pid), "claude-haiku-4-5").returncode == 0
    kill_kernel(home)
    assert home("resume", str(pid)).returncode == 0
    assert home("wait", str(pid)).returncode == 0
    assert "haiku" in server.conversation[-1].body["model"]


def test_what_is_suspended_stays_so_where_its_folder_is_gone(home: Door) -> None:
    pid = home.json("spawn", "Ring the bell four times")["processes"][0]["pid"]
    until(lambda: rings(home))
    assert home("suspend", str(pid)).returncode == 0
    until(lambda: only(home)["state"] == "suspended")
    assert_sentence(home("suspend", str(pid)), 2, "suspended already")
    before, workspace = rings(home), home.workspace
    workspace.rename(home.folder / "elsewhere")
    home.workspace = home.folder
    assert_sentence(home("resume", str(pid)), 2, f"the workspace {workspace} of process {pid} is gone")
    (home.folder / "elsewhere").rename(workspace)
    home.workspace = workspace
    assert rings(home) == before
    assert home("resume", str(pid)).returncode == 0
    assert home("wait", str(pid)).returncode == 0
