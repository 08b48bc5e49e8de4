"""The battery: dollars are set aside before a learner starts, settled by its real cost, and every movement is a row.

economy = TokenEconomy(budget_usd=10.0)
economy.check_budget(estimated_cost=0.50)      # LowBatteryError when the battery can't carry it
economy.deduct(actual_cost=0.45, operation="learn")
"""

from __future__ import annotations

import logging
import math
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from llmos.accounts import EntryKind, LedgerEntry, LedgerStore, LedgerTotals, Reservation, to_microusd, to_usd
from llmos.errors import LowBatteryError, UsageError
from llmos.kernel.bus import EventBus, LedgerMoved
from llmos.kernel.process import current

log = logging.getLogger(__name__)

ESTIMATE_QUANTILE = 0.8
SIMILARITY_POWER = 3


def now_utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class BatterySummary:
    """The account at a glance; `spent_here_usd` is what this economy settled, `cap_usd` the most it may."""

    balance_usd: float
    recharged_usd: float
    spent_usd: float
    reserved_usd: float
    saved_usd: float
    spent_here_usd: float
    cap_usd: float | None


class MemoryLedger:
    """A ledger that lives as long as its process."""

    def __init__(self) -> None:
        self._rows: list[LedgerEntry] = []

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        balance = self.balance_microusd() + entry.amount_microusd
        stored = replace(entry, id=len(self._rows) + 1, balance_microusd=balance)
        self._rows.append(stored)
        return stored

    def entries(self, limit: int | None = None) -> list[LedgerEntry]:
        return self._rows[::-1][:limit]

    def balance_microusd(self) -> int:
        return self._rows[-1].balance_microusd if self._rows else 0

    def open_reservations(self) -> list[Reservation]:
        return [_reservation(row) for row in self._open_rows()]

    def totals(self) -> LedgerTotals:
        recharged = sum(row.amount_microusd for row in self._rows if row.kind is EntryKind.RECHARGE)
        reserved = -sum(row.amount_microusd for row in self._open_rows())
        return LedgerTotals(
            recharged_microusd=recharged,
            spent_microusd=recharged - reserved - self.balance_microusd(),
            reserved_microusd=reserved,
            saved_microusd=sum(row.saved_microusd for row in self._rows),
        )

    def is_new(self) -> bool:
        return not self._rows

    def _open_rows(self) -> list[LedgerEntry]:
        closing = (EntryKind.SETTLE, EntryKind.REFUND)
        closed = {row.reservation_id for row in self._rows if row.kind in closing}
        return [row for row in self._rows if row.kind is EntryKind.RESERVE and row.reservation_id not in closed]


def _reservation(row: LedgerEntry) -> Reservation:
    return Reservation(
        id=row.reservation_id or "",
        run_id=row.run_id,
        amount_microusd=-row.amount_microusd,
        operation=row.operation,
        at=row.at,
    )


class TokenEconomy:
    """The account of one home, or of one process when no `ledger` is given.

    A ledger that is new is charged with `budget_usd`; one that is not keeps its balance.
    `cap_usd` (None: no cap) limits what this object spends, whatever the battery holds.
    Threads may share it: a check and the movement it allows are one, and with `lock` also those of other economies of
    the same ledger. The bus is told in the thread that moved.

    Raises:
        UsageError: the budget is negative or not a number.
    """

    def __init__(
        self,
        budget_usd: float = 10.0,
        *,
        ledger: LedgerStore | None = None,
        bus: EventBus | None = None,
        clock: Callable[[], datetime] = now_utc,
        cap_usd: float | None = None,
        lock: threading.RLock | None = None,
    ) -> None:
        budget_microusd = to_microusd(budget_usd, what="the budget")
        self._ledger: LedgerStore = ledger if ledger is not None else MemoryLedger()
        self._bus = bus
        self._clock = clock
        self._open: dict[str, Reservation] = {}
        self._spent_microusd = 0
        self._lock = lock or threading.RLock()
        self.cap_usd = cap_usd
        if self._ledger.is_new():
            self._tell(self._append(self._entry(EntryKind.RECHARGE, budget_microusd, operation="first charge")))

    # ---------------------------------------------------------------------------------------------- looking

    @property
    def balance(self) -> float:
        """Dollars left, without those set aside; below zero when a bill was higher than its reservation."""
        return to_usd(self._ledger.balance_microusd())

    @property
    def available_usd(self) -> float:
        """The most that can be set aside now: the balance, or what the cap or the process's own budget leaves."""
        left = _left_of_process()
        available = max(0, self._available_microusd())
        return to_usd(available if left is None else min(available, left))

    @property
    def spent_usd(self) -> float:
        """What this economy has charged so far, without open reservations."""
        return to_usd(self._spent_microusd)

    @property
    def cap_usd(self) -> float | None:
        return to_usd(self._cap_microusd) if self._cap_microusd is not None else None

    @cap_usd.setter
    def cap_usd(self, amount_usd: float | None) -> None:
        self._cap_microusd = to_microusd(amount_usd, what="the budget") if amount_usd is not None else None

    def entries(self, limit: int | None = 20) -> list[LedgerEntry]:
        """The newest rows, newest first; all with None."""
        return self._ledger.entries(limit)

    def summary(self) -> BatterySummary:
        totals = self._ledger.totals()
        return BatterySummary(
            balance_usd=self.balance,
            recharged_usd=to_usd(totals.recharged_microusd),
            spent_usd=to_usd(totals.spent_microusd),
            reserved_usd=to_usd(totals.reserved_microusd),
            saved_usd=to_usd(totals.saved_microusd),
            spent_here_usd=self.spent_usd,
            cap_usd=self.cap_usd,
        )

    def check_budget(self, estimated_cost: float) -> None:
        """Make sure that dollars of this estimate can be spent; an estimate of zero always can.

        Raises:
            LowBatteryError: the battery holds less, or the cap, or the budget of the process that asks, leaves less.
            UsageError: the estimate is negative or not a number.
        """
        needed = to_microusd(estimated_cost, what="the estimated cost")
        left = _left_of_process()
        if left is not None and needed > left:
            raise LowBatteryError(
                f"the budget of this process has ${to_usd(left):.4f} left and this needs ${to_usd(needed):.4f}.",
                needed_usd=to_usd(needed),
                available_usd=to_usd(left),
            )
        if needed == 0 or needed <= self._available_microusd():
            return
        needed_usd, balance = to_usd(needed), self._ledger.balance_microusd()
        if needed > balance:
            held_usd = to_usd(sum(reservation.amount_microusd for reservation in self._open.values()))
            beside = f" beside the ${held_usd:.4f} set aside for goals that run now" if held_usd else ""
            raise LowBatteryError(
                f"the battery holds ${self.balance:.4f}{beside} and this needs ${needed_usd:.4f}; "
                f"recharge it with `battery recharge DOLLARS`.",
                needed_usd=needed_usd,
                available_usd=self.available_usd,
            )
        raise LowBatteryError(
            f"the budget of ${self.cap_usd:.4f} has ${self.available_usd:.4f} left and this needs ${needed_usd:.4f}; "
            f"raise it with --budget.",
            needed_usd=needed_usd,
            available_usd=self.available_usd,
        )

    # ---------------------------------------------------------------------------------------------- moving

    def deduct(self, actual_cost: float, operation: str, *, run_id: str = "") -> None:
        """Charge a bill that has arrived, whether or not the battery can carry it."""
        amount = to_microusd(actual_cost, what="the cost")
        with self._lock:
            row = self._append(self._entry(EntryKind.CHARGE, -amount, operation=operation, run_id=run_id))
            self._spent_microusd += amount
        self._tell(row)

    def recharge(self, amount_usd: float, operation: str = "recharge") -> None:
        """Put dollars into the battery; zero is refused."""
        amount = to_microusd(amount_usd, what="the recharge")
        if amount == 0:
            raise UsageError("the recharge must be more than zero dollars.")
        self._tell(self._append(self._entry(EntryKind.RECHARGE, amount, operation=operation)))

    def reserve(self, amount_usd: float, run_id: str, operation: str) -> Reservation:
        """Set dollars aside for a run; close it with `settle` or `refund`.

        Raises:
            LowBatteryError: they can't be spent (see `check_budget`); nothing was set aside.
        """
        with self._lock:
            self.check_budget(amount_usd)
            row = self._append(
                self._entry(
                    EntryKind.RESERVE,
                    -to_microusd(amount_usd, what="the reservation"),
                    operation=operation,
                    run_id=run_id,
                    reservation_id=uuid.uuid4().hex,
                )
            )
            reservation = _reservation(row)
            self._open[reservation.id] = reservation
        self._tell(row)
        return reservation

    def settle(self, reservation: Reservation, actual_usd: float, operation: str = "") -> None:
        """Charge a run's real cost, all of it even above the reservation, and give back the rest.

        Raises:
            UsageError: the reservation is closed already, or the cost is no amount.
        """
        actual = to_microusd(actual_usd, what="the cost")
        self._close(EntryKind.SETTLE, reservation, actual, operation)

    def refund(self, reservation: Reservation, operation: str = "") -> None:
        """Give a whole reservation back: nothing was asked of anybody.

        Raises:
            UsageError: the reservation is closed already.
        """
        self._close(EntryKind.REFUND, reservation, 0, operation)

    def book_saving(self, run_id: str, saved_usd: float, operation: str = "replay") -> None:
        """A $0 row that says what a replay did not cost."""
        self._tell(self._append(self.saving(run_id, saved_usd, operation)))

    def saving(self, run_id: str, saved_usd: float, operation: str = "replay") -> LedgerEntry:
        """The row of `book_saving`, for whoever stores it with other things and then `tell`s it."""
        saved = to_microusd(saved_usd, what="the saving")
        return self._entry(EntryKind.SAVING, 0, operation=operation, run_id=run_id, saved_microusd=saved)

    def tell(self, row: LedgerEntry) -> None:
        """Tell the bus of a row that was stored."""
        self._tell(row)

    # --------------------------------------------------------------------------------------------- inside

    def _available_microusd(self) -> int:
        with self._lock:
            balance = self._ledger.balance_microusd()
            if self._cap_microusd is None:
                return balance
            held = sum(reservation.amount_microusd for reservation in self._open.values())
            return min(balance, self._cap_microusd - self._spent_microusd - held)

    def _close(self, kind: EntryKind, reservation: Reservation, actual_microusd: int, operation: str) -> None:
        with self._lock:
            held = self._open.get(reservation.id)
            if held is None:
                raise UsageError(f"the reservation for {reservation.operation!r} is closed already; it can't be twice.")
            row = self._append(
                self._entry(
                    kind,
                    held.amount_microusd - actual_microusd,
                    operation=operation or held.operation,
                    run_id=held.run_id,
                    reservation_id=held.id,
                )
            )
            del self._open[held.id]
            self._spent_microusd += actual_microusd
        self._tell(row)

    def charge_left_open(self, known_usd: Mapping[str, float] | None = None) -> list[Reservation]:
        """Charge the reservations that an earlier process left open; gives what was charged for each.

        In full, for nobody knows what was spent of them; but a run that is `known_usd` for its dollars pays those.
        """
        charged = []
        for reservation in self._ledger.open_reservations():
            most = reservation.amount_microusd
            known = (known_usd or {}).get(reservation.run_id)
            amount = most if known is None else min(most, to_microusd(known, what="the cost"))
            how = "charged in full" if amount == most else "charged for what was kept of it"
            log.warning(
                f"a reservation was never settled; it is {how}",
                extra={"action": "charge_left_open", "run_id": reservation.run_id},
            )
            row = self._append(
                self._entry(
                    EntryKind.SETTLE,
                    most - amount,
                    operation=f"{reservation.operation}: {how}, the process ended before it was settled",
                    run_id=reservation.run_id,
                    reservation_id=reservation.id,
                )
            )
            self._tell(row)
            charged.append(replace(reservation, amount_microusd=amount))
        return charged

    def _append(self, entry: LedgerEntry) -> LedgerEntry:
        with self._lock:
            return self._ledger.append(entry)

    def _entry(
        self,
        kind: EntryKind,
        amount_microusd: int,
        *,
        operation: str,
        run_id: str = "",
        saved_microusd: int = 0,
        reservation_id: str | None = None,
    ) -> LedgerEntry:
        return LedgerEntry(
            at=self._clock(),
            kind=kind,
            amount_microusd=amount_microusd,
            run_id=run_id,
            operation=operation,
            saved_microusd=saved_microusd,
            reservation_id=reservation_id,
        )

    def _tell(self, row: LedgerEntry) -> None:
        if self._bus is not None:
            self._bus.publish(
                LedgerMoved(
                    run_id=row.run_id,
                    kind=row.kind.value,
                    amount_usd=to_usd(row.amount_microusd),
                    balance_usd=to_usd(row.balance_microusd),
                    operation=row.operation,
                )
            )


def _left_of_process() -> int | None:
    """Micro-dollars left of the budget of the process that asks; None: it has none."""
    process = current()
    return None if process is None else process.budget.microusd.left


def estimate_cost(history: Sequence[tuple[float, float]], prior_usd: float) -> float:
    """Dollars a goal will cost, judged by (similarity, cost_usd) of goals that the learner solved before.

    The cost that four fifths of the history, weighted by similarity cubed, did not exceed: an upper estimate that one
    outlier can't move and that never leaves the range seen. `prior_usd` stands in only while nothing similar is known.
    """
    seen = sorted(
        (cost_usd, max(0.0, similarity) ** SIMILARITY_POWER)
        for similarity, cost_usd in history
        if math.isfinite(similarity) and math.isfinite(cost_usd) and cost_usd >= 0
    )
    total = sum(weight for _, weight in seen)
    if total <= 0:
        return prior_usd
    below = 0.0
    for cost_usd, weight in seen:
        below += weight
        if below >= ESTIMATE_QUANTILE * total:
            return cost_usd
    return seen[-1][0]
