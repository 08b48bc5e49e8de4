"""Sentences as system calls: parsed by the model once, replayed for $0, and never another call than the one meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from llmos.boot import LLMOS
from llmos.errors import LLMOSError, NotFoundError, UsageError
from llmos.interfaces.system_calls import exact_call
from llmos.interfaces.system_objects import Objects
from llmos.interfaces.system_parsing import Parsed, SystemParsing, read_call
from llmos.interfaces.system_verbs import typed, verbs
from llmos.testing import Request, Turn, say
from llmos.trace.program import Effect
from tests.lab import Lab, MakeLab

GOALS = ("Review the code of src/", "Draw up the architecture of the shop", "Convert sales.csv to sales.parquet")
REVIEWER, ARCHITECT, CONVERTER = 1, 2, 3
NOTHING: dict[str, Any] = {"call": None, "arguments": {}}


def answering(*, others: dict[str, Any] | None = None, **known: Any) -> Callable[[Request], Turn]:
    """A model that knows what some sentences mean, and says `others` to all else."""

    def script(request: Request) -> Turn:
        sentence = json.loads(request.prompt.split("SENTENCE: ")[1].split("\n\nReply")[0])
        return say(json.dumps(known.get(sentence, others or NOTHING)))

    return script


def meaning(call: str, **arguments: Any) -> dict[str, Any]:
    return {"call": call, "arguments": arguments}


SUSPEND = {"suspend the reviewer": meaning("suspend", pids=["reviewer"])}


def parsing(system: LLMOS) -> SystemParsing:
    processes = [one for one in system.home.processes if one.is_alive]
    if not processes:
        processes = [system.home.processes.spawn(goal) for goal in GOALS]

    async def likeness(text: str, others: Any) -> list[float]:
        return [1.0 if text == "auditor" and "Review" in one else 0.1 for one in others]

    return SystemParsing(system=system, objects=Objects(processes=processes, likeness=likeness))


async def learned(system: LLMOS, sentence: str) -> Parsed:
    found = await parsing(system).parsed(sentence)
    if found.learned is not None:
        await system.home.system_parses.add(found.learned)
    return found


def made(found: Parsed) -> list[str]:
    return found.call.words()


async def test_a_sentence_is_asked_once_and_replayed_for_another_process(make_lab: MakeLab) -> None:
    lab: Lab = make_lab(answering(**SUSPEND))
    async with lab.boot() as system:
        first = await learned(system, "suspend the reviewer")
        again = await parsing(system).parsed("suspend the reviewer")
        other = await parsing(system).parsed("please suspend the architect")
        third = await parsing(system).parsed("suspend the one converting sales.csv")
        by_number = await parsing(system).parsed("suspend the 2")
        spent = system.economy.summary().spent_usd
    assert made(first) == made(again) == ["suspend", str(REVIEWER)]
    assert (made(other), made(third), made(by_number)) == (["suspend", "2"], ["suspend", "3"], ["suspend", "2"])
    assert [one.how for one in (first, again, other, third)] == ["model", "replayed", "replayed", "replayed"]
    assert first.cost_usd == pytest.approx(spent)
    assert spent > 0
    assert len(lab.server.conversation) == 1


NEAR = (
    "resume the reviewer",
    "kill the reviewer",
    "don't suspend the reviewer",
    "do not suspend the reviewer",
    "never suspend the reviewer",
    "suspend the reviewer and the architect",
    "suspend the reviewer, then kill the architect",
    "suspend all but the reviewer",
    "suspend everything except the reviewer",
    "suspend the reviewer tomorrow",
    "suspend the reviewer in 5 minutes",
    "suspend the reviewer if the tests fail",
    "suspend the reviewer unless it is done",
    "suspend the other reviewer",
    "suspend the reviewer's children",
    "unsuspend the reviewer",
    "suspend the painter",
    "suspend everybody",
    "suspend all reviewers",
    "should the reviewer suspend the architect",
    "suspend the reviewer of the architecture",
    "the architect wants to suspend the reviewer",
    "suspend 1 and 2",
    "suspend the reviewer or the architect",
)


@pytest.mark.parametrize("sentence", NEAR)
async def test_no_near_miss_of_a_learned_sentence_makes_another_call(make_lab: MakeLab, sentence: str) -> None:
    lab = make_lab(answering(**SUSPEND))
    async with lab.boot() as system:
        await learned(system, "suspend the reviewer")
        try:
            found = await parsing(system).parsed(sentence)
        except LLMOSError:
            return
    pytest.fail(f"{sentence!r} made {made(found)}")


HARD = [
    one
    for one in NEAR
    if "suspend" in one and one not in ("suspend 1 and 2", "suspend the painter", "unsuspend the reviewer")
]


@pytest.mark.parametrize("sentence", [*HARD, "resume the reviewer", "kill the reviewer", "unsuspend the reviewer"])
async def test_not_even_a_model_that_says_so_makes_the_learned_call_of_a_near_miss(
    make_lab: MakeLab, sentence: str
) -> None:
    lab = make_lab(answering(others=SUSPEND["suspend the reviewer"]))
    async with lab.boot() as system:
        await learned(system, "suspend the reviewer")
        with pytest.raises(LLMOSError):
            await parsing(system).parsed(sentence)
        assert len(await system.home.system_parses.all()) == 1


@pytest.mark.parametrize(
    ("sentence", "lie", "why"),
    [
        ("suspend the reviewer", meaning("kill", pids=["reviewer"]), "says 'suspend', so it is no 'kill'"),
        ("resume the reviewer", meaning("suspend", pids=["reviewer"]), "says 'resume', so it is no 'suspend'"),
        ("what is the reviewer doing", meaning("kill", pids=["reviewer"]), "'kill' is only done where the sentence"),
        ("suspend the reviewer", meaning("suspend", pids=[2]), "2 is no process that the sentence names"),
        ("suspend the reviewer", meaning("suspend", pids=["architect"]), "no process that the sentence names"),
        ("make 1 urgent", meaning("nice", pid="1", priority=0), "0 is no priority that the sentence says"),
        ("suspend it", meaning("suspend"), "suspend needs pids"),
        ("suspend 1", meaning("format_disk"), "says 'suspend'"),
        ("suspend the reviewer", meaning("suspend", pids=["reviewer"], force=True), "suspend takes no 'force'"),
        ("suspend the reviewer", meaning("suspend", pids=["--all"]), "no process that the sentence names"),
        ("suspend the reviewer", "rm -rf", "the model gave no call"),
        ("suspend the reviewer", NOTHING, "no system call does what"),
    ],
)
async def test_what_a_model_says_wrongly_is_no_call_and_is_not_learned(
    make_lab: MakeLab, sentence: str, lie: Any, why: str
) -> None:
    lab = make_lab(answering(others=lie))
    async with lab.boot() as system:
        with pytest.raises(UsageError, match=why):
            await parsing(system).parsed(sentence)
        assert await system.home.system_parses.all() == []
        assert system.economy.summary().spent_usd > 0


async def test_numbers_are_slots_in_their_places(make_lab: MakeLab) -> None:
    sentence = "set the priority of process 2 to 3"
    lab = make_lab(answering(**{sentence: meaning("nice", pid="2", priority=3)}))
    async with lab.boot() as system:
        assert made(await learned(system, sentence)) == ["nice", "2", "3"]
        other = await parsing(system).parsed("set the priority of process 1 to 12")
        assert (made(other), other.how) == (["nice", "1", "12"], "replayed")
        with pytest.raises(LLMOSError):
            await parsing(system).parsed("set the priority of process 1 to -12")


async def test_a_call_without_objects_and_one_with_options_are_learned(make_lab: MakeLab) -> None:
    known = {
        "how much money is left": meaning("battery show"),
        "show me the last 5 runs that failed": meaning("runs list", limit=5, status="failed"),
    }
    lab = make_lab(answering(**known))
    async with lab.boot() as system:
        for sentence in known:
            await learned(system, sentence)
        money = await parsing(system).parsed("how much money is left?")
        runs = await parsing(system).parsed("show me the last 7 runs that failed")
    assert (made(money), money.cost_usd) == (["battery", "show"], 0.0)
    assert made(runs) == ["runs", "list", "--limit=7", "--status=failed"]


async def test_a_model_is_named_in_a_slot(make_lab: MakeLab) -> None:
    sentence = "have haiku work on the reviewer"
    lab = make_lab(answering(**{sentence: meaning("model", pid="reviewer", name="haiku")}))
    async with lab.boot() as system:
        assert made(await learned(system, sentence)) == ["model", "1", "haiku"]
        other = await parsing(system).parsed("have opus work on the architect")
        assert (made(other), other.how) == (["model", "2", "opus"], "replayed")


async def test_a_single_word_may_mean_a_process_that_does_not_say_it(make_lab: MakeLab) -> None:
    lab = make_lab(answering(**SUSPEND))
    async with lab.boot() as system:
        await learned(system, "suspend the reviewer")
        found = await parsing(system).parsed("suspend the auditor")
        assert (made(found), found.how) == (["suspend", "1"], "replayed")


async def test_who_is_not_clearly_meant_is_not_called_and_the_nearest_is_named(make_lab: MakeLab) -> None:
    lab = make_lab(answering(**{"suspend the painter": meaning("suspend", pids=["painter"])}))
    async with lab.boot() as system:
        with pytest.raises(NotFoundError, match=r"no process is clearly meant by 'painter'; the nearest is 1 \(Review"):
            await parsing(system).parsed("suspend the painter")
        system.home.processes.spawn("Review the tests")
        objects = parsing(system).objects
        with pytest.raises(NotFoundError, match=r"may be process 1 .* or 4 .*: say its number"):
            await objects.resolve("reviewer")


async def test_the_order_of_what_names_a_process_counts(make_lab: MakeLab) -> None:
    async with make_lab([]).boot() as system:
        objects = parsing(system).objects
        assert (await objects.resolve("the one converting sales.csv to sales.parquet")).pid == CONVERTER
        with pytest.raises(NotFoundError):
            await objects.resolve("the one converting sales.parquet to sales.csv")


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("suspend 7", ["suspend", "7"]),
        ("ps --all", ["ps", "--all"]),
        ("battery", ["battery"]),
        ("runs show last", ["runs", "show", "last"]),
        ("suspend the reviewer", None),
        ("kill 7 and 8", None),
        ("undo the last run", None),
        ("runs about sales", None),
        ("run it", None),
        ("sys ps", None),
        ("don't", None),
        ("ps --help", None),
    ],
)
def test_an_exact_call_is_one_word_for_word(sentence: str, words: list[str] | None) -> None:
    found = exact_call(sentence)
    assert (found[1] if found else None) == words


def test_every_call_is_one_of_the_command_lines_own_and_dangerous_until_it_is_known_not_to_be() -> None:
    known = verbs()
    assert {"ps", "kill", "model", "battery show", "traces forget", "undo"} <= set(known)
    assert not {"run", "sys", "up", "batch", "interactive"} & set(known)
    asked = {name for name, verb in known.items() if verb.effect is Effect.EXTERNAL}
    assert {"kill", "undo", "gc", "down", "traces forget", "battery recharge", "traces confirm"} <= asked
    assert not {"ps", "suspend", "resume", "nice", "spawn", "wait"} & asked


def test_a_typed_call_becomes_the_command_line_it_is() -> None:
    call = typed("runs list", {"limit": 5, "status": "failed"}, "the 5 failed runs")
    assert call.words() == ["runs", "list", "--limit=5", "--status=failed"]
    with pytest.raises(UsageError, match="is no status that the sentence says"):
        typed("runs list", {"status": "lost"}, "the lost runs")


@pytest.mark.parametrize("text", ["", "kill 7", "[]", '{"call": 5}', '{"call": "ps", "x": 1}', "[" * 9999])
def test_a_reply_of_another_form_is_no_call(text: str) -> None:
    with pytest.raises(UsageError, match="the model gave no call"):
        read_call(text)
