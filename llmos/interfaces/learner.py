"""What a learner is, and the recording session through which alone it reaches tools."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmos.errors import LearnerError
from llmos.interfaces.context import Context
from llmos.interfaces.prompts import SYSTEM, delimited, first_message
from llmos.plugins.tool import Tool, ToolResult
from llmos.settings import LEARNER
from llmos.trace.run import Finish


@dataclass(frozen=True, kw_only=True)
class LearnTask:
    """A goal for a learner; `plan` is the text of a near trace, `max_budget_usd` what it may cost at most.

    `task` is what the router knows its model and those that stand in for it by.
    With `taken_over` a replay has begun already, and `plan` says what it did, where it stopped and what is left.
    `secrets` are the names that it may use in arguments, `shared` is what other processes share with it. `persona` is
    what the profile of the agent that works adds to the instructions.
    """

    run_id: str
    goal: str
    model: str
    max_budget_usd: float
    max_turns: int = 50
    plan: str | None = None
    taken_over: bool = False
    session_id: str = ""
    secrets: tuple[str, ...] = ()
    task: str = LEARNER
    shared: str = ""
    persona: str = ""

    @property
    def system(self) -> str:
        """How a learner is to work."""
        return f"{SYSTEM}\n\n{self.persona}" if self.persona else SYSTEM

    @property
    def prompt(self) -> str:
        """What a learner is told first."""
        first = first_message(self.goal, self.plan, self.secrets, taken_over=self.taken_over)
        if not self.shared:
            return first
        return (
            f"{first}\n\nThis is shared with you; others may change it, and share_memory reads it anew:\n{self.shared}"
        )


@dataclass(frozen=True, kw_only=True)
class Learned:
    """How a learner ended: its answer, what it told `finish`, the bill and the model that sent it.

    `fell_back` says which models were down before.
    """

    answer: str
    finish: Finish | None
    cost_usd: float
    model: str
    turns: int = 0
    note: str = ""
    fell_back: str = ""

    def answered(self) -> str:
        """The answer.

        Raises:
            LearnerError: it ended without one.
        """
        if not self.answer:
            raise LearnerError("the learner ended without an answer", cost_usd=self.cost_usd)
        return self.answer


@dataclass(frozen=True, kw_only=True)
class Thought:
    """One bounded model call and its bill; `model` is who answered, if that was asked of several."""

    text: str
    cost_usd: float
    model: str = ""


class LearnSession(Protocol):
    """The recorder as a learner sees it."""

    @property
    def tools(self) -> Sequence[Tool]:
        """The tools there are, without `finish`."""

    async def call(self, tool: str, args: dict[str, Any], tool_use_id: str | None = None) -> ToolResult:
        """Call a tool and record it; what the model is told of it goes through `shown`."""

    def finish(
        self,
        answer: str,
        goal_template: str | None = None,
        slots: dict[str, Any] | None = None,
        checks: Sequence[str] = (),
    ) -> str:
        """Take the model's closing words; returns what to tell it."""

    def spoke(self, text: str, cost_usd: float) -> None:
        """The model said something; `cost_usd` is the bill of this run so far."""

    def bill(self, cost_usd: float) -> None:
        """The bill of this run so far, final or not: what is known is charged, however the run ends."""

    async def bill_turn(self, cost_usd: float) -> None:
        """The bill so far, kept at once, at the end of a turn without a call; returns when the next one may begin."""

    def other_model(self) -> str:
        """The model that is to go on from here, at the end of a turn; '' for the same."""

    def metered(self, *, sent: int, received: int, cached: int = 0) -> None:
        """The tokens of one request, those `cached` too, and of its answer."""

    def asked_tokens(self) -> int:
        """How many tokens a request holds at most that is under way now; 0: none is."""

    def window(self, tokens: int) -> None:
        """How many tokens the model's context holds at most."""

    def limited(self, seconds: float) -> None:
        """The server limits the rate: nothing is asked of it for so long."""

    @property
    def transcript(self) -> Transcript | None:
        """Where the model's session is kept, so that the process can go on without its CLI; None: nowhere."""

    @property
    def rest(self) -> Rest | None:
        """Where a session that is gone on with stood, if this is one."""

    @property
    def context(self) -> Context | None:
        """What becomes of the oldest turns when the model's context is full; None: nothing."""

    async def stands_still(self) -> None:
        """Return when the process has stopped, so that nobody need keep a model's client for it."""

    async def heard(self, *, at_end: bool = False) -> list[str]:
        """What the user and the system said since the last turn; the model is told each as a block of its own.

        With `at_end` the model wants to finish, and only what may change its work is worth another turn.
        """

    async def begin_anew(self, *, is_kept: bool) -> str:
        """Another model begins from nothing; gives the session it has, where it `is_kept` one ('': none)."""


class Transcript(Protocol):
    """The sessions of one run (`llmos.memory.sessions`); `append` and `load` are the SDK's."""

    async def append(self, key: Any, entries: Any) -> None: ...
    async def load(self, key: Any) -> list[Any] | None: ...
    async def lines(self, session_id: str) -> list[dict[str, Any]]: ...
    async def rewrite(self, session_id: str, lines: Sequence[dict[str, Any]]) -> None: ...
    async def folded(self, session_id: str) -> list[dict[str, Any]]: ...
    async def fold(
        self, session_id: str, lines: Sequence[dict[str, Any]], folded: Sequence[dict[str, Any]]
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Rest:
    """A session to go on with (empty: the model had not answered yet).

    `results` are what its calls without a result had come to, by the call's id; `spent_usd` is what the run cost
    before, of `max_usd` that it may cost in all, `dearest_usd` what its dearest turn did. If it `is_measured`, the
    model has said how long the context was.
    """

    session_id: str
    results: Mapping[str, ToolResult] = field(default_factory=dict)
    spent_usd: float = 0.0
    max_usd: float = 0.0
    dearest_usd: float = 0.0
    is_measured: bool = False


def shown(result: ToolResult, text: str) -> str:
    """A result's text (which may be cut) as a model gets it: between marks if somebody else may have written it.

    The mark is random and new for each result: none that a model has seen, or written somewhere, helps to forge it.
    """
    is_foreign = result.outside or result.is_recorded
    return delimited(text, secrets.token_hex(8)) if is_foreign else text


async def reply(session: LearnSession, result: ToolResult, text: str, needed: Sequence[str] = ()) -> list[str]:
    """What a model is told after a call, block by block: the result, what was said meanwhile, what is `needed` again.

    A result that something comes after stands between marks whoever wrote it, so that it can't seem to be the latter.
    """
    said = [*await session.heard(), *needed]
    return [delimited(text, secrets.token_hex(8)) if said else shown(result, text), *said]


class Learner(Protocol):
    """Solves goals with a model and tools.

    One with an attribute `keeps_sessions` that is true can go on with the session of an earlier process.
    """

    name: str

    def check(self) -> None:
        """Refuse at once, before anything is reserved, if it is plain that nobody can be asked.

        Raises:
            NoLearnerError: what is missing, and how to get it.
        """

    async def solve(self, task: LearnTask, session: LearnSession) -> Learned:
        """Solve a goal.

        Raises:
            NoLearnerError: no key, no login, no server.
            LearnerError: it was asked and did not finish.
        """

    async def think(self, prompt: str, *, max_tokens: int, model: str, max_budget_usd: float) -> Thought:
        """One model call without tools; errors as in `solve`, with the cost in `LearnerError.cost_usd`."""
