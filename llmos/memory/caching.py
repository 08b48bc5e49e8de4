"""What was read from the database and still holds: kept until a transaction writes to a table it came from."""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import Any, Final, TypeVar

K = TypeVar("K", bound=Hashable)

NONE: Final = object()
"""What is told of a key nothing is known of."""

_MOST = 8_192
_WRITES = re.compile(r"\s*(?:INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE|DELETE\s+FROM)\s+(\w+)", re.IGNORECASE)
_READS = re.compile(r"\s*SELECT\b", re.IGNORECASE)
ANY = "*"


@lru_cache(maxsize=512)
def written_by(statement: str) -> str:
    """The table that a statement writes to; '' for none, ANY where that can't be told."""
    found = _WRITES.match(statement)
    if found is not None:
        return found[1].lower()
    return "" if _READS.match(statement) else ANY


class ReadCache:
    """Answers by key, the least used ones are given up; each counts while its tables are as they were.

    `quiet` is how statements begin that change nothing which any answer tells. It is asked in the event loop's thread
    and told of writes in the database's.
    """

    def __init__(self, quiet: tuple[str, ...] = (), most: int = _MOST) -> None:
        self._quiet = quiet
        self._most = most
        self._versions: Counter[str] = Counter()
        self._begun: set[str] = set()
        self._answers: OrderedDict[Hashable, tuple[tuple[str, ...], int, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """The answer that holds for a key, or NONE."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                return NONE
            tables, version, answer = found
            if version != self._version(tables):
                del self._answers[key]
                return NONE
            self._answers.move_to_end(key)
            return answer

    def get_each(self, kind: str, keys: Iterable[K], tables: tuple[str, ...]) -> dict[K, Any]:
        """The answers that hold for the keys of a kind, all of them read from these tables."""
        with self._lock:
            version = self._version(tables)
            found: dict[K, Any] = {}
            for key in keys:
                known = self._answers.get((kind, key))
                if known is not None and known[1] == version:
                    self._answers.move_to_end((kind, key))
                    found[key] = known[2]
            return found

    def version(self, tables: tuple[str, ...]) -> int:
        """What an answer read now from these tables is to be kept with."""
        with self._lock:
            return self._version(tables)

    def put(self, key: Hashable, tables: tuple[str, ...], version: int, answer: Any) -> None:
        """Keep an answer."""
        with self._lock:
            self._answers[key] = tables, version, answer
            self._answers.move_to_end(key)
            while len(self._answers) > self._most:
                self._answers.popitem(last=False)

    def change(self, key: Hashable, how: Callable[[Any], Any]) -> None:
        """Put another answer in the place of one that is kept."""
        with self._lock:
            found = self._answers.get(key)
            if found is not None:
                self._answers[key] = *found[:2], how(found[2])

    def drop(self, key: Hashable, unless: Callable[[Any], bool] = lambda answer: False) -> None:
        """Forget an answer, unless it already tells what has come to be."""
        with self._lock:
            found = self._answers.get(key)
            if found is not None and not unless(found[2]):
                del self._answers[key]

    def wrote(self, statement: str) -> None:
        """A statement is carried out; until it is committed others still read what was there before."""
        table = written_by(statement)
        if table and not statement.startswith(self._quiet):
            with self._lock:
                self._versions[table] += 1
                self._begun.add(table)

    def committed(self) -> None:
        """What was carried out is what everybody reads now."""
        with self._lock:
            self._versions.update(self._begun)
            self._begun.clear()

    def _version(self, tables: tuple[str, ...]) -> int:
        return self._versions[ANY] + sum(self._versions[table] for table in tables)
