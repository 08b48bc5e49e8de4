"""The parts that need a learner, or prove what one did: made when a goal first needs them, for most never do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from llmos.errors import SettingsError
from llmos.settings import PROVIDER

if TYPE_CHECKING:
    from llmos.boot import LLMOS
    from llmos.interfaces.admission import Admission
    from llmos.interfaces.agreeing import Agreeing
    from llmos.interfaces.auditing import Auditing
    from llmos.interfaces.explaining import Explaining
    from llmos.interfaces.guiding import Guiding
    from llmos.interfaces.handing import HandingOver
    from llmos.interfaces.judging import Judging
    from llmos.interfaces.learner import Learner
    from llmos.interfaces.learning import Learning
    from llmos.interfaces.models import Models
    from llmos.interfaces.recovery import Recovery
    from llmos.interfaces.reviving import Reviving
    from llmos.kernel.proof import Prover

CLAUDE = "claude"


@dataclass(frozen=True, kw_only=True)
class LearningSide:
    """The learning parts of a `system`; `given` is a learner in the place of the one that the settings name."""

    system: LLMOS
    given: Learner | None
    chance: Callable[[], float]
    clock: Callable[[], datetime]

    def check_name(self) -> None:
        """Whether there is a learner of the name that the settings give.

        Raises:
            SettingsError: there is none.
        """
        known = {CLAUDE, *self.system.plugins.learners}
        name = self.system.settings.learner.name
        if self.given is None and name not in known:
            hint = " (a model of a provider is named provider:name, under `models`)" if name == PROVIDER else ""
            raise SettingsError(f"there is no learner {name!r}; choose one of {', '.join(sorted(known))}{hint}.")

    @cached_property
    def models(self) -> Models:
        """Which model does what, and who asks it: a given learner all of them."""
        from llmos.interfaces.models import Models

        self.check_name()
        made = cache(self._made)
        system = self.system
        return Models(settings=system.settings, learner_of=made, down=system.home.outages)

    def _made(self, name: str) -> Learner:
        if self.given is not None:
            return self.given
        made: Learner = self._factory(name)(settings=self.system.settings)
        return made

    def _factory(self, name: str) -> Callable[..., Any]:
        if name in self.system.plugins.learners:
            return self.system.plugins.learners[name]
        if name == PROVIDER:
            from llmos.interfaces.provider_learner import ProviderLearner

            return ProviderLearner
        from llmos.interfaces.claude_learner import ClaudeLearner

        return ClaudeLearner

    @cached_property
    def prover(self) -> Prover | None:
        """Runs traces again in copies of the workspace."""
        from llmos.kernel.proof import Prover

        system = self.system
        if not system.settings.proof.enabled:
            return None
        return Prover(
            registry=system.registry,
            limits=system.settings.proof,
            memory=system.settings.memory,
            context=system.surroundings.context,
            env=system.surroundings.env,
            secret=system.surroundings.secret,
        )

    @cached_property
    def reviving(self) -> Reviving:
        from llmos.interfaces.reviving import Reviving

        system = self.system
        return Reviving(
            traces=system.traces,
            outcomes=system.outcomes,
            runs=system.runs,
            world=system.deciding.world,
            discover=system.mcp.discover,
            prover=self.prover,
        )

    @cached_property
    def admission(self) -> Admission:
        from llmos.interfaces.admission import Admission
        from llmos.interfaces.merging import Merging
        from llmos.kernel.checks import Files

        system = self.system
        constants = system.surroundings.constants
        return Admission(
            registry=system.registry,
            traces=system.traces,
            constants=constants,
            redactor=system.redactor,
            files=Files(resolve=system.surroundings.context("").resolve),
            prover=self.prover,
            merging=Merging(traces=system.traces, runs=system.runs, constants=constants),
        )

    @cached_property
    def learning(self) -> Learning:
        from llmos.interfaces.keeping import Keeping
        from llmos.interfaces.learning import Learning
        from llmos.kernel.watchdog import Watchdog

        system, limits = self.system, self.system.settings.learner
        return Learning(
            models=self.models,
            keeping=Keeping(
                checkpoints=system.home.checkpoints,
                sessions=system.home.sessions,
                learner_of=self.models.learner,
                most_usd=self.models.most_usd,
                workspace=system.settings.workspace,
                is_ending=lambda: system.home.is_ending,
            ),
            limits=limits,
            registry=system.registry,
            recall=system.home.recall,
            admission=self.admission,
            watchdog=Watchdog(
                timeout_s=limits.timeout_s,
                max_repeats=limits.max_repeats,
                turn_timeout_s=limits.turn_timeout_s,
                max_fruitless=limits.max_fruitless,
                max_output_chars=limits.max_output_chars,
                bus=system.bus,
            ),
            surroundings=system.surroundings,
            discover=system.mcp.discover,
            taint=system.taint,
            interrupts=system.home.interrupts,
            context_use=system.home.context_use,
            runs=system.runs,
            economy=system.economy,
            bus=system.bus,
        )

    @cached_property
    def recovery(self) -> Recovery:
        from llmos.interfaces.recovery import Recovery

        system = self.system
        return Recovery(
            learning=self.learning,
            handing=self.handing,
            runs=system.runs,
            journal=system.effects,
            sessions=system.home.sessions,
            traces=system.traces,
            registry=system.registry,
        )

    @cached_property
    def judging(self) -> Judging:
        from llmos.interfaces.judging import Judging

        system = self.system
        return Judging(
            settings=system.settings.judge, models=self.models, economy=system.economy, world=system.deciding.world
        )

    @cached_property
    def agreeing(self) -> Agreeing:
        from llmos.interfaces.agreeing import Agreeing

        system = self.system
        return Agreeing(feedback=system.feedback, judging=self.judging, runs=system.runs, bus=system.bus)

    @cached_property
    def auditing(self) -> Auditing:
        from llmos.interfaces.auditing import Auditing

        system = self.system
        return Auditing(
            rate=system.settings.audit_rate, chance=self.chance, learning=self.learning, feedback=system.feedback
        )

    @cached_property
    def guiding(self) -> Guiding:
        from llmos.interfaces.guiding import Guiding

        system = self.system
        return Guiding(
            learning=self.learning,
            limits=system.settings.learner,
            traces=system.traces,
            world=system.deciding.world,
            registry=system.registry,
            runs=system.runs,
            economy=system.economy,
            bus=system.bus,
            surroundings=system.surroundings,
            discover=system.mcp.discover,
        )

    @cached_property
    def handing(self) -> HandingOver:
        from llmos.interfaces.handing import HandingOver

        system = self.system
        return HandingOver(
            learning=self.learning,
            limits=system.settings.learner,
            registry=system.registry,
            runs=system.runs,
            undoing=system.undoing,
        )

    @cached_property
    def explaining(self) -> Explaining:
        from llmos.interfaces.explaining import Explaining

        system = self.system
        return Explaining(
            deciding=system.deciding,
            learning=self.learning,
            guiding=self.guiding,
            judging=self.judging,
            runs=system.runs,
            world=system.deciding.world,
            approving=system.approving,
            standing=system.standing,
        )
