"""Agents over the command line: listed, chosen, written, taken in, merged and split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from llmos.testing import ScriptedServer, call, say
from tests.door import Door, assert_sentence, assert_told

KEY = "sk-ant-api03-" + "aB3dE5gH7jK9" * 8


def profile(door: Door, name: str, more: str = "", *, own: bool = True) -> None:
    folder = (door.home if own else door.workspace) / "agents"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(f"format: 1\nname: {name}\n{more}")


@pytest.fixture
def resident(door: Door) -> Iterator[Door]:
    door.env["LLMOS_DAEMON"] = "1"
    yield door
    door("down", "--now")


def test_agents_are_listed_and_shown_and_what_is_wrong_is_said(door: Door) -> None:
    profile(door, "coder", "description: Writes code\nbudget_usd: 0.5\n")
    profile(door, "broken", "rules: [{allow: bash}]\n")
    profile(door, "local", own=False)
    done = door("agents")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("coder", "local", "architect", "reviewer"))
    assert "broken.yaml: rules[0] allows something, and a profile can only take away" in done.stderr
    assert door("agents", "list").stdout == done.stdout
    shown = door.json("agents", "show", "coder")
    assert (shown["description"], shown["budget_usd"]) == ("Writes code", 0.5)
    assert door("agents", "show", "coder").stdout.startswith("format: 1\nname: coder\n")
    assert_sentence(door("agents", "show", "nobody"), 2, "there is no agent 'nobody'", "coder")


def test_words_that_are_no_command_of_agents_are_a_goal(door: Door) -> None:
    done = door("agents", "of", "change", "--mode", "follow")
    assert_told(done, 6, "no trace is proven for this goal")


def test_a_goal_is_reached_as_an_agent_with_the_tools_of_its_profile_alone(door: Door) -> None:
    profile(door, "counter", "tools: [calculate]\n")
    profile(door, "reader", "tools: [read]\n", own=False)
    for words in (
        ["Calculate 2 + 3", "--as", "counter"],
        ["--as", "counter", "Calculate 2 + 3"],
        ["run", "--as", "counter", "Calculate 2 + 3"],
    ):
        done = door(*words)
        assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    refused = door("Calculate 2 + 3", "--as", "reader")
    assert_told(refused, 4, "the profile of the agent reader does not list this tool")
    assert_told(door("Calculate 2 + 3", "--as", "nobody"), 2, "there is no agent 'nobody'")
    assert_told(door("Calculate 2 + 3", "--as", "../x"), 2, "no name of an agent")


def test_the_rules_of_a_profile_take_away_what_llmos_yaml_allows(door: Door) -> None:
    door.home.mkdir(exist_ok=True)
    (door.home / "llmos.yaml").write_text("permissions: {rules: [{allow: calculate}]}\n")
    profile(door, "none", "rules: [{deny: calculate}]\n")
    assert door("Calculate 2 + 3").returncode == 0
    assert_told(door("Calculate 2 + 3", "--as", "none"), 4, "none.yaml: rules[0]: {deny: calculate}")


def test_what_was_learned_as_an_agent_is_followed_as_that_agent_only(door: Door) -> None:
    profile(door, "scribe", "instructions: Write as a scribe.\n")
    goal = "Write roses into poem.txt"
    script = [call("write", file_path="poem.txt", content="roses"), call("finish", answer="written"), say("written")]
    with ScriptedServer(script) as server:
        learned = door(goal, "--as", "scribe", env=server.env(door.user))
        assert learned.returncode == 0, learned.stderr
        assert "Write as a scribe." in str(server.conversation[0].body["system"])
    (door.workspace / "poem.txt").unlink()
    assert_told(door(goal, "--mode", "follow"), 6, "no trace is proven")
    assert door.json("explain", goal)["decision"] != "follow"
    assert door.json("explain", goal, "--as", "scribe")["decision"] == "follow"
    assert door(goal, "--mode", "follow", "--as", "scribe").returncode == 0
    assert (door.workspace / "poem.txt").read_text() == "roses"


def test_a_profile_goes_into_a_file_and_comes_back(door: Door) -> None:
    profile(door, "coder", "instructions: |\n  One.\n  Two.\nmemory: {style: plain}\nrules: [{deny: bash}]\n")
    before = door.json("agents", "show", "coder")
    assert door("agents", "export", "coder", "out.yaml").returncode == 0
    assert door("agents", "export", "coder").stdout == (door.workspace / "out.yaml").read_text()
    assert_sentence(door("agents", "export", "coder", "out.yaml"), 2, "out.yaml exists already")
    assert_sentence(door("agents", "import", "out.yaml"), 2, "coder.yaml exists already")
    (door.home / "agents" / "coder.yaml").unlink()
    assert door("agents", "import", "out.yaml").returncode == 0
    assert door.json("agents", "show", "coder") == before
    assert door("agents", "import", "out.yaml", "--force").returncode == 0


def test_what_does_not_fit_or_keeps_a_secret_is_not_taken_in(door: Door) -> None:
    for text, sentence in (
        ("name: a\n", "needs format"),
        ("format: 1\nname: a\nwork: 1\n", "bad.yaml, line 3: there is no key work"),
        (f"format: 1\nname: a\nmemory: {{token: {KEY}}}\n", "memory.token holds"),
        ("format: 1\nname: a\nrules: [{allow: '*'}]\n", "a profile can only take away"),
    ):
        (door.workspace / "bad.yaml").write_text(text)
        done = door("agents", "import", "bad.yaml")
        assert_sentence(done, 2, sentence)
        assert KEY not in done.stderr
    assert_sentence(door("agents", "import", "missing.yaml"), 2, "missing.yaml can't be read")
    assert not (door.home / "agents").exists()


def test_two_agents_become_one_that_may_do_what_both_may(door: Door) -> None:
    profile(
        door, "a", "tools: ['read*', write]\npriority: 4\nbudget_usd: 2\nmemory: {x: 1, y: 2}\ninstructions: Plan.\n"
    )
    profile(door, "b", "tools: ['*']\npriority: 12\nbudget_usd: 1\nmemory: {x: 3}\nrules: [{deny: write}]\n")
    assert_sentence(door("agents", "merge", "a", "b", "--name", "c"), 2, "differ in the fact 'x'", "--prefer a")
    assert_sentence(door("agents", "merge", "a", "b", "--name", "c", "--prefer", "z"), 2, "--prefer takes a or b")
    made = door.json("agents", "merge", "a", "b", "--name", "c", "--prefer", "b")
    assert (made["tools"], made["priority"], made["budget_usd"]) == (["read*", "write"], 12, 1.0)
    assert (made["memory"], made["instructions"], made["rules"]) == ({"x": 3, "y": 2}, "Plan.", [{"deny": "write"}])
    assert door.json("agents", "show", "c") == made
    assert_sentence(door("agents", "merge", "a", "b", "--name", "c", "--prefer", "a"), 2, "exists already")


def test_a_process_in_the_background_is_listed_with_its_agent(resident: Door) -> None:
    profile(resident, "counter", "tools: [calculate]\npriority: 15\nclass: specialist\nbudget_usd: 0.25\n")
    (process,) = resident.json("spawn", "--as", "counter", "Calculate 2 + 3")["processes"]
    assert (process["agent"], process["class"], process["priority"]) == ("counter", "specialist", 15)
    assert process["budget_usd"] == 0.25
    (urgent,) = resident.json("spawn", "--as", "counter", "Calculate 2 + 4", "--priority", "3")["processes"]
    assert urgent["priority"] == 3
    resident("wait", str(process["pid"]), str(urgent["pid"]))
    assert "counter" in resident("ps", "--all").stdout
    assert_sentence(resident("spawn", "--as", "nobody", "Calculate 2 + 3"), 2, "there is no agent 'nobody'")


def test_the_list_has_no_column_of_agents_where_there_is_none(resident: Door) -> None:
    resident("Calculate 2 + 3")
    assert "agent" not in resident("ps", "--all").stdout.splitlines()[0]
    assert resident.json("ps", "--all")["processes"][0]["agent"] is None


def test_an_agent_is_split_by_goals_and_its_budget_is_divided(resident: Door) -> None:
    profile(resident, "counter", "tools: [calculate]\nbudget_usd: 1\n")
    goals = ("Calculate 2 + 3", "Calculate 2 + 4", "Calculate 2 + 5")

    def split(*more: str) -> Any:
        return resident.json("agents", "split", "counter", *goals, *more)["processes"]

    begun = split()
    assert [one["goal"] for one in begun] == [*goals]
    assert {one["agent"] for one in begun} == {"counter"}
    assert [one["budget_usd"] for one in begun] == [0.333334, 0.333333, 0.333333]
    assert [one["budget_usd"] for one in split("--budget", "0.5")] == [0.166667, 0.166667, 0.166666]
    done = resident("wait", *(str(one["pid"]) for one in begun))
    assert done.returncode == 0, done.stderr
    assert [resident.json("runs", "show", one["run_id"])["answer"] for one in begun] == ["5", "6", "7"]
    assert_sentence(resident("agents", "split", "counter", *goals, "--budget", "2"), 2, "more than counter may spend")
    assert_sentence(resident("agents", "split", "nobody", "x"), 2, "there is no agent 'nobody'")


def test_a_split_needs_the_resident_kernel_and_a_schedule_takes_no_agent(door: Door) -> None:
    profile(door, "counter", "budget_usd: 1\n")
    door.env["LLMOS_DAEMON"] = "0"
    assert_sentence(door("agents", "split", "counter", "Calculate 2 + 3"), 2, "needs the resident kernel")
    done = door("schedule", "add", "every 10 minutes", "Calculate 2 + 3", "--as", "counter")
    assert_sentence(done, 2, "works as no agent")


def test_what_still_stands_is_not_told_an_agent_without_its_tools(door: Door) -> None:
    (door.workspace / "d.csv").write_text("a,b\n1,2\n")
    goal = "Convert d.csv to out.parquet"
    for _ in range(3):
        done = door(goal)
        assert done.returncode == 0, done.stderr
    assert "unchanged" in done.stderr
    profile(door, "calc", "tools: [calculate]\n")
    assert_told(door(goal, "--as", "calc", "--mode", "follow"), 4, "the profile of the agent calc does not list")


@pytest.mark.parametrize("rule", ["{deny: write, path: ''}", "{deny: ''}", "{ask: fetch, host: ''}"])
def test_a_rule_that_says_nothing_is_refused(door: Door, rule: str) -> None:
    profile(door, "odd", f"rules: [{rule}]\n")
    assert_sentence(door("agents", "show", "odd"), 2, "rules[0] says nothing after")


def test_two_agents_that_come_to_more_than_one_may_be_are_not_merged(door: Door) -> None:
    for name in ("a", "b"):
        profile(door, name, f"instructions: {name * 15_000}\n")
    profile(door, "c", "description: stays\n")
    assert_sentence(
        door("agents", "merge", "a", "b", "--name", "c", "--force"), 2, "a text of at most 20,000 characters"
    )
    assert door.json("agents", "show", "c")["description"] == "stays"


def test_a_profile_that_is_a_broken_link_hides_what_stands_behind_it(door: Door) -> None:
    profile(door, "rev", "description: of the workspace\n", own=False)
    (door.home / "agents").mkdir(parents=True)
    (door.home / "agents" / "rev.yaml").symlink_to(door.folder / "gone.yaml")
    assert_sentence(door("agents", "show", "rev"), 2, "rev.yaml", "No such file")
    assert "rev.yaml" in door("agents").stderr


def test_only_a_file_is_imported(door: Door) -> None:
    os.mkfifo(door.workspace / "pipe")
    for source in ("/dev/zero", "pipe"):
        assert_sentence(door("agents", "import", source), 2, f"{source} can't be read: it is no regular file")


def test_numbers_that_are_none_are_no_facts(door: Door) -> None:
    for name, value in (("nan", ".nan"), ("huge", "0x" + "f" * 9_000)):
        profile(door, name, f"memory: {{x: {value}}}\n")
        done = door("agents", "show", name)
        assert_sentence(done, 2, f"{name}.yaml", "a text of at most 2,000 characters, a number, true or false")
