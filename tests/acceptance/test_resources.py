"""What a process's tools used, as `ps --json` and `runs show` tell it, while it is alive and after its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.test_processes import processes, spawned, until
from tests.door import Door

HELD_BYTES, TEXT_BYTES = 50_000_000, 40_000
BURN = "import time\\nwhile time.process_time() < {seconds}: pass\\n"
TRACES = {
    "hold": ("Hold {n} things", f"result = len('x' * {HELD_BYTES})"),
    "burn": ("Burn {n} seconds", BURN.format(seconds=1.0) + "result = 1"),
    "endless": ("Burn {n} seconds without an end", BURN.format(seconds=50.0)),
}
TRACE = """\
format: 1
id: {name}
goals: ['{goal}']
slots: {{n: number}}
steps:
  - {{id: s, tool: python, args: {{code: "{code}", inputs: {{n: "${{{{ n }}}}"}}}}, effect: read}}
answer: "done"
"""
WRITE = f"""\
format: 1
id: write-much
goals: ['Write much into {{file}}']
slots: {{file: path}}
steps:
  - {{id: s, tool: write, args: {{file_path: "${{{{ file }}}}", content: "{"x" * TEXT_BYTES}"}}, effect: write}}
answer: "done"
"""


@pytest.fixture
def home(door: Door) -> Iterator[Door]:
    """A door whose commands go through a resident kernel, with traces that use something."""
    door.env["LLMOS_DAEMON"] = "1"
    texts = {name: TRACE.format(name=name, goal=goal, code=code) for name, (goal, code) in TRACES.items()}
    for name, text in {**texts, "write": WRITE}.items():
        (door.workspace / f"{name}.yaml").write_text(text)
        done = door("traces", "import", f"{name}.yaml", "--trust")
        assert done.returncode == 0, done.stderr
    yield door
    door("down", "--now")


def used(door: Door, pid: int) -> dict[str, Any]:
    found = processes(door, "--all")[pid]["resources"]
    assert set(found) == {"cpu_s", "peak_memory_bytes", "disk_written_bytes"}
    return dict(found)


def test_each_process_is_told_what_its_own_tools_used_also_after_its_end(home: Door) -> None:
    pids = [spawned(home, goal) for goal in ("Hold 1 things", "Burn 1 seconds", "Write much into a.txt")]
    done = home("wait", *map(str, pids))
    assert done.returncode == 0, done.stderr
    held, burnt, wrote = (used(home, pid) for pid in pids)
    assert held["peak_memory_bytes"] >= HELD_BYTES > burnt["peak_memory_bytes"] > 0
    assert burnt["cpu_s"] >= 1.0 > wrote["cpu_s"] > 0
    assert (wrote["peak_memory_bytes"], wrote["disk_written_bytes"]) == (None, TEXT_BYTES)
    run = processes(home, "--all")[pids[2]]["run_id"]
    assert home.json("runs", "show", run)["resources"] == wrote
    assert "40 kB written to disk" in home("runs", "show", run).stdout


def test_what_a_killed_process_had_used_is_told(home: Door) -> None:
    home("wait", str(spawned(home, "Hold 1 things")))  # by then it is known which walls hold
    pid = spawned(home, "Burn 7 seconds without an end")
    until(lambda: processes(home)[pid]["steps"])
    until(lambda: processes(home)[pid]["age_s"] > 4)
    assert home("kill", str(pid)).returncode == 0
    until(lambda: not processes(home))
    assert processes(home, "--all")[pid]["why"] == "killed"
    found = used(home, pid)
    assert found["cpu_s"] >= 0.2
    assert found["peak_memory_bytes"] > 1_000_000


def test_a_run_of_a_process_that_nobody_knows_any_more_tells_nothing(home: Door) -> None:
    pid = spawned(home, "Burn 1 seconds")
    home("wait", str(pid))
    run = processes(home, "--all")[pid]["run_id"]
    assert home.json("runs", "show", run)["resources"]["cpu_s"] >= 1.0
    home("down")
    assert home.json("runs", "show", run)["resources"] is None
    assert "its tools used" not in home("runs", "show", run).stdout
