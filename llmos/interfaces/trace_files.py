"""Traces as files: `traces export` and `traces import`."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmos import caller
from llmos.errors import TraceFormatError, UsageError
from llmos.interfaces.naming import find_trace
from llmos.interfaces.reading import text_of
from llmos.interfaces.session import Action, Session

if TYPE_CHECKING:
    from llmos.plugins.registry import ToolRegistry
    from llmos.trace.program import Node

MAX_TRACE_BYTES = 8_000_000


def export_trace(name: str, file: Path | None, *, force: bool) -> Action:
    """Write one trace as YAML, to stdout or to a new file."""

    async def action(session: Session) -> None:
        from llmos.trace.codec import dumps_yaml
        from llmos.trace.secrecy import kept_credential

        system = await session.system()
        trace = await find_trace(system, name)
        if kept := kept_credential(trace, system.redactor):
            raise TraceFormatError(f"{trace.label} is not exported: {kept}.")
        text = dumps_yaml(trace)
        if file is None:
            session.screen.exactly(text.rstrip("\n"))
            session.screen.data({"trace": trace.label, "yaml": text})
            return
        write_whole(file, text, force=force)
        session.screen.note(f"{trace.label} written to {file}")
        session.screen.data({"trace": trace.label, "file": str(file)})

    return action


def import_trace(file: Path, *, trust: bool) -> Action:
    """Store a trace from a YAML file: checked whole first, then kept as a candidate until confirmed."""

    async def action(session: Session) -> None:
        from llmos.trace.codec import loads_yaml, to_data
        from llmos.trace.program import Provenance, Status

        read = loads_yaml(await text_of(file, most=MAX_TRACE_BYTES), source=str(file))
        system = await session.system()
        await system.mcp.discover()
        trace = replace(
            read,
            steps=tuple(_honest(step, system.registry) for step in read.steps),
            provenance=Provenance.IMPORTED,
            status=Status.TRUSTED if trust else Status.CANDIDATE,
            reason="imported and trusted by the user" if trust else "imported, not yet confirmed",
            run_id=None,
        )
        stored = await system.traces.add(trace)
        for tool in sorted({step.tool for step in stored.calls if step.tool not in system.registry}):
            session.screen.note(f"llmos: {stored.label} needs the tool {tool!r}, which no plugin here has")
        hint = "" if trust else f"; it asks before it runs, until `traces confirm {stored.id}`"
        session.screen.show(f"{stored.label} imported as {stored.status}{hint}")
        session.screen.data(to_data(stored))

    return action


def _honest(step: Node, registry: ToolRegistry) -> Node:
    """The step with the worse of its own effect and its tool's: a file can't declare a command harmless."""
    from llmos.trace.program import Loop

    if isinstance(step, Loop):
        return replace(step, steps=tuple(_honest(inner, registry) for inner in step.steps))
    if step.tool not in registry:
        return step
    return replace(step, effect=max(step.effect, registry.get(step.tool).effect, key=lambda effect: effect.rank))


def write_whole(file: Path, text: str, *, force: bool) -> None:
    """Write a file whole or not at all; an existing one only with `force`.

    Raises:
        UsageError: it exists, or can't be written.
    """
    at = caller.placed(file)
    if at.exists() and not force:
        raise UsageError(f"{file} exists already; give another name, or --force to replace it")
    at = at.resolve()
    if str(file).startswith(("/dev/", "/proc/")) or (at.exists() and not at.is_file()):
        raise UsageError(f"{file} is no file that could be replaced; name another, or none for standard output")
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=at.parent, prefix=f".{at.name[:80]}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(at)
        temporary = None
    except OSError as error:
        raise UsageError(f"{file} can't be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
