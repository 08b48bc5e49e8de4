"""What a person types in the shell while a goal is at work: it is told to the goal's model, or is the next line."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmos.errors import LLMOSError
from llmos.interfaces import render

if TYPE_CHECKING:
    from llmos.interfaces.session import Session
    from llmos.kernel.process import Process

_LINE_BYTES = 65_536


@dataclass(kw_only=True)
class Overhearing:
    """Reads a terminal (`descriptor`; None: there is none) while a goal is at work; `ahead` are lines for the shell."""

    descriptor: int | None = None
    ahead: deque[str] = field(default_factory=deque)
    _session: Session | None = None
    _process: Process | None = None
    _telling: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, session: Session, process: Process) -> None:
        """Listen for this process; a question that is put meanwhile takes the terminal over."""
        if self.descriptor is not None:
            self._session, self._process = session, process
            asyncio.get_running_loop().add_reader(self.descriptor, self._read, self.descriptor)

    async def end(self) -> None:
        """Listen no more, and say what came too late to be told."""
        session, process = self._session, self._process
        if self.descriptor is None or session is None or process is None:
            return
        self._session = self._process = None
        asyncio.get_running_loop().remove_reader(self.descriptor)
        telling, self._telling = self._telling, []
        if not telling:
            return
        await asyncio.gather(*telling)
        waiting = await (await session.system()).home.raised.waiting()
        for one in waiting:
            if one.run_id == process.run_id:
                session.screen.note(f"llmos: the goal ended before it was told: {render.one_line(one.text, 200)}")

    def _read(self, descriptor: int) -> None:
        try:
            found = os.read(descriptor, _LINE_BYTES)
        except OSError:
            found = b""
        if not found:
            asyncio.get_running_loop().remove_reader(descriptor)
            return
        for line in found.decode("utf-8", "replace").splitlines():
            if line.strip():
                self._telling.append(asyncio.ensure_future(self._tell(line)))

    async def _tell(self, line: str) -> None:
        session, process = self._session, self._process
        if session is None or process is None or not process.mode:
            self.ahead.append(line)
            return
        system = await session.system()
        try:
            await system.home.interrupts.tell(process.pid, system.redactor.named(line))
        except LLMOSError:  # nobody who could be told works on it
            self.ahead.append(line)
        else:
            session.screen.note("(told to the goal at its next turn)", dim=True)
