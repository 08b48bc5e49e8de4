"""One metered line to one model, over pydantic-ai: what it may still cost, what it has cost, and what went wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmos.errors import LearnerError, LLMOSError, NoLearnerError
from llmos.interfaces.prices import CHARS_PER_TOKEN, Price, Tokens, price_of
from llmos.settings import CONFIG_NAME

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

    from llmos.settings import Settings

log = logging.getLogger(__name__)

INSTALL = "pip install 'llmos[providers]'"
OPENAI_PREFIXES = ("openai:", "openai-chat:", "openai-responses:")
LEAST_OUTPUT_TOKENS = 256
"""A request that the budget allows fewer tokens for is not made: it would be cut off before it says anything."""
MOST_OUTPUT_TOKENS = 16_384
"""Above this the budget sets no limit on a request's output: models refuse limits higher than their own."""


@asynccontextmanager
async def connected(settings: Settings, model: str, max_budget_usd: float) -> AsyncIterator[ModelLine]:
    """A line to that model (`provider:name`, or `server:name` of a named server), closed at the end of the block.

    Raises:
        NoLearnerError: the library, the model's name, its key, its server or its price is missing.
    """
    async with AsyncExitStack() as stack:
        line = ModelLine(settings=settings, stack=stack, max_budget_usd=max_budget_usd)
        await line.lead_to(model)
        yield line


def check(model: str, settings: Settings) -> None:
    """Whether a line could lead to a model, as far as that is known without asking.

    Raises:
        NoLearnerError: the library, the model's name, its key or its price is missing.
    """
    _client(model, settings)
    if settings.server_of(model)[1]:
        price_at(model, settings)


def price_at(model: str, settings: Settings) -> Price:
    """What a model costs where it is.

    Raises:
        NoLearnerError: nobody knows.
    """
    server, _ = settings.server_of(model)
    return price_of(model, server.base_url, settings)


@dataclass(kw_only=True)
class ModelLine:
    """Requests to one model within one budget.

    `cost_usd` is the bill so far, `requests` how many were made, `context_tokens` what the next one will send at
    least. Which model is asked may change between two of them.
    """

    settings: Settings
    stack: AsyncExitStack
    max_budget_usd: float
    client: Model[Any] = field(init=False)
    label: str = ""
    price: Price = field(init=False)
    cost_usd: float = 0.0
    requests: int = 0
    context_tokens: int = 0
    used: Tokens = field(default_factory=lambda: Tokens(input=0, output=0))

    async def lead_to(self, model: str) -> None:
        """Ask this model from now on.

        Raises:
            NoLearnerError: the library, the model's name, its key, its server or its price is missing.
        """
        server, name = self.settings.server_of(model)
        if not name and server.base_url is None:
            raise NoLearnerError(f"{model!r} names no model: say which, as in openai:gpt-5.")
        client = _client(model, self.settings)
        await self.stack.enter_async_context(client)
        if not name:
            name = await _first_offered(client, server.name)
            client = _asking_for(name, client)
        label = f"{server.name}:{name}"
        self.price, self.client, self.label = price_at(label, self.settings), client, label

    async def ask(
        self, messages: Sequence[ModelMessage], parameters: ModelRequestParameters, *, max_tokens: int | None = None
    ) -> ModelResponse:
        """One request within what is left of the budget; its bill is added up whatever the answer is worth.

        Raises:
            NoLearnerError: there was nobody to ask.
            LearnerError: the budget is used up, or the request failed.
        """
        from pydantic_ai.direct import model_request

        allowance = self._allowance(max_tokens)
        self.requests += 1
        try:
            response = await model_request(
                self.client, messages, model_settings=allowance, model_request_parameters=parameters
            )
        except asyncio.CancelledError:
            self._charge_sent()
            raise
        except Exception as error:
            raise self._translated(error) from error
        self._charge(response)
        return response

    def failed(self, what: str, *, is_down: bool = False, retry_after_s: float | None = None) -> LearnerError:
        """An error that carries the bill."""
        bill = f"; it cost ${self.cost_usd:.4f}" if self.cost_usd else ""
        return LearnerError(f"{what}{bill}.", cost_usd=self.cost_usd, is_down=is_down, retry_after_s=retry_after_s)

    def _allowance(self, max_tokens: int | None) -> ModelSettings:
        """The limit on a request's output: the caller's, or lower if the rest of the budget buys no more."""
        limit = max_tokens if max_tokens is not None else MOST_OUTPUT_TOKENS
        if not self.price.is_free:
            left_usd = self.max_budget_usd - self.cost_usd
            left_usd -= self.price.cost_usd(Tokens(input=self.context_tokens, output=0))
            token_usd = self.price.cost_usd(Tokens(input=0, output=1_000_000)) / 1_000_000
            affordable = int(left_usd / token_usd) if token_usd > 0 else limit
            if left_usd < 0 or affordable < min(limit, LEAST_OUTPUT_TOKENS):
                raise self.failed(f"the budget of ${self.max_budget_usd:.4f} for this goal is used up")
            limit = min(limit, affordable)
        return {} if limit == MOST_OUTPUT_TOKENS else {"max_tokens": limit}

    def _charge(self, response: ModelResponse) -> None:
        usage = response.usage
        used = Tokens(
            input=usage.input_tokens,
            output=usage.output_tokens,
            cached=usage.cache_read_tokens,
            written=usage.cache_write_tokens,
        )
        if usage.unmeasured_requests or not usage.input_tokens:  # some servers don't count: then we do
            used = Tokens(input=self.context_tokens, output=estimated_tokens(response.parts))
        self.cost_usd += self.price.cost_usd(used)
        self.context_tokens = used.input + used.output
        self.used = used

    def _charge_sent(self) -> None:
        """A request whose bill will not arrive any more: at least what was sent is charged."""
        self.cost_usd += self.price.cost_usd(Tokens(input=self.context_tokens, output=0))

    def _translated(self, error: Exception) -> LLMOSError:
        """The user's sentence for a failed request."""
        from pydantic_ai import exceptions as kinds

        where = f"{self.label} at {self.client.base_url}" if self.client.base_url else self.label
        said = _reason(error)
        match error:
            case kinds.ModelAuthenticationError():
                return self._unreachable(f"{where} refuses the key: {said}; check {self._key}")
            case kinds.ModelNotFoundError():
                return self._unreachable(f"{where} is not there: {said}; name another with --model", is_down=True)
            case kinds.ModelConnectionError(phase="connect" | "pool") if self.requests == 1:
                mend = f"start it, or correct {self._server_key}.base_url"
                return self._unreachable(f"{where} can't be reached: {said}; {mend}", is_down=True)
            case kinds.ModelRateLimitError():
                wait = f"in {error.retry_after:.0f} s" if error.retry_after else "later"
                told = f"{where} takes no more requests now: {said}; try again {wait}"
                return self.failed(told, is_down=True, retry_after_s=error.retry_after)
            case kinds.ModelQuotaExceededError():
                return self.failed(f"{where} has no credit left: {said}")
            case kinds.ModelConnectionError():
                if error.phase not in ("connect", "pool"):
                    self._charge_sent()
                return self.failed(f"{where} broke off: {said}", is_down=True)
            case kinds.ModelAPIError() if not isinstance(error.__cause__, ValueError):
                status = getattr(error, "status_code", None)
                return self.failed(f"{where} failed: {said}", is_down=isinstance(status, int) and status >= 500)
        log.info("an answer can't be read", exc_info=error, extra={"action": "answer_unread", "model": self.label})
        self._charge_sent()
        return self.failed(f"{where} answered what can't be understood: {said[:120]}")

    def _unreachable(self, what: str, *, is_down: bool = False) -> NoLearnerError:
        return NoLearnerError(f"{what}.", cost_usd=self.cost_usd, is_down=is_down)

    @property
    def _server_key(self) -> str:
        return f"servers.{self.settings.server_of(self.label)[0].name}"

    @property
    def _key(self) -> str:
        server = self.settings.server_of(self.label)[0]
        return server.api_key_env or f"{self._server_key}.api_key_env"


def estimated_tokens(*things: Any) -> int:
    """How many tokens these texts and records are: rather too many than too few."""
    chars = sum(len(thing if isinstance(thing, str) else json.dumps(thing, default=repr)) for thing in things)
    return chars // CHARS_PER_TOKEN + 1


def bare_name(model: str) -> str:
    """What an OpenAI-compatible server calls the model: `openai:` is ours, any other colon is its own."""
    prefix = next((prefix for prefix in OPENAI_PREFIXES if model.startswith(prefix)), "")
    return model.removeprefix(prefix)


def _client(model: str, settings: Settings) -> Model[Any]:
    """What speaks to the named model."""
    provider, name = settings.server_of(model)
    try:
        if provider.base_url is not None:
            from pydantic_ai.models.openai import OpenAIChatModel
            from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

            server = OpenAICompatibleProvider(provider.name, base_url=provider.base_url, api_key=provider.api_key)
            return OpenAIChatModel(bare_name(name), provider=server)
        from pydantic_ai.models import infer_model
        from pydantic_ai.providers import infer_provider, infer_provider_class

        def account(of: str) -> Any:
            kind: Any = infer_provider_class(of)
            return kind(api_key=provider.api_key) if provider.api_key else infer_provider(of)

        return infer_model(model, account)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pydantic_ai"):
            raise NoLearnerError(f"the provider learner needs pydantic-ai: {INSTALL}.") from None
        raise NoLearnerError(f"{model} needs the package {error.name}, which is not installed.") from None
    except ImportError as error:
        wanted = re.search(r"pip install [\w\"'\[\]-]+", str(error))
        raise NoLearnerError(f"{model} needs a package: {wanted[0] if wanted else _one_line(error)}.") from None
    except Exception as error:
        if provider.api_key is None and provider.api_key_env and provider.api_key_env in str(error):
            raise NoLearnerError(f"{model} needs a key: export {provider.api_key_env}=….") from error
        raise NoLearnerError(
            f"{model} can't be used: {_one_line(error)}; name a model as provider:name, and export its key "
            f"({provider.api_key_env})."
        ) from error


async def _first_offered(client: Model[Any], server_name: str) -> str:
    """The first model that an OpenAI-compatible server lists."""
    server: Any = client
    try:
        return str((await server.client.models.list()).data[0].id)
    except Exception as error:
        raise NoLearnerError(
            f"the server at {client.base_url} does not say which models it has: {_reason(error)}; start it, or name "
            f"one as {server_name}:model in {CONFIG_NAME}.",
            is_down=True,
        ) from error


def _asking_for(model: str, client: Model[Any]) -> Model[Any]:
    """The same server, asked for another model."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    server: Any = client
    return OpenAIChatModel(model, provider=OpenAICompatibleProvider("own", openai_client=server.client))


def _reason(error: BaseException) -> str:
    """What the server said, if it said anything, else what the client says of it."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(inner, dict) and isinstance(inner.get("message"), str):
        return _one_line(inner["message"])
    return _one_line(error.__cause__ or error) or type(error).__name__


def _one_line(what: object, limit: int = 300) -> str:
    return " ".join(str(what).split()).rstrip(".")[:limit]
