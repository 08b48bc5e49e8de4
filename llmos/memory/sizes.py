"""How much each level of memory holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmos.memory.database import Database
from llmos.memory.sessions import FOLDED

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SESSIONS = """
SELECT COUNT(DISTINCT session_id), COALESCE(SUM(strlen(body)), 0),
    COUNT(*) FILTER (WHERE subpath = ? AND json_extract_string(body, '$.type') = 'llmos-fold') FROM session_lines
"""
_TRACES = "SELECT COUNT(*), COALESCE(SUM(strlen(body)), 0) FROM trace_versions"
_FACTS = "SELECT COUNT(*), COALESCE(SUM(strlen(text)), 0) FROM facts"
_RUNS = "SELECT COUNT(*) FILTER (WHERE list_contains(?, mode)), COUNT(*) FROM runs WHERE status = 'done' AND mode <> ?"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Entries and bytes of text: the sessions of processes that are not over, versions of traces, facts.

    `summaries` is how many a session holds of turns that are not in its model's context; `goals` were reached, as far
    as their runs are kept, and `followed` of them without a learner.
    """

    sessions: int
    session_bytes: int
    summaries: int
    traces: int
    trace_bytes: int
    facts: int
    fact_bytes: int
    followed: int
    goals: int


async def sizes(db: Database, replays: tuple[str, ...], none: str) -> Sizes:
    """What a home holds; `replays` are the modes that need no learner, `none` the one of runs that reached nothing."""

    def work(connection: DuckDBPyConnection) -> Sizes:
        def row(query: str, *parameters: object) -> tuple[int, ...]:
            found = connection.execute(query, [*parameters]).fetchone()
            return tuple(int(value) for value in found or ())

        sessions, session_bytes, summaries = row(_SESSIONS, FOLDED)
        traces, trace_bytes = row(_TRACES)
        facts, fact_bytes = row(_FACTS)
        followed, goals = row(_RUNS, [*replays], none)
        return Sizes(
            sessions=sessions,
            session_bytes=session_bytes,
            summaries=summaries,
            traces=traces,
            trace_bytes=trace_bytes,
            facts=facts,
            fact_bytes=fact_bytes,
            followed=followed,
            goals=goals,
        )

    return await db.run(work)
