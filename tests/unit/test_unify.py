"""Two runs of one task as one trace: what joins them, what keeps them apart, and that nothing is made too wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos.trace.codec import dumps_json, loads_json
from llmos.trace.findings import ToolFacts
from llmos.trace.induce import induce
from llmos.trace.match import Miss
from llmos.trace.program import CheckKind, Effect, SlotType, Status, Trace
from llmos.trace.run import Run, StepRecord
from llmos.trace.unify import may_unify, unify
from tests.unit.trace_lab import ENV, FACTS, bound, plugin, refused, run_of, step

TOOLS = FACTS | {
    one.name: one
    for one in (
        plugin("wc"),
        plugin("top"),
        plugin("find"),
        plugin("lamp", Effect.WRITE),
        plugin("cp", Effect.WRITE),
        plugin("mail", Effect.EXTERNAL),
        plugin("ls"),
        plugin("mark", Effect.WRITE),
    )
}


def recorded(run_id: str, goal: str, *steps: StepRecord, answer: str = "Done.") -> Run:
    return replace(run_of(goal, *steps, answer=answer), id=run_id)


def trace_of(run: Run, tools: dict[str, ToolFacts] = TOOLS) -> Trace:
    trace = induce(run, tools, ENV)
    assert isinstance(trace, Trace), trace
    return trace


def joined(*runs: Run) -> Trace | None:
    """The first run's trace, joined with that of each further run in turn."""
    known: Trace | None = trace_of(runs[0])
    for number, run in enumerate(runs[1:], 1):
        assert known is not None
        known = unify(known, trace_of(run), run, runs[:number], tools=TOOLS, env_of=lambda run: ENV)
    if known is not None:
        assert loads_json(dumps_json(known)) == known
    return known


def together(*runs: Run) -> Trace:
    trace = joined(*runs)
    assert trace is not None
    return trace


def both_ways(first: Run, second: Run) -> list[Trace | None]:
    return [joined(first, second), joined(second, first)]


def count(run_id: str, goal: str, path: str, lines: int, answer: str = "Done.") -> Run:
    return recorded(run_id, goal, step("wc", {"path": path}, {"lines": lines}), answer=answer)


def lamp(run_id: str, goal: str, **args: Any) -> Run:
    return recorded(run_id, goal, step("lamp", args, {"ok": True}, effect=Effect.WRITE))


def copied(run_id: str, goal: str, src: str, dst: str) -> Run:
    return recorded(run_id, goal, step("cp", {"src": src, "dst": dst}, {"ok": True}, effect=Effect.WRITE))


# ------------------------------------------------------------------------------------------------ wordings


@pytest.mark.parametrize("swap", [False, True])
def test_two_wordings_of_one_program_become_one_trace(swap: bool) -> None:
    runs = [count("r1", "Count lines in a.txt", "a.txt", 3), count("r2", "How many lines does b.txt have", "b.txt", 5)]
    trace = together(*(reversed(runs) if swap else runs))

    assert len(trace.goals) == 2
    for goal in ("Count lines in c.txt", "How many lines does c.txt have"):
        assert bound(trace, goal) == [{"path": "c.txt"}]
    assert refused(trace, "How many lines in c.txt have")


def test_slots_are_matched_by_what_they_do_not_by_their_names_or_order() -> None:
    trace = together(
        copied("r1", "Copy a.txt to b.txt", "a.txt", "b.txt"),
        copied("r2", "Into d.txt put what c.txt holds", "c.txt", "d.txt"),
    )

    assert bound(trace, "Copy x.txt to y.txt") == [{"src": "x.txt", "dst": "y.txt"}]
    assert bound(trace, "Into y.txt put what x.txt holds") == [{"src": "x.txt", "dst": "y.txt"}]


def test_one_wording_with_two_meanings_stays_two_traces() -> None:
    forward = copied("r1", "Copy a.txt to b.txt", "a.txt", "b.txt")
    backward = copied("r2", "Copy c.txt to d.txt", "d.txt", "c.txt")

    assert both_ways(forward, backward) == [None, None]


def test_the_same_wording_again_adds_no_template() -> None:
    trace = together(
        count("r1", "Count lines in a.txt", "a.txt", 3), count("r2", "Please count lines in b.txt.", "b.txt", 4)
    )

    assert trace.goals == ("Count lines in {path}",)


def test_a_third_wording_is_held_to_all_recordings() -> None:
    runs = [
        count("r1", "Count lines in a.txt", "a.txt", 3),
        count("r2", "How many lines does b.txt have", "b.txt", 5),
        count("r3", "b.txt: its length in lines", "b.txt", 5),
    ]
    assert len(together(*runs).goals) == 3


def test_wordings_that_differ_in_a_critical_word_stay_apart_where_they_should() -> None:
    """Both were run and did the same, so both are known; nothing between them is."""
    trace = together(
        lamp("r1", "Turn the lamp on in room_1", room="room_1"),
        lamp("r2", "Turn the lamp off in room_2", room="room_2"),
    )

    assert bound(trace, "Turn the lamp off in room_3") == [{"room": "room_3"}]
    assert refused(trace, "Turn the lamp up in room_3")


def test_words_that_turn_a_goal_round_never_become_a_slot() -> None:
    on = lamp("r1", "Turn the lamp on please", state="on")
    off = lamp("r2", "Turn the lamp off please", state="off")

    assert both_ways(on, off) == [None, None]


# ------------------------------------------------------------------------------------------- what may vary


def test_words_in_the_same_position_become_a_choice_of_just_these() -> None:
    runs = [
        lamp("r1", "Light kitchen", room="kitchen"),
        lamp("r2", "Light bedroom", room="bedroom"),
        lamp("r3", "Light dining room", room="dining room"),
    ]
    assert trace_of(runs[0]).slots == ()
    trace = together(*runs)

    (slot,) = trace.slots
    assert (slot.type, slot.values) == (SlotType.CHOICE, ("kitchen", "bedroom", "dining room"))
    assert bound(trace, "Light dining room") == [{"room": "dining room"}]
    assert refused(trace, "Light hall")


def test_free_phrases_are_known_by_the_values_of_all_runs() -> None:
    trace = together(
        lamp("r1", "Light up the kitchen for dinner", room="kitchen"),
        lamp("r2", "Light up the room at the top for dinner", room="room at the top"),
    )

    (slot,) = trace.slots
    assert (slot.type, slot.examples) == (SlotType.TEXT, ("kitchen", "room at the top"))


def test_a_value_said_by_neither_goal_keeps_the_traces_apart() -> None:
    first = lamp("r1", "Make it cosy in room_1", room="room_1", level=40)
    second = lamp("r2", "Make it cosy in room_2", room="room_2", level=55)

    assert both_ways(first, second) == [None, None]


def test_a_difference_that_only_one_goal_explains_keeps_them_apart() -> None:
    first = lamp("r1", "Dim the lamp of room_1 to 340", room="room_1", level=340)
    second = lamp("r2", "Dim the lamp of room_2 a bit", room="room_2", level=355)
    trace = joined(first, second)

    assert trace is None or bound(trace, "Dim the lamp of room_3 a bit") == [{"room": "room_3", "level": 355}]


def test_a_slot_that_one_wording_lacks_has_the_constant_of_that_run_as_its_default() -> None:
    trace = together(
        lamp("r1", "Dim the lamp of room_1 to 340", room="room_1", level=340),
        lamp("r2", "Dim the lamp of room_2 a bit", room="room_2", level=355),
    )

    assert trace.slot("level").default == "355"
    assert bound(trace, "Dim the lamp of room_3 to 20") == [{"room": "room_3", "level": 20}]
    assert bound(trace, "Dim the lamp of room_3 a bit") == [{"room": "room_3", "level": 355}]


def test_a_second_default_keeps_them_apart() -> None:
    runs = [
        lamp("r1", "Dim the lamp of room_1 to 340", room="room_1", level=340),
        lamp("r2", "Dim the lamp of room_2 a bit", room="room_2", level=355),
        lamp("r3", "Dim the lamp of room_4 a lot", room="room_4", level=10),
    ]
    known = together(*runs[:2])
    assert unify(known, trace_of(runs[2]), runs[2], runs[:2], tools=TOOLS) is None


def test_a_constant_that_differs_by_coincidence_with_another_literal_is_not_guessed() -> None:
    """Two numbers of each goal fit the argument, so none of them is taken."""
    first = lamp("r1", "Scene 312 with 312 lamps", level=312)
    second = lamp("r2", "Scene 450 with 450 lamps", level=450)

    assert both_ways(first, second) == [None, None]


def test_a_value_said_twice_is_settled_by_a_run_that_says_two() -> None:
    trace = together(
        lamp("r1", "Scene 312 with level 312", level=312), lamp("r2", "Scene 17 with level 450", level=450)
    )
    assert isinstance(bound(trace, "Scene 9 with level 20"), Miss)
    assert bound(trace, "Scene 312 with level 77") == [{"level": 77}]
    assert bound(trace, "Scene 17 with level 88") == [{"level": 88}]


def test_files_of_two_kinds_are_taken_and_of_no_third() -> None:
    first = count("r1", "Count lines in a.txt", "a.txt", 3)
    second = count("r2", "Count lines in b.csv", "b.csv", 3)

    for trace in both_ways(first, second):
        assert trace is not None
        assert bound(trace, "Count lines in c.txt") == [{"path": "c.txt"}]
        assert bound(trace, "Count lines in c.csv") == [{"path": "c.csv"}]
        assert refused(trace, "Count lines in c.parquet")


# ------------------------------------------------------------------------------------ ambiguous and frozen


def rows_seen(run_id: str, path: str, rows: int, wanted: int) -> Run:
    return recorded(
        run_id,
        f"Show the top {wanted} rows of {path}",
        step("wc", {"path": path}, {"rows": rows}),
        step("top", {"path": path, "n": wanted}, {"text": f"{path} {wanted}"}),
    )


def test_a_leaf_that_goal_and_output_explain_is_settled_by_the_second_run() -> None:
    ambiguous, plain = rows_seen("r1", "a.csv", 10, 10), rows_seen("r2", "b.csv", 99, 20)
    assert trace_of(ambiguous).slots == ()

    for trace in both_ways(ambiguous, plain):
        assert trace is not None
        assert bound(trace, "Show the top 7 rows of c.csv") == [{"path": "c.csv", "n": 7}]
        assert not any(check.kind is CheckKind.OUTPUT_SHA256 for one in trace.calls for check in one.checks)


def test_a_leaf_that_is_ambiguous_in_both_runs_stays_so() -> None:
    assert joined(rows_seen("r1", "a.csv", 10, 10), rows_seen("r2", "b.csv", 20, 20)) is None


def picked(run_id: str, path: str, city: str, others: Sequence[str]) -> Run:
    """A city that the model read off a table, which no goal says."""
    return recorded(
        run_id,
        f"Find the best city of {path}",
        step("wc", {"path": path}, {"cities": [*others, city]}),
        step("find", {"city": city}, {"ok": True}),
    )


def test_data_picked_out_of_an_output_stays_frozen() -> None:
    """The same city twice proves nothing: it may be the best of both tables."""
    first, second = picked("r1", "a.csv", "Rome", ["Bonn"]), picked("r2", "b.csv", "Rome", ["Oslo", "Kyiv"])

    assert both_ways(first, second) == [None, None]


def test_a_file_body_that_the_model_wrote_stays_with_its_goals() -> None:
    """Both numbers are prime, and the third is not."""

    def verdict(run_id: str, number: int) -> Run:
        args = {"file_path": f"n{number}.txt", "content": "It is prime, as nothing divides it.\n"}
        return recorded(run_id, f"Write into n{number}.txt whether its number is prime", step("write", args, {}))

    assert joined(verdict("r1", 107), verdict("r2", 113)) is None


def test_two_bodies_keep_them_apart() -> None:
    def poem(run_id: str, body: str) -> Run:
        args = {"file_path": "poem.txt", "content": body}
        return recorded(run_id, "Write a poem into poem.txt", step("write", args, {"ok": True}))

    assert joined(poem("r1", "Roses are red today\n"), poem("r2", "Violets are blue today\n")) is None


# ----------------------------------------------------------------------------------------- other programs


def test_a_run_that_is_the_beginning_of_another_is_another_program() -> None:
    one = lamp("r1", "Light room_1", room="room_1")
    two = recorded(
        "r2",
        "Light room_2 twice",
        step("lamp", {"room": "room_2"}, {"ok": True}, effect=Effect.WRITE),
        step("lamp", {"room": "room_2"}, {"ok": True}, effect=Effect.WRITE),
    )

    assert both_ways(one, two) == [None, None]


def test_other_arguments_or_tools_are_another_program() -> None:
    first = lamp("r1", "Light room_1 for long", room="room_1")

    assert joined(first, lamp("r2", "Light room_2 for long", room="room_2", level=3)) is None
    other = recorded("r3", "Light room_2 for long", step("cp", {"room": "room_2"}, {}, effect=Effect.WRITE))
    assert joined(first, other) is None


def test_what_calls_other_tools_is_not_even_tried() -> None:
    one, two = (trace_of(lamp("r1", "Light room_1 now", room="room_1")), trace_of(THREE))

    assert may_unify(one, one)
    assert not may_unify(one, two)
    said = trace_of(lamp("r2", "Light kitchen", room="kitchen")), trace_of(lamp("r3", "Light bedroom", room="bedroom"))
    assert may_unify(*said)
    assert not may_unify(said[0], trace_of(lamp("r4", "Light it", room="cellar")))


def test_another_version_of_a_tool_is_another_program() -> None:
    first, second = lamp("r1", "Light room_1 now", room="room_1"), lamp("r2", "Light room_2 now", room="room_2")
    newer = TOOLS | {"lamp": replace(TOOLS["lamp"], version="2")}

    assert unify(trace_of(first), trace_of(second, newer), second, [first], tools=newer) is None


def test_another_constant_in_the_same_place_is_another_program() -> None:
    hue = lamp("r1", "Light room_1 red", room="room_1", kind="hue")
    spot = lamp("r2", "Light room_2 red", room="room_2", kind="spot")

    assert both_ways(hue, spot) == [None, None]


# --------------------------------------------------------------------------------------------------- loops


def marked(run_id: str, goal: str, folder: str, *names: str) -> Run:
    files = [f"{folder}/{name}" for name in names]
    marks = [step("mark", {"path": file}, {"ok": True}, effect=Effect.WRITE) for file in files]
    return recorded(run_id, goal, step("ls", {"folder": folder}, {"files": files}), *marks)


THREE = marked("r1", "Mark all files of in/box for review", "in/box", "a.csv", "b.csv", "c.csv")


def test_a_loop_is_borne_out_by_a_run_over_another_number_of_entries() -> None:
    trace = together(THREE, marked("r2", "Review marks for each file in in/bag please", "in/bag", "x.csv", "y.csv"))

    assert [type(node).__name__ for node in trace.steps] == ["Step", "Loop"]
    assert len(trace.goals) == 2
    assert trace.steps == trace_of(THREE).steps


def test_a_run_over_one_entry_does_not_say_that_all_were_meant() -> None:
    assert joined(THREE, marked("r2", "Mark the first file of in/bag", "in/bag", "x.csv")) is None


def test_loops_over_other_files_stay_apart() -> None:
    assert joined(THREE, marked("r2", "Mark all notes of in/bag for review", "in/bag", "x.md", "y.md")) is None


def test_what_two_values_have_in_common_with_a_constant_keeps_them_literal() -> None:
    """Both reports were of 2026, and so was the year of the query; the next one may be of 2025."""
    first = lamp("r1", "Light the report a_2026.md for everybody", target="a_2026.md", year=2026)
    second = lamp("r2", "Light the report b_2026.md for everybody", target="b_2026.md", year=2026)
    assert both_ways(first, second) == [None, None]
    plain = lamp("r3", "Light the report c_2025.md for everybody", target="c_2025.md", year=2026)
    assert not refused(together(first, plain), "Light the report d_2024.md for everybody")


# -------------------------------------------------------------------------------------------------- guards


def archived(run_id: str, folder: str, *names: str) -> Run:
    steps = [step("ls", {"folder": folder}, {"files": list(names)})]
    if names:
        steps.append(step("mark", {"path": folder}, {"ok": True}, effect=Effect.WRITE))
    steps.append(step("wc", {"path": folder}, {"rows": 5}))
    return recorded(run_id, f"Mark {folder} unless nothing is in it, then count", *steps)


def test_two_runs_that_show_both_sides_of_a_choice_become_one_trace_with_a_condition() -> None:
    full, empty = archived("r1", "in/box", "a.csv"), archived("r2", "in/box")
    for trace in both_ways(full, empty):
        assert trace is not None
        assert [len(one.when) for one in trace.calls] == [0, 1, 0]
        assert trace.goals == trace_of(full).goals


def looked(run_id: str, goal: str, seen: dict[str, Any], *, acted: bool) -> Run:
    marked = [step("mark", {"path": "a.csv"}, {"ok": True}, effect=Effect.WRITE)] if acted else []
    count = step("wc", {"path": "a.csv"}, {"rows": 5})
    return recorded(run_id, goal, step("ls", {"folder": "a.csv"}, seen), *marked, count)


@pytest.mark.parametrize(
    ("goal", "seen", "then"),
    [
        ("Mark a.csv unless it is locked, then count", {"locked": False}, {"locked": True}),
        ("Mark a.csv if it has errors, then count", {"errors": ["x"], "count": 1}, {"errors": [], "count": 0}),
    ],
)
def test_a_condition_that_the_goal_names_is_asked(goal: str, seen: dict[str, Any], then: dict[str, Any]) -> None:
    trace = together(looked("r1", goal, seen, acted=True), looked("r2", goal, then, acted=False))
    assert [len(one.when) for one in trace.calls] == [0, 1, 0]


@pytest.mark.parametrize(
    ("goal", "seen", "then"),
    [
        ("Mark a.csv if it has more than 5 errors, then count", {"errors": 7}, {"errors": 0}),
        ("Mark a.csv if it has several errors, then count", {"errors": 7}, {"errors": 0}),
        ("Mark a.csv if it has a TODO, then count", {"text": "TODO: x"}, {"text": ""}),
        ("Mark a.csv if it was reviewed, then count", {"notes": ["ok"]}, {"notes": []}),
        ("Mark a.csv if it says 'done', then count", {"lines": ["done"]}, {"lines": []}),
    ],
)
def test_a_condition_that_no_call_and_no_field_tells_of_is_not_made(
    goal: str, seen: dict[str, Any], then: dict[str, Any]
) -> None:
    """That there is something is not what the goal asks for."""
    assert joined(looked("r1", goal, seen, acted=True), looked("r2", goal, then, acted=False)) is None


# ------------------------------------------------------------------------------------- answers and standing


def test_the_answer_is_the_one_that_both_runs_bear_out() -> None:
    first = count("r1", "Count lines in a.txt", "a.txt", 312, answer="a.txt has 312 lines")
    second = count("r2", "How many lines does b.txt have", "b.txt", 477, answer="There are 477 lines in b.txt")
    prose = count("r2", "How many lines does b.txt have", "b.txt", 477, answer="Not too many, it seems")
    wrong = count("r2", "How many lines does b.txt have", "b.txt", 477, answer="Some 9000 or so of them")

    assert together(first, second).answer.expr == trace_of(first).answer.expr
    assert together(first, prose).answer.expr == trace_of(first).answer.expr
    assert together(first, wrong).answer.expr is None


def test_what_is_known_of_the_trace_is_kept_and_the_newest_run_named() -> None:
    first = count("r1", "Count lines in a.txt", "a.txt", 3)
    second = count("r2", "How many lines does b.txt have", "b.txt", 5)
    known = replace(trace_of(first), version=4, description="Lines", reason="confirmed")
    trace = unify(known, trace_of(second), second, [first], tools=TOOLS)

    assert trace is not None
    assert (trace.id, trace.description, trace.status, trace.reason) == (known.id, "Lines", Status.TRUSTED, "confirmed")
    assert trace.run_id == "r2"


def mailed(run_id: str, goal: str, to: str) -> Run:
    return recorded(run_id, goal, step("mail", {"to": to}, {"ok": True}, effect=Effect.EXTERNAL))


def test_what_is_widened_and_acts_outside_asks_again() -> None:
    first, second = mailed("r1", "Greet ann in writing", "ann"), mailed("r2", "Greet bob in writing", "bob")
    known = replace(trace_of(first), status=Status.TRUSTED, reason="confirmed")
    trace = unify(known, replace(trace_of(second), status=Status.TRUSTED), second, [first], tools=TOOLS)

    assert trace is not None
    assert trace.status is Status.CANDIDATE


@pytest.mark.parametrize("status", [Status.REJECTED, Status.QUARANTINED])
def test_a_rejected_trace_is_never_made_more_of(status: Status) -> None:
    first = count("r1", "Count lines in a.txt", "a.txt", 3)
    second = count("r2", "How many lines does b.txt have", "b.txt", 5)

    assert unify(replace(trace_of(first), status=status), trace_of(second), second, [first], tools=TOOLS) is None


def test_without_the_recordings_nothing_is_joined() -> None:
    second = count("r2", "How many lines does b.txt have", "b.txt", 5)
    known = trace_of(count("r1", "Count lines in a.txt", "a.txt", 3))

    assert unify(known, trace_of(second), second, [], tools=TOOLS) is None
    assert unify(known, trace_of(second), second, [count("r1", "Count lines in a.txt", "z.txt", 3)]) is None


# -------------------------------------------------------------------------------------------- any program


@dataclass(frozen=True, kw_only=True)
class Program:
    """A small program over slots: for each step its tool and, for each argument, a slot's number or a constant."""

    slots: int
    calls: tuple[tuple[str, tuple[int | str, ...]], ...]

    def args(self, values: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {f"p{place}": values[one] if isinstance(one, int) else one for place, one in enumerate(args)}
            for _, args in self.calls
        ]

    def run(self, run_id: str, goal: str, values: Sequence[str]) -> Run:
        steps = [
            step(tool, args, {"ok": True}, effect=Effect.WRITE)
            for (tool, _), args in zip(self.calls, self.args(values), strict=True)
        ]
        return recorded(run_id, goal.format(*values), *steps)


KINDS = ("id_{}x", "{}.csv", "in/{}.md")


@st.composite
def programs(draw: st.DrawFn) -> Program:
    slots = draw(st.integers(1, 3))
    leaf = st.one_of(st.integers(0, slots - 1), st.sampled_from(["fixed", "plain"]))
    args = st.lists(leaf, min_size=1, max_size=3).map(tuple)
    calls = draw(st.lists(st.tuples(st.sampled_from(["one", "two"]), args), min_size=1, max_size=3))
    every = ("one", tuple(range(slots)))
    return Program(slots=slots, calls=(every, *calls))


def values(words: Sequence[str], kinds: Sequence[str]) -> list[str]:
    return [kind.format(word) for word, kind in zip(words, kinds, strict=True)]


WORDS = (["alpha", "beta", "gamma"], ["delta", "omega", "kappa"], ["sigma", "theta", "lambda"])
ANY = {name: plugin(name, Effect.WRITE) for name in ("one", "two")}


@settings(max_examples=80, deadline=None)
@given(program=programs(), kinds=st.permutations(KINDS), turned=st.booleans(), worded=st.booleans())
def test_any_small_program_recorded_twice_replays_on_third_values(
    program: Program, kinds: Sequence[str], turned: bool, worded: bool
) -> None:
    kinds = kinds[: program.slots]
    first, second, third = (values(words[: program.slots], kinds) for words in WORDS)
    places = [f"{{{number}}}" for number in range(program.slots)]
    goal = "Please arrange " + " with ".join(places)
    other = "Take " + " beside ".join(reversed(places) if turned else places) + " and arrange" if worded else goal
    runs = program.run("r1", goal, first), program.run("r2", other, second)
    known, fresh = (induce(run, ANY, ENV) for run in runs)
    assert isinstance(known, Trace)
    assert isinstance(fresh, Trace)
    trace = unify(known, fresh, runs[1], [runs[0]], tools=ANY, env_of=lambda run: ENV)

    assert trace is not None
    for template in (goal, other):
        assert bound(trace, template.format(*third)) == program.args(third)
