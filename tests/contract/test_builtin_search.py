"""glob and grep."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.contract.toolbox import Toolbox, toolbox


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    box = toolbox(tmp_path)
    for name in ("b.csv", "a.csv", "notes.md", "data/x.csv", "data/deep/y.json", ".git/config", ".hidden"):
        box.write(name, f"one {name}\ntwo\n")
    return box


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "data/x.csv"]),
        ("./**/*.{csv,json}", ["a.csv", "b.csv", "data/deep/y.json", "data/x.csv"]),
        ("data/**", ["data/deep/y.json", "data/x.csv"]),
        ("data/*", ["data/x.csv"]),
        ("[!a].csv", ["b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        (".h*", [".hidden"]),
        ("*.xyz", []),
    ],
)
async def test_glob_gives_sorted_relative_paths(box: Toolbox, pattern: str, files: list[str]) -> None:
    found = await box.call("glob", pattern=pattern)
    assert (found["files"], found["count"]) == (files, len(files))


async def test_glob_counts_from_a_folder(box: Toolbox) -> None:
    assert (await box.call("glob", pattern="*.csv", path="data"))["files"] == ["data/x.csv"]


async def test_glob_follows_no_link_out_and_no_loop(box: Toolbox, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/z.csv").write_text("x")
    (box.workspace / "link").symlink_to(tmp_path / "outside")
    (box.workspace / "data/loop").symlink_to(box.workspace)
    assert (await box.call("glob", pattern="**/*.csv"))["files"] == ["a.csv", "b.csv", "data/x.csv"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("/etc/*", "must be relative"),
        ("../*", "without '..'"),
        ("[a", "[ that is never closed"),
        ("{a,b", "{ that is never closed"),
    ],
)
async def test_a_pattern_that_is_none_is_refused(box: Toolbox, pattern: str, said: str) -> None:
    assert said in await box.error("glob", pattern=pattern)


async def test_grep_lists_files_by_default(box: Toolbox) -> None:
    found = await box.call("grep", pattern="one", glob="*.csv")
    assert [file["path"] for file in found["files"]] == ["a.csv", "b.csv", "data/x.csv"]
    assert (found["count"], found["matches"], found["text"]) == (3, [], "a.csv\nb.csv\ndata/x.csv")


async def test_grep_gives_lines_in_content_mode(box: Toolbox) -> None:
    found = await box.call("grep", pattern=r"^ONE \w+\.csv$", path="a.csv", output_mode="content", **{"-i": True})
    assert found["matches"] == [{"path": "a.csv", "line": 1, "text": "one a.csv"}]
    assert found["text"] == "a.csv:1:one a.csv"


async def test_grep_counts(box: Toolbox) -> None:
    found = await box.call("grep", pattern="o", path="a.csv", output_mode="count")
    assert (found["count"], found["text"]) == (2, "a.csv:2")


async def test_grep_passes_over_binary_files_and_finds_nothing_politely(box: Toolbox) -> None:
    box.write("x.bin", b"one\0two")
    assert (await box.call("grep", pattern="one", glob="*.bin"))["text"] == "No line matches one."


@pytest.mark.parametrize("pattern", ["(a", "a{2,1}", "*"])
async def test_a_bad_expression_is_one_sentence(box: Toolbox, pattern: str) -> None:
    assert "is no regular expression" in await box.error("grep", pattern=pattern)


async def test_a_runaway_expression_is_stopped(box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmos.plugins.builtin.search.GREP_TIMEOUT_S", 0.5)
    box.write("long.txt", "a" * 60 + "!")
    started = time.monotonic()
    assert "took more than" in await box.error("grep", pattern="(a+)+$", path="long.txt")
    assert time.monotonic() - started < 5


async def test_a_file_name_that_is_no_utf8_does_not_break_a_search(box: Toolbox) -> None:
    box.write(os.fsdecode(b"caf\xe9.txt"), "one")
    assert (await box.call("grep", pattern="o.e"))["count"] >= 1
    assert (await box.call("count_files"))["count"] >= 1
