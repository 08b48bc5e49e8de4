"""Traces as they are: read and followed, never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from llmos.errors import NotPermittedError
from llmos.memory.traces import TraceStore
from llmos.trace.program import Status, Trace


class FrozenTraces(TraceStore):
    """A trace store that refuses every change; the shipped demonstrations alone are brought up to date."""

    frozen = True

    async def add(self, trace: Trace, *, runs: Sequence[str] = ()) -> Trace:
        _refuse()

    async def supersede(self, known: Trace, trace: Trace, *, runs: Sequence[str] = ()) -> Trace | None:
        _refuse()

    async def add_wording(self, trace_id: str, template: str) -> Trace:
        _refuse()

    async def absorb(self, trace: Trace, other_id: str) -> None:
        _refuse()

    async def set_status(self, trace_id: str, status: Status, reason: str) -> None:
        _refuse()

    async def forget(self, trace_id: str) -> None:
        _refuse()

    async def add_negative(self, trace_id: str, goal: str) -> None:
        _refuse()

    async def drop_negative(self, trace_id: str, goal: str) -> None:
        _refuse()

    async def record_use(self, trace_id: str, ok: bool, saved_usd: float) -> None:
        _refuse()


def _refuse() -> NoReturn:
    raise NotPermittedError("the traces of this home are frozen; leave --frozen (or LLMOS_FROZEN, or `frozen`) out.")
