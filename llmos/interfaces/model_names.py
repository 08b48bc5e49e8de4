"""Which names can be those of models, as far as that is known without asking anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmos.errors import NoLearnerError, UsageError
from llmos.interfaces.prices import price_of

if TYPE_CHECKING:
    from llmos.settings import Settings

ALIASES = ("sonnet", "opus", "haiku", "fable", "mythos", "best", "default", "opusplan")
"""Names that the Claude CLI has for its newest models. Source: the CLI that claude-agent-sdk bundles."""

_LONG = "[1m]"
"""What the CLI takes behind a name, for a long context."""


def doubt(name: str, settings: Settings) -> str:
    """Why nobody can tell yet whether there is a model of a name; '' where there is one.

    Raises:
        UsageError: there is none.
    """
    if name in settings.models.named or name in settings.prices:
        return ""
    if settings.is_elsewhere(name):
        server, own = settings.server_of(name)
        return _unseen(name, f"only {server.name} knows its models") if server.base_url is not None and own else ""
    if settings.learner.name != "claude":
        return _unseen(name, f"only the learner {settings.learner.name} knows its models")
    if is_published(name, settings):
        return ""
    if "claude" in name:
        return _unseen(name, "no price of it is published")
    raise UsageError(
        f"there is no model {name!r}: say sonnet, opus or haiku, a full name such as claude-haiku-4-5, or "
        "provider:name; one that only your server has stands under `models` or `prices` in llmos.yaml."
    )


def check_claude(name: str, settings: Settings) -> None:
    """Refuse a name that can't be one of Anthropic's where Anthropic is asked, before anything is begun for it.

    Raises:
        NoLearnerError: there is no such model.
    """
    is_asked = settings.learner.name == "claude" and not settings.is_elsewhere(name)
    if not is_asked or settings.learner.base_url is not None or settings.has_cloud:
        return  # whoever answers may have any names
    if "claude" not in name and not is_published(name, settings):
        raise NoLearnerError(
            f"Anthropic has no model {name!r}: say sonnet, opus or haiku, a full name such as claude-haiku-4-5, or "
            "provider:name."
        )


def is_published(name: str, settings: Settings) -> bool:
    """Whether a name is one of the Claude CLI, or of a Claude model whose price is known."""
    bare = name.removesuffix(_LONG)
    if bare in ALIASES:
        return True
    try:
        price_of(f"anthropic:{bare}", None, settings)
    except NoLearnerError:
        return False
    return True


def _unseen(name: str, why: str) -> str:
    return f"whether there is a model {name} shows at its next request: {why}"
