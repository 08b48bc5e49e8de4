"""Confirming, judging, auditing and rejecting: what people and models say of a trace, and what follows for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from llmos.boot import LLMOS, Question, Result
from llmos.errors import DivergenceError, NothingToFollowError, NotPermittedError
from llmos.interfaces.deciding import Deciding
from llmos.kernel.bus import Audited
from llmos.testing import HashEmbedder, Request, Turn, call, error, garbage, say, slow, usage
from llmos.trace.decide import Choice, Decision
from llmos.trace.lex import normalise
from llmos.trace.match import Match
from llmos.trace.program import Status
from tests.lab import Lab, MakeLab, finishing, steps

SUM = "Sum the amounts of a.csv"
ADD = "Add up the amounts of b.csv"
ADD_OTHER = "Add up the amounts of c.csv"
WORDING = "Add up the amounts of {source}"
SQL = "SELECT sum(amount) AS total FROM data"
LEARN = steps(call("query_data", sql=SQL, files={"data": "a.csv"}), *finishing("The total is 6.", source="a.csv"))
ASKED = usage(input_tokens=1_000, output_tokens=10)
PRICE = (1_000 * 1.0 + 10 * 5.0) / 1_000_000  # claude-haiku-4-5


@dataclass(frozen=True, kw_only=True)
class Near(Deciding):
    """The real way of deciding, with a wording that is near and not proven, as the gate finds them."""

    template: str = WORDING
    slot: str = "source"

    async def decide(self, goal: str) -> Decision:
        decision = await super().decide(goal)
        first, _, rest = self.template.partition("{" + self.slot + "}")
        known = await self.traces.list()
        trace_id = next((one.id for one in known if str(one.provenance) == "learned"), None)
        proven = decision.match is not None and decision.match.is_proven
        if proven or trace_id is None or not goal.startswith(first):
            return decision
        trace = await self.traces.get(trace_id)
        if normalise(goal) in await self.traces.negatives(trace_id) or trace.status is Status.REJECTED:
            return decision
        found = Match(
            trace=trace,
            template=trace.goals[0],
            bindings={trace.slots[0].name: goal.removeprefix(first).removesuffix(rest)},
            anchors=3,
            wording=self.template.replace("{source}", "{" + trace.slots[0].name + "}"),
            doubt=0.2,
        )
        return replace(decision, choice=Choice.CONFIRM, reason="its wording is near", match=found)


@dataclass(kw_only=True)
class Person:
    """Somebody at the terminal who always says the same."""

    says: bool | None
    asked: list[Question] = field(default_factory=list)

    async def __call__(self, question: Question) -> bool | None:
        self.asked.append(question)
        return self.says


def prepared(make_lab: MakeLab, script: Callable[[Request], Turn] = LEARN, config: str = "") -> Lab:
    lab = make_lab(script)
    lab.configure(config if "models:" in config else "models: {learner: claude-haiku-4-5}\n" + config)
    for name, amounts in {"a.csv": (1, 5), "b.csv": (2, 5), "c.csv": (3, 5)}.items():
        lab.write(name, "amount\n" + "\n".join(map(str, amounts)) + "\n")
    return lab


@asynccontextmanager
async def booted(lab: Lab, **options: Any) -> AsyncIterator[LLMOS]:
    """A running system whose gate finds near wordings."""
    system = LLMOS(settings=lab.settings(), embedder=HashEmbedder(), **options)
    async with system:
        known = system.deciding
        near = Near(
            recall=known.recall,
            traces=known.traces,
            world=known.world,
            bounds=known.bounds,
            outcomes=known.outcomes,
        )
        system.deciding = near
        system.dispatcher = replace(system.dispatcher, deciding=near)
        system.explaining = replace(system.explaining, deciding=near)
        yield system


async def learned(system: LLMOS) -> str:
    result = await system.execute(SUM)
    assert result.trace_id is not None, result.reason
    return result.trace_id.split("@")[0]


# ------------------------------------------------------------------------------------------------------ confirming


async def test_a_person_sees_how_the_goal_was_read_before_agreeing(make_lab: MakeLab) -> None:
    person = Person(says=True)
    async with booted(prepared(make_lab)) as system:
        await learned(system)
        await system.execute(ADD, confirm=person)
    (question,) = person.asked
    beside = {(pair.template, pair.goal, str(pair.kind)) for pair in question.alignment}
    assert ("Sum", "Add", "differs") in beside
    assert (None, "up", "left_over") in beside
    assert "b.csv" in question.bindings.values()
    assert [step["tool"] for step in question.steps] == ["query_data"]


async def test_a_confirmed_wording_is_followed_unasked_from_then_on(make_lab: MakeLab) -> None:
    person = Person(says=True)
    async with booted(prepared(make_lab)) as system:
        name = await learned(system)
        first = await system.execute(ADD, confirm=person)
        second = await system.execute(ADD_OTHER, confirm=person)
        trace = await system.traces.get(name)
    assert (first.mode, first.cost_usd, "7" in first.answer) == ("follower", 0.0, True)
    assert (second.mode, "8" in second.answer, len(person.asked)) == ("follower", True, 1)
    assert trace.version == 2
    assert len(trace.goals) == 2


async def test_a_refused_wording_is_never_asked_about_again_for_that_goal(make_lab: MakeLab) -> None:
    person = Person(says=False)
    async with booted(prepared(make_lab)) as system:
        name = await learned(system)
        result = await system.execute(ADD, confirm=person)
        assert normalise(ADD) in await system.traces.negatives(name)
        await system.execute(ADD, confirm=person)
        summary = next(one for one in await system.traces.list() if one.id == name)
    assert result.mode != "follower"
    assert len(person.asked) == 1
    assert summary.failures == 0, "what was only suggested is not held against the trace"


async def test_no_answer_is_no_refusal(make_lab: MakeLab) -> None:
    async with booted(prepared(make_lab)) as system:
        name = await learned(system)
        await system.execute(ADD, confirm=Person(says=None))
        assert await system.traces.negatives(name) == set()


async def test_a_confirmed_replay_that_diverges_adds_no_wording(make_lab: MakeLab) -> None:
    lab = prepared(make_lab)
    lab.write("b.csv", "price\n2\n")
    async with booted(lab) as system:
        name = await learned(system)
        with pytest.raises(DivergenceError):
            await system.execute(ADD, mode="follow", confirm=Person(says=True))
        trace = await system.traces.get(name)
    assert (trace.version, len(trace.goals)) == (1, 1)


async def test_following_only_never_takes_an_unproven_wording_by_itself(make_lab: MakeLab) -> None:
    async with booted(prepared(make_lab)) as system:
        await learned(system)
        with pytest.raises(NothingToFollowError, match="nobody agreed"):
            await system.execute(ADD, mode="follow")


# -------------------------------------------------------------------------------------------------------- judging


def judge_says(turn: Turn) -> Callable[[Request], Turn]:
    """The model that learns, and the one that judges: the latter is asked without tools."""
    return lambda request: LEARN(request) if request.tools else turn


def yes(text: str = '{"same": true, "wrong": []}') -> Turn:
    return say(text, usage=ASKED)


JUDGED = "models: {learner: claude-haiku-4-5, judge: claude-haiku-4-5}\n"
JUDGE = JUDGED + "judge: {timeout_s: 20}\n"


async def test_a_judge_stands_in_for_the_person_and_is_paid_once(make_lab: MakeLab) -> None:
    async with booted(prepared(make_lab, judge_says(yes()), JUDGE)) as system:
        name = await learned(system)
        spent = system.economy.summary().spent_usd
        first = await system.execute(ADD)
        second = await system.execute(ADD_OTHER)
        settled = [row.operation for row in system.economy.entries(None) if str(row.kind) == "settle"]
        cost = system.economy.summary().spent_usd - spent
        trace = await system.traces.get(name)
    assert first.mode == "judged"
    assert first.cost_usd == pytest.approx(PRICE, abs=1e-6)
    assert "judged by claude-haiku-4-5" in first.reason
    assert (second.mode, second.cost_usd, "8" in second.answer) == ("follower", 0.0, True)
    assert cost == pytest.approx(PRICE, abs=1e-6)
    assert settled[0] == "judged: claude-haiku-4-5"
    assert len(trace.goals) == 2


async def test_a_judges_no_is_kept_and_paid_once(make_lab: MakeLab) -> None:
    script = judge_says(yes('{"same": false, "wrong": ["up"]}'))
    async with booted(prepared(make_lab, script, JUDGE)) as system:
        name = await learned(system)
        result = await system.execute(ADD)
        assert normalise(ADD) in await system.traces.negatives(name)
        rows = [row for row in system.economy.entries(None) if row.operation.startswith("judged")]
        await system.execute(ADD)
        again = [row for row in system.economy.entries(None) if row.operation.startswith("judged")]
    assert result.mode != "judged"
    assert "another task (up)" in result.reason
    assert (len(rows), len(again)) == (1, 1)


@pytest.mark.parametrize(
    "turn",
    [
        yes("yes"),
        yes('{"same": "true", "wrong": []}'),
        yes('{"same": true}'),
        yes('{"same": true, "wrong": ["up"]}'),
        yes('Sure! {"same": true, "wrong": []}'),
        yes('{"same": true, "wrong": [], "note": 1}'),
        error(500),
        garbage(),
    ],
    ids=["word", "text", "half", "contradiction", "prose", "more", "500", "garbage"],
)
async def test_what_is_no_verdict_is_a_no_that_is_not_kept(make_lab: MakeLab, turn: Turn) -> None:
    async with booted(prepared(make_lab, judge_says(turn), JUDGE)) as system:
        name = await learned(system)
        result = await system.execute(ADD)
        assert await system.traces.negatives(name) == set()
        booked = system.economy.summary()
        total = sum(run.cost_usd for run in await system.runs.list())
    assert result.mode not in ("judged", "follower")
    assert booked.spent_usd == pytest.approx(total, abs=1e-6)
    assert booked.reserved_usd == 0


async def test_a_judge_that_does_not_answer_in_time_is_a_no_and_charged(make_lab: MakeLab) -> None:
    script = judge_says(slow(30, yes()))
    config = JUDGED + "judge: {timeout_s: 1, max_usd: 0.03}\n"
    async with booted(prepared(make_lab, script, config)) as system:
        await learned(system)
        result = await system.execute(ADD)
        charged = [row for row in system.economy.entries(None) if row.operation.startswith("judged")]
        assert system.economy.summary().reserved_usd == 0
    assert "did not answer within 1 s, for $0.0300" in result.reason
    assert charged[0].amount_microusd == 0, "all that was set aside is charged: nobody knows what was spent"


async def test_without_money_nobody_judges(make_lab: MakeLab) -> None:
    config = JUDGED + "judge: {max_usd: 100}\n"
    async with booted(prepared(make_lab, judge_says(yes()), config)) as system:
        await learned(system)
        result = await system.execute(ADD)
    assert "could not be asked: the battery holds" in result.reason


async def test_a_wording_the_gate_would_not_prove_is_not_put_to_the_judge(make_lab: MakeLab) -> None:
    asked: list[Request] = []

    def script(request: Request) -> Turn:
        if not request.tools:
            asked.append(request)
        return judge_says(yes())(request)

    async with booted(prepared(make_lab, script, JUDGE)) as system:
        await learned(system)
        found = (await system.deciding.decide(ADD)).match
        assert found is not None
        verdict = await system.dispatcher.agreeing.judging.judge(
            "r", ADD, replace(found, wording="Add up all of {source}")
        )
    assert verdict.same is None
    assert asked == []


async def test_a_judge_is_not_asked_where_only_following_is_allowed(make_lab: MakeLab) -> None:
    async with booted(prepared(make_lab, judge_says(yes()), JUDGE)) as system:
        await learned(system)
        asked = len(system.economy.entries(None))
        with pytest.raises(NothingToFollowError):
            await system.execute(ADD, mode="follow")
        assert len(system.economy.entries(None)) == asked


# ------------------------------------------------------------------------------------------- good and bad, said later


async def test_a_rejected_replay_never_answers_its_goal_again_and_must_be_confirmed_for_others(
    make_lab: MakeLab,
) -> None:
    async with booted(prepared(make_lab)) as system:
        name = await learned(system)
        replayed = await system.execute("Sum the amounts of b.csv")
        await system.feedback.disapprove(await system.runs.get(replayed.run_id))
        with pytest.raises(NothingToFollowError, match="rejected"):
            await system.execute("sum  the amounts of b.csv.", mode="follow")
        with pytest.raises(NotPermittedError):
            await system.execute("Sum the amounts of c.csv", mode="follow")
        record = await system.outcomes.record(name)
    assert [record.successes, record.failures] == pytest.approx([0.0, 1.0], abs=0.01)


async def test_rejecting_a_run_twice_counts_once(make_lab: MakeLab) -> None:
    async with booted(prepared(make_lab)) as system:
        name = await learned(system)
        run = await system.runs.get((await system.execute("Sum the amounts of b.csv")).run_id)
        await system.feedback.disapprove(run)
        await system.feedback.disapprove(run)
        assert (await system.outcomes.record(name)).failures == pytest.approx(1.0, abs=0.01)


async def test_a_wording_that_was_confirmed_and_then_rejected_is_taken_away(make_lab: MakeLab) -> None:
    async with booted(prepared(make_lab)) as system:
        name = await learned(system)
        result = await system.execute(ADD, confirm=Person(says=True))
        await system.feedback.disapprove(await system.runs.get(result.run_id))
        trace = await system.traces.get(name)
        assert len(trace.goals) == 1
        assert (await system.deciding.decide(ADD_OTHER)).choice is not Choice.FOLLOW
    assert (trace.version, trace.status) == (3, Status.CANDIDATE)


async def test_saying_good_takes_a_rejection_back(make_lab: MakeLab) -> None:
    async with booted(prepared(make_lab)) as system:
        name = await learned(system)
        replayed = await system.execute("Sum the amounts of b.csv")
        run = await system.runs.get(replayed.run_id)
        await system.feedback.disapprove(run)
        await system.feedback.approve(run)
        assert await system.traces.negatives(name) == set()
        assert (await system.execute("Sum the amounts of b.csv", mode="follow")).mode == "follower"


async def test_rejecting_the_run_that_made_a_trace_ends_it(make_lab: MakeLab) -> None:
    async with booted(prepared(make_lab)) as system:
        name = await learned(system)
        (run,) = await system.runs.list()
        await system.feedback.disapprove(await system.runs.get(run.id))
        assert (await system.traces.get(name)).status is Status.REJECTED


async def test_too_many_failures_in_a_row_set_a_trace_aside(make_lab: MakeLab) -> None:
    lab = prepared(make_lab, config="reliability: {max_failures: 2}\n")
    lab.write("b.csv", "price\n2\n")
    async with booted(lab) as system:
        name = await learned(system)
        for _ in range(2):
            with pytest.raises(DivergenceError):
                await system.execute("Sum the amounts of b.csv", mode="follow")
        trace = await system.traces.get(name)
        with pytest.raises(NothingToFollowError):
            await system.execute("Sum the amounts of c.csv", mode="follow")
        told = await system.explain("Sum the amounts of c.csv")
        await system.feedback.trust(trace)
        assert (await system.execute("Sum the amounts of c.csv", mode="follow")).mode == "follower"
    assert (trace.status, "2 replays in a row" in trace.reason) == (Status.QUARANTINED, True)
    assert "is set aside: it failed too often" in told.reason


# ------------------------------------------------------------------------------------------------------- auditing


def auditing(answer: str) -> Callable[[Request], Turn]:
    """A model that first learns, and answers b.csv's goal on its own when it audits."""
    audit = steps(call("query_data", sql=SQL, files={"data": "b.csv"}), *finishing(answer))

    def script(request: Request) -> Turn:
        return (audit if "b.csv" in request.prompt else LEARN)(request)

    return script


async def audited(make_lab: MakeLab, answer: str, look: Callable[[LLMOS, Result, str], Awaitable[None]]) -> None:
    lab = prepared(make_lab, auditing(answer), "audit_rate: 1.0\n")
    async with booted(lab, chance=lambda: 0.5) as system:
        name = await learned(system)
        await look(system, await system.execute("Sum the amounts of b.csv"), name)


async def test_an_audit_that_agrees_is_a_success_and_is_paid_for(make_lab: MakeLab) -> None:
    async def look(system: LLMOS, result: Result, name: str) -> None:
        run = await system.runs.get(result.run_id)
        spent = system.economy.summary().spent_usd
        assert (result.mode, result.audit, "7" in result.answer) == ("follower", "agreed", True)
        assert result.cost_usd == run.cost_usd > 0
        assert spent == pytest.approx(sum(one.cost_usd for one in await system.runs.list()), abs=1e-6)
        assert "audited by claude-haiku-4-5 for $0." in run.reason
        assert len(run.steps) == 1, "the auditor's calls are not the run's"
        assert (await system.outcomes.record(name)).successes == pytest.approx(1.0, abs=0.01)

    await audited(make_lab, "The total is 7.", look)


async def test_an_audit_that_disagrees_demotes_the_trace_and_says_so(make_lab: MakeLab) -> None:
    told: list[str] = []

    async def look(system: LLMOS, result: Result, name: str) -> None:
        trace = await system.traces.get(name)
        assert (result.audit, trace.status) == ("disagreed", Status.CANDIDATE)
        assert "the learner's answer is 'The total is 700.'" in trace.reason
        assert normalise("Sum the amounts of b.csv") in await system.traces.negatives(name)
        assert (await system.outcomes.record(name)).failures == pytest.approx(1.0, abs=0.01)
        told.append(result.reason)

    await audited(make_lab, "The total is 700.", look)
    assert "disagreed" in told[0]


async def test_an_auditor_has_no_tool_that_changes_anything(make_lab: MakeLab) -> None:
    audit = steps(call("write", file_path="b.csv", content="gone"), *finishing("The total is 7."))

    def script(request: Request) -> Turn:
        return (audit if "b.csv" in request.prompt else LEARN)(request)

    lab = prepared(make_lab, script, "audit_rate: 1.0\n")
    async with booted(lab, chance=lambda: 0.0) as system:
        await learned(system)
        await system.execute("Sum the amounts of b.csv")
    assert lab.read("b.csv") == "amount\n2\n5\n"


@pytest.mark.parametrize(("chance", "rate", "expected"), [(0.3, 0.25, ""), (0.2, 0.25, "agreed"), (0.0, 0.0, "")])
async def test_the_share_of_replays_that_is_audited_is_the_one_asked_for(
    make_lab: MakeLab, chance: float, rate: float, expected: str
) -> None:
    lab = prepared(make_lab, auditing("The total is 7."), f"audit_rate: {rate}\n")
    async with booted(lab, chance=lambda: chance) as system:
        await learned(system)
        assert (await system.execute("Sum the amounts of b.csv")).audit == expected


async def test_without_money_nothing_is_audited_and_the_replay_is_fine(make_lab: MakeLab) -> None:
    lab = prepared(make_lab, auditing("The total is 700."))
    async with booted(lab) as system:
        await learned(system)
    lab.configure("models: {learner: claude-haiku-4-5}\naudit_rate: 1.0\n")
    settings = replace(lab.settings(), budget_usd=0.0)
    async with LLMOS(settings=settings, embedder=HashEmbedder(), chance=lambda: 0.0) as system:
        result = await system.execute("Sum the amounts of b.csv")
    assert (result.mode, result.audit, result.cost_usd) == ("follower", "", 0.0)


async def test_an_audit_that_breaks_says_so_and_changes_nothing_about_the_trace(make_lab: MakeLab) -> None:
    def script(request: Request) -> Turn:
        return error(500) if "b.csv" in request.prompt else LEARN(request)

    lab = prepared(make_lab, script, "audit_rate: 1.0\n")
    heard: list[str] = []
    async with booted(lab, chance=lambda: 0.0) as system:
        system.bus.subscribe(Audited, lambda event: heard.append(event.verdict))
        name = await learned(system)
        result = await system.execute("Sum the amounts of b.csv")
        assert (await system.traces.get(name)).status is Status.TRUSTED
    assert (result.audit, heard, "7" in result.answer) == ("failed", ["failed"], True)


# --------------------------------------------------------------------------------------------------------- freezing


async def test_frozen_traces_are_followed_and_left_exactly_as_they_are(make_lab: MakeLab) -> None:
    lab = prepared(make_lab)
    async with booted(lab) as system:
        await learned(system)
        before = await system.traces.list()
    frozen = replace(lab.settings(), frozen=True)
    lab.write("c.csv", "price\n1\n")
    async with LLMOS(settings=frozen, embedder=HashEmbedder()) as system:
        assert (await system.execute("Sum the amounts of b.csv")).mode == "follower"
        with pytest.raises(DivergenceError):
            await system.execute("Sum the amounts of c.csv", mode="follow")
        result = await system.execute("Tell the total of a.csv")
        assert await system.traces.list() == before
        assert len(await system.runs.list()) == 4
    assert (result.mode, result.trace_id) == ("learner", None)
    assert "the traces are frozen" in result.reason


async def test_what_would_change_a_frozen_trace_is_refused_in_one_sentence(make_lab: MakeLab) -> None:
    lab = prepared(make_lab)
    async with booted(lab) as system:
        name = await learned(system)
    async with LLMOS(settings=replace(lab.settings(), frozen=True), embedder=HashEmbedder()) as system:
        trace = await system.traces.get(name)
        for change in (system.feedback.trust(trace), system.feedback.condemn(name), system.traces.forget(name)):
            with pytest.raises(NotPermittedError, match="frozen"):
                await change
