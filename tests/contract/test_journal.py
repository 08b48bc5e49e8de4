"""The journal around real tools on a real database: what is stored when, what is refused, what undo gives back."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import NotFoundError, NotPermittedError, StorageError, ToolError, UndoError
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.plugins.tool import FileWrite
from llmos.settings import JournalSettings
from llmos.trace.effects import JournalEntry, Outcome, Reach
from llmos.trace.program import Effect
from tests.journal_lab import JournalLab, journal_lab

DAY_S = 86_400.0


@llm_tool("send", "Send a message.", {"to": str}, effect=Effect.EXTERNAL, writes=lambda ctx, arguments: ())
def send(to: str) -> str:
    return f"sent to {to}"


def crash(entries: list[JournalEntry]) -> None:
    """Entries as a crash leaves them are those without an outcome."""
    assert [entry.outcome for entry in entries] == [Outcome.OPEN] * len(entries)


# --- intents and outcomes ----------------------------------------------------------------------------


async def test_the_intent_is_stored_before_the_call_and_the_outcome_before_its_result(tmp_path: Path) -> None:
    seen: list[JournalEntry] = []
    async with journal_lab(tmp_path) as lab:

        @llm_tool("peek", "Look at the journal.", {"path": str}, effect=Effect.WRITE, writes=lambda ctx, arguments: ())
        async def peek(ctx: ToolContext, path: str) -> str:
            seen.extend(await lab.entries(ctx.run_id))
            return "seen"

        lab.add(peek)
        await lab.call("r", "peek", path="a.txt")
        (entry,) = await lab.entries("r")
    assert [(one.tool, one.outcome, dict(one.arguments)) for one in seen] == [("peek", Outcome.OPEN, {"path": "a.txt"})]
    assert (entry.outcome, entry.step) == (Outcome.DONE, 0)


async def test_calls_without_effects_leave_nothing(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "text")
        await lab.call("r", "read", file_path="a.txt")
        assert await lab.entries("r") == []
        assert lab.kept == set()


async def test_an_outcome_that_cannot_be_stored_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with journal_lab(tmp_path) as lab:

        async def full(entry: JournalEntry) -> None:
            raise StorageError("there is no space left")

        with monkeypatch.context() as patch:
            patch.setattr(lab.store, "conclude", full)
            result = await lab.result("r", "bash", command="echo new > a.txt")
        assert (result.is_error, result.made, type(result.error)) == (True, True, StorageError)
        await lab.journal.settle_loose()
        (entry,) = await lab.entries("r")
    assert entry.outcome is Outcome.UNKNOWN  # the files of a command don't tell whether it ended


async def test_an_outcome_that_the_files_tell_is_stored_with_what_comes_next(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "old")
        await lab.call("r", "write", file_path="a.txt", content="new")
        seen = await lab.db.read(("outcomes",), (), lambda c: c.execute("FROM journal_outcomes").fetchall())
        assert seen == []
        (entry,) = await lab.entries("r")  # whoever asks sees it
        assert entry.outcome is Outcome.DONE


async def test_what_no_file_tells_and_what_failed_is_stored_before_its_result(tmp_path: Path) -> None:
    @llm_tool("note", "Store a fact.", {"text": str}, effect=Effect.WRITE, writes=lambda ctx, arguments: ())
    def note(text: str) -> str:
        return f"noted {text}"

    @llm_tool(
        "half",
        "Fail.",
        {"path": str},
        effect=Effect.WRITE,
        writes=lambda ctx, arguments: (FileWrite(path=ctx.resolve(arguments["path"], write=True)),),
    )
    def half(path: str) -> str:
        raise ValueError("half of it")

    async with journal_lab(tmp_path) as lab:
        lab.add(note, half)

        async def stored(run: str, tool: str, **arguments: Any) -> list[str]:
            """The outcomes that are durable when a call has just returned."""
            await lab.result(run, tool, **arguments)
            query = "SELECT outcome FROM journal_outcomes ORDER BY ALL"
            rows = await lab.db.read((run,), (), lambda connection: connection.execute(query).fetchall())
            return [row[0] for row in rows]

        assert await stored("noted", "note", text="a") == ["done"]
        assert await stored("failed", "half", path="a.txt") == ["done", "failed"]
        assert await stored("written", "write", file_path="b.txt", content="new") == ["done", "failed"]


async def test_an_outcome_that_could_not_be_stored_later_is_told_by_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with journal_lab(tmp_path) as lab:

        def full(connection: object) -> None:
            raise StorageError("there is no space left")

        lab.write("a.txt", "old")
        with monkeypatch.context() as patch:
            patch.setattr(lab.store, "_conclusion", lambda entry: full)
            await lab.call("r", "write", file_path="a.txt", content="new")
            await lab.db.run(lambda connection: None)
        (entry,) = await lab.entries("r")
        assert entry.outcome is Outcome.OPEN
        await lab.call("s", "write", file_path="b.txt", content="the next effect")
        (entry,) = await lab.entries("r")
        assert entry.outcome is Outcome.DONE
        await lab.undo("r")
        assert lab.read("a.txt") == "old"


async def test_a_failed_call_may_have_changed_files_and_is_undone(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "before")
        await lab.result("r", "bash", command="echo after > a.txt; exit 3")
        (entry,) = await lab.entries("r")
        assert (entry.outcome, [one.path for one in entry.changed]) == (Outcome.FAILED, ["a.txt"])
        await lab.undo("r")
        assert lab.read("a.txt") == "before"


async def test_what_was_only_stored_elsewhere_does_not_stand_before_changed_files(tmp_path: Path) -> None:
    @llm_tool("note", "Store a fact.", {"text": str}, effect=Effect.WRITE, writes=lambda ctx, arguments: ())
    def note(text: str) -> str:
        return f"noted {text}"

    async with journal_lab(tmp_path) as lab:
        lab.add(note)
        await lab.call("noted", "note", text="a")
        assert await lab.undoing.last() == "noted"  # and undo says that it can't
        await lab.call("wrote", "write", file_path="a.txt", content="a")
        await lab.call("again", "note", text="b")
        assert await lab.undoing.last() == "wrote"


TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


async def test_what_holds_a_secret_is_kept_encrypted_and_comes_back(tmp_path: Path) -> None:
    text = f"user = ada\ntoken = {TOKEN}\n"
    async with journal_lab(tmp_path) as lab:
        lab.write("app.env", text)
        lab.write("plain.txt", "nothing to hide")
        await lab.call("r", "bash", command="echo gone > app.env; echo gone > plain.txt")
        kept = {name: (lab.memory / "images" / name).read_bytes() for name in lab.kept}
        assert any(content == b"nothing to hide" for content in kept.values())
        assert not [name for name, content in kept.items() if TOKEN.encode() in content]
        assert stat.S_IMODE((lab.memory / "images.key").stat().st_mode) == 0o600
        await lab.undo("r")
        assert (lab.read("app.env"), lab.read("plain.txt")) == (text, "nothing to hide")


async def test_without_its_key_an_encrypted_content_is_refused_and_nothing_is_restored(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("app.env", f"token = {TOKEN}\n")
        await lab.call("r", "write", file_path="app.env", content="gone")
        for key, why in ((None, "is gone"), (os.urandom(32), "is not the key")):
            if key is None:
                (lab.memory / "images.key").unlink()
            else:
                (lab.memory / "images.key").write_bytes(key)
            with pytest.raises(UndoError, match=why):
                await lab.undo("r")
        assert lab.read("app.env") == "gone"


# --- what is refused ---------------------------------------------------------------------------------


async def test_a_file_too_large_to_be_kept_is_not_changed(tmp_path: Path) -> None:
    async with journal_lab(tmp_path, limits=JournalSettings(max_file_bytes=1000)) as lab:
        lab.write("big.txt", "x" * 1001)
        result = await lab.result("r", "write", file_path="big.txt", content="small")
        assert isinstance(result.error, NotPermittedError)
        assert not result.made
        for part in ("big.txt", "1,001 bytes", "journal.max_file_bytes"):
            assert part in result.text
        assert lab.read("big.txt") == "x" * 1001
        assert await lab.entries("r") == []


async def test_a_large_file_may_be_renamed_and_comes_back(tmp_path: Path) -> None:
    async with journal_lab(tmp_path, limits=JournalSettings(max_file_bytes=1000)) as lab:
        lab.write("big.txt", "x" * 5000)
        before = lab.tree
        await lab.call("r", "rename_files", find="big", replace="huge")
        after = lab.tree
        assert lab.kept == set()
        undone = await lab.undo("r")
        assert lab.tree == before
        await lab.undo(undone.run_id)
        assert lab.tree == after


async def test_when_all_that_is_kept_is_full_nothing_is_changed_until_room_is_made(tmp_path: Path) -> None:
    async with journal_lab(tmp_path, limits=JournalSettings(max_bytes=1000)) as lab:
        for name in ("a.txt", "b.txt"):
            lab.write(name, name * 140)
        await lab.call("r", "write", file_path="a.txt", content="new")
        result = await lab.result("r", "write", file_path="b.txt", content="new")
        assert "journal.max_bytes" in result.text
        assert lab.read("b.txt") == "b.txt" * 140
        lab.clock.advance(31 * DAY_S)
        await lab.call("r", "write", file_path="b.txt", content="new")


async def test_a_disk_full_while_keeping_refuses_the_call(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.bin", bytes(3_000_000))
        await lab.call("r", "write", file_path="warm.txt", content="up")
        before, limit = lab.tree, resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, limit[1]))
        try:
            written = await lab.result("r", "write", file_path="a.bin", content="text")
            shell = await lab.result("r", "bash", command="echo > a.bin")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        for result in (written, shell):
            assert isinstance(result.error, StorageError)
            assert not result.made
            assert "there is no space left" in result.text
        assert "a.bin (3,000,000 bytes)" in written.text
        assert lab.tree == before
        assert not [name for name in lab.kept if name.endswith(".tmp")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB in the place of the images, where this machine lets us have one."""
    folder = tmp_path / "memory" / "images"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_file_system_refuses_the_call_and_is_left_clean(tmp_path: Path, small_disk: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.bin", os.urandom(3_000_000))
        before = lab.tree
        result = await lab.result("r", "write", file_path="a.bin", content="text")
        assert "there is no space left" in result.text
        assert lab.tree == before
        assert lab.kept == set()
        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", str(small_disk)], check=True)
        lab.write("b.txt", "small")
        result = await lab.result("r", "write", file_path="b.txt", content="text")
        assert "b.txt can't be kept as it is" in result.text
        assert lab.read("b.txt") == "small"


# --- undo --------------------------------------------------------------------------------------------


async def test_what_was_changed_since_is_shown_and_nothing_is_restored(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "one\n")
        lab.write("b.txt", "two\n")
        for name in ("a.txt", "b.txt"):
            await lab.call("r", "write", file_path=name, content="by the run\n")
        lab.write("a.txt", "by me\n")
        with pytest.raises(UndoError, match=r"a\.txt: it was changed since the run; nothing was restored"):
            await lab.undo("r")
        assert (lab.read("a.txt"), lab.read("b.txt")) == ("by me\n", "by the run\n")
        (conflict,) = (await lab.undoing.plan("r")).conflicts
        assert conflict.diff.split("\n") == [
            "--- a.txt (now)",
            "+++ a.txt (before the run)",
            "@@ -1 +1 @@",
            "-by me",
            "+one",
        ]
        await lab.undo("r", keep_changed=True)
        assert (lab.read("a.txt"), lab.read("b.txt")) == ("by me\n", "two\n")


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        ("one", "one\n", ["-one", "+one", "\\ No newline at end of file"]),
        ("one\n", "one", ["-one", "\\ No newline at end of file", "+one"]),
        ("a\nb", "c\nb", ["-c", "+a", " b", "\\ No newline at end of file"]),
        ("a\u2028b\n", "a\u2028c\n", ["-a\u2028c", "+a\u2028b"]),
    ],
)
async def test_a_difference_says_where_the_last_line_has_no_end(
    tmp_path: Path, before: str, now: str, lines: list[str]
) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", before)
        await lab.call("r", "write", file_path="a.txt", content="by the run\n")
        lab.write("a.txt", now)
        (conflict,) = (await lab.undoing.plan("r")).conflicts
        assert conflict.diff.split("\n")[3:] == lines


async def test_the_difference_is_what_was_done_since_where_that_is_known(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "one\n")
        await lab.call("first", "write", file_path="a.txt", content="two\n")
        await lab.call("second", "write", file_path="a.txt", content="three\n")
        (conflict,) = (await lab.undoing.plan("first")).conflicts
        assert "-two" in conflict.diff
        assert "+three" in conflict.diff
        await lab.undo("second")
        await lab.undo("first")
        assert lab.read("a.txt") == "one\n"


async def test_a_binary_difference_is_sizes_and_hashes(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.bin", b"\0\1\2")
        await lab.call("r", "bash", command=r"printf '\0' > a.bin")
        lab.write("a.bin", b"\0mine")
        (conflict,) = (await lab.undoing.plan("r")).conflicts
        assert "- a.bin (now): 5 bytes, sha256 " in conflict.diff
        assert "+ a.bin (before the run): 3 bytes, sha256 " in conflict.diff


async def test_a_change_by_somebody_else_between_two_steps_is_not_taken_back(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "one")
        await lab.call("r", "write", file_path="a.txt", content="two")
        lab.write("a.txt", "mine")
        await lab.call("r", "write", file_path="a.txt", content="three")
        with pytest.raises(UndoError, match="somebody else changed it while the run went on"):
            await lab.undo("r")


async def test_a_made_folder_with_something_new_in_it_stays(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        await lab.call("r", "write", file_path="new/er/a.txt", content="x")
        lab.write("new/mine.txt", "mine")
        undone = await lab.undo("r")
        assert undone.left == ("new",)
        assert set(lab.tree) == {"new", "new/mine.txt"}


async def test_effects_that_cannot_be_undone_are_named(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.add(send)
        await lab.call("r", "send", to="ada")
        await lab.call("r", "bash", command="eval true")
        plan = await lab.undoing.plan("r")
    assert plan.restore == ()
    assert [line.partition(":")[0] for line in plan.beyond] == ["step 1, send (external)", "step 2, bash (unknown)"]


async def test_the_last_run_is_the_last_one_that_is_not_undone(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        with pytest.raises(NotFoundError, match="no run has changed anything"):
            await lab.undoing.last()
        await lab.call("one", "write", file_path="a.txt", content="1")
        await lab.call("two", "write", file_path="a.txt", content="2")
        assert await lab.undoing.last() == "two"
        undone = await lab.undo("two")
        assert await lab.undoing.last() == "one"
        await lab.undo(undone.run_id)
        assert await lab.undoing.last() == "two"
        assert lab.read("a.txt") == "2"


async def test_the_last_run_is_none_that_changed_nothing_but_one_that_may_have(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.add(send)
        lab.write("a.txt", "one")
        await lab.call("first", "write", file_path="a.txt", content="two")
        await lab.call("same", "write", file_path="a.txt", content="two")
        assert await lab.undoing.last() == "first"
        await lab.call("mail", "send", to="ada")
        assert await lab.undoing.last() == "mail"  # and undo says that it can't


async def test_a_run_still_at_work_is_not_undone(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        slow = asyncio.ensure_future(lab.call("r", "bash", command="sleep 0.5; echo x > made.txt"))
        while not await lab.store.open():  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0.005)
        with pytest.raises(UndoError, match="still at work"):
            await lab.undo("r")
        await slow
        await lab.undo("r")


async def test_a_run_of_another_workspace_is_not_undone_here(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        await lab.call("r", "write", file_path="a.txt", content="1")
        elsewhere = replace(lab.undoing, workspace=tmp_path)
        with pytest.raises(NotPermittedError, match="--workspace"):
            await elsewhere.plan("r")
        with pytest.raises(NotFoundError):
            await elsewhere.last()


async def test_a_damaged_image_restores_nothing(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "one")
        lab.write("b.txt", "other")
        for name in ("a.txt", "b.txt"):
            await lab.call("r", "write", file_path=name, content="new")
        for name in lab.kept:
            (lab.memory / "images" / name).chmod(0o600)
            (lab.memory / "images" / name).write_text("rot")
        with pytest.raises(UndoError, match="damaged"):
            await lab.undo("r")
        assert lab.read("a.txt") == lab.read("b.txt") == "new"
        (run,) = await lab.runs.list()
        assert str(run.status) == "failed"


async def test_undo_goes_through_no_link_that_took_a_folders_place(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("new")
    async with journal_lab(tmp_path) as lab:
        lab.write("sub/a.txt", "old")
        await lab.call("r", "write", file_path="sub/a.txt", content="new")
        shutil.rmtree(lab.workspace / "sub")
        (lab.workspace / "sub").symlink_to(outside)
        plan = await lab.undoing.plan("r")
        assert plan.restore == ()
        assert "is a link now" in plan.lost[0][1]
    assert (outside / "a.txt").read_text() == "new"


# --- odd files ---------------------------------------------------------------------------------------


async def test_the_file_behind_a_link_is_kept_and_the_link_stays(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("real.txt", "one")
        (lab.workspace / "link.txt").symlink_to("real.txt")
        before = lab.tree
        await lab.call("r", "write", file_path="link.txt", content="two")
        assert lab.read("real.txt") == "two"
        await lab.undo("r")
        assert lab.tree == before


async def test_other_names_of_a_file_are_never_touched(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "one")
        other = tmp_path / "other.txt"
        other.hardlink_to(lab.workspace / "a.txt")
        await lab.call("r", "bash", command="echo two > a.txt")
        assert other.read_text() == "two\n"
        plan = await lab.undoing.plan("r")
        assert plan.restore[0].present.links == 2
        await lab.undo("r")
        assert (lab.read("a.txt"), other.read_text()) == ("one", "two\n")


async def test_special_files_are_looked_at_but_never_opened(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        os.mkfifo(lab.workspace / "pipe")
        server = socket.socket(socket.AF_UNIX)
        with server:
            server.bind(str(lab.workspace / "socket"))
        lab.write("a.txt", "one")
        async with asyncio.timeout(20):
            await lab.call("r", "bash", command="rm pipe socket; mkfifo fresh; echo two > a.txt")
            plan = await lab.undoing.plan("r")
            await lab.undo("r")
        assert {path for path, why in plan.lost if "a pipe or a socket" in why} == {"pipe", "socket"}
        assert set(lab.tree) == {"a.txt"}
        assert lab.read("a.txt") == "one"


@pytest.mark.parametrize("name", [b"not-utf8-\xff.txt", b"new\nline.txt", b"tab\t 'quote\" $x.txt", b"n" * 255])
async def test_files_with_odd_names_come_back(tmp_path: Path, name: bytes) -> None:
    async with journal_lab(tmp_path) as lab:
        path = lab.workspace / os.fsdecode(name)
        path.write_text("one")
        before = lab.tree
        await lab.call("r", "bash", command='for f in *; do echo two > "$f"; done')
        (entry,) = await lab.entries("r")
        assert [one.path for one in entry.changed] == [os.fsdecode(name)]
        await lab.undo("r")
        assert lab.tree == before


async def test_a_file_gone_between_intent_and_call_is_no_surprise(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:

        def naming(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileWrite]:
            return [FileWrite(path=ctx.resolve("a.txt", write=True), content=b"new")]

        @llm_tool("vanish", "Write what is gone.", {}, effect=Effect.WRITE, writes=naming)
        def vanish(ctx: ToolContext) -> str:
            (ctx.workspace / "a.txt").unlink()
            (ctx.workspace / "a.txt").write_text("new")
            return "written"

        lab.add(vanish)
        lab.write("a.txt", "old")
        await lab.call("r", "vanish")
        await lab.undo("r")
        assert lab.read("a.txt") == "old"


async def test_a_write_in_place_within_the_same_tick_is_noticed(tmp_path: Path) -> None:
    """Size, inode and even the times may be the same: what changed just before is read again."""
    async with journal_lab(tmp_path) as lab:

        @llm_tool("flip", "Change a file and hide it.", {}, effect=Effect.UNKNOWN)
        def flip(ctx: ToolContext) -> str:
            path = ctx.workspace / "a.txt"
            info = path.stat()
            with path.open("r+") as stream:
                stream.write("two")
            os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
            return "flipped"

        lab.add(flip)
        lab.write("a.txt", "one")
        await lab.call("r", "flip")
        await lab.undo("r")
        assert lab.read("a.txt") == "one"


# --- workspaces that are too large -------------------------------------------------------------------


async def test_in_a_workspace_too_large_to_be_kept_changes_are_named_and_new_files_removed(tmp_path: Path) -> None:
    async with journal_lab(tmp_path, limits=JournalSettings(max_workspace_bytes=1000)) as lab:
        lab.write("big.txt", "x" * 2000)
        lab.write("a.txt", "one")
        await lab.call("r", "bash", command="echo two > a.txt; rm big.txt; echo fresh > fresh.txt")
        plan = await lab.undoing.plan("r")
        assert {path for path, why in plan.lost if "was not kept" in why} == {"a.txt", "big.txt"}
        assert [one.path for one in plan.restore] == ["fresh.txt"]
        await lab.undo("r")
        assert set(lab.tree) == {"a.txt"}


async def test_in_a_workspace_of_too_many_files_nothing_is_claimed(tmp_path: Path) -> None:
    async with journal_lab(tmp_path, limits=JournalSettings(max_files=3)) as lab:
        for number in range(5):
            lab.write(f"{number}.txt", "one")
        await lab.call("r", "bash", command="echo two > 0.txt")
        (entry,) = await lab.entries("r")
        assert entry.reach is Reach.UNSEEN
        plan = await lab.undoing.plan("r")
    assert plan.restore == ()
    assert "more than 3 files (journal.max_files)" in plan.beyond[0]


# --- what nobody knows -------------------------------------------------------------------------------


async def begun(lab: JournalLab, tool: str, **arguments: Any) -> None:
    """A call whose intent is stored and which never comes back, for its task is cancelled from within."""

    found = lab.registry.get(tool)
    ctx, is_made = lab.context("lost"), asyncio.Event()

    async def never(ctx: ToolContext, /, **given: Any) -> Any:
        is_made.set()
        await asyncio.Event().wait()

    lab.registry.unregister(tool)
    lab.registry.register(replace(found, function=never))
    task = asyncio.ensure_future(lab.registry.call(tool, arguments, replace(ctx, step=0)))
    await is_made.wait()
    task.cancel()
    await asyncio.wait({task})
    lab.registry.unregister(tool)
    lab.registry.register(found)


def own_registry(lab: JournalLab) -> JournalLab:
    lab.add(send)
    return lab


async def test_an_external_effect_that_never_came_back_is_not_done_again_until_it_is_settled(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        own_registry(lab)
        await begun(lab, "send", to="ada")
        refused = await lab.result("r", "send", to="ada")
        assert isinstance(refused.error, NotPermittedError)
        assert not refused.made
        assert "`journal settle lost 1 done` or `not-done`" in refused.text
        await lab.call("r", "send", to="bob")
        with pytest.raises(NotFoundError, match="unknown is step 1"):
            await lab.undoing.settle("lost", 2, is_done=True)
        await lab.undoing.settle("lost", 1, is_done=False)
        await lab.call("r", "send", to="ada")


async def test_unknown_outlives_the_process(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        own_registry(lab)
        await begun(lab, "send", to="ada")
        crash(await lab.entries("lost"))
    async with journal_lab(tmp_path) as lab:
        own_registry(lab)
        (unknown,) = await lab.journal.settle_open()
        assert (unknown.tool, unknown.outcome) == ("send", Outcome.UNKNOWN)
    async with journal_lab(tmp_path) as lab:
        own_registry(lab)
        assert await lab.journal.settle_open() == []
        assert "nobody knows" in (await lab.result("r", "send", to="ada")).text


@pytest.mark.parametrize(
    ("left", "outcome"),
    [("before", Outcome.NOT_DONE), ("intended", Outcome.DONE), ("inten", Outcome.UNKNOWN), (None, Outcome.UNKNOWN)],
)
async def test_a_write_that_never_came_back_is_judged_by_its_file(
    tmp_path: Path, left: str | None, outcome: Outcome
) -> None:
    async with journal_lab(tmp_path) as lab:
        own_registry(lab)
        lab.write("a.txt", "before")
        await begun(lab, "write", file_path="a.txt", content="intended")
        if left is None:
            (lab.workspace / "a.txt").unlink()
        else:
            lab.write("a.txt", left)
    async with journal_lab(tmp_path) as lab:
        await lab.journal.settle_open()
        (entry,) = await lab.entries("lost")
        assert entry.outcome is outcome
        if outcome is Outcome.UNKNOWN:
            with pytest.raises(UndoError, match="`journal settle lost 1 done` or `not-done` first"):
                await lab.undo("lost")
            await lab.undoing.settle("lost", 1, is_done=True)
        if outcome is not Outcome.NOT_DONE:
            await lab.undo("lost")
        assert lab.read("a.txt") == "before"


async def test_what_a_shell_left_behind_when_it_never_came_back_is_found_at_boot(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        own_registry(lab)
        lab.write("a.txt", "before")
        await begun(lab, "bash", command="make everything")
        lab.write("a.txt", "half")
        lab.write("new.txt", "half")
    async with journal_lab(tmp_path) as lab:
        (entry,) = await lab.journal.settle_open()
        assert [one.path for one in entry.changed] == ["a.txt", "new.txt"]
        await lab.undoing.settle("lost", 1, is_done=True)
        await lab.undo("lost")
        assert lab.tree.keys() == {"a.txt"}
        assert lab.read("a.txt") == "before"


async def test_a_call_cancelled_while_its_intent_is_stored_is_not_made(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        own_registry(lab)
        task = asyncio.ensure_future(lab.result("r", "send", to="ada"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await lab.journal.aclose()
        assert [entry.outcome for entry in await lab.entries("r")] in ([], [Outcome.NOT_DONE])
        await lab.call("r", "send", to="ada")


# --- several at once ---------------------------------------------------------------------------------


async def test_nobody_is_credited_with_the_files_that_another_call_names(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "one")
        slow = asyncio.ensure_future(lab.call("shell", "bash", command="sleep 0.6; echo x > made.txt"))
        await asyncio.sleep(0.3)
        await lab.call("other", "write", file_path="a.txt", content="two")
        await slow
        (entry,) = await lab.entries("shell")
        assert [one.path for one in entry.changed] == ["made.txt"]
        await lab.undo("shell")
        assert lab.read("a.txt") == "two"


async def test_two_shells_at_once_are_not_undone_by_guess(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        await asyncio.gather(
            lab.call("one", "bash", command="sleep 0.5; echo 1 > one.txt; sleep 0.3"),
            lab.call("two", "bash", command="sleep 0.5; echo 2 > two.txt; sleep 0.3"),
        )
        with pytest.raises(UndoError, match="worked in the workspace at the same time"):
            await lab.undo("one")
        assert lab.tree.keys() == {"one.txt", "two.txt"}


# --- what is kept, and for how long ------------------------------------------------------------------


async def test_only_what_no_undoable_run_needs_is_removed(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "old")
        lab.write("unchanged.txt", "only looked at")
        await lab.call("first", "write", file_path="a.txt", content="new")
        await lab.call("shell", "bash", command="true")
        (lab.memory / "images" / ".leftover.tmp").write_text("of a crash")
        lab.clock.advance(29 * DAY_S)
        freed = await lab.journal.prune()
        assert freed > 0
        assert len(lab.kept) == 1
        await lab.undo("first")
        assert lab.read("a.txt") == "old"
        lab.clock.advance(2 * DAY_S)
        await lab.journal.prune()
        assert len(lab.kept) == 1  # what the undo itself replaced
        lab.clock.advance(30 * DAY_S)
        await lab.journal.prune()
        assert lab.kept == set()
        with pytest.raises(UndoError):
            lab.write("a.txt", "mine")
            await lab.undo("first")


async def test_a_clock_that_jumps_ahead_costs_nothing_that_is_kept_of_the_newest_runs(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "old")
        await lab.call("r", "write", file_path="a.txt", content="new")
        lab.clock.advance(400 * DAY_S)
        await lab.journal.prune_if_due()
        lab.clock.advance(-400 * DAY_S)
        await lab.undo("r")
        assert lab.read("a.txt") == "old"


async def test_what_was_removed_for_its_age_is_named(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "old")
        await lab.call("r", "write", file_path="a.txt", content="new")
        lab.clock.advance(31 * DAY_S)
        await lab.journal.prune()
        plan = await lab.undoing.plan("r")
    assert plan.lost == (("a.txt", "what it held is not kept any more"),)


# --- tools that say what they write ------------------------------------------------------------------


async def test_a_broken_hook_means_that_the_workspace_is_looked_at(tmp_path: Path) -> None:
    def broken(ctx: ToolContext, arguments: Mapping[str, Any]) -> list[FileWrite]:
        raise KeyError("oops")

    @llm_tool("scribble", "Write a file.", {}, effect=Effect.WRITE, writes=broken)
    def scribble(ctx: ToolContext) -> str:
        (ctx.workspace / "a.txt").write_text("new")
        return "written"

    async with journal_lab(tmp_path) as lab:
        lab.add(scribble)
        await lab.call("r", "scribble")
        (entry,) = await lab.entries("r")
        assert (entry.reach, [one.path for one in entry.changed]) == (Reach.SEEN, ["a.txt"])


async def test_a_hook_may_say_that_the_call_cannot_be_made(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.write("a.txt", "text")
        result = await lab.result("r", "edit", file_path="a.txt", old_string="missing", new_string="x")
        assert isinstance(result.error, ToolError)
        assert result.text == "old_string does not occur in a.txt; read the file and copy the text exactly."
        assert await lab.entries("r") == []


async def test_the_memory_of_the_home_is_no_part_of_the_workspace(tmp_path: Path) -> None:
    async with journal_lab(tmp_path) as lab:
        lab.undoing.workspace.rename(tmp_path / "gone")
        (tmp_path / "memory").rename(tmp_path / "gone" / "memory")
        (tmp_path / "gone").rename(lab.workspace)
    home = tmp_path / "workspace"
    async with journal_lab(home) as lab:
        inner = replace(lab.context("r"), workspace=home)
        await lab.registry.call("bash", {"command": "echo x > made.txt"}, inner)
        (entry,) = await lab.entries("r")
        assert [one.path for one in entry.changed] == ["made.txt"]
