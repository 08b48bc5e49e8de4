"""count_files, find_files, find_duplicates and rename_files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.contract.toolbox import Toolbox, toolbox


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    return toolbox(tmp_path)


def fill(box: Toolbox, *names: str) -> None:
    for name in names:
        box.write(name, name)


async def test_files_are_counted_with_those_below(box: Toolbox) -> None:
    fill(box, "a.csv", "b.CSV", "d/c.csv", "d/README")
    counted = await box.call("count_files")
    assert (counted["count"], counted["bytes"]) == (4, 25)
    assert counted["by_suffix"] == {"": 1, ".csv": 3}
    assert counted["text"] == "4 files in the workspace (25 bytes)"
    assert (await box.call("count_files", path="d", pattern="*.csv"))["text"] == "1 file matching *.csv in d (7 bytes)"
    assert (await box.call("count_files", pattern="*.csv", recursive=False))["count"] == 1
    assert (await box.call("count_files", pattern="*.x"))["text"] == "no files matching *.x in the workspace (0 bytes)"


async def test_files_are_found_with_size_and_time(box: Toolbox) -> None:
    fill(box, "d/b.md", "a.md", "c.txt")
    os.utime(box.workspace / "a.md", (0, 86400))
    found = await box.call("find_files", pattern="*.md")
    assert [file["path"] for file in found["files"]] == ["a.md", "d/b.md"]
    assert found["files"][0] == {"path": "a.md", "bytes": 4, "modified": "1970-01-02T00:00:00+00:00"}
    assert (found["count"], found["text"]) == (2, "a.md\nd/b.md")
    assert (await box.call("find_files", pattern="d/*"))["text"] == "d/b.md"


@pytest.mark.parametrize("tool", ["count_files", "find_files", "find_duplicates"])
async def test_a_folder_that_is_none_is_refused(box: Toolbox, tool: str) -> None:
    fill(box, "a.txt")
    assert await box.error(tool, path="nope") == "the folder nope does not exist."
    assert await box.error(tool, path="a.txt") == "a.txt is a file, not a folder."


async def test_duplicates_are_grouped_by_content(box: Toolbox) -> None:
    for name, content in (("a", "same"), ("d/b", "same"), ("c", "diff"), ("e", "same!"), ("x", ""), ("y", "")):
        box.write(name, content)
    (box.workspace / "link").symlink_to("a")
    found = await box.call("find_duplicates")
    digest = hashlib.sha256(b"same").hexdigest()
    assert found["groups"][0] == {"sha256": digest, "bytes": 4, "files": ["a", "d/b"]}
    assert [group["files"] for group in found["groups"]] == [["a", "d/b"], ["x", "y"]]
    assert (found["count"], found["wasted_bytes"]) == (2, 4)
    assert found["text"].splitlines()[0] == "2 groups of duplicates in the workspace, 4 bytes to save"
    assert (await box.call("find_duplicates", path="d"))["text"] == "No duplicates in d."


async def test_names_are_changed_and_contents_kept(box: Toolbox) -> None:
    fill(box, "in/IMG_1.jpg", "in/IMG_2.jpg", "in/other.jpg", "in/deep/IMG_3.jpg")
    renamed = await box.call("rename_files", path="in", find="IMG_", replace="holiday-")
    assert renamed["renamed"] == [
        {"from": "in/IMG_1.jpg", "to": "in/holiday-1.jpg"},
        {"from": "in/IMG_2.jpg", "to": "in/holiday-2.jpg"},
    ]
    assert renamed["count"] == 2
    assert box.names() == ["in/deep/IMG_3.jpg", "in/holiday-1.jpg", "in/holiday-2.jpg", "in/other.jpg"]
    assert (box.workspace / "in/holiday-1.jpg").read_text() == "in/IMG_1.jpg"


async def test_names_may_move_up_a_chain(box: Toolbox) -> None:
    fill(box, "a", "aa", "aaa")
    await box.call("rename_files", find="a", replace="aa")
    assert {name: (box.workspace / name).read_text() for name in box.names()} == {
        "aa": "a",
        "aaaa": "aa",
        "aaaaaa": "aaa",
    }


@pytest.mark.parametrize(
    ("names", "find", "replace", "said"),
    [
        (["a1", "a2", "b1"], "a", "b", "a1 would be named b1, which exists"),
        (["x-a", "xa"], "-", "", "x-a would be named xa, which exists"),
        (["a-b", "ab-"], "-", "", "would both be named ab"),
        (["a"], "a", "b/c", "which is no file name"),
        (["a"], "a", "..", "which is no file name"),
        (["a"], "a", "", "which is no file name"),
        (["a"], "a", "x" * 300, "which is no file name"),
        (["a"], "", "x", "find is empty"),
    ],
)
async def test_nothing_is_renamed_when_one_name_cannot_be(
    box: Toolbox, names: list[str], find: str, replace: str, said: str
) -> None:
    fill(box, *names)
    assert said in await box.error("rename_files", find=find, replace=replace)
    assert box.names() == sorted(names)


async def test_renaming_that_fails_half_way_is_taken_back(box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(box, "a1", "a2", "a3")
    real, calls = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 5:
            raise PermissionError(13, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert "all names are as they were" in await box.error("rename_files", find="a", replace="b")
    assert {name: (box.workspace / name).read_text() for name in box.names()} == {"a1": "a1", "a2": "a2", "a3": "a3"}


async def test_nothing_to_rename_is_no_error(box: Toolbox) -> None:
    fill(box, "a")
    assert await box.call("rename_files", find="z", replace="y") == {
        "path": ".",
        "renamed": [],
        "count": 0,
        "text": "No file name in the workspace contains 'z'.",
    }
