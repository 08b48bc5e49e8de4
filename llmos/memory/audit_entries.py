"""The rows of the audit log, each with the hash of the one before, and the one text that is hashed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from llmos.errors import UsageError
from llmos.memory.database import clean

ENCODING = "llmos-audit/1"
"""Names how a row is hashed; it is hashed along."""

GENESIS = "0" * 64
"""What the first row has in the place of the hash before it."""

_EXACT = 2**53 - 1
_FIELDS = ("number", "at", "kind", "run", "principal", "body", "previous", "hash")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row as it is stored: `at` is UTC with microseconds, `body` canonical JSON (RFC 8785), hashes are in hex."""

    number: int
    at: str
    kind: str
    run_id: str
    principal: str
    body: str
    previous: str
    hash: str = field(default="")

    @property
    def facts(self) -> Any:
        """The body as data; as the text it is if somebody made it unreadable."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return self.body

    def to_data(self) -> dict[str, Any]:
        """The row as one JSON object, the body inside it."""
        values = (self.number, self.at, self.kind, self.run_id, self.principal, self.facts, self.previous, self.hash)
        return dict(zip(_FIELDS, values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Head:
    """The row that a log ends with."""

    number: int = 0
    hash: str = GENESIS


def row_of(data: Any) -> Row:
    """The row that `to_data` wrote.

    Raises:
        UsageError: it is none.
    """
    kinds = (int, str, str, str, str, object, str, str)
    if not isinstance(data, dict) or set(data) != set(_FIELDS):
        raise UsageError("it is no row of an audit log")
    values = [data[name] for name in _FIELDS]
    if not all(isinstance(value, kind) for value, kind in zip(values, kinds, strict=True)):
        raise UsageError("it is no row of an audit log")
    number, at, kind, run_id, principal, body, previous, digest = values
    return Row(
        number=number,
        at=at,
        kind=kind,
        run_id=run_id,
        principal=principal,
        body=canonical(body),
        previous=previous,
        hash=digest,
    )


def hash_of(row: Row) -> str:
    """What a row's hash must be: SHA-256 of the canonical JSON array of all else in it, each as a string."""
    import rfc8785

    parts = [ENCODING, str(row.number), row.at, row.kind, row.run_id, row.principal, row.body, row.previous]
    return sha256(rfc8785.dumps(parts)).hexdigest()


def linked(rows: Sequence[Row], head: Head) -> list[Row]:
    """Rows numbered and hashed so that they continue a log."""
    done: list[Row] = []
    for row in rows:
        following = replace(row, number=head.number + 1, previous=head.hash)
        following = replace(following, hash=hash_of(following))
        head = Head(number=following.number, hash=following.hash)
        done.append(following)
    return done


def canonical(value: Any) -> str:
    """A value as canonical JSON (RFC 8785): one text for each value."""
    import rfc8785

    return rfc8785.dumps(storable(value)).decode()


def storable(value: Any) -> Any:
    """The value as data that canonical JSON has a form for; numbers that it has none for become texts."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else str(value)
    if isinstance(value, float):
        return value if abs(value) <= _EXACT else str(value)  # not a number is in no order
    if isinstance(value, Mapping):
        return {clean(str(key)): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [storable(inner) for inner in value]
    return clean(str(value))


def stamp(time: datetime) -> str:
    """A time as rows have it: UTC, with six digits after the second."""
    utc = time.astimezone(UTC) if time.tzinfo else time
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
