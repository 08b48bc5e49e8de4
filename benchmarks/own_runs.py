"""Runs of our own tools with their real outputs: small programs whose every call is known for any parameters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CallTool = Callable[..., Awaitable[Any]]
Solve = Callable[..., Awaitable[str]]


@dataclass(frozen=True, kw_only=True)
class OwnRun:
    """A goal with `{parameters}` and the program that solves it; the first parameters are learned, the others asked."""

    name: str
    goal: str
    solve: Solve
    params: Sequence[Mapping[str, str]]


FILES: Mapping[str, str] = {
    "sales.csv": "region,amount\nnorth,10\nsouth,20\nnorth,5\n",
    "orders.csv": "region,amount\nwest,7\neast,1\n",
    "stock/march.csv": "item,amount\nnut,3\nbolt,4\n",
    "stock/april.csv": "item,amount\nnut,9\n",
    "archive/old.csv": "item,amount\npin,2\nnail,8\nhook,1\n",
    "notes.txt": "alpha\nbeta needs work\ngamma\n",
    "todo.txt": "write\nbeta test\nship it\n",
    "logs/app.txt": "ok\nerror: disk\nerror: net\n",
    "count.txt": "21",
    "stock/count.txt": "13",
    "price.json": '{"price": 40, "currency": "EUR"}',
    "offer.json": '{"price": 75, "currency": "EUR"}',
    "photos/trip_1.jpg": "a",
    "photos/trip_2.jpg": "b",
    "scans/page_1.jpg": "c",
    "scans/page_2.jpg": "c",
    "inbox/one.csv": "a\n1\n",
    "inbox/two.csv": "a\n2\n",
    "inbox/three.csv": "a\n3\n",
    "outbox/only.csv": "a\n4\n",
    "wide/a.csv": "a\n1\n",
    "wide/b.csv": "a\n2\n",
    "wide/c.csv": "a\n3\n",
    "wide/d.csv": "a\n4\n",
    "wide/e.csv": "a\n5\n",
}


def lay_out(workspace: Path) -> None:
    """Make the workspace hold just these files."""
    for path in sorted(workspace.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    for name, text in FILES.items():
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text(text, encoding="utf-8")


async def _convert(call: CallTool, source: str, target: str) -> str:
    await call("convert_data", source=source, target=target)
    return f"Converted {source} to {target}."


async def _copy_text(call: CallTool, source: str, target: str) -> str:
    read = await call("read", file_path=source)
    await call("write", file_path=target, content=read["text"])
    return f"Copied {source} to {target}."


async def _total(call: CallTool, file: str) -> str:
    rows = await call("query_data", sql="SELECT sum(amount) AS total FROM t", files={"t": file})
    return str(rows["text"])


async def _region(call: CallTool, file: str, region: str) -> str:
    sql = f"SELECT sum(amount) AS total FROM t WHERE region = '{region}'"
    rows = await call("query_data", sql=sql, files={"t": file})
    return str(rows["text"])


async def _sum(call: CallTool, a: str, b: str) -> str:
    return str(await call("calculate", expression=f"{a} + {b}"))


async def _grep(call: CallTool, word: str, file: str) -> str:
    found = await call("grep", pattern=word, path=file, output_mode="content")
    return str(found["text"])


async def _rename(call: CallTool, folder: str, old: str, new: str) -> str:
    done = await call("rename_files", path=folder, find=old, replace=new)
    return str(done)


async def _describe(call: CallTool, file: str) -> str:
    return str((await call("describe_data", path=file))["text"])


async def _write(call: CallTool, text: str, file: str) -> str:
    await call("write", file_path=file, content=text)
    return f"Wrote {file}."


async def _edit(call: CallTool, old: str, new: str, file: str) -> str:
    await call("edit", file_path=file, old_string=old, new_string=new)
    return f"Changed {file}."


async def _duplicates(call: CallTool, folder: str) -> str:
    return str((await call("find_duplicates", path=folder))["text"])


async def _count(call: CallTool, folder: str, suffix: str) -> str:
    found = await call("count_files", path=folder, pattern=f"*.{suffix}")
    return str(found["count"])


async def _remember(call: CallTool, key: str, value: str) -> str:
    await call("remember", key=key, value=value)
    return f"Remembered {key}."


async def _double(call: CallTool, file: str) -> str:
    read = await call("read", file_path=file)
    return str(await call("calculate", expression=f"{read['text']} * 2"))


async def _summary(call: CallTool, file: str, target: str) -> str:
    rows = await call("query_data", sql="SELECT count(*) AS n FROM t", files={"t": file}, format="csv")
    await call("write", file_path=target, content=rows["text"])
    return f"Wrote {target}."


async def _convert_all(call: CallTool, folder: str) -> str:
    found = await call("glob", pattern="*.csv", path=folder)
    for name in found["files"]:
        await call("convert_data", source=name, target=name.replace(".csv", ".json"))
    return f"Converted {found['count']} files."


def _params(names: str, *rows: Sequence[str]) -> tuple[dict[str, str], ...]:
    return tuple(dict(zip(names.split(), row, strict=True)) for row in rows)


OWN_RUNS: Sequence[OwnRun] = (
    OwnRun(
        name="convert",
        goal="Please turn the table {source} into the file {target}",
        solve=_convert,
        params=_params("source target", ("sales.csv", "sales.json"), ("orders.csv", "east/orders.json")),
    ),
    OwnRun(
        name="copy text",
        goal="Copy the text of {source} over to {target}",
        solve=_copy_text,
        params=_params("source target", ("notes.txt", "copy.txt"), ("todo.txt", "saved/todo.txt")),
    ),
    OwnRun(
        name="total",
        goal="What is the total of the amount column in {file}?",
        solve=_total,
        params=_params("file", ("sales.csv",), ("orders.csv",), ("archive/old.csv",)),
    ),
    OwnRun(
        name="region",
        goal='What did the region "{region}" sell according to {file}?',
        solve=_region,
        params=_params("region file", ("north", "sales.csv"), ("west", "orders.csv"), ("south", "sales.csv")),
    ),
    OwnRun(
        name="sum",
        goal="What do {a} and {b} make when added?",
        solve=_sum,
        params=_params("a b", ("1250", "378"), ("4711", "815"), ("20", "22")),
    ),
    OwnRun(
        name="grep",
        goal='Which lines mention "{word}" in the file {file}?',
        solve=_grep,
        params=_params("word file", ("beta", "notes.txt"), ("error", "logs/app.txt")),
    ),
    OwnRun(
        name="rename",
        goal='In the folder {folder} replace "{old}" by "{new}" in the names of all files',
        solve=_rename,
        params=_params("folder old new", ("photos/", "trip", "rome"), ("scans/", "page", "sheet")),
    ),
    OwnRun(
        name="describe",
        goal="Describe the columns of the table in {file}",
        solve=_describe,
        params=_params("file", ("sales.csv",), ("stock/march.csv",)),
    ),
    OwnRun(
        name="write",
        goal='Write the sentence "{text}" into the file {file}',
        solve=_write,
        params=_params("text file", ("all is well", "status.txt"), ("nothing to see", "logs/status.txt")),
    ),
    OwnRun(
        name="edit",
        goal='In {file} the words "{old}" have to become "{new}"',
        solve=_edit,
        params=_params(
            "old new file", ("beta needs work", "beta is done", "notes.txt"), ("ship it", "wait", "todo.txt")
        ),
    ),
    OwnRun(
        name="duplicates",
        goal="Tell me which pictures below {folder} are stored twice",
        solve=_duplicates,
        params=_params("folder", ("photos/",), ("scans/",)),
    ),
    OwnRun(
        name="count",
        goal="Count how many .{suffix} files lie below the folder {folder}",
        solve=_count,
        params=_params("suffix folder", ("csv", "stock/"), ("jpg", "photos/")),
    ),
    OwnRun(
        name="remember",
        goal='Please remember that "{key}" means "{value}"',
        solve=_remember,
        params=_params("key value", ("blue", "in stock"), ("red line", "sold out")),
    ),
    OwnRun(
        name="double",
        goal="Take the number stored in {file} and double it",
        solve=_double,
        params=_params("file", ("count.txt",), ("stock/count.txt",)),
    ),
    OwnRun(
        name="summary",
        goal="Count the rows of {file} and store the result as {target}",
        solve=_summary,
        params=_params("file target", ("sales.csv", "rows.csv"), ("archive/old.csv", "out/rows.csv")),
    ),
    OwnRun(
        name="convert all",
        goal="Convert every csv table lying in {folder} to json",
        solve=_convert_all,
        params=_params("folder", ("inbox/",), ("outbox/",), ("wide/",)),
    ),
)
