"""Where comparable programs broke, each as the regression it was; as far as traces alone can show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmos.errors import DivergenceError
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.trace.decide import Choice, consider, decide
from llmos.trace.induce import NotATrace, induce
from llmos.trace.match import Miss, World
from llmos.trace.program import CheckKind, Effect, Status, Step, Trace
from llmos.trace.reliability import Record, weighed
from llmos.trace.run import RunStatus, StepRecord
from llmos.trace.values import Const, OutputRef
from tests.unit.trace_lab import ENV, FACTS, Lab, bound, learned, plugin, refused, run_of, step

WRITE = plugin("put", Effect.WRITE)


def put(path: str, text: str, **more: Any) -> StepRecord:
    return step("put", {"path": path, "text": text}, "ok", effect=Effect.WRITE, **more)


@pytest.mark.parametrize("steps", [(), (step("read", {"file_path": "a"}, "no such file", is_error=True),)])
def test_an_empty_run_is_no_trace(steps: tuple[StepRecord, ...]) -> None:
    """A run that failed before any tool was stored empty, and the next call was a hit that did nothing."""
    assert isinstance(induce(run_of("Read a.txt to me", *steps), FACTS, ENV), NotATrace)


@pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.RUNNING])
def test_a_run_that_failed_midway_is_no_trace(status: RunStatus) -> None:
    """A run that failed midway was stored and counted as a hit."""
    from dataclasses import replace

    run = replace(run_of("Write 'x' to a.txt", put("a.txt", "x")), status=status)
    assert isinstance(induce(run, FACTS | {"put": WRITE}, ENV), NotATrace)


@pytest.mark.parametrize(
    "goal",
    [
        "Write the first 20 primes to numbers.txt",
        "Write the last 20 fibonacci numbers to numbers.txt",
        "Write the first 20 fibonacci primes to numbers.txt",
        "Write the first 30 fibonacci numbers to numbers.txt",
    ],
)
def test_fibonacci_is_not_written_where_primes_were_asked_for(goal: str) -> None:
    """Learned on fibonacci, asked for primes: a hit, and fibonacci was written again."""
    code = (
        "a, b, out = 0, 1, []\nfor _ in range(20):\n    out.append(str(a))\n    a, b = b, a + b\nresult = ' '.join(out)"
    )
    numbers = "0 1 1 2 3 5 8"
    python = step("python", {"code": code}, {"result": numbers, "printed": "", "text": numbers})
    write = step("write", {"file_path": "numbers.txt", "content": numbers}, {"path": "numbers.txt", "text": "Wrote."})
    trace = learned("Write the first 20 fibonacci numbers to numbers.txt", python, write)
    assert refused(trace, goal)
    assert bound(trace, "Write the first 20 fibonacci numbers to other.txt", {"python": {"text": "T"}})[1] == {
        "file_path": "other.txt",
        "content": "T",
    }


def test_failed_tool_calls_are_not_replayed() -> None:
    """Failed attempts were replayed, because results were never recorded."""
    failed = step("put", {"path": "/a.txt", "text": "x"}, "not permitted", is_error=True, effect=Effect.WRITE)
    trace = learned("Write 'x' to a.txt at once", failed, put("a.txt", "x"), extra=[WRITE])
    assert [one.tool for one in trace.calls] == ["put"]
    assert bound(trace, "Write 'y' to b.txt at once") == [{"path": "b.txt", "text": "y"}]


def test_what_is_learned_is_served() -> None:
    """Learned at confidence 0.75, served from 0.9 on: nothing was ever served."""
    trace = learned("Write 'x' to a.txt at once", put("a.txt", "x"), extra=[WRITE])
    for goal in ("Write 'x' to a.txt at once", "write 'z' to b.txt at once"):
        considered = consider(goal, trace, how="exact", world=World(), cosine=0.1)
        assert decide([considered], goal="x").choice is Choice.FOLLOW


@llm_tool("ask", "Ask the counter", {"name": str}, effect=Effect.READ, open_world=False, version="1")
async def ask(ctx: ToolContext, name: str) -> dict[str, Any]:
    return {"count": len((ctx.workspace / name).read_text())}


def test_a_reading_step_is_carried_out_again(tmp_path: Path) -> None:
    """A data-extraction step was skipped in replay and its recorded result returned."""
    lab = Lab(tmp_path, tools=(tool_of(ask),))
    lab.write("counter.txt", "xxx")
    trace = lab.learn("Tell the count of counter.txt", ("ask", {"name": "counter.txt"}), answer="The count is 3.")
    lab.write("counter.txt", "xxxxxxx")
    replay = lab.follow(trace, "Tell the count of counter.txt")
    assert replay.outputs == {"ask": {"count": 7}}
    assert replay.answer == "The count is 7."


def test_a_value_found_by_a_retry_is_not_taken_for_the_rule() -> None:
    """A self-heal persisted a value because the retry passed."""
    failed = step("press", {"label": "Send"}, "no label 'Send'; there is 'Dispatch now'", is_error=True)
    second = step("press", {"label": "Dispatch now"}, "ok", effect=Effect.WRITE)
    facts = FACTS | {"press": plugin("press", Effect.WRITE)}
    assert isinstance(induce(run_of("Press the button of the form", failed, second), facts, ENV), NotATrace)


@pytest.mark.parametrize(("value", "text"), [("a", "a cat and a map"), ("1", "11 of 1"), ("is", "this is it")])
def test_a_short_value_is_not_replaced_inside_others(value: str, text: str) -> None:
    """Short values replaced as substrings corrupted unrelated arguments."""
    tag = plugin("tag", Effect.WRITE)
    trace = learned(
        f"Tag it '{value}' with the usual note", step("tag", {"name": value, "note": text}, "ok"), extra=[tag]
    )
    outcome = bound(trace, "Tag it 'zzz' with the usual note")
    assert isinstance(outcome, Miss) or outcome == [{"name": "zzz", "note": text}]
    assert bound(trace, f"Tag it '{value}' with the usual note") == [{"name": value, "note": text}]


CONVERT = learned(
    "Convert 20 degrees from Celsius to Fahrenheit",
    step("convert", {"value": 20, "source": "Celsius", "target": "Fahrenheit"}, {"value": 68}),
    extra=[plugin("convert")],
)
COPY = learned(
    "Copy config.json over backup.json",
    step("copy", {"source": "config.json", "target": "backup.json"}, "ok", effect=Effect.WRITE),
    extra=[plugin("copy", Effect.WRITE)],
)


@pytest.mark.parametrize(
    "goal",
    [
        "Convert 20 degrees to Fahrenheit from Celsius",
        "Convert from Celsius 20 degrees to Fahrenheit",
    ],
)
def test_a_reversed_order_is_another_goal(goal: str) -> None:
    """Reversed order was accepted: cosine 0.994."""
    assert refused(CONVERT, goal)


def test_the_other_direction_is_bound_as_it_stands() -> None:
    """The reversed goal was served the recorded answer: cosine 0.994."""
    turned = {"value": 20, "source": "Fahrenheit", "target": "Celsius"}
    assert bound(CONVERT, "Convert 20 degrees from Fahrenheit to Celsius") == [turned]


def test_swapped_files_are_bound_as_they_stand() -> None:
    """config.json against backup.json: cosine 0.988."""
    assert bound(COPY, "Copy backup.json over config.json") == [{"source": "backup.json", "target": "config.json"}]
    assert refused(COPY, "Copy over backup.json config.json")


@pytest.mark.parametrize(
    "goal", ["Turn on the money please now", "Turn off the TV please now", "Turn on the radio please now"]
)
def test_one_other_word_is_another_goal(goal: str) -> None:
    """One word differed (TV, money) and the answer was served."""
    switch = plugin("switch", Effect.WRITE)
    trace = learned("Turn on the TV please now", step("switch", {"device": "TV", "on": True}, "ok"), extra=[switch])
    decision = decide([consider(goal, trace, how="semantic", world=World())], goal=goal)
    assert decision.choice is not Choice.FOLLOW


def test_an_error_in_the_gate_serves_nothing() -> None:
    """A verifier's error meant: served."""

    def broken(path: str) -> bool:
        raise RuntimeError("verifier down")

    considered = consider("Copy backup over config.json", COPY, how="exact", world=World(exists=broken))
    assert isinstance(considered.outcome, Miss)
    assert decide([considered], goal="x").choice is Choice.LEARN


@llm_tool("mail", "Send", {"to": str, "text": str}, effect=Effect.EXTERNAL, version="1")
async def mail(ctx: ToolContext, to: str, text: str) -> dict[str, Any]:
    with (ctx.workspace / "sent.txt").open("a") as sent:
        sent.write(f"{to}\n")
    return {"text": "sent"}


def test_a_divergence_after_an_effect_tells_that_it_was_done(tmp_path: Path) -> None:
    """Restarted from step 1 after effects were done: the mail went out twice."""
    lab = Lab(tmp_path, tools=(tool_of(mail), tool_of(ask)))
    lab.write("log.txt", "xxx")
    trace = lab.learn(
        "Mail 'hi' to bob@x.org then check log.txt",
        ("mail", {"to": "bob@x.org", "text": "hi"}),
        ("ask", {"name": "log.txt"}),
    )
    assert trace.status is Status.CANDIDATE
    (tmp_path / "log.txt").unlink()
    with pytest.raises(DivergenceError) as caught:
        lab.follow(trace, "Mail 'hi' to bob@x.org then check log.txt")
    assert caught.value.effects_done == 1
    assert lab.text("sent.txt") == "bob@x.org\nbob@x.org\n"  # once when it was learned, once now


def test_a_tool_the_follower_lacks_makes_no_trace() -> None:
    """Tools the learner had and the follower lacked."""
    outcome = induce(run_of("Browse the page a.html", step("browser", {"page": "a.html"}, "x")), FACTS, ENV)
    assert isinstance(outcome, NotATrace)
    assert "browser" in outcome.reason


def test_an_intermediate_state_is_not_taken_for_the_whole_plan() -> None:
    """A plan made after a fallback held only the remaining work, and was stored as the whole."""
    look = step("find_files", {"path": "in"}, {"files": [{"path": "in/b.txt"}, {"path": "in/c.txt"}]})
    rest = step("remove", {"path": "in/c.txt"}, "ok", effect=Effect.WRITE)
    trace = learned("Remove what is left in the folder", look, rest, extra=[plugin("remove", Effect.WRITE)])
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256
    assert not isinstance(trace.calls[1].args["path"], OutputRef)


@pytest.mark.parametrize("effect", [Effect.PURE, Effect.READ, Effect.WRITE])
def test_what_was_just_learned_and_is_trusted_is_served(effect: Effect) -> None:
    """The same once more, with what is known of its replays: nothing yet."""
    step = Step(id="s", tool="t", args={"a": Const(value=1)}, effect=effect)
    fresh = Trace(id="fresh", goals=("Do it",), steps=(step,), status=Status.TRUSTED)
    decision = decide([consider("Do it", fresh, how="exact", world=World())], goal="Do it")
    assert weighed(decision, Record()).choice is Choice.FOLLOW
