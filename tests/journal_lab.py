"""A workspace with a journal, as boot wires them: the real registry, tools, database and images."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmos.interfaces.undoing import Undoing, Undone
from llmos.kernel.journal import Journal
from llmos.memory.database import Database
from llmos.memory.journal import JournalStore
from llmos.memory.runs import RunStore
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import ToolResult
from llmos.redaction.redactor import Redactor
from llmos.settings import JournalSettings
from llmos.testing import FrozenClock
from llmos.trace.effects import JournalEntry
from tests.contract.memory_lab import NOW
from tests.contract.toolbox import builtin_registry

Tree = dict[str, tuple[Any, ...]]


def tree(root: Path) -> Tree:
    """Everything below a folder: content, permissions, what links say."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        name = path.relative_to(root).as_posix()
        if stat.S_ISLNK(info.st_mode):
            found[name] = ("link", str(path.readlink()))
        elif stat.S_ISDIR(info.st_mode):
            found[name] = ("folder", stat.S_IMODE(info.st_mode))
        elif stat.S_ISREG(info.st_mode):
            found[name] = ("file", stat.S_IMODE(info.st_mode), path.read_bytes())
        else:
            found[name] = ("special",)
    return found


@dataclass(kw_only=True)
class JournalLab:
    """Calls tools as runs do, journalled, and undoes them."""

    root: Path
    db: Database
    limits: JournalSettings = field(default_factory=JournalSettings)
    registry: ToolRegistry = field(default_factory=builtin_registry)
    clock: FrozenClock = field(default_factory=lambda: FrozenClock(NOW))
    journal: Journal = field(init=False)
    steps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workspace.mkdir(exist_ok=True)
        self.store = JournalStore(self.db, clock=self.clock)
        self.runs = RunStore(self.db, clock=self.clock)
        images = self.memory / "images"
        self.journal = Journal(
            self.store, images, self.limits, redact=Redactor().text, closed=(self.memory,), clock=self.clock
        )
        self.undoing = Undoing(
            journal=self.journal,
            store=self.store,
            runs=self.runs,
            workspace=self.workspace,
            closed=frozenset({str(self.memory.resolve())}),
            clock=self.clock,
        )

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    @property
    def memory(self) -> Path:
        return self.root / "memory"

    def context(self, run: str) -> ToolContext:
        return ToolContext(
            workspace=self.workspace, run_id=run, middleware=(self.journal,), denied=(self.memory.resolve(),)
        )

    def add(self, *functions: Any) -> None:
        """Give the registry (a copy of the shared one) tools of the test."""
        fresh = ToolRegistry()
        for tool in (*self.registry, *map(tool_of, functions)):
            fresh.register(tool)
        self.registry = fresh

    async def result(self, run: str, tool: str, **arguments: Any) -> ToolResult:
        step = self.steps.get(run, 0)
        self.steps[run] = step + 1
        return await self.registry.call(tool, arguments, replace(self.context(run), step=step))

    async def call(self, run: str, tool: str, **arguments: Any) -> Any:
        """The output; the test fails on an error."""
        result = await self.result(run, tool, **arguments)
        assert not result.is_error, result.output
        return result.output

    async def undo(self, run: str, *, keep_changed: bool = False) -> Undone:
        return await self.undoing.undo(await self.undoing.plan(run), keep_changed=keep_changed)

    async def entries(self, run: str) -> list[JournalEntry]:
        return await self.store.of_run(run)

    def write(self, name: str, content: str | bytes, mode: int = 0o644) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def read(self, name: str) -> str:
        return (self.workspace / name).read_text()

    @property
    def tree(self) -> Tree:
        return tree(self.workspace)

    @property
    def kept(self) -> set[str]:
        """The names in the folder of images, leftovers included."""
        folder = self.memory / "images"
        return set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208


@asynccontextmanager
async def journal_lab(root: Path, **how: Any) -> AsyncIterator[JournalLab]:
    """A laboratory below `root`; what a laboratory there stored before is still there."""
    (root / "memory").mkdir(exist_ok=True)
    async with Database(root / "memory" / "llmos.duckdb") as db:
        lab = JournalLab(root=root, db=db, **how)
        yield lab
        await lab.journal.aclose()
