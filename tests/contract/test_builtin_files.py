"""read, write and edit."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from llmos.errors import InputError
from tests.contract.toolbox import Toolbox, toolbox


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    return toolbox(tmp_path)


# ------------------------------------------------------------------------------------------------------- read


@pytest.mark.parametrize(
    ("content", "lines"),
    [("", 0), ("one", 1), ("one\n", 1), ("one\ntwo", 2), ("one\r\ntwo\r\n", 2), ("\n\n", 2), ("grün 🌳\n", 1)],
)
async def test_read_gives_the_text_exactly(box: Toolbox, content: str, lines: int) -> None:
    box.write("a.txt", content)
    assert await box.call("read", file_path="a.txt") == {"path": "a.txt", "text": content, "lines": lines}


async def test_read_gives_a_part_of_a_file(box: Toolbox) -> None:
    box.write("a.txt", "1\n2\n3\n4\n")
    assert (await box.call("read", file_path="a.txt", offset=2, limit=2))["text"] == "2\n3\n"
    assert (await box.call("read", file_path="a.txt", limit=1)) == {"path": "a.txt", "text": "1\n", "lines": 4}
    assert (await box.call("read", file_path="a.txt", offset=9))["text"] == ""


async def test_a_line_break_is_a_newline_and_nothing_else(box: Toolbox) -> None:
    box.write("a.txt", "one\x0btwo\u2028three\nfour")
    assert (await box.call("read", file_path="a.txt", offset=2))["text"] == "four"


async def test_an_absolute_path_in_the_workspace_is_shown_relative(box: Toolbox) -> None:
    path = box.write("d/a.txt", "x")
    assert (await box.call("read", file_path=str(path)))["path"] == "d/a.txt"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.bin", b"\x00\x01", "a.bin is a binary file, not text."),
        ("a.txt", b"caf\xe9", "a.txt is not UTF-8 text (byte 3 is 0xe9)."),
        ("big.txt", b"x" * 2_000_001, "big.txt is too long to read at once (2 MB, 1 lines)"),
    ],
)
async def test_what_is_no_text_is_said_in_one_sentence(box: Toolbox, name: str, content: bytes, said: str) -> None:
    box.write(name, content)
    assert (await box.error("read", file_path=name)).startswith(said)


async def test_a_missing_file_names_the_nearest_one(box: Toolbox) -> None:
    box.write("sales.csv", "x")
    assert await box.error("read", file_path="sale.csv") == "there is no file sale.csv; did you mean sales.csv?"
    assert await box.error("read", file_path="other") == "there is no file other."
    assert await box.error("read", file_path="none/x.txt") == "there is no file none/x.txt."


async def test_a_folder_or_a_pipe_is_not_read(box: Toolbox) -> None:
    os.mkfifo(box.workspace / "pipe")
    assert await box.error("read", file_path=".") == ". is a folder, not a file; name a file in it."
    assert await box.error("read", file_path="pipe") == "pipe is not a regular file."


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
async def test_a_path_that_is_none_is_refused(box: Toolbox, path: str) -> None:
    assert (await box.error("read", file_path=path)).count("\n") == 0


# ------------------------------------------------------------------------------------------------------ write


@pytest.mark.parametrize("path", ["a" * 300, "a/" * 9_000 + "b", "é" * 200])
async def test_a_name_that_no_file_system_takes_is_the_users_mistake(box: Toolbox, path: str) -> None:
    for tool, more in (("read", {}), ("write", {"content": "x"}), ("edit", {"old_string": "a", "new_string": "b"})):
        done = await box.result(tool, file_path=path, **more)
        assert isinstance(done.error, InputError)
        assert str(done.output).endswith("can't be used as a path: it is too long.")


async def test_the_longest_name_a_file_can_have_is_written(box: Toolbox) -> None:
    await box.call("write", file_path="🌳" * 63, content="x")
    assert (await box.call("read", file_path="🌳" * 63))["text"] == "x"


async def test_write_makes_folders_and_says_what_it_did(box: Toolbox) -> None:
    written = await box.call("write", file_path="d/e/a.txt", content="grün\r\n")
    assert written == {"path": "d/e/a.txt", "bytes": 7, "created": True, "text": "Wrote 7 bytes to d/e/a.txt."}
    assert (box.workspace / "d/e/a.txt").read_bytes() == "grün\r\n".encode()
    assert not (await box.call("write", file_path="d/e/a.txt", content=""))["created"]
    assert box.names() == ["d/e/a.txt"]


async def test_write_keeps_the_mode_of_a_file_and_honours_the_umask_for_a_new_one(box: Toolbox) -> None:
    script = box.write("run.sh", "old")
    script.chmod(0o750)
    before = os.umask(0o027)
    try:
        await box.call("write", file_path="run.sh", content="new")
        await box.call("write", file_path="new.txt", content="new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(script.stat().st_mode) == 0o750
    assert stat.S_IMODE((box.workspace / "new.txt").stat().st_mode) == 0o640


async def test_write_through_a_link_keeps_the_link(box: Toolbox) -> None:
    target = box.write("real.txt", "old")
    (box.workspace / "link.txt").symlink_to("real.txt")
    await box.call("write", file_path="link.txt", content="new")
    assert (box.workspace / "link.txt").is_symlink()
    assert target.read_text() == "new"


async def test_a_failed_write_leaves_everything_as_it_was(box: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = box.write("a.txt", "old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert await box.error("write", file_path="a.txt", content="new") == (
        "a.txt can't be written: No space left on device."
    )
    await box.error("write", file_path="new/folder/b.txt", content="new")
    assert kept.read_text() == "old"
    assert [path.name for path in box.workspace.iterdir()] == ["a.txt"]


async def test_what_is_no_file_is_not_overwritten(box: Toolbox) -> None:
    (box.workspace / "d").mkdir()
    os.mkfifo(box.workspace / "pipe")
    assert await box.error("write", file_path="d", content="x") == "d is a folder; name a file to write."
    assert "not a regular file" in await box.error("write", file_path="pipe", content="x")
    box.write("file", "x")
    assert "can't be written" in await box.error("write", file_path="file/a.txt", content="x")


async def test_text_that_utf8_cannot_carry_is_refused(box: Toolbox) -> None:
    assert "surrogate" in await box.error("write", file_path="a.txt", content="a\ud800")
    assert box.names() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only files")
async def test_a_read_only_file_is_left_alone(box: Toolbox) -> None:
    box.write("a.txt", "old").chmod(0o444)
    assert "read-only" in await box.error("write", file_path="a.txt", content="new")


# ------------------------------------------------------------------------------------------------------- edit


async def test_edit_replaces_one_occurrence(box: Toolbox) -> None:
    path = box.write("a.py", "x = 1\ny = 1\n")
    edited = await box.call("edit", file_path="a.py", old_string="y = 1", new_string="y = 2")
    assert edited == {"path": "a.py", "replacements": 1, "text": "Replaced 1 occurrence in a.py."}
    assert path.read_text() == "x = 1\ny = 2\n"


async def test_edit_replaces_all_when_told(box: Toolbox) -> None:
    path = box.write("a.py", "a a a")
    assert "occurs 3 times" in await box.error("edit", file_path="a.py", old_string="a", new_string="b")
    done = await box.call("edit", file_path="a.py", old_string="a", new_string="b", replace_all=True)
    assert (done["replacements"], path.read_text()) == (3, "b b b")


async def test_edit_keeps_windows_line_ends(box: Toolbox) -> None:
    path = box.write("a.txt", "one\r\ntwo\r\nthree\r\n")
    await box.call("edit", file_path="a.txt", old_string="one\ntwo\n", new_string="1\n2\n")
    assert path.read_bytes() == b"1\r\n2\r\nthree\r\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("zzz", "b", "does not occur in a.txt"), ("", "b", "old_string is empty"), ("a", "a", "are the same")],
)
async def test_an_edit_that_cannot_be_is_refused(box: Toolbox, old: str, new: str, said: str) -> None:
    path = box.write("a.txt", "a")
    assert said in await box.error("edit", file_path="a.txt", old_string=old, new_string=new)
    assert path.read_text() == "a"
