"""Traces that read and write in every way, and a judge: the same goal really done again, in a copy of the workspace."""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from llmos.boot import LLMOS
from llmos.errors import LLMOSError
from llmos.interfaces.results import Result
from llmos.settings import load_settings
from llmos.testing import HashEmbedder
from llmos.trace.codec import loads_yaml
from tests.journal_lab import Tree, tree

HEAD = "format: 1\nid: {name}\ngoals: [{goal!r}]\nslots: {{{slots}}}\nstatus: trusted\n"

WRITE_TEXT = """
- id: write
  tool: write
  args: {file_path: "${{ target }}", content: "${{ steps.look.text }}"}
  effect: write
"""


def noting(step: str) -> str:
    """Steps that look at something and write what it says."""
    return f"steps:\n- id: look\n{step}{WRITE_TEXT}answer:\n  value: ${{{{ steps.look.text }}}}\n"


TOTAL = "  tool: query_data\n  args: {sql: %s, files: {data: '${{ source }}'}}\n  effect: read"

TRACES: dict[str, tuple[str, str, str]] = {
    "total": (
        "Total {source} into {target}",
        "source: path, target: path",
        noting(TOTAL % "select count(*) AS n, max(a) AS top FROM data"),
    ),
    "draw": (
        "Draw from {source} into {target}",
        "source: path, target: path",
        noting(TOTAL % "select random() AS r FROM data"),
    ),
    "names": (
        "Names of {folder} into {target}",
        "folder: path, target: path",
        noting("  tool: glob\n  args: {pattern: '**/*', path: '${{ folder }}'}\n  effect: read"),
    ),
    "details": (
        "Details of {folder} into {target}",
        "folder: path, target: path",
        noting("  tool: count_files\n  args: {path: '${{ folder }}'}\n  effect: read"),
    ),
    "times": (
        "Times of {folder} into {target}",
        "folder: path, target: path",
        """steps:
- id: look
  tool: find_files
  args: {path: "${{ folder }}"}
  effect: read
- id: write
  tool: write
  args: {file_path: "${{ target }}", content: "${{ steps.look.files | json }}"}
  effect: write
""",
    ),
    "twins": (
        "Twins of {folder} into {target}",
        "folder: path, target: path",
        noting("  tool: find_duplicates\n  args: {path: '${{ folder }}'}\n  effect: read"),
    ),
    "search": (
        "Lines of {folder} into {target}",
        "folder: path, target: path",
        noting("  tool: grep\n  args: {pattern: one, path: '${{ folder }}', output_mode: content}\n  effect: read"),
    ),
    "describe": (
        "Describe {source} into {target}",
        "source: path, target: path",
        noting("  tool: describe_data\n  args: {path: '${{ source }}'}\n  effect: read"),
    ),
    "chain": (
        "Chain {source} over {middle} to {target}",
        "source: path, middle: path, target: path",
        """steps:
- id: first
  tool: convert_data
  args: {source: "${{ source }}", target: "${{ middle }}"}
  effect: write
- id: second
  tool: convert_data
  args: {source: "${{ middle }}", target: "${{ target }}"}
  effect: write
answer: {value: "${{ steps.second.text }}"}
""",
    ),
    "edit": (
        "Swap one in {target}",
        "target: path",
        """steps:
- id: edit
  tool: edit
  args: {file_path: "${{ target }}", old_string: one, new_string: two, replace_all: true}
  effect: write
""",
    ),
    "fresh": (
        "Write {target} from {source}",
        "source: path, target: path",
        """steps:
- id: look
  tool: read
  args: {file_path: "${{ source }}"}
  effect: read
- id: write
  tool: write
  args: {file_path: "${{ target }}", content: "${{ steps.look.text }}"}
  effect: write
answer: {value: "made: ${{ steps.write.created }}"}
""",
    ),
    "each": (
        "Copy each of {folder} to {other}",
        "folder: path, other: path",
        """steps:
- id: found
  tool: glob
  args: {pattern: "*.csv", path: "${{ folder }}"}
  effect: read
- id: files
  for_each: ${{ steps.found.files }}
  steps:
  - id: look
    tool: read
    args: {file_path: "${{ each.files }}"}
    effect: read
  - id: write
    tool: write
    args: {file_path: "${{ other }}/${{ each.files | stem }}.txt", content: "${{ steps.look.text }}"}
    effect: write
answer: {value: "${{ steps.found.count }} copied"}
""",
    ),
    "unless": (
        "Fill {target} unless {other} exists",
        "target: path, other: path",
        """steps:
- id: write
  tool: write
  args: {file_path: "${{ target }}", content: one}
  effect: write
- id: more
  tool: write
  args: {file_path: "more.txt", content: more}
  effect: write
  when:
  - missing: ${{ other }}
answer: {value: filled}
""",
    ),
    "beside": (
        "Put {target} beside {other}",
        "target: path, other: path",
        """steps:
- id: write
  tool: write
  args: {file_path: "${{ target }}", content: "beside ${{ other }}"}
  effect: write
checks:
- file_contains: {file: "${{ other }}", text: one}
answer: {value: put}
""",
    ),
}


def trace_yaml(name: str) -> str:
    goal, slots, steps = TRACES[name]
    return HEAD.format(name=name, goal=goal, slots=slots) + steps


class StandingLab:
    """A workspace whose goals may be told of, and a copy of it in which every goal is really done."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace, self.copy = root, root / "work", root / "copy"
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.system = await self._booted("home", self.workspace)
        self.judge = await self._booted("judge", self.copy)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def _booted(self, name: str, workspace: Path) -> LLMOS:
        home = self.root / name
        for folder in (home, workspace):
            folder.mkdir(parents=True, exist_ok=True)
        (home / "llmos.yaml").write_text("reliability: {max_failures: 1000000}\n")
        settings = load_settings(home=home, workspace=workspace, environ={"PATH": "/usr/bin:/bin"})
        system = await self._stack.enter_async_context(LLMOS(settings=settings, embedder=HashEmbedder()))
        for trace in TRACES:
            await system.traces.add(loads_yaml(trace_yaml(trace)))
        return system

    def clear(self) -> None:
        """Empty the workspace; what is known of runs in it stays."""
        _empty(self.workspace)

    @property
    def tree(self) -> Tree:
        return tree(self.workspace)

    async def do(self, goal: str, *, again: bool = False) -> Result | None:
        """Do a goal, or be told of it; None if it fails. What is told must be what doing it gives, and leaves."""
        before = self.tree
        try:
            result = await self.system.execute(goal, mode="follow", again=again)
        except LLMOSError:
            return None
        if result.mode == "unchanged":
            assert not again
            assert self.tree == before, "a goal that was only told of changed something"
            await self._judged(goal, result)
        return result

    async def _judged(self, goal: str, told: Result) -> None:
        _empty(self.copy)
        shutil.copytree(self.workspace, self.copy, symlinks=True, dirs_exist_ok=True)
        done = await self.judge.execute(goal, mode="follow", again=True)
        assert (done.mode, done.answer) == ("follower", told.answer), goal
        assert tree(self.copy) == self.tree, goal


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
