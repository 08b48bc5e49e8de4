"""The sandbox as a user meets it: through the command line, with a model that tries to get out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, say
from tests.door import BOOT, Door

THEFT = (
    "cat ../home/memory/llmos.duckdb ../home/llmos.yaml ~/.ssh/id; cat /proc/*/environ | tr '\\0' '\\n' | grep KEY; "
    "echo evil >> ~/.bashrc; echo evil > ../home/plugins.py; echo stolen > kept.txt; curl -sS http://example.invalid"
)


def thief(request: Request) -> Turn:
    if not request.tool_results:
        return call("bash", command=THEFT)
    return say(request.tool_results[0].text)


@pytest.fixture
def home(door: Door) -> Path:
    (door.user / ".ssh").mkdir()
    (door.user / ".ssh" / "id").write_text("my-own-key")
    (door.user / ".bashrc").write_text("# mine\n")
    door.home.mkdir()
    (door.home / "llmos.yaml").write_text("mcp_servers: {x: {url: 'http://127.0.0.1:1', headers: {Auth: t0ken}}}\n")
    return door.home


def holds(door: Door) -> str:
    """The walls that `doctor` names, or a skipped test."""
    finding = next(one for one in door.json("doctor")["findings"] if one["name"] == "sandbox")
    if finding["state"] != "ok":
        pytest.skip(finding["detail"])
    return str(finding["detail"])


def test_a_model_that_steals_gets_nothing_and_the_run_says_behind_which_walls(door: Door, home: Path) -> None:
    holds(door)
    with ScriptedServer(thief) as server:
        done = door("Tidy up my files", "-v", "--yes", env=server.env(door.user))
        told = json.dumps([request.tool_results[0].text for request in server.conversation if request.tool_results])
    assert re.search(r"^· bash: sandbox (bubblewrap|landlock).*, without network$", done.stderr, re.MULTILINE), (
        done.stderr
    )
    assert "the network is closed to bash; allow it with `sandbox_network: [bash]` in llmos.yaml." in told
    for secret in ("my-own-key", "t0ken", "DUCK", "ANTHROPIC_API_KEY="):
        assert secret not in told
    assert (door.user / ".bashrc").read_text() == "# mine\n"
    assert not (home / "plugins.py").exists()
    assert (door.workspace / "kept.txt").read_text() == "stolen\n"


def test_doctor_says_which_walls_hold_and_what_the_attack_saw(door: Door) -> None:
    detail = holds(door)
    assert "it was attacked, and nothing got out" in detail
    assert detail.startswith("bubblewrap ") or shutil.which("bwrap") is None or "bubblewrap: " in detail
    note = door.home / "memory" / "sandbox.json"
    before = note.stat().st_mtime_ns
    assert holds(door) == detail
    assert note.stat().st_mtime_ns == before


def test_a_followed_goal_without_a_process_finds_nothing_out(door: Door) -> None:
    assert door("Calculate 2 + 3").stdout == "5\n"
    watched = [sys.executable, "-X", "importtime", str(BOOT), "Calculate 3 + 3"]
    done = subprocess.run(watched, cwd=door.workspace, env=door.env, capture_output=True, text=True, check=True)
    assert "llmos.kernel.replay" in done.stderr
    assert "llmos.kernel.sandbox" not in done.stderr
    assert not (door.home / "memory" / "sandbox.json").exists()


def test_none_is_said_by_doctor_and_by_every_run(door: Door, home: Path) -> None:
    (home / "llmos.yaml").write_text("sandbox: none\n")
    finding = next(one for one in door.json("doctor")["findings"] if one["name"] == "sandbox")
    assert (finding["state"], finding["detail"]) == ("missing", "none: commands run with all your rights")
    with ScriptedServer(thief) as server:
        done = door("Tidy up my files", "-v", "--yes", env=server.env(door.user))
    assert "· bash: sandbox none, with network" in done.stderr
