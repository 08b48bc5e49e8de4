"""Deciding is a table: what recall found goes in, follow, ask or learn comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmos.trace.decide import Choice, Considered, consider, decide, may_be_trusted, needs_confirmation
from llmos.trace.lex import normalise
from llmos.trace.match import Match, Miss, World
from llmos.trace.program import Effect, Provenance, Slot, SlotType, Status, Step, Trace
from llmos.trace.values import Const, SlotRef

GOAL = "Convert a.csv to b.json"
ARGS = {"source": SlotRef(name="source"), "target": SlotRef(name="target")}
PLAIN = Trace(
    id="plain",
    goals=("Convert {source} to {target}",),
    slots=(Slot(name="source", type=SlotType.PATH), Slot(name="target", type=SlotType.PATH)),
    steps=(Step(id="s", tool="t", args={**ARGS}, effect=Effect.WRITE),),
    status=Status.TRUSTED,
)
OTHER = replace(PLAIN, id="other", steps=(replace(PLAIN.calls[0], tool="u"),))
TWIN = replace(PLAIN, id="twin")
EXACT = Trace(
    id="exact",
    goals=(GOAL,),
    steps=(Step(id="s", tool="t", args={"source": Const(value="a.csv")}),),
    status=Status.TRUSTED,
)
UNSURE = replace(PLAIN, id="unsure", status=Status.CANDIDATE, reason="its effects (unknown) need a confirmation first")
ELSEWHERE = replace(PLAIN, id="elsewhere", goals=("Move {source} to {target}",))


def considered(*traces: Trace, cosine: float | None = None, goal: str = GOAL) -> list[Considered]:
    return [consider(goal, one, how="semantic", world=World(), cosine=cosine) for one in traces]


@pytest.mark.parametrize(
    ("traces", "choice", "followed"),
    [
        ((), Choice.LEARN, None),
        ((PLAIN,), Choice.FOLLOW, "plain"),
        ((ELSEWHERE,), Choice.LEARN, None),
        ((ELSEWHERE, PLAIN), Choice.FOLLOW, "plain"),
        ((PLAIN, OTHER), Choice.LEARN, None),
        ((PLAIN, TWIN), Choice.FOLLOW, None),
        ((PLAIN, EXACT), Choice.FOLLOW, "exact"),
        ((UNSURE,), Choice.CONFIRM, "unsure"),
        ((UNSURE, PLAIN), Choice.FOLLOW, "plain"),
    ],
)
def test_the_most_specific_proven_trace_is_followed(
    traces: tuple[Trace, ...], choice: Choice, followed: str | None
) -> None:
    decision = decide(considered(*traces), goal=GOAL)
    assert decision.choice is choice
    assert decision.reason
    if followed is not None:
        assert decision.match is not None
        assert decision.match.trace.id == followed
    assert (decision.match is None) == (choice is Choice.LEARN)


def test_what_was_learned_here_goes_before_a_demonstration_of_the_same_words() -> None:
    shown = replace(OTHER, id="shown", provenance=Provenance.DEMONSTRATION)
    own = replace(PLAIN, provenance=Provenance.LEARNED)
    decision = decide(considered(shown, own), goal=GOAL)
    assert decision.choice is Choice.FOLLOW
    assert decision.match is not None
    assert decision.match.trace.id == "plain"


def test_no_cosine_makes_a_miss_a_hit() -> None:
    decision = decide(considered(ELSEWHERE, cosine=0.9999), goal=GOAL)
    assert decision.choice is not Choice.FOLLOW
    assert "'Move' where the goal says 'Convert'" in decision.reason


def test_a_rejected_goal_is_never_followed_again() -> None:
    one = consider(
        GOAL, PLAIN, how="exact", world=World(), negatives=frozenset({normalise("convert the a.csv to b.json")})
    )
    assert isinstance(one.outcome, Miss)
    assert one.outcome.rule == "rejected"
    assert decide([one], goal=GOAL).choice is Choice.LEARN


def test_an_error_inside_the_gate_is_a_miss() -> None:
    def broken(path: str) -> bool:
        raise OSError("the disk is gone")

    one = consider("Convert data to b.json", PLAIN, how="exact", world=World(exists=broken))
    assert isinstance(one.outcome, Miss)
    assert one.outcome.rule == "error"
    assert "disk is gone" in one.outcome.message
    assert decide([one], goal=GOAL).choice is Choice.LEARN


@pytest.mark.parametrize(("effect", "trusted"), [(e, e.rank <= Effect.WRITE.rank) for e in Effect])
def test_only_effects_that_stay_in_the_workspace_are_trusted_at_once(effect: Effect, trusted: bool) -> None:
    assert may_be_trusted(replace(PLAIN, steps=(replace(PLAIN.calls[0], effect=effect),))) is trusted


@pytest.mark.parametrize("status", Status)
def test_whatever_is_not_trusted_needs_a_confirmation(status: Status) -> None:
    assert needs_confirmation(replace(PLAIN, status=status)) is (status is not Status.TRUSTED)


def test_a_match_carries_its_proof() -> None:
    decision = decide(considered(PLAIN), goal=GOAL)
    assert isinstance(decision.match, Match)
    assert decision.match.bindings == {"source": "a.csv", "target": "b.json"}


def forecast(*examples: str, effect: Effect = Effect.READ) -> Trace:
    return Trace(
        id="forecast",
        goals=("Show the weather forecast for {city}",),
        slots=(Slot(name="city", type=SlotType.TEXT, examples=examples),),
        steps=(Step(id="s", tool="weather", args={"city": SlotRef(name="city")}, effect=effect),),
        status=Status.TRUSTED,
    )


@pytest.mark.parametrize("said", ["Celsius", "Christmas", "two weeks", "March", "Paris vs Berlin", "myself"])
def test_a_time_a_count_or_a_unit_is_asked_about_where_names_were(said: str) -> None:
    goal = f"Show the weather forecast for {said}"
    assert decide(considered(forecast("Paris", "London"), goal=goal), goal=goal).choice is not Choice.FOLLOW


def test_a_value_that_the_tool_lists_for_something_else_is_asked_about() -> None:
    goal = "Show the weather forecast for metropolis"
    trace = forecast("paris", "london", "rome")
    known = considered(trace, goal=goal)
    assert decide(known, goal=goal).choice is Choice.FOLLOW
    listed = World(listed=lambda tool: frozenset({"Metropolis"}))
    assert decide(known, goal=goal, world=listed).choice is Choice.CONFIRM


def test_sentences_seen_before_do_not_make_another_one_surer() -> None:
    """Anything may stand in a sentence, also what the user wants done with it."""
    events = ("talk", "lunch", "game", "dinner", "concert", "meeting", "match")
    said = tuple(f"I will be late for the {one} because of the train" for one in events)
    trace = replace(forecast(*said, effect=Effect.WRITE), goals=("Post the message {city}",))
    goal = "Post the message I wrote to Bob about it in every channel"
    assert decide(considered(trace, goal=goal), goal=goal).choice is Choice.CONFIRM
    reads = replace(trace, steps=(replace(trace.calls[0], effect=Effect.READ),))
    assert decide(considered(reads, goal=goal), goal=goal).choice is Choice.FOLLOW
