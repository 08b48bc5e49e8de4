"""Repairing a memory: what is damaged is put aside, and all of it that can be read, or a copy has, is brought back."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from llmos.accounts import LedgerEntry, to_usd
from llmos.errors import StorageError
from llmos.memory import sql
from llmos.memory.audit_anchor import Anchor
from llmos.memory.audit_archive import Archive
from llmos.memory.audit_chain import AuditChain, disagreement, hash_at
from llmos.memory.audit_entries import Head
from llmos.memory.audit_log import AuditLog
from llmos.memory.audit_notes import Kind
from llmos.memory.backups import Backups, made_at
from llmos.memory.database import Database
from llmos.memory.index import VectorIndex
from llmos.memory.ledger import Ledger
from llmos.memory.opening import sync_folder
from llmos.memory.salvage import Salvage, Source, assembled, opened, source_of
from llmos.memory.salvaged_money import balance_of, head_in, take_log, unbooked
from llmos.memory.troubles import locked, translated
from llmos.memory.vectors import rebuild

_ASIDE = "the files put aside"
_ACCOUNT = "repaired.txt"
"""Stands in a folder of damaged files once what was made of them is in its place."""


@dataclass(kw_only=True)
class Repair:
    """What was found and done, and what is lost, each a sentence; `aside` is where the damaged files are now."""

    found: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    aside: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Places:
    """The files of a memory."""

    memory: Path
    database: Path
    anchor: Path
    vectors: Path
    backups: Path
    archive: Path

    @property
    def log(self) -> Path:
        return self.database.with_name(f"{self.database.name}.wal")


async def repair(places: Places, *, clock: Callable[[], datetime]) -> Repair:
    """Look at the whole memory, and mend what is damaged.

    Raises:
        DatabaseLockedError: another process holds it.
        StorageError: it can't be read or written at all; nothing was changed.
    """
    import duckdb

    report = Repair()
    try:
        with _held(places), _workshop(places) as folder:
            sources = await asyncio.to_thread(_sources, places, folder)
            if not sources:
                report.found.append(f"there is no memory in {places.memory} yet, so nothing to repair")
                return report
            _tell_damage(report, places, sources)
            if not (places.database.exists() and sources[0].is_whole and sources[0].name != _ASIDE):
                await _replace(places, folder, sources, report, clock)
            else:
                _tell_anchor(report, places, sources[0])
            await asyncio.to_thread(_mend_vectors, places, report)
    except (OSError, duckdb.Error) as error:
        raise translated(error, places.memory) from error
    return report


@contextmanager
def _held(places: Places) -> Iterator[None]:
    """Keep every other process out, as DuckDB does it; no file of that name may be closed meanwhile."""
    if not places.database.exists():
        yield
        return
    with places.database.open("r+b") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise locked(places.database) from None
        yield


@contextmanager
def _workshop(places: Places) -> Iterator[Path]:
    """A folder to work in beside the files; what an earlier one left behind is removed."""
    if not places.memory.is_dir():
        yield places.memory
        return
    for left in places.memory.glob(".repair-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".repair-", dir=places.memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- what there is -----------------------------------------------------------------------------------


def _sources(places: Places, folder: Path) -> list[Source]:
    """Copies to work with: of the file itself, of those that a repair that was killed had put aside, of the backups."""
    found = []
    for number, left in enumerate(_left_aside(places)):
        found.append(source_of(_ASIDE, _copied(left, folder / f"a{number}")))
    if places.database.exists():
        present = source_of("the database", _copied(places.database, folder / "present"))
        found.insert(len(found) if _is_halfway(places) else 0, present)
    elif places.log.exists():
        found.insert(0, Source(name="the database", path=folder / "gone", rows={}))
    for number, backup in enumerate(Backups(places.backups, clock=datetime.now).newest_first()):
        name = f"the copy of {made_at(backup):%Y-%m-%d %H:%M} UTC"
        with contextlib.suppress(StorageError):  # made by a newer version, or not by us
            found.append(source_of(name, _copied(backup, folder / f"b{number}"), made_at=made_at(backup)))
    return found


def _left_aside(places: Places) -> list[Path]:
    """The databases that repairs which were killed had put aside, the newest first."""
    folders = sorted(places.memory.glob("damaged-*"), reverse=True)
    left = [one / places.database.name for one in folders if not (one / _ACCOUNT).exists()]
    return [path for path in left if path.exists()]


def _is_halfway(places: Places) -> bool:
    """Whether a repair was killed while it put the files aside: then the log of the present database is there."""
    return not places.log.exists() and any(path.samefile(places.database) for path in _left_aside(places))


def _copied(database: Path, folder: Path) -> Path:
    """A copy in a folder of its own; made by another process, for with a file that is closed its lock would go."""
    folder.mkdir()
    for path in (database, database.with_name(f"{database.name}.wal")):
        if path.exists():
            _copy(path, folder / path.name)
    return folder / database.name


def _copy(source: Path, target: Path) -> None:
    import subprocess

    done = subprocess.run(["cp", "--", str(source), str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"cp ended with {done.returncode}"]
        raise translated(OSError(said[-1]), target.parent)


def _tell_damage(report: Repair, places: Places, sources: Sequence[Source]) -> None:
    first = sources[0]
    if not places.database.exists():
        report.found.append(f"{places.database} is gone")
        return
    if first.name == _ASIDE:
        report.found.append("an earlier repair was ended before it was done; it is done anew")
    elif first.is_whole:
        report.found.append(f"every table of {places.database} can be read")
        return
    if not first.rows:
        report.found.append(f"{places.database} can't be read as a database at all")
    elif first.is_cut:
        report.found.append(f"{places.database} was cut: it is shorter than what it holds")
    if first.dropped_bytes:
        report.found.append(
            f"the last {first.dropped_bytes:,} bytes of {places.log.name}, changes not yet in the database, are damaged"
        )
    if unread := first.unread:
        report.found.append(f"of {len(unread)} tables not all rows can be read: {', '.join(unread)}")


def _tell_anchor(report: Repair, places: Places, source: Source) -> None:
    """A database that is whole may still be older than its audit log's anchor; only the user knows why."""
    try:
        anchor = Anchor(places.anchor).read()
    except StorageError as error:
        report.found.append(f"{str(error).rstrip('.')}: `audit reseal REASON` makes it anew")
        return
    if anchor is not None and (said := _disagrees(source.path, anchor)):
        report.found.append(
            f"{said.rstrip('.')}. What was stored in them is lost: look at `battery ledger` and `runs list`, and "
            "accept the rest with `audit reseal REASON`"
        )


def _disagrees(database: Path, anchor: Head) -> str:
    head = head_in(database)
    with opened(database) as connection:
        return disagreement(head, anchor, hash_at(connection, anchor.number))


# --- the new database --------------------------------------------------------------------------------


async def _replace(
    places: Places, folder: Path, sources: Sequence[Source], report: Repair, clock: Callable[[], datetime]
) -> None:
    fresh = folder / "new" / places.database.name
    fresh.parent.mkdir()
    salvage = await asyncio.to_thread(assembled, fresh, sources)
    log, missing = await asyncio.to_thread(take_log, fresh, sources, Archive(places.archive))
    _tell_parts(report, salvage, sources)
    if (log is None or log.is_copy) and not missing:
        missing = await asyncio.to_thread(unbooked, fresh)
        _tell_money(report, fresh, log, missing, sources[0])
    elif missing:
        report.done.append(f"the audit log gets {len(missing)} movements of the ledger that it did not hold any more")
    finding = await asyncio.to_thread(_finding, places, fresh)
    if sources[0].dropped_bytes:
        (number, balance), said = balance_of(fresh), f" ({finding.rstrip('.')})" if finding else ""
        report.lost.append(
            f"the changes in the damaged bytes{said}; the last movement of money that is known is number {number}, "
            f"with a balance of ${to_usd(balance):.4f}"
        )
    if salvage.asks_again:
        report.done.append("trusted traces ask once before they are followed, for they may have been rejected since")
    head = await _sealed(fresh, Archive(places.archive), missing, finding, report, clock)
    await asyncio.to_thread(_place, places, fresh, report, clock())
    Anchor(places.anchor).write(head)


def _tell_parts(report: Repair, salvage: Salvage, sources: Sequence[Source]) -> None:
    for source in sources:
        if parts := [part for part, taken in salvage.taken.items() if taken is source]:
            report.done.append(f"brought back from {source.name}: {', '.join(parts)}")
            if source.is_copy:
                report.lost.append(f"what came after {source.name} in {', '.join(parts)}")
    if salvage.nowhere:
        report.lost.append(f"all of {', '.join(salvage.nowhere)}: neither the database nor a copy has it whole")


def _tell_money(report: Repair, fresh: Path, log: Source | None, costs: Sequence[LedgerEntry], first: Source) -> None:
    number, balance = balance_of(fresh)
    origin = f"they are those of {log.name}" if log is not None else "no copy has them"
    said = f"ledger and audit log of the database can't be read, and {origin}"
    if number:
        said += (
            f": the last movement of money that is known is number {number}, with a balance of ${to_usd(balance):.4f}"
        )
    report.lost.append(f"{said}; movements after it are lost")
    if costs:
        total = -sum(row.amount_microusd for row in costs)
        report.done.append(f"{len(costs)} runs that the ledger does not know are charged anew: ${to_usd(total):.4f}")
    elif "runs" not in first.rows:
        report.lost.append(
            "what runs since then cost: the provider's bill says it; `battery recharge` corrects the rest"
        )


def _finding(places: Places, fresh: Path) -> str:
    try:
        anchor = Anchor(places.anchor).read()
    except StorageError as error:
        return str(error)
    return _disagrees(fresh, anchor) if anchor is not None else "the anchor is gone"


async def _sealed(
    fresh: Path,
    archive: Archive,
    missing: Sequence[LedgerEntry],
    finding: str,
    report: Repair,
    clock: Callable[[], datetime],
) -> Head:
    """The new database with the movements that its log lacks, and the repair as a row of the log."""
    anchor, head = Anchor(fresh.with_name("anchor.json")), head_in(fresh)
    if head.number:
        anchor.write(head)
    chain = AuditChain(anchor, clock=clock)
    async with Database(fresh, witness=chain) as database:
        log, ledger = AuditLog(database, chain, archive), Ledger(database)
        await log.open()
        for row in missing:
            await asyncio.to_thread(ledger.append, row)
        said = {"finding": finding, "reason": "boot.py repair", "done": report.done, "lost": report.lost}
        await log.append(Kind.RESEAL, said)
        verified = await log.verify()
        await log.close()
    report.found += [f"audit log: {wrong.message}" for wrong in verified.findings]
    return verified.head


def _place(places: Places, fresh: Path, report: Repair, now: datetime) -> None:
    """Put the damaged files aside under a second name first, so that a crash here loses nothing of them."""
    aside = places.memory / f"damaged-{now:%Y%m%dT%H%M%S%f}"
    aside.mkdir(mode=0o700)
    for path in (places.database, places.log):
        if path.exists():
            _link(path, aside / path.name)
    sync_folder(aside)
    places.log.unlink(missing_ok=True)
    fresh.replace(places.database)
    sync_folder(places.memory)
    said = [*report.found, *report.done, *(f"lost: {one}" for one in report.lost)]
    for folder in places.memory.glob("damaged-*"):
        if not (folder / _ACCOUNT).exists():
            (folder / _ACCOUNT).write_text("".join(f"{one}\n" for one in said), encoding="utf-8")
    report.aside = aside


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:
        _copy(path, target)  # a file system without links


# --- the vectors -------------------------------------------------------------------------------------


def _mend_vectors(places: Places, report: Repair) -> None:
    """Make the snapshot anew if it is damaged or not of this database; it is a copy of what the database holds."""
    index = VectorIndex(places.vectors)
    if not (index.path.exists() or index.sidecar.exists()):
        return
    with opened(places.database) as connection:
        found = connection.execute(sql.MODELS_OF_TEMPLATES).fetchall()
        model, dim = next((row for row in found if not index.problem(*row)), found[0] if found else ("", 0))
        if model and not index.problem(model, dim) and report.aside is None:
            return
        index.remove_files()
        count = rebuild(connection, index, model, dim) if model else 0
    report.done.append(f"the vector snapshot {places.vectors.name} is made anew: {count} vectors")
