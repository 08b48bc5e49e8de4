"""What holds for every built-in tool."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from llmos.trace.program import Effect
from tests.contract.toolbox import builtin_registry, toolbox

ROOT = Path(__file__).resolve().parents[2]
EFFECTS = {
    Effect.PURE: {"calculate"},
    Effect.READ: {
        "read",
        "glob",
        "grep",
        "python",
        "query_data",
        "describe_data",
        "count_files",
        "find_files",
        "find_duplicates",
        "git_summary",
        "http_get",
        "recall",
        "think",
        "wait_for",
        "receive_message",
    },
    Effect.WRITE: {"write", "edit", "convert_data", "rename_files", "fetch_file", "remember", "share_memory"},
    Effect.EXTERNAL: {"spawn_process", "send_message"},
    Effect.UNKNOWN: {"bash"},
}
TOOLS = list(builtin_registry())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_tool_has_the_effect_it_is_known_for() -> None:
    assert {effect: {tool.name for tool in TOOLS if tool.effect is effect} for effect in EFFECTS} == EFFECTS
    assert len(TOOLS) == sum(map(len, EFFECTS.values()))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_tool_describes_itself(tool: object) -> None:
    from llmos.plugins.tool import Tool

    assert isinstance(tool, Tool)
    jsonschema.Draft202012Validator.check_schema(tool.schema)
    assert tool.schema["type"] == "object"
    assert tool.version.partition(" on ")[0] == "1"
    assert tool.source == "builtin"
    assert {*tool.code_params, *tool.payload_params} <= set(tool.schema["properties"])


def test_code_and_payload_are_told_apart() -> None:
    marked = {tool.name: (tool.code_params, tool.payload_params) for tool in TOOLS}
    assert marked["query_data"] == (("sql",), ())
    assert marked["python"] == (("code",), ())
    assert marked["bash"] == (("command",), ())
    assert marked["write"] == ((), ("content",))
    assert marked["edit"] == ((), ("old_string", "new_string"))
    assert marked["remember"] == ((), ("value",))
    assert "pattern" in marked["grep"][0]
    assert "pattern" in marked["glob"][0]


async def test_an_unknown_argument_is_refused_by_name(tmp_path: Path) -> None:
    message = await toolbox(tmp_path).error("read", file_path="a", nonsense=1)
    assert "nonsense" in message


async def test_a_missing_argument_is_refused_by_name(tmp_path: Path) -> None:
    assert "file_path" in await toolbox(tmp_path).error("read")


@pytest.mark.parametrize(
    ("tool", "args"),
    [
        ("read", {"file_path": "../secret.txt"}),
        ("write", {"file_path": "../secret.txt", "content": "x"}),
        ("edit", {"file_path": "../secret.txt", "old_string": "a", "new_string": "b"}),
        ("glob", {"pattern": "*", "path": ".."}),
        ("grep", {"pattern": "x", "path": ".."}),
        ("query_data", {"sql": "FROM t", "files": {"t": "../secret.csv"}}),
        ("describe_data", {"path": "../secret.csv"}),
        ("convert_data", {"source": "../secret.csv", "target": "a.json"}),
        ("convert_data", {"source": "a.csv", "target": "../a.json"}),
        ("count_files", {"path": ".."}),
        ("find_files", {"path": "/"}),
        ("find_duplicates", {"path": ".."}),
        ("rename_files", {"path": "..", "find": "s", "replace": "t"}),
        ("git_summary", {"path": ".."}),
        ("fetch_file", {"url": "http://127.0.0.1:1/x", "target": "../x"}),
        ("read", {"file_path": "~/secret.txt"}),
        ("read", {"file_path": "/etc/passwd"}),
        ("read", {"file_path": "link.txt"}),
    ],
)
async def test_nothing_outside_the_workspace_is_touched(tmp_path: Path, tool: str, args: dict[str, object]) -> None:
    box = toolbox(tmp_path)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (tmp_path / "secret.csv").write_text("a\n1\n")
    box.write("a.csv", "a\n1\n")
    (box.workspace / "link.txt").symlink_to(secret)
    message = await box.error(tool, dict(args))
    assert "outside the workspace" in message
    assert secret.read_text() == "secret"
    assert names(tmp_path) == ["secret.csv", "secret.txt", "workspace"]


async def test_a_closed_folder_stays_closed(tmp_path: Path) -> None:
    box = toolbox(tmp_path)
    box.write("memory/llmos.duckdb", "x")
    box.services["denied"] = (box.workspace / "memory",)
    assert "belongs to LLM OS" in await box.error("read", file_path="memory/llmos.duckdb")
    assert (await box.call("count_files"))["count"] == 0
    assert (await box.call("glob", pattern="**/*"))["files"] == []


def test_loading_them_imports_no_heavy_library() -> None:
    code = (
        "import sys; from llmos.plugins.registry import ToolRegistry; from llmos.plugins.loader import PluginLoader\n"
        "PluginLoader(ToolRegistry()).load()\n"
        "heavy = {'duckdb', 'httpx', 'mcp', 'numpy', 'jsonschema', 'torch', 'pydantic', 'rich'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_calling_them_imports_no_schema_library_while_arguments_are_right(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from llmos.plugins.registry import ToolRegistry\n"
        "from llmos.plugins.loader import PluginLoader; from llmos.plugins.tool import ToolContext\n"
        "registry = ToolRegistry(); PluginLoader(registry).load(); ctx = ToolContext(workspace=Path('.'))\n"
        "call = lambda name, **args: asyncio.run(registry.call(name, args, ctx))\n"
        "results = [call('bash', command='echo a > a.txt', timeout=5000), call('read', file_path='a.txt', limit=1),\n"
        "    call('grep', pattern='a', output_mode='content', **{'-i': True}), call('count_files', recursive=False)]\n"
        "assert not any(result.is_error for result in results), results\n"
        "sys.exit('jsonschema' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
