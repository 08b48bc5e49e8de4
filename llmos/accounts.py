"""The shape of an account: what a ledger row is, what a reservation is, and what keeps them.

Money is whole micro-dollars (1 USD = 1,000,000) wherever it is stored or added up, and float dollars at the doors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import Protocol

from llmos.errors import UsageError

MICROUSD_PER_USD = 1_000_000
MAX_USD = 1_000_000_000.0


def to_microusd(amount_usd: float, *, what: str = "an amount") -> int:
    """Dollars as whole micro-dollars, rounded to the nearest; `what` names the amount in the error.

    Raises:
        UsageError: not a number, not finite, negative, or above a billion dollars.
    """
    if isinstance(amount_usd, bool) or not isinstance(amount_usd, (int, float)):
        raise UsageError(f"{what} must be a number of dollars, not {amount_usd!r}.")
    if not math.isfinite(amount_usd) or amount_usd < 0:
        raise UsageError(f"{what} must be zero dollars or more, not {amount_usd!r}.")
    if amount_usd > MAX_USD:
        raise UsageError(f"{what} must be at most {MAX_USD:,.0f} dollars, not {amount_usd!r}.")
    scaled = Decimal(str(amount_usd)) * MICROUSD_PER_USD
    return int(scaled.to_integral_value(rounding=ROUND_HALF_EVEN))


def to_usd(amount_microusd: int) -> float:
    """Micro-dollars as float dollars."""
    return amount_microusd / MICROUSD_PER_USD


class EntryKind(StrEnum):
    """Why the balance moved (or, for SAVING, why it did not)."""

    RECHARGE = "recharge"
    RESERVE = "reserve"
    SETTLE = "settle"
    REFUND = "refund"
    CHARGE = "charge"
    SAVING = "saving"


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One row of the ledger; rows are only ever appended.

    `amount_microusd` is the signed change of the balance, `balance_microusd` the balance after it. A RESERVE row is
    minus the reserved amount; the SETTLE row that closes it is the reserved amount minus the actual cost (negative
    when the cost exceeded it), a REFUND row the whole reserved amount: so the rows of a run add up to minus its cost.
    A SAVING row moves nothing and says in `saved_microusd` what a replay did not cost.
    The store gives `id` (1, 2, … in order) and `balance_microusd` when it appends.
    """

    id: int = 0
    at: datetime
    kind: EntryKind
    amount_microusd: int
    balance_microusd: int = 0
    run_id: str = ""
    operation: str = ""
    saved_microusd: int = 0
    reservation_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Money set aside for one run; closed exactly once, by a SETTLE or a REFUND row with its id."""

    id: str
    run_id: str
    amount_microusd: int
    operation: str
    at: datetime

    @property
    def amount_usd(self) -> float:
        return to_usd(self.amount_microusd)


@dataclass(frozen=True, kw_only=True)
class LedgerTotals:
    """Sums over all rows, in micro-dollars.

    `recharged`: of RECHARGE rows; `spent`: minus the sum of every other row but those of open reservations;
    `reserved`: what open reservations hold; `saved`: of `saved_microusd`.
    So balance = recharged - spent - reserved.
    """

    recharged_microusd: int
    spent_microusd: int
    reserved_microusd: int
    saved_microusd: int


class LedgerStore(Protocol):
    """What keeps the rows; synchronous, each `append` durable and atomic before it returns."""

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Store a row; returns it with its `id` and the `balance_microusd` after it."""

    def entries(self, limit: int | None = None) -> list[LedgerEntry]:
        """The newest `limit` rows (None: all), newest first."""

    def balance_microusd(self) -> int:
        """The sum of all rows' amounts; 0 when there are none."""

    def open_reservations(self) -> list[Reservation]:
        """Reservations with no SETTLE or REFUND row, oldest first."""

    def totals(self) -> LedgerTotals:
        """Sums over all rows."""

    def is_new(self) -> bool:
        """Whether nothing was ever appended."""
