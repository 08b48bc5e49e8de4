"""What a learner reads that takes over from a replay."""

from __future__ import annotations

from typing import Any

from llmos.interfaces.prompts import first_message
from llmos.trace.program import Effect, Step, Trace
from llmos.trace.run import Origin, StepRecord
from llmos.trace.takeover import Left, Takeover, masked, told
from llmos.trace.values import Const, SlotRef

STEP = Step(id="mail", tool="mail", args={"to": SlotRef(name="to"), "text": Const(value="hi")}, effect=Effect.EXTERNAL)
TRACE = Trace(id="mail", goals=("Mail {to}",), steps=(STEP,))


def record(tool: str = "mail", effect: Effect = Effect.EXTERNAL, **more: Any) -> StepRecord:
    return StepRecord(index=0, tool=tool, args={"to": "bob"}, output={"id": 7}, effect=effect, **more)


def takeover(**more: Any) -> Takeover:
    stopped = {"bindings": {"to": "bob"}, "step_id": "mail", "expected": "a result", "actual": "connection lost"}
    return Takeover(trace=TRACE, **{**stopped, **more})


def test_a_call_of_which_nobody_knows_is_told_neither_as_done_nor_as_not_done() -> None:
    text = told(takeover(doubtful=record(is_error=True), places=("mail",)))
    assert 'The call mail {"to": "bob"} may or may not have happened: look before you act.' in text
    assert "Nothing of it is done yet." in text
    assert "To go on with [mail] makes its call again." in text


def test_a_call_that_came_out_otherwise_says_what_it_gave() -> None:
    text = told(takeover(doubtful=record()))
    assert 'was made and gave {"id": 7}. What it changed by that is not known: look before you act.' in text


def test_effects_are_marked_and_reads_are_not() -> None:
    done = [("look", record("look", Effect.READ)), ("mail[0]", record())]
    lines = told(takeover(done=done)).splitlines()
    assert '  [look] look {"to": "bob"} gave {"id": 7}' in lines
    assert '! [mail[0]] mail {"to": "bob"} gave {"id": 7}' in lines


def test_long_runs_are_told_shortly() -> None:
    done = [(f"mail[{number}]", record()) for number in range(5_000)]
    left = (Left(nodes=(STEP,), loop="people", entries=tuple({"name": "x" * 500} for _ in range(5_000))),)
    text = told(takeover(done=done, left=left, places=tuple(f"mail[{number}]" for number in range(5_000))))
    assert "… 4,960 more like these …" in text
    assert "[mail[4999]] mail" in text
    assert len(text) < 60_000


def test_no_secret_is_told_by_its_value() -> None:
    text = told(takeover(done=[("mail", record())], bindings={"to": "s3cret"}))
    assert "s3cret" not in masked(text, {"s3cret": "TOKEN"})
    assert "${{ secret.TOKEN }}" in masked(text, {"s3cret": "TOKEN"})


def test_the_goal_comes_first_and_nothing_speaks_of_a_similar_one() -> None:
    message = first_message("Mail bob", told(takeover()), taken_over=True)
    assert message.startswith("Mail bob\n\nA program was reaching this goal")
    assert "similar" not in message


def test_a_run_as_a_recording_is_without_what_was_only_answered() -> None:
    from llmos.trace.run import Mode, Run

    run = Run(id="r", goal="g", mode=Mode.HANDED_OVER, steps=(record(), record(origin=Origin.RECORDED)))
    assert [step.origin for step in run.recording.steps] == [None]
    assert [step.may_have_acted for step in run.steps] == [True, False]
