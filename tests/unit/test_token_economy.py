"""The battery: nothing is lost, nothing is free, and every movement is a row."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from llmos.accounts import EntryKind, LedgerEntry, Reservation, to_microusd, to_usd
from llmos.errors import LowBatteryError, StorageError, UsageError
from llmos.kernel.bus import EventBus, LedgerMoved
from llmos.kernel.token_economy import MemoryLedger, TokenEconomy, estimate_cost
from llmos.testing import FrozenClock

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


# ------------------------------------------------------------------------------------------------ as users write it


def test_the_users_example() -> None:
    economy = TokenEconomy(budget_usd=10.0)
    assert economy.balance == 10.0
    economy.check_budget(estimated_cost=0.50)
    economy.deduct(actual_cost=0.45, operation="learn")
    assert economy.balance == 9.55
    with pytest.raises(LowBatteryError) as caught:
        economy.check_budget(estimated_cost=9.56)
    assert (caught.value.needed_usd, caught.value.available_usd) == (9.56, 9.55)
    assert str(caught.value) == (
        "the battery holds $9.5500 and this needs $9.5600; recharge it with `battery recharge DOLLARS`."
    )


def test_exactly_what_is_left_can_be_spent() -> None:
    economy = TokenEconomy(budget_usd=0.3)
    for _ in range(3):
        economy.check_budget(0.1)
        economy.deduct(0.1, "tenth")
    assert economy.balance == 0.0


def test_an_empty_battery_still_lets_what_is_free_pass() -> None:
    economy = TokenEconomy(budget_usd=0)
    economy.check_budget(0.0)
    with pytest.raises(LowBatteryError):
        economy.check_budget(0.000001)


@pytest.mark.parametrize("amount", [-0.01, float("nan"), float("inf")])
def test_what_is_no_amount_moves_nothing(amount: float) -> None:
    economy = TokenEconomy(budget_usd=1.0)
    held = economy.reserve(0.5, "r", "learn")
    refusals: list[Callable[[], object]] = [
        lambda: TokenEconomy(budget_usd=amount),
        lambda: economy.check_budget(amount),
        lambda: economy.deduct(amount, "x"),
        lambda: economy.recharge(amount),
        lambda: economy.reserve(amount, "r", "x"),
        lambda: economy.settle(held, amount),
        lambda: economy.book_saving("r", amount),
        lambda: setattr(economy, "cap_usd", amount),
    ]
    for refused in refusals:
        with pytest.raises(UsageError, match="must be zero dollars or more"):
            refused()
    assert len(economy.entries(None)) == 2
    economy.settle(held, 0.1)


def test_a_recharge_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="more than zero"):
        TokenEconomy().recharge(0)


# -------------------------------------------------------------------------------------------------- reservations


def test_a_reservation_is_gone_until_it_is_settled() -> None:
    economy = TokenEconomy(budget_usd=1.0)
    held = economy.reserve(0.8, "run-1", "learn")
    assert (economy.balance, economy.spent_usd) == (0.2, 0.0)
    with pytest.raises(LowBatteryError):
        economy.reserve(0.3, "run-2", "learn")
    economy.settle(held, 0.25)
    assert (economy.balance, economy.spent_usd) == (0.75, 0.25)


def test_a_bill_above_the_reservation_is_charged_in_full() -> None:
    economy = TokenEconomy(budget_usd=1.0)
    economy.settle(economy.reserve(0.5, "r", "learn"), 1.25)
    assert (economy.balance, economy.available_usd) == (-0.25, 0.0)


def test_a_refund_gives_everything_back() -> None:
    economy = TokenEconomy(budget_usd=1.0)
    economy.refund(economy.reserve(0.5, "r", "learn"), "no server")
    assert (economy.balance, economy.spent_usd) == (1.0, 0.0)


def test_a_reservation_is_closed_once() -> None:
    economy = TokenEconomy(budget_usd=1.0)
    held = economy.reserve(0.5, "r", "learn")
    economy.settle(held, 0.1)
    with pytest.raises(UsageError, match="closed already"):
        economy.settle(held, 0.1)
    with pytest.raises(UsageError, match="closed already"):
        economy.refund(held)
    assert economy.balance == 0.9


def test_a_refused_reservation_leaves_no_row() -> None:
    economy = TokenEconomy(budget_usd=0.1)
    with pytest.raises(LowBatteryError):
        economy.reserve(0.5, "r", "learn")
    assert [row.kind for row in economy.entries()] == [EntryKind.RECHARGE]


def test_the_rows_tell_the_whole_story() -> None:
    clock = FrozenClock(NOON)
    economy = TokenEconomy(budget_usd=10.0, clock=clock)
    clock.advance(1)
    held = economy.reserve(2.0, "run-1", "learn")
    economy.settle(held, 0.5)
    economy.deduct(0.25, "think", run_id="run-2")
    economy.book_saving("run-3", 0.5)
    rows = economy.entries(None)[::-1]
    assert [(row.id, row.kind.value, row.amount_microusd, row.balance_microusd, row.run_id) for row in rows] == [
        (1, "recharge", 10_000_000, 10_000_000, ""),
        (2, "reserve", -2_000_000, 8_000_000, "run-1"),
        (3, "settle", 1_500_000, 9_500_000, "run-1"),
        (4, "charge", -250_000, 9_250_000, "run-2"),
        (5, "saving", 0, 9_250_000, "run-3"),
    ]
    assert [row.at.second for row in rows] == [0, 1, 1, 1, 1]
    assert [row.operation for row in rows] == ["first charge", "learn", "learn", "think", "replay"]
    assert rows[1].reservation_id == rows[2].reservation_id == held.id
    assert rows[4].saved_microusd == 500_000
    assert economy.entries(2) == rows[:2:-1]


def test_the_summary_adds_up() -> None:
    economy = TokenEconomy(budget_usd=10.0, cap_usd=5.0)
    economy.recharge(1.0)
    economy.settle(economy.reserve(2.0, "a", "learn"), 0.5)
    economy.deduct(0.25, "think")
    economy.reserve(1.0, "b", "learn")
    economy.book_saving("c", 0.75)
    summary = economy.summary()
    assert (summary.recharged_usd, summary.spent_usd, summary.reserved_usd) == (11.0, 0.75, 1.0)
    assert (summary.balance_usd, summary.saved_usd) == (9.25, 0.75)
    assert (summary.spent_here_usd, summary.cap_usd) == (0.75, 5.0)


# ------------------------------------------------------------------------------------------------------- the cap


def test_a_cap_stops_a_full_battery() -> None:
    economy = TokenEconomy(budget_usd=10.0, cap_usd=1.0)
    assert economy.available_usd == 1.0
    economy.settle(economy.reserve(0.75, "a", "learn"), 0.5)
    assert economy.available_usd == 0.5
    with pytest.raises(LowBatteryError, match=r"the budget of \$1\.0000 has \$0\.5000 left and this needs \$0\.6000"):
        economy.check_budget(0.6)
    economy.cap_usd = None
    economy.check_budget(0.6)


def test_open_reservations_count_towards_the_cap() -> None:
    economy = TokenEconomy(budget_usd=10.0, cap_usd=1.0)
    held = economy.reserve(0.75, "a", "learn")
    with pytest.raises(LowBatteryError):
        economy.check_budget(0.5)
    economy.refund(held)
    economy.check_budget(0.5)


def test_a_cap_of_zero_lets_only_what_is_free_pass() -> None:
    economy = TokenEconomy(budget_usd=10.0, cap_usd=0)
    economy.check_budget(0)
    with pytest.raises(LowBatteryError, match="--budget"):
        economy.check_budget(0.01)


# ---------------------------------------------------------------------------------------------------- the ledger


def test_a_ledger_that_is_not_new_keeps_its_balance() -> None:
    ledger = MemoryLedger()
    TokenEconomy(budget_usd=3.0, ledger=ledger).deduct(1.0, "learn")
    second = TokenEconomy(budget_usd=10.0, ledger=ledger)
    assert (second.balance, second.spent_usd) == (2.0, 0.0)


def test_what_a_dead_process_left_open_is_charged_in_full() -> None:
    ledger = MemoryLedger()
    TokenEconomy(budget_usd=3.0, ledger=ledger).reserve(2.0, "run-9", "learn")
    second = TokenEconomy(ledger=ledger)
    assert [held.run_id for held in second.charge_left_open()] == ["run-9"]
    assert second.balance == 1.0
    newest = second.entries(1)[0]
    assert (newest.kind, newest.amount_microusd, newest.run_id) == (EntryKind.SETTLE, 0, "run-9")
    assert newest.operation == "learn: charged in full, the process ended before it was settled"
    assert second.charge_left_open() == []
    assert second.entries(1) == [newest]
    assert (second.summary().spent_usd, second.summary().reserved_usd) == (2.0, 0.0)


class FailingLedger(MemoryLedger):
    """A ledger whose disk is full when told so."""

    full = False

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        if self.full:
            raise StorageError("the disk is full")
        return super().append(entry)


def test_a_settlement_that_could_not_be_stored_can_be_repeated() -> None:
    ledger = FailingLedger()
    economy = TokenEconomy(budget_usd=1.0, ledger=ledger)
    held = economy.reserve(0.5, "r", "learn")
    ledger.full = True
    with pytest.raises(StorageError):
        economy.settle(held, 0.2)
    assert economy.spent_usd == 0.0
    ledger.full = False
    economy.settle(held, 0.2)
    assert (economy.balance, economy.spent_usd) == (0.8, 0.2)


def test_every_movement_is_told() -> None:
    bus = EventBus()
    told: list[LedgerMoved] = []
    bus.subscribe(LedgerMoved, told.append)
    economy = TokenEconomy(budget_usd=1.0, bus=bus)
    economy.settle(economy.reserve(0.5, "run-1", "learn"), 0.2)
    assert [(e.run_id, e.kind, e.amount_usd, e.balance_usd, e.operation) for e in told] == [
        ("", "recharge", 1.0, 1.0, "first charge"),
        ("run-1", "reserve", -0.5, 0.5, "learn"),
        ("run-1", "settle", 0.3, 0.8, "learn"),
    ]


# -------------------------------------------------------------------------------------------- under any sequence

amounts = st.integers(min_value=0, max_value=5_000_000).map(to_usd)


class Economy(RuleBasedStateMachine):
    """Any sequence of movements, told apart only by what it did to a plain sum."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = MemoryLedger()
        self.economy = TokenEconomy(budget_usd=10.0, ledger=self.ledger)
        self.recharged = 10_000_000
        self.spent = 0
        self.open: dict[str, int] = {}
        self.closed: list[Reservation] = []

    @rule(amount=amounts)
    def deduct(self, amount: float) -> None:
        self.economy.deduct(amount, "charge")
        self.spent += to_microusd(amount)

    @rule(amount=amounts.filter(bool))
    def recharge(self, amount: float) -> None:
        self.economy.recharge(amount)
        self.recharged += to_microusd(amount)

    @rule(amount=amounts)
    def save(self, amount: float) -> None:
        self.economy.book_saving("run", amount)

    @rule(target=held, amount=amounts)
    def reserve(self, amount: float) -> Reservation | None:
        before = self.economy.balance
        try:
            reservation = self.economy.reserve(amount, "run", "learn")
        except LowBatteryError:
            assert amount > before
            return None
        self.open[reservation.id] = to_microusd(amount)
        return reservation

    @rule(reservation=consumes(held), actual=amounts)
    def settle(self, reservation: Reservation | None, actual: float) -> None:
        if reservation is not None and reservation.id in self.open:
            self.economy.settle(reservation, actual)
            self.spent += to_microusd(actual)
            del self.open[reservation.id]
            self.closed.append(reservation)

    @rule(reservation=consumes(held))
    def refund(self, reservation: Reservation | None) -> None:
        if reservation is not None and reservation.id in self.open:
            self.economy.refund(reservation)
            del self.open[reservation.id]
            self.closed.append(reservation)

    @precondition(lambda self: self.closed)
    @rule(data=st.data(), actual=amounts)
    def settle_again(self, data: st.DataObject, actual: float) -> None:
        with pytest.raises(UsageError):
            self.economy.settle(data.draw(st.sampled_from(self.closed)), actual)

    @rule()
    def crash(self) -> None:
        self.economy = TokenEconomy(ledger=self.ledger)
        self.economy.charge_left_open()
        self.spent += sum(self.open.values())
        self.open.clear()

    @invariant()
    def nothing_is_lost(self) -> None:
        balance = self.recharged - self.spent - sum(self.open.values())
        assert to_microusd(abs(self.economy.balance)) == abs(balance)
        rows = self.ledger.entries()[::-1]
        assert sum(row.amount_microusd for row in rows) == balance == rows[-1].balance_microusd
        running = 0
        for row in rows:
            running += row.amount_microusd
            assert row.balance_microusd == running

    @invariant()
    def totals_add_up(self) -> None:
        totals = self.ledger.totals()
        assert totals.recharged_microusd == self.recharged
        assert totals.spent_microusd == self.spent
        assert totals.reserved_microusd == sum(self.open.values())
        assert {held.id: held.amount_microusd for held in self.ledger.open_reservations()} == self.open


TestEconomy = Economy.TestCase
TestEconomy.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# ---------------------------------------------------------------------------------------------- from many threads


def test_many_threads_can_not_spend_a_dollar_twice() -> None:
    economy = TokenEconomy(budget_usd=1.0, cap_usd=0.95, ledger=SlowLedger())

    def reserve(n: int) -> Reservation | None:
        try:
            return economy.reserve(0.3, f"run-{n}", "learn")
        except LowBatteryError:
            return None

    with ThreadPoolExecutor(8) as threads:
        held = [reservation for reservation in threads.map(reserve, range(16)) if reservation is not None]
        assert len(held) == 3
        list(threads.map(lambda reservation: economy.settle(reservation, 0.1), held))
        list(threads.map(lambda n: economy.deduct(0.01, "think"), range(20)))
    assert (economy.balance, economy.spent_usd) == (0.5, 0.5)


class SlowLedger(MemoryLedger):
    """A ledger that gives other threads a chance in the middle of every movement."""

    def balance_microusd(self) -> int:
        balance = super().balance_microusd()
        time.sleep(0.001)
        return balance


# ---------------------------------------------------------------------------------------------------- estimates


def test_the_prior_stands_in_only_without_history() -> None:
    assert estimate_cost([], 0.5) == 0.5
    assert estimate_cost([(0.0, 3.0), (-0.2, 4.0), (float("nan"), 1.0), (1.0, float("inf"))], 0.5) == 0.5
    assert estimate_cost([(0.9, 0.03)], 0.5) == 0.03


def test_similar_goals_weigh_more_than_many_others() -> None:
    assert estimate_cost([(0.95, 0.04), (0.9, 0.05), (0.2, 1.9), (0.15, 1.8), (0.1, 2.0)], 0.5) == 0.05


def test_it_is_an_upper_estimate_that_one_outlier_does_not_move() -> None:
    costs = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17, 0.2, 9.0]
    assert estimate_cost([(1.0, cost) for cost in costs], 0.5) == 0.17


@given(
    st.lists(st.tuples(st.floats(min_value=0.05, max_value=1), st.floats(min_value=0, max_value=100)), min_size=1),
    st.floats(min_value=0, max_value=100),
)
def test_an_estimate_is_a_cost_that_was_seen(history: list[tuple[float, float]], prior: float) -> None:
    assert estimate_cost(history, prior) in {cost for _, cost in history}
