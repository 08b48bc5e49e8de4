"""The words that templates need, and which templates a goal has all the words of: exact, and without a model.

Each template is filed under one of its words, the rarest when it was stored. Whoever asks looks only at what is filed
under the words of the goal.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from llmos.memory import sql
from llmos.trace.phrases import anchors_of, needed_words

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MOST_WORDS = 20_000

Wording: TypeAlias = tuple[int, frozenset[str]]
"""How many telling words a template has, and the words that every goal of it has."""

Filed: TypeAlias = tuple[str, int, frozenset[str]]
"""A trace and the wording of one of its templates."""


def filed_words(connection: DuckDBPyConnection) -> frozenset[str] | None:
    """The words that something is filed under; None where they are too many to be kept."""
    found = connection.execute(sql.FILED_WORDS, [_MOST_WORDS + 1]).fetchall()
    return frozenset(word for (word,) in found) if len(found) <= _MOST_WORDS else None


def filed_under(connection: DuckDBPyConnection, words: Sequence[str]) -> dict[str, list[Filed]]:
    """What is filed under each of these words, as far as anything is."""
    return {word: _read(entries) for word, entries in connection.execute(sql.FILED_UNDER, [[*words]]).fetchall()}


def templates_within(filed: Iterable[Filed], words: frozenset[str]) -> dict[str, int]:
    """The traces with a template whose words are all among `words`, by id, those with the most telling words first.

    With each trace the number of its telling words. What was set aside or forgotten may be among them.
    """
    found: dict[str, int] = {}
    for trace_id, telling, needed in filed:
        if needed <= words:
            found[trace_id] = max(telling, found.get(trace_id, 0))
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def file_templates(connection: DuckDBPyConnection, trace_id: str, templates: Iterable[str]) -> None:
    """File a trace under the words of these templates, in place of those that the database has of it until now."""
    stored = connection.execute(sql.TEMPLATES_OF, [trace_id]).fetchall()
    old, new = _wordings(row[0] for row in stored), _wordings(templates)
    gone, come = old - new, new - old
    words = sorted({word for _, needed in gone | come for word in needed})
    if not words:
        return
    counts = Counter(dict(connection.execute(sql.WORD_COUNTS, [words]).fetchall()))
    if gone:
        _take_out(connection, trace_id, words, gone)
        counts.subtract(word for _, needed in gone for word in needed)
    entries: defaultdict[str, list[str]] = defaultdict(list)
    for wording in sorted(come, key=str):
        entries[_rarest(wording, counts)].append(_entry(trace_id, wording))
    counts.update(word for _, needed in come for word in needed)
    _put_in(connection, words, counts, entries)
    connection.execute(sql.DELETE_WORDS, [words])


def file_all(connection: DuckDBPyConnection) -> None:
    """File all templates anew, each under the rarest of its words."""
    templates: defaultdict[str, list[str]] = defaultdict(list)
    for trace_id, template in connection.execute(sql.ALL_TEMPLATES).fetchall():
        templates[trace_id].append(template)
    wordings = {trace_id: _wordings(owned) for trace_id, owned in templates.items()}
    counts = Counter(word for owned in wordings.values() for _, needed in owned for word in needed)
    entries: defaultdict[str, list[str]] = defaultdict(list)
    for trace_id, owned in wordings.items():
        for wording in owned:
            entries[_rarest(wording, counts)].append(_entry(trace_id, wording))
    connection.execute(sql.DELETE_ALL_WORDS)
    _put_in(connection, sorted(counts), counts, entries)


def _put_in(
    connection: DuckDBPyConnection, words: Sequence[str], counts: Counter[str], entries: dict[str, list[str]]
) -> None:
    connection.execute(sql.PUT_WORD_COUNTS, [words, [max(0, counts[word]) for word in words]])
    if entries:
        added = ["".join(lines) for lines in entries.values()]
        connection.execute(sql.ADD_ENTRIES, {"words": list(entries), "added": added})


def _take_out(connection: DuckDBPyConnection, trace_id: str, words: Sequence[str], gone: set[Wording]) -> None:
    lines = {_entry(trace_id, wording) for wording in gone}
    kept: dict[str, str] = {}
    for word, entries in connection.execute(sql.ENTRIES_OF, {"words": words, "id": json.dumps(trace_id)}).fetchall():
        kept[word] = "".join(line for line in entries.splitlines(keepends=True) if line not in lines)
    if kept:
        connection.execute(sql.SET_ENTRIES, {"words": list(kept), "entries": list(kept.values())})


# --- one template ----------------------------------------------------------------------------------


def _wordings(templates: Iterable[str]) -> set[Wording]:
    """What templates need; one without any word is no template that a trace is read with."""
    found = {(len(anchors_of(template)), needed_words(template)) for template in templates}
    return {wording for wording in found if wording[1]}


def _rarest(wording: Wording, counts: Counter[str]) -> str:
    return min(wording[1], key=lambda word: (counts[word], word))


def _entry(trace_id: str, wording: Wording) -> str:
    """A line of JSON; escaped, so that no character in it ends a line."""
    telling, needed = wording
    return json.dumps([trace_id, telling, *sorted(needed)]) + "\n"


def _read(entries: str) -> list[Filed]:
    lines = json.loads("[" + entries.rstrip().replace("\n", ",") + "]")
    return [(trace_id, telling, frozenset(needed)) for trace_id, telling, *needed in lines]
