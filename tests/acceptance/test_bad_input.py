"""What must not go wrong when everything around goes wrong: one sentence, the right exit code, no half state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llmos.boot import LLMOS
from llmos.errors import GoalError, LLMOSError, LowBatteryError, UsageError, WatchdogError
from llmos.interfaces.learner import Learned, LearnSession, LearnTask, Thought
from llmos.settings import Settings, load_settings
from llmos.testing import HashEmbedder, Request, ScriptedServer, Turn, call, error, garbage, say, slow
from tests.door import TIMEOUT_S, Door, assert_told


@pytest.fixture
def door(door: Door) -> Door:
    door.env["PYTHONDONTWRITEBYTECODE"] = "1"  # a limit on file sizes must not spoil anybody's bytecode
    return door


def refused(door: Door, exit_code: int, *args: str, says: str, **more: Any) -> dict[str, Any]:
    """What a command answers that fails: one sentence on stderr, and one object on stdout."""
    done = door(*args, "--json", **more)
    assert_told(done, exit_code, says)
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["exit_code"], told["status"]) == (exit_code, "failed")
    return told


def no_file_above(size_bytes: int) -> Callable[[], None]:
    """A disk that is full, as far as one process can have it."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


# ------------------------------------------------------------------------------------------------------- files


def test_what_is_no_readable_file_is_named_and_nothing_hangs(door: Door) -> None:
    work = door.workspace
    (work / "folder.csv").mkdir()
    os.mkfifo(work / "pipe.csv")
    (work / "dangling.csv").symlink_to("nowhere.csv")
    (work / "loop.csv").symlink_to("loop.csv")
    for name, says in (
        ("folder.csv", "is a folder"),
        ("pipe.csv", "not a regular file"),
        ("dangling.csv", "there is no file"),
        ("loop.csv", "can't be used as a path"),
    ):
        refused(door, 1, "--mode", "follow", f"Count lines in {name}", says=says)
    os.mkfifo(work / "pipe.yaml")
    refused(door, 2, "traces", "import", "pipe.yaml", says="is a pipe")


def test_every_way_out_of_the_workspace_is_closed(door: Door) -> None:
    outside = door.folder / "outside.csv"
    outside.write_text("a\n1\n")
    (door.workspace / "link.csv").symlink_to(outside)
    for name in ("link.csv", "../outside.csv", str(outside), "~/outside.csv"):
        refused(door, 4, "--mode", "follow", f"Convert {name} to x.json", says="outside the workspace")
    (door.workspace / "~name.csv").write_text("a\n1\n")
    assert door("--mode", "follow", 'Count lines in "~name.csv"').stdout == "2\n"
    assert not (door.workspace / "x.json").exists()


def test_what_kept_a_trace_from_being_followed_is_told_where_nobody_can_be_asked(door: Door) -> None:
    (door.workspace / "junk.csv").write_bytes(bytes(range(256)) * 9)
    told = refused(door, 5, "Analyze data in junk.csv", says="junk.csv")
    assert "no Claude key" in told["error"]


# ------------------------------------------------------------------------------------------ home, disk, settings


def test_a_home_begun_on_a_full_disk_works_once_there_is_room(door: Door) -> None:
    for size_bytes in (0, 100_000):
        refused(door, 7, "Calculate 1 + 1", says="no space left", preexec_fn=no_file_above(size_bytes))
    assert [path for path in door.home.rglob("*") if path.is_file()] == []
    assert door("Calculate 1 + 1").stdout == "2\n"


def test_a_disk_that_fills_up_leaves_nothing_half_written_and_asks_nobody(door: Door) -> None:
    (door.workspace / "big.csv").write_text("a,b\n" + "1,xxxxxxxxxxxxxxxxxxxxxxxxxxxx\n" * 40_000)
    assert door("Calculate 1 + 1").returncode == 0
    told = refused(door, 1, "Convert big.csv to big.json", says="too large", preexec_fn=no_file_above(300_000))
    assert told["mode"] == "follower"
    assert [path.name for path in door.workspace.iterdir()] == ["big.csv"]
    assert door("Convert big.csv to big.json").returncode == 0


def test_settings_and_homes_that_mean_nothing(door: Door) -> None:
    refused(door, 2, "--home", "x" * 300, "Calculate 1 + 1", says="can't be used")
    door.home.mkdir()
    for text, says in (("[" * 20_000, "nested too deeply"), ("a: [b", "not YAML"), ("learner: {modell: x}", "modell")):
        (door.home / "llmos.yaml").write_text(text)
        refused(door, 2, "Calculate 1 + 1", says=says)


def test_a_home_where_none_can_be_is_one_sentence(door: Door) -> None:
    (door.folder / "file").write_text("")
    (door.folder / "half").mkdir()
    (door.folder / "half" / "memory").write_text("")
    for home in ("/proc/nohome", str(door.folder / "file" / "home"), str(door.folder / "half")):
        refused(door, 7, "--home", home, "Calculate 1 + 1", says="name another place with --home or LLMOS_HOME")


def test_an_option_that_is_no_number_says_what_it_must_be(door: Door) -> None:
    refused(door, 2, "--budget", "abc", "Calculate 1 + 1", says="must be a number of dollars, 0 or more, not 'abc'")
    refused(door, 2, "--budget", "-1", "Calculate 1 + 1", says="must be a number of dollars, 0 or more, not -1")
    refused(door, 2, "--audit-rate", "x", "Calculate 1 + 1", says="must be a number from 0 to 1, not 'x'")


def test_a_damaged_database_is_one_sentence(door: Door) -> None:
    assert door("Calculate 1 + 1").returncode == 0
    database = door.home / "memory" / "llmos.duckdb"
    good = database.read_bytes()
    for bad in (b"", good[:20_000], os.urandom(9_000)):
        database.write_bytes(bad)
        refused(door, 7, "Calculate 1 + 1", says="is damaged or no database")


def test_plugins_that_do_anything_at_import_leave_the_others_working(door: Door) -> None:
    plugins = door.folder / "plugins"
    plugins.mkdir()
    for name, body in {
        "base": "class Odd(BaseException): pass\nraise Odd('x')\n",
        "cancelled": "import asyncio\nraise asyncio.CancelledError\n",
        "generator": "raise GeneratorExit\n",
        "loud": "for _ in range(2000): print('x' * 500)\n",
        "leaves": "raise SystemExit(3)\n",
    }.items():
        (plugins / f"{name}.py").write_text(body)
    done = door("Calculate 2 + 3", "--plugins", str(plugins))
    assert (done.returncode, done.stdout) == (0, "5\n")
    told = [line for line in done.stderr.splitlines() if line.startswith("llmos: plugin")]
    assert len(told) == 4
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------- model and processes


@pytest.mark.parametrize(
    ("turn", "exit_code", "says"),
    [
        (error(404, "model: x"), 5, "does not know the model 'sonnet'"),
        (error(529, "busy"), 1, "529"),
        (garbage(), 1, "failed"),
    ],
)
def test_a_server_that_fails_is_one_sentence_and_costs_what_it_charged(
    door: Door, turn: Turn, exit_code: int, says: str
) -> None:
    with ScriptedServer(lambda request: turn) as server:
        door.env |= server.env(door.user)
        told = refused(door, exit_code, "Write a poem about tea", says=says)
    assert told["cost_usd"] == 0.0
    assert door.json("battery")["balance_usd"] == 10.0


def test_after_a_kill_the_run_is_interrupted_and_charged_for_what_it_may_have_cost(door: Door) -> None:
    def script(request: Request) -> Turn:
        return slow(30, say("late")) if request.tool_results else call("write", file_path="a.txt", content="one\n")

    with ScriptedServer(script) as server:
        door.env |= server.env(door.user)
        process = door.start("Write one into a.txt and tell", "--json", stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT_S
        while len(server.conversation) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert clis_of(door) != []
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)
        assert gone(lambda: clis_of(door) == []), "the CLI lives on and keeps asking"
    assert door("Calculate 1 + 1").stdout == "2\n"
    interrupted = door.json("runs", "list")["runs"][-1]
    assert interrupted["status"] == "interrupted"
    assert 0.2 < interrupted["cost_usd"] < 2.0  # one turn, and the most that the one under way may have cost
    battery = door.json("battery")
    assert (battery["reserved_usd"], battery["spent_usd"]) == (0.0, pytest.approx(interrupted["cost_usd"]))
    assert battery["balance_usd"] == pytest.approx(10.0 - interrupted["cost_usd"])
    assert [path.name for path in door.workspace.iterdir()] == ["a.txt"]


def clis_of(door: Door) -> list[int]:
    """The processes that have this test's Claude folder in their environment and are no Python."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_ours = str(door.user).encode() in (process / "environ").read_bytes()
            if is_ours and "_bundled/claude" in (process / "cmdline").read_text():
                found.append(int(process.name))
    return found


def gone(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    """Whether a condition comes true within some seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


# ---------------------------------------------------------------------------------------------- the Python API


class Worker:
    """A learner that does what a test says, at a price."""

    name = "worker"

    def __init__(self, work: Callable[[LearnTask, LearnSession], Awaitable[str]], *, cost_usd: float = 0.4) -> None:
        self.work, self.cost_usd, self.asked = work, cost_usd, 0

    def check(self) -> None:
        """Somebody can always be asked."""

    async def solve(self, task: LearnTask, session: LearnSession) -> Learned:
        self.asked += 1
        answer = await self.work(task, session)
        return Learned(answer=answer, finish=None, cost_usd=self.cost_usd, model="worker")

    async def think(self, prompt: str, *, max_tokens: int, model: str, max_budget_usd: float) -> Thought:
        raise NotImplementedError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "work").mkdir()
    return load_settings(home=tmp_path / "home", workspace=tmp_path / "work", environ={"PATH": os.defpath})


async def test_the_api_used_wrongly(settings: Settings) -> None:
    system = LLMOS(settings=settings, embedder=HashEmbedder())
    with pytest.raises(UsageError, match="boot"):
        await system.execute("Calculate 1 + 1")
    await system.boot()
    await system.boot()
    for goal in (None, 5, b"x", ["a"]):
        with pytest.raises(GoalError, match="must be text"):
            await system.execute(goal)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="mode"):
        await system.execute("Calculate 1 + 1", mode="zzz")
    running = asyncio.create_task(system.execute("Calculate 5 + 1"))
    await asyncio.sleep(0)
    await system.shutdown()
    await system.shutdown()
    with pytest.raises(LLMOSError):
        await running
    with pytest.raises(UsageError, match="boot"):
        await system.execute("Calculate 1 + 1")


async def test_a_battery_that_carries_only_some_of_twenty_is_never_overdrawn(settings: Settings) -> None:
    async def work(task: LearnTask, session: LearnSession) -> str:
        await asyncio.sleep(0.02)
        return f"did {task.goal}"

    worker = Worker(work)
    async with LLMOS(1.5, settings=settings, embedder=HashEmbedder(), learner=worker) as system:
        goals = [f"Make something silly number{n}" for n in range(20)]
        ended = await asyncio.gather(*map(system.execute, goals), return_exceptions=True)
        summary = system.economy.summary()
    done = [one for one in ended if not isinstance(one, BaseException)]
    assert all(isinstance(one, LowBatteryError) for one in ended if isinstance(one, BaseException))
    assert len(done) == worker.asked >= 1
    assert summary.spent_usd == pytest.approx(0.4 * worker.asked)
    assert summary.balance_usd == pytest.approx(1.5 - 0.4 * worker.asked) and summary.balance_usd >= 0


TOOLS = """\
import asyncio
from plugins import llm_tool
for name, make in {
    "odd": object, "nan": lambda: float("nan"), "boom": lambda: 1 / 0, "surrogate": lambda: "\\ud800",
    "keys": lambda: {(1, 2): 3}, "big": lambda: "x" * 10_000_000,
}.items():
    llm_tool(name, "d", {})(lambda make=make: make())


@llm_tool("cancelled", "d", {})
async def cancelled():
    raise asyncio.CancelledError


@llm_tool("hangs", "d", {})
async def hangs():
    await asyncio.sleep(1000)
"""


async def test_a_learner_and_tools_that_do_everything_wrong(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "home" / "plugins").mkdir(parents=True)
    (tmp_path / "home" / "plugins" / "odd.py").write_text(TOOLS)
    odd = ("odd", "nan", "boom", "keys", "cancelled", "hangs", "big")
    allowed = [f"{{allow: {tool}, effect: unknown, tainted: true}}" for tool in odd]
    (tmp_path / "home" / "llmos.yaml").write_text(
        f"learner: {{timeout_s: 5}}\npermissions: {{rules: [{', '.join(allowed)}]}}\n"
    )
    again = load_settings(home=settings.home, workspace=settings.workspace, environ={"PATH": os.defpath})
    heard: list[tuple[str, bool]] = []

    async def work(task: LearnTask, session: LearnSession) -> str:
        if "hang" in task.goal:
            await session.call("hangs", {})
        outside = ("/tmp/x.txt", "../x.txt", str(settings.memory / "x"), str(settings.home / "llmos.yaml"), "a\0b")
        calls: list[tuple[str, dict[str, Any]]] = [("write", {"file_path": path, "content": "x"}) for path in outside]
        calls += [(tool, {}) for tool in ("nonesuch", "odd", "nan", "boom", "keys", "cancelled")]
        for tool, arguments in [*calls, ("write", {"file": 1})]:
            refused = (await session.call(tool, arguments)).is_error
            heard.append((tool, refused))
        assert not (await session.call("big", {})).is_error
        session.finish(answer="a")
        session.finish(answer="b")
        return "done"

    async with LLMOS(5.0, settings=again, embedder=HashEmbedder(), learner=Worker(work)) as system:
        result = await system.execute("Do something odd zzz")
        assert [tool for tool, refused in heard if not refused] == []
        assert (result.status, result.cost_usd) == ("done", 0.4)
        with pytest.raises(WatchdogError):
            await system.execute("Let it hang qqq")
        assert system.economy.summary().reserved_usd == 0.0
        assert (await system.execute("Calculate 2 + 3")).answer == "5"
    assert list(settings.workspace.iterdir()) == []
