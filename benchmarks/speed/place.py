"""A home and a workspace for measuring: the shipped traces, and one that only the encoder leads to."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BOOT = ROOT / "boot.py"

# Nothing in it costs time, so what is measured is ours. Its trace has no word that could tell it from others: every
# look-up of it goes through the encoder and the index.
UNITS = """\
from plugins import llm_tool

METRES = {"km": 1000, "m": 1, "cm": 0.01}


def convert_unit(amount: str, source: str, target: str) -> str:
    return f"{float(amount) * METRES[source] / METRES[target]:g} {target}"


UNIT = {"enum": [*METRES]}
llm_tool("convert_unit", "Convert a length.", {"amount": str, "source": UNIT, "target": UNIT}, effect="pure")(
    convert_unit
)
"""
TRACE = """\
format: 1
id: unit-in-unit
goals: ["{amount} {source} in {target}"]
slots:
  amount: number
  source: {type: choice, values: [km, m, cm]}
  target: {type: choice, values: [km, m, cm]}
steps:
  - id: it
    tool: convert_unit
    args: {amount: "${{ amount }}", source: "${{ source }}", target: "${{ target }}"}
    effect: pure
answer: "${{ steps.it }}"
"""
EXACT, SKELETON, SEMANTIC = "Calculate 2 + 3", "Calculate {number} + 3", "{number} km in m"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where measured commands work."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def workspace(self) -> Path:
        return self.folder / "work"

    @property
    def env(self) -> dict[str, str]:
        """A clean environment; with the daemon as it is by default."""
        plain = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder), "LANG": "C.UTF-8"}
        return {**plain, "LLMOS_HOME": str(self.home)}

    def command(self, *args: str) -> list[str]:
        return [sys.executable, str(BOOT), *args]

    def run(self, *args: str) -> str:
        """One command that must succeed; its standard output."""
        done = subprocess.run(
            self.command(*args), cwd=self.workspace, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{args}: {done.stderr}")
        return done.stdout


@contextmanager
def place() -> Iterator[Place]:
    """A place of its own, whose kernel is ended with it."""
    with tempfile.TemporaryDirectory(prefix="llmos-speed-") as folder:
        made = Place(folder=Path(folder))
        made.workspace.mkdir()
        (made.home / "plugins").mkdir(parents=True)
        (made.home / "plugins" / "units.py").write_text(UNITS)
        (made.workspace / "unit.yaml").write_text(TRACE)
        made.run("--no-daemon", "traces", "import", "unit.yaml", "--trust")
        try:
            yield made
        finally:
            made.run("down", "--now")
