"""Which goals a guided program reaches, and what a learner is told of a near trace; pure, no model."""

from __future__ import annotations

from typing import Any

import pytest

from llmos.trace.codec import dumps_yaml, from_data, loads_yaml, to_data
from llmos.trace.guided import Guide, guide, leaf_of
from llmos.trace.match import Miss, match
from llmos.trace.plans import Stopped, nearness, plan_of
from llmos.trace.program import REWRITE, CheckKind, Effect, Step, Trace
from llmos.trace.run import StepRecord
from llmos.trace.values import Const, ItemRef, Opaque, parse, unparse
from tests.unit.trace_lab import learned, plugin, refused, step

CODE = "def primes(n):\n    return [p for p in range(2, n) if all(p % d for d in range(2, p))]\n"


def wrote(path: str, content: str) -> StepRecord:
    return step("write", {"file_path": path, "content": content}, {"path": path, "text": f"Wrote {path}."})


def read(path: str, text: str, **more: Any) -> StepRecord:
    return step("read", {"file_path": path, **more}, {"path": path, "text": text, "lines": text.count("\n") + 1})


PRIMES = learned("Create a script for primes in primes.py", wrote("primes.py", CODE))
SUMMARY = learned(
    "Summarise report.txt into summary.md",
    read("report.txt", "In spring, as every year, the trees grew by some more rings."),
    wrote("summary.md", "Trees grow in spring."),
)


def reached(trace: Trace, goal: str) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]] | None:
    found = guide(goal, trace)
    return None if found is None else (dict(found.found.bindings), found.changed)


@pytest.mark.parametrize(
    ("goal", "changed"),
    [
        ("Create a script for primes in p2.py", ()),
        ("Create a script for fibonacci in fib.py", (("primes", "fibonacci"),)),
        ("please create a script for perfect numbers in out/perfect.py", (("primes", "perfect numbers"),)),
    ],
)
def test_a_value_is_written_anew_for_another_subject_or_another_file(
    goal: str, changed: tuple[tuple[str, str], ...]
) -> None:
    found = reached(PRIMES, goal)
    assert found is not None
    assert found[1] == changed


@pytest.mark.parametrize(
    "goal",
    [
        "Delete a script for primes in primes.py",  # another verb
        "Create a test for primes in primes.py",  # the value does not speak of scripts
        "Create a script for primes in primes.txt",  # another kind of file
        "Create a script for primes",  # nothing says where
        "Create a script without primes in primes.py",
        "Create a script for all primes in primes.py",
        "Create a script for 20 primes in primes.py",
        "Create a script for fibonacci and run it in fib.py",
        "Create a script for fibonacci in fib.py and fib2.py",
        "Create a script for primes in primes.py then delete it",
        "Create a script for today in primes.py",
        "Write some code for fibonacci in fib.py",
        "Is there a script for primes in primes.py?",
    ],
)
def test_another_task_is_no_other_subject(goal: str) -> None:
    assert guide(goal, PRIMES) is None


@pytest.mark.parametrize(
    "goal",
    [
        "Create a script for primes in p2.py",
        "Create a script for fibonacci in fib.py",
        "Create a script for fibonacci in primes.py",
    ],
)
def test_the_gate_follows_no_goal_that_the_value_was_not_written_for(goal: str) -> None:
    """Learned on primes, asked for fibonacci: primes must not be written again."""
    assert guide(goal, PRIMES) is not None
    assert isinstance(match(goal, PRIMES), Miss)


def test_a_value_made_of_a_file_is_made_of_the_file_that_is_named_now() -> None:
    found = guide("Summarise notes.txt into n.md", SUMMARY)
    assert isinstance(found, Guide)
    (call,) = (one for one in found.program.calls if one.tool == REWRITE)
    assert unparse(call.args["given"]) == {"read": "${{ steps.read }}"}
    kinds = {check.kind for one in found.program.calls for check in one.checks}
    assert CheckKind.OUTPUT_SHA256 not in kinds
    assert refused(SUMMARY, "Summarise notes.txt into n.md")


def test_a_subject_that_something_else_in_the_program_knows_is_not_replaced() -> None:
    tag = plugin("tag", Effect.WRITE)
    trace = learned(
        "Create a script for primes in p.py and tag it",
        wrote("p.py", CODE),
        step("tag", {"name": "primes-script"}, "ok", effect=Effect.WRITE),
        extra=[tag],
    )
    assert guide("Create a script for fibonacci in p.py and tag it", trace) is None


PAINT = plugin("paint", Effect.WRITE)
LAMP = plugin("switch_on", Effect.WRITE)
PEOPLE = plugin("people")


@pytest.mark.parametrize(
    ("goal", "other", "steps"),
    [
        (  # the colour stands for the word
            "Paint it red with a note",
            "Paint it blue with a note",
            [step("paint", {"colour": "#ff0000", "note": "It is red, as it should be."}, "ok", effect=Effect.WRITE)],
        ),
        (  # the number stands for the person
            "Leave Bob a note about lunch",
            "Leave Eve a note about lunch",
            [
                step("people", {}, [{"id": "U12", "seat": "Bob"}, {"id": "U34", "seat": "Eve"}]),
                step("paint", {"who": "U12", "note": "Dear Bob, lunch is at one."}, "ok", effect=Effect.WRITE),
            ],
        ),
        (  # what is switched on is chosen by the season
            "Make the house ready for summer and write a note in n.txt",
            "Make the house ready for winter and write a note in n.txt",
            [
                step("switch_on", {}, "ok", effect=Effect.WRITE),
                step("write", {"file_path": "n.txt", "content": "All is set for a long summer."}, {"path": "n.txt"}),
            ],
        ),
        (  # the figures of a quarter are in a file of another name
            "Write a text about spring in t.txt",
            "Write a text about autumn in t.txt",
            [
                step("read", {"file_path": "q2.csv"}, {"path": "q2.csv", "text": "12, 14 and 15 of them"}),
                step("write", {"file_path": "t.txt", "content": "In spring there were many."}, {"path": "t.txt"}),
            ],
        ),
    ],
)
def test_a_call_that_was_chosen_for_the_old_subject_is_not_made_for_the_new_one(
    goal: str, other: str, steps: list[StepRecord]
) -> None:
    trace = learned(goal, *steps, extra=[PAINT, LAMP, PEOPLE])
    assert guide(other, trace) is None


def test_the_number_of_a_person_is_looked_up_for_the_new_one() -> None:
    people = step("people", {}, [{"id": "U12", "name": "Bob"}, {"id": "U34", "name": "Eve"}])
    paint = step("paint", {"who": "U12", "note": "Dear Bob, lunch is at one."}, "ok", effect=Effect.WRITE)
    found = guide(
        "Leave Eve a note about lunch", learned("Leave Bob a note about lunch", people, paint, extra=[PAINT, PEOPLE])
    )
    assert found is not None and found.found.bindings == {"who": "Eve"}
    assert found.found.trace.calls[-1].args["who"] == ItemRef(loop="who", path=("id",))


def test_looking_at_all_files_of_a_kind_was_not_chosen_for_the_subject() -> None:
    listed = step("glob", {"pattern": "*.toml"}, {"files": [], "count": 0})
    trace = learned("Create a script for primes in primes.py", listed, wrote("primes.py", CODE))
    assert guide("Create a script for fibonacci in fib.py", trace) is not None


def test_what_only_runs_the_new_file_is_replayed_with_it() -> None:
    ran = step("bash", {"command": "python3 primes.py"}, {"exit_status": 0, "text": ""})
    trace = learned("Create a script for primes in primes.py and run it", wrote("primes.py", CODE), ran)
    found = guide("Create a script for fibonacci in fib.py and run it", trace)
    assert found is not None
    assert [one.tool for one in found.program.calls] == [REWRITE, "write", "bash"]


def test_a_word_the_value_does_not_hold_is_not_its_subject() -> None:
    trace = learned("Write a formal letter to Bob in bob.txt", wrote("bob.txt", "Dear Bob,\nall is well here.\n"))
    assert guide("Write a rude letter to Bob in bob.txt", trace) is None
    assert reached(trace, "Write a formal letter to Eve in eve.txt") is not None


@pytest.mark.parametrize(
    "goal", ["Delete a script for primes in p.py and show it", "Create a script for primes in p.py and delete it"]
)
def test_a_verb_is_no_subject_though_the_value_speaks_of_it(goal: str) -> None:
    trace = learned(
        "Create a script for primes in p.py and show it",
        wrote("p.py", f"# create the primes and show them\n{CODE}"),
        read("p.py", f"# create the primes and show them\n{CODE}"),
    )
    assert guide("Create a script for fibonacci in p.py and show it", trace) is not None
    assert guide(goal, trace) is None


def test_an_answer_about_the_old_subject_is_not_given_for_the_new_one() -> None:
    trace = learned(
        "Create a script for primes in p.py", wrote("p.py", CODE), answer="Wrote a script for primes to p.py"
    )
    found = guide("Create a script for fibonacci in f.py", trace)
    assert found is not None
    assert found.program.answer.expr is None


def test_a_value_that_later_calls_use_is_not_free() -> None:
    check = step("grep", {"pattern": "def primes", "path": "primes.py"}, {"text": "1", "count": 1})
    trace = learned("Create a script for primes in primes.py", wrote("primes.py", CODE), check, wrote("x.txt", "x"))
    assert guide("Create a script for fibonacci in fib.py", trace) is None


def test_two_values_of_the_models_own_are_not_written_anew() -> None:
    trace = learned(
        "Create a script for primes with a test",
        wrote("primes.py", CODE),
        wrote("test_primes.py", "from primes import primes\n\n\ndef test():\n    assert primes(4) == [2, 3]\n"),
    )
    assert (trace.guided, leaf_of(trace)) == (None, None)


def test_a_value_made_of_something_read_after_an_effect_is_not_written_anew() -> None:
    trace = learned(
        "Create notes.txt and describe the folder in about.md",
        wrote("notes.txt", "a note about nothing in particular"),
        step("find_files", {"path": "."}, {"files": [{"path": "notes.txt"}, {"path": "z.csv"}]}),
        wrote("about.md", "There is a table here, and a text that says little."),
    )
    assert trace.guided is None


def test_what_a_value_was_written_for_is_kept_with_it() -> None:
    content = PRIMES.calls[0].args["content"]
    assert isinstance(content, Opaque)
    assert content.purpose == "content of write, for: Create a script for primes in primes.py"
    again = loads_yaml(dumps_yaml(PRIMES))
    assert again == PRIMES
    assert unparse(again.calls[0].args["content"]) == {"$opaque": CODE, "for": content.purpose}


def test_a_file_from_before_purposes_is_read_and_guides_nothing() -> None:
    data = to_data(PRIMES)
    del data["guided"], data["steps"][0]["args"]["content"]["for"]
    old = from_data(data)
    assert old.calls == PRIMES.calls
    assert guide("Create a script for fibonacci in fib.py", old) is None


@pytest.mark.parametrize("value", [{"$opaque": 1}, {"$opaque": 1, "for": "x"}, {"$$opaque": 1, "for": 2}, {"for": 1}])
def test_a_constant_that_looks_like_an_opaque_value_stays_a_constant(value: dict[str, Any]) -> None:
    assert parse(unparse(Const(value=value))) == Const(value=value)


# --- plans -----------------------------------------------------------------------------------------------

TOTAL = learned(
    "Total amount by region of in/sales.csv",
    step(
        "query_data",
        {"sql": "SELECT region, sum(amount) FROM data GROUP BY region", "files": {"data": "in/sales.csv"}},
        {"rows": [{"region": "North", "sum": 3}], "text": "North 3"},
    ),
)


def test_a_plan_says_what_is_known_what_is_not_and_what_was_done() -> None:
    plan = plan_of("Average amount by region of in/march.csv", TOTAL)
    slot = TOTAL.slots[0].name
    assert f"{{{slot}}} seems to be: in/march.csv" in plan
    assert "the goal says 'Average' where it says 'Total'" in plan
    assert "1. [query_data] query_data" in plan
    assert f'files = {{"data": "${{{{ {slot} }}}}"}}' in plan


def test_a_plan_after_a_divergence_says_where_it_stopped() -> None:
    stopped = Stopped(step_id="query_data", expected="a result", actual="no such column")
    plan = plan_of("Total amount by region of in/march.csv", TOTAL, stopped)
    for said in ("stopped at [query_data]", "Expected there: a result", "Found: no such column"):
        assert said in plan


def test_a_plan_stays_short() -> None:
    trace = learned("Create a script for primes in primes.py", wrote("primes.py", CODE * 2_000))
    assert len(plan_of("Create a script for fibonacci in fib.py", trace)) < 13_000


@pytest.mark.parametrize(
    ("goal", "near"),
    [
        ("Average amount by region of in/march.csv", True),
        ("Paint the fence by Friday", False),
        ("Total", False),
        ("Send the amount of work I did to Bob with a kind greeting", False),
    ],
)
def test_a_plan_shares_most_of_the_goals_words(goal: str, near: bool) -> None:
    assert (nearness(goal, TOTAL) > 0) is near


def test_a_step_of_a_guided_program_is_a_step_like_any_other() -> None:
    assert PRIMES.guided is not None
    assert [node.tool for node in PRIMES.guided.steps if isinstance(node, Step)] == [REWRITE, "write"]
