"""The resident kernel as users meet it: commands leave it behind, others use it, and whatever ends it loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.door import ROOT, Door, assert_sentence, assert_told

WAIT_S = 60.0

# A tool that takes its time, and leaves a line in a file when it begins and when it ends.
LINGER = """\
import asyncio

from plugins import ToolContext, llm_tool


async def linger(ctx: ToolContext, path: str) -> str:
    target = ctx.resolve(path, write=True)
    with target.open("a") as stream:
        stream.write("begun\\n")
    await asyncio.sleep(8.0)
    with target.open("a") as stream:
        stream.write("ended\\n")
    return "lingered"


llm_tool("linger", "Wait.", {"path": str}, effect="external", writes=lambda ctx, arguments: (), version="1")(linger)
"""

TRACE = """\
format: 1
id: linger-it
goals: ["Linger in {path}"]
slots: {path: path}
steps:
  - id: linger
    tool: linger
    args: {path: "${{ path }}"}
    effect: external
answer: "${{ steps.linger.text }}"
"""


def until(what: Callable[[], Any]) -> Any:
    """Wait for something to be so."""
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


@pytest.fixture
def home(door: Door) -> Iterator[Door]:
    """A door whose commands go through a resident kernel, which is ended after the test."""
    door.env["LLMOS_DAEMON"] = "1"
    yield door
    door("down", "--now")


def status(door: Door) -> dict[str, Any]:
    found: dict[str, Any] = door.json("status")
    return found


def kernel(door: Door) -> int:
    return int(status(door)["pid"])


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def goals_done(door: Door) -> list[str]:
    return [run["goal"] for run in door.json("runs", "list", "--limit", "1000")["runs"] if run["status"] == "done"]


# ------------------------------------------------------------------------------------------------ coming and going


def test_a_command_leaves_a_kernel_behind_that_does_the_next_ones(home: Door) -> None:
    assert home("Calculate 2 + 3").stdout == "5\n"
    pid = kernel(home)
    assert home("Calculate 2 + 4").stdout == "6\n"
    told = status(home)
    assert (told["pid"], told["served"], told["running"]) == (pid, 2, [])
    assert goals_done(home) == ["Calculate 2 + 4", "Calculate 2 + 3"]


def test_it_is_started_told_of_and_ended_by_command(home: Door) -> None:
    assert home("status").stdout == "no resident kernel runs; the next goal starts one\n"
    assert home("down").stdout == "no resident kernel runs\n"
    started = home.json("up")
    assert started["started"] and lives(started["pid"])
    assert home.json("up")["started"] is False
    assert f"process {started['pid']}" in home("status").stdout
    assert home.json("down") == {"ended": True, "pid": started["pid"]}
    assert not lives(started["pid"])
    assert not (home.home / "memory" / "kernel.sock").exists()


@pytest.mark.parametrize("how", ["option", "variable", "setting"])
def test_whoever_wants_none_has_none(home: Door, how: str) -> None:
    args = ["Calculate 2 + 3"]
    if how == "option":
        args.append("--no-daemon")
    elif how == "variable":
        home.env["LLMOS_DAEMON"] = "0"
    else:
        home.home.mkdir()
        (home.home / "llmos.yaml").write_text("daemon:\n  enabled: false\n")
    assert home(*args).stdout == "5\n"
    assert home.json("status")["running"] is False


def test_it_ends_by_itself_when_nothing_is_asked_of_it(home: Door) -> None:
    home.home.mkdir()
    (home.home / "llmos.yaml").write_text("daemon:\n  idle_s: 0.5\n")
    home("Calculate 2 + 3")
    pid = until(lambda: status(home).get("pid"))
    until(lambda: not lives(pid))
    assert goals_done(home) == ["Calculate 2 + 3"]


def test_it_ends_when_its_home_is_removed(home: Door) -> None:
    home("Calculate 2 + 3")
    pid = kernel(home)
    shutil.rmtree(home.home)
    until(lambda: not lives(pid))


def test_a_command_without_it_is_told_who_holds_the_memory(home: Door) -> None:
    home("Calculate 2 + 3")
    assert_sentence(home("--no-daemon", "Calculate 2 + 3"), 7, f"process {kernel(home)}", "boot.py down")


def test_its_socket_is_its_users_alone(home: Door) -> None:
    home("Calculate 2 + 3")
    found = (home.home / "memory" / "kernel.sock").stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, os.geteuid())
    assert (home.home / "memory").stat().st_mode & 0o077 == 0


def test_a_home_with_a_long_path_has_one_too(home: Door) -> None:
    far = home.folder / ("long" * 20) / ("way" * 20)
    home.env["LLMOS_HOME"] = str(far)
    home.home = far
    assert home("Calculate 2 + 3").stdout == "5\n"
    assert kernel(home)


# ------------------------------------------------------------------------------------------------- the same both ways


ALIKE = [
    (["Calculate 6 * 7"], b""),
    (["Calculate 6 * 7", "--json"], b""),
    (["-"], b"Calculate 1 + 1"),
    (["run", "Count files in ."], b""),
    (["Summarise the news of tomorrow"], b""),
    (["Summarise the news of tomorrow", "--json"], b""),
    (["--mode", "follow", "Paint the shed"], b""),
    (["--mode", "sideways", "x"], b""),
    (["--budget", "lots", "x"], b""),
    (["--workspace", "nowhere", "x"], b""),
    (["explain", "Calculate 6 * 7"], b""),
    (["traces", "list"], b""),
    (["traces", "show", "nothing"], b""),
    (["traces", "export", "calculate", "out.yaml"], b""),
    (["traces", "import", "-"], b"no: trace"),
    (["traces", "import", "missing.yaml"], b""),
    (["tools"], b""),
    (["battery"], b""),
    (["interactive"], b"Calculate 1 + 2\nlast\nexit\n"),
    (["-v", "Calculate 6 * 7"], b""),
]


def shown(door: Door, args: list[str], stdin: bytes) -> tuple[int, str, str]:
    """What a command gives, without what differs from run to run."""
    done = door(*args, stdin=stdin)
    return done.returncode, plain(done.stdout), plain(done.stderr)


def plain(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{12}\b", "RUN", text)
    text = re.sub(r"\d+(\.\d+)? (ms|s)\b", "TIME", text)
    text = re.sub(r'"duration_s": [\d.e-]+', "TIME", text)
    return re.sub(r" +", " ", text)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Door]]:
    """A door without a resident kernel and one with; each has done a goal."""
    doors = []
    for daemon in ("0", "1"):
        door = Door(tmp_path_factory.mktemp(f"daemon-{daemon}"))
        door.env["LLMOS_DAEMON"] = daemon
        (door.workspace / "a.txt").write_text("a")
        door("Calculate 6 * 7")
        doors.append(door)
    yield doors
    doors[1]("down", "--now")


@pytest.mark.parametrize(("args", "stdin"), ALIKE, ids=[" ".join(args) for args, _ in ALIKE])
def test_what_a_command_gives_is_the_same_both_ways(both: list[Door], args: list[str], stdin: bytes) -> None:
    found = []
    for door in both:
        code, out, err = shown(door, args, stdin)
        left = sorted(path.name for path in door.workspace.iterdir())
        there = str(door.folder)
        found.append((code, out.replace(there, "."), err.replace(there, "."), left))
    assert found[0] == found[1]


def test_each_caller_has_its_own_folder_and_environment(home: Door) -> None:
    (home.workspace / "one.txt").write_text("1")
    other = home.folder / "other"
    other.mkdir()
    for name in ("a", "b", "c"):
        (other / name).write_text(name)
    assert "1 file" in home("Count files in .").stdout
    home.workspace = other
    assert "3 files" in home("Count files in .").stdout
    home.env["NO_COLOR"] = "1"
    home.env["LLMOS_FROZEN"] = "1"
    assert "frozen" in home("traces", "forget", "calculate").stderr
    assert status(home)["systems"] >= 2


def test_a_budget_counts_what_one_command_spends(home: Door) -> None:
    for _ in range(2):
        assert home.json("battery", "--budget", "1")["cap_usd"] == 1.0


def test_who_stops_reading_is_no_error(home: Door) -> None:
    home("Calculate 2 + 3")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {ROOT / 'boot.py'} traces list | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=home.workspace,
        env=home.env,
        capture_output=True,
        timeout=WAIT_S,
    )
    assert done.returncode in (0, 141)
    assert b"Traceback" not in done.stderr
    assert home("Calculate 2 + 4").stdout == "6\n"


def test_a_terminal_is_a_terminal(home: Door) -> None:
    home("Calculate 2 + 3")
    parent, child = pty.openpty()
    process = home.start("interactive", stdin=child, stdout=child, stderr=child)
    os.close(child)
    seen = b""

    def read_until(what: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + WAIT_S
        while what not in seen:
            assert time.monotonic() < deadline, seen
            seen += os.read(parent, 4096)

    read_until(b"llmos>")
    os.write(parent, b"Calculate 20 + 22\r")
    read_until(b"42")
    seen = seen.partition(b"42")[2]
    read_until(b"llmos>")
    os.write(parent, b"\x04")
    with contextlib.suppress(OSError):  # whoever had the other end has left
        while os.read(parent, 4096):
            pass
    assert process.wait(WAIT_S) == 0
    os.close(parent)
    assert status(home)["running"] == []


# ------------------------------------------------------------------------------------------------------- trouble


@pytest.fixture
def lingering(home: Door) -> Door:
    """A home with the tool above, and a trusted trace for it."""
    (home.home / "plugins").mkdir(parents=True)
    (home.home / "plugins" / "linger.py").write_text(LINGER)
    trace = home.folder / "linger.yaml"
    trace.write_text(TRACE)
    done = home("traces", "import", str(trace), "--trust")
    assert done.returncode == 0, done.stderr
    return home


def lines(door: Door) -> list[str]:
    path = door.workspace / "out.txt"
    return path.read_text().split() if path.exists() else []


def runs(door: Door) -> list[tuple[str, str]]:
    return [(run["goal"], run["status"]) for run in door.json("runs", "list")["runs"]]


LINGERS = ("Linger in out.txt", "--yes")


def test_a_kernel_killed_in_the_middle_is_told_of_and_the_goal_is_not_done_again(lingering: Door) -> None:
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    dead = kernel(lingering)
    os.kill(dead, signal.SIGKILL)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (1, "")
    assert "the resident kernel ended in the middle of this" in err
    assert runs(lingering) == [("Linger in out.txt", "interrupted")]
    assert lines(lingering) == ["begun"]
    refused = lingering(*LINGERS)  # nobody knows what came of it, so it is not simply done again
    assert refused.returncode == 4
    assert lines(lingering) == ["begun"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_client_stops_what_is_done_for_it(lingering: Door, number: signal.Signals) -> None:
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    process.send_signal(number)
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert "interrupted" in err
    assert runs(lingering) == [("Linger in out.txt", "interrupted")]
    assert lines(lingering) == ["begun"]


def test_a_client_that_is_killed_takes_its_goal_with_it(lingering: Door) -> None:
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    process.kill()
    process.communicate(timeout=WAIT_S)
    until(lambda: runs(lingering) == [("Linger in out.txt", "interrupted")])
    assert lines(lingering) == ["begun"]


def test_down_waits_for_what_is_being_done_and_now_does_not(lingering: Door) -> None:
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    assert lingering.json("down")["ended"]
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out.strip()) == (0, "lingered"), err
    process = lingering.start("Linger in out.txt", "--yes", "--again")
    until(lambda: lines(lingering) == ["begun", "ended", "begun"])
    lingering("down", "--now")
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert lines(lingering) == ["begun", "ended", "begun"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_waits_for_the_end_may_leave_and_the_kernel_goes_on_ending(lingering: Door, number: signal.Signals) -> None:
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    pid = kernel(lingering)
    waiting = lingering.start("down")
    until(lambda: status(lingering).get("ending"))
    waiting.send_signal(number)
    out, err = waiting.communicate(timeout=WAIT_S)
    assert lines(lingering) == ["begun"]  # it did not wait for the goal
    done = subprocess.CompletedProcess(waiting.args, waiting.returncode, out, err)
    assert_sentence(done, 130, f"the resident kernel (process {pid}) goes on ending")
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out.strip()) == (0, "lingered"), err
    until(lambda: not lives(pid))


def test_a_kernel_that_is_ending_says_what_it_waits_for_and_can_be_hurried(lingering: Door) -> None:
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    pid = kernel(lingering)
    waiting = lingering.start("down")
    told = until(lambda: (one := status(lingering)).get("ending") and one)
    assert (told["pid"], told["waits_for"]) == (pid, ["process 1 (Linger in out.txt)"])
    shown = lingering("status").stdout
    assert "when process 1 (Linger in out.txt) has ended; `down --now` ends it at once" in shown
    assert lingering.json("down", "--now") == {"ended": True, "pid": pid}
    process.communicate(timeout=WAIT_S)
    waiting.communicate(timeout=WAIT_S)
    assert (process.returncode, waiting.returncode) == (130, 0)
    assert lines(lingering) == ["begun"]


def test_goals_that_come_while_a_kernel_ends_wait_and_are_done_once_by_the_next(lingering: Door) -> None:
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    pid = kernel(lingering)
    waiting = lingering.start("down")
    until(lambda: status(lingering).get("ending"))
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda number: lingering(f"Calculate 100 + {number}").stdout, range(4)))
    assert answers == [f"{100 + number}\n" for number in range(4)]
    for one in (process, waiting):
        one.communicate(timeout=WAIT_S)
        assert one.returncode == 0
    assert lines(lingering) == ["begun", "ended"]
    assert kernel(lingering) != pid
    assert sorted(goals_done(lingering)) == [*(f"Calculate 100 + {number}" for number in range(4)), "Linger in out.txt"]


def test_another_kernel_can_not_be_started_before_the_one_that_ends_has_ended(lingering: Door) -> None:
    plugin = lingering.home / "plugins" / "linger.py"
    plugin.write_text(LINGER.replace("sleep(8.0)", "sleep(20.0)"))
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    pid = kernel(lingering)
    waiting = lingering.start("down")
    until(lambda: status(lingering).get("ending"))
    assert_sentence(lingering("up"), 7, f"process {pid}", "Linger in out.txt", "`down --now` ends it at once")
    assert kernel(lingering) == pid
    assert lingering.json("down", "--now")["ended"]
    process.communicate(timeout=WAIT_S)
    waiting.communicate(timeout=WAIT_S)
    assert lingering.json("up")["started"]


def test_who_connects_and_says_nothing_keeps_no_kernel_from_ending(home: Door) -> None:
    home("Calculate 2 + 3")
    pid = kernel(home)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        with contextlib.chdir(home.home / "memory"):
            client.connect("kernel.sock")
        assert home.json("status")["pid"] == pid  # it is heard after the silent one
        assert home.json("down") == {"ended": True, "pid": pid}


STUBBORN = """\
    def wait():
        time.sleep(30.0)
        with target.open("a") as stream:
            stream.write("ended\\n")
    waiting = asyncio.ensure_future(asyncio.to_thread(wait))
"""
OF_TASKS = """\
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            pass
"""
OF_THREADS = "    await waiting\n"


@pytest.mark.parametrize("waits", [OF_TASKS, OF_THREADS])
def test_down_now_does_not_wait_for_what_can_not_be_interrupted(lingering: Door, waits: str) -> None:
    head, _, rest = LINGER.partition("    await asyncio.sleep(8.0)\n")
    tail = rest[rest.index("    return") :]
    (lingering.home / "plugins" / "linger.py").write_text(f"import time\n{head}{STUBBORN}{waits}{tail}")
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    pid = kernel(lingering)
    assert lingering.json("down", "--now") == {"ended": True, "pid": pid}
    assert not lives(pid)
    process.communicate(timeout=WAIT_S)
    assert lines(lingering) == ["begun"]
    assert runs(lingering) == [("Linger in out.txt", "interrupted")]
    assert lingering(*LINGERS).returncode == 4  # what came of it is not known, and that is on record


def test_what_one_caller_does_does_not_hold_up_another(lingering: Door) -> None:
    process = lingering.start(*LINGERS)
    until(lambda: lines(lingering) == ["begun"])
    assert lingering("Calculate 2 + 3").stdout == "5\n"
    assert lines(lingering) == ["begun"]
    assert status(lingering)["running"] == ["Linger in out.txt --yes"]
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0


def test_ten_terminals_at_once_are_all_served_and_each_goal_is_done_once(home: Door) -> None:
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda number: home(f"Calculate 100 + {number}").stdout, range(30)))
    assert answers == [f"{100 + number}\n" for number in range(30)]
    assert sorted(goals_done(home)) == sorted(f"Calculate 100 + {number}" for number in range(30))
    assert len({kernel(home)}) == 1


def test_of_kernels_started_in_the_same_instant_one_stays(home: Door) -> None:
    with ThreadPoolExecutor(6) as threads:
        started = list(threads.map(lambda _: home.json("up"), range(6)))
    assert len([one for one in started if one["started"]]) == 1
    assert len({one["pid"] for one in started}) == 1
    assert home("Calculate 2 + 3").stdout == "5\n"


def test_a_socket_nobody_listens_on_is_replaced(home: Door) -> None:
    home("Calculate 2 + 3")
    dead = kernel(home)
    os.kill(dead, signal.SIGKILL)
    until(lambda: not lives(dead))
    assert (home.home / "memory" / "kernel.sock").exists()
    assert home("Calculate 2 + 4").stdout == "6\n"
    assert kernel(home) != dead
    assert "Calculate 2 + 3" in goals_done(home)


def test_whatever_stands_in_the_sockets_place_is_no_kernel(home: Door) -> None:
    memory = home.home / "memory"
    memory.mkdir(parents=True)
    with contextlib.chdir(memory), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind("kernel.sock")
    assert home("Calculate 2 + 3").stdout == "5\n"


def test_a_folder_in_the_sockets_place_is_told_of_and_goals_are_reached_without_a_kernel(home: Door) -> None:
    memory = home.home / "memory"
    (memory / "kernel.sock").mkdir(parents=True)
    assert_sentence(home("up"), 7, f"{memory / 'kernel.sock'} is a folder", "remove it")
    assert home("Calculate 2 + 3").stdout == "5\n"
    assert not (memory / "kernel.log").exists()  # none was started in vain
    (memory / "kernel.sock").rmdir()
    assert home.json("up")["started"]


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_file_in_the_sockets_place_is_told_of_and_left_as_it_is(home: Door, what: str) -> None:
    memory = home.home / "memory"
    memory.mkdir(parents=True)
    kept, place = home.folder / "kept.txt", memory / "kernel.sock"
    kept.write_text("somebody's own\n")
    place.symlink_to(kept) if what == "link" else place.write_text("somebody's own\n")
    assert_sentence(home("up"), 7, f"{place} is a {what}, and its socket belongs there: remove it")
    assert home("Calculate 2 + 3").stdout == "5\n"
    assert place.read_text() == "somebody's own\n"
    assert place.is_symlink() is (what == "link")
    place.unlink()
    assert home.json("up")["started"]


def test_a_client_that_says_nonsense_harms_nobody(home: Door) -> None:
    home("Calculate 2 + 3")
    pid = kernel(home)
    for said in (b"", b"\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x05hello", b"GET / HTTP/1.1\r\n\r\n" * 100):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            with contextlib.chdir(home.home / "memory"):
                client.connect("kernel.sock")
            client.sendall(said)
    assert home("Calculate 2 + 4").stdout == "6\n"
    assert kernel(home) == pid


def test_code_that_has_changed_is_served_by_a_new_kernel(home: Door, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "llmos", copy / "llmos", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "boot.py", copy)

    def calculate(text: str) -> str:
        command = [sys.executable, str(copy / "boot.py"), f"Calculate {text}"]
        return subprocess.run(
            command, cwd=home.workspace, env=home.env, capture_output=True, text=True, timeout=WAIT_S
        ).stdout

    assert calculate("1 + 1") == "2\n"
    first = kernel(home)
    (copy / "llmos" / "interfaces" / "added.py").write_text('"""New."""\n')
    assert calculate("1 + 2") == "3\n"
    second = kernel(home)
    assert first != second
    assert home("Calculate 1 + 3").stdout == "4\n"  # another checkout is other code, too
    assert kernel(home) != second


def test_another_time_zone_is_served_by_a_new_kernel(home: Door) -> None:
    home("Calculate 2 + 3")
    first = kernel(home)
    home.env["TZ"] = "Pacific/Auckland"
    assert home("Calculate 2 + 4").stdout == "6\n"
    assert kernel(home) != first


# -------------------------------------------------------------------------------------------- callers of other kinds


def test_a_reader_who_does_not_read_holds_up_nobody_else(home: Door) -> None:
    many = home.workspace / "many"
    many.mkdir()
    for number in range(3_000):
        (many / f"a_file_with_a_rather_long_name_number_{number}.txt").touch()
    home("Calculate 2 + 3")
    slow = home.start("Find *.txt files in many", "--json")  # nobody reads what it writes: more than a pipe holds
    until(lambda: status(home)["running"])
    assert home("Calculate 2 + 4").stdout == "6\n"
    out, _ = slow.communicate(timeout=WAIT_S)
    assert slow.returncode == 0
    assert len(json.loads(out)["outputs"]["find"]["files"]) == 3_000


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_stream_is_no_reason_to_fail(home: Door, closed: str) -> None:
    home("Calculate 2 + 3")
    command = f"{sys.executable} {ROOT / 'boot.py'} Calculate 2 + 4 {closed}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=home.workspace, env=home.env, capture_output=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (b"" if closed == ">&-" else b"6\n")
    assert status(home)["served"] == 2


def test_settings_that_hold_for_the_whole_home_are_taken_up(home: Door) -> None:
    home("Calculate 2 + 3")
    first = kernel(home)
    (home.home / "llmos.yaml").write_text("retention: {max_runs: 60}\n")
    assert home("Calculate 2 + 4").stdout == "6\n"
    assert kernel(home) != first


def test_a_home_behind_a_link_is_the_same_home(home: Door) -> None:
    home("Calculate 2 + 3")
    first = kernel(home)
    (home.folder / "link").symlink_to(home.home)
    home.env["LLMOS_HOME"] = str(home.folder / "link")
    assert home("Calculate 2 + 4").stdout == "6\n"
    assert kernel(home) == first


def test_paths_that_mean_a_descriptor_mean_the_callers(home: Door) -> None:
    home("Calculate 2 + 3")
    done = home("batch", "/dev/stdin", "--out", "out.jsonl", stdin="Calculate 5 + 6\n")
    assert done.returncode == 0, done.stderr
    assert '"answer": "11"' in (home.workspace / "out.jsonl").read_text()
    assert_sentence(home("traces", "export", "calculate", "/dev/stdout", "--force"), 2, "/dev/stdout is no file")


def test_a_signal_that_is_ignored_stays_so(lingering: Door) -> None:
    command = ["nohup", *map(str, lingering.command(*LINGERS))]
    process = subprocess.Popen(
        command, cwd=lingering.workspace, env=lingering.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: lines(lingering) == ["begun"])
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert lines(lingering) == ["begun", "ended"]


def test_ctrl_c_ends_who_waits_for_input(home: Door) -> None:
    home("Calculate 2 + 3")
    process = home.start("run", "-", stdin=subprocess.PIPE)
    until(lambda: status(home)["running"])
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_S) == 130
    process.communicate(timeout=WAIT_S)
    assert home.json("down")["ended"]


@pytest.mark.parametrize("daemon", ["", "--no-daemon"])
@pytest.mark.parametrize("args", [("run", "-"), ("batch", "-", "--out", "o"), ("audit", "verify", "--against", "-")])
def test_ctrl_c_ends_whatever_waits_for_input(home: Door, args: tuple[str, ...], daemon: str) -> None:
    home("Calculate 2 + 3")
    process = home.start(*args, *daemon.split(), stdin=subprocess.PIPE)
    time.sleep(2)  # no way to see that it reads
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_S) == 130
    process.communicate(timeout=WAIT_S)
    assert home.json("down")["ended"]


def test_what_the_kernel_holds_is_not_repaired_beside_it(home: Door) -> None:
    assert home("Calculate 2 + 3").returncode == 0
    assert_sentence(home("repair"), 7, f"process {kernel(home)}", "`boot.py down` ends it; then repair it")
    assert home("down").returncode == 0
    assert home("repair").returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 9 MB, where this machine lets us have one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_what_was_answered_on_a_full_disk_is_on_record_also_when_the_kernel_ends_before_there_is_room(
    door: Door, small_disk: Path
) -> None:
    door.env |= {"LLMOS_DAEMON": "1", "LLMOS_HOME": str(small_disk / "home")}
    assert door("Calculate 2 + 0").returncode == 0
    until(lambda: goals_done(door) == ["Calculate 2 + 0"])  # there was room for it
    fill = small_disk / "fill"
    with contextlib.suppress(OSError), fill.open("wb", buffering=0) as stream:
        while stream.write(bytes(4_096)):
            pass
    answered = ["Calculate 2 + 0"]
    for number in range(1, 6):
        done = door(f"Calculate 2 + {number}")
        if done.returncode == 0:
            answered.append(f"Calculate 2 + {number}")
        else:
            assert_told(done, 7, "no space left")
    door("down")
    fill.unlink()
    known = goals_done(door)
    door("down", "--now")
    assert set(answered) <= set(known), (answered, known)
    assert len(answered) < 6
