"""A copy of the workspace: like it in everything a tool can see, bounded, and gone afterwards."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from llmos.kernel import scratch
from llmos.kernel.scratch import Scratch, Snapshot, remove_leftovers
from llmos.kernel.tree import Kind
from llmos.settings import ProofSettings

LIMITS = ProofSettings()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "in" / "deep").mkdir(parents=True)
    (folder / "in" / "a.csv").write_text("x\n1\n")
    (folder / "in" / "deep" / "b.txt").write_text("b")
    return folder


def taken(workspace: Path, limits: ProofSettings = LIMITS, closed: tuple[Path, ...] = ()) -> Snapshot:
    snapshot = Snapshot(workspace, workspace.parent / "home" / "memory", limits, closed)
    snapshot.take()
    return snapshot


def restored(snapshot: Snapshot) -> Scratch:
    assert snapshot.refused == ""
    return snapshot.restore("one")


def copies(workspace: Path) -> list[Path]:
    return list((workspace.parent / "home" / "memory" / "scratch").glob("*"))


def test_a_copy_has_the_content_names_times_and_permissions(workspace: Path) -> None:
    script = workspace / "run.sh"
    script.write_text("echo")
    script.chmod(0o750)
    os.utime(script, ns=(10**18, 10**18 + 7))
    (workspace / "in").chmod(0o500)
    copy = restored(taken(workspace)).root
    (workspace / "in").chmod(0o700)
    found = {path.relative_to(copy).as_posix() for path in copy.rglob("*")}
    assert found == {"in", "in/a.csv", "in/deep", "in/deep/b.txt", "run.sh"}
    assert (copy.name, (copy / "in/a.csv").read_text()) == ("workspace", "x\n1\n")
    assert stat.S_IMODE((copy / "run.sh").stat().st_mode) == 0o750
    assert stat.S_IMODE((copy / "in").stat().st_mode) == 0o500
    assert (copy / "run.sh").stat().st_mtime_ns == 10**18 + 7


@pytest.mark.parametrize("name", ["two\nlines", "-rf", "ä ß.csv", "a'b\"c", " ", os.fsdecode(b"latin-\xe9"), "x" * 255])
def test_odd_names_are_copied(workspace: Path, name: str) -> None:
    (workspace / name).write_text("here")
    copy = restored(taken(workspace))
    assert (copy.root / name).read_text() == "here"
    (copy.root / name).write_text("elsewhere")
    assert list(copy.changes(workspace)) == [name]


def test_links_inside_stay_inside_the_copy_and_links_out_are_left_out(workspace: Path) -> None:
    outside = workspace.parent / "secret.txt"
    outside.write_text("secret")
    (workspace / "relative").symlink_to("in/a.csv")
    (workspace / "absolute").symlink_to(workspace / "in" / "a.csv")
    (workspace / "in" / "roundabout").symlink_to(f"../../{workspace.name}/in/deep")
    (workspace / "out").symlink_to(outside)
    (workspace / "out_too").symlink_to("out")
    (workspace / "circle").symlink_to("circle")
    (workspace / "nowhere").symlink_to("in/none")
    snapshot = taken(workspace)
    copy = restored(snapshot)
    for name in ("relative", "absolute", "in/roundabout", "nowhere"):
        assert (copy.root / name).resolve().is_relative_to(copy.root), name
    assert (copy.root / "absolute").read_text() == "x\n1\n"
    assert (copy.root / "in/roundabout/b.txt").read_text() == "b"
    assert sorted(snapshot.left_out) == ["circle", "out", "out_too"]
    assert copy.changes(workspace) == snapshot.changes() == {}


def test_special_files_are_neither_copied_nor_opened(workspace: Path) -> None:
    os.mkfifo(workspace / "pipe")
    snapshot = taken(workspace)
    assert snapshot.left_out == ["pipe"]
    assert not (restored(snapshot).root / "pipe").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_can_not_be_read_is_left_out(workspace: Path) -> None:
    (workspace / "in" / "a.csv").chmod(0)
    assert taken(workspace).left_out == ["in/a.csv"]


def test_a_sparse_file_counts_as_large_as_it_says(workspace: Path) -> None:
    with (workspace / "disk.img").open("wb") as stream:
        stream.truncate(10**12)
    assert "larger than 256,000,000 bytes" in taken(workspace).refused


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (ProofSettings(max_files=3), "more than 3 files"),
        (ProofSettings(max_bytes=4), "larger than 4 bytes"),
        (ProofSettings(timeout_s=-1.0), "took longer than -1 s"),
    ],
)
def test_a_large_workspace_is_refused_before_anything_is_copied(
    workspace: Path, limits: ProofSettings, said: str
) -> None:
    snapshot = taken(workspace, limits)
    assert said in snapshot.refused
    assert copies(workspace) == []


def test_the_memory_inside_a_workspace_is_no_part_of_it(workspace: Path) -> None:
    memory = workspace / "memory"
    memory.mkdir()
    (memory / "llmos.duckdb").write_text("facts")
    snapshot = Snapshot(workspace, memory, LIMITS, (memory,))
    snapshot.take()
    copy = restored(snapshot)
    assert not (copy.root / "memory").exists()
    (memory / "llmos.duckdb").write_text("more facts")
    assert snapshot.changes() == {}
    snapshot.remove()
    assert list((memory / "scratch").iterdir()) == []


def test_changes_are_told_by_content(workspace: Path) -> None:
    snapshot = taken(workspace)
    (workspace / "in" / "a.csv").write_text("x\n1\n")
    (workspace / "in" / "deep" / "b.txt").write_text("c")
    (workspace / "new").mkdir()
    (workspace / "in" / "link").symlink_to("a.csv")
    assert {path: change.kind for path, change in snapshot.changes().items()} == {
        "in/deep/b.txt": Kind.FILE,
        "in/link": Kind.LINK,
        "new": Kind.FOLDER,
    }
    (workspace / "in" / "deep" / "b.txt").unlink()
    assert snapshot.changes()["in/deep/b.txt"].kind is Kind.GONE


def test_a_renamed_input_is_part_of_the_world_and_no_change(workspace: Path) -> None:
    copy = restored(taken(workspace))
    copy.rename("in", "other")
    assert copy.changes(workspace) == {}
    (copy.root / "other" / "a.csv").write_text("y")
    assert list(copy.changes(workspace)) == ["other/a.csv"]


def test_a_copy_is_independent_of_the_workspace_and_of_other_copies(workspace: Path) -> None:
    snapshot = taken(workspace)
    first = snapshot.restore("first")
    (first.root / "in" / "a.csv").write_text("changed")
    (workspace / "in" / "a.csv").write_text("changed otherwise")
    assert (snapshot.restore("second").root / "in" / "a.csv").read_text() == "x\n1\n"


def test_nothing_is_left_after_removal_even_of_folders_that_can_not_be_written(workspace: Path) -> None:
    (workspace / "in" / "deep").chmod(0o500)
    snapshot = taken(workspace)
    snapshot.restore("one")
    snapshot.remove()
    snapshot.remove()
    (workspace / "in" / "deep").chmod(0o700)
    assert copies(workspace) == []
    with pytest.raises(OSError, match="gone"):
        snapshot.restore("two")


def test_a_removal_ends_a_copy_under_way(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copying, go_on = threading.Event(), threading.Event()
    real = scratch.copy_file

    def slow(source: str, target: Path) -> None:
        copying.set()
        go_on.wait(10)
        real(source, target)

    monkeypatch.setattr(scratch, "copy_file", slow)
    snapshot = Snapshot(workspace, workspace.parent / "home" / "memory", LIMITS)
    thread = threading.Thread(target=snapshot.take)
    thread.start()
    assert copying.wait(10)
    snapshot.stop()
    go_on.set()
    snapshot.remove()
    thread.join()
    assert snapshot.refused == "it was interrupted"
    assert copies(workspace) == []


def test_what_a_crash_left_is_removed_and_nothing_else(workspace: Path) -> None:
    memory = workspace.parent / "home" / "memory"
    taken(workspace)
    (memory / "llmos.duckdb").write_text("facts")
    assert len(copies(workspace)) == 1
    remove_leftovers(memory)
    assert (copies(workspace), (memory / "llmos.duckdb").exists()) == ([], True)


def test_a_leftover_that_is_a_link_leads_to_no_removal(workspace: Path) -> None:
    memory = workspace.parent / "home" / "memory"
    (memory / "scratch").mkdir(parents=True)
    (memory / "scratch" / "proof-x").symlink_to(workspace)
    (workspace / "in").chmod(0o750)
    remove_leftovers(memory)
    assert (workspace / "in" / "a.csv").exists()
    assert stat.S_IMODE((workspace / "in").stat().st_mode) == 0o750


def test_a_workspace_on_another_file_system_is_copied_to_the_temporary_folder(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    memory = Path("/proc/nowhere/memory")  # no folder can be made there
    snapshot = Snapshot(workspace, memory, LIMITS)
    snapshot.take()
    assert len(list(temporary.iterdir())) == 1
    assert restored(snapshot).root.is_relative_to(temporary)
    remove_leftovers(memory)
    assert list(temporary.iterdir()) == []
