"""Data files through DuckDB: `query_data`, `convert_data`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmos.errors import ToolError, WrongKindError
from llmos.plugins.builtin.paths import count_text, existing_file
from llmos.plugins.builtin.reading import content_of
from llmos.plugins.builtin.same_sql import gives_the_same
from llmos.plugins.builtin.tables import (
    aligned,
    cell_text,
    data_suffix,
    first_words,
    identifier,
    literal,
    lock_down,
    plain,
    scan,
    with_duckdb,
)
from llmos.plugins.builtin.writing import replacing, writable_target
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.plugins.tool import FileRead, FileWrite
from llmos.trace.program import Effect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_ROWS = 20_000
READING = ("SELECT", "EXPLAIN")
WRITERS = {
    ".csv": "FORMAT csv, HEADER true",
    ".tsv": "FORMAT csv, HEADER true, DELIMITER '\t'",
    ".parquet": "FORMAT parquet",
    ".json": "FORMAT json, ARRAY true",
    ".jsonl": "FORMAT json",
    ".ndjson": "FORMAT json",
}


def _asked(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileRead]:
    if not gives_the_same(arguments["sql"]):
        raise ToolError("the SQL may give something else each time.")
    return [FileRead(path=existing_file(ctx, path)) for path in arguments.get("files", {}).values()]


@llm_tool(
    "query_data",
    "Ask SQL (DuckDB) of CSV, TSV, Parquet or JSON files. files names them as tables: "
    "files={'sales': 'data/sales.csv'}, sql='SELECT region, sum(amount) AS total FROM sales GROUP BY ALL ORDER BY 1'. "
    "Gives rows as objects, and as text in the format table, markdown, csv or lines.",
    {
        "sql": str,
        "files": {"type": "object", "description": "table name: path"},
        "format": {"type": "string", "enum": ["table", "markdown", "csv", "lines"]},
    },
    defaults={"files": {}, "format": "table"},
    effect=Effect.READ,
    paths=("files",),
    idempotent=True,
    open_world=False,
    code=("sql",),
    reads=_asked,
    version="1",
)
async def query_data(ctx: ToolContext, sql: str, files: dict[str, Any], format: str) -> dict[str, Any]:
    scans = {}
    for name, path in files.items():
        if not isinstance(path, str):
            raise ToolError(f"files must map table names to paths, but {name!r} is {path!r}.")
        scans[name] = scan(ctx, path)
    return await with_duckdb(lambda connection: _query(connection, sql, scans, format))


def _query(connection: DuckDBPyConnection, sql: str, scans: dict[str, str], format: str) -> dict[str, Any]:
    import duckdb

    for name, source in scans.items():
        connection.execute(f"CREATE TABLE {identifier(name)} AS SELECT * FROM {source}")
    lock_down(connection)
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type.name not in READING:
        raise ToolError("sql must be one SELECT statement; this tool only reads.")
    try:
        connection.execute(statements[0])
        rows = connection.fetchmany(MAX_ROWS + 1)
    except duckdb.PermissionException as error:
        hint = "name them in `files`, e.g. files={'data': 'data.csv'}, and use those names in the SQL"
        raise ToolError(f"the SQL may not open files itself: {hint}. ({first_words(error)})") from None
    if len(rows) > MAX_ROWS:
        raise ToolError(f"the result has more than {MAX_ROWS} rows; aggregate, filter, or add a LIMIT.")
    columns = [{"name": name, "type": str(column[1])} for name, column in _names(connection.description or [])]
    names = [column["name"] for column in columns]
    records = [dict(zip(names, map(plain, row), strict=True)) for row in rows]
    return {"rows": records, "row_count": len(records), "columns": columns, "text": rendered(names, records, format)}


def _names(description: list[Any]) -> list[tuple[str, Any]]:
    """Each column with a name of its own: a second `total` becomes `total_2`."""
    seen: dict[str, int] = {}
    named = []
    for column in description:
        seen[column[0]] = seen.get(column[0], 0) + 1
        named.append((column[0] if seen[column[0]] == 1 else f"{column[0]}_{seen[column[0]]}", column))
    return named


def rendered(names: list[str], records: list[dict[str, Any]], format: str) -> str:
    """Rows as text: an aligned table, a Markdown table, CSV, or one line for each row with its values."""
    cells = [[cell_text(value) for value in record.values()] for record in records]
    match format:
        case "markdown":
            lines = [names, ["---"] * len(names), *[[re.sub(r"([|\\])", r"\\\1", c) for c in line] for line in cells]]
            return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("\r", " ")
        case "csv":
            stream = io.StringIO()
            csv.writer(stream, lineterminator="\n").writerows([names, *cells])
            return stream.getvalue()
        case "lines":
            return "".join(f"{' '.join(line)}\n" for line in cells)
    right = [all(isinstance(record[name], int | float | None) for record in records) for name in names]
    return aligned(names, cells, right=right) if records else "(no rows)"


def _converted(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileWrite]:
    return [FileWrite(path=writable_target(ctx, arguments["target"]))]


@llm_tool(
    "convert_data",
    "Convert a data file between CSV, TSV, JSON, JSON lines and Parquet; the suffixes of source and target say which.",
    {"source": str, "target": str},
    effect=Effect.WRITE,
    paths={"source": Effect.READ, "target": Effect.WRITE},
    idempotent=True,
    open_world=False,
    writes=_converted,
    reads=content_of("source"),
    version="1",
)
async def convert_data(ctx: ToolContext, source: str, target: str) -> dict[str, Any]:
    return await with_duckdb(lambda connection: _convert(ctx, connection, source, target))


def _convert(ctx: ToolContext, connection: DuckDBPyConnection, source: str, target: str) -> dict[str, Any]:
    read, place = scan(ctx, source), writable_target(ctx, target)
    suffix = data_suffix(place)
    name = ctx.relative(place)
    if suffix not in WRITERS:
        raise WrongKindError(f"{name}: can't write that format; known are {', '.join(WRITERS)}.")
    origin = ctx.resolve(source)
    if origin == place:
        raise ToolError(f"source and target are the same file, {name}.")
    if suffix in (".csv", ".tsv") and read.startswith("read_csv"):
        # text to text: a value is never read as a number or date and written differently
        read = read.replace("sample_size = -1", "all_varchar = true")
    connection.execute(f"CREATE TABLE data AS SELECT * FROM {read}")
    columns = [str(column[0]) for column in connection.execute("SELECT * FROM data LIMIT 0").description or []]
    with replacing(ctx, place) as temporary:
        connection.execute(f"COPY data TO {literal(str(temporary))} ({WRITERS[suffix]})")
    rows = int((connection.execute("SELECT count(*) FROM data").fetchone() or (0,))[0])
    return {
        "source": ctx.relative(origin),
        "target": name,
        "rows": rows,
        "columns": columns,
        "bytes": place.stat().st_size,
        "text": f"Converted {ctx.relative(origin)} to {name} ({count_text(rows, 'row')}).",
    }
