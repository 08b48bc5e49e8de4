"""What LLM OS does goes into the audit log: an effect before it happens, and no secret at all."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from llmos.boot import LLMOS, Question
from llmos.errors import NotPermittedError
from llmos.memory.audit_entries import Row
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.tool import ToolCall, ToolResult
from llmos.testing import call, say
from tests.lab import COPY, Lab, MakeLab, copying_lab, finishing, steps

SECRET = "hunter2-is-long-enough"


def quiet(make_lab: MakeLab) -> Lab:
    return make_lab([say("nobody should ask me")])


def context(system: LLMOS, run_id: str = "r1") -> ToolContext:
    ctx = system.dispatcher.following.surroundings.context(run_id)
    return replace(ctx, middleware=(system.witnessing,))  # what asks a person stands further in


async def facts(system: LLMOS, kind: str) -> list[Any]:
    return [row.facts for row in await system.audit_log.tail(1000, kind=kind)]


async def yes(question: Question) -> bool:
    return True


async def test_a_learned_and_a_followed_goal_leave_decisions_effects_charges_and_ends(make_lab: MakeLab) -> None:
    lab = copying_lab(make_lab)
    async with lab.boot() as system:
        learned = await system.execute(COPY)
        followed = await system.execute(COPY, confirm=yes)
        assert followed.mode == "follower"
        rows = await system.audit_log.tail(1000)
        assert (await system.audit_log.verify()).is_whole
    assert kinds(rows, learned.run_id)[:5] == [
        "decision",
        "charge reserve",
        "taint",
        "effect begun",
        "effect done",
    ]
    assert kinds(rows, learned.run_id)[-1] == "run_end"
    assert kinds(rows, followed.run_id)[-5:] == ["effect begun", "taint", "effect done", "charge saving", "run_end"]
    (effect,) = [row for row in rows if row.run_id == followed.run_id and row.facts.get("state") == "begun"]
    assert effect.facts["tool"] == "write"
    assert effect.facts["arguments"] == {"content": "seven words in a plain text file", "file_path": "b.txt"}
    (end,) = [row.facts for row in rows if row.run_id == learned.run_id and row.kind == "run_end"]
    assert (end["goal"], end["status"]) == (COPY, "done")
    assert end["cost_microusd"] == round(learned.cost_usd * 1_000_000) > 0


def kinds(rows: list[Row], run_id: str) -> list[str]:
    more = {"charge": "kind", "effect": "state"}
    mine = [row for row in rows if row.run_id == run_id]
    return [f"{row.kind} {row.facts[more[row.kind]]}" if row.kind in more else row.kind for row in mine]


async def test_an_effect_is_on_record_when_it_happens(make_lab: MakeLab) -> None:
    seen: list[Row] = []
    async with quiet(make_lab).boot() as system:

        @llm_tool("probe", "Looks at the log.", {"text": str}, effect="external")
        async def probe(text: str) -> str:
            with_connection = await system.audit_log.tail(1)
            seen.extend(with_connection)
            return text

        system.registry.register(tool_of(probe))
        assert not (await system.registry.call("probe", {"text": "a"}, context(system))).is_error
        assert (seen[0].facts["state"], seen[0].facts["tool"], seen[0].run_id) == ("begun", "probe", "r1")
        assert [one["state"] for one in await facts(system, "effect")] == ["begun", "done"]


async def test_an_effect_and_its_intent_are_stored_together(make_lab: MakeLab) -> None:
    stored: list[tuple[int, int]] = []
    async with quiet(make_lab).boot() as system:
        db = system.audit_log._db

        async def rows(table: str) -> int:
            ((count,),) = await db.run(lambda c: c.execute(f"SELECT count(*) FROM {table}").fetchall())
            return int(count)

        @llm_tool("probe", "Looks at what is stored.", {"text": str}, effect="write", writes=lambda ctx, given: ())
        async def probe(text: str) -> str:
            stored.append((await rows("audit_log WHERE kind = 'effect'"), await rows("journal")))
            return text

        system.registry.register(tool_of(probe))
        ctx = replace(system.surroundings.context("r1"), step=0)
        assert not (await system.registry.call("probe", {"text": "a"}, ctx)).is_error
        assert stored == [(1, 1)]
        await db.run(lambda c: c.execute("ALTER TABLE audit_log RENAME TO elsewhere") and None)
        assert (await system.registry.call("probe", {"text": "b"}, replace(ctx, step=1))).is_error
        assert len(stored) == 1, "what can't be recorded is not done"
        assert await rows("journal") == 1
        await db.run(lambda c: c.execute("ALTER TABLE elsewhere RENAME TO audit_log") and None)
        assert [one["state"] for one in await facts(system, "effect")] == ["begun", "done", "begun", "refused"]


async def test_what_only_reads_is_not_held_up(make_lab: MakeLab) -> None:
    lab = quiet(make_lab)
    lab.write("a.txt", "hello")
    async with lab.boot() as system:
        await system.registry.call("read", {"file_path": "a.txt"}, context(system))
        assert await facts(system, "effect") == []


async def test_an_effect_that_can_not_be_recorded_is_not_done(make_lab: MakeLab) -> None:
    lab = quiet(make_lab)
    async with lab.boot() as system:
        db = system.audit_log._db
        await db.run(lambda c: c.execute("ALTER TABLE audit_log RENAME TO elsewhere") and None)
        result = await system.registry.call("write", {"file_path": "a.txt", "content": "x"}, context(system))
        assert result.is_error
        assert not (lab.workspace / "a.txt").exists()
        await db.run(lambda c: c.execute("ALTER TABLE elsewhere RENAME TO audit_log") and None)


async def test_a_failed_a_refused_and_a_cancelled_effect_say_so(make_lab: MakeLab) -> None:
    begun = asyncio.Event()

    async def refusing(call: ToolCall, proceed: Any) -> ToolResult:
        raise NotPermittedError("not today")

    async with quiet(make_lab).boot() as system:

        @llm_tool("slow", "Waits.", {"seconds": int}, effect="external")
        async def slow(seconds: int) -> str:
            if seconds == 0:
                raise ValueError("no patience")
            begun.set()
            await asyncio.sleep(seconds)
            return "late"

        system.registry.register(tool_of(slow))
        ctx = context(system)
        await system.registry.call("slow", {"seconds": 0}, ctx)
        await system.registry.call("slow", {"seconds": 60}, replace(ctx, middleware=(*ctx.middleware, refusing)))
        waiting = asyncio.create_task(system.registry.call("slow", {"seconds": 60}, ctx))
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        said = [(one["state"], one.get("said", "")) for one in await facts(system, "effect")]
        assert [state for state, _ in said] == ["begun", "failed", "begun", "refused", "begun", "broken off"]
        assert "no patience" in said[1][1] and said[3][1] == "not today"


async def test_no_secret_enters_a_row(make_lab: MakeLab) -> None:
    key = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"
    content = f"first {SECRET} then {key}"
    lab = make_lab(steps(call("write", file_path="b.txt", content=content), *finishing(f"Wrote {SECRET}")))
    lab.extra["MY_TOKEN"] = SECRET
    lab.configure("secrets: [MY_TOKEN]\n")
    async with lab.boot() as system:
        await system.execute(f"Write {SECRET} into b.txt")
        rows = await system.audit_log.tail(1000)
    assert lab.read("b.txt") == content
    text = json.dumps([row.to_data() for row in rows])
    assert SECRET not in text and key not in text
    (effect,) = [row.facts for row in rows if row.facts.get("state") == "begun"]
    assert effect["arguments"]["content"] == "first «secret:MY_TOKEN» then «secret»"
    assert "secrets.MY_TOKEN" in text


async def test_large_arguments_are_shown_short_and_hashed_whole(make_lab: MakeLab) -> None:
    async with quiet(make_lab).boot() as system:
        for last in "ab":
            arguments = {"file_path": "a.txt", "content": "x" * 100_000 + last}
            await system.registry.call("write", arguments, context(system))
        one, two = [effect for effect in await facts(system, "effect") if effect["state"] == "begun"]
        assert one["arguments"] == two["arguments"]
        assert one["arguments"]["content"] == "x" * 120 + "… (100001 characters)"
        assert one["arguments_sha256"] != two["arguments_sha256"]


async def test_what_a_person_agrees_to_is_recorded(make_lab: MakeLab) -> None:
    lab = quiet(make_lab)
    lab.write("a.csv", "a,b\n1,2\n")
    async with lab.boot() as system:
        trace = await system.traces.get("convert-data")
        await system.feedback.set_aside(trace, "for a test")
        await system.feedback.trust(trace)
        await system.execute("Convert a.csv to a.json", mode="follow", confirm=yes)
        changed = [one for one in await facts(system, "trace") if one["change"] == "status"]
        assert [(one["was"], one["status"]) for one in changed] == [
            ("trusted", "quarantined"),
            ("quarantined", "trusted"),
        ]
        assert [one["right"] for one in await facts(system, "approval")] == [True]  # that the trace is trusted again


async def test_settings_are_recorded_when_they_are_not_those_of_the_last_time(make_lab: MakeLab) -> None:
    lab = quiet(make_lab)
    for model in (None, None, "haiku", None):
        async with lab.boot(model=model) as system:
            recorded = await facts(system, "setting")
    assert [one["changed"] for one in recorded] == [
        {},
        {"models.learner": [["sonnet"], ["haiku"]]},
        {"models.learner": [["haiku"], ["sonnet"]]},
    ]
    assert recorded[0]["values"]["scheduler.max_concurrent"] == 4


async def test_many_goals_at_once_have_one_chain(make_lab: MakeLab) -> None:
    async with quiet(make_lab).boot() as system:
        results = await asyncio.gather(*(system.execute(f"Calculate {n} + 1") for n in range(12)))
        assert (await system.audit_log.verify()).is_whole
        rows = await system.audit_log.tail(1000)
        for result in results:
            assert kinds(rows, result.run_id) == ["decision", "charge saving", "run_end"]
