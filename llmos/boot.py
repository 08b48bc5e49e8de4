"""The one place where the parts are wired: boot, execute, shut down."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, nullcontext
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llmos.deferred import deferred
from llmos.errors import GoalError, TraceFormatError, UsageError
from llmos.interfaces.results import Asked, Confirm, Explanation, Question, Reply, Result
from llmos.kernel.bus import EventBus
from llmos.kernel.process import Kind, Process, Wait, at_work_for, current
from llmos.redaction.logs import guarded
from llmos.settings import Settings, load_settings

if TYPE_CHECKING:
    from types import TracebackType

    from llmos.crew import Crew
    from llmos.home import OpenHome
    from llmos.interfaces.admission import Admission
    from llmos.interfaces.approving import Approving
    from llmos.interfaces.continuing import Continuing
    from llmos.interfaces.deciding import Deciding
    from llmos.interfaces.dispatcher import Dispatcher
    from llmos.interfaces.explaining import Explaining
    from llmos.interfaces.feedback import Feedback
    from llmos.interfaces.housekeeping import Housekeeping
    from llmos.interfaces.learner import Learner
    from llmos.interfaces.models import Models
    from llmos.interfaces.os_calls import ProcessCalls
    from llmos.interfaces.reviving import Reviving
    from llmos.interfaces.standing import Standing
    from llmos.interfaces.surroundings import Surroundings
    from llmos.interfaces.undoing import Undoing
    from llmos.interfaces.witnessing import Witnessing
    from llmos.kernel.agents import Agent
    from llmos.kernel.journal import Journal
    from llmos.kernel.permissions import Permissions
    from llmos.kernel.sandbox.sandbox import Sandbox
    from llmos.kernel.scheduler import Scheduler
    from llmos.kernel.taint import Taint
    from llmos.kernel.token_economy import TokenEconomy
    from llmos.learning_side import LearningSide
    from llmos.memory.approvals import Approvals
    from llmos.memory.audit_log import AuditLog
    from llmos.memory.backups import Backups
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
    `learner`, `embedder`, `clock` and `chance` (a number from 0 to 1, for audits) replace the built-in ones; `home` is
    a home that is open already, and stays so. After `boot` the parts are attributes.
    """

    settings: Settings
    home: OpenHome
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
    dispatcher: Dispatcher
    standing: Standing
    approving: Approving
    effects: JournalStore
    journal: Journal
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
        home: OpenHome | None = None,
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
        self._home = home
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
            await self._load_tools(stack)
            await self.home.demonstrate(self._demonstration_files(), self._demonstrations)
            await self._wire(stack)
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
        kind: Kind | None = None,
        priority: int | None = None,
        budget_usd: float | None = None,
        budget_tokens: int | None = None,
        agent: Agent | None = None,
        again: bool = False,
        run_id: str | None = None,
        begun: Callable[[Process], None] | None = None,
        resumed: Process | None = None,
    ) -> Result:
        """Carry a goal out: follow a proven trace for $0, or learn it.

        `mode`: auto, follow (never ask a model) or learn (always). The class `kind` (USER) has a priority (0 is served
        first) and budgets of its own in the settings, for where none is given; the profile of an `agent` comes before
        them, and takes permissions away. A goal whose earlier run still stands is only
        told of, unless it is to be done `again`. `run_id` is one that no run has yet; `begun` is told the process that
        the goal is. `resumed` is one that an earlier kernel left, which goes on from where it was.

        Raises:
            LLMOSError: the goal was refused or failed; its attribute `result` holds what is known of the run.
        """
        self._check(goal, mode)
        self.plugins.rescan()
        confirm = confirm if confirm is not None else self._confirm
        asked = _waited_for(confirm)
        goal = self.redactor.named(goal)
        if agent is not None:
            from llmos.kernel.agents import begun_as

            kind, priority, budget_usd = begun_as(agent, kind, priority, budget_usd)
        kind = kind or Kind.USER
        usual = self.settings.classes[kind]
        named = run_id or (uuid.uuid4().hex[:12] if resumed is None else resumed.run_id)

        def known(process: Process) -> None:
            process.run_id = process.run_id or named
            process.asked = Asked(mode=mode, confirm=confirm)
            process.agent = agent or process.agent
            if begun is not None:
                begun(process)

        await self.home.housekeeping.room()
        try:
            with self.home.at_work():
                result = await self.scheduler.submit(
                    lambda: self._with_children(
                        self.dispatcher.handle(goal, mode=mode, confirm=asked, again=again, run_id=named)
                        if resumed is None
                        else self.dispatcher.go_on(resumed.left, confirm=asked)
                    ),
                    process=resumed,
                    kind=kind,
                    priority=usual.priority if priority is None else priority,
                    budget_usd=usual.max_usd if budget_usd is None else budget_usd,
                    budget_tokens=usual.max_tokens if budget_tokens is None else budget_tokens,
                    begun=known,
                    name=self.redactor.text(goal),
                )
        except BaseException as error:
            self.redactor.error(error)
            raise
        finally:
            await self.home.close_mailbox(named)
        return self.redactor.record(result)

    async def _with_children(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Carry a goal out, up to the end of the processes that it began."""
        process = current()
        try:
            result = await work
        except BaseException:
            if process is not None and process.begun:
                from llmos.interfaces.os_calls import mind

                await mind(process, self.home.processes, is_well=False, is_ending=self.home.is_ending)
            raise
        if process is not None and process.begun:
            from llmos.interfaces.os_calls import mind

            await mind(process, self.home.processes, is_well=True)
        return result

    async def explain(
        self, goal: str, *, mode: str = "auto", again: bool = False, agent: Agent | None = None
    ) -> Explanation:
        """What `execute` would do with a goal, why, and at what cost; nothing is done."""
        self._check(goal, mode)
        self.plugins.rescan()
        named = self.redactor.named(goal)
        as_agent = None if agent is None else Process(pid=0, goal=named, created_at=self._clock(), agent=agent)
        with nullcontext() if as_agent is None else at_work_for(as_agent):
            said = await self.explaining.explain(named, mode=mode, again=again)
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
        from llmos.home import OpenHome
        from llmos.interfaces.witnessing import Witnessing
        from llmos.kernel.token_economy import TokenEconomy
        from llmos.memory.outcomes import Outcomes

        home = self._home
        if home is None:
            home = OpenHome(self.settings, embedder=self._embedder, clock=self._clock)
            stack.enter_context(home.without_secrets_of(self.redactor))
            await stack.enter_async_context(home)
        else:
            stack.enter_context(home.without_secrets_of(self.redactor))
        self.home = home
        self.database_copies, self.audit_log, self.journal = home.copies, home.audit_log, home.journal
        self.retention, self.housekeeping = home.retention, home.housekeeping
        self.runs, self.effects, self.approvals, self.memory = home.runs, home.effects, home.approvals, home.facts
        self.traces = home.traces
        if self.settings.frozen:
            from llmos.memory.frozen import FrozenTraces

            self.traces = FrozenTraces(home.database, home.index, clock=self._clock)
        half_life = timedelta(days=self.settings.reliability.half_life_days)
        self.outcomes = Outcomes(home.database, half_life=half_life, clock=self._clock)
        self.witnessing = Witnessing(log=home.audit_log, redact=self.redactor.text)
        await self.witnessing.record_settings(self.settings)
        self.witnessing.listen(self.bus)
        self.economy = TokenEconomy(
            budget_usd=self._first_charge_usd,
            ledger=home.ledger,
            bus=self.bus,
            clock=self._clock,
            cap_usd=self.settings.budget_usd,
            lock=home.money,
        )
        if home.settles():
            known_usd = {one.run_id: one.open_usd + one.unsure_usd for one in home.left if not one.is_replay}
            charged = self.economy.charge_left_open(known_usd)
            for reservation in charged:
                await self.runs.add_cost(reservation.run_id, reservation.amount_usd)
            await home.settled_left({one.run_id: one.amount_usd for one in charged})

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

        side = self._learning_side
        side.check_name()
        permitted = self.settings.permissions
        policy = Policy.of(permitted.effective, self.settings.workspace)
        stricter = {
            kind: Policy.of(permitted.with_roles(self.settings.classes[kind].roles), self.settings.workspace)
            for kind in Kind
            if self.settings.classes[kind].roles
        }
        self.taint = Taint(log=self.home.taints)
        self.permissions = Permissions(
            usual=policy,
            by_kind=stricter,
            approvals=self.approvals,
            doubts=self.taint,
            workspace=self.settings.workspace,
        )
        surroundings = self.surroundings = Surroundings(
            settings=self.settings,
            facts=self.memory,
            runs=self.runs,
            traces=self.traces,
            economy=self.economy,
            models=deferred(lambda: side.models),
            redactor=self.redactor,
            now=self._clock,
            middleware=(self.witnessing, self.permissions, self.taint, self.journal),
            sandbox=DeferredSandbox(lambda: self.sandbox),
            gate=None if policy.is_empty and not stricter else self.permissions,
            strict_gate=self.permissions,
            os=deferred(lambda: self.os_calls),
        )
        self.scheduler = Scheduler(
            self.settings.scheduler.max_concurrent, self.bus, turns=self.home.turns, processes=self.home.processes
        )
        stack.push_async_callback(self.scheduler.close)
        self._wire_following(surroundings)

    def _wire_following(self, surroundings: Surroundings) -> None:
        """What decides on goals and replays traces; what needs a learner is made when it is first needed."""
        from llmos.interfaces.approving import Approving
        from llmos.interfaces.deciding import Deciding
        from llmos.interfaces.dispatcher import Dispatcher
        from llmos.interfaces.feedback import Feedback
        from llmos.interfaces.following import Following
        from llmos.interfaces.replays_kept import ReplaysKept
        from llmos.interfaces.standing import Standing
        from llmos.trace.program import Effect

        self.feedback = Feedback(
            traces=self.traces, outcomes=self.outcomes, max_failures=self.settings.reliability.max_failures
        )
        self.deciding = Deciding(
            recall=self.home.recall,
            traces=self.traces,
            world=surroundings.world(self.registry),
            bounds={Effect(name): bound for name, bound in self.settings.matching.max_wrong.items()},
            outcomes=self.outcomes,
        )
        self.standing = Standing(
            store=self.home.standing_runs,
            journal=self.effects,
            runs=self.runs,
            registry=self.registry,
            surroundings=surroundings,
            clock=self._clock,
            is_enabled=self.settings.skip_unchanged,
        )
        self.approving = Approving(
            permissions=self.permissions, taint=self.taint, registry=self.registry, surroundings=surroundings
        )
        side = self._learning_side
        self.dispatcher = Dispatcher(
            deciding=self.deciding,
            runs=self.runs,
            bus=self.bus,
            clock=self._clock,
            following=Following(
                feedback=self.feedback,
                standing=self.standing,
                replays=self.home.replays,
                registry=self.registry,
                runs=self.runs,
                economy=self.economy,
                bus=self.bus,
                surroundings=surroundings,
                discover=self.mcp.discover,
                crew=deferred(lambda: self.crew),
                kept=ReplaysKept(
                    checkpoints=self.home.checkpoints,
                    runs=self.runs,
                    workspace=self.settings.workspace,
                    is_ending=lambda: self.home.is_ending,
                ),
            ),
            agreeing=deferred(lambda: side.agreeing),
            auditing=deferred(lambda: side.auditing) if self.settings.audit_rate else None,
            reviving=deferred(lambda: side.reviving),
            learning=deferred(lambda: side.learning),
            guiding=deferred(lambda: side.guiding),
            handing=deferred(lambda: side.handing),
            approving=self.approving,
            standing=self.standing,
            recovery=deferred(lambda: side.recovery),
            continuing=deferred(lambda: self._continuing),
            processes=self.home.processes,
        )

    @cached_property
    def _learning_side(self) -> LearningSide:
        from llmos.learning_side import LearningSide

        return LearningSide(system=self, given=self._learner, chance=self._chance, clock=self._clock)

    @property
    def models(self) -> Models:
        """Which model does what, and who asks it."""
        return self._learning_side.models

    @cached_property
    def admission(self) -> Admission:
        """What makes traces of runs."""
        return self._learning_side.admission

    @cached_property
    def reviving(self) -> Reviving:
        """What proves traces again that were set aside."""
        return self._learning_side.reviving

    @cached_property
    def explaining(self) -> Explaining:
        """What says beforehand what would become of a goal."""
        return self._learning_side.explaining

    @cached_property
    def os_calls(self) -> ProcessCalls:
        """What processes ask of the kernel through their tools."""
        from llmos.interfaces.os_calls import ProcessCalls

        return ProcessCalls(system=self)

    @property
    def _continuing(self) -> Continuing:
        """What goes on with replays that an earlier kernel left."""
        from llmos.interfaces.continuing import Continuing

        return Continuing(
            following=self.dispatcher.following,
            runs=self.runs,
            journal=self.effects,
            traces=self.traces,
            checkpoints=self.home.checkpoints,
            taint=self.taint,
            undoing=self.undoing,
        )

    @property
    def undoing(self) -> Undoing:
        """What takes the changes of a run back."""
        from llmos.interfaces.undoing import Undoing

        return Undoing(
            journal=self.journal,
            store=self.effects,
            runs=self.runs,
            workspace=self.settings.workspace,
            closed=frozenset({str(self.settings.memory.resolve())}),
            clock=self._clock,
        )

    @cached_property
    def sandbox(self) -> Sandbox:
        """The walls around child processes, which keep settings, memory and plugins out of their reach."""
        from llmos.kernel.sandbox.sandbox import Sandbox

        return Sandbox.of(self.settings, self.bus)

    @cached_property
    def crew(self) -> Crew:
        """Processes that replay what only looks and computes, while somebody has many goals."""
        from llmos.crew import Crew

        return Crew(settings=self.settings, bus=self.bus)

    def _demonstration_files(self) -> list[Path]:
        """The files that `_demonstrations` reads."""
        import llmos.shipped

        places = [llmos.shipped.FOLDER, *map(Path, self.plugins.trace_dirs)]
        return [file for place in places for file in llmos.shipped.files_of(place)]

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


def _waited_for(confirm: Confirm | None) -> Confirm | None:
    """Who is asked, while the process waits for the answer and others work."""
    if confirm is None:
        return None

    async def asking(question: Question) -> Reply:
        process = current()
        async with nullcontext() if process is None else process.waiting(Wait.APPROVAL):
            return await confirm(question)

    return asking
