"""What the journal's entries say: when two states are the same, what came of a call, and entries as plain data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.trace.effects import (
    FileChange,
    FileKind,
    FileState,
    JournalEntry,
    Outcome,
    Reach,
    change_data,
    change_from,
    decide,
)
from llmos.trace.program import Effect

OLD = FileState(kind=FileKind.FILE, sha256="old", size=3, mode=0o644)
NEW = FileState(kind=FileKind.FILE, sha256="new", size=3)
HALF = FileState(kind=FileKind.FILE, sha256="half", size=2, mode=0o644)
ABSENT = FileState()
FOLDER = FileState(kind=FileKind.FOLDER)


def write(*files: FileChange, effect: Effect = Effect.WRITE, reach: Reach = Reach.EXACT) -> JournalEntry:
    return JournalEntry(run_id="r", step=0, tool="write", effect=effect, reach=reach, files=files)


def change(before: FileState, intended: FileState | None, after: FileState, path: str = "a") -> FileChange:
    return FileChange(path=path, before=before, intended=intended, after=after)


@pytest.mark.parametrize(
    ("files", "outcome"),
    [
        ([change(OLD, NEW, OLD)], Outcome.NOT_DONE),
        ([change(OLD, NEW, NEW)], Outcome.DONE),
        ([change(OLD, NEW, replace(NEW, mode=0o600))], Outcome.DONE),
        ([change(OLD, NEW, HALF)], Outcome.UNKNOWN),
        ([change(OLD, NEW, ABSENT)], Outcome.UNKNOWN),
        ([change(OLD, None, OLD)], Outcome.NOT_DONE),
        ([change(OLD, None, NEW)], Outcome.UNKNOWN),
        ([change(ABSENT, FOLDER, FOLDER, "f"), change(ABSENT, NEW, ABSENT, "f/a")], Outcome.NOT_DONE),
        ([change(ABSENT, FOLDER, FOLDER, "f"), change(ABSENT, NEW, NEW, "f/a")], Outcome.DONE),
        ([change(OLD, ABSENT, ABSENT), change(ABSENT, OLD, OLD, "b")], Outcome.DONE),
        ([change(OLD, ABSENT, ABSENT), change(ABSENT, OLD, ABSENT, "b")], Outcome.UNKNOWN),
        ([change(OLD, NEW, NEW), change(OLD, NEW, OLD, "b")], Outcome.UNKNOWN),
        ([], Outcome.UNKNOWN),
    ],
)
def test_a_write_is_judged_by_its_files_only_where_they_leave_no_doubt(
    files: list[FileChange], outcome: Outcome
) -> None:
    assert decide(write(*files), tuple(files)).outcome is outcome


@pytest.mark.parametrize("effect", [Effect.EXTERNAL, Effect.UNKNOWN])
def test_what_reaches_beyond_files_is_never_judged_by_them(effect: Effect) -> None:
    for after in (OLD, NEW):
        files = (change(OLD, NEW, after),)
        assert decide(write(*files, effect=effect), files).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("reach", [Reach.SEEN, Reach.UNSEEN])
def test_files_that_were_not_named_beforehand_judge_nothing(reach: Reach) -> None:
    assert decide(write(reach=reach), ()).outcome is Outcome.UNKNOWN


def test_unread_files_are_the_same_only_with_the_same_stamp() -> None:
    unread = FileState(kind=FileKind.FILE, size=3, stamp="1")
    assert unread.same_content(replace(unread, sha256="new"))
    assert not unread.same_content(replace(unread, stamp="2"))
    assert not FileState(kind=FileKind.FILE).same_content(FileState(kind=FileKind.FILE))


STATES = st.builds(
    FileState,
    kind=st.sampled_from(FileKind),
    sha256=st.sampled_from(["", "ab"]),
    size=st.integers(0, 10),
    mode=st.integers(0, 0o7777),
    target=st.text(max_size=3),
    links=st.integers(1, 3),
    stamp=st.sampled_from(["", "1.2"]),
    kept=st.booleans(),
)
PATHS = st.text(st.characters(categories=["L", "Cs", "Cc"]), min_size=1, max_size=5)
CHANGES = st.builds(
    FileChange,
    path=PATHS,
    before=STATES,
    intended=st.none() | STATES,
    after=st.none() | STATES,
    shared=st.lists(st.sampled_from(["r1", "r2"]), unique=True).map(tuple),
)


@given(CHANGES)
def test_a_change_survives_being_stored_as_ascii(change: FileChange) -> None:
    stored = json.dumps(change_data(change))
    assert stored.isascii()
    assert change_from(json.loads(stored)) == change
