"""The settings for one command, each value from the first place that has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from llmos import caller
from llmos.checked_yaml import read_yaml
from llmos.errors import SettingsError
from llmos.settings.environment import NO, YES, claude_environment, other_secrets, variables
from llmos.settings.models import ModelSettings, load_models, load_servers, names, provider_keys
from llmos.settings.permissions import lay_over, load_permissions
from llmos.settings.places import absolute, find_checkout, find_config, find_home, find_plugins
from llmos.settings.records import (
    CLASSES,
    CONFIG_NAME,
    MAX_WRONG,
    ClassSettings,
    DaemonSettings,
    JournalSettings,
    JudgeSettings,
    LearnerSettings,
    MatchingSettings,
    McpServerSettings,
    ModelPrice,
    ProofSettings,
    ReliabilitySettings,
    RetentionSettings,
    SandboxLimits,
    SandboxSettings,
    SchedulerSettings,
    Settings,
)
from llmos.settings.schema import SCHEMA, VARIABLE, dollars, from_outside, share, url

KEY_NAMES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")


def load_settings(
    *,
    home: Path | None = None,
    workspace: Path | None = None,
    plugins: Sequence[Path] = (),
    budget_usd: float | None = None,
    model: str | None = None,
    audit_rate: float | None = None,
    frozen: bool | None = None,
    environ: Mapping[str, str] | None = None,
    checkout: Path | None = None,
) -> Settings:
    """The settings for one command; `environ` stands for the process's environment, `checkout` for the folder found.

    Raises:
        SettingsError: a value that can't be used, with its place and what is allowed there.
    """
    env = dict(variables(environ))
    checkout = absolute(checkout) if checkout is not None else find_checkout()
    home = find_home(home, env, checkout)
    try:
        workspace = absolute(workspace or caller.folder())
    except FileNotFoundError:
        raise SettingsError("the folder this was called in is gone: call it from another one.") from None
    if not workspace.is_dir():
        raise SettingsError(f"the workspace {workspace} is not a folder; create it or name another with --workspace.")
    files = find_config(env, home, checkout)
    config = _read_config(files)
    secrets = config.get("secrets", ())
    return Settings(
        home=home,
        workspace=workspace,
        checkout=checkout,
        plugin_dirs=find_plugins(checkout, home, plugins),
        config_files=files,
        budget_usd=_budget(budget_usd, env),
        initial_usd=config.get("battery", {}).get("initial_usd", Settings.initial_usd),
        learner=_learner(config, env),
        models=_models(config, model, env),
        servers=load_servers(config, env),
        embedding_model=config.get("memory", {}).get("embedding_model", Settings.embedding_model),
        scheduler=SchedulerSettings(**config.get("scheduler", {})),
        classes=_classes(config),
        daemon=DaemonSettings(**config.get("daemon", {})),
        mcp_servers=MappingProxyType(
            {name: _mcp_server(name, entry, env) for name, entry in config.get("mcp_servers", {}).items()}
        ),
        prices=MappingProxyType({name: ModelPrice(**entry) for name, entry in config.get("prices", {}).items()}),
        proof=ProofSettings(**config.get("proof", {})),
        journal=JournalSettings(**config.get("journal", {})),
        retention=RetentionSettings(**config.get("retention", {})),
        sandbox=_sandbox(config),
        permissions=load_permissions(config, env, CONFIG_NAME),
        skip_unchanged=config.get("skip_unchanged", Settings.skip_unchanged),
        secrets=secrets,
        **_trust(config, env, audit_rate, frozen),
        environment=MappingProxyType(claude_environment(env)),
        _secret_values=MappingProxyType({name: env[name] for name in secrets if env.get(name)}),
        _other_secrets=other_secrets(env, secrets),
        _provider_keys=provider_keys(env),
    )


def _read_config(files: Sequence[Path]) -> dict[str, Any]:
    """The checked contents of those files that exist, later ones laid over earlier ones."""
    merged: dict[str, Any] = {}
    for path in files:
        if path.is_file():
            _lay_over(merged, read_yaml(path, SCHEMA))
    return merged


def _lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Sections are merged key by key; an entry of `mcp_servers`, `prices` or `servers` is one key."""
    for key, value in above.items():
        if key == "permissions":
            below[key] = lay_over(below.get(key, {}), value)
        elif isinstance(value, dict):
            below[key] = {**below.get(key, {}), **value}
        else:
            below[key] = value


def _budget(asked: float | None, env: Mapping[str, str]) -> float | None:
    if asked is not None:
        return from_outside(dollars, asked, "--budget")
    return _number(env, "LLMOS_BUDGET_USD", dollars)


def _trust(
    config: Mapping[str, Any], env: Mapping[str, str], audit_rate: float | None, frozen: bool | None
) -> dict[str, Any]:
    """What says how far traces are trusted, and whether anything about them may change."""
    return {
        "matching": _matching(config),
        "judge": JudgeSettings(**config.get("judge", {})),
        "reliability": ReliabilitySettings(**config.get("reliability", {})),
        "audit_rate": _audit_rate(audit_rate, config, env),
        "frozen": _frozen(frozen, config, env),
    }


def _sandbox(config: Mapping[str, Any]) -> SandboxSettings:
    return SandboxSettings(
        kind=config.get("sandbox", SandboxSettings.kind),
        limits=SandboxLimits(**config.get("sandbox_limits", {})),
        network=config.get("sandbox_network", ()),
        readable=config.get("sandbox_readable", ()),
        writable=config.get("sandbox_writable", ()),
    )


def _classes(config: Mapping[str, Any]) -> Mapping[str, ClassSettings]:
    given = config.get("classes", {})
    known = config.get("permissions", {}).get("roles", {})
    for name, entry in given.items():
        for role in entry.get("roles", ()):
            if role not in known:
                raise SettingsError(
                    f"{CONFIG_NAME}: classes.{name} names the role {role!r}, which is not in permissions.roles "
                    f"({', '.join(sorted(known)) or 'none'})."
                )
    return MappingProxyType({name: replace(usual, **given.get(name, {})) for name, usual in CLASSES.items()})


def _matching(config: Mapping[str, Any]) -> MatchingSettings:
    given = config.get("matching", {}).get("max_wrong", {})
    return MatchingSettings(max_wrong=MappingProxyType({**MAX_WRONG, **given}))


def _audit_rate(asked: float | None, config: Mapping[str, Any], env: Mapping[str, str]) -> float:
    if asked is not None:
        return from_outside(share, asked, "--audit-rate")
    given = _number(env, "LLMOS_AUDIT_RATE", share)
    return float(config.get("audit_rate", Settings.audit_rate)) if given is None else given


def _number(env: Mapping[str, str], name: str, check: Callable[[Any], float]) -> float | None:
    """The checked number in a variable; None if it is not set."""
    given = env.get(name)
    if not given:
        return None
    try:
        value: float | str = float(given)
    except ValueError:
        value = given
    return from_outside(check, value, name)


def _frozen(asked: bool | None, config: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    if asked is not None:
        return asked
    given = env.get("LLMOS_FROZEN")
    if not given:
        return bool(config.get("frozen", Settings.frozen))
    if given.lower() not in YES | NO:
        raise SettingsError(f"LLMOS_FROZEN must be 1 or 0, not {given!r}.")
    return given.lower() in YES


def _learner(config: Mapping[str, Any], env: Mapping[str, str]) -> LearnerSettings:
    learner = LearnerSettings(**config.get("learner", {}))
    if learner.fold_to >= learner.fold_at:
        raise SettingsError(
            f"{CONFIG_NAME}: learner.fold_to ({learner.fold_to:g}) must be less than learner.fold_at "
            f"({learner.fold_at:g}): how full a context is once its oldest turns are summarised, and when they are."
        )
    base_url = env.get("ANTHROPIC_BASE_URL") or None
    if base_url is not None:
        base_url = from_outside(url, base_url, "ANTHROPIC_BASE_URL")
    return replace(learner, base_url=base_url or learner.base_url, has_key=any(env.get(name) for name in KEY_NAMES))


def _models(config: Mapping[str, Any], model: str | None, env: Mapping[str, str]) -> ModelSettings:
    """Which models do what; `model` and the environment win for the learner, and the environment for the judge."""
    asked = from_outside(names, model, "--model") if model is not None else _named(env, "LLMOS_MODEL")
    return load_models(config, asked, _named(env, "LLMOS_JUDGE"))


def _named(env: Mapping[str, str], variable: str) -> tuple[str, ...] | None:
    return from_outside(names, env[variable], variable) if env.get(variable) else None


def _mcp_server(name: str, entry: Mapping[str, Any], env: Mapping[str, str]) -> McpServerSettings:
    where = f"mcp_servers.{name}"
    if ("command" in entry) == ("url" in entry):
        raise SettingsError(f"{CONFIG_NAME}: {where} needs either `command` (to start it) or `url` (of a running one).")
    expanded = {
        key: MappingProxyType({k: _expand(v, env, f"{where}.{key}.{k}") for k, v in entry[key].items()})
        for key in ("env", "headers")
        if key in entry
    }
    return McpServerSettings(name=name, **{**entry, **expanded})


def _expand(value: str, env: Mapping[str, str], where: str) -> str:
    """`${NAME}` replaced by the variable's value."""

    def variable(match: re.Match[str]) -> str:
        if match[1] not in env:
            raise SettingsError(f"{CONFIG_NAME}: {where} needs the environment variable {match[1]}, which is not set.")
        return env[match[1]]

    return VARIABLE.sub(variable, value)
