"""Which run or trace a name means that somebody typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmos.errors import NotFoundError

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.trace.program import Trace
    from llmos.trace.run import Run

LAST = "last"


async def find_trace(system: LLMOS, name: str) -> Trace:
    """The trace of an id, of the only id that starts so, or of a label (`id@version`)."""
    identifier, at, version = name.rpartition("@")
    labelled = bool(at) and version.isdecimal() and version.isascii()
    wanted, number = (identifier, int(version[:9])) if labelled else (name, None)
    try:
        return await system.traces.get(wanted, number)
    except NotFoundError:
        alike = [one.id for one in await system.traces.list() if one.id.startswith(wanted)] if wanted else []
        if len(alike) != 1:
            raise
        return await system.traces.get(alike[0], number)


async def find_run(system: LLMOS, name: str) -> Run:
    """The run of an id, of the only id that starts so, or the newest for `last`."""
    if name == LAST:
        newest = await system.runs.list(limit=1)
        if not newest:
            raise NotFoundError("there are no runs yet")
        return await system.runs.get(newest[0].id)
    try:
        return await system.runs.get(name)
    except NotFoundError:
        alike = [run.id for run in await system.runs.list(limit=1000) if run.id.startswith(name)] if name else []
        if len(alike) != 1:
            raise
        return await system.runs.get(alike[0])
