"""Undo and the journal through the real command line, with processes that are really killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.door import Door, assert_sentence, assert_told
from tests.journal_lab import tree

DYING = """\
import os
import signal
from collections.abc import Mapping

from plugins import FileWrite, ToolContext, llm_tool

PARAMETERS = {"path": str, "text": str, "point": {"enum": ["before", "half", "after", "never"]}}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def named(ctx: ToolContext, arguments: Mapping) -> list:
    return [FileWrite(path=ctx.resolve(arguments["path"], write=True), content=arguments["text"].encode())]


def scribble(ctx: ToolContext, path: str, text: str, point: str) -> str:
    target = ctx.resolve(path, write=True)
    if (ctx.workspace / "live").exists():
        point = "never"
    if point == "before":
        die()
    if point == "half":
        target.write_text(text[: len(text) // 2])
        die()
    target.write_text(text)
    if point == "after":
        die()
    return "written"


llm_tool("jot", "Write text.", PARAMETERS, effect="write", writes=named, version="1")(scribble)
llm_tool("post", "Send text.", PARAMETERS, effect="external", writes=lambda ctx, arguments: (), version="1")(scribble)
llm_tool("daub", "Write text somewhere.", PARAMETERS, effect="unknown", version="1")(scribble)
"""

TRACE = """\
format: 1
id: {tool}-it
goals: ["{title} {{text}} into {{path}} dying {{point}}"]
slots: {{text: quoted, path: path, point: quoted}}
steps:
  - id: write
    tool: write
    args: {{file_path: first.txt, content: written before}}
    effect: write
  - id: last
    tool: {tool}
    args: {{path: "${{{{ path }}}}", text: "${{{{ text }}}}", point: "${{{{ point }}}}"}}
    effect: {effect}
status: trusted
"""

EFFECTS = {"jot": "write", "post": "external", "daub": "unknown"}


@pytest.fixture
def lab(door: Door) -> Door:
    """A door with tools that kill their own process, and trusted traces that call them after a `write`."""
    plugins = door.home / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "dying.py").write_text(DYING, encoding="utf-8")
    for tool, effect in EFFECTS.items():
        text = TRACE.format(tool=tool, title=tool.capitalize(), effect=effect)
        (door.folder / "trace.yaml").write_text(text, encoding="utf-8")
        done = door("traces", "import", "--trust", str(door.folder / "trace.yaml"))
        assert done.returncode == 0, done.stderr
    (door.workspace / "a.txt").write_text("as before", encoding="utf-8")
    return door


def goal(tool: str, point: str) -> str:
    return f'{tool.capitalize()} "some new text" into a.txt dying "{point}"'


def killed(door: Door, tool: str, point: str) -> None:
    done = door("--yes", "--mode", "follow", goal(tool, point))
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stderr)


def effects(door: Door, run: str = "last") -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = door.json("runs", "show", run)["journal"]
    return shown


# --- crashes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("point", "outcome"), [("before", "not-done"), ("after", "done"), ("half", "unknown")])
def test_after_a_crash_a_write_is_judged_by_its_file(lab: Door, point: str, outcome: str) -> None:
    before = tree(lab.workspace)
    killed(lab, "jot", point)
    first, second = effects(lab)
    assert (first["tool"], first["outcome"]) == ("write", "done")
    assert (second["tool"], second["outcome"]) == ("jot", outcome)
    if outcome == "unknown":
        refused = lab("undo")
        assert refused.returncode == 1
        assert all(part in refused.stderr for part in ("a.txt", "journal settle", "`resume 1` goes on with it"))
        run = lab.json("runs", "list")["runs"][0]["id"]
        assert lab("journal", "settle", run, "2", "done").returncode == 0
    assert lab("undo").returncode == 0
    assert tree(lab.workspace) == before


@pytest.mark.parametrize("point", ["before", "half", "after"])
def test_after_a_crash_an_external_effect_is_unknown_and_not_done_again_until_settled(lab: Door, point: str) -> None:
    killed(lab, "post", point)
    (run,) = lab.json("runs", "list")["runs"]
    assert run["status"] == "interrupted"
    told = lab("runs", "show", run["id"]).stdout
    for part in ("post (external): unknown", "path=a.txt", "text=some new text", f"journal settle {run['id']} 2 done"):
        assert part in told
    (unknown,) = lab.json("journal", "list", "--unknown")["effects"]
    assert (unknown["run_id"], unknown["step"]) == (run["id"], 2)
    (lab.workspace / "live").touch()  # from here on the tool does not die
    left = (lab.workspace / "a.txt").read_text()
    again = lab("--yes", "--mode", "follow", goal("post", point))
    assert again.returncode != 0
    assert f"`journal settle {run['id']} 2 done`" in again.stderr
    assert (lab.workspace / "a.txt").read_text() == left
    assert lab("journal", "settle", run["id"], "2", "not-done").returncode == 0
    assert lab("--yes", "--mode", "follow", goal("post", point)).stdout == "written\n"
    assert lab.json("journal", "list", "--unknown")["effects"] == []


def test_the_next_boot_says_once_what_nobody_knows(lab: Door) -> None:
    killed(lab, "post", "after")
    assert "what came of post in run" in lab("tools").stderr
    assert "what came of" not in lab("tools").stderr


def test_after_a_crash_what_an_unknown_tool_left_is_found(lab: Door) -> None:
    killed(lab, "daub", "half")
    _, unknown = effects(lab)
    assert unknown["outcome"] == "unknown"
    assert [one["path"] for one in unknown["files"]] == ["a.txt"]


# --- undo on the command line ------------------------------------------------------------------------


CONVERT = "Convert sales.csv to out/sales.json"


@pytest.fixture
def sales(door: Door) -> Door:
    (door.workspace / "sales.csv").write_text("region,amount\nNorth,1\n", encoding="utf-8")
    return door


def test_a_replay_is_undone_redone_and_undone_again(sales: Door) -> None:
    before = tree(sales.workspace)
    assert sales(CONVERT).returncode == 0
    after = tree(sales.workspace)
    dry = sales("undo", "--dry-run")
    assert dry.stdout.splitlines() == ["would remove out", "would remove out/sales.json"]
    assert tree(sales.workspace) == after
    undone = sales("undo")
    assert undone.stdout.splitlines() == ["removed out", "removed out/sales.json"]
    assert tree(sales.workspace) == before
    (undo,) = sales.json("runs", "list", "--solved-by", "undo")["runs"]
    assert f"`undo {undo['id']}` takes that back" in undone.stderr
    assert sales("undo", undo["id"]).stdout.splitlines() == ["brought back out", "brought back out/sales.json"]
    assert tree(sales.workspace) == after
    assert sales.json("undo")["restore"] == [
        {"path": "out", "action": "remove"},
        {"path": "out/sales.json", "action": "remove"},
    ]
    assert tree(sales.workspace) == before
    assert_sentence(sales("undo"), 2, "not undone already")


def test_an_undo_stands_in_the_audit_log(sales: Door) -> None:
    assert sales(CONVERT).returncode == 0
    assert sales("undo").returncode == 0
    (row,) = sales.json("audit", "tail", "--kind", "undo")["rows"]
    (done,) = sales.json("runs", "list", "--solved-by", "follower")["runs"]
    assert row["body"] == {"undoes": done["id"], "files": ["out", "out/sales.json"]}


def test_a_file_changed_since_is_shown_and_kept(sales: Door) -> None:
    (sales.workspace / "out").mkdir()
    target = sales.workspace / "out" / "sales.json"
    target.write_text("[]\n")
    assert sales(CONVERT).returncode == 0
    target.write_text("mine\n")
    refused = sales("undo")
    assert_told(refused, 1, "out/sales.json: it was changed since the run", "--keep-changed")
    assert "-mine" in refused.stdout
    assert "+[]" in refused.stdout
    told = json.loads(sales("undo", "--json").stdout)
    assert (told["status"], told["conflicts"][0]["path"]) == ("failed", "out/sales.json")
    assert sales("undo", "--dry-run").returncode == 0
    assert "left alone out/sales.json" in sales("undo", "--keep-changed").stdout
    assert target.read_text() == "mine\n"


def test_the_shell_undoes_what_it_did(sales: Door) -> None:
    before = tree(sales.workspace)
    done = sales("interactive", stdin=f"{CONVERT}\nundo --dry-run\nundo\njournal\n")
    assert "would remove out/sales.json" in done.stdout
    assert "convert_data" in done.stdout
    assert tree(sales.workspace) == before


def test_a_file_too_large_to_be_kept_is_not_replaced(sales: Door) -> None:
    (sales.home).mkdir(exist_ok=True)
    (sales.home / "llmos.yaml").write_text("journal: {max_file_bytes: 10}\n")
    (sales.workspace / "out").mkdir()
    target = sales.workspace / "out" / "sales.json"
    target.write_text("[1, 2, 3, 4, 5]\n")
    refused = sales("--mode", "follow", CONVERT)
    assert_told(refused, 4, "out/sales.json has 16 bytes", "journal.max_file_bytes")
    assert target.read_text() == "[1, 2, 3, 4, 5]\n"
    assert sales("journal").stderr == "no effects yet\n"


def test_undo_of_what_never_was(sales: Door) -> None:
    assert_sentence(sales("undo"), 2, "no run has changed anything")
    assert sales("Calculate 2 + 3").returncode == 0
    assert_sentence(sales("undo", "last"), 2, "changed nothing")
    assert_sentence(sales("undo", "nonesuch"), 2, "nonesuch")
    assert_sentence(sales("journal", "settle", "last", "1", "done"), 2, "not unknown")


def test_a_memory_that_cannot_be_written_refuses_before_anything_is_changed(sales: Door, tmp_path: Path) -> None:
    images = sales.home / "memory" / "images"
    (sales.workspace / "out").mkdir()
    (sales.workspace / "out" / "sales.json").write_text("[]\n")
    images.parent.mkdir(parents=True)
    images.write_text("a file where the folder should be")
    refused = sales("--mode", "follow", CONVERT)
    assert_told(refused, 7, "sales.json can't be kept as it is in")
    assert (sales.workspace / "out" / "sales.json").read_text() == "[]\n"


def test_a_second_process_on_the_home_undoes_nothing(sales: Door) -> None:
    assert sales(CONVERT).returncode == 0
    shell = sales.start("interactive", stdin=-1)
    assert shell.stdin is not None
    assert shell.stdout is not None
    with shell:
        shell.stdin.write("Calculate 2 + 3\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == "5\n"
        assert_sentence(sales("undo"), 7, f"process {shell.pid}")
        shell.stdin.close()
    assert (sales.workspace / "out" / "sales.json").exists()
