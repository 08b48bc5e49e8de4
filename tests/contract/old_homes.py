"""What makes a database of today one of an older version."""

from __future__ import annotations

import re

from llmos.memory import schema


def as_version(version: int) -> tuple[str, ...]:
    """The statements that take away what the versions after this one added."""
    statements = []
    for step in range(schema.VERSION - 1, version - 1, -1):
        made = re.findall(r"CREATE (TABLE|SEQUENCE) (\w+)", schema.MIGRATIONS[step])
        statements += [f"DROP {kind} {name}" for kind, name in reversed(made)]
        added = re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", schema.MIGRATIONS[step])
        statements += [f"ALTER TABLE {table} DROP COLUMN {column}" for table, column in added]
    return (*statements, f"UPDATE meta SET value = '{version}' WHERE key = 'schema_version'")
