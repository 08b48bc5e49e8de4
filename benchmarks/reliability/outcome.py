"""What a scenario came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Outcome:
    """`trials` kills or faults; `cut` says how often each kind of deed was cut off by one; `facts` are counts to show.

    `violations` are sentences: what was not as it must be. A scenario holds if there are none.
    """

    name: str
    trials: int = 0
    violations: list[str] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    skipped: str = ""

    def must(self, holds: bool, sentence: str) -> None:
        """Note a violation unless this holds."""
        if not holds:
            self.violations.append(sentence)

    def add(self, other: Outcome) -> None:
        """Take another part of the same scenario in."""
        self.trials += other.trials
        self.violations += other.violations
        self.cut += other.cut
        self.facts += other.facts
        self.skipped = self.skipped or other.skipped

    def to_data(self) -> dict[str, Any]:
        """As it stands in the results."""
        plain = asdict(self)
        return plain | {"cut": dict(sorted(self.cut.items())), "facts": dict(sorted(self.facts.items()))}
