"""Which models do what, first the wanted one and then its fallbacks; and the servers that are no provider's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from llmos.checked_yaml import Named, Section

LEARNER, GUIDED, JUDGE, SUMMARY = "learner", "guided", "judge", "summary"
TASKS = (LEARNER, GUIDED, JUDGE, SUMMARY)

CLASSES = ("user", "system", "housekeeping", "specialist", "meta")
"""The values of `llmos.kernel.process.Kind`, which stands above this module."""

OFF = "off"
"""`models.guided` where goals are learned without the help of near traces."""

_ELSEWHERE = re.compile(r"[a-z][a-z0-9_-]*:\S*")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where models named `NAME:model` are: an OpenAI-compatible `base_url`, or the provider of that name itself.

    `api_key` is the value of the variable `api_key_env`: by default the provider's own, such as OPENAI_API_KEY, but
    none for a `base_url`, so that a key never reaches a server it was not meant for.
    """

    name: str
    base_url: str | None = None
    api_key_env: str = ""
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """For each task its models, the wanted one first; for a class of processes others.

    Without models of its own, `guided` takes those of `learner`, and `summary` those of `guided`; a `judge` without any
    is off. `guided` (OFF,): no plan is ever given.
    """

    learner: tuple[str, ...] = ("sonnet",)
    guided: tuple[str, ...] = ()
    judge: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
    classes: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def wanted(self, task: str, kind: str = "user") -> tuple[str, ...]:
        """The models of a task for a class of processes; none where the task is not done at all."""
        own = self.classes.get(kind, {})
        found: tuple[str, ...] = own.get(task) or getattr(self, task)
        if found == (OFF,):
            return ()
        if task == GUIDED:
            return found or self.wanted(LEARNER, kind)
        if task == SUMMARY:
            return found or self.wanted(GUIDED, kind) or self.wanted(LEARNER, kind)
        return found

    def is_guided(self, kind: str = "user") -> bool:
        """Whether near traces are given as plans."""
        return bool(self.wanted(GUIDED, kind))

    @property
    def named(self) -> tuple[str, ...]:
        """Every model that is named anywhere."""
        given = [getattr(self, task) for task in TASKS] + [m for own in self.classes.values() for m in own.values()]
        return tuple(dict.fromkeys(name for names in given for name in names if name != OFF))


def is_elsewhere(model: str, servers: Mapping[str, ServerSettings]) -> bool:
    """Whether a model is asked over pydantic-ai: `provider:name`, or `server:name` of a named server."""
    prefix, colon, _ = model.partition(":")
    return bool(colon) and (prefix in servers or _ELSEWHERE.fullmatch(model) is not None)


def server_of(model: str, servers: Mapping[str, ServerSettings], keys: Mapping[str, str]) -> tuple[ServerSettings, str]:
    """Where a model is, and its name there; `keys` are the API keys of the environment by their variables."""
    prefix, _, name = model.partition(":")
    if prefix in servers:
        return servers[prefix], name
    key_env = usual_key_name(prefix)
    return ServerSettings(name=prefix, api_key_env=key_env, api_key=keys.get(key_env)), name


def usual_key_name(provider: str) -> str:
    """The variable in which a provider's key usually is."""
    return re.sub(r"-(chat|responses)$", "", provider).replace("-", "_").upper() + "_API_KEY"


# --- llmos.yaml --------------------------------------------------------------------------------------


def names(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(one, str) and len(one.split()) == 1 for one in listed):
        raise ValueError("the name of a model, or a list of them with the wanted one first")
    return tuple(one.strip() for one in listed)


def _or_off(value: Any) -> tuple[str, ...]:
    return (OFF,) if value is False else names(value)  # False is what YAML makes of a plain `off`


def _class(value: str) -> str:
    if value not in CLASSES:
        raise ValueError(f"one of {', '.join(CLASSES)}")
    return value


_LISTS: dict[str, Any] = {LEARNER: names, GUIDED: _or_off, JUDGE: _or_off, SUMMARY: names}
MODELS = Section(keys=_LISTS | {"classes": Named(key=_class, of=Section(keys=_LISTS))})


def load_models(
    config: Mapping[str, Any], asked: tuple[str, ...] | None, judge: tuple[str, ...] | None
) -> ModelSettings:
    """The models of llmos.yaml; one `asked` for is the learner's everywhere, without fallbacks, and so is a `judge`."""
    given = dict(config.get("models", {}))
    fixed = {task: found for task, found in ((LEARNER, asked), (JUDGE, judge)) if found is not None}
    classes = {
        kind: MappingProxyType({task: found for task, found in own.items() if task not in fixed})
        for kind, own in given.pop("classes", {}).items()
    }
    return ModelSettings(**{**given, **fixed, "classes": MappingProxyType(classes)})


def load_servers(config: Mapping[str, Any], env: Mapping[str, str]) -> Mapping[str, ServerSettings]:
    """The named servers, with their keys."""
    found = {}
    for name, entry in config.get("servers", {}).items():
        key_env = entry.get("api_key_env", "" if "base_url" in entry else usual_key_name(name))
        found[name] = ServerSettings(
            name=name, base_url=entry.get("base_url"), api_key_env=key_env, api_key=env.get(key_env) or None
        )
    return MappingProxyType(found)


def provider_keys(env: Mapping[str, str]) -> Mapping[str, str]:
    """The API keys in the environment."""
    return MappingProxyType({name: value for name, value in env.items() if name.endswith("_API_KEY") and value})
