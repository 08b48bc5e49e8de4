"""What a command line means: which options, and which action with which arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click
import pytest

from llmos.errors import GoalError, LLMOSError
from llmos.interfaces.cli import main
from llmos.interfaces.commands import parse
from llmos.interfaces.parsing import Line
from llmos.interfaces.results import Question
from llmos.interfaces.session import Engine, Interrupts, Options, Screen, Session
from llmos.kernel.bus import EventBus


class GoalReached(Exception):
    """Ends a command at the point where LLMOS would work on its goal."""


class AskedSystem:
    """Stands for LLMOS and remembers what it was asked."""

    def __init__(self) -> None:
        self.bus = EventBus()
        self.asked: dict[str, Any] = {}

    async def execute(self, goal: str, *, mode: str, confirm: Any, again: bool, begun: Any = None) -> None:
        self.asked = {"goal": goal, "mode": mode, "confirm": confirm}
        raise GoalReached

    async def explain(self, goal: str, *, mode: str, again: bool) -> None:
        self.asked = {"explained": goal}
        raise GoalReached


class AskedEngine(Engine):
    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.asked_system = AskedSystem()

    async def system(self, screen: Screen) -> Any:
        return self.asked_system


async def asked(argv: Sequence[str]) -> tuple[Options, dict[str, Any]]:
    """The options of a command line and what it would ask of LLMOS."""
    line = Line(options=Options())
    action = parse(argv, line, prog_name="llmos")
    assert action is not None
    engine = AskedEngine(line.options)
    screen = Screen(as_json=line.options.as_json)
    session = Session(options=line.options, screen=screen, interrupts=cast(Interrupts, None), engine=engine)
    with pytest.raises(GoalReached):
        await action(session)
    return line.options, engine.asked_system.asked


@pytest.mark.parametrize(
    ("argv", "goal"),
    [
        (["Calculate 2 + 3"], "Calculate 2 + 3"),
        (["Calculate", "2", "+", "3"], "Calculate 2 + 3"),
        (["Calculate", "2", "-", "3"], "Calculate 2 - 3"),
        (["tools that print"], "tools that print"),
        (["run", "tools"], "tools"),
        (["run", "-v", "tools"], "tools"),
        (["--", "-40 F in C"], "-40 F in C"),
        (["--json", "--", "traces", "list"], "traces list"),
        (["negate", "--", "-3"], "negate -3"),
        (["run", "--", "--help"], "--help"),
        (["trace"], "trace"),
        (["  Calculate 1 + 1 "], "Calculate 1 + 1"),
    ],
)
async def test_what_is_no_command_is_a_goal(argv: list[str], goal: str) -> None:
    _, question = await asked(argv)
    assert question["goal"] == goal


@pytest.mark.parametrize(
    "argv",
    [
        ["--json", "--mode", "follow", "--budget", "1.5", "goal"],
        ["goal", "--json", "--mode", "follow", "--budget", "1.5"],
        ["--json", "goal", "--mode=follow", "--budget=1.5"],
        ["run", "--budget", "1.5", "goal", "--json", "--mode", "follow"],
        ["--mode", "learn", "run", "goal", "--mode", "follow", "--json", "--budget", "1.5"],
    ],
)
async def test_options_stand_before_or_after_the_goal_and_the_last_one_counts(argv: list[str]) -> None:
    options, question = await asked(argv)
    assert options == Options(as_json=True, mode="follow", budget_usd=1.5)
    assert question["goal"] == "goal"
    assert question["mode"] == "follow"


async def test_plugin_folders_add_up_over_the_whole_line() -> None:
    options, _ = await asked(["--plugins", "a", "explain", "--plugins", "b", "a goal", "--plugins", "c"])
    assert options.plugins == (Path("a"), Path("b"), Path("c"))


async def test_no_daemon_is_a_matter_of_the_door() -> None:
    options, _ = await asked(["goal", "--no-daemon"])
    assert options == Options()


async def test_yes_answers_questions_without_a_terminal() -> None:
    _, question = await asked(["goal", "--yes"])
    assert await question["confirm"](Question(text="", trace_id="a@1", bindings={}, effect="read")) is True


async def test_yes_agrees_to_no_wording_that_is_not_proven() -> None:
    _, question = await asked(["goal", "--yes"])
    near = Question(text="", trace_id="a@1", bindings={}, effect="read", is_proven=False)
    assert await question["confirm"](near) is None


async def test_audits_and_freezing_are_options_like_any_other() -> None:
    options, _ = await asked(["goal", "--audit-rate", "0.25", "--frozen"])
    assert options == Options(audit_rate=0.25, frozen=True)


async def test_without_a_terminal_nobody_can_be_asked() -> None:
    _, question = await asked(["goal"])
    assert question["confirm"] is None


async def test_explain_takes_unquoted_words() -> None:
    _, question = await asked(["explain", "Calculate", "2", "+", "3"])
    assert question == {"explained": "Calculate 2 + 3"}


@pytest.mark.parametrize("goal", ["", "   ", "\udcff\udcfe", "a\x00b", "x" * 20_001, "…"])
async def test_a_goal_that_is_no_text_never_starts_the_engine(goal: str) -> None:
    action = parse([goal], Line(options=Options()), prog_name="llmos")
    assert action is not None
    session = Session(
        options=Options(), screen=Screen(), interrupts=cast(Interrupts, None), engine=AskedEngine(Options())
    )
    with pytest.raises(GoalError):
        await action(session)


@pytest.mark.parametrize(
    "argv",
    [
        ["traces", "lst"],
        ["tools", "that", "print"],
        ["goal", "--bogus"],
        ["Calculate", "2", "-3"],
        ["--mode", "sometimes", "goal"],
        ["--budget", "much", "goal"],
        ["--json"],
        ["runs", "show"],
        ["runs", "list", "--limit", "0"],
        ["battery", "recharge", "a lot"],
        ["run"],
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = main(argv, prog_name="llmos")
    out, err = capsys.readouterr()
    assert exit_code == 2
    assert err.startswith("llmos: ")
    assert err.count("\n") == 1
    assert out == "" or "--json" in argv


def test_a_mistake_with_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert main(["traces", "lst", "--json"], prog_name="llmos") == 2
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "failed"
    assert told["exit_code"] == 2
    assert "traces lst" in told["error"]


def test_a_json_behind_the_dashes_belongs_to_the_goal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bogus", "--", "--json"], prog_name="llmos") == 2
    assert capsys.readouterr().out == ""


def test_groups_called_alone_do_their_first_command() -> None:
    for group, action in (("traces", "list_traces"), ("runs", "list_runs"), ("battery", "show_battery")):
        parsed = parse([group], Line(options=Options()), prog_name="llmos")
        assert parsed is not None
        assert parsed.__qualname__.startswith(action)


def test_nothing_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], prog_name="llmos") == 2
    assert "Usage: llmos" in capsys.readouterr().err


def test_the_help_has_every_exit_code_of_the_error_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], prog_name="llmos") == 0
    shown = capsys.readouterr().out
    codes: set[int] = {0, 130, 141}
    kinds: list[type[LLMOSError]] = [LLMOSError]
    while kinds:
        kind = kinds.pop()
        codes.add(kind.exit_code)
        kinds += [sub for sub in kind.__subclasses__() if sub.__module__ == "llmos.errors"]
    assert all(f"{code:>3}  " in shown for code in codes), codes


def test_an_option_of_the_start_is_refused_inside_the_shell() -> None:
    with pytest.raises(click.UsageError, match="when the shell starts"):
        parse(["tools", "--home", "x"], Line(options=Options(), is_shell_line=True), prog_name="")
