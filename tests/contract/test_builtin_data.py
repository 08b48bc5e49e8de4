"""query_data, describe_data and convert_data over real files."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.contract.toolbox import Toolbox, toolbox

SALES = "region,amount,day,code\nnorth,10.5,2024-01-02,007\nsouth,20,2024-01-03,008\nnorth,0.1,2024-01-04,\n"


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    box = toolbox(tmp_path)
    box.write("sales.csv", SALES)
    return box


# ------------------------------------------------------------------------------------------------------ query

TOTALS = "SELECT region, sum(amount) AS total, count(*) AS n FROM s GROUP BY ALL ORDER BY ALL"


async def test_a_query_gives_rows_as_objects(box: Toolbox) -> None:
    found = await box.call("query_data", sql=TOTALS, files={"s": "sales.csv"})
    assert found["rows"] == [{"region": "north", "total": 10.6, "n": 2}, {"region": "south", "total": 20.0, "n": 1}]
    assert [column["name"] for column in found["columns"]] == ["region", "total", "n"]
    assert found["row_count"] == 2
    assert found["text"] == "region  total  n\n------  -----  -\nnorth    10.6  2\nsouth      20  1"


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("markdown", "| region | total | n |\n| --- | --- | --- |\n| north | 10.6 | 2 |\n| south | 20 | 1 |\n"),
        ("csv", "region,total,n\nnorth,10.6,2\nsouth,20,1\n"),
        ("lines", "north 10.6 2\nsouth 20 1\n"),
    ],
)
async def test_a_query_gives_its_text_in_a_format(box: Toolbox, format: str, text: str) -> None:
    assert (await box.call("query_data", sql=TOTALS, files={"s": "sales.csv"}, format=format))["text"] == text


async def test_a_query_joins_files_of_different_kinds(box: Toolbox) -> None:
    box.write("heads.json", json.dumps([{"region": "north", "head": "Ann"}, {"region": "south", "head": "Bo"}]))
    box.write("l.jsonl", '{"region": "north"}\n')
    await box.call("convert_data", source="sales.csv", target="sales.parquet")
    sql = "SELECT DISTINCT head FROM s JOIN h USING (region) JOIN l USING (region)"
    found = await box.call("query_data", sql=sql, files={"s": "sales.parquet", "h": "heads.json", "l": "l.jsonl"})
    assert found["rows"] == [{"head": "Ann"}]


async def test_a_query_needs_no_file(box: Toolbox) -> None:
    values = "SELECT 2 + 3 AS five, NULL AS nothing, [1, 2] AS list, {'a': DATE '2024-01-02'} AS s, 'nan'::DOUBLE AS n"
    assert (await box.call("query_data", sql=values))["rows"] == [
        {"five": 5, "nothing": None, "list": [1, 2], "s": {"a": "2024-01-02"}, "n": None}
    ]


async def test_columns_of_one_name_are_kept_apart(box: Toolbox) -> None:
    assert (await box.call("query_data", sql="SELECT 1 AS a, 2 AS a, 3 AS a"))["rows"] == [{"a": 1, "a_2": 2, "a_3": 3}]


async def test_a_code_with_leading_zeros_stays_text(box: Toolbox) -> None:
    found = await box.call("query_data", sql="SELECT code FROM s", files={"s": "sales.csv"})
    assert [row["code"] for row in found["rows"]] == ["007", "008", None]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY s TO 'out.csv'",
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO s SELECT * FROM s",
        "DROP TABLE s",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "EXPORT DATABASE 'x'",
        "SELECT 1; DROP TABLE s",
        "",
    ],
)
async def test_only_one_select_is_carried_out(box: Toolbox, sql: str) -> None:
    assert "one SELECT" in await box.error("query_data", sql=sql, files={"s": "sales.csv"})
    assert box.names() == ["sales.csv"]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM 'sales.csv'",
        "FROM read_csv('sales.csv')",
        "FROM read_text('/etc/passwd')",
        "FROM glob('/*')",
        "FROM 'http://127.0.0.1:1/x.csv'",
        "FROM sniff_csv('sales.csv')",
    ],
)
async def test_sql_opens_no_file_itself_and_is_told_how(box: Toolbox, sql: str) -> None:
    assert "name them in `files`" in await box.error("query_data", sql=sql)


async def test_python_variables_are_no_tables(box: Toolbox) -> None:
    assert "does not exist" in await box.error("query_data", sql="FROM scans")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT nope FROM s", "nope"),
        ("SELECT 1 + 'x'", "Could not choose a best candidate"),
    ],
)
async def test_a_wrong_query_is_one_short_sentence(box: Toolbox, sql: str, said: str) -> None:
    message = await box.error("query_data", sql=sql, files={"s": "sales.csv"})
    assert said in message
    assert "\n" not in message


async def test_more_rows_than_fit_are_refused_and_never_cut(box: Toolbox) -> None:
    assert len((await box.call("query_data", sql="FROM range(20000)"))["rows"]) == 20_000
    assert "more than 20000 rows" in await box.error("query_data", sql="FROM range(20001)")


async def test_a_query_that_takes_too_long_is_stopped(box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmos.plugins.builtin.tables.TIMEOUT_S", 0.3)
    started = time.monotonic()
    sql = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range = 7"
    assert "was stopped after" in await box.error("query_data", sql=sql)
    assert time.monotonic() - started < 10


async def test_a_cancelled_query_ends(box: Toolbox) -> None:
    sql = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range = 7"
    task = asyncio.ensure_future(box.result("query_data", sql=sql))
    await asyncio.sleep(0.5)
    task.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", "x", "a.xlsx is no data file"),
        ("noend", "x", "noend is no data file"),
        ("empty.csv", "", "empty.csv is empty."),
        ("a[1].csv", "a\n1\n", "rename it first"),
        ("bad.json", "{not json", "Invalid Input Error"),
        ("bad.parquet", "PAR1xxxx", "Invalid Input Error"),
        ("bin.csv", b"\xff\xfe\x00a\n\xff,\n", "Invalid Input Error"),
    ],
)
async def test_a_file_that_is_no_data_is_one_sentence(box: Toolbox, name: str, content: str | bytes, said: str) -> None:
    box.write(name, content)
    for tool, args in (
        ("query_data", {"sql": "FROM t", "files": {"t": name}}),
        ("describe_data", {"path": name}),
        ("convert_data", {"source": name, "target": "out.csv" if not name.endswith("csv") else "out.json"}),
    ):
        message = await box.error(tool, args)
        assert said in message
        assert "\n" not in message
    assert box.names() == sorted([name, "sales.csv"])


async def test_a_quote_in_a_path_is_only_a_quote(box: Toolbox) -> None:
    box.write("it's; DROP.csv", "a\n1\n")
    assert (await box.call("query_data", sql='FROM "o""k"', files={'o"k': "it's; DROP.csv"}))["rows"] == [{"a": 1}]


# --------------------------------------------------------------------------------------------------- describe


async def test_a_file_is_described_by_its_columns(box: Toolbox) -> None:
    described = await box.call("describe_data", path="sales.csv")
    assert (described["path"], described["rows"], described["column_count"]) == ("sales.csv", 3, 4)
    region, amount, day, code = described["columns"]
    assert region["top"] == [{"value": "north", "count": 2}, {"value": "south", "count": 1}]
    assert (region["type"], region["missing"], region["distinct"], region["mean"]) == ("VARCHAR", 0, 2, None)
    assert (amount["min"], amount["max"], amount["mean"], amount["median"]) == (0.1, 20.0, 10.2, 10.5)
    assert (amount["q25"], amount["q75"], amount["std"]) == (5.3, 15.25, 9.95339138184)
    assert sum(amount["histogram"]) == 3
    assert (day["type"], day["min"], day["max"]) == ("DATE", "2024-01-02", "2024-01-04")
    assert (code["type"], code["missing"]) == ("VARCHAR", 1)


async def test_the_report_is_readable(box: Toolbox) -> None:
    text = (await box.call("describe_data", path="sales.csv"))["text"]
    assert text.splitlines()[0] == "sales.csv: 3 rows, 4 columns"
    assert "day     DATE           0         3  2024-01-02 … 2024-01-04\n" in text
    assert "amount  0.1  5.3    10.5  10.2  15.25   20  █     █    █\n" in text
    assert "  north  ████████████████████████ 2\n  south  ████████████ 1" in text


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a,b\n", 0),
        ("a,b\n,\n,\n", 2),
        ("a\n5\n", 1),
        ("a\n5\n5\n", 2),
        ("a\ninf\nnan\n1.5\n", 3),
        ("a\n1e308\n-1e308\n", 2),
        ("a\n99999999999999999999\n1\n", 2),
        ('a\n"x\ny"\n', 1),
        ("a b;c\n1;2\n", 1),
    ],
)
async def test_odd_columns_are_described_too(box: Toolbox, content: str, rows: int) -> None:
    box.write("odd.csv", content)
    described = await box.call("describe_data", path="odd.csv")
    assert described["rows"] == rows
    assert described["text"].startswith("odd.csv: ")


async def test_nested_json_is_described(box: Toolbox) -> None:
    box.write("n.json", '[{"a": {"b": 1}, "c": [1, 2], "d": true}, {"a": null, "c": [], "d": false}]')
    described = await box.call("describe_data", path="n.json")
    assert [column["missing"] for column in described["columns"]] == [1, 0, 0]
    assert described["columns"][1]["min"] is None


# ---------------------------------------------------------------------------------------------------- convert


@pytest.mark.parametrize("target", ["o/out.json", "out.jsonl", "out.ndjson", "out.parquet", "out.tsv", "out.csv"])
async def test_a_file_is_converted_and_back(box: Toolbox, target: str) -> None:
    done = await box.call("convert_data", source="sales.csv", target=target)
    assert (done["source"], done["target"], done["rows"]) == ("sales.csv", target, 3)
    assert done["columns"] == ["region", "amount", "day", "code"]
    assert done["bytes"] == (box.workspace / target).stat().st_size
    assert done["text"] == f"Converted sales.csv to {target} (3 rows)."
    back = await box.call("convert_data", source=target, target="back.json")
    rows = json.loads((box.workspace / "back.json").read_text())
    assert rows[0] == {"region": "north", "amount": 10.5, "day": "2024-01-02", "code": "007"}
    assert (back["rows"], rows[2]["code"]) == (3, None)
    assert box.names() == sorted(["back.json", "sales.csv", target])


async def test_text_to_text_changes_no_value(box: Toolbox) -> None:
    box.write("a.csv", "x,y,z\n1.10,2024-01-02T00:00:00Z,TRUE\n")
    await box.call("convert_data", source="a.csv", target="a.tsv")
    assert (box.workspace / "a.tsv").read_text() == "x\ty\tz\n1.10\t2024-01-02T00:00:00Z\tTRUE\n"


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("sales.csv", "sales.csv", "are the same file"),
        ("sales.csv", "out.xlsx", "can't write that format"),
        ("sales.csv", "out", "can't write that format"),
        ("none.csv", "out.json", "there is no file none.csv"),
    ],
)
async def test_a_conversion_that_cannot_be_leaves_nothing(box: Toolbox, source: str, target: str, said: str) -> None:
    assert said in await box.error("convert_data", source=source, target=target)
    assert box.names() == ["sales.csv"]
