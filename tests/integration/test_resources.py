"""What tools used is measured of real programs, and counted for the process whose call it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmos.kernel.bus import EventBus
from llmos.kernel.process import Process, at_work_for
from llmos.kernel.sandbox.sandbox import Sandbox
from llmos.kernel.sandbox.walls import Kind, find
from llmos.plugins.builtin.processes import run
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.resources import Resources
from llmos.plugins.tool import Tool
from llmos.settings import SandboxLimits, SandboxSettings
from tests.contract.toolbox import Toolbox, toolbox

BURN = "import time\nwhile time.process_time() < {cpu_s}: pass\n"
HOLD = "held = b'x' * {size_bytes}\n"
WRITE = "with open('{name}', 'wb') as stream:\n    stream.write(b'x' * {size_bytes})\n"
MANY_BYTES, FEW_BYTES, FILE_BYTES = 50_000_000, 10_000_000, 5_000_000
NOT_MUCH_MORE = 100_000_000
"""Python, the launcher and the shell beside what a program holds."""

WALLS = {"none": None, "bubblewrap": Kind.BUBBLEWRAP, "namespaces": Kind.NAMESPACES, "landlock": Kind.LANDLOCK}


@pytest.fixture(params=WALLS)
def box(tmp_path: Path, request: pytest.FixtureRequest) -> Toolbox:
    """Tools behind each kind of walls, and behind none, in a workspace on a disk."""
    kind = WALLS[request.param]
    made = toolbox(tmp_path)
    made.services["env"] = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    if kind is None:
        return made
    made.services["sandbox"] = sandbox(tmp_path, kind)
    return made


_found_out: dict[Kind, str] = {}


def sandbox(root: Path, kind: Kind, **limits: int) -> Sandbox:
    """A sandbox with one kind of walls, which are attacked once and not for each test."""
    walls = asyncio.run(find(kind))
    if isinstance(walls, str):
        pytest.skip(f"{kind}: {walls}")
    memory = root / "memory"
    memory.mkdir()
    made = Sandbox(SandboxSettings(limits=SandboxLimits(**limits)), memory=memory, bus=EventBus(), kinds=(kind,))
    if kind in _found_out:
        (memory / "sandbox.json").write_text(_found_out[kind])
    assert asyncio.run(made.standing()).walls is not None
    _found_out[kind] = (memory / "sandbox.json").read_text()
    return made


@pytest.fixture
def bare(tmp_path: Path) -> Toolbox:
    """Tools without a sandbox."""
    return toolbox(tmp_path)


@contextlib.contextmanager
def process(pid: int = 1) -> Iterator[Resources]:
    """Work for a process; gives what its tools used."""
    made = Process(pid=pid, goal="g", created_at=datetime.now(UTC))
    with at_work_for(made):
        yield made.resources


def command(box: Toolbox, name: str, program: str) -> str:
    """A shell command with a program that is a child of the shell, as `;` keeps it from taking the shell's place."""
    box.write(f"{name}.py", program)
    return f"{sys.executable} -I -S {name}.py; echo done"


async def test_a_program_is_measured_through_the_shell_and_the_walls_that_it_runs_behind(box: Toolbox) -> None:
    size = {"size_bytes": MANY_BYTES}
    program = BURN.format(cpu_s=0.3) + HOLD.format(**size) + WRITE.format(name="made.bin", size_bytes=FILE_BYTES)
    with process() as used:
        await box.call("bash", command=command(box, "p", program + "import time\ntime.sleep(0.5)\n"))
    assert (box.workspace / "made.bin").stat().st_size == FILE_BYTES
    assert used.cpu_s is not None
    assert 0.3 <= used.cpu_s < 30
    assert used.peak_memory_bytes is not None
    assert MANY_BYTES <= used.peak_memory_bytes < MANY_BYTES + NOT_MUCH_MORE
    assert used.disk_written_bytes is not None
    assert FILE_BYTES <= used.disk_written_bytes < 4 * FILE_BYTES


async def test_programs_of_two_processes_at_once_are_not_mixed_up(box: Toolbox) -> None:
    async def worked(pid: int, program: str) -> Resources:
        with process(pid) as used:
            await box.call("bash", command=command(box, f"p{pid}", program + "time.sleep(0.5)\n"))
        return used

    hard = BURN.format(cpu_s=1.2) + HOLD.format(size_bytes=FEW_BYTES) + "import time\n"
    large = HOLD.format(size_bytes=3 * MANY_BYTES) + WRITE.format(name="b", size_bytes=FILE_BYTES) + "import time\n"
    burnt, held = await asyncio.gather(worked(1, hard), worked(2, large))
    assert burnt.cpu_s is not None
    assert held.cpu_s is not None
    assert burnt.cpu_s >= 1.2
    assert held.cpu_s < burnt.cpu_s
    assert burnt.peak_memory_bytes is not None
    assert held.peak_memory_bytes is not None
    assert burnt.peak_memory_bytes < 3 * MANY_BYTES <= held.peak_memory_bytes
    assert burnt.disk_written_bytes is not None
    assert held.disk_written_bytes is not None
    assert burnt.disk_written_bytes < FILE_BYTES <= held.disk_written_bytes


async def stopped(box: Toolbox, program: str, *, by: str) -> None:
    """Begin a program that goes on for long, and stop it when it says that it has done its work."""
    line = command(box, "p", program + "import pathlib, time\npathlib.Path('ready').touch()\ntime.sleep(600)\n")
    if by == "time":
        await box.error("bash", command=line, timeout=5_000)
        assert (box.workspace / "ready").exists()
        return
    task = asyncio.create_task(box.result("bash", command=line))
    async with asyncio.timeout(60):
        while not (box.workspace / "ready").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("by", ["time", "kill"])
async def test_what_a_stopped_program_had_used_counts(box: Toolbox, by: str) -> None:
    program = BURN.format(cpu_s=0.3) + HOLD.format(size_bytes=MANY_BYTES)
    with process() as used:
        await stopped(box, program + WRITE.format(name="made.bin", size_bytes=FILE_BYTES), by=by)
    assert used.cpu_s is not None
    assert used.cpu_s >= 0.2
    assert used.peak_memory_bytes is not None
    assert MANY_BYTES <= used.peak_memory_bytes < MANY_BYTES + NOT_MUCH_MORE
    assert used.disk_written_bytes is not None
    assert used.disk_written_bytes >= FILE_BYTES


@pytest.fixture(params=[Kind.BUBBLEWRAP, Kind.LANDLOCK], ids=["bubblewrap", "landlock"])
def narrow(tmp_path: Path, request: pytest.FixtureRequest) -> Toolbox:
    """Tools behind walls that let a command take little memory."""
    made = toolbox(tmp_path)
    made.services["env"] = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    made.services["sandbox"] = sandbox(tmp_path, request.param, memory_bytes=90_000_000)
    return made


async def test_what_held_too_much_is_counted_when_its_walls_end_it(narrow: Toolbox) -> None:
    narrow.write("p.py", HOLD.format(size_bytes=MANY_BYTES) + "import time\ntime.sleep(60)\n")
    one = f"{sys.executable} -I -S p.py"
    with process() as used:
        said = await narrow.error("bash", command=f"{one} & {one} & wait")
    assert "memory" in said
    assert used.peak_memory_bytes is not None
    assert MANY_BYTES <= used.peak_memory_bytes < MANY_BYTES + NOT_MUCH_MORE


async def test_finding_out_which_walls_hold_is_nobody_s(tmp_path: Path) -> None:
    box = toolbox(tmp_path)
    (tmp_path / "memory").mkdir()
    box.services["sandbox"] = Sandbox(SandboxSettings(), memory=tmp_path / "memory", bus=EventBus())
    with process() as used:
        await box.call("bash", command="true")
    assert used.peak_memory_bytes is not None
    assert used.peak_memory_bytes < MANY_BYTES  # of the attack it is 150 MB


async def test_the_peak_of_a_short_program_is_told_by_its_walls(box: Toolbox) -> None:
    if "sandbox" not in box.services:
        pytest.skip("without walls nobody tells it")
    with process() as used:
        done = await box.call("python", code=f"result = len('x' * {MANY_BYTES})")
    assert done["result"] == MANY_BYTES
    assert used.peak_memory_bytes is not None
    assert MANY_BYTES <= used.peak_memory_bytes < MANY_BYTES + NOT_MUCH_MORE


FORGE = "for n in $(seq 3 40); do (printf 12345678 >&$n) 2>/dev/null && echo wrote to $n; done; true"


async def test_a_program_can_not_write_into_what_its_walls_tell(box: Toolbox) -> None:
    if "sandbox" not in box.services:
        pytest.skip("without walls nobody tells it")
    with process() as used:
        assert (await box.call("bash", command=FORGE))["stdout"] == ""
    assert used.peak_memory_bytes is not None
    assert used.peak_memory_bytes < NOT_MUCH_MORE


async def test_the_memory_of_the_kernel_itself_is_not_taken_for_a_program_s(bare: Toolbox) -> None:
    ours = bytearray(b"x" * 300_000_000)
    with process() as used:
        await bare.call("bash", command="sleep 0.3; true")
        await bare.call("bash", command="true")
    assert len(ours) == 300_000_000
    assert used.peak_memory_bytes is not None
    assert used.peak_memory_bytes < NOT_MUCH_MORE


async def test_what_is_not_known_is_left_out(bare: Toolbox) -> None:
    with process() as used:
        assert (used.cpu_s, used.peak_memory_bytes, used.disk_written_bytes) == (None, None, None)
        await bare.call("calculate", expression="2 + 3")
    assert used.cpu_s is not None
    assert (used.peak_memory_bytes, used.disk_written_bytes) == (None, None)


async def test_a_file_that_a_tool_of_our_own_writes_counts_with_its_size(bare: Toolbox) -> None:
    with process() as used:
        await bare.call("write", file_path="a.txt", content="x" * 70_000)
        await bare.call("edit", file_path="a.txt", old_string="x" * 70_000, new_string="y" * 30_000)
        await bare.error("write", file_path=".", content="refused")
    assert used.disk_written_bytes == 100_000
    assert used.cpu_s is not None
    assert used.peak_memory_bytes is None


def burning(name: str, seconds: float, *, in_thread: bool) -> Tool:
    """A tool that computes in our own process: on the event loop, resting now and then, or in a thread."""

    def burn() -> str:
        until_s = time.thread_time() + seconds
        while time.thread_time() < until_s:
            pass
        return "burnt"

    async def rest_and_burn() -> str:
        for _ in range(10):
            until_s = time.thread_time() + seconds / 10
            while time.thread_time() < until_s:
                pass
            await asyncio.sleep(0.001)
        return "burnt"

    return tool_of(llm_tool(name, "Burns.", {}, effect="pure")(burn if in_thread else rest_and_burn))


@pytest.mark.parametrize("in_thread", [True, False], ids=["thread", "loop"])
async def test_tools_of_our_own_process_are_told_apart_by_the_time_of_their_code(
    bare: Toolbox, in_thread: bool
) -> None:
    registry = ToolRegistry()
    registry.register(burning("much", 0.6, in_thread=in_thread))
    registry.register(burning("little", 0.1, in_thread=in_thread))

    async def worked(name: str) -> float:
        with process() as used:
            assert (await registry.call(name, {}, bare.ctx)).output == "burnt"
        assert used.cpu_s is not None
        return used.cpu_s

    much_s, little_s = await asyncio.gather(worked("much"), worked("little"))
    assert much_s >= 0.6
    assert 0.1 <= little_s < 0.5


async def test_nothing_is_measured_where_no_process_is_at_work(tmp_path: Path) -> None:
    done = await run(["true"], cwd=tmp_path, env={}, timeout_s=10, max_bytes=10)
    assert done.status == 0
