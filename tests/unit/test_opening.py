"""Between judging a path and opening it nothing can be put in its way."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llmos.errors import NotPermittedError, ToolError
from llmos.plugins.builtin.files import read_text
from llmos.plugins.builtin.opening import folder_of, open_to_read
from llmos.plugins.builtin.writing import replacing, writable_target, write_bytes
from llmos.plugins.context import ToolContext

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


@pytest.fixture
def ctx(tmp_path: Path) -> ToolContext:
    for folder in ("work/folder", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "work" / "folder" / "a.txt").write_text("inside")
    (tmp_path / "outside" / "a.txt").write_text("outside")
    return ToolContext(workspace=tmp_path / "work")


def swap(ctx: ToolContext) -> None:
    """Put a link in the place of a folder."""
    (ctx.workspace / "folder").rename(ctx.workspace / "was")
    (ctx.workspace / "folder").symlink_to(ctx.workspace.parent / "outside")


def test_a_folder_that_became_a_link_is_not_read_through(ctx: ToolContext) -> None:
    path = ctx.resolve("folder/a.txt")
    swap(ctx)
    with pytest.raises(NotPermittedError, match="a link stands in its way"):
        read_text(ctx, path)


def test_a_file_that_became_a_link_is_not_read_through(ctx: ToolContext) -> None:
    path = ctx.resolve("folder/a.txt")
    path.unlink()
    path.symlink_to(ctx.workspace.parent / "outside" / "a.txt")
    with pytest.raises(NotPermittedError, match="a link stands in its way"):
        os.close(open_to_read(path))


def test_a_folder_that_became_a_link_is_not_written_through(ctx: ToolContext) -> None:
    target = writable_target(ctx, "folder/a.txt")
    swap(ctx)
    with pytest.raises(NotPermittedError):
        write_bytes(ctx, target, b"new")
    assert (ctx.workspace.parent / "outside" / "a.txt").read_text() == "outside"


def test_a_folder_swapped_in_the_midst_of_writing_is_the_one_that_was_opened(ctx: ToolContext) -> None:
    with replacing(ctx, writable_target(ctx, "folder/a.txt")) as temporary:
        swap(ctx)
        temporary.write_bytes(b"new")
    assert (ctx.workspace / "was" / "a.txt").read_text() == "new"
    assert [path.name for path in (ctx.workspace.parent / "outside").iterdir()] == ["a.txt"]
    assert (ctx.workspace.parent / "outside" / "a.txt").read_text() == "outside"


def test_a_target_that_became_a_link_is_replaced_and_not_followed(ctx: ToolContext) -> None:
    target = writable_target(ctx, "folder/new.txt")
    target.symlink_to(ctx.workspace.parent / "outside" / "a.txt")
    write_bytes(ctx, target, b"new")
    assert (target.read_text(), target.is_symlink()) == ("new", False)
    assert (ctx.workspace.parent / "outside" / "a.txt").read_text() == "outside"


@pytest.mark.parametrize("act", ["read", "write"])
def test_no_swap_leads_out_while_it_goes_on(ctx: ToolContext, act: str) -> None:
    """Another thread swaps the folder for a link and back as fast as it can."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "renameat2"):
        pytest.skip("no renameat2")
    stop = threading.Event()
    link = ctx.workspace / "link"
    link.symlink_to(ctx.workspace.parent / "outside")
    names = (AT_FDCWD, os.fsencode(ctx.workspace / "folder"), AT_FDCWD, os.fsencode(link), RENAME_EXCHANGE)

    def swapping() -> None:
        while not stop.is_set():
            libc.renameat2(*names)

    thread = threading.Thread(target=swapping)
    thread.start()
    try:
        seen = [_tried(ctx, act) for _ in range(1500)]
    finally:
        stop.set()
        thread.join()
    assert "outside" not in seen and "inside" in seen
    assert [path.name for path in (ctx.workspace.parent / "outside").iterdir()] == ["a.txt"]
    assert (ctx.workspace.parent / "outside" / "a.txt").read_text() == "outside"


def _tried(ctx: ToolContext, act: str) -> str:
    try:
        if act == "write":
            write_bytes(ctx, writable_target(ctx, "folder/a.txt"), b"inside")
            return "inside"
        return read_text(ctx, ctx.resolve("folder/a.txt"))
    except (NotPermittedError, ToolError):
        return "refused"


def test_folders_made_for_a_file_go_again_if_it_is_not_written(ctx: ToolContext) -> None:
    def fail() -> None:
        with replacing(ctx, writable_target(ctx, "x/y/z.txt")) as temporary:
            temporary.write_text("half")
            raise ValueError("stop")

    failing: Callable[[], None] = fail
    with pytest.raises(ValueError, match="stop"):
        failing()
    assert not (ctx.workspace / "x").exists()


def test_a_folder_that_others_may_only_pass_is_passed(ctx: ToolContext) -> None:
    passed = ctx.workspace / "passed"
    (passed / "in").mkdir(parents=True)
    (passed / "in" / "a.txt").write_text("inside")
    passed.chmod(0o111)
    try:
        with folder_of(passed / "in" / "a.txt") as folder:
            assert os.stat("a.txt", dir_fd=folder).st_size == 6
    finally:
        passed.chmod(0o755)
