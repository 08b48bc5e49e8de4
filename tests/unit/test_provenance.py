"""Arguments in another form than the goal's: what is computed again, what is frozen, and never an old value left."""

from __future__ import annotations

import shlex
from contextlib import suppress
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from llmos.trace.derive import FORMATS
from llmos.trace.induce import induce
from llmos.trace.match import Match, Miss, match
from llmos.trace.program import CheckKind, Effect, Trace
from llmos.trace.transforms import TRANSFORMS, chain
from llmos.trace.values import Scope, SlotRef, Transform, UnboundError, evaluate
from tests.unit.trace_lab import ENV, FACTS, bound, learned, plugin, refused, run_of, step

ACT = plugin("act", Effect.WRITE)


def acted(goal: str, **args: Any) -> Trace:
    return learned(goal, step("act", args, "ok", effect=Effect.WRITE), extra=[ACT])


def diverges(trace: Trace, goal: str) -> bool:
    """Whether a goal that matches stops before the first call, because the argument's program is in doubt."""
    try:
        return isinstance(bound(trace, goal), Miss)
    except UnboundError:
        return True


DERIVED: dict[str, tuple[str, Any, str, Any]] = {
    "a day in points": ("2026-03-31", "31.03.2026", "2025-12-01", "01.12.2025"),
    "a day in words": ("2026-03-13", "Friday, March 13, 2026", "2026-05-04", "Monday, May 4, 2026"),
    "a month": ("2026-03-31", "2026-03", "2025-12-01", "2025-12"),
    "a year": ("2023-03-31", "2023", "2019-12-01", "2019"),
    "a year as a number": ("2023-03-31", 2023, "2019-12-01", 2019),
    "the end of the month": ("2026-02-10", "2026-02-28", "2024-02-03", "2024-02-29"),
    "the next day": ("2026-03-15", "2026-03-16", "2026-12-31", "2027-01-01"),
    "a day in a file's name": ("2026-03-31", "out/report_20260331.csv", "2025-12-01", "out/report_20251201.csv"),
    "a whole day in a name": ("2026-03-31", "log-2026-03-31.txt", "2025-12-01", "log-2025-12-01.txt"),
    "thousands": ("1500", "1,500", "2000000", "2,000,000"),
    "decimals": ("1500", "1500.00", "7", "7.00"),
    "a number in words": ("12", "twelve", "42", "forty-two"),
    "an ordinal": ("22", "22nd", "13", "13th"),
    "minutes as seconds": ("45 minutes", 2700, "2 minutes", 120),
    "a share": ("15%", 0.15, "7.5%", 0.075),
    "a slug": ("'Sales March'", "sales-march", "'Costs, all'", "costs-all"),
    "a name for code": ("'Sales March'", "sales_march", "'Costs all'", "costs_all"),
    "a plural": ("'Order Item'", "order_items", "'City Box'", "city_boxes"),
    "a title of a file": ("in/sales_report.csv", "Sales Report", "in/net_costs.csv", "Net Costs"),
    "the owner of an address": ("ada@example.org", "ada", "b.c@x.org", "b.c"),
    "the name at the end of an address": ("https://x.org/d/a.csv", "a.csv", "http://y.org/b.csv", "b.csv"),
    "a list": ("'ada, bob and eve'", ["ada", "bob", "eve"], "'kim and lee'", ["kim", "lee"]),
    "a slug in a name": ("'Sales March'", "out/sales-march.md", "'Costs all'", "out/costs-all.md"),
}


@pytest.mark.parametrize(("first", "made", "second", "expected"), DERIVED.values(), ids=DERIVED)
def test_an_argument_in_another_form_is_made_again(first: str, made: Any, second: str, expected: Any) -> None:
    trace = acted(f"Prepare the usual thing for {first} at once", value=made)
    assert bound(trace, f"Prepare the usual thing for {first} at once") == [{"value": made}]
    assert bound(trace, f"Prepare the usual thing for {second} at once") == [{"value": expected}]


def test_a_number_with_commas_stands_without_them_in_a_query() -> None:
    query = step("query_data", {"sql": "SELECT * FROM data WHERE n > 10000", "files": {"data": "a.csv"}}, {"rows": []})
    trace = learned("Rows of a.csv over 10,000 units", query)
    assert bound(trace, "Rows of a.csv over 2,500 units")[0]["sql"] == "SELECT * FROM data WHERE n > 2500"
    assert bound(trace, "Rows of a.csv over 70 units")[0]["sql"] == "SELECT * FROM data WHERE n > 70"
    assert refused(trace, "Rows of a.csv over 2.500 units")


def queried(goal: str, sql: str) -> Trace:
    return learned(goal, step("query_data", {"sql": sql, "files": {"data": "a.csv"}}, {"rows": [], "text": "n"}))


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM data WHERE city = 'New York'", "SELECT 1 WHERE c IN ('Rome', 'New York')"]
)
def test_a_text_of_several_words_is_quoted_in_a_query(sql: str) -> None:
    trace = queried("Rows of a.csv for 'New York' please", sql)
    for value in ("Den Haag", "O'Brien", "Paris", "São Paulo"):
        made = bound(trace, f'Rows of a.csv for "{value}" please')[0]["sql"]
        quoted = value.replace("'", "''")
        assert made == sql.replace("'New York'", f"'{quoted}'")
    for value in ("100%", "a.*", "x\\y", "a; DROP TABLE data"):
        assert diverges(trace, f'Rows of a.csv for "{value}" please')


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM data WHERE city LIKE 'New York'",
        "SELECT regexp_matches(city, 'New York') FROM data",
        "SELECT 1 -- = 'New York'",
        "SELECT 1 WHERE a = 'it''s 'New York'' day'",
        'SELECT city AS "New York" FROM data',
        "SELECT 'New York' AS name FROM data WHERE city = 'New York'",
    ],
)
def test_a_text_that_is_more_than_compared_in_a_query_does_not_vary(sql: str) -> None:
    assert refused(queried("Rows of a.csv for 'New York' please", sql), "Rows of a.csv for 'Den Haag' please")


# goal's piece, argument, another piece: two programs explain the argument and differ on the other piece
DOUBTFUL: dict[str, tuple[str, Any, str, str, Any]] = {
    "day or month first": ("2026-03-03", "03/03/2026", "2026-03-04", "2026-05-05", "05/05/2026"),
    "padded or not": ("2026-12-31", "31.12.2026", "2026-12-05", "2026-11-30", "30.11.2026"),
    "May or a short month": ("2026-05-12", "May 12, 2026", "2026-04-12", "2026-05-30", "May 30, 2026"),
    "lower or slug": ("'Ada'", "ada", "'Ada Lovelace'", "'Bob'", "bob"),
    "next day or next month": ("2026-03-31", "2026-04-01", "2026-03-15", "2026-05-31", "2026-06-01"),
    "title or first letter": ("'north'", "North", "'north sea'", "'south'", "South"),
    "a list by commas": ("'ada, bob'", ["ada", "bob"], "'ada, bob and eve'", "'kim, lee'", ["kim", "lee"]),
}


@pytest.mark.parametrize(("first", "made", "differs", "agrees", "expected"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_two_programs_for_one_value_stop_where_they_differ(
    first: str, made: Any, differs: str, agrees: str, expected: Any
) -> None:
    trace = acted(f"Prepare the usual thing for {first} at once", value=made)
    assert bound(trace, f"Prepare the usual thing for {first} at once") == [{"value": made}]
    assert diverges(trace, f"Prepare the usual thing for {differs} at once")
    assert bound(trace, f"Prepare the usual thing for {agrees} at once") == [{"value": expected}]


FROZEN: dict[str, tuple[str, Any, str]] = {
    "a plain stem may be a constant": ("in/sales.csv", "sales", "in/march.csv"),
    "the year of today": ("2026-03-31", "2026", "2025-03-31"),
    "a short month": ("2026-03-31", 3, "2026-05-31"),
    "a short hour": ("1 day", 24, "2 days"),
    "a fixed day beside it": ("2026-03-31", "from 2026-01-15 on", "2026-05-31"),
    "a number to be read twice": ("1.250", "1.25", "1.300"),
    "part of a longer day": ("2026-03-31", "x2026-03-315", "2026-05-31"),
}


@pytest.mark.parametrize(("first", "made", "second"), FROZEN.values(), ids=FROZEN)
def test_a_form_that_may_be_chance_does_not_vary(first: str, made: Any, second: str) -> None:
    trace = acted(f"Prepare the usual thing for {first} at once", value=made, also=first.strip("'"))
    assert not refused(trace, f"Prepare the usual thing for {first} at once")
    assert refused(trace, f"Prepare the usual thing for {second} at once")


def test_a_form_of_two_pieces_of_the_goal_freezes_both() -> None:
    trace = acted("Compare 'Ada' with 'ADA' as usual", value="ada")
    assert refused(trace, "Compare 'Bob' with 'ADA' as usual")
    assert refused(trace, "Compare 'Ada' with 'BOB' as usual")


def test_a_choice_of_the_tool_may_be_said_in_another_case() -> None:
    export = plugin("export", format=["csv", "json", "parquet"])
    trace = learned("Export the whole table as CSV now", step("export", {"format": "csv"}, "ok"), extra=[export])
    assert bound(trace, "Export the whole table as JSON now") == [{"format": "json"}]
    assert refused(trace, "Export the whole table as XML now")


def test_a_choice_that_no_case_gives_back_does_not_vary() -> None:
    export = plugin("export", format=["csv", "Json"])
    trace = learned("Export the whole table as CSV now", step("export", {"format": "csv"}, "ok"), extra=[export])
    assert refused(trace, "Export the whole table as JSON now")


def test_a_unit_that_an_argument_relies_on_does_not_vary() -> None:
    act = plugin("act", Effect.WRITE, unit=["minutes", "hours"])
    args = {"unit": "minutes", "seconds": 2700}
    trace = learned("Wait for 45 minutes as usual", step("act", args, "ok", effect=Effect.WRITE), extra=[act])
    assert refused(trace, "Wait for 45 hours as usual")
    assert refused(trace, "Wait for 2 hours as usual")
    assert bound(trace, "Wait for 2 minutes as usual") == [{"unit": "minutes", "seconds": 120}]


def test_a_day_word_that_an_argument_relies_on_does_not_vary() -> None:
    act = plugin("act", Effect.WRITE, range=["yesterday", "tomorrow"])
    args = {"range": "yesterday", "day": "2026-11-20"}
    trace = learned("Report all sales of yesterday", step("act", args, "ok", effect=Effect.WRITE), extra=[act])
    assert refused(trace, "Report all sales of tomorrow")
    assert bound(trace, "Report all sales of yesterday") == [args]


def test_a_form_that_an_output_has_too_is_frozen() -> None:
    trace = learned(
        "Greet the user 'Ada' as usual",
        step("look", {}, {"user": "ada"}),
        step("act", {"value": "ada"}, "ok", effect=Effect.WRITE),
        extra=[ACT, plugin("look")],
    )
    assert refused(trace, "Greet the user 'Bob' as usual")
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256


@pytest.mark.parametrize(
    ("word", "number", "other", "expected"), [("three", 3, "twelve", 12), ("fifth", 5, "ninth", 9)]
)
def test_a_number_word_is_read_as_a_number(word: str, number: int, other: str, expected: int) -> None:
    trace = acted(f"Show the {word} usual thing of all", count=number)
    assert bound(trace, f"Show the {other} usual thing of all") == [{"count": expected}]
    assert refused(trace, "Show the lonely usual thing of all")


@pytest.mark.parametrize("word", ["one", "first", "second", "two"])
def test_a_word_that_is_more_than_a_number_does_not_vary(word: str) -> None:
    number = {"one": 1, "first": 1, "second": 2, "two": 2}[word]
    trace = acted(f"Show the {word} usual thing of all", count=number)
    assert refused(trace, "Show the three usual thing of all") or word == "two"
    assert refused(trace, "Show the third usual thing of all")


@pytest.mark.parametrize(
    ("goal", "made", "today", "expected"),
    [
        ("Report the sales of yesterday", "2026-11-20", "2027-01-01", "2026-12-31"),
        ("Report the sales of tomorrow", "20261122", "2026-12-31", "20270101"),
        ("Report the sales of last month", "2026-10", "2027-01-15", "2026-12"),
        ("Report the sales of last month", "2026-10-31", "2024-03-15", "2024-02-29"),
        ("Report the sales of next year", "2027-01-01", "2030-05-05", "2031-01-01"),
        ("Report the sales of this month", "out/2026-11.csv", "2024-03-15", "out/2024-03.csv"),
    ],
)
def test_a_day_the_goal_speaks_of_follows_the_calendar(goal: str, made: str, today: str, expected: str) -> None:
    trace = acted(goal, value=made)
    assert bound(trace, goal) == [{"value": made}]
    (call,) = trace.calls
    assert evaluate(call.args["value"], Scope(env=ENV | {"today": today})) == expected


def test_a_day_of_the_last_quarter_makes_no_trace() -> None:
    run = run_of("Report the sales of last quarter", step("act", {"since": "2026-07-01"}, "ok", effect=Effect.WRITE))
    assert not isinstance(induce(run, FACTS | {"act": ACT}, ENV), Trace)


# --- properties --------------------------------------------------------------------------------------------

DAYS = st.dates(min_value=date(1990, 1, 1), max_value=date(2099, 12, 31)).map(date.isoformat)
NAMES = st.from_regex(r"[A-Z][a-z]{2,7}( [A-Z][a-z]{2,7}){0,2}", fullmatch=True)
COUNTS = st.integers(0, 10**7)
KINDS: dict[str, tuple[st.SearchStrategy[str], tuple[str, ...]]] = {
    "day": (
        DAYS,
        (*(f"date {pattern}" for pattern in FORMATS), "month_start", "month_end", "days 1", "months -1 | date %Y-%m"),
    ),
    "name": (NAMES.map(lambda name: f"'{name}'"), ("lower", "slug", "snake", "camel", "slug | plural", "upper")),
    "number": (COUNTS.map(str), ("format ,", "format .2f", "ordinal", "format 06d")),
    "minutes": (COUNTS.map(lambda count: f"{count} minutes"), ("times 60", "over 60")),
    "file": (
        st.from_regex(r"in/[a-z]{3,6}_[a-z]{3,6}\.csv", fullmatch=True),
        ("stem | spaced | title", "stem", "stem | upper"),
    ),
}


def plain(text: str) -> str:
    return text.removesuffix(" minutes").strip("'")


def tried(text: str, way: str) -> Any:
    try:
        return chain(plain(text), way)
    except (ValueError, ArithmeticError):
        return None


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_another_value_gives_what_the_true_program_gives_or_nothing(data: st.DataObject) -> None:
    """The induced program is right on its own goal, and on another one right or stopped, never an old value."""
    values, ways = KINDS[data.draw(st.sampled_from(sorted(KINDS)))]
    first, second = data.draw(values), data.draw(values)
    way, shape = data.draw(st.sampled_from(ways)), data.draw(st.sampled_from(["{}", "out/{}.txt", "{}", "x {} y"]))
    made, then = tried(first, way), tried(second, way)
    assume(made is not None and then is not None and str(made) != plain(first))

    def argument(value: Any) -> Any:
        return value if shape == "{}" else shape.format(value)

    goal = f"Prepare the usual thing for {first} at once"
    trace = induce(
        run_of(goal, step("act", {"value": argument(made)}, "ok", effect=Effect.WRITE)), FACTS | {"act": ACT}, ENV
    )
    if not isinstance(trace, Trace):
        return
    assert bound(trace, goal) == [{"value": argument(made)}]
    found = match(f"Prepare the usual thing for {second} at once", trace)
    if not isinstance(found, Match):
        return
    try:
        value = evaluate(trace.calls[0].args["value"], Scope(slots=found.bindings, env=ENV))
    except UnboundError:
        return  # stops before the first effect
    assert value == argument(then), (first, second, way, trace.calls[0].args)


@given(DAYS)
def test_a_day_goes_back_and_forth(day: str) -> None:
    assert chain(chain(day, "days 1"), "days -1") == day
    assert chain(chain(day, "days 45"), "days -45") == day
    assert chain(day, "month_end | days 1") == chain(day, "month_start | months 1")
    assert chain(day, "year_end | days 1 | months -12") == chain(day, "year_start")
    assert chain(day, "date %Y-%m-%d") == day


@given(st.integers(0, 99), st.integers(0, 10**6))
def test_numbers_go_through_words_and_back(small: int, large: int) -> None:
    assert chain(small, "spelled | number") == small
    assert chain(large, "ordinal | position") == large
    assert chain(large, "format , | number") == large
    assert chain(chain(large, "times 60"), "over 60") == large
    assert chain(chain(large, "times 1.8 | plus 32"), "plus -32 | over 1.8") == large


@given(st.lists(st.from_regex(r"[b-z]{1,6}", fullmatch=True), min_size=2, max_size=6))
def test_a_list_goes_into_a_sentence_and_back(entries: list[str]) -> None:
    assume("and" not in entries)
    assert chain(chain(entries, "sentence"), "listed") == entries
    assert chain(chain(entries, "join , "), "split ,") == entries


@given(st.text(max_size=30))
def test_a_text_is_one_word_of_a_command_or_is_refused(text: str) -> None:
    try:
        quoted = chain(text, "shell")
    except ValueError:
        return
    assert shlex.split(quoted) == [text]


@given(st.text(max_size=20))
def test_a_text_is_one_literal_of_sql_or_is_refused(text: str) -> None:
    try:
        quoted = chain(text, "sql")
    except ValueError:
        return
    assert quoted[0] == quoted[-1] == "'"
    assert quoted[1:-1].replace("''", "") == text.replace("'", "")
    assert quoted.count("'") == 2 + 2 * text.count("'")


VALUES = st.one_of(
    st.text(max_size=20),
    st.integers(),
    st.floats(),
    st.lists(st.text(max_size=5), max_size=3),
    st.none(),
    st.booleans(),
    st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=2),
    DAYS,
)


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
@settings(max_examples=60, deadline=None)
@given(value=VALUES, data=st.data())
def test_a_transform_gives_a_value_or_says_that_it_does_not_apply(name: str, value: Any, data: st.DataObject) -> None:
    arguments = data.draw(st.sampled_from([(), ("x",), (3,), ("lower", "slug"), (10**30,), (0,), (1.5,), ("%Y %q",)]))
    with suppress(UnboundError):
        evaluate(SlotRef(name="v", transforms=(Transform(name=name, args=arguments),)), Scope(slots={"v": value}))


# --- texts written from outputs --------------------------------------------------------------------------------

OUTPUTS: dict[str, tuple[Any, str, Any, str]] = {
    "json": ({"rows": [{"a": 1}, {"a": 2}]}, '[{"a": 1}, {"a": 2}]', {"rows": []}, "[]"),
    "json for people": ({"rows": [1, 2]}, "[\n  1,\n  2\n]", {"rows": [7]}, "[\n  7\n]"),
    "lines": ({"names": ["ada", "bob"]}, "ada\nbob\n", {"names": ["kim"]}, "kim\n"),
    "a list": ({"names": ["ada", "bob"]}, "- ada\n- bob", {"names": ["kim", "lee"]}, "- kim\n- lee"),
    "a column": ({"rows": [{"id": "u1"}, {"id": "u2"}]}, "u1\nu2", {"rows": [{"id": "u7"}]}, "u7"),
    "a text and a line break": ({"summary": "all well"}, "all well\n", {"summary": "so so"}, "so so\n"),
}


@pytest.mark.parametrize(("output", "content", "then", "expected"), OUTPUTS.values(), ids=OUTPUTS)
def test_content_written_from_an_output_is_written_from_the_next_one(
    output: Any, content: str, then: Any, expected: str
) -> None:
    trace = learned(
        "Write what look tells into out.txt",
        step("look", {}, output),
        step("write", {"file_path": "out.txt", "content": content}, {"path": "out.txt", "text": "ok"}),
        extra=[plugin("look")],
    )
    assert bound(trace, "Write what look tells into o.txt", {"look": then})[1] == {
        "file_path": "o.txt",
        "content": expected,
    }


@pytest.mark.parametrize(
    "output",
    [
        {"names": ["ada", "bob"], "also": ["ada", "bob"]},
        {"names": ["ada", "bob"], "rows": [{"n": "ada"}, {"n": "bob"}]},
    ],
)
def test_content_that_two_lists_explain_is_frozen(output: Any) -> None:
    trace = learned(
        "Write what look tells into out.txt",
        step("look", {}, output),
        step("write", {"file_path": "out.txt", "content": "ada, bob"}, {"path": "out.txt", "text": "ok"}),
        extra=[plugin("look")],
    )
    assert trace.calls[0].checks[-1].kind is CheckKind.OUTPUT_SHA256
    assert refused(trace, "Write what look tells into o.txt")


def test_year_month_and_day_of_one_date_tell_together() -> None:
    remove = plugin("remove_events", Effect.WRITE)
    trace = learned(
        "In the calendar delete all events on 2023-10-24",
        step("remove_events", {"year": 2023, "month": 10, "day": 24}, "done"),
        extra=[remove],
    )
    assert bound(trace, "In the calendar delete all events on 2024-01-05") == [{"year": 2024, "month": 1, "day": 5}]


def test_a_month_that_the_goal_also_says_as_a_number_stays_fixed() -> None:
    remove = plugin("remove_events", Effect.WRITE)
    trace = learned(
        "In the calendar delete the 10 events on 2023-10-24",
        step("remove_events", {"year": 2023, "month": 10, "day": 24, "count": 10}, "done"),
        extra=[remove],
    )
    assert refused(trace, "In the calendar delete the 5 events on 2023-10-24")
    assert refused(trace, "In the calendar delete the 10 events on 2023-11-24")


@pytest.mark.parametrize("found", ["9624127908", "credit_card_4190576", "ann.lee@example.org"])
def test_a_name_that_stands_nowhere_freezes_the_goal(found: str) -> None:
    """The items of an order were found out in a talk; another order has other items."""
    give_back = plugin("return_items", Effect.WRITE)
    trace = learned(
        "Return the kettle of order #W6067464",
        step("return_items", {"order_id": "#W6067464", "item": found}, "ok"),
        extra=[give_back],
    )
    assert not trace.slots
    assert refused(trace, "Return the kettle of order #W1335809")


def test_a_long_number_keeps_every_digit() -> None:
    trace = learned(
        "Cancel order 1234567890123456768 at once",
        step("cancel", {"id": 1234567890123456768}, "ok"),
        extra=[plugin("cancel")],
    )
    assert bound(trace, "Cancel order 9007199254740993 at once") == [{"id": 9007199254740993}]


def test_settings_may_stand_beside_what_varies() -> None:
    render = plugin("render", Effect.WRITE)
    args = {"path": "a.csv", "encoding": "utf-8", "width": 1024, "version": "1.2.3", "style": "plain"}
    trace = learned("Render the table a.csv", step("render", args, "ok"), extra=[render])
    assert bound(trace, "Render the table b.csv") == [args | {"path": "b.csv"}]


def test_a_folder_is_passed_on_with_its_slash() -> None:
    trace = learned("Count the files in photos/ please", step("count_files", {"path": "photos/"}, {"count": 3}))
    assert bound(trace, "Count the files in music/ please") == [{"path": "music/"}]
    assert bound(trace, "Count the files in in/music please") == [{"path": "in/music/"}]
