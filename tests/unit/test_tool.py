"""What a tool is: the decorator, its schema, its effect and version, and the registry that calls it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

from llmos.errors import DuplicateToolError, NotPermittedError, PluginError, ToolError, ToolNotFoundError
from llmos.plugins import llm_tool
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import collecting, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool, ToolCall, ToolResult, effect_of
from llmos.trace.program import Effect

CTX = ToolContext(workspace=Path("/tmp"))


def call(function: Callable[..., Any], /, **arguments: Any) -> ToolResult:
    """What the registry makes of one call of a decorated function."""
    registry = ToolRegistry()
    tool = tool_of(function)
    registry.register(tool)
    return asyncio.run(registry.call(tool.name, arguments, CTX))


@llm_tool("double", "Double a number", {"n": int})
async def double(n: int) -> int:
    return 2 * n


# -------------------------------------------------------------------------------------------------- decorator


def test_the_users_example_makes_a_tool() -> None:
    @llm_tool("simulate_circuit", "Simulate a quantum circuit", {"circuit_spec": str, "shots": int})
    async def simulate_circuit(circuit_spec: str, shots: int) -> dict[str, int]:
        return {circuit_spec: shots}

    tool = tool_of(simulate_circuit)
    assert (tool.name, tool.description, tool.effect) == (
        "simulate_circuit",
        "Simulate a quantum circuit",
        Effect.UNKNOWN,
    )
    assert tool.schema == {
        "type": "object",
        "properties": {"circuit_spec": {"type": "string"}, "shots": {"type": "integer"}},
        "required": ["circuit_spec", "shots"],
        "additionalProperties": False,
    }
    assert call(simulate_circuit, circuit_spec="h 0", shots=3).output == {"h 0": 3}


def test_the_decorated_function_stays_a_function() -> None:
    assert asyncio.run(double(n=4)) == 8


def test_defaults_make_parameters_optional() -> None:
    @llm_tool("greet", "Greet", {"name": str, "times": int, "mark": str}, defaults={"mark": "!"})
    def greet(name: str, mark: str, times: int = 2) -> str:
        return (name + mark) * times

    assert tool_of(greet).schema["required"] == ["name"]
    assert tool_of(greet).schema["properties"]["times"] == {"type": "integer", "default": 2}
    assert call(greet, name="a").output == "a!a!"
    assert call(greet, name="a", mark="?", times=1).output == "a?"


def test_a_function_may_take_one_dict() -> None:
    @llm_tool("add", "Add", {"a": int, "-b": int})
    async def add(args: dict[str, int], ctx: ToolContext) -> list[object]:
        return [args["a"] + args["-b"], str(ctx.workspace)]

    assert call(add, a=1, **{"-b": 2}).output == [3, "/tmp"]


def test_a_parameter_may_be_called_ctx_or_self() -> None:
    schema = {"type": "object", "properties": {"ctx": {}, "self": {}}, "required": []}

    @llm_tool("odd", "Odd names", schema)
    async def odd(args: dict[str, Any]) -> dict[str, Any]:
        return args

    assert call(odd, ctx=1, self=2).output == {"ctx": 1, "self": 2}


def test_a_plain_function_does_not_block_the_loop() -> None:
    @llm_tool("where", "Where am I", {})
    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert call(where).output is False


def test_a_full_schema_may_stand_instead_of_types() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    for given in ({"parameters": schema}, {"schema": schema}):

        @llm_tool("inc", "Increase", **given)  # type: ignore[arg-type]
        def inc(n: int) -> int:
            return n + 1

        assert tool_of(inc).schema == schema
        assert call(inc, n=1).output == 2
        assert "minimum" in call(inc, n=0).output


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (dict, {"type": "object"}),
        (dict[str, int], {"type": "object"}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Literal["a", "b"], {"enum": ["a", "b"]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Any, {}),
        ({"enum": [1, 2]}, {"enum": [1, 2]}),
    ],
)
def test_python_types_become_json_types(annotation: Any, schema: dict[str, Any]) -> None:
    @llm_tool("t", "T", {"x": annotation})
    def function(x: Any) -> Any:
        return x

    assert tool_of(function).schema["properties"]["x"] == schema


def _define(name: Any = "t", description: Any = "T", parameters: Any = None, **options: Any) -> None:
    @llm_tool(name, description, {"x": str} if parameters is None else parameters, **options)
    def function(x: str) -> str:
        return x


@pytest.mark.parametrize(
    ("define", "said"),
    [
        (lambda: _define(name="a b"), "tool name 'a b' must be"),
        (lambda: _define(name=""), "tool name '' must be"),
        (lambda: _define(name="x" * 49), "must be 1-48"),
        (lambda: _define(name="gruß"), "must be 1-48"),
        (lambda: _define(name="a\n"), "must be 1-48"),
        (lambda: _define(name=7), "must be 1-48"),
        (lambda: _define(description="  "), "has no description"),
        (lambda: _define(description=None), "has no description"),
        (lambda: _define(parameters={"x": date}), "'x' has no JSON type"),
        (lambda: _define(parameters={"x": ["a", "b"]}), "'x' has no JSON type"),
        (lambda: _define(parameters={"y": str}), "it does not take 'y'; it needs 'x'"),
        (lambda: _define(parameters={"x": str, "y": str}), "it does not take 'y'"),
        (lambda: _define(parameters={}), "it needs 'x', which the schema does not have"),
        (lambda: _define(schema={"type": "array"}), "must be a JSON schema of type object"),
    ],
)
def test_a_wrong_definition_is_refused_where_it_stands(define: Callable[[], None], said: str) -> None:
    with pytest.raises(PluginError) as error:
        define()
    assert said in str(error.value)
    assert error.value.line is not None


def test_tools_marked_in_a_block_are_collected_even_under_one_name() -> None:
    with collecting() as tools:
        for name in ("one", "two"):

            @llm_tool(name, "T", {})
            def _() -> None:
                return None

    assert [tool.name for tool in tools] == ["one", "two"]


def test_what_is_no_tool_is_refused() -> None:
    with pytest.raises(PluginError, match="is no tool"):
        tool_of(print)


# ----------------------------------------------------------------------------------------------------- effect


@pytest.mark.parametrize(
    ("read_only", "destructive", "open_world", "effect"),
    [
        (None, None, None, Effect.UNKNOWN),
        (True, None, None, Effect.READ),
        (True, False, False, Effect.READ),
        (False, None, None, Effect.EXTERNAL),
        (False, True, True, Effect.EXTERNAL),
        (None, True, None, Effect.EXTERNAL),
        (False, False, False, Effect.WRITE),
        (None, None, False, Effect.WRITE),
    ],
)
def test_annotations_imply_an_effect(
    read_only: bool | None, destructive: bool | None, open_world: bool | None, effect: Effect
) -> None:
    assert effect_of(read_only=read_only, destructive=destructive, open_world=open_world) is effect


# ---------------------------------------------------------------------------------------------------- version

MODULE = """
from plugins import llm_tool

FACTOR = 2
OTHER = 3

def helper(x):
    return x * FACTOR

@llm_tool("t", "T", {"x": int})
def t(x):
    return helper(x)

@llm_tool("u", "U", {"x": int})
def u(x):
    return x + OTHER
"""


def versions(text: str) -> dict[str, str]:
    from llmos.plugins.source import SOURCE

    variables: dict[str, Any] = {"__name__": "m", SOURCE: text}
    with collecting() as tools:
        exec(compile(text, "m.py", "exec"), variables)
    return {tool.name: tool.version for tool in tools}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("return helper(x)", "return helper(x) + 1", {"t"}),
        ("x * FACTOR", "x ** FACTOR", {"t"}),
        ("FACTOR = 2", "FACTOR = 5", {"t"}),
        ("OTHER = 3", "OTHER = 4", {"u"}),
        ('{"x": int})\ndef u', '{"x": float})\ndef u', {"u"}),
        ("\ndef helper", "\n# a comment\n\ndef helper", set()),
        ("return x + OTHER", "return (x  +  OTHER)", set()),
    ],
)
def test_a_version_changes_with_the_code_the_tool_uses(old: str, new: str, changed: set[str]) -> None:
    before, after = versions(MODULE), versions(MODULE.replace(old, new))
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_stated_version_stands() -> None:
    @llm_tool("t", "T", {}, version="7")
    def function() -> None:
        return None

    assert tool_of(function).version == "7"


# --------------------------------------------------------------------------------------------------- registry


def test_a_name_is_given_once() -> None:
    registry = ToolRegistry()
    registry.register(tool_of(double))
    with pytest.raises(DuplicateToolError, match="a tool 'double' exists already"):
        registry.register(tool_of(double))
    assert [tool.name for tool in registry] == ["double"]
    registry.unregister("double")
    registry.unregister("double")
    assert "double" not in registry


async def test_an_unknown_tool_is_an_error_result() -> None:
    result = await ToolRegistry().call("nope", {}, CTX)
    assert result.is_error
    assert isinstance(result.error, ToolNotFoundError)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "'n' is a required property"),
        ({"n": "x"}, "n: 'x' is not of type 'integer'"),
        ({"n": True}, "True is not of type 'integer'"),
        ({"n": 1, "m": 2}, "'m' was unexpected"),
        ({"n": "x" * 10_000}, "…"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], said: str) -> None:
    result = call(double, **arguments)
    assert result.is_error
    assert said in result.output
    assert len(result.output) < 500


def test_a_schema_never_fetches_anything() -> None:
    @llm_tool("t", "T", {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:1/schema.json"}}})
    def function(x: str) -> str:
        return x

    assert "its schema refers to 'http://127.0.0.1:1/schema.json', which" in call(function, x="a").output


class Unjsonable:
    pass


@dataclass
class Pathlike:
    def __fspath__(self) -> str:
        return "a/b"


@pytest.mark.parametrize(
    ("value", "output"),
    [
        (date(2024, 1, 2), "2024-01-02"),
        (Decimal("1.5"), 1.5),
        ((1, 2), [1, 2]),
        (b"abc", "abc"),
        (Pathlike(), "a/b"),
        ({1: "x"}, {"1": "x"}),
        (None, None),
    ],
)
def test_outputs_become_json(value: Any, output: Any) -> None:
    @llm_tool("t", "T", {})
    def function() -> Any:
        return value

    assert call(function).output == output


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (lambda: Unjsonable(), "its result can't be written as JSON: Unjsonable is not JSON"),
        (lambda: float("nan"), "its result can't be written as JSON"),
        (lambda: 1 / 0, "t: ZeroDivisionError: division by zero"),
        (lambda: (_ for _ in ()).throw(ToolError("no such thing")), "no such thing"),
        (lambda: (_ for _ in ()).throw(SystemExit(3)), "t: SystemExit: 3"),
    ],
)
def test_whatever_a_tool_does_wrong_is_an_error_result(problem: Callable[[], Any], said: str) -> None:
    @llm_tool("t", "T", {})
    async def function() -> Any:
        return problem()

    result = call(function)
    assert result.is_error
    assert said in result.output
    assert isinstance(result.error, ToolError)


async def test_cancellation_passes_through() -> None:
    @llm_tool("t", "T", {})
    async def function() -> None:
        await asyncio.sleep(60)

    registry = ToolRegistry()
    registry.register(tool_of(function))
    task = asyncio.ensure_future(registry.call("t", {}, CTX))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# ---------------------------------------------------------------------------------------------------- context


def test_paths_are_resolved_inside_the_workspace(tmp_path: Path) -> None:
    ctx = ToolContext(workspace=tmp_path, denied=(tmp_path / "closed",))
    assert ctx.resolve("a/../b.txt") == tmp_path / "b.txt"
    assert ctx.resolve(str(tmp_path / "b.txt")) == tmp_path / "b.txt"
    assert ctx.relative(tmp_path / "d" / "b.txt") == "d/b.txt"
    (tmp_path / "out").symlink_to("/etc")
    for path in ("..", "/etc/passwd", "out/passwd", "closed", "closed/x", "~"):
        with pytest.raises(NotPermittedError):
            ctx.resolve(path)
    with pytest.raises(ToolError, match="can't be used as a path"):
        ctx.resolve("a\0b")


def test_tools_are_listed_by_name() -> None:
    registry = ToolRegistry()
    for name in "ba":
        registry.register(Tool(name=name, description="x", schema={}, function=double))
    assert [tool.name for tool in registry] == ["a", "b"]


# --- what stands around a call, and what a call may do -----------------------------------------------


@llm_tool("shout", "Say it loudly.", {"text": str}, read_only=True)
async def _shout(text: str) -> str:
    return text.upper()


def test_middleware_stands_around_a_call_the_first_outermost() -> None:
    seen: list[str] = []

    def layer(name: str) -> Any:
        async def around(call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
            seen.append(f"{name} before {call.tool.name} {call.arguments['text']}")
            result = await proceed()
            seen.append(f"{name} after {result.output}")
            return result

        return around

    registry = ToolRegistry()
    registry.register(tool_of(_shout))
    ctx = replace(CTX, middleware=(layer("outer"), layer("inner")))
    assert asyncio.run(registry.call("shout", {"text": "hi"}, ctx)).output == "HI"
    assert seen == ["outer before shout hi", "inner before shout hi", "inner after HI", "outer after HI"]


def test_middleware_may_refuse_a_call_which_is_then_not_made() -> None:
    async def refusing(call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]]) -> ToolResult:
        raise NotPermittedError("not here.")

    registry = ToolRegistry()
    registry.register(tool_of(_shout))
    result = asyncio.run(registry.call("shout", {"text": "hi"}, replace(CTX, middleware=(refusing,))))
    assert (result.is_error, result.output) == (True, "not here.")
    assert isinstance(result.error, NotPermittedError)


def test_a_call_has_the_effect_that_its_arguments_make() -> None:
    tool = replace(tool_of(_shout), classify=lambda ctx, arguments: Effect(arguments["text"]))
    registry = ToolRegistry()
    registry.register(tool)
    assert asyncio.run(registry.call("shout", {"text": "write"}, CTX)).effect is Effect.WRITE
    assert asyncio.run(registry.call("shout", {"text": "no effect at all"}, CTX)).effect is Effect.UNKNOWN
    assert tool_of(_shout).effect_of(CTX, {"text": "write"}) is Effect.READ


def test_the_phrases_of_a_tool_are_its_parameters_that_take_any_text() -> None:
    properties = {
        "query": {"type": "string"},
        "path": {"type": "string", "format": "path"},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "code": {"type": "string", "pattern": "[A-Z]+"},
        "count": {"type": "integer"},
    }
    tool = replace(tool_of(_shout), schema={"type": "object", "properties": properties})
    assert tool.phrases == {"query"}
    assert replace(tool, values=lambda name: ["x"]).phrases == frozenset()
