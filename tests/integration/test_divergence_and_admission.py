"""What becomes a trace, what a replay does when the world has changed, and who pays: the traps others fell into."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmos.boot import LLMOS, Question, Result
from llmos.errors import (
    DivergenceError,
    InputError,
    LearnerError,
    NothingToFollowError,
    NotPermittedError,
    OtherKindError,
)
from llmos.interfaces.results import Reply
from llmos.kernel.bus import Diverged, TraceRefused
from llmos.testing import call, error, say
from llmos.trace.program import Effect, Status
from tests.lab import COPY, MakeLab, copying_lab, finishing, steps

COPY_AGAIN = "Copy the text of c.txt into d.txt"
NEVER = say("nobody should ask me")


async def learned(system: LLMOS, goal: str = COPY) -> Result:
    result = await system.execute(goal)
    assert result.trace_id is not None, result.reason
    return result


async def agree(question: Question) -> bool:
    return True


async def own_traces(system: LLMOS) -> list[str]:
    return [trace.id for trace in await system.traces.list() if str(trace.provenance) == "learned"]


async def test_the_answer_of_a_question_is_read_anew_each_time(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("read", file_path="note.txt"), *finishing("sunny all day")))
    lab.write("note.txt", "sunny all day")
    async with lab.boot() as system:
        await learned(system, "What does note.txt say")
        lab.write("note.txt", "rain since noon")
        answer = (await system.execute("What does note.txt say", mode="follow")).answer
    assert answer == "rain since noon"


async def test_a_run_without_tool_calls_is_no_trace(make_lab: MakeLab) -> None:
    lab = make_lab([say("Paris")] * 2)
    refused: list[str] = []
    async with lab.boot() as system:
        system.bus.subscribe(TraceRefused, lambda event: refused.append(event.reason))
        first = await system.execute("Name the capital of France")
        second = await system.execute("Name the capital of France")
        assert await own_traces(system) == []
    assert (first.answer, first.trace_id, first.mode, second.mode) == ("Paris", None, "learner", "learner")
    assert "nothing to replay" in refused[0]


async def test_a_run_that_failed_midway_is_no_trace(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("write", file_path="b.txt", content="half"), error(500)))
    async with lab.boot() as system:
        with pytest.raises(LearnerError):
            await system.execute(COPY)
        assert await own_traces(system) == []
        (run,) = await system.runs.list()
    assert str(run.status) == "failed"


async def test_failed_attempts_are_not_replayed(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(
            call("convert_data", source="a.csv", target="a.unknown"),
            call("convert_data", source="a.csv", target="a.json"),
            *finishing("a.json has 1 row"),
        )
    )
    lab.write("a.csv", "x\n1\n")
    lab.write("b.csv", "x\n2\n3\n")
    async with lab.boot() as system:
        await learned(system, "Make JSON file a.json out of a.csv")
        result = await system.execute("Make JSON file b.json out of b.csv", mode="follow")
    assert [step["tool"] for step in result.steps] == ["convert_data"]


async def test_another_subject_is_not_answered_with_the_first_one(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(call("write", file_path="numbers.py", content="def fibonacci(n): ..."), *finishing("Wrote numbers.py"))
    )
    async with lab.boot() as system:
        await learned(system, "Create a script numbers.py for fibonacci")
        for other in ("Create a script numbers.py for primes", "Create a script primes.py for fibonacci"):
            with pytest.raises(NothingToFollowError):
                await system.execute(other, mode="follow")


async def test_a_learned_trace_is_served_at_once(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    lab.write("c.txt", "other words, as plain as before")
    async with lab.boot() as system:
        await learned(system)
        assert (await system.execute(COPY_AGAIN)).mode == "follower"
    assert lab.read("d.txt") == "other words, as plain as before"


async def test_a_divergence_before_any_effect_is_handed_over_and_learned(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(call("query_data", sql="SELECT sum(amount) AS total FROM data", files={"data": "a.csv"}), say("6"))
    )
    lab.write("a.csv", "amount\n1\n5\n")
    lab.write("b.csv", "price\n1\n5\n")
    diverged: list[str] = []
    async with lab.boot() as system:
        await learned(system, "Sum the amounts of a.csv")
        system.bus.subscribe(Diverged, lambda event: diverged.append(event.step_id))
        asked = len(lab.server.requests)
        again = await system.execute("Sum the amounts of b.csv")
        assert len(lab.server.requests) > asked
    assert diverged == ["query_data"]
    assert (again.mode, "before it changed anything" in again.reason) == ("follower+learner", True)


async def test_a_divergence_after_an_effect_fails_where_only_following_is_allowed(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(
            call("write", file_path="log.txt", content="started"),
            call("query_data", sql="SELECT sum(amount) AS total FROM data", files={"data": "a.csv"}),
            say("6"),
        )
    )
    lab.write("a.csv", "amount\n1\n5\n")
    goal = "Write started into log.txt, then sum the amounts of a.csv"
    async with lab.boot() as system:
        await learned(system, goal)
        lab.write("a.csv", "price\n1\n")
        asked = len(lab.server.requests)
        with pytest.raises(DivergenceError) as caught:
            await system.execute(goal, confirm=agree, mode="follow")
        run = await system.runs.get((await system.runs.list())[0].id)
    assert len(lab.server.requests) == asked
    assert caught.value.effects_done == 1
    assert "1 step before it had changed things already" in str(caught.value)
    assert [step.tool for step in run.steps] == ["write", "query_data"]


PLUGIN = """\
from plugins import llm_tool

@llm_tool("shout", "Say it louder", {"text": str}, read_only=True, open_world=False)
async def shout(text: str) -> dict:
    return {"text": text.upper() + MARK}
MARK = "!"
"""


async def test_a_changed_tool_quarantines_its_traces(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("shout", text="hello there"), *finishing("HELLO THERE!")))
    path = lab.plugin("shout.py", PLUGIN)
    goal = 'Shout "hello there" out loud'
    async with lab.boot() as system:
        label = (await learned(system, goal)).trace_id or ""
        path.write_text(PLUGIN.replace('"text": text.upper()', '"text": text.lower()'))
        with pytest.raises(DivergenceError):
            await system.execute(goal, mode="follow")
        trace = await system.traces.get(label.split("@")[0])
    assert trace.status is Status.QUARANTINED
    assert "'shout' has changed" in trace.reason


async def test_a_tool_that_is_gone_quarantines_its_traces(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("shout", text="hello there"), *finishing("HELLO THERE!")))
    path = lab.plugin("shout.py", PLUGIN)
    goal = 'Shout "hello there" out loud'
    async with lab.boot() as system:
        label = (await learned(system, goal)).trace_id or ""
        path.unlink()
        with pytest.raises(DivergenceError):
            await system.execute(goal, mode="follow")
        assert (await system.traces.get(label.split("@")[0])).status is Status.QUARANTINED


async def test_a_missing_input_is_told_and_no_model_is_asked(make_lab: MakeLab) -> None:
    lab = make_lab([NEVER])
    async with lab.boot() as system:
        with pytest.raises(InputError, match=r"nosuch\.csv"):
            await system.execute("Analyze data in nosuch.csv")
    assert lab.server.requests == []


async def test_a_value_of_another_kind_is_learned_and_no_failure_of_the_trace(make_lab: MakeLab) -> None:
    goal = "Find duplicate files in people.csv"
    lab = make_lab(
        steps(
            call("query_data", sql="SELECT name FROM t GROUP BY name HAVING count(*) > 1", files={"t": "people.csv"}),
            *finishing("ada"),
        )
    )
    lab.write("people.csv", "name\nada\nbob\nada\n")
    lab.write("docs/a.txt", "x")
    async with lab.boot() as system:
        shipped = await system.traces.get("find-duplicates")
        for _ in range(4):
            with pytest.raises(OtherKindError, match=r"people\.csv is a file, not a folder"):
                await system.execute(goal, mode="follow")
        first = await system.execute(goal)
        assert (first.mode, first.answer) == ("learner", "ada")
        assert "the replay stopped before it changed anything: people.csv is a file" in first.reason
        assert [step["tool"] for step in first.steps] == ["query_data"]
        assert await system.traces.get("find-duplicates") == shipped
        assert (await system.execute("Find duplicate files in docs/", mode="follow")).trace_id == shipped.label
        standing = await system.outcomes.record("find-duplicates")
    assert standing.failures == 0


@pytest.mark.parametrize("path", ["../secret.csv", "/etc/passwd", "out/../../secret.csv"])
async def test_a_path_outside_the_workspace_is_not_permitted(make_lab: MakeLab, path: str) -> None:
    lab = make_lab([NEVER])
    (lab.root / "secret.csv").write_text("x\n1\n")
    async with lab.boot() as system:
        with pytest.raises(NotPermittedError) as caught:
            await system.execute(f"Analyze data in {path}")
    assert (caught.value.exit_code, lab.server.requests) == (4, [])


async def test_the_home_inside_the_workspace_stays_closed(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab([NEVER])
    settings = lab.settings()
    import dataclasses

    inside = dataclasses.replace(settings, home=lab.workspace)
    async with LLMOS(settings=inside) as system:
        with pytest.raises(NotPermittedError):
            await system.execute("Count lines in memory/llmos.duckdb")


async def test_a_rejected_goal_never_replays_that_trace_again(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    async with lab.boot() as system:
        label = (await learned(system)).trace_id or ""
        await system.traces.add_negative(label.split("@")[0], COPY)
        with pytest.raises(NothingToFollowError, match="rejected"):
            await system.execute(COPY, mode="follow")


async def test_an_unknown_effect_is_agreed_to_once_and_approved_each_time_unless_for_good(make_lab: MakeLab) -> None:
    lab = make_lab(steps(call("bash", command="sort -u names.txt -o once.txt"), say("Done.")))
    lab.write("names.txt", "b\na\nb\n")
    goal = "Sort names.txt without repetition into once.txt"
    questions: list[Question] = []
    replies: list[Reply] = [True, True, True, "always"]

    async def agree(question: Question) -> Reply:
        questions.append(question)
        return replies[len(questions) - 1]

    async with lab.boot() as system:
        await system.execute(goal, mode="learn", confirm=agree)
        with pytest.raises(NotPermittedError, match="--yes"):
            await system.execute(goal, mode="follow")
        await system.execute(goal, mode="follow", confirm=agree)
        await system.execute(goal, mode="follow", confirm=agree)
        await system.execute(goal, mode="follow")
    assert [(question.effect, question.call is not None) for question in questions] == [
        ("unknown", True),  # the learner's call
        ("unknown", False),  # the replay of a candidate
        ("unknown", True),
        ("unknown", True),
    ]


async def test_a_command_that_only_writes_inside_the_workspace_is_proven_in_a_copy_and_needs_no_approval(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(steps(call("bash", command="sort -u names.txt > once.txt"), say("Done.")))
    lab.write("names.txt", "b\na\nb\n")
    goal = "Sort names.txt without repetition into once.txt"
    async with lab.boot() as system:
        label = (await learned(system, goal)).trace_id or ""
        trace = await system.traces.get(label.split("@")[0])
        assert trace.effect is Effect.WRITE
        assert "proven by re-execution, also with other names" in trace.reason
        await system.feedback.trust(trace)
        (lab.workspace / "once.txt").unlink()
        await system.execute(goal, mode="follow")
    assert lab.read("once.txt") == "a\nb\n"


async def test_a_second_run_of_a_task_is_a_second_version(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    async with lab.boot() as system:
        first = await learned(system)
        second = await system.execute(COPY, mode="learn")
        name = (first.trace_id or "").split("@")[0]
        assert (first.trace_id, second.trace_id) == (f"{name}@1", f"{name}@2")
        assert (await system.traces.get(name, 1)).steps == (await system.traces.get(name, 2)).steps


async def test_estimates_come_from_what_similar_goals_cost(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    async with lab.boot() as system:
        before = (await system.explain("Copy every picture of the sea")).cost_usd
        cost = (await learned(system)).cost_usd
        after = (await system.explain("Copy every picture of the sea")).cost_usd
    assert before == 0.5
    assert after == pytest.approx(cost, abs=1e-6)


async def test_explaining_does_nothing(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    lab.write("c.txt", "other words")
    async with lab.boot() as system:
        await learned(system)
        asked, rows = len(lab.server.requests), len(system.economy.entries(None))
        would = await system.explain(COPY_AGAIN)
        assert (len(lab.server.requests), len(system.economy.entries(None))) == (asked, rows)
    assert (would.decision, would.cost_usd) == ("follow", 0.0)
    assert sorted(would.bindings.values()) == ["c.txt", "d.txt"]
    assert not (lab.workspace / "d.txt").exists()


async def test_permissions_hold_for_the_learner_though_the_cli_allows_every_tool(make_lab: MakeLab) -> None:
    lab = make_lab(
        steps(
            call("write", file_path="../outside.txt", content="gotcha"),
            call("write", file_path="inside.txt", content="fine"),
            *finishing("Done."),
        )
    )
    async with lab.boot() as system:
        result = await system.execute("Put fine into inside.txt")
    assert [step["is_error"] for step in result.steps] == [True, False]
    assert not (lab.root / "outside.txt").exists()
    assert (result.cost_usd > 0, lab.read("inside.txt")) == (True, "fine")


async def test_of_what_the_learner_says_only_what_holds_after_its_run_is_checked_again(make_lab: MakeLab) -> None:
    checks = ["b.txt exists", "b.txt is not empty", "b.txt is valid JSON", "e.txt exists", "all is well"]
    lab = make_lab(
        steps(
            call("read", file_path="a.txt"),
            lambda request: call("write", file_path="b.txt", content=request.tool_results[0].text.split('"')[7]),
            call("finish", answer="Copied.", checks=checks),
            say("Copied."),
        )
    )
    lab.write("a.txt", "seven words in a plain text file")
    async with lab.boot() as system:
        result = await learned(system)
        trace = await system.traces.get(str(result.trace_id).split("@")[0])
    assert [str(check.kind) for check in trace.checks] == ["file_exists", "file_not_empty"]
