"""The benchmark counts what it says: labels, loaders, scores and baselines, with the product in the loop."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import report
from benchmarks.baselines import BASELINES, VCache
from benchmarks.encoder import RememberingEmbedder
from benchmarks.goals import Call, DataError, Goal, Pair, load, read
from benchmarks.induction import another, cases
from benchmarks.jobs import SYSTEMS, jobs_of, own_systems
from benchmarks.matching import SHIPPED, main
from benchmarks.pairs import Question, questions, run_pairs
from benchmarks.perturb import Change, changes, hard_negatives, question
from benchmarks.plots import frontier
from benchmarks.product import properties_of
from benchmarks.scoring import Outcome, Tally, same_value, verdict, wilson
from benchmarks.streams import OwnSystem, in_order, run_baseline, run_product
from llmos.testing import HashEmbedder

REPORT = Goal(
    id="r1",
    text="Create a coupons report from 05/01/2021 to 05/15/2023",
    task_id="report",
    slots={"type": "coupons", "start": "05/01/2021", "end": "05/15/2023"},
    proc=frozenset({"type"}),
)


def goal(text: str, task: str = "t", **slots: Any) -> Goal:
    return Goal(id=text, text=text, task_id=task, slots=slots)


def encoder() -> RememberingEmbedder:
    return RememberingEmbedder(inner=HashEmbedder())


def write(folder: Path, name: str, *lines: Any) -> Path:
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


# ------------------------------------------------------------------------------------------------ data


def test_sets_are_recognised_by_what_their_lines_hold(tmp_path: Path) -> None:
    write(tmp_path, "anything.jsonl", {"id": "1", "goal": "list mails", "task_id": "mails", "unknown": [1]}, "")
    pair = {"a": "turn it on", "b": "turn it off", "same": 0, "src": "x", "a_slots": {"n": "1"}}
    with gzip.open(tmp_path / "other.jsonl.gz", "wt") as stream:
        stream.write(json.dumps(pair))
    data = load(tmp_path)
    assert [one.text for one in data.streams["anything"]] == ["list mails"]
    assert data.pairs["other"][0].source == "x"
    assert data.pairs["other"][0].a.slots == {"n": "1"}
    assert data.pairs["other"][0].a.task_id != data.pairs["other"][0].b.task_id


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "an object is needed"),
        ('{"goal": "x"}', "'task_id' is missing"),
        ('{"goal": "", "task_id": "t"}', "goal must be text"),
        ('{"goal": "x", "task_id": "t", "slots": [1]}', "slots must be an object"),
        ('{"a": "x", "b": "y", "same": 2}', "same must be 0 or 1"),
    ],
)
def test_a_broken_line_is_one_sentence_with_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path, "bad.jsonl", {"goal": "fine", "task_id": "t"}, line)
    with pytest.raises(DataError, match=f"bad.jsonl, line 2: .*{said}"):
        list(read(path))


def test_a_broken_file_does_not_take_the_others_along(tmp_path: Path) -> None:
    write(tmp_path, "bad.jsonl", "{")
    write(tmp_path, "good.jsonl", {"goal": "fine", "task_id": "t"})
    data = load(tmp_path)
    assert set(data.streams) == {"good"}
    assert set(data.problems) == {"bad"}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.jsonl"):
        load(tmp_path)


def test_every_shipped_file_loads_and_is_attributed() -> None:
    data = load(SHIPPED)
    assert not data.problems
    told = (SHIPPED / "README.md").read_text(encoding="utf-8")
    missing = [name for name in [*data.streams, *data.pairs] if name not in told]
    assert not missing
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2_500_000


# ------------------------------------------------------------------------------------------------ scoring


def test_procedure_values_change_the_procedure_and_are_no_arguments() -> None:
    other = Goal(id="r2", text="x", task_id="report", slots={**REPORT.slots, "type": "tax"}, proc=REPORT.proc)
    (ours,), (others,) = REPORT.calls, other.calls
    assert ours.procedure != others.procedure
    assert dict(ours.args) == {"start": "05/01/2021", "end": "05/15/2023"}
    assert "coupons" not in json.dumps(ours.sent)
    assert "report" not in ours.tool


def test_tasks_of_one_family_share_a_tool_that_is_told_which_procedure() -> None:
    one, two, alone = (
        Goal(id=task, text="x", task_id=task, family=family) for task, family in (("a", "f"), ("b", "f"), ("c", ""))
    )
    assert one.calls[0].tool == two.calls[0].tool != alone.calls[0].tool
    properties = properties_of([one, two])[one.calls[0].tool]
    assert set(properties["procedure"]["enum"]) == {one.procedure, two.procedure}
    assert Call.made(one.calls[0].tool, one.calls[0].sent) == one.calls[0]


def test_case_is_forgiven_where_the_tool_lists_the_value_in_its_own_spelling() -> None:
    goal = Goal(id="g", text="play the blues list", task_id="t", slots={"list": "blues"})
    (call,) = goal.calls
    made = replace(call, args={"list": "Blues"})
    assert verdict(goal, [made]) == "value"
    assert verdict(goal, [made], lambda tool, name: {"list": {"Blues"}}[name]) == "right"
    assert verdict(goal, [made], lambda tool, name: {"list": {"Jazz"}}[name]) == "value"


def test_a_replay_is_right_only_with_task_calls_and_values() -> None:
    [call] = REPORT.calls
    assert verdict(REPORT, [call]) == "right"
    assert verdict(REPORT, [Call(tool="t0123_0", args=call.args)]) == "task"
    assert verdict(REPORT, [call, call]) == "calls"
    assert verdict(REPORT, [replace(call, procedure="another")]) == "task"
    assert verdict(REPORT, [replace(call, args={"start": "05/15/2023", "end": "05/01/2021"})]) == "value"
    assert verdict(REPORT, [replace(call, args={"start": "05/01/2021"})]) == "value"


@pytest.mark.parametrize(
    ("wanted", "got", "text", "same"),
    [
        ("First Floor", "first floor", "turn on first floor light", True),
        ("kitchen", "Kitchen", "turn on the kitchen light", False),
        ("kitchen", "the kitchen", "turn on the kitchen light", False),
        (5, 5.0, "5 minutes", True),
        (5, "5", "5 minutes", False),
        (True, 1, "", False),
    ],
)
def test_values_are_compared_exactly_but_for_the_source_own_case(wanted: Any, got: Any, text: str, same: bool) -> None:
    assert same_value(wanted, got, text) is same


def test_the_interval_is_wilsons() -> None:
    low, high = wilson(0, 325)
    assert low == 0
    assert high == pytest.approx(1.168, abs=0.01)
    assert wilson(0, 0) == (0.0, 100.0)
    low, high = wilson(10, 100)
    assert low == pytest.approx(5.52, abs=0.01)
    assert high == pytest.approx(17.44, abs=0.01)


def test_hits_count_repeats_only_and_wrong_ones_all_goals() -> None:
    tally = Tally(distinct=4, seeds=1)
    for outcome in (
        Outcome(verdict="right", seen=True, seen_task=True),
        Outcome(verdict="right"),
        Outcome(verdict="value", seen=True, seen_task=True),
        Outcome(verdict=None, rule="words", seen=True, seen_task=True),
    ):
        tally.count(outcome)
    summary = tally.summary()
    assert (summary["hit_pct"], summary["wrong_pct"]) == (33.33, 25.0)
    assert (summary["right_but_unseen"], summary["refusals"]) == (1, {"words": 1})


def test_more_seeds_do_not_narrow_the_interval() -> None:
    one, three = Tally(), Tally()
    part = Tally(distinct=100, seeds=1, goals=100, wrong=2)
    one.add(part)
    for _ in range(3):
        three.add(part)
    assert one.summary()["wrong_ci95"] == three.summary()["wrong_ci95"]


# ------------------------------------------------------------------------------------------------ others' policies


def stepped(name: str, goals: Sequence[Goal], cosines: Sequence[float]) -> Tally:
    """A baseline over goals whose vectors have these cosines with the first one."""
    vectors = np.array([[c, (1 - c * c) ** 0.5] for c in cosines], dtype=np.float32)
    return run_baseline(name, goals, 0, vectors).tally


def test_a_threshold_replays_the_nearest_and_is_granted_the_slots() -> None:
    goals = [goal("a", n="1"), goal("b", n="2"), goal("c", "other")]
    assert stepped("cosine_0.90", goals, [1.0, 0.95, 0.95]).summary()["hit_pct"] == 100
    assert stepped("cosine_0.90", goals, [1.0, 0.95, 0.95]).wrong == 1
    assert stepped("upstream", goals, [1.0, 0.95, 0.5]).wrong_kinds == {"value": 1}
    assert stepped("upstream", goals, [1.0, 0.91, 0.5]).wrong == 0


def test_gptcache_serves_from_a_cosine_of_six_tenths() -> None:
    goals = [goal("a"), goal("b")]
    assert stepped("gptcache", goals, [1.0, 0.61]).hits == 1
    assert stepped("gptcache", goals, [1.0, 0.59]).hits == 0


def test_muscle_mem_needs_the_same_text() -> None:
    assert stepped("muscle_mem", [goal("a"), goal("a"), goal("A")], [1.0, 1.0, 1.0]).hits == 1


def test_vcache_serves_only_after_labels_of_both_kinds() -> None:
    policy = BASELINES["vcache_granted"](100, 0)
    assert isinstance(policy, VCache)
    right = [(0.9 + n / 1000, True) for n in range(40)]
    assert policy._exploring(right, 0.95) == 1.0
    assert policy._exploring(right[:3] + [(0.2, False)] * 2, 0.95) == 1.0
    mixed = right + [(0.2 + n / 1000, False) for n in range(40)]
    assert policy._exploring(mixed, 0.99) < 0.6
    assert policy._exploring(mixed, 0.21) > 0.95


# ------------------------------------------------------------------------------------------------ perturbations


def made(text: str, **slots: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for change in changes(goal(text, **slots)):
        found.setdefault(change.kind, []).append(change.text)
    return found


def test_words_are_exchanged_outside_the_values_only() -> None:
    found = made("turn off the lamp called turn on", name="turn on")
    assert found["polarity"] == ["turn on the lamp called turn on"]
    assert "off" not in str(made("what is on tonight", when="tonight").get("polarity"))


def test_each_kind_changes_what_is_meant() -> None:
    found = made("Show all orders above 20 from the last two weeks for Ann", name="Ann")
    assert found["quantifier"] == ["Show none of orders above 20 from the last two weeks for Ann"]
    assert found["number"] == [
        "Show all orders above 21 from the last two weeks for Ann",
        "Show all orders above 20 from the last three weeks for Ann",
    ]
    assert "Show all orders below 20 from the last two weeks for Ann" in found["direction"]
    assert "Show all orders above 20 from the last two days for Ann" in found["unit"]
    assert found["negation"] == ["Do not show all orders above 20 from the last two weeks for Ann"]
    assert "suffix" not in found, "a clause after a value could be a part of it"


def test_exchanged_values_are_wanted_exchanged() -> None:
    [change] = [one for one in changes(REPORT) if one.kind == "direction"]
    assert change.text == "Create a coupons report to 05/01/2021 from 05/15/2023"
    asked = question(REPORT, change)
    assert asked.wanted is not None
    assert dict(asked.wanted[0].args) == {"start": "05/15/2023", "end": "05/01/2021"}
    assert asked.wanted[0].tool == REPORT.calls[0].tool


def test_a_goal_whose_value_is_not_in_its_text_is_left_alone() -> None:
    assert made("turn on each light in this room", area="Living Room") == {}
    assert made("copy a to a", source="a", target="a") == {}


def test_a_word_of_another_task_is_put_in() -> None:
    goals = [goal("show the weather in Rome", "weather", city="Rome"), goal("play the newest podcast", "play")]
    found = [one for one in hard_negatives({"s": goals}) if one.group == "entity"]
    assert {one.asked.text for one in found} == {"show the podcast in Rome", "play the weather podcast"} or all(
        one.asked.text != one.learned.text for one in found
    )


def test_the_shipped_goals_give_a_thousand_hard_negatives_of_every_kind() -> None:
    data = load(SHIPPED)
    [again, once] = [[part for part in jobs_of(data, sets=["perturbed"]) if hasattr(part, "asked")] for _ in range(2)]
    asked = [one for part in once for one in part.asked]
    assert again == once
    assert len(asked) >= 1000
    kinds = {one.group for one in asked}
    assert kinds >= {"swap", "direction", "polarity", "number", "unit", "entity", "order", "scope", "quantifier"}
    assert kinds >= {"suffix", "negation", "comparison", "time"}
    assert all(one.asked.text != one.learned.text and not one.same for one in asked)


# ------------------------------------------------------------------------------------------------ induction


def test_the_induction_suite_has_sixty_runs_with_changed_goals() -> None:
    found = cases(load(SHIPPED).streams)
    assert len(found) >= 60
    for case in found:
        for asked in case.asked:
            assert asked.calls is None or case.wanted(asked) is not None
            if asked.goal != case.goal.text and asked.calls is not None:
                assert [dict(call.args) for call in asked.calls] != [dict(call.args) for call in case.goal.recorded]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("#W1234567", r"#W\d{7}"),
        ("report.txt", r"[a-z]+\.txt"),
        ("12", r"\d+"),
        ("13.2", r"\d+\.\d"),
        ("/tmp", r"/[a-z]+"),
    ],
)
def test_another_value_is_of_the_same_kind(value: str, kind: str) -> None:
    import re

    new = another(value, goal("x"), ())
    assert new is not None
    assert new != value
    assert re.fullmatch(kind, new)


# ------------------------------------------------------------------------------------------------ with the product


LINES = [
    goal("Count the lines of the file notes.txt please", "lines", file="notes.txt"),
    goal("Count the lines of the file todo.txt please", "lines", file="todo.txt"),
    goal("Delete the lines of the file todo.txt please", "delete", file="todo.txt"),
]


def test_a_stream_goes_through_the_product() -> None:
    done = run_product(OwnSystem(name="ours"), LINES, encoder())
    summary = done.tally.summary()
    assert (summary["hits"], summary["repeats"], summary["wrong"]) == (1, 1, 0)


def test_a_pair_is_decided_in_a_memory_of_its_own() -> None:
    pair = Pair(id="p", source="s", a=LINES[0], b=LINES[1], same=True)
    other = Pair(id="q", source="s", a=LINES[0], b=LINES[2], same=False)
    tally = run_pairs(questions([pair, other, pair]), encoder()).tallies["s"]
    assert (tally.same, tally.accepted, tally.accepted_wrongly, tally.wrong_value) == (2, 2, 0, 0)


def test_following_what_must_be_refused_is_counted_as_wrong() -> None:
    asked = Question(learned=LINES[0], asked=LINES[1], group="g", same=False, wanted=None)
    done = run_pairs([asked], encoder())
    assert done.tallies["g"].accepted_wrongly == 1
    assert done.errors[0]["goal"] == LINES[1].text


def test_the_values_of_later_goals_are_not_known() -> None:
    [ours, open_, *_] = own_systems("snips")
    assert (ours.vocabulary, open_.vocabulary) == (True, False)
    assert not own_systems("webarena")[0].vocabulary
    towns = [
        goal("Show me the weather of the town Rome please", "w", town="Rome"),
        goal("Show me the weather of the town Oslo please", "w", town="Oslo"),
    ]
    done = run_product(OwnSystem(name="ours", vocabulary=True), towns, encoder())
    assert done.tally.hits == 0, "Oslo is no town anybody has named before"


def test_an_order_is_the_seeds() -> None:
    goals = [goal(str(n)) for n in range(20)]
    assert in_order(goals, 1, None) == in_order(goals, 1, None) != in_order(goals, 2, None)
    assert len(in_order(goals, 1, 5)) == 5


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_measures_a_folder_and_tells_what_it_could_not_read(tmp_path: Path) -> None:
    lines = [{"id": one.id, "goal": one.text, "task_id": one.task_id, "slots": dict(one.slots)} for one in LINES]
    write(tmp_path, "mine.jsonl", *lines)
    write(tmp_path, "broken.jsonl", "{")
    out, errors = tmp_path / "out" / "r.json", tmp_path / "e.jsonl"
    common = ["--data", str(tmp_path), "--workers", "1", "--json", str(out), "--errors", str(errors)]
    assert main([*common, "--sets", "mine", "--systems", "ours,muscle_mem", "--seeds", "1"]) == 1
    results = json.loads(out.read_text())
    assert set(results["sets"]["mine"]) == {"ours", "muscle_mem"}
    assert results["sets"]["mine"]["ours"]["goals"] == 3
    assert "broken.jsonl, line 1" in results["conditions"]["problems"]["broken"]
    assert main(["--data", str(tmp_path), "--sets", "nope"]) == 2


def test_every_system_has_a_name_and_no_two_share_one() -> None:
    assert len(set(SYSTEMS)) == len(SYSTEMS)
    assert {"ours", "cosine_0.90", "gptcache", "vcache", "muscle_mem", "upstream"} <= set(SYSTEMS)


def test_the_page_shows_the_committed_results() -> None:
    results = json.loads(report.RESULTS.read_text(encoding="utf-8"))
    page = report.PAGE.read_text(encoding="utf-8")
    fitted = json.loads(report.FITTED.read_text(encoding="utf-8"))
    assert page == report.filled(page, report.tables(results, fitted))
    assert report.PLOT.read_text(encoding="utf-8") == frontier(dict(report.points(results)))


def test_a_change_without_exchanged_values_is_never_right() -> None:
    asked = question(REPORT, Change(kind="number", text="x"))
    assert asked.wanted is None
    assert asked.same is False
