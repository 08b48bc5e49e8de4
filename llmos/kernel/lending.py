"""Lending: for a time a process spends a part of another one's budget, and is as urgent as that one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

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
        before, during = borrower.priority, min(borrower.priority, lender.priority)
        borrower.priority = during
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
            self.borrower.budget.pay_back(self.usd, self.lender.budget)
        if self.borrower.priority == self.during:
            self.borrower.priority = self.before


_LOANS: set[asyncio.Task[None]] = set()
"""The loop itself does not keep tasks alive."""
