"""The learner: the Claude Code CLI that the Claude Agent SDK bundles, with our tools and none of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmos.errors import LearnerError, NoLearnerError
from llmos.interfaces.claude_heard import AT_BUDGET, NO_LOGIN, Heard, first_line
from llmos.interfaces.claude_talk import SERVER, Bridge, Talk
from llmos.interfaces.learner import Learned, LearnSession, LearnTask, Thought
from llmos.interfaces.prices import Price, claude_models, price_of
from llmos.interfaces.session_room import Room, session_room
from llmos.kernel.clients import CLIENTS
from llmos.settings import hidden_variables

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

    from llmos.settings import Settings

log = logging.getLogger(__name__)

_FORGETFUL: dict[str, str | None] = {"no-session-persistence": None}
_BUFFER_BYTES = 64 * 2**20
# A title request costs money, retries cost minutes, and nothing else the CLI sends home is needed.
_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "ENABLE_TOOL_SEARCH": "false",
    # The CLI logs what tools say in errors below its cache; in a place that can't be, it goes without.
    "XDG_CACHE_HOME": os.devnull,
}


@dataclass(frozen=True, kw_only=True)
class ClaudeLearner:
    """Drives Claude through the SDK; `settings` gives model, server, limits and the environment the CLI may see."""

    settings: Settings
    name: str = "claude"
    changes_model: bool = True
    keeps_sessions: bool = True

    def check(self) -> None:
        """NoLearnerError where there is neither a key nor a login nor a cloud's account."""
        if not (self.settings.learner.has_key or self.settings.has_claude_login):
            raise NoLearnerError(NO_LOGIN)

    async def solve(self, task: LearnTask, session: LearnSession) -> Learned:
        """Solve a goal with the session's tools; see `Learner.solve`.

        While its process is suspended there is no CLI: the session is gone on with in a new one.
        """
        with session_room(self.settings.environment) as room:
            return await self._solved(task, session, room)

    async def _solved(self, task: LearnTask, session: LearnSession, room: Room | None) -> Learned:
        bridge = Bridge(session=session)
        talk = Talk(task=task, session=session, bridge=bridge, room=room)
        try:
            if session.rest is not None and session.rest.session_id:
                await talk.take_up(session.rest)
            while True:
                heard = await self._converse(self._solving(talk), talk.prompt, talk)
                talk.heard(heard)
                if not heard.is_parked:
                    break
                await talk.go_on()
                if talk.cost_usd >= task.max_budget_usd:
                    raise LearnerError(AT_BUDGET, cost_usd=talk.cost_usd)
        finally:
            await bridge.close()
        session.bill(talk.cost_usd)
        if heard.failure is not None:
            raise heard.failure
        answer = bridge.answer if bridge.answer is not None else heard.text
        model = heard.model or talk.task.model
        return Learned(answer=answer.strip(), finish=None, cost_usd=talk.cost_usd, model=model, turns=talk.turns)

    def _solving(self, talk: Talk) -> ClaudeAgentOptions:
        """The options of the next CLI: what is left of money and turns, and the session it begins or goes on with."""
        return self._options(
            model=talk.task.model,
            max_budget_usd=max(0.0, talk.task.max_budget_usd - talk.cost_usd),
            max_turns=max(1, talk.task.max_turns - talk.turns),
            system_prompt=talk.task.system,
            mcp_servers={SERVER: {"type": "sdk", "name": SERVER, "instance": talk.bridge.server()}},
            allowed_tools=[f"mcp__{SERVER}"],
            env=talk.room.environment if talk.room is not None else None,
            **talk.options,
        )

    async def think(self, prompt: str, *, max_tokens: int, model: str, max_budget_usd: float) -> Thought:
        """One answer without tools, at most `max_tokens` long; see `Learner.think`."""
        options = self._options(
            model=model,
            max_budget_usd=max_budget_usd,
            max_turns=1,
            system_prompt="Answer the prompt directly and briefly. Give the answer only.",
            env={"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(max_tokens)},
        )
        heard = await self._converse(options, prompt, None)
        if heard.failure is not None:
            raise heard.failure
        return Thought(text=heard.text.strip(), cost_usd=heard.cost_usd)

    def _options(self, *, env: dict[str, str] | None = None, **more: Any) -> ClaudeAgentOptions:
        from claude_agent_sdk import ClaudeAgentOptions

        leash, leash_env = leashed_cli()
        return ClaudeAgentOptions(
            cli_path=leash,
            tools=[],
            setting_sources=[],
            strict_mcp_config=True,
            verbatim_prompts=True,
            permission_mode="dontAsk",
            include_partial_messages=True,
            max_buffer_size=_BUFFER_BYTES,
            cwd=self.settings.workspace,
            extra_args={"disable-slash-commands": None, **({} if "session_store" in more else _FORGETFUL)},
            stderr=lambda line: log.debug("claude: %s", line, extra={"action": "cli_stderr"}),
            env=self._environment() | leash_env | (env or {}),
            **more,
        )

    def _environment(self) -> dict[str, str]:
        """What the CLI sees: the settings' environment; every other variable of ours is blanked.

        The SDK lays `env` over the process's own environment, so a variable can be emptied but not removed.
        """
        seen = dict(self.settings.environment)
        hidden = dict.fromkeys(hidden_variables(seen), "")
        base_url = {"ANTHROPIC_BASE_URL": self.settings.learner.base_url} if self.settings.learner.base_url else {}
        return hidden | {"CLAUDE_CODE_MAX_RETRIES": "2"} | seen | base_url | _QUIET

    async def _converse(self, options: ClaudeAgentOptions, prompt: str, talk: Talk | None) -> Heard:
        """Send one prompt and listen until the result; a cancelled conversation is still billed."""
        from claude_agent_sdk import ClaudeSDKError

        heard = Heard(
            price_of=self._price,
            session=talk.session if talk is not None else None,
            before_usd=talk.cost_usd if talk is not None else 0.0,
            base_url=self._server(),
            asked_model=options.model or "by default",
        )
        try:
            async with _client(options) as client:
                await client.query(prompt)
                try:
                    await (heard.listen(client) if talk is None else talk.listen(client, heard))
                except asyncio.CancelledError:
                    await heard.stop(client)
                    raise
        except ClaudeSDKError as error:
            if heard.result is None:
                cost_usd = heard.before_usd + heard.cost_usd
                raise LearnerError(f"the Claude CLI failed: {first_line(error)}", cost_usd=cost_usd) from error
        return heard

    def _price(self, model: str) -> Price | None:
        """What a model costs; of a name such as `sonnet` the dearest that it may mean."""
        for name in (model, *claude_models(model)):
            with suppress(NoLearnerError):
                return price_of(f"anthropic:{name}", None, self.settings)
        return None

    def _server(self) -> str:
        return self.settings.learner.base_url or "the Anthropic API"


def leashed_cli() -> tuple[Path | None, dict[str, str]]:
    """The script that ties the bundled CLI's life to ours, and its environment; (None, {}) where that can't be had.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    import claude_agent_sdk

    binary = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
    script = Path(__file__).with_name("leash.sh")
    if not binary.is_file() or not os.access(script, os.X_OK) or shutil.which("setpriv") is None:
        return None, {}
    return script, {"LLMOS_CLAUDE_CLI": str(binary)}


@asynccontextmanager
async def _client(options: ClaudeAgentOptions) -> AsyncIterator[ClaudeSDKClient]:
    from claude_agent_sdk import ClaudeSDKClient

    async with CLIENTS.one():
        client = ClaudeSDKClient(options)
        await client.connect()
        try:
            yield client
        finally:
            await _finished(client.disconnect())


async def _finished(work: Coroutine[Any, Any, None]) -> None:
    """Do something to its end, even where this task is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
