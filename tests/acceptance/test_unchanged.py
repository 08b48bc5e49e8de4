"""Goals whose earlier run still stands, through the real command line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from llmos.kernel.standing import MAX_HASHED_BYTES
from tests.door import Door, assert_told
from tests.standing_lab import trace_yaml

CONVERT = "Convert in.csv to out.json"
SAME = "Save in.csv as out.json"

NOTING = """\
from collections.abc import Mapping
from pathlib import Path

from plugins import FileRead, ToolContext, llm_tool

READS = {reads}


@llm_tool("rate", "Look a rate up.", {{}}, effect="read", version="{version}"{more})
def rate(ctx: ToolContext) -> dict:
    return {{"text": (ctx.workspace / "rate.txt").read_text()}}
"""

RATE = """\
format: 1
id: note-rate
goals: ["Note rate in {target}"]
slots: {target: path}
steps:
  - id: rate
    tool: rate
    args: {}
    effect: read
  - id: write
    tool: write
    args: {file_path: "${{ target }}", content: "${{ steps.rate.text }}"}
    effect: write
answer: {value: "${{ steps.rate.text }}"}
status: trusted
"""

TODAY = """\
format: 1
id: stamp
goals: ["Stamp {target} with the %s"]
slots: {target: path}
steps:
  - id: write
    tool: write
    args: {file_path: "${{ target }}", content: "${{ env.%s }}"}
    effect: write
status: trusted
"""


@pytest.fixture
def lab(door: Door) -> Door:
    (door.workspace / "in.csv").write_text("a,b\n1,2\n")
    return door


def mode(door: Door, goal: str, *options: str) -> str:
    told: str = door.json("--mode", "follow", *options, goal)["mode"]
    return told


def do(door: Door, goal: str = CONVERT) -> dict[str, Any]:
    """Have a goal really done; its result."""
    result: dict[str, Any] = door.json("--mode", "follow", goal)
    assert result["mode"] == "follower"
    return result


def add(door: Door, text: str) -> None:
    path = door.folder / "trace.yaml"
    path.write_text(text)
    done = door("traces", "import", "--trust", str(path))
    assert done.returncode == 0, done.stderr


def test_the_second_time_it_is_told_as_what_it_is(lab: Door) -> None:
    first = do(lab)
    before = (lab.workspace / "out.json").stat()
    told = lab.json(SAME)
    assert (told["mode"], told["status"], told["of_run"]) == ("unchanged", "done", first["run_id"])
    assert (told["answer"], told["outputs"]) == (first["answer"], first["outputs"])
    assert (told["cost_usd"], told["saved_usd"], told["steps"]) == (0.0, 0.0, [])
    assert told["done_at"] and told["run_id"] != first["run_id"]
    after = (lab.workspace / "out.json").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)

    done = lab(CONVERT)
    head, answer = done.stdout.splitlines()
    assert re.fullmatch(r"Done .* ago \(run \w+\), and nothing has changed since\. Its answer:", head)
    assert answer == first["answer"]
    assert "unchanged · " in done.stderr and "--again does it again" in done.stderr

    explained = lab.json("explain", CONVERT)
    assert (explained["decision"], explained["of_run"]) == ("unchanged", first["run_id"])
    assert explained["reason"].startswith("would answer: done ") and explained["saved_usd"] == 0.0
    assert lab.json("explain", CONVERT, "--again")["decision"] == "follow"
    runs = lab.json("runs", "list", "--solved-by", "unchanged")["runs"]
    assert [run["goal"] for run in runs] == [CONVERT, SAME]
    trace = next(one for one in lab.json("traces", "list")["traces"] if one["id"] == "convert-data")
    assert trace["uses"] == 1


def test_it_is_done_again_when_asked_for(lab: Door) -> None:
    do(lab)
    assert mode(lab, CONVERT, "--again") == "follower"
    assert mode(lab, CONVERT) == "unchanged"


def test_it_is_done_again_where_the_settings_say_so(lab: Door) -> None:
    (lab.home / "llmos.yaml").parent.mkdir(parents=True, exist_ok=True)
    (lab.home / "llmos.yaml").write_text("skip_unchanged: false\n")
    do(lab)
    assert mode(lab, CONVERT) == "follower"


def test_a_touched_input_is_no_changed_one(lab: Door) -> None:
    do(lab)
    os.utime(lab.workspace / "in.csv", (1, 1))
    assert mode(lab, CONVERT) == "unchanged"
    path = lab.workspace / "in.csv"
    path.unlink()
    path.write_text("a,b\n1,2\n")
    assert mode(lab, CONVERT) == "unchanged"


def test_a_changed_input_is_seen_even_with_its_old_size_and_time(lab: Door) -> None:
    path = lab.workspace / "in.csv"
    do(lab)
    before = path.stat()
    path.write_text("a,b\n9,2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert do(lab)["outputs"]["convert"]["rows"] == 1
    assert json.loads((lab.workspace / "out.json").read_text()) == [{"a": 9, "b": 2}]


@pytest.mark.parametrize("harm", ["delete", "edit", "chmod", "link"])
def test_an_output_that_is_not_as_it_was_left_is_made_again(lab: Door, harm: str) -> None:
    do(lab)
    out = lab.workspace / "out.json"
    content = out.read_bytes()
    if harm == "delete":
        out.unlink()
    elif harm == "edit":
        out.write_text("[]")
    elif harm == "chmod":
        out.chmod(0o600)
    else:
        out.rename(lab.workspace / "other.json")
        out.symlink_to("other.json")
    do(lab)
    assert out.read_bytes() == content


def test_an_undone_run_does_not_stand(lab: Door) -> None:
    do(lab)
    out = lab.workspace / "out.json"
    content = out.read_bytes()
    out.write_text("[]")
    do(lab)
    assert lab("undo").returncode == 0
    assert out.read_text() == "[]"
    out.write_bytes(content)  # as the undone run had left it
    do(lab)
    assert lab("undo").returncode == 0
    do(lab)


def test_a_later_run_that_wrote_the_same_file_counts(lab: Door) -> None:
    (lab.workspace / "other.csv").write_text("x\n7\n")
    do(lab)
    do(lab, "Convert other.csv to out.json")
    do(lab)
    assert json.loads((lab.workspace / "out.json").read_text()) == [{"a": 1, "b": 2}]


def test_a_link_that_leads_elsewhere_is_another_input(lab: Door) -> None:
    (lab.workspace / "other.csv").write_text("x\n7\n")
    link = lab.workspace / "link.csv"
    link.symlink_to("in.csv")
    goal = "Convert link.csv to out.json"
    do(lab, goal)
    assert mode(lab, goal) == "unchanged"
    link.unlink()
    link.symlink_to("other.csv")
    do(lab, goal)


def test_a_folder_of_results_that_leads_elsewhere_gets_its_own(lab: Door) -> None:
    goal = "Convert in.csv to out/x.json"
    for name in ("one", "two"):
        (lab.workspace / name).mkdir()
    out = lab.workspace / "out"
    out.symlink_to("one")
    do(lab, goal)
    out.unlink()
    out.symlink_to("two")
    do(lab, goal)
    assert (lab.workspace / "two" / "x.json").exists()


def test_a_folder_is_read_by_its_names(lab: Door) -> None:
    add(lab, trace_yaml("names"))
    folder = lab.workspace / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    goal = "Names of data into list.txt"
    do(lab, goal)
    (folder / "a.txt").write_text("another content")
    assert mode(lab, goal) == "unchanged"
    (folder / "b.txt").write_text("")
    assert "b.txt" in do(lab, goal)["answer"]
    (folder / "a.txt").unlink()
    assert "a.txt" not in do(lab, goal)["answer"]


def test_a_run_that_changes_what_it_reads_never_stands(lab: Door) -> None:
    add(lab, trace_yaml("edit"))
    path = lab.workspace / "n.txt"
    for _ in range(2):
        path.write_text("one\n")
        do(lab, "Swap one in n.txt")
    assert path.read_text() == "two\n"


def test_an_answer_that_shows_whether_a_file_is_new_is_only_told_once_it_is_not(lab: Door) -> None:
    add(lab, trace_yaml("fresh"))
    goal = "Write new.txt from in.csv"
    assert do(lab, goal)["answer"] == "made: true"
    assert do(lab, goal)["answer"] == "made: false"
    told = lab.json("--mode", "follow", goal)
    assert (told["mode"], told["answer"]) == ("unchanged", "made: false")


def test_chance_in_a_query_is_asked_each_time(lab: Door) -> None:
    add(lab, trace_yaml("draw"))
    goal = "Draw from in.csv into out.txt"
    assert do(lab, goal)["answer"] != do(lab, goal)["answer"]


def test_what_only_reads_is_done_again(lab: Door) -> None:
    do(lab, "Count lines in in.csv")
    do(lab, "Count lines in in.csv")


def rate_plugin(door: Door, *, version: str = "1", more: str = "") -> None:
    folder = door.home / "plugins"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rates.py").write_text(NOTING.format(reads="None", version=version, more=more))


GOAL = "Note rate in noted.txt"
DECLARED = ', reads=lambda ctx, arguments: [FileRead(path=ctx.resolve("rate.txt"))]'


def test_a_tool_that_does_not_say_what_it_reads_is_called_each_time(lab: Door) -> None:
    (lab.workspace / "rate.txt").write_text("1.1")
    rate_plugin(lab)
    add(lab, RATE)
    do(lab, GOAL)
    do(lab, GOAL)


def test_a_plugin_may_say_what_it_reads(lab: Door) -> None:
    (lab.workspace / "rate.txt").write_text("1.1")
    rate_plugin(lab, more=DECLARED)
    add(lab, RATE)
    do(lab, GOAL)
    assert mode(lab, GOAL) == "unchanged"
    (lab.workspace / "rate.txt").write_text("1.2")
    assert do(lab, GOAL)["answer"] == "1.2"


def test_a_changed_plugin_is_called_again(lab: Door) -> None:
    (lab.workspace / "rate.txt").write_text("1.1")
    rate_plugin(lab, more=DECLARED)
    add(lab, RATE)
    do(lab, GOAL)
    rate_plugin(lab, more=DECLARED, version="2")
    do(lab, GOAL)


def test_what_is_read_elsewhere_counts_for_as_long_as_its_tool_says(lab: Door) -> None:
    (lab.workspace / "rate.txt").write_text("1.1")
    rate_plugin(lab, more=", valid_for_s=3600")
    add(lab, RATE)
    do(lab, GOAL)
    (lab.workspace / "rate.txt").write_text("1.2")
    assert mode(lab, GOAL) == "unchanged"
    rate_plugin(lab, more=", valid_for_s=0.001")
    assert mode(lab, GOAL, "--again") == "follower"
    (lab.workspace / "rate.txt").write_text("1.3")
    assert do(lab, GOAL)["answer"] == "1.3"


def test_the_day_counts_and_the_moment_never_does(lab: Door) -> None:
    add(lab, TODAY % ("date", "today"))
    do(lab, "Stamp day.txt with the date")
    assert mode(lab, "Stamp day.txt with the date") in ("unchanged", "follower")  # follower: at midnight
    add(lab, (TODAY % ("time", "now")).replace("id: stamp", "id: stamp-now"))
    do(lab, "Stamp now.txt with the time")
    do(lab, "Stamp now.txt with the time")


def test_after_a_rejection_nothing_of_the_trace_stands(lab: Door) -> None:
    do(lab)
    told = lab.json(CONVERT)
    assert told["mode"] == "unchanged"
    assert lab("traces", "reject", "last").returncode == 0
    again = lab("--mode", "follow", "--yes", SAME, "--json")
    assert json.loads(again.stdout)["mode"] == "follower"


def test_a_confirmation_is_asked_for_and_the_goal_then_done(lab: Door) -> None:
    do(lab)
    add(lab, trace_yaml("names").replace("status: trusted", "status: candidate"))
    assert lab("traces", "confirm", "last").returncode == 0
    assert mode(lab, CONVERT) == "unchanged"


def test_a_file_that_changes_while_the_goal_is_done_makes_the_run_void(lab: Door) -> None:
    (lab.workspace / "rate.txt").write_text("1.1")
    rate_plugin(lab, more=DECLARED)
    plugin = lab.home / "plugins" / "rates.py"
    reading = '    text = (ctx.workspace / "rate.txt").read_text()\n'
    writing = '    (ctx.workspace / "rate.txt").write_text("2.2")\n    return {"text": text}\n'
    plugin.write_text(plugin.read_text().partition("    return {")[0] + reading + writing)
    add(lab, RATE)
    assert do(lab, GOAL)["answer"] == "1.1"
    assert do(lab, GOAL)["answer"] == "2.2"


def test_a_large_result_stands_as_well(lab: Door) -> None:
    rows = "".join(f"{number},{number * 7}\n" for number in range(2_500_000))
    (lab.workspace / "in.csv").write_text(f"a,b\n{rows}")
    do(lab)
    assert (lab.workspace / "out.json").stat().st_size > MAX_HASHED_BYTES
    assert mode(lab, CONVERT) == "unchanged"
    (lab.workspace / "out.json").write_text("[]")
    do(lab)


def test_the_shell_offers_to_do_it_again(lab: Door) -> None:
    do(lab)
    done = lab("interactive", stdin=f"{CONVERT}\nagain\nexit\n")
    assert "nothing has changed since" in done.stdout and "`again` does it again" in done.stderr
    modes = [run["mode"] for run in lab.json("runs", "list")["runs"]]
    assert modes == ["follower", "unchanged", "follower"]
    assert_told(lab("interactive", stdin="again\n"), 0, "no goal was stated yet")


def test_another_workspace_has_runs_of_its_own(lab: Door, tmp_path: Path) -> None:
    do(lab)
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "in.csv").write_text("a,b\n1,2\n")
    assert lab.json("--workspace", str(other), CONVERT)["mode"] == "follower"


def test_a_hard_link_more_is_a_change(lab: Door) -> None:
    do(lab)
    os.link(lab.workspace / "out.json", lab.workspace / "second.json")
    do(lab)
