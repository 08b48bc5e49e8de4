"""What makes a database of today one of an older version."""

from __future__ import annotations

AS_VERSION_3 = (
    "DROP TABLE recalled_goals",
    "DROP TABLE emptied_runs",
    "UPDATE meta SET value = '3' WHERE key = 'schema_version'",
)
"""Takes away what version 4 added."""

AS_VERSION_2 = (
    *AS_VERSION_3,
    "DROP TABLE telling_words",
    "DROP TABLE audit_log",
    "DROP TABLE approvals",
    "DROP TABLE standing_runs",
    "DROP TABLE journal",
    "DROP TABLE journal_outcomes",
    "DROP TABLE journal_unsettled",
    "DROP SEQUENCE journal_no",
    "DROP SEQUENCE journal_outcome_no",
    "DROP TABLE taints",
    "DROP SEQUENCE taint_no",
    "DROP TABLE handovers",
    "ALTER TABLE steps DROP COLUMN origin",
    "UPDATE meta SET value = '2' WHERE key = 'schema_version'",
)
"""Takes away what version 3 added, too."""
