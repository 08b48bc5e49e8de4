"""Permissions through the real command line: asked, refused with the line that helps, approved, remembered, revoked."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from llmos.testing import Request, ScriptedServer, Turn, call, say
from tests.acceptance.test_shell import Terminal
from tests.door import Door, assert_sentence, assert_told

GOAL = "Count the letters of a.txt with wc.py"
COMMAND = "python3 wc.py a.txt"
LINE = "- {allow: bash, effect: unknown}"


def script(request: Request) -> Turn:
    """Runs a program of the workspace, and says what came of it."""
    turns = [call("bash", command=COMMAND), call("finish", answer="5 letters"), say("5 letters")]
    return turns[min(len(request.tool_results), 2)]


@pytest.fixture
def server(door: Door) -> Iterator[ScriptedServer]:
    (door.workspace / "a.txt").write_text("hello")
    (door.workspace / "wc.py").write_text(
        "import sys\nopen('ran.txt', 'a').write('x')\nprint(len(open(sys.argv[1]).read()), 'letters')\n"
    )
    with ScriptedServer(script) as running:
        door.env |= running.env(door.user)
        yield running


def ran(door: Door) -> int:
    """How often the program was run."""
    path = door.workspace / "ran.txt"
    return len(path.read_text()) if path.exists() else 0


def configure(door: Door, rules: str) -> None:
    door.home.mkdir(exist_ok=True)
    (door.home / "llmos.yaml").write_text(f"permissions:\n  rules:\n{rules}")


def learned(door: Door) -> subprocess.CompletedProcess[str]:
    done = door(GOAL, "--yes")
    assert done.returncode == 0, done.stderr
    return done


def test_where_nobody_can_be_asked_a_call_of_unknown_effect_is_refused_and_charged(
    door: Door, server: ScriptedServer
) -> None:
    done = door(GOAL)
    assert_sentence(done, 4, "bash", COMMAND, "needs an approval nobody could give", LINE)
    assert ran(door) == 0
    assert door.json("battery")["spent_usd"] > 0
    assert door.json("traces", "list")["traces"] == [] or not any(
        trace["provenance"] == "learned" for trace in door.json("traces", "list")["traces"]
    )


def test_the_line_that_is_told_helps(door: Door, server: ScriptedServer) -> None:
    configure(door, f"    {LINE}\n")
    assert door(GOAL).returncode == 0
    assert ran(door) == 1


def test_a_follower_asks_too_and_before_it_does_anything(door: Door, server: ScriptedServer) -> None:
    learned(door)
    done = door(GOAL, "--mode", "follow", "--yes")
    assert (done.returncode, done.stdout) == (0, "5 letters\n"), done.stderr
    assert ran(door) == 2
    assert_told(door(GOAL, "--mode", "follow"), 4, COMMAND, LINE)
    assert ran(door) == 2


def test_a_rule_that_denies_is_told_with_its_place(door: Door, server: ScriptedServer) -> None:
    configure(door, '    - {deny: "b*"}\n')
    assert_told(door(GOAL, "--yes"), 4, "is not permitted", 'permissions.rules[0]: {deny: "b*"}')
    assert ran(door) == 0


def test_always_at_a_terminal_is_remembered_until_it_is_revoked(door: Door, server: ScriptedServer) -> None:
    learned(door)
    assert door(GOAL, "--mode", "follow", "--yes").returncode == 0
    terminal = Terminal(door.workspace, {**door.env, "PROMPT_TOOLKIT_NO_CPR": "1"}, "interactive")
    try:
        terminal.expect("llmos> ")
        terminal.type(GOAL + "\r")
        shown = terminal.expect("[o]nce / [a]lways for this trace / [N]o")
        assert COMMAND in shown and "it may do anything" in shown
        assert ran(door) == 2
        terminal.type("a\r")
        terminal.expect("5 letters")
        terminal.type("exit\r")
        terminal.wait()
    finally:
        terminal.close()
    assert door(GOAL, "--mode", "follow").returncode == 0
    (kept,) = door.json("approvals", "list")["approvals"]
    assert (kept["tool"], kept["effect"], ran(door)) == ("bash", "unknown", 4)
    assert kept["id"] in door("approvals", "revoke", kept["trace_id"]).stdout
    assert_told(door(GOAL, "--mode", "follow"), 4, "needs an approval")
    assert ran(door) == 4


def test_no_at_a_terminal_is_no(door: Door, server: ScriptedServer) -> None:
    learned(door)
    assert door(GOAL, "--mode", "follow", "--yes").returncode == 0
    terminal = Terminal(door.workspace, {**door.env, "PROMPT_TOOLKIT_NO_CPR": "1"}, GOAL, "--mode", "follow")
    try:
        terminal.expect("[N]o")
        terminal.type("\r")
        assert terminal.wait() == 4
    finally:
        terminal.close()
    assert "was not approved" in terminal.everything
    assert ran(door) == 2


# ------------------------------------------------------------------------------------------------- without a model


def test_check_says_the_verdict_and_the_rule(door: Door) -> None:
    configure(door, '    - {deny: "*", path: private/**}\n    - {allow: read, path: /etc/hostname, effect: read}\n')
    table = [
        (("read", "file_path=a.txt"), "allow", "by default"),
        (("read", "file_path=private/a.txt"), "deny", "permissions.rules[0]"),
        (("read", "file_path=/etc/hostname"), "allow", "permissions.rules[1]"),
        (("read", "file_path=/etc/passwd"), "deny", "outside the workspace"),
        (("bash", "command=cat private/x"), "deny", "permissions.rules[0]"),
        (("bash", "command=make"), "ask", "unknown"),
        (("query_data", "sql=select 1", 'files={"a": "private/a.csv"}'), "deny", "permissions.rules[0]"),
    ]
    for words, verdict, why in table:
        told = door.json("permissions", "check", *words)
        assert (told["verdict"], why in told["why"]) == (verdict, True), told
    done = door("permissions", "check", "bash", "command=make")
    assert done.stdout.splitlines()[-1].endswith(LINE)
    assert_sentence(door("permissions", "check", "bash", "make"), 2, "NAME=VALUE")
    assert_sentence(door("permissions", "check", "no_such_tool"), 2, "no_such_tool")


def test_a_principal_has_the_rules_of_its_roles(door: Door) -> None:
    door.home.mkdir(exist_ok=True)
    (door.home / "llmos.yaml").write_text(
        "permissions:\n  principals: {ci: [quiet]}\n  roles:\n    quiet:\n      - {deny: write}\n"
    )
    assert door.json("permissions", "check", "write", "file_path=a", "content=b")["verdict"] == "allow"
    done = door("permissions", "check", "write", "file_path=a", "content=b", "--json", env={"LLMOS_PRINCIPAL": "ci"})
    assert json.loads(done.stdout)["verdict"] == "deny"
    shown = door("permissions", env={"LLMOS_PRINCIPAL": "ci"})
    assert "ci, roles quiet" in shown.stdout and "{deny: write}" in shown.stdout
    assert "ci (quiet): {deny: write}" in door("doctor", env={"LLMOS_PRINCIPAL": "ci"}).stdout


def test_a_shipped_replay_is_refused_by_a_rule_and_explain_says_so(door: Door) -> None:
    (door.workspace / "sales.csv").write_text("region,amount\nNorth,2\n")
    goal = "Convert sales.csv to sales.json"
    configure(door, '    - {deny: "convert_*", path: "*.json", effect: write}\n')
    told = door("explain", goal)
    assert "deny (llmos.yaml: permissions.rules[0]" in told.stdout
    (said,) = door.json("explain", goal)["permissions"]
    assert (said["tool"], said["effect"], said["verdict"]) == ("convert_data", "write", "deny")
    assert_told(door(goal), 4, "is not permitted")
    assert not (door.workspace / "sales.json").exists()


@pytest.mark.parametrize(
    ("rules", "part"),
    [
        ("    - {allow: read, deny: write}\n", "exactly one of allow, ask, deny"),
        ("    - {path: x}\n", "exactly one of allow, ask, deny"),
        ('    - {deny: "*", path: x, host: y}\n', "a rule for each"),
        ('    - {deny: "*", effect: evil}\n', "must be one of pure, read"),
        ('    - {deny: "*", path: "a/[b"}\n', "never closed"),
        ('    - {forbid: "*"}\n', "there is no key"),
    ],
)
def test_a_rule_that_means_nothing_is_told(door: Door, rules: str, part: str) -> None:
    configure(door, rules)
    assert_told(door("Calculate 2 + 3"), 2, part)


def test_a_role_that_does_not_exist_is_told(door: Door) -> None:
    door.home.mkdir(exist_ok=True)
    (door.home / "llmos.yaml").write_text("permissions: {principals: {ci: [gone]}}\n")
    assert_told(door("Calculate 2 + 3"), 2, "'gone'")


def test_a_tool_that_there_is_not_is_said_wherever_rules_are_looked_at(door: Door) -> None:
    assert_told(door("--mode", "follow", "Sing a song"), 6)  # makes the home
    assert_told(door("permissions", "check", "nosuch"), 2, "there is no tool 'nosuch'")
    assert_told(door("permissions", "check", "read"), 2, "'file_path' is a required property")
    (door.home / "llmos.yaml").write_text(
        "permissions: {rules: [{deny: raed}, {allow: 'gr*p'}, {ask: 'web__*'}], roles: {r: [{deny: wirte}]}}\n"
        "mcp_servers: {web: {command: no-such-server}}\n"
    )
    shown = door("permissions", "show")
    assert shown.returncode == 0
    warned = [line for line in shown.stderr.splitlines() if "no tool is called so" in line]
    assert ["'raed'" in line for line in warned] == [True]
    found = [one for one in door.json("doctor")["findings"] if one["name"] == "permissions"]
    assert [one["state"] for one in found] == ["ok", "missing", "missing"]
    assert ["'raed'" in found[1]["detail"], "'wirte'" in found[2]["detail"]] == [True, True]


def test_what_a_rule_closes_is_not_told_as_missing(door: Door) -> None:
    (door.workspace / "docs").mkdir()
    (door.workspace / "docs" / "a.md").write_text("a")
    (door.workspace / "b.csv").write_text("a,b")
    door.home.mkdir(exist_ok=True)
    (door.home / "llmos.yaml").write_text("permissions: {rules: [{deny: '*', path: 'docs/**'}]}\n")
    for goal in ("List files in docs", "Count *.md files"):
        assert_sentence(door(goal, "--mode", "follow"), 4, "something in docs is closed by a rule")
    assert door("Count *.csv files").returncode == 0


def test_a_rule_does_not_change_what_a_goal_means(door: Door) -> None:
    (door.workspace / "docs").mkdir()
    door.home.mkdir(exist_ok=True)
    (door.home / "llmos.yaml").write_text("permissions: {rules: [{deny: '*', path: docs}]}\n")
    done = door("Count files in docs", "--mode", "follow")
    assert_sentence(done, 4, '"path": "docs"', "is not permitted")
