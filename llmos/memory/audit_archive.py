"""Rows of the audit log that are not in the database any more: files of JSON lines, and the checkpoint that names them.

The checkpoint is a row of the log itself (`retention`, archived): it has the number and the hash of the last row that
was moved, so it is chained and anchored like any other. What remains in the table must continue it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import StorageError, UsageError
from llmos.memory import sql
from llmos.memory.audit_entries import Head, Row, row_of
from llmos.memory.opening import sync_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ARCHIVED = "archived"
_NAME = re.compile(r"audit-(\d{12})-(\d{12})\.jsonl\.gz")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where the table begins: behind row `last`. `log` and `ledger_before` are those of the log's first row.

    `ledger_through` is the last movement of money that is recorded in the archive.
    """

    last: Head
    log: str = ""
    ledger_before: int = 0
    ledger_through: int = 0


class Archive:
    """The files in `folder`, each named by its first and its last row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """In the order of their rows."""
        return sorted(path for path in self.folder.glob("audit-*.jsonl.gz") if _NAME.fullmatch(path.name))

    def write(self, rows: Sequence[Row]) -> tuple[Path, str]:
        """Keep rows in a file of their own, whole and durable; gives it with its SHA-256.

        The same rows give the same file, so what a crash interrupted is simply done again.

        Raises:
            StorageError: it can't be written.
        """
        path = self.folder / f"audit-{rows[0].number:012d}-{rows[-1].number:012d}.jsonl.gz"
        content = packed(rows)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with fresh.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(path)
            sync_folder(self.folder)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise StorageError(f"the archive {path} can't be written: {error.strerror or error}.") from None
        return path, sha256(content).hexdigest()

    def rows(self, last: int) -> Iterator[Row]:
        """The rows up to a number, each once, as far as they can be read."""
        after = 0
        for path in self.files():
            for row in _read(path):
                if after < row.number <= last:
                    after = row.number
                    yield row


def packed(rows: Iterable[Row]) -> bytes:
    """Rows as compressed JSON lines, the form of `audit export`."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as stream:
        for row in rows:
            stream.write(json.dumps(row.to_data(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return buffer.getvalue()


def _read(path: Path) -> Iterator[Row]:
    """The rows of a file up to the first that can't be read: what is missing then is for the chain to tell."""
    try:
        with gzip.open(path, "rb") as stream:
            for line in stream:
                yield row_of(json.loads(line))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError, UsageError):
        return


def checkpoint(connection: DuckDBPyConnection) -> Checkpoint | None:
    """Where the table begins; None: with the log's first row."""
    row = connection.execute(sql.AUDIT_CHECKPOINT).fetchone()
    return None if row is None else checkpoint_of(json.loads(row[0]))


def checkpoint_of(facts: dict[str, Any]) -> Checkpoint:
    """The checkpoint in the body of a row."""
    return Checkpoint(
        last=Head(number=int(facts["last"]), hash=str(facts["hash"])),
        log=str(facts["log"]),
        ledger_before=int(facts["ledger_rows_before"]),
        ledger_through=int(facts["ledger_through"]),
    )
