"""Look-ups: a value of the goal that the run's own read-only call lists is held against that list at every replay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from llmos.errors import DivergenceError, ToolError, TraceFormatError, UnknownValueError
from llmos.interfaces import render_trace
from llmos.kernel.bus import EventBus
from llmos.kernel.replay import Follower
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import Tool
from llmos.trace.codec import dumps_yaml, loads_yaml
from llmos.trace.decide import Choice, consider, decide
from llmos.trace.induce import NotATrace, induce
from llmos.trace.match import Match, World, match
from llmos.trace.program import Effect, Slot, SlotType, Status, Trace
from llmos.trace.recorded import recorded
from llmos.trace.renaming import with_ids
from llmos.trace.run import Run, StepRecord
from llmos.trace.unify import unify
from llmos.trace.validity import validate
from tests.unit.trace_lab import ENV, FACTS, Lab, learned, plugin, run_of, step

GOAL = "Turn on the lights in the kitchen"
NAMES = ["Kitchen", "Hall", "Living Room", "Office 2"]
ROOMS: list[Any] = [
    {"name": "Kitchen", "id": 3},
    {"name": "Hall", "id": 4},
    {"name": "Living Room", "id": 12},
    {"name": "Office 2", "id": 7},
]
EXTRA = (plugin("list_rooms"), plugin("list_more"), plugin("turn_on", Effect.WRITE), plugin("get_room"))


def rooms(output: Any) -> StepRecord:
    return step("list_rooms", {}, output)


def turn_on(**args: Any) -> StepRecord:
    return step("turn_on", args, {"ok": True}, effect=Effect.WRITE)


def learn(goal: str, *steps: StepRecord, answer: str = "Done.") -> Trace:
    return learned(goal, *steps, answer=answer, extra=EXTRA)


def listed(trace: Trace) -> dict[str, Slot]:
    """The slots that a look-up closes."""
    return {slot.name: slot for slot in trace.slots if slot.listed is not None}


class House:
    """A house with tools of its own: what it lists, what was asked of it, what was turned on in it."""

    def __init__(self, workspace: Path, known: Any = None, schema: dict[str, Any] | None = None) -> None:
        self.known = ROOMS if known is None else known
        self.asked: list[str] = []
        self.lab = Lab(workspace, tools=self._tools(schema or {"type": "string"}))

    def _tools(self, schema: dict[str, Any]) -> Sequence[Tool]:
        @llm_tool("list_rooms", "List the rooms", {}, effect=Effect.READ, version="1")
        def list_rooms() -> Any:
            self.asked.append("list_rooms")
            return self.known

        @llm_tool("turn_on", "Turn on", {"room": schema, "room_id": int, "out": str}, effect="write", version="1")
        def turn_on(ctx: ToolContext, room: str = "", room_id: int = 0, out: str = "on.txt") -> Any:
            self.asked.append(f"turn_on {room or room_id}")
            ctx.resolve(out, write=True).write_text(str(room or room_id))
            return {"ok": True}

        return [tool_of(list_rooms), tool_of(turn_on)]

    def learn(self, goal: str = GOAL, **args: Any) -> Trace:
        trace = self.lab.learn(goal, ("list_rooms", {}), ("turn_on", args or {"room": "Kitchen"}))
        self.asked.clear()
        return trace

    def follow(self, trace: Trace, goal: str) -> list[str]:
        self.lab.follow(trace, goal)
        return self.asked


# --- what a recording shows ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "written"),
    [
        (NAMES, {"in": "${{ steps.list_rooms }}"}),
        ({"rooms": NAMES}, {"in": "${{ steps.list_rooms.rooms }}"}),
        ({"rooms": ROOMS}, {"in": "${{ steps.list_rooms.rooms }}", "by": ["name"]}),
        ({"text": "Kitchen\nHall\n"}, {"in": "${{ steps.list_rooms.text | lines }}"}),
        ("Kitchen\nHall", {"in": "${{ steps.list_rooms | lines }}"}),
        ([{"a": {"b": "Kitchen"}}, {"a": {"b": "Hall"}}], {"in": "${{ steps.list_rooms }}", "by": ["a", "b"]}),
    ],
)
def test_a_value_that_stands_whole_in_an_earlier_list_is_closed_by_it(output: Any, written: Any) -> None:
    trace = learn(GOAL, rooms(output), turn_on(room="Kitchen"))
    assert [one.tool for one in trace.calls] == ["list_rooms", "turn_on"]
    slot = listed(trace)["room"]
    assert (slot.type, slot.folded, slot.examples) == (SlotType.TEXT, True, ("Kitchen",))
    assert f"listed:\n      in: {written['in']}" in dumps_yaml(trace)
    assert list(slot.listed.by if slot.listed else ()) == written.get("by", [])


@pytest.mark.parametrize(
    ("goal", "kind"), [('Light up room "Kitchen"', "quoted"), ("Light up room room_2", "identifier")]
)
def test_quoted_texts_and_identifiers_are_closed_too(goal: str, kind: str) -> None:
    trace = learn(goal, rooms(["Kitchen", "room_2", "room_3"]), turn_on(room=goal.split()[-1].strip('"')))
    assert listed(trace)["room"].type == kind


def test_a_new_name_was_not_in_the_list_so_no_list_closes_it() -> None:
    trace = learn("Add a room called attic", rooms(NAMES), turn_on(room="attic"))
    assert [one.tool for one in trace.calls] == ["turn_on"]
    assert not listed(trace)
    assert isinstance(match("Add a room called cellar", trace), Match)


def test_a_path_is_asked_of_the_file_system_and_not_of_a_listing() -> None:
    trace = learn(
        "Light up plans/kitchen.txt", rooms(["plans/kitchen.txt", "plans/hall.txt"]), turn_on(room="plans/kitchen.txt")
    )
    assert not listed(trace)
    assert [one.tool for one in trace.calls] == ["turn_on"]


@pytest.mark.parametrize(
    "steps",
    [
        [rooms([["Kitchen", "Hall"], ["Attic"]]), turn_on(room="Kitchen")],
        [rooms(["Kitchen"]), turn_on(room="Kitchen")],
        [rooms(["Kitchen", "Hall", "kitchen"]), turn_on(room="Kitchen")],
        [rooms([{"name": "Kitchen"}, {"title": "Hall"}]), turn_on(room="Kitchen")],
        [rooms([{"name": "Kitchen", "door": "Hall"}, {"name": "Hall", "door": "Kitchen"}]), turn_on(room="Kitchen")],
        [rooms(NAMES), step("list_more", {}, NAMES), turn_on(room="Kitchen")],
        [turn_on(room="Porch"), rooms(NAMES), turn_on(room="Kitchen")],
        [step("get_room", {"room": "Kitchen"}, {"z": 48213}), rooms(NAMES), turn_on(room="Kitchen", z=48213)],
    ],
    ids=["nested", "one entry", "twice", "no name", "two fields", "two lists", "after an effect", "used before"],
)
def test_where_the_list_is_in_doubt_the_value_does_not_vary(steps: list[StepRecord]) -> None:
    for goal in (GOAL, "Turn on the lights in the Kitchen"):
        found = induce(run_of(goal, *steps), FACTS | {one.name: one for one in EXTRA}, ENV)
        assert isinstance(found, NotATrace) or not found.slots


def test_a_search_for_the_value_is_no_look_up() -> None:
    found = step("list_rooms", {"like": "Kitchen"}, [{"name": "Kitchen"}, {"name": "Hall"}])
    trace = learn("Turn on the lights in the Kitchen", found, turn_on(room="Kitchen"))
    assert not listed(trace)


def test_lines_of_a_file_that_is_copied_are_no_look_up() -> None:
    text = "Kitchen\nHall\n"
    trace = learn("Put it under the name Kitchen", rooms({"text": text}), turn_on(room="Kitchen", out=text))
    assert not listed(trace)


def test_an_entry_whose_other_data_went_into_a_call_freezes_the_value() -> None:
    data = [{"name": "Kitchen", "level": 3}, {"name": "Hall", "level": 4}]
    for goal in (GOAL, 'Turn on the lights in "Kitchen"'):
        trace = learn(goal, rooms(data), turn_on(room="Kitchen", dim=3))
        assert trace.slots == ()


def test_a_goal_with_a_condition_depends_on_the_whole_list() -> None:
    trace = learn("If it is dark, turn on the lights in the kitchen", rooms(NAMES), turn_on(room="Kitchen"))
    assert trace.slots == ()


def test_the_answer_says_the_value_and_nothing_of_the_list() -> None:
    trace = learn(GOAL, rooms(ROOMS), turn_on(room="Kitchen"), answer="Turned on Kitchen.")
    assert "Turned on ${{ room }}." in dumps_yaml(trace)
    counted = learn(GOAL, rooms({"rooms": ROOMS}), turn_on(room="Kitchen"), answer="Turned on 1 of 4.")
    assert counted.answer.expr is None


# --- at a replay -----------------------------------------------------------------------------------------


def test_a_value_that_is_listed_is_spelled_as_the_list_spells_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert house.follow(house.learn(), "Turn on the lights in the living room") == ["list_rooms", "turn_on Living Room"]


def test_a_listed_value_may_look_unlike_those_before(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert house.follow(house.learn(), "Turn on the lights in the office 2")[-1] == "turn_on Office 2"


def test_a_value_that_is_not_listed_stops_before_any_effect(tmp_path: Path) -> None:
    house = House(tmp_path)
    trace = house.learn()
    with pytest.raises(UnknownValueError) as stopped:
        house.follow(trace, "Turn on the lights in the first floor")
    assert house.asked == ["list_rooms"]
    assert stopped.value.effects_done == 0
    said = "step list_rooms: 'first floor' is no room: list_rooms lists Kitchen, Hall, Living Room, Office 2"
    assert str(stopped.value) == f"{trace.label}, {said}"


def test_the_list_is_that_of_the_replay_and_not_of_the_recording(tmp_path: Path) -> None:
    house = House(tmp_path)
    trace = house.learn()
    house.known = [{"name": "Attic", "id": 1}]
    assert house.follow(trace, "Turn on the lights in the attic")[-1] == "turn_on Attic"
    with pytest.raises(UnknownValueError, match="'Kitchen' is no room"):
        house.follow(trace, GOAL)


@pytest.mark.parametrize("known", [[{"name": "Hall"}, {"name": "hall"}], [{"name": "Hall"}, {"name": "HALL"}]])
def test_a_value_that_may_be_two_entries_stops(tmp_path: Path, known: Any) -> None:
    house = House(tmp_path)
    trace = house.learn()
    house.known = [*ROOMS[:1], *known, {"name": "Hall"}]
    with pytest.raises(UnknownValueError, match="may be"):
        house.follow(trace, "Turn on the lights in the hAll")


def test_a_look_up_that_gives_no_list_is_a_divergence(tmp_path: Path) -> None:
    house = House(tmp_path, known={"rooms": ROOMS})
    trace = house.learn()
    house.known = {"rooms": "none"}
    with pytest.raises(DivergenceError, match="no list") as stopped:
        house.follow(trace, GOAL)
    assert not isinstance(stopped.value, UnknownValueError)
    assert house.asked == ["list_rooms"]


def test_case_counts_in_quotes(tmp_path: Path) -> None:
    house = House(tmp_path)
    trace = house.learn('Turn on the lights in "Kitchen"')
    assert house.follow(trace, 'Turn on the lights in "Hall"')[-1] == "turn_on Hall"
    with pytest.raises(UnknownValueError):
        house.follow(trace, 'Turn on the lights in "hall"')


def test_an_entry_of_another_kind_or_state_stops(tmp_path: Path) -> None:
    kinds = [
        {"name": n, "type": t, "locked": k}
        for n, t, k in (
            ("Kitchen", "room", False),
            ("Hall", "room", False),
            ("Roof", "place", False),
            ("Safe", "room", True),
        )
    ]
    house = House(tmp_path, known=kinds)
    trace = house.learn()
    assert house.follow(trace, "Turn on the lights in the hall")[-1] == "turn_on Hall"
    for other, said in (("roof", "type 'place', not 'room'"), ("safe", "locked True, not False")):
        with pytest.raises(UnknownValueError, match=said):
            house.follow(trace, f"Turn on the lights in the {other}")


# --- another field of the entry --------------------------------------------------------------------------


def test_another_field_of_the_entry_is_taken_from_the_entry_that_the_goal_names(tmp_path: Path) -> None:
    house = House(tmp_path)
    trace = house.learn(room_id=3)
    assert "room_id: ${{ each.room.id }}" in dumps_yaml(trace)
    assert house.follow(trace, "Turn on the lights in the living room")[-1] == "turn_on 12"
    house.known = [{"name": "Kitchen", "id": 99}, {"name": "Hall", "id": 3}]
    assert house.follow(trace, GOAL)[-1] == "turn_on 99"
    with pytest.raises(UnknownValueError):
        house.follow(trace, "Turn on the lights in the attic")


def test_name_and_field_of_one_entry_go_together(tmp_path: Path) -> None:
    house = House(tmp_path)
    trace = house.learn(room="Kitchen", room_id=3)
    assert house.follow(trace, "Turn on the lights in the hall")[-1] == "turn_on Hall"
    assert [slot.name for slot in trace.slots] == ["room"]


@pytest.mark.parametrize(
    ("data", "args"),
    [
        (ROOMS, {"level": 3}),
        (ROOMS, {"room_id": 4}),
        ([{"name": "Kitchen", "id": 3}, {"name": "Hall", "id": 3}], {"room_id": 3}),
        ([{"name": "Kitchen", "alias": "lights", "id": 3}, {"name": "Hall", "alias": "b", "id": 4}], {"room_id": 3}),
        ([{"state": "kitchen", "id": 3}, {"state": "hall", "id": 4}], {"room_id": 3}),
        ([{"name": "Kitchen", "mode": "eco"}, {"name": "Hall", "mode": "away"}], {"preset": "eco"}),
        ([{"name": "Kitchen", "watts": 100}, {"name": "Hall", "watts": 60}], {"level": 100}),
    ],
    ids=["chance", "another entry", "shared", "two names", "no name", "a setting", "a number"],
)
def test_a_field_that_may_be_something_else_freezes(data: Any, args: Any) -> None:
    trace = learn(GOAL, rooms(data), turn_on(**args))
    assert trace.slots == ()
    assert "output_sha256" in dumps_yaml(trace)


def test_a_number_that_the_goal_says_in_words_is_not_taken_from_the_entry() -> None:
    trace = learn("Turn on three lights in the kitchen", rooms(ROOMS), turn_on(room="Kitchen", id=3))
    assert trace.slots == ()


def test_a_name_beside_a_taken_field_is_no_slot_by_itself() -> None:
    """The phrase only counts as the name of the entry; pieces of a text are not made of it."""
    shared = [{"name": "Kitchen", "id": 3}, {"name": "Hall", "id": 3}]
    trace = learn("Turn on the lights in the Kitchen", rooms(shared), turn_on(room_id=3, note="Kitchen lights"))
    assert trace.slots == ()


def test_an_entry_is_not_found_by_its_state() -> None:
    """What else the goal says (`about login`) may have chosen it."""
    issues = [{"id": 7, "title": "Login fails", "state": "open"}, {"id": 9, "title": "No logo", "state": "done"}]
    trace = learn("Mark the open issue about login", rooms(issues), turn_on(state="open", id=7))
    assert trace.slots == ()


WORDS = ["Kitchen", "Hall", "Attic", "Garage", "Living Room", "Cellar", "Office 2", "Porch"]
PROGRAMS: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
    lambda entry: {"room": entry["name"]},
    lambda entry: {"room_id": entry["id"]},
    lambda entry: {"room": entry["name"], "room_id": entry["id"]},
    lambda entry: {"entity": entry["entity"], "on": True},
    lambda entry: {"room": entry["name"], "level": 40},
    lambda entry: {"room": entry["name"], "preset": "eco"},
    lambda entry: {"entity": entry["entity"], "level": 3},
    lambda entry: {"room": entry["name"], "floor": entry["floor"]},
]


def house_of(random: Random) -> list[dict[str, Any]]:
    """Rooms with numbers, states and kinds that may be alike, and may be what a call gets by chance."""
    return [
        {
            "name": name,
            "id": number,
            "entity": f"lamp_{random.choice('abc')}{position}",
            "floor": random.choice(["ground", "top"]),
            "mode": random.choice(["eco", "away", "off"]),
            "level": random.choice([0, 3, 40, 100]),
        }
        for position, (name, number) in enumerate(
            zip(random.sample(WORDS, 5), random.sample(range(1, 50), 5), strict=True)
        )
    ]


def test_whatever_another_house_lists_no_call_gets_a_wrong_argument() -> None:
    random, right, stopped = Random(7), 0, 0
    for _ in range(300):
        program, data, other = random.choice(PROGRAMS), house_of(random), house_of(random)
        entry, wanted = random.choice(data), random.choice(WORDS)
        run = run_of(f"Turn on the lights in the {entry['name'].lower()}", rooms(data), turn_on(**program(entry)))
        trace = induce(run, FACTS | {one.name: one for one in EXTRA}, ENV)
        assert isinstance(trace, Trace)
        goal = f"Turn on the lights in the {wanted.lower()}"
        found = recorded_as(trace, goal, other)
        named = [one for one in other if one["name"] == wanted]
        if found is None:
            stopped += 1
            continue
        assert named and found == program(named[0]), dumps_yaml(trace)
        right += 1
    assert right > 20, (right, stopped)


def recorded_as(trace: Trace, goal: str, data: Any) -> dict[str, Any] | None:
    """The arguments of the last call if the trace is followed in another house; None if it stops before."""
    found = match(goal, trace)
    if not isinstance(found, Match):
        return None
    registry, made = ToolRegistry(), list[dict[str, Any]]()

    @llm_tool("list_rooms", "List", {}, effect=Effect.READ, version="1")
    def list_rooms() -> Any:
        return data

    @llm_tool("turn_on", "Turn on", {"type": "object", "properties": {}}, effect=Effect.WRITE, version="1")
    def turn_on(args: dict[str, Any]) -> Any:
        made.append(args)
        return {"ok": True}

    for one in (list_rooms, turn_on):
        registry.register(tool_of(one))
    ctx = ToolContext(workspace=Path())
    follower = Follower(trace=trace, bindings=found.bindings, registry=registry, ctx=ctx, bus=EventBus(), env=ENV)
    try:
        asyncio.run(follower.run())
    except DivergenceError:
        assert not made
        return None
    return made[0]


# --- the gate --------------------------------------------------------------------------------------------


def test_a_phrase_that_a_look_up_checks_is_not_open() -> None:
    trace = replace(learn(GOAL, rooms(NAMES), turn_on(room="Kitchen")), status=Status.TRUSTED)
    found = match("Turn on the lights in the guest room 3", trace)
    assert isinstance(found, Match) and found.open == frozenset()
    considered = consider("Turn on the lights in the guest room 3", trace, how="exact", world=World())
    assert decide([considered], goal="Turn on the lights in the guest room 3").choice is Choice.FOLLOW
    unchecked = replace(trace, slots=tuple(replace(slot, listed=None, folded=False) for slot in trace.slots))
    asked = consider("Turn on the lights in the Hall", unchecked, how="exact", world=World())
    assert decide([asked], goal="Turn on the lights in the Hall").choice is Choice.CONFIRM


def test_a_known_spelling_is_bound_before_the_look_up() -> None:
    trace = learn(GOAL, rooms(NAMES), turn_on(room="Kitchen"))
    found = match("Turn on the lights in the KITCHEN", trace)
    assert isinstance(found, Match) and found.bindings == {"room": "Kitchen"}


# --- the schema of a tool --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "pattern": "^[A-Z]"}, "Hall", "attic"),
        ({"type": "string", "maxLength": 8}, "Hall", "Living Room"),
        ({"type": "string", "format": "date"}, "2026-03-31", "soon"),
    ],
)
def test_a_value_of_the_goal_is_held_against_the_schema_before_the_first_effect(
    tmp_path: Path, schema: dict[str, Any], good: str, bad: str
) -> None:
    """Although another argument of the call is not known yet."""
    house = House(tmp_path, known={"text": "x.txt", "others": [1, 2]}, schema=schema)
    trace = house.lab.learn(
        f'Light up "{good}"', ("list_rooms", {}), ("turn_on", lambda done: {"room": good, "out": done[0]["text"]})
    )
    house.asked.clear()
    assert house.follow(trace, f'Light up "{good}"') == ["list_rooms", f"turn_on {good}"]
    house.asked.clear()
    with pytest.raises(ToolError, match="turn_on: room"):
        house.follow(trace, f'Light up "{bad}"')
    assert house.asked == []


def test_a_value_as_it_was_looked_up_is_held_against_the_schema_before_the_first_effect(tmp_path: Path) -> None:
    house = House(tmp_path, known=["Kitchen", "Hall", "attic"], schema={"type": "string", "pattern": "^[A-Z]"})
    trace = house.learn()
    assert house.follow(trace, "Turn on the lights in the hall")[-1] == "turn_on Hall"
    house.asked.clear()
    with pytest.raises(ToolError, match="turn_on: room"):
        house.follow(trace, "Turn on the lights in the attic")
    assert house.asked == ["list_rooms"]


# --- two runs --------------------------------------------------------------------------------------------


def second(goal: str, *steps: StepRecord) -> tuple[Trace, Run]:
    return learn(goal, *steps), run_of(goal, *steps)


@pytest.mark.parametrize("call", [{"room": "{}"}, {"room_id": 0}, {"room": "{}", "room_id": 0}])
def test_two_runs_that_look_up_become_one_trace_that_looks_up(call: dict[str, Any]) -> None:
    def made(name: str, number: int) -> dict[str, Any]:
        return {key: name if value == "{}" else number for key, value in call.items()}

    first, run = second(GOAL, rooms(ROOMS), turn_on(**made("Kitchen", 3)))
    other, again = second("Light up the lights of the hall", rooms(ROOMS), turn_on(**made("Hall", 4)))
    joined = unify(first, other, again, [run], tools=FACTS | {one.name: one for one in EXTRA}, env_of=lambda one: ENV)
    assert joined is not None
    assert len(joined.goals) == 2
    slot = listed(joined)["room"]
    assert slot.examples == ("Kitchen", "Hall")
    assert recorded(joined, run, ENV) is not None and recorded(joined, again, ENV) is not None


def test_what_the_entries_of_two_runs_differ_in_does_not_matter() -> None:
    data = [{"name": "Kitchen", "on": False, "big": True}, {"name": "Hall", "on": True, "big": True}]
    first, run = second(GOAL, rooms(data), turn_on(room="Kitchen"))
    other, again = second("Turn on the lights in the hall", rooms(data), turn_on(room="Hall"))
    joined = unify(first, other, again, [run], tools=FACTS | {one.name: one for one in EXTRA}, env_of=lambda one: ENV)
    assert joined is not None
    assert listed(joined)["room"].listed == replace(listed(first)["room"].listed, like=(("big", True),))  # type: ignore[type-var]


def test_a_run_whose_value_was_not_listed_is_another_program() -> None:
    first, run = second(GOAL, rooms(NAMES), turn_on(room="Kitchen"))
    other, again = second("Turn on the lights in the attic", rooms(NAMES), turn_on(room="Attic"))
    tools = FACTS | {one.name: one for one in EXTRA}
    assert unify(first, other, again, [run], tools=tools, env_of=lambda one: ENV) is None


def test_a_recording_with_an_unlisted_value_is_no_instance() -> None:
    trace = learn(GOAL, rooms(NAMES), turn_on(room="Kitchen"))
    for name, is_one in (("Hall", True), ("Attic", False)):
        run = run_of(f"Turn on the lights in the {name.lower()}", rooms(NAMES), turn_on(room=name))
        assert (recorded(trace, run, ENV) is not None) is is_one


def test_a_look_up_keeps_its_step_when_steps_are_renamed() -> None:
    known, other = (
        loads_yaml(WRITTEN),
        loads_yaml(WRITTEN.replace("id: rooms", "id: all").replace("steps.rooms", "steps.all")),
    )
    assert with_ids(other, known) == known


# --- the format ------------------------------------------------------------------------------------------

WRITTEN = """
format: 1
id: lights
goals: ["Turn on the lights in the {room}"]
slots:
  room: {type: text, listed: {in: "${{ steps.rooms.rooms }}", by: [name], like: {type: room}}}
steps:
- {id: rooms, tool: list_rooms, effect: read}
- {id: light, tool: turn_on, args: {room_id: "${{ each.room.id }}"}, effect: write}
"""


def test_a_look_up_can_be_written_by_hand_and_is_shown() -> None:
    trace = loads_yaml(WRITTEN)
    assert loads_yaml(dumps_yaml(trace)) == trace
    shown = render_trace.trace(trace)
    assert "room: text, looked up in step rooms: rooms by name with type 'room'" in shown
    assert "[entry of room: id]" in shown


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps.rooms.rooms", "steps.none.rooms", "'none' must be a step that is always done"),
        ("tool: list_rooms, effect: read", "tool: list_rooms, effect: write", "may only read"),
        ("tool: list_rooms,", 'tool: list_rooms, args: {a: "${{ room }}"},', "uses the value before"),
        ("tool: list_rooms,", "tool: list_rooms, when: [{exists: a.txt}],", "always done"),
        ("type: text,", "type: path,", "not path"),
        ("type: text,", "type: text, many: true,", "several values"),
        ('"${{ steps.rooms.rooms }}"', "rooms", "must be a reference to an output"),
        ("by: [name]", "by: [0]", "`by` must be the keys"),
        ("{type: room}", "{type: [a]}", "plain values"),
        ("like:", "liek:", "unknown key 'liek'"),
        ("id: light,", "id: room,", "no step may have its name"),
        ("each.room.id", "each.floor.id", "inside a loop 'floor'"),
        ('"${{ each.room.id }}"', "3", "used by no step"),
    ],
)
def test_a_look_up_that_can_not_be_is_refused(old: str, new: str, said: str) -> None:
    assert old in WRITTEN
    with pytest.raises(TraceFormatError, match=said):
        loads_yaml(WRITTEN.replace(old, new))


def test_an_entry_is_not_known_before_it_was_looked_up() -> None:
    trace = loads_yaml(WRITTEN.replace("write", "read"))
    with pytest.raises(TraceFormatError, match="'room' is not looked up yet"):
        validate(replace(trace, steps=trace.steps[::-1]))


def test_a_trace_that_says_its_look_up_only_reads_is_not_believed(tmp_path: Path) -> None:
    house = House(tmp_path)
    trace = loads_yaml(
        WRITTEN.replace("like: {type: room}", "like: {}")
        .replace("tool: list_rooms", "tool: turn_on")
        .replace("steps.rooms.rooms", "steps.rooms")
    )
    with pytest.raises(DivergenceError, match="may change something"):
        house.follow(trace, GOAL)
    assert house.asked == []
