"""An effect that was made is answered with what it gave; what is no repetition is made, or refused if in doubt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llmos.kernel.once import Once, call_key, due_calls
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import ToolResult
from llmos.trace.program import Effect
from llmos.trace.run import StepRecord

LINES: list[str] = []


@llm_tool(
    "add",
    "Add a line",
    {"path": str, "line": str, "times": int},
    defaults={"times": 1},
    effect=Effect.WRITE,
    open_world=False,
    payload=("line",),
    version="1",
)
async def add(path: str, line: str, times: int = 1) -> dict[str, Any]:
    LINES.extend([line] * times)
    return {"lines": len(LINES)}


ADD = tool_of(add)


def record(**args: Any) -> StepRecord:
    return StepRecord(index=0, tool="add", args=args, output={"lines": 7}, effect=Effect.WRITE, tool_version="1")


@pytest.fixture
def ctx(tmp_path: Path) -> ToolContext:
    LINES.clear()
    return ToolContext(workspace=tmp_path)


def asked(once: Once, **args: Any) -> ToolResult:
    registry = ToolRegistry()
    registry.register(ADD)
    around = ToolContext(workspace=once.ctx.workspace, middleware=(once,))
    return asyncio.run(registry.call("add", args, around))


def done(ctx: ToolContext, **more: Any) -> Once:
    once = Once(ctx=ctx, **more)
    once.add(ADD, record(path="a.txt", line="x"))
    return once


@pytest.mark.parametrize("path", ["a.txt", "./a.txt", "b/../a.txt"])
@pytest.mark.parametrize("times", [{}, {"times": 1}])
def test_the_same_call_however_it_is_written_is_answered_any_number_of_times(
    ctx: ToolContext, path: str, times: dict[str, int]
) -> None:
    once = done(ctx)
    for _ in range(3):
        result = asked(once, path=path, line="x", **times)
        assert (result.output, result.is_recorded, result.made, result.is_error) == ({"lines": 7}, True, False, False)
    assert LINES == []


def test_an_absolute_path_is_the_same_file(ctx: ToolContext) -> None:
    assert asked(done(ctx), path=str(ctx.workspace / "a.txt"), line="x").is_recorded


@pytest.mark.parametrize("args", [{"line": "y"}, {"line": "x", "times": 2}, {"line": "./x"}, {"path": "b.txt"}])
def test_another_call_is_made(ctx: ToolContext, args: dict[str, Any]) -> None:
    result = asked(done(ctx), **{"path": "a.txt", "line": "x", **args})
    assert (result.is_recorded, len(LINES) > 0) == (False, True)


def test_what_it_gave_can_not_be_spoiled(ctx: ToolContext) -> None:
    once = done(ctx)
    asked(once, path="a.txt", line="x").output["lines"] = 0
    assert asked(once, path="a.txt", line="x").output == {"lines": 7}


def test_a_call_that_is_due_once_more_is_neither_made_nor_answered(ctx: ToolContext) -> None:
    registry = ToolRegistry()
    registry.register(ADD)
    left = [("add_2", "add", {"path": "./a.txt", "line": "x"}), ("gone", "gone", {})]
    result = asked(done(ctx, due=due_calls(left, registry, ctx)), path="a.txt", line="x")
    assert (result.is_error, LINES) == (True, [])
    assert "once more, at [add_2]: call rejoin" in result.output


def test_an_effect_of_ones_own_stands_in_for_one_step(ctx: ToolContext) -> None:
    once = done(ctx, stands_in=True)
    assert asked(once, path="a.txt", line="x").is_recorded
    assert not asked(once, path="a.txt", line="x").is_recorded
    assert LINES == ["x"]


def test_another_version_of_a_tool_is_another_tool(ctx: ToolContext) -> None:
    import dataclasses

    other = dataclasses.replace(ADD, version="2")
    assert call_key(ADD, {"line": "x"}, ctx) != call_key(other, {"line": "x"}, ctx)
