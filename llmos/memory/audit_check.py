"""Checking an audit log: the first row that is not as it was written, and whether rows are missing at its end."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from llmos.memory.audit_chain import disagreement
from llmos.memory.audit_entries import Head, Row, hash_of
from llmos.memory.audit_notes import Kind

SUMMED = "savings summed"
"""`change` of a row that says that some rows of the ledger have become one."""

_SAVING = "saving"
_NEAR = 1_000
"""How far from its place a row is looked for that was put out of order."""


class Wrong(StrEnum):
    """What can be wrong with a log."""

    CHANGED = "changed"
    MISSING = "missing"
    OUT_OF_ORDER = "out of order"
    INSERTED = "inserted"
    REWRITTEN = "rewritten"
    TAIL = "tail cut or rewritten"
    ANCHOR = "no anchor"
    LEDGER = "ledger differs"
    EXPORT = "differs from the export"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong, at which row (None: at none), in one sentence."""

    wrong: Wrong
    message: str
    number: int | None = None


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What checking came to: `findings` has the first of each check, `behind` how many rows the anchor was late."""

    rows: int
    head: Head
    log_id: str = ""
    first_at: str = ""
    last_at: str = ""
    behind: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.findings


@dataclass(frozen=True, kw_only=True)
class Movement:
    """A movement of the ledger, as far as both sides keep it."""

    kind: str
    amount_microusd: int
    balance_microusd: int
    saved_microusd: int
    run_id: str


@dataclass(kw_only=True)
class ChainCheck:
    """Takes the rows of a log in the order of their numbers; knows the first fault and what other checks need.

    `start` is what the first row must continue: the beginning of a log, or of an export the row before its first.
    `wanted` are the numbers whose hashes are kept.
    """

    start: Head = field(default_factory=Head)
    wanted: frozenset[int] = frozenset()
    rows: int = 0
    fault: Finding | None = None
    first: Row | None = None
    last: Row | None = None
    hashes: dict[int, str] = field(default_factory=dict)
    charges: dict[int, tuple[int, Movement]] = field(default_factory=dict)
    ledger_before: int = 0
    log_id: str = ""
    summed: list[tuple[int, int]] = field(default_factory=list)

    @property
    def head(self) -> Head:
        return self.start if self.last is None else Head(number=self.last.number, hash=self.last.hash)

    def take(self, row: Row) -> None:
        """The next row."""
        if self.fault is None:
            self.fault = fault_of(row, self.head)
        if row.number in self.wanted:
            self.hashes.setdefault(row.number, row.hash)
        self.first, self.last = self.first or row, row
        self.rows += 1
        if row.kind in (Kind.START, Kind.CHARGE, Kind.RETENTION):
            self._take_facts(row)

    def skip_to(self, start: Head) -> None:
        """Go on behind a row, though not all before it were there."""
        self.start, self.last = start, None

    def _take_facts(self, row: Row) -> None:
        """What the ledger is compared with; a body that was made unreadable is the chain's fault already."""
        try:
            facts = row.facts
            if row.kind == Kind.START and row.number == 1:
                self.log_id, self.ledger_before = str(facts["log"]), int(facts["ledger_rows_before"])
            elif row.kind == Kind.CHARGE:
                self.charges[int(facts["entry"])] = (row.number, _movement(facts, row.run_id))
            elif row.kind == Kind.RETENTION and facts["change"] == SUMMED:
                self.summed.append((int(facts["first"]), int(facts["last"])))
        except (ValueError, KeyError, TypeError, RecursionError):
            return


def _movement(facts: Mapping[str, object], run_id: str) -> Movement:
    amounts = (facts[name] for name in ("amount_microusd", "balance_microusd", "saved_microusd"))
    amount, balance, saved = (int(str(value)) for value in amounts)
    return Movement(
        kind=str(facts["kind"]), amount_microusd=amount, balance_microusd=balance, saved_microusd=saved, run_id=run_id
    )


def fault_of(row: Row, before: Head) -> Finding | None:
    """What is wrong with a row that should continue the one before; None if nothing is."""
    number, expected = row.number, before.number + 1
    if hash_of(row) != row.hash:
        return _unlike_its_hash(row)
    if number > expected:
        which = f"row {expected} is" if number == expected + 1 else f"rows {expected} to {number - 1} are"
        return Finding(wrong=Wrong.MISSING, number=expected, message=f"{which} missing")
    if number < expected:
        return Finding(wrong=Wrong.INSERTED, number=number, message=f"row {number} is there a second time")
    if row.previous != before.hash:
        what = f"row {before.number} was rewritten, or rows between them exchanged" if before.number else "it begins so"
        message = f"row {number} does not continue what is before it: {what}"
        return Finding(wrong=Wrong.REWRITTEN, number=number, message=message)
    return None


def _unlike_its_hash(row: Row) -> Finding:
    number = row.number
    for one in range(max(1, number - _NEAR), number + _NEAR + 1):
        if one != number and hash_of(replace(row, number=one)) == row.hash:
            message = f"row {number} is out of order: it was written as row {one}"
            return Finding(wrong=Wrong.OUT_OF_ORDER, number=number, message=message)
    return Finding(
        wrong=Wrong.CHANGED, number=number, message=f"row {number} was changed: its content no longer gives its hash"
    )


def check_anchor(check: ChainCheck, anchor: Head | None, unreadable: str = "") -> Finding | None:
    """What the anchor says against a log that was taken in."""
    if unreadable:
        return Finding(wrong=Wrong.ANCHOR, message=unreadable.rstrip("."))
    if anchor is None:
        message = "the anchor is gone, so whether rows are missing at the end can't be told"
        return Finding(wrong=Wrong.ANCHOR, message=message)
    said = disagreement(check.head, anchor, check.hashes.get(anchor.number))
    number = min(anchor.number, check.head.number + 1)
    return Finding(wrong=Wrong.TAIL, number=number, message=said.rstrip(".")) if said else None


def check_ledger(check: ChainCheck, ledger: Iterable[tuple[int, Movement]]) -> Finding | None:
    """The first movement of money that log and ledger do not agree on.

    Savings that were summed are compared by their sums: how many rows hold them is no movement of money.
    """
    left, pools = dict(check.charges), _Pools(check)
    for entry in pools.entries:
        del left[entry]
    for entry, moved in ledger:
        if pools.takes(entry, moved):
            continue
        number, audited = left.pop(entry, (None, None))
        if audited is None:
            message = f"movement {entry} of the ledger is not in the audit log"
            return Finding(wrong=Wrong.LEDGER, message=message)
        if audited != moved:
            message = f"movement {entry} of the ledger is not what row {number} says of it"
            return Finding(wrong=Wrong.LEDGER, number=number, message=message)
    for entry, (number, _) in sorted(left.items()):
        message = f"movement {entry}, which row {number} records, is missing in the ledger"
        return Finding(wrong=Wrong.LEDGER, number=number, message=message)
    return pools.fault()


class _Pools:
    """The savings that were summed, by the movements from which to which they are."""

    def __init__(self, check: ChainCheck) -> None:
        self._charges = check.charges
        self._spans: list[tuple[int, int]] = []
        for first, last in sorted(check.summed):
            if self._spans and first <= self._spans[-1][1]:
                first, last = self._spans[-1][0], max(last, self._spans.pop()[1])
            self._spans.append((first, last))
        self._left = dict.fromkeys(self._spans, 0)
        self.entries: list[int] = []
        for entry, (_, moved) in check.charges.items():
            span = self._span(entry)
            if span is not None and moved.kind == _SAVING:
                self._left[span] += moved.saved_microusd
                self.entries.append(entry)

    def takes(self, entry: int, moved: Movement) -> bool:
        """Whether a movement of the ledger is one of these savings, or the sum of some; then it is counted."""
        span = self._span(entry) if moved.kind == _SAVING else None
        _, audited = self._charges.get(entry, (0, None))
        if span is None or audited is None or audited.kind != _SAVING:
            return False
        if (moved.amount_microusd, moved.balance_microusd) != (audited.amount_microusd, audited.balance_microusd):
            return False
        self._left[span] -= moved.saved_microusd
        return True

    def fault(self) -> Finding | None:
        """The first span whose savings in the ledger do not sum up to those in the log."""
        for (first, last), left in self._left.items():
            if left:
                message = f"the savings among the movements {first} to {last} of the ledger are not those of the log"
                return Finding(wrong=Wrong.LEDGER, message=message)
        return None

    def _span(self, entry: int) -> tuple[int, int] | None:
        at = bisect_right(self._spans, (entry, math.inf)) - 1
        return self._spans[at] if at >= 0 and self._spans[at][1] >= entry else None


def check_export(exported: Iterable[Row], check: ChainCheck, name: str) -> Finding | None:
    """Whether a log that was taken in extends an earlier export of it; `exported` was found whole by `whole_export`."""
    for row in exported:
        if row.number > check.head.number:
            message = f"the log ends with row {check.head.number}, and {name} holds row {row.number}"
        elif check.hashes.get(row.number) != row.hash:
            message = f"row {row.number} is not the one in {name}: the log was rewritten since, or is another one"
        else:
            continue
        return Finding(wrong=Wrong.EXPORT, number=row.number, message=message)
    return None


def whole_export(rows: list[Row], name: str) -> Finding | None:
    """What is wrong inside an export itself."""
    if not rows:
        return Finding(wrong=Wrong.EXPORT, message=f"{name} holds no row")
    check = ChainCheck(start=Head(number=rows[0].number - 1, hash=rows[0].previous))
    for row in rows:
        check.take(row)
    if check.fault is None:
        return None
    return Finding(wrong=Wrong.EXPORT, number=check.fault.number, message=f"in {name} {check.fault.message}")
