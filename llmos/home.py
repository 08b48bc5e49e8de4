"""What is open once for a home, whoever works with it: its database with the audit log, its vectors, its journal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Self

from llmos.errors import StorageError
from llmos.interfaces import session_room
from llmos.interfaces.housekeeping import Housekeeping
from llmos.kernel.budget import Budget
from llmos.kernel.interrupts import Interrupts
from llmos.kernel.journal import Journal
from llmos.kernel.lending import owe
from llmos.kernel.outages import Outages
from llmos.kernel.process import Kind, Process, State
from llmos.kernel.process_table import ProcessTable
from llmos.kernel.scratch import remove_leftovers
from llmos.kernel.turns import Turns
from llmos.kernel.watched import Sight
from llmos.memory.approvals import Approvals
from llmos.memory.audit_anchor import Anchor
from llmos.memory.audit_archive import Archive
from llmos.memory.audit_chain import AuditChain
from llmos.memory.audit_log import AuditLog
from llmos.memory.backups import Backups
from llmos.memory.context_use import ContextUse
from llmos.memory.database import Database
from llmos.memory.embeddings import SentenceTransformerEmbedder
from llmos.memory.home_files import HomeFiles
from llmos.memory.index import VectorIndex
from llmos.memory.interrupts import InterruptStore
from llmos.memory.journal import JournalStore
from llmos.memory.ledger import Ledger
from llmos.memory.orders import OrderStore
from llmos.memory.processes import Checkpoint, ProcessStore
from llmos.memory.recall import Recall
from llmos.memory.replays import ReplayLog
from llmos.memory.retention import Retention
from llmos.memory.runs import RunStore
from llmos.memory.sessions import SessionStore
from llmos.memory.standing import StandingStore
from llmos.memory.store import SemanticMemory
from llmos.memory.system_parses import SystemParses
from llmos.memory.taints import TaintStore
from llmos.memory.traces import TraceStore
from llmos.orders import Schedule, Watch
from llmos.redaction import Redactors

if TYPE_CHECKING:
    from types import TracebackType

    from llmos.interfaces.post import Post
    from llmos.kernel.agents import Agent
    from llmos.memory.embeddings import Embedder
    from llmos.redaction import Redactor
    from llmos.settings import Settings
    from llmos.trace.program import Trace


class OpenHome:
    """The memory of one home, held by this process alone. Several LLMOS may share it, each with settings of its own.

    `settings` are those of whoever opens it; of them only what `fits` compares counts for everybody.
    """

    def __init__(self, settings: Settings, *, embedder: Embedder | None = None, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.money = threading.RLock()
        self.processes = ProcessTable(clock=clock)
        self.turns = Turns()
        self.outages = Outages()
        self.is_ending = self.is_letting_go = False
        self._ending: set[asyncio.Task[None]] = set()
        self._has_offered = False
        self.left: list[Checkpoint] = []
        self.background: set[asyncio.Task[None]] = set()
        self._demonstrated: set[str] = set()
        self.redactors = Redactors()
        self._clock = clock
        self._is_settled = False
        self._at_work = 0
        self._stack = AsyncExitStack()
        stamp = settings.memory / "model.json"
        embedder = embedder or SentenceTransformerEmbedder(settings.embedding_model, stamp=stamp)
        chain = AuditChain(Anchor(settings.anchor), redact=self.redactors.text, clock=clock)
        self.copies = Backups(settings.backups, clock=clock, kept=settings.retention.backups)
        self.database = Database(settings.database, witness=chain, redactor=self.redactors, backups=self.copies)
        self.audit_log = AuditLog(self.database, chain, Archive(settings.audit_archive))
        self.index = VectorIndex(settings.vectors)
        self.traces = TraceStore(self.database, self.index, clock=clock)
        self.runs = RunStore(self.database, clock=clock)
        self.effects = JournalStore(self.database, clock=clock)
        self.taints = TaintStore(self.database, clock=clock)
        self.approvals = Approvals(self.database, clock=clock)
        self.raised = InterruptStore(self.database, clock=clock)
        self.interrupts = Interrupts(self.raised, self.processes, clock=clock)
        self.processes.listeners.append(self.interrupts.child_ended)
        self.schedules = OrderStore(self.database, Schedule, clock=clock)
        self.watches = OrderStore(self.database, Watch, clock=clock)
        self.sight = Sight()
        self.system_parses = SystemParses(self.database, clock=clock)
        self.checkpoints = ProcessStore(self.database, clock=clock)
        self.sessions = SessionStore(self.database)
        self.standing_runs = StandingStore(self.database)
        self.context_use = ContextUse(self.database)
        self.facts = SemanticMemory(self.database, embedder, clock=clock, use=self.context_use)
        self.recall = Recall(self.database, self.traces, self.index, embedder)
        self.ledger = Ledger(self.database)
        self.replays = ReplayLog(self.database, clock=clock)
        self.journal = Journal(
            self.effects,
            settings.memory / "images",
            settings.journal,
            redact=self.redactors.text,
            closed=(settings.memory,),
            clock=clock,
        )
        limits, undo_days = settings.retention, settings.journal.keep_days
        self.retention = Retention(self.database, limits, undo_days=undo_days, clock=clock)
        self.housekeeping = Housekeeping(
            retention=self.retention,
            audit_log=self.audit_log,
            database=self.database,
            files=HomeFiles(settings.memory, limits, self.copies),
            settings=limits,
            is_busy=lambda: self._at_work > 0,
            clock=clock,
        )

    def fits(self, settings: Settings) -> bool:
        """Whether somebody with these settings may share it."""
        own = self.settings
        return _shared(own) == _shared(settings)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A goal is at work, for the length of a block; the house is kept after it."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            self.housekeeping.after_goal()

    async def open(self) -> None:
        """Open the database, compare the audit log with its anchor, and judge what a crash left open.

        Raises:
            StorageError: it can't be opened (`DatabaseLockedError` names the process that holds it).
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.database)
            stack.push_async_callback(self.audit_log.close)
            await self.audit_log.open()
            stack.push_async_callback(self.journal.aclose)
            stack.push_async_callback(self.replays.close)
            stack.push_async_callback(self.context_use.store)
            stack.push_async_callback(self.recall.close)
            stack.push_async_callback(self.housekeeping.aclose)
            self._restore(await self.checkpoints.list())
            await self.journal.settle_open()
            await self.interrupts.open()
            await self.journal.prune_if_due()
            remove_leftovers(self.settings.memory)
            session_room.remove_leftovers(self.settings.environment)
            self._stack = stack.pop_all()

    def _restore(self, left: list[Checkpoint]) -> None:
        """Put the processes that an earlier kernel left into the table; they stand still there."""
        self.left = left
        for one in left:
            parent = next((each for each in self.processes if each.pid == one.parent), None)
            budget = Budget(one.budget_usd, tokens=one.budget_tokens, parent=None if parent is None else parent.budget)
            process = self.processes.restore(
                one.pid,
                one.goal,
                kind=Kind(one.kind),
                priority=one.priority,
                parent=None if parent is None else parent.pid,
                run_id=one.run_id,
                budget=budget,
                created_at=datetime.fromisoformat(one.began_at),
                left=one,
                above=tuple(map(Kind, one.above)),
                origin=one.origin,
            )
            process.turns, process.steps, process.mode = (
                one.turns,
                one.steps,
                one.mode if one.mode not in ("", "auto") else "learner",
            )
            process.held_s = one.held_s
            process.context_tokens, process.context_max = one.context_tokens, one.context_max
            process.tokens_in, process.tokens_out = one.tokens - one.tokens_out, one.tokens_out
            process.blocks, process.workspace = dict(one.blocks), Path(one.workspace)
            process.agent = _agent(one)

    async def settled_left(self, charged_usd: Mapping[str, float]) -> None:
        """What was open of processes that an earlier kernel left is charged, by their runs: they have spent it."""
        left = [one for one in self.processes if isinstance(one.left, Checkpoint)]
        for process in left:
            spent_usd, known = process.left.spent_usd, charged_usd.get(process.run_id)
            if process.left.is_replay:
                spent_usd = self.ledger.spent_usd(process.run_id)
            elif known is not None:
                spent_usd += known - process.left.open_usd
            process.spend(spent_usd, process.left.tokens)
            process.left = replace(process.left, spent_usd=spent_usd, open_usd=0.0, is_asking=False)
        for process in left:
            for lender in (one for one in left if one.run_id in process.left.borrowed):
                owe(lender.budget, process.budget, process.left.borrowed[lender.run_id])
        await self.keep(*left)

    async def keep(self, *processes: Process) -> None:
        """Keep how these processes stand now, where a later kernel could go on with them."""
        kept = []
        for process in processes:
            if process.keep is not None:
                kept.append(process.keep())
            elif isinstance(process.left, Checkpoint) and process.is_alive:
                process.left = replace(
                    process.left,
                    budget_usd=process.own_usd,
                    priority=process.own_priority,
                    borrowed=dict(process.borrowed),
                )
                kept.append(process.left)
        if kept:
            await self.checkpoints.put(*kept)

    async def close(self) -> None:
        """Finish what was asked for, and let go of the files."""
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def offered(self) -> list[int]:
        """The numbers of the processes that an earlier kernel left, the first time; nothing later."""
        if self._has_offered:
            return []
        self._has_offered = True
        return [one.pid for one in self.processes if one.left is not None and one.state is State.SUSPENDED]

    @property
    def has_background_work(self) -> bool:
        """Whether a process that nobody waits for is at work, or may soon be; one that is suspended waits for ever."""
        standing = {one.task for one in self.processes if one.state is State.SUSPENDED}
        at_work = [one for one in self.processes if one.is_alive and one.task is not None and one.task not in standing]
        return bool(self.background) and bool(at_work)

    def let_go(self) -> None:
        """End what stands still, or comes to: its checkpoint is kept, so that the next kernel can go on with it."""
        if self.is_letting_go:
            return
        self.is_ending = self.is_letting_go = True
        for process in self.processes:
            if process.is_alive and process.task is not None:
                task = asyncio.create_task(_end_where_it_stands(process))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    @contextmanager
    def without_secrets_of(self, redactor: Redactor) -> Iterator[None]:
        """Store nothing that this redactor takes out, whoever writes it, for the length of a block."""
        with self.redactors.joined_by(redactor):
            yield

    async def warm(self) -> None:
        """Have ready what a process that stays has time to get ready: the encoder, and which goals were done before."""
        await self.database.learn_goals()
        await self.recall.warm()

    async def demonstrate(self, files: Sequence[Path], load: Callable[[], list[Trace]]) -> None:
        """Bring shipped traces up to date; those of files that are as they were last time are not even read."""
        stamp = sha256(repr(sorted(map(_stamp, files))).encode()).hexdigest()
        if stamp not in self._demonstrated and not await self.traces.has_demonstrated(stamp):
            await self.traces.put_demonstrations(load(), stamp=stamp)
        self._demonstrated.add(stamp)

    @cached_property
    def post(self) -> Post:
        """What carries messages between processes."""
        from llmos.interfaces.post import Post
        from llmos.memory.mail import MailStore

        return Post(
            store=MailStore(self.database, clock=self._clock),
            processes=self.processes,
            recall=self.recall,
            clock=self._clock,
        )

    async def close_mailbox(self, run_id: str) -> None:
        """A process is over: what nobody read is dead, unless the process is kept for the next kernel."""
        if "post" in self.__dict__ and not self.is_ending:
            with suppress(StorageError):  # the home is closed already: the next kernel finds that nobody is there
                await self.post.closed(run_id)

    def settles(self) -> bool:
        """Whether nobody asked before: who is the first charges what an earlier process left unsettled."""
        first, self._is_settled = not self._is_settled, True
        return first


async def _end_where_it_stands(process: Process) -> None:
    while process.is_alive:
        if process.state is State.SUSPENDED and process.task is not None:
            process.task.cancel()
            return
        await process.moves()


def _agent(checkpoint: Checkpoint) -> Agent | None:
    """The agent that a process works as: the profile as it was when the process began."""
    if checkpoint.agent is None:
        return None
    from llmos.kernel.agents import Agent

    return Agent.from_data(checkpoint.agent)


def _shared(settings: Settings) -> tuple[object, ...]:
    """The settings that hold for everybody who uses a home."""
    return settings.memory.resolve(), settings.embedding_model, settings.journal, settings.retention


def _stamp(file: Path) -> tuple[str, int, int]:
    """What changes when a file does; a file that is gone has none."""
    try:
        found = file.stat()
    except OSError:
        return str(file), 0, 0
    return str(file), found.st_mtime_ns, found.st_size
