"""What can still be read of damaged databases, put together into a new one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.memory import schema, sql
from llmos.memory.engine import CONFIG
from llmos.memory.opening import check_schema, create, is_cut
from llmos.memory.trace_rows import rewrite_templates

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MONEY = ("ledger", "audit_log")
DERIVED = ("telling_words", "trace_shapes", "trace_templates", "embeddings")
"""Made again from the other tables, so nothing is lost with them."""

BUNDLES: Mapping[str, tuple[str, ...]] = {
    "runs": ("runs", "steps", "recalled_goals", "emptied_runs"),
    "traces": ("traces", "trace_versions"),
    "rejections": ("hard_negatives",),
    "forgotten traces": ("forgotten",),
    "what traces were proven on": ("trace_runs",),
    "what became of replays": ("outcomes",),
    "the journal of effects": ("journal", "journal_outcomes", "journal_unsettled"),
    "remembered facts": ("facts",),
    "approvals": ("approvals",),
    "sentences that mean system calls": ("system_parses",),
    "handovers": ("handovers",),
    "taints": ("taints",),
    "runs that may still stand": ("standing_runs",),
    "processes that are not over": ("processes", "session_lines"),
    "messages and shared memory": ("mail", "shared_blocks"),
    "interrupts": ("interrupts",),
    "schedules and watches": ("schedules", "watches"),
}
"""Tables that only make sense together are taken from one source."""

_NUMBERED = {
    "run_no": ("runs", "no"),
    "run_end_no": ("runs", "end_no"),
    "outcome_no": ("outcomes", "no"),
    "journal_no": ("journal", "no"),
    "journal_outcome_no": ("journal_outcomes", "no"),
    "embedding_no": ("embeddings", "id"),
    "taint_no": ("taints", "no"),
    "session_line_no": ("session_lines", "no"),
    "mail_no": ("mail", "no"),
    "interrupt_no": ("interrupts", "no"),
    "schedule_no": ("schedules", "no"),
    "watch_no": ("watches", "no"),
}
"""The sequences, and the column that each of them numbers."""

_ASK_AGAIN = "brought back by `repair`"
_POSITION = re.compile(r"byte position (\d+)")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A database to take rows from: `rows` has the tables that read from end to end.

    `dropped_bytes` are those at the end of its write-ahead log that could not be read; `made_at` is when it was copied.
    """

    name: str
    path: Path
    rows: Mapping[str, int]
    dropped_bytes: int = 0
    is_cut: bool = False
    made_at: datetime | None = None

    @property
    def is_copy(self) -> bool:
        """Whether it was made before the damage, so that something may have come after it."""
        return self.made_at is not None

    @property
    def unread(self) -> list[str]:
        """The tables that can't be read, or not all of them."""
        return [table for table in TABLES if table not in self.rows]

    @property
    def is_whole(self) -> bool:
        return not self.is_cut and not self.dropped_bytes and not self.unread


@dataclass(kw_only=True)
class Salvage:
    """Where each part of a new database came from; `nowhere` are the parts that no source had.

    `asks_again`: what was rejected may be forgotten, so the traces that were learned are candidates now.
    """

    taken: dict[str, Source] = field(default_factory=dict)
    nowhere: list[str] = field(default_factory=list)
    asks_again: bool = False


TABLES = tuple(re.findall(r"CREATE TABLE (\w+)", schema.TABLES))


def source_of(name: str, path: Path, *, made_at: datetime | None = None) -> Source:
    """Look at every table of a database; its write-ahead log is cut before the first entry that can't be read.

    The file is a copy to work with: it is changed.

    Raises:
        StorageError: it is a database, but no memory of this LLM OS.
    """
    dropped, was_cut = _settle_log(path), False
    with contextlib.suppress(*_errors()), opened(path) as connection:
        was_cut = not path.with_name(f"{path.name}.wal").exists() and is_cut(connection, path)
        check_schema(connection, path)
    rows: dict[str, int] = {}
    for table in TABLES:
        with contextlib.suppress(*_errors()), opened(path) as connection:
            found = connection.execute(sql.READ_ALL.format(table=table)).fetchone()
            rows[table] = int(found[0]) if found else 0
    return Source(name=name, path=path, rows=rows, dropped_bytes=dropped, is_cut=was_cut, made_at=made_at)


def _errors() -> tuple[type[Exception], ...]:
    import duckdb

    return duckdb.Error, OSError, ValueError  # a text that is no text any more is a ValueError


@contextmanager
def opened(path: Path) -> Iterator[DuckDBPyConnection]:
    """A connection of its own, for one that met a damaged block is good for nothing afterwards."""
    import duckdb

    connection = duckdb.connect(str(path), config=CONFIG)
    try:
        connection.execute(sql.AMPLE_MEMORY)
        yield connection
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.close()


def _settle_log(path: Path) -> int:
    """Cut the write-ahead log until it can be replayed; gives how many bytes that took."""
    log = path.with_name(f"{path.name}.wal")
    whole = log.stat().st_size if log.exists() else 0
    kept = whole
    while log.exists():
        try:
            with opened(path):
                return whole - kept
        except _errors() as error:
            at = _POSITION.search(str(error))
            kept = int(at.group(1)) if at and int(at.group(1)) < kept else 0
            if kept > 0:
                os.truncate(log, kept)
            else:
                log.unlink(missing_ok=True)
    return whole


# --- the new file ------------------------------------------------------------------------------------


def assembled(target: Path, sources: Sequence[Source]) -> Salvage:
    """Make a new database of what the sources have, the first that has a part gives it; money is left out."""
    create(target)
    salvage = Salvage()
    with opened(target) as connection:
        for number, source in enumerate(sources):
            if source.rows:
                connection.execute(f"ATTACH '{_quoted(source.path)}' AS source_{number} (READ_ONLY)")
        for part, tables in BUNDLES.items():
            number = next((n for n, source in enumerate(sources) if source.rows.keys() >= set(tables)), -1)
            if number < 0:
                salvage.nowhere.append(part)
                continue
            salvage.taken[part] = sources[number]
            for table in tables:
                _take(connection, table, number)
        standing = [salvage.taken.get(part) for part in ("traces", "rejections")]
        if any(source is None or source.is_copy or source.dropped_bytes for source in standing):
            salvage.asks_again = bool(connection.execute(sql.ASK_AGAIN, [_ASK_AGAIN]).fetchall())
        _derive(connection, salvage, sources)
        _count_on(connection)
    return salvage


def take_money(target: Path, table: str, source: Source) -> None:
    """Put the rows of the ledger or of the audit log into the new database."""
    with opened(target) as connection:
        connection.execute(f"ATTACH '{_quoted(source.path)}' AS source_0 (READ_ONLY)")
        _take(connection, table, 0)


def _take(connection: DuckDBPyConnection, table: str, number: int) -> None:
    connection.execute(f"INSERT INTO main.{table} BY NAME SELECT * FROM source_{number}.main.{table}")


def _derive(connection: DuckDBPyConnection, salvage: Salvage, sources: Sequence[Source]) -> None:
    """What is found by words is made again; vectors are taken along with traces, else they are made when needed."""
    origin = salvage.taken.get("traces")
    for table in ("embeddings", "trace_shapes"):
        if origin is not None and table in origin.rows:
            _take(connection, table, sources.index(origin))
    connection.execute("BEGIN")
    rewrite_templates(connection)
    connection.execute("COMMIT")


def _count_on(connection: DuckDBPyConnection) -> None:
    """Let the sequences go on behind the numbers that are taken."""
    for sequence, (table, column) in _NUMBERED.items():
        (highest,) = connection.execute(f"SELECT coalesce(max({column}), 0) FROM main.{table}").fetchone() or (0,)
        connection.execute(f"SELECT count(nextval('{sequence}')) FROM range({int(highest)})").fetchone()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
