"""Whether a query gives the same of the same tables each time, judged by its words: a no where that is not plain."""

from __future__ import annotations

import re

_CALLED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*\(")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED_CALL = re.compile(r'"\s*\(')

# DuckDB calls some functions consistent that ask the clock (`age` of one time), so that only those count of which it
# is known; a function that is missing here costs no more than a query that is asked again.
_KNOWN_WORDS = """
abs any_value arg_max arg_min array_agg ascii avg bool_and bool_or ceil ceiling char_length chr coalesce
concat concat_ws contains corr count count_if countif covar_pop covar_samp cume_dist date date_add date_diff
date_part date_sub date_trunc datediff datepart datetrunc day dayname dayofmonth dayofweek dayofyear
dense_rank ends_with epoch epoch_ms exp extract first first_value floor format greatest group_concat grouping
hour if ifnull isfinite isnan isodow isoyear json_extract json_extract_string lag last last_day
last_value lcase lead least left len length list list_value listagg ln log log10 log2 lower lpad ltrim
make_date make_timestamp max max_by md5 mean median min min_by minute mod mode month monthname nth_value ntile
nullif percent_rank percentile_cont percentile_disc pow power printf product quantile quantile_cont
quantile_disc quarter rank regexp_extract regexp_full_match regexp_matches regexp_replace repeat replace
reverse right round row_number rpad rtrim second sha256 sign split_part sqrt starts_with stddev stddev_pop
stddev_samp strftime string_agg string_split strlen strpos strptime substr substring sum to_days to_months
to_years trim trunc try_strptime ucase unnest upper var_pop var_samp variance week weekday weekofyear year
yearweek
"""
_SYNTAX_WORDS = """
all and any array as between bigint by case cast char columns cross cube decimal distinct double else end
except exclude exists filter float from group having in int integer intersect interval is join lateral like
limit not numeric on or order over partition replace rollup row select sets some struct then timestamp
try_cast union using values varchar when where with within
"""
_CALLABLE = frozenset(f"{_KNOWN_WORDS} {_SYNTAX_WORDS}".split())
_TELLING = re.compile(
    r"current_\w+|get_current_\w+|local_?time\w*|user|session_user|system_user|sample|tablesample|bernoulli|reservoir|"
    r"explain|analyze|describe|summarize|show|pragma\w*|duckdb_\w+|pg_\w+|sqlite_\w+|information_schema|getvariable|"
    r"today|now",
    re.IGNORECASE,
)


def gives_the_same(sql: str) -> bool:
    """Whether a SELECT depends on nothing but its tables: no clock, no chance, no state of the session."""
    if _QUOTED_CALL.search(sql) or any(_TELLING.fullmatch(word) for word in _WORD.findall(sql)):
        return False
    return all(name.lower() in _CALLABLE for name in _CALLED.findall(sql))
