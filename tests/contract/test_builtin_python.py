"""python: computes, and changes nothing."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from tests.contract.toolbox import Toolbox, toolbox


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    box = toolbox(tmp_path)
    box.write("a.csv", "x\n1\n2\n")
    return box


async def test_inputs_come_in_and_result_comes_out(box: Toolbox) -> None:
    done = await box.call("python", code="result = {'sum': sum(inputs['x'])}", inputs={"x": [1, 2.5]})
    assert done == {"result": {"sum": 3.5}, "printed": "", "text": '{"sum": 3.5}'}


async def test_printed_text_is_the_result_when_there_is_no_other(box: Toolbox) -> None:
    done = await box.call("python", code="print('grün')\nprint(2)")
    assert (done["result"], done["printed"], done["text"]) == ("grün\n2", "grün\n2\n", "grün\n2")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(1, 2)", [1, 2]),
        ("{3, 1, 2}", [1, 2, 3]),
        ("__import__('datetime').date(2024, 1, 2)", "2024-01-02"),
        ("__import__('decimal').Decimal('1.5')", 1.5),
        ("__import__('decimal').Decimal('2')", 2),
        ("__import__('pathlib').Path('a/b')", "a/b"),
        ("{'a': None}.items()", [["a", None]]),
        ("range(3)", [0, 1, 2]),
        ("2**70", 2**70),
        ("None", None),
    ],
)
async def test_common_values_become_json(box: Toolbox, expression: str, value: object) -> None:
    assert (await box.call("python", code=f"result = {expression}"))["result"] == value


async def test_the_order_of_a_set_is_the_same_each_time(box: Toolbox) -> None:
    code = "result = list({str(n) for n in range(50)})"
    assert await box.call("python", code=code) == await box.call("python", code=code)


async def test_it_reads_files_of_the_workspace(box: Toolbox) -> None:
    code = "import csv\nresult = [int(row['x']) for row in csv.DictReader(open('a.csv'))]"
    assert (await box.call("python", code=code))["result"] == [1, 2]


async def test_the_standard_library_works(box: Toolbox) -> None:
    code = (
        "import asyncio, collections, dataclasses, datetime, glob, itertools, json, math, pathlib, random, re\n"
        "import textwrap, zoneinfo, tempfile, subprocess, urllib.parse, xml.etree.ElementTree, html.parser\n"
        "import statistics\n"
        "result = [statistics.mean([1, 2, 3]), glob.glob('*.csv'), [p.name for p in pathlib.Path().iterdir()],"
        " str(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('UTC')))]"
    )
    expected = [2, ["a.csv"], ["a.csv"], "2024-07-01 00:00:00+00:00"]
    assert (await box.call("python", code=code))["result"] == expected


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


HARM = [
    "open('a.csv', 'w')",
    "open('new.txt', 'x')",
    "open('a.csv', 'r+')",
    "open('a.csv', 'ab')",
    "import pathlib; pathlib.Path('a.csv').write_text('')",
    "import os; os.open('new.txt', os.O_CREAT | os.O_WRONLY)",
    "import os; os.open('a.csv', os.O_TRUNC)",
    "import os; os.remove('a.csv')",
    "import os; os.unlink('a.csv')",
    "import pathlib; pathlib.Path('a.csv').unlink()",
    "import os; os.rename('a.csv', 'b.csv')",
    "import os; os.replace('a.csv', 'b.csv')",
    "import os; os.mkdir('d')",
    "import os; os.makedirs('d/e')",
    "import os; os.symlink('a.csv', 'l')",
    "import os; os.link('a.csv', 'l')",
    "import os; os.chmod('a.csv', 0)",
    "import os; os.truncate('a.csv', 0)",
    "import os; os.utime('a.csv')",
    "import os; os.mkfifo('p')",
    "import os; os.mknod('p')",
    "import os, posix; posix.mkfifo('p')",
    "import shutil; shutil.copy('a.csv', 'b.csv')",
    "import shutil; shutil.rmtree('.')",
    "import tempfile; tempfile.mkdtemp()",
    "import tempfile; tempfile.NamedTemporaryFile()",
    "import os; os.system('touch x')",
    "import os; os.fork()",
    "import os; os.execv('/bin/touch', ['touch', 'x'])",
    "import os; os.posix_spawn('/bin/touch', ['touch', 'x'], {})",
    "import os; os.kill(os.getppid(), 0)",
    "import subprocess; subprocess.run(['touch', 'x'])",
    "import multiprocessing as m; m.get_context('spawn').Process(target=print).start()",
    "import multiprocessing as m; m.Process(target=print).start()",
    "import _posixsubprocess; _posixsubprocess.fork_exec()",
    "import socket; socket.socket()",
    "import socket; socket.create_connection(('127.0.0.1', 1))",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1/')",
    "import http.client; http.client.HTTPConnection('127.0.0.1:1').connect()",
    "import ctypes",
    "import sqlite3; sqlite3.connect('x.db')",
    "import dbm; dbm.open('x', 'c')",
    "import shelve; shelve.open('x')",
    "import mmap; mmap.mmap(-1, 10)",
    "import _xxsubinterpreters",
    "import zipfile; zipfile.ZipFile('x.zip', 'w')",
    "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))",
    "import logging; logging.FileHandler('x.log')",
    "import sys; sys.addaudithook(print); open('new.txt', 'w')",
    "import duckdb",
    "import numpy",
]


@pytest.mark.parametrize("code", HARM)
async def test_it_cannot_change_the_world(box: Toolbox, code: str, tmp_path: Path) -> None:
    message = await box.error("python", code=code)
    assert "not allowed" in message or "opens no file" in message or "Error" in message
    assert box.names() == ["a.csv"]
    assert (box.workspace / "a.csv").read_text() == "x\n1\n2\n"
    assert names(tmp_path) == ["workspace"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.txt", "link.txt", "closed/x.txt"])
async def test_it_reads_nothing_outside_the_workspace(box: Toolbox, tmp_path: Path, path: str) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    (box.workspace / "link.txt").symlink_to(tmp_path / "outside.txt")
    box.write("closed/x.txt", "secret")
    box.services["denied"] = (box.workspace / "closed",)
    assert "can't be read" in await box.error("python", code=f"result = open({path!r}).read()")


@pytest.mark.parametrize("code", ["import os; os.listdir('/etc')", "import os; list(os.scandir('..'))"])
async def test_it_lists_nothing_outside_the_workspace(box: Toolbox, code: str) -> None:
    assert "outside the workspace" in await box.error("python", code=code)


async def test_it_sees_no_secret(box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "s3cret")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    done = await box.call("python", code="import os, sys\nresult = [sorted(os.environ), sys.path]")
    assert set(done["result"][0]) <= {"LANG", "LC_CTYPE", "PATH", "PYTHONHASHSEED", "TZ"}
    assert "/nowhere" not in done["result"][1]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = 1\ny = 1 / 0", "line 2, `y = 1 / 0`: ZeroDivisionError: division by zero"),
        ("def f():\n    return inputs['nope']\nf()", "line 2, `return inputs['nope']`: KeyError: 'nope'"),
        ("def f(:", "line 1: invalid syntax"),
        ("print('so far')\nraise ValueError('bad')", "ValueError: bad\nIt had printed:\nso far"),
        ("result = object()", "`result` can't be written as JSON: object is not JSON"),
        ("result = float('nan')", "`result` can't be written as JSON"),
        ("import sys; sys.exit(2)", "it ended itself with 2"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(): f()\nf()", "RecursionError"),
        ("x = [0] * 10**10", "MemoryError"),
        ("import os; os._exit(3)", "ended by the system (status 3)"),
        ("import os; os.abort()", "ended by the system (status -6)"),
        ("input()", "EOFError"),
    ],
)
async def test_a_failure_says_where_and_what(box: Toolbox, code: str, said: str) -> None:
    assert said in await box.error("python", code=code)


async def test_a_clean_exit_keeps_the_result(box: Toolbox) -> None:
    assert (await box.call("python", code="result = 1\nraise SystemExit"))["result"] == 1


async def test_endless_code_is_stopped(box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmos.plugins.builtin.python_tool.TIMEOUT_S", 1.0)
    started = time.monotonic()
    message = await box.error("python", code="while True: pass")
    assert "was stopped after 1 s" in message or re.search(r"ended by the system \(status -(24|9)\)", message)
    assert time.monotonic() - started < 6


async def test_cancellation_stops_it(box: Toolbox) -> None:
    task = asyncio.ensure_future(box.result("python", code="import time; time.sleep(60)"))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_huge_result_is_refused(box: Toolbox) -> None:
    assert "larger than 10 MB" in await box.error("python", code="result = 'x' * 11_000_000")


async def test_large_inputs_pass(box: Toolbox) -> None:
    done = await box.call("python", code="result = len(inputs['x'])", inputs={"x": "y" * 3_000_000})
    assert done["result"] == 3_000_000
