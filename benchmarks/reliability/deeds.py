"""What a process said it was about to do, and what it said was done: a file beside its home, written before it dies.

A line is one write to a file opened for appending, so that a process killed in between leaves whole lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(kw_only=True)
class Deed:
    """One thing that was begun; `done` has what was acknowledged of it, `settled`: it was looked into after a kill.

    `life` is the process that began it.
    """

    no: int
    life: int
    kind: str
    facts: dict[str, Any]
    done: dict[str, Any] | None = None
    settled: bool = False


@dataclass(kw_only=True)
class Deeds:
    """The file of deeds of one home, and what it says so far."""

    path: Path
    all: dict[int, Deed] = field(default_factory=dict)
    files: dict[str, set[str]] = field(default_factory=dict)
    checks: int = 0

    def __post_init__(self) -> None:
        for line in self._lines():
            self._take(line)

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)

    def begin(self, kind: str, **facts: Any) -> Deed:
        """Say that something begins; the number tells it from all others."""
        no = max(self.all, default=0) + 1
        self._say({"begin": kind, "no": no, "life": os.getpid(), "facts": facts})
        return self.all[no]

    def acknowledge(self, deed: Deed, **facts: Any) -> None:
        """Say that it is done: the product has said so."""
        self._say({"done": deed.no, "facts": facts})

    def settle(self, deed: Deed) -> None:
        """Say that what became of it was looked into, and need not be again."""
        self._say({"settled": deed.no})

    def see(self, files: dict[str, str]) -> None:
        """Say what stands in the files after a check."""
        self._say({"seen": files})

    def may_hold(self, file: str) -> set[str]:
        """The contents that a file may have: of the last acknowledged deed, or of one that was begun after it."""
        return self.files.setdefault(file, {""})

    def _say(self, line: dict[str, Any]) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        if "begin" in line:
            deed = Deed(no=line["no"], life=line.get("life", 0), kind=line["begin"], facts=line["facts"])
            self.all[deed.no] = deed
            for file, content in deed.facts.get("files", {}).items():
                self.may_hold(file).add(content)
        elif "done" in line:
            deed = self.all[line["done"]]
            deed.done = line["facts"]
            for file, content in deed.facts.get("files", {}).items():
                self.files[file] = {content}
        elif "settled" in line:
            self.all[line["settled"]].settled = True
        else:
            self.checks += 1
            for file, content in line["seen"].items():
                self.files[file] = {content}
