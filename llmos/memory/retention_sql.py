"""The statements of retention, named. What must stay is said once, in `_KEPT`."""

from __future__ import annotations

from llmos.memory import sql

# --- runs ------------------------------------------------------------------------------------------

# The newest are numbered, not limited: where rows were deleted, ORDER BY … LIMIT is not to be relied on (see `sql`).
NEWEST = """
SELECT list_sort(list(no), 'DESC')[$newest], list_sort(list(no), 'DESC')[$most + 1]
FROM runs WHERE id NOT IN (SELECT run_id FROM emptied_runs)
"""
UNDOS = "SELECT run_id, arguments FROM journal WHERE tool = ?"
JOURNALLED = "SELECT DISTINCT run_id FROM journal"

# Runs that stay whatever their age: those that lost their steps already; those that versions of traces were proven on;
# those that a goal is told of instead of being done again; those with effects that are unsettled, or that may still be
# undone; those that others undid; those with money set aside.
_KEPT = f"""
    SELECT run_id FROM emptied_runs
    UNION SELECT run_id FROM trace_runs
    UNION SELECT run_id FROM trace_versions WHERE run_id IS NOT NULL
    UNION SELECT run_id FROM standing_runs
    UNION SELECT j.run_id FROM journal j JOIN journal_unsettled u ON u.intent_no = j.no
    UNION SELECT run_id FROM journal WHERE began_at >= $undoable
    UNION SELECT run_id FROM (
        SELECT run_id, row_number() OVER (ORDER BY max(no) DESC) AS place FROM journal GROUP BY run_id
    ) WHERE place <= $newest_effects
    UNION SELECT unnest($undos::VARCHAR[])
    UNION SELECT run_id FROM ({sql.OPEN_RESERVATIONS})
"""

_PAST = f"""
FROM runs r
WHERE r.status <> 'running' AND r.no < $newest AND (r.started_at < $before OR r.no < $most)
    AND r.end_no IS DISTINCT FROM (SELECT max(end_no) FROM runs WHERE status = 'done' AND answer IS NOT NULL)
    AND r.id NOT IN ({_KEPT})
"""
RUNS_PAST = f"SELECT r.id, r.cost_usd > 0 {_PAST} LIMIT $limit"
ALL_RUNS_PAST = f"SELECT r.id, r.cost_usd > 0 {_PAST}"

_OF_RUNS = "run_id IN (SELECT unnest($ids::VARCHAR[]))"
COUNT_OF_RUNS = {
    "steps": f"SELECT count(*) FROM steps WHERE {_OF_RUNS}",
    "effects": f"SELECT count(*) FROM journal WHERE {_OF_RUNS}",
}

# The goals of runs that go, with the traces they reached them by; `no` says which is newer.
DELETE_KNOWN_GOALS = """
DELETE FROM recalled_goals g USING runs r
WHERE r.id IN (SELECT unnest($ids::VARCHAR[])) AND r.status = 'done'
    AND g.goal_hash = r.goal_hash AND g.trace_id = r.trace_id
"""
MOVE_GOALS = """
INSERT INTO recalled_goals
SELECT r.goal_hash, r.trace_id, arg_max(r.goal, r.no), max(r.no) FROM runs r
WHERE r.id IN (SELECT unnest($ids::VARCHAR[])) AND r.status = 'done' AND r.trace_id IN (SELECT id FROM traces)
GROUP BY r.goal_hash, r.trace_id
"""

DELETE_OF_RUNS = {
    "effects": (
        f"DELETE FROM journal_outcomes WHERE intent_no IN (SELECT no FROM journal WHERE {_OF_RUNS})",
        f"DELETE FROM journal WHERE {_OF_RUNS}",
    ),
    "steps": (
        f"DELETE FROM taints WHERE {_OF_RUNS}",  # with the effects or after them: what is untainted counts as one's own
        f"DELETE FROM handovers WHERE {_OF_RUNS}",
        f"DELETE FROM steps WHERE {_OF_RUNS}",
    ),
}
DELETE_RUNS = "DELETE FROM runs WHERE id IN (SELECT unnest($ids::VARCHAR[]))"
EMPTY_RUNS = "INSERT INTO emptied_runs SELECT unnest($ids::VARCHAR[]), $at"
EMPTIED_AT = "SELECT emptied_at FROM emptied_runs WHERE run_id = ?"

# --- goals -----------------------------------------------------------------------------------------

COUNT_GOALS = "SELECT count(*) FROM recalled_goals"
OLDEST_GOALS = """
SELECT goal_hash, trace_id, goal, no FROM (SELECT *, row_number() OVER (ORDER BY no) AS place FROM recalled_goals
    WHERE no > $after) WHERE place <= $limit ORDER BY no
"""
# The followable traces that a skeleton brings up.
OF_SKELETONS = """
SELECT p.skeleton_hash, list(DISTINCT t.id) FROM trace_templates p JOIN traces t ON t.id = p.trace_id
WHERE p.skeleton_hash IN (SELECT unnest(?::VARCHAR[])) AND t.status IN ('trusted', 'candidate') GROUP BY ALL
"""
DELETE_GOALS = """
DELETE FROM recalled_goals WHERE (goal_hash, trace_id) IN (
    SELECT (unnest($hashes::VARCHAR[]), unnest($traces::VARCHAR[]))
)
"""
TRACE_IDS = "SELECT id FROM traces"

# --- outcomes --------------------------------------------------------------------------------------

# What no longer counts, and all but the newest successes. Failures stay: without them a trace would be trusted more.
_OUTCOMES_PAST = """
FROM (
    SELECT trace_id, run_id, ok, no, row_number() OVER (PARTITION BY trace_id ORDER BY no DESC) AS place,
        max(no) FILTER (WHERE run_id = '') OVER (PARTITION BY trace_id) AS restart
    FROM outcomes
) WHERE run_id <> '' AND (no < restart OR (ok AND place > $newest))
"""
COUNT_OUTCOMES_PAST = f"SELECT count(*) {_OUTCOMES_PAST}"
DELETE_OUTCOMES_PAST = f"""
DELETE FROM outcomes WHERE no IN (SELECT no {_OUTCOMES_PAST} LIMIT $limit) RETURNING no
"""

# --- savings ---------------------------------------------------------------------------------------

SAVINGS_PAST = """
SELECT id, moved_at, saved_microusd FROM ledger
WHERE kind = 'saving' AND moved_at < $before AND id < (SELECT max(id) FROM ledger)
ORDER BY id
"""
DELETE_SAVINGS = "DELETE FROM ledger WHERE kind = 'saving' AND id IN (SELECT unnest(?::BIGINT[]))"
SUM_SAVINGS = """
UPDATE ledger SET saved_microusd = ?, run_id = '', operation = ? WHERE id = ? AND kind = 'saving'
"""
