"""Killing workers: each life boots, checks what the last one left, and works until SIGKILL ends its process group."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.reliability.deeds import Deeds
from benchmarks.reliability.outcome import Outcome
from benchmarks.reliability.place import BOOT, ROOT, Place

LIVES = 40
"""How many processes are killed on one home before the next one is begun."""

_EARLY = 0.2
"""The share of kills drawn from the time of starting and checking, so that recovery is killed as well."""

_PATIENCE_S = 120.0
_ROUNDS = 1.5


def kill_workers(folder: Path, scenario: str, kills: int, seed: int) -> Outcome:
    """Kill that many workers of a scenario."""
    outcome, chance = Outcome(name=scenario), random.Random(f"{seed} {scenario}")
    number = 0
    while outcome.trials < kills:
        place = Place(folder / f"{scenario}-{number}")
        place.prepare()
        _one_home(place, scenario, min(LIVES, kills - outcome.trials), chance, outcome)
        number += 1
    return outcome


def _one_home(place: Place, scenario: str, kills: int, chance: random.Random, outcome: Outcome) -> None:
    """A home of its own: its first life says how long starting and a round of work take."""
    ready_s, round_s = _measured(place, scenario, chance, outcome)
    for _ in range(kills):
        worker = Worker(place, scenario, chance.randrange(1 << 30))
        if chance.random() < _EARLY:
            time.sleep(chance.uniform(0, ready_s))
        elif worker.wait_for("ready"):
            time.sleep(chance.uniform(0, _ROUNDS * round_s))
        worker.kill()
        outcome.trials += 1
        _judge(worker, outcome)
    outcome.cut += _cut_off(place)
    last = Worker(place, "check", chance.randrange(1 << 30))
    last.wait_for("ready")
    outcome.must(last.end() == 0, f"the last check did not end well: {last.errors[-300:]}")
    outcome.violations += last.violations()
    verify(place, outcome)
    deeds = Deeds(path=place.deeds)
    outcome.facts += Counter(deed.kind for deed in deeds.all.values() if deed.done is not None)
    outcome.facts["checks"] += deeds.checks


def _measured(place: Place, scenario: str, chance: random.Random, outcome: Outcome) -> tuple[float, float]:
    began = time.monotonic()
    worker = Worker(place, scenario, chance.randrange(1 << 30))
    worker.wait_for("ready")
    ready = time.monotonic()
    worker.wait_for("round")
    done = time.monotonic()
    worker.kill()
    _judge(worker, outcome)
    return ready - began, done - ready


def _judge(worker: Worker, outcome: Outcome) -> None:
    """Where nothing is wrong but the kill, nothing is refused either."""
    outcome.violations += worker.violations()
    outcome.violations += [f"refused: {sentence}" for sentence in worker.said("refused")]


def _cut_off(place: Place) -> Counter[str]:
    return Counter(deed.kind for deed in Deeds(path=place.deeds).all.values() if deed.done is None)


def verify(place: Place, outcome: Outcome) -> None:
    """Let the command line itself look at the audit log."""
    done = boot(place, "audit", "verify")
    outcome.must(done.returncode == 0, f"audit verify: {done.stderr.strip()[-300:]}")


def boot(place: Place, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python boot.py …` with a home."""
    return subprocess.run(
        [sys.executable, str(BOOT), *args],
        cwd=place.workspace,
        env=place.environ() | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )


class Worker:
    """A life, in a process group of its own."""

    def __init__(
        self,
        place: Place,
        scenario: str,
        seed: int,
        *,
        before: Callable[[], object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.errors = ""
        self._said = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.reliability.worker", str(place.root), scenario, str(seed)],
            cwd=ROOT,
            env={**place.environ(), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=before,
        )

    def wait_for(self, word: str) -> bool:
        """Read what it says up to a line that begins so; False if it ended before."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said += line
            if line.startswith(word):
                return True
        return False

    def kill(self) -> None:
        """SIGKILL to all of it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self.end()

    def end(self) -> int:
        """Wait for its end, whoever ended it."""
        said, errors = self._process.communicate(timeout=_PATIENCE_S)
        self._said += said
        self.errors += errors
        return self._process.returncode

    def balance(self) -> int:
        """What the battery held at its check, in millionths of a dollar."""
        return int((self.said("balance") or ["0"])[-1])

    def said(self, word: str) -> list[str]:
        """What stands behind a word at the beginning of its lines."""
        return [line.removeprefix(f"{word} ") for line in self._said.splitlines() if line.startswith(f"{word} ")]

    def violations(self) -> list[str]:
        """What it found wrong, and whether it fell over by itself."""
        found = self.said("violated")
        if self._process.returncode not in (0, -signal.SIGKILL):
            found.append(f"a worker fell over: {self.errors.strip()[-500:]}")
        return found
