-- The tables of a memory of schema 1, as LLM OS 0.1.0 first wrote them.
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
