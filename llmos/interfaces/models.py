"""The router: which model does which task, who asks it, and who stands in where one is down."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmos.errors import LearnerError, NoLearnerError, UsageError
from llmos.interfaces.learner import Learned, Learner, LearnSession, LearnTask, Rest, Thought, Transcript
from llmos.interfaces.model_names import check_claude, doubt
from llmos.interfaces.prices import Price, Tokens, claude_models, price_of
from llmos.kernel.outages import Outages
from llmos.kernel.process import Process, current
from llmos.settings import GUIDED, LEARNER, PROVIDER, Settings

if TYPE_CHECKING:
    from llmos.interfaces.context import Context
    from llmos.plugins.tool import Tool, ToolResult

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Models:
    """Asks the models that the settings name for a task and the class of the process that works.

    `learner_of` gives who asks models of a kind: PROVIDER, or the name that `learner.name` says. What is `down` is
    shared with everybody who uses the home.
    """

    settings: Settings
    learner_of: Callable[[str], Learner]
    down: Outages = field(default_factory=Outages)

    @property
    def name(self) -> str:
        return self.settings.learner.name

    def wanted(self, task: str) -> tuple[str, ...]:
        """The models of a task for this process, first the one wanted; none where nobody is to be asked."""
        process = current()
        names = self.settings.models.wanted(task, str(process.kind) if process is not None else "user")
        own = "" if process is None or process.agent is None or task not in (LEARNER, GUIDED) else process.agent.model
        return tuple(dict.fromkeys([own, *names])) if own else names

    def first(self, task: str) -> str:
        """The model that would be asked now: the first that is not down, or the wanted one; '' for none at all."""
        names = self.wanted(task)
        return next((name for name in names if not self.down.why(name)), names[0] if names else "")

    def check(self, task: str = LEARNER) -> None:
        """Refuse at once if it is plain that nobody can be asked.

        Raises:
            NoLearnerError: what is missing, and how to get it.
        """
        model = self.first(task)
        if not model:
            raise NoLearnerError(f"no model is named for {task}: add one under `models: {task}:` in llmos.yaml.")
        self.learner(model).check()
        check_claude(model, self.settings)

    def learner(self, model: str) -> Learner:
        """Who asks a model."""
        return self.learner_of(PROVIDER if self.settings.is_elsewhere(model) else self.name)

    def price(self, model: str) -> Price:
        """What a model costs.

        Raises:
            NoLearnerError: nobody knows.
        """
        if self.settings.is_elsewhere(model):
            return price_of(model, self.settings.server_of(model)[0].base_url, self.settings)
        return price_of(f"anthropic:{model}", None, self.settings)

    def most_usd(self, model: str, tokens: Tokens) -> float:
        """What a request may cost at most; of a name such as `sonnet` the dearest model that it may mean.

        Raises:
            NoLearnerError: nobody knows.
        """
        try:
            return self.price(model).cost_usd(tokens)
        except NoLearnerError:
            names = () if self.settings.is_elsewhere(model) else claude_models(model)
            if not names:
                raise
            return self.price(names[0]).cost_usd(tokens)

    # --- asking --------------------------------------------------------------------------------------

    async def solve(self, task: LearnTask, session: LearnSession) -> Learned:
        """Solve a goal with the task's model; where it is down before it made a call, with the next one.

        Raises:
            NoLearnerError, LearnerError: as of `Learner.solve`, with all that was spent.
        """
        attempt = _Attempt(session=session)
        missed: list[str] = []
        for model, is_last in self._line(task.task, task.model):
            left_usd = max(0.0, task.max_budget_usd - attempt.before_usd)
            asked = replace(task, model=model, max_budget_usd=left_usd)
            if missed:
                is_kept = bool(getattr(self.learner(model), "keeps_sessions", False))
                asked = replace(asked, session_id=await session.begin_anew(is_kept=is_kept))
            try:
                with self._asking(model), self._changing(model):
                    learned = await self.learner(model).solve(asked, attempt)
            except LearnerError as error:
                error.cost_usd += attempt.before_usd
                began = attempt.calls or session.rest is not None
                if is_last or not error.is_down or began or error.cost_usd >= task.max_budget_usd:
                    raise _told(error, missed, attempt.calls if error.is_down and not is_last else 0) from error
                missed.append(self._missed(model, error))
                attempt.before_usd = error.cost_usd
                continue
            cost_usd = learned.cost_usd + attempt.before_usd
            return replace(learned, cost_usd=cost_usd, fell_back="; ".join(missed))
        raise AssertionError("a line of models has an end")

    async def think(
        self, prompt: str, *, max_tokens: int, model: str, max_budget_usd: float, task: str = ""
    ) -> Thought:
        """One model call without tools; a `model` that is down is stood in for by those behind it for the task.

        Raises:
            NoLearnerError, LearnerError: as of `Learner.think`, with all that was spent.
        """
        spent_usd, missed = 0.0, list[str]()
        for name, is_last in self._line(task, model):
            left_usd = max(0.0, max_budget_usd - spent_usd)
            try:
                with self._asking(name):
                    asked = self.learner(name).think(prompt, max_tokens=max_tokens, model=name, max_budget_usd=left_usd)
                    thought = await asked
            except LearnerError as error:
                error.cost_usd += spent_usd
                if is_last or not error.is_down or error.cost_usd >= max_budget_usd:
                    raise _told(error, missed, 0) from error
                missed.append(self._missed(name, error))
                spent_usd = error.cost_usd
                continue
            return replace(thought, cost_usd=thought.cost_usd + spent_usd, model=name)
        raise AssertionError("a line of models has an end")

    def _line(self, task: str, model: str) -> Iterator[tuple[str, bool]]:
        """The model and those behind it that may be asked, and whether each is the last one."""
        names = self.wanted(task) if task else ()
        line = names[names.index(model) :] if model in names else (model,)
        up = [name for name in line if not self.down.why(name)] or [line[0]]
        return ((name, place == len(up) - 1) for place, name in enumerate(up))

    @contextmanager
    def _asking(self, model: str) -> Iterator[None]:
        """Whether the model is there is known from how the block ends."""
        self.down.tries(model)
        try:
            yield
        except LearnerError as error:
            if error.is_down:
                self.down.is_down(model, str(error).rstrip("."), error.retry_after_s)
            else:
                self.down.is_up(model)
            raise
        except BaseException:
            self.down.untried(model)
            raise
        self.down.is_up(model)

    @staticmethod
    def _missed(model: str, error: LearnerError) -> str:
        said = f"{model} is down ({str(error).rstrip('.')})"
        log.warning("%s; the next one is asked", said, extra={"action": "fallback", "model": model})
        return said

    # --- another model for a process that runs -------------------------------------------------------

    @contextmanager
    def _changing(self, model: str) -> Iterator[None]:
        """Let `model PID NAME` reach the process of this block, which asks a model."""
        process = current()
        if process is None:
            yield
            return
        process.model, process.next_model = model, ""
        process.reach = lambda name: self._reach(process, name)
        try:
            yield
        finally:
            process.reach, process.next_model = None, ""

    def _reach(self, process: Process, name: str) -> None:
        """Whether a process can go on with a model.

        Raises:
            UsageError: who works on it can't ask that one, or there is none of that name.
            NoLearnerError: its library, its key or its price is missing.
        """
        asked, own = self.learner(name), self.learner(process.model)
        if asked is not own:
            raise UsageError(
                f"process {process.pid} is worked on by the learner {own.name}, which can't ask {name}: end it, and "
                f"begin the goal again with --model {name}."
            )
        if not getattr(own, "changes_model", False):
            raise UsageError(f"the learner {own.name} can't change its model while it works.")
        if self.settings.is_elsewhere(name):
            from llmos.interfaces.provider_client import check

            check(name, self.settings)
        doubt(name, self.settings)


def _told(error: LearnerError, missed: Sequence[str], calls: int) -> LearnerError:
    """The error, with who was asked before, and why nobody was asked after."""
    said = str(error).rstrip(".")
    if calls:
        said += f"; {calls} call{'s' * (calls > 1)} had been made already, so no other model begins anew"
    if missed:
        said = f"{'; '.join(missed)}; {said}"
    if said != str(error).rstrip("."):
        error.args = (f"{said}.",)
    return error


@dataclass(kw_only=True)
class _Attempt:
    """A session, whose bills go on from what earlier models cost; `calls` counts what was called through it."""

    session: LearnSession
    before_usd: float = 0.0
    calls: int = 0

    @property
    def tools(self) -> Sequence[Tool]:
        return self.session.tools

    async def call(self, tool: str, args: dict[str, Any], tool_use_id: str | None = None) -> ToolResult:
        self.calls += 1
        return await self.session.call(tool, args, tool_use_id)

    def finish(
        self,
        answer: str,
        goal_template: str | None = None,
        slots: dict[str, Any] | None = None,
        checks: Sequence[str] = (),
    ) -> str:
        self.calls += 1
        return self.session.finish(answer, goal_template, slots, checks)

    def spoke(self, text: str, cost_usd: float) -> None:
        self.session.spoke(text, self.before_usd + cost_usd)

    def bill(self, cost_usd: float) -> None:
        self.session.bill(self.before_usd + cost_usd)

    async def bill_turn(self, cost_usd: float) -> None:
        await self.session.bill_turn(self.before_usd + cost_usd)

    def other_model(self) -> str:
        return self.session.other_model()

    def metered(self, *, sent: int, received: int, cached: int = 0) -> None:
        self.session.metered(sent=sent, received=received, cached=cached)

    def limited(self, seconds: float) -> None:
        self.session.limited(seconds)

    def asked_tokens(self) -> int:
        return self.session.asked_tokens()

    def window(self, tokens: int) -> None:
        self.session.window(tokens)

    @property
    def transcript(self) -> Transcript | None:
        return self.session.transcript

    @property
    def rest(self) -> Rest | None:
        return self.session.rest

    @property
    def context(self) -> Context | None:
        return self.session.context

    async def stands_still(self) -> None:
        await self.session.stands_still()

    async def heard(self, *, at_end: bool = False) -> list[str]:
        return await self.session.heard(at_end=at_end)

    async def begin_anew(self, *, is_kept: bool) -> str:
        return await self.session.begin_anew(is_kept=is_kept)
