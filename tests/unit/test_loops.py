"""Loops: learned from three entries with real tools, followed with none, one and five hundred."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llmos.errors import DivergenceError
from llmos.kernel.bus import EventBus
from llmos.kernel.replay import Follower
from llmos.plugins.marking import llm_tool, tool_of
from llmos.trace.codec import dumps_yaml, loads_yaml
from llmos.trace.match import Miss
from llmos.trace.program import Effect, Loop, Step, Trace
from llmos.trace.values import IndexRef, SlotRef, references
from tests.unit.trace_lab import Call, Lab, learned, plugin, step

CSV = "id,amount\n1,2\n"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def loop_of(trace: Trace) -> Loop:
    """The one loop of a trace."""
    [loop] = [node for node in trace.nodes if isinstance(node, Loop)]
    return loop


def has_no_loop(trace: Trace) -> bool:
    return not any(isinstance(node, Loop) for node in trace.nodes)


def clear(lab: Lab, folder: str) -> None:
    for file in (lab.workspace / folder).glob("*"):
        file.unlink()


def copying(name: str) -> tuple[Call, Call]:
    """A file read and written elsewhere."""
    return ("read", {"file_path": f"in/{name}.csv"}), (
        "write",
        lambda outputs: {"file_path": f"out/{name}.txt", "content": outputs[-1]["text"]},
    )


def copy_all(lab: Lab) -> Trace:
    for name in "abc":
        lab.write(f"in/{name}.csv", f"id\n{ord(name)}\n")
    calls = [call for name in "abc" for call in copying(name)]
    return lab.learn("Copy all CSV files in in/ as texts to out/", ("glob", {"pattern": "in/*.csv"}), *calls)


@pytest.mark.parametrize("count", [0, 1, 500])
def test_all_files_learned_on_three_works_on_any_number(lab: Lab, count: int) -> None:
    trace = copy_all(lab)
    clear(lab, "in")
    clear(lab, "out")
    for number in range(count):
        lab.write(f"in/f{number}.csv", f"number {number}")
    done = lab.follow(trace, "Copy all CSV files in in/ as texts to out/")
    made = {file.stem: file.read_text() for file in (lab.workspace / "out").glob("*.txt")}
    assert made == {f"f{number}": f"number {number}" for number in range(count)}
    assert len(done.records) == 2 * count + 1


def test_reading_all_before_writing_all_becomes_two_loops_that_go_together(lab: Lab) -> None:
    for name, text in (("a", "one"), ("b", "two"), ("c", "three")):
        lab.write(f"in/{name}.txt", text)

    def writing(name: str, place: int) -> Call:
        return "write", lambda outputs: {"file_path": f"out/{name}.md", "content": outputs[place]["text"]}

    trace = lab.learn(
        "Copy every text file of in/ to out/",
        ("glob", {"pattern": "in/*.txt"}),
        *(("read", {"file_path": f"in/{name}.txt"}) for name in "abc"),
        *(writing(name, place) for place, name in enumerate("abc", 1)),
    )
    lab.write("in/aa.txt", "between")
    lab.follow(trace, "Copy every text file of in/ to out/")
    assert (lab.text("out/aa.md"), lab.text("out/b.md")) == ("between", "two")


def test_what_every_iteration_gave_can_be_taken_together(lab: Lab) -> None:
    for name in "abc":
        lab.write(f"in/{name}.txt", f"this is {name}\n")
    trace = lab.learn(
        "Join the text files of in/ into all.txt",
        ("glob", {"pattern": "in/*.txt"}),
        *(("read", {"file_path": f"in/{name}.txt"}) for name in "abc"),
        (
            "python",
            lambda outputs: {
                "code": "result = ''.join(reversed(inputs['texts']))",
                "inputs": {"texts": [one["text"] for one in outputs[1:4]]},
            },
        ),
        ("write", lambda outputs: {"file_path": "all.txt", "content": outputs[-1]["text"]}),
    )
    lab.write("in/d.txt", "this is d\n")
    lab.follow(trace, "Join the text files of in/ into all.txt")
    assert lab.text("all.txt").split("\n")[:2] == ["this is d", "this is c"]


def test_a_loop_inside_a_loop(lab: Lab) -> None:
    folders = {"x": ["a", "b"], "y": [], "z": ["c"], "w": ["d", "e"]}
    for folder, names in folders.items():
        (lab.workspace / folder).mkdir()
        for name in names:
            lab.write(f"{folder}/{name}.csv", CSV)
    lab.write("folders.txt", "\n".join(folders))
    calls: list[Call] = [("read", {"file_path": "folders.txt"})]
    for folder, names in folders.items():
        calls.append(("glob", {"pattern": "*.csv", "path": folder}))
        calls += [
            ("convert_data", {"source": f"{folder}/{name}.csv", "target": f"{folder}/{name}.json"}) for name in names
        ]
    trace = lab.learn("Convert the CSV files of each folder named in folders.txt", *calls)
    assert [type(node) for node in trace.nodes] == [Step, Loop, Step, Loop, Step]
    lab.write("v/f.csv", CSV)
    lab.write("others.txt", "v\ny\nx\n")
    lab.follow(trace, "Convert the CSV files of each folder named in others.txt")
    assert (lab.workspace / "v/f.json").exists()


def test_entries_are_selected_by_the_suffix_that_the_goal_says(lab: Lab) -> None:
    for name in ("a.csv", "b.csv", "c.txt", "d.md", "e.csv"):
        lab.write(f"in/{name}", CSV)
    trace = lab.learn(
        "Convert every CSV file in in/ to JSON",
        ("find_files", {"path": "in"}),
        *(("convert_data", {"source": f"in/{n}.csv", "target": f"out/{n}.json"}) for n in "abe"),
    )
    assert loop_of(trace).where
    for name in ("c.csv", "f.txt", "g.CSV"):
        lab.write(f"in/{name}", CSV)
    lab.follow(trace, "Convert every CSV file in in/ to JSON")
    assert {file.stem for file in (lab.workspace / "out").glob("*")} == {"a", "b", "c", "e", "g"}


def test_the_number_of_an_iteration_can_stand_in_a_name(lab: Lab) -> None:
    for name in "pqr":
        lab.write(f"in/{name}.csv", CSV)
    trace = lab.learn(
        "Number the CSV files of in/",
        ("glob", {"pattern": "in/*.csv"}),
        *(("convert_data", {"source": f"in/{n}.csv", "target": f"out/{i:02}-{n}.csv"}) for i, n in enumerate("pqr", 1)),
    )
    refs = [ref for step in trace.calls for expr in step.exprs for ref in references(expr)]
    assert any(isinstance(ref, IndexRef) for ref in refs)
    lab.write("in/a.csv", CSV)
    clear(lab, "out")
    lab.follow(trace, "Number the CSV files of in/")
    assert sorted(file.name for file in (lab.workspace / "out").glob("*")) == [
        *("01-a.csv", "02-p.csv", "03-q.csv", "04-r.csv")
    ]


@pytest.mark.parametrize("names", [["x"], ["x", "y"], ["x", "y", "z", "u", "v", "w", "q"]])
def test_a_list_that_the_goal_gives_may_be_of_any_length(lab: Lab, names: list[str]) -> None:
    for name in ("a", "b", "c", *names):
        lab.write(f"{name}.csv", CSV)
    trace = lab.learn(
        "Convert the files a.csv, b.csv and c.csv to JSON",
        *(("convert_data", {"source": f"{n}.csv", "target": f"{n}.json"}) for n in "abc"),
    )
    assert isinstance(loop_of(trace).over, SlotRef)
    files = [f"{name}.csv" for name in names]
    said = files[0] if len(files) == 1 else ", ".join(files[:-1]) + " and " + files[-1]
    clear_json = list(lab.workspace.glob("*.json"))
    for file in clear_json:
        file.unlink()
    lab.follow(trace, f"Convert the files {said} to JSON")
    assert {file.stem for file in lab.workspace.glob("*.json")} == set(names)


def test_a_goals_list_is_meant_even_where_a_listing_shows_the_same(lab: Lab) -> None:
    for name in "abc":
        lab.write(f"{name}.csv", CSV)
    trace = lab.learn(
        "Convert the files a.csv, b.csv and c.csv to JSON",
        ("glob", {"pattern": "*.csv"}),
        *(("convert_data", {"source": f"{n}.csv", "target": f"{n}.json"}) for n in "abc"),
    )
    lab.write("d.csv", CSV)
    lab.follow(trace, "Convert the files a.csv and b.csv to JSON")
    assert not (lab.workspace / "d.json").exists()


# --- what a replay asks of the entries -----------------------------------------------------------------------


def test_an_entry_of_another_kind_stops_the_replay_before_the_first_one(lab: Lab) -> None:
    for name in "abc":
        lab.write(f"in/{name}.csv", CSV)
    trace = lab.learn(
        "Convert everything in in/ to JSON",
        ("find_files", {"path": "in"}),
        *(("convert_data", {"source": f"in/{n}.csv", "target": f"out/{n}.json"}) for n in "abc"),
    )
    clear(lab, "out")
    lab.write("in/zz.png", "no table")
    with pytest.raises(DivergenceError, match="entry 3 of the list is of another kind") as stopped:
        lab.follow(trace, "Convert everything in in/ to JSON")
    assert stopped.value.effects_done == 0
    assert not list((lab.workspace / "out").glob("*"))


def test_only_plain_entries_are_pasted_into_a_command(lab: Lab) -> None:
    for name in "abc":
        lab.write(f"in/{name}.txt", "some words\n")
    trace = lab.learn(
        "Count the words of each text file in in/",
        ("glob", {"pattern": "in/*.txt"}),
        *(("bash", {"command": f"wc -w in/{n}.txt"}) for n in "abc"),
    )
    assert loop_of(trace)
    lab.write("in/a;touch gone.txt", "")
    with pytest.raises(DivergenceError, match="only plain characters"):
        lab.follow(trace, "Count the words of each text file in in/")
    assert not (lab.workspace / "gone.txt").exists()


def test_a_divergence_in_an_iteration_names_the_step_and_its_number(lab: Lab) -> None:
    trace = copy_all(lab)
    clear(lab, "in")
    for number in range(3):
        lab.write(f"in/f{number}.csv", CSV)
    lab.write("out/f2.txt/taken.txt", "a folder is in the way")
    with pytest.raises(DivergenceError) as stopped:
        lab.follow(trace, "Copy all CSV files in in/ as texts to out/")
    assert (stopped.value.step_id, stopped.value.effects_done) == ("write[2]", 2)


def test_a_list_that_is_cut_short_is_not_taken_for_the_whole(lab: Lab, tmp_path: Path) -> None:
    @llm_tool("orders", "List the orders.", read_only=True)
    async def orders() -> dict[str, Any]:
        return {"orders": ["o-101", "o-102", "o-103"], "total": 3 if fresh else 250, "more": not fresh}

    @llm_tool("ship", "Ship an order.", {"order": str}, idempotent=True)
    async def ship(order: str) -> str:
        return f"{order} is on its way"

    fresh = True
    lab = Lab(tmp_path / "shop", tools=[tool_of(orders), tool_of(ship)])
    trace = lab.learn("Ship all orders", ("orders", {}), *(("ship", {"order": f"o-10{n}"}) for n in (1, 2, 3)))
    assert loop_of(trace)
    fresh = False
    with pytest.raises(DivergenceError):
        lab.follow(trace, "Ship all orders")


# --- what is no loop -----------------------------------------------------------------------------------------


def test_another_order_than_the_lists_is_no_loop(lab: Lab) -> None:
    for name in "abc":
        lab.write(f"in/{name}.csv", CSV)
    trace = lab.learn(
        "Convert all CSV files in in/",
        ("glob", {"pattern": "in/*.csv"}),
        *(("convert_data", {"source": f"in/{n}.csv", "target": f"out/{n}.json"}) for n in "bca"),
    )
    assert has_no_loop(trace)


def test_numbered_names_in_another_order_are_no_loop_that_counts(lab: Lab) -> None:
    """Folder, suffix and number of the iteration give each name; only the entry does not."""
    names = [f"f{number:03}" for number in range(4)]
    for name in names:
        lab.write(f"in/{name}.txt", name)
    lab.write("order.txt", "\n".join(f"in/{name}.txt" for name in reversed(names)))
    calls: list[Call] = [("read", {"file_path": "order.txt"})]
    for name in names:
        calls.append(("read", {"file_path": f"in/{name}.txt"}))
        calls.append(("write", lambda o, n=name: {"file_path": f"out/{n}.txt", "content": o[-1]["text"]}))  # type: ignore[misc]
    assert has_no_loop(lab.learn("Copy all text files named in order.txt to out/", *calls))


def test_an_entry_left_out_without_a_reason_is_no_loop(lab: Lab) -> None:
    for name in "abcd":
        lab.write(f"in/{name}.csv", CSV)
    trace = lab.learn(
        "Convert the CSV files in in/",
        ("glob", {"pattern": "in/*.csv"}),
        *(("convert_data", {"source": f"in/{n}.csv", "target": f"out/{n}.json"}) for n in "abd"),
    )
    assert has_no_loop(trace)
    lab.write("in/e.csv", CSV)
    with pytest.raises(DivergenceError):
        lab.follow(trace, "Convert the CSV files in in/")


def test_texts_that_the_model_wrote_for_each_entry_are_no_loop(lab: Lab) -> None:
    for name in "abc":
        lab.write(f"in/{name}.txt", f"story of {name}")
    said = {"a": "a sad tale of rain", "b": "two friends and a dog", "c": "the sea at night"}
    calls: list[Call] = [("glob", {"pattern": "in/*.txt"})]
    for name, text in said.items():
        calls.append(("read", {"file_path": f"in/{name}.txt"}))
        calls.append(("write", {"file_path": f"out/{name}.md", "content": text}))
    assert has_no_loop(lab.learn("Summarize every text file in in/ into out/", *calls))


def test_one_entry_that_is_done_otherwise_is_no_loop(lab: Lab) -> None:
    for name in "abc":
        lab.write(f"in/{name}.csv", CSV)
    trace = lab.learn(
        "Convert all CSV files in in/",
        ("glob", {"pattern": "in/*.csv"}),
        ("convert_data", {"source": "in/a.csv", "target": "out/a.json"}),
        ("convert_data", {"source": "in/b.csv", "target": "out/b.jsonl"}),
        ("convert_data", {"source": "in/c.csv", "target": "out/c.json"}),
    )
    assert has_no_loop(trace)


def test_what_one_iteration_gave_is_not_taken_for_a_constant_of_all(lab: Lab) -> None:
    """The title of the first file goes into every call."""
    for name in "abc":
        lab.write(f"in/{name}.txt", f"title-of-{name}")
    calls: list[Call] = [("glob", {"pattern": "in/*.txt"})]
    calls += [("read", {"file_path": f"in/{name}.txt"}) for name in "abc"]
    calls += [("write", {"file_path": f"out/{name}.md", "content": "title-of-a"}) for name in "abc"]
    trace = lab.learn("Mark the text files in in/", *calls)
    lab.write("in/a.txt", "title-of-another")
    lab.follow(trace, "Mark the text files in in/")
    assert {lab.text(f"out/{name}.md") for name in "abc"} == {"title-of-another"}


@pytest.mark.parametrize(
    "goal",
    [
        "Convert the first 3 CSV files in in/",
        "Convert the CSV files in in/ that have amounts",
        "Convert three CSV files in in/",
        "Convert all stale CSV files in in/",
        "Convert the CSV files in in/ older than 30 days",
        'Convert the CSV files in in/ about "rent"',
        "Convert the newest CSV files in in/",
        "Convert all CSV files in in/ with errors",
        "Convert all CSV files in in/ from Ada",
        "Convert all CSV files in in/ of customers",
        "Convert all invoices in in/",
        "Convert the duplicates in in/",
    ],
)
def test_a_goal_that_may_select_entries_is_no_loop_through_all(lab: Lab, goal: str) -> None:
    for name in "abc":
        lab.write(f"in/{name}.csv", CSV)
    conversions = [("convert_data", {"source": f"in/{n}.csv", "target": f"out/{n}.json"}) for n in "abc"]
    trace = lab.learn(goal, ("glob", {"pattern": "in/*.csv"}), *conversions)
    assert has_no_loop(trace)
    lab.write("in/d.csv", CSV)
    with pytest.raises(DivergenceError):
        lab.follow(trace, goal)


def test_a_field_of_the_entries_may_be_what_selects_them() -> None:
    """Every issue had comments when this was learned."""
    issues = [{"number": 100 + n, "comments": n} for n in (1, 2, 3)]
    closed = [step("close_issue", {"number": 100 + n}, "ok", effect=Effect.WRITE) for n in (1, 2, 3)]
    tools = [plugin("list_issues"), plugin("close_issue", Effect.WRITE)]
    listed = step("list_issues", {}, {"issues": issues})
    assert has_no_loop(learned("Close all issues with comments", listed, *closed, extra=tools))
    assert not has_no_loop(learned("Close all issues", listed, *closed, extra=tools))


@pytest.mark.parametrize(
    ("goal", "each", "once"),
    [
        ("Split 90 between 'Ada', 'Bob' and 'Cy'", {"amount": 30}, {}),
        ("Order lunch for 'Ada', 'Bob' and 'Cy'", {}, {"persons": 3}),
        ("Give 20 to each of 'Ada', 'Bob' and 'Cy'", {"amount": 20}, {"total": 60}),
    ],
)
def test_a_number_made_of_how_many_entries_there_were_is_no_loop(
    goal: str, each: dict[str, int], once: dict[str, int]
) -> None:
    """For two people it would be another number."""
    calls = [step("give", {"to": name} | each, "ok", effect=Effect.WRITE) for name in ("Ada", "Bob", "Cy")]
    calls += [step("book", once, "ok", effect=Effect.WRITE)] if once else []
    assert has_no_loop(learned(goal, *calls, extra=[plugin("give", Effect.WRITE), plugin("book", Effect.WRITE)]))


def test_what_was_read_before_may_have_selected_the_entries(lab: Lab) -> None:
    """Every file was read, all were found to be drafts and deleted; nothing shows it but the reading."""
    for name in "abc":
        lab.write(f"in/{name}.csv", CSV)
    calls: list[Call] = [("glob", {"pattern": "in/*.csv"})]
    calls += [("read", {"file_path": f"in/{name}.csv"}) for name in "abc"]
    calls += [("write", {"file_path": f"in/{name}.csv", "content": ""}) for name in "abc"]
    assert has_no_loop(lab.learn("Clear all drafts in in/", *calls))


def test_a_field_that_was_the_same_in_all_entries_must_be_it_again(lab: Lab) -> None:
    for name in "abc":
        lab.write(f"in/{name}.csv", "")
    calls: list[Call] = [("find_files", {"path": "in"})]
    calls += [("write", {"file_path": f"in/{name}.csv", "content": "-"}) for name in "abc"]
    trace = lab.learn("Fill the files in in/ with -", *calls)
    assert loop_of(trace)
    clear(lab, "in")
    lab.write("in/d.csv", "important")
    with pytest.raises(DivergenceError):
        lab.follow(trace, "Fill the files in in/ with -")
    assert lab.text("in/d.csv") == "important"


def test_small_numbers_that_agree_by_chance_are_no_loop(lab: Lab, tmp_path: Path) -> None:
    @llm_tool("tallies", "Give some tallies.", read_only=True)
    async def tallies() -> dict[str, Any]:
        return {"values": [4, 7]}

    @llm_tool("turn", "Turn to a page.", {"page": int}, idempotent=True)
    async def turn(page: int) -> str:
        return f"page {page}"

    lab = Lab(tmp_path / "other", tools=[tool_of(tallies), tool_of(turn)])
    trace = lab.learn("Turn the pages that matter", ("tallies", {}), ("turn", {"page": 4}), ("turn", {"page": 7}))
    assert has_no_loop(trace)


def test_a_recording_of_one_entry_keeps_the_length_of_its_list(lab: Lab) -> None:
    lab.write("in/a.csv", CSV)
    trace = lab.learn(
        "Convert all CSV files in in/",
        ("glob", {"pattern": "in/*.csv"}),
        ("convert_data", {"source": "in/a.csv", "target": "out/a.json"}),
    )
    lab.write("in/b.csv", CSV)
    with pytest.raises(DivergenceError):
        lab.follow(trace, "Convert all CSV files in in/")


# --- the interpreter -----------------------------------------------------------------------------------------


def following(lab: Lab, trace: Trace, **bindings: Any) -> Follower:
    return Follower(trace=trace, bindings=bindings, registry=lab.registry, ctx=lab.ctx, bus=EventBus())


WRITING = """
format: 1
id: write-each
goals: ["Write {files}"]
slots: {files: {type: path, many: true}}
steps:
- id: all
  for_each: ${{ files }}
  steps:
  - {id: write, tool: write, args: {file_path: "${{ each.all }}", content: "${{ index.all | text }}"}}
"""


def test_a_list_without_end_is_refused_before_the_first_effect(lab: Lab) -> None:
    follower = following(lab, loads_yaml(WRITING), files=[f"f{n}.txt" for n in range(10_001)])
    with pytest.raises(DivergenceError, match="at most 10,000 iterations"):
        asyncio.run(follower.run())
    assert not follower.records


def test_arguments_of_every_entry_of_a_goals_list_are_checked_before_the_first_call(lab: Lab) -> None:
    numbered = WRITING.replace('"${{ each.all }}"', '"${{ each.all | stem | number | text }}"')
    follower = following(lab, loads_yaml(numbered), files=["1.txt", "b.txt"])
    with pytest.raises(DivergenceError, match=r"step write\[1\]"):
        asyncio.run(follower.run())
    assert not follower.records


def test_the_answer_of_a_loop_tells_of_every_entry(lab: Lab) -> None:
    done = asyncio.run(following(lab, loads_yaml(WRITING), files=["a.txt", "b.txt"]).run())
    assert done.answer.count("Wrote") == 2
    assert [one["each"] for one in done.outputs["all"]] == ["a.txt", "b.txt"]
    nothing = asyncio.run(following(lab, loads_yaml(WRITING), files=[]).run())
    assert nothing.answer == "Nothing had to be done: there was no entry."


# --- any loop ------------------------------------------------------------------------------------------------

_NAMES = st.lists(st.from_regex(r"[a-z]{3,8}", fullmatch=True), min_size=2, max_size=5, unique=True)
_FORMS = ("{stem}.json", "new-{stem}.txt", "{index}-{stem}.csv", "copy/{name}", "{stem}/all.txt")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(learned=_NAMES, fresh=_NAMES, form=st.sampled_from(_FORMS), nested=st.booleans())
def test_an_induced_loop_does_on_a_fresh_list_what_the_program_would(
    tmp_path_factory: pytest.TempPathFactory, learned: list[str], fresh: list[str], form: str, nested: bool
) -> None:
    def copied(target: str, outputs: list[Any]) -> dict[str, Any]:
        return {"file_path": target, "content": outputs[-1]["text"]}

    def calls(names: list[str]) -> list[Call]:
        made: list[Call] = []
        for index, name in enumerate(sorted(names)):
            target = "out/" + form.format(stem=name, name=f"{name}.txt", index=index)
            if nested:
                made.append(("read", {"file_path": f"in/{name}.txt"}))
                made.append(("write", partial(copied, target)))
            else:
                made.append(("fetch", {"source": f"in/{name}.txt", "target": target}))
        return made

    @llm_tool("fetch", "Fetch a file.", {"source": str, "target": str}, idempotent=True)
    async def fetch(source: str, target: str) -> str:
        return "fetched"

    lab = Lab(tmp_path_factory.mktemp("lab"), tools=[tool_of(fetch)])
    for name in learned:
        lab.write(f"in/{name}.txt", f"Content of {name} here.")
    goal = "Fetch all the text files from in/ to out/"
    trace = lab.learn(goal, ("glob", {"pattern": "in/*.txt"}), *calls(learned))
    assume(not has_no_loop(trace))
    clear(lab, "in")
    for name in fresh:
        lab.write(f"in/{name}.txt", f"Now {name} is new.")
    wanted = Lab(tmp_path_factory.mktemp("wanted"), tools=[tool_of(fetch)])
    for name in fresh:
        wanted.write(f"in/{name}.txt", f"Now {name} is new.")
    expected = [(one.tool, one.args) for one in wanted.record([("glob", {"pattern": "in/*.txt"}), *calls(fresh)])]
    try:
        done = lab.follow(trace, goal)
    except DivergenceError as error:
        assert error.effects_done == 0, dumps_yaml(trace)
        return
    assert [(one.tool, one.args) for one in done.records] == expected, dumps_yaml(trace)
    assert not isinstance(lab.match(trace, goal), Miss)
