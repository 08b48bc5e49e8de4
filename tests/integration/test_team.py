"""The example of the documentation: an architect, a coder and a reviewer, begun and awaited by a fourth process."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from llmos.kernel.process import End
from llmos.testing import Request, Turn, call, calls
from llmos.trace.program import Status
from tests.integration.test_messages import by_goal, given
from tests.lab import MakeLab, finishing, steps

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "team.py"

REVIEW = """\
Review stack.py against design.md and write what you find into review.md; the coder sends you a message when stack.py \
is there, and you send your parent one when review.md is."""
CODE = """\
Write stack.py as design.md says; the architect sends you a message when it is there, and you send one to \
group:reviewers when you are done."""
DESIGN = """\
Design a class Stack: write into design.md what it does, put its methods into the shared memory `methods`, and send \
group:coders a message."""
STACK = "class Stack(list):\n    push = list.append\n"


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("team", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def waiting(request: Request) -> Turn:
    return call("wait_for", pids=[given(request, number)["pid"] for number in range(3)])


def reporting(request: Request) -> Turn:
    (found,) = [one for one in given(request, 3)["processes"] if one["goal"] == REVIEW]
    return finishing(f"The reviewer: {found['answer']}")[0]


def coding(request: Request) -> Turn:
    assert given(request, 2)["value"] == ["push", "pop"]
    return call("write", file_path="stack.py", content=STACK)


TEAM = by_goal(
    team=steps(
        calls(
            call("spawn_process", goal=REVIEW, budget_usd=0.5, group="reviewers"),
            call("spawn_process", goal=CODE, budget_usd=0.5, group="coders"),
            call("spawn_process", goal=DESIGN, budget_usd=0.5, group="architects"),
        ),
        *[waiting] * 3,
        reporting,
        finishing("The reviewer found nothing.")[1],
    ),
    Review=steps(
        call("receive_message", timeout_s=60),
        call("read", file_path="stack.py"),
        call("write", file_path="review.md", content="pop is that of a list.\n"),
        call("send_message", to="parent", text="review.md is there"),
        *finishing("it is fine"),
    ),
    Write=steps(
        call("receive_message", timeout_s=60),
        call("read", file_path="design.md"),
        call("share_memory", name="methods"),
        coding,
        call("send_message", to="group:reviewers", text="stack.py is there", type="request"),
        *finishing("Written."),
    ),
    Design=steps(
        call("write", file_path="design.md", content="A stack: push and pop.\n"),
        call("share_memory", name="methods", value=["push", "pop"], expected_version=0),
        call("send_message", to="group:coders", text="design.md is there"),
        *finishing("Designed."),
    ),
)


@pytest.mark.parametrize("slots", [1, 4])
async def test_the_team_of_the_example_divides_its_budget_and_comes_to_an_end(make_lab: MakeLab, slots: int) -> None:
    lab = make_lab(TEAM)
    lab.configure(f"scheduler: {{max_concurrent: {slots}}}\n")
    team = example()
    async with lab.boot() as system:
        result = await team.build(system)
        parent, *children = system.home.processes
        letters = await system.home.post.letters()
        runs = [await system.runs.get(one.run_id) for one in (parent, *children)]
        kept = [await system.traces.get(run.trace_id) for run in runs if run.trace_id]
    assert "it is fine" in result.answer
    assert (lab.read("stack.py"), lab.read("review.md")) == (STACK, "pop is that of a list.\n")
    assert [one.goal for one in children] == [REVIEW, CODE, DESIGN]
    assert [(one.parent, one.why, one.budget.allocated_usd) for one in children] == [(parent.pid, End.DONE, 0.5)] * 3
    assert parent.budget.spent_usd == pytest.approx(sum(one.spent_usd for one in (parent, *children)))
    assert {(one.body["sender"], one.body["receiver"], one.state) for one in letters} == {
        (children[2].pid, children[1].pid, "received"),
        (children[1].pid, children[0].pid, "received"),
        (children[0].pid, parent.pid, "dead"),  # it waited for its children, and never looked
    }
    assert [run.reason.split("; ")[-1] for run in runs[1:]] == [
        "not kept as a trace: receive_message gave what its goal does not say, and may have steered it",
        "not kept as a trace: receive_message gave what its goal does not say, and may have steered it",
        "not kept as a trace: share_memory gave what its goal does not say, and may have steered it",
    ]
    assert [trace.status for trace in kept] in ([], [Status.CANDIDATE])  # the parent's own, if no child interrupted it
