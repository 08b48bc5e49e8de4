"""Lending: for a time a process spends a part of another one's budget, and is as urgent as that one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from llmos.accounts import to_microusd
from llmos.kernel.budget import Budget
from llmos.kernel.process import Process


@dataclass(kw_only=True, eq=False)
class Loan:
    """Dollars and urgency of one process with another one; `end` gives back what is left of both.

    Source: priority inheritance (Sha, Rajkumar & Lehoczky 1990), for a process that others wait for.
    """

    lender: Process
    borrower: Process
    usd: float
    before: int
    during: int

    @classmethod
    def begin(cls, lender: Process, borrower: Process, usd: float, seconds: float | None = None) -> Loan:
        """Lend until one of the two ends, or so many seconds are over; needs a running loop.

        Raises:
            UsageError: the amount is none, or one of them has no budget of its own.
            LowBatteryError: the lender has not so much left.
        """
        if usd:
            lender.budget.lend(usd, borrower.budget)
            borrower.borrowed[lender.run_id] = borrower.borrowed.get(lender.run_id, 0.0) + usd
            borrower.loaned_usd, lender.loaned_usd = borrower.loaned_usd + usd, lender.loaned_usd - usd
        before, during = borrower.own_priority, min(borrower.priority, lender.priority)
        borrower.priority, borrower.hurried = during, (before, during)
        loan = cls(lender=lender, borrower=borrower, usd=usd, before=before, during=during)
        task = asyncio.create_task(loan._over(seconds))
        _LOANS.add(task)
        task.add_done_callback(_LOANS.discard)
        return loan

    async def _over(self, seconds: float | None) -> None:
        ends = [asyncio.create_task(one.over.wait()) for one in (self.lender, self.borrower)]
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
        self.end()

    def end(self) -> None:
        """Give back what is left; a priority that was changed meanwhile stays."""
        if self.usd:
            back_usd = self.borrower.budget.pay_back(self.usd, self.lender.budget)
            self.borrower.loaned_usd -= back_usd
            self.lender.loaned_usd += back_usd
        if self.borrower.priority == self.during:
            self.borrower.priority, self.borrower.hurried = self.before, None


def owe(lender: Budget, borrower: Budget, usd: float) -> None:
    """Charge a lender for what was spent of a loan whose kernel has ended, and the loan with it."""
    own, spent = borrower.microusd, borrower.microusd.spent
    used = min(to_microusd(usd), max(0, spent - (own.allocated or 0)), lender.microusd.left or 0)
    if own.allocated is not None and used:
        lender.microusd.give(used, own)


_LOANS: set[asyncio.Task[None]] = set()
"""The loop itself does not keep tasks alive."""
