"""A context that gets full: its oldest turns are summarised, kept, and brought back, with the real CLI between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llmos.boot import LLMOS
from llmos.errors import LLMOSError
from llmos.interfaces.results import Result
from llmos.kernel.clients import CLIENTS
from llmos.kernel.process import Process, State
from llmos.memory.context_use import Use
from llmos.testing import Request, Turn, call, calls, say, slow, usage
from tests.door import Door
from tests.lab import Lab, MakeLab, finishing, until

SMALL = "learner: {context_tokens: 100000, first_estimate_usd: 0.1, max_usd_per_run: 20.0}\n"
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


@dataclass
class Reader:
    """A model that reads a file each turn, whose requests grow by 20,000 tokens a file; `asked` are its requests."""

    before: Callable[[Request], None] = lambda request: None
    summary: Callable[[Request], Turn] = lambda request: say("The first files hold the codes of planets.")
    after: dict[int, Turn] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    summaries: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Turn:
        if "Summarise the earlier turns" in text_of(request):
            self.summaries.append(request)
            return self.summary(request)
        self.before(request)
        self.asked.append(request)
        number = len(self.asked) - 1
        if number in self.after:
            return self.after[number]
        if number < len(NAMES):
            tokens = 20_000 * (len(request.tool_results) + 1)
            return calls(call("read", file_path=f"{NAMES[number]}.txt"), usage=usage(input_tokens=tokens))
        return finishing("All files are read.")[int(number > len(NAMES))]


def text_of(request: Request) -> str:
    return json.dumps(request.body["messages"], ensure_ascii=False)


def with_files(lab: Lab) -> Lab:
    lab.configure(SMALL)
    for number, name in enumerate(NAMES):
        lab.write(f"{name}.txt", f"The code of {name} is {number}{number}{number}.\n" + f"filler {name} " * 200)
    return lab


def only(system: LLMOS) -> Process:
    (process,) = system.home.processes
    return process


async def suspended(
    system: LLMOS, reader: Reader, *, at: int, goal: str = "Read all the files"
) -> tuple[Process, asyncio.Task[Result]]:
    """A process that was told to stop when its model had been asked so often, and the task it is."""
    begun: list[Process] = []

    def suspend(request: Request) -> None:
        if len(reader.asked) == at:
            system.home.processes.suspend(begun[0].pid)

    reader.before = suspend
    task = asyncio.create_task(system.execute(goal, begun=begun.append))
    await until(lambda: bool(begun) and begun[0].state is State.SUSPENDED)
    reader.before = lambda request: None
    return begun[0], task


async def ended(system: LLMOS, task: asyncio.Task[Result]) -> None:
    """The house ends, and what stands still in it is kept for the next one."""
    system.home.let_go()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def gone_on_with(system: LLMOS) -> None:
    """What an earlier house left goes on, to its end."""
    process = only(system)
    system.home.processes.resume(process.pid)
    await system.execute(process.goal, resumed=process)


async def test_the_oldest_turns_of_a_full_context_are_summarised_and_the_work_goes_on(make_lab: MakeLab) -> None:
    reader = Reader()
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        result = await system.execute("Read all the files")
        process, totals = only(system), await system.home.context_use.totals()
        run = await system.runs.get(result.run_id)
    assert result.answer == "All files are read."
    assert [step.args["file_path"] for step in run.steps] == [f"{name}.txt" for name in NAMES]
    assert len(reader.summaries) == 1
    assert "filler alpha" in text_of(reader.summaries[0])
    before, after = text_of(reader.asked[3]), text_of(reader.asked[4])
    assert "The code of alpha is 000" in before
    assert "filler alpha" not in after
    assert "The first files hold the codes of planets." in after
    assert 'turn 1: read(file_path=\\"alpha.txt\\"): done' in after
    assert "The code of delta is 333" in after  # the newest turns stay as they are
    assert "Read all the files" in after
    assert totals[Use.FOLDS] == 1
    assert process.context_max == 1_000_000


async def test_the_cost_of_a_summary_is_in_the_ledger(make_lab: MakeLab) -> None:
    reader = Reader(summary=lambda request: say("Codes.", usage=usage(input_tokens=100_000)))
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        result = await system.execute("Read all the files")
        dear = system.economy.summary().spent_usd
        process = only(system)
    assert dear == pytest.approx(result.cost_usd)
    assert process.budget.spent_usd == pytest.approx(result.cost_usd)
    cheap_reader = Reader()
    cheap_lab = with_files(make_lab(cheap_reader))
    async with cheap_lab.boot() as system:
        cheap = (await system.execute("Read all the files")).cost_usd
    assert result.cost_usd - cheap > 0.1


async def test_without_a_summary_the_calls_are_listed_and_the_work_goes_on(make_lab: MakeLab) -> None:
    reader = Reader(summary=lambda request: say(""))
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        result = await system.execute("Read all the files")
    assert result.answer == "All files are read."
    assert 'turn 1: read(file_path=\\"alpha.txt\\"): done' in text_of(reader.asked[4])
    assert "no summary could be had" in text_of(reader.asked[4])


async def test_what_a_later_turn_needs_is_brought_back(make_lab: MakeLab) -> None:
    reader = Reader()
    lab = with_files(make_lab(reader))
    lab.write("epsilon.txt", "Compare this with the code of alpha in alpha.txt.")
    async with lab.boot() as system:
        await system.execute("Read all the files")
        totals = await system.home.context_use.totals()
    assert "The code of alpha is 000" not in text_of(reader.asked[4])
    assert "The code of alpha is 000" in text_of(reader.asked[5])
    assert totals[Use.BROUGHT_BACK] >= 1
    assert totals[Use.LOOKED_BACK] >= totals[Use.BROUGHT_BACK]


async def test_the_model_can_search_the_earlier_turns(make_lab: MakeLab) -> None:
    reader = Reader(after={4: call("look_back", query="the code of beta")})
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        result = await system.execute("Read all the files")
        run = await system.runs.get(result.run_id)
    names = [tool["name"] for tool in reader.asked[0].body["tools"]]
    later = [tool["name"] for tool in reader.asked[4].body["tools"]]
    assert "mcp__llmos__look_back" not in names
    assert "mcp__llmos__look_back" in later
    assert "The code of beta is 111" in reader.asked[5].tool_results[-1].text
    assert "look_back" not in {step.tool for step in run.steps}  # it is no step of the trace


async def test_a_context_that_is_not_full_is_left_alone(make_lab: MakeLab) -> None:
    reader = Reader()
    lab = with_files(make_lab(reader))
    lab.configure("learner: {first_estimate_usd: 0.1, max_usd_per_run: 20.0}\n")
    async with lab.boot() as system:
        await system.execute("Read all the files")
    assert not reader.summaries
    assert "The code of alpha is 000" in text_of(reader.asked[-1])


async def test_the_context_of_another_providers_model_is_folded_too(make_lab: MakeLab) -> None:
    pytest.importorskip("pydantic_ai")
    reader = Reader(after={4: call("look_back", query="the code of beta")})
    lab = with_files(make_lab(reader))
    lab.configure(
        SMALL
        + f"models: {{learner: 'own:m'}}\nservers: {{own: {{base_url: '{lab.server.openai_url}'}}}}\n"
        + "prices: {m: {input_usd_per_mtok: 1.0, output_usd_per_mtok: 10.0}}\n"
    )
    async with lab.boot() as system:
        result = await system.execute("Read all the files")
        process, spent_usd = only(system), system.economy.summary().spent_usd
    assert result.answer == "All files are read."
    assert len(reader.summaries) == 1
    assert "The code of alpha is 000" in text_of(reader.asked[3])
    assert "filler alpha" not in text_of(reader.asked[4])
    assert "The first files hold the codes of planets." in text_of(reader.asked[4])
    assert "The code of beta is 111" in reader.asked[5].tool_results[-1].text
    assert spent_usd == pytest.approx(result.cost_usd)
    assert process.budget.spent_usd == pytest.approx(result.cost_usd)


async def test_who_has_finished_needs_no_room(make_lab: MakeLab) -> None:
    full = usage(input_tokens=90_000)
    last = calls(call("read", file_path="epsilon.txt"), call("finish", answer="All files are read."), usage=full)
    reader = Reader(after={4: last, 5: say("All files are read.")})
    lab = with_files(make_lab(reader))
    lab.configure(SMALL.replace("100000", "130000"))  # full only with the last answer
    async with lab.boot() as system:
        result = await system.execute("Read all the files")
    assert result.answer == "All files are read."
    assert not reader.summaries


async def test_the_cost_of_a_summary_is_kept_at_once(make_lab: MakeLab) -> None:
    reader = Reader(summary=lambda request: say("Codes.", usage=usage(input_tokens=100_000)))
    lab = with_files(make_lab(reader))
    kept: list[tuple[float, float]] = []
    async with lab.boot() as system:
        loop = asyncio.get_running_loop()

        async def look() -> None:
            (checkpoint,) = await system.home.checkpoints.list()
            kept.append((checkpoint.spent_usd, only(system).budget.spent_usd))

        def look_at_the_fifth(request: Request) -> None:
            if len(reader.asked) == 4:
                asyncio.run_coroutine_threadsafe(look(), loop).result(20)

        reader.before = look_at_the_fifth
        await system.execute("Read all the files")
    ((spent_usd, known_usd),) = kept
    assert spent_usd == pytest.approx(known_usd)
    assert spent_usd > 0.1


async def test_a_summary_that_takes_too_long_is_done_without(make_lab: MakeLab) -> None:
    reader = Reader(summary=lambda request: slow(20.0, say("Too late.")))
    lab = with_files(make_lab(reader))
    lab.configure(SMALL.replace("learner: {", "learner: {turn_timeout_s: 16, "))
    async with lab.boot() as system:
        result = await system.execute("Read all the files")
        spent_usd = system.economy.summary().spent_usd
    assert result.answer == "All files are read."
    assert "no summary could be had" in text_of(reader.asked[4])
    assert spent_usd == pytest.approx(result.cost_usd)


async def test_the_next_kernel_knows_how_full_a_context_is(make_lab: MakeLab) -> None:
    reader = Reader()
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        process, task = await suspended(system, reader, at=3)
        full = process.context_tokens
        await ended(system, task)
    assert not reader.summaries
    async with lab.boot() as system:
        process = only(system)
        assert (process.context_tokens, process.context_max) == (full, 1_000_000)
        await gone_on_with(system)
    assert len(reader.summaries) == 1
    assert "filler alpha" not in text_of(reader.asked[4])


async def test_what_a_folded_turn_did_is_done_again_where_it_is_asked_for(
    make_lab: MakeLab,
) -> None:
    """It stands in the session, only not in the context: no result of it was lost on the way."""
    write = calls(call("write", file_path="note.txt", content="one"), usage=usage(input_tokens=20_000))
    reader = Reader(after={0: write, 5: write})
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        _, task = await suspended(system, reader, at=4, goal="Write one into note.txt and read all files")
        await ended(system, task)
    assert len(reader.summaries) == 1
    assert "note.txt" not in {use["file_path"] for use in inputs(reader.asked[-1])}
    lab.write("note.txt", "somebody else's")
    async with lab.boot() as system:
        await gone_on_with(system)
    assert lab.read("note.txt") == "one"


def inputs(request: Request) -> list[dict[str, Any]]:
    blocks = [block for message in request.body["messages"] for block in message["content"] if isinstance(block, dict)]
    return [block["input"] for block in blocks if block.get("type") == "tool_use"]


async def test_settings_that_contradict_each_other_are_refused(make_lab: MakeLab) -> None:
    lab = make_lab(Reader())
    lab.configure("learner: {fold_at: 0.3, fold_to: 0.5}\n")
    with pytest.raises(LLMOSError, match=r"llmos.yaml: learner.fold_to \(0.5\) must be less than learner.fold_at"):
        lab.boot()


async def test_a_process_that_was_suspended_when_its_context_was_full_goes_on(make_lab: MakeLab) -> None:
    reader = Reader()
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        process, task = await suspended(system, reader, at=3)
        await until(lambda: not CLIENTS.live)
        system.home.processes.resume(process.pid)
        result = await task
    assert result.answer == "All files are read."
    assert len(reader.summaries) == 1
    assert "filler alpha" not in text_of(reader.asked[4])


async def test_summaries_and_earlier_turns_outlive_the_kernel(make_lab: MakeLab) -> None:
    """The house ends after the first summary; the next one goes on with it, and still finds what was read first."""
    reader = Reader(after={5: call("look_back", query="the code of beta")})
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        _, task = await suspended(system, reader, at=4)
        await ended(system, task)
    async with lab.boot() as system:
        await gone_on_with(system)
    assert "The first files hold the codes of planets." in text_of(reader.asked[5])
    assert "The code of beta is 111" in reader.asked[6].tool_results[-1].text


async def test_mem_tells_what_each_level_holds(make_lab: MakeLab, tmp_path: Path) -> None:
    reader = Reader(after={4: call("look_back", query="the code of beta")})
    lab = with_files(make_lab(reader))
    async with lab.boot() as system:
        await system.execute("Read all the files")
        await system.memory.remember("colour", "blue")
        assert await system.memory.recall("colour")
        assert not await system.memory.recall("an entirely different thing")
    (tmp_path / "door").mkdir()
    door = Door(tmp_path / "door")
    door.env["LLMOS_HOME"] = str(lab.home)
    levels = {level["level"]: level for level in door.json("mem")["levels"]}
    assert levels["L1"]["asked"] > 200_000
    assert levels["L2"]["turns_summarised"] >= 1
    assert levels["L2"]["hits"] >= 1
    assert (levels["L3"]["hits"], levels["L3"]["asked"]) == (0, 1)
    assert (levels["L4"]["entries"], levels["L4"]["hits"], levels["L4"]["asked"]) == (1, 1, 2)
    shown = door("mem").stdout
    assert "50% of 2 look-ups" in shown
