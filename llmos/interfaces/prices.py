"""What a model's tokens cost: the user's own price, nothing on the user's own machine, or the published price."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmos.errors import NoLearnerError

if TYPE_CHECKING:
    from llmos.settings import ModelPrice, Settings

CHARS_PER_TOKEN = 3
"""Characters a token stands for, at the least: an estimate with it is rather too dear than too cheap."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What one request used; `cached` and `written` are the parts of `input` read from, and added to, a cache."""

    input: int
    output: int
    cached: int = 0
    written: int = 0


@dataclass(frozen=True, kw_only=True)
class Price:
    """`cost_usd(tokens)` of one request, and the sentence that says where the price is from."""

    cost_usd: Callable[[Tokens], float]
    source: str
    is_free: bool = False


def price_of(model: str, base_url: str | None, settings: Settings) -> Price:
    """The price of a model such as `openai:gpt-5`, or of one behind a server of the user's own.

    Raises:
        NoLearnerError: nobody knows the price, so no budget could hold.
    """
    provider, _, name = model.partition(":") if ":" in model else ("", "", model)
    override = settings.prices.get(model) or settings.prices.get(name)
    if override is not None:
        return Price(cost_usd=lambda tokens: _at(override, tokens), source="the price is the one in llmos.yaml")
    if base_url is not None and is_own_machine(base_url):
        host = urlsplit(base_url).hostname
        return Price(cost_usd=lambda _: 0.0, source=f"{host} is a machine of yours, so it costs $0", is_free=True)
    published = _published(provider, name, base_url)
    if published is None:
        raise NoLearnerError(
            f"the price of {model} is not known, so its budget could not be held: add it to llmos.yaml under "
            f"`prices: {{{name}: {{input_usd_per_mtok: …, output_usd_per_mtok: …}}}}`."
        )
    return Price(cost_usd=published, source="the price is the published one")


def claude_models(family: str) -> tuple[str, ...]:
    """The published models of a family such as `sonnet`, the dearest first."""
    from genai_prices import data_snapshot

    every = (
        one
        for provider in data_snapshot.get_snapshot().providers
        if provider.id == "anthropic"
        for one in provider.models
    )
    found = [model.id for model in every if f"-{family}-" in f"-{model.id}-"]
    return tuple(sorted(found, key=_dearness, reverse=True))


def _dearness(name: str) -> float:
    price = _published("anthropic", name, None)
    return 0.0 if price is None else price(Tokens(input=1_000_000, output=1_000_000))


def context_window(model: str, provider_id: str = "anthropic") -> int | None:
    """How many tokens the context of a provider's model holds; None where that is not published."""
    from genai_prices import data_snapshot

    providers = (one for one in data_snapshot.get_snapshot().providers if one.id == provider_id)
    found = next((provider.find_model(model) for provider in providers), None)
    return None if found is None else found.context_window


def is_own_machine(url: str) -> bool:
    """Whether a URL leads to this machine or its private network. Source: RFC 1918, RFC 4193, RFC 6761, RFC 6762."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local")) or "." not in host
    return address.is_loopback or address.is_private


def _at(price: ModelPrice, tokens: Tokens) -> float:
    cached_rate = price.cached_input_usd_per_mtok
    cached = 0 if cached_rate is None else min(tokens.cached, tokens.input)
    dollars = (tokens.input - cached) * price.input_usd_per_mtok + tokens.output * price.output_usd_per_mtok
    return (dollars + cached * (cached_rate or 0.0)) / 1_000_000


def _published(provider: str, name: str, base_url: str | None) -> Callable[[Tokens], float] | None:
    """The price that genai-prices lists for that provider or that address; None if it lists none."""
    from genai_prices import Usage, calc_price

    where: dict[str, Any] = {"provider_api_url": base_url} if base_url else {"provider_id": _listed_as(provider)}

    def cost_usd(tokens: Tokens) -> float:
        usage = Usage(
            input_tokens=tokens.input,
            output_tokens=tokens.output,
            cache_read_tokens=tokens.cached or None,
            cache_write_tokens=tokens.written or None,
        )
        return float(calc_price(usage, model_ref=name, **where).total_price)

    try:
        cost_usd(Tokens(input=1, output=1))
    except LookupError:
        return None
    return cost_usd


def _listed_as(provider: str) -> str:
    """genai-prices' name for a provider of pydantic-ai."""
    base = provider.removesuffix("-chat").removesuffix("-responses")
    return {"google-cloud": "google", "bedrock": "aws"}.get(base, base)
