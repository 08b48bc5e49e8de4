"""Other processes that fail us: Claude's client is killed in mid-turn, an MCP server hangs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.reliability.kills import Worker, boot, verify
from benchmarks.reliability.learning import BATTERY, Learning
from benchmarks.reliability.learning import script as learn_script
from benchmarks.reliability.outcome import Outcome
from benchmarks.reliability.place import ROOT, Place
from llmos.testing import Request, ScriptedServer, Turn, slow
from llmos.trace.codec import dumps_yaml, loads_yaml

_TURN_S = 0.5
_LONGEST_S = 60.0


def kill_clients(folder: Path, trials: int, seed: int) -> Outcome:
    """Kill the client that the learner drives while a model speaks: one sentence, and every answer is charged."""
    outcome, chance = Outcome(name="CLI killed in mid-turn"), random.Random(f"{seed} client")
    place = Place(folder / "client")
    place.prepare()
    with (place.home / "llmos.yaml").open("a") as stream:
        stream.write(BATTERY)
    with ScriptedServer(_slowly) as server:
        learning = Learning(place=place, server=server, chance=chance, outcome=outcome, counts_taken=True)
        learning.measure()
        for _ in range(trials):
            _one_client(learning)
        taken = sum(learning.taken.values()) + outcome.facts["learned before the kill"]
        outcome.facts["answers in flight at the kill"] = len(server.conversation) - taken
    verify(place, outcome)
    return outcome


def _slowly(request: Request) -> Turn:
    return slow(_TURN_S, learn_script(request))


def _one_client(learning: Learning) -> None:
    """Wait until a model is being asked for the answer of a random number, and kill the client then."""
    outcome, server = learning.outcome, learning.server
    goal = len(server.conversation) + learning.chance.randrange(1, 5)
    deed, process = learning.begin()
    until = time.monotonic() + _LONGEST_S
    while len(server.conversation) < goal and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    time.sleep(learning.chance.uniform(0, _TURN_S * 0.8))
    clients = [pid for pid in _children_of(process.pid) if _is_client(pid)]
    outcome.must(bool(clients), "there was no client to kill")
    for pid in clients:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    out, errors = process.communicate(timeout=_LONGEST_S * 3)
    sentences = [line for line in errors.splitlines() if line.startswith("llmos: ")]
    if process.returncode == 0:  # the last answer was in already
        learning.acknowledged(deed, json.loads(out))
    else:
        is_told = process.returncode == 1 and len(sentences) == 1 and "Traceback" not in errors
        outcome.must(is_told, f"a killed client: {process.returncode} {errors.strip()[-400:]}")
        outcome.facts["told in one sentence"] += 1
    outcome.trials += 1
    learning.check()


def _children_of(pid: int) -> list[int]:
    """The processes below one, nearest first."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{parent}/task").glob("*/children"):
                found += [int(child) for child in path.read_text().split()]
    return found[1:]


def _is_client(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"_bundled/claude" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


# --- servers that hang -------------------------------------------------------------------------------

_SERVER = """
mcp_servers:
  stuck:
    command: {python}
    args: [{server}, {mode}, {calls}]
    timeout_s: 8
    read_only: [wait]
    sandboxed: false
"""

_WAIT = """
format: 1
id: wait
goals: ["Wait for {name}"]
slots: {name: text}
steps:
- {id: wait, tool: stuck__wait, args: {name: "${{ name }}"}, effect: read}
answer: {value: "${{ steps.wait.text }}"}
provenance: imported
status: trusted
"""


def hang_servers(folder: Path, trials: int, seed: int) -> Outcome:
    """A server that never answers its start, or never a call: the goal ends with a sentence, all else goes on."""
    outcome, chance = Outcome(name="MCP server hanging"), random.Random(f"{seed} mcp")
    for number in range(trials):
        mode = ("start", "call")[number % 2]
        place = Place(folder / f"stuck-{number}")
        place.prepare()
        calls = place.root / "calls"
        server = ROOT / "benchmarks" / "reliability" / "stuck_server.py"
        settings = _SERVER.format(python=sys.executable, server=server, mode=mode, calls=calls)
        with (place.home / "llmos.yaml").open("a") as stream:
            stream.write(settings)
        _one_server(place, mode, number, outcome)
        _no_server_left(calls, outcome)
        told = calls.read_text().splitlines() if calls.exists() else []
        outcome.must(len(told) == len(set(told)), f"a call that hung was made twice: {told}")
        worker = Worker(place, "check", chance.randrange(1 << 30))
        worker.wait_for("ready")
        outcome.must(worker.end() == 0, f"the check did not end well: {worker.errors[-300:]}")
        outcome.violations += worker.violations()
        verify(place, outcome)
        outcome.facts[f"hangs at its {mode}"] += 1
        outcome.trials += 1
    return outcome


def _one_server(place: Place, mode: str, number: int, outcome: Outcome) -> None:
    """List its tools, follow a trace that calls one, and something that has nothing to do with it."""
    listed = boot(place, "tools", "--json")
    is_listed = "stuck__wait" in listed.stdout
    outcome.must(listed.returncode == 0 and is_listed == (mode == "call"), f"tools: {listed.stderr[-300:]}")
    trace = place.root / "wait.yaml"
    trace.write_text(dumps_yaml(replace(loads_yaml(_WAIT), id="wait")))
    taken = boot(place, "traces", "import", str(trace), "--trust")
    outcome.must(taken.returncode == 0, f"the trace was not imported: {taken.stderr[-300:]}")
    waited = boot(place, "--mode", "follow", f"Wait for guest-{number}")
    sentences = [line for line in waited.stderr.splitlines() if line.startswith("llmos: ")]
    is_told = waited.returncode not in (0, 130) and sentences and "Traceback" not in waited.stderr
    outcome.must(bool(is_told), f"a server that hangs: {waited.returncode} {waited.stderr[-400:]}")
    other = boot(place, "--mode", "follow", "Calculate 6 * 7")
    outcome.must(other.stdout.strip() == "42", f"another goal: {other.stderr[-300:]}")


def _no_server_left(calls: Path, outcome: Outcome) -> None:
    mark = str(calls).encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            outcome.must(mark not in path.read_bytes().split(b"\0"), "a server that hangs outlives its command")
