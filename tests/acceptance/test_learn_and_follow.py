"""The main job: Claude solves a goal once, plain Python replays it for other values, and nobody is asked again.

The real SDK and CLI talk to a scripted server; tools, MCP servers, DuckDB and FAISS are the real ones.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmos.boot import LLMOS, Question, Result
from llmos.interfaces.claude_learner import ClaudeLearner
from llmos.interfaces.learner import Learned, LearnSession, LearnTask, Thought
from llmos.testing import HashEmbedder, Reply, Request, Turn, call, calls, say, usage
from tests.lab import Lab, MakeLab, Step, finishing, steps

ROOT = Path(__file__).parents[2]
SPEC = "h 0; cx 0 1"


@dataclass(kw_only=True)
class Spy:
    """The real learner, with what the SDK reported as its bills."""

    inner: ClaudeLearner
    name: str = "claude"
    bills: list[float] = field(default_factory=list)

    def check(self) -> None:
        self.inner.check()

    async def solve(self, task: LearnTask, session: LearnSession) -> Learned:
        learned = await self.inner.solve(task, session)
        self.bills.append(learned.cost_usd)
        return learned

    async def think(self, prompt: str, *, max_tokens: int, model: str, max_budget_usd: float) -> Thought:
        return await self.inner.think(prompt, max_tokens=max_tokens, model=model, max_budget_usd=max_budget_usd)


def output(number: int, *path: str) -> Callable[[Request], Any]:
    """What the tool call of that number gave, as the model read it."""

    def look(request: Request) -> Any:
        value = json.loads(request.tool_results[number].text.split("<system-reminder>")[0])
        for key in path:
            value = value[key]
        return value

    return look


def write_text_of(number: int, target: str) -> Step:
    return lambda request: call("write", file_path=target, content=output(number, "text")(request))


@dataclass(frozen=True, kw_only=True)
class Task:
    """A goal to learn, the model's turns, a second goal to follow, and what must be true of both."""

    name: str
    learn: str
    turns: tuple[Step, ...]
    follow: str
    answer: str
    files: dict[str, str] = field(default_factory=dict)
    later: dict[str, str] = field(default_factory=dict)
    expect_learned: dict[str, str] = field(default_factory=dict)
    expect_followed: dict[str, str] = field(default_factory=dict)
    config: str = ""
    plugin: str = ""
    asks: bool = False
    prepare: Callable[[Lab], None] | None = None


def git_repositories(lab: Lab) -> None:
    for name, message in (("alpha", "Plant the first tree"), ("beta", "Build a boat")):
        repo = lab.workspace / name
        repo.mkdir()
        (repo / "file.txt").write_text(message)
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", message]):
            subprocess.run(["git", *who, *words], cwd=repo, check=True, capture_output=True)


MCP = f"""\
mcp_servers:
  time: {{command: {json.dumps(sys.executable)}, args: [-m, mcp_server_time], read_only: [convert_time]}}
  git: {{command: {json.dumps(sys.executable)}, args: [-m, mcp_server_git], read_only: [git_log]}}
"""

TASKS = [
    Task(
        name="totals into a report",
        files={
            "in/sales.csv": "region,amount\nNorth,10\nSouth,5\nNorth,2.5\n",
            "in/march.csv": "region,amount\nWest,7\nEast,1\nWest,1\n",
        },
        learn="Total amount by region of in/sales.csv into out/sales.md",
        turns=(
            call("read", file_path="in/sales.csv", limit=3),
            call(
                "query_data",
                sql="SELECT region, sum(amount) AS total FROM data GROUP BY region ORDER BY region",
                files={"data": "in/sales.csv"},
                format="markdown",
            ),
            write_text_of(1, "out/sales.md"),
            *finishing("Wrote the totals to out/sales.md", source="in/sales.csv", target="out/sales.md"),
        ),
        expect_learned={"out/sales.md": "| region | total |\n| --- | --- |\n| North | 12.5 |\n| South | 5 |\n"},
        follow="Total amount by region of in/march.csv into out/march.md",
        expect_followed={"out/march.md": "| region | total |\n| --- | --- |\n| East | 1 |\n| West | 8 |\n"},
        answer="Wrote the totals to out/march.md",
    ),
    Task(
        name="a file converted",
        files={"a.csv": "id,name\n1,Ada\n2,Bo\n", "b.csv": "id,name\n7,Cy\n8,Di\n9,Ed\n"},
        learn="Make the JSON lines file a.jsonl out of a.csv",
        turns=(call("convert_data", source="a.csv", target="a.jsonl"), say("a.jsonl has 2 rows.")),
        expect_learned={"a.jsonl": '{"id":1,"name":"Ada"}\n{"id":2,"name":"Bo"}\n'},
        follow="Make the JSON lines file b.jsonl out of b.csv",
        expect_followed={"b.jsonl": '{"id":7,"name":"Cy"}\n{"id":8,"name":"Di"}\n{"id":9,"name":"Ed"}\n'},
        answer="b.jsonl has 3 rows.",
    ),
    Task(
        name="every file of a folder",
        files={f"in/{name}.txt": f"text {name}\n" for name in ("ann", "bea", "cid")},
        learn="Copy all text files of in/ to safe/",
        turns=(
            call("glob", pattern="in/*.txt"),
            calls(*(call("read", file_path=f"in/{name}.txt") for name in ("ann", "bea", "cid"))),
            say("unused: three calls in one turn"),
            say("unused: three calls in one turn"),
            *(write_text_of(number, f"safe/{name}.txt") for number, name in enumerate(("ann", "bea", "cid"), 1)),
            say("Copied 3 files."),
        ),
        later={f"in/{name}.txt": f"new {name}\n" for name in ("dan", "eve")},
        expect_learned={f"safe/{name}.txt": f"text {name}\n" for name in ("ann", "bea", "cid")},
        follow="copy all text files of in/ to safe/",
        expect_followed={"safe/dan.txt": "new dan\n", "safe/eve.txt": "new eve\n", "safe/ann.txt": "text ann\n"},
        answer="Copied 5 files.",
    ),
    Task(
        name="two files edited",
        files={"a.txt": "foo and foo\n", "b.txt": "a foo\n", "c.txt": "red apple\n", "d.txt": "red, red\n"},
        learn='Replace "foo" by "bar" in a.txt and b.txt',
        turns=(
            call("edit", file_path="a.txt", old_string="fooo", new_string="bar"),
            calls(
                call("edit", file_path="a.txt", old_string="foo", new_string="bar", replace_all=True),
                call("edit", file_path="b.txt", old_string="foo", new_string="bar", replace_all=True),
            ),
            say("unused: two calls in one turn"),
            *finishing('Replaced "foo" by "bar" in a.txt and b.txt'),
        ),
        expect_learned={"a.txt": "bar and bar\n", "b.txt": "a bar\n"},
        follow='Replace "red" by "green" in c.txt and d.txt',
        expect_followed={"c.txt": "green apple\n", "d.txt": "green, green\n", "a.txt": "bar and bar\n"},
        answer='Replaced "red" by "green" in c.txt and d.txt',
    ),
    Task(
        name="a shell pipeline",
        files={"names.txt": "bo\nada\nbo\n", "fruit.txt": "kiwi\nfig\nkiwi\nkiwi\n"},
        learn="Sort names.txt and drop repeated lines into names_once.txt",
        turns=(call("bash", command="sort -u names.txt > names_once.txt"), say("Done.")),
        expect_learned={"names_once.txt": "ada\nbo\n"},
        follow="Sort fruit.txt and drop repeated lines into fruit_once.txt",
        expect_followed={"fruit_once.txt": "fig\nkiwi\n"},
        answer="Done.",
        asks=True,
    ),
    Task(
        name="a plugin tool",
        plugin=(
            "from plugins import llm_tool\n\n\n"
            '@llm_tool("mix", "Mix paint", {"colours": str, "litres": int}, read_only=True, open_world=False)\n'
            "async def mix(colours: str, litres: int) -> dict:\n"
            '    return {"paint": "+".join(sorted(colours.split())), "millilitres": litres * 1000}\n'
        ),
        learn='Mix "red blue" for 120 litres',
        turns=(call("mix", colours="red blue", litres=120), *finishing("blue+red, 120000 millilitres")),
        follow='Mix "yellow green" for 7 litres',
        answer="green+yellow, 7000 millilitres",
    ),
    Task(
        name="an MCP server's time",
        config=MCP,
        learn='Convert the time "14:30" from "Europe/Berlin" to "Asia/Tokyo"',
        turns=(
            call("time__convert_time", source_timezone="Europe/Berlin", time="14:30", target_timezone="Asia/Tokyo"),
            lambda request: say(output(0, "time_difference")(request)),
        ),
        follow='Convert the time "09:00" from "Asia/Kolkata" to "Asia/Tokyo"',
        answer="+3.5h",
    ),
    Task(
        name="an MCP server's git",
        config=MCP,
        prepare=git_repositories,
        learn="Show the history of alpha/ please",
        turns=(call("git__git_log", repo_path="alpha", max_count=5), lambda request: say(request.tool_results[0].text)),
        follow="Show the history of beta/",
        answer="Build a boat",
    ),
    Task(
        name="a question",
        files={"logs/a.log": "ok\nERROR disk\nok\nERROR net\n", "logs/b.log": "ERROR x\nok\nERROR y\nERROR z\n"},
        learn='How many lines of logs/a.log contain "ERROR"?',
        turns=(
            call("grep", pattern="ERROR", path="logs/a.log", output_mode="count"),
            *finishing('2 lines of logs/a.log contain "ERROR".'),
        ),
        follow='How many lines of logs/b.log contain "ERROR"?',
        answer="logs/b.log:3",
    ),
]


async def yes(question: Question) -> bool:
    return True


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name.replace(" ", "-"))
async def test_learned_once_and_followed_for_nothing(task: Task, make_lab: MakeLab) -> None:
    lab = prepared(task, make_lab)
    spy = Spy(inner=ClaudeLearner(settings=lab.settings()))
    async with LLMOS(settings=lab.settings(), embedder=HashEmbedder(), learner=spy) as system:
        learned = await system.execute(task.learn)
        assert (learned.mode, learned.status) == ("learner", "done")
        assert learned.trace_id is not None, learned.reason
        check_files(lab, task.expect_learned)
    asked = len(lab.server.requests)
    for name, text in task.later.items():
        lab.write(name, text)
    async with lab.boot() as system:  # another process's memory of it
        followed = await system.execute(task.follow, mode="follow", confirm=yes if task.asks else None)
        spent_usd = system.economy.summary().spent_usd
    assert len(lab.server.requests) == asked
    check_follower(followed, learned)
    check_files(lab, task.expect_followed)
    assert task.answer in followed.answer
    assert spent_usd == pytest.approx(sum(spy.bills), abs=1e-6)
    assert spy.bills == [pytest.approx(learned.cost_usd, abs=1e-9)]


def prepared(task: Task, make_lab: MakeLab) -> Lab:
    lab = make_lab(steps(*[priced(turn) for turn in task.turns]))
    for name, text in task.files.items():
        lab.write(name, text)
    if task.config:
        lab.configure(task.config)
    if task.plugin:
        lab.plugin("paint.py", task.plugin)
    if task.prepare is not None:
        task.prepare(lab)
    return lab


def priced(turn: Step) -> Step:
    """The same turn with a usage that is not a round figure."""
    if callable(turn):
        return lambda request: priced_reply(turn(request))
    return priced_reply(turn)


def priced_reply(turn: Turn) -> Turn:
    tokens = usage(input_tokens=12_345, output_tokens=678)
    return dataclasses.replace(turn, usage=tokens) if isinstance(turn, Reply) else turn


def check_follower(followed: Result, learned: Result) -> None:
    assert (followed.mode, followed.status, followed.cost_usd) == ("follower", "done", 0.0)
    assert followed.saved_usd == pytest.approx(learned.cost_usd, abs=1e-6)
    assert followed.trace_id == learned.trace_id
    assert not any(step["is_error"] for step in followed.steps)


def check_files(lab: Lab, expected: dict[str, str]) -> None:
    for name, text in expected.items():
        assert (lab.workspace / name).read_bytes() == text.encode(), name


def command(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """`python boot.py …` as a user types it, in the lab's workspace."""
    argv = [sys.executable, str(ROOT / "boot.py"), "--home", str(lab.home), *words]
    return subprocess.run(argv, cwd=lab.workspace, env=lab.environ(), capture_output=True, text=True, timeout=120)


def test_the_command_learns_and_follows_with_the_real_embedding_model(make_lab: MakeLab) -> None:
    task = TASKS[0]
    lab = prepared(task, make_lab)
    learned = command(lab, task.learn)
    assert (learned.returncode, learned.stdout.strip()) == (0, "Wrote the totals to out/sales.md"), learned.stderr
    assert learned.stderr.splitlines()[-1].startswith("learner")
    asked = len(lab.server.requests)
    followed = command(lab, "--json", task.follow)
    result = json.loads(followed.stdout)
    assert len(lab.server.requests) == asked
    assert (followed.returncode, result["mode"], result["cost_usd"]) == (0, "follower", 0.0)
    assert result["answer"] == task.answer
    check_files(lab, task.expect_learned | task.expect_followed)
    ledger = json.loads(command(lab, "battery", "ledger", "--json").stdout)
    assert "saving" in json.dumps(ledger)
