"""What changed between two traces, part by part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmos.trace.codec import from_data
from llmos.trace.diff import Change, diff, summary
from llmos.trace.program import Status, Trace

BASE: dict[str, Any] = {
    "format": 1,
    "id": "t",
    "goals": ["Sort {source} into {target}"],
    "slots": {"source": {"type": "path", "suffix": ".csv"}, "target": {"type": "path"}},
    "steps": [
        {"id": "read", "tool": "read", "args": {"file_path": "${{ source }}"}, "checks": [{"output_type": "object"}]},
        {"id": "write", "tool": "write", "args": {"file_path": "${{ target }}", "content": "${{ steps.read.text }}"}},
    ],
    "answer": {"value": "Sorted.", "name": "result"},
}


def trace(**changed: Any) -> Trace:
    return from_data(BASE | changed)


def changed_step(number: int, **changed: Any) -> list[dict[str, Any]]:
    return [step | (changed if place == number else {}) for place, step in enumerate(BASE["steps"])]


def titles(new: Trace) -> list[tuple[str, str]]:
    return [("+" if one.before is None else "-" if one.after is None else "~", one.title) for one in diff(trace(), new)]


def test_the_same_program_has_no_difference_whatever_its_history() -> None:
    assert (
        diff(trace(), replace(trace(), version=7, status=Status.REJECTED, reason="no", run_id="r", cost_usd=3.0)) == []
    )


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (trace(goals=[*BASE["goals"], "Into {target} sort {source}"]), [("+", "goal")]),
        (trace(goals=["Order {source} into {target}"]), [("-", "goal"), ("+", "goal")]),
        (trace(slots={"source": {"type": "path"}, "target": {"type": "path"}}), [("~", "slot source")]),
        (trace(steps=changed_step(0, tool="read_file")), [("~", "step read: tool")]),
        (trace(steps=changed_step(0, checks=[])), [("-", "step read: check output_type")]),
        (
            trace(steps=changed_step(1, args={"file_path": "${{ target }}", "content": "${{ steps.read.rows }}"})),
            [("~", "step write: content")],
        ),
        (trace(answer="Done with ${{ target }}."), [("~", "answer")]),
        (trace(description="Sorts"), [("+", "description")]),
    ],
)
def test_each_part_is_named(new: Trace, expected: list[tuple[str, str]]) -> None:
    assert titles(new) == expected


def test_steps_that_come_go_and_move_are_named() -> None:
    third = {"id": "wc", "tool": "wc", "args": {"path": "${{ target }}"}}
    more = trace(steps=[*BASE["steps"], third])
    moved = trace(steps=[third, *BASE["steps"]])

    assert titles(more) == [("+", "step wc")]
    assert [one.title for one in diff(more, trace())] == ["step wc"]
    assert [one.title for one in diff(more, moved)] == ["order of steps"]


def test_steps_inside_loops_are_compared_too() -> None:
    def looped(tool: str) -> Trace:
        inner = [{"id": "wc", "tool": tool, "args": {"path": "${{ each.all.path }}"}}]
        loop = {"id": "all", "for_each": "${{ steps.list.files }}", "steps": inner}
        steps = [{"id": "list", "tool": "list", "args": {}}, loop]
        return trace(goals=["Count all"], slots={}, steps=steps, answer={})

    assert [one.title for one in diff(looped("wc"), looped("count"))] == ["step all/wc: tool"]


def test_a_summary_counts_what_changed() -> None:
    changes = [Change(part="goal", after="a"), Change(part="goal", after="b"), Change(part="slot", before=1, after=2)]

    assert summary(changes) == "+2 goal, ~1 slot"
