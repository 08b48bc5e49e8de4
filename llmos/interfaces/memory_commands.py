"""The command about the levels of memory: how much each holds, and how often what is looked for is there."""

from __future__ import annotations

from typing import Any

from llmos.interfaces import render
from llmos.interfaces.process_commands import shown_processes
from llmos.interfaces.session import Session
from llmos.kernel.process import Process
from llmos.memory.context_use import Use
from llmos.memory.sizes import sizes
from llmos.trace.run import Mode

_COLUMNS = ("level", "what it is", "holds", "size", "hits")
_WORDS = {
    "L1": ("context", "token"),
    "L2": ("session", "look-up"),
    "L3": ("version", "goal"),
    "L4": ("fact", "look-up"),
}
_REPLAYS = tuple(str(mode) for mode in Mode if mode.is_replay)


async def mem(session: Session) -> None:
    """Show how much each level of memory holds, and how often it had what was looked for."""
    system = await session.system()
    home = system.home
    held, used = await sizes(home.database, _REPLAYS, Mode.NONE), await home.context_use.totals()
    live = [process for process in shown_processes(system, everyone=False) if process.context_tokens]
    levels = [
        {
            "level": "L1",
            "what": "contexts of models",
            "entries": len(live),
            "tokens": sum(process.context_tokens for process in live),
            **_hits(used[Use.CACHED], used[Use.SENT]),
        },
        {
            "level": "L2",
            "what": "sessions and summaries",
            "entries": held.sessions,
            "bytes": held.session_bytes,
            "summaries": held.summaries,
            "turns_summarised": used[Use.FOLDED],
            **_hits(used[Use.BROUGHT_BACK], used[Use.LOOKED_BACK]),
        },
        {
            "level": "L3",
            "what": "traces",
            "entries": held.traces,
            "bytes": held.trace_bytes,
            **_hits(held.followed, held.goals),
        },
        {
            "level": "L4",
            "what": "facts",
            "entries": held.facts,
            "bytes": held.fact_bytes,
            **_hits(used[Use.FOUND_FACTS], used[Use.ASKED_FACTS]),
        },
    ]
    session.screen.data({"levels": levels, "contexts": [_context(process) for process in live]})
    session.screen.table(_COLUMNS, [_row(level) for level in levels], empty="")
    for process in live:
        session.screen.show(f"process {process.pid}: {_filled(process)}")


def _hits(hits: int, asked: int) -> dict[str, Any]:
    return {"hits": hits, "asked": asked, "hit_rate": hits / asked if asked else None}


def _row(level: dict[str, Any]) -> list[Any]:
    unit, of = _WORDS[level["level"]]
    size = f"{level['tokens']:,} tokens" if "tokens" in level else render.size(level["bytes"])
    rate, asked = level["hit_rate"], level["asked"]
    hits = f"no {of} yet" if rate is None else f"{rate:.0%} of {_counted(asked, of)}"
    held = _counted(level["entries"], unit)
    if level.get("summaries"):
        held += f", {_counted(level['summaries'], 'summary')}"
    return [level["level"], level["what"], held, size, hits]


def _counted(count: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count:,} {what if count == 1 else plural}"


def _context(process: Process) -> dict[str, Any]:
    return {"pid": process.pid, "tokens": process.context_tokens, "window": process.context_max}


def _filled(process: Process) -> str:
    most = process.context_max
    of = f" of {most:,} ({process.context_tokens / most:.0%})" if most else ""
    return f"{process.context_tokens:,}{of} tokens in its model's context"
