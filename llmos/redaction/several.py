"""Several redactors as one, for what many write to: no secret of any of them is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmos.redaction.redactor import Credential, Redactor


class Redactors(Redactor):
    """Takes out what any of the redactors takes out that joined it; with none it knows credentials by their looks."""

    def __init__(self) -> None:
        super().__init__()
        self._plain = Redactor()
        self._members: tuple[Redactor, ...] = (self._plain,)
        self._uses: Counter[object] = Counter()

    @contextmanager
    def joined_by(self, redactor: Redactor) -> Iterator[None]:
        """Know what another redactor knows, for the length of a block; two with the same secrets count as one."""
        self._uses[redactor.values] += 1
        if self._uses[redactor.values] == 1 and redactor.values != self._plain.values:
            self._members = (*self._members, redactor)  # replaced as a whole: other threads may be reading
        try:
            yield
        finally:
            self._uses[redactor.values] -= 1
            if not self._uses[redactor.values] and redactor.values != self._plain.values:
                self._members = tuple(one for one in self._members if one.values != redactor.values)

    def text(self, text: str) -> str:
        for member in self._members:
            text = member.text(text)
        return text

    def value(self, value: Any) -> Any:
        for member in self._members:
            value = member.value(value)
        return value

    def credentials(self, value: Any) -> list[Credential]:
        found = [one for member in self._members for one in member.credentials(value)]
        return list(dict.fromkeys(found))
