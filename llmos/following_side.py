"""The parts that decide on goals and replay traces; what needs a learner is made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from llmos.deferred import deferred

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.interfaces.approving import Approving
    from llmos.interfaces.continuing import Continuing
    from llmos.interfaces.deciding import Deciding
    from llmos.interfaces.dispatcher import Dispatcher
    from llmos.interfaces.feedback import Feedback
    from llmos.interfaces.following import Following
    from llmos.interfaces.standing import Standing
    from llmos.interfaces.surroundings import Surroundings
    from llmos.interfaces.undoing import Undoing
    from llmos.learning_side import LearningSide


@dataclass(frozen=True, kw_only=True)
class FollowingSide:
    """The following parts of a `system`, beside those of its `learning`."""

    system: LLMOS
    surroundings: Surroundings
    learning: LearningSide
    clock: Callable[[], datetime]

    @cached_property
    def feedback(self) -> Feedback:
        from llmos.interfaces.feedback import Feedback

        system = self.system
        return Feedback(
            traces=system.traces, outcomes=system.outcomes, max_failures=system.settings.reliability.max_failures
        )

    @cached_property
    def deciding(self) -> Deciding:
        from llmos.interfaces.deciding import Deciding
        from llmos.trace.program import Effect

        system = self.system
        return Deciding(
            recall=system.home.recall,
            traces=system.traces,
            world=self.surroundings.world(system.registry),
            bounds={Effect(name): bound for name, bound in system.settings.matching.max_wrong.items()},
            outcomes=system.outcomes,
        )

    @cached_property
    def standing(self) -> Standing:
        from llmos.interfaces.standing import Standing

        system = self.system
        return Standing(
            store=system.home.standing_runs,
            journal=system.effects,
            runs=system.runs,
            registry=system.registry,
            surroundings=self.surroundings,
            clock=self.clock,
            is_enabled=system.settings.skip_unchanged,
        )

    @cached_property
    def approving(self) -> Approving:
        from llmos.interfaces.approving import Approving

        system = self.system
        return Approving(
            permissions=system.permissions,
            taint=system.taint,
            registry=system.registry,
            surroundings=self.surroundings,
        )

    @cached_property
    def following(self) -> Following:
        from llmos.interfaces.following import Following
        from llmos.interfaces.replays_kept import ReplaysKept

        system = self.system
        return Following(
            feedback=self.feedback,
            standing=self.standing,
            replays=system.home.replays,
            registry=system.registry,
            runs=system.runs,
            economy=system.economy,
            bus=system.bus,
            surroundings=self.surroundings,
            discover=system.mcp.discover,
            crew=deferred(lambda: system.crew),
            kept=ReplaysKept(
                checkpoints=system.home.checkpoints,
                runs=system.runs,
                workspace=system.settings.workspace,
                is_ending=lambda: system.home.is_ending,
            ),
        )

    @cached_property
    def continuing(self) -> Continuing:
        """What goes on with replays that an earlier kernel left."""
        from llmos.interfaces.continuing import Continuing

        system = self.system
        return Continuing(
            following=self.following,
            runs=system.runs,
            journal=system.effects,
            traces=system.traces,
            checkpoints=system.home.checkpoints,
            taint=system.taint,
            undoing=self.undoing,
        )

    @property
    def undoing(self) -> Undoing:
        """What takes the changes of a run back."""
        from llmos.interfaces.undoing import Undoing

        system = self.system
        return Undoing(
            journal=system.journal,
            store=system.effects,
            runs=system.runs,
            workspace=system.settings.workspace,
            closed=frozenset({str(system.settings.memory.resolve())}),
            clock=self.clock,
        )

    @cached_property
    def dispatcher(self) -> Dispatcher:
        from llmos.interfaces.dispatcher import Dispatcher

        system, learning = self.system, self.learning
        return Dispatcher(
            deciding=self.deciding,
            runs=system.runs,
            bus=system.bus,
            clock=self.clock,
            following=self.following,
            agreeing=deferred(lambda: learning.agreeing),
            auditing=deferred(lambda: learning.auditing) if system.settings.audit_rate else None,
            reviving=deferred(lambda: learning.reviving),
            learning=deferred(lambda: learning.learning),
            guiding=deferred(lambda: learning.guiding),
            handing=deferred(lambda: learning.handing),
            approving=self.approving,
            standing=self.standing,
            recovery=deferred(lambda: learning.recovery),
            continuing=deferred(lambda: self.continuing),
            processes=system.home.processes,
        )
