"""Guided runs with the real CLI: one value written anew, or a near trace as the learner's plan; every cent booked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmos.boot import LLMOS, Question, Result
from llmos.errors import DivergenceError, LearnerError, LowBatteryError, NothingToFollowError
from llmos.testing import Reply, Request, Turn, call, error, say, usage
from llmos.trace.program import Status
from tests.lab import Lab, MakeLab, finishing, steps

ROOT = Path(__file__).parents[2]
PRIMES = "def primes(n):\n    return [p for p in range(2, n) if all(p % d for d in range(2, p))]\n"
FIBONACCI = "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n"
LEARN = "Create a script for primes in primes.py"
OTHER = "Create a script for fibonacci in fib.py"
DEAR = usage(input_tokens=12_345, output_tokens=678)
CHEAP = usage(input_tokens=900, output_tokens=120)


def new(value: str) -> Reply:
    """The model's answer to being asked for a value."""
    return say(f"<new-value>\n{value}</new-value>", usage=CHEAP)


def priced(turn: Turn) -> Turn:
    return Reply(text=turn.text, calls=turn.calls, usage=DEAR) if isinstance(turn, Reply) else turn


def primes_lab(make_lab: MakeLab, *rewritten: Turn) -> Lab:
    """The learner writes a script; requests without tools get the given turns, the last one again and again."""
    primes = steps(call("write", file_path="primes.py", content=PRIMES), *finishing("Wrote primes.py"))
    other = steps(call("write", file_path="fib.py", content=FIBONACCI), *finishing("Wrote fib.py"))
    asked: list[Request] = []

    def script(request: Request) -> Turn:
        if request.tools:
            return priced((primes if "primes" in request.prompt.splitlines()[0] else other)(request))
        asked.append(request)
        return rewritten[min(len(asked), len(rewritten)) - 1]

    return make_lab(script)


async def learned(system: LLMOS, goal: str = LEARN) -> Result:
    result = await system.execute(goal)
    assert (result.mode, result.trace_id is not None) == ("learner", True), result.reason
    return result


def thoughts(lab: Lab) -> list[Request]:
    return [request for request in lab.server.conversation if not request.tools]


async def yes(question: Question) -> bool:
    return True


async def no(question: Question) -> bool:
    return False


# --- one value written anew ------------------------------------------------------------------------------


async def test_another_subject_costs_one_call_and_the_rest_is_replayed(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        first = await learned(system)
        asked, spent = len(lab.server.conversation), system.economy.spent_usd
        result = await system.execute(OTHER)
        booked = system.economy.spent_usd - spent
        rows = system.economy.entries(None)
        stored = await system.runs.get(result.run_id)
    assert len(lab.server.conversation) == asked + 1
    assert (result.mode, result.status, result.answer) == ("guided", "done", "Wrote fib.py")
    assert [step["tool"] for step in result.steps] == ["guided_rewrite", "write"]
    assert (lab.read("fib.py"), lab.read("primes.py")) == (FIBONACCI, PRIMES)
    assert 0 < result.cost_usd == pytest.approx(booked, abs=1e-6)
    assert result.estimate_usd == pytest.approx(first.cost_usd, abs=1e-6)
    assert result.saved_usd == pytest.approx(first.cost_usd - booked, abs=1e-6)
    assert any("learning was estimated at" in row.operation for row in rows)
    assert "learning was estimated at" in stored.reason
    assert stored.cost_usd == pytest.approx(booked, abs=1e-6)


async def test_the_model_is_told_what_the_value_was_for_and_what_it_is_for_now(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        await learned(system)
        await system.execute(OTHER)
    (asked,) = thoughts(lab)
    for said in (f"content of write, for: {LEARN}", PRIMES, OTHER, '"file_path": "fib.py"', "YOUR VALUE"):
        assert said in asked.prompt, said


@pytest.mark.parametrize("goal", [OTHER, "Create a script for primes in p2.py"])
async def test_one_goals_value_never_answers_another_for_nothing(make_lab: MakeLab, goal: str) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        await learned(system)
        with pytest.raises(NothingToFollowError):
            await system.execute(goal, mode="follow")
    assert thoughts(lab) == []


async def test_the_same_subject_in_another_file_is_written_anew_too(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(PRIMES + "# p2.py\n"))
    async with lab.boot() as system:
        await learned(system)
        result = await system.execute("Create a script for primes in p2.py")
    assert (result.mode, lab.read("p2.py")) == ("guided", PRIMES + "# p2.py\n")


async def test_a_value_made_of_data_is_made_of_the_new_data(make_lab: MakeLab) -> None:
    learner = steps(
        call("read", file_path="report.txt"),
        call("write", file_path="summary.md", content="Trees grow in spring."),
        *finishing("Wrote summary.md"),
    )
    lab = make_lab(lambda request: learner(request) if request.tools else new("Boats sink in autumn."))
    lab.write("report.txt", "In spring, as every year, the trees grew by some more rings.")
    lab.write("notes.txt", "In autumn, as always, most of the boats went down.")
    async with lab.boot() as system:
        await learned(system, "Summarise report.txt into summary.md")
        result = await system.execute("Summarise notes.txt into notes.md")
    (asked,) = thoughts(lab)
    assert ("the boats went down" in asked.prompt, "the trees grew" in asked.prompt) == (True, False)
    assert (result.mode, lab.read("notes.md")) == ("guided", "Boats sink in autumn.")


async def test_data_that_changed_since_is_summarised_anew_and_not_from_memory(make_lab: MakeLab) -> None:
    learner = steps(
        call("read", file_path="report.txt"),
        call("write", file_path="summary.md", content="Trees grow in spring."),
        *finishing("Wrote summary.md"),
    )
    lab = make_lab(lambda request: learner(request) if request.tools else new("Boats sink in autumn."))
    lab.write("report.txt", "In spring, as every year, the trees grew by some more rings.")
    goal = "Summarise report.txt into summary.md"
    async with lab.boot() as system:
        await learned(system, goal)
        lab.write("report.txt", "In autumn, as always, most of the boats went down.")
        result = await system.execute(goal)
    assert (result.mode, lab.read("summary.md")) == ("guided", "Boats sink in autumn.")
    assert len(thoughts(lab)) == 1


BAD = {
    "nothing": say("", usage=CHEAP),
    "words-around-nothing": new(" \n"),
    "a-refusal": say("CANNOT", usage=CHEAP),
    "no-tags": say(FIBONACCI, usage=CHEAP),
    "cut-off": say(f"<new-value>\n{FIBONACCI[:40]}", usage=CHEAP),
    "the-old-value": new(PRIMES),
    "no-program": new("def fibonacci(n:\n"),
    "a-server-that-fails": error(418, "broken"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_value_that_is_none_leaves_the_goal_to_the_learner_and_is_paid_for(
    make_lab: MakeLab, bad: Turn
) -> None:
    lab = primes_lab(make_lab, bad)
    async with lab.boot() as system:
        first = await learned(system)
        spent = system.economy.spent_usd
        result = await system.execute(OTHER)
        booked = system.economy.spent_usd - spent
        stored = await system.runs.get(result.run_id)
    assert (result.mode, lab.read("fib.py")) == ("learner", FIBONACCI)
    assert len({asked.prompt[:300] for asked in thoughts(lab)}) == 1  # the CLI itself asks on where nothing was said
    assert result.cost_usd == pytest.approx(booked, abs=1e-6) == pytest.approx(stored.cost_usd, abs=1e-6)
    assert result.cost_usd >= first.cost_usd
    assert "it failed" in result.reason


async def test_a_battery_too_low_for_the_call_stops_before_anything_is_done(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        await learned(system)
    async with lab.boot(budget_usd=0.001) as system:
        with pytest.raises(LowBatteryError, match="needs 1 model call"):
            await system.execute(OTHER)
    assert (thoughts(lab), (lab.workspace / "fib.py").exists()) == ([], False)


async def test_what_was_written_anew_asks_once_and_is_free_from_then_on(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        await learned(system)
        label = (await system.execute(OTHER)).trace_id or ""
        trace = await system.traces.get(label.split("@")[0])
        (lab.workspace / "fib.py").unlink()
        again = await system.execute(OTHER, confirm=yes)
    assert (trace.status, "nobody has looked" in trace.reason) == (Status.CANDIDATE, True)
    assert (again.mode, again.cost_usd, lab.read("fib.py")) == ("follower", 0.0, FIBONACCI)


async def test_no_value_is_written_anew_where_only_learning_was_asked_for(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        await learned(system)
        result = await system.execute(OTHER, mode="learn")
    assert (result.mode, thoughts(lab)) == ("learner", [])
    assert lab.server.conversation[-1].prompt.strip().endswith(OTHER)


async def test_guiding_can_be_switched_off(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    lab.configure("models: {guided: off}")
    async with lab.boot() as system:
        await learned(system)
        result = await system.execute(OTHER)
    assert (result.mode, thoughts(lab)) == ("learner", [])


async def test_effects_nobody_can_undo_are_agreed_to_first(make_lab: MakeLab) -> None:
    learner = steps(
        call("write", file_path="primes.py", content=PRIMES),
        call("bash", command="python3 primes.py"),
        *finishing("Wrote and ran primes.py"),
    )
    lab = make_lab(lambda request: learner(request) if request.tools else new(FIBONACCI))
    questions: list[Question] = []

    async def agree(question: Question) -> bool:
        questions.append(question)
        return True

    async with lab.boot() as system:
        goal = "Create a script for primes in primes.py and run it"
        label = (await system.execute(goal, mode="learn", confirm=agree)).trace_id or ""
        questions.clear()
        await system.traces.set_status(label.split("@")[0], Status.TRUSTED, "for this test")
        result = await system.execute("Create a script for fibonacci in fib.py and run it", confirm=agree)
    assert [(question.effect, question.call is not None) for question in questions] == [
        ("unknown", False),
        ("unknown", True),
    ]
    assert "written anew for about $" in questions[0].text
    assert (result.mode, [step["tool"] for step in result.steps]) == ("guided", ["guided_rewrite", "write", "bash"])
    assert result.steps[2]["args"]["command"] == "python3 fib.py"


async def test_a_guided_replay_that_stops_after_an_effect_fails_with_an_account(make_lab: MakeLab) -> None:
    learner = steps(
        call("write", file_path="primes.py", content=PRIMES),
        call("read", file_path="list.txt"),
        *finishing("Wrote primes.py"),
    )
    lab = make_lab(lambda request: learner(request) if request.tools else new(FIBONACCI))
    lab.write("list.txt", "one entry")
    async with lab.boot() as system:
        await learned(system, "Create a script for primes in primes.py and show list.txt")
        asked = len([request for request in lab.server.conversation if request.tools])
        with pytest.raises(DivergenceError) as caught:
            await system.execute("Create a script for fibonacci in fib.py and show gone.txt")
    assert (caught.value.effects_done, lab.read("fib.py")) == (1, FIBONACCI)
    assert "had changed things already" in str(caught.value)
    assert len([request for request in lab.server.conversation if request.tools]) == asked


# --- a plan for the learner ------------------------------------------------------------------------------

TOTAL = "Total amount by region of in/sales.csv into out/sales.md"
AVERAGE = "Average amount by region of in/march.csv into out/march.md"
SQL = "SELECT region, {}(amount) AS result FROM data GROUP BY region ORDER BY region"


def text_of(request: Request) -> str:
    """The text that the query gave, as the model read it."""
    text: str = json.loads(request.tool_results[-1].text.split("<system-reminder>")[0])["text"]
    return text


def reporting(function: str, source: str, target: str) -> list[Any]:
    return [
        call("query_data", sql=SQL.format(function), files={"data": source}, format="markdown"),
        lambda request: call("write", file_path=target, content=text_of(request)),
        *finishing(f"Wrote {target}"),
    ]


def report_lab(make_lab: MakeLab, *guided: Turn) -> Lab:
    """The learner totals, then averages; the first requests that hold a plan get the given turns."""
    total = steps(*reporting("sum", "in/sales.csv", "out/sales.md"))
    average = steps(*reporting("avg", "in/march.csv", "out/march.md"))
    planned: list[Request] = []

    def script(request: Request) -> Turn:
        if "A similar goal was reached" in request.prompt:
            planned.append(request)
            if len(planned) <= len(guided):
                return guided[len(planned) - 1]
        return priced((total if TOTAL in request.prompt.splitlines() else average)(request))

    lab = make_lab(script)
    lab.write("in/sales.csv", "region,amount\nNorth,10\nSouth,5\n")
    lab.write("in/march.csv", "region,amount\nEast,1\nEast,1\n")
    return lab


async def test_a_near_trace_is_the_learners_plan(make_lab: MakeLab) -> None:
    lab = report_lab(make_lab)
    lab.configure("models: {guided: haiku}")
    async with lab.boot() as system:
        await learned(system, TOTAL)
        asked, spent = len(lab.server.conversation), system.economy.spent_usd
        result = await system.execute(AVERAGE)
        booked = system.economy.spent_usd - spent
        operations = [row.operation for row in system.economy.entries(None)]
    prompt = lab.server.conversation[asked].prompt
    assert prompt.splitlines()[0] == AVERAGE
    for said in ("query_data", "the goal says 'Average' where it says 'Total'", "seems to be: in/march.csv"):
        assert said in prompt, prompt
    assert {"haiku" in request.model for request in lab.server.conversation[asked:]} == {True}
    assert (result.mode, result.status) == ("guided", "done")
    assert 0 < result.cost_usd == pytest.approx(booked, abs=1e-6)
    assert result.estimate_usd > 0
    assert any(operation.startswith("guided by ") for operation in operations)


async def test_a_guided_learner_that_fails_leaves_the_goal_to_the_full_one_once(make_lab: MakeLab) -> None:
    lab = report_lab(make_lab, error(418, "broken"))
    async with lab.boot() as system:
        await learned(system, TOTAL)
        spent = system.economy.spent_usd
        result = await system.execute(AVERAGE)
        booked = system.economy.spent_usd - spent
    assert (result.mode, "it failed" in result.reason) == ("learner", True)
    assert lab.server.conversation[-1].prompt.splitlines() == [AVERAGE]
    assert result.cost_usd == pytest.approx(booked, abs=1e-6)


async def test_both_bills_of_a_fallback_are_booked_and_every_call_is_kept(make_lab: MakeLab) -> None:
    look = call("read", file_path="in/march.csv")
    lab = report_lab(make_lab, Reply(calls=look.calls, usage=DEAR), error(418, "broken"))
    async with lab.boot() as system:
        first = await learned(system, TOTAL)
        spent = system.economy.spent_usd
        result = await system.execute(AVERAGE)
        booked = system.economy.spent_usd - spent
        stored = await system.runs.get(result.run_id)
    assert result.mode == "learner"
    assert result.cost_usd == pytest.approx(booked, abs=1e-6) == pytest.approx(stored.cost_usd, abs=1e-6)
    assert result.cost_usd > first.cost_usd
    assert [step.tool for step in stored.steps] == ["read", "query_data", "write"]


async def test_a_guided_learner_that_fails_after_an_effect_is_not_started_over(make_lab: MakeLab) -> None:
    wrote = call("write", file_path="out/march.md", content="half")
    lab = report_lab(make_lab, wrote, error(418, "broken"))
    async with lab.boot() as system:
        await learned(system, TOTAL)
        with pytest.raises(LearnerError, match="changed things already"):
            await system.execute(AVERAGE)
    assert "A similar goal" in lab.server.conversation[-1].prompt


async def test_a_replay_that_stopped_tells_the_learner_where_and_what_it_found(make_lab: MakeLab) -> None:
    lab = report_lab(make_lab)
    lab.write("in/other.csv", "region,price\nEast,1\n")
    async with lab.boot() as system:
        await learned(system, TOTAL)
        asked = len(lab.server.conversation)
        result = await system.execute("Total amount by region of in/other.csv into out/other.md")
    prompt = lab.server.conversation[asked].prompt
    assert "It stopped at [query_data].\nExpected there: a result" in prompt
    assert (result.mode, "before it changed anything" in result.reason) == ("follower+learner", True)


async def test_a_trace_that_a_person_declined_guides_nobody(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        label = (await learned(system)).trace_id or ""
        await system.traces.set_status(label.split("@")[0], Status.CANDIDATE, "for this test")
        await system.execute(LEARN, confirm=no)
    assert (thoughts(lab), lab.server.conversation[-1].prompt.splitlines()) == ([], [LEARN])


async def test_a_rejected_goal_is_not_guided_by_that_trace(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        label = (await learned(system)).trace_id or ""
        await system.traces.add_negative(label.split("@")[0], OTHER)
        result = await system.execute(OTHER)
    assert (result.mode, thoughts(lab)) == ("learner", [])


async def test_nothing_in_common_is_learned_from_nothing(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    async with lab.boot() as system:
        await learned(system)
        result = await system.execute("Tell me which colour the sea has")
    assert (result.mode, thoughts(lab)) == ("learner", [])


# --- the command -----------------------------------------------------------------------------------------


def command(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """`python boot.py …` as a user types it, in the lab's workspace."""
    argv = [sys.executable, str(ROOT / "boot.py"), "--home", str(lab.home), *words]
    return subprocess.run(argv, cwd=lab.workspace, env=lab.environ(), capture_output=True, text=True, timeout=120)


def test_the_command_shows_the_price_and_what_learning_would_have_cost(make_lab: MakeLab) -> None:
    lab = primes_lab(make_lab, new(FIBONACCI))
    learnt = json.loads(command(lab, "--json", LEARN).stdout)
    told = command(lab, "explain", OTHER).stdout
    done = command(lab, OTHER)
    shown = json.loads(command(lab, "runs", "show", "last", "--json").stdout)
    trace = command(lab, "traces", "show", learnt["trace_id"]).stdout
    assert told.startswith("guided create-a-script-for-")
    assert "1 model call, ≈ $0.0" in told
    closing = done.stderr.splitlines()[-1]
    assert closing.startswith('guided · "Wrote fib.py" · $0.0')
    assert f"learning ≈ ${learnt['cost_usd']:.4f}" in closing
    assert "$0.0000 ·" not in closing.split("saved")[0]
    assert "learning was estimated at" in json.dumps(shown)
    assert "one model call writes content of write anew" in trace
    assert lab.read("fib.py") == FIBONACCI
