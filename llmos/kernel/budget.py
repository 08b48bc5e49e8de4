"""What a process and its children may spend: divided at spawn, spent turn by turn, given back at the end, lent.

Amounts are whole (millionths of a dollar, or tokens), so that nothing is lost in dividing them.
"""

from __future__ import annotations

from collections.abc import Callable

from llmos.accounts import to_microusd, to_usd
from llmos.errors import LowBatteryError, UsageError


class Allowance:
    """An amount, of which children get parts. `allocated` None: no limit of its own, that of `parent` holds.

    At any time `spent` (with all that children spent), what is promised to children and what is left make up what was
    allocated, unless a turn cost more than was left.
    """

    def __init__(self, allocated: int | None = None, *, parent: Allowance | None = None) -> None:
        self.allocated = allocated
        self.parent = parent
        self.spent = 0
        self._children: list[Allowance] = []
        self._is_closed = False
        if parent is not None:
            parent._children.append(self)

    @property
    def held(self) -> int:
        """What living children may still spend of it, because it was promised to them."""
        return sum(child._promised for child in self._children)

    @property
    def _promised(self) -> int:
        return self.held if self.allocated is None else max(0, self.allocated - self.spent)

    @property
    def left(self) -> int | None:
        """What may be spent, or promised, now; None: nobody limits it."""
        if self.allocated is not None:
            return max(0, self.allocated - self.spent - self.held)
        return None if self.parent is None else self.parent.left

    def spend(self, amount: int) -> None:
        """Book what was spent, here and with everybody above, whether or not it was left."""
        above: Allowance | None = self
        while above is not None:
            above.spent += amount
            above = above.parent

    def close(self) -> None:
        """Give back what is left, once the last child has done so too: what it may spend is part of it."""
        self._is_closed = True
        if self._children or self.parent is None:
            return
        self.parent._children.remove(self)
        if self.parent._is_closed:
            self.parent.close()

    def give(self, amount: int, to: Allowance) -> None:
        """Move a part of what is left to another one, and with it what stands above either of them alone."""
        own, others = self._line, to._line
        for one in own:
            if one not in others and one.allocated is not None:
                one.allocated -= amount
        for one in others:
            if one not in own and one.allocated is not None:
                one.allocated += amount

    @property
    def _line(self) -> list[Allowance]:
        line: list[Allowance] = []
        above: Allowance | None = self
        while above is not None:
            line.append(above)
            above = above.parent
        return line


class Budget:
    """Dollars and tokens of a process; with `parent` they are a part of the parent's.

    Raises:
        LowBatteryError: the parent has not so much left.
        UsageError: the amount is none.
    """

    def __init__(
        self,
        usd: float | None = None,
        *,
        tokens: int | None = None,
        parent: Budget | None = None,
    ) -> None:
        microusd = None if usd is None else to_microusd(usd, what="the budget")
        if parent is not None:
            _check(microusd, parent.microusd.left, lambda amount: f"${to_usd(amount):.4f}")
            _check(tokens, parent.tokens.left, lambda amount: f"{amount:,} tokens")
        self.microusd: Allowance = Allowance(microusd, parent=None if parent is None else parent.microusd)
        self.tokens: Allowance = Allowance(tokens, parent=None if parent is None else parent.tokens)

    @property
    def allocated_usd(self) -> float | None:
        return _usd(self.microusd.allocated)

    @property
    def spent_usd(self) -> float:
        """Dollars spent by the process and everything below it."""
        return to_usd(self.microusd.spent)

    @property
    def left_usd(self) -> float | None:
        """Dollars that may be spent now; None: only the battery limits it."""
        return _usd(self.microusd.left)

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left of it, in dollars or in tokens."""
        return self.microusd.left == 0 or self.tokens.left == 0

    @property
    def share_spent(self) -> float:
        """How much of what was allocated is gone, from 0; the dearer one of dollars and tokens."""
        return max(_share(self.microusd), _share(self.tokens))

    def spend(self, usd: float, tokens: int = 0) -> None:
        """Book what a turn cost."""
        self.microusd.spend(to_microusd(usd, what="the cost"))
        self.tokens.spend(tokens)

    def close(self) -> None:
        """Give back what is left."""
        self.microusd.close()
        self.tokens.close()

    def lend(self, usd: float, to: Budget) -> None:
        """Move dollars to another process's budget.

        Raises:
            UsageError: the amount is none, or one of the two has no budget of its own.
            LowBatteryError: not so much is left.
        """
        amount = to_microusd(usd, what="the amount")
        if self.microusd.allocated is None:
            raise UsageError("it has no budget of its own to lend from: `spawn --budget` gives one.")
        if to.microusd.allocated is None:
            raise UsageError("the other one has no budget of its own, so nothing limits it but the battery.")
        _check(amount, self.microusd.left, lambda one: f"${to_usd(one):.4f}")
        self.microusd.give(amount, to.microusd)

    def pay_back(self, usd: float, to: Budget) -> float:
        """Give back what is left of a loan; the dollars that were."""
        amount = min(to_microusd(usd, what="the amount"), self.microusd.left or 0)
        self.microusd.give(amount, to.microusd)
        return to_usd(amount)


def _usd(amount: int | None) -> float | None:
    return None if amount is None else to_usd(amount)


def _share(allowance: Allowance) -> float:
    if allowance.allocated is None:
        return 0.0
    return allowance.spent / allowance.allocated if allowance.allocated else 1.0


def _check(wanted: int | None, left: int | None, told: Callable[[int], str]) -> None:
    if wanted is not None and left is not None and wanted > left:
        raise LowBatteryError(
            f"only {told(left)} of the budget is left, not {told(wanted)}.",
            needed_usd=to_usd(wanted),
            available_usd=to_usd(left),
        )
