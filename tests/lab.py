"""A laboratory for tests: a home, a workspace and a scripted model server, with the real CLI between them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmos.boot import LLMOS
from llmos.settings import Settings, load_settings
from llmos.testing import HashEmbedder, Request, Script, ScriptedServer, Turn, call, say


@dataclass(kw_only=True)
class Lab:
    """A home, a workspace and a server of one test; `boot` gives an LLMOS over them, with the real CLI as learner."""

    root: Path
    server: ScriptedServer
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    def environ(self) -> dict[str, str]:
        """A clean environment that leads to the scripted server."""
        tools = str(Path(sys.executable).parent)
        plain = {"PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "LLMOS_DAEMON": "0"}
        return plain | self.server.env(self.root / "claude") | self.extra

    def settings(self, **options: Any) -> Settings:
        return load_settings(home=self.home, workspace=self.workspace, environ=self.environ(), **options)

    def boot(self, *, budget_usd: float | None = None, **options: Any) -> LLMOS:
        return LLMOS(settings=self.settings(budget_usd=budget_usd, **options), embedder=HashEmbedder())

    def configure(self, text: str) -> None:
        """Write the home's llmos.yaml."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "llmos.yaml").write_text(text)

    def plugin(self, name: str, text: str) -> Path:
        """Drop a file into the home's plugin folder."""
        folder = self.home / "plugins"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        return folder / name

    def write(self, name: str, text: str) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def read(self, name: str) -> str:
        return (self.workspace / name).read_text()


MakeLab = Callable[[Script], Lab]


Step = Turn | Callable[[Request], Turn]


def steps(*turns: Step) -> Callable[[Request], Turn]:
    """A script that answers by how many tool results the conversation holds; a turn may look at the request."""

    def script(request: Request) -> Turn:
        turn = turns[min(len(request.tool_results), len(turns) - 1)]
        return turn(request) if callable(turn) else turn

    return script


def finishing(answer: str, **slots: Any) -> Sequence[Turn]:
    """The two turns that end a run: the call of finish, and the closing words."""
    return call("finish", answer=answer, slots=slots), say(answer)


async def until(what: Callable[[], object]) -> None:
    """Wait for something that is seen from outside; TimeoutError if it does not come within a minute."""
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


COPY = "Copy the text of a.txt into b.txt"


def copying_lab(make_lab: MakeLab) -> Lab:
    """A laboratory in which COPY is learned: read one file, write what is in it to another."""
    lab = make_lab(
        steps(
            call("read", file_path="a.txt"),
            lambda request: call("write", file_path="b.txt", content=request.tool_results[0].text.split('"')[7]),
            *finishing("Copied a.txt into b.txt"),
        )
    )
    lab.write("a.txt", "seven words in a plain text file")
    return lab
