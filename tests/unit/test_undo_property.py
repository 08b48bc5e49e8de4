"""Whatever built-in tools did to files, undo gives back the tree as it was, and undoing the undo what they did."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmos.errors import NotFoundError
from tests.journal_lab import JournalLab, journal_lab

FOLDERS = ("", "sub/", "sub/deep/", "new/", "new/er/")
NAMES = ("a.txt", "b.txt", "aa.csv", "c d.csv", "ü-ß.txt", "-n.txt", "x\ny.txt", "*.csv")
PATHS = st.builds("".join, st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES)))
TEXTS = st.sampled_from(("", "one\n", "one\ntwo\n", "a,b\n1,2\n", "é\r\n", "x" * 5000))
MODES = st.sampled_from((0o644, 0o600, 0o755, 0o664))

WRITE = st.fixed_dictionaries({"file_path": PATHS, "content": TEXTS}).map(lambda args: ("write", args))
EDIT = st.fixed_dictionaries(
    {
        "file_path": PATHS,
        "old_string": st.sampled_from(("one", "a", "1")),
        "new_string": TEXTS,
        "replace_all": st.booleans(),
    }
).map(lambda args: ("edit", args))
RENAME = st.fixed_dictionaries(
    {
        "path": st.sampled_from((".", "sub", "new")),
        "find": st.sampled_from(("a", "aa", ".txt", "b")),
        "replace": st.sampled_from(("b", "a", "", ".csv", "zz")),
    }
).map(lambda args: ("rename_files", args))
CONVERT = st.fixed_dictionaries({"source": PATHS, "target": PATHS.map(lambda path: path + ".json")}).map(
    lambda args: ("convert_data", args)
)
SHELL = st.sampled_from(
    (
        "echo more >> a.txt",
        "rm -rf sub",
        "mkdir -p new/er/est && touch new/er/est/file",
        "mv a.txt moved.txt",
        "chmod 600 *.txt",
        "chmod 755 sub",
        "ln -sf a.txt link",
        "rm -f link; ln -s sub link",
        "cp -r sub copy",
        "printf same > b.txt; false",
        "rm -f a.txt && mkdir a.txt && echo in > a.txt/in",
        "rm -rf new && echo file > new",
        "ln -f b.txt hard.txt",
        "echo in place > sub/a.txt",
    )
).map(lambda command: ("bash", {"command": command}))
CALLS = st.lists(st.one_of(WRITE, EDIT, RENAME, CONVERT, SHELL), min_size=1, max_size=7)
TREES = st.dictionaries(PATHS, st.tuples(TEXTS, MODES), max_size=6)


async def make(lab: JournalLab, initial: dict[str, tuple[str, int]]) -> None:
    for path, (text, mode) in initial.items():
        lab.write(path, text, mode)
    (lab.workspace / "link").symlink_to("a.txt")
    (lab.workspace / "empty").mkdir(mode=0o750)


async def check(initial: dict[str, tuple[str, int]], calls: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with journal_lab(Path(folder)) as lab:
            await make(lab, initial)
            before = lab.tree
            for tool, arguments in calls:
                await lab.result("run", tool, **arguments)
            after = lab.tree
            with contextlib.suppress(NotFoundError):  # nothing was changed
                undone = await lab.undo("run")
                assert undone.left == ()
                assert lab.tree == before
                await lab.undo(undone.run_id)
                assert lab.tree == after
                await lab.undo("run")
            assert lab.tree == before


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(initial=TREES, calls=CALLS)
def test_undo_gives_back_the_initial_tree_and_redo_what_was_done(
    initial: dict[str, tuple[str, int]], calls: list[tuple[str, dict[str, Any]]]
) -> None:
    asyncio.run(check(initial, calls))
