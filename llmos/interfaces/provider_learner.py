"""The learner for every other model: any provider pydantic-ai knows, or any OpenAI-compatible server.

The loop is ours, request by request, because that is where money is spent: before each request the budget is asked
what it can still carry, after each its bill is added up, whatever became of the answer. Each message is kept as it
comes, so that a later process can go on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmos.interfaces.context import LOOK_BACK, LOOK_BACK_DESCRIPTION, LOOK_BACK_SCHEMA
from llmos.interfaces.learner import Learned, Thought, reply
from llmos.interfaces.prices import context_window
from llmos.interfaces.prompts import FINISH, FINISH_DESCRIPTION, FINISH_SCHEMA, NOT_YET
from llmos.interfaces.provider_client import ModelLine, connected, estimated_tokens
from llmos.interfaces.provider_lines import as_line, dumped, messages_of, with_own_ids
from llmos.settings import PROVIDER
from llmos.trace.run import Finish

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
    from pydantic_ai.models import ModelRequestParameters

    from llmos.interfaces.learner import LearnSession, LearnTask
    from llmos.plugins.tool import Tool, ToolResult
    from llmos.settings import Settings


class ProviderLearner:
    """Solves goals with models named `provider:name`, or `server:name` of a server in llmos.yaml."""

    name = PROVIDER
    changes_model = True
    keeps_sessions = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def solve(self, task: LearnTask, session: LearnSession) -> Learned:
        """Work on the goal until the model finishes, or ends in plain words.

        Raises:
            NoLearnerError: nobody can be asked: not installed, no server, no key, no price.
            LearnerError: it was asked and did not finish; `cost_usd` says what that cost.
        """
        async with connected(self._settings, task.model, task.max_budget_usd) as line:
            return await _Work(task=task, session=session, line=line).run()

    def check(self) -> None:
        """Nothing is plain before the server is asked: `connected` tells what is missing."""

    async def think(self, prompt: str, *, max_tokens: int, model: str, max_budget_usd: float) -> Thought:
        """One request without tools; errors as in `solve`."""
        from pydantic_ai.messages import ModelRequest
        from pydantic_ai.models import ModelRequestParameters

        async with connected(self._settings, model, max_budget_usd) as line:
            line.context_tokens = estimated_tokens(prompt)
            request = ModelRequest.user_text_prompt(prompt)
            response = await line.ask([request], ModelRequestParameters(), max_tokens=max_tokens)
            if not (response.text or "").strip():
                raise line.failed(f"{line.label} said nothing")
            return Thought(text=response.text or "", cost_usd=line.cost_usd)


@dataclass(kw_only=True)
class _Work:
    """One goal being worked on: the conversation so far; calls that are `known` were made by an earlier process."""

    task: LearnTask
    session: LearnSession
    line: ModelLine
    messages: list[ModelMessage] = field(default_factory=list)
    known: Mapping[str, ToolResult] = field(default_factory=dict)

    async def run(self) -> Learned:
        response = await self._begun()
        parameters = self._parameters()
        for _ in range(self.task.max_turns):
            learned = await self._heeded(response or await self._next(parameters))
            if learned is not None:
                return learned
            response = None
            if await self._made_room():
                parameters = self._parameters()
        raise self.line.failed(f"{self.line.label} did not finish within {self.task.max_turns} turns")

    def _parameters(self) -> ModelRequestParameters:
        """The tools of the requests to come; how long those are is estimated anew."""
        tools = self.session.tools
        context = self.session.context
        parameters = _parameters(tools, looks_back=context is not None and context.offers(tools))
        self.line.context_tokens = estimated_tokens(self.task.system, dumped(self.messages), parameters.function_tools)
        return parameters

    async def _made_room(self) -> bool:
        """Leave the oldest turns out where the context is full."""
        context, transcript, session_id = self.session.context, self.session.transcript, self.task.session_id
        if context is None or transcript is None or not session_id or not context.is_full():
            return False
        lines = await transcript.lines(session_id)
        count = context.foldable(lines)
        if not count:
            return False
        left_usd = max(0.0, self.line.max_budget_usd - self.line.cost_usd)
        fold, cost_usd = await context.fold(lines, count, left_usd, self.session.tools)
        self.line.cost_usd += cost_usd
        await transcript.fold(session_id, fold.lines, fold.folded)
        await self.session.bill_turn(self.line.cost_usd)
        self.messages = messages_of(fold.lines, self.task.system)
        return True

    async def _heeded(self, response: ModelResponse) -> Learned | None:
        """Do what an answer asks for; how it ended if it was the last one."""
        if response.tool_calls:
            finish = await self._answer_calls(response.tool_calls)
            return None if finish is None else self._learned(finish.answer, finish)
        if response.finish_reason == "length":
            raise self.line.failed(f"{self.line.label} was cut off in the middle of its answer")
        if (response.text or "").strip():
            return self._learned((response.text or "").strip(), None)
        raise self.line.failed(f"{self.line.label} said nothing and called nothing")

    async def _begun(self) -> ModelResponse | None:
        """Say the goal, or take up an earlier conversation: the answer there that nobody has heeded yet, if any."""
        from pydantic_ai.messages import ModelRequest, ModelResponse, UserPromptPart

        rest, transcript = self.session.rest, self.session.transcript
        if rest is None or not rest.session_id or transcript is None:
            prompt = UserPromptPart(content=self.task.prompt)
            await self._add(ModelRequest(parts=[prompt], instructions=self.task.system))
            return None
        self.known = rest.results
        if self.session.context is not None:
            await self.session.context.restore(await transcript.folded(self.task.session_id))
        self.messages = messages_of(await transcript.lines(self.task.session_id), self.task.system)
        last = self.messages[-1]
        return last if isinstance(last, ModelResponse) else None

    async def _add(self, message: ModelMessage) -> None:
        """Add a message to the conversation, and keep it, where that is kept."""
        self.messages.append(message)
        if self.session.transcript is not None and self.task.session_id:
            await self.session.transcript.append({"session_id": self.task.session_id}, [as_line(message)])

    async def _next(self, parameters: ModelRequestParameters) -> ModelResponse:
        try:
            response = await self.line.ask(self.messages, parameters)
        finally:
            self.session.bill(self.line.cost_usd)
        used, (provider, _, model) = self.line.used, self.line.label.partition(":")
        if (window := context_window(model, provider)) is not None:
            self.session.window(window)
        self.session.metered(sent=used.input, received=used.output, cached=used.cached)
        response = with_own_ids(response, self.messages)
        await self._add(response)
        self.session.spoke(response.text or "", self.line.cost_usd)
        return response

    async def _answer_calls(self, calls: Sequence[ToolCallPart]) -> Finish | None:
        """Carry out a turn's calls in their order; the accepted `finish`, if one was among them."""
        from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart

        returns, said = [], []
        for call in calls:
            (text, *more), is_error, finish = await self._carry_out(call)
            if finish is not None:
                return finish
            self.line.context_tokens += estimated_tokens(text, *more)
            outcome: Any = "failed" if is_error else "success"
            returns.append(ToolReturnPart(call.tool_name, text, tool_call_id=call.tool_call_id, outcome=outcome))
            said += [UserPromptPart(content=one) for one in more]
        await self._add(ModelRequest(parts=[*returns, *said], instructions=self.task.system))
        if model := self.session.other_model():
            await self.line.lead_to(model)
        return None

    async def _carry_out(self, call: ToolCallPart) -> tuple[list[str], bool, Finish | None]:
        """What a call came to: the blocks for the model, whether it failed, and the finish if it was a fit one."""
        try:
            args = call.args_as_dict(raise_if_invalid=True)
        except (ValueError, AssertionError):
            return ["the arguments are not a JSON object; call the tool again with valid JSON."], True, None
        context = self.session.context
        if call.tool_name == LOOK_BACK and context is not None and context.offers(self.session.tools):
            text, is_error = await context.look_back(args)
            return [text], is_error, None
        if call.tool_name != FINISH:
            result = self.known.get(call.tool_call_id)
            result = result or await self.session.call(call.tool_name, args, call.tool_call_id)
            needed = [] if context is None else await context.needed(call.tool_name, args, result.text)
            return await reply(self.session, result, result.text, needed), result.is_error, None
        finish = _finish(args)
        if finish is None:
            return ["finish needs `answer`, a text that is not empty; call it again."], True, None
        if said := await self.session.heard(at_end=True):
            return [NOT_YET, *said], False, None
        return [self.session.finish(finish.answer, finish.goal_template, finish.slots, finish.checks)], False, finish

    def _learned(self, answer: str, finish: Finish | None) -> Learned:
        line = self.line
        note = line.price.source
        return Learned(
            answer=answer, finish=finish, cost_usd=line.cost_usd, model=line.label, turns=line.requests, note=note
        )


def _parameters(tools: Sequence[Tool], *, looks_back: bool) -> ModelRequestParameters:
    """The tools as the model sees them, our own last."""
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    described = [(tool.name, tool.description, tool.schema) for tool in tools]
    described.append((FINISH, FINISH_DESCRIPTION, FINISH_SCHEMA))
    if looks_back:
        described.append((LOOK_BACK, LOOK_BACK_DESCRIPTION, LOOK_BACK_SCHEMA))
    return ModelRequestParameters(
        function_tools=[
            ToolDefinition(name=name, description=description, parameters_json_schema=schema, strict=False)
            for name, description, schema in described
        ]
    )


def _finish(args: Mapping[str, Any]) -> Finish | None:
    """The arguments of `finish`, without hints of another shape than asked for; None if there is no answer."""
    answer, template, slots, checks = (args.get(name) for name in ("answer", "goal_template", "slots", "checks"))
    if not isinstance(answer, str) or not answer.strip():
        return None
    return Finish(
        answer=answer,
        goal_template=template if isinstance(template, str) else None,
        slots=slots if isinstance(slots, dict) else {},
        checks=tuple(map(str, checks)) if isinstance(checks, list) else (),
    )
