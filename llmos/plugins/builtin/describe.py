"""What is in a data file: `describe_data`, with a report for the terminal."""

from __future__ import annotations

import datetime
import math
from typing import TYPE_CHECKING, Any

from llmos.errors import ToolError
from llmos.plugins.builtin.calc import number_text
from llmos.plugins.builtin.paths import count_text, existing_file
from llmos.plugins.builtin.reading import content_of
from llmos.plugins.builtin.tables import aligned, identifier, lock_down, plain, reader, with_duckdb
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.trace.program import Effect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BINS = 12
TOP = 5
BAR_CHARS = 24
SPARKS = "▁▂▃▄▅▆▇█"
SHOWN = ("min", "q25", "median", "mean", "q75", "max")
NUMERIC = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
)
NESTED = ("STRUCT", "MAP", "UNION", "JSON")


@llm_tool(
    "describe_data",
    "Describe a CSV, TSV, Parquet or JSON file: rows, and for each column its type, missing and distinct values, "
    "min, max, mean, std, quartiles, most frequent values and a histogram. text is a report with small charts.",
    {"path": str},
    effect=Effect.READ,
    paths=("path",),
    idempotent=True,
    open_world=False,
    reads=content_of("path"),
    version="1",
)
async def describe_data(ctx: ToolContext, path: str) -> dict[str, Any]:
    file = existing_file(ctx, path)
    source = reader(ctx, file)
    return await with_duckdb(lambda connection: _describe(connection, source, ctx.relative(file)))


def _describe(connection: DuckDBPyConnection, source: str, name: str) -> dict[str, Any]:
    connection.execute(f"CREATE TABLE data AS SELECT * FROM {source}")
    lock_down(connection)
    schema = connection.execute("DESCRIBE data").fetchall()
    rows = _one(connection, "SELECT count(*) FROM data")[0]
    if not schema:
        raise ToolError(f"{name} has no columns.")
    columns = [_column(connection, column, kind, rows) for column, kind, *_ in schema]
    return {
        "path": name,
        "rows": rows,
        "column_count": len(columns),
        "columns": columns,
        "text": report(name, rows, columns),
    }


def _one(connection: DuckDBPyConnection, sql: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
    row = connection.execute(sql, parameters or []).fetchone()
    return row if row is not None else ()


def _column(connection: DuckDBPyConnection, name: str, kind: str, rows: int) -> dict[str, Any]:
    """The facts of one column; those that make no sense for its type are None (numbers) or empty (lists)."""
    column = identifier(name)
    numeric = kind.startswith(NUMERIC) and not kind.endswith("]")
    nested = kind.startswith(NESTED) or kind.endswith("]")
    present, distinct = _one(connection, f"SELECT count({column}), count(DISTINCT {column}) FROM data")
    facts: dict[str, Any] = {"name": name, "type": kind, "missing": rows - present, "distinct": distinct}
    facts |= dict.fromkeys(("min", "max", "mean", "std", "q25", "median", "q75"))
    facts |= {"top": [], "histogram": []}
    if nested or not present:
        return facts
    facts["min"], facts["max"] = map(plain, _one(connection, f"SELECT min({column}), max({column}) FROM data"))
    if numeric:
        facts |= _numbers(connection, column)
    if not numeric or distinct <= BINS:
        top = (
            f"SELECT {column}, count(*) FROM data WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {TOP}"
        )
        facts["top"] = [{"value": plain(value), "count": n} for value, n in connection.execute(top).fetchall()]
    return facts


def _numbers(connection: DuckDBPyConnection, column: str) -> dict[str, Any]:
    finite = f"isfinite({column}::DOUBLE)"
    mean, std, quartiles, low, high = _one(
        connection,
        "SELECT avg(x), stddev_samp(x), quantile_cont(x, [0.25, 0.5, 0.75]), min(x), max(x) "
        f"FROM (SELECT {column}::DOUBLE AS x FROM data WHERE {finite})",
    )
    if low is None:
        return {}
    q25, median, q75 = quartiles
    return {
        "mean": _rounded(mean),
        "std": _rounded(std),
        "q25": _rounded(q25),
        "median": _rounded(median),
        "q75": _rounded(q75),
        "histogram": _histogram(connection, column, finite, low, high),
    }


def _rounded(value: float | None) -> float | None:
    """Twelve significant digits, without the noise of binary fractions."""
    return float(f"{value:.12g}") if value is not None and math.isfinite(value) else None


def _histogram(connection: DuckDBPyConnection, column: str, finite: str, low: float, high: float) -> list[int]:
    """Counts of values in equal bins from the lowest to the highest value."""
    counts = [0] * BINS
    width = (high - low) / BINS
    if not width > 0 or width == float("inf"):
        return [_one(connection, f"SELECT count(*) FROM data WHERE {finite}")[0]]
    bins = f"least({BINS - 1}, floor(({column}::DOUBLE - ?) / ?))::INTEGER"
    sql = f"SELECT {bins}, count(*) FROM data WHERE {finite} GROUP BY 1"
    for index, count in connection.execute(sql, [low, width]).fetchall():
        counts[index] = count
    return counts


# --- the report --------------------------------------------------------------------------------------


def report(name: str, rows: int, columns: list[dict[str, Any]]) -> str:
    """The description as aligned text with small charts, for a terminal."""
    head = f"{name}: {count_text(rows, 'row')}, {count_text(len(columns), 'column')}"
    cells = [[c["name"], _label(c["type"]), str(c["missing"]), str(c["distinct"]), _range(c)] for c in columns]
    names = ["column", "type", "missing", "distinct", "from … to"]
    parts = [head, aligned(names, cells, right=[False, False, True, True, False])]
    numbers = [c for c in columns if c["histogram"]]
    if numbers:
        cells = [[c["name"], *[_short_number(c[key]) for key in SHOWN], spark(c["histogram"])] for c in numbers]
        parts.append(aligned(["column", *SHOWN, "histogram"], cells, right=[False, *[True] * len(SHOWN), False]))
    parts += [_bars(c) for c in columns if not c["histogram"] and c["top"] and c["top"][0]["count"] > 1]
    return "\n\n".join(parts)


def _range(column: dict[str, Any]) -> str:
    """The first and the last value of a column that has no line among the numbers."""
    if column["histogram"] or column["min"] is None:
        return ""
    return " … ".join(dict.fromkeys((_label(column["min"]), _label(column["max"]))))


def _short_number(value: float | None) -> str:
    """Six digits, enough for an overview; whole numbers whole."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else number_text(float(f"{value:.6g}"))


def spark(counts: list[int]) -> str:
    """Counts as a line of block characters; an empty bin is a blank."""
    peak = max(counts, default=0)
    return "".join(" " if not n else SPARKS[max(0, -(-n * len(SPARKS) // peak) - 1)] for n in counts)


def _bars(column: dict[str, Any]) -> str:
    """The most frequent values as horizontal bars."""
    labels = [_label(entry["value"]) for entry in column["top"]]
    width = max(map(len, labels))
    peak = max(entry["count"] for entry in column["top"])
    lines = [
        f"  {label.ljust(width)}  {'█' * max(1, round(entry['count'] / peak * BAR_CHARS))} {entry['count']}"
        for label, entry in zip(labels, column["top"], strict=True)
    ]
    more = column["distinct"] - len(column["top"])
    return "\n".join([column["name"], *lines, *([f"  … {count_text(more, 'other value')}"] if more else [])])


def _label(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 30 else f"{text[:29]}…"
