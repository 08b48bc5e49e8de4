"""The processes, watched: their budgets as bars, the tokens of the last seconds as columns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmos import caller
from llmos.interfaces import render
from llmos.interfaces.process_commands import COLUMNS, ps, row_of, shown_processes, used_of
from llmos.interfaces.session import Session
from llmos.kernel.process import Process

if TYPE_CHECKING:
    from llmos.boot import LLMOS

EVERY_S = 1.0
_COLUMNS = " ▁▂▃▄▅▆▇█"
_PACE_S, _BAR = 20, 10


async def top(session: Session) -> None:
    """The same, again each second until Ctrl-C; once where nobody looks at a terminal."""
    stdout = caller.stdout()
    if session.screen.as_json or stdout is None or not caller.is_terminal(stdout):
        await ps(everyone=False, like=None)(session)
        return
    from rich.console import Console
    from rich.live import Live

    system = await session.system()
    pace = Pace()
    console = Console(file=stdout, force_terminal=True, width=session.screen.width)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        try:
            while True:
                live.update(_screenful(system, session, pace), refresh=True)
                await asyncio.sleep(EVERY_S)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.uncancel():
                raise


@dataclass(kw_only=True)
class Pace:
    """How many tokens each process used in each of the last seconds."""

    seen: dict[int, int] = field(default_factory=dict)
    used: dict[int, deque[int]] = field(default_factory=dict)

    def look(self, shown: Sequence[Process]) -> None:
        for process in shown:
            tokens = process.tokens_in + process.tokens_out
            used = self.used.setdefault(process.pid, deque(maxlen=_PACE_S))
            used.append(tokens - self.seen.get(process.pid, tokens))
            self.seen[process.pid] = tokens

    def line(self, pid: int) -> str:
        """The seconds as columns, the highest of them full; nothing where nothing was used."""
        used = self.used.get(pid, deque())
        most = max(used, default=0)
        return "".join(_COLUMNS[round(one / most * (len(_COLUMNS) - 1))] for one in used) if most else ""


def budget_bar(process: Process) -> str:
    """How much of the budget is spent, as a bar."""
    if process.budget.allocated_usd is None:
        return ""
    full = min(_BAR, round(process.budget.share_spent * _BAR))
    return "█" * full + "░" * (_BAR - full)


def _screenful(system: LLMOS, session: Session, pace: Pace) -> Any:
    from rich.text import Text

    shown = shown_processes(system, everyone=False)
    pace.look(shown)
    turns = system.home.turns
    battery = render.money(system.economy.available_usd)
    head = f"{turns.taken} of {turns.slots} slots taken, {turns.waiting} waiting; battery {battery}"
    rows = system.redactor.value(
        [
            [*row_of(one)[:-1], budget_bar(one), pace.line(one.pid), *used_of(one.resources), row_of(one)[-1]]
            for one in shown
        ]
    )
    columns = (*COLUMNS[:-1], "spent", "tokens/s", "cpu", "memory", "written", COLUMNS[-1])
    body = render.table(columns, rows, width=session.screen.width, color=False) if rows else "no goal is at work"
    return Text(f"{head}\n\n{body}")
