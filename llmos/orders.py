"""What is done without anybody at the keyboard: interrupts, and the standing orders that raise some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

MOST_FAILURES = 5
"""An order whose runs fail so often in a row is paused."""


class InterruptKind(StrEnum):
    """What an interrupt comes from."""

    USER = "user"
    TIMER = "timer"
    FILE = "file"
    CHILD = "child"
    BUDGET = "budget"
    RATE_LIMIT = "rate limit"


@dataclass(frozen=True, kw_only=True)
class Interrupt:
    """Something that a process is to be told, or that begins one.

    `run_id` is the run of the process it is for, `order` the name of the standing order that raised it. One of the same
    `key` is raised once; '' stands for none.
    """

    id: int = 0
    kind: InterruptKind
    run_id: str = ""
    pid: int | None = None
    order: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    created_at: datetime
    delivered_at: datetime | None = None

    @property
    def text(self) -> str:
        """What is said to a model, or the goal that begins."""
        return str(self.payload.get("text", ""))


@dataclass(frozen=True, kw_only=True)
class Job:
    """A goal to be reached later, as whoever set it up had it.

    It is followed, and nobody is asked for money, unless it `may_learn`; `budget_usd` is what each run may spend then.
    `environ` holds the variables that set LLM OS up, and no other.
    """

    goal: str
    workspace: str
    plugins: tuple[str, ...] = ()
    model: str | None = None
    audit_rate: float | None = None
    frozen: bool | None = None
    again: bool = False
    may_learn: bool = False
    budget_usd: float | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


class OrderState(StrEnum):
    """Whether an order holds; OVER: what it was for has been done."""

    ACTIVE = "active"
    PAUSED = "paused"
    OVER = "over"


RUNNING = "running"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A standing order, and what came of it: `last_status` is that of its last run, `failures` those in a row."""

    id: int = 0
    job: Job
    created_at: datetime
    state: OrderState = OrderState.ACTIVE
    reason: str = ""
    runs: int = 0
    failures: int = 0
    skipped: int = 0
    last_run_id: str = ""
    last_status: str = ""
    last_said: str = ""
    last_at: datetime | None = None
    spent_usd: float = 0.0
    note: str = ""

    @property
    def is_active(self) -> bool:
        return self.state is OrderState.ACTIVE

    @property
    def is_running(self) -> bool:
        return self.last_status == RUNNING

    @property
    def name(self) -> str:
        """How interrupts name it."""
        return f"{type(self).__name__.lower()} {self.id}"


@dataclass(frozen=True, kw_only=True)
class Schedule(Order):
    """A goal at certain times: `every_s` seconds, at the times of a `cron` expression, or once `at`."""

    every_s: float | None = None
    cron: str = ""
    at: datetime | None = None
    timezone: str = "UTC"
    said: str = ""
    skip_missed: bool = False
    next_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Watch(Order):
    """A goal whenever something changes at or below `path`; `{path}` in it stands for the file that changed.

    `left_out` is how many files were not served, since their names can't stand in a goal.
    """

    path: str
    left_out: int = 0


AnyOrder: TypeAlias = "Schedule | Watch"


def begun(order: Any, run_id: str, now: datetime) -> Any:
    """The order, whose goal is a run now."""
    note = order.note if isinstance(order, Watch) else ""  # whoever was left out for a name still is
    return replace(
        order, runs=order.runs + 1, last_run_id=run_id, last_status=RUNNING, last_said="", last_at=now, note=note
    )


def ended(order: Any, *, run_id: str, status: str, said: str, cost_usd: float) -> Any:
    """The order after a run of it; paused where too many in a row have failed."""
    if order.last_run_id != run_id:
        return order
    has_failed = status == "failed"
    failures = order.failures + 1 if has_failed else 0 if status == "done" else order.failures
    order = replace(order, last_status=status, last_said=said, failures=failures, spent_usd=order.spent_usd + cost_usd)
    if failures < MOST_FAILURES or not order.is_active:
        return order
    return replace(order, state=OrderState.PAUSED, reason=f"{failures} runs in a row failed, the last one: {said}")


def left_out(watch: Watch, names: Sequence[str]) -> Watch:
    """The watch, of whose files some were left out for their names."""
    if not names:
        return watch
    number = watch.left_out + len(names)
    who = f"{number} file{'s' * (number > 1)} left out, whose name{'s' * (number > 1)} can't stand in a goal"
    last = "the last was " if number > 1 else ""
    return replace(watch, left_out=number, note=f"{who}: {last}{names[-1]!r}")


def skipped(order: Any, why: str) -> Any:
    """The order, of which a run was left out."""
    return replace(order, skipped=order.skipped + 1, note=why)
