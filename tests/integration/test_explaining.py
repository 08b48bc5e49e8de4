"""What a goal would do: the nearest trace word by word, what it lacked, and the cost of each way."""

from __future__ import annotations

import json
from typing import Any

from llmos.boot import Explanation
from llmos.interfaces.render_match import beside
from llmos.testing import say
from tests.lab import Lab, MakeLab

NEVER = say("nobody should ask me")


async def told(make_lab: MakeLab, goal: str, *, mode: str = "auto", config: str = "", **extra: str) -> Explanation:
    lab: Lab = make_lab([NEVER])
    lab.extra = extra
    if config:
        lab.configure(config)
    lab.write("a.csv", "x\n1\n")
    async with lab.boot() as system:
        explained = await system.explain(goal, mode=mode)
    assert lab.server.requests == []
    return explained


def ways(explained: Explanation) -> dict[str, dict[str, Any]]:
    return {way["name"]: way for way in explained.ways}


async def test_a_refused_goal_is_laid_beside_the_nearest_wording(make_lab: MakeLab) -> None:
    explained = await told(make_lab, "Convert a.csv into b.json backwards")
    kinds = {(pair["template"], pair["goal"]): pair["kind"] for pair in explained.alignment}
    assert explained.nearest == "convert-data@1"
    assert kinds[None, "backwards"] == "left_over"
    assert kinds["<source>", "a.csv"] == "slot"
    assert explained.needed == "Convert a.csv into b.json"
    assert next(one for one in explained.candidates if one["trace_id"] == "convert-data@1")["rule"]


async def test_a_goal_like_nothing_known_has_no_nearest_trace(make_lab: MakeLab) -> None:
    explained = await told(make_lab, "hello there")
    assert explained.reason == "no trace is known for anything like it"
    assert (explained.nearest, explained.alignment, explained.needed) == (None, [], "")


async def test_the_paths_a_goal_names_are_looked_up(make_lab: MakeLab) -> None:
    explained = await told(make_lab, "Convert a.csv to out/b.json")
    assert {one["path"]: one["exists"] for one in explained.inputs} == {"a.csv": True, "out/b.json": False}


async def test_the_paths_of_a_goal_that_is_refused_are_looked_up_too(make_lab: MakeLab) -> None:
    explained = await told(make_lab, "Convert nosuch.csv into b.json backwards")
    assert {one["path"]: one["exists"] for one in explained.inputs}["nosuch.csv"] is False


async def test_following_is_free_and_learning_is_estimated(make_lab: MakeLab) -> None:
    known = ways(await told(make_lab, "Count lines in a.csv"))
    assert (known["follow"]["possible"], known["follow"]["cost_usd"], known["follow"]["is_estimate"]) == (
        True,
        0.0,
        False,
    )
    assert (known["learn"]["cost_usd"], known["learn"]["is_estimate"]) == (0.5, True)
    assert set(known) == {"follow", "confirm", "judge", "guided", "learn"}


async def test_a_judge_that_is_off_says_how_it_is_switched_on(make_lab: MakeLab) -> None:
    judge = ways(await told(make_lab, "hello there"))["judge"]
    assert (judge["possible"], "models.judge" in judge["note"]) == (False, True)


async def test_without_a_learner_an_unknown_goal_would_be_refused_and_says_why(make_lab: MakeLab) -> None:
    explained = await told(make_lab, "hello there", ANTHROPIC_API_KEY="")
    assert explained.decision == "refuse"
    assert "ANTHROPIC_API_KEY" in explained.learner
    assert explained.learner in explained.reason
    assert not ways(explained)["learn"]["possible"]


async def test_without_a_learner_a_known_goal_is_followed_all_the_same(make_lab: MakeLab) -> None:
    explained = await told(make_lab, "Count lines in a.csv", ANTHROPIC_API_KEY="")
    assert (explained.decision, bool(explained.learner)) == ("follow", True)


async def test_only_following_leaves_no_way_that_costs(make_lab: MakeLab) -> None:
    known = ways(await told(make_lab, "hello there", mode="follow"))
    assert not any(way["possible"] for way in known.values())


async def test_the_json_has_what_the_text_shows(make_lab: MakeLab) -> None:
    explained = await told(make_lab, "Convert a.csv into b.json backwards")
    read = json.loads(json.dumps(explained.to_json()))
    text = beside(explained)
    for pair in read["alignment"]:
        assert (pair["template"] or "") in text
        assert (pair["goal"] or "") in text
    assert f"it would take: {read['needed']}" in text
    assert all(way["name"] in text for way in read["ways"])
    assert "learn   ≈ $0.5000" in text
    assert "a.csv (exists)" in text
    assert "{" not in text
