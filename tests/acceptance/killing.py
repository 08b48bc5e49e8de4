"""The bell that processes ring while their kernel is killed, and the killing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from llmos.testing import ScriptedServer
from tests.door import Door

WAIT_S = 90.0
RINGS = 4

RING = """\
import asyncio
from pathlib import Path

from plugins import llm_tool


async def ring(times: str) -> str:
    with Path("BELL").open("a") as bell:
        bell.write(f"{times}\\n")
    await asyncio.sleep(0.3)
    return f"rang {times}"


llm_tool("ring", "Ring the bell.", {"times": str}, effect="external", version="1")(ring)
"""


def until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def rings(door: Door) -> list[str]:
    path = door.workspace / "bell.txt"
    return path.read_text().split() if path.exists() else []


def kill_kernel(door: Door) -> None:
    pid = int(door.json("status")["pid"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"))  # noqa: PTH110


def killed_at_random(door: Door, server: ScriptedServer, pid: int, seed: int) -> tuple[int, dict[str, Any]]:
    """Kill the kernel of a process three times, at times that the seed says, and go on each time.

    Gives how often that was, and the run in the end: it is done, nothing was rung twice, and nothing is reserved.
    """
    rng, kills = random.Random(seed), 0
    for _ in range(3):
        until(lambda asked=kills: len(server.conversation) > asked)  # type: ignore[misc]
        time.sleep(rng.uniform(0.0, 1.5))
        kill_kernel(door)
        kills += 1
        if pid not in {process["pid"] for process in door.json("ps")["processes"]}:
            break
        assert door("resume", str(pid)).returncode == 0
    door("wait", str(pid))
    (run,) = [one for one in door.json("runs", "list")["runs"] if "Ring" in one["goal"]]
    assert run["status"] == "done", run["reason"]
    assert len(rings(door)) == len(set(rings(door)))
    assert door.json("battery", "show")["reserved_usd"] == 0
    return kills, run
