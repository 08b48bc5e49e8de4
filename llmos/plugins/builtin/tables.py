"""Data files as DuckDB tables in memory, and values as JSON: what the data tools share."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import json
import math
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmos.errors import InputError, ToolError, WrongKindError
from llmos.plugins.builtin.calc import number_text
from llmos.plugins.builtin.paths import existing_file
from llmos.plugins.context import ToolContext
from llmos.plugins.resources import in_thread

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")

TIMEOUT_S = 120.0
_NO_ROOM = re.compile(r"no space left on device|file too large|disk quota exceeded", re.IGNORECASE)
READERS = {
    ".csv": "read_csv({path}, sample_size = -1)",
    ".tsv": "read_csv({path}, sample_size = -1)",
    ".txt": "read_csv({path}, sample_size = -1)",
    ".csv.gz": "read_csv({path}, sample_size = -1)",
    ".tsv.gz": "read_csv({path}, sample_size = -1)",
    ".parquet": "read_parquet({path})",
    ".json": "read_json({path}, sample_size = -1)",
    ".jsonl": "read_json({path}, sample_size = -1, format = 'newline_delimited')",
    ".ndjson": "read_json({path}, sample_size = -1, format = 'newline_delimited')",
}


async def with_duckdb(work: Callable[[DuckDBPyConnection], T]) -> T:
    """Run blocking work on a fresh in-memory database in a thread, interrupted after two minutes or on cancellation.

    Raises:
        ToolError: DuckDB refused, in its own first words, or the time was over.
        InputError: the disk is full.
    """
    import duckdb

    connection = await in_thread(_connect)
    task = asyncio.ensure_future(in_thread(work, connection))
    try:
        done, _ = await asyncio.wait({task}, timeout=TIMEOUT_S)
        if not done:
            raise ToolError(f"the query was stopped after {TIMEOUT_S:.0f} s; ask for less at once.")
        return task.result()
    except duckdb.Error as error:
        full = _NO_ROOM.search(str(error))
        raise (
            InputError(f"the result can't be written: {full[0]}.") if full else ToolError(first_words(error))
        ) from None
    finally:
        if not task.done():
            connection.interrupt()
            await asyncio.wait({task})
            task.exception()
        connection.close()


def _connect() -> DuckDBPyConnection:
    import duckdb

    return duckdb.connect(
        ":memory:",
        config={
            # FROM some_name never means a Python variable, nothing is spilled to disk, nothing is fetched
            "python_enable_replacements": "false",
            "temp_directory": "",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            # one thread: the same order of rows and the same last digit of a sum each time
            "threads": "1",
        },
    )


def lock_down(connection: DuckDBPyConnection) -> None:
    """From here on the connection reaches no file, loads no extension and can't undo that."""
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def first_words(error: Exception) -> str:
    """DuckDB's message without its pages of advice: up to the first empty line, 400 characters at most."""
    text = " ".join(str(error).split("\n\n")[0].split())
    return (text if len(text) <= 400 else f"{text[:400]}…").rstrip(".") + "."


def scan(ctx: ToolContext, path: str) -> str:
    """The SQL table function that reads a data file, by its suffix.

    Raises:
        ToolError: no such file, or no data file.
    """
    return reader(ctx, existing_file(ctx, path))


def reader(ctx: ToolContext, file: Path) -> str:
    """`scan` for a path that is resolved already."""
    name = ctx.relative(file)
    suffix = data_suffix(file)
    if suffix not in READERS:
        raise WrongKindError(f"{name} is no data file; known are {', '.join(READERS)}.")
    if set(str(file)) & set("*?["):
        raise ToolError(f"{name} has *, ? or [ in its path, which stands for many files; rename it first.")
    if file.stat().st_size == 0:
        raise ToolError(f"{name} is empty.")
    return READERS[suffix].format(path=literal(str(file)))


def data_suffix(file: Path) -> str:
    """The suffix that tells the format, in lower case: `.csv`, `.csv.gz`."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def literal(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def plain(value: Any) -> Any:
    """A value of a DuckDB result as JSON: exact where JSON can be, None for NaN and infinity."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case decimal.Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes() | bytearray():
            return bytes(value).hex()
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case datetime.timedelta() | uuid.UUID():
            return str(value)
    return str(value)


def aligned(names: list[str], cells: list[list[str]], *, right: list[bool], limit: int = 200) -> str:
    """Cells as a plain-text table under their names; `right` says which columns are flush right."""
    shown = [[" ".join(cell.split("\n")) for cell in line] for line in cells[:limit]]
    widths = [max(len(name), *(len(line[i]) for line in shown), 1) for i, name in enumerate(names)]

    def line_of(line: list[str]) -> str:
        pairs = zip(line, widths, right, strict=True)
        return "  ".join(cell.rjust(width) if r else cell.ljust(width) for cell, width, r in pairs).rstrip()

    more = [f"… {len(cells) - limit} more"] if len(cells) > limit else []
    return "\n".join([line_of(names), "  ".join("-" * width for width in widths), *map(line_of, shown), *more])


def cell_text(value: Any) -> str:
    """A plain value as a cell: nothing for None, numbers to 15 digits without `.0`, the rest as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    return number_text(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
