"""Budgets of processes: divided, spent, given back and lent, with nothing lost and nothing spent twice."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llmos.errors import LowBatteryError, UsageError
from llmos.kernel.budget import Budget


def test_a_child_gets_a_part_which_is_held_for_it() -> None:
    parent = Budget(1.0)
    child = Budget(0.4, parent=parent)
    assert (parent.left_usd, child.left_usd) == (0.6, 0.4)
    child.spend(0.1)
    assert (parent.left_usd, parent.spent_usd, child.left_usd) == (0.6, 0.1, 0.3)


def test_what_a_child_did_not_spend_comes_back_at_its_end() -> None:
    parent = Budget(1.0)
    child = Budget(0.4, parent=parent)
    child.spend(0.1)
    child.close()
    assert parent.left_usd == 0.9


def test_a_child_without_a_budget_of_its_own_spends_its_parents() -> None:
    parent = Budget(1.0)
    child = Budget(parent=parent)
    child.spend(0.3)
    assert (child.left_usd, parent.left_usd) == (0.7, 0.7)


def test_nobody_promises_more_than_is_left() -> None:
    parent = Budget(1.0, tokens=100)
    Budget(0.7, parent=parent)
    with pytest.raises(LowBatteryError, match=r"only \$0.3000 of the budget is left, not \$0.5000"):
        Budget(0.5, parent=parent)
    with pytest.raises(LowBatteryError, match="only 100 tokens of the budget is left, not 101 tokens"):
        Budget(tokens=101, parent=parent)
    assert parent.left_usd == pytest.approx(0.3)


def test_a_child_that_overspends_takes_nothing_twice_from_its_parent() -> None:
    parent = Budget(1.0)
    child = Budget(0.4, parent=parent)
    child.spend(0.5)  # one turn cost more than was left
    assert child.is_spent
    assert (child.left_usd, parent.left_usd) == (0.0, 0.5)


def test_children_that_outlive_their_parent_keep_what_they_were_promised_and_no_more() -> None:
    root = Budget(1.0)
    parent = Budget(0.5, parent=root)
    child = Budget(parent=parent)
    parent.close()
    child.spend(0.2)
    assert (root.left_usd, child.left_usd) == (0.5, 0.3)
    child.close()
    assert root.left_usd == 0.8


def test_tokens_are_a_limit_of_their_own() -> None:
    budget = Budget(1.0, tokens=1000)
    budget.spend(0.01, tokens=1000)
    assert budget.is_spent
    assert budget.share_spent == 1.0


def test_a_loan_moves_money_across_the_tree_and_comes_back() -> None:
    root = Budget(1.0)
    rich, poor = Budget(0.6, parent=root), Budget(0.1, parent=root)
    grandchild = Budget(0.05, parent=poor)
    rich.lend(0.2, grandchild)
    assert (rich.left_usd, grandchild.left_usd, poor.left_usd) == (0.4, 0.25, 0.05)
    grandchild.spend(0.2)
    assert grandchild.pay_back(0.2, rich) == 0.05
    assert (rich.left_usd, grandchild.left_usd, poor.left_usd) == (0.45, 0.0, 0.05)
    assert root.left_usd == 0.3


def test_only_what_is_left_of_an_own_budget_can_be_lent() -> None:
    lender, other = Budget(0.1), Budget(0.1)
    with pytest.raises(LowBatteryError, match="only"):
        lender.lend(0.2, other)
    with pytest.raises(UsageError, match="no budget of its own"):
        Budget().lend(0.1, other)
    with pytest.raises(UsageError, match="nothing limits it but the battery"):
        lender.lend(0.1, Budget())


AMOUNTS = st.integers(0, 1000).map(lambda tenths: tenths / 10_000)


class Tree(RuleBasedStateMachine):
    """Budgets that are divided, spent within what is left, lent and closed in any order."""

    @initialize()
    def rooted(self) -> None:
        self.root = Budget(1.0)
        self.living = [self.root]
        self.spent = 0.0

    def _one(self, pick: int) -> Budget:
        return self.living[pick % len(self.living)]

    @rule(pick=st.integers(0, 99), usd=st.none() | AMOUNTS)
    def divide(self, pick: int, usd: float | None) -> None:
        parent = self._one(pick)
        if usd is not None and usd > (parent.left_usd or 0.0):
            with pytest.raises(LowBatteryError):
                Budget(usd, parent=parent)
        else:
            self.living.append(Budget(usd, parent=parent))

    @rule(pick=st.integers(0, 99), usd=AMOUNTS)
    def spend(self, pick: int, usd: float) -> None:
        budget = self._one(pick)
        if usd <= (budget.left_usd or 0.0):
            budget.spend(usd)
            self.spent += usd

    @rule(pick=st.integers(0, 99), other=st.integers(0, 99), usd=AMOUNTS)
    def lend(self, pick: int, other: int, usd: float) -> None:
        lender, borrower = self._one(pick), self._one(other)
        if lender is borrower:
            return
        try:
            lender.lend(usd, borrower)
        except (LowBatteryError, UsageError):
            return

    @rule(pick=st.integers(0, 99))
    def close(self, pick: int) -> None:
        budget = self._one(pick)
        if budget is not self.root:
            self.living.remove(budget)
            budget.close()

    @invariant()
    def nothing_is_lost_and_nothing_spent_twice(self) -> None:
        allocated, left = self.root.allocated_usd, self.root.left_usd
        assert allocated is not None
        assert left is not None
        assert self.root.spent_usd == pytest.approx(self.spent)
        assert self.root.spent_usd <= 1.0 + 1e-9
        assert left + self.root.spent_usd <= allocated + 1e-9
        for budget in self.living:
            assert (budget.left_usd or 0.0) >= 0
        if len(self.living) == 1:
            assert left == pytest.approx(allocated - self.spent)


TestTree = Tree.TestCase
