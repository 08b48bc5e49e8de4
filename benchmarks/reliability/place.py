"""A home with traces, rules and a tool that rings a bell: what is killed and opened again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from llmos.boot import LLMOS
from llmos.settings import Settings, load_settings
from llmos.testing import HashEmbedder
from llmos.trace.codec import loads_yaml

ROOT = Path(__file__).resolve().parents[2]
BOOT = ROOT / "boot.py"
FILES = ("one.txt", "two.txt", "three.txt")

BELL = '''"""A bell that can be rung once too often: each call adds a line to a file outside of the workspace."""

import os
from pathlib import Path

from plugins import llm_tool

LOG = Path(@LOG@)


@llm_tool("ring", "Ring the bell for somebody", {"name": str}, effect="external")
async def ring(name: str) -> dict:
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{name}\\n".encode())
    finally:
        os.close(descriptor)
    return {"text": f"rung for {name}"}
'''

RULES = """permissions:
  rules:
    - {allow: ring, effect: external}
"""

RING = """
format: 1
id: ring
goals: ["Ring the bell for {name}"]
slots: {name: text}
steps:
- {id: ring, tool: ring, args: {name: "${{ name }}"}, effect: external}
answer: {value: "${{ steps.ring.text }}"}
provenance: imported
status: trusted
"""

PUT = """
format: 1
id: put
goals: ["Put {text} into {first} and {second}"]
slots: {text: quoted, first: path, second: path}
steps:
- {id: first, tool: write, args: {file_path: "${{ first }}", content: "${{ text }}"}, effect: write}
- {id: second, tool: write, args: {file_path: "${{ second }}", content: "${{ text }}"}, effect: write}
answer: {value: "put"}
provenance: imported
status: trusted
"""


def task(no: int) -> str:
    """A small trace of its own for each number."""
    return f"""
format: 1
id: task-{no}
goals: ["Work out case number {no} with {{expression}}"]
slots: {{expression: text}}
steps:
- {{id: calculate, tool: calculate, args: {{expression: "${{{{ expression }}}}"}}, effect: pure}}
answer: {{value: "${{{{ steps.calculate.text }}}}"}}
provenance: imported
status: trusted
"""


class Place:
    """The folders of one home, made if they are not there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home, self.workspace = root / "home", root / "workspace"
        self.bell, self.deeds = root / "bell.log", root / "deeds.jsonl"

    def prepare(self) -> None:
        """Files, plugin and rules; the traces are added by whoever boots first."""
        (self.home / "plugins").mkdir(parents=True)
        self.workspace.mkdir(exist_ok=True)
        (self.root / "user").mkdir()
        (self.home / "plugins" / "bell.py").write_text(BELL.replace("@LOG@", repr(str(self.bell))))
        (self.home / "llmos.yaml").write_text(RULES)
        for name in FILES:
            (self.workspace / name).write_text("")

    def environ(self) -> dict[str, str]:
        tools = str(Path(sys.executable).parent)
        return {
            "PATH": f"{tools}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.root / "user"),
            "LANG": "C.UTF-8",
            "LLMOS_HOME": str(self.home),
            "LLMOS_DAEMON": "0",
        }

    def settings(self) -> Settings:
        return load_settings(home=self.home, workspace=self.workspace, environ=self.environ())

    def system(self) -> LLMOS:
        return LLMOS(settings=self.settings(), embedder=HashEmbedder())

    def rung(self) -> list[str]:
        """For whom the bell was rung, once for each time."""
        return self.bell.read_text(encoding="utf-8").splitlines() if self.bell.exists() else []

    def contents(self) -> dict[str, str]:
        """Every file of the workspace."""
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(self.workspace.iterdir())}


async def teach(system: LLMOS) -> None:
    """Give a new home its traces."""
    for text in (RING, PUT):
        await system.traces.add(loads_yaml(text))
