"""The commands about the audit log: tail, verify, export, reseal. (Replays are audited in `auditing`.)"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from llmos import caller
from llmos.accounts import MICROUSD_PER_USD
from llmos.errors import NotFoundError, TamperedError, UsageError
from llmos.interfaces import render
from llmos.interfaces.naming import LAST, find_run
from llmos.interfaces.reading import content
from llmos.interfaces.session import Action, Session

if TYPE_CHECKING:
    from llmos.memory.audit_check import Verification
    from llmos.memory.audit_entries import Row

_LEFT_OUT = ("call", "arguments_sha256", "content_sha256", "fingerprint", "values", "goal")
"""Facts that a table leaves out; `--json` and `audit export` have them."""

_GZIP = b"\x1f\x8b"
"""How a file of the archive begins (`memory/audit`)."""

_BARE = ("state", "decision", "status", "change", "tool")
_ORDER = ("state", "decision", "tool", "arguments", "trace", "change", "status", "was", "mode", "right", "by")


def tail(limit: int, kind: str | None, run_name: str | None) -> Action:
    """Show the newest rows, oldest first."""

    async def action(session: Session) -> None:
        system = await session.system()
        run_id = run_name
        if run_name == LAST:
            with suppress(NotFoundError):
                run_id = (await find_run(system, LAST)).id
        rows = await system.audit_log.tail(limit, kind=kind, run_id=run_id)
        session.screen.data({"rows": [row.to_data() for row in rows]})
        columns = ("row", "time", "kind", "what", "run", "by")
        cells = [[row.number, row.at[:19], row.kind, said(row), row.run_id, row.principal] for row in rows]
        session.screen.table(columns, cells, empty="no such rows")

    return action


def said(row: Row) -> str:
    """What a row records, on one line."""
    facts = row.facts
    if not isinstance(facts, dict):
        return render.one_line(row.body, 200)
    if row.kind == "charge":
        moved, balance = (facts.get(name, 0) / MICROUSD_PER_USD for name in ("amount_microusd", "balance_microusd"))
        return f"{facts.get('kind')} {render.money(moved)}, balance {render.money(balance)}: {facts.get('operation')}"
    if row.kind == "setting":
        changed = facts.get("changed") or {}
        pairs = [f"{name}: {render.one_line(was)} → {render.one_line(now)}" for name, (was, now) in changed.items()]
        return render.one_line(", ".join(pairs) or f"{len(facts.get('values') or {})} settings", 300)
    names = sorted(facts, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    shown = [_fact(name, facts[name]) for name in names if name not in _LEFT_OUT and facts[name] not in (None, "")]
    return render.one_line(" ".join(shown), 300)


def _fact(name: str, value: Any) -> str:
    if name in _BARE:
        return render.one_line(value, 60)
    if name.endswith("_microusd") and isinstance(value, int):
        return f"{name.removesuffix('_microusd')}={render.money(value / MICROUSD_PER_USD)}"
    return f"{name}={_value(value)}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else render.one_line(value, 160)


def verify(against: Path | None) -> Action:
    """Check the log; the first fault of each kind is told, and the command fails.

    Raises:
        TamperedError: something is wrong.
        UsageError: the export can't be read as one.
    """

    async def action(session: Session) -> None:
        exported: list[Row] = []
        if against is not None:
            exported = await asyncio.to_thread(_exported, await content(against), str(against))
        system = await session.system()
        found = await system.audit_log.verify(exported, name=str(against))
        facts = _facts(found)
        if not found.is_whole:
            session.screen.expect(facts)
            for finding in found.findings[1:]:
                session.screen.note(f"also: {finding.message}")
            raise TamperedError(f"the audit log is not as it was written: {found.findings[0].message}.")
        session.screen.data(facts)
        session.screen.show(_whole(found, exported))
        if found.behind:
            rows = f"{found.behind} row{'s' * (found.behind > 1)}"
            session.screen.note(f"the anchor was {rows} behind, as a crash leaves it, and was moved")

    return action


def _facts(found: Verification) -> dict[str, Any]:
    return {
        "whole": found.is_whole,
        "log": found.log_id,
        "rows": found.rows,
        "head": asdict(found.head),
        "first_at": found.first_at,
        "last_at": found.last_at,
        "anchor_was_behind": found.behind,
        "findings": [asdict(finding) for finding in found.findings],
    }


def _whole(found: Verification, exported: list[Row]) -> str:
    extends = f", and the log extends the {len(exported)} exported" if exported else ""
    return (
        f"{found.rows} rows, each as it was written{extends}\n"
        f"from  {found.first_at}\nto    {found.last_at}\nhead  {found.head.number} {found.head.hash}"
    )


def _exported(raw: bytes, name: str) -> list[Row]:
    """The rows of an export, not checked yet.

    Raises:
        UsageError: it can't be read as one.
    """
    from llmos.memory.audit_entries import row_of

    try:
        raw = gzip.decompress(raw) if raw.startswith(_GZIP) else raw
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{name} can't be read: {error}") from None
    rows = []
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            rows.append(row_of(json.loads(line)))
        except (ValueError, RecursionError, UsageError) as error:
            raise UsageError(f"{name}, line {number}: {error}; `audit export` writes what is read here") from None
    return rows


def export(file: Path | None, since: str | None, *, force: bool) -> Action:
    """Write the rows as JSON lines, in order, with their hashes."""

    async def action(session: Session) -> None:
        first, time = _beginning(since)
        system = await session.system()
        pages = system.audit_log.pages(first=first, since=time)
        if file is None or str(file) == "-":
            rows = [row.to_data() async for page in pages for row in page]
            session.screen.data({"rows": rows})
            for row in rows:
                session.screen.show(_line(row))
            return
        count, last = 0, None
        with _written(file, force=force) as stream:
            async for page in pages:
                stream.writelines(f"{_line(row.to_data())}\n" for row in page)
                count, last = count + len(page), page[-1]
        head = {"number": last.number, "hash": last.hash} if last is not None else None
        session.screen.note(
            f"{count} rows written to {file}" + (f"; the last is {last.number} {last.hash}" if last else "")
        )
        session.screen.data({"file": str(file), "rows": count, "head": head})

    return action


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _beginning(since: str | None) -> tuple[int, str]:
    """The number and the time that an export begins with."""
    from llmos.memory.audit_entries import stamp

    if since is None:
        return 1, ""
    if since.isdecimal() and since.isascii():
        return int(since[:15]), ""
    try:
        time = datetime.fromisoformat(since)
    except ValueError:
        raise UsageError(
            f"--since must be a row's number, a day or a time such as 2026-11-27T08:00, not {since!r}"
        ) from None
    return 1, stamp(time if time.tzinfo else time.replace(tzinfo=UTC))


@contextmanager
def _written(file: Path, *, force: bool) -> Iterator[TextIO]:
    """A stream whose text becomes the file, whole or not at all."""
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
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(at)
        temporary = None
    except OSError as error:
        raise UsageError(f"{file} can't be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()


def reseal(reason: str) -> Action:
    """Accept a log whose rows are whole but whose anchor is not; that is recorded."""

    async def action(session: Session) -> None:
        system = await session.system()
        found = await system.audit_log.reseal(reason)
        session.screen.show(f"{found.rows} rows are accepted as they are; that you did so is on record")
        session.screen.data({"rows": found.rows, "reason": reason})

    return action
