"""The one place where the parts are wired: boot, execute, shut down."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llmos.errors import GoalError, SettingsError, TraceFormatError, UsageError
from llmos.interfaces.results import Confirm, Explanation, Question, Result
from llmos.kernel.bus import EventBus
from llmos.redaction.logs import guarded
from llmos.settings import Settings, load_settings

if TYPE_CHECKING:
    from types import TracebackType

    from llmos.interfaces.admission import Admission
    from llmos.interfaces.deciding import Deciding
    from llmos.interfaces.dispatcher import Dispatcher
    from llmos.interfaces.explaining import Explaining
    from llmos.interfaces.feedback import Feedback
    from llmos.interfaces.housekeeping import Housekeeping
    from llmos.interfaces.learner import Learner
    from llmos.interfaces.learning import Learning
    from llmos.interfaces.reviving import Reviving
    from llmos.interfaces.surroundings import Surroundings
    from llmos.interfaces.undoing import Undoing
    from llmos.interfaces.witnessing import Witnessing
    from llmos.kernel.journal import Journal
    from llmos.kernel.permissions import Permissions
    from llmos.kernel.proof import Prover
    from llmos.kernel.sandbox.sandbox import Sandbox
    from llmos.kernel.scheduler import Scheduler
    from llmos.kernel.taint import Taint
    from llmos.kernel.token_economy import TokenEconomy
    from llmos.memory.approvals import Approvals
    from llmos.memory.audit_log import AuditLog
    from llmos.memory.backups import Backups
    from llmos.memory.database import Database
    from llmos.memory.embeddings import Embedder
    from llmos.memory.journal import JournalStore
    from llmos.memory.outcomes import Outcomes
    from llmos.memory.retention import Retention
    from llmos.memory.runs import RunStore
    from llmos.memory.store import SemanticMemory
    from llmos.memory.traces import TraceStore
    from llmos.plugins.loader import PluginLoader
    from llmos.plugins.mcp import McpTools
    from llmos.plugins.registry import ToolRegistry
    from llmos.trace.program import Trace

__all__ = ["LLMOS", "Confirm", "Explanation", "Question", "Result"]

MODES = ("auto", "follow", "learn")


def _now() -> datetime:
    return datetime.now(UTC)


class LLMOS:
    """A running LLM OS.

    `budget_usd` charges a new battery and caps what this instance may spend; None leaves both to the settings
    (whose own `budget_usd` only caps).
    `learner`, `embedder`, `clock` and `chance` (a number from 0 to 1, for audits) replace the built-in ones. After
    `boot` the parts are attributes.
    """

    settings: Settings
    registry: ToolRegistry
    plugins: PluginLoader
    mcp: McpTools
    economy: TokenEconomy
    runs: RunStore
    traces: TraceStore
    outcomes: Outcomes
    memory: SemanticMemory
    database_copies: Backups
    audit_log: AuditLog
    witnessing: Witnessing
    approvals: Approvals
    permissions: Permissions
    taint: Taint
    surroundings: Surroundings
    scheduler: Scheduler
    deciding: Deciding
    feedback: Feedback
    admission: Admission
    dispatcher: Dispatcher
    explaining: Explaining
    reviving: Reviving
    effects: JournalStore
    journal: Journal
    undoing: Undoing
    retention: Retention
    housekeeping: Housekeeping

    def __init__(
        self,
        budget_usd: float | None = None,
        *,
        settings: Settings | None = None,
        learner: Learner | None = None,
        embedder: Embedder | None = None,
        clock: Callable[[], datetime] = _now,
        chance: Callable[[], float] = random.random,
        confirm: Confirm | None = None,
    ) -> None:
        loaded = settings if settings is not None else load_settings(budget_usd=budget_usd)
        self.settings = loaded if budget_usd is None else dataclasses.replace(loaded, budget_usd=budget_usd)
        self._first_charge_usd = loaded.initial_usd if budget_usd is None else budget_usd
        self.redactor = self.settings.redactor
        self.bus = EventBus(redact=self.redactor.record)
        self._learner = learner
        self._embedder = embedder
        self._clock = clock
        self._chance = chance
        self._confirm = confirm
        self._stack: AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        await self.boot()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def boot(self) -> None:
        """Open memory, load tools and traces; a second call does nothing.

        Raises:
            StorageError: memory can't be opened (`DatabaseLockedError` names the process that holds it).
            SettingsError: a setting that can't be used.
        """
        if self._stack is not None:
            return
        async with AsyncExitStack() as stack:
            stack.enter_context(guarded(self.redactor))
            await self._open_memory(stack)
            await self._open_journal(stack)
            await self._load_tools(stack)
            await self.traces.put_demonstrations(self._demonstrations())
            await self._wire(stack)
            self._keep_house(stack)
            self._stack = stack.pop_all()

    async def shutdown(self) -> None:
        """Stop what runs and close what is open, in the reverse order; may be called twice."""
        stack, self._stack = self._stack, None
        if stack is not None:
            await stack.aclose()

    async def execute(
        self,
        goal: str,
        *,
        mode: str = "auto",
        confirm: Confirm | None = None,
        priority: int = 10,
        again: bool = False,
    ) -> Result:
        """Carry a goal out: follow a proven trace for $0, or learn it.

        `mode`: auto, follow (never ask a model) or learn (always); `priority` 0 is served first. A goal whose earlier
        run still stands is only told of, unless it is to be done `again`.

        Raises:
            LLMOSError: the goal was refused or failed; its attribute `result` holds what is known of the run.
        """
        self._check(goal, mode)
        self.plugins.rescan()
        asked = confirm if confirm is not None else self._confirm
        goal = self.redactor.named(goal)
        try:
            result = await self.scheduler.submit(
                lambda: self.dispatcher.handle(goal, mode=mode, confirm=asked, again=again),
                priority=priority,
                name=self.redactor.text(goal)[:60],
            )
        except BaseException as error:
            self.redactor.error(error)
            raise
        finally:
            self.housekeeping.after_goal()
        return self.redactor.record(result)

    async def explain(self, goal: str, *, mode: str = "auto", again: bool = False) -> Explanation:
        """What `execute` would do with a goal, why, and at what cost; nothing is done."""
        self._check(goal, mode)
        self.plugins.rescan()
        said = await self.explaining.explain(self.redactor.named(goal), mode=mode, again=again)
        return self.redactor.record(said)

    def _check(self, goal: str, mode: str) -> None:
        if self._stack is None:
            raise UsageError("LLMOS is not running: await boot() first.")
        if not isinstance(goal, str):
            raise GoalError(f"the goal must be text, not {type(goal).__name__}.")
        if mode not in MODES:
            raise UsageError(f"mode {mode!r} is not known; choose one of {', '.join(MODES)}.")

    # --- wiring --------------------------------------------------------------------------------------

    async def _open_memory(self, stack: AsyncExitStack) -> None:
        from llmos.kernel.token_economy import TokenEconomy
        from llmos.memory.approvals import Approvals
        from llmos.memory.embeddings import SentenceTransformerEmbedder
        from llmos.memory.frozen import FrozenTraces
        from llmos.memory.index import VectorIndex
        from llmos.memory.journal import JournalStore
        from llmos.memory.ledger import Ledger
        from llmos.memory.outcomes import Outcomes
        from llmos.memory.recall import Recall
        from llmos.memory.runs import RunStore
        from llmos.memory.standing import StandingStore
        from llmos.memory.store import SemanticMemory
        from llmos.memory.taints import TaintStore
        from llmos.memory.traces import TraceStore

        stamp = self.settings.memory / "model.json"
        embedder = self._embedder or SentenceTransformerEmbedder(self.settings.embedding_model, stamp=stamp)
        database = self._database = await self._open_database(stack)
        index = VectorIndex(self.settings.vectors)
        store = FrozenTraces if self.settings.frozen else TraceStore
        self.traces = store(database, index, clock=self._clock)
        half_life = timedelta(days=self.settings.reliability.half_life_days)
        self.outcomes = Outcomes(database, half_life=half_life, clock=self._clock)
        self.runs = RunStore(database, clock=self._clock)
        self.effects = JournalStore(database, clock=self._clock)
        self._taints = TaintStore(database, clock=self._clock)
        self.approvals = Approvals(database, clock=self._clock)
        self._standing_runs = StandingStore(database)
        self.memory = SemanticMemory(database, embedder, clock=self._clock)
        self._recall = Recall(database, self.traces, index, embedder)
        stack.push_async_callback(self._recall.close)
        self.economy = TokenEconomy(
            budget_usd=self._first_charge_usd,
            ledger=Ledger(database),
            bus=self.bus,
            clock=self._clock,
            cap_usd=self.settings.budget_usd,
        )
        for reservation in self.economy.charged_at_boot:
            await self.runs.add_cost(reservation.run_id, reservation.amount_usd)

    async def _open_database(self, stack: AsyncExitStack) -> Database:
        """The database with its audit log, which records from the first transaction on."""
        from llmos.interfaces.witnessing import Witnessing
        from llmos.memory.audit_anchor import Anchor
        from llmos.memory.audit_archive import Archive
        from llmos.memory.audit_chain import AuditChain
        from llmos.memory.audit_log import AuditLog
        from llmos.memory.backups import Backups
        from llmos.memory.database import Database

        redact = self.redactor.text
        chain = AuditChain(Anchor(self.settings.anchor), redact=redact, clock=self._clock)
        kept = self.settings.retention.backups
        self.database_copies = Backups(self.settings.backups, clock=self._clock, kept=kept)
        database = await stack.enter_async_context(
            Database(self.settings.database, witness=chain, redactor=self.redactor, backups=self.database_copies)
        )
        self.audit_log = AuditLog(database, chain, Archive(self.settings.audit_archive))
        self.witnessing = Witnessing(log=self.audit_log, redact=redact)
        stack.push_async_callback(self.audit_log.close)
        await self.audit_log.open()
        await self.witnessing.record_settings(self.settings)
        self.witnessing.listen(self.bus)
        return database

    async def _open_journal(self, stack: AsyncExitStack) -> None:
        """The journal, after what a crash left open was judged and what nobody needs was removed."""
        from llmos.interfaces.undoing import Undoing
        from llmos.kernel.journal import Journal

        memory = self.settings.memory
        images, limits = memory / "images", self.settings.journal
        self.journal = Journal(
            self.effects, images, limits, redact=self.redactor.text, closed=(memory,), clock=self._clock
        )
        stack.push_async_callback(self.journal.aclose)
        self.undoing = Undoing(
            journal=self.journal,
            store=self.effects,
            runs=self.runs,
            workspace=self.settings.workspace,
            closed=frozenset({str(memory.resolve())}),
            clock=self._clock,
        )
        await self.journal.settle_open()
        await self.journal.prune_if_due()

    async def _load_tools(self, stack: AsyncExitStack) -> None:
        from llmos.plugins.confined import DeferredSandbox
        from llmos.plugins.loader import PluginLoader
        from llmos.plugins.mcp import McpTools
        from llmos.plugins.registry import ToolRegistry

        self.registry = ToolRegistry()
        self.plugins = PluginLoader(self.registry, self.bus, self.settings.plugin_dirs)
        self.plugins.load()
        self.mcp = McpTools(
            self.settings.mcp_servers,
            cache=self.settings.memory / "mcp_tools.json",
            cwd=self.settings.workspace,
            sandbox=DeferredSandbox(lambda: self.sandbox),
            is_secret=lambda listing: bool(self.redactor.credentials(listing)),
        )
        stack.push_async_callback(self.mcp.aclose)
        await self.mcp.register(self.registry, start=False)

    async def _wire(self, stack: AsyncExitStack) -> None:
        from llmos.interfaces.surroundings import Surroundings
        from llmos.kernel.permissions import Permissions
        from llmos.kernel.rules import Policy
        from llmos.kernel.scheduler import Scheduler
        from llmos.kernel.taint import Taint
        from llmos.plugins.confined import DeferredSandbox

        learner = self._learner or self._make_learner()
        policy = Policy.of(self.settings.permissions.effective, self.settings.workspace)
        self.taint = Taint(log=self._taints)
        self.permissions = Permissions(policy=policy, approvals=self.approvals, doubts=self.taint)
        surroundings = self.surroundings = Surroundings(
            settings=self.settings,
            facts=self.memory,
            runs=self.runs,
            traces=self.traces,
            economy=self.economy,
            learner=learner,
            redactor=self.redactor,
            now=self._clock,
            middleware=(self.witnessing, self.permissions, self.taint, self.journal),
            sandbox=DeferredSandbox(lambda: self.sandbox),
            gate=None if policy.is_empty else self.permissions,
        )
        self.scheduler = Scheduler(self.settings.scheduler.max_concurrent, self.bus)
        stack.push_async_callback(self.scheduler.close)
        self._wire_matching(surroundings)
        self._wire_doors(surroundings, self._make_learning(surroundings, learner))

    def _wire_matching(self, surroundings: Surroundings) -> None:
        """What decides on goals, and what is said and proven of traces."""
        from llmos.interfaces.admission import Admission
        from llmos.interfaces.deciding import Deciding
        from llmos.interfaces.feedback import Feedback
        from llmos.interfaces.merging import Merging
        from llmos.interfaces.reviving import Reviving
        from llmos.kernel.checks import Files
        from llmos.trace.program import Effect

        world, prover = surroundings.world(self.registry), self._make_prover(surroundings)
        self.feedback = Feedback(
            traces=self.traces, outcomes=self.outcomes, max_failures=self.settings.reliability.max_failures
        )
        self.deciding = Deciding(
            recall=self._recall,
            traces=self.traces,
            world=world,
            bounds={Effect(name): bound for name, bound in self.settings.matching.max_wrong.items()},
            outcomes=self.outcomes,
        )
        self.reviving = Reviving(
            traces=self.traces,
            outcomes=self.outcomes,
            runs=self.runs,
            world=world,
            discover=self.mcp.discover,
            prover=prover,
        )
        self.admission = Admission(
            registry=self.registry,
            traces=self.traces,
            constants=surroundings.constants,
            redactor=self.redactor,
            files=Files(resolve=surroundings.context("").resolve),
            prover=prover,
            merging=Merging(traces=self.traces, runs=self.runs, constants=surroundings.constants),
        )

    def _make_learning(self, surroundings: Surroundings, learner: Learner) -> Learning:
        from llmos.interfaces.learning import Learning
        from llmos.kernel.watchdog import Watchdog

        limits = self.settings.learner
        return Learning(
            learner=learner,
            limits=limits,
            registry=self.registry,
            recall=self._recall,
            admission=self.admission,
            watchdog=Watchdog(timeout_s=limits.timeout_s, max_repeats=limits.max_repeats, bus=self.bus),
            surroundings=surroundings,
            discover=self.mcp.discover,
            taint=self.taint,
            runs=self.runs,
            economy=self.economy,
            bus=self.bus,
        )

    def _wire_doors(self, surroundings: Surroundings, learning: Learning) -> None:
        """What carries goals out, and what explains them."""
        from llmos.interfaces.agreeing import Agreeing
        from llmos.interfaces.approving import Approving
        from llmos.interfaces.auditing import Auditing
        from llmos.interfaces.dispatcher import Dispatcher
        from llmos.interfaces.explaining import Explaining
        from llmos.interfaces.following import Following
        from llmos.interfaces.guiding import Guiding
        from llmos.interfaces.handing import HandingOver
        from llmos.interfaces.judging import Judging
        from llmos.interfaces.standing import Standing

        feedback, world = self.feedback, self.deciding.world
        judging = Judging(settings=self.settings.judge, learner=learning.learner, economy=self.economy, world=world)
        replaying: dict[str, Any] = {
            "registry": self.registry,
            "runs": self.runs,
            "economy": self.economy,
            "bus": self.bus,
            "surroundings": surroundings,
            "discover": self.mcp.discover,
        }
        standing = Standing(
            store=self._standing_runs,
            journal=self.effects,
            runs=self.runs,
            registry=self.registry,
            surroundings=surroundings,
            clock=self._clock,
            is_enabled=self.settings.skip_unchanged,
        )
        following = Following(feedback=feedback, standing=standing, **replaying)
        guiding = Guiding(learning=learning, limits=self.settings.learner, traces=self.traces, world=world, **replaying)
        approving = Approving(
            permissions=self.permissions, taint=self.taint, registry=self.registry, surroundings=surroundings
        )
        self.explaining = Explaining(
            deciding=self.deciding,
            learning=learning,
            guiding=guiding,
            judging=judging,
            runs=self.runs,
            world=world,
            approving=approving,
            standing=standing,
        )
        self.dispatcher = Dispatcher(
            deciding=self.deciding,
            runs=self.runs,
            bus=self.bus,
            clock=self._clock,
            following=following,
            agreeing=Agreeing(feedback=feedback, judging=judging, runs=self.runs, bus=self.bus),
            auditing=Auditing(rate=self.settings.audit_rate, chance=self._chance, learning=learning, feedback=feedback),
            reviving=self.reviving,
            learning=learning,
            guiding=guiding,
            handing=HandingOver(
                learning=learning,
                limits=self.settings.learner,
                registry=self.registry,
                runs=self.runs,
                undoing=self.undoing,
            ),
            approving=approving,
            standing=standing,
        )

    def _keep_house(self, stack: AsyncExitStack) -> None:
        """What removes, after goals, what is past its retention; it ends before the memory is closed."""
        from llmos.interfaces.housekeeping import Housekeeping
        from llmos.memory.home_files import HomeFiles
        from llmos.memory.retention import Retention

        limits, undo_days = self.settings.retention, self.settings.journal.keep_days
        self.retention = Retention(self._database, limits, undo_days=undo_days, clock=self._clock)
        self.housekeeping = Housekeeping(
            retention=self.retention,
            audit_log=self.audit_log,
            database=self._database,
            files=HomeFiles(self.settings.memory, limits, self.database_copies),
            settings=limits,
            is_busy=lambda: self.scheduler.running > 0,
            clock=self._clock,
        )
        stack.push_async_callback(self.housekeeping.aclose)

    def _make_prover(self, surroundings: Surroundings) -> Prover | None:
        """Runs traces again in copies of the workspace; what a crash left of such copies is removed."""
        from llmos.kernel.proof import Prover
        from llmos.kernel.scratch import remove_leftovers

        remove_leftovers(self.settings.memory)
        if not self.settings.proof.enabled:
            return None
        return Prover(
            registry=self.registry,
            limits=self.settings.proof,
            memory=self.settings.memory,
            context=surroundings.context,
            env=surroundings.env,
            secret=surroundings.secret,
        )

    @cached_property
    def sandbox(self) -> Sandbox:
        """The walls around child processes, which keep settings, memory and plugins out of their reach."""
        from llmos.kernel.sandbox.sandbox import Sandbox

        settings = self.settings
        usual = [folder / "plugins" for folder in (settings.checkout, settings.home) if folder is not None]
        return Sandbox(
            settings.sandbox,
            memory=settings.memory,
            bus=self.bus,
            hidden=settings.config_files,
            sealed=tuple(dict.fromkeys([*settings.plugin_dirs, *usual])),
        )

    def _make_learner(self) -> Learner:
        """The learner the settings name: built in, or given by a plugin."""
        from llmos.interfaces.claude_learner import ClaudeLearner
        from llmos.interfaces.provider_learner import ProviderLearner

        factories: dict[str, Callable[..., Any]] = {"claude": ClaudeLearner, "provider": ProviderLearner}
        factories |= self.plugins.learners
        name = self.settings.learner.name
        if name not in factories:
            raise SettingsError(f"there is no learner {name!r}; choose one of {', '.join(sorted(factories))}.")
        learner: Learner = factories[name](settings=self.settings)
        return learner

    def _demonstrations(self) -> list[Trace]:
        """The traces shipped with the package, and those plugins offer; a plugin's broken file is reported."""
        import llmos.shipped

        shipped = llmos.shipped.load()
        for path in self.plugins.trace_dirs:
            try:
                shipped += llmos.shipped.load_from(Path(path))
            except TraceFormatError as error:
                self.plugins.report(str(path), error)
        return shipped
