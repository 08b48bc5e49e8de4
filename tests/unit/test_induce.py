"""What one recorded run teaches: which goals are followed afterwards, with which arguments, and which never."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmos.plugins.marking import llm_tool, tool_of
from llmos.trace.induce import NotATrace, induce
from llmos.trace.match import Match, Miss
from llmos.trace.program import CheckKind, Effect, SlotType, Status, Trace
from llmos.trace.run import Finish, RunStatus, StepRecord, step_ids
from llmos.trace.values import EnvRef, OutputRef, references
from tests.unit.trace_lab import ENV, FACTS, Lab, bound, learned, plugin, refused, run_of, step

SQL = "SELECT region, sum(amount) AS total FROM data GROUP BY ALL ORDER BY 1"


@llm_tool("simulate_circuit", "Simulate", {"circuit_spec": str, "shots": int}, read_only=True)
async def simulate_circuit(circuit_spec: str, shots: int) -> dict[str, Any]:
    return {"spec": circuit_spec, "counts": {"00": shots // 2}, "text": f"{circuit_spec}: {shots // 2}"}


@llm_tool(
    "time__convert_time", "Convert", {"source_timezone": str, "time": str, "target_timezone": str}, read_only=True
)
async def convert_time(source_timezone: str, time: str, target_timezone: str) -> dict[str, Any]:
    return {"source": source_timezone, "time": time, "target": target_timezone}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path, tools=(tool_of(simulate_circuit), tool_of(convert_time)))
    lab.write("sales.csv", "region,amount\nnorth,10\nsouth,20\nnorth,5\n")
    lab.write("march.csv", "region,amount\neast,7\nwest,8\neast,1\n")
    lab.write("a.txt", "b\na\nb\n")
    lab.write("c.txt", "z\nz\ny\n")
    lab.write("src/one.py", "x = foo\n")
    lab.write("src/two.py", "y = foo\n")
    lab.write("lib/three.py", "x = spam\n")
    lab.write("lib/four.py", "y = spam\n")
    lab.write("logs/app.log", "1\n2\n3\n")
    lab.write("logs/web.log", "1\n2\n3\n4\n5\n")
    return lab


# --- what must be followed after one lesson -----------------------------------------------------------


def query(path: str) -> tuple[str, dict[str, Any]]:
    return "query_data", {"sql": SQL, "files": {"data": path}, "format": "markdown"}


PEEKS: dict[str, list[Any]] = {
    "nothing": [],
    "read": [("read", {"file_path": "sales.csv", "limit": 2})],
    "glob": [("glob", {"pattern": "*.csv"}), ("read", {"file_path": "sales.csv"})],
}


@pytest.mark.parametrize("peek", PEEKS)
def test_a_query_written_to_a_file_is_followed_for_another_file(lab: Lab, peek: str) -> None:
    calls = [*PEEKS[peek], query("sales.csv")]
    trace = lab.learn(
        "Total amount by region of sales.csv into sales.md",
        *calls,
        ("write", lambda outputs: {"file_path": "sales.md", "content": outputs[-1]["text"]}),
        answer="Wrote the totals to sales.md.",
    )
    replay = lab.follow(trace, "Total amount by region of march.csv into march.md")
    assert lab.text("march.md") == "| region | total |\n| --- | --- |\n| east | 8 |\n| west | 8 |\n"
    assert [record.tool for record in replay.records] == ["query_data", "write"]
    assert replay.answer == "Wrote the totals to march.md."
    assert trace.status is Status.TRUSTED


def test_a_table_named_like_the_file_is_followed_for_another_file(lab: Lab) -> None:
    sql = "SELECT count(*) AS rows FROM sales"
    trace = lab.learn("Count the rows of sales.csv", ("query_data", {"sql": sql, "files": {"sales": "sales.csv"}}))
    lab.write("june.csv", "a\n1\n")
    assert lab.follow(trace, "Count the rows of june.csv").outputs["query_data"]["rows"] == [{"rows": 1}]


def test_a_conversion_is_followed_for_other_files(lab: Lab) -> None:
    trace = lab.learn(
        "Convert sales.csv to sales.json", ("convert_data", {"source": "sales.csv", "target": "sales.json"})
    )
    lab.follow(trace, "Convert march.csv to out/m.json")
    assert '"region":"east"' in lab.text("out/m.json")


def test_a_pipeline_is_followed_once_somebody_agreed(lab: Lab) -> None:
    trace = lab.learn("Count distinct lines of a.txt into b.txt", ("bash", {"command": "sort a.txt | uniq -c > b.txt"}))
    assert trace.status is Status.CANDIDATE
    lab.follow(trace, "Count distinct lines of c.txt into d.txt")
    assert lab.text("d.txt").split() == ["1", "y", "2", "z"]
    assert not (lab.workspace / "b.txt").samefile(lab.workspace / "d.txt")


@pytest.mark.parametrize("peeks", [False, True])
def test_an_edit_of_two_named_files_is_followed_for_other_files_and_words(lab: Lab, peeks: bool) -> None:
    calls: list[Any] = [("grep", {"pattern": "foo"})] if peeks else []
    for path in ("src/one.py", "src/two.py"):
        calls += [("read", {"file_path": path})] if peeks else []
        calls.append(("edit", {"file_path": path, "old_string": "foo", "new_string": "bar", "replace_all": True}))
    trace = lab.learn("Replace 'foo' by 'bar' in src/one.py and src/two.py", *calls)
    lab.follow(trace, "Replace 'spam' by 'eggs' in lib/three.py and lib/four.py")
    assert (lab.text("lib/three.py"), lab.text("lib/four.py")) == ("x = eggs\n", "y = eggs\n")
    assert lab.text("src/one.py") == "x = bar\n"


def test_a_program_with_its_paths_as_inputs_is_followed_for_other_paths(lab: Lab) -> None:
    code = "result = str(len(open(inputs['path']).read().split()))"
    trace = lab.learn(
        "Count the words of a.txt into out.txt",
        ("python", {"code": code, "inputs": {"path": "a.txt"}}),
        ("write", lambda outputs: {"file_path": "out.txt", "content": outputs[0]["text"]}),
    )
    lab.write("long.txt", "a b c d")
    lab.follow(trace, "Count the words of long.txt into w.txt")
    assert lab.text("w.txt") == "4"


def test_a_plugin_tool_is_followed_with_another_text_and_number(lab: Lab) -> None:
    trace = lab.learn(
        "Simulate the circuit 'H 0; CNOT 0 1' with 1024 shots",
        ("simulate_circuit", {"circuit_spec": "H 0; CNOT 0 1", "shots": 1024}),
    )
    replay = lab.follow(trace, "Simulate the circuit 'X 0' with 4,096 shots")
    assert replay.records[0].args == {"circuit_spec": "X 0", "shots": 4096}


def test_a_question_is_answered_from_the_other_file(lab: Lab) -> None:
    trace = lab.learn(
        "How many lines does logs/app.log have?",
        ("read", {"file_path": "logs/app.log"}),
        answer="logs/app.log has 3 lines.",
    )
    assert lab.follow(trace, "How many lines does logs/web.log have").answer == "logs/web.log has 5 lines."


def test_an_mcp_tool_is_followed_with_other_words(lab: Lab) -> None:
    args = {"source_timezone": "Europe/Warsaw", "time": "16:30", "target_timezone": "Asia/Tokyo"}
    trace = lab.learn("Convert the time '16:30' from 'Europe/Warsaw' to 'Asia/Tokyo'", ("time__convert_time", args))
    replay = lab.follow(trace, "Convert the time '09:15' from 'Asia/Tokyo' to 'Europe/Berlin'")
    expected = {"source_timezone": "Asia/Tokyo", "time": "09:15", "target_timezone": "Europe/Berlin"}
    assert replay.records[0].args == expected


def test_a_repository_path_varies() -> None:
    log = plugin("git__git_log")
    trace = learned(
        "Show the git log of repos/alpha",
        step("git__git_log", {"repo_path": "repos/alpha", "max_count": 10}, {"result": "commit abc"}),
        extra=[log],
    )
    assert bound(trace, "Show the git log of repos/beta") == [{"repo_path": "repos/beta", "max_count": 10}]


def test_a_target_made_of_the_source_follows_the_source() -> None:
    trace = learned(
        "Turn data/sales.csv into parquet",
        step("convert_data", {"source": "data/sales.csv", "target": "data/sales.parquet"}, {"rows": 3}),
    )
    assert bound(trace, "Turn data/march.csv into parquet") == [
        {"source": "data/march.csv", "target": "data/march.parquet"}
    ]
    assert refused(trace, "Turn other/march.csv into parquet")


def test_a_whole_output_list_is_handed_on() -> None:
    rows = [{"a": 1}, {"a": 2}]
    trace = learned(
        "Describe the rows of sales.csv",
        step("query_data", {"sql": "SELECT * FROM d", "files": {"d": "sales.csv"}}, {"rows": rows, "text": "1\n2"}),
        step("python", {"code": "result = len(inputs['rows'])", "inputs": {"rows": rows}}, {"result": 2, "text": "2"}),
    )
    other = {"query_data": {"rows": [{"a": 9}], "text": "9"}}
    assert bound(trace, "Describe the rows of march.csv", other)[1]["inputs"] == {"rows": [{"a": 9}]}


# --- what must never be followed with other values ------------------------------------------------------


def read(path: str, text: str) -> StepRecord:
    return step("read", {"file_path": path}, {"path": path, "text": text, "lines": text.count("\n")})


def write(path: str, content: str) -> StepRecord:
    return step("write", {"file_path": path, "content": content}, {"path": path, "text": f"Wrote {path}."})


def sql(code: str, path: str, output: Any) -> StepRecord:
    return step("query_data", {"sql": code, "files": {"data": path}}, output)


RESULT: dict[str, Any] = {"rows": [{"n": 7777}], "row_count": 1, "text": "n\n7777"}

# goal, steps, goals that must be refused or frozen (an output hash guards the step)
COPIED: list[tuple[str, list[StepRecord], str]] = [
    (
        "a threshold read in another file",
        [
            read("limits.json", '{"threshold": 42}'),
            sql("SELECT * FROM data WHERE amount > 42", "sales.csv", RESULT),
            write("out.md", RESULT["text"]),
        ],
        "List rows of sales.csv above the threshold in limits.json into out.md",
    ),
    (
        "a threshold worked out in the head",
        [
            read("sales.csv", "amount\n30\n44\n"),
            sql("SELECT * FROM data WHERE amount > 37", "sales.csv", RESULT),
            write("out.md", RESULT["text"]),
        ],
        "List rows of sales.csv above the average into out.md",
    ),
    (
        "a name read in a file",
        [
            read("sales.csv", "region,amount\nnorth,3\n"),
            sql("SELECT * FROM data WHERE region = 'north'", "sales.csv", RESULT),
            write("out.md", RESULT["text"]),
        ],
        "List rows of sales.csv for the best region into out.md",
    ),
    (
        "prose in a program",
        [
            read("sales.csv", "region,amount\nnorth,3\n"),
            step("python", {"code": "result = 'Business went rather well this time'"}, {"result": "x", "text": "x"}),
            write("out.md", "x"),
        ],
        "Summarise the table sales.csv into out.md",
    ),
    (
        "a line counted from the end",
        [
            read("app.log", "a\n" * 50),
            step("read", {"file_path": "app.log", "offset": 41, "limit": 10}, {"text": "a\n" * 10, "lines": 50}),
            write("tail.txt", "a\n" * 10),
        ],
        "Copy the last 10 lines of app.log into tail.txt",
    ),
]


@pytest.mark.parametrize(("steps", "goal"), [case[1:] for case in COPIED], ids=[case[0] for case in COPIED])
def test_what_was_read_off_an_output_freezes_the_output(steps: list[StepRecord], goal: str) -> None:
    trace = learned(goal, *steps)
    frozen = [one.id for one in trace.calls if any(c.kind is CheckKind.OUTPUT_SHA256 for c in one.checks)]
    assert frozen, trace
    source = steps[0].args["file_path"]
    assert refused(trace, goal.replace(source, "other" + source[source.index(".") :]))
    assert not refused(trace, goal)


def test_one_of_several_listed_files_is_not_picked_by_its_place() -> None:
    listing = {"files": [{"path": "a.bin", "bytes": 5}, {"path": "b.bin", "bytes": 900}], "count": 2}
    trace = learned(
        "Delete the biggest file of the folder",
        step("find_files", {"path": "."}, listing),
        step("remove", {"path": "b.bin"}, {"ok": True}, effect=Effect.WRITE),
        extra=[plugin("remove", Effect.WRITE)],
    )
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256
    assert bound(trace, "Delete the biggest file of the folder")[1] == {"path": "b.bin"}


def test_the_only_listed_file_is_picked_while_it_is_the_only_one() -> None:
    trace = learned(
        "Show the newest report",
        step("newest", {}, {"found": [{"path": "r7.txt"}]}),
        step("read", {"file_path": "r7.txt"}, {"text": "hello"}),
        extra=[plugin("newest")],
    )
    assert trace.calls[1].args["file_path"] == OutputRef(step="newest", path=("found", 0, "path"))
    assert trace.calls[0].checks[-1].kind is CheckKind.LENGTH


def test_the_only_listed_entry_is_not_what_a_goal_selects() -> None:
    """The one order there was happened to be unpaid."""
    trace = learned(
        "Cancel the unpaid order",
        step("list_orders", {}, {"orders": [{"id": "o-71"}]}),
        step("cancel_order", {"id": "o-71"}, "ok", effect=Effect.WRITE),
        extra=[plugin("list_orders"), plugin("cancel_order", Effect.WRITE)],
    )
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


@pytest.mark.parametrize(
    ("goal", "seen", "args"),
    [
        ("Reopen ticket T-12", {"last": "open"}, {"status": "open"}),
        ("Close ticket T-12", {"like": "closed"}, {"status": "closed"}),
        ("Page through ticket T-12", {"bytes": 1000}, {"limit": 1000}),
        ("Raise ticket T-12", {"last": "high"}, {"level": "high"}),
    ],
)
def test_a_setting_that_an_output_happens_to_hold_is_frozen(
    goal: str, seen: dict[str, Any], args: dict[str, Any]
) -> None:
    """Another ticket has another history, and is to be opened all the same."""
    trace = learned(
        goal,
        step("see", {"id": "T-12"}, seen),
        step("change", {"id": "T-12"} | args, "ok"),
        extra=[plugin("see"), plugin("change", level=("low", "high"))],
    )
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


def test_a_choice_with_a_number_of_its_own_does_not_vary() -> None:
    lamp = plugin("lamp", Effect.WRITE, level=("low", "high"))
    trace = learned("Set the lamp to high", step("lamp", {"level": "high", "brightness": 255}, "ok"), extra=[lamp])
    assert refused(trace, "Set the lamp to low")
    plain = learned("Set the lamp to high", step("lamp", {"level": "high", "lamps": 1}, "ok"), extra=[lamp])
    assert not refused(plain, "Set the lamp to low")


@pytest.mark.parametrize(
    "output", [{"smallest": "b.log", "largest": "b.log"}, {"a": {"x": "b.log"}, "b": {"y": "b.log"}}]
)
def test_a_value_that_two_fields_hold_is_frozen(output: dict[str, Any]) -> None:
    trace = learned(
        "Show the largest log",
        step("logs", {}, output),
        step("read", {"file_path": "b.log"}, {"text": "hello"}),
        extra=[plugin("logs")],
    )
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


def test_a_number_read_in_a_text_is_frozen() -> None:
    trace = learned(
        "Close the latest issue",
        step("list_issues", {}, {"text": "#42 Login is broken\n#17 Typo"}),
        step("close_issue", {"number": 42}, {"text": "closed"}, effect=Effect.EXTERNAL),
        extra=[plugin("list_issues"), plugin("close_issue", Effect.EXTERNAL)],
    )
    assert [one.tool for one in trace.calls] == ["list_issues", "close_issue"]
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


@pytest.mark.parametrize(("before", "after"), [("0.1.0", "0.2.0"), (5, 6), ("on", "off"), (True, False)])
def test_a_value_made_from_a_state_is_only_good_for_that_state(before: Any, after: Any) -> None:
    trace = learned(
        "Change the state of the lamp",
        step("get_state", {}, {"state": before}),
        step("set_state", {"state": after}, {"text": "set"}, effect=Effect.EXTERNAL),
        extra=[plugin("get_state"), plugin("set_state", Effect.EXTERNAL)],
    )
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


@pytest.mark.parametrize("command", ["echo 0.2.0 > VERSION", "sed -i s/0.1.0/0.2.0/ VERSION", "echo off > VERSION"])
def test_a_command_with_data_of_its_own_depends_on_what_was_read(command: str) -> None:
    trace = learned(
        "Bump the version of this program",
        read("VERSION", "0.1.0\n"),
        step("bash", {"command": command}, {"stdout": "", "exit_status": 0}),
    )
    assert [one.tool for one in trace.calls] == ["read", "bash"]
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


def test_what_a_failed_call_said_makes_no_trace() -> None:
    failed = step("remove_lock", {}, "the lock is held by process 4242", is_error=True)
    kill = step("bash", {"command": "kill 4242"}, {"stdout": "", "exit_status": 0})
    outcome = induce(run_of("Remove the stale lock", failed, kill), FACTS | {"remove_lock": plugin("remove_lock")}, ENV)
    assert isinstance(outcome, NotATrace)
    assert "4242" in outcome.reason


@pytest.mark.parametrize(
    ("goal", "code", "other"),
    [
        ("Share of each region in sales.csv over 100 units", "SELECT a * 100 / b FROM data WHERE u > 100", "250"),
        ("Primes from 2 up to 500 of sales.csv", "SELECT * FROM data WHERE n < 501 AND m <= 500", "700"),
        ("Rows of sales.csv over 1.250 units", "SELECT * FROM data WHERE u > 1.250", "1.300"),
    ],
)
def test_a_number_with_two_possible_meanings_does_not_vary(goal: str, code: str, other: str) -> None:
    trace = learned(goal, sql(code, "sales.csv", RESULT))
    number = next(word for word in ("1.250", "500", "100") if word in goal)
    assert refused(trace, goal.replace(number, other))
    assert not refused(trace, goal)


def test_a_short_number_that_two_arguments_hold_does_not_vary() -> None:
    ping = plugin("ping")
    trace = learned("Send 3 pings to the server", step("ping", {"count": 3, "retries": 3}, "ok"), extra=[ping])
    assert refused(trace, "Send 5 pings to the server")


KEYS: list[tuple[dict[str, Any], str]] = [
    ({"sales": "sales.csv"}, "result = {name: len(open(path).read()) for name, path in inputs.items()}"),
    ({"sales.csv": "sales.csv"}, "result = [k for k in inputs]"),
    ({"sales": "sales.csv"}, "result = {'sales': open(inputs['sales']).read()}"),
    ({"sales": "sales.csv"}, "result = 'sales has ' + open(inputs['sales']).read()"),
]


@pytest.mark.parametrize(("inputs", "code"), KEYS)
def test_a_key_that_names_the_file_lets_it_not_vary(inputs: dict[str, Any], code: str) -> None:
    output = {"result": "x", "text": "x"}
    trace = learned("Measure the size of sales.csv", step("python", {"code": code, "inputs": inputs}, output))
    assert refused(trace, "Measure the size of march.csv")


def test_a_key_that_only_the_code_looks_up_lets_the_file_vary() -> None:
    args = {"code": "result = len(open(inputs['sales']).read())", "inputs": {"sales": "sales.csv"}}
    trace = learned("Measure the size of sales.csv", step("python", args, {"result": 9, "text": "9"}))
    assert bound(trace, "Measure the size of march.csv")[0]["inputs"] == {"sales": "march.csv"}


def test_a_column_named_like_the_file_lets_it_not_vary() -> None:
    code = "SELECT sum(amount) AS sales FROM sales"
    trace = learned(
        "Total amount of sales.csv", step("query_data", {"sql": code, "files": {"sales": "sales.csv"}}, RESULT)
    )
    assert refused(trace, "Total amount of march.csv")


def test_a_stem_that_two_files_share_explains_nothing() -> None:
    trace = learned(
        "Merge in/sales.csv with ref/sales.csv of last time",
        step("merge", {"left": "in/sales.csv", "right": "ref/sales.csv", "target": "out/sales_merged.csv"}, "ok"),
        extra=[plugin("merge", Effect.WRITE)],
    )
    assert refused(trace, "Merge in/march.csv with ref/sales.csv of last time")
    assert refused(trace, "Merge in/march.csv with ref/march.csv of last time")


def test_a_target_named_by_a_word_of_the_goal_does_not_follow_the_source() -> None:
    trace = learned(
        "Write the sales report of sales.csv",
        step("report", {"source": "sales.csv", "target": "sales_report.md"}, "ok"),
        extra=[plugin("report", Effect.WRITE)],
    )
    assert refused(trace, "Write the sales report of march.csv")


def test_a_constant_in_the_folder_of_the_source_ties_it_to_that_folder() -> None:
    trace = learned(
        "Describe the columns of data/sales.csv",
        step("report", {"source": "data/sales.csv", "target": "data/columns.md"}, "ok"),
        extra=[plugin("report", Effect.WRITE)],
    )
    assert bound(trace, "Describe the columns of data/march.csv") == [
        {"source": "data/march.csv", "target": "data/columns.md"}
    ]
    assert refused(trace, "Describe the columns of other/march.csv")


@pytest.mark.parametrize(
    "value", ["a b.txt", "a'b.txt", "$(rm -rf x).txt", "a;b.txt", "-rf.txt", "`x`.txt", "ä.txt", "~/x.txt", "a|b.txt"]
)
def test_a_path_that_a_shell_would_read_differently_is_refused(value: str) -> None:
    trace = learned(
        "Count distinct lines of a.txt into b.txt",
        step("bash", {"command": "sort a.txt | uniq -c > b.txt"}, {"stdout": "", "exit_status": 0}),
    )
    for quote in ('"', "'", ""):
        goal = f"Count distinct lines of {quote}{value}{quote} into d.txt"
        assert refused(trace, goal, exists=[value]), goal


@pytest.mark.parametrize("value", ["O'Brien", 'x"y', "a; DROP TABLE data", "100%", "a b", "v1.2", "x/y", "--"])
def test_a_text_that_would_change_the_sql_is_refused(value: str) -> None:
    trace = learned(
        'Count rows of sales.csv with name "north"', sql("SELECT 1 FROM data WHERE n = 'north'", "sales.csv", RESULT)
    )
    assert "'south'" in bound(trace, 'Count rows of sales.csv with name "south"')[0]["sql"]
    assert refused(trace, f'Count rows of sales.csv with name "{value}"')
    assert refused(trace, f"Count rows of sales.csv with name `{value}`")


def test_a_pattern_is_only_replaced_by_a_plain_word() -> None:
    trace = learned(
        'Count lines of app.log with "ERROR"', step("grep", {"pattern": "ERROR", "path": "app.log"}, {"count": 1})
    )
    assert bound(trace, 'Count lines of web.log with "WARN"') == [{"pattern": "WARN", "path": "web.log"}]
    for value in ("a.c", "C++", ".*", "a|b", "(", "x?"):
        assert refused(trace, f'Count lines of web.log with "{value}"'), value


SUMS = "SELECT sum(amount) AS total FROM data WHERE {}"


@pytest.mark.parametrize(
    ("target", "condition", "other"),
    [
        ("summary_2026.md", "year = 2026", "summary_2025.md"),
        ("summary_2026-03.md", "month = 3", "summary_2026-04.md"),
        ("march.md", "month = 3", "april.md"),
        ("total-q1.md", "month IN (1, 2, 3)", "total-q2.md"),
        ("2026/q.md", "year = 2026", "2025/q.md"),
        ("summary_north.md", "region = 'North'", "summary_south.md"),
        ("part-15.md", "id = 15", "part-16.md"),
    ],
)
def test_a_file_named_for_what_the_query_selects_does_not_vary(target: str, condition: str, other: str) -> None:
    trace = learned(
        f"Summarize sales.csv into {target}",
        sql(SUMS.format(condition), "sales.csv", RESULT),
        write(target, RESULT["text"]),
    )
    assert refused(trace, f"Summarize sales.csv into {other}")
    assert bound(trace, f"Summarize b.csv into {target}", {"query_data": RESULT})[1]["file_path"] == target


@pytest.mark.parametrize(
    ("value", "beside", "other"),
    [
        ("ada@example.org", {"name": "Ada"}, "bob@example.org"),
        ("ada@example.org", {"company": "Example"}, "ada@other.org"),
        ("https://x.org/d/cities.csv", {"target": "cities.parquet"}, "https://x.org/d/towns.csv"),
        ("https://x.org/d/cities.csv", {"format": "csv"}, "https://x.org/d/cities.json"),
        ("'Sales of 2026'", {"year": 2026}, "'Sales of 2025'"),
        ("'North sales'", {"region": "north"}, "'South sales'"),
        ("'March'", {"month": 3}, "'April'"),
        ("Q2", {"months": [4, 5, 6]}, "Q3"),
        ("3rd", {"index": 3}, "4th"),
        ("5pm", {"hour": 17}, "6pm"),
        ("2 fortnights", {"count": 2, "days": 28}, "3 fortnights"),
        ("'Ada Lovelace'", {"path": "people/lovelace.md"}, "'Bob Smith'"),
        ("'Ada Lovelace'", {"sign": "al"}, "'Bob Smith'"),
        ("'Berlin'", {"port": "ber"}, "'Paris'"),
        ("ada@example.org", {"path": "inbox/ada.txt"}, "bob@example.org"),
        ("user_id", {"path": "out/user.txt"}, "order_id"),
        ("in/north_sales.csv", {"path": "out/north.txt"}, "in/south_sales.csv"),
        ("2026-03-31", {"before": 2025}, "2024-03-31"),
        ("2026-03-31", {"sql": "month(day) = 3"}, "2026-04-30"),
        ("7", {"path": "out/00007.txt"}, "8"),
        ("7", {"path": "out/seven.txt"}, "8"),
        ("'a b'", {"command": "a b0"}, "'a'"),
    ],
)
def test_a_value_that_a_constant_may_be_made_of_does_not_vary(value: str, beside: dict[str, Any], other: str) -> None:
    note = plugin("note", Effect.WRITE)
    said = {} if "count" in beside else {"of": value.strip("'")}
    trace = learned(f"Note {value} in the usual place", step("note", said | beside, "ok"), extra=[note])
    assert refused(trace, f"Note {other} in the usual place")


def test_a_value_that_an_output_has_as_a_name_does_not_vary() -> None:
    """What stands under Ada's name is not Bob's number."""
    book = {"numbers": {"Ada": 5551234, "Bob": 7771234}}
    trace = learned(
        "Dial the number of 'Ada' at once",
        step("book", {}, book),
        step("dial", {"who": "Ada", "number": 5551234}, "ok", effect=Effect.EXTERNAL),
        extra=[plugin("book"), plugin("dial", Effect.EXTERNAL)],
    )
    assert refused(trace, "Dial the number of 'Bob' at once")


def test_an_answer_is_not_read_under_the_name_of_another_value() -> None:
    output = {"all": {"Ada": {"phone": 5551234}, "Bob": {"phone": 7771234}}}
    trace = learned(
        "Show the phone of 'Ada'", step("look", {"name": "Ada"}, output), answer="5551234", extra=[plugin("look")]
    )
    assert not refused(trace, "Show the phone of 'Bob'")
    assert trace.answer.expr is None


@pytest.mark.parametrize("fact", [{"lat": 48.85, "lon": 2.35}, {"country": "FR"}, {"station": "LFPG"}])
def test_a_name_with_a_fact_of_it_beside_it_does_not_vary(fact: dict[str, Any]) -> None:
    """The model knew where Paris is; that is not where Berlin is."""
    trace = learned(
        "Show the weather forecast for Paris", step("weather", {"city": "Paris"} | fact, "fine"), extra=[WEATHER]
    )
    assert refused(trace, "Show the weather forecast for Berlin")
    plain = learned(
        "Show the weather forecast for Paris",
        step("weather", {"city": "Paris", "format": "JSON"}, "fine"),
        extra=[WEATHER],
    )
    assert not refused(plain, "Show the weather forecast for Berlin")


WEATHER = plugin("weather")


def test_a_literal_said_twice_does_not_vary() -> None:
    trace = learned(
        "Append a.txt to a.txt of yesterday", step("append", {"path": "a.txt"}, "ok"), extra=[plugin("append")]
    )
    assert refused(trace, "Append b.txt to b.txt of yesterday")
    assert refused(trace, "Append a.txt to b.txt of yesterday")


def test_a_body_the_model_wrote_is_good_for_its_own_goal_only() -> None:
    trace = learned("Write a poem about 2 cats into poem.txt", write("poem.txt", "Two cats sat\non mats so fat"))
    for goal in (
        "Write a poem about 3 cats into poem.txt",
        "Write a poem about 2 dogs into poem.txt",
        "Write a poem about 2 cats into other.txt",
    ):
        assert refused(trace, goal)
    assert not refused(trace, "Write a poem about 2 cats into poem.txt")


def test_todays_date_follows_the_day_and_a_stated_one_does_not() -> None:
    note = plugin("note", Effect.WRITE)
    trace = learned("Add a note for today", step("note", {"name": "note-2026-11-21.md"}, "ok"), extra=[note])
    assert EnvRef(name="today") in references(trace.calls[0].args["name"])
    assert bound(trace, "Add a note for today") == [{"name": "note-2026-11-21.md"}]
    stated = learned("Add a note for 2026-11-21", step("note", {"name": "note-2026-11-21.md"}, "ok"), extra=[note])
    assert "env" not in repr(stated.calls[0].args["name"])


@pytest.mark.parametrize("text", ["Report of 21 November 2026", "20261121", "2026-11-19", "Nov 21", "2026-01-05"])
def test_a_day_in_a_form_that_can_not_be_computed_makes_no_trace(text: str) -> None:
    outcome = induce(run_of("Write the report of yesterday into r.md", write("r.md", text)), FACTS, ENV)
    assert isinstance(outcome, NotATrace)
    assert "date" in outcome.reason


@pytest.mark.parametrize(
    ("goal", "condition"),
    [
        ("Total the sales of this year in sales.csv", "year = 2026"),
        ("Total the sales of this month in sales.csv", "month = 11"),
        ("Total the sales of this quarter in sales.csv", "month >= 10"),
        ("Total the sales of this week in sales.csv", "week = 47"),
        ("Total the sales since January in sales.csv", "day >= '2026-01-01'"),
        ("Total the sales in March in sales.csv", "month = 3 AND year = 2026"),
        ("Total the sales on Monday in sales.csv", "day = '2026-11-23'"),
        ("Total the sales older than 30 days in sales.csv", "day < '2026-10-22'"),
        ("Total the stale sales in sales.csv", "day < '2026-08-21'"),
    ],
)
def test_a_time_that_passes_makes_no_trace(goal: str, condition: str) -> None:
    outcome = induce(run_of(goal, sql(SUMS.format(condition), "sales.csv", RESULT)), FACTS, ENV)
    assert isinstance(outcome, NotATrace)
    assert "date" in outcome.reason


@pytest.mark.parametrize(
    ("goal", "condition"),
    [
        ("Total the sales since January 2026 in sales.csv", "day >= '2026-01-01'"),
        ("Total the sales in March in sales.csv", "month = 3"),
        ("Total the sales since the merger in sales.csv", "day >= '2019-05-01'"),
        ("Total the sales by month for 2026 in sales.csv", "year = 2026 GROUP BY month"),
    ],
)
def test_a_time_that_the_goal_says_stays(goal: str, condition: str) -> None:
    trace = learned(goal, sql(SUMS.format(condition), "sales.csv", RESULT))
    assert bound(trace, goal)[0]["sql"] == SUMS.format(condition)


def test_a_date_that_data_and_calendar_explain_makes_no_trace() -> None:
    run = run_of(
        "Count the orders of the last day in orders.csv",
        read("orders.csv", "id,day\n1,2026-11-21\n"),
        sql("SELECT count(*) FROM data WHERE day = '2026-11-21'", "orders.csv", RESULT),
    )
    assert isinstance(induce(run, FACTS, ENV), NotATrace)


def test_a_condition_in_the_goal_keeps_what_was_looked_at() -> None:
    trace = learned(
        "If a.txt is longer than b.txt delete b.txt",
        read("a.txt", "long\n"),
        step("remove", {"path": "b.txt"}, "ok", effect=Effect.WRITE),
        extra=[plugin("remove", Effect.WRITE)],
    )
    assert trace.calls[0].tool == "read"
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


def test_a_file_that_was_only_looked_at_does_not_vary() -> None:
    trace = learned(
        "Set the title of page.html as style.txt says",
        read("style.txt", "be brief"),
        step("set_title", {"path": "page.html"}, "ok", effect=Effect.WRITE),
        extra=[plugin("set_title", Effect.WRITE)],
    )
    assert refused(trace, "Set the title of page.html as other.txt says")
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


# --- perturbed goals --------------------------------------------------------------------------------------

PAIR = learned(
    "Copy rows of sales.csv over 1000 units for 'north' into out.json",
    step(
        "copy_rows",
        {"source": "sales.csv", "minimum": 1000, "region": "north", "target": "out.json"},
        {"rows": 3},
        effect=Effect.WRITE,
    ),
    extra=[plugin("copy_rows", Effect.WRITE)],
)

PERTURBED: dict[str, str] = {
    "negation": "Do not copy rows of sales.csv over 1000 units for 'north' into out.json",
    "except": "Copy rows of sales.csv over 1000 units except for 'north' into out.json",
    "order": "Copy rows into out.json of sales.csv over 1000 units for 'north'",
    "direction": "Copy rows of sales.csv under 1000 units for 'north' into out.json",
    "unit": "Copy rows of sales.csv over 1000 dollars for 'north' into out.json",
    "unit mark": "Copy rows of sales.csv over 1000k units for 'north' into out.json",
    "percent": "Copy rows of sales.csv over 10% units for 'north' into out.json",
    "negative": "Copy rows of sales.csv over -1000 units for 'north' into out.json",
    "range": "Copy rows of sales.csv over 1000-2000 units for 'north' into out.json",
    "point": "Copy rows of sales.csv over 1.000 units for 'north' into out.json",
    "comma": "Copy rows of sales.csv over 1000,5 units for 'north' into out.json",
    "date": "Copy rows of sales.csv over 2026-11-21 units for 'north' into out.json",
    "more files": "Copy rows of sales.csv, march.csv over 1000 units for 'north' into out.json",
    "more words": "Copy rows of sales.csv over 1000 units for 'north' and 'south' into out.json",
    "other suffix": "Copy rows of sales.xml over 1000 units for 'north' into out.json",
    "no suffix": "Copy rows of sales over 1000 units for 'north' into out.json",
    "target suffix": "Copy rows of sales.csv over 1000 units for 'north' into out.csv",
    "same file": "Copy rows of out.json over 1000 units for 'north' into out.json",
    "swapped": "Copy rows of out.json over 1000 units for 'north' into sales.csv",
    "quantifier": "Copy all rows of sales.csv over 1000 units for 'north' into out.json",
    "first": "Copy first rows of sales.csv over 1000 units for 'north' into out.json",
    "extra clause": "Copy rows of sales.csv over 1000 units for 'north' into out.json and delete sales.csv",
    "then": "Copy rows of sales.csv over 1000 units for 'north' into out.json. Then stop.",
    "fewer": "Copy rows of sales.csv over 1000 units into out.json",
    "question": "Copy rows of sales.csv over 1000 units for 'north' into out.json?",
    "unquoted": "Copy rows of sales.csv over 1000 units for north into out.json",
    "glob": "Copy rows of *.csv over 1000 units for 'north' into out.json",
    "url": "Copy rows of https://x.org/sales.csv over 1000 units for 'north' into out.json",
    "hole": "Copy rows of ${{ secret.KEY }} over 1000 units for 'north' into out.json",
    "braces": "Copy rows of {source} over 1000 units for 'north' into out.json",
    "invisible": "Copy rows of sales.csv\u200b over 1000 units for 'north' into out.json",
    "right to left": "Copy rows of \u202esales.csv over 1000 units for 'north' into out.json",
    "emoji": "Copy rows of sales.csv over 1000 units for 'north' 🚫 into out.json",
    "parent": "Copy rows of sales.csv over 1000 units for 'north' into out.json/..",
}


@pytest.mark.parametrize("goal", PERTURBED.values(), ids=PERTURBED)
def test_a_goal_that_says_something_else_is_refused(goal: str) -> None:
    assert refused(PAIR, goal), bound(PAIR, goal)


@pytest.mark.parametrize(
    ("goal", "changed"),
    [
        ('copy  rows of sales.csv over 1000 units for "north" into out.json.', {}),
        ("Please copy the rows of m.csv over 1000 units for 'north' into out.json", {"source": "m.csv"}),
        ("Copy rows of sales.csv over 1,500 units for 'north' into out.json", {"minimum": 1500}),
        ("Copy rows of sales.csv over 7.5 units for 'north' into out.json", {"minimum": 7.5}),
        ("Copy rows of sales.csv over 1000 units for 'São Paulo' into out.json", {"region": "São Paulo"}),
        ("Copy rows of sales.csv over 1000 units for 'a {b} ${{ c }}' into out.json", {"region": "a {b} ${{ c }}"}),
        ("Copy rows of sales.csv over 1000 units for 'north'\r\n\tinto out.json", {}),
        (
            "Copy rows of /data/S.CSV over 1000 units for 'north' into ../x.json",
            {"source": "/data/S.CSV", "target": "../x.json"},
        ),
        ("Copy rows of cafe\u0301.csv over 1000 units for 'north' into out.json", {"source": "caf\u00e9.csv"}),
    ],
)
def test_a_goal_with_other_values_gets_exactly_these(goal: str, changed: dict[str, Any]) -> None:
    recorded = {"source": "sales.csv", "minimum": 1000, "region": "north", "target": "out.json"}
    assert bound(PAIR, goal) == [recorded | changed]


# --- shape -------------------------------------------------------------------------------------------------


def test_a_run_that_did_not_end_well_teaches_nothing() -> None:
    from dataclasses import replace

    run = run_of("Do the thing", write("a.txt", "x"))
    for status in (RunStatus.FAILED, RunStatus.INTERRUPTED, RunStatus.RUNNING):
        assert isinstance(induce(replace(run, status=status), FACTS, ENV), NotATrace)
    assert isinstance(induce(run_of("Do the thing"), FACTS, ENV), NotATrace)
    assert isinstance(induce(run_of("Do it", step("gone", {}, "x")), FACTS, ENV), NotATrace)


def test_failed_attempts_are_not_part_of_the_program() -> None:
    trace = learned(
        "Show the text of a.txt",
        step("read", {"file_path": "a.text"}, "there is no file a.text", is_error=True),
        read("a.txt", "x"),
    )
    assert [one.args for one in trace.calls] == [trace.calls[0].args]
    assert bound(trace, "Show the text of b.txt") == [{"file_path": "b.txt"}]


def test_the_models_names_are_taken_where_they_fit() -> None:
    finish = Finish(answer="ok", slots={"source": "sales.csv", "steps": "x.json", "Bad Name": "'y'"})
    run = run_of(
        "Convert sales.csv to x.json",
        step("convert_data", {"source": "sales.csv", "target": "x.json"}, {"rows": 1}),
        finish=finish,
    )
    trace = induce(run, FACTS, ENV)
    assert isinstance(trace, Trace)
    assert [slot.name for slot in trace.slots] == ["source", "path"]


@pytest.mark.parametrize("name", ["-i", "größe", "steps", "2nd", "a b", "__x__"])
def test_any_argument_name_gives_a_slot_name(name: str) -> None:
    trace = learned("Look for 'needle' in hay", step("look", {name: "needle"}, "x"), extra=[plugin("look")])
    assert bound(trace, "Look for 'pin' in hay") == [{name: "pin"}]


def test_tools_give_readable_step_ids() -> None:
    records = [step(tool, {}) for tool in ("read", "read", "git__log", "2fa", "-")]
    assert step_ids(records) == ["read", "read_2", "git__log", "step_2fa", "step"]


def test_a_choice_may_become_another_of_the_tools_choices() -> None:
    trace = learned(
        "Show sales.csv as markdown please",
        step("query_data", {"sql": "SELECT 1", "files": {"data": "sales.csv"}, "format": "markdown"}, RESULT),
    )
    assert trace.slot("format").type is SlotType.CHOICE
    assert bound(trace, "Show sales.csv as csv")[0]["format"] == "csv"
    assert refused(trace, "Show sales.csv as pdf")


@pytest.mark.parametrize(
    "goal",
    [
        "Explain {braces} and }} in a.txt",
        "Explain ${{ x }} in a.txt",
        "Explain {file_path} in a.txt",
        'Explain "quoted {path}" in a.txt',
        "Explain 日本語 in a.txt",
    ],
)
def test_braces_in_a_goal_are_text(goal: str) -> None:
    trace = learned(goal, read("a.txt", "x"))
    assert bound(trace, goal) == [{"file_path": "a.txt"}]
    assert bound(trace, goal.replace("a.txt", "b.txt")) == [{"file_path": "b.txt"}]


LONG: dict[str, str] = {
    "words": "and " * 4_990,
    "numbers": "1 2 " * 4_990,
    "paths": "a/b.c " * 3_300,
    "quotes": "'a' " * 4_990,
    "commas": "1," * 9_900,
    "parens": "(" * 19_900,
    "sum": "1+" * 9_900 + "1",
    "dots": "." * 19_900,
    "slashes": "/" * 19_900,
    "distinct": " ".join(f"w{i}" for i in range(3_000)),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_goal_of_the_longest_kind_is_quick(text: str) -> None:
    goal = f"Show a.txt {text} end"
    started = time.perf_counter()
    trace = induce(run_of(goal, read("a.txt", "x")), FACTS, ENV)
    took_s = time.perf_counter() - started
    assert isinstance(trace, Trace), trace
    started = time.perf_counter()
    assert not refused(trace, goal)
    assert refused(trace, goal + " x")
    assert max(took_s, time.perf_counter() - started) < 30.0  # about 0.5 s on an idle core


def test_an_output_of_five_megabytes_is_quick() -> None:
    rows = [{"id": i, "name": f"name {i}", "path": f"dir/file{i}.txt"} for i in range(60_000)]
    started = time.perf_counter()
    trace = learned(
        "Count the rows of big.csv into n.txt",
        read("big.csv", "id,name\n" * 600_000),
        sql("SELECT * FROM data", "big.csv", {"rows": rows, "text": "x"}),
        step(
            "python",
            {"code": "result = len(inputs['rows'])", "inputs": {"rows": rows}},
            {"result": 60_000, "text": "60000"},
        ),
        write("n.txt", "60000"),
        answer="Wrote 60,000 to n.txt.",
    )
    assert time.perf_counter() - started < 120.0  # about 4 s on an idle core
    assert trace.calls[-1].args["content"] == OutputRef(step="python", path=("text",))


def test_deep_nesting_is_no_trace_and_no_crash() -> None:
    deep: Any = "x"
    for _ in range(3_000):
        deep = [deep]
    outcome = induce(run_of("Do the thing", step("tool", {"a": deep}, "x")), {"tool": plugin("tool")}, ENV)
    assert isinstance(outcome, NotATrace)


def test_induction_never_shares_a_slot_between_two_runs_of_values(lab: Lab) -> None:
    """Learned with the files swapped, the same wording gives the same program."""
    calls: Sequence[Any] = [("convert_data", {"source": "sales.csv", "target": "x.json"})]
    first = lab.learn("Convert sales.csv to x.json", *calls)
    second = lab.learn("Convert march.csv to y.json", ("convert_data", {"source": "march.csv", "target": "y.json"}))
    assert (first.id, first.goals, first.steps) == (second.id, second.goals, second.steps)
    found = lab.match(first, "Convert a.csv to b.json")
    assert isinstance(found, Match)
    assert not isinstance(found, Miss)


def test_a_short_value_that_begins_a_constant_does_not_vary() -> None:
    mix = plugin("mix")
    trace = learned("Mix 'ab' into the paint", step("mix", {"p": "ab", "q": "ab0"}, "ok"), extra=[mix])
    assert refused(trace, "Mix 'cd' into the paint")
