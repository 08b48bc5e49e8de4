"""Readings of goals that no trace is proven for: licensed wordings, unknown values, rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from llmos.trace.decide import Choice, Decision, consider, decide
from llmos.trace.equivalence import doubt
from llmos.trace.likeness import Features, likely
from llmos.trace.match import World
from llmos.trace.program import Effect, Slot, SlotType, Status, Step, Trace
from llmos.trace.teaching import with_values
from llmos.trace.values import Const, Expr, SlotRef

ROOMS = frozenset({"Kitchen", "Living Room"})


def values(known: Mapping[str, frozenset[str]]) -> World:
    return World(values=lambda tool, parameter: known.get(parameter))


HOME = values({"area": ROOMS})


def trace(
    name: str, *goals: str, effect: Effect = Effect.READ, examples: Mapping[str, tuple[str, ...]] | None = None
) -> Trace:
    slots = tuple(Slot(name=one, type=SlotType.TEXT, examples=seen) for one, seen in (examples or {}).items())
    args = {slot.name: SlotRef(name=slot.name) for slot in slots}
    step = Step(id="s", tool=name, args=dict(args), effect=effect)
    return Trace(id=name, goals=goals, slots=slots, steps=(step,), status=Status.TRUSTED)


ON = trace(
    "on",
    "turn on the lights in the {area}",
    "switch on the lights in the {area}",
    "turn on the {area} lights",
    examples={"area": ("Kitchen",)},
)
OFF = trace("off", "turn off the lights in the {area}", examples={"area": ("Kitchen",)})
POST = trace("post", "Upvote the newest post in {forum} subreddit", examples={"forum": ("books",)})


def decided(goal: str, *traces: Trace, world: World | None = None) -> Decision:
    world = world or World()
    considered = [consider(goal, one, how="semantic", world=world, cosine=0.8) for one in traces]
    return decide(considered, goal=goal, world=world)


def test_licensed_rewrites_lead_to_a_trace_and_bind_its_slots() -> None:
    reading = likely("Could you switch on the living room lights?", [ON, OFF], HOME)
    assert reading is not None
    assert reading.found.trace is ON
    assert reading.found.bindings == {"area": "Living Room"}
    assert reading.found.wording == "Could you switch on the {area} lights?"
    assert (reading.features.licensed, reading.features.guessed) == (1.0, 0)


@pytest.mark.parametrize(
    "goal",
    [
        "switch off the kitchen lights",
        "dim the kitchen lights",
        "turn on the lights in the attic",
        "turn on the lights in the kitchen at ten",
        "why turn on the lights in the kitchen",
        "turn on the lights",
        "don't turn on the kitchen lights",
    ],
)
def test_what_nothing_licenses_is_at_most_a_question(goal: str) -> None:
    assert decided(goal, ON, world=HOME).choice is not Choice.FOLLOW


def test_two_readings_as_near_that_differ_are_none() -> None:
    same = trace("other", *ON.goals, examples={"area": ("Kitchen",)})
    assert likely("switch on the kitchen lights", [ON, same], HOME) is None


def test_a_value_no_tool_lists_is_refused() -> None:
    listed = values({"forum": frozenset({"books", "space"})})
    assert decided("Upvote the newest post in music subreddit", POST, world=listed).choice is Choice.LEARN


def test_a_value_seen_before_is_found_in_other_words() -> None:
    """Nothing delimits the phrase, but it was a value once."""
    one = trace(
        "vote",
        "Upvote the newest post in {forum} subreddit",
        "In {forum}, upvote the newest post",
        "Like the newest post in {forum} subreddit",
        examples={"forum": ("explain it", "books")},
    )
    reading = likely("In explain it, like the newest post", [one], World())
    assert reading is not None
    assert reading.found.bindings == {"forum": "explain it"}
    assert (reading.features.opens, reading.features.guessed) == (0, 0)


def test_no_bound_lets_a_value_unlike_the_known_ones_go_unasked() -> None:
    goal = "Upvote the newest post in the books by Ada subreddit of today"
    known = trace("vote", "Upvote the newest post in {forum} subreddit of today", examples={"forum": ("books",)})
    considered = [consider(goal, known, how="semantic", world=World(), cosine=0.9)]
    assert decide(considered, goal=goal, bounds={Effect.READ: 0.99}).choice is not Choice.FOLLOW
    considered = [consider(goal.replace("the books", "books"), known, how="semantic", world=World(), cosine=0.9)]
    decision = decide(considered, goal=goal.replace("the books", "books"), bounds={Effect.READ: 0.99})
    assert decision.choice is Choice.CONFIRM


def test_a_known_value_left_over_speaks_against_a_reading() -> None:
    everywhere = trace("all", "switch the lights on", "turn the lights on")
    reading = likely("switch kitchen lights on", [everywhere, ON], HOME)
    assert reading is not None
    if reading.found.trace is everywhere:
        assert reading.features.foreign == 1


def test_a_listed_value_is_bound_as_the_tool_spells_it() -> None:
    decision = decided("turn on the lights in the LIVING room", ON, OFF, world=HOME)
    assert decision.choice is Choice.FOLLOW
    assert decision.match is not None
    assert decision.match.bindings == {"area": "Living Room"}


def test_a_free_phrase_is_followed_for_a_read_and_asked_about_for_a_write() -> None:
    goal = "Upvote the newest post in space subreddit"
    assert decided(goal, POST).choice is Choice.FOLLOW
    writes = trace("post", *POST.goals, effect=Effect.WRITE, examples={"forum": ("books",)})
    assert decided(goal, writes).choice is Choice.CONFIRM
    seen = trace("post", *POST.goals, effect=Effect.WRITE, examples={"forum": ("books", "space", "music")})
    assert decided("Upvote the newest post in funny subreddit", seen).choice is Choice.FOLLOW


def test_another_program_with_the_same_words_makes_a_free_phrase_doubtful() -> None:
    by_area = trace("area", "turn on the lights in the {area}", examples={"area": ("kitchen",)})
    by_floor = trace("floor", "turn on all lights of the {floor}", examples={"floor": ("first floor",)})
    goal = "turn on all lights in the hall"
    assert decided("turn on the lights in the hall", by_area, by_floor).choice is Choice.FOLLOW
    assert decided(goal, trace("every", "turn on all lights in the {area}", examples={"area": ("attic",)}), by_floor)
    rival = trace("every", "turn on all lights in the {area}", examples={"area": ("attic",)})
    assert decided(goal, rival, by_floor).choice is Choice.CONFIRM


def test_words_that_come_and_go_do_not_part_a_goal_with_an_unlike_value_from_a_wording() -> None:
    one = trace("best", "What is the best-selling product sold in {period} by our shop", examples={"period": ("2023",)})
    reading = likely("What are the best-selling product sold in April of 2022 by our shop", [one], World())
    assert reading is not None
    assert reading.found.bindings == {"period": "April of 2022"}
    assert (reading.features.come, reading.features.opens) == (1, 1)


def test_what_was_two_files_is_not_read_as_one_in_other_words() -> None:
    slots = tuple(Slot(name=name, type=SlotType.PATH, suffix=".csv") for name in ("source", "target"))
    step = Step(id="s", tool="copy", args={slot.name: SlotRef(name=slot.name) for slot in slots})
    goals = ("Copy {source} to {target}", "Duplicate {source} to {target}", "Duplicate {source} over to {target} now")
    one = Trace(id="copy", goals=goals, slots=slots, steps=(step,), status=Status.TRUSTED)
    assert likely("Duplicate a.csv to b.csv now", [one], World()) is not None
    assert likely("Duplicate a.csv to ./a.csv now", [one], World()) is None
    assert decided("Copy a.csv to a.csv", one).choice is Choice.LEARN


def test_a_question_never_acts() -> None:
    writes = trace("on", *ON.goals, effect=Effect.WRITE, examples={"area": ("Kitchen",)})
    assert likely("is the light on in the kitchen lights?", [writes], HOME) is None


def test_a_trace_rejected_for_the_goal_is_not_offered() -> None:
    goal = "turn on the lights in the attic"
    refused = consider(goal, ON, how="semantic", world=HOME, negatives=frozenset({"turn on lights in attic"}))
    assert decide([refused], goal=goal, world=HOME).choice is Choice.LEARN


def test_guesses_are_more_doubtful_than_what_wordings_show() -> None:
    shown = Features(licensed=1.0, held=4, slots=1, wordings=6, cosine=0.9, lead=0.1)
    assert doubt(shown) < doubt(replace(shown, guessed=1))
    assert doubt(shown) < doubt(replace(shown, gone=1))
    assert doubt(shown) < doubt(replace(shown, foreign=1))


@pytest.mark.parametrize(
    "value",
    [
        *("Adele or Beyonce", "length", "Adele from 2010 to 2015", "title", "Adele before 2010", "only Adele"),
        *("each artist", "any woman", "less than 3 artists", "Adele and their albums", "Adele into a.txt"),
        *("Adele but only the first 3", "today's top 10", "Adele I added this month", "Adele at noon"),
    ],
)
def test_a_value_unlike_the_known_ones_is_never_taken_unasked(value: str) -> None:
    songs = trace("songs", "List the songs by {artist} in my music library", examples={"artist": ("Queen", "Adele")})
    assert decided(f"List the songs by {value} in my music library", songs).choice is not Choice.FOLLOW


def test_a_nearer_trace_that_is_not_trusted_keeps_others_from_being_followed() -> None:
    goal = "could you switch on the living room lights"
    assert decided(goal, ON, world=HOME).choice is not Choice.LEARN
    nearer = trace(
        "dim", "switch on the {area} lights now", "switch on the {area} lights", examples={"area": ("Hall",)}
    )
    unsure = replace(nearer, goals=nearer.goals[:1], status=Status.CANDIDATE)
    assert decided("switch on the living room lights now", ON, unsure, world=HOME).choice is Choice.CONFIRM
    also = replace(nearer, goals=("switch on the {area} lights now please do it",), status=Status.CANDIDATE)
    assert decided("switch on the living room lights now do", ON, also, world=HOME).choice is Choice.LEARN


def test_bounds_of_zero_follow_nothing_unproven() -> None:
    considered = [consider("switch on the kitchen lights", ON, how="semantic", world=HOME)]
    decision = decide(considered, goal="switch on the kitchen lights", world=HOME, bounds={})
    assert decision.choice is Choice.CONFIRM


@pytest.mark.parametrize(("known", "goal"), [("👽", "🛹"), ("C", "C#"), ("x + y", "x - y"), ("(a)", "a")])
def test_signs_say_something_too(known: str, goal: str) -> None:
    """A sign that was passed over made one picture of another."""
    one = trace("comment", f"Comment on the newest post with {known} in it for me")
    assert decided(f"Comment on newest post with {goal} in it", one).choice is not Choice.FOLLOW


NOTE = Trace(
    id="note",
    goals=("Create a note named {file} in the Markor app",),
    slots=(Slot(name="file", type=SlotType.PATH, suffix=".md"),),
    steps=(Step(id="s", tool="create", args={"file": SlotRef(name="file")}, effect=Effect.READ),),
    status=Status.TRUSTED,
)


def test_a_file_of_another_kind_is_asked_about_and_known_once_agreed() -> None:
    goal = "Create a note named plans.txt in the Markor app"
    reading = likely(goal, [NOTE], World())
    assert reading is not None
    assert reading.features.odd == ("suffix",)
    assert decided(goal, NOTE).choice is not Choice.FOLLOW
    taught = with_values(NOTE, reading.found)
    assert taught.slots[0].suffix == ".md|.txt"
    assert decided(goal, taught).choice is Choice.FOLLOW


def test_a_capital_article_before_a_name_may_be_its_first_word() -> None:
    rate = trace("rate", "rate the novel {name} in my library", examples={"name": ("Dune",)})
    rates = trace("rate", "rate the {name} in my library", examples={"name": ("Dune",)})
    assert decided("rate the novel Emma in my library", rate).choice is Choice.FOLLOW
    assert decided("rate the Emma in my library", rates).choice is Choice.FOLLOW
    assert decided("rate The Hobbit in my library", rates).choice is not Choice.FOLLOW


CITY = trace("weather", "What is the weather forecast for {city}", examples={"city": ("Paris",)})


def test_a_phrase_that_the_tool_might_take_for_something_else_is_asked_about() -> None:
    goal = "What is the weather forecast for Delaware"
    alone = World(phrases=lambda tool: frozenset({"city"}))
    several = World(phrases=lambda tool: frozenset({"city", "state"}))
    known, doubtful = (decided(goal, CITY, world=world) for world in (alone, several))
    assert known.match is not None
    assert doubtful.match is not None
    assert known.match.doubt < doubtful.match.doubt
    assert doubtful.choice is Choice.CONFIRM


def test_one_telling_word_is_too_little_to_read_a_goal_in_other_words() -> None:
    lists = trace("lists", "create list", "add list", "list")
    assert decided("please show my list", lists).choice is not Choice.FOLLOW


def test_an_article_at_the_end_is_no_courtesy() -> None:
    plays = trace("plays", "play me a podcast", "play podcast")
    assert decided("please play a podcast", plays).choice is Choice.FOLLOW
    assert likely("play podcast a", [plays], World()) is None


ISSUES = trace("issues", "List my open issues")
SENT = trace("sent", "Show the messages I sent you")
MERGED = trace("merged", "Show the branches that are merged")
OPEN_ONES = trace("open", "List the open issues", "show open issues")


@pytest.mark.parametrize(
    ("known", "goal"),
    [
        (ISSUES, "List open issues"),
        (ISSUES, "List our open issues"),
        (OPEN_ONES, "List my open issues"),
        (OPEN_ONES, "List US open issues"),
        (OPEN_ONES, "List IT open issues"),
        (SENT, "Show the messages you sent me"),
        (MERGED, "Show the branches that can be merged"),
        (trace("follow", "List users who follow me"), "List the users who I follow"),
        (trace("tickets", "List the tickets"), "List tickets of Will"),
        (trace("grades", "Show the class grades"), "Show class A grades"),
        (trace("channels", "List the channels now"), "List the channels you are in now"),
    ],
)
def test_small_words_that_say_whose_or_whether_need_the_traces_own_evidence(known: Trace, goal: str) -> None:
    assert decided(goal, known).choice is not Choice.FOLLOW


def test_a_word_that_own_wordings_have_and_lack_is_free() -> None:
    lights = trace("lights", "turn on my lights in the hall", "turn on the lights in the hall", "hall lights on")
    assert decided("could you turn on our lights in the hall", lights).choice is not Choice.FOLLOW
    assert decided("please turn on the lights in my hall", lights).choice is Choice.FOLLOW


def test_kin_have_the_same_constants() -> None:
    def asks(name: str, sql: str, *goals: str) -> Trace:
        slots = (Slot(name="file", type=SlotType.PATH, suffix=".csv"),)
        args: dict[str, Expr] = {"source": SlotRef(name="file"), "sql": Const(value=sql)}
        step = Step(id="s", tool="query", args=args, effect=Effect.READ)
        return Trace(id=name, goals=goals, slots=slots, steps=(step,), status=Status.TRUSTED)

    sums = asks("sums", "SELECT sum(amount) FROM d", "Summarize {file} please now")
    errors = asks("errors", "SELECT * FROM d WHERE level", "Summarize {file} now", "Show the errors in {file}")
    found = decided("Show the errors in march.csv", sums, errors)
    assert found.match is not None
    assert found.match.trace.id == "errors"
    logs = replace(errors, slots=(replace(errors.slots[0], suffix=".jsonl"),))
    assert decided("Show the errors in march.csv", sums, logs).choice is not Choice.FOLLOW
