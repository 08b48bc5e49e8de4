"""A memory with everything that retention looks at, and what must be the same after anything was removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from llmos.interfaces.housekeeping import Freed, Housekeeping
from llmos.kernel.token_economy import TokenEconomy
from llmos.memory.audit_anchor import Anchor
from llmos.memory.audit_archive import Archive
from llmos.memory.audit_chain import AuditChain
from llmos.memory.audit_log import AuditLog
from llmos.memory.backups import Backups
from llmos.memory.database import Database
from llmos.memory.home_files import HomeFiles
from llmos.memory.index import VectorIndex
from llmos.memory.journal import JournalStore
from llmos.memory.ledger import Ledger
from llmos.memory.outcomes import Judge, Outcomes
from llmos.memory.recall import Recall
from llmos.memory.retention import Retention
from llmos.memory.runs import RunStore
from llmos.memory.taints import TaintStore
from llmos.memory.traces import TraceStore
from llmos.settings import RetentionSettings
from llmos.testing import FrozenClock, HashEmbedder
from llmos.trace.effects import JournalEntry, Outcome, Reach
from llmos.trace.program import Effect
from llmos.trace.run import Mode, Run, RunStatus, Source, StepRecord
from tests.contract.memory_lab import NOW, a_trace

UNDO_DAYS = 30.0
LIMITS = RetentionSettings(runs_days=90, savings_days=90, max_runs=1_000)


@dataclass(frozen=True, kw_only=True)
class Deed:
    """A run to be stored, so many days before NOW: its goal, its trace, its cost, what it changed and what of it."""

    days: float
    goal: str = "Count the lines of a.csv"
    trace: str | None = "count-lines"
    status: RunStatus = RunStatus.DONE
    cost_usd: float = 0.0
    effect: Outcome | None = None
    is_proof: bool = False
    is_failure: bool = False
    leaves_open: bool = False


class Hand(FrozenClock):
    """A clock whose hand can be set."""

    def set(self, now: datetime) -> None:
        self._now = now


class Memory:
    """The stores over one file, wired as boot does."""

    def __init__(
        self, folder: Path, db: Database, chain: AuditChain, limits: RetentionSettings, newest: int, clock: Hand
    ) -> None:
        self.clock = clock
        self.is_busy = False
        self.folder, self.db, self.limits = folder, db, limits
        index = VectorIndex(folder / "vectors.faiss")
        self.archive = Archive(folder / "audit")
        self.log = AuditLog(db, chain, self.archive)
        self.runs = RunStore(db, clock=self.clock)
        self.traces = TraceStore(db, index, clock=self.clock)
        self.outcomes = Outcomes(db, clock=self.clock)
        self.journal = JournalStore(db, clock=self.clock)
        self.taints = TaintStore(db, clock=self.clock)
        self.recall = Recall(db, self.traces, index, HashEmbedder())
        self.ledger = Ledger(db)
        self.retention = Retention(db, limits, undo_days=UNDO_DAYS, newest=newest, clock=self.clock)

    def open_account(self) -> None:
        self.economy = TokenEconomy(budget_usd=100.0, ledger=self.ledger, clock=self.clock)

    @property
    def house(self) -> Housekeeping:
        backups = Backups(self.folder / "backups", clock=self.clock, kept=self.limits.backups)
        return Housekeeping(
            retention=self.retention,
            audit_log=self.log,
            database=self.db,
            files=HomeFiles(self.folder, self.limits, backups),
            settings=self.limits,
            is_busy=lambda: self.is_busy,
            clock=self.clock,
        )

    async def collect(self) -> Freed:
        return await self.house.collect()

    async def live(self, deeds: Sequence[Deed]) -> list[str]:
        """Store runs, the oldest first; gives their ids in that order."""
        ids = []
        for number, deed in enumerate(sorted(deeds, key=lambda deed: -deed.days)):
            self.clock.set(NOW - timedelta(days=deed.days))
            ids.append(f"{number:012x}")
            await self._do(ids[-1], deed)
        self.clock.set(NOW)
        return ids

    async def _do(self, run_id: str, deed: Deed) -> None:
        step = StepRecord(index=0, tool="read", args={"path": "a.csv"}, output="3", effect=Effect.READ)
        run = Run(
            id=run_id,
            goal=deed.goal,
            mode=Mode.LEARNER if deed.cost_usd else Mode.FOLLOWER,
            trace_id=deed.trace,
            trace_version=1 if deed.trace else None,
            started_at=self.clock(),
        )
        await self.runs.start(run)
        if deed.cost_usd or deed.leaves_open:
            held = self.economy.reserve(1.0, run_id, "learn")
            if not deed.leaves_open:
                self.economy.settle(held, deed.cost_usd)
        if deed.effect is not None:
            await self.effect(run_id, "write", deed.effect)
            await self.taints.add(run_id, [Source(tool="read", place="a.csv", step=0)])
        if deed.trace is not None:
            await self.outcomes.judge(deed.trace, run_id, ok=not deed.is_failure, by=Judge.REPLAY)
            self.economy.book_saving(run_id, 0.25)
        if deed.is_proof:
            await self.traces.add(replace(a_trace(f"proof-of-{run_id}"), run_id=run_id))
        ended = replace(run, status=deed.status, answer="3", cost_usd=deed.cost_usd, steps=(step,))
        if deed.status is not RunStatus.RUNNING:
            await self.runs.finish(ended)

    async def effect(self, run_id: str, tool: str, outcome: Outcome, **arguments: Any) -> None:
        """A journal entry with its outcome; one of outcome OPEN stays open."""
        entry = await self.journal.intend(
            JournalEntry(
                run_id=run_id,
                step=0,
                tool=tool,
                tool_version="1",
                effect=Effect.WRITE,
                key=f"{tool} {run_id}",
                arguments=arguments,
                workspace="/w",
                reach=Reach.EXACT,
                began_at=self.clock(),
            )
        )
        if outcome is not Outcome.OPEN:
            await self.journal.conclude(replace(entry, outcome=outcome))

    async def what_must_stay(self, goals: Sequence[str], run_ids: Sequence[str]) -> dict[str, Any]:
        """All that no removal may change."""
        await self.recall.embed("Count things")
        embedding = await self.recall.embed("Count the lines of a.csv")
        proven = [
            run for trace in await self.traces.list() for run in await self.traces.runs_of(await self.got(trace.id))
        ]
        last = await self.runs.last_answered()
        entries = {run: await self.journal.of_run(run) for run in run_ids}
        unsettled = (Outcome.OPEN, Outcome.UNKNOWN)
        recent = self.clock() - timedelta(days=UNDO_DAYS)
        return {
            "exact": {goal: [trace.id for trace in await self.recall.exact(goal)] for goal in goals},
            "balance": self.ledger.balance_microusd(),
            "totals": self.ledger.totals(),
            "reservations": self.ledger.open_reservations(),
            "money": [row for row in self.ledger.entries() if row.kind != "saving"],
            "estimates": [await self.runs.learner_costs(one, k=1_000) for one in (None, embedding)],
            "undoable": {
                run: found
                for run, found in entries.items()
                if any(one.outcome in unsettled or (one.began_at and one.began_at >= recent) for one in found)
            },
            "proven": {run: await self.runs.get(run) for run in proven},
            "last": last,
            "negatives": await self.traces.negatives("count-lines"),
            "wrong": [await self.traces.wrong_for(goal) for goal in goals],
            "record": await self.outcomes.record("count-lines"),
            "whole": (await self.log.verify()).findings,
        }

    async def got(self, trace_id: str) -> Any:
        return await self.traces.get(trace_id)


@asynccontextmanager
async def a_memory(folder: Path, limits: RetentionSettings = LIMITS, *, newest: int = 0) -> AsyncIterator[Memory]:
    """A memory as boot opens and closes it, with two traces; of the newest runs none stays for being new."""
    clock = Hand(NOW if (folder / "llmos.duckdb").exists() else NOW - timedelta(days=500))
    chain = AuditChain(Anchor(folder / "audit-anchor.json"), principal="ada", clock=clock)
    async with Database(folder / "llmos.duckdb", witness=chain) as db:
        memory = Memory(folder, db, chain, limits, newest, clock)
        await memory.log.open()
        memory.open_account()
        if not await memory.traces.list():
            await memory.traces.add(a_trace())
            await memory.traces.add(a_trace("sum-of", "Sum up {source}"))
        try:
            yield memory
        finally:
            await memory.log.close()


async def count(memory: Memory, table: str) -> int:
    row = await memory.db.run(lambda connection: connection.execute(f"SELECT count(*) FROM {table}").fetchone())
    return int(row[0]) if row else 0
