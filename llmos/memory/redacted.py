"""Statements whose parameters hold no secrets, whoever wrote them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from llmos.memory import sql
from llmos.memory.caching import ReadCache
from llmos.memory.engine import Parsed
from llmos.redaction import Redactor

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


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
