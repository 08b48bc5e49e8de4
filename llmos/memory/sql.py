"""All statements of the memory, named. Times are UTC without a zone; JSON is text; money is as the caller keeps it."""

from __future__ import annotations

GET_META = "SELECT value FROM meta WHERE key = ?"
SET_META = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

# --- the file --------------------------------------------------------------------------------------

FILE_BLOCKS = "SELECT used_blocks, block_size FROM pragma_database_size()"
AMPLE_MEMORY = "RESET memory_limit"
LITTLE_MEMORY = "SET memory_limit = '{limit}'"
READ_ALL = "SELECT count(*), sum(hash(COLUMNS(*)) % 2) FROM {table}"  # every value of every column is decoded

# --- runs ------------------------------------------------------------------------------------------

RUN_COLUMNS = (
    "id, goal, mode, status, answer, finish, trace_id, trace_version, bindings, model, cost_usd, saved_usd, reason, "
    "started_at, duration_s"
)

INSERT_RUN = f"""
INSERT INTO runs (no, goal_hash, {RUN_COLUMNS})
VALUES (nextval('run_no'), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

RUN_EXISTS = "SELECT 1 FROM runs WHERE id = ?"

FINISH_RUN = """
UPDATE runs SET end_no = nextval('run_end_no'), mode = ?, status = ?, answer = ?, finish = ?, trace_id = ?,
    trace_version = ?, bindings = ?, model = ?, cost_usd = ?, saved_usd = ?, reason = ?, duration_s = ?
WHERE id = ? RETURNING id
"""

# Runs that are over when they are stored.
INSERT_RUNS = f"""
INSERT OR IGNORE INTO runs (no, end_no, goal_hash, {RUN_COLUMNS})
VALUES (nextval('run_no'), nextval('run_end_no'), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# A step is stored once: `finish` hands in all of them again, for whoever did not store them one by one.
INSERT_STEPS = "INSERT OR IGNORE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
HAND_OVER_STEPS = INSERT_STEPS.replace("IGNORE", "REPLACE")  # where they come from is known only now
ADD_STEPS = "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DELETE_STEP = "DELETE FROM steps WHERE run_id = ? AND idx = ?"
STEPS_STORED = "SELECT idx FROM steps WHERE run_id = ?"
# Who judged a run meanwhile knows better than that it went well by itself.
INSERT_SUCCESSES = """
INSERT OR IGNORE INTO outcomes VALUES (?, ?, nextval('outcome_no'), 'replay', true, ?)"""
ADD_SUCCESS = "INSERT INTO outcomes VALUES (?, ?, nextval('outcome_no'), 'replay', true, ?)"
OUTCOME_KNOWN = "SELECT 1 FROM outcomes WHERE trace_id = ? AND run_id = ?"
RECORD_USES = """
UPDATE traces t SET uses = t.uses + n.uses, successes = t.successes + n.uses, saved_usd = t.saved_usd + n.saved_usd,
    last_used_at = n.at
FROM (SELECT unnest($ids::VARCHAR[]) AS id, unnest($uses::BIGINT[]) AS uses, unnest($saved::DOUBLE[]) AS saved_usd,
    unnest($at::TIMESTAMP[]) AS at) n
WHERE t.id = n.id AND list_contains($ids::VARCHAR[], t.id)
"""

HAND_OVER = "UPDATE runs SET mode = ?, trace_id = ?, trace_version = ?, model = ?, reason = ? WHERE id = ?"
PUT_HANDOVER = """
INSERT INTO handovers VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET rejoined = excluded.rejoined
"""
GET_HANDOVER = "SELECT trace, step_id, expected, actual, rejoined FROM handovers WHERE run_id = ?"

GET_RUN = f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ?"

GET_STEPS = """
SELECT idx, tool, args, output, is_error, effect, tool_version, tool_use_id, duration_s, origin
FROM steps WHERE run_id = ? ORDER BY idx
"""

INSERT_TAINT = """
INSERT INTO taints (run_id, tool, place, step, seen_at) SELECT $1, $2, $3, $4, $5
WHERE NOT EXISTS (SELECT 1 FROM taints WHERE run_id = $1 AND tool = $2 AND place = $3 AND step IS NOT DISTINCT FROM $4)
"""
TAINTS_OF_RUN = "SELECT tool, place, step FROM taints WHERE run_id = ? ORDER BY no"

# The files of finished calls that may have left a content, by runs that nothing had tainted by the call's step.
UNTAINTED_FILES = """
SELECT j.tool, o.files FROM journal j JOIN journal_outcomes o ON o.intent_no = j.no
WHERE j.workspace = ? AND o.outcome = 'done' AND contains(o.files, ?)
    AND NOT EXISTS (SELECT 1 FROM taints t WHERE t.run_id = j.run_id AND (t.step IS NULL OR t.step <= j.step))
"""

LIST_RUNS = f"""
SELECT {RUN_COLUMNS} FROM runs
WHERE (?::VARCHAR IS NULL OR status = ?) AND (?::VARCHAR IS NULL OR mode = ?)
ORDER BY no DESC LIMIT ?
"""

# The run that ended last with an answer: what `env.last_result` means. No ORDER BY … LIMIT (see the audit log).
LAST_ANSWERED = """
SELECT id FROM runs WHERE end_no = (SELECT max(end_no) FROM runs WHERE status = 'done' AND answer IS NOT NULL)
"""

# One process holds the file, so a run still marked running when it is opened has lost its process.
RUN_GOES_ON = "UPDATE runs SET mode = ?, status = ?, reason = ? WHERE id = ?"
ADD_RUN_COST = "UPDATE runs SET cost_usd = cost_usd + ? WHERE id = ?"

INTERRUPT_RUNNING = "UPDATE runs SET status = 'interrupted', reason = ? WHERE status = 'running' RETURNING id, mode"

RUN_GOALS = "SELECT id, goal FROM runs"
SET_RUN_GOAL_HASH = "UPDATE runs SET goal_hash = ? WHERE id = ?"
RECALLED_GOALS = "SELECT DISTINCT goal FROM recalled_goals"
SET_RECALLED_GOAL_HASH = "UPDATE recalled_goals SET goal_hash = ? WHERE goal = ?"

# What learning cost before, the goals most like this one first. Vectors are of length 1.
SIMILAR_LEARNER_COSTS = """
SELECT CASE WHEN len(e.vector) = len(q.vector) THEN list_inner_product(e.vector, q.vector) ELSE -1 END AS cosine,
    r.cost_usd
FROM runs r
JOIN embeddings e ON e.kind = 'run' AND e.owner = r.id AND e.model = ?
CROSS JOIN (SELECT ?::FLOAT[] AS vector) q
WHERE r.mode = 'learner' AND r.status <> 'running' AND r.cost_usd > 0
ORDER BY cosine DESC, r.no DESC LIMIT ?
"""

RECENT_LEARNER_COSTS = """
SELECT 1.0, cost_usd FROM runs
WHERE mode = 'learner' AND status <> 'running' AND cost_usd > 0
ORDER BY no DESC LIMIT ?
"""

# --- traces ----------------------------------------------------------------------------------------

# What is looked up by many keys is asked for by `list_contains` with a parameter: DuckDB then goes through the index.
# For a subquery or a join it reads the whole table, so tables are asked one after the other.
STANDING_COLUMNS = (
    "t.id, t.version, t.status, t.reason, t.provenance, t.uses, t.successes, t.failures, t.saved_usd, "
    "t.created_at, t.last_used_at"
)
HEAD_COLUMNS = f"{STANDING_COLUMNS}, v.body"

LIST_TRACES = f"""
SELECT {HEAD_COLUMNS} FROM traces t LEFT JOIN trace_versions v ON v.trace_id = t.id AND v.version = t.version
ORDER BY t.created_at, t.id
"""

GET_TRACES = f"SELECT {STANDING_COLUMNS} FROM traces t WHERE list_contains(?::VARCHAR[], t.id)"
# With versions as a second condition DuckDB may sweep the table: 110 ms at a million traces.
GET_BODIES = """
SELECT trace_id, version, CASE WHEN list_contains(?::INTEGER[], version) THEN body END FROM trace_versions
WHERE list_contains(?::VARCHAR[], trace_id)
"""

TRACE_IDS = "SELECT id FROM traces ORDER BY id"
GET_HEAD = "SELECT version, status, reason, provenance FROM traces WHERE id = ?"
GET_VERSION_BODY = "SELECT body FROM trace_versions WHERE trace_id = ? AND version = ?"
# What is known of ids, forgotten ones included.
STANDING = "SELECT id, version, status, reason, provenance FROM traces WHERE list_contains(?::VARCHAR[], id)"
CONTENT_HASHES = """
SELECT trace_id, version, content_hash FROM trace_versions WHERE list_contains(?::VARCHAR[], trace_id)
"""
FORGOTTEN_AMONG = "SELECT trace_id FROM forgotten WHERE list_contains(?::VARCHAR[], trace_id)"
GET_FORGOTTEN = "SELECT last_version FROM forgotten WHERE trace_id = ?"

INSERT_VERSION = "INSERT INTO trace_versions VALUES (?, ?, ?, ?, ?, ?)"
INSERT_HEAD = "INSERT INTO traces VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0.0, ?, NULL)"
UPDATE_HEAD = "UPDATE traces SET version = ?, status = ?, reason = ?, provenance = ? WHERE id = ?"
SET_STATUS = "UPDATE traces SET status = ?, reason = ? WHERE id = ?"
RECORD_USE = """
UPDATE traces SET uses = uses + 1, successes = successes + ?, failures = failures + ?, saved_usd = saved_usd + ?,
    last_used_at = ?
WHERE id = ?
"""

PUT_OUTCOME = """
INSERT INTO outcomes VALUES (?, ?, nextval('outcome_no'), ?, ?, ?)
ON CONFLICT (trace_id, run_id) DO UPDATE SET no = excluded.no, kind = excluded.kind, ok = excluded.ok,
    judged_at = excluded.judged_at
"""
# The same of a replay that went well: it is added to what is known without reading that again.
PUT_SUCCESS = f"{PUT_OUTCOME} "
GET_OUTCOMES = """
SELECT ok, judged_at FROM outcomes
WHERE trace_id = $id AND run_id <> ''
    AND no > coalesce((SELECT no FROM outcomes WHERE trace_id = $id AND run_id = ''), 0)
QUALIFY NOT ok OR row_number() OVER (ORDER BY no DESC) <= $most
ORDER BY no
"""
DELETE_OUTCOMES = "DELETE FROM outcomes WHERE trace_id = ?"

# Templates are kept for the current version only.
DELETE_TEMPLATES = "DELETE FROM trace_templates WHERE trace_id = ?"
INSERT_TEMPLATES = """
INSERT INTO trace_templates
SELECT $id, $version, unnest($numbers::INTEGER[]), unnest($templates::VARCHAR[]), unnest($masked::VARCHAR[]),
    unnest($skeletons::VARCHAR[]), unnest($hashes::VARCHAR[])
"""

# The runs that a version was proven on, and the tools that a trace's current version calls, as a hash.
INSERT_TRACE_RUN = "INSERT INTO trace_runs VALUES (?, ?, ?)"
GET_TRACE_RUNS = "SELECT run_id FROM trace_runs WHERE trace_id = ? AND version = ? ORDER BY rowid"
DELETE_TRACE_RUNS = "DELETE FROM trace_runs WHERE trace_id = ?"
INSERT_SHAPE = "INSERT INTO trace_shapes VALUES (?, ?)"
DELETE_SHAPE = "DELETE FROM trace_shapes WHERE trace_id = ?"
ALL_HAVE_SHAPES = "SELECT (SELECT count(*) FROM traces) <= (SELECT count(*) FROM trace_shapes)"
SHAPELESS = "SELECT id FROM traces WHERE id NOT IN (SELECT trace_id FROM trace_shapes) ORDER BY id"
OF_SHAPE = """
SELECT t.id FROM traces t JOIN trace_versions v ON v.trace_id = t.id AND v.version = t.version
WHERE t.status IN ('trusted', 'candidate') AND t.id IN (SELECT trace_id FROM trace_shapes WHERE shape = ?)
ORDER BY v.created_at DESC, t.id LIMIT ?
"""

VERSIONS = "SELECT version, created_at, body FROM trace_versions WHERE trace_id = ? ORDER BY version"
COPY_NEGATIVES = """
INSERT INTO hard_negatives SELECT ?, goal_hash, goal, created_at FROM hard_negatives WHERE trace_id = ?
ON CONFLICT (trace_id, goal_hash) DO NOTHING
"""

DELETE_VERSIONS = "DELETE FROM trace_versions WHERE trace_id = ?"
DELETE_HEAD = "DELETE FROM traces WHERE id = ?"
DELETE_NEGATIVES = "DELETE FROM hard_negatives WHERE trace_id = ?"
# A forgotten trace leaves its id and last version: a shipped one must not come back by itself, and a version
# number never means two programs.
INSERT_FORGOTTEN = "INSERT INTO forgotten VALUES (?, ?, ?)"
DELETE_FORGOTTEN = "DELETE FROM forgotten WHERE trace_id = ?"

INSERT_NEGATIVE = "INSERT INTO hard_negatives VALUES (?, ?, ?, ?) ON CONFLICT (trace_id, goal_hash) DO NOTHING"
DELETE_NEGATIVE = "DELETE FROM hard_negatives WHERE trace_id = ? AND goal_hash = ? RETURNING trace_id"
GET_NEGATIVES = "SELECT goal FROM hard_negatives WHERE trace_id = ?"

# --- recall ----------------------------------------------------------------------------------------

# Traces that did exactly this goal before, or whose template without slots is this goal.
EXACT = """
SELECT trace_id FROM trace_templates WHERE goal_hash = $hash
UNION SELECT trace_id FROM runs WHERE goal_hash = $hash AND status = 'done' AND trace_id IS NOT NULL
UNION SELECT trace_id FROM trace_versions
    WHERE run_id IN (SELECT id FROM runs WHERE goal_hash = $hash AND status = 'done')
UNION SELECT trace_id FROM recalled_goals WHERE goal_hash = $hash
"""
# The first digits of the digests of all goals that were done, as numbers.
GOAL_NUMBERS = """
SELECT ('0x' || left(goal_hash, $digits))::BIGINT AS number FROM runs WHERE status = 'done'
UNION SELECT ('0x' || left(goal_hash, $digits))::BIGINT FROM recalled_goals
"""
PLAIN_TEMPLATES = """
SELECT ('0x' || left(goal_hash, $digits))::BIGINT AS number FROM trace_templates WHERE goal_hash IS NOT NULL
"""
ALL_NEGATIVES = "SELECT goal_hash, trace_id FROM hard_negatives"

SKELETON = "SELECT DISTINCT trace_id FROM trace_templates WHERE skeleton_hash = $hash"
BEST_FIRST = """
SELECT id FROM traces
WHERE status IN ('trusted', 'candidate') AND list_contains(?::VARCHAR[], id)
ORDER BY status = 'trusted' DESC, last_used_at DESC NULLS LAST, id
"""

# The words of templates. The list of a goal's words is looked up in the table's key, one by one.
FILED_WORDS = "SELECT word FROM telling_words WHERE entries <> '' LIMIT ?"
FILED_UNDER = "SELECT word, entries FROM telling_words WHERE list_contains(?::VARCHAR[], word)"
WORD_COUNTS = "SELECT word, templates FROM telling_words WHERE list_contains(?::VARCHAR[], word)"
ENTRIES_OF = """
SELECT word, entries FROM telling_words
WHERE list_contains($words::VARCHAR[], word) AND contains(entries, '[' || $id || ',')
"""
PUT_WORD_COUNTS = """
INSERT INTO telling_words SELECT unnest(?::VARCHAR[]), unnest(?::BIGINT[]), ''
ON CONFLICT (word) DO UPDATE SET templates = excluded.templates
"""
ADD_ENTRIES = """
UPDATE telling_words w SET entries = w.entries || n.added
FROM (SELECT unnest($words::VARCHAR[]) AS word, unnest($added::VARCHAR[]) AS added) n
WHERE w.word = n.word AND list_contains($words::VARCHAR[], w.word)
"""
SET_ENTRIES = """
UPDATE telling_words w SET entries = n.entries
FROM (SELECT unnest($words::VARCHAR[]) AS word, unnest($entries::VARCHAR[]) AS entries) n
WHERE w.word = n.word AND list_contains($words::VARCHAR[], w.word)
"""
DELETE_WORDS = """
DELETE FROM telling_words WHERE list_contains(?::VARCHAR[], word) AND templates = 0 AND entries = ''
"""
DELETE_ALL_WORDS = "DELETE FROM telling_words"
TEMPLATES_OF = "SELECT template FROM trace_templates WHERE trace_id = ?"
ALL_TEMPLATES = "SELECT trace_id, template FROM trace_templates"

# Traces that were set aside, by what a followable one would be found by.
QUARANTINED = """
SELECT t.id FROM traces t
WHERE t.status = 'quarantined' AND t.id IN (
    SELECT trace_id FROM trace_templates WHERE skeleton_hash = $skeleton OR goal_hash = $hash
)
ORDER BY t.last_used_at DESC NULLS LAST, t.id
"""

ANY_FOLLOWABLE = "SELECT 1 FROM traces WHERE status IN ('trusted', 'candidate') LIMIT 1"

# From vectors to what they stand for, in three steps; those of superseded, rejected or forgotten traces fall out.
OF_VECTOR_IDS = """
SELECT id, owner, version, template_no, text, model, vector
FROM embeddings WHERE kind = 'template' AND list_contains(?::BIGINT[], id)
"""
VECTORS_OF_OWNERS = """
SELECT owner, list(id) FROM embeddings WHERE kind = 'template' AND list_contains(?::VARCHAR[], owner) GROUP BY owner
"""
TEMPLATES_OF_ALL = """
SELECT trace_id, version, template_no, masked, template FROM trace_templates
WHERE list_contains(?::VARCHAR[], trace_id)
"""
FOLLOWABLE_VERSIONS = """
SELECT id, version FROM traces WHERE list_contains(?::VARCHAR[], id) AND status IN ('trusted', 'candidate')
"""

# --- embeddings ------------------------------------------------------------------------------------
# `kind` says what `owner` is: template (a trace id, with version and template_no), run, or fact (its name).

# Which templates have no vector yet is known by their traces (`meta`), so that they need not be searched for.
VECTOR_STATE = """
SELECT key, value FROM meta
WHERE list_contains(['embedded', 'unembedded', 'vectors', 'vectors_before'], key)
"""
PUT_UNEMBEDDED = """
INSERT INTO meta VALUES ('unembedded', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
SET_ALL_EMBEDDED = "UPDATE meta SET value = '[]' WHERE key = 'unembedded'"

PENDING_TEMPLATES = """
SELECT p.trace_id, p.version, p.template_no, p.masked FROM trace_templates p
WHERE NOT EXISTS (
    SELECT 1 FROM embeddings e
    WHERE e.kind = 'template' AND e.owner = p.trace_id AND e.version = p.version AND e.template_no = p.template_no
        AND e.text = p.masked AND e.model = $model AND len(e.vector) = $dim
)
ORDER BY p.trace_id, p.template_no LIMIT $limit
"""
NOTED_TEMPLATES = """
SELECT trace_id, version, template_no, masked FROM trace_templates WHERE list_contains(?::VARCHAR[], trace_id)
ORDER BY trace_id, template_no
"""
# With a condition on the model DuckDB would read the whole table instead of looking the owners up.
EMBEDDED_TEMPLATES = """
SELECT model = ? AND len(vector) = ?, owner, version, template_no, text FROM embeddings
WHERE kind = 'template' AND list_contains(?::VARCHAR[], owner)
"""

PENDING_RUNS = """
SELECT r.id, r.goal FROM runs r
WHERE r.mode = 'learner' AND r.status <> 'running' AND r.cost_usd > 0 AND NOT EXISTS (
    SELECT 1 FROM embeddings e
    WHERE e.kind = 'run' AND e.owner = r.id AND e.model = ? AND len(e.vector) = ?
)
ORDER BY r.no DESC LIMIT ?
"""

PENDING_FACTS = """
SELECT f.name, f.text FROM facts f
WHERE NOT EXISTS (
    SELECT 1 FROM embeddings e
    WHERE e.kind = 'fact' AND e.owner = f.name AND e.text = f.text AND e.model = ? AND len(e.vector) = ?
)
ORDER BY f.name
"""

DELETE_EMBEDDINGS = "DELETE FROM embeddings WHERE kind = ? AND owner = ? RETURNING id"
# Of another model, or of a text that is no longer the template's.
DELETE_STALE_TEMPLATE_EMBEDDINGS = """
DELETE FROM embeddings e WHERE e.kind = 'template' AND (e.model <> ? OR len(e.vector) <> ? OR NOT EXISTS (
    SELECT 1 FROM trace_templates p
    WHERE p.trace_id = e.owner AND p.version = e.version AND p.template_no = e.template_no AND p.masked = e.text
))
"""
DELETE_OTHER_MODELS = "DELETE FROM embeddings WHERE kind = ? AND (model <> ? OR len(vector) <> ?)"

INSERT_TEMPLATE_EMBEDDINGS = """
INSERT INTO embeddings
SELECT nextval('embedding_no'), 'template', unnest($ids::VARCHAR[]), unnest($versions::INTEGER[]),
    unnest($numbers::INTEGER[]), unnest($texts::VARCHAR[]), $model, unnest($vectors::FLOAT[][])
RETURNING id, owner, template_no
"""
# The owner may have gone while its text was being embedded: then nothing is stored.
INSERT_RUN_EMBEDDING = """
INSERT INTO embeddings
SELECT nextval('embedding_no'), 'run', r.id, 0, 0, ?, ?, ?::FLOAT[] FROM runs r WHERE r.id = ?
"""
INSERT_FACT_EMBEDDING = """
INSERT INTO embeddings
SELECT nextval('embedding_no'), 'fact', f.name, 0, 0, f.text, ?, ?::FLOAT[] FROM facts f
WHERE f.name = ? AND f.text = ?
"""

NEWER_VECTORS = "SELECT count(*), coalesce(max(id), 0) FROM embeddings WHERE kind = 'template' AND model = ? AND id > ?"
VECTORS_BETWEEN = """
SELECT id, vector FROM embeddings WHERE kind = 'template' AND model = ? AND id > ? AND id <= ? ORDER BY id
"""
NEAREST_BETWEEN = """
SELECT id, CASE WHEN len(vector) = len($vector::FLOAT[]) THEN list_inner_product(vector, $vector::FLOAT[]) ELSE -2 END
    AS cosine
FROM embeddings WHERE kind = 'template' AND model = $model AND id > $low AND id <= $high
ORDER BY cosine DESC LIMIT $k
"""
MODELS_OF_TEMPLATES = """
SELECT model, len(vector) FROM embeddings WHERE kind = 'template' GROUP BY ALL ORDER BY count(*) DESC, model
"""

# A trace is refused as a whole where it would keep a credential, and never changed: what does the same must stay so.
# What a replay that went well leaves behind; it changes no answer that is kept (`llmos.memory.caching`).
QUIET = (RECORD_USE, RECORD_USES, PUT_SUCCESS, INSERT_SUCCESSES, ADD_SUCCESS)


AS_THEY_ARE = frozenset({INSERT_VERSION, INSERT_TEMPLATES, INSERT_TEMPLATE_EMBEDDINGS, PUT_UNEMBEDDED})

# --- ledger ----------------------------------------------------------------------------------------

LEDGER_COLUMNS = (
    "id, moved_at, kind, amount_microusd, balance_microusd, run_id, operation, saved_microusd, reservation_id"
)

# No ORDER BY … LIMIT here either (see the audit log): rows of savings are summed.
LAST_ENTRY = "SELECT id, balance_microusd FROM ledger WHERE id = (SELECT max(id) FROM ledger)"
INSERT_ENTRIES = f"INSERT INTO ledger ({LEDGER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
LIST_ENTRIES = f"SELECT {LEDGER_COLUMNS} FROM ledger ORDER BY id DESC"

ASK_AGAIN = """
UPDATE traces SET status = 'candidate', reason = ? WHERE status = 'trusted' AND provenance <> 'demonstration'
RETURNING id
"""

UNBOOKED_RUNS = """
SELECT id, CAST(round(cost_usd * 1000000) AS BIGINT) FROM runs
WHERE cost_usd > 0 AND id NOT IN (SELECT run_id FROM ledger) ORDER BY no
"""

OPEN_RESERVATIONS = """
SELECT reservation_id, run_id, -amount_microusd, operation, moved_at FROM ledger r
WHERE kind = 'reserve' AND NOT EXISTS (
    SELECT 1 FROM ledger c WHERE c.kind IN ('settle', 'refund') AND c.reservation_id = r.reservation_id
)
ORDER BY id
"""

LEDGER_SUMS = """
SELECT coalesce(sum(amount_microusd) FILTER (WHERE kind = 'recharge'), 0), coalesce(sum(amount_microusd), 0),
    coalesce(sum(saved_microusd), 0)
FROM ledger
"""

SPENT_BY_RUN = "SELECT -sum(amount_microusd) FROM ledger WHERE run_id = ?"

# --- facts -----------------------------------------------------------------------------------------

PUT_FACT = """
INSERT INTO facts VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET key = excluded.key, value = excluded.value, text = excluded.text,
    updated_at = excluded.updated_at
"""
GET_FACT = "SELECT key, value FROM facts WHERE name = ?"
LIST_FACTS = "SELECT key, value FROM facts ORDER BY updated_at DESC, name"
COUNT_FACTS = "SELECT count(*) FROM facts"
DELETE_FACT = "DELETE FROM facts WHERE name = ? RETURNING name"

NEAREST_FACTS = """
SELECT f.key, f.value, list_inner_product(e.vector, ?::FLOAT[]) AS score
FROM facts f JOIN embeddings e ON e.kind = 'fact' AND e.owner = f.name AND e.text = f.text
WHERE e.model = ? AND len(e.vector) = ?
ORDER BY score DESC, f.name LIMIT ?
"""

# --- audit log -------------------------------------------------------------------------------------

AUDIT_COLUMNS = "number, happened_at, kind, run_id, principal, body, previous, hash"

INSERT_AUDIT = f"INSERT INTO audit_log ({AUDIT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# No ORDER BY … LIMIT: where rows were deleted, DuckDB 2.0 may take another one for the last (it prunes by statistics
# that still count the deleted), and somebody may have deleted rows.
AUDIT_HEAD = "SELECT number, hash FROM audit_log WHERE number = (SELECT max(number) FROM audit_log)"
AUDIT_OF_KIND = "SELECT happened_at, run_id, body FROM audit_log WHERE kind = ? ORDER BY number"
AUDIT_HASH_AT = "SELECT hash FROM audit_log WHERE number = ?"
AUDIT_LAST_OF_KIND = """
SELECT body FROM audit_log WHERE number = (SELECT max(number) FROM audit_log WHERE kind = ?)
"""
# The rows before those of the table are in an archive, up to the last that a checkpoint names.
AUDIT_CHECKPOINT = """
SELECT body FROM audit_log WHERE number = (
    SELECT max(number) FROM audit_log WHERE kind = 'retention' AND contains(body, '"change":"archived"')
)
"""
AUDIT_OLDEST = f"""
SELECT {AUDIT_COLUMNS} FROM audit_log WHERE number BETWEEN ? AND ? AND happened_at < ? ORDER BY number, rowid
"""
AUDIT_DELETE = "DELETE FROM audit_log WHERE number BETWEEN ? AND ?"
AUDIT_LEDGER_BEFORE = "SELECT coalesce(max(id), 0) FROM ledger"
AUDIT_ROWS = f"SELECT {AUDIT_COLUMNS} FROM audit_log ORDER BY number, rowid"
AUDIT_SPAN = "SELECT min(number) FILTER (WHERE happened_at >= ?), max(number) FROM audit_log"
AUDIT_NEXT = "SELECT min(number) FROM audit_log WHERE number > ?"
_AUDIT_FILTER = "(?::VARCHAR IS NULL OR kind = ?) AND (?::VARCHAR IS NULL OR starts_with(run_id, ?))"
AUDIT_NUMBERS = f"SELECT number FROM audit_log WHERE {_AUDIT_FILTER} ORDER BY number DESC"
AUDIT_BETWEEN = f"""
SELECT {AUDIT_COLUMNS} FROM audit_log WHERE {_AUDIT_FILTER} AND number BETWEEN ? AND ? ORDER BY number, rowid
"""
AUDIT_LEDGER = """
SELECT id, kind, amount_microusd, balance_microusd, saved_microusd, run_id FROM ledger WHERE id > ? ORDER BY id
"""

# --- journal ---------------------------------------------------------------------------------------

INSERT_INTENT = """
INSERT INTO journal VALUES (nextval('journal_no'), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING no
"""
INSERT_JOURNAL_OUTCOME = "INSERT INTO journal_outcomes VALUES (nextval('journal_outcome_no'), ?, ?, ?, ?, ?, ?)"

_JOURNAL_ENTRY = """
SELECT j.no, j.run_id, j.step, j.tool, j.tool_version, j.effect, j.key, j.arguments, j.workspace, j.manifest,
    j.began_at, coalesce(o.reach, j.reach), coalesce(o.files, j.files), coalesce(o.note, j.note), o.outcome, o.ended_at
FROM journal j LEFT JOIN journal_outcomes o ON o.intent_no = j.no
    AND o.no = (SELECT max(l.no) FROM journal_outcomes l WHERE l.intent_no = j.no)
"""
INSERT_UNSETTLED = "INSERT INTO journal_unsettled VALUES (?, ?, ?)"
DELETE_UNSETTLED = "DELETE FROM journal_unsettled WHERE intent_no = ?"
UNKNOWN_OF_KEY = "SELECT min(intent_no) FROM journal_unsettled WHERE key = ? AND NOT is_open"
OPEN_INTENTS = "SELECT intent_no FROM journal_unsettled WHERE is_open ORDER BY intent_no"
GET_JOURNAL_ENTRY = f"{_JOURNAL_ENTRY} WHERE j.no = ?"
JOURNAL_OF_RUN = f"{_JOURNAL_ENTRY} WHERE j.run_id = ? ORDER BY j.no"
JOURNAL_BY_TOOL = f"{_JOURNAL_ENTRY} WHERE j.tool = ? ORDER BY j.no"
JOURNAL_NEWEST = f"{_JOURNAL_ENTRY} WHERE ?::VARCHAR IS NULL OR o.outcome = ? ORDER BY j.no DESC LIMIT ?"
JOURNAL_NEEDING = f"""
{_JOURNAL_ENTRY} WHERE j.began_at >= ? OR o.no IS NULL OR o.outcome = 'unknown' OR j.run_id IN (
    SELECT run_id FROM journal GROUP BY run_id ORDER BY max(no) DESC LIMIT ?
)
ORDER BY j.no
"""
JOURNAL_RUNS = f"""
SELECT run_id FROM ({_JOURNAL_ENTRY}) AS e (no, run_id, step, tool, tool_version, effect, key, arguments, workspace,
    manifest, began_at, reach, files, note, outcome, ended_at)
WHERE workspace = ? AND coalesce(outcome, 'open') <> 'not-done' GROUP BY run_id ORDER BY max(no) DESC
"""
# --- approvals -------------------------------------------------------------------------------------

PUT_APPROVAL = """
INSERT INTO approvals VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET effect = excluded.effect, shown = excluded.shown, approved_at = excluded.approved_at
"""
GET_APPROVALS = "SELECT effect FROM approvals WHERE digest IN (SELECT unnest(?::VARCHAR[]))"
LIST_APPROVALS = """
SELECT digest, tool, effect, shown, trace_id, step_id, approved_at FROM approvals ORDER BY approved_at DESC, digest
"""
DELETE_APPROVALS = "DELETE FROM approvals WHERE digest IN (SELECT unnest(?::VARCHAR[]))"

# --- runs that still stand -------------------------------------------------------------------------

# Two statements: of a key that is new, as most are, both take half as long as one with ON CONFLICT.
REPLACE_STANDING = """
UPDATE standing_runs SET run_id = ?, trace_id = ?, done_at = ?, body = ? WHERE key = ? RETURNING key
"""
ADD_STANDING = "INSERT INTO standing_runs (run_id, trace_id, done_at, body, key) VALUES (?, ?, ?, ?, ?)"
COUNT_STANDING = "SELECT count(*) FROM standing_runs"
TRIM_STANDING = """
DELETE FROM standing_runs WHERE done_at < (SELECT min(done_at) FROM
    (SELECT done_at FROM standing_runs ORDER BY done_at DESC LIMIT ?))
"""
RENEW_STANDING = "UPDATE standing_runs SET body = ? WHERE key = ? AND run_id = ?"
GET_STANDING = "SELECT body FROM standing_runs WHERE key = ?"
DELETE_STANDING = "DELETE FROM standing_runs WHERE key = ?"
DELETE_STANDING_RUN = "DELETE FROM standing_runs WHERE run_id = ?"
DELETE_STANDING_OF_TRACE = "DELETE FROM standing_runs WHERE trace_id = ?"

# What sentences mean as system calls.

PUT_SYSTEM_PARSE = """
INSERT INTO system_parses VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET trace = excluded.trace, learned_at = excluded.learned_at
"""
SYSTEM_PARSES = "SELECT id, trace FROM system_parses ORDER BY learned_at, id"
DELETE_SYSTEM_PARSE = "DELETE FROM system_parses WHERE id = ?"
