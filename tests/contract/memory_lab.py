"""What the tests of the memory share: a time, traces to store, and an embedder that tells what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from llmos.testing import HashEmbedder
from llmos.trace.program import Provenance, Slot, SlotType, Status, Step, Trace
from llmos.trace.values import Const, SlotRef

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def a_trace(trace_id: str = "count-lines", *goals: str, status: Status = Status.TRUSTED) -> Trace:
    return Trace(
        id=trace_id,
        goals=goals or ("Count the lines of {source}",),
        slots=(Slot(name="source", type=SlotType.PATH),),
        steps=(Step(id="read", tool="read", args={"path": SlotRef(name="source"), "limit": Const(value=10)}),),
        status=status,
        cost_usd=0.41,
    )


def shipped(trace_id: str, *goals: str) -> Trace:
    return replace(a_trace(trace_id, *goals), provenance=Provenance.DEMONSTRATION, cost_usd=0.0)


class CountingEmbedder(HashEmbedder):
    """Knows which texts it was asked for."""

    def __init__(self, model_name: str = "hash-384") -> None:
        self.model_name = model_name
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Any:
        self.asked += texts
        return super().encode(texts)
