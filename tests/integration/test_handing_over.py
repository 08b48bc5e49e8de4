"""A replay that diverges is handed over: the learner goes on from exactly there, and nothing is done twice.

The real CLI talks to the scripted server; tools, follower, proofs and memory are the real ones.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from llmos.boot import LLMOS, Question, Result
from llmos.errors import DivergenceError, LearnerError
from llmos.interfaces.render import run as rendered
from llmos.kernel.bus import Diverged, HandedOver, Rejoined
from llmos.plugins.tool import ToolCall, ToolResult
from llmos.testing import Reply, Request, Turn, call, error, say, slow, usage
from llmos.trace.codec import loads_yaml
from llmos.trace.program import Status, Trace
from llmos.trace.run import Origin, Run, RunStatus
from tests.lab import Lab, MakeLab, Step, finishing, steps, until

NOTE = """\
from plugins import llm_tool

@llm_tool("note", "Append a line to a file", {"path": str, "line": str}, effect="write", open_world=False, version="1")
def note(ctx, path: str, line: str) -> dict:
    with ctx.resolve(path, write=True).open("a") as file:
        file.write(line + "\\n")
    return {"text": f"noted {line}"}
"""
GOAL = 'Note "started" in log.txt, then put the total amount by region of in/sales.csv into out/sales.md'
SQL = "SELECT region, sum({}) AS total FROM data GROUP BY region ORDER BY region"
SALES = "region,amount\nNorth,10\nSouth,5\n"
PRICES = "region,price\nNorth,7\nSouth,1\n"
REPORT = "| region | total |\n| --- | --- |\n| North | {} |\n| South | {} |\n"
DEAR = usage(input_tokens=20_000, output_tokens=900)
CHEAP = usage(input_tokens=900, output_tokens=60)
TAKEN = "You go on from exactly there"


def text_of(request: Request, number: int = -1) -> str:
    """The text that a call gave, as the model read it."""
    text: str = json.loads(request.tool_results[number].text.split("<system-reminder>")[0])["text"]
    return text


def noting() -> Reply:
    return call("note", path="log.txt", line="started")


def querying(column: str = "amount") -> Reply:
    return call("query_data", sql=SQL.format(column), files={"data": "in/sales.csv"}, format="markdown")


def writing(target: str = "out/sales.md", number: int = -1) -> Step:
    return lambda request: call("write", file_path=target, content=text_of(request, number))


LEARN: tuple[Step, ...] = (noting(), querying(), writing(), *finishing("Wrote out/sales.md"))


def handing_lab(
    make_lab: MakeLab, *taken: Step, learn: Sequence[Step] = LEARN, plugin: str = NOTE, config: str = ""
) -> Lab:
    """The learner learns GOAL dearly; where it takes over it makes the given turns."""
    first, second = steps(*learn), steps(*taken) if taken else None

    def script(request: Request) -> Turn:
        over = TAKEN in request.prompt
        assert not over or second is not None, "nobody should take over"
        turn = second(request) if over and second is not None else first(request)
        return (
            Reply(text=turn.text, calls=turn.calls, usage=CHEAP if over else DEAR) if isinstance(turn, Reply) else turn
        )

    lab = make_lab(script)
    lab.configure(config)
    lab.plugin("note.py", plugin)
    lab.write("in/sales.csv", SALES)
    return lab


async def learned(system: LLMOS, goal: str = GOAL) -> Trace:
    result = await system.execute(goal)
    assert result.trace_id is not None, result.reason
    trace = await system.traces.get(result.trace_id.split("@")[0])
    assert trace.status is Status.TRUSTED, trace.reason
    return trace


async def shown(system: LLMOS, result: Result) -> Run:
    return await system.runs.get(result.run_id)


def origins(run: Run) -> list[tuple[str, str]]:
    return [(step.tool, str(step.origin)) for step in run.steps]


async def yes(question: Question) -> bool:
    return True


# --- the first, a middle and the last step ------------------------------------------------------------


async def test_the_learner_goes_on_after_an_effect_and_the_whole_becomes_a_proven_version(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab, querying("price"), writing(), *finishing("Wrote out/sales.md"))
    heard: list[Any] = []
    async with lab.boot() as system:
        trace = await learned(system)
        first = system.economy.spent_usd
        lab.write("in/sales.csv", PRICES)
        for kind in (Diverged, HandedOver):
            system.bus.subscribe(kind, heard.append)
        result = await system.execute(GOAL)
        booked = system.economy.spent_usd - first
        run = await shown(system, result)
        record = await system.outcomes.record(trace.id)
        newest = await system.traces.get(trace.id)
        saving = next(row for row in system.economy.entries(None) if row.kind == "saving")
        assert (lab.read("log.txt"), lab.read("out/sales.md")) == ("started\nstarted\n", REPORT.format(7, 1))
        again = await system.execute(GOAL)
    assert [(type(event).__name__, event.step_id) for event in heard[:2]] == [
        ("Diverged", "query_data"),
        ("HandedOver", "query_data"),
    ]
    assert (result.mode, result.status, result.answer) == ("follower+learner", "done", "Wrote out/sales.md")
    assert origins(run) == [
        ("note", "replayed"),
        ("query_data", "replayed"),
        ("query_data", "learner"),
        ("write", "learner"),
    ]
    assert [step.index for step in run.steps] == [0, 1, 2, 3]
    assert run.handover is not None
    assert (run.handover.trace, run.handover.step_id, run.handover.rejoined) == (trace.label, "query_data", None)
    assert 0 < result.cost_usd == pytest.approx(booked, abs=1e-6) == pytest.approx(run.cost_usd, abs=1e-6)
    assert result.saved_usd == pytest.approx(trace.cost_usd - booked, abs=1e-6)
    assert saving.saved_microusd == round(result.saved_usd * 1e6)
    assert (record.failing, round(record.failures, 3)) == (1, 1.0)
    assert [step.tool for step in newest.calls] == ["note", "query_data", "write"]
    assert (newest.version, newest.status) == (2, Status.TRUSTED)
    assert "proven by re-execution" in newest.reason
    assert (again.mode, again.cost_usd, again.trace_id) == ("follower", 0.0, newest.label)
    assert lab.read("log.txt") == "started\n" * 3


async def test_the_learner_is_told_where_it_stands(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab, querying("price"), writing(), *finishing("Wrote out/sales.md"))
    async with lab.boot() as system:
        await learned(system)
        lab.write("in/sales.csv", PRICES)
        asked = len(lab.server.conversation)
        await system.execute(GOAL)
    request = lab.server.conversation[asked]
    assert request.prompt.splitlines()[0] == GOAL
    for said in (
        "= in/sales.csv",
        '! [note] note {"path": "log.txt", "line": "started"} gave «data ',
        "must not be done again",
        "It stopped at [query_data].",
        "Expected there: a result",
        "Binder Error: ",
        "1. [query_data] query_data",
        "2. [write] write",
        "for nothing: [query_data], [write].",
    ):
        assert said in request.prompt, request.prompt
    assert any(str(name).endswith("rejoin") for name in request.tools)


async def test_a_divergence_at_the_first_step_before_anything_was_done(make_lab: MakeLab) -> None:
    learn = (querying(), writing(), *finishing("Wrote out/sales.md"))
    lab = handing_lab(make_lab, querying("price"), writing(), *finishing("Wrote out/sales.md"), learn=learn)
    goal = "Put the total amount by region of in/sales.csv into out/sales.md"
    async with lab.boot() as system:
        trace = await learned(system, goal)
        lab.write("in/sales.csv", PRICES)
        result = await system.execute(goal)
        newest = await system.traces.get(trace.id)
        again = await system.execute(goal)
    assert (result.mode, result.saved_usd) == ("follower+learner", 0.0)
    assert "Nothing of it is done yet." in lab.server.conversation[-1].prompt
    assert [step.tool for step in newest.calls] == ["query_data", "write"]
    assert (again.mode, again.cost_usd) == ("follower", 0.0)


async def test_a_divergence_at_the_last_step(make_lab: MakeLab) -> None:
    lab = handing_lab(
        make_lab,
        lambda request: call("write", file_path="out/new.md", content=REPORT.format(10, 5)),
        *finishing("Wrote out/new.md"),
    )
    async with lab.boot() as system:
        trace = await learned(system)
        (lab.workspace / "out/sales.md").unlink()
        (lab.workspace / "out/sales.md").mkdir()
        result = await system.execute(GOAL)
        run = await shown(system, result)
        versions = await system.traces.versions(trace.id)
    assert origins(run)[-2:] == [("write", "replayed"), ("write", "learner")]
    assert lab.read("log.txt") == "started\n" * 2
    tools = [[step.tool for step in one.trace.calls] for one in versions if one.trace is not None]
    assert all(calls[0] == "note" for calls in tools)


# --- nothing is done twice ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["log.txt", "./log.txt"])
async def test_an_effect_that_is_asked_for_again_is_not_done_again(make_lab: MakeLab, path: str) -> None:
    again = call("note", path=path, line="started")
    lab = handing_lab(make_lab, again, again, querying("price"), writing(), *finishing("Wrote out/sales.md"))
    async with lab.boot() as system:
        trace = await learned(system)
        (lab.workspace / "log.txt").unlink()
        lab.write("in/sales.csv", PRICES)
        result = await system.execute(GOAL)
        run = await shown(system, result)
        newest = await system.traces.get(trace.id)
        story = rendered(run)
    assert lab.read("log.txt") == "started\n"
    assert origins(run)[2:4] == [("note", "recorded"), ("note", "recorded")]
    assert run.steps[2].output == run.steps[0].output
    assert [step.tool for step in newest.calls] == ["note", "query_data", "write"]
    assert newest.version == 2
    assert "replayed from" in story
    assert "diverged at [query_data]: expected a result, found Binder Error: " in story
    assert "the learner went on" in story
    assert "not done again, it gave: " in story


TWICE = 'Note "tick" in log.txt, sum the amount of in/sales.csv, and note "tick" in log.txt once more'


async def test_a_call_that_is_due_once_more_is_no_repetition(make_lab: MakeLab) -> None:
    tick = call("note", path="log.txt", line="tick")
    total = call("query_data", sql="SELECT sum(amount) AS total FROM data", files={"data": "in/sales.csv"})
    repaired = call("write", file_path="in/sales.csv", content=SALES)
    lab = handing_lab(
        make_lab,
        tick,
        repaired,
        call("rejoin", step="query_data"),
        say("Done."),
        learn=(tick, total, tick, *finishing("Done.")),
    )
    async with lab.boot() as system:
        result = await system.execute(TWICE)
        assert result.trace_id is not None, result.reason
        await system.feedback.trust(await system.traces.get(result.trace_id.split("@")[0]))
        lab.write("in/sales.csv", PRICES)
        (lab.workspace / "log.txt").unlink()
        taken = await system.execute(TWICE)
        run = await shown(system, taken)
    refused = next(step for step in run.steps if step.origin is Origin.LEARNER)
    assert refused.is_error
    assert "the rest of the plan makes it once more, at [note_2]" in refused.output
    assert lab.read("log.txt") == "tick\ntick\n"
    assert run.status is RunStatus.DONE


# --- rejoining ----------------------------------------------------------------------------------------


async def test_the_rest_is_replayed_once_what_stood_in_the_way_is_gone(make_lab: MakeLab) -> None:
    repaired = call("write", file_path="in/sales.csv", content=SALES)
    lab = handing_lab(make_lab, repaired, call("rejoin", step="query_data"), say("All done, in my own words."))
    rejoined: list[str] = []
    async with lab.boot() as system:
        trace = await learned(system)
        (lab.workspace / "out/sales.md").unlink()
        lab.write("in/sales.csv", PRICES)
        system.bus.subscribe(Rejoined, lambda event: rejoined.append(event.step_id))
        result = await system.execute(GOAL)
        run = await shown(system, result)
        record = await system.outcomes.record(trace.id)
        story = rendered(run)
    assert (rejoined, lab.read("out/sales.md"), lab.read("log.txt")) == (
        ["query_data"],
        REPORT.format(10, 5),
        "started\nstarted\n",
    )
    assert result.answer == "Wrote out/sales.md", "the answer is the trace's, from this run's outputs"
    assert origins(run) == [
        ("note", "replayed"),
        ("query_data", "replayed"),
        ("write", "learner"),
        ("query_data", "rejoined"),
        ("write", "rejoined"),
    ]
    assert run.handover is not None
    assert run.handover.rejoined == "query_data"
    assert (record.failing, record.successes) == (1, 0.0)
    assert "replayed from [query_data] on" in story


async def test_what_the_learner_found_stands_in_for_the_step_it_leaves_out(make_lab: MakeLab) -> None:
    lab = handing_lab(
        make_lab,
        call("read", file_path="in/sales.csv"),
        querying("price"),
        call("rejoin", step="write"),
        call("rejoin", step="[write]", outputs={"query_data": 2}),
        say("Done."),
    )
    async with lab.boot() as system:
        trace = await learned(system)
        lab.write("in/sales.csv", PRICES)
        result = await system.execute(GOAL)
        run = await shown(system, result)
        newest = await system.traces.get(trace.id)
        again = await system.execute(GOAL, mode="follow")
    told = [one.text for one in lab.server.conversation[-2].tool_results]
    assert "[query_data] would have given" in told[2]
    assert "2 query_data" in told[2]
    assert lab.read("out/sales.md") == REPORT.format(7, 1)
    assert origins(run)[-1] == ("write", "rejoined")
    assert [step.tool for step in newest.calls] == ["note", "query_data", "write"]
    assert (again.cost_usd, again.trace_id) == (0.0, newest.label)


async def test_a_call_of_another_tool_stands_in_for_nothing(make_lab: MakeLab) -> None:
    lab = handing_lab(
        make_lab,
        call("glob", pattern="in/*"),
        call("rejoin", step="write", outputs={"query_data": 1}),
        call("rejoin", step="nowhere"),
        querying("price"),
        writing(),
        *finishing("Wrote out/sales.md"),
    )
    async with lab.boot() as system:
        await learned(system)
        lab.write("in/sales.csv", PRICES)
        result = await system.execute(GOAL)
    told = [one.text for one in lab.server.conversation[-1].tool_results]
    assert "[query_data] is a call of query_data, and your call 1 was one of glob" in told[1]
    assert "only at query_data, write" in told[2]
    assert (result.status, lab.read("out/sales.md")) == ("done", REPORT.format(7, 1))


async def test_a_second_divergence_leaves_the_rest_to_the_learner(make_lab: MakeLab) -> None:
    lab = handing_lab(
        make_lab,
        call("rejoin", step="query_data"),
        call("rejoin", step="query_data"),
        querying("price"),
        writing(),
        *finishing("Wrote out/sales.md"),
    )
    async with lab.boot() as system:
        trace = await learned(system)
        lab.write("in/sales.csv", PRICES)
        result = await system.execute(GOAL)
        run = await shown(system, result)
        record = await system.outcomes.record(trace.id)
        summary = next(one for one in await system.traces.list() if one.id == trace.id)
    told = [one.text for one in lab.server.conversation[-1].tool_results]
    assert "it stopped again" in told[0]
    assert "replayed once already" in told[1]
    assert (result.status, record.failing, summary.failures) == ("done", 1, 1)
    assert origins(run)[2] == ("query_data", "rejoined")
    assert lab.read("log.txt") == "started\n" * 2


async def test_the_learners_own_effect_stands_for_the_same_step_of_the_rest(make_lab: MakeLab) -> None:
    learn = (querying(), noting(), call("note", path="log.txt", line="ended"), *finishing("Done."))
    goal = 'Total the amount by region of in/sales.csv, note "started" in log.txt, then note "ended" in log.txt'
    lab = handing_lab(
        make_lab,
        noting(),
        querying("price"),
        call("rejoin", step="note"),
        say("Done."),
        learn=learn,
    )
    async with lab.boot() as system:
        result = await system.execute(goal)
        await system.feedback.trust(await system.traces.get(str(result.trace_id).split("@")[0]))
        (lab.workspace / "log.txt").unlink()
        lab.write("in/sales.csv", PRICES)
        taken = await system.execute(goal)
        run = await shown(system, taken)
    assert lab.read("log.txt") == "started\nended\n"
    assert origins(run)[-2:] == [("note", "recorded"), ("note", "rejoined")]


async def test_a_learner_that_is_cut_off_after_the_rest_was_replayed_has_done_its_part(make_lab: MakeLab) -> None:
    repaired = call("write", file_path="in/sales.csv", content=SALES)
    lab = handing_lab(make_lab, repaired, call("rejoin", step="query_data"), error(418, "broken"))
    async with lab.boot() as system:
        await learned(system)
        lab.write("in/sales.csv", PRICES)
        result = await system.execute(GOAL)
    assert (result.status, result.answer) == ("done", "Wrote out/sales.md")
    assert result.cost_usd > 0


# --- loops --------------------------------------------------------------------------------------------

LOOP = "Note each name of names.csv in log.txt"


def loop_learning() -> tuple[Step, ...]:
    named = call("query_data", sql="SELECT name FROM data", files={"data": "names.csv"})
    each = [call("note", path="log.txt", line=name) for name in ("Ada", "Bob", "Cid")]
    return (named, *each, *finishing("Noted 3 names."))


PICKY = NOTE.replace(
    "    with ctx", '    if line == "Eve":\n        raise RuntimeError("no room for " + line)\n    with ctx'
)


def loop_lab(make_lab: MakeLab, *taken: Step) -> Lab:
    lab = handing_lab(make_lab, *taken, learn=loop_learning(), plugin=PICKY)
    lab.write("names.csv", "name\nAda\nBob\nCid\n")
    return lab


async def loop_trace(system: LLMOS, lab: Lab) -> Trace:
    result = await system.execute(LOOP)
    trace = await system.traces.get(str(result.trace_id).split("@")[0])
    assert [type(node).__name__ for node in trace.steps] == ["Step", "Loop"]
    await system.feedback.trust(trace)
    (lab.workspace / "log.txt").unlink()
    lab.write("names.csv", "name\nDan\nEve\nFay\nGus\n")
    return trace


async def test_inside_a_loop_the_entries_that_are_done_stay_done(make_lab: MakeLab) -> None:
    other = call("note", path="log.txt", line="Eve!")
    lab = loop_lab(make_lab, call("note", path="log.txt", line="Dan"), other, call("rejoin", step="note[2]"), say("."))
    async with lab.boot() as system:
        await loop_trace(system, lab)
        result = await system.execute(LOOP)
        run = await shown(system, result)
    prompt = lab.server.conversation[-1].prompt
    assert lab.read("log.txt") == "Dan\nEve!\nFay\nGus\n"
    assert "[note[0]] note" in prompt
    assert "It stopped at [note[1]]." in prompt
    assert "for each entry left of [rows]:" in prompt
    assert "Fay" in prompt
    assert "may or may not have happened: look before you act" in prompt
    assert "[note[1]], [note[2]]" in prompt
    assert origins(run)[1:] == [
        ("note", "replayed"),
        ("note", "replayed"),
        ("note", "recorded"),
        ("note", "learner"),
        ("note", "rejoined"),
        ("note", "rejoined"),
    ]


async def test_inside_a_loop_the_learner_may_do_the_rest_itself(make_lab: MakeLab) -> None:
    left = [call("note", path="log.txt", line=name) for name in ("Eve!", "Fay", "Gus")]
    lab = loop_lab(make_lab, *left, *finishing("Noted 4 names."))
    async with lab.boot() as system:
        trace = await loop_trace(system, lab)
        result = await system.execute(LOOP)
        versions = await system.traces.versions(trace.id)
    assert lab.read("log.txt") == "Dan\nEve!\nFay\nGus\n"
    assert result.status == "done"
    assert all(one.trace is None or one.trace.calls[0].tool == "query_data" for one in versions)


# --- nobody can go on, or does not ---------------------------------------------------------------------


async def test_a_learner_that_fails_leaves_an_account_and_no_trace(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab, call("note", path="log.txt", line="on my own"), error(418, "broken"))
    async with lab.boot() as system:
        trace = await learned(system)
        spent = system.economy.spent_usd
        lab.write("in/sales.csv", PRICES)
        with pytest.raises(LearnerError, match="2 steps before that had changed things already") as caught:
            await system.execute(GOAL)
        booked = system.economy.spent_usd - spent
        run = (await system.runs.list())[0]
        run = await system.runs.get(run.id)
        assert (await system.traces.get(trace.id)).version == 1
        assert [one.id for one in await system.traces.list() if str(one.provenance) == "learned"] == [trace.id]
    assert (run.status, str(run.mode), run.trace_id) == (RunStatus.FAILED, "follower+learner", None)
    assert 0 < run.cost_usd == pytest.approx(booked, abs=1e-6) == pytest.approx(caught.value.cost_usd, abs=1e-6)
    assert [str(step.origin) for step in run.steps] == ["replayed", "replayed", "learner"]


async def test_a_battery_too_low_fails_as_before_with_what_was_done(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab)
    async with lab.boot() as system:
        trace = await learned(system)
    lab.write("in/sales.csv", PRICES)
    async with lab.boot(budget_usd=0.001) as system:
        asked = len(lab.server.conversation)
        with pytest.raises(DivergenceError) as caught:
            await system.execute(GOAL)
        run = await system.runs.get((await system.runs.list())[0].id)
        record = await system.outcomes.record(trace.id)
    said = str(caught.value)
    assert "1 step before it had changed things already" in said
    assert "the learner could not take over (the budget of $0.0010" in said
    assert (len(lab.server.conversation), run.cost_usd, record.failing) == (asked, 0.0, 1)
    assert (str(run.mode), run.status, run.trace_id) == ("follower", RunStatus.FAILED, trace.id)


async def test_only_following_never_hands_over(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab)
    async with lab.boot() as system:
        await learned(system)
        lab.write("in/sales.csv", PRICES)
        with pytest.raises(DivergenceError, match="1 step before it had changed things already, so nothing more"):
            await system.execute(GOAL, mode="follow")
        would = await system.explain(GOAL)
    assert (would.decision, would.cost_usd) == ("follow", 0.0)


async def test_an_interruption_keeps_everything_that_was_done(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab, call("note", path="log.txt", line="mine"), slow(60, say("too late")))
    async with lab.boot() as system:
        trace = await learned(system)
        lab.write("in/sales.csv", PRICES)
        task = asyncio.create_task(system.execute(GOAL))
        await until(lambda: len(lab.server.conversation) >= len(LEARN) + 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with lab.boot() as system:
        run = await system.runs.get((await system.runs.list())[0].id)
        assert (await system.traces.get(trace.id)).version == 1
    assert (run.status, str(run.mode)) == (RunStatus.INTERRUPTED, "follower+learner")
    assert origins(run) == [("note", "replayed"), ("query_data", "replayed"), ("note", "learner")]
    assert lab.read("log.txt") == "started\nstarted\nmine\n"
    assert run.handover is not None


SLOW = NOTE.replace("def note", "async def note").replace(
    '    return {"text"',
    '    import asyncio\n    if line == "slow":\n        await asyncio.sleep(60)\n    return {"text"',
)


async def test_a_call_that_an_interruption_cut_off_is_kept_as_one_that_may_have_happened(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab, call("note", path="log.txt", line="slow"), say("."), plugin=SLOW)
    async with lab.boot() as system:
        await learned(system)
        lab.write("in/sales.csv", PRICES)
        task = asyncio.create_task(system.execute(GOAL))
        await until(lambda: "slow" in lab.read("log.txt"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        run = await system.runs.get((await system.runs.list())[0].id)
    last = run.steps[-1]
    assert (last.tool, last.is_error, run.status) == ("note", True, RunStatus.INTERRUPTED)
    assert "may or may not have done its work" in last.output


# --- what becomes of traces ----------------------------------------------------------------------------


async def test_what_can_not_be_proven_from_the_beginning_leaves_a_trusted_trace_alone(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab, querying("price"), writing(), *finishing("Wrote out/sales.md"))
    lab.configure("proof: {enabled: false}")
    async with lab.boot() as system:
        trace = await learned(system)
        lab.write("in/sales.csv", PRICES)
        result = await system.execute(GOAL)
        kept = await system.traces.get(trace.id)
    assert (kept.version, kept.status) == (1, Status.TRUSTED)
    assert f"not proven by re-execution: proofs are switched off; {trace.label} stays as it is" in result.reason


async def test_files_that_a_call_did_not_name_are_rewound_too(make_lab: MakeLab) -> None:
    unnamed = NOTE.replace("ctx.resolve(path, write=True)", 'ctx.resolve("hidden.txt", write=True)')
    lab = handing_lab(make_lab, querying("price"), writing(), *finishing("Wrote out/sales.md"), plugin=unnamed)
    async with lab.boot() as system:
        trace = await learned(system)
        lab.write("in/sales.csv", PRICES)
        await system.execute(GOAL)
        newest = await system.traces.get(trace.id)
    assert (newest.version, newest.status) == (2, Status.TRUSTED), newest.reason
    assert lab.read("hidden.txt") == "started\nstarted\n"


class Meddling:
    """Middleware of somebody who writes into a file between a replay's calls."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    async def __call__(self, tool_call: ToolCall, proceed: Callable[[], Awaitable[ToolResult]], /) -> ToolResult:
        if tool_call.tool.name == "query_data":
            self.lab.write("log.txt", "mine\n")
        return await proceed()


async def test_what_somebody_else_changed_meanwhile_leaves_nothing_to_be_proven(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab, querying("price"), writing(), *finishing("Wrote out/sales.md"))
    async with lab.boot() as system:
        trace = await learned(system)
        lab.write("in/sales.csv", PRICES)
        surroundings = system.dispatcher.following.surroundings
        meddling = dataclasses.replace(surroundings, middleware=(*surroundings.middleware, Meddling(lab)))
        following = dataclasses.replace(system.dispatcher.following, surroundings=meddling)
        system.dispatcher = dataclasses.replace(system.dispatcher, following=following)
        result = await system.execute(GOAL)
        assert (await system.traces.get(trace.id)).version == 1
    assert "the workspace before the replay is not known (it was changed since the run)" in result.reason
    assert f"{trace.label} stays as it is" in result.reason


async def test_an_effect_nobody_can_undo_makes_a_candidate_that_asks(make_lab: MakeLab) -> None:
    mail = NOTE.replace('effect="write", open_world=False', 'effect="external"')
    turns = (querying("price"), writing(), *finishing("Wrote out/sales.md"))
    rule = "permissions: {rules: [{allow: note, effect: external, tainted: true}]}"
    lab = handing_lab(make_lab, *turns, plugin=mail, config=rule)
    async with lab.boot() as system:
        first = await system.execute(GOAL)
        trace = await system.traces.get(str(first.trace_id).split("@")[0])
        await system.feedback.trust(trace)
        lab.write("in/sales.csv", PRICES)
        await system.execute(GOAL)
        newest = await system.traces.get(trace.id)
        again = await system.execute(GOAL, confirm=yes)
        after = await system.traces.get(trace.id)
    assert (newest.version, newest.status) == (2, Status.CANDIDATE)
    assert [step.tool for step in newest.calls] == ["note", "query_data", "write"]
    assert (again.mode, again.cost_usd, after.status) == ("follower", 0.0, Status.TRUSTED)
    assert lab.read("log.txt") == "started\n" * 3


async def test_a_tail_is_never_the_trace_of_the_whole_goal(make_lab: MakeLab) -> None:
    """A plan made after a fallback described only the remaining work, and was stored as the whole."""
    lab = handing_lab(make_lab, querying("price"), writing(), *finishing("Wrote out/sales.md"))
    async with lab.boot() as system:
        await learned(system)
        lab.write("in/sales.csv", PRICES)
        assert (await system.execute(GOAL)).status == "done"
        kept = [one for one in await system.traces.list() if str(one.provenance) == "learned"]
        versions = [version for one in kept for version in await system.traces.versions(one.id)]
    calls = [[step.tool for step in one.trace.calls] for one in versions if one.trace is not None]
    assert calls == [["note", "query_data", "write"]] * 2


NAMED = "Note the names of in/names.csv in log.txt, and put the total amount by region of in/sales.csv into out.md"


async def test_what_was_only_read_by_then_is_part_of_the_trace_and_read_again(make_lab: MakeLab) -> None:
    names = call("query_data", sql="SELECT name FROM data", files={"data": "in/names.csv"}, format="lines")

    def noted(request: Request) -> Turn:
        line = "Zoe\n" if TAKEN in request.prompt else text_of(request, 0)  # the learner was told what was read
        return call("note", path="log.txt", line=line)

    lab = handing_lab(
        make_lab,
        querying("price"),
        noted,
        writing("out.md", 0),
        *finishing("Done."),
        learn=(names, querying(), noted, writing("out.md", 1), *finishing("Done.")),
    )
    lab.write("in/names.csv", "name\nZoe\n")
    async with lab.boot() as system:
        trace = await learned(system, NAMED)
        lab.write("in/sales.csv", PRICES)
        taken = await system.execute(NAMED)
        newest = await system.traces.get(trace.id)
        lab.write("in/names.csv", "name\nYan\n")
        again = await system.execute(NAMED, mode="follow")
    assert (taken.mode, newest.version) == ("follower+learner", 2)
    assert [step.tool for step in newest.calls] == ["query_data", "query_data", "note", "write"]
    assert (again.cost_usd, lab.read("log.txt")) == (0.0, "Zoe\n\nZoe\n\nYan\n\n")


SECRET = """\
format: 1
id: signed-total
goals: ["Note the sign and sum {source}"]
slots: {source: {type: path, suffix: .csv}}
steps:
- id: note
  tool: note
  args: {path: log.txt, line: "${{ secret.SIGN }}"}
  effect: write
- id: query_data
  tool: query_data
  args: {sql: SELECT sum(amount) AS total FROM data, files: {data: "${{ source }}"}}
  effect: read
"""


async def test_a_secret_that_the_replay_used_is_told_to_nobody(make_lab: MakeLab) -> None:
    lab = handing_lab(make_lab, call("rejoin", step="query_data"), say("It can't be done."))
    lab.configure("secrets: [SIGN]")
    lab.extra = {"SIGN": "hush-hush-7731"}
    lab.write("in/sales.csv", PRICES)
    async with lab.boot() as system:
        trace = await system.traces.add(dataclasses.replace(loads_yaml(SECRET), status=Status.TRUSTED))
        result = await system.execute("Note the sign and sum in/sales.csv")
    assert (result.mode, trace.status) == ("follower+learner", Status.TRUSTED)
    assert lab.read("log.txt") == "hush-hush-7731\n"
    assert lab.server.conversation
    assert all("hush-hush" not in json.dumps(request.body) for request in lab.server.requests)
    assert "${{ secret.SIGN }}" in lab.server.conversation[0].prompt
