"""What a line of the shell means, what completes it, and how piped lines are read."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llmos.errors import UsageError
from llmos.interfaces.session import Interrupts, Options, Screen, Session
from llmos.interfaces.shell import MAX_LINE_BYTES, Shell, _piped, completions
from llmos.kernel.bus import EventBus


class Answering:
    """Stands for LLMOS: answers each goal with the goal itself."""

    def __init__(self) -> None:
        self.bus = EventBus()
        self.modes: list[str] = []

    async def execute(self, goal: str, *, mode: str, confirm: Any, again: bool, begun: Any = None) -> Any:
        self.modes.append(mode)
        if goal == "explode":
            raise RuntimeError("boom")
        if goal == "wait for it":
            await asyncio.sleep(60)
        return SimpleNamespace(
            run_id="r1",
            mode="follower",
            status="done",
            answer=f"<{goal}>",
            cost_usd=0.0,
            saved_usd=0.0,
            estimate_usd=0.0,
            of_run=None,
            audit="",
            duration_s=0.001,
            trace_id=None,
            to_json=lambda: {"answer": f"<{goal}>"},
        )


class AnsweringEngine:
    def __init__(self) -> None:
        self.answering = Answering()
        self.progress = None

    async def system(self, screen: Screen) -> Any:
        return self.answering


@pytest.fixture
async def shell() -> Any:
    with Interrupts.handled() as interrupts:
        session = Session(
            options=Options(), screen=Screen(), interrupts=interrupts, engine=cast(Any, AnsweringEngine())
        )
        yield Shell(session=session, options=Options())


@pytest.mark.parametrize(
    ("line", "goal"),
    [
        ("Calculate 2 + 3", "Calculate 2 + 3"),
        ('"Calculate 2 + 3"', "Calculate 2 + 3"),
        ("run tools", "tools"),
        ("/run tools", "tools"),
        ("help me write a parser", "help me write a parser"),
        ("exit code of the last command", "exit code of the last command"),
        ("last week's sales", "last week's sales"),
        ("mode of the column age", "mode of the column age"),
        ("/tmp/a.csv as json", "/tmp/a.csv as json"),
        (": what is this", ": what is this"),
        ('say "it\'s" twice', 'say "it\'s" twice'),
    ],
)
async def test_a_line_that_is_no_command_is_a_goal(shell: Shell, line: str, goal: str, capsys: Any) -> None:
    await shell.do(line)
    out, err = capsys.readouterr()
    assert out == f"<{goal}>\n"
    assert err.startswith("follower · ")


@pytest.mark.parametrize("line", ["", "   ", "\t"])
async def test_an_empty_line_does_nothing(shell: Shell, line: str, capsys: Any) -> None:
    await shell.do(line)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("traces lst", "there is no command 'traces lst'"),
        ("tools that print", "unexpected extra argument"),
        ("/nonsense", "there is no command /nonsense"),
        (":nonsense", "there is no command :nonsense"),
        ("explain", "explain what?"),
        ("run", "run what?"),
        ("traces show 'x", "No closing quotation"),
        ("mode sometimes", "there is no mode 'sometimes'"),
        ("last", "nothing was answered yet"),
        ("interactive", "this is the shell already"),
        ("explode", "unexpected RuntimeError: boom"),
    ],
)
async def test_a_mistake_is_one_sentence_and_the_shell_goes_on(shell: Shell, line: str, part: str, capsys: Any) -> None:
    await shell.do(line)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("llmos: ")
    assert part in err
    assert err.count("\n") == 1
    await shell.do("go on")
    assert capsys.readouterr().out == "<go on>\n"


async def test_mode_holds_for_the_goals_behind_it(shell: Shell, capsys: Any) -> None:
    for line in ("first goal", "mode follow", "mode", "second goal"):
        await shell.do(line)
    engine = cast(AnsweringEngine, shell.session.engine)
    assert engine.answering.modes == ["auto", "follow"]
    assert capsys.readouterr().out == "<first goal>\nmode follow\nmode follow\n<second goal>\n"


async def test_last_shows_the_last_answer_again(shell: Shell, capsys: Any) -> None:
    await shell.do("a goal")
    capsys.readouterr()
    await shell.do(":last")
    assert capsys.readouterr().out == "<a goal>\n"


@pytest.mark.parametrize("line", ["exit", "quit", "/exit", ":quit"])
async def test_exit_leaves(shell: Shell, line: str) -> None:
    await shell.do(line)
    assert shell.has_left


async def test_help_lists_the_commands_and_explains_one(shell: Shell, capsys: Any) -> None:
    await shell.do("help")
    assert "Ctrl-C stops a goal" in capsys.readouterr().out
    await shell.do("help traces export")
    assert "--force" in capsys.readouterr().out


async def test_ctrl_c_stops_the_goal_and_not_the_shell(shell: Shell, capsys: Any) -> None:
    line = asyncio.ensure_future(shell.do("wait for it"))
    await asyncio.sleep(0.05)
    shell.session.interrupts.interrupt()
    await asyncio.wait_for(line, 5)
    assert "llmos: interrupted" in capsys.readouterr().err
    await shell.do("go on")
    assert capsys.readouterr().out == "<go on>\n"


def test_an_option_of_a_line_holds_for_that_line_only() -> None:
    line_shell = Shell(session=cast(Any, None), options=Options())
    _, options = line_shell.read("runs list --json")
    assert options.as_json
    assert not line_shell.options.as_json


def test_a_goal_command_without_a_goal_says_so() -> None:
    with pytest.raises(UsageError):
        Shell(session=cast(Any, None), options=Options()).read("explain   ")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sales.csv").touch()
    (tmp_path / "data.csv").touch()
    (tmp_path / ".hidden").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tr", ["traces"]),
        ("/ba", ["/bad", "/batch", "/battery"]),
        ("traces ex", ["export"]),
        (":runs ", ["list", "show"]),
        ("mode f", ["follow"]),
        ("Analyze da", ["data", "data.csv"]),
        ("Analyze data/", ["data/sales.csv"]),
        ("Analyze 'data/s", ["'data/sales.csv"]),
        ("Analyze .h", [".hidden"]),
        ("Analyze ../", []),
        ("Analyze /etc/", []),
        ("Analyze nowhere/x", []),
    ],
)
def test_completion(workspace: Path, text: str, found: list[str]) -> None:
    expected = [f"{name}/" if name == "data" else name for name in found]
    assert [name for name, _ in completions(text, workspace)] == expected


async def lines_of(raw: bytes) -> list[str]:
    reading, writing = os.pipe()

    def fill() -> None:
        with os.fdopen(writing, "wb") as stream:
            stream.write(raw)

    filling = asyncio.get_running_loop().run_in_executor(None, fill)
    try:
        return [line async for line in _piped(reading)]
    finally:
        await filling
        os.close(reading)


async def test_piped_lines_come_one_by_one_the_last_without_a_newline() -> None:
    assert await lines_of("erste\nzwölf\n\nende".encode()) == ["erste", "zwölf", "", "ende"]


async def test_bytes_that_are_no_text_stay_one_line() -> None:
    assert await lines_of(b"a\xff\nb\n") == ["a\udcff", "b"]


async def test_a_line_without_end_does_not_fill_the_memory() -> None:
    (line,) = await lines_of(b"x" * (MAX_LINE_BYTES * 3))
    assert len(line) <= MAX_LINE_BYTES
