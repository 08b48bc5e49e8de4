"""Turns of a session that its model has only a summary of: how they are cut, left out, and found again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.interfaces.context import passages_of
from llmos.interfaces.prompts import delimited
from llmos.interfaces.transcripts import Line, replaced, results_of, turns_of, uses, without
from llmos.memory.earlier import PASSAGE_CHARS, EarlierTurns, Passage, cut, names_in
from llmos.testing import HashEmbedder


def earlier(*texts: str) -> EarlierTurns:
    turns = EarlierTurns(encode=HashEmbedder().encode)
    turns.add([Passage(turn=number, source="read()", text=text) for number, text in enumerate(texts, 1)])
    return turns


def test_what_names_the_same_thing_is_found_first_and_is_near() -> None:
    turns = earlier("the weather was fine all day", "parse_date lives in src/dates.py", "nobody was there at all")
    best = turns.search("where does dates.py come from? src/dates.py, I think", 1)[0]
    assert (best.passage.turn, best.names) == (2, frozenset({"src/dates.py"}))
    assert best.is_near


def test_what_has_nothing_in_common_is_not_near() -> None:
    turns = earlier(*(f"note {number} about the garden and its trees" for number in range(5)))
    assert not any(one.is_near for one in turns.search("quarterly revenue by region", 5))


def test_a_word_that_every_turn_has_tells_nothing() -> None:
    turns = earlier(*(f"report.csv holds the figures of month {number}" for number in range(20)))
    assert not any(one.names for one in turns.search("open report.csv", 20))


def test_passages_can_be_added_later() -> None:
    turns = earlier("one thing")
    turns.add([Passage(turn=2, source="bash()", text="the port is set in server.toml")])
    assert turns.search("server.toml", 1)[0].passage.turn == 2


@pytest.mark.parametrize("query", ["", "   ", "?!"])
def test_a_query_without_words_finds_nothing(query: str) -> None:
    assert earlier("one thing").search(query) == []


def test_nothing_is_found_where_nothing_is() -> None:
    assert EarlierTurns(encode=HashEmbedder().encode).search("anything") == []


@given(st.text(max_size=3_000))
def test_passages_hold_the_whole_text_and_are_short(text: str) -> None:
    passages = list(cut(1, "said", text))
    assert all(0 < len(one.text) <= PASSAGE_CHARS for one in passages)
    assert "".join("".join(one.text.split()) for one in passages) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("see src/app.py and report.csv.", ["src/app.py", "report.csv"]),
        ("parse_date(x) of RFC9110", ["parse_date", "rfc9110"]),
        ("on 2024-05-01 it was 7.5 of 10", []),
        ("plain words only", []),
    ],
)
def test_names_are_words_that_look_like_one(text: str, names: list[str]) -> None:
    assert names_in(text) == names


# ------------------------------------------------------------------------------------------------- a session's lines


def session(counts: list[int]) -> list[Line]:
    """A session of the CLI: the goal, then turns with so many calls each, a line for each call and for each result."""
    lines: list[Line] = [_line("user", None, "u0", [{"type": "text", "text": "the goal"}])]
    for turn, count in enumerate(counts):
        calls = [{"type": "tool_use", "id": f"c{turn}-{n}", "name": "read", "input": {"n": n}} for n in range(count)]
        for n, call in enumerate([{"type": "text", "text": f"turn {turn}"}, *calls]):
            lines.append(_line("assistant", lines[-1]["uuid"], f"a{turn}-{n}", [call], f"m{turn}"))
        for n in range(count):
            result = {"type": "tool_result", "tool_use_id": f"c{turn}-{n}", "content": [{"type": "text", "text": "r"}]}
            lines.append(_line("user", lines[-1]["uuid"], f"r{turn}-{n}", [result]))
    return lines


def _line(kind: str, parent: str | None, uuid: str, content: list[Any], message_id: str = "") -> Line:
    message = {"role": kind, "content": content} | ({"id": message_id} if message_id else {})
    return {"type": kind, "parentUuid": parent, "uuid": uuid, "message": message}


@given(st.lists(st.integers(0, 3), max_size=8))
def test_a_session_is_its_head_and_its_turns(counts: list[int]) -> None:
    lines = session(counts)
    head, turns = turns_of(lines)
    assert [*head, *(line for turn in turns for line in turn)] == lines
    assert [len(uses(turn)) for turn in turns] == counts


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.data())
def test_a_session_without_its_oldest_turns_is_one_chain_in_which_every_call_has_its_result(
    counts: list[int], data: st.DataObject
) -> None:
    head, turns = turns_of(session(counts))
    count = data.draw(st.integers(0, len(turns) - 1))
    kept = [line for turn in turns[count:] for line in turn]
    made = replaced(head, kept, "what was left out")
    assert [line["parentUuid"] for line in made] == [None, *(line["uuid"] for line in made[:-1])]
    assert {use.id for use in uses(made)} == set(results_of(made))
    assert made[0]["message"]["content"][-1] == {"type": "text", "text": "what was left out"}
    assert made[0]["message"]["content"][0] == {"type": "text", "text": "the goal"}


def test_the_goal_stays_whatever_it_begins_with() -> None:
    first = _line(
        "user", None, "u0", [{"type": "text", "text": "NOTE: a goal"}, {"type": "text", "text": "NOTE: mine"}]
    )
    (left,) = without([first], "NOTE:")
    assert left["message"]["content"] == [{"type": "text", "text": "NOTE: a goal"}]


def test_marks_of_results_are_no_passages() -> None:
    (turn,) = turns_of(session([1]))[1]
    marked = delimited("the code is 4711\n" + "x" * 900, "0123456789abcdef")
    turn[-1]["message"]["content"][0]["content"] = [{"type": "text", "text": marked}]
    texts = [passage.text for passage in passages_of(1, turn)]
    assert not any("«" in text for text in texts)
    assert any("4711" in text for text in texts)
