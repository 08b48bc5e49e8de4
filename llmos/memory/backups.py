"""Copies of the database, for the day on which its file is damaged: made now and then, a few are kept."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from llmos.memory.troubles import is_damage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

log = logging.getLogger(__name__)

EVERY = timedelta(hours=6)
KEPT = 4
"""So many copies, unless the settings say otherwise."""
MAX_BYTES = 200_000_000
"""A larger file is not copied by itself: that would take seconds of somebody's command."""

_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"llmos-\d{6}-\d{8}T\d{6}Z\.duckdb")


class Backups:
    """The copies of a database in `folder`, numbered; their names also say when they were made (UTC)."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime], kept: int = KEPT) -> None:
        self.folder = folder
        self._kept = kept
        self._clock = clock

    def newest_first(self) -> list[Path]:
        """The copies, by their numbers: a clock that was wrong for a while does not put them out of order."""
        found = [path for path in self.folder.glob("llmos-*.duckdb") if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)

    def keep(self, connection: DuckDBPyConnection) -> None:
        """Copy an open database, if the newest copy is too old.

        DuckDB copies row by row and so reads all of it: of a damaged file no copy is made, and none is given up for it.

        Raises:
            duckdb.Error: the database is damaged. That there is no room for a copy is only logged.
        """
        import duckdb

        now = self._clock().astimezone(UTC)
        if not self._is_due(now):
            return
        source, size = _described(connection)
        if size > MAX_BYTES:
            return
        fresh = self.folder / f".llmos-{os.getpid()}.duckdb"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            copy_database(connection, source, fresh)
            fresh.rename(self.folder / f"llmos-{self._next():06d}-{now.strftime(_STAMP)}.duckdb")
            self._prune()
        except (duckdb.Error, OSError) as error:
            if is_damage(error):
                raise
            first = str(error).strip().partition("\n")[0]
            log.info("the memory could not be copied for safety: %s", first, extra={"action": "backup"})
        finally:
            for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)

    def too_many(self) -> list[Path]:
        """The oldest copies, beyond as many as are kept."""
        return self.newest_first()[self._kept :]

    def _is_due(self, now: datetime) -> bool:
        """A copy from the future, made while the clock was wrong, counts as none."""
        return not any(timedelta(0) <= now - made_at(path) < EVERY for path in self.newest_first())

    def _next(self) -> int:
        return max((int(path.name.split("-")[1]) for path in self.newest_first()), default=0) + 1

    def _prune(self) -> None:
        for path in self.too_many():
            path.unlink(missing_ok=True)
        for left in self.folder.glob(".llmos-*"):  # of a process that was killed: only one holds the home
            left.unlink(missing_ok=True)


def made_at(path: Path) -> datetime:
    """When a copy was made, as its name says."""
    return datetime.strptime(path.stem.rpartition("-")[2], _STAMP).replace(tzinfo=UTC)


def _described(connection: DuckDBPyConnection) -> tuple[str, int]:
    name, size = connection.execute(
        "SELECT database_name, total_blocks * block_size FROM pragma_database_size()"
    ).fetchone() or ("", 0)
    return str(name), int(size)


def copy_database(connection: DuckDBPyConnection, source: str, target: Path) -> None:
    """Copy an open database row by row into a new file, durably.

    Raises:
        duckdb.Error: it is damaged, or there is no room.
    """
    place, name = str(target).replace("'", "''"), source.replace('"', '""')
    connection.execute(f"ATTACH '{place}' AS llmos_backup")
    try:
        connection.execute(f'COPY FROM DATABASE "{name}" TO llmos_backup')
        connection.execute("CHECKPOINT llmos_backup")
    finally:
        connection.execute("DETACH llmos_backup")
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
