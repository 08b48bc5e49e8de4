"""bash: a real shell, bounded and clean."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.contract.toolbox import Toolbox, toolbox


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    return toolbox(tmp_path)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def gone(pid: int) -> bool:
    for _ in range(100):
        if not alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_command_runs_in_the_workspace(box: Toolbox) -> None:
    done = await box.call("bash", command="pwd; echo oops >&2; printf 'a\\nb\\n' | sort -r > out.txt")
    assert done == {"stdout": f"{box.workspace}\n", "stderr": "oops\n", "exit_status": 0, "truncated": False}
    assert (box.workspace / "out.txt").read_text() == "b\na\n"


async def test_a_status_other_than_zero_is_an_error_with_what_was_said(box: Toolbox) -> None:
    assert await box.error("bash", command="echo out; echo err >&2; exit 3") == (
        "the command ended with exit status 3:\nstderr:\nerr\nstdout:\nout"
    )
    assert await box.error("bash", command="false") == "the command ended with exit status 1 and said nothing."
    assert "signal 9" in await box.error("bash", command="kill -9 $$")


async def test_input_is_empty(box: Toolbox) -> None:
    assert (await box.call("bash", command="cat; echo end"))["stdout"] == "end\n"


async def test_a_command_that_takes_too_long_is_stopped_with_its_children(box: Toolbox) -> None:
    started = time.monotonic()
    message = await box.error("bash", command="trap '' TERM; sleep 60 & echo $!; wait", timeout=300)
    assert "stopped after 0.3 s" in message
    assert time.monotonic() - started < 5
    assert await gone(int(message.split()[-1]))


async def test_a_cancelled_command_is_stopped_with_its_children(box: Toolbox) -> None:
    task = asyncio.ensure_future(box.result("bash", command="sleep 60 & echo $! > pid; wait"))
    pid_file = box.workspace / "pid"
    async with asyncio.timeout(10):
        while not (pid_file.exists() and pid_file.read_text().strip()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(int(pid_file.read_text()))


async def test_background_processes_end_with_the_command(box: Toolbox) -> None:
    started = time.monotonic()
    done = await box.call("bash", command="sleep 60 & echo $!")
    assert time.monotonic() - started < 5
    assert await gone(int(done["stdout"]))


async def test_endless_output_is_cut_and_does_not_block(box: Toolbox) -> None:
    done = await box.call("bash", command="head -c 3000000 /dev/zero | tr '\\0' x")
    assert (len(done["stdout"]), done["truncated"]) == (1_000_000, True)


async def test_no_secret_reaches_the_command(box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = (
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "GITHUB_TOKEN",
        "MY_SECRET_THING",
        "DB_PASSWORD",
        "AWS_PROFILE",
    )
    for name in secrets:
        monkeypatch.setenv(name, "s3cret")
    box.services["env"] = {**os.environ, "PLAIN": "yes"}
    told = (await box.call("bash", command="env"))["stdout"]
    assert "s3cret" not in told
    assert "PLAIN=yes" in told
    box.services.clear()
    told = (await box.call("bash", command="env"))["stdout"]
    assert "s3cret" not in told
    assert "PATH=" in told


async def test_output_that_is_no_utf8_is_readable(box: Toolbox) -> None:
    assert (await box.call("bash", command="printf 'caf\\351'"))["stdout"] == "caf\ufffd"


async def test_an_empty_command_is_refused(box: Toolbox) -> None:
    assert await box.error("bash", command="  ") == "the command is empty."


async def test_a_hundred_commands_leave_no_descriptor_open(box: Toolbox) -> None:
    await box.call("bash", command="true")
    before = open_descriptors()
    for _ in range(5):
        await asyncio.gather(*(box.call("bash", command="echo x") for _ in range(20)))
    assert open_descriptors() <= before + 2
