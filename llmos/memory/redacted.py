"""Statements whose parameters hold no secrets, whoever wrote them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llmos.memory import sql
from llmos.memory.caching import ReadCache
from llmos.redaction import Redactor

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


_MOST_STATEMENTS = 512
_statements: dict[str, Any] = {}


class Parsed:
    """A connection whose statements are parsed once: of a small one, that is a third of the time it takes."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, query: str, parameters: Any = None) -> DuckDBPyConnection:
        """Carry out a statement."""
        return self._connection.execute(self._parsed(query), parameters)

    def _parsed(self, query: str) -> Any:
        known = _statements.get(query)
        if known is None:
            found = self._connection.extract_statements(query)
            known = found[0] if len(found) == 1 else query
            if len(_statements) >= _MOST_STATEMENTS:
                _statements.clear()
            _statements[query] = known
        return known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class Redacting(Parsed):
    """A connection that takes secrets out of the parameters of every statement that `sql.AS_THEY_ARE` does not hold.

    It tells the cache what is written.
    """

    def __init__(self, connection: DuckDBPyConnection, redactor: Redactor, cache: ReadCache) -> None:
        super().__init__(connection)
        self._redactor = redactor
        self._cache = cache

    def execute(self, query: str, parameters: Any = None) -> DuckDBPyConnection:
        self._cache.wrote(query)
        if parameters is not None and query not in sql.AS_THEY_ARE:
            parameters = _redacted(parameters, self._redactor)
        return super().execute(query, parameters)


def _redacted(parameters: Any, redactor: Redactor) -> Any:
    """Parameters by position or by name, the texts among them and in their lists without secrets."""
    values = parameters.items() if isinstance(parameters, dict) else enumerate(parameters)
    changed = {key: _without(value, redactor) for key, value in values}
    return changed if isinstance(parameters, dict) else list(changed.values())


_OUR_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+){0,8}-[0-9a-f]{6}|[a-z]+(?:-[a-z]+){0,8}|[0-9a-f]{12}|[0-9a-f]{64}")
"""Ids of traces, runs and digests: rows are found by them, so they stay, even where a secret is a word of one."""


def _without(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, list):
        return [_without(one, redactor) for one in value] if value and isinstance(value[0], str) else value
    if not isinstance(value, str) or _OUR_ID.fullmatch(value):
        return value
    redacted = redactor.text(value)
    if redacted == value or value[:1] not in ("{", "["):
        return redacted
    try:
        return json.dumps(redactor.value(json.loads(value)))
    except (ValueError, RecursionError):
        return redacted
