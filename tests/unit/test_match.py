"""A goal against a trace's templates: bound completely, or refused by a named rule on named words."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.trace.align import ambiguous_number, balanced, safe_inline
from llmos.trace.match import Match, Miss, World, match
from llmos.trace.phrases import needed_words, words_of
from llmos.trace.program import Effect, Slot, SlotType, Step, Trace
from llmos.trace.values import Const, SlotRef
from tests.unit.strategies import GOALS


def trace(*goals: str, effect: Effect = Effect.READ, **slots: Slot | SlotType) -> Trace:
    made = tuple(Slot(name=name, type=slot) if isinstance(slot, SlotType) else slot for name, slot in slots.items())
    args: dict[str, Any] = {slot.name: SlotRef(name=slot.name) for slot in made}
    return Trace(id="t", goals=goals, slots=made, steps=(Step(id="s", tool="t", args=args, effect=effect),))


CONVERT = trace("Convert {source} to {target}", source=SlotType.PATH, target=SlotType.PATH, effect=Effect.WRITE)


def refusal(goal: str, one: Trace, world: World | None = None) -> str:
    outcome = match(goal, one, world)
    assert isinstance(outcome, Miss), outcome
    return outcome.rule


@pytest.mark.parametrize(
    ("goal", "rule", "words"),
    [
        ("Do not convert a.csv to b.json", "negation", ("Do", "not")),
        ("Convert a.csv from b.json", "direction", ("to", "from")),
        ("Convert every a.csv to b.json", "quantifier", ("every",)),
        ("Convert a.csv to b.json twice", "leftover", ("twice",)),
        ("Convert a.csv to 5", "number", ("<target>", "5")),
        ("Convert a.csv", "direction", ("to", "<target>")),
        ("Translate a.csv to b.json", "words", ("Convert", "Translate")),
        ("Convert a.csv to a.csv", "relation", ("a.csv",)),
        ("Convert a.csv to ./a.csv", "relation", ("a.csv",)),
        ("Convert a.csv to x/../a.csv", "relation", ("a.csv",)),
        ("Convert A.csv to a.csv", "relation", ("a.csv",)),
        ("Convert a.csv to b.json?", "question", ("?",)),
        ("to a.csv Convert b.json", "order", ()),
    ],
)
def test_a_miss_names_its_rule_and_words(goal: str, rule: str, words: tuple[str, ...]) -> None:
    outcome = match(goal, CONVERT)
    assert isinstance(outcome, Miss)
    assert outcome.rule == rule
    assert outcome.message
    if words:
        assert outcome.words == words


def test_every_slot_gets_its_value() -> None:
    found = match("please convert the a.csv to 'my b.json'.", CONVERT)
    assert isinstance(found, Match)
    assert found.bindings == {"source": "a.csv", "target": "my b.json"}
    assert found.anchors == 2


def test_of_wordings_that_agree_in_as_much_the_first_explains_a_miss() -> None:
    first, more_words = "alpha beta delta {n}", "beta gamma alpha now {n}"
    for goals in ((first, more_words), (more_words, first)):
        outcome = match("alpha beta gamma", trace(*goals, n=SlotType.NUMBER))
        assert isinstance(outcome, Miss)
        assert (outcome.template, outcome.agreed) == (goals[0], 2)


def test_the_nearest_of_several_wordings_explains_a_miss() -> None:
    one = trace("Convert {source} to parquet", "Make a parquet file of {source}", source=SlotType.PATH)
    outcome = match("Make a parquet file of a.csv quickly", one)
    assert isinstance(outcome, Miss)
    assert outcome.template == one.goals[1]
    assert isinstance(match("Make a parquet file of a.csv", one), Match)


@pytest.mark.parametrize(
    ("slot", "fits", "refused"),
    [
        (
            Slot(name="x", type=SlotType.PATH, suffix=".csv"),
            ["a.csv", "x/B.CSV"],
            ["a.json", "word", "5", "*.csv", "https://a.b/c.csv"],
        ),
        (Slot(name="x", type=SlotType.PATH, suffix=""), ["src/", "./a"], ["a.csv"]),
        (Slot(name="x", type=SlotType.PATH, parent="in"), ["in/a.csv"], ["out/a.csv", "a.csv", "in/sub/a.csv"]),
        (
            Slot(name="x", type=SlotType.NUMBER),
            ["5", "1,000", "2.5", "0.125"],
            ["1.000", "12.345", "-5", "5%", "1e6", "five", "5kg", "'5'"],
        ),
        (Slot(name="x", type=SlotType.NUMBER, inline=True), ["5", "2.5"], ["1,000", "\uff15"]),
        (Slot(name="x", type=SlotType.QUOTED), ["'a b'", '"a.txt"', "''"], ["a", "a.txt", "5"]),
        (
            Slot(name="x", type=SlotType.QUOTED, inline=True),
            ["'ab_1-c'"],
            ["'a b'", "'a.b'", "'a/b'", "'-a'", "''", "'ä'", "'a\\'"],
        ),
        (Slot(name="x", type=SlotType.CHOICE, values=("up", "far down")), ["up", "far down"], ["down", "Up", "'up' x"]),
        (Slot(name="x", type=SlotType.DATE), ["2026-11-21"], ["21.11.2026", "2026-11", "tomorrow"]),
        (Slot(name="x", type=SlotType.URL), ["https://a.b/c?d=e"], ["a.b", "ftp://a.b", "a.txt"]),
        (Slot(name="x", type=SlotType.EMAIL), ["a@b.co"], ["@b.co", "a@b", "a.txt"]),
        (Slot(name="x", type=SlotType.GLOB), ["*.py", "src/**/*.c"], ["a.py", "*"]),
        (Slot(name="x", type=SlotType.IDENTIFIER), ["unit_price", "v2"], ["price", "a.b.c"]),
        (Slot(name="x", type=SlotType.EXPRESSION), ["2 + 3", "7", "(1+2)*3", "-4"], ["x + 1", "two", "2 +"]),
        (Slot(name="x", type=SlotType.TEXT), ["any words at all", "a (b) c"], ["a (b", 'a "b', "please"]),
    ],
    ids=lambda value: str(getattr(value, "type", "")) or None,
)
def test_a_slot_takes_values_of_its_kind_only(slot: Slot, fits: list[str], refused: list[str]) -> None:
    one = trace("Take {x} now", x=slot)
    for value in fits:
        found = match(f"Take {value} now", one)
        assert isinstance(found, Match), (value, found)
        assert found.bindings["x"] in (value, value[1:-1], value.rstrip("/"))
    for value in refused:
        assert isinstance(match(f"Take {value} now", one), Miss), value


def test_a_word_is_a_path_where_it_exists() -> None:
    one = trace("Count files in {folder} please", folder=SlotType.PATH)
    assert isinstance(match("Count files in src", one, World(exists=lambda path: path == "src")), Match)
    assert refusal("Count files in lib", one, World(exists=lambda path: path == "src")) == "unbound_slot"


def test_a_slot_path_may_not_become_a_path_of_the_wording() -> None:
    one = trace("Copy {source} over keep.txt", source=SlotType.PATH, effect=Effect.WRITE)
    assert isinstance(match("Copy a.txt over keep.txt", one), Match)
    assert refusal("Copy keep.txt over keep.txt", one) == "relation"


def test_case_matters_where_the_steps_use_the_word() -> None:
    step = Step(id="s", tool="t", args={"text": Const(value="Hello Bob")})
    one = Trace(id="t", goals=("Greet Bob nicely",), steps=(step,))
    assert isinstance(match("greet Bob Nicely", one), Match)
    assert refusal("Greet bob nicely", one) == "slot_value"


def test_a_default_stands_in_for_what_a_wording_lacks() -> None:
    mode = Slot(name="mode", type=SlotType.CHOICE, values=("fast", "slow"), default="fast")
    one = trace("Run it", "Run it {mode}", mode=mode)
    for goal, expected in (("Run it", "fast"), ("Run it slow", "slow")):
        found = match(goal, one)
        assert isinstance(found, Match)
        assert found.bindings == {"mode": expected}


def test_a_goal_that_reads_in_two_ways_is_refused() -> None:
    one = trace("Say {a} plus {b}", a=SlotType.TEXT, b=SlotType.TEXT)
    assert isinstance(match("Say x plus y", one), Match)
    assert refusal("Say x plus y plus z", one) == "ambiguous"


@pytest.mark.parametrize("goal", ["and " * 5000, "Say " + "x and " * 3000, "(" * 20000, "Say " + "x " * 9000 + "and y"])
def test_free_text_slots_give_up_in_time(goal: str) -> None:
    one = trace("Say {a} and {b} and {c} end", a=SlotType.TEXT, b=SlotType.TEXT, c=SlotType.TEXT)
    started = time.perf_counter()
    match(goal, one)
    assert time.perf_counter() - started < 30.0  # about 0.5 s on an idle core


TRACES = [
    CONVERT,
    trace("Say {a} and {b}", a=SlotType.TEXT, b=SlotType.TEXT),
    trace("{x}", x=SlotType.TEXT),
    trace("Sum {x} over {y} in 'q' for 5", x=SlotType.IDENTIFIER, y=SlotType.NUMBER),
    trace("{{x}} {x}, {y}!", x=SlotType.QUOTED, y=SlotType.GLOB),
]


@given(goal=GOALS, one=st.sampled_from(TRACES))
def test_matching_never_raises(goal: str, one: Trace) -> None:
    outcome = match(goal, one, World(exists=lambda path: len(path) == 1))
    assert isinstance(outcome, Match | Miss)


VALUES = st.one_of(GOALS, st.sampled_from(["x", "Blue Train", "y x"]))


@given(text=GOALS, value=VALUES, at=st.integers(min_value=0, max_value=60), end=st.sampled_from(["", ".", " please"]))
def test_what_is_proven_has_the_words_that_its_template_needs(text: str, value: str, at: int, end: str) -> None:
    text = text.replace("{", "").replace("}", "")
    one = trace(f"{text[:at]} {{x}} {text[at:]}", x=Slot(name="x", type=SlotType.TEXT, examples=("x", "x y", "5")))
    goal = f"{text[:at]} {value} {text[at:]}{end}"
    if isinstance(match(goal, one), Match):
        assert needed_words(one.goals[0]) <= words_of(goal)


def test_small_judgements() -> None:
    assert [ambiguous_number(n) for n in ("1.000", "12.345", "0.125", "1.25", "1,000")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [balanced(text) for text in ("(a)", "(a", "a)", '"a', "([)]")] == [True, False, False, False, False]
    assert safe_inline("a/b.c", SlotType.PATH)
    assert not safe_inline("a/b.c", SlotType.QUOTED)
    assert not safe_inline("-a", SlotType.PATH)


@pytest.mark.parametrize(
    "goal",
    ["Remember that Bob works as a nurse", "Remember x and mail it to Bob as y", "Remember when it rains as rule"],
)
def test_a_phrase_of_which_no_example_is_known_is_no_clause(goal: str) -> None:
    remember = trace("Remember {value} as {key}", value=SlotType.TEXT, key=SlotType.TEXT)
    assert isinstance(match("Remember a nurse's name as job", remember), Match)
    assert not isinstance(match(goal, remember), Match)


# --- values that are not what they look like -----------------------------------------------------------

CALCULATE = trace("Calculate {expression}", "What is {expression}", expression=SlotType.EXPRESSION)
NAMED = {"team": frozenset({"IT", "US", "HR"}), "film": frozenset({"Batman", "The Batman", "The Who"})}


@pytest.mark.parametrize(
    "goal",
    ["What is 3/4/2026", "Calculate 555-1234", "What is 9/11", "What is 24/7", "Calculate 1.250 + 1", "Calculate 5!"],
)
def test_what_is_hardly_arithmetic_is_not_calculated(goal: str) -> None:
    assert isinstance(match(goal, CALCULATE), Miss)


@pytest.mark.parametrize("goal", ["Calculate 24/7", "Calculate 1.25 + 1", "What is 3 / 4", "Calculate 555 - 1234"])
def test_what_is_arithmetic_is(goal: str) -> None:
    assert isinstance(match(goal, CALCULATE), Match)


def test_a_factorial_is_another_task_than_its_number() -> None:
    factorial = trace("Calculate {n}!", n=SlotType.NUMBER)
    found = match("Calculate 6!", factorial)
    assert isinstance(found, Match)
    assert found.bindings == {"n": "6"}
    assert refusal("Calculate 6", factorial) == "missing"


def listing(tool: str, parameter: str) -> frozenset[str] | None:
    return NAMED.get(parameter)


def test_an_article_belongs_to_a_listed_name_that_has_it() -> None:
    shows = trace("Show the times of {film}", film=SlotType.TEXT)
    for said, meant in (("The Batman", "The Batman"), ("Batman", "Batman"), ("the batman", "The Batman")):
        found = match(f"Show the times of {said}", shows, World(values=listing))
        assert isinstance(found, Match)
        assert found.bindings == {"film": meant}


def test_a_small_word_is_no_listed_name_that_is_written_with_capitals() -> None:
    shows = trace("Show the tickets for {team}", team=SlotType.TEXT)
    assert isinstance(match("Show the tickets for IT", shows, World(values=listing)), Match)
    assert refusal("Show the tickets for it", shows, World(values=listing)) == "unbound_slot"
    assert isinstance(match("Show the tickets for hr", shows, World(values=listing)), Match)


def test_a_compressed_file_is_of_the_kind_that_is_compressed() -> None:
    packed = trace("Unpack {file}", file=Slot(name="file", type=SlotType.PATH, suffix=".tar.gz"))
    assert isinstance(match("Unpack b.tar.gz", packed), Match)
    assert refusal("Unpack dump.sql.gz", packed) == "slot_value"


def test_a_phrase_without_examples_holds_no_file_beside_other_words() -> None:
    stores = trace("Store {key} = {value}", key=SlotType.TEXT, value=SlotType.TEXT)
    assert isinstance(match("Store x = 5", stores), Match)
    assert isinstance(match("Store x = 5 in config.yaml", stores), Miss)


@pytest.mark.parametrize("said", ["result", "last result", "me", "everything", "it"])
def test_words_that_only_point_at_something_are_no_name_of_it(said: str) -> None:
    stores = trace("Remember {value} as {key}", key=SlotType.TEXT, value=SlotType.TEXT)
    assert isinstance(match(f"Remember {said} as total", stores), Miss)
    assert isinstance(match("Remember the price of pears as total", stores), Match)
