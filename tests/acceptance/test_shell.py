"""The interactive shell on a real terminal (a pseudo-terminal) and behind a pipe."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, say, slow
from tests.door import BOOT, Door
from tests.planted import planted

TIMEOUT_S = 60
_FORWARD = re.compile(r"\x1b\[(\d*)C")
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")


NAP = """\
import asyncio

from plugins import llm_tool


async def nap(seconds: str) -> str:
    await asyncio.sleep(float(seconds))
    return f"slept {seconds} s"


llm_tool("nap", "Sleep a little.", {"seconds": str}, effect="read", version="1")(nap)
"""
NAP_TRACE = """\
format: 1
id: nap-once
goals: ["Nap for {n} s"]
slots: {n: number}
steps:
  - {id: nap, tool: nap, args: {seconds: "${{ n }}"}, effect: read}
answer: "${{ steps.nap }}"
"""


@pytest.fixture
def env(door: Door) -> dict[str, str]:
    return {**door.env, "PROMPT_TOOLKIT_NO_CPR": "1"}


class Terminal:
    """A `python boot.py interactive` on a pseudo-terminal: type, and expect what is shown."""

    def __init__(self, workspace: Path, env: dict[str, str], *args: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, str(BOOT), *args],
            cwd=workspace,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._seen = ""
        self.everything = ""

    def type(self, text: str) -> None:
        """Send keys as a terminal does; `\\r` is Enter."""
        os.write(self._master, text.encode())

    def expect(self, text: str, *, timeout_s: float = TIMEOUT_S) -> str:
        """Wait until `text` is on the screen; what came before it."""
        deadline = time.monotonic() + timeout_s
        while text not in self._seen:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{text!r} did not come; this did: {self._seen!r}")
        before, _, self._seen = self._seen.partition(text)
        return before

    def wait(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(TIMEOUT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, timeout_s))
        if not ready:
            return False
        try:
            chunk = os.read(self._master, 65_536)
        except OSError as error:
            if error.errno == errno.EIO:  # Linux: the other side is closed
                return False
            raise
        text = _FORWARD.sub(lambda found: " " * int(found[1] or 1), chunk.decode("utf-8", "replace"))
        text = _ESCAPES.sub("", text).replace("\r", "")
        self._seen += text
        self.everything += text
        return bool(chunk)


@pytest.fixture
def terminal(tmp_path: Path, env: dict[str, str]) -> Iterator[Terminal]:
    opened = Terminal(tmp_path / "work", env, "interactive")
    try:
        opened.expect("llmos> ")
        yield opened
    finally:
        opened.close()


def test_goals_and_commands_on_one_running_system(terminal: Terminal) -> None:
    terminal.type("Calculate 2 + 3\r")
    terminal.expect("\n5\n")
    terminal.expect("follower · ")
    terminal.expect("llmos> ")
    terminal.type("Store result for later\r")
    terminal.expect("\ncalculation_result = 5\n")
    terminal.expect("llmos> ")
    terminal.type("/runs list\r")
    terminal.expect("follower")
    terminal.expect("llmos> ")
    terminal.type("traces lst\r")
    terminal.expect("llmos: there is no command 'traces lst'")
    terminal.expect("llmos> ")
    terminal.type("\x04")
    assert terminal.wait() == 0


def test_tab_completes_commands_and_paths(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "work" / "quarterly-report.csv").write_text("a\n1\n")
    terminal.type("trac\t")
    terminal.expect("traces")
    terminal.type("\x15Analyze data in quart\t")
    terminal.expect("quarterly-report.csv")
    terminal.type("\x15exit\r")
    assert terminal.wait() == 0


def test_history_survives_and_is_private(terminal: Terminal, tmp_path: Path, env: dict[str, str]) -> None:
    terminal.type("Calculate 40 + 2\r")
    terminal.expect("\n42\n")
    terminal.expect("llmos> ")
    terminal.type("exit\r")
    assert terminal.wait() == 0
    history = tmp_path / "home" / "memory" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    again = Terminal(tmp_path / "work", env, "interactive")
    try:
        again.expect("llmos> ")
        again.type("\x1b[A\x1b[A")
        again.expect("Calculate 40 + 2")
        again.type("\r")
        again.expect("\n42\n")
        again.expect("llmos> ")
        again.type("\x04")
        assert again.wait() == 0
    finally:
        again.close()


def test_history_keeps_no_credential(terminal: Terminal, tmp_path: Path) -> None:
    token = planted()["github token"]
    terminal.type(f"/nothing {token}\r")
    terminal.expect("there is no command /nothing")
    terminal.expect("llmos> ")
    terminal.type("exit\r")
    assert terminal.wait() == 0
    history = (tmp_path / "home" / "memory" / "history").read_text(encoding="utf-8")
    assert "/nothing «secret»" in history
    assert token[4:16] not in history


def test_ctrl_c_at_the_prompt_drops_the_line_only(terminal: Terminal) -> None:
    terminal.type("half a goal\x03")
    terminal.expect("llmos> ")
    terminal.type("Calculate 1 + 1\r")
    terminal.expect("\n2\n")


@pytest.mark.parametrize("daemon", ["0", "1"])
def test_what_is_typed_while_the_learner_works_is_told_to_it(door: Door, env: dict[str, str], daemon: str) -> None:
    def turn(request: Request) -> Turn:
        turns: list[Turn] = [
            slow(3, call("write", file_path="limerick.txt", content="x")),
            call("finish", answer="Written."),
            say("Written."),
        ]
        return turns[min(len(request.tool_results), 2)]

    with ScriptedServer(turn) as server:
        env = {**env, **server.env(door.user), "LLMOS_DAEMON": daemon}
        terminal = Terminal(door.workspace, env, "interactive")
        try:
            terminal.expect("llmos> ")
            terminal.type("Write a limerick about tax law into limerick.txt\r")
            terminal.expect("learner ")
            terminal.type("Make it rhyme\r")
            terminal.expect("(told to the goal at its next turn)")
            terminal.expect("Written.")
            terminal.expect("llmos> ")
            told = [result.told for request in server.conversation for result in request.tool_results]
            assert [text for text in told if text.endswith("Make it rhyme")]
            terminal.type("Calculate 1 + 1\r")
            terminal.expect("\n2\n")
            terminal.expect("llmos> ")
            terminal.type("\x04")
            assert terminal.wait() == 0
        finally:
            terminal.close()
            door.env["LLMOS_DAEMON"] = daemon
            door("down", "--now")


def test_what_is_typed_while_a_replay_works_is_the_next_line(door: Door, env: dict[str, str]) -> None:
    (door.home / "plugins").mkdir(parents=True)
    (door.home / "plugins" / "nap.py").write_text(NAP)
    (door.workspace / "nap.yaml").write_text(NAP_TRACE)
    assert door("traces", "import", "nap.yaml", "--trust").returncode == 0
    terminal = Terminal(door.workspace, env, "interactive")
    try:
        terminal.expect("llmos> ")
        terminal.type("Nap for 2 s\r")
        time.sleep(0.7)
        terminal.type("Calculate 1 + 1\r")
        terminal.expect("slept")
        terminal.expect("\n2\n")
        terminal.expect("llmos> ")
        terminal.type("\x04")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_ctrl_c_stops_the_goal_and_not_the_shell(tmp_path: Path, env: dict[str, str]) -> None:
    def turn(request: Request) -> Turn:
        return slow(60, say("late"))

    with ScriptedServer(turn) as server:
        terminal = Terminal(tmp_path / "work", {**env, **server.env(tmp_path / "user")}, "interactive")
        try:
            terminal.expect("llmos> ")
            terminal.type("Write a limerick about tax law into limerick.txt\r")
            terminal.expect("learner ")
            deadline = time.monotonic() + TIMEOUT_S
            while not server.conversation and time.monotonic() < deadline:
                time.sleep(0.05)
            terminal.type("\x03")
            terminal.expect("llmos: interrupted")
            terminal.expect("llmos> ")
            terminal.type("Calculate 1 + 1\r")
            terminal.expect("\n2\n")
            terminal.expect("llmos> ")
            terminal.type("runs list\r")
            terminal.expect("interrupted")
            terminal.expect("llmos> ")
            terminal.type("\x04")
            assert terminal.wait() == 0
        finally:
            terminal.close()


def test_a_question_is_asked_on_the_terminal(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "work" / "reckon.yaml").write_text(
        "format: 1\nid: reckon\ngoals: ['Reckon {expression}']\nslots: {expression: expression}\n"
        "steps: [{id: sum, tool: calculate, args: {expression: '${{ expression }}'}, effect: pure}]\n",
        encoding="utf-8",
    )
    terminal.type("traces import reckon.yaml\r")
    terminal.expect("imported as candidate")
    terminal.expect("llmos> ")
    terminal.type("mode follow\r")
    terminal.expect("mode follow\n")
    terminal.expect("llmos> ")
    terminal.type("Reckon 2 + 3\r")
    terminal.expect("[y/N]")
    terminal.type("\x03")
    terminal.expect("llmos: interrupted")
    terminal.expect("llmos> ")
    terminal.type("Reckon 2 + 3\r")
    terminal.expect("[y/N]")
    terminal.type("n\r")
    terminal.expect("llmos: ")
    terminal.expect("llmos> ")
    terminal.type("Reckon 2 + 3\r")
    terminal.expect("[y/N]")
    terminal.type("y\r")
    terminal.expect("\n5\n")


def test_a_plugin_dropped_in_is_there_at_the_next_line(tmp_path: Path, env: dict[str, str]) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    terminal = Terminal(tmp_path / "work", env, "interactive", "--plugins", str(plugins))
    try:
        terminal.expect("llmos> ")
        (plugins / "late.py").write_text(
            "from plugins import llm_tool\n\n\n"
            '@llm_tool("late_tool", "Came late", {"name": str}, read_only=True)\n'
            "async def late(name):\n    return name\n",
            encoding="utf-8",
        )
        terminal.type("tools\r")
        terminal.expect("late_tool")
        terminal.expect("llmos> ")
        (plugins / "wrong.py").write_text("def f(:\n", encoding="utf-8")
        terminal.type("tools\r")
        terminal.expect("wrong.py, line 1")
    finally:
        terminal.close()


def test_a_terminal_that_goes_away_ends_the_shell(terminal: Terminal) -> None:
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.wait() == 130


def test_piped_lines_are_answered_without_a_prompt(door: Door) -> None:
    lines = "Calculate 2 + 3\nStore result for later\ntraces lst\n\nrun Calculate 1 + 1\nexit\nCalculate 9 + 9\n"
    done = door("interactive", stdin=lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5\ncalculation_result = 5\n2\n"
    assert "llmos: there is no command 'traces lst'" in done.stderr
    assert "Traceback" not in done.stderr


def test_lines_from_a_file_without_a_last_newline(door: Door, tmp_path: Path) -> None:
    goals = tmp_path / "goals.txt"
    goals.write_bytes(b"\xff\xfe junk\nCalculate 2 + 3")
    with goals.open("rb") as stream:
        done = subprocess.run(
            door.command("interactive"),
            cwd=door.workspace,
            env=door.env,
            stdin=stream,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "5\n")
    assert "not text" in done.stderr


def test_good_and_bad_judge_the_last_answer(door: Door) -> None:
    lines = "bad\nmode follow\nCalculate 2 + 3\nbad\nCalculate 2 + 3\ngood\nCalculate 2 + 3\nbad rows of a.csv\n"
    done = door("interactive", stdin=lines)
    shown = done.stdout.splitlines()
    assert shown[:3] == ["mode follow", "5", "calculate never answers that goal again; status candidate"]
    assert shown[3].startswith("calculate is trusted, and run ")
    assert shown[4:] == ["5"]
    assert "llmos: nothing was answered yet in this shell." in done.stderr
    assert "rejected" in done.stderr
    assert "no trace is proven for this goal" in done.stderr.splitlines()[-2]
