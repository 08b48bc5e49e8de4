"""Following a trace: everything known is checked before the first effect, and the first divergence stops it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import (
    CallRefusedError,
    DivergenceError,
    InputError,
    NotPermittedError,
    OtherKindError,
    StaleTraceError,
    ToolError,
    WorseEffectError,
    WrongKindError,
)
from llmos.kernel.bus import Event, EventBus, ToolCalled, ToolReturned
from llmos.kernel.checks import Files, evaluate_check
from llmos.kernel.permissions import Permissions
from llmos.kernel.replay import Follower, as_answer
from llmos.kernel.rules import Policy
from llmos.plugins.builtin.shell import bash
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.trace.json_values import digest
from llmos.trace.program import (
    Answer,
    Check,
    CheckKind,
    Condition,
    ConditionKind,
    Effect,
    Slot,
    SlotType,
    Step,
    Trace,
    Verdict,
)
from llmos.trace.values import Const, EnvRef, OutputRef, Scope, SecretRef, SlotRef, UnboundError, evaluate, parse

CALLS: list[str] = []


@llm_tool("look", "Look", {"path": str}, effect=Effect.READ, version="1")
async def look(ctx: ToolContext, path: str) -> dict[str, Any]:
    CALLS.append("look")
    file = ctx.resolve(path)
    if not file.exists():
        raise InputError(f"there is no file {path}")
    if file.is_dir():
        raise WrongKindError(f"{path} is a folder")
    return {"text": file.read_text(), "rows": [1, 2]}


@llm_tool("act", "Act", {"target": str, "text": str}, effect=Effect.WRITE, version="1")
async def act(ctx: ToolContext, target: str, text: str) -> dict[str, Any]:
    CALLS.append("act")
    if text == "boom":
        raise ToolError("the disk is full")
    ctx.resolve(target).write_text(text)
    return {"text": f"wrote {target}"}


@llm_tool("spoil", "Changes what it is given", {"data": {"type": "object"}}, effect=Effect.READ, version="1")
async def spoil(data: dict[str, Any]) -> dict[str, Any]:
    data["rows"].clear()
    return {"text": "spoiled"}


READ = Step(id="look", tool="look", args={"path": SlotRef(name="source")}, effect=Effect.READ, tool_version="1")
WRITE = Step(
    id="act",
    tool="act",
    args={"target": SlotRef(name="target"), "text": OutputRef(step="look", path=("text",))},
    effect=Effect.WRITE,
    tool_version="1",
)
COPY = Trace(
    id="copy",
    goals=("Copy {source} to {target}",),
    slots=(Slot(name="source", type=SlotType.PATH), Slot(name="target", type=SlotType.PATH)),
    steps=(READ, WRITE),
)


@pytest.fixture
def ctx(tmp_path: Path) -> ToolContext:
    CALLS.clear()
    (tmp_path / "a.txt").write_text("hello")
    return ToolContext(workspace=tmp_path)


def follower(ctx: ToolContext, trace: Trace, bus: EventBus | None = None, **bindings: Any) -> Follower:
    registry = ToolRegistry()
    for function in (look, act, spoil):
        registry.register(tool_of(function))
    bindings = bindings or {"source": "a.txt", "target": "b.txt"}
    return Follower(
        trace=trace, bindings=bindings, registry=registry, ctx=ctx, bus=bus or EventBus(), env={"today": "x"}
    )


def stopped(made: Follower) -> DivergenceError:
    with pytest.raises(DivergenceError) as caught:
        asyncio.run(made.run())
    return caught.value


def with_check(kind: CheckKind, expected: Any, at: int = 0) -> Trace:
    steps = list(COPY.calls)
    steps[at] = replace(steps[at], checks=(Check(kind=kind, expected=expected),))
    return replace(COPY, steps=tuple(steps))


def test_steps_run_in_order_and_the_answer_is_the_last_output(ctx: ToolContext) -> None:
    events: list[Event] = []
    bus = EventBus()
    bus.subscribe(Event, events.append)
    made = follower(ctx, COPY, bus)
    replay = asyncio.run(made.run())
    assert (ctx.workspace / "b.txt").read_text() == "hello"
    assert replay.answer == "wrote b.txt"
    assert [record.tool for record in replay.records] == ["look", "act"]
    assert made.effects_done == 1
    assert [type(event) for event in events] == [ToolCalled, ToolReturned] * 2


@pytest.mark.parametrize(
    "trace",
    [
        replace(COPY, steps=(READ, replace(WRITE, tool="gone"))),
        replace(COPY, steps=(READ, replace(WRITE, tool_version="0"))),
    ],
)
def test_a_tool_that_is_gone_or_changed_is_noticed_before_anything_is_called(ctx: ToolContext, trace: Trace) -> None:
    assert isinstance(stopped(follower(ctx, trace)), StaleTraceError)
    assert CALLS == []


@pytest.mark.parametrize("missing", [EnvRef(name="user"), SecretRef(name="KEY"), SlotRef(name="target")])
def test_what_can_not_be_bound_is_noticed_before_anything_is_called(ctx: ToolContext, missing: Any) -> None:
    step = Step(id="late", tool="act", args={"target": missing, "text": Const(value="x")}, effect=Effect.WRITE)
    stopped(follower(ctx, replace(COPY, steps=(*COPY.steps, step)), source="a.txt"))
    assert CALLS == []


def test_an_argument_of_the_wrong_type_is_noticed_before_anything_is_called(ctx: ToolContext) -> None:
    step = Step(id="late", tool="act", args={"target": Const(value=5), "text": Const(value="x")}, effect=Effect.WRITE)
    with pytest.raises(ToolError):
        asyncio.run(follower(ctx, replace(COPY, steps=(READ, step))).run())
    assert CALLS == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (CheckKind.OUTPUT_TYPE, "string"),
        (CheckKind.OUTPUT_SHA256, digest({"text": "other"})),
        (CheckKind.LENGTH, {"path": ["rows"], "length": 3}),
        (CheckKind.LENGTH, {"path": ["gone"], "length": 3}),
        (CheckKind.LENGTH, "nonsense"),
        (CheckKind.NOT_EMPTY, ["gone"]),
        (CheckKind.NOT_EMPTY, None),
        (CheckKind.EXIT_STATUS, 0),
        (CheckKind.FILE_EXISTS, "${{ target }}"),
        (CheckKind.FILE_EXISTS, "${{ nothing }}"),
        (CheckKind.FILE_EXISTS, "${{ | }}"),
        (CheckKind.FILE_EXISTS, "../outside"),
    ],
)
def test_a_failed_or_unknown_check_stops_before_the_next_step(ctx: ToolContext, kind: CheckKind, expected: Any) -> None:
    made = follower(ctx, with_check(kind, expected))
    error = stopped(made)
    assert (error.step_id, error.effects_done) == ("look", 0)
    assert CALLS == ["look"]
    assert not (ctx.workspace / "b.txt").exists()


def test_a_divergence_after_an_effect_says_how_many_were_done(ctx: ToolContext) -> None:
    error = stopped(follower(ctx, with_check(CheckKind.OUTPUT_TYPE, "number", at=1)))
    assert (error.step_id, error.effects_done, error.actual) == ("act", 1, "object")
    assert error.expected == "output_type number"


def test_a_write_that_failed_whole_is_no_effect(ctx: ToolContext) -> None:
    (ctx.workspace / "a.txt").write_text("boom")
    assert stopped(follower(ctx, COPY)).effects_done == 0


def test_an_unknown_effect_that_failed_counts(ctx: ToolContext) -> None:
    (ctx.workspace / "a.txt").write_text("boom")
    trace = replace(COPY, steps=(READ, replace(WRITE, effect=Effect.UNKNOWN)))
    assert stopped(follower(ctx, trace)).effects_done == 1


def test_what_the_goal_names_and_is_not_there_is_the_users_matter(ctx: ToolContext) -> None:
    with pytest.raises(InputError):
        asyncio.run(follower(ctx, COPY, source="gone.txt", target="b.txt").run())
    with pytest.raises(NotPermittedError):
        asyncio.run(follower(ctx, COPY, source="/etc/passwd", target="b.txt").run())


def test_what_is_of_another_kind_is_another_task_until_something_was_changed(ctx: ToolContext) -> None:
    (ctx.workspace / "folder").mkdir()
    with pytest.raises(OtherKindError, match=r"^folder is a folder$") as caught:
        asyncio.run(follower(ctx, COPY, source="folder", target="b.txt").run())
    assert caught.value.step_id == "look"
    (ctx.workspace / "a.txt").write_text("x")
    first = replace(WRITE, id="first", args={"target": Const(value="c.txt"), "text": Const(value="x")})
    late = stopped(follower(ctx, replace(COPY, steps=(first, READ, WRITE)), source="folder", target="b.txt"))
    assert (type(late), late.effects_done) == (DivergenceError, 1)
    fixed = replace(READ, args={"path": Const(value="folder")})
    assert type(stopped(follower(ctx, replace(COPY, steps=(fixed, WRITE))))) is DivergenceError


def test_a_missing_output_field_is_a_divergence(ctx: ToolContext) -> None:
    args = {**WRITE.args, "text": OutputRef(step="look", path=("gone",))}
    error = stopped(follower(ctx, replace(COPY, steps=(READ, replace(WRITE, args=args)))))
    assert (error.step_id, error.effects_done) == ("act", 0)


def test_a_tool_that_spoils_its_arguments_spoils_no_later_step(ctx: ToolContext) -> None:
    steps = (
        READ,
        Step(id="spoil", tool="spoil", args={"data": OutputRef(step="look")}, effect=Effect.READ),
        Step(id="again", tool="spoil", args={"data": OutputRef(step="look")}, effect=Effect.READ),
    )
    replay = asyncio.run(follower(ctx, replace(COPY, steps=steps)).run())
    assert replay.outputs["look"]["rows"] == [1, 2]


def test_the_answer_is_made_of_this_runs_outputs(ctx: ToolContext) -> None:
    check = Check(kind=CheckKind.LENGTH, expected={"step": "look", "path": ["rows"], "length": 2})
    answer = Answer(expr=parse("First of ${{ source }}: ${{ steps.look.rows[0] }}"), checks=(check,))
    trace = replace(COPY, answer=answer)
    assert asyncio.run(follower(ctx, trace).run()).answer == "First of a.txt: 1"
    for broken in ({"step": "look", "path": ["rows"], "length": 5}, {"step": "gone", "path": [], "length": 1}, "odd"):
        other = replace(answer, checks=(Check(kind=CheckKind.LENGTH, expected=broken),))
        assert asyncio.run(follower(ctx, replace(COPY, answer=other)).run()).answer == "wrote b.txt"


def test_the_text_of_an_output_that_is_a_text_is_that_text() -> None:
    scope = Scope(outputs={"said": "hello", "found": {"text": "there"}, "made": 5})
    assert [evaluate(parse(f"${{{{ steps.{step}.text }}}}"), scope) for step in ("said", "found")] == ["hello", "there"]
    for odd in ("steps.made.text", "steps.said.text.text", "steps.said.other"):
        with pytest.raises(UnboundError, match="does not exist"):
            evaluate(parse(f"${{{{ {odd} }}}}"), scope)


def test_an_answer_that_refers_to_what_no_step_gave_is_a_divergence_and_no_other_output(ctx: ToolContext) -> None:
    missing = Answer(expr=parse("${{ steps.look.gone }}"))
    with pytest.raises(DivergenceError, match=r"the answer can't be made: steps\.look\.gone") as caught:
        asyncio.run(follower(ctx, replace(COPY, answer=missing)).run())
    assert caught.value.effects_done == 1


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ({"text": "a\n"}, "a"),
        ({"result": {"text": "b"}}, "b"),
        ({"result": 5}, "5"),
        ("c\n", "c"),
        ([{"a": 1}], "a\n-\n1"),
        ([], "[]"),
        (None, "null"),
        ({"text": 5}, '{\n  "text": 5\n}'),
    ],
)
def test_an_output_reads_as_a_person_reads_it(value: Any, answer: str) -> None:
    assert as_answer(value) == answer


def test_checks_pass_on_what_they_expect(ctx: ToolContext) -> None:
    scope = Scope(slots={"target": "b.txt"})
    (ctx.workspace / "b.txt").write_text("x")
    files = Files(resolve=ctx.resolve)
    table = [
        (CheckKind.OUTPUT_TYPE, "array", [1]),
        (CheckKind.OUTPUT_SHA256, digest({"b": 1, "a": 2}), {"a": 2, "b": 1}),
        (CheckKind.EXIT_STATUS, 0, {"exit_status": 0}),
        (CheckKind.LENGTH, {"path": ["x"], "length": 1}, {"x": [9]}),
        (CheckKind.NOT_EMPTY, "x", {"x": "y"}),
        (CheckKind.FILE_EXISTS, "${{ target }}", None),
    ]
    for kind, expected, output in table:
        verdict, _ = evaluate_check(Check(kind=kind, expected=expected), output, scope, files)
        assert verdict is Verdict.PASS, kind


# ------------------------------------------------------------------------------------- effects and permissions

SHELL = Trace(
    id="shell",
    goals=("Show {source}, then run {command}",),
    slots=(Slot(name="source", type=SlotType.PATH), Slot(name="command", type=SlotType.TEXT)),
    steps=(
        Step(
            id="note",
            tool="act",
            args={"target": Const(value="note.txt"), "text": Const(value="x")},
            effect=Effect.WRITE,
            tool_version="1",
        ),
        Step(id="run", tool="bash", args={"command": SlotRef(name="command")}, effect=Effect.READ),
    ),
)


def shell_follower(ctx: ToolContext, command: str, trace: Trace = SHELL) -> Follower:
    made = follower(ctx, trace, source="a.txt", command=command)
    made.registry.register(tool_of(bash))
    return made


@pytest.mark.parametrize("command", ["rm a.txt", "cat a.txt > b.txt", "cat a.txt; rm a.txt", "cat $(rm a.txt)"])
def test_a_call_that_would_do_more_than_was_recorded_is_refused_before_any_effect(
    ctx: ToolContext, command: str
) -> None:
    made = shell_follower(ctx, command)
    with pytest.raises(WorseEffectError, match="more than was recorded") as caught:
        asyncio.run(made.run())
    assert (caught.value.step_id, caught.value.expected, caught.value.effects_done) == ("run", "read", 0)
    assert sorted(path.name for path in ctx.workspace.iterdir()) == ["a.txt"]


def test_a_call_that_does_as_little_as_was_recorded_is_made(ctx: ToolContext) -> None:
    replay = asyncio.run(shell_follower(ctx, "cat a.txt").run())
    assert [record.effect for record in replay.records] == [Effect.WRITE, Effect.READ]
    assert replay.outputs["run"]["stdout"] == "hello"


def test_a_call_known_only_in_the_midst_is_refused_before_it_is_made(ctx: ToolContext) -> None:
    (ctx.workspace / "a.txt").write_text("rm a.txt")
    run = Step(id="run", tool="bash", args={"command": OutputRef(step="look", path=("text",))}, effect=Effect.READ)
    made = shell_follower(ctx, "", replace(SHELL, steps=(SHELL.steps[0], READ, run)))
    with pytest.raises(WorseEffectError) as caught:
        asyncio.run(made.run())
    assert caught.value.effects_done == 1
    assert (ctx.workspace / "a.txt").exists()


def test_permissions_are_judged_before_the_first_effect(ctx: ToolContext) -> None:
    permissions = Permissions(usual=Policy.of([], ctx.workspace))
    guarded = replace(ctx, middleware=(permissions,))
    unknown = replace(SHELL, steps=(SHELL.steps[0], replace(SHELL.calls[1], effect=Effect.UNKNOWN)))
    with pytest.raises(CallRefusedError, match="needs an approval"):
        asyncio.run(shell_follower(guarded, "python3 x.py", unknown).run())
    with pytest.raises(CallRefusedError, match="outside the workspace"):
        asyncio.run(shell_follower(guarded, "cat /etc/passwd").run())
    assert sorted(path.name for path in ctx.workspace.iterdir()) == ["a.txt"]


def test_a_step_whose_condition_is_known_not_to_hold_is_not_asked_about(ctx: ToolContext) -> None:
    guarded = replace(ctx, middleware=(Permissions(usual=Policy.of([], ctx.workspace)),))
    never = Condition(kind=ConditionKind.EQUALS, value=SlotRef(name="source"), expected=Const(value="other.txt"))
    run = replace(SHELL.calls[1], effect=Effect.UNKNOWN, when=(never,))
    replay = asyncio.run(shell_follower(guarded, "python3 x.py", replace(SHELL, steps=(SHELL.steps[0], run))).run())
    assert [record.tool for record in replay.records] == ["act"]


def test_a_call_refused_in_the_midst_is_no_effect_that_was_done(ctx: ToolContext) -> None:
    guarded = replace(ctx, middleware=(Permissions(usual=Policy.of([], ctx.workspace)),))
    command = OutputRef(step="look", path=("text",))
    run = Step(id="run", tool="bash", args={"command": command}, effect=Effect.UNKNOWN)
    (ctx.workspace / "a.txt").write_text("python3 x.py")
    made = shell_follower(guarded, "", replace(SHELL, steps=(READ, run)))
    with pytest.raises(CallRefusedError):
        asyncio.run(made.run())
    assert made.effects_done == 0
