"""Calls that nothing came of are left out of a trace; whatever may have mattered stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmos.trace.program import Effect
from llmos.trace.run import StepRecord
from tests.unit.trace_lab import Lab, learned, plugin, step


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def note(content: str, path: str = "note.txt") -> StepRecord:
    return step("write", {"file_path": path, "content": content}, {"path": path, "bytes": len(content), "text": "ok"})


def kept(*steps: StepRecord, extra: Any = ()) -> list[tuple[str, Any]]:
    trace = learned('Note "hello" and afterwards "world" in files', *steps, extra=extra)
    return [(one.tool, one.id) for one in trace.calls]


def test_a_write_that_is_overwritten_unseen_is_left_out() -> None:
    assert kept(note("hello"), note("world")) == [("write", "write_2")]


def test_writing_another_file_between_does_not_save_it() -> None:
    assert kept(note("hello"), note("hello", "other.txt"), note("world")) == [
        ("write", "write_2"),
        ("write", "write_3"),
    ]


@pytest.mark.parametrize(
    "between",
    [
        step("read", {"file_path": "note.txt"}, {"path": "note.txt", "text": "hello", "lines": 1}),
        step("read", {"file_path": "./note.txt"}, {"path": "note.txt", "text": "hello", "lines": 1}),
        step("glob", {"pattern": "*.txt"}, {"files": ["note.txt"], "count": 1, "text": "note.txt"}),
        step("bash", {"command": "cat *.txt"}, {"stdout": "hello", "exit_status": 0}),
    ],
    ids=["read", "read by another name", "listing", "command"],
)
def test_a_write_that_something_may_have_looked_at_stays(between: StepRecord) -> None:
    assert ("write", "write") in kept(note("hello"), between, note("world"))


def test_a_call_of_an_unknown_tool_between_keeps_it() -> None:
    sent = step("send", {"to": "ann"}, "sent", effect=Effect.EXTERNAL)
    assert ("write", "write") in kept(note("hello"), sent, note("world"), extra=[plugin("send", Effect.EXTERNAL)])


def test_the_second_of_two_appends_is_no_overwriting() -> None:
    def append(text: str) -> StepRecord:
        return step("append", {"file_path": "n.txt", "content": text}, "ok", effect=Effect.WRITE)

    extra = [plugin("append", Effect.WRITE)]
    assert len(kept(append("hello"), append("world"), extra=extra)) == 2


def test_a_read_that_nothing_uses_is_left_out(lab: Lab) -> None:
    lab.write("a.csv", "id\n1\n")
    lab.write("b.csv", "id\n1\n")
    trace = lab.learn(
        "Convert a.csv to a.json",
        ("read", {"file_path": "b.csv"}),
        ("convert_data", {"source": "a.csv", "target": "a.json"}),
    )
    assert [one.tool for one in trace.calls] == ["convert_data"]
