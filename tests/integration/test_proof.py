"""Re-execution: a learned trace runs again in a copy of the workspace as it was, with its own values and with others.

Real tools, the real follower, the real induction; only the learner's calls are written by hand.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmos.boot import LLMOS
from llmos.errors import LearnerError
from llmos.interfaces.admission import tool_facts
from llmos.kernel.bus import LearnerStarted, ToolCalled
from llmos.kernel.proof import Proof, Prover, renew
from llmos.kernel.scratch import Snapshot
from llmos.plugins.builtin import llmos_tools
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool
from llmos.settings import ProofSettings
from llmos.testing import call, error
from llmos.trace.codec import dumps_yaml, loads_yaml
from llmos.trace.induce import NotATrace, induce
from llmos.trace.program import Status, Trace, Verdict
from llmos.trace.run import StepRecord
from tests.lab import COPY, MakeLab, copying_lab, steps
from tests.unit.trace_lab import Call, run_of


@dataclass
class Bench:
    """A workspace in which goals are solved by script, and the prover that looks at what became of them."""

    workspace: Path
    tools: Sequence[Tool] = ()
    limits: ProofSettings = field(default_factory=ProofSettings)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.registry = ToolRegistry()
        for tool in (*llmos_tools(), *self.tools):
            self.registry.register(tool)
        self.prover = Prover(
            registry=self.registry,
            limits=self.limits,
            memory=self.workspace.parent / "memory",
            context=self.context,
            env=self.env,
            secret=lambda name: "",
        )

    def context(self, run_id: str) -> ToolContext:
        async def think(prompt: str, *, max_tokens: int, model: str | None) -> str:
            self.asked.append(prompt)
            return f"thought {len(self.asked)}"

        return ToolContext(workspace=self.workspace, run_id=run_id, facts=Facts(asked=self.asked), think=think)

    async def env(self, trace: Trace) -> Mapping[str, Any]:
        return {"cwd": str(self.workspace), "today": "2026-11-21"}

    def write(self, path: str, text: str) -> None:
        target = self.workspace / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def learn(self, goal: str, *calls: Call, answer: str = "Done.") -> Proof:
        """Solve a goal by script, and prove the trace that it gives."""
        proof: Proof = asyncio.run(self._learn(goal, calls, answer, self.prover.prove))
        return proof

    def admitted(self, goal: str, *calls: Call, answer: str = "Done.") -> Trace | NotATrace:
        """Solve a goal by script, and admit the trace that it gives."""

        async def admit(trace: Trace, run: Any, snapshot: Snapshot) -> Trace | NotATrace:
            async def narrower(frozen: frozenset[str]) -> Trace | NotATrace:
                return self.induced(run, frozen)

            return await self.prover.admitted(trace, run, snapshot, narrower)

        found: Trace | NotATrace = asyncio.run(self._learn(goal, calls, answer, admit))
        return found

    async def _learn(self, goal: str, calls: Sequence[Call], answer: str, then: Any) -> Any:
        async with self.prover.snapshot() as snapshot:
            run = run_of(goal, *await self._record(calls), answer=answer)
            trace = self.induced(run)
            assert isinstance(trace, Trace), trace.reason
            before = tree(self.workspace)
            found = await then(trace, run, snapshot)
        assert tree(self.workspace) == before, "a proof changed the workspace"
        assert not list(self.workspace.parent.glob("memory/scratch/*")), "a copy was left behind"
        return found

    def induced(self, run: Any, frozen: frozenset[str] = frozenset()) -> Trace | NotATrace:
        facts = {tool.name: tool_facts(tool) for tool in self.registry}
        trace = induce(run, facts, {"cwd": str(self.workspace), "today": "2026-11-21"}, frozen)
        return trace if isinstance(trace, NotATrace) else loads_yaml(dumps_yaml(trace))

    async def _record(self, calls: Sequence[Call]) -> list[StepRecord]:
        records: list[StepRecord] = []
        for tool, made in calls:
            args = made([one.output for one in records]) if callable(made) else made
            known = self.registry.get(tool)
            result = await self.registry.call(tool, args, self.context("r1"))
            records.append(
                StepRecord(
                    index=len(records),
                    tool=tool,
                    args=args,
                    output=result.output,
                    is_error=result.is_error,
                    effect=known.effect,
                    tool_version=known.version,
                )
            )
        return records


@dataclass
class Facts:
    """A memory that notes who asks."""

    asked: list[str]

    async def remember(self, key: str, value: Any) -> None:
        self.asked.append(f"remember {key}")

    async def recall(self, query: str, *, limit: int = 5) -> list[dict[str, Any]]:
        self.asked.append(f"recall {query}")
        return [{"key": query, "value": "blue", "score": 1.0}]


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything in a folder, to the byte and the nanosecond."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_ino, content(path))
        for path in sorted(folder.rglob("*"))
    }


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "workspace").mkdir()
    return Bench(workspace=tmp_path / "workspace")


def with_tools(bench: Bench, *tools: Any) -> Bench:
    return Bench(workspace=bench.workspace, tools=[tool_of(tool) for tool in tools])


TOTALS = (
    (
        "query_data",
        {
            "sql": "SELECT region, sum(amount) AS total FROM data GROUP BY region ORDER BY region",
            "files": {"data": "in/sales.csv"},
            "format": "markdown",
        },
    ),
    ("write", lambda outputs: {"file_path": "out/sales.md", "content": outputs[0]["text"]}),
)


def test_a_good_trace_is_proven_with_its_own_values_and_with_others(bench: Bench) -> None:
    bench.write("in/sales.csv", "region,amount\nNorth,10\nSouth,5\n")
    proof = bench.learn(
        "Total amount by region of in/sales.csv into out/sales.md", *TOTALS, answer="Wrote the totals to out/sales.md"
    )
    assert (proof.verdict, proof.reason) == (Verdict.PASS, "proven by re-execution, also with other names")


def test_the_absolute_path_of_the_workspace_leads_into_the_copy(bench: Bench) -> None:
    source, target = bench.workspace / "a.txt", bench.workspace / "b.txt"
    bench.write("a.txt", "some words")
    proof = bench.learn(
        f"Copy {source} to {target}",
        ("read", {"file_path": str(source)}),
        ("write", lambda outputs: {"file_path": str(target), "content": outputs[0]["text"]}),
        answer=f"Copied it to {target}",
    )
    assert (proof.verdict, proof.reason) == (Verdict.PASS, "proven by re-execution, also with other names")


def test_the_workspaces_path_in_a_program_and_in_an_answer_means_the_workspace(bench: Bench) -> None:
    bench.write("note.txt", "hello there")
    where = str(bench.workspace)
    code = f"import os; result = [open('{where}/note.txt').read(), os.getcwd()]"
    proof = bench.learn(
        "Show my note and where it is", ("python", {"code": code}), answer=f'["hello there", "{where}"]'
    )
    assert (proof.verdict, proof.reason) == (Verdict.PASS, "proven by re-execution")


def test_a_file_edited_in_place_is_edited_under_its_other_name(bench: Bench) -> None:
    bench.write("notes.txt", "red and red")
    proof = bench.learn(
        'Replace "red" by "green" in notes.txt',
        ("edit", {"file_path": "notes.txt", "old_string": "red", "new_string": "green", "replace_all": True}),
        answer='Replaced "red" by "green" in notes.txt',
    )
    assert proof.verdict is Verdict.PASS, proof.reason


def test_each_of_several_files_varies(bench: Bench) -> None:
    bench.write("a.txt", "foo and foo")
    bench.write("b.txt", "a foo")
    change = {"old_string": "foo", "new_string": "bar", "replace_all": True}
    proof = bench.learn(
        'Replace "foo" by "bar" in a.txt and b.txt',
        ("edit", {"file_path": "a.txt", **change}),
        ("edit", {"file_path": "b.txt", **change}),
        answer='Replaced "foo" by "bar" in a.txt and b.txt',
    )
    assert (proof.verdict, "also with other names" in proof.reason) == (Verdict.PASS, True), proof.reason


def test_a_file_named_after_something_it_read_may_not_vary(bench: Bench) -> None:
    bench.write("in/sales.csv", "amount\n10\n5\n")
    bench.write("job.json", '{"target": "sales.txt"}')
    code = "import json; result = json.load(open('job.json'))['target']"
    trace = bench.admitted(
        "Run the job for in/sales.csv",
        ("python", {"code": code}),
        ("query_data", {"sql": "SELECT sum(amount) AS total FROM data", "files": {"data": "in/sales.csv"}}),
        (
            "write",
            lambda outputs: {"file_path": outputs[0]["result"], "content": outputs[1]["text"]},
        ),
    )
    assert isinstance(trace, Trace), trace.reason
    assert (trace.slots, trace.status) == ((), Status.TRUSTED)
    assert "'in/sales.csv' can't vary" in trace.reason
    assert "it still changed sales.txt" in trace.reason


def test_a_name_hidden_in_a_program_is_found(bench: Bench) -> None:
    bench.write("sales.csv", "a\n1\n")
    code = "result = {'name': 'sa' + 'les_report.md', 'text': open(inputs['path']).read()}"
    trace = bench.admitted(
        "Make the report of sales.csv",
        ("python", {"code": code, "inputs": {"path": "sales.csv"}}),
        ("write", lambda outputs: {"file_path": outputs[0]["result"]["name"], "content": outputs[0]["result"]["text"]}),
    )
    assert isinstance(trace, Trace), trace.reason
    assert trace.slots == ()
    assert "it still changed sales_report.md" in trace.reason


def test_a_listing_that_happened_to_begin_with_the_right_file_may_not_stand_for_it(bench: Bench) -> None:
    @llm_tool("first_file", "The first CSV file", {"like": str}, read_only=True, open_world=False)
    def first_file(like: str, ctx: ToolContext) -> dict[str, Any]:
        return {"text": sorted(ctx.workspace.glob("*.csv"))[0].read_text()}

    bench = with_tools(bench, first_file)
    bench.write("a.csv", "1")
    bench.write("b.csv", "2")
    trace = bench.admitted(
        "Put a.csv into out.txt",
        ("first_file", {"like": "a.csv"}),
        ("write", lambda outputs: {"file_path": "out.txt", "content": outputs[0]["text"]}),
        answer="Put a.csv into out.txt",
    )
    assert isinstance(trace, Trace), trace.reason
    assert "{" not in trace.goals[0].replace("{file_path}", ""), trace.goals
    assert "'a.csv' can't vary" in trace.reason


def test_what_only_an_errored_attempt_had_made_is_missed(bench: Bench) -> None:
    @llm_tool("half", "Write a file, then fail", {"path": str}, open_world=False)
    def half(path: str, ctx: ToolContext) -> None:
        ctx.resolve(path, write=True).write_text("left behind")
        raise ValueError("no more")

    bench = with_tools(bench, half)
    found = bench.admitted(
        "Copy stage.txt to copy.txt",
        ("half", {"path": "stage.txt"}),
        ("read", {"file_path": "stage.txt"}),
        ("write", lambda outputs: {"file_path": "copy.txt", "content": outputs[1]["text"]}),
        answer="Copied stage.txt to copy.txt",
    )
    assert isinstance(found, NotATrace)
    assert "refuted by re-execution: it stopped" in found.reason
    assert "there is no file stage.txt" in found.reason


def test_chance_in_what_is_written_makes_a_candidate(bench: Bench) -> None:
    @llm_tool("dice", "Throw dice", {"count": int}, read_only=True, open_world=False)
    def dice(count: int) -> dict[str, Any]:
        return {"text": str([random.random() for _ in range(count)])}

    bench = with_tools(bench, dice)
    trace = bench.admitted(
        "Throw 12 dice into dice.txt",
        ("dice", {"count": 12}),
        ("write", lambda outputs: {"file_path": "dice.txt", "content": outputs[0]["text"]}),
        answer="Thrown into dice.txt",
    )
    assert isinstance(trace, Trace)
    assert trace.status is Status.CANDIDATE
    assert trace.reason == "refuted by re-execution: run again, it left dice.txt different"


def test_chance_in_an_answer_makes_a_candidate(bench: Bench) -> None:
    @llm_tool("dice", "Throw dice", {"count": int}, read_only=True, open_world=False)
    def dice(count: int) -> dict[str, Any]:
        return {"text": str([random.random() for _ in range(count)])}

    trace = with_tools(bench, dice).admitted("Throw 12 dice for me", ("dice", {"count": 12}))
    assert isinstance(trace, Trace)
    assert (trace.status, "it answered differently" in trace.reason) == (Status.CANDIDATE, True)


def test_numbers_dates_and_texts_vary_without_harm(bench: Bench) -> None:
    bench.write("log.txt", "2026-03-01 ok\n2026-03-02 bad\n")
    proof = bench.learn(
        'Put the first 12 lines of log.txt and the word "bad" into bad-2026-03-02.txt',
        ("read", {"file_path": "log.txt", "limit": 12}),
        ("grep", {"pattern": "bad", "path": "log.txt", "output_mode": "content"}),
        ("write", lambda outputs: {"file_path": "bad-2026-03-02.txt", "content": outputs[0]["text"]}),
        answer="Put into bad-2026-03-02.txt",
    )
    assert proof.verdict is Verdict.PASS, proof.reason


def test_a_recorded_answer_of_the_network_stands_in_and_nobody_is_called(bench: Bench) -> None:
    calls: list[str] = []

    @llm_tool("weather", "The weather", {"city": str}, read_only=True, open_world=True)
    def weather(city: str) -> dict[str, Any]:
        calls.append(city)
        return {"text": f"sunny in {city}, {len(calls)}"}

    bench = with_tools(bench, weather)
    proof = bench.learn(
        'Put the weather of "Oslo" into weather.txt',
        ("weather", {"city": "Oslo"}),
        ("write", lambda outputs: {"file_path": "weather.txt", "content": outputs[0]["text"]}),
        answer="Put the weather into weather.txt",
    )
    assert calls == ["Oslo"]
    assert proof.verdict is Verdict.PASS
    assert "answers recorded from weather stood in" in proof.reason
    assert "with other values it stopped: weather looks beyond the workspace" in proof.reason


def test_what_only_looks_beyond_the_workspace_keeps_its_standing_unproven(bench: Bench) -> None:
    @llm_tool("weather", "The weather", {"city": str}, read_only=True, open_world=True)
    def weather(city: str) -> dict[str, Any]:
        return {"text": f"sunny in {city}"}

    trace = with_tools(bench, weather).admitted('Say the weather of "Oslo" now', ("weather", {"city": "Oslo"}))
    assert isinstance(trace, Trace)
    assert (trace.status, trace.reason) == (
        Status.TRUSTED,
        "not proven by re-execution: weather looks beyond the workspace and is not asked again",
    )


def test_no_model_is_asked_and_no_fact_stored_or_looked_up(bench: Bench) -> None:
    proof = bench.learn(
        'Remember "colour" as a poem in poem.txt',
        ("recall", {"query": "colour"}),
        ("think", {"prompt": "Write a poem about blue"}),
        ("remember", lambda outputs: {"key": "colour", "value": outputs[1]["text"]}),
        ("write", lambda outputs: {"file_path": "poem.txt", "content": outputs[1]["text"]}),
        answer="Done: poem.txt",
    )
    assert bench.asked == ["recall colour", "Write a poem about blue", "remember colour"]
    assert proof.verdict is Verdict.PASS, proof.reason


def test_what_writes_beyond_a_copy_is_not_run_again_and_asks(bench: Bench) -> None:
    posted: list[str] = []

    @llm_tool("post", "Write somewhere", {"text": str}, effect="write")
    def post(text: str) -> dict[str, Any]:
        posted.append(text)
        return {"text": "posted"}

    trace = with_tools(bench, post).admitted('Post the news "hello there"', ("post", {"text": "hello there"}))
    assert posted == ["hello there"]
    assert isinstance(trace, Trace)
    assert trace.status is Status.CANDIDATE
    assert "not proven by re-execution: post may change things outside of a copy" in trace.reason


def test_a_writing_tool_that_can_not_know_of_the_copy_is_not_run_again(bench: Bench) -> None:
    @llm_tool("append", "Append to a log", {"text": str}, open_world=False)
    def append(text: str) -> dict[str, Any]:
        with (bench.workspace / "log.txt").open("a") as stream:
            stream.write(text)
        return {"text": "appended"}

    trace = with_tools(bench, append).admitted('Append "hello there" now', ("append", {"text": "hello there"}))
    assert isinstance(trace, Trace)
    assert trace.status is Status.CANDIDATE
    assert (bench.workspace / "log.txt").read_text() == "hello there"


def test_a_command_is_not_run_again(bench: Bench) -> None:
    bench.write("names.txt", "b\na\n")
    trace = bench.admitted("Sort names.txt into s.txt", ("bash", {"command": "sort names.txt >> s.txt"}))
    assert isinstance(trace, Trace)
    assert (trace.status, bench.workspace.joinpath("s.txt").read_text()) == (Status.CANDIDATE, "a\nb\n")
    assert "need a confirmation" in trace.reason


def test_a_large_workspace_keeps_what_reads_and_asks_for_what_writes(bench: Bench) -> None:
    bench.limits = ProofSettings(max_files=2)
    bench.__post_init__()
    for name in ("a.txt", "b.txt", "c.txt"):
        bench.write(name, name)
    reading = bench.admitted("Show the text of a.txt", ("read", {"file_path": "a.txt"}), answer="a.txt")
    writing = bench.admitted("Write note.txt with x", ("write", {"file_path": "note.txt", "content": "x"}))
    assert isinstance(reading, Trace)
    assert isinstance(writing, Trace)
    assert (reading.status, writing.status) == (Status.TRUSTED, Status.CANDIDATE)
    assert "more than 2 files" in reading.reason
    assert "more than 2 files" in writing.reason


def test_a_proof_that_takes_too_long_is_none(bench: Bench) -> None:
    naps: list[float] = []

    @llm_tool("nap", "Sleep", {"name": str}, read_only=True, open_world=False)
    async def nap(name: str) -> dict[str, Any]:
        naps.append(1)
        await asyncio.sleep(0 if len(naps) == 1 else 3600)
        return {"text": "slept"}

    bench.tools, bench.limits = [tool_of(nap)], ProofSettings(timeout_s=0.2)
    bench.__post_init__()
    proof = bench.learn('Take a nap with "Ann" there', ("nap", {"name": "Ann"}))
    assert (proof.verdict, "longer than 0.2 s" in proof.reason) == (Verdict.UNKNOWN, True)


def test_what_others_do_meanwhile_is_not_held_against_a_trace(bench: Bench) -> None:
    bench.write("a.txt", "words")

    def read_while_somebody_logs(outputs: list[Any]) -> dict[str, Any]:
        bench.write("other.log", "somebody else was here")
        return {"file_path": "a.txt"}

    proof = bench.learn(
        "Copy a.txt to b.txt",
        ("read", read_while_somebody_logs),
        ("write", lambda outputs: {"file_path": "b.txt", "content": outputs[0]["text"]}),
        answer="Copied a.txt to b.txt",
    )
    assert proof.verdict is Verdict.PASS, proof.reason


# --- a trace whose tools have changed -----------------------------------------------------------------


def shouting(body: str, **options: Any) -> Tool:
    """A tool in another version for each body."""

    @llm_tool("shout", "Say it louder", {"path": str}, version=body, **options)
    def shout(path: str, ctx: ToolContext) -> dict[str, Any]:
        if body == "writes":
            ctx.resolve("stray.txt", write=True).write_text("!")
        if body == "broken":
            raise ValueError("no more")
        return {"text": ctx.resolve(path).read_text().upper() + ("!" if body == "other" else "")}

    return tool_of(shout)


@pytest.mark.parametrize(
    ("body", "effect", "verdict", "said"),
    [
        ("better", "read", Verdict.PASS, "proven by re-execution"),
        ("broken", "read", Verdict.FAIL, "it stopped"),
        ("other", "read", Verdict.FAIL, "it answered differently"),
        ("writes", "read", Verdict.FAIL, "it also changed stray.txt"),
        ("better", "write", Verdict.UNKNOWN, "may do more than the trace says"),
    ],
)
def test_a_trace_is_proven_again_with_the_tools_there_are_now(
    bench: Bench, body: str, effect: str, verdict: Verdict, said: str
) -> None:
    bench.write("a.txt", "words")
    old = with_tools(bench, shouting("first", effect="read", open_world=False))
    goal, shout = "Shout what a.txt says", ("shout", {"path": "a.txt"})
    run = run_of(goal, *asyncio.run(old._record([shout])), answer="WORDS")
    trace = old.induced(run)
    assert isinstance(trace, Trace)
    new = with_tools(bench, shouting(body, effect=effect, open_world=False))
    before = tree(new.workspace)

    async def proven() -> Proof:
        async with new.prover.snapshot() as now:
            return await new.prover.prove(renew(trace, new.registry), run, now)

    proof = asyncio.run(proven())
    assert (proof.verdict, said in proof.reason) == (verdict, True), proof.reason
    assert [step.tool_version for step in proof.trace.calls] == [body]
    assert tree(new.workspace) == before


# --- the whole way, with the real learner ---------------------------------------------------------------


async def learned(system: LLMOS, goal: str = COPY) -> Trace:
    result = await system.execute(goal)
    assert result.trace_id is not None, result.reason
    return await system.traces.get(result.trace_id.split("@")[0])


async def test_a_learned_trace_is_proven_and_says_so(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    async with lab.boot() as system:
        heard: list[str] = []
        system.bus.subscribe(ToolCalled, lambda event: heard.append(event.tool))
        trace = await learned(system)
        (run,) = await system.runs.list()
        spent = len(system.economy.entries(None))
    assert (trace.status, trace.reason) == (Status.TRUSTED, "proven by re-execution, also with other names")
    assert trace.reason in run.reason
    assert (heard, spent) == (["read", "write"], 3)
    assert sorted(path.name for path in lab.workspace.iterdir()) == ["a.txt", "b.txt"]
    assert list((lab.home / "memory" / "scratch").iterdir()) == []


async def test_proofs_can_be_switched_off(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    lab.configure("proof: {enabled: false}\n")
    async with lab.boot() as system:
        trace = await learned(system)
    assert (trace.status, trace.reason) == (Status.TRUSTED, "")
    assert not (lab.home / "memory" / "scratch").exists()


async def test_a_learner_that_fails_leaves_no_copy_behind(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("write", file_path="b.txt", content="half"), error(500)))
    async with lab.boot() as system:
        with pytest.raises(LearnerError):
            await system.execute(COPY)
    assert list((lab.home / "memory" / "scratch").iterdir()) == []


async def test_an_interrupted_learner_leaves_no_copy_behind(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    async with lab.boot() as system:
        started = asyncio.Event()
        system.bus.subscribe(LearnerStarted, lambda event: started.set())
        learning = asyncio.create_task(system.execute(COPY))
        await started.wait()
        assert len(list((lab.home / "memory").glob("scratch/*"))) == 1
        learning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await learning
    assert list((lab.home / "memory" / "scratch").iterdir()) == []


async def test_what_a_crash_left_is_removed_at_the_next_boot(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    leftover = lab.home / "memory" / "scratch" / "proof-abc" / "before"
    leftover.mkdir(parents=True)
    async with lab.boot():
        assert list((lab.home / "memory" / "scratch").iterdir()) == []
