"""What a killed process had half-written is removed, and nothing else."""

from __future__ import annotations

from pathlib import Path

from llmos.kernel.leavings import remove_leavings
from llmos.trace.effects import FileChange, FileKind, FileState, JournalEntry, Reach
from llmos.trace.program import Effect
from tests.contract.memory_lab import NOW


def entry(root: Path, *paths: str) -> JournalEntry:
    absent = FileState(kind=FileKind.ABSENT)
    return JournalEntry(
        run_id="r",
        step=0,
        tool="write",
        tool_version="1",
        effect=Effect.WRITE,
        key="k",
        arguments={},
        workspace=str(root),
        reach=Reach.EXACT,
        files=tuple(FileChange(path=path, before=absent) for path in paths),
        began_at=NOW,
    )


def test_only_what_was_prepared_for_the_named_files_is_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    gone = (
        ".a.txt.0123456789ab.tmp",
        "sub/.b.md.ffffffffffff.tmp",
        ".llmos-0123456789abcdef.tmp",
        "sub/.llmos-0123456789abcdef.tmp",
    )
    kept = (
        "a.txt",
        ".other.txt.0123456789ab.tmp",
        ".a.txt.0123456789xy.tmp",
        ".a.txt.0123456789ab.tmp.txt",
        "sub/.a.txt.0123456789ab.tmp",
        ".llmos-mine.tmp",
    )
    for name in (*gone, *kept):
        (tmp_path / name).write_text(name)
    removed = remove_leavings(entry(tmp_path, "a.txt", "sub/b.md", "missing/c.txt"))
    assert {path.relative_to(tmp_path).as_posix() for path in removed} == set(gone)
    assert all((tmp_path / name).exists() for name in kept)


def test_nothing_outside_of_the_workspace_is_touched(tmp_path: Path) -> None:
    root, outside = tmp_path / "workspace", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (outside / ".a.txt.0123456789ab.tmp").write_text("somebody else's")
    (tmp_path / ".llmos-0123456789abcdef.tmp").write_text("somebody else's")
    assert remove_leavings(entry(root, "link/a.txt", "../outside/a.txt")) == []
    assert len(list(outside.iterdir())) == 1
