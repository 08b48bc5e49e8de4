"""Recall by words: the traces with a template whose telling words all stand in the goal, whatever befell them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import SettingsError
from llmos.interfaces.deciding import Deciding
from llmos.memory import words
from llmos.memory.database import Database
from llmos.memory.frozen import FrozenTraces
from llmos.memory.index import VectorIndex
from llmos.memory.recall import Recall
from llmos.memory.traces import TraceStore
from llmos.memory.words import file_all
from llmos.trace.decide import Choice
from llmos.trace.lex import tokenize
from llmos.trace.match import Match, World, match
from llmos.trace.phrases import needed_words, words_of
from llmos.trace.program import Slot, SlotType, Status, Step, Trace
from llmos.trace.values import Const, SlotRef
from tests.contract.memory_lab import CountingEmbedder, shipped
from tests.contract.old_homes import as_version

LONG = "a quiet evening of cello and rain recorded live at the harbour in the winter of 1987 by people I do not know"


class Home:
    """A memory in a folder, and what decides by it."""

    def __init__(self, folder: Path, store: type[TraceStore] = TraceStore) -> None:
        self.db = Database(folder / "llmos.duckdb")
        index, self.embedder = VectorIndex(folder / "vectors.faiss"), CountingEmbedder()
        self.traces = store(self.db, index)
        self.recall = Recall(self.db, self.traces, index, self.embedder)
        self.deciding = Deciding(recall=self.recall, traces=self.traces, world=World())

    async def __aenter__(self) -> Home:
        await self.db.open()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.recall.close()
        await self.db.close()

    async def found(self, goal: str, k: int = 24) -> list[str]:
        return [trace.id for trace in (await self.recall.words(goal, k)).traces]

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return await self.db.run(lambda connection: connection.execute(query).fetchall())


def a_trace(trace_id: str, *goals: str, examples: tuple[str, ...] = (), tool: str = "play") -> Trace:
    """A trace with one slot, `title`, of quoted text, or of phrases like the examples."""
    kind = SlotType.TEXT if examples else SlotType.QUOTED
    return Trace(
        id=trace_id,
        goals=goals,
        slots=(Slot(name="title", type=kind, examples=examples),),
        steps=(Step(id="do", tool=tool, args={"title": SlotRef(name="title"), "of": Const(value=trace_id)}),),
        status=Status.TRUSTED,
    )


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with Home(tmp_path) as opened:
        yield opened


# --- what is found ---------------------------------------------------------------------------------


async def test_a_long_value_hides_no_template_and_no_model_is_asked(home: Home) -> None:
    await home.traces.add(a_trace("play", "Play the recording {title}", examples=("x y",)))
    await home.traces.add(a_trace("rename", "Rename the recording {title}", examples=("x y",)))

    assert await home.found(f"play the recording {LONG}") == ["play"]
    assert home.embedder.asked == []


async def test_every_telling_word_must_stand_in_the_goal(home: Home) -> None:
    await home.traces.add(a_trace("play", "Play the recording {title} without ads", examples=("x y",)))

    assert await home.found("Play the recording Blue Train without ads") == ["play"]
    assert await home.found("Play the recording Blue Train with ads") == []
    assert await home.found("Play Blue Train without ads") == []


async def test_light_words_need_not_stand_there_but_where_there_are_no_others(home: Home) -> None:
    await home.traces.add(a_trace("play", "Show me the recording {title}", examples=("x y",)))
    await home.traces.add(a_trace("what", "What is {title}", examples=("x y",)))

    assert await home.found("the recording of yesterday") == ["play"]
    assert await home.found("What is love") == ["what"]
    assert await home.found("What was love") == []


async def test_more_words_than_are_kept_are_asked_for_goal_by_goal(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MOST_WORDS", 1)
    await home.traces.add(a_trace("play", "Play the recording {title}", examples=("x y",)))
    await home.traces.add(a_trace("rename", "Rename the recording {title}", examples=("x y",)))

    assert await home.db.run(words.filed_words) is None
    assert await home.found("Rename the recording Blue Train") == ["rename"]
    monkeypatch.setattr(words, "_MOST_WORDS", 100)
    assert await home.db.run(words.filed_words) is not None
    assert await home.found("Play the recording Blue Train") == ["play"]


async def test_literals_count_as_words(home: Home) -> None:
    await home.traces.add(a_trace("append", "Append {title} to 'my notes.txt' at line 3", examples=("x y",)))

    assert await home.found("append milk to 'my notes.txt' at line 3") == ["append"]
    assert await home.found("append milk to 'my notes.txt' at line 4") == []


async def test_the_most_telling_words_come_first_and_the_rest_is_left_out(home: Home) -> None:
    for trace_id, goal in (("one", "Play {title}"), ("two", "Play loud {title}"), ("three", "Play loud drums {title}")):
        await home.traces.add(a_trace(trace_id, goal, examples=("x y",)))
    goal = "Play loud drums tonight"

    assert await home.found(goal) == ["three", "two", "one"]
    assert await home.found(goal, k=2) == ["three", "two"]
    assert [(await home.recall.words(goal, k)).is_all for k in (1, 2, 3)] == [False, False, True]


async def test_trusted_traces_come_first_among_equals(home: Home) -> None:
    await home.traces.add(replace(a_trace("a", "Play {title}"), status=Status.CANDIDATE))
    await home.traces.add(a_trace("b", "Play {title}"))

    assert await home.found("Play 'x'") == ["b", "a"]


# --- what befalls traces ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.QUARANTINED, Status.REJECTED])
async def test_what_may_not_be_followed_is_not_found_until_it_may_be_again(home: Home, status: Status) -> None:
    await home.traces.add(a_trace("play", "Play {title}"))
    await home.traces.set_status("play", status, "for a test")
    assert await home.found("Play 'x'") == []
    await home.traces.set_status("play", Status.TRUSTED, "")
    assert await home.found("Play 'x'") == ["play"]


async def test_what_is_set_aside_takes_no_place_from_others(home: Home) -> None:
    for number in range(9):
        await home.traces.add(a_trace(f"t{number}", "Play {title}"))
        if number < 8:
            await home.traces.set_status(f"t{number}", Status.QUARANTINED, "for a test")

    found = await home.recall.words("Play 'x'", k=2)
    assert ([trace.id for trace in found.traces], found.is_all) == (["t8"], True)


async def test_only_the_wordings_of_the_current_version_count(home: Home) -> None:
    await home.traces.add(a_trace("play", "Play {title}", "Start {title}"))
    await home.traces.add(a_trace("play", "Start {title}", "Begin {title}"))

    assert [await home.found(f"{verb} 'x'") for verb in ("Play", "Start", "Begin")] == [[], ["play"], ["play"]]


async def test_a_confirmed_wording_is_found(home: Home) -> None:
    await home.traces.add(a_trace("play", "Play {title}"))
    await home.traces.add_wording("play", "Let me hear {title}")

    assert [await home.found(goal) for goal in ("Let me hear 'x'", "Play 'x'")] == [["play"], ["play"]]


async def test_a_trace_that_was_left_to_another_is_not_found(home: Home) -> None:
    kept = await home.traces.add(a_trace("play", "Play {title}"))
    await home.traces.add(a_trace("again", "Play {title}"))
    await home.traces.absorb(kept, "again")

    assert await home.found("Play 'x'") == ["play"]


async def test_a_forgotten_trace_leaves_no_word_behind(home: Home) -> None:
    await home.traces.add(a_trace("play", "Play {title}", "Start {title} twice"))
    await home.traces.add(a_trace("stop", "Stop playing {title} twice"))
    await home.traces.forget("play")
    assert await home.rows("SELECT word, templates FROM telling_words ORDER BY word") == [
        ("playing", 1),
        ("stop", 1),
        ("twice", 1),
    ]
    await home.traces.forget("stop")
    assert await home.rows("SELECT * FROM telling_words") == []

    await home.traces.add(a_trace("play", "Play {title}"))
    assert await home.found("Play 'x'") == ["play"]


async def test_frozen_traces_are_found_and_shipped_ones_with_them(tmp_path: Path) -> None:
    async with Home(tmp_path) as home:
        await home.traces.add(a_trace("play", "Play {title}"))
    async with Home(tmp_path, FrozenTraces) as home:
        await home.traces.put_demonstrations([shipped("count-lines"), shipped("how-long", "Count all of {source}")])
        assert await home.found("Play 'x'") == ["play"]
        assert await home.found("count all the lines of a.csv") == ["count-lines", "how-long"]


async def test_words_of_another_lexer_and_of_an_older_file_are_filed_anew(tmp_path: Path) -> None:
    for damage in (
        ["UPDATE meta SET value = 'older' WHERE key = 'lexicon'", "UPDATE telling_words SET entries = ''"],
        as_version(3),
        as_version(2),
    ):
        async with Home(tmp_path) as home:
            await home.traces.add(a_trace("play", "Play {title}"))
            for change in damage:
                await home.rows(change)
        async with Home(tmp_path) as home:
            await home.traces.add(a_trace("stop", "Stop {title}"))
            await home.traces.add(a_trace("play", "Start {title}"))
            found = [await home.found(f"{verb} 'x'") for verb in ("Play", "Stop", "Start")]
            assert found == [[], ["stop"], ["play"]]


# --- nothing that could be proven is missed ----------------------------------------------------------

WORDS = ("play", "stop", "the", "loud", "all", "to", "what", "is", "'a b'", "7", ",", "notes.txt", "Straße", "é", "+")
VALUES = ("'quoted'", '"two words"', "Blue Train", "x", "the long way home", "play loud", "7 + 7")


def some_template(rng: random.Random) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(1, 5))]
    words.insert(rng.randint(0, len(words)), "{title}")
    return " ".join(words)


def some_trace(rng: random.Random, trace_id: str) -> Trace | None:
    """A trace with one to three random wordings, if the store takes it."""
    goals = [goal for goal in (some_template(rng) for _ in range(rng.randint(1, 3))) if needed_words(goal)]
    telling = [goal for goal in goals if any(t.kind != "punct" for t in tokenize(goal.replace("{title}", "")))]
    examples = rng.choice([(), ("Blue Train",), ("x y z", "the way")])
    if not telling:
        return None
    status = rng.choice([Status.TRUSTED, Status.TRUSTED, Status.CANDIDATE])
    return replace(a_trace(trace_id, *telling, examples=examples), status=status)


def some_goal(rng: random.Random, traces: list[Trace]) -> str:
    """A template of one of the traces with a value in it, at times with one word more."""
    goal = rng.choice(rng.choice(traces).goals).replace("{title}", rng.choice(VALUES))
    return rng.choice([goal, goal.upper(), f"please {goal}.", f"{goal} {rng.choice(WORDS)}"])


async def change_something(home: Home, rng: random.Random) -> None:
    """One of the things that befall traces."""
    trace_id = f"t{rng.randrange(20)}"
    known = {one.id for one in await home.traces.list()}
    made = some_trace(rng, trace_id)
    action = rng.choice(["add", "add", "add", "forget", "status", "wording", "anew"])
    if action == "add" and made is not None:
        await home.traces.add(made)
    elif action == "forget" and trace_id in known:
        await home.traces.forget(trace_id)
    elif action == "status" and trace_id in known:
        await home.traces.set_status(trace_id, rng.choice([Status.TRUSTED, Status.QUARANTINED]), "for a test")
    elif action == "wording" and trace_id in known and made is not None:
        await home.traces.add_wording(trace_id, made.goals[0])
    elif action == "anew":
        await home.db.run(file_all)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_proven_is_found_and_nothing_without_its_words(home: Home, seed: int) -> None:
    rng = random.Random(seed)
    proven = 0
    for _ in range(40):
        for _ in range(3):
            await change_something(home, rng)
        followable = (Status.TRUSTED, Status.CANDIDATE)
        ids = [one.id for one in await home.traces.list() if one.status in followable]
        traces = await home.traces.current(ids)
        for goal in [some_goal(rng, traces) for _ in range(4)] if traces else []:
            said = words_of(goal)
            expected = {one.id for one in traces if any(needed_words(template) <= said for template in one.goals)}
            found = await home.recall.words(goal)
            assert ({one.id for one in found.traces}, found.is_all) == (expected, True), goal
            matched = {one.id for one in traces if isinstance(match(goal, one), Match)}
            assert matched <= expected, goal
            proven += len(matched)
    assert proven > 20
    counted = dict(await home.rows("SELECT word, templates FROM telling_words WHERE templates > 0"))
    await home.db.run(file_all)
    assert counted == dict(await home.rows("SELECT word, templates FROM telling_words"))


# --- deciding --------------------------------------------------------------------------------------


async def test_a_proof_by_words_spares_the_model(home: Home) -> None:
    await home.traces.add(a_trace("play", "Play the recording {title}", examples=("x y", "z")))
    decision = await home.deciding.decide("Play the recording Blue Train")

    assert decision.match is not None
    assert [(one.trace.id, one.how, one.cosine) for one in decision.considered] == [("play", "words", None)]
    assert home.embedder.asked == []


async def test_a_rival_is_found_by_its_words_without_the_model(home: Home) -> None:
    await home.traces.add(a_trace("play", "Play {title}", examples=("x y", "z")))
    await home.traces.add(a_trace("loud", "loud music {title} now please", examples=("x y", "z")))
    decision = await home.deciding.decide("Play loud music")

    assert decision.choice is Choice.CONFIRM
    assert "loud@1 has the same words" in decision.reason
    assert home.embedder.asked == []


async def test_what_no_word_proves_is_looked_for_by_meaning_and_each_is_near_or_far(home: Home) -> None:
    await home.traces.add(a_trace("play", "Play recording {title}"))
    for number in range(30):
        await home.traces.add(a_trace(f"near-{number}", f"Play some recordings I like {number} {{title}}"))
    considered = await home.deciding.considered("Play some recording I like, never mind which {title}")

    assert (considered[0].trace.id, considered[0].how) == ("play", "words")
    assert len(considered) == 25
    assert all(one.cosine is not None for one in considered)
    assert considered[0].cosine == pytest.approx(
        await nearness(home, "play", "Play some recording I like, never mind which {title}")
    )


async def nearness(home: Home, trace_id: str, goal: str) -> float:
    """How near a trace is when all are asked for."""
    return next(one.cosine for one in await home.recall.semantic(goal, k=99) if one.trace.id == trace_id)


async def test_more_than_fit_leave_the_model_its_say(home: Home) -> None:
    for number in range(25):
        await home.traces.add(a_trace(f"t{number}", "Play {title}", examples=("x y", "z"), tool="same"))
    decision = await home.deciding.decide("Play Blue Train")

    assert "all claim this goal" in decision.reason
    assert home.embedder.asked


async def test_a_proof_without_telling_words_leaves_the_model_its_say(home: Home) -> None:
    await home.traces.add(a_trace("what", "What is {title}", examples=("x y", "z")))
    decision = await home.deciding.decide("What is love")

    assert decision.match is not None
    assert home.embedder.asked


async def test_without_a_model_what_words_prove_is_followed_all_the_same(home: Home) -> None:
    class NoModel(CountingEmbedder):
        def encode(self, texts: Any) -> Any:
            raise SettingsError("there is no model.")

    home.recall._embedder = NoModel()
    await home.traces.add(a_trace("play", "Play the recording {title}", examples=("x y", "z")))

    assert (await home.deciding.decide("Play the recording Blue Train")).match is not None
    with pytest.raises(SettingsError):
        await home.deciding.decide("Play something by Coltrane")
