"""Replays after everything was killed: they are offered, go on with the first unfinished step, and repeat no effect."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.killing import kill_kernel, until
from tests.door import Door, assert_sentence

GOAL = "Ring for ada.txt in hall.txt"
COPY = "Copy each of in/ to out/"
COUNT = 4
RING = """\
import asyncio
from pathlib import Path

from plugins import llm_tool


async def ring(times: str) -> dict:
    with Path("BELL").open("a") as bell:
        bell.write(f"{times}\\n")
    await asyncio.sleep(3.0 if times.startswith("1") and Path("SLOW").exists() else 0.2)
    return {"text": f"rang {times}"}


async def nap(seconds: str) -> dict:
    await asyncio.sleep(float(seconds))
    return {"text": f"slept {seconds}"}


llm_tool("ring", "Ring the bell.", {"times": str}, effect="external", version="1")(ring)
llm_tool("nap", "Sleep a little.", {"seconds": str}, effect="read", version="1")(nap)
"""
HEAD = "format: 1\nid: {name}\ngoals: ['{goal}']\nslots: {{{slots}}}\nsteps:\n"
RINGING = HEAD.format(name="ringing", goal="Ring for {who} in {where}", slots="who: path, where: path") + (
    '  - {id: look, tool: read, args: {file_path: "${{ who }}"}, effect: read}\n'
    + "".join(
        f'  - {{id: ring{n}, tool: ring, args: {{times: "{n} ${{{{ where }}}} ${{{{ steps.look.text }}}}"}}, '
        "effect: external}\n"
        f'  - {{id: nap{n}, tool: nap, args: {{seconds: "0.3"}}, effect: read}}\n'
        for n in range(COUNT)
    )
    + '  - {id: write, tool: write, args: {file_path: done.txt, content: "${{ steps.look.text }}"}, effect: write}\n'
    + 'answer: {value: "rang for ${{ steps.look.text }}"}\n'
)
TOLD = RINGING.replace("id: ringing", "id: told").replace("Ring for", "Tell of rings for")
TOLD = TOLD.replace("rang for ${{ steps.look.text }}", "${{ steps.ring0.text }} and ${{ steps.ring3.text }}")
EACH = HEAD.format(name="each", goal="Copy each of {folder} to {other}", slots="folder: path, other: path") + (
    '  - {id: found, tool: glob, args: {pattern: "*.csv", path: "${{ folder }}"}, effect: read}\n'
    "  - id: first\n    tool: write\n    effect: write\n"
    '    args: {file_path: "${{ other }}/begun.md", content: begun}\n'
    "    expect: [{missing: '${{ other }}/0.txt'}]\n"  # holds no more once the rest has begun
    "  - id: files\n    for_each: ${{ steps.found.files }}\n    steps:\n"
    '    - {id: look, tool: read, args: {file_path: "${{ each.files }}"}, effect: read}\n'
    '    - {id: nap, tool: nap, args: {seconds: "0.15"}, effect: read}\n'
    "    - id: write\n      tool: write\n      effect: write\n"
    '      args: {file_path: "${{ other }}/${{ each.files | stem }}.txt", content: "${{ steps.look.text }}"}\n'
    'answer: {value: "${{ steps.found.count }} copied"}\n'
)


@pytest.fixture
def home(door: Door) -> Iterator[Door]:
    """A door to a resident kernel with traces of slow steps, a bell that can't be unrung, and no model."""
    door.env["LLMOS_DAEMON"] = "1"
    (door.home / "plugins").mkdir(parents=True)
    (door.home / "plugins" / "ring.py").write_text(
        RING.replace("BELL", str(door.folder / "bell.txt")).replace("SLOW", str(door.folder / "slow"))
    )
    (door.home / "llmos.yaml").write_text("permissions: {rules: [{allow: ring, effect: external, tainted: true}]}\n")
    for name, text in (("ringing", RINGING), ("told", TOLD), ("each", EACH)):
        (door.folder / f"{name}.yaml").write_text(text)
        done = door("traces", "import", str(door.folder / f"{name}.yaml"), "--trust")
        assert done.returncode == 0, done.stderr
    (door.workspace / "ada.txt").write_text("Ada")
    (door.workspace / "in").mkdir()
    for n in range(8):
        (door.workspace / "in" / f"{n}.csv").write_text(f"content {n}\n")
    yield door
    door("down", "--now")


def rings(door: Door) -> list[str]:
    bell = door.folder / "bell.txt"
    return [line.split()[0] for line in bell.read_text().splitlines()] if bell.exists() else []


def spawned(door: Door, goal: str = GOAL) -> int:
    return int(door.json("spawn", goal)["processes"][0]["pid"])


def run_of(door: Door, goal: str = GOAL) -> dict[str, object]:
    (run,) = [one for one in door.json("runs", "list")["runs"] if one["goal"] == goal]
    return dict(door.json("runs", "show", run["id"]))


def settled(door: Door, pid: int) -> subprocess.CompletedProcess[str]:
    """Go on with a process; where nobody knows whether it rang, say what the bell says."""
    door.json("ps")  # which is told that it is there
    done = door("resume", str(pid))
    if "journal settle" not in done.stderr:
        return done
    assert_sentence(done, done.returncode, "nobody knows what came of ring", f"process {pid} does not go on")
    assert [one["pid"] for one in door.json("ps")["processes"]] == [pid]
    run, step = done.stderr.split("`journal settle ")[1].split("`")[0].split()[:2]
    number = str((int(step) - 2) // 2)
    assert door("journal", "settle", run, step, "done" if number in rings(door) else "not-done").returncode == 0
    return door("resume", str(pid))


def test_it_is_offered_and_goes_on_with_the_first_unfinished_step(home: Door) -> None:
    pid = spawned(home)
    until(lambda: len(rings(home)) == 2)
    time.sleep(0.35)  # it naps
    kill_kernel(home)
    told = home("Calculate 2 + 3")
    assert f"`resume {pid}` goes on with it" in told.stderr
    (process,) = home.json("ps")["processes"]
    assert (process["pid"], process["state"], process["mode"], process["goal"]) == (pid, "suspended", "follower", GOAL)
    (home.workspace / "ada.txt").write_text("Bob")  # it was read before
    assert settled(home, pid).returncode == 0
    done = home("wait", str(pid))
    run = run_of(home)
    assert done.returncode == 0, (done.stderr, run["reason"])
    assert (home.folder / "bell.txt").read_text() == "".join(f"{n} hall.txt Ada\n" for n in range(COUNT))
    assert (run["status"], run["answer"], run["mode"], run["cost_usd"]) == ("done", "rang for Ada", "follower", 0.0)
    assert len(run["steps"]) == 2 + 2 * COUNT  # type: ignore[arg-type]
    assert home.json("ps")["processes"] == []
    assert home.json("battery", "show")["spent_usd"] == 0.0


def test_of_an_effect_that_was_cut_off_a_person_decides(home: Door) -> None:
    (home.folder / "slow").touch()
    pid = spawned(home)
    until(lambda: len(rings(home)) == 2)
    kill_kernel(home)  # while it rings
    home.json("ps")
    first = home("resume", str(pid))
    assert_sentence(first, 4, "nobody knows what came of ring", "(step 4)", "journal settle")
    assert rings(home) == ["0", "1"]
    assert settled(home, pid).returncode == 0
    assert home("wait", str(pid)).returncode == 0
    assert rings(home) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("how", ["kill", "down"])
def test_a_replay_that_is_suspended_outlives_its_kernel(home: Door, how: str) -> None:
    pid = spawned(home)
    until(lambda: rings(home))
    assert home("suspend", str(pid)).returncode == 0
    until(lambda: home.json("ps")["processes"][0]["state"] == "suspended")
    before = rings(home)
    if how == "kill":
        kill_kernel(home)
    else:
        assert home("down").returncode == 0
    (process,) = home.json("ps")["processes"]
    assert (process["pid"], process["state"]) == (pid, "suspended")
    assert rings(home) == before
    assert home("resume", str(pid)).returncode == 0
    assert home("wait", str(pid)).returncode == 0
    assert rings(home) == ["0", "1", "2", "3"]


def test_what_is_not_gone_on_with_is_forgotten_by_kill(home: Door) -> None:
    pid = spawned(home)
    until(lambda: rings(home))
    kill_kernel(home)
    assert home("kill", str(pid)).returncode == 0
    kill_kernel(home)
    assert home.json("ps")["processes"] == []


def test_what_can_not_go_on_stays_and_says_why(home: Door) -> None:
    pid = spawned(home, COPY)
    until(lambda: len([*home.workspace.glob("out/*.txt")]) == 2)
    kill_kernel(home)
    run = str(home.json("ps")["processes"][0]["run_id"])
    home.json("traces", "reject", "each")
    refused = home("resume", str(pid))
    assert_sentence(refused, refused.returncode, "each@1 is not followed any more (rejected)", f"kill {pid}")
    assert home("traces", "confirm", "each").returncode == 0
    assert home("undo", run).returncode == 0
    refused = home("resume", str(pid))
    assert_sentence(refused, refused.returncode, f"what process {pid} had done was undone", f"kill {pid}")
    assert [one["pid"] for one in home.json("ps")["processes"]] == [pid]


def test_without_a_kernel_it_goes_on_in_front(home: Door) -> None:
    assert home("down").returncode == 0
    home.env["LLMOS_DAEMON"] = "0"
    process = home.start(COPY)
    until(lambda: len([*home.workspace.glob("out/*.txt")]) == 3)
    process.kill()
    process.communicate()
    (left,) = home.json("ps")["processes"]
    for n in range(8):
        (home.workspace / "in" / f"{n}.csv").write_text("changed\n")
    times = {path: path.stat().st_mtime_ns for path in home.workspace.glob("out/*.txt")}
    done = home("resume", str(left["pid"]))
    assert (done.returncode, done.stdout) == (0, "8 copied\n"), done.stderr
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in times.items())  # nothing was written twice
    assert home.json("ps")["processes"] == []


@pytest.mark.parametrize("goal", [GOAL, COPY])
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_points_no_effect_is_repeated(home: Door, goal: str, seed: int) -> None:
    rng = random.Random(seed)
    pid = spawned(home, goal)
    for _ in range(3):
        time.sleep(rng.uniform(0.0, 1.0))
        kill_kernel(home)
        if not home.json("ps")["processes"]:
            break
        assert settled(home, pid).returncode == 0
    if home.json("ps")["processes"]:
        home("wait", str(pid))
    runs = [one for one in home.json("runs", "list")["runs"] if one["goal"] == goal]
    if not runs:  # it was killed before anything was stored, and had done nothing
        assert rings(home) == []
        assert home(goal).returncode == 0
    run = run_of(home, goal)
    assert run["status"] == "done", run["reason"]
    if goal == GOAL:
        assert rings(home) == ["0", "1", "2", "3"]
        assert (home.workspace / "done.txt").read_text() == "Ada"
    else:
        made = {path.name: path.read_text() for path in home.workspace.glob("out/*.txt")}
        assert made == {f"{n}.txt": f"content {n}\n" for n in range(8)}
        entries = home.json("journal", "list")["effects"]
        written = [one["files"][0]["path"] for one in entries if one["outcome"] == "done"]
        assert len(written) == len(set(written)) == 9
    battery = home.json("battery", "show")
    assert (battery["reserved_usd"], battery["spent_usd"], run["cost_usd"]) == (0.0, 0.0, 0.0)
    assert battery["saved_usd"] == pytest.approx(run["saved_usd"])
    assert home("audit", "verify").returncode == 0


@pytest.mark.parametrize("seed", range(2))
def test_what_an_effect_gave_is_told_from_the_record_or_nobody_goes_on(home: Door, seed: int) -> None:
    rng, goal = random.Random(seed), "Tell of rings for ada.txt in hall.txt"
    pid = spawned(home, goal)
    until(lambda: rings(home))
    time.sleep(rng.uniform(0.0, 0.5))
    kill_kernel(home)
    settled(home, pid)
    done = home("wait", str(pid))
    run = run_of(home, goal)
    if done.returncode == 0:
        assert run["answer"] == "rang 0 hall.txt Ada and rang 3 hall.txt Ada"
        assert rings(home) == ["0", "1", "2", "3"]
    else:
        assert "ring was made as step 2 and what it gave is lost, so nobody can go on" in str(run["reason"])
        assert rings(home) == ["0"]
