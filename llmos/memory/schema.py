"""The tables of the memory, and what turns those of an older version into them."""

from __future__ import annotations

VERSION = 5

# --- schema ----------------------------------------------------------------------------------------
# Rows that other rows are found by have a primary key or an index of one column: DuckDB does not look anything up by
# the first column of two.

# What version 2 added: which runs a version of a trace was proven on, and traces by the tools they call.
_RUNS_AND_SHAPES = """
CREATE TABLE trace_runs (trace_id VARCHAR NOT NULL, version INTEGER NOT NULL, run_id VARCHAR NOT NULL);
CREATE INDEX trace_runs_by_trace ON trace_runs (trace_id);
CREATE TABLE trace_shapes (trace_id VARCHAR NOT NULL, shape VARCHAR NOT NULL);
CREATE INDEX trace_shapes_by_shape ON trace_shapes (shape);
"""

# And what became of replays: one row for each run of a trace, by the last judgement of it. The row without a run says
# since when they count.
_OUTCOMES = """
CREATE SEQUENCE outcome_no;
CREATE TABLE outcomes (
    trace_id VARCHAR, run_id VARCHAR, no BIGINT NOT NULL, kind VARCHAR NOT NULL, ok BOOLEAN NOT NULL,
    judged_at TIMESTAMP NOT NULL, PRIMARY KEY (trace_id, run_id)
);
"""

# What version 3 added: what templates are found by, by words. `templates` says how many need a word; `entries` has a
# line of JSON for each that is filed under it: the trace's id, the number of telling words, the words needed.
# Compressed (zstd, for long texts), reading a few of a million rows took 23 ms instead of 1.
# The words of an older file are made when goals are next looked up, as if the lexer had changed.
_TELLING_WORDS = """
CREATE TABLE telling_words (
    word VARCHAR PRIMARY KEY, templates BIGINT NOT NULL, entries VARCHAR NOT NULL USING COMPRESSION 'uncompressed'
);
"""

# And the audit log. Each row holds the hash of the one before (`llmos.memory.audit_entries`); times
# are kept as they are hashed.
_AUDIT = """
CREATE TABLE audit_log (
    number BIGINT NOT NULL, happened_at VARCHAR NOT NULL, kind VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
    principal VARCHAR NOT NULL, body VARCHAR NOT NULL, previous VARCHAR NOT NULL, hash VARCHAR NOT NULL
);
"""

# And the journal of effects. Rows are only ever added; the last outcome of an intent counts, and has
# its files anew. What is open or unknown stands in a table of its own, which is small: each effect asks it.
_JOURNAL = """
CREATE SEQUENCE journal_no;
CREATE SEQUENCE journal_outcome_no;
CREATE TABLE journal (
    no BIGINT PRIMARY KEY, run_id VARCHAR NOT NULL, step INTEGER NOT NULL, tool VARCHAR NOT NULL,
    tool_version VARCHAR NOT NULL, effect VARCHAR NOT NULL, key VARCHAR NOT NULL, arguments VARCHAR NOT NULL,
    workspace VARCHAR NOT NULL, reach VARCHAR NOT NULL, files VARCHAR NOT NULL, manifest VARCHAR NOT NULL,
    note VARCHAR NOT NULL, began_at TIMESTAMP NOT NULL
);
CREATE INDEX journal_by_run ON journal (run_id);
CREATE TABLE journal_outcomes (
    no BIGINT PRIMARY KEY, intent_no BIGINT NOT NULL, outcome VARCHAR NOT NULL, reach VARCHAR NOT NULL,
    files VARCHAR NOT NULL, note VARCHAR NOT NULL, ended_at TIMESTAMP NOT NULL
);
CREATE INDEX journal_outcomes_by_intent ON journal_outcomes (intent_no);
CREATE TABLE journal_unsettled (intent_no BIGINT NOT NULL, key VARCHAR NOT NULL, is_open BOOLEAN NOT NULL);
"""

# And who made each step of a run that was handed over, and where its replay had diverged.
_HANDOVERS = """
ALTER TABLE steps ADD COLUMN origin VARCHAR;
CREATE TABLE handovers (
    run_id VARCHAR PRIMARY KEY, trace VARCHAR NOT NULL, step_id VARCHAR NOT NULL, expected VARCHAR NOT NULL,
    actual VARCHAR NOT NULL, rejoined VARCHAR
);
"""

# And calls, and steps of traces, that a person approved for good.
_APPROVALS = """
CREATE TABLE approvals (
    digest VARCHAR PRIMARY KEY, tool VARCHAR NOT NULL, effect VARCHAR NOT NULL, shown VARCHAR NOT NULL,
    trace_id VARCHAR, step_id VARCHAR, approved_at TIMESTAMP NOT NULL
);
"""

# And the runs that may still stand: one for each trace version with bindings and workspace. `key` is their digest.
_STANDING = """
CREATE TABLE standing_runs (
    key VARCHAR PRIMARY KEY, run_id VARCHAR NOT NULL, trace_id VARCHAR NOT NULL, done_at TIMESTAMP NOT NULL,
    body VARCHAR NOT NULL
);
"""

# And what each run read that somebody else may have written, by the number of the step that gave it.
_TAINTS = """
CREATE SEQUENCE taint_no;
CREATE TABLE taints (
    no BIGINT NOT NULL DEFAULT nextval('taint_no'), run_id VARCHAR NOT NULL, tool VARCHAR NOT NULL,
    place VARCHAR NOT NULL, step INTEGER, seen_at TIMESTAMP NOT NULL
);
CREATE INDEX taints_by_run ON taints (run_id);
"""

# What version 4 added: what is left of runs that were removed because nobody needs them any more. The goals that exact
# recall finds traces by, and which of the runs that cost money, and so keep their row, have lost their steps.
_RETENTION = """
CREATE TABLE recalled_goals (
    goal_hash VARCHAR NOT NULL, trace_id VARCHAR NOT NULL, goal VARCHAR NOT NULL, no BIGINT NOT NULL
);
CREATE INDEX recalled_goals_by_goal ON recalled_goals (goal_hash);
CREATE TABLE emptied_runs (run_id VARCHAR PRIMARY KEY, emptied_at TIMESTAMP NOT NULL);
"""

# What version 5 added: the processes that outlive the kernel that ran them, one row for each that is not over. What a
# table can't ask for stands in `body` (`llmos.memory.processes`).
_PROCESSES = """
CREATE TABLE processes (
    run_id VARCHAR PRIMARY KEY, pid BIGINT NOT NULL, body VARCHAR NOT NULL, updated_at TIMESTAMP NOT NULL
);
"""

# And the sessions of their models, line by line as the Claude CLI writes them, by the run they belong to.
_SYSTEM_PARSES = """
CREATE TABLE system_parses (id VARCHAR PRIMARY KEY, trace VARCHAR NOT NULL, learned_at TIMESTAMP NOT NULL);
"""

_SESSIONS = """
CREATE SEQUENCE session_line_no;
CREATE TABLE session_lines (
    no BIGINT NOT NULL, run_id VARCHAR NOT NULL, session_id VARCHAR NOT NULL, subpath VARCHAR NOT NULL,
    uuid VARCHAR NOT NULL, body VARCHAR NOT NULL
);
CREATE INDEX session_lines_by_session ON session_lines (session_id);
"""

# And messages between processes, by the run whose mailbox they are in, and the memory that families of them share.
# `body` is the envelope; `note` says of a message that is dead why, and of a received one by which call.
_MAIL = """
CREATE SEQUENCE mail_no;
CREATE TABLE mail (
    id VARCHAR PRIMARY KEY, no BIGINT NOT NULL, receiver VARCHAR NOT NULL, priority INTEGER NOT NULL,
    state VARCHAR NOT NULL, note VARCHAR NOT NULL, body VARCHAR NOT NULL, sent_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL, settled_at TIMESTAMP
);
CREATE TABLE shared_blocks (
    key VARCHAR PRIMARY KEY, family VARCHAR NOT NULL, name VARCHAR NOT NULL, version BIGINT NOT NULL,
    value VARCHAR NOT NULL, written_by VARCHAR NOT NULL, updated_at TIMESTAMP NOT NULL
);
"""

# And interrupts, raised and delivered, with the standing orders that raise some of them. What an order is stands in
# `body` (`llmos.memory.orders`).
_INTERRUPTS = """
CREATE SEQUENCE interrupt_no;
CREATE TABLE interrupts (
    no BIGINT PRIMARY KEY, kind VARCHAR NOT NULL, run_id VARCHAR NOT NULL, pid BIGINT, order_name VARCHAR NOT NULL,
    body VARCHAR NOT NULL, dedupe_key VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL, delivered_at TIMESTAMP
);
CREATE SEQUENCE schedule_no;
CREATE SEQUENCE watch_no;
CREATE TABLE schedules (no BIGINT PRIMARY KEY, body VARCHAR NOT NULL, updated_at TIMESTAMP NOT NULL);
CREATE TABLE watches (no BIGINT PRIMARY KEY, body VARCHAR NOT NULL, updated_at TIMESTAMP NOT NULL);
"""

# What rows are looked up by for a trace or a vector; where one is missing, opening makes it. Without them each was a
# sweep: at a million traces 30 ms for the templates of one, 240 ms for 96 vectors.
INDEXES = """
CREATE INDEX IF NOT EXISTS trace_versions_by_trace ON trace_versions (trace_id);
CREATE INDEX IF NOT EXISTS trace_templates_by_trace ON trace_templates (trace_id);
CREATE INDEX IF NOT EXISTS trace_shapes_by_trace ON trace_shapes (trace_id);
CREATE INDEX IF NOT EXISTS embeddings_by_id ON embeddings (id);
CREATE INDEX IF NOT EXISTS embeddings_by_owner ON embeddings (owner);
"""

TABLES = f"""
CREATE TABLE meta (key VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);

CREATE SEQUENCE run_no;
CREATE SEQUENCE run_end_no;
CREATE TABLE runs (
    id VARCHAR PRIMARY KEY, no BIGINT NOT NULL, end_no BIGINT, goal VARCHAR NOT NULL, goal_hash VARCHAR NOT NULL,
    mode VARCHAR NOT NULL, status VARCHAR NOT NULL, answer VARCHAR, finish VARCHAR, trace_id VARCHAR,
    trace_version INTEGER, bindings VARCHAR NOT NULL, model VARCHAR, cost_usd DOUBLE NOT NULL,
    saved_usd DOUBLE NOT NULL, reason VARCHAR NOT NULL, started_at TIMESTAMP, duration_s DOUBLE NOT NULL
);
CREATE INDEX runs_by_goal ON runs (goal_hash);
CREATE TABLE steps (
    run_id VARCHAR, idx INTEGER, tool VARCHAR NOT NULL, args VARCHAR NOT NULL, output VARCHAR NOT NULL,
    is_error BOOLEAN NOT NULL, effect VARCHAR NOT NULL, tool_version VARCHAR, tool_use_id VARCHAR,
    duration_s DOUBLE NOT NULL, PRIMARY KEY (run_id, idx)
);

CREATE TABLE traces (
    id VARCHAR PRIMARY KEY, version INTEGER NOT NULL, status VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    provenance VARCHAR NOT NULL, uses BIGINT NOT NULL, successes BIGINT NOT NULL, failures BIGINT NOT NULL,
    saved_usd DOUBLE NOT NULL, created_at TIMESTAMP NOT NULL, last_used_at TIMESTAMP
);
CREATE TABLE trace_versions (
    trace_id VARCHAR, version INTEGER, body VARCHAR NOT NULL, content_hash VARCHAR NOT NULL, run_id VARCHAR,
    created_at TIMESTAMP NOT NULL, PRIMARY KEY (trace_id, version)
);
CREATE INDEX trace_versions_by_run ON trace_versions (run_id);
CREATE TABLE trace_templates (
    trace_id VARCHAR NOT NULL, version INTEGER NOT NULL, template_no INTEGER NOT NULL, template VARCHAR NOT NULL,
    masked VARCHAR NOT NULL, skeleton_hash VARCHAR NOT NULL, goal_hash VARCHAR
);
CREATE INDEX trace_templates_by_skeleton ON trace_templates (skeleton_hash);
CREATE INDEX trace_templates_by_goal ON trace_templates (goal_hash);
CREATE TABLE hard_negatives (
    trace_id VARCHAR, goal_hash VARCHAR, goal VARCHAR NOT NULL, created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (trace_id, goal_hash)
);
CREATE TABLE forgotten (trace_id VARCHAR PRIMARY KEY, last_version INTEGER NOT NULL, forgotten_at TIMESTAMP NOT NULL);

CREATE SEQUENCE embedding_no;
CREATE TABLE embeddings (
    id BIGINT NOT NULL, kind VARCHAR NOT NULL, owner VARCHAR NOT NULL, version INTEGER NOT NULL,
    template_no INTEGER NOT NULL, text VARCHAR NOT NULL, model VARCHAR NOT NULL, vector FLOAT[] NOT NULL
);

CREATE TABLE ledger (
    id BIGINT PRIMARY KEY, moved_at TIMESTAMP NOT NULL, kind VARCHAR NOT NULL, amount_microusd BIGINT NOT NULL,
    balance_microusd BIGINT NOT NULL, run_id VARCHAR NOT NULL, operation VARCHAR NOT NULL,
    saved_microusd BIGINT NOT NULL, reservation_id VARCHAR
);

CREATE TABLE facts (
    name VARCHAR PRIMARY KEY, key VARCHAR NOT NULL, value VARCHAR NOT NULL, text VARCHAR NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
{_RUNS_AND_SHAPES}
{_OUTCOMES}
{_TELLING_WORDS}
{_AUDIT}
{_JOURNAL}
{_HANDOVERS}
{_APPROVALS}
{_STANDING}
{_TAINTS}
{_RETENTION}
{_PROCESSES}
{_SESSIONS}
{_MAIL}
{_INTERRUPTS}
{_SYSTEM_PARSES}
{INDEXES}"""

# What turns a file of a version into one of the next; all of it is one transaction.
MIGRATIONS = {
    1: f"""
{_RUNS_AND_SHAPES}
{_OUTCOMES}
INSERT INTO trace_runs SELECT trace_id, version, run_id FROM trace_versions WHERE run_id IS NOT NULL;
""",
    2: f"""
{_TELLING_WORDS}
{_AUDIT}
{_JOURNAL}
{_HANDOVERS}
{_APPROVALS}
{_STANDING}
{_TAINTS}
INSERT INTO meta VALUES ('lexicon', '') ON CONFLICT (key) DO UPDATE SET value = excluded.value;
""",
    3: _RETENTION,
    4: f"""
{_PROCESSES}
{_SESSIONS}
{_MAIL}
{_INTERRUPTS}
{_SYSTEM_PARSES}
""",
}
