"""Tools of MCP servers: real servers from PyPI, and one of our own that fails in every way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import ToolError
from llmos.plugins.context import ToolContext
from llmos.plugins.mcp import McpTools, tool_name
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool
from llmos.settings import McpServerSettings
from llmos.trace.program import Effect

ODD = Path(__file__).with_name("mcp_odd_server.py")
WEB = Path(__file__).with_name("mcp_web_server.py")
LONG = tool_name("odd", "a tool/with an impossible name that is much too long for anyone to read")


@dataclass
class House:
    """A registry, the servers behind it, and the folder where they leave their marks."""

    folder: Path
    registry: ToolRegistry = field(default_factory=ToolRegistry)
    mcp: McpTools = field(init=False)

    @property
    def cache(self) -> Path:
        return self.folder / "memory" / "mcp_tools.json"

    def starts(self) -> int:
        """How often the odd server was started."""
        marks = self.folder / "starts"
        return len(marks.read_text().splitlines()) if marks.exists() else 0

    def names(self) -> list[str]:
        return [tool.name for tool in self.registry]

    async def call(self, name: str, args: dict[str, Any] | None = None, /, **named: Any) -> Any:
        result = await self.registry.call(name, {**(args or {}), **named}, ToolContext(workspace=self.folder))
        assert not result.is_error, result.output
        return result.output

    async def error(self, name: str, **named: Any) -> str:
        result = await self.registry.call(name, named, ToolContext(workspace=self.folder))
        assert result.is_error, result.output
        assert isinstance(result.error, ToolError)
        return str(result.output)


@asynccontextmanager
async def house(folder: Path, *servers: McpServerSettings, start: bool = True, **options: Any) -> AsyncIterator[House]:
    """The tools of some servers, registered; everything is stopped at the end."""
    made = House(folder)
    made.mcp = McpTools({server.name: server for server in servers}, cache=made.cache, cwd=folder, **options)
    try:
        await made.mcp.register(made.registry, start=start)
        yield made
    finally:
        await made.mcp.aclose()


def module(name: str, module: str, *args: str, **options: Any) -> McpServerSettings:
    return McpServerSettings(name=name, command=sys.executable, args=("-m", module, *args), **options)


def odd(folder: Path, **options: Any) -> McpServerSettings:
    return McpServerSettings(name="odd", command=sys.executable, args=(str(ODD), str(folder)), **options)


# ---------------------------------------------------------------------------------------- real servers from PyPI


async def test_the_time_server_serves(tmp_path: Path) -> None:
    async with house(tmp_path, module("time", "mcp_server_time")) as here:
        assert here.names() == ["time__convert_time", "time__get_current_time"]
        tool = here.registry.get("time__convert_time")
        assert (tool.effect, tool.idempotent, tool.source) == (Effect.READ, True, "mcp:time")
        assert tool.schema["required"] == ["source_timezone", "time", "target_timezone"]
        arguments = {"source_timezone": "Asia/Tokyo", "time": "12:00", "target_timezone": "Asia/Kolkata"}
        converted = await here.call("time__convert_time", arguments)
        assert converted["time_difference"] == "-3.5h"
        assert converted["target"]["datetime"].endswith("T08:30:00+05:30")
        assert "Invalid timezone" in await here.error("time__get_current_time", timezone="Mars/Olympus")
        assert "'timezone' is a required property" in await here.error("time__get_current_time")


def make_repository(folder: Path) -> None:
    for command in ("init -q -b main", "config user.name Ann", "config user.email ann@example.org"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)


async def test_the_git_server_works_on_a_repository(tmp_path: Path) -> None:
    repository = tmp_path / "repo"
    repository.mkdir()
    make_repository(repository)
    (repository / "a.txt").write_text("one\n")
    async with house(tmp_path, module("git", "mcp_server_git", "--repository", str(repository))) as here:
        effects = {tool.name: tool.effect for tool in here.registry}
        assert effects["git__git_status"] is Effect.READ
        assert effects["git__git_add"] is Effect.WRITE
        assert effects["git__git_commit"] is Effect.WRITE
        await here.call("git__git_add", repo_path=str(repository), files=["a.txt"])
        await here.call("git__git_commit", repo_path=str(repository), message="first")
        assert "nothing to commit" in await here.call("git__git_status", repo_path=str(repository))
        assert "first" in json.dumps(await here.call("git__git_log", repo_path=str(repository)))
        assert await here.error("git__git_status", repo_path=str(tmp_path))


async def test_two_servers_work_at_once(tmp_path: Path) -> None:
    async with house(tmp_path, module("time", "mcp_server_time"), odd(tmp_path)) as here:
        now = [here.call("time__get_current_time", timezone="Etc/UTC") for _ in range(5)]
        sums = [here.call("odd__add", a=n, b=n) for n in range(20)]
        answers = await asyncio.gather(*now, *sums)
        assert [answer["sum"] for answer in answers[5:]] == [2 * n for n in range(20)]


# -------------------------------------------------------------------------------------------- outputs and effects


async def test_an_output_is_structured_content_or_text(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)) as here:
        assert await here.call("odd__add", a=1, b=2) == {"sum": 3}
        for kind, output in (
            ("object", {"a": [1]}),
            ("array", [1, 2]),
            ("number", "5"),
            ("broken", "{oops"),
            ("plain", "hello"),
        ):
            assert await here.call("odd__text", kind=kind) == output
        assert await here.call("odd__mixed") == "one\n[image image/png]\ntwo"
        assert "it broke" in await here.error("odd__fail", message="it broke")
        assert await here.call(LONG) == "cleaned"
        assert len(LONG) <= 48


async def test_the_settings_have_the_last_word_on_effects(tmp_path: Path) -> None:
    server = odd(tmp_path, read_only=("where",), effects={"add": "pure", "sleep": "external"})
    async with house(tmp_path, server) as here:
        effects = {tool.name: tool.effect for tool in here.registry}
        assert effects["odd__where"] is Effect.READ
        assert effects["odd__add"] is Effect.PURE
        assert effects["odd__sleep"] is Effect.EXTERNAL
        assert effects["odd__text"] is Effect.UNKNOWN


async def test_a_server_sees_its_own_variables_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "s3cret")
    async with house(tmp_path, odd(tmp_path, env={"ODD_TOKEN": "mine"})) as here:
        seen = await here.call("odd__where")
        assert (seen["cwd"], seen["env"]["ODD_TOKEN"]) == (str(tmp_path), "mine")
        assert "ANTHROPIC_API_KEY" not in seen["env"]


# ------------------------------------------------------------------------------------------------ starting, ending


async def test_a_server_that_is_known_starts_only_when_it_is_called(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)) as first:
        tools = {tool.name: tool for tool in first.registry}
        assert first.starts() == 1
    async with house(tmp_path, odd(tmp_path)) as second:
        assert {tool.name: (tool.schema, tool.version, tool.effect) for tool in second.registry} == {
            name: (tool.schema, tool.version, tool.effect) for name, tool in tools.items()
        }
        assert second.starts() == 1
        await second.call("odd__add", a=1, b=2)
        await second.call("odd__add", a=1, b=2)
        assert second.starts() == 2


async def test_without_start_unknown_servers_wait_to_be_discovered(tmp_path: Path) -> None:
    bad = McpServerSettings(name="bad", command="nonesuch")
    async with house(tmp_path, odd(tmp_path), bad, start=False) as here:
        assert (here.names(), here.starts(), here.mcp.failures) == ([], 0, [])
        await here.mcp.discover("read")
        assert here.starts() == 0
        await here.mcp.discover("odd__add")
        assert "odd__add" in here.names()
        assert here.mcp.failures == []
        await here.mcp.discover()
        assert [failure.path for failure in here.mcp.failures] == ["mcp:bad"]
        assert here.starts() == 1


async def test_other_settings_ask_the_server_again(tmp_path: Path) -> None:
    plain = odd(tmp_path)
    changes = [plain, replace(plain, env={"NEW": "1"}), replace(plain, args=("-B", *plain.args)), plain]
    for number, settings in enumerate(changes, 1):
        async with house(tmp_path, settings) as here:
            assert here.starts() == number


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"version": 99}', '{"version": 1, "servers": {"odd": {"key": 1}}}'])
async def test_a_damaged_list_only_means_asking_again(tmp_path: Path, junk: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/mcp_tools.json").write_text(junk)
    async with house(tmp_path, odd(tmp_path)) as here:
        assert "odd__add" in here.names()
        assert json.loads(here.cache.read_text())["servers"].keys() == {"odd"}
        assert [path.name for path in here.cache.parent.iterdir()] == ["mcp_tools.json"]


async def test_the_list_holds_no_secret(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path, env={"ODD_TOKEN": "s3cret"})) as here:
        assert "s3cret" not in here.cache.read_text()


async def test_a_server_that_dies_in_a_call_is_started_again(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)) as here:
        message = await here.error("odd__die")
        assert message == "the MCP server 'odd' ended during 'die'; it is started again at the next call."
        assert await here.call("odd__add", a=1, b=2) == {"sum": 3}
        assert here.starts() == 2


async def test_a_server_that_died_between_calls_is_not_noticed(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)) as here:
        os.kill((await here.call("odd__where"))["pid"], signal.SIGKILL)
        await asyncio.sleep(0.3)
        assert await here.call("odd__add", a=1, b=2) == {"sum": 3}
        assert here.starts() == 2


async def test_a_late_answer_is_given_up_and_the_server_lives_on(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)) as here:
        here.mcp._servers["odd"]._timeout_s = 0.5
        assert await here.error("odd__sleep", seconds=30) == (
            "'sleep' of the MCP server 'odd' did not answer within 0.5 s."
        )
        assert await here.call("odd__add", a=1, b=2) == {"sum": 3}
        assert here.starts() == 1


async def test_a_cancelled_call_leaves_the_server_alive(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)) as here:
        task = asyncio.ensure_future(here.call("odd__sleep", seconds=30))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await here.call("odd__add", a=1, b=2) == {"sum": 3}
        assert here.starts() == 1


async def test_calls_from_many_tasks_start_one_server(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)):
        pass
    async with house(tmp_path, odd(tmp_path)) as here:
        await asyncio.gather(*(here.call("odd__add", a=1, b=n) for n in range(10)))
        assert here.starts() == 2


async def test_closing_ends_the_process(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)) as here:
        pid = (await here.call("odd__where"))["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_tool_that_changed_is_refused_once_and_known_after(tmp_path: Path) -> None:
    async with house(tmp_path, odd(tmp_path)) as here:
        assert await here.call("odd__early_bird", x=1) == {"x": 1}
    (tmp_path / "changed").touch()
    async with house(tmp_path, odd(tmp_path)) as here:
        assert "is not offered any more" in await here.error("odd__early_bird", x=1)
        assert "odd__early_bird" not in here.names()
        assert await here.call("odd__late_comer", {"ctx": "a", "self": "b"}) == {"ctx": "a", "self": "b"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"command": "nonesuch"}, "the MCP server 'bad' can't be used: the program 'nonesuch' is not installed"),
        ({"command": sys.executable, "args": ("-c", "import sys; sys.exit('no luck')")}, "(it said: no luck)."),
        ({"command": sys.executable, "args": ("-c", "print('hello')")}, "the MCP server 'bad' can't be used: "),
        ({"url": "http://127.0.0.1:1/mcp"}, "the MCP server 'bad' can't be used: "),
        ({}, "has neither a command nor a url"),
    ],
)
async def test_a_server_that_cannot_be_used_is_one_sentence_and_others_serve(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    async with house(tmp_path, McpServerSettings(name="bad", **settings), odd(tmp_path)) as here:
        (failure,) = here.mcp.failures
        assert said in failure.message
        assert "\n" not in failure.message
        assert await here.call("odd__add", a=1, b=2) == {"sum": 3}


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    deaf = McpServerSettings(name="deaf", command=sys.executable, args=("-c", "import time; time.sleep(60)"))
    started = time.monotonic()
    async with house(tmp_path, deaf, timeout_s=1.0) as here:
        assert "did not answer within 1 s of its start" in here.mcp.failures[0].message
    assert time.monotonic() - started < 15


async def test_a_name_that_is_taken_is_reported(tmp_path: Path) -> None:
    async def function(ctx: ToolContext) -> None:
        return None

    here = House(tmp_path)
    here.registry.register(Tool(name="odd__add", description="mine", schema={}, function=function))
    here.mcp = McpTools({"odd": odd(tmp_path)})
    try:
        await here.mcp.register(here.registry)
        assert "a tool 'odd__add' exists already" in here.mcp.failures[0].message
        assert here.registry.get("odd__add").description == "mine"
        assert "odd__text" in here.names()
    finally:
        await here.mcp.aclose()


# ----------------------------------------------------------------------------------------------------------- http


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, str(WEB), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.fixture
def http_server() -> Iterator[tuple[int, list[subprocess.Popen[bytes]]]]:
    port = free_port()
    processes = [serve(port)]
    yield port, processes
    for process in processes:
        process.kill()
        process.wait()


async def test_a_server_behind_a_url_serves(
    tmp_path: Path, http_server: tuple[int, list[subprocess.Popen[bytes]]]
) -> None:
    port, processes = http_server
    web = McpServerSettings(name="web", url=f"http://127.0.0.1:{port}/mcp", headers={"Authorization": "Bearer x"})
    async with house(tmp_path, web, timeout_s=20.0) as here:
        assert await here.call("web__add", a=1, b=2) == {"result": 3}
        processes[0].kill()
        processes[0].wait()
        assert "the MCP server 'web' ended during 'add'" in await here.error("web__add", a=1, b=2)
        processes.append(serve(port))
        assert await here.call("web__add", a=2, b=2) == {"result": 4}
