"""Tools with schemas as nobody should write them: refused as they come in, or each call is judged in a sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import Tool as Wire

from llmos.errors import PluginError, ToolError
from llmos.interfaces.admission import tool_facts
from llmos.interfaces.claude_talk import wire_tool
from llmos.interfaces.render import signature
from llmos.kernel.once import call_key
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.mcp import McpTools
from llmos.plugins.registry import ToolRegistry, validate, validate_values
from llmos.plugins.schemas import sound, validate_arguments
from llmos.plugins.tool import Tool
from llmos.plugins.touching import Kind, touches
from llmos.settings import McpServerSettings
from llmos.trace.program import Effect
from tests.fuzz.bench import Bench, fuzz
from tests.fuzz.mutating import mutated

SERVER = Path(__file__).with_name("mcp_schema_server.py")
SEED: dict[str, Any] = {
    "type": "object",
    "title": "Args",
    "properties": {
        "path": {"type": "string", "format": "path", "minLength": 1, "maxLength": 200},
        "kind": {"enum": ["a", "b", 1, None, True, 1.5], "default": "a"},
        "count": {"type": "integer", "minimum": 0, "maximum": 10, "default": 5, "multipleOf": 1},
        "name": {"type": "string", "pattern": "^[a-z]+$", "description": "a name"},
        "items": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}, "minItems": 1},
        "tree": {"$ref": "#/$defs/tree"},
        "either": {"anyOf": [{"type": "string", "format": "file-path"}, {"type": "null"}]},
        "free": {"type": "object", "patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False},
        "any": True,
    },
    "required": ["path"],
    "additionalProperties": False,
    "$defs": {"tree": {"type": "object", "properties": {"next": {"$ref": "#/$defs/tree"}, "at": {"type": "string"}}}},
    "dependentRequired": {"count": ["kind"]},
    "if": {"properties": {"count": {"const": 3}}},
    "then": {"required": ["name"]},
}
ODD: dict[str, Any] = {
    "recursion": {"type": "object", "properties": {"a": {"$ref": "#"}}, "$ref": "#"},
    "endless": {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
    "two in a circle": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/x"}},
        "$defs": {"x": {"allOf": [{"$ref": "#/$defs/y"}]}, "y": {"anyOf": [{"$ref": "#/$defs/x"}]}},
    },
    "nowhere": {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
    "abroad": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
    "local file": {"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}},
    "another dialect": {"$schema": "http://127.0.0.1:9/dialect", "type": "object", "properties": {"a": {}}},
    "mixed enum": {"type": "object", "properties": {"a": {"enum": [1, "1", None, [], {}, True]}}},
    "huge enum": {"type": "object", "properties": {"a": {"enum": [f"v{n}" for n in range(50_000)]}}},
    "no kind": {"type": "object", "properties": {"a": {"type": "strnig"}}},
    "kind of kinds": {"type": "object", "properties": {"a": {"type": ["string", 5]}}},
    "wrong bounds": {"type": "object", "properties": {"a": {"type": "integer", "minimum": "0", "maximum": []}}},
    "wrong default": {"type": "object", "properties": {"a": {"type": "integer", "default": "many"}}},
    "truth": {"type": "object", "properties": {"a": True, "b": False}},
    "no regex": {"type": "object", "properties": {"a": {"type": "string", "pattern": "(["}}},
    "no format": {"type": "object", "properties": {"a": {"type": "string", "format": 5}}},
    "requires what is not": {"type": "object", "properties": {}, "required": ["a"]},
    "empty": {"type": "object"},
}
REFUSED: dict[str, Any] = {
    "a dialect of no kind": {"$schema": ["x"], "type": "object", "properties": {"a": {"format": "date"}}},
    "nothing": {},
    "a list": {"type": "array"},
    "properties that are a list": {"type": "object", "properties": ["a"]},
    "a property that is text": {"type": "object", "properties": {"a": "string"}},
    "required that is text": {"type": "object", "properties": {"a": {}}, "required": "a"},
    "an enum that is text": {"type": "object", "properties": {"a": {"enum": "abc"}}},
}
RUNAWAY = ["(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*a){12}b", "^(([a-z])+.)+[A-Z]([a-z])+$", "a?" * 30 + "a" * 30]
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"a": "x"},
    {"a": 1, "b": None},
    {"a": {"a": {"a": {}}}},
    {"path": "a.txt", "kind": None, "count": 3},
    {"path": "", "name": "A", "tree": {"next": {"next": {"at": 5}}}, "either": None, "free": {"x-a": "1", "y": 2}},
    {"path": "a.txt", "items": [{"x": 1}, {"x": "1"}], "any": [[[[]]]]},
    {"path": "a" * 5_000, "name": "a" * 5_000 + "!"},
]
PLUGIN = """\
import json
from plugins import llm_tool
for number, schema in enumerate(json.load(open("FILE"))):
    try:
        llm_tool(f"odd_{number}", "Odd", schema=schema)(lambda args: args)
    except Exception:
        pass
"""


def judged(tool: Tool, arguments: dict[str, Any], folder: Path) -> None:
    """Everything that is asked of a tool and its schema before and around a call."""
    ctx = ToolContext(workspace=folder)
    for check in (validate, validate_values):
        try:
            check(tool, arguments)
        except ToolError as error:
            assert str(error).startswith(f"{tool.name}: ") and len(str(error)) < 600
    touches(tool, ctx, arguments, Effect.READ)
    call_key(tool, arguments, ctx)
    tool_facts(tool)
    assert signature(tool.schema) is not None and tool.phrases is not None
    Wire.model_validate(wire_tool(tool))  # one that the learner's server could not list would take all others with it


def made(schema: Any) -> Tool:
    async def echo(args: dict[str, Any]) -> Any:
        return args

    return tool_of(llm_tool("echo", "Gives back", schema=schema, effect="read")(echo))


@fuzz(200)
@given(schema=mutated([SEED, *ODD.values()]), arguments=st.sampled_from(ARGUMENTS))
def test_any_schema_is_refused_or_judges_any_call(
    tmp_path_factory: pytest.TempPathFactory, schema: Any, arguments: dict[str, Any]
) -> None:
    try:
        tool = made(schema)
    except PluginError as error:
        assert "echo" in str(error)
        return
    judged(tool, arguments, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("name", ODD)
def test_an_odd_schema_judges_any_call_in_one_sentence(tmp_path: Path, name: str) -> None:
    for arguments in ARGUMENTS:
        judged(made(ODD[name]), arguments, tmp_path)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_schema_of_an_object_is_refused_when_the_tool_comes_in(name: str) -> None:
    with pytest.raises(PluginError, match="tool 'echo': the"):
        made(REFUSED[name])


def test_schemas_without_end_are_refused() -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(5_000):
        deep = {"type": "object", "properties": {"a": deep}}
    circle: dict[str, Any] = {"type": "object", "properties": {}}
    circle["properties"]["a"] = circle["properties"]["b"] = circle
    for schema in (deep, circle):
        with pytest.raises(PluginError, match="nested too deeply"):
            sound("echo", schema)


@pytest.mark.parametrize("pattern", RUNAWAY)
def test_a_pattern_that_runs_away_is_stopped(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmos.plugins.schemas.PATTERN_TIMEOUT_S", 1.0)
    for part in ({"type": "string", "pattern": pattern}, {"type": "object", "patternProperties": {pattern: {}}}):
        text = "a" * 40 + "!"
        given = {"a": text if part["type"] == "string" else {text: 1}}
        schema = {"type": "object", "properties": {"a": part}}
        try:
            validate_arguments("echo", schema, given)
        except ToolError as error:
            assert "a pattern of its schema takes more than 1 s" in str(error) or "does not match" in str(error)


def test_a_pattern_is_judged_the_same_in_a_process_of_its_own() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(ab+)+$"}}}
    validate_arguments("echo", schema, {"a": "abbab"})
    with pytest.raises(ToolError, match=r"^echo: a: 'abx' does not match"):
        validate_arguments("echo", schema, {"a": "abx"})


def test_a_path_is_found_wherever_the_schema_says_so(tmp_path: Path) -> None:
    """Rules about paths would not see one that stands behind a choice or a reference."""
    place = {"type": "string", "format": "path"}
    choice = {"anyOf": [{"allOf": [place]}, {"type": "null"}]}
    for part, value in (
        (choice, "x.txt"),
        ({"$ref": "#/$defs/place"}, "x.txt"),
        ({"$ref": "#/$defs/places"}, {"one": ["x.txt"]}),
        ({"type": "array", "items": {"$ref": "#/$defs/place"}}, ["x.txt"]),
    ):
        defs = {"place": choice, "places": {"properties": {"one": {"items": {"$ref": "#/$defs/place"}}}}}
        tool = made({"type": "object", "properties": {"a": part}, "$defs": defs})
        (touch,) = touches(tool, ToolContext(workspace=tmp_path), {"a": value}, Effect.READ)
        assert (touch.kind, touch.value) == (Kind.PATH, "x.txt")


def server_of(schemas: list[Any], folder: Path) -> McpTools:
    (folder / "schemas.json").write_text(json.dumps(schemas))
    given = McpServerSettings(name="odd", command=sys.executable, args=(str(SERVER), str(folder / "schemas.json")))
    return McpTools({"odd": given}, cache=folder / "cache.json", cwd=folder)


async def test_a_server_with_odd_schemas_has_the_tools_that_can_be_used(tmp_path: Path) -> None:
    fit = {name: one for name, one in ODD.items() if name != "truth"}  # which the MCP library refuses
    registry, ctx = ToolRegistry(), ToolContext(workspace=tmp_path)
    mcp = server_of([*fit.values(), REFUSED["an enum that is text"]], tmp_path)
    try:
        await mcp.register(registry)
        assert sorted(tool.name for tool in registry) == sorted(f"odd__t{number}" for number in range(len(fit)))
        assert ["`enum` of 'a' must be a list" in failure.message for failure in mcp.failures] == [True]
        for tool in registry:
            for arguments in ARGUMENTS:
                judged(tool, arguments, tmp_path)
            result = await registry.call(tool.name, {"a": "x"}, ctx)
            assert not result.is_error or str(result.output).startswith(f"{tool.name}: "), result.output
        empty = list(fit).index("empty")
        assert (await registry.call(f"odd__t{empty}", {"a": "x"}, ctx)).output == {"a": "x"}
    finally:
        await mcp.aclose()


async def test_a_server_whose_list_is_no_mcp_is_one_sentence(tmp_path: Path) -> None:
    mcp = server_of([{"type": "object", "properties": {"a": "string"}}], tmp_path)
    try:
        await mcp.register(ToolRegistry())
        (failure,) = mcp.failures
        assert "it sent what is no MCP (tools.0.inputSchema" in failure.message
        assert "pydantic" not in failure.message
    finally:
        await mcp.aclose()


def test_plugins_with_odd_schemas_leave_the_command_line_working(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "bench")
    bench.renew()
    plugins = bench.root / "plugins"
    plugins.mkdir()
    (bench.root / "schemas.json").write_text(json.dumps([*ODD.values(), *REFUSED.values()]))
    (plugins / "odd.py").write_text(PLUGIN.replace("FILE", str(bench.root / "schemas.json")))
    (plugins / "bad.py").write_text(
        "from plugins import llm_tool\n@llm_tool('bad', 'Bad', schema={'type': 'object', 'properties': {'a': 5}})\n"
        "def bad(args):\n    return 1\n"
    )
    listed = bench.check("--plugins", str(plugins), "tools")
    assert listed.out.count("odd_") >= len(ODD)
    assert [line for line in listed.sentences if "bad.py" in line and "the schema of 'a' must be a mapping" in line]
    for number in range(len(ODD)):
        told = bench.check("--plugins", str(plugins), "permissions", "check", f"odd_{number}", "a=x")
        assert told.exit_code in (0, 1, 2, 4), told
