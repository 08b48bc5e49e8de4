"""Batches on several cores: whoever replays a goal, the same is permitted, and counted."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.door import Door

BURNT_S = 0.05
PEEK = f"""\
import multiprocessing
import time

from plugins import ToolContext, llm_tool


def peek(ctx: ToolContext, path: str) -> str:
    is_worker = multiprocessing.parent_process() is not None
    until_s = time.thread_time() + {BURNT_S}
    while time.thread_time() < until_s:
        pass
    if not is_worker:
        time.sleep(0.5)  # so that there are goals left when the workers have started
    return ctx.resolve(path).read_text() + (" by worker" if is_worker else " by kernel")


llm_tool("peek", "Look into a file.", {{"path": str}}, effect="read", paths=("path",), version="1")(peek)
"""
TRACE = """\
format: 1
id: peek-into
goals: ['Peek into {file}']
slots: {file: path}
steps:
  - {id: s, tool: peek, args: {path: "${{ file }}"}, effect: read}
answer: "${{ steps.s }}"
"""
OPEN = [f"open{number}.txt" for number in range(40)]
CLOSED = [f"closed{number}.txt" for number in range(4)]
RULE = "{deny: peek, path: 'closed*'}"


@pytest.fixture
def home(door: Door) -> Door:
    """A door with a trace that only looks, and files to look into."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core has no workers")
    (door.home / "plugins").mkdir(parents=True)
    (door.home / "plugins" / "peek.py").write_text(PEEK)
    (door.workspace / "peek.yaml").write_text(TRACE)
    for name in (*OPEN, *CLOSED):
        (door.workspace / name).write_text(f"words of {name}")
    assert door("traces", "import", "peek.yaml", "--trust").returncode == 0
    (door.workspace / "goals.txt").write_text("".join(f"Peek into {name}\n" for name in (*OPEN, *CLOSED)))
    return door


def results(door: Door) -> dict[str, dict[str, Any]]:
    """The result for each file."""
    text = (door.workspace / "results.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return {row["goal"].split()[-1]: row for row in rows if row["status"] != "begun"}


def peeked(door: Door, *options: str) -> dict[str, dict[str, Any]]:
    door(*options, "batch", "goals.txt", "--jobs", "2", "--out", "results.jsonl")
    return results(door)


def assert_closed(found: dict[str, dict[str, Any]]) -> None:
    assert [found[name]["status"] for name in OPEN] == ["done"] * len(OPEN)
    assert [found[name]["status"] for name in CLOSED] == ["failed"] * len(CLOSED), found[CLOSED[0]]
    assert all("not permitted" in found[name]["error"] for name in CLOSED), found[CLOSED[0]]


def test_workers_do_what_nothing_forbids_and_what_their_tools_use_is_told(home: Door) -> None:
    home.env["LLMOS_DAEMON"] = "1"
    try:
        found = peeked(home)
        told = {one["goal"].split()[-1]: one["resources"] for one in home.json("ps", "--all")["processes"]}
    finally:
        home("down", "--now")
    assert {row["status"] for row in found.values()} == {"done"}
    by_workers = [name for name, row in found.items() if row["answer"].endswith("by worker")]
    assert by_workers
    assert all(told[name]["cpu_s"] >= BURNT_S for name in (*by_workers, OPEN[0]))


def test_workers_keep_to_the_roles_of_a_class(home: Door) -> None:
    (home.home / "llmos.yaml").write_text(
        f"permissions:\n  roles:\n    closed:\n      - {RULE}\nclasses:\n  user:\n    roles: [closed]\n"
    )
    found = peeked(home)
    assert "by worker" in {found[name]["answer"].split(".txt ")[1] for name in OPEN}
    assert_closed(found)


def test_a_profile_s_rules_hold_for_a_batch(home: Door) -> None:
    (home.home / "agents").mkdir()
    (home.home / "agents" / "careful.yaml").write_text(f"format: 1\nname: careful\nrules:\n  - {RULE}\n")
    assert_closed(peeked(home, "--as", "careful"))
