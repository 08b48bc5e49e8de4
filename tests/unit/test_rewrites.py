from __future__ import annotations

from dataclasses import replace

from llmos.trace.english import COMING_AND_GOING, PREPOSITIONS
from llmos.trace.lex import Place, template_tokens
from llmos.trace.program import Slot, SlotType, Step, Trace
from llmos.trace.rewrites import Book, Library, Way, difference, licences, plain_words, telling_words, wordings
from llmos.trace.values import Const, Expr, SlotRef

LIGHTS_ON = ("turn on the lights in the {area}", "switch on the lights in the {area}", "turn on the {area} lights")
LIGHTS_OFF = ("turn off the lights in the {area}",)


FREE = COMING_AND_GOING | PREPOSITIONS


def words(goal: str, free: frozenset[str] = FREE) -> tuple[str, ...]:
    return telling_words(plain_words(template_tokens(goal)), free)


def trace(name: str, goals: tuple[str, ...], tool: str = "light") -> Trace:
    names = dict.fromkeys(part.slot for goal in goals for part in template_tokens(goal) if isinstance(part, Place))
    slots = tuple(Slot(name=one, type=SlotType.TEXT) for one in names)
    return Trace(id=name, goals=goals, slots=slots, steps=(Step(id=name, tool=tool, args={}),))


def book(goals: tuple[str, ...], *others: tuple[str, ...]) -> Book:
    traces = [trace(f"t{number}", one) for number, one in enumerate((goals, *others))]
    return Library(traces=traces).book(traces[0])


def way(known: Book, goal: str, most: float = 6.0) -> Way | None:
    near = known.nearest(words(goal, known.free), most)
    return near and near[0]


def test_courtesies_articles_and_pronouns_come_and_go() -> None:
    assert words("Could you please turn on my lights in the {area}") == ("turn", "on", "lights", "<area>")


def test_a_question_stays_a_question() -> None:
    assert words("are all lights off") != words("all lights off")


def test_prepositions_tell_two_slots_of_a_kind_apart() -> None:
    free = COMING_AND_GOING
    assert words("search for {a} in {b}", free) != words("search in {a} for {b}", free)


def test_two_wordings_differ_in_one_place() -> None:
    assert difference(("turn", "on", "lights"), ("switch", "on", "lights")) == (("turn",), ("switch",))


def test_the_wordings_of_a_trace_license_what_they_differ_in() -> None:
    found = licences(LIGHTS_ON, FREE)
    assert (("turn",), ("switch",)) in found
    assert (("lights", "<area>"), ("<area>", "lights")) in found


def test_numbers_and_slots_are_no_words_that_stand_for_each_other() -> None:
    assert not licences(("delete the event at 9h", "delete the event at midnight"), FREE)
    assert not licences(("delete the event at {hour} today", "delete the event at noon today"), FREE)


def test_a_licence_carries_over_to_another_wording_of_the_trace() -> None:
    assert way(book(LIGHTS_ON), "switch on the {area} lights") == Way(price=1.0, licensed=1.0)


def test_what_no_wording_shows_is_a_guess() -> None:
    found = way(book(LIGHTS_ON), "dim the lights in the {area}")
    assert found is None or found.guessed > 0
    assert way(book(LIGHTS_ON), "dim the lights in the {area}", 2.5) is None


def test_a_word_that_another_wording_has_may_come() -> None:
    goals = ("turn on the lights in the {area}", "turn on the lights now in the {area} for a while")
    found = way(book(goals), "turn on the lights now in the {area}")
    assert found is not None
    assert (found.come, found.gone, found.guessed) == (1, 0, 0)


def test_a_word_may_only_come_in_the_company_it_has_elsewhere() -> None:
    """`every room` is known; `this room` is not, although `room` is."""
    goals = ("turn off all lights", "turn off the lights in every room")
    found = way(book(goals), "turn off all lights in this room")
    assert found is None or found.guessed > 0


def test_a_goal_that_says_less_than_the_wording_is_told_apart() -> None:
    goals = ("increase my timer by {minutes} minutes", "add {minutes} minutes to my timer")
    found = way(book(goals), "my timer {minutes} minutes")
    assert found is not None
    assert found.gone + found.guessed > 0


def test_words_of_direction_never_come_or_go_loosely() -> None:
    goals = ("turn off the {area} lights", "deactivate the {area} lights", "kill the {area} lights")
    found = way(book(goals), "turn the {area} lights")
    assert found is None or found.gone == 0


def test_kin_share_wordings_but_for_the_names_of_slots() -> None:
    """Rooms and floors are spoken of in the same words, so what is said of one may be said of the other."""
    rooms = ("turn on the lights in the {area}", "light up the {area}", "make it bright in the {area}")
    floors = ("turn on the lights in the {floor}", "light up the {floor}")
    found = way(book(floors, rooms), "make it bright in the {floor}")
    assert found is not None
    assert (found.kin, found.guessed) == (1, 0)


def test_programs_of_other_tools_are_no_kin_and_license_nothing() -> None:
    """`Summarize x.csv` adds up and `Summarize x.md` reads; what else means reading does not mean adding up."""
    adds = trace("adds", ("Summarize {table}",), "query")
    reads = [trace(f"r{number}", ("Summarize {note}", "Show what {note} says"), f"read{number}") for number in range(3)]
    found = Library(traces=[adds, *reads]).book(adds)
    assert not found.library.kin(adds, found.free)
    assert found.cost(("summarize",), ("show", "what", "says"), ("", "<table>")) is None
    assert way(found, "Show what {table} says", 2.5) is None


def test_a_wording_of_kin_that_a_third_program_has_is_not_lent() -> None:
    rooms = ("light up the {area}", "make it bright in the {area}")
    floors, third = ("light up the {floor}",), ("make it bright in the {floor}",)
    found = way(book(floors, rooms, third), "make it bright in the {floor}")
    assert found is None or not found.kin or found.guessed


def test_leaving_a_word_out_needs_more_than_one_pair() -> None:
    once = ("turn on lights in home", "turn on lights")
    assert book(once).cost(("home",), (), ("lights", "")) is None
    assert book(once).cost((), ("home",), ("lights", "")) == 1.0


def test_what_parts_two_traces_is_never_licensed() -> None:
    """Both wordings of the first were recorded; the second shows that the word matters there."""
    goals = ("stop the timer for {name}", "stop the alarm for {name}")
    assert book(goals).cost(("timer",), ("alarm",), ("stop", "<name>")) is not None
    assert book(goals, ("stop the alarm for {name}",)).cost(("timer",), ("alarm",), ("stop", "<name>")) is None


def test_a_word_on_which_the_meaning_turns_needs_more_than_one_pair() -> None:
    once = ("turn on all lights", "turn on lights")
    assert book(once).cost(("all",), (), ("on", "lights")) is None
    often = (*once, "switch on all lights", "switch on lights", "activate all lights", "activate lights")
    assert book(often).cost(("all",), (), ("on", "lights")) == 1.0
    assert book(("turn on lights",), often).cost(("all",), (), ("on", "lights")) is None


def test_rewrites_that_two_other_traces_show_cost_more() -> None:
    lamps = ("dim the lights", "dim the lamps"), ("count the lights now", "count the lamps now")
    assert book(LIGHTS_OFF, *lamps).cost(("lights",), ("lamps",), ("dim", "")) == 1.5
    assert book(LIGHTS_OFF, lamps[0]).cost(("lights",), ("lamps",), ("dim", "")) is None


def test_what_stands_for_a_word_does_so_in_the_same_company_only() -> None:
    """Free space is available space; free tickets are something else than available ones."""
    goals = (
        "show the free space of {file}",
        "show the available space of {file}",
        "show the price of the free tickets in {file}",
    )
    found = way(book(goals), "show the price of the available tickets in {file}")
    assert found is None or found.guessed > 0
    assert way(book(goals[:2]), "show the available space of {file}") == Way()


def test_a_word_comes_only_between_the_words_it_came_between() -> None:
    goals = ("show sales of {file}", "show gross sales of {file}", "compare sales with profit of {file}")
    found = way(book(goals), "compare sales with gross profit of {file}")
    assert found is None or found.guessed > 0


def test_number_lines_is_no_number_of_lines() -> None:
    free = frozenset(["of"])
    assert words("number lines in {file}", free) != words("number of lines in {file}", free)


def test_all_wordings_of_a_trace_are_read() -> None:
    assert len(wordings(LIGHTS_ON, FREE)) == len(LIGHTS_ON)


def test_a_word_that_a_program_of_these_tools_passes_on_neither_comes_nor_goes() -> None:
    def adds(name: str, goal: str, **constants: str) -> Trace:
        args: dict[str, Expr] = {
            "playlist": SlotRef(name="playlist"),
            **{key: Const(value=value) for key, value in constants.items()},
        }
        slots = (Slot(name="playlist", type=SlotType.TEXT, examples=("blues",)),)
        return Trace(id=name, goals=(goal,), slots=slots, steps=(Step(id="s", tool="add", args=args),))

    anyone = adds("anyone", "add this song to the {playlist} playlist")
    mine = adds("mine", "add this tune to my {playlist} playlist", owner="my")
    both = replace(anyone, goals=(*anyone.goals, "add this song to my {playlist} playlist"))
    assert "my" in Library(traces=[both]).free(both)
    assert "my" not in Library(traces=[both, mine]).free(both)
