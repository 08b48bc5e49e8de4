"""What a trace learns from a goal that was agreed to mean it."""

from __future__ import annotations

from llmos.trace.match import Match
from llmos.trace.program import Slot, SlotType, Step, Trace
from llmos.trace.teaching import MAX_EXAMPLES, taught
from llmos.trace.values import SlotRef

PLAY = Trace(
    id="play",
    goals=("Play {song} in {room}",),
    slots=(
        Slot(name="song", type=SlotType.TEXT, examples=("Yesterday",)),
        Slot(name="room", type=SlotType.CHOICE, values=("kitchen", "hall")),
    ),
    steps=(Step(id="s", tool="t", args={"song": SlotRef(name="song"), "room": SlotRef(name="room")}),),
)


def agreed(song: str, wording: str = "") -> Match:
    bindings = {"song": song, "room": "hall"}
    return Match(trace=PLAY, template=PLAY.goals[0], bindings=bindings, anchors=2, wording=wording, doubt=0.1)


def test_the_wording_and_the_value_are_kept() -> None:
    trace = taught(PLAY, agreed("Let it be", "Put {song} on in {room}"))
    assert trace.goals == ("Play {song} in {room}", "Put {song} on in {room}")
    assert trace.slot("song").examples == ("Yesterday", "Let it be")
    assert trace.slot("room") == PLAY.slot("room"), "a closed kind learns no value"


def test_what_is_known_changes_nothing() -> None:
    assert taught(PLAY, agreed("Yesterday", "Play {song} in {room}")) == PLAY


def test_a_slot_that_takes_anything_stays_open() -> None:
    slot = Slot(name="song", type=SlotType.TEXT)
    anything = Trace(id="play", goals=PLAY.goals, slots=(slot, PLAY.slots[1]), steps=PLAY.steps)
    assert taught(anything, agreed("Let it be")).slot("song").examples == ()


def test_only_so_many_examples_are_kept_the_newest_ones() -> None:
    trace = PLAY
    for number in range(MAX_EXAMPLES + 5):
        trace = taught(trace, agreed(f"Song {number}"))
    examples = trace.slot("song").examples
    assert (len(examples), examples[-1]) == (MAX_EXAMPLES, f"Song {MAX_EXAMPLES + 4}")
