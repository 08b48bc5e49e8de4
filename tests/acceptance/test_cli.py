"""The command line as a user has it: the real `python boot.py` in a process, home and workspace of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, say, slow
from tests.door import BOOT, ROOT, TIMEOUT_S, Door, assert_sentence

# -------------------------------------------------------------------------------------------------------- goals


def test_a_shipped_trace_answers_without_a_key(door: Door) -> None:
    done = door("Calculate 2 + 3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5\n"
    parts = done.stderr.strip().split(" · ")
    assert parts[:3] == ["follower", '"5"', "$0.0000"]
    assert parts[3].startswith("saved $")
    assert parts[5].startswith("calculate")


def test_words_need_no_quotes_and_options_stand_anywhere(door: Door) -> None:
    done = door("Calculate", "2", "+", "3", "--json")
    told = json.loads(done.stdout)
    keys = {"run_id", "mode", "answer", "outputs", "cost_usd", "saved_usd", "trace_id", "bindings", "steps"}
    assert keys | {"duration_s", "reason"} <= set(told)
    assert (told["mode"], told["answer"], told["cost_usd"]) == ("follower", "5", 0.0)
    assert told["steps"][0]["is_error"] is False


def test_it_works_from_any_folder_and_as_a_module(door: Door, tmp_path: Path) -> None:
    module = [sys.executable, "-m", "llmos", "Calculate 20 + 3"]
    done = subprocess.run(
        module, cwd=tmp_path, env={**door.env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "23\n", done.stderr


def test_a_goal_from_standard_input(door: Door) -> None:
    assert door("run", "-", stdin="Calculate 4 + 4\n").stdout == "8\n"


@pytest.mark.parametrize("goal", ["", "   ", b"\xff\xfe\xfa", "x" * 100_000])
def test_a_goal_that_is_none_is_refused_before_anything_is_made(door: Door, goal: str | bytes) -> None:
    assert_sentence(door(goal), 2, "the goal")
    assert not door.home.exists()


@pytest.mark.parametrize("raw", [b"x" * 1_000_000, bytes(range(256)), b""])
def test_junk_on_standard_input_is_refused(door: Door, raw: bytes) -> None:
    assert_sentence(door("run", "-", stdin=raw), 2, "the goal")


def test_without_a_learner_the_sentence_says_how_to_get_one(door: Door) -> None:
    done = door("Write a limerick about tax law into limerick.txt")
    assert_sentence(done, 5, "ANTHROPIC_API_KEY")


def test_mode_follow_never_learns(door: Door) -> None:
    assert_sentence(door("--mode", "follow", "Write a limerick about tax law into limerick.txt"), 6)


def test_a_failure_with_json_is_one_object(door: Door) -> None:
    done = door("--mode", "follow", "--json", "Write a limerick about tax law into limerick.txt")
    told = json.loads(done.stdout)
    assert (done.returncode, told["status"], told["exit_code"]) == (6, "failed", 6)
    assert told["error"]
    assert told["cost_usd"] == 0.0
    assert "run_id" in told


def test_a_budget_below_zero_is_refused(door: Door) -> None:
    assert_sentence(door("--budget", "-1", "Calculate 1 + 1"), 2, "--budget")


def test_a_workspace_that_does_not_exist_is_refused(door: Door) -> None:
    assert_sentence(door("--workspace", "nowhere", "Calculate 1 + 1"), 2, "nowhere")


def test_explain_has_no_effect(door: Door) -> None:
    told = door.json("explain", "Calculate 2 + 3")
    assert (told["decision"], told["bindings"]) == ("follow", {"expression": "2 + 3"})
    assert door.json("runs", "list")["runs"] == []
    done = door("explain", "Calculate 2 + 3")
    assert done.stdout.startswith("follow calculate")


def test_a_goal_with_a_long_value_is_found_by_its_words(door: Door) -> None:
    goal = f"Remember that {'the quiet old inn at the harbour where we once ate in the rain ' * 4}is Bella Vista"
    told = door.json("explain", goal)
    assert (told["decision"], told["trace_id"], told["bindings"]["value"]) == (
        "follow",
        "remember-value@1",
        "Bella Vista",
    )
    found = {one["trace_id"]: (one["how"], one["cosine"]) for one in told["candidates"]}
    assert found["remember-value@1"] == ("words", None)
    assert {how for how, _ in found.values()} == {"words"}
    assert door(goal).returncode == 0


def test_a_reader_that_goes_away_is_met_with_silence(door: Door) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash", *door.command("tools")],
        cwd=door.workspace,
        env=door.env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode in (0, 141)
    assert done.stderr == ""


@pytest.mark.parametrize("args", [["tools"], ["Calculate 2 + 3"], ["--help"], ["runs", "--help"], ["--version"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_device_is_one_sentence(door: Door, args: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            door.command(*args),
            cwd=door.workspace,
            env={**door.env, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 7
    assert done.stderr.decode().count("llmos: standard output can't be written: No space left on device") == 1
    assert done.stderr.count(b"llmos: ") == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("args", [["Calculate 2 + 3"], ["runs", "list"], ["status"]])
def test_a_folder_that_is_gone_is_one_sentence(door: Door, args: list[str]) -> None:
    gone = door.workspace / "gone"
    gone.mkdir()

    def go_there() -> None:
        os.chdir(gone)
        gone.rmdir()

    done = door(*args, preexec_fn=go_there)
    assert_sentence(done, 2, "is gone")


def test_a_failure_that_can_not_be_written_as_json_either_is_told_on_stderr(door: Door) -> None:
    with Path("/dev/full").open("wb") as full:
        process = door.start("runs", "show", "nope", "--json", stdout=full)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 7
    first, second = err.splitlines()
    assert "nope" in first
    assert second == "llmos: standard output can't be written: No space left on device"


def test_an_ascii_terminal_gets_an_answer_too(door: Door) -> None:
    done = door("Calculate 2 + 3", env={"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"})
    assert (done.returncode, done.stdout) == (0, "5\n")


# -------------------------------------------------------------------------------------------- an engine at work


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    def turn(request: Request) -> Turn:
        return slow(60, say("late"))

    with ScriptedServer(turn) as running:
        yield running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_learner_cleanly(door: Door, server: ScriptedServer, number: int) -> None:
    env = {**door.env, **server.env(door.user)}
    process = door.start("Write a limerick about tax law into limerick.txt", "--json", env=env)
    deadline = time.monotonic() + 60
    while not server.conversation and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    told = json.loads(out)
    assert (told["status"], told["exit_code"]) == ("interrupted", 130)
    assert "Traceback" not in err
    (run,) = door.json("runs", "list")["runs"]
    assert run["status"] == "interrupted"
    assert door.json("battery")["reserved_usd"] == 0.0


def test_v_tells_what_the_learner_does_on_stderr(door: Door) -> None:
    script = [call("write", file_path="poem.txt", content="roses\n"), call("finish", answer="written"), say("done")]
    with ScriptedServer(script) as server:
        done = door("Write roses into poem.txt", "-v", env=server.env(door.user))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "written\n"
    assert any(line.startswith("· learner ") for line in done.stderr.splitlines())
    assert any(line.startswith("· write ") for line in done.stderr.splitlines())
    assert done.stderr.strip().splitlines()[-1].startswith('learner · "written" · $')


def test_a_second_process_is_told_who_holds_the_home(door: Door) -> None:
    door("Calculate 1 + 1")
    holder = door.start("interactive", stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert holder.stdin is not None and holder.stdout is not None
    try:
        holder.stdin.write("Calculate 1 + 2\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "3\n"
        assert_sentence(door("Calculate 1 + 1"), 7, str(holder.pid))
        doctor = door("doctor")
        assert doctor.returncode == 0
        assert str(holder.pid) in doctor.stdout
    finally:
        holder.stdin.close()
        holder.wait(60)
        holder.stdout.close()


# ----------------------------------------------------------------------------------------------------- commands


def test_traces_list_and_show(door: Door) -> None:
    listed = {trace["id"]: trace for trace in door.json("traces", "list")["traces"]}
    assert len(listed) >= 10
    assert listed["calculate"]["status"] == "trusted"
    shown = door("traces", "show", "calculate")
    assert "[slot expression]" in shown.stdout
    assert door("traces").stdout.startswith("trace ")


def test_a_trace_goes_out_and_comes_back_as_a_candidate(door: Door, tmp_path: Path) -> None:
    assert door("traces", "export", "calculate", "c.yaml").returncode == 0
    file = door.workspace / "c.yaml"
    assert_sentence(door("traces", "export", "calculate", "c.yaml"), 2, "exists already", "--force")
    assert door("traces", "export", "calculate", "c.yaml", "--force").returncode == 0
    assert door("traces", "export", "calculate").stdout == file.read_text(encoding="utf-8")
    file.write_text(file.read_text(encoding="utf-8").replace("\nid: calculate\n", "\nid: reckon\n"), encoding="utf-8")
    told = door.json("traces", "import", "c.yaml")
    assert (told["id"], told["status"], told["provenance"]) == ("reckon", "candidate", "imported")
    assert door.json("traces", "confirm", "reckon")["status"] == "trusted"


CANDIDATE = """\
format: 1
id: reckon
goals: ["Reckon {expression}"]
slots: {expression: expression}
steps:
  - {id: sum, tool: calculate, args: {expression: "${{ expression }}"}, effect: pure}
status: trusted
"""


def test_an_imported_trace_asks_before_it_runs(door: Door) -> None:
    (door.workspace / "reckon.yaml").write_text(CANDIDATE, encoding="utf-8")
    assert door("traces", "import", "reckon.yaml").stdout.startswith("reckon@1 imported as candidate")
    assert_sentence(door("--mode", "follow", "Reckon 2 + 3"), 4, "--yes")
    assert door("--mode", "follow", "--yes", "Reckon 2 + 3").stdout == "5\n"
    assert door("--mode", "follow", "Reckon 2 + 4").stdout == "6\n"


def test_a_trace_imported_with_trust_does_not_ask(door: Door) -> None:
    (door.workspace / "reckon.yaml").write_text(CANDIDATE, encoding="utf-8")
    assert door("traces", "import", "--trust", "reckon.yaml").returncode == 0
    assert door("--mode", "follow", "Reckon 2 + 3").stdout == "5\n"


@pytest.mark.parametrize("text", ["", "- not: [a trace", "format: 99\nid: x\n", "format: 1\nid: x\n", "\x00"])
def test_a_corrupt_trace_is_refused_and_nothing_is_stored(door: Door, text: str) -> None:
    (door.workspace / "bad.yaml").write_text(text, encoding="utf-8")
    before = door.json("traces")["traces"]
    assert_sentence(door("traces", "import", "bad.yaml"), 2)
    assert door.json("traces")["traces"] == before


@pytest.mark.parametrize("command", [("traces", "show"), ("traces", "forget"), ("traces", "reject"), ("runs", "show")])
def test_a_name_that_does_not_exist_is_one_sentence(door: Door, command: tuple[str, str]) -> None:
    assert_sentence(door(*command, "nonesuch"), 2, "nonesuch")


def test_a_rejected_replay_is_not_done_again(door: Door) -> None:
    assert door("Calculate 2 + 3").returncode == 0
    told = door.json("traces", "reject", "last")
    assert told["goal"] == "Calculate 2 + 3"
    assert door("--mode", "follow", "Calculate 2 + 3").returncode == 6
    door("traces", "confirm", told["trace"])
    assert door("--mode", "follow", "Calculate 2 + 3").returncode == 6
    assert door("--mode", "follow", "Calculate 2 + 4").stdout == "6\n"


def test_a_forgotten_trace_is_gone(door: Door) -> None:
    assert door("traces", "forget", "calculate").returncode == 0
    assert_sentence(door("traces", "show", "calculate"), 2, "calculate")


def test_runs_are_listed_and_shown(door: Door) -> None:
    told = door.json("Calculate 2 + 3")
    (run,) = door.json("runs", "list")["runs"]
    assert run["id"] == told["run_id"]
    for name in (run["id"], run["id"][:-2], "last"):
        assert f"run {run['id']} · follower done" in door("runs", "show", name).stdout
    assert door("runs").stdout.splitlines()[1].startswith(run["id"])


def test_the_battery_is_shown_recharged_and_accounted_for(door: Door) -> None:
    before = door.json("battery", "show")["balance_usd"]
    assert door.json("battery", "recharge", "2.5")["balance_usd"] == before + 2.5
    assert door.json("battery", "ledger")["entries"][0]["amount_usd"] == 2.5
    assert_sentence(door("battery", "recharge", "nan"), 2)
    assert_sentence(door("battery", "recharge", "--", "-5"), 2)


def test_tools_are_listed_and_a_broken_plugin_is_told_with_its_line(door: Door, tmp_path: Path) -> None:
    plugins = tmp_path / "mine"
    plugins.mkdir()
    (plugins / "broken.py").write_text("x = 1\ndef f(:\n", encoding="utf-8")
    (plugins / "fine.py").write_text(
        "from plugins import llm_tool\n\n\n"
        '@llm_tool("greet", "Say hello", {"name": str}, read_only=True)\n'
        "async def greet(name):\n    return f'hello {name}'\n",
        encoding="utf-8",
    )
    told = door.json("tools", "--plugins", str(plugins))
    tools = {tool["name"]: tool for tool in told["tools"]}
    assert tools["greet"]["effect"] == "read"
    assert "calculate" in tools
    (failure,) = told["failures"]
    assert (Path(failure["path"]).name, failure["line"]) == ("broken.py", 2)
    done = door("Calculate 2 + 3", "--plugins", str(plugins))
    assert done.stdout == "5\n"
    assert "broken.py" in done.stderr


def test_doctor_looks_at_everything_quickly(door: Door) -> None:
    started = time.monotonic()
    told = door.json("doctor")
    assert time.monotonic() - started < 30
    findings = {finding["name"]: finding for finding in told["findings"]}
    assert told["ok"]
    expected = {"python", "packages", "home", "workspace", "memory", "battery", "learner", "embedding", "plugins"}
    assert expected | {"claude cli", "sandbox"} <= set(findings)
    assert findings["learner"]["state"] == "missing"
    assert "ANTHROPIC_API_KEY" in findings["learner"]["fix"]
    assert all(finding["fix"] for finding in findings.values() if finding["state"] == "missing")
    assert door("doctor").returncode == 0


def test_doctor_ends_with_1_when_memory_is_broken(door: Door) -> None:
    database = door.home / "memory" / "llmos.duckdb"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"junk" * 1000)
    done = door("doctor")
    assert done.returncode == 1
    assert "broken   memory" in done.stdout
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------------------- start


@pytest.fixture
def with_click(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that has click and nothing else."""
    import click

    shutil.copytree(Path(click.__file__).parent, tmp_path / "site" / "click")
    return {"PYTHONPATH": str(tmp_path / "site")}


def without_libraries(door: Door, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command of a Python that has the standard library and what `env` leads to."""
    return subprocess.run(
        [sys.executable, "-S", str(BOOT), *args],
        cwd=door.workspace,
        env={**door.env, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_needs_click_and_the_standard_library_only(door: Door, with_click: dict[str, str]) -> None:
    done = without_libraries(door, "--help", env=with_click)
    assert done.returncode == 0, done.stderr
    assert "Exit codes" in done.stdout


def test_a_fresh_clone_is_told_the_pip_command(door: Door) -> None:
    done = without_libraries(door, "Calculate 2 + 3")
    assert_sentence(done, 2, "click is not installed", "-m pip install -e", str(ROOT))


def test_a_missing_library_is_told_the_pip_command_too(door: Door, with_click: dict[str, str]) -> None:
    done = without_libraries(door, "Calculate 2 + 3", env=with_click)
    assert_sentence(done, 2, "is not installed", "-m pip install")


def test_nothing_is_written_for_others_to_read(door: Door) -> None:
    door("Calculate 2 + 3")
    database = door.home / "memory" / "llmos.duckdb"
    assert database.is_file()
    assert not stat.S_IMODE(database.stat().st_mode) & stat.S_IWOTH


def test_saying_that_a_run_was_right_takes_its_rejection_back(door: Door) -> None:
    run_id = door.json("Calculate 2 + 3")["run_id"]
    assert door.json("traces", "reject", run_id)["status"] == "candidate"
    assert door("--mode", "follow", "Calculate 2 + 3").returncode == 6
    told = door.json("traces", "confirm", run_id)
    assert (told["trace"], told["status"], told["run"]) == ("calculate", "trusted", run_id)
    assert door.json("--mode", "follow", "Calculate 2 + 3")["answer"] == "5"


def test_a_frozen_home_answers_and_changes_nothing(door: Door) -> None:
    door("Calculate 1 + 1")
    before = door.json("traces", "list")
    assert door.json("--frozen", "Calculate 2 + 3")["answer"] == "5"
    refused = door("--frozen", "traces", "reject", "last")
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)
    assert "frozen" in refused.stderr
    assert door.json("traces", "list") == before


def test_what_can_not_be_verified_says_why(door: Door) -> None:
    told = door.json("traces", "verify", "calculate")
    assert told["status"] == "trusted"
    assert told["verdict"] == "unknown"
    assert "the run it was made of is not known" in told["reason"]


def test_an_audit_rate_that_is_none_is_one_sentence(door: Door) -> None:
    assert_sentence(door("--audit-rate", "2", "Calculate 2 + 3"), 2, "--audit-rate must be a number from 0 to 1")


def test_a_goal_that_nobody_can_learn_does_not_blame_a_learner(door: Door) -> None:
    done = door("Write a poem about the sea")
    assert done.returncode == 5
    assert "learner failed" not in done.stderr
    assert "refused · $0.0000" in done.stderr
