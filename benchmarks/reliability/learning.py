"""Killing `boot.py` while Claude's own client learns: the whole process group, or the main process alone."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.reliability.deeds import Deed, Deeds
from benchmarks.reliability.kills import Worker, verify
from benchmarks.reliability.outcome import Outcome
from benchmarks.reliability.place import BOOT, Place
from llmos.testing import Request, ScriptedServer, Turn, call, say, usage

_PATIENCE_S = 180.0
_TOKENS = usage(input_tokens=20_000, output_tokens=1_000)
BATTERY = "battery: {initial_usd: 1000.0}\n"


def script(request: Request) -> Turn:
    """Write a note, ring, finish, say so; each answer is billed alike."""
    name = request.prompt.rpartition("bell for ")[2].split(" ")[0]
    turns = (
        call("write", file_path=f"{name}.txt", content=f"rung for {name}"),
        call("ring", name=name),
        call("finish", answer="noted and rung"),
        say("noted and rung"),
    )
    return replace(turns[min(len(request.tool_results), 3)], usage=_TOKENS)


@dataclass(kw_only=True)
class Learning:
    """A home on which the real client learns from the scripted server; an answer costs `unit` millionths of a dollar.

    `balance` is what the battery held at first. With `counts_taken` only those answers must be charged that the client
    has taken, which is what it says with its next request; else all that were asked for.
    """

    place: Place
    server: ScriptedServer
    chance: random.Random
    outcome: Outcome
    unit: int = 0
    balance: int = 0
    counts_taken: bool = False

    @property
    def taken(self) -> dict[str, int]:
        """How many answers of each conversation the client has taken, for certain."""
        found: dict[str, int] = {}
        for request in self.server.conversation:
            found[request.prompt] = max(found.get(request.prompt, 0), len(request.tool_results))
        return found

    def begin(self) -> tuple[Deed, subprocess.Popen[str]]:
        deeds = Deeds(path=self.place.deeds)
        name = f"guest-{len(deeds.all) + 1}"
        (self.place.workspace / f"{name}.txt").write_text("")
        goal = f"Note it in {name}.txt and ring the bell for {name}"
        deed = deeds.begin("learn", name=name, goal=goal, files={f"{name}.txt": f"rung for {name}"})
        process = subprocess.Popen(
            [sys.executable, str(BOOT), "--mode", "learn", "--json", goal],
            cwd=self.place.workspace,
            env=self.place.environ() | self.server.env(self.place.root / "user"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return deed, process

    def acknowledge(self, deed: Deed, process: subprocess.Popen[str]) -> float:
        """Take the answer of a command that was left alone, or ended before its kill; gives what it cost."""
        out, errors = process.communicate(timeout=_PATIENCE_S)
        if process.returncode != 0:
            self.outcome.must(process.returncode == -signal.SIGKILL, f"boot.py fell over: {errors.strip()[-300:]}")
            return 0.0
        return self.acknowledged(deed, json.loads(out))

    def acknowledged(self, deed: Deed, result: dict[str, Any]) -> float:
        """Note what a command that succeeded has said; gives what it cost."""
        Deeds(path=self.place.deeds).acknowledge(
            deed, run=result["run_id"], cost_usd=result["cost_usd"], trace=result["trace_id"] or ""
        )
        self.outcome.facts["learned before the kill"] += 1
        return float(result["cost_usd"])

    def measure(self) -> float:
        """Learn once without a kill: gives how long that takes, and knows what an answer costs."""
        worker = Worker(self.place, "check", 0)
        worker.wait_for("ready")
        worker.end()
        self.balance = worker.balance()
        began = time.monotonic()
        deed, process = self.begin()
        cost_usd = self.acknowledge(deed, process)
        took_s = time.monotonic() - began
        self.outcome.must(cost_usd > 0, "learning that is left alone does not succeed")
        self.unit = int(cost_usd * 1e6 / max(1, len(self.server.conversation)))
        self.check()
        return took_s

    def check(self) -> None:
        """Open the home anew; whatever the server answered must be charged."""
        worker = Worker(self.place, "check", self.chance.randrange(1 << 30))
        worker.wait_for("ready")
        self.outcome.must(worker.end() == 0, f"the check did not end well: {worker.errors[-300:]}")
        self.outcome.violations += worker.violations()
        answers = sum(self.taken.values()) if self.counts_taken else len(self.server.conversation)
        charged, billed = self.balance - worker.balance(), answers * self.unit
        self.outcome.must(charged >= billed, f"ledger: the server billed {billed} and {charged} is charged")
        self.outcome.must(not self._left(), "processes: something of the killed command is still running")

    def _left(self) -> list[int]:
        """Processes of this home that are still there, given a moment to end."""
        mark = f"LLMOS_HOME={self.place.home}".encode()
        for _ in range(50):
            found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _environ(path)]
            if not found:
                return []
            time.sleep(0.1)
        return found


def _environ(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []


def kill_learners(folder: Path, kills: int, seed: int) -> Outcome:
    """Kill that many commands at moments spread over the time that learning takes when it is left alone."""
    outcome, chance = Outcome(name="learning"), random.Random(f"{seed} learning")
    place = Place(folder / "learning")
    place.prepare()
    with (place.home / "llmos.yaml").open("a") as stream:
        stream.write(BATTERY)
    with ScriptedServer(script) as server:
        learning = Learning(place=place, server=server, chance=chance, outcome=outcome)
        took_s = learning.measure()
        for _ in range(kills):
            _killed(learning, took_s)
    outcome.facts["model answers billed"] = len(server.conversation)
    verify(place, outcome)
    return outcome


def _killed(learning: Learning, took_s: float) -> None:
    deed, process = learning.begin()
    answered = len(learning.server.conversation)
    time.sleep(learning.chance.uniform(0, took_s))
    with contextlib.suppress(ProcessLookupError):
        if learning.chance.random() < 0.5:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
            learning.outcome.facts["main process alone"] += 1
    learning.acknowledge(deed, process)
    if Deeds(path=learning.place.deeds).all[deed.no].done is None:
        learning.outcome.cut["learn"] += 1
        learning.outcome.facts["killed between answers"] += len(learning.server.conversation) > answered
    learning.outcome.trials += 1
    learning.check()
